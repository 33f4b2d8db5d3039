//! What somebody can do who has become root and holds every key that is on the host.

use std::sync::Arc;

use enforcer_model::{Author, SystemClock};
use tempfile::TempDir;

use super::*;
use crate::audit::{Audit, Config};
use crate::merkle::salted_leaf_hash;
use crate::note::SigningKey;
use crate::read::Log;
use crate::record::{AdminAction, Outcome, Record};
use crate::segment::{BlockBuilder, Hashing, Opener};
use crate::segment::{Commit, Frame, Frames, Step};

/// Records of one epoch here.
const EPOCH: u64 = 10;

#[tokio::test]
async fn nothing_before_the_epoch_of_the_intrusion_can_be_altered_unseen() {
    let log = log(25).await;
    let whole = verify(log.path(), &Expected::default(), |_, _| ()).unwrap();
    assert!(whole.epochs >= 3, "{}", whole.epochs);

    rewrite(log.path(), index_of(log.path(), "note 3"));

    let damage = damage_of(log.path(), &Expected::default());
    assert!(damage.why.contains("before epoch 1 began"), "{damage}");
}

#[tokio::test]
async fn what_the_current_epoch_has_signed_holds_against_any_checkpoint_that_is_kept_elsewhere() {
    let log = log(25).await;
    let kept = Log::open_read_only(log.path()).unwrap().checkpoint().clone();

    rewrite(log.path(), index_of(log.path(), "note 24"));

    // The intruder holds the key that signed it, so nothing on this host can tell.
    verify(log.path(), &Expected::default(), |_, _| ()).unwrap();
    let expected = Expected { pins: vec![kept], ..Expected::default() };
    let damage = damage_of(log.path(), &expected);
    assert!(damage.why.contains("the past was rewritten"), "{damage}");
}

#[tokio::test]
async fn a_log_that_was_begun_again_with_its_own_key_has_another_first_epoch() {
    let log = log(25).await;
    let view = Log::open_read_only(log.path()).unwrap();
    let expected = Expected {
        key: Some(view.key().clone()),
        first_epoch: Some(view.first_epoch().clone()),
        ..Expected::default()
    };
    verify(log.path(), &expected, |_, _| ()).unwrap();

    let layout = Layout::new(log.path());
    let key = read_signer(&layout.key());
    let (epoch, epochs) = epoch::Epoch::begin(&layout, &key).unwrap();
    let lines = format!("{}\n{}\n", key.verifier(), epochs.first());
    fs::write(layout.public_key(), lines).unwrap();
    rewrite_as(log.path(), index_of(log.path(), "note 3"), epoch.key(), Some(0));

    verify(log.path(), &Expected::of(view.key()), |_, _| ()).unwrap();
    let damage = damage_of(log.path(), &expected);
    assert_eq!(damage.file, layout.public_key(), "{damage}");
}

#[tokio::test]
async fn a_commit_of_an_epoch_that_is_over_needs_its_key() {
    let log = log(25).await;
    let layout = Layout::new(log.path());
    let now = read_signer(&layout.epoch());

    rewrite_as(log.path(), u64::MAX, &now, Some(0));

    let damage = damage_of(log.path(), &Expected::default());
    assert!(damage.why.contains("not signed by the key of its epoch"), "{damage}");
}

#[tokio::test]
async fn without_data_keys_the_records_are_sealed_and_every_changed_byte_is_found() {
    let log = log(2).await;
    let layout = Layout::new(log.path());
    fs::remove_dir_all(layout.data_keys()).unwrap();
    fs::remove_file(layout.key()).unwrap();
    fs::remove_file(layout.epoch()).unwrap();
    let report = verify(log.path(), &Expected::default(), |_, _| ()).unwrap();
    assert_eq!((report.sealed, report.segments), (1, 1));

    let path = layout.segment(0);
    let bytes = fs::read(&path).unwrap();
    for place in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[place] ^= 1 << (place % 8);
        fs::write(&path, altered).unwrap();
        assert_eq!(damage_of(log.path(), &Expected::default()).file, path, "byte {place}");
    }
}

/// A log of `count` records in epochs of ten, closed.
async fn log(count: u64) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let config =
        Config { epoch_records: EPOCH, ..Config::new(home.path(), "host.example/enforcer") };
    let (audit, _) = Audit::open(config, Arc::new(SystemClock)).unwrap();
    for number in 0..count {
        let note = AdminAction {
            operator: Author::Agent,
            verb: format!("note {number}"),
            arguments: Vec::new(),
            outcome: Outcome::Done,
            detail: None,
        };
        audit.append(Record::Admin(note)).await.unwrap();
    }
    audit.close().await.unwrap();
    home
}

fn index_of(directory: &Path, verb: &str) -> u64 {
    let log = Log::open_read_only(directory).unwrap();
    let mut records = log.records(0..log.size()).unwrap().map(|record| record.unwrap());
    records.find(|record| record.text.contains(&format!("\"{verb}\""))).unwrap().index
}

/// Rewrites the record `victim` and all that depends on it, with the keys that are on the host.
fn rewrite(directory: &Path, victim: u64) {
    let epoch = read_signer(&Layout::new(directory).epoch());
    rewrite_as(directory, victim, &epoch, None);
}

/// The same with another key, in the name of an epoch.
fn rewrite_as(directory: &Path, victim: u64, signer: &SigningKey, epoch: Option<u32>) {
    let layout = Layout::new(directory);
    let path = layout.segment(0);
    let mut frames = Frames::open(&path).unwrap();
    let keys = Keyring::default().find(&layout, frames.header()).unwrap().unwrap();
    let context = *frames.context();
    let mut bytes = frames.header().encode();
    let mut tree = frames.header().tree().clone();
    let mut builder = BlockBuilder::new([9; 4]).unwrap();
    let key = read_signer(&layout.key());
    let origin = key.verifier().origin().to_owned();
    while let Step::Frame(frame) = frames.next().unwrap() {
        match frame {
            Frame::Block(block) => {
                let mut entries = block.open(&context, &keys, &mut Opener::default()).unwrap();
                let mut index = block.first();
                while let Some(record) = entries.get(&keys, index).unwrap() {
                    let mut record = String::from_utf8(record.to_vec()).unwrap();
                    if index == victim {
                        record = record.replace("note", "nothing");
                    }
                    let leaf = salted_leaf_hash(&keys.salt(index), record.as_bytes());
                    builder.push(record.as_bytes(), leaf);
                    tree.append(leaf, |_| ());
                    index += 1;
                }
                builder.seal(block.first(), &context, &keys, &mut bytes).unwrap();
            }
            Frame::Commit(commit) => {
                let place = (0, u64::try_from(bytes.len()).unwrap());
                let head = (tree.size(), tree.root(), Hashing::new(&bytes).so_far());
                let number = epoch.unwrap_or(commit.epoch);
                Commit::sign(signer, (&origin, number), place, head).push(&mut bytes);
            }
            Frame::Footer(_) => panic!("the segment is not closed"),
        }
    }
    fs::write(path, bytes).unwrap();
    fs::write(layout.checkpoint(), key.sign(tree.size(), tree.root())).unwrap();
}

fn read_signer(path: &Path) -> SigningKey {
    SigningKey::parse(fs::read_to_string(path).unwrap().trim_end()).unwrap()
}

fn damage_of(directory: &Path, expected: &Expected) -> Damage {
    match verify(directory, expected, |_, _| ()) {
        Err(VerifyError::Damaged(damage)) => damage,
        other => panic!("not noticed: {other:?}"),
    }
}
