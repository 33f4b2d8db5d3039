//! What is handed to somebody who does not trust us: keys, checkpoints, proofs.

use enforcer_audit::{
    Checkpoint, Hash, NoteError, VerifierKey, leaf_hash, node_hash, root_from_inclusion,
    verify_evidence,
};
use ring::digest::{SHA256, digest};

use super::log;

/// A line with a public key, then a signed checkpoint.
///
/// A key is printed as it was read, and its id is the one of its name and bytes. A checkpoint is
/// printed as it was signed. For a key that nobody has, the one text that it signed is accepted.
pub fn audit_note(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (line, note) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(key) = line.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), line, "a key with two spellings");
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        assert!(!key.origin().is_empty() && !key.origin().contains(odd), "{:?}", key.origin());
        let named = [key.origin().as_bytes(), b"\n\x01", key.bytes()].concat();
        assert!(digest(&SHA256, &named).as_ref().starts_with(&key.id()));
        opened(note, &key, key.open(note));
    }
    let (_, genuine) = opened(note, &log::key(), log::key().open(note)).unzip();
    assert!(genuine.is_none_or(|text| text == log::HEAD), "forged: {note}");
}

/// What a checkpoint says, and the text that was signed.
fn opened<'a>(
    note: &'a str,
    key: &VerifierKey,
    checkpoint: Result<Checkpoint, NoteError>,
) -> Option<(Checkpoint, &'a str)> {
    let checkpoint = checkpoint.ok()?;
    let (text, signatures) = note.rsplit_once("\n\n").expect("a note has two parts");
    let text = note.get(..=text.len()).expect("the text ends with a line");
    assert!(text.starts_with(&checkpoint.to_string()), "{checkpoint:?} is printed as another");
    assert_eq!(checkpoint.origin, key.origin());
    let signed = format!("— {} ", key.origin());
    assert!(signatures.split('\n').any(|line| line.starts_with(&signed)), "nobody has signed it");
    Some((checkpoint, text))
}

/// A line with a record, then its proof.
///
/// What is accepted is a record of the log in its place, under the signed tree head, with the one
/// path that leads there. What the log itself would hand out is accepted.
pub fn audit_proof(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (record, proof) = text.split_once('\n').unwrap_or((text, ""));
    let found = verify_evidence(record.as_bytes(), proof, &log::key());

    let place = log::RECORDS.iter().position(|genuine| *genuine == record);
    if let Ok((index, checkpoint)) = &found {
        assert_eq!(Some(*index), place.and_then(|place| u64::try_from(place).ok()), "{record}");
        assert_eq!((checkpoint.size, checkpoint.root), (5, log::root()));
        let (first, rest) = proof.split_once('\n').expect("a proof has lines");
        let extra = rest.split_once('\n').filter(|(line, _)| line.starts_with("extra "));
        let plain = format!("{first}\n{}", extra.map_or(rest, |(_, behind)| behind));
        assert!(plain.starts_with(&head_of_proof(*index)), "another path: {proof}");
    }
    let handed_out = place.and_then(|place| u64::try_from(place).ok()).is_some_and(|place| {
        proof == format!("{}{}\n{}", head_of_proof(place), log::HEAD, log::SIGNATURE)
    });
    assert!(!handed_out || found.is_ok(), "{found:?}");
}

/// A proof down to its checkpoint.
fn head_of_proof(index: u64) -> String {
    let path = log::path(usize::try_from(index).unwrap_or(usize::MAX));
    let lines: String = path.iter().map(|hash| base64(hash) + "\n").collect();
    format!("c2sp.org/tlog-proof@v1\nindex {index}\n{lines}\n")
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3)
            .fold(0, |bits, place| bits << 8 | usize::from(chunk.get(place).copied().unwrap_or(0)));
        for place in 0..4 {
            let digit = ALPHABET.get(bits >> (18 - 6 * place) & 63).copied().unwrap_or(b'=');
            text.push(char::from(if place > chunk.len() { b'=' } else { digit }));
        }
    }
    text
}

/// An index and a size, eight bytes each, then the hashes of a path, all about one fixed leaf.
///
/// The root is the one of the recursive definition in RFC 6962 (section 2.1.1), and a path of any
/// other length than that of the place leads nowhere.
pub fn audit_path(bytes: &[u8]) {
    let Some((index, rest)) = bytes.split_first_chunk() else { return };
    let Some((size, hashes)) = rest.split_first_chunk() else { return };
    let (index, size) = (u64::from_be_bytes(*index), u64::from_be_bytes(*size));
    let (path, _) = hashes.as_chunks::<32>();
    let leaf = leaf_hash(b"leaf");

    let found = root_from_inclusion(leaf, index, size, path);

    assert_eq!(found, root_by_definition(leaf, index, size, path), "{index} of {size}");
}

fn root_by_definition(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    if size == 1 {
        return path.is_empty().then_some(leaf);
    }
    let (sibling, path) = path.split_last()?;
    let half = 1 << (size - 1).ilog2();
    if index < half {
        Some(node_hash(&root_by_definition(leaf, index, half, path)?, sibling))
    } else {
        Some(node_hash(sibling, &root_by_definition(leaf, index - half, size - half, path)?))
    }
}
