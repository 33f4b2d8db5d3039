//! What witnesses, timestamping authorities and whoever names them send.

use enforcer_audit::{
    AddCheckpoint, Hash, SignedNote, WitnessKey, WitnessPolicy, node_hash, parse_size,
    read_timestamp, verify_consistency,
};
use ring::digest::{SHA256, digest};

/// A witness whose secret key nobody has.
const WITNESS: &str = "witness.example/w1+ea7c11dc+BN6b9+TtdZqnUvMFP1Hoq+ExZpkIuzx1LFO/9LTiQeo1";
/// The one text that it cosigned, and when.
const COSIGNED: &str = "host.example/enforcer\n5\nSBNJTRN+FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I=\n";
const WHEN: u64 = 1_795_379_055;

/// The body of `add-checkpoint`, or the answer that names a size.
///
/// What is read is written the same, and no longer than the protocol allows.
pub fn witness_request(bytes: &[u8]) {
    if let Ok(request) = AddCheckpoint::parse(bytes) {
        assert_eq!(request.to_string().as_bytes(), bytes, "a request with two spellings");
        assert!(request.proof.len() <= 63 && bytes.len() <= 20 << 10);
        if let Ok(note) = SignedNote::parse(&request.note)
            && let Ok(head) = note.claims()
        {
            assert!(request.note.starts_with(note.text()) && note.text().ends_with('\n'));
            assert!(note.text().starts_with(&head.to_string()), "{head:?} is printed as another");
        }
    }
    if let Some(size) = parse_size(bytes) {
        assert_eq!(format!("{size}\n").as_bytes(), bytes, "a size with two spellings");
    }
}

/// A line with the key of a witness, then a note.
///
/// A key is printed as it was read, and its id is the one of its name and bytes. For a key that
/// nobody has, the one text that it cosigned is accepted, with its time.
pub fn cosignature(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (line, note) = text.split_once('\n').unwrap_or((text, ""));
    let note = SignedNote::parse(note);
    if let Ok(key) = line.parse::<WitnessKey>() {
        assert_eq!(key.to_string(), line, "a key with two spellings");
        let named = [key.name().as_bytes(), b"\n\x04", key.bytes()].concat();
        assert!(digest(&SHA256, &named).as_ref().starts_with(&key.id()));
        if let Ok(note) = &note
            && let Ok(Some(time)) = note.cosigned_by(&key)
        {
            assert!((1..1 << 63).contains(&time), "{time}");
            assert!(!note.lines_by(&key).is_empty());
        }
    }
    let genuine: WitnessKey = WITNESS.parse().expect("the key of the corpus is one");
    if let Ok(note) = &note
        && let Ok(Some(time)) = note.cosigned_by(&genuine)
    {
        assert_eq!((note.text(), time), (COSIGNED, WHEN), "forged");
    }
}

/// A policy file.
///
/// All witnesses together are always enough, nobody only where nobody is needed, and one more never
/// spoils it. What is written of it is the same policy.
pub fn witness_policy(bytes: &[u8]) {
    let Ok(policy) = WitnessPolicy::parse(bytes) else { return };
    let count = policy.witnesses().len();
    assert!(policy.is_met(|_| true));
    assert_eq!(policy.is_met(|_| false), policy.needs_nobody());
    let met = |first: usize| policy.is_met(|place| place < first);
    assert!((0..count).all(|first| !met(first) || met(first + 1)), "one more spoils it");
    for (place, witness) in policy.witnesses().iter().enumerate() {
        let before = policy.witnesses().iter().take(place);
        assert!(before.clone().all(|other| other.key.bytes() != witness.key.bytes()), "twice");
    }
    if std::str::from_utf8(bytes).is_ok() {
        let again = WitnessPolicy::parse(policy.to_string().as_bytes());
        assert_eq!(again.as_ref(), Ok(&policy), "written as another policy");
    }
}

/// Two sizes, two roots, and the hashes of a proof.
///
/// Accepted is what the definition in RFC 6962, followed word by word, accepts.
pub fn consistency_proof(bytes: &[u8]) {
    let Some((sizes, rest)) = bytes.split_first_chunk::<16>() else { return };
    let (hashes, _) = rest.as_chunks::<32>();
    let [old_root, new_root, path @ ..] = hashes else { return };
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (old, new) = (number(&sizes[..8]), number(&sizes[8..]));
    let accepted = verify_consistency((old, *old_root), (new, *new_root), path).is_ok();

    let empty: Hash = digest(&SHA256, &[]).as_ref().try_into().expect("32 bytes");
    let right = match (old, new) {
        (0, 0) => path.is_empty() && *old_root == empty && *new_root == empty,
        (0, _) => path.is_empty() && *old_root == empty,
        (old, new) if old > new => false,
        (old, new) if old == new => path.is_empty() && old_root == new_root,
        _ => {
            let mut left = path;
            let roots = follow(old, new, Some(*old_root), &mut left);
            left.is_empty() && roots == Some((*old_root, *new_root))
        }
    };
    assert_eq!(accepted, right, "{old} to {new}");
}

/// SUBPROOF of RFC 6962, section 2.1.2, read backwards: both roots of a subtree of `new` leaves, of
/// which `old` are old. `known` is its old root where the proof leaves it out.
fn follow(old: u64, new: u64, known: Option<Hash>, path: &mut &[Hash]) -> Option<(Hash, Hash)> {
    let pop = |path: &mut &[Hash]| {
        let (last, rest) = path.split_last()?;
        *path = rest;
        Some(*last)
    };
    if old == new {
        let whole = match known {
            Some(known) => known,
            None => pop(path)?,
        };
        return Some((whole, whole));
    }
    let left = 1 << (new - 1).ilog2();
    if old <= left {
        let right = pop(path)?;
        let (then, now) = follow(old, left, known, path)?;
        Some((then, node_hash(&now, &right)))
    } else {
        let sibling = pop(path)?;
        let (then, now) = follow(old - left, new - left, None, path)?;
        Some((node_hash(&sibling, &then), node_hash(&sibling, &now)))
    }
}

/// The answer of a timestamping authority.
///
/// What it says stands in it, its time is one, and no byte can be cut off or added.
pub fn timestamp_answer(bytes: &[u8]) {
    let Ok(stamped) = read_timestamp(bytes) else { return };
    let stands = |part: &[u8]| bytes.windows(part.len().max(1)).any(|window| window == part);
    assert!(stands(&stamped.imprint) && stands(stamped.time.as_bytes()));
    assert!(stamped.time.is_ascii() && stamped.time.ends_with('Z'));
    assert!(stamped.nonce.is_none_or(|nonce| nonce.first() != Some(&0)));
    assert!(read_timestamp(&[bytes, &[0]].concat()).is_err());
    assert!(read_timestamp(bytes.split_last().map_or(&[][..], |(_, rest)| rest)).is_err());
}
