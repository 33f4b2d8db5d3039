//! Lists: many networks under one decision, put in force and ended as one.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use enforcer_model::{Author, BlockId, Expiry, Prefix, Timestamp};
use serde::{Deserialize, Serialize};

use super::networks::Networks;

/// Refused networks that an answer tells; more are only counted.
pub const REFUSED_TOLD: usize = 100;

/// The name of a list, fit for a file's: letters, digits, `.`, `_` and `-`, at most 64, a letter or
/// digit first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListName(String);

/// The text is no name of a list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a name for a list: at most 64 letters, digits, `.`, `_` and `-`, beginning with a \
     letter or digit"
)]
pub struct ListNameError(String);

/// A list as asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// Its name; a list of this name is replaced.
    pub list: ListName,
    /// All that it holds from now on.
    pub networks: Networks,
    /// For how long; none is for ever.
    pub ttl_seconds: Option<u64>,
    /// Why.
    pub reason: String,
    /// Take in what the guards object to as well.
    pub override_guard: bool,
    /// Say what would happen, do nothing.
    pub dry_run: bool,
    /// The peer of the operator's own SSH session.
    #[serde(default)]
    pub ssh_peer: Option<IpAddr>,
}

/// A list that is in force, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Imported {
    /// Its name.
    pub list: ListName,
    /// The decision.
    pub id: BlockId,
    /// Networks that the list holds: without duplicates and refused ones.
    pub networks: u64,
    /// Of these, IPv4.
    pub v4: u64,
    /// Of these, IPv6.
    pub v6: u64,
    /// Given more than once; each is held once.
    pub duplicates: u64,
    /// Inside another network of the list, which would be enough.
    pub contained: u64,
    /// Blocked by another decision as well.
    pub already_blocked: u64,
    /// The first [`REFUSED_TOLD`] that a guard refused.
    pub refused: Vec<Refused>,
    /// All that a guard refused.
    pub refused_total: u64,
    /// Networks of the list before that this one does not hold.
    pub removed: u64,
    /// The decision that this one replaced.
    #[serde(default)]
    pub replaced: Option<BlockId>,
    /// Where what the list held before is kept, to be imported again.
    #[serde(default)]
    pub previous: Option<PathBuf>,
    /// What the kernel maps hold, read back; none when the kernel part is off.
    pub kernel: Option<ListInKernel>,
    /// Why the kernel does not enforce it, where one might expect that it did.
    pub kernel_off: Option<String>,
    /// Whether the policy has a kernel section, so that without it the list is a partial one.
    #[serde(default)]
    pub kernel_wanted: bool,
    /// Whether layer 7 refuses its networks.
    pub layer7: bool,
    /// Why the decision is not on disk, and would be forgotten by a restart of the machine.
    #[serde(default)]
    pub not_stored: Option<String>,
    /// Guards that were overridden, the first [`REFUSED_TOLD`].
    #[serde(default)]
    pub overridden: Vec<Refused>,
    /// Open connections that were closed: those of the proxy and those of other sockets.
    #[serde(default)]
    pub connections_closed: u64,
    /// From the call read to everything in force.
    pub took_us: u64,
    /// When it ends.
    pub until: Expiry,
    /// When it was decided.
    pub since: Timestamp,
    /// Number of the audit record; none for a dry run.
    pub audit: Option<u64>,
    /// Whether this was a rehearsal.
    pub dry_run: bool,
}

/// A list in the kernel maps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListInKernel {
    /// `eth1 xdp-native`, one for each attached interface.
    pub interfaces: Vec<String>,
    /// Entries of the list, read back. Fewer than the list's networks where another decision's entry
    /// for the same network stands, or where networks were put together.
    pub entries: u64,
    /// How long the switch to the new tables took.
    pub applied_us: u64,
    /// Counts only, drops nothing.
    pub observe: bool,
}

/// A network that a guard protects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// As it was given.
    pub prefix: Prefix,
    /// What it would have hit.
    pub why: String,
}

/// Every list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lists {
    /// One each.
    pub lists: Vec<ListRow>,
}

/// One list and its effects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListRow {
    /// Its name.
    pub name: ListName,
    /// The decision.
    pub id: BlockId,
    /// Networks that it holds.
    pub networks: u64,
    /// When it was decided.
    pub since: Timestamp,
    /// When it ends.
    pub until: Expiry,
    /// The operator's words.
    pub reason: String,
    /// Who decided.
    pub author: Author,
    /// Entries of the kernel maps that are this list's, read back.
    pub in_kernel: u64,
    /// Packets that these dropped.
    pub packets: u64,
    /// Whether layer 7 refuses its networks.
    #[serde(default)]
    pub layer7: bool,
}

/// A list that ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListReleased {
    /// Its name.
    pub name: ListName,
    /// The decision that ended.
    pub id: BlockId,
    /// Networks that it held.
    pub networks: u64,
    /// Of these, blocked still by another decision.
    pub still_blocked: u64,
    /// Entries that were taken out of the kernel maps.
    pub kernel: u64,
    /// Packets that these had dropped.
    pub packets: u64,
    /// When it would have ended.
    pub until: Expiry,
    /// Where its networks are kept, to be imported again.
    #[serde(default)]
    pub previous: Option<PathBuf>,
    /// What did not work: a layer that may still hold it.
    pub problems: Vec<String>,
    /// How long it took.
    pub took_us: u64,
    /// Number of the audit record.
    pub audit: Option<u64>,
}

/// A page of networks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exported {
    /// Next to each other in their order.
    pub networks: Networks,
    /// All that there are, when this page was made.
    pub total: u64,
    /// Ask on with this one; none: these were the last.
    pub next: Option<Prefix>,
}

impl ListName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ListName {
    type Err = ListNameError;

    fn from_str(text: &str) -> Result<Self, ListNameError> {
        let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if letters && first && text.len() <= 64 {
            Ok(Self(text.to_owned()))
        } else {
            Err(ListNameError(text.chars().take(64).collect()))
        }
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ListName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ListName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_list_can_be_a_files_and_nothing_else() {
        for name in ["drop", "spamhaus-drop_v4.2026", "7"] {
            assert_eq!(name.parse::<ListName>().unwrap().as_str(), name);
        }
        let long = "a".repeat(65);
        for name in ["", ".", "..", "../../etc/passwd", "-rf", "a b", "a/b", "ä", "a\n", &long] {
            assert!(name.parse::<ListName>().is_err(), "{name}");
            let quoted = serde_json::to_string(name).unwrap();
            assert!(serde_json::from_str::<ListName>(&quoted).is_err(), "{name}");
        }
    }
}
