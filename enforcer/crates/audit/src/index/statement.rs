//! What the log says of the index of a closed segment: the body of a record of class `segment`.

use std::collections::BTreeMap;

use enforcer_model::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::keys::{Kind, Lengths};
use crate::merkle::{HASH_BYTES, Hash};

/// The index of one segment, vouched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The segment's first record.
    pub first: u64,
    /// The first record behind it.
    pub end: u64,
    /// When the earliest record was written.
    pub from: Timestamp,
    /// When the latest was.
    pub until: Timestamp,
    /// Entries of the index.
    pub keys: u64,
    /// The root of their tree.
    #[serde(rename = "index_root", serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub root: Hash,
    /// Lengths of the IPv4 networks that records name, single addresses left out.
    pub v4: Vec<u8>,
    /// The same of IPv6.
    pub v6: Vec<u8>,
    /// SHA-256 of the key of each kind of entries, in hex.
    pub kinds: BTreeMap<String, Hex>,
}

/// A hash in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub Hash);

impl Statement {
    /// The statement in the record `text`; none when it is of another class.
    pub fn of(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            class: String,
            body: serde_json::Value,
        }
        let envelope: Envelope = serde_json::from_str(text).ok()?;
        if envelope.class != "segment" {
            return None;
        }
        serde_json::from_value(envelope.body).ok()
    }

    /// The same but for its times, which a record rounds.
    pub(super) fn vouches_like(&self, other: &Self) -> bool {
        let Self { first, end, from: _, until: _, keys, root, v4, v6, kinds } = self;
        (first, end, keys, root) == (&other.first, &other.end, &other.keys, &other.root)
            && (v4, v6, kinds) == (&other.v4, &other.v6, &other.kinds)
    }

    pub(super) fn lengths(&self) -> Lengths {
        Lengths::of(&self.v4, &self.v6)
    }

    pub(super) fn commitment(&self, kind: Kind) -> Option<Hash> {
        self.kinds.get(kind.as_str()).map(|hash| hash.0)
    }
}

fn to_hex<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    Hex(*hash).serialize(serializer)
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
    Hex::deserialize(deserializer).map(|hash| hash.0)
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Self).ok_or_else(|| serde::de::Error::custom("not a hash in hex"))
    }
}

fn parse(text: &str) -> Option<Hash> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != HASH_BYTES || !rest.is_empty() {
        return None;
    }
    let mut hash = [0; HASH_BYTES];
    for (byte, pair) in hash.iter_mut().zip(pairs) {
        if !pair.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}
