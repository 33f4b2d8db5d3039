//! A log that says what it likes, and what a witness makes of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use enforcer_audit::{leaf_hash, node_hash};
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;

pub(crate) const ORIGIN: &str = "host.example/enforcer";

#[test]
fn a_log_that_grows_is_cosigned_each_time() {
    let (_folder, witness, log) = start();
    let key = witness.key().clone();

    for (old, new) in [(0, 0), (0, 1), (1, 1), (1, 7), (7, 8), (8, 8), (8, 100)] {
        let note = log.note(ORIGIN, new, &tree(0, new));
        let lines = witness.add_checkpoint(&ask(old, &proof(old, new), &note), at(70)).unwrap();

        let cosigned = format!("{note}{lines}");
        let cosigned = SignedNote::parse(&cosigned).unwrap();
        assert_eq!(cosigned.cosigned_by(&key), Ok(Some(70)), "{old} to {new}");
    }
}

#[test]
fn a_log_that_was_rolled_back_learns_which_size_is_known() {
    let (_folder, witness, log) = start();
    let grow = |old, new| {
        let note = log.note(ORIGIN, new, &tree(0, new));
        witness.add_checkpoint(&ask(old, &proof(old, new), &note), at(1))
    };
    grow(0, 100).unwrap();

    for (old, new) in [(0, 50), (50, 50), (50, 60), (0, 100), (99, 100), (60, 200)] {
        assert!(matches!(grow(old, new), Err(Refusal::Conflict(100))), "{old} to {new}");
    }
    grow(100, 200).unwrap();
}

#[test]
fn a_log_that_was_forked_is_not_cosigned() {
    let (_folder, witness, log) = start();
    let note = log.note(ORIGIN, 10, &tree(0, 10));
    witness.add_checkpoint(&ask(0, &[], &note), at(1)).unwrap();

    // The same size, another tree.
    let fork = log.note(ORIGIN, 10, &tree(900, 910));
    let refused = witness.add_checkpoint(&ask(10, &[], &fork), at(2));
    assert!(matches!(refused, Err(Refusal::Forked(Inconsistent::Root))));
    // A larger one, with a proof that is right for either.
    for path in [proof(10, 12), Vec::new(), vec![[1; 32]; 63]] {
        let fork = log.note(ORIGIN, 12, &tree(900, 912));
        let refused = witness.add_checkpoint(&ask(10, &path, &fork), at(2));
        assert!(matches!(refused, Err(Refusal::Forked(_))), "{path:?}");
    }
    // A proof where none is due.
    let refused = witness.add_checkpoint(&ask(10, &[[1; 32]], &note), at(2));
    assert!(matches!(refused, Err(Refusal::Forked(Inconsistent::Proof))));
    let empty = log.note(ORIGIN, 0, &[1; 32]);
    let (_folder, fresh) = start_for(&log);
    let refused = fresh.add_checkpoint(&ask(0, &[], &empty), at(2));
    assert!(matches!(refused, Err(Refusal::Forked(Inconsistent::Root))));
}

#[test]
fn strangers_and_forgers_get_nothing() {
    let (_folder, witness, log) = start();
    let stranger = LogKey::new(77);
    let head = tree(0, 5);
    let ours = log.note(ORIGIN, 5, &head);
    let add = |old, note: &str| witness.add_checkpoint(&ask(old, &[], note), at(1)).unwrap_err();

    assert!(matches!(add(0, &stranger.note("other.example", 5, &head)), Refusal::UnknownLog));
    assert!(matches!(
        add(0, &stranger.note(ORIGIN, 5, &head)),
        Refusal::Unsigned(NoteError::Unsigned)
    ));
    let altered = ours.replace("\n5\n", "\n6\n");
    assert!(matches!(add(0, &altered), Refusal::Unsigned(NoteError::Signature)));
    // One right line beside one that claims to be right.
    let second = log.note(ORIGIN, 6, &head);
    let both = format!("{ours}{}", second.rsplit_once("\n\n").unwrap().1);
    assert!(matches!(add(0, &both), Refusal::Unsigned(NoteError::Signature)));
    assert!(matches!(add(6, &ours), Refusal::Order));
    assert!(matches!(witness.add_checkpoint(b"old 0\n", at(1)), Err(Refusal::Malformed(_))));
    assert!(matches!(add(0, "x\n5\n\n"), Refusal::Note(NoteError::Form)));
    assert_eq!(witness.newest(&hex_sha256(ORIGIN)).unwrap(), None);
}

#[test]
fn signatures_of_unknown_keys_are_ignored_and_not_kept() {
    let (_folder, witness, log) = start();
    let (head, stranger) = (tree(0, 5), LogKey::new(77));
    let theirs = stranger.note(ORIGIN, 5, &head);
    let note = format!("{}{}", log.note(ORIGIN, 5, &head), theirs.rsplit_once("\n\n").unwrap().1);

    let line = witness.add_checkpoint(&ask(0, &[], &note), at(9)).unwrap();

    let kept = witness.newest(&hex_sha256(ORIGIN)).unwrap().unwrap();
    assert_eq!(kept, format!("{}{line}", log.note(ORIGIN, 5, &head)));
    assert_eq!(witness.newest(&hex_sha256("other.example")).unwrap(), None);
}

