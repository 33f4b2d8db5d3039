//! Which records belong to a trail: everything that names a key, a source, a request, a block.
//!
//! Only fields that we wrote are compared. What a client or an upstream chose, such as host and
//! path, never makes a record part of somebody else's trail.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use enforcer_model::{BlockId, KeyId, Prefix};
use serde_json::Value;

use crate::stored::Stored;

/// Whom or what a trail follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// A block, by its id.
    Block(BlockId),
    /// A request id or the fingerprint of a credential: 32 hexadecimal digits.
    Hex(String),
    /// An API key: its requests, what was done to it, what it was blocked for.
    Key(KeyId),
    /// Every source in a network, and blocks that overlap it.
    Network(Prefix),
    /// A caller, as logged.
    Principal(String),
    /// A route of the policy, by name.
    Route(String),
}

/// The text selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` selects no trail; write an address, a network, `key:ID`, `principal:NAME`, \
     `route:NAME`, a block such as `B-7K2Q4XW`, or the 32 hexadecimal digits of a request or \
     fingerprint"
)]
pub struct SelectorError(String);

/// Fields whose text somebody else chose, and the upstream, which is not the caller.
const FOREIGN: [&str; 6] = ["cause", "detail", "host", "method", "path", "upstream"];

impl Selector {
    /// Whether `record` belongs to the trail.
    pub fn matches(&self, record: &Stored) -> bool {
        // The text of an id stands in the bytes as it is; parsing is for those that contain it.
        self.needle().is_none_or(|needle| record.text.contains(&needle))
            && record.json().is_ok_and(|json| json.get("body").is_some_and(|it| self.finds(it)))
    }

    fn needle(&self) -> Option<String> {
        match self {
            Self::Block(id) => Some(id.to_string()),
            Self::Hex(digits) => Some(digits.clone()),
            Self::Key(id) => Some(id.to_string()),
            // Names may be escaped in JSON, and addresses have many spellings of a network.
            Self::Network(_) | Self::Principal(_) | Self::Route(_) => None,
        }
    }

    fn finds(&self, body: &Value) -> bool {
        match self {
            Self::Block(id) => anywhere(body, &|text| text == id.to_string()),
            Self::Hex(digits) => anywhere(body, &|text| text == digits),
            Self::Key(id) => anywhere(body, &|text| {
                text == id.as_str() || text.strip_prefix("key:") == Some(id.as_str())
            }),
            Self::Network(network) => {
                anywhere(body, &|text| place(text).is_some_and(|place| place.overlaps(*network)))
            }
            Self::Principal(name) => body.pointer("/who/principal").is_some_and(|it| it == name),
            Self::Route(name) => body.get("route").is_some_and(|it| it == name),
        }
    }
}

/// The address or network that `text` is, with or without a port.
fn place(text: &str) -> Option<Prefix> {
    let peer = text.parse::<SocketAddr>().map(|peer| peer.ip());
    peer.or_else(|_| text.parse::<IpAddr>()).map(Prefix::from).ok().or_else(|| text.parse().ok())
}

/// Whether a text of ours in `value` fits.
fn anywhere(value: &Value, fits: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => fits(text),
        Value::Array(values) => values.iter().any(|value| anywhere(value, fits)),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| !FOREIGN.contains(&name.as_str()) && anywhere(value, fits)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let refused = || SelectorError(text.to_owned());
        if let Some((kind, name)) = text.split_once(':') {
            match kind {
                "key" => return name.parse().map(Self::Key).or(Err(refused())),
                "principal" if !name.is_empty() => return Ok(Self::Principal(name.to_owned())),
                "route" if !name.is_empty() => return Ok(Self::Route(name.to_owned())),
                _ => {}
            }
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Block(id));
        }
        if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self::Hex(text.to_ascii_lowercase()));
        }
        text.parse().map(Self::Network).or(Err(refused()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(id) => id.fmt(f),
            Self::Hex(digits) => f.write_str(digits),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Network(network) => network.fmt(f),
            Self::Principal(name) => write!(f, "principal:{name}"),
            Self::Route(name) => write!(f, "route:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: &str) -> Stored {
        let text = format!(r#"{{"v":1,"index":0,"class":"http","body":{body}}}"#);
        Stored { index: 0, text: text.into() }
    }

    #[test]
    fn a_selector_survives_printing_and_parsing() {
        for text in [
            "203.0.113.7",
            "2001:db8::/48",
            "key:k7Qx2mP9aB3c",
            "principal:key:k7Qx2mP9aB3c",
            "route:orders",
            "B-7K2Q4XW",
            "00112233445566778899aabbccddeeff",
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
        for text in ["", "key:", "route:", "host.example", "10.0.0.1/8"] {
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
    fn what_a_client_chose_puts_no_record_into_the_trail_of_others() {
        let victim: Selector = "203.0.113.7".parse().unwrap();
        let key: Selector = "key:k7Qx2mP9aB3c".parse().unwrap();
        let forged = record(
            r#"{"peer":"198.51.100.1:1","host":"203.0.113.7","path":"k7Qx2mP9aB3c","upstream":"203.0.113.7:80"}"#,
        );

        assert!(!victim.matches(&forged));
        assert!(!key.matches(&forged));
    }
}
