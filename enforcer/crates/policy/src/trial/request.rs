//! A request in one sentence, as tests and explanations write it.
//!
//! `DELETE api.example.com/v1/orders/7 as writer from 203.0.113.9 with mtls claims.tenant=acme`:
//! method and target, then in any order who asks, from where, with what proof, and what else a rule
//! may read. A word with blanks stands in double quotes. What is printed reads back as the same
//! request, so every sample that an analysis gives can become a test.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use enforcer_model::{Claims, Timestamp, Value};

use super::words::{Word, quoted, words};

/// One request, as far as a policy can ask about it; what is not said is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// As sent.
    pub method: String,
    /// As sent.
    pub host: String,
    /// As sent, without the query; begins with `/`.
    pub path: String,
    /// Behind `?`.
    pub query: Option<String>,
    /// Roles and at most one principal; without any of them and without a credential nobody is
    /// identified.
    pub who: Vec<String>,
    /// The TCP peer.
    pub address: Option<IpAddr>,
    /// What the caller proves.
    pub proofs: Proofs,
    /// What the token says, by path.
    pub claims: Vec<(Vec<String>, Value)>,
    /// Scopes of the key or token.
    pub scopes: Vec<String>,
    /// Own headers of the request.
    pub headers: Vec<(String, String)>,
    /// The `[issuer.NAME]` of the token.
    pub issuer: Option<String>,
    /// The application of the key or token.
    pub application: Option<String>,
    /// The owner of the key.
    pub owner: Option<String>,
    /// The SPIFFE id of the connection's certificate.
    pub spiffe: Option<String>,
    /// The incident level.
    pub incident: u8,
    /// When it arrives.
    pub at: Option<Timestamp>,
    /// Where the address is.
    pub region: Option<String>,
}

/// What a caller proves, in the words behind `with`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proofs {
    /// The connection has a client certificate.
    pub mtls: bool,
    /// A token proven by RFC 9449.
    pub dpop: bool,
    /// A token.
    pub token: bool,
    /// An API key.
    pub key: bool,
    /// A client certificate and no other credential.
    pub certificate: bool,
}

/// The text is not a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentenceError {
    /// As written.
    pub text: String,
    /// Which part, in bytes.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// The longest sentence, in bytes.
const SENTENCE_MAX: usize = 16 * 1024;

const FORM: &str = "write it as `GET api.example.com/v1/orders as reader from 203.0.113.9`";

/// The words that can follow the target.
const KEYWORDS: [&str; 14] = [
    "as",
    "from",
    "with",
    "incident",
    "at",
    "region",
    "claims.",
    "scope=",
    "header.",
    "issuer=",
    "application=",
    "owner=",
    "spiffe=",
    "anonymous",
];

impl FromStr for Request {
    type Err = SentenceError;

    fn from_str(text: &str) -> Result<Self, SentenceError> {
        let refused = |span: Range<usize>, message: String, hint: &str| SentenceError {
            text: text.to_owned(),
            span,
            message,
            hint: hint.to_owned(),
        };
        if text.len() > SENTENCE_MAX {
            let message = format!("a sentence has at most {SENTENCE_MAX} bytes");
            return Err(refused(0..1, message, "leave out what no rule reads"));
        }
        let words = words(text).map_err(|open| {
            refused(open, "a quote is not closed".to_owned(), "close it with `\"`")
        })?;
        let mut words = words.into_iter();
        let end = text.len().saturating_sub(1)..text.len();
        let missing = |what: &str| refused(end.clone(), format!("{what} is missing"), FORM);
        let method = words.next().ok_or_else(|| missing("the method"))?;
        let target = words.next().ok_or_else(|| missing("host and path"))?;

        let mut request = Self { method: method.text.clone(), ..Self::default() };
        if http::Method::from_bytes(method.text.as_bytes()).is_err() {
            let message = format!("`{}` is not a method", method.text);
            return Err(refused(method.span, message, FORM));
        }
        request.target(&target).map_err(|(message, hint)| refused(target.span, message, &hint))?;
        while let Some(word) = words.next() {
            let takes =
                matches!(&*word.text, "as" | "from" | "with" | "incident" | "at" | "region");
            let argument = if takes && !word.is_quoted {
                let missing = || {
                    let message = format!("nothing follows `{}`", word.text);
                    refused(word.span.clone(), message, FORM)
                };
                Some(words.next().ok_or_else(missing)?)
            } else {
                None
            };
            let span = argument.as_ref().map_or(&word.span, |argument| &argument.span).clone();
            request
                .take(&word, argument.as_ref())
                .map_err(|(message, hint)| refused(span, message, &hint))?;
        }
        Ok(request)
    }
}

