//! An index of the audit log, and a proof made of one, as somebody may have written them.

use std::fs::File;
use std::io::{Seek, Write};

use enforcer_audit::Selector;
use enforcer_audit::index::{SegmentProof, Statement, find_in, seal, walk};

const KEY: [u8; 32] = [7; 32];
const SALT: [u8; 16] = [9; 16];

/// Records in a segment, at most, by the format.
const RECORDS_MAX: u64 = 1 << 24;

/// Bytes as a file, as the content of a file that its key seals, and as the text of a proof.
///
/// A file that nobody sealed is none. Whatever sealed content says, its records are those of a
/// segment, in order, and looking for them ends. A proof that is read is written the same way, and
/// proves nothing against a statement about another index.
pub fn audit_index(bytes: &[u8]) {
    // A file of a genuine key that holds these bytes by chance is a broken cipher.
    assert!(looked_up(bytes).is_none() || bytes.starts_with(b"enforcer-index/1"));
    if let Ok(sealed) = seal(&KEY, SALT, bytes) {
        looked_up(&sealed);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(proof) = SegmentProof::parse(text) {
        assert_eq!(proof.to_text(), text);
        let selector: Selector = "route:orders".parse().expect("a selector");
        let verified = proof.verify(&selector, &statement(&proof));
        assert!(verified.is_err(), "a proof for a root that is not there");
    }
}

fn looked_up(bytes: &[u8]) -> Option<()> {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("room");
    file.rewind().expect("a file can be rewound");
    let again = || -> File { file.try_clone().expect("a descriptor") };
    for selector in ["route:orders", "key:k7Qx2mP9aB3c", "203.0.113.7", "2001:db8::/48"] {
        let selector: Selector = selector.parse().expect("a selector");
        let Ok(found) = find_in(again(), 0, &KEY, &selector) else { continue };
        assert!(found.is_sorted() && found.iter().all(|record| *record < RECORDS_MAX));
    }
    walk(again(), 0, &KEY).ok().map(|_| ())
}

/// A statement about the segment of `proof`, with a root that nothing leads to.
fn statement(proof: &SegmentProof) -> Statement {
    let body = serde_json::json!({
        "first": proof.first,
        "end": proof.end,
        "from": "2026-01-01T00:00:00Z",
        "until": "2026-01-01T00:00:00Z",
        "keys": 1,
        "index_root": "00".repeat(32),
        "v4": [8, 24],
        "v6": [],
        "kinds": { "route": "00".repeat(32) },
    });
    serde_json::from_value(body).expect("a statement")
}
