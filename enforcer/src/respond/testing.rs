//! What the tests of the responder's parts are made of.

use std::sync::Arc;

use enforcer_authz::Networks;
use enforcer_model::{Author, Block, BlockId, Expiry, Prefix, Timestamp};

use super::list_file::sha256_of;
use super::lists::List;

pub(super) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(super) fn at(second: u64) -> Timestamp {
    Timestamp::from_unix_seconds(second)
}

/// A rule's block, decided at second 0.
pub(super) fn block(id: u64, target: &str, until: Expiry) -> Block {
    Block {
        id: BlockId::from_bits(id),
        target: target.parse().unwrap(),
        reason: "guessing".into(),
        author: Author::Rule("key-guessing".into()),
        since: at(0),
        until,
        through: None,
    }
}

/// A list that never ends.
pub(super) fn list(name: &str, id: u64, networks: &[&str]) -> List {
    let (networks, _) = Networks::collect(networks.iter().map(|text| prefix(text)));
    List {
        name: name.parse().unwrap(),
        id: BlockId::from_bits(id),
        reason: "a feed".into(),
        author: Author::Operator { uid: 0, name: "root".into() },
        since: at(0),
        until: Expiry::Never,
        sha256: sha256_of(&networks),
        networks: Arc::new(networks),
    }
}
