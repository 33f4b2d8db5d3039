//! Whom or what a finding is about, and an action can hit.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use enforcer_model::{Fingerprint, Prefix, Principal};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Somebody or something that rules count by.
///
/// As text it names its kind: `source:203.0.113.0/24`, `identity:key:k7Qx2mP9aB3c`,
/// `credential:` and 32 hexadecimal digits, `ja4:…`, `route:orders`, `upstream:10.0.0.7:8443`,
/// `everyone`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// An address, or a network of addresses.
    Source(Prefix),
    /// An authenticated caller.
    Identity(Principal),
    /// One credential, by its keyed hash.
    Credential(Fingerprint),
    /// A kind of TLS client.
    Ja4(Arc<str>),
    /// A route of the policy.
    Route(Arc<str>),
    /// The host of an upstream.
    Upstream(Arc<str>),
    /// All traffic together.
    Everyone,
}

/// The text names no entity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names nobody; write `source:ADDRESS`, `identity:PRINCIPAL`, `credential:FINGERPRINT`, \
     `ja4:…`, `route:NAME`, `upstream:HOST` or `everyone`"
)]
pub struct EntityError(String);

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(network) => write!(f, "source:{network}"),
            Self::Identity(principal) => write!(f, "identity:{}", principal.as_str()),
            Self::Credential(fingerprint) => write!(f, "credential:{fingerprint}"),
            Self::Ja4(ja4) => write!(f, "ja4:{ja4}"),
            Self::Route(route) => write!(f, "route:{route}"),
            Self::Upstream(host) => write!(f, "upstream:{host}"),
            Self::Everyone => f.write_str("everyone"),
        }
    }
}

impl FromStr for Entity {
    type Err = EntityError;

    fn from_str(text: &str) -> Result<Self, EntityError> {
        let refused = || EntityError(text.to_owned());
        if text == "everyone" {
            return Ok(Self::Everyone);
        }
        let (kind, name) = text.split_once(':').ok_or_else(refused)?;
        if name.is_empty() {
            return Err(refused());
        }
        match kind {
            "source" => name.parse().map(Self::Source).or(Err(refused())),
            "identity" => principal(name).map(Self::Identity).ok_or_else(refused),
            "credential" => fingerprint(name).map(Self::Credential).ok_or_else(refused),
            "ja4" => Ok(Self::Ja4(name.into())),
            "route" => Ok(Self::Route(name.into())),
            "upstream" => Ok(Self::Upstream(name.into())),
            _ => Err(refused()),
        }
    }
}

/// A principal as records hold it.
pub(crate) fn principal(name: &str) -> Option<Principal> {
    // The one constructor that takes any text.
    serde_json::from_value(name.into()).ok()
}

fn fingerprint(text: &str) -> Option<Fingerprint> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bits = u128::from_str_radix(text, 16).ok().filter(|_| digits)?;
    Some(Fingerprint(bits.to_be_bytes()))
}

impl Serialize for Entity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Entity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_survives_printing_and_parsing() {
        for text in [
            "source:203.0.113.0/24",
            "source:2001:db8::1",
            "identity:key:k7Qx2mP9aB3c",
            "identity:token:corp/alice",
            "credential:00112233445566778899aabbccddeeff",
            "ja4:t13d1516h2_8daaf6152771_e5627efa2ab1",
            "route:orders",
            "upstream:10.0.0.7:8443",
            "everyone",
        ] {
            let entity: Entity = text.parse().unwrap();
            assert_eq!(entity.to_string(), text);
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for text in ["", "source:", "source:host", "credential:12", "somebody:x", "identity"] {
            assert!(text.parse::<Entity>().is_err(), "{text}");
        }
    }
}
