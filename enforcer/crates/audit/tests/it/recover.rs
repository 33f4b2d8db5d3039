//! What a start keeps, what it drops, and what it refuses to touch.

use std::fs;

use enforcer_audit::{Log, OpenError, VerifyError};
use serde_json::json;

use crate::lab::{Lab, append_each, copy_tree, frames, header_bytes, note, number_of, open_with};

/// A log whose checkpoint is older than its newest records, as after a power cut: `signed` records
/// under the checkpoint, `above` behind it.
async fn with_records_above_the_checkpoint(signed: u64, above: u64) -> Lab {
    let lab = Lab::in_memory();
    let (audit, _) = lab.open().unwrap();
    append_each(&audit, 0..signed).await;
    let checkpoint = fs::read(lab.directory().join("checkpoint")).unwrap();
    append_each(&audit, signed..signed + above).await;
    audit.close().await.unwrap();
    fs::write(lab.directory().join("checkpoint"), checkpoint).unwrap();
    lab
}

#[tokio::test]
async fn intact_records_above_the_checkpoint_are_kept_and_signed() {
    let lab = with_records_above_the_checkpoint(10, 60).await;
    assert_eq!(lab.verify().unwrap().tail_records, 60);

    let (_audit, opened) = lab.open().unwrap();

    assert_eq!((opened.size, opened.recovered, opened.torn_bytes), (70, 60, 0));
    let report = lab.verify().unwrap();
    assert_eq!((report.checkpoint.size, report.tail_records), (70, 0));
}

#[tokio::test]
async fn a_tail_cut_at_any_byte_loses_only_the_record_it_cuts_and_a_gap_says_so() {
    let lab = with_records_above_the_checkpoint(3, 3).await;
    let whole = fs::read(lab.segment()).unwrap();
    let frames = frames(&whole);

    let checkpoint = fs::read(lab.directory().join("checkpoint")).unwrap();
    // From the third record's commit on.
    for length in frames[5].1..whole.len() {
        fs::write(lab.directory().join("checkpoint"), &checkpoint).unwrap();
        fs::write(lab.segment(), &whole[..length]).unwrap();

        let (audit, opened) = lab.open().unwrap();
        let size = audit.close().await.unwrap();

        let kept = frames.iter().filter(|(_, end)| *end <= length).collect::<Vec<_>>();
        let torn = (length - kept.last().unwrap().1) as u64;
        let intact = kept.iter().filter(|(kind, _)| *kind == b'B').count() as u64;
        assert_eq!((opened.size, opened.torn_bytes), (intact, torn), "cut at {length}");
        assert_eq!(size, intact + u64::from(torn > 0));
        let log = Log::open_read_only(&lab.directory()).unwrap();
        for (number, record) in (0..intact).zip(log.records(0..intact).unwrap()) {
            assert_eq!(number_of(&record.unwrap()), number);
        }
        if torn > 0 {
            let gap = log.record(intact).unwrap().json().unwrap();
            assert_eq!(gap["class"], json!("gap"));
            let body = json!({"why": "torn-tail", "records": 0, "bytes": torn, "since": null});
            assert_eq!(gap["body"], body);
        }
        lab.verify().unwrap();
    }
}

#[tokio::test]
async fn a_cut_below_the_checkpoint_is_refused_at_every_byte_and_names_the_record() {
    let lab = with_records_above_the_checkpoint(3, 0).await;
    let whole = fs::read(lab.segment()).unwrap();
    let frames = frames(&whole);
    let header = header_bytes(&whole);

    for length in 0..whole.len() {
        fs::write(lab.segment(), &whole[..length]).unwrap();

        let refused = lab.open().unwrap_err();

        let OpenError::Altered { record, .. } = &refused else { panic!("{refused}") };
        let whole = |kind| frames.iter().filter(|it| it.0 == kind && it.1 <= length).count();
        let (blocks, commits) = (whole(b'B'), whole(b'C'));
        // Of a record whose commit is missing nobody knows that it was signed.
        let bad = if blocks < 3 { blocks } else { commits };
        assert_eq!(*record, Some(if length < header { 0 } else { bad as u64 }), "cut at {length}");
        assert!(refused.hint().contains("evidence"), "{}", refused.hint());
        assert_eq!(fs::read(lab.segment()).unwrap().len(), length, "nothing is repaired");
    }
}

