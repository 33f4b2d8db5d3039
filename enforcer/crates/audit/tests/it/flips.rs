//! An audit sees every changed byte, says where, and says how far the log is good.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use enforcer_audit::{Damage, Log, VerifierKey, VerifyError, verify};

use crate::lab::{Lab, append_many, copy_tree};

#[tokio::test]
async fn every_changed_byte_in_every_file_is_found_and_the_file_or_record_is_named() {
    let lab = Lab::in_memory().with_records(24).await;

    let changed = flip_everything(&lab, 1);

    assert!(changed > 5_000, "{changed}");
}

#[tokio::test]
async fn changed_bytes_are_found_in_a_log_of_many_segments_and_tiles() {
    let lab = Lab::in_memory_with_segments(25_000).with_records(600).await;

    let changed = flip_everything(&lab, 29);

    assert!(changed > 5_000, "{changed}");
}

/// Changes every `stride`-th byte of every file; how many there were.
fn flip_everything(lab: &Lab, stride: u64) -> u64 {
    lab.verify().unwrap();
    let paths = lab.files().into_iter();
    let names = paths.map(|path| path.strip_prefix(lab.directory()).unwrap().to_owned());
    let names: Vec<_> = names.collect();
    let workers: Vec<_> = (0..2)
        .map(|worker| {
            let copy = lab.beside(&format!("copy-{worker}"));
            copy_tree(&lab.directory(), &copy);
            let names = names.clone();
            thread::spawn(move || {
                let begin = worker * stride;
                names.iter().map(|name| flip_bytes(&copy, name, begin, 2 * stride)).sum::<u64>()
            })
        })
        .collect();
    workers.into_iter().map(|worker| worker.join().unwrap()).sum()
}

/// Changes each byte of a file in turn, every `stride`-th from `begin` on; how many there were.
fn flip_bytes(directory: &Path, name: &Path, begin: u64, stride: u64) -> u64 {
    let path = directory.join(name);
    let length = fs::metadata(&path).unwrap().len();
    // Millions of zeroes need not be tried one by one.
    let stride = if name == Path::new("reserve") { 524_287 } else { stride };
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut changed = 0;
    for place in (begin..length).step_by(usize::try_from(stride).unwrap()) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, place).unwrap();
        // A different bit each time, so that all of them have their turn.
        file.write_all_at(&[byte[0] ^ (1 << (place / stride % 8))], place).unwrap();

        let damage = damage(directory, None);

        file.write_all_at(&byte, place).unwrap();
        changed += 1;
        assert_eq!(damage.file, path, "{place}: {damage}");
        if name.starts_with("segments") {
            let record = damage.first_bad.unwrap_or_else(|| panic!("{place}: {damage}"));
            assert_eq!(damage.last_good, record.checked_sub(1), "{place}: {damage}");
        }
    }
    changed
}

#[tokio::test]
async fn the_record_that_was_altered_with_its_check_is_named() {
    let lab = Lab::new().with_records(700).await;
    let bytes = fs::read(lab.segment()).unwrap();
    for (victim, expected) in [(0, 0), (300, 300), (511, 511), (600, 512)] {
        let copy = lab.beside("copy");
        copy_tree(&lab.directory(), &copy);
        let mut forged = bytes.clone();
        forge(&mut forged, victim);
        fs::write(copy.join("segments/00000000000000000000.seg"), forged).unwrap();

        let damage = damage(&copy, None);

        // Behind the last full tile only the tile's span is known.
        assert_eq!(damage.first_bad, Some(expected), "{damage}");
        assert!(damage.to_string().contains(&format!("record {expected} in ")), "{damage}");
        fs::remove_dir_all(copy).unwrap();
    }
}

#[tokio::test]
async fn a_record_altered_together_with_its_tile_is_found_by_the_root() {
    let lab = Lab::new().with_records(700).await;
    let mut bytes = fs::read(lab.segment()).unwrap();
    let leaf = forge(&mut bytes, 300);
    fs::write(lab.segment(), bytes).unwrap();
    let tile = lab.directory().join("tile/0/001");
    let mut hashes = fs::read(&tile).unwrap();
    hashes[44 * 32..45 * 32].copy_from_slice(&leaf);
    fs::write(&tile, hashes).unwrap();

    assert!(damage(&lab.directory(), None).first_bad.is_some());
}