impl Request {
    fn target(&mut self, word: &Word) -> Result<(), (String, String)> {
        let text = word.text.strip_prefix("https://").unwrap_or(&word.text);
        let Some((host, target)) = text.find('/').and_then(|at| text.split_at_checked(at)) else {
            let message = format!("`{text}` has no path");
            return Err((message, format!("write `{text}/`")));
        };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        if host.is_empty() {
            return Err(("the host is missing".to_owned(), FORM.to_owned()));
        }
        (self.host, self.path, self.query) = (host.to_owned(), path.to_owned(), query);
        Ok(())
    }

    fn take(&mut self, word: &Word, argument: Option<&Word>) -> Result<(), (String, String)> {
        if let Some(argument) = argument {
            return self.take_pair(&word.text, argument);
        }
        if let Some((path, value)) = word.claim() {
            self.claims.push((path, value.typed()));
            return Ok(());
        }
        let value = |prefix: &str| word.pair().filter(|(name, _)| *name == prefix);
        if let Some((_, scope)) = value("scope") {
            self.scopes.push(scope.into());
            return Ok(());
        }
        if let Some((name, value)) = word.pair()
            && let Some(name) = name.strip_prefix("header.")
        {
            self.headers.push((name.to_ascii_lowercase(), value.into()));
            return Ok(());
        }
        for (name, field) in [
            ("issuer", &mut self.issuer),
            ("application", &mut self.application),
            ("owner", &mut self.owner),
            ("spiffe", &mut self.spiffe),
        ] {
            if let Some((_, value)) = value(name) {
                return once(name, field, value.into());
            }
        }
        if word.text == "anonymous" {
            return Ok(());
        }
        let message = format!("`{}` is not understood", word.text);
        let name = word.text.split_inclusive(['=', '.']).next().unwrap_or_default();
        let hint = match crate::grammar::suggest(name, KEYWORDS) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "behind the target stand `as WHO`, `from IP`, `with mtls|dpop|token|key`, \
                     `claims.NAME=VALUE`, `scope=VALUE`, `header.NAME=VALUE`, `incident N`, `at TIME`, \
                     `region CODE`"
                .to_owned(),
        };
        Err((message, hint))
    }

    fn take_pair(&mut self, keyword: &str, argument: &Word) -> Result<(), (String, String)> {
        let text = &argument.text;
        match keyword {
            "as" => self.who.extend(text.split(',').filter(|who| !who.is_empty()).map(Into::into)),
            "with" => {
                for proof in text.split(',') {
                    self.prove(proof)?;
                }
            }
            "from" => {
                let address = text.parse::<IpAddr>().ok().ok_or_else(|| {
                    let hint = "write one address, such as `203.0.113.9` or `2001:db8::7`";
                    (format!("`{text}` is not an address"), hint.to_owned())
                })?;
                once("from", &mut self.address, address.to_canonical())?;
            }
            "incident" => {
                let level = text.parse().ok().filter(|level| *level <= 5);
                self.incident = level.ok_or_else(|| {
                    let message = format!("`{text}` is not an incident level");
                    (message, "write a number from 0 to 5".to_owned())
                })?;
            }
            "at" => {
                let at = text.parse::<Timestamp>().ok().ok_or_else(|| {
                    let hint = "write it as `2026-11-22T10:00:00Z`";
                    (format!("`{text}` is not a time"), hint.to_owned())
                })?;
                once("at", &mut self.at, at)?;
            }
            _ => once("region", &mut self.region, text.clone())?,
        }
        Ok(())
    }

    fn prove(&mut self, proof: &str) -> Result<(), (String, String)> {
        let Proofs { mtls, dpop, token, key, certificate } = &mut self.proofs;
        let known = match proof {
            "mtls" => mtls,
            "dpop" => dpop,
            "token" => token,
            "key" => key,
            "certificate" => certificate,
            _ => {
                let hint = "one of `mtls`, `dpop`, `token`, `key`, `certificate`".to_owned();
                return Err((format!("`{proof}` proves nothing"), hint));
            }
        };
        *known = true;
        Ok(())
    }

    /// What the token says, as nested objects.
    ///
    /// A path that leads through a value that is no object is left out.
    pub(crate) fn claims(&self) -> Claims {
        let mut tree = Tree::default();
        for (path, value) in &self.claims {
            tree.put(path, value);
        }
        tree.claims()
    }
}

