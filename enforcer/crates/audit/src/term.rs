//! What a record can be found by: each thing that it names, as one word.
//!
//! Both ways of finding records go through here. A scan asks each term of each record whether it is
//! wanted; an index keeps a keyed hash of each term. So the two cannot disagree about what belongs
//! to whom. Only fields that we wrote are looked at: what a client or an upstream chose, such as host
//! and path, never makes a record part of somebody else's trail.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use enforcer_model::{BlockId, DecisionId, FindingId, IncidentId, KeyId, Prefix, Timestamp};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One thing that a record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Term<'a> {
    /// A block, by its id.
    Block(BlockId),
    /// An incident, a finding or a decision, by its id.
    Case(&'a str),
    /// The record's class.
    Class(&'a str),
    /// A value that is kept apart from the record, or was erased: `~` and eleven characters.
    Handle(&'a str),
    /// 32 hexadecimal digits that are no request's: a credential's fingerprint.
    Hex(&'a str),
    /// A request was served at this incident level; none: the level was changed.
    Incident(Option<u64>),
    /// An API key.
    Key(KeyId),
    /// An address or network.
    Place(Prefix),
    /// A caller.
    Principal(&'a str),
    /// Why a request was refused.
    Reason(&'a str),
    /// A request, by its id.
    Request(&'a str),
    /// A route of the policy.
    Route(&'a str),
    /// A rule or limit of the policy, or an operator's rule of an endpoint.
    Rule(&'a str),
    /// The segment, by its first record, that a record of class `segment` is about.
    Segment(u64),
    /// A request that was not refused by us.
    Served,
    /// The status that a client got.
    Status(u64),
    /// The `jti` of a token.
    Token(&'a str),
}

/// What is known of a record besides its terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// When it was written.
    pub(crate) time: Option<Timestamp>,
}

/// Fields whose text somebody else chose, and the upstream, which is not the caller.
const FOREIGN: [&str; 8] =
    ["cause", "detail", "host", "method", "path", "trace", "upstream", "user_agent"];

/// Verbs that look into the log.
const LOOKS: [&str; 3] = ["audit ", "explain ", "trail"];

/// Characters of a handle.
pub(crate) const HANDLE_CHARACTERS: usize = 12;

/// Hands each term of the record `text` to `sink`; none when it is no record, whatever was handed
/// over by then.
pub(crate) fn terms(text: &str, sink: &mut dyn FnMut(Term<'_>)) -> Option<Envelope> {
    let mut walk = Walk { class: String::new(), what: Verb::Other, time: None, sink };
    let mut json = serde_json::Deserializer::from_str(text);
    Step { walk: &mut walk, at: At::Envelope }.deserialize(&mut json).ok()?;
    json.end().ok()?;
    Some(Envelope { time: walk.time })
}

/// The address or network that `text` is, with or without a port.
pub(crate) fn place(text: &str) -> Option<Prefix> {
    let peer = text.parse::<SocketAddr>().map(|peer| peer.ip());
    peer.or_else(|_| text.parse::<IpAddr>()).map(Prefix::from).ok().or_else(|| text.parse().ok())
}

/// `~` and eleven characters of base64url, with or without a port.
pub(crate) fn handle(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('~')?;
    let end = rest
        .find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-' || letter == '_'));
    let (body, port) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit()));
    (body.len() + 1 == HANDLE_CHARACTERS && is_port)
        .then(|| text.get(..HANDLE_CHARACTERS))
        .flatten()
}

pub(crate) fn is_hex(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A record on the way through it.
struct Walk<'s> {
    class: String,
    what: Verb,
    time: Option<Timestamp>,
    sink: &'s mut dyn FnMut(Term<'_>),
}

/// What the fields read so far say of those that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    IncidentLevel,
    Looks,
    Other,
    Tokens,
}

/// Where in a record a value stands, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Arguments,
    Author,
    Block,
    Body,
    Class,
    Elsewhere,
    Envelope,
    Evidence,
    First,
    Foreign,
    Id,
    Incident,
    Principal,
    Reason,
    Route,
    Rule,
    Status,
    Time,
    Token,
    Verb,
    What,
    Who,
}

impl At {
    fn field(self, name: &str) -> Self {
        if self != Self::Envelope && FOREIGN.contains(&name) {
            return Self::Foreign;
        }
        match (self, name) {
            (Self::Envelope, "class") => Self::Class,
            (Self::Envelope, "time") => Self::Time,
            (Self::Envelope, "body") => Self::Body,
            (Self::Envelope, _) => Self::Foreign,
            (Self::Body, "arguments") => Self::Arguments,
            (Self::Body, "author" | "by" | "operator") | (Self::Block, "author") => Self::Author,
            (Self::Body, "block") => Self::Block,
            (Self::Body, "evidence") => Self::Evidence,
            (Self::Body, "first") => Self::First,
            (Self::Body, "id") => Self::Id,
            (Self::Body, "incident") => Self::Incident,
            (Self::Body, "reason") => Self::Reason,
            (Self::Body, "route") => Self::Route,
            (Self::Body | Self::Author, "rule") => Self::Rule,
            (Self::Body, "status") => Self::Status,
            (Self::Body, "verb") => Self::Verb,
            (Self::Body, "what") => Self::What,
            (Self::Body, "who") => Self::Who,
            (Self::Who, "principal") => Self::Principal,
            (Self::Who, "token") => Self::Token,
            _ => Self::Elsewhere,
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of most places nothing is known but the text")]
impl Walk<'_> {
    fn text(&mut self, at: At, text: &str) {
        match at {
            At::Class => {
                text.clone_into(&mut self.class);
                self.give(Term::Class(text));
                return;
            }
            At::Time => {
                self.time = text.parse().ok();
                return;
            }
            At::Verb if text.starts_with("tokens ") => self.what = Verb::Tokens,
            At::Verb if LOOKS.iter().any(|look| text.starts_with(look)) => {
                self.what = Verb::Looks;
            }
            // Who looked for somebody has nothing to do with him.
            At::Arguments if self.what == Verb::Looks => return,
            At::What if self.class == "config" && text == "incident-level" => {
                self.what = Verb::IncidentLevel;
                self.give(Term::Incident(None));
            }
            At::Route => self.give(Term::Route(text)),
            At::Rule => self.give(Term::Rule(text)),
            At::Id if self.class == "endpoint" => self.give(Term::Rule(text)),
            At::Principal => self.give(Term::Principal(text)),
            At::Token => self.give(Term::Token(text)),
            At::Arguments if self.what == Verb::Tokens => self.give(Term::Token(text)),
            At::Reason if self.class == "http" => self.give(Term::Reason(text)),
            At::Foreign => return,
            _ => {}
        }
        self.names(at, text);
    }

    /// Whatever the field, a text of ours that is an id, an address or a fingerprint is one.
    fn names(&mut self, at: At, text: &str) {
        if is_hex(text) {
            let is_request = at == At::Evidence || at == At::Id && self.class == "http";
            self.give(if is_request { Term::Request(text) } else { Term::Hex(text) });
        } else if let Some(handle) = handle(text) {
            self.give(Term::Handle(handle));
        } else if let Ok(key) = text.strip_prefix("key:").unwrap_or(text).parse() {
            self.give(Term::Key(key));
        } else if let Some(block) = canonical_block(text) {
            self.give(Term::Block(block));
        } else if is_case(text) {
            self.give(Term::Case(text));
        } else if let Some(place) = place(text) {
            self.give(Term::Place(place));
        }
    }

    fn number(&mut self, at: At, number: u64) {
        match at {
            At::Status => self.give(Term::Status(number)),
            At::Incident => self.give(Term::Incident(Some(number))),
            At::First if self.class == "segment" => self.give(Term::Segment(number)),
            _ => {}
        }
    }

    fn nothing(&mut self, at: At) {
        if at == At::Reason && self.class == "http" {
            self.give(Term::Served);
        }
    }

    fn give(&mut self, term: Term<'_>) {
        (self.sink)(term);
    }
}

/// The id of an incident, a finding or a decision, in the one spelling that records have.
pub(crate) fn is_case(text: &str) -> bool {
    fn is<T: std::str::FromStr + fmt::Display>(text: &str) -> bool {
        text.parse::<T>().is_ok_and(|id| id.to_string() == text)
    }
    match text.split_once('-') {
        Some(("INC", _)) => is::<IncidentId>(text),
        Some(("D", _)) => is::<DecisionId>(text),
        Some(("F", _)) => is::<FindingId>(text),
        _ => false,
    }
}

/// A block id in the one spelling that records have.
fn canonical_block(text: &str) -> Option<BlockId> {
    let id = text.strip_prefix("B-").and_then(|_| text.parse::<BlockId>().ok())?;
    (id.to_string() == text).then_some(id)
}

/// One value of a record.
struct Step<'w, 's> {
    walk: &'w mut Walk<'s>,
    at: At,
}

impl<'de> DeserializeSeed<'de> for Step<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.at == At::Foreign {
            deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ())
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Step<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a record")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.walk.number(self.at, number);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.walk.nothing(self.at);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.walk.text(self.at, text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let Self { walk, at } = self;
        while values.next_element_seed(Step { walk: &mut *walk, at })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Self { walk, at } = self;
        while let Some(name) = fields.next_key::<Name<'de>>()? {
            let at = at.field(&name.0);
            fields.next_value_seed(Step { walk: &mut *walk, at })?;
        }
        Ok(())
    }
}

/// A field's name, as it lies in the text wherever that is possible.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let mut told = Vec::new();
        terms(text, &mut |term| told.push(format!("{term:?}"))).unwrap();
        told
    }

    #[test]
    fn a_request_is_found_by_everything_of_ours_that_it_names() {
        let text = r#"{"v":1,"index":0,"time":"2026-11-22T07:34:22.892790Z","class":"http","body":{"id":"00112233445566778899aabbccddeeff","peer":"203.0.113.7:4711","host":"203.0.113.9","route":"orders","who":{"principal":"key:k7Qx2mP9aB3c","token":"t-1"},"incident":2,"credential":"abababababababababababababababab","status":200,"reason":null,"rule":"orders.allow[1]"}}"#;

        assert_eq!(
            told(text),
            [
                r#"Class("http")"#,
                r#"Request("00112233445566778899aabbccddeeff")"#,
                r#"Place(Prefix { address: 203.0.113.7, length: 32 })"#,
                r#"Route("orders")"#,
                r#"Principal("key:k7Qx2mP9aB3c")"#,
                r#"Key(KeyId(k7Qx2mP9aB3c))"#,
                r#"Token("t-1")"#,
                r#"Incident(Some(2))"#,
                r#"Hex("abababababababababababababababab")"#,
                r#"Status(200)"#,
                r#"Served"#,
                r#"Rule("orders.allow[1]")"#,
            ]
        );
    }

    #[test]
    fn who_is_looked_for_is_not_named_by_it() {
        let asked = |verb: &str| {
            format!(r#"{{"class":"admin","body":{{"verb":"{verb}","arguments":["203.0.113.7"]}}}}"#)
        };

        assert_eq!(told(&asked("trail")), [r#"Class("admin")"#]);
        assert_eq!(told(&asked("audit search")), [r#"Class("admin")"#]);
        assert_eq!(told(&asked("quarantine")).len(), 2);
    }

    #[test]
    fn a_handle_keeps_its_place_whatever_the_port() {
        assert_eq!(handle("~abcdefghi-_:4711"), Some("~abcdefghi-_"));
        assert_eq!(handle("~abcdefghi-_"), Some("~abcdefghi-_"));
        for text in ["~short", "abcdefghi-_~", "~abcdefghi-_:", "~abcdefghi-_:x", "~abcdefghi-_x"] {
            assert_eq!(handle(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_record_has_no_terms() {
        for text in ["", "{", r#"{"class":"http"}x"#, r#"{"class":"http""#] {
            assert_eq!(terms(text, &mut |_| ()), None, "{text}");
        }
    }
}
