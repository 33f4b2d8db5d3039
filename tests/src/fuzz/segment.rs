//! A segment of the audit log, as somebody may have left it on the disk.

use std::fs;

use enforcer_audit::{Expected, Log, VerifierKey, VerifyError, leaf_hash, verify, verify_evidence};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

/// In memory where that is possible: a target runs many thousand times.
const MEMORY: &str = "/dev/shm";

/// A log of five records in one closed segment, whose keys nobody else has.
const SEGMENT: &[u8] = include_bytes!("genuine/segment");
const DATA_KEY: &[u8] = include_bytes!("genuine/data.key");
const KEYS: &str = include_str!("genuine/key.pub");
const EPOCHS: &[u8] = include_bytes!("genuine/epochs");
const CHECKPOINT: &[u8] = include_bytes!("genuine/checkpoint");
const RECORDS: usize = 5;
/// Its footer, and the commit behind that.
const CLOSING_BYTES: usize = 65 + 145;

/// Kind and length of a frame.
const FRAME_HEADER_BYTES: usize = 5;
const HASH_BYTES: usize = 32;

/// The one segment of a log whose keys, epochs and checkpoint are genuine.
///
/// Tried as it is, and once more with every hash made to fit, as a forger without keys would. What
/// is read without complaint is what was written. The log holds if the segment has every byte that was
/// signed with its records, and only if; the records that an audit calls good are those of it; and what is exported is one of
/// them.
pub fn audit_segment(bytes: &[u8]) {
    left_on_disk(bytes);
    let mended = mended(bytes);
    if mended != bytes {
        left_on_disk(&mended);
    }
}

fn left_on_disk(segment: &[u8]) {
    let genuine = genuine();
    // Behind the last commit of a record is what a crash may leave there.
    let signed = SEGMENT.split_at(SEGMENT.len() - CLOSING_BYTES).0;
    let home = home(segment);
    let log = Log::open_read_only(home.path()).expect("keys and checkpoint are genuine");
    let records = log.records(0..u64::MAX).expect("the folder can be listed");
    let read: Vec<_> = records.map_while(Result::ok).collect();

    assert!(read.len() <= genuine.len(), "read what is not there");
    let leaves = read.iter().map(|record| record.leaf());
    assert!(leaves.eq(genuine.iter().take(read.len())), "read what was not written");
    match verify(home.path(), &Expected::of(&key()), |_, _| ()) {
        Ok(report) => {
            assert!(segment.starts_with(signed), "a forged log holds");
            assert_eq!(report.checkpoint.size, 5);
        }
        Err(VerifyError::Damaged(damage)) => {
            assert_ne!(segment, SEGMENT, "a good log is damaged: {damage}");
            let good = damage.last_good.map_or(0, |last| usize::try_from(last).unwrap_or(0) + 1);
            assert!(good <= genuine.len(), "not the first {good}: {damage}");
        }
        Err(other) => panic!("{other}"),
    }
    for (index, leaf) in (0..).zip(&genuine) {
        let Ok(evidence) = log.export(index) else { continue };
        assert_eq!(*evidence.record, **leaf, "a forged record has a proof");
        let verified = verify_evidence(leaf, &evidence.proof, &key());
        assert_eq!(verified.map(|(index, _)| index), Ok(index));
    }
}

/// The leaves of the log, each of which its own block vouches for.
fn genuine() -> Vec<Vec<u8>> {
    let home = home(SEGMENT);
    let log = Log::open_read_only(home.path()).expect("it is genuine");
    let records = log.records(0..u64::MAX).expect("it is genuine");
    let leaves: Vec<_> = records.map(|it| it.expect("it is genuine").leaf().to_vec()).collect();
    assert_eq!(leaves.len(), RECORDS);
    let in_blocks = SEGMENT.windows(HASH_BYTES);
    let in_blocks: std::collections::HashSet<&[u8]> = in_blocks.collect();
    assert!(leaves.iter().all(|leaf| in_blocks.contains(&leaf_hash(leaf)[..])));
    leaves
}

fn key() -> VerifierKey {
    let line = KEYS.lines().next().unwrap_or_default();
    line.parse().unwrap_or_else(|error| panic!("{error}: {KEYS}"))
}

/// A log with this segment.
fn home(segment: &[u8]) -> TempDir {
    let builder = tempfile::Builder::new();
    let home = builder.tempdir_in(MEMORY).or_else(|_| builder.tempdir()).expect("a folder");
    let write = |name: &str, bytes: &[u8]| fs::write(home.path().join(name), bytes);
    fs::create_dir(home.path().join("segments"))
        .and_then(|()| fs::create_dir(home.path().join("keys")))
        .and_then(|()| write("key.pub", KEYS.as_bytes()))
        .and_then(|()| write("epochs", EPOCHS))
        .and_then(|()| write("checkpoint", CHECKPOINT))
        .and_then(|()| write("keys/00000000000000000000.key", DATA_KEY))
        .and_then(|()| write("segments/00000000000000000000.seg", segment))
        .expect("a folder in memory takes files");
    home
}

/// The same bytes, with every hash made to fit what it covers: that of the header, and those of the
/// commits.
fn mended(segment: &[u8]) -> Vec<u8> {
    let covered = number_at(segment, 16).map_or(usize::MAX, |length| 20 + length);
    let Some((header, behind)) = segment.split_at_checked(covered) else { return segment.to_vec() };
    let Some((_check, mut frames)) = behind.split_at_checked(HASH_BYTES) else {
        return segment.to_vec();
    };
    let mut mended = [header, digest(&SHA256, header).as_ref()].concat();
    while let Some(length) = number_at(frames, 1) {
        let Some((frame, rest)) = frames.split_at_checked(FRAME_HEADER_BYTES + length) else {
            break;
        };
        let hash = FRAME_HEADER_BYTES + 8 + HASH_BYTES;
        match (frame.first(), frame.get(..hash), frame.get(hash + HASH_BYTES..)) {
            (Some(b'C'), Some(before), Some(after)) => {
                let so_far = digest(&SHA256, &mended);
                mended.extend([before, so_far.as_ref(), after].concat());
            }
            _ => mended.extend(frame),
        }
        frames = rest;
    }
    mended.extend(frames);
    mended
}

fn number_at(bytes: &[u8], place: usize) -> Option<usize> {
    let number = bytes.get(place..)?.first_chunk().map(|number| u32::from_be_bytes(*number))?;
    usize::try_from(number).ok().filter(|number| *number < 1 << 24)
}
