//! The file `MANIFEST`: the SHA-256 of every other file, as `sha256sum -c` reads it.

use ring::digest::{SHA256, digest};

use super::{
    CHECKPOINT, CLOCK, INDEX_DIGITS, KEY, POLICIES, PROGRAMS, Part, READABLE, README, SCRIPT,
    SELECTION, TOKEN, WITNESSES,
};

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// SHA-256 of it, in hex.
    pub(super) sha256: String,
    /// Its path inside the bundle.
    pub(super) path: String,
}

/// What a file of a bundle is, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Leaf(Part, u64),
    Proof(Part, u64),
    Policy,
    /// Which records the segment from there on has.
    Segment(u64),
    Other,
}

/// The lines of `entries`, which are in order.
pub(super) fn print(entries: &[Entry]) -> String {
    entries.iter().map(|entry| format!("{}  {}\n", entry.sha256, entry.path)).collect()
}

/// The entries of `text`, if it is the one spelling of them; otherwise why not.
pub(super) fn parse(text: &str) -> Result<Vec<(Entry, Role)>, String> {
    let mut entries: Vec<(Entry, Role)> = Vec::new();
    for line in text.split_terminator('\n') {
        let is_list = || "MANIFEST is not a list of hashes".to_owned();
        let (sha256, path) = line.split_once("  ").ok_or_else(is_list)?;
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if sha256.len() != 64 || !sha256.bytes().all(hex) {
            return Err(is_list());
        }
        let entry = Entry { sha256: sha256.to_owned(), path: path.to_owned() };
        let role = role_of(&entry).ok_or_else(|| format!("{path} has no place in a bundle"))?;
        if entries.last().is_some_and(|(last, _)| last.path >= entry.path) {
            return Err("MANIFEST is not in order".to_owned());
        }
        entries.push((entry, role));
    }
    if text.ends_with('\n') { Ok(entries) } else { Err("MANIFEST is cut short".to_owned()) }
}

fn role_of(entry: &Entry) -> Option<Role> {
    const NAMES: [&str; 11] = [
        READABLE, README, SCRIPT, SELECTION, CHECKPOINT, TOKEN, KEY, WITNESSES, CLOCK, PROGRAMS,
        POLICIES,
    ];
    let path = entry.path.as_str();
    if NAMES.contains(&path) || Part::ALL.iter().any(|part| part.lines() == path) {
        return Some(Role::Other);
    }
    let (folder, name) = path.split_once('/')?;
    if folder == "policies" {
        return (name.strip_suffix(".toml")? == entry.sha256).then_some(Role::Policy);
    }
    if folder == "completeness" {
        return name.strip_suffix(".index-proof").and_then(index).map(Role::Segment);
    }
    let part = Part::ALL.into_iter().find(|part| part.folder() == folder)?;
    let leaf = name.strip_suffix(".leaf").and_then(index);
    let proof = name.strip_suffix(".tlog-proof").and_then(index);
    leaf.map(|index| Role::Leaf(part, index)).or(proof.map(|index| Role::Proof(part, index)))
}

fn index(digits: &str) -> Option<u64> {
    let plain = digits.len() == INDEX_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// SHA-256 of `bytes`, in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
