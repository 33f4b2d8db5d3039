//! An audit sees every changed byte, says where, and says how far the log is good.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use enforcer_audit::{Damage, Expected, Log, VerifierKey, VerifyError, verify};

use crate::lab::{Lab, append_each, append_many, copy_tree, frames, header_bytes};

#[tokio::test]
async fn every_changed_byte_in_every_file_is_found_and_the_file_or_record_is_named() {
    let lab = Lab::in_memory().with_records(24).await;

    let changed = flip_everything(&lab, 1);

    assert!(changed > 2_000, "{changed}");
}

#[tokio::test]
async fn changed_bytes_are_found_in_a_log_of_many_segments_and_tiles() {
    let lab = Lab::in_memory_with_segments(15_000).with_records(600).await;

    let changed = flip_everything(&lab, 23);

    assert!(changed > 1_000, "{changed}");
}

/// With `--profile long` every byte of them all.
#[tokio::test]
async fn changed_bytes_are_found_in_a_log_of_10_000_records() {
    let lab = Lab::in_memory_with_segments(400_000).with_records(10_000).await;
    #[expect(clippy::disallowed_methods, reason = "the runner says how long it may take")]
    let is_long = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "long");

    let changed = flip_everything(&lab, if is_long { 1 } else { 19_997 });

    assert!(changed > if is_long { 500_000 } else { 20 }, "{changed}");
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
async fn removed_swapped_and_repeated_records_are_found() {
    let lab = Lab::new();
    let (audit, _) = lab.open().unwrap();
    append_each(&audit, 0..20).await;
    audit.close().await.unwrap();
    let whole = fs::read(lab.segment()).unwrap();
    let header = &whole[..header_bytes(&whole)];
    let ends: Vec<usize> = frames(&whole).into_iter().map(|(_, end)| end).collect();
    let begins = [header.len()].into_iter().chain(ends.iter().copied());
    let frames: Vec<&[u8]> = begins.zip(&ends).map(|(begin, end)| &whole[begin..*end]).collect();
    // Blocks with their commits.
    let frames: Vec<Vec<u8>> = frames.chunks(2).map(<[&[u8]]>::concat).collect();
    assert_eq!(frames.len(), 20);
    let mut removed = frames.clone();
    removed.remove(4);
    let mut swapped = frames.clone();
    swapped.swap(4, 5);
    let mut repeated = frames.clone();
    repeated[5] = frames[4].clone();

    for (what, frames) in [("removed", removed), ("swapped", swapped), ("repeated", repeated)] {
        fs::write(lab.segment(), [header, &frames.concat()].concat()).unwrap();

        assert!(matches!(lab.verify(), Err(VerifyError::Damaged(_))), "{what}");
    }
}

#[tokio::test]
async fn every_missing_segment_and_tile_is_found() {
    let lab = Lab::with_segments(20_000).with_records(900).await.with_records(100).await;
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

    assert!(verify(&lab.directory(), &Expected::of(&key), |_, _| ()).is_ok());
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
            let report = verify(&directory, &Expected::default(), |_, _| ()).unwrap();
            sizes.push(report.checkpoint.size);
        }
        sizes
    });

    append_many(&audit, 0..20_000).await;

    let sizes = auditor.join().unwrap();
    assert!(sizes.is_sorted(), "{sizes:?}");
}

fn damage(directory: &Path, key: Option<&VerifierKey>) -> Damage {
    let expected = key.map_or_else(Expected::default, Expected::of);
    match verify(directory, &expected, |_, _| ()) {
        Err(VerifyError::Damaged(damage)) => damage,
        Err(other) => panic!("{other}"),
        Ok(report) => panic!("not noticed: {report:?}"),
    }
}