#[tokio::test]
async fn removed_swapped_and_repeated_records_are_found() {
    let lab = Lab::new().with_records(20).await;
    let whole = fs::read(lab.segment()).unwrap();
    let (header, frames) = whole.split_at(72);
    let length = frames.len() / 20;
    let frames: Vec<&[u8]> = frames.chunks(length).collect();
    let mut removed = frames.clone();
    removed.remove(4);
    let mut swapped = frames.clone();
    swapped.swap(4, 5);
    let mut repeated = frames.clone();
    repeated[5] = frames[4];

    for (what, frames) in [("removed", removed), ("swapped", swapped), ("repeated", repeated)] {
        fs::write(lab.segment(), [header, &frames.concat()].concat()).unwrap();

        assert!(matches!(lab.verify(), Err(VerifyError::Damaged(_))), "{what}");
    }
}

#[tokio::test]
async fn every_missing_segment_and_tile_is_found() {
    let lab = Lab::with_segments(20_000).with_records(1_000).await;
    for path in lab.files() {
        let name = path.strip_prefix(lab.directory()).unwrap().display().to_string();
        if !(name.starts_with("segments/") || name.starts_with("tile/") || name == "checkpoint") {
            continue;
        }
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();

        assert!(matches!(lab.verify(), Err(VerifyError::Damaged(_))), "{name}");

        fs::write(&path, kept).unwrap();
    }
    lab.verify().unwrap();
}

#[tokio::test]
async fn an_old_checkpoint_that_was_put_back_is_found_by_the_segments_behind_it() {
    let lab = Lab::with_segments(20_000).with_records(10).await;
    let checkpoint = lab.directory().join("checkpoint");
    let old = fs::read(&checkpoint).unwrap();
    let lab = lab.with_records(1_000).await;

    fs::write(&checkpoint, old).unwrap();

    assert_eq!(damage(&lab.directory(), None).file, checkpoint);
    assert!(lab.open().is_err());
}

#[tokio::test]
async fn another_key_than_the_auditors_own_is_refused() {
    let lab = Lab::new().with_records(3).await;
    let other = Lab::new().with_records(3).await;
    let key: VerifierKey = Log::open_read_only(&lab.directory()).unwrap().key().clone();

    assert!(verify(&lab.directory(), Some(&key), |_, _| ()).is_ok());
    let damage = damage(&other.directory(), Some(&key));
    assert!(damage.why.contains("another key"), "{damage}");
}

#[tokio::test]
async fn an_auditors_copy_without_the_private_key_verifies() {
    let lab = Lab::new().with_records(300).await;
    for name in ["key", "log.lock", "reserve"] {
        fs::remove_file(lab.directory().join(name)).unwrap();
    }

    assert_eq!(lab.verify().unwrap().checkpoint.size, 300);
}

#[tokio::test]
async fn an_audit_holds_while_the_agent_writes() {
    let lab = Lab::with_segments(60_000);
    let (audit, _) = lab.open().unwrap();
    let directory = lab.directory();
    let auditor = thread::spawn(move || {
        let mut sizes = vec![0];
        while sizes.last() != Some(&20_000) {
            let report = verify(&directory, None, |_, _| ()).unwrap();
            sizes.push(report.checkpoint.size);
        }
        sizes
    });

    append_many(&audit, 0..20_000).await;

    let sizes = auditor.join().unwrap();
    assert!(sizes.is_sorted(), "{sizes:?}");
}

fn damage(directory: &Path, key: Option<&VerifierKey>) -> Damage {
    match verify(directory, key, |_, _| ()) {
        Err(VerifyError::Damaged(damage)) => damage,
        Err(other) => panic!("{other}"),
        Ok(report) => panic!("not noticed: {report:?}"),
    }
}

/// Alters a record and makes its frame fit again; gives the new leaf hash.
fn forge(bytes: &mut [u8], victim: usize) -> [u8; 32] {
    let mut start = 72;
    for _ in 0..victim {
        start += 8 + usize::from(u16::from_be_bytes([bytes[start], bytes[start + 1]]));
    }
    let end = start + 8 + usize::from(u16::from_be_bytes([bytes[start], bytes[start + 1]]));
    let verb = bytes[start..end].windows(4).position(|it| it == b"note").unwrap();
    bytes[start + verb] = b'v';
    let leaf = enforcer_audit::leaf_hash(&bytes[start + 8..end]);
    bytes[start + 2..start + 8].copy_from_slice(&leaf[..6]);
    leaf
}
