//! A segment of the audit log, as somebody may have left it on the disk.

use std::fs;

use enforcer_audit::{Log, VerifyError, leaf_hash, verify, verify_evidence};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;

use super::log;

/// In memory where that is possible: a target runs many thousand times.
const MEMORY: &str = "/dev/shm";

/// The one segment of a log whose key and checkpoint are genuine.
///
/// Tried as it is, and once more with every check made to fit, as a forger would. What is read
/// without complaint is framed in these very bytes. The log is good if it is read as the records
/// that were signed behind an unaltered header, and only if; the records that an audit calls good
/// are those; and what is exported is one of them.
pub fn audit_segment(bytes: &[u8]) {
    left_on_disk(bytes);
    let mended = mended(bytes);
    if mended != bytes {
        left_on_disk(&mended);
    }
}

fn left_on_disk(segment: &[u8]) {
    let home = home(segment);
    let log = Log::open_read_only(home.path()).expect("key and checkpoint are genuine");
    let records = log.records(0..u64::MAX).expect("the folder can be listed");
    let read: Vec<_> = records.map_while(Result::ok).collect();

    let mut framed = segment.get(..log::SEGMENT_HEADER_BYTES).unwrap_or_default().to_vec();
    // What is not UTF-8 is shown with marks in its place.
    for record in read.iter().take_while(|record| !record.text.contains('\u{FFFD}')) {
        framed.extend(frame(record.text.as_bytes()));
    }
    assert!(segment.starts_with(&framed), "read what is not there");
    assert!((0..).zip(&read).all(|(index, record): (u64, _)| record.index == index));

    let genuine = |count: usize| {
        let texts = read.iter().map(|record| &*record.text).take(count);
        read.len() >= count && texts.eq(log::RECORDS.into_iter().take(count))
    };
    match verify(home.path(), Some(&log::key()), |_, _| ()) {
        Ok(report) => {
            assert!(genuine(log::RECORDS.len()), "a forged log holds");
            assert_eq!((report.checkpoint.size, report.checkpoint.root), (5, log::root()));
        }
        Err(VerifyError::Damaged(damage)) => {
            let whole = segment.starts_with(&first_header()) && genuine(log::RECORDS.len());
            assert!(!whole, "a good log is damaged: {damage}");
            let good = damage.last_good.map_or(0, |last| usize::try_from(last).unwrap_or(0) + 1);
            assert!(genuine(good), "not the first {good}: {damage}");
        }
        Err(other) => panic!("{other}"),
    }
    exported(&log, &read.iter().map(|record| &*record.text).collect::<Vec<_>>());
    read.iter().for_each(|record| {
        let json = record.json().is_ok();
        assert!(json || record.header().is_err(), "an envelope around no record");
    });
}

fn exported(log: &Log, read: &[&str]) {
    for (index, genuine) in (0u64..).zip(log::RECORDS) {
        match log.export(index) {
            Ok(evidence) => {
                assert_eq!(&*evidence.record, genuine.as_bytes(), "a forged record has a proof");
                let verified = verify_evidence(genuine.as_bytes(), &evidence.proof, &log::key());
                assert_eq!(verified.map(|(index, _)| index), Ok(index));
            }
            Err(error) => assert!(!read.starts_with(&log::RECORDS), "{error}"),
        }
    }
}

/// A log with this segment, under the name that its header claims.
fn home(segment: &[u8]) -> TempDir {
    let builder = tempfile::Builder::new();
    let home = builder.tempdir_in(MEMORY).or_else(|_| builder.tempdir()).expect("a folder");
    let write = |name: &str, bytes: &[u8]| fs::write(home.path().join(name), bytes);
    let first = number_at(segment, 16).unwrap_or(0);
    fs::create_dir(home.path().join("segments"))
        .and_then(|()| write("key.pub", format!("{}\n", log::KEY).as_bytes()))
        .and_then(|()| write("checkpoint", format!("{}\n{}", log::HEAD, log::SIGNATURE).as_bytes()))
        .and_then(|()| write(&format!("segments/{first:020}.seg"), segment))
        .expect("a folder in memory takes files");
    home
}

/// The same bytes, with every check made to fit what it covers.
fn mended(segment: &[u8]) -> Vec<u8> {
    let Some(first) = number_at(segment, 16) else { return segment.to_vec() };
    let levels = std::iter::successors(Some(first), |nodes| Some(nodes / 256));
    let hashes: u64 = levels.take_while(|nodes| *nodes > 0).map(|nodes| nodes % 256).sum();
    let covered = 40 + 32 * usize::try_from(hashes).unwrap_or(usize::MAX / 64);
    let Some((header, behind)) = segment.split_at_checked(covered) else { return segment.to_vec() };
    let Some((_check, mut frames)) = behind.split_at_checked(32) else { return segment.to_vec() };

    let mut mended = [header, digest(&SHA256, header).as_ref()].concat();
    while let [high, low, _, _, _, _, _, _, rest @ ..] = frames {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((record, behind)) = rest.split_at_checked(length) else { break };
        mended.extend(frame(record));
        frames = behind;
    }
    mended.extend(frames);
    mended
}

/// The header of a log's first segment: nothing comes before it.
fn first_header() -> Vec<u8> {
    let covered = [&b"enforcer-audit/1"[..], &[0; 24]].concat();
    [&covered, digest(&SHA256, &covered).as_ref()].concat()
}

fn frame(record: &[u8]) -> Vec<u8> {
    let length = u16::try_from(record.len()).unwrap_or_default().to_be_bytes();
    let [a, b, c, d, e, f, ..] = leaf_hash(record);
    [&length, &[a, b, c, d, e, f][..], record].concat()
}

fn number_at(bytes: &[u8], place: usize) -> Option<u64> {
    bytes.get(place..)?.first_chunk().map(|number| u64::from_be_bytes(*number))
}
