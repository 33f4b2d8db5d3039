//! The published copy is a static log as the specification wants it.

use std::fs;
use std::path::Path;

use enforcer_audit::{Hash, Log, ReadError, leaf_hash, node_hash};

use crate::lab::Lab;

#[tokio::test]
async fn the_published_log_has_the_signed_root_by_its_tiles_and_by_its_entries() {
    let lab = Lab::with_segments(60_000).with_records(700).await;
    let log = Log::open_read_only(&lab.directory()).unwrap();
    let published = lab.beside("published");

    log.publish(&published).unwrap();

    let bundles = ["000", "001", "002.p/188"];
    let entries: Vec<_> = bundles.iter().flat_map(|it| leaves(&published, it)).collect();
    assert_eq!(entries.len(), 700);
    assert_eq!(root(&entries), log.checkpoint().root);
    let tiles: Vec<_> =
        bundles.iter().flat_map(|it| tile(&published, &format!("0/{it}"))).collect();
    assert_eq!(tiles, entries);
    let above = tile(&published, "1/000.p/2");
    assert_eq!(above, [root(&entries[..256]), root(&entries[256..512])]);
    assert_eq!(fs::read_to_string(published.join("checkpoint")).unwrap(), log.note());
}

#[tokio::test]
async fn the_tiles_of_the_live_directory_are_those_of_the_published_log() {
    let lab = Lab::in_memory().with_records(66_000).await;
    let published = lab.beside("published");
    Log::open_read_only(&lab.directory()).unwrap().publish(&published).unwrap();

    assert_eq!(tile(&lab.directory(), "1/000"), tile(&published, "1/000"));
}

#[tokio::test]
async fn a_log_whose_records_were_altered_is_not_published() {
    let lab = Lab::new().with_records(3).await;
    let mut bytes = fs::read(lab.segment()).unwrap();
    let end = bytes.len() - 200;
    bytes[end] ^= 1;
    fs::write(lab.segment(), bytes).unwrap();
    let published = lab.beside("published");

    let refused = Log::open_read_only(&lab.directory()).unwrap().publish(&published);

    assert!(matches!(refused, Err(ReadError::Damaged { .. })));
    assert!(!published.join("checkpoint").exists());
}

fn tile(directory: &Path, name: &str) -> Vec<Hash> {
    let bytes = fs::read(directory.join("tile").join(name)).unwrap();
    let (hashes, rest) = bytes.as_chunks::<32>();
    assert!(rest.is_empty());
    hashes.to_vec()
}

/// The leaf hashes of an entry bundle.
fn leaves(directory: &Path, name: &str) -> Vec<Hash> {
    let bytes = fs::read(directory.join("tile/entries").join(name)).unwrap();
    let mut rest = bytes.as_slice();
    let mut leaves = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (entry, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        leaves.push(leaf_hash(entry));
        rest = after;
    }
    leaves
}

/// RFC 6962, section 2.1, word by word.
fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&root(left), &root(right))
        }
    }
}
