//! Which records belong to a trail: everything that names a key, a source, a request, a block.
//!
//! What a record names are its terms (`term`); a selector says which of them it wants, and by which
//! keys an index knows them.

use std::fmt;
use std::str::FromStr;

use enforcer_model::{BlockId, KeyId, Prefix};

use crate::stored::Stored;
use crate::term::{Term, is_case, is_hex, terms};

/// Whom or what a trail follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// A block, by its id.
    Block(BlockId),
    /// An incident, a finding or a decision, by its id: all that it led to.
    Case(String),
    /// A credential, by its fingerprint: what was asked with it.
    Fingerprint(String),
    /// A request id or the fingerprint of a credential: 32 hexadecimal digits.
    Hex(String),
    /// What was served under an incident level, and every change of the level.
    Incident(u8),
    /// An API key: its requests, what was done to it, what it was blocked for.
    Key(KeyId),
    /// Every source in a network, and blocks that overlap it.
    Network(Prefix),
    /// A caller, as logged.
    Principal(String),
    /// A request, and the findings that count it.
    Request(String),
    /// A route of the policy, by name.
    Route(String),
    /// A rule or limit: what it decided, what it found, what it had blocked.
    Rule(String),
    /// A token, by its `jti`: what was asked with it, and its revocation.
    Token(String),
}

/// The text selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` selects no trail; write an address, a network, `key:ID`, `principal:NAME`, \
     `token:JTI`, `fingerprint:DIGITS`, `request:ID`, `route:NAME`, `rule:NAME`, \
     `incident:ID`, `level:N`, a decision, a finding, a block such as `B-7K2Q4XW`, or the 32 hexadecimal digits of a request or \
     fingerprint"
)]
pub struct SelectorError(String);

impl Selector {
    /// Whether `record` belongs to the trail.
    pub fn matches(&self, record: &Stored) -> bool {
        // The text of an id stands in the bytes as it is; parsing is for those that contain it.
        if self.needle().is_some_and(|needle| !record.text.contains(&needle)) {
            return false;
        }
        let mut found = false;
        let is_record = terms(&record.text, &mut |term| found |= self.wants(&term)).is_some();
        found && is_record
    }

    fn needle(&self) -> Option<String> {
        match self {
            Self::Block(id) => Some(id.to_string()),
            Self::Hex(digits) | Self::Fingerprint(digits) | Self::Request(digits) => {
                Some(digits.clone())
            }
            Self::Key(id) => Some(id.to_string()),
            Self::Case(id) => Some(id.clone()),
            // Names may be escaped in JSON, and addresses have many spellings of a network.
            Self::Incident(_)
            | Self::Network(_)
            | Self::Principal(_)
            | Self::Route(_)
            | Self::Rule(_)
            | Self::Token(_) => None,
        }
    }