fn once<T>(name: &str, field: &mut Option<T>, value: T) -> Result<(), (String, String)> {
    if field.replace(value).is_some() {
        return Err((format!("`{name}` stands there twice"), "say it once".to_owned()));
    }
    Ok(())
}

/// Claims on the way from paths to objects.
#[derive(Debug, Default)]
struct Tree(Vec<(String, Branch)>);

#[derive(Debug)]
enum Branch {
    Leaf(Value),
    Inner(Tree),
}

impl Tree {
    fn put(&mut self, path: &[String], value: &Value) {
        let mut tree = self;
        let Some((last, before)) = path.split_last() else { return };
        for name in before {
            let at = match tree.0.iter().position(|(known, _)| known == name) {
                Some(at) => at,
                None => {
                    tree.0.push((name.clone(), Branch::Inner(Self::default())));
                    tree.0.len() - 1
                }
            };
            match tree.0.get_mut(at) {
                Some((_, Branch::Inner(inner))) => tree = inner,
                Some((_, Branch::Leaf(_))) | None => return,
            }
        }
        if !tree.0.iter().any(|(known, _)| known == last) {
            tree.0.push((last.clone(), Branch::Leaf(value.clone())));
        }
    }

    /// As deep as the longest path, which a sentence bounds.
    fn claims(self) -> Claims {
        let entries = self.0.into_iter().map(|(name, branch)| {
            let value = match branch {
                Branch::Leaf(value) => value,
                Branch::Inner(inner) => Value::Table(inner.claims()),
            };
            (Arc::from(name), value)
        });
        entries.collect()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = self.query.as_ref().map_or_else(String::new, |query| format!("?{query}"));
        write!(f, "{} {}", self.method, quoted(&format!("{}{}{query}", self.host, self.path)))?;
        if !self.who.is_empty() {
            write!(f, " as {}", quoted(&self.who.join(",")))?;
        }
        if let Some(address) = self.address {
            write!(f, " from {address}")?;
        }
        let Proofs { mtls, dpop, token, key, certificate } = self.proofs;
        let proofs = [
            (key, "key"),
            (token, "token"),
            (certificate, "certificate"),
            (mtls, "mtls"),
            (dpop, "dpop"),
        ];
        let proofs: Vec<&str> =
            proofs.iter().filter(|(given, _)| *given).map(|(_, name)| *name).collect();
        if !proofs.is_empty() {
            write!(f, " with {}", proofs.join(","))?;
        }
        for (name, value) in [
            ("issuer", &self.issuer),
            ("spiffe", &self.spiffe),
            ("application", &self.application),
            ("owner", &self.owner),
        ] {
            if let Some(value) = value {
                write!(f, " {name}={}", quoted(value))?;
            }
        }
        for (path, value) in &self.claims {
            f.write_str(" claims")?;
            path.iter().try_for_each(|name| super::words::write_name(f, name))?;
            write!(f, "={}", super::words::Written(value))?;
        }
        for scope in &self.scopes {
            write!(f, " scope={}", quoted(scope))?;
        }
        for (name, value) in &self.headers {
            write!(f, " header.{name}={}", quoted(value))?;
        }
        if self.incident > 0 {
            write!(f, " incident {}", self.incident)?;
        }
        if let Some(at) = self.at {
            let text = at.to_string();
            write!(f, " at {}", text.replacen(".000000Z", "Z", 1))?;
        }
        match &self.region {
            Some(region) => write!(f, " region {}", quoted(region)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SentenceError {}

impl fmt::Display for SentenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| -> String {
            text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
        };
        let before = self.text.get(..self.span.start).map_or(0, |text| text.chars().count());
        let width = self.text.get(self.span.clone()).map_or(1, |text| text.chars().count());
        writeln!(f, "{}", self.message)?;
        writeln!(f, "  | {}", shown(&self.text))?;
        writeln!(f, "  | {}{}", " ".repeat(before), "^".repeat(width.max(1)))?;
        write!(f, "  = hint: {}", self.hint)
    }
}
