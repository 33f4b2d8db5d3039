//! A log of five records, signed once with a key that nobody has any more.
//!
//! Whatever is accepted for this log and is not what stands here has been forged.

use enforcer_audit::{Hash, VerifierKey, leaf_hash, node_hash};

/// Who may sign.
pub(super) const KEY: &str =
    "log.example/fuzz+a4b741e1+AX8yBJkqQCGGuDjE1bIe16LmCm/cguHxEx9SXxkscTHq";

/// The tree head that was signed.
pub(super) const HEAD: &str = "log.example/fuzz\n5\n2cTWhK5ZHkN52mZvcx2FO0e8KhBLIUqPTy+nAg+nYt4=\n";

/// And its signature.
pub(super) const SIGNATURE: &str = "— log.example/fuzz pLdB4Wa2vflGQ0SULuCngWR7L/zYEOc/BGRhCZfI3fP2IKf8fiF94dVmnnd2KUQF+Efe/sXVs/VKD/d6EYBtCQBV4gI=\n";

/// What was recorded, oldest first.
pub(super) const RECORDS: [&str; 5] = [
    r#"{"v":1,"index":0,"time":"2026-01-31T12:00:00.000000Z","mono_ns":0,"boot":"b","class":"config","body":{"what":"started","by":null,"policy":"5f"}}"#,
    r#"{"v":1,"index":1,"time":"2026-01-31T12:00:01.000000Z","mono_ns":1,"boot":"b","class":"http","body":{"id":"00112233445566778899aabbccddeeff","peer":"203.0.113.7:4711","route":"orders","status":401}}"#,
    r#"{"v":1,"index":2,"time":"2026-01-31T12:00:02.000000Z","mono_ns":2,"boot":"b","class":"block","body":{"what":"applied","block":{"id":"B-7K2Q4XW","target":"203.0.113.0/24"},"layers":["proxy"]}}"#,
    r#"{"v":1,"index":3,"time":"2026-01-31T12:00:03.000000Z","mono_ns":3,"boot":"b","class":"admin","body":{"operator":"agent","verb":"release","arguments":["key:k7Qx2mP9aB3c"],"outcome":"done","detail":null}}"#,
    r#"{"v":1,"index":4,"time":"2026-01-31T12:00:04.000000Z","mono_ns":4,"boot":"b","class":"gap","body":{"why":"torn-tail","records":0,"bytes":7,"since":null}}"#,
];

/// [`KEY`], read.
pub(super) fn key() -> VerifierKey {
    KEY.parse().unwrap_or_else(|error| panic!("{error}: {KEY}"))
}

/// The path from a record to the root, as RFC 6962 says it (section 2.1.1).
pub(super) fn path(index: usize) -> Vec<Hash> {
    audit_path(index, &leaves())
}

/// The root of the five records.
pub(super) fn root() -> Hash {
    tree(&leaves())
}

fn leaves() -> Vec<Hash> {
    RECORDS.iter().map(|record| leaf_hash(record.as_bytes())).collect()
}

fn audit_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(half(leaves.len()));
    let (mut path, sibling) = match index.checked_sub(left.len()) {
        None => (audit_path(index, left), tree(right)),
        Some(index) => (audit_path(index, right), tree(left)),
    };
    path.push(sibling);
    path
}

fn tree(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => panic!("no tree is empty here"),
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(half(leaves.len()));
            node_hash(&tree(left), &tree(right))
        }
    }
}

/// The largest power of two below `count`, which is at least two.
fn half(count: usize) -> usize {
    count.next_power_of_two() / 2
}