    /// Whether a record with this term belongs to the trail.
    pub(crate) fn wants(&self, term: &Term<'_>) -> bool {
        match (self, term) {
            (Self::Block(id), Term::Block(named)) => named == id,
            (Self::Case(id), Term::Case(named)) => named == id,
            (Self::Hex(digits), Term::Hex(named) | Term::Request(named))
            | (Self::Fingerprint(digits), Term::Hex(named))
            | (Self::Request(digits), Term::Request(named)) => named == digits,
            (Self::Incident(level), Term::Incident(named)) => {
                named.is_none_or(|named| named == u64::from(*level))
            }
            (Self::Key(id), Term::Key(named)) => named == id,
            (Self::Network(network), Term::Place(named)) => named.overlaps(*network),
            (Self::Principal(name), Term::Principal(named))
            | (Self::Route(name), Term::Route(named))
            | (Self::Rule(name), Term::Rule(named))
            | (Self::Token(name), Term::Token(named)) => named == name,
            _ => false,
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let refused = || SelectorError(text.to_owned());
        if let Some((kind, name)) = text.split_once(':') {
            let digits = || {
                let digits = name.to_ascii_lowercase();
                if is_hex(&digits) { Ok(digits) } else { Err(refused()) }
            };
            match kind {
                "fingerprint" => return digits().map(Self::Fingerprint),
                "incident" if is_case(&name.to_ascii_uppercase()) => {
                    return Ok(Self::Case(name.to_ascii_uppercase()));
                }
                // What the level was called before incidents had names.
                "incident" | "level" => {
                    let level = name.parse::<u8>().ok().filter(|level| level.to_string() == name);
                    return level.map(Self::Incident).ok_or_else(refused);
                }
                "key" => return name.parse().map(Self::Key).or(Err(refused())),
                "request" => return digits().map(Self::Request),
                _ if name.is_empty() => {}
                "principal" => return Ok(Self::Principal(name.to_owned())),
                "route" => return Ok(Self::Route(name.to_owned())),
                "rule" => return Ok(Self::Rule(name.to_owned())),
                "token" => return Ok(Self::Token(name.to_owned())),
                _ => {}
            }
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Block(id));
        }
        let upper = text.to_ascii_uppercase();
        if is_case(&upper) {
            return Ok(Self::Case(upper));
        }
        let lower = text.to_ascii_lowercase();
        if is_hex(&lower) {
            return Ok(Self::Hex(lower));
        }
        text.parse().map(Self::Network).or(Err(refused()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(id) => id.fmt(f),
            Self::Case(id) if id.starts_with("INC-") => write!(f, "incident:{id}"),
            Self::Case(id) => f.write_str(id),
            Self::Fingerprint(digits) => write!(f, "fingerprint:{digits}"),
            Self::Hex(digits) => f.write_str(digits),
            Self::Incident(level) => write!(f, "incident:{level}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Network(network) => network.fmt(f),
            Self::Principal(name) => write!(f, "principal:{name}"),
            Self::Request(id) => write!(f, "request:{id}"),
            Self::Route(name) => write!(f, "route:{name}"),
            Self::Rule(name) => write!(f, "rule:{name}"),
            Self::Token(id) => write!(f, "token:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: &str) -> Stored {
        let text = format!(r#"{{"v":1,"index":0,"class":"http","body":{body}}}"#);
        Stored::new(0, text)
    }

    #[test]
    fn a_selector_survives_printing_and_parsing() {
        for text in [
            "203.0.113.7",
            "2001:db8::/48",
            "key:k7Qx2mP9aB3c",
            "principal:key:k7Qx2mP9aB3c",
            "route:orders",
            "rule:orders.allow[2]",
            "token:2f1c-7",
            "incident:2",
            "incident:INC-0042",
            "D-7K2Q4XW",
            "F-7K2Q4XW",
            "B-7K2Q4XW",
            "00112233445566778899aabbccddeeff",
            "fingerprint:00112233445566778899aabbccddeeff",
            "request:00112233445566778899aabbccddeeff",
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
        assert_eq!("level:2".parse::<Selector>().unwrap(), Selector::Incident(2));
        for text in [
            "",
            "key:",
            "route:",
            "token:",
            "incident:02",
            "level:INC-0042",
            "incident:INC-42",
            "request:7",
            "host.example",
            "10.0.0.1/8",
        ] {
            let refused = text.parse::<Selector>().unwrap_err();
            assert!(refused.to_string().contains("write an address"), "{text}");
        }
    }

    #[test]
    fn a_network_finds_its_peers_whatever_the_port() {
        let network: Selector = "203.0.113.0/24".parse().unwrap();
        let single: Selector = "2001:db8::7".parse().unwrap();

        assert!(network.matches(&record(r#"{"peer":"203.0.113.7:4711"}"#)));
        assert!(network.matches(&record(r#"{"block":{"target":"203.0.0.0/16"}}"#)));
        assert!(!network.matches(&record(r#"{"peer":"203.0.114.7:4711"}"#)));
        assert!(single.matches(&record(r#"{"peer":"[2001:db8::7]:4711"}"#)));
        assert!(single.matches(&record(r#"{"arguments":["2001:db8::7"]}"#)));
    }

    #[test]
    fn a_request_is_told_from_a_credential_with_the_same_digits() {
        let digits = "00112233445566778899aabbccddeeff";
        let asked = record(&format!(r#"{{"id":"{digits}"}}"#));
        let used = record(&format!(r#"{{"credential":"{digits}"}}"#));
        let counted = record(&format!(r#"{{"evidence":["{digits}"]}}"#));
        let finds = |kind: &str| {
            let selector: Selector = format!("{kind}{digits}").parse().unwrap();
            [&asked, &used, &counted].map(|record| selector.matches(record))
        };

        assert_eq!(finds(""), [true, true, true]);
        assert_eq!(finds("request:"), [true, false, true]);
        assert_eq!(finds("fingerprint:"), [false, true, false]);
    }

    #[test]
    fn what_a_client_chose_puts_no_record_into_the_trail_of_others() {
        let victim: Selector = "203.0.113.7".parse().unwrap();
        let key: Selector = "key:k7Qx2mP9aB3c".parse().unwrap();
        let forged = record(
            r#"{"peer":"198.51.100.1:1","user_agent":"203.0.113.7","trace":"00112233445566778899aabbccddeeff","host":"203.0.113.7","path":"k7Qx2mP9aB3c","upstream":"203.0.113.7:80"}"#,
        );
        let request: Selector = "00112233445566778899aabbccddeeff".parse().unwrap();

        assert!(!victim.matches(&forged));
        assert!(!key.matches(&forged));
        assert!(!request.matches(&forged));
    }
}