#[test]
fn what_was_cosigned_is_known_to_the_next_process() {
    let (folder, witness, log) = start();
    let note = log.note(ORIGIN, 100, &tree(0, 100));
    witness.add_checkpoint(&ask(0, &[], &note), at(1)).unwrap();
    let home = Home::at(folder.path());
    assert!(
        matches!(Witness::open(&home, [log.key(ORIGIN)]), Err(WitnessError::Memory(_))),
        "two at once"
    );
    drop(witness);

    let witness = Witness::open(&home, [log.key(ORIGIN)]).unwrap();

    let note = log.note(ORIGIN, 60, &tree(0, 60));
    let refused = witness.add_checkpoint(&ask(0, &[], &note), at(1));
    assert!(matches!(refused, Err(Refusal::Conflict(100))));
}

#[test]
fn either_key_of_a_log_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path());
    home.make("w").unwrap();
    let (old, new) = (LogKey::new(1), LogKey::new(2));
    let witness = Witness::open(&home, [old.key(ORIGIN), new.key(ORIGIN)]).unwrap();

    let note = old.note(ORIGIN, 5, &tree(0, 5));
    witness.add_checkpoint(&ask(0, &[], &note), at(1)).unwrap();
    let note = new.note(ORIGIN, 9, &tree(0, 9));
    witness.add_checkpoint(&ask(5, &proof(5, 9), &note), at(2)).unwrap();

    assert_eq!(witness.logs(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is asked in whatever order, also by many at once: of one size there is one tree, each
    /// continues the one before, and the size never falls.
    #[test]
    fn no_two_trees_of_one_size_are_ever_cosigned(
        asks in prop::collection::vec((0..12_u64, 0..12_u64, prop::bool::ANY), 1..40)
    ) {
        let (_folder, witness, log) = start();
        let seen = parking_lot::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for part in asks.chunks(asks.len().div_ceil(3)) {
                let (witness, log, seen) = (&witness, &log, &seen);
                scope.spawn(move || for (old, new, is_fork) in part {
                    let first = if *is_fork { 500 } else { 0 };
                    let root = tree(first, first + new);
                    let note = log.note(ORIGIN, *new, &root);
                    let path = if old > new { Vec::new() } else { proof_of(first, *old, *new) };
                    if witness.add_checkpoint(&ask(*old, &path, &note), at(1)).is_ok() {
                        seen.lock().push((*new, root));
                    }
                });
            }
        });
        let mut roots = BTreeMap::new();
        for (size, root) in seen.into_inner() {
            prop_assert_eq!(*roots.entry(size).or_insert(root), root);
        }
        // All of one tree: which one, the first that was not empty decided.
        let of = |first: u64| roots.iter().all(|(size, root)| *root == tree(first, first + size));
        prop_assert!(of(0) || of(500));
    }
}

/// The key of a log, which signs whatever it is given.
pub(crate) struct LogKey(Ed25519KeyPair);

impl LogKey {
    pub(crate) fn new(seed: u8) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    fn id(&self, origin: &str) -> Vec<u8> {
        let named = [origin.as_bytes(), b"\n\x01", self.0.public_key().as_ref()].concat();
        digest(&SHA256, &named).as_ref()[..4].to_vec()
    }

    pub(crate) fn key(&self, origin: &str) -> VerifierKey {
        let id: String = self.id(origin).iter().map(|byte| format!("{byte:02x}")).collect();
        let public = base64(&[&[1], self.0.public_key().as_ref()].concat());
        format!("{origin}+{id}+{public}").parse().unwrap()
    }

    pub(crate) fn note(&self, origin: &str, size: u64, root: &[u8; 32]) -> String {
        let text = format!("{origin}\n{size}\n{}\n", base64(root));
        let signature = self.0.sign(text.as_bytes());
        let signature = [self.id(origin), signature.as_ref().to_vec()].concat();
        format!("{text}\n— {origin} {}\n", base64(&signature))
    }
}

fn start() -> (tempfile::TempDir, Witness, LogKey) {
    let log = LogKey::new(1);
    let (folder, witness) = start_for(&log);
    (folder, witness, log)
}

fn start_for(log: &LogKey) -> (tempfile::TempDir, Witness) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path());
    home.make("witness.example/w1").unwrap();
    (folder, Witness::open(&home, [log.key(ORIGIN)]).unwrap())
}

pub(crate) fn ask(old: u64, proof: &[[u8; 32]], note: &str) -> Vec<u8> {
    AddCheckpoint { old, proof: proof.to_vec(), note: note.to_owned() }.to_string().into_bytes()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_ns(seconds * 1_000_000_000)
}

/// RFC 6962, section 2.1, word for word.
pub(crate) fn tree(from: u64, until: u64) -> [u8; 32] {
    match until - from {
        0 => empty_root(),
        1 => leaf_hash(&from.to_be_bytes()),
        count => {
            let middle = from + split(count);
            node_hash(&tree(from, middle), &tree(middle, until))
        }
    }
}

/// RFC 6962, section 2.1.2, word for word.
fn subproof(old: u64, from: u64, until: u64, is_whole: bool) -> Vec<[u8; 32]> {
    let count = until - from;
    if old == count {
        return if is_whole { Vec::new() } else { vec![tree(from, until)] };
    }
    let middle = split(count);
    let (mut path, other) = if old <= middle {
        (subproof(old, from, from + middle, is_whole), tree(from + middle, until))
    } else {
        (subproof(old - middle, from + middle, until, false), tree(from, from + middle))
    };
    path.push(other);
    path
}

fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

fn proof_of(first: u64, old: u64, new: u64) -> Vec<[u8; 32]> {
    if old == 0 { Vec::new() } else { subproof(old, first, first + new, true) }
}

pub(crate) fn proof(old: u64, new: u64) -> Vec<[u8; 32]> {
    proof_of(0, old, new)
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