#[tokio::test]
async fn garbage_behind_the_last_record_is_dropped() {
    let lab = Lab::new().with_records(5).await;
    let mut bytes = fs::read(lab.segment()).unwrap();
    bytes.extend([0; 4_096]);
    fs::write(lab.segment(), bytes).unwrap();

    let (audit, opened) = lab.open().unwrap();
    assert_eq!(audit.append(note(5)).await, Ok(6), "after the gap");
    audit.close().await.unwrap();

    assert_eq!((opened.size, opened.torn_bytes), (5, 4_096));
    assert_eq!(lab.verify().unwrap().checkpoint.size, 7);
}

#[tokio::test]
async fn every_missing_file_of_a_log_refuses_to_open_unless_it_can_be_derived() {
    let lab = Lab::with_segments(20_000).with_records(900).await.with_records(100).await;

    for path in lab.files() {
        let name = path.strip_prefix(lab.directory()).unwrap().display().to_string();
        let copy = lab.beside("copy");
        copy_tree(&lab.directory(), &copy);
        fs::remove_file(copy.join(&name)).unwrap();

        let opened = open_with(&copy, 20_000, 64);

        // Room, a lock, hashes of older records and names of persons are no evidence; `verify`
        // misses the hashes.
        let derived = ["log.lock", "reserve"].contains(&name.as_str())
            || ["tile/", "subjects/"].iter().any(|folder| name.starts_with(folder));
        match opened {
            Ok(_) => assert!(derived, "{name} is not missed"),
            Err(OpenError::Missing(missing)) => assert_eq!(missing, copy.join(&name)),
            // Without its last segment the log just ends early.
            Err(OpenError::Altered { record, .. }) => {
                assert!(name.contains(&record.unwrap().to_string()), "{name}");
            }
            Err(other) => panic!("{name}: {other}"),
        }
        fs::remove_dir_all(&copy).unwrap();
    }
}

#[tokio::test]
async fn a_lost_tile_of_the_last_segment_is_made_again_and_an_altered_one_is_refused() {
    let lab = Lab::in_memory().with_records(66_000).await;
    let tile = lab.directory().join("tile/1/000");
    let hashes = fs::read(&tile).unwrap();

    fs::write(&tile, &hashes[..100]).unwrap();
    let (audit, opened) = lab.open().unwrap();
    audit.close().await.unwrap();

    assert_eq!(opened.warnings.len(), 1);
    assert!(opened.warnings[0].contains("tile/1/000"), "{:?}", opened.warnings);
    assert_eq!(fs::read(&tile).unwrap(), hashes);
    assert_eq!(lab.verify().unwrap().tiles, 1);

    let mut altered = hashes;
    altered[5_000] ^= 1;
    fs::write(&tile, altered).unwrap();
    let VerifyError::Damaged(damage) = lab.verify().unwrap_err() else { panic!("no damage") };
    assert_eq!(damage.file, tile);
    assert!(matches!(lab.open().unwrap_err(), OpenError::Altered { file, .. } if file == tile));
}

#[tokio::test]
async fn a_log_that_was_cut_back_together_with_nothing_else_is_refused() {
    let lab = Lab::with_segments(20_000).with_records(1_000).await;
    let mut segments: Vec<_> = lab
        .files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|it| it == "seg"))
        .collect();
    let closed = segments.remove(0);

    let mut bytes = fs::read(&closed).unwrap();
    bytes.truncate(bytes.len() - 10);
    fs::write(&closed, bytes).unwrap();

    let refused = lab.open().unwrap_err();
    assert!(matches!(&refused, OpenError::Altered { file, .. } if *file == closed), "{refused}");
}

#[tokio::test]
async fn a_beginning_that_was_cut_short_begins_again() {
    for missing in
        [&["checkpoint"][..], &["checkpoint", "key.pub"], &["checkpoint", "key.pub", "key"]]
    {
        let lab = Lab::new().with_records(0).await;
        for name in missing {
            fs::remove_file(lab.directory().join(name)).unwrap();
        }
        fs::write(lab.directory().join("unfinished"), b"half").unwrap();

        let (audit, opened) = lab.open().unwrap();
        audit.append(note(0)).await.unwrap();

        assert!(opened.created, "{missing:?}");
        assert_eq!(lab.verify().unwrap().checkpoint.size, 1);
    }
}

#[tokio::test]
async fn a_key_whose_records_are_gone_signs_no_other_log() {
    let lab = Lab::new().with_records(5).await;
    fs::remove_file(lab.directory().join("checkpoint")).unwrap();
    fs::remove_dir_all(lab.directory().join("segments")).unwrap();

    assert!(matches!(lab.open().unwrap_err(), OpenError::Missing(_)));
}
