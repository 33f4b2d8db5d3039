//! What was ever found to be dangerous stays harmless: every corpus, replayed.
//!
//! `cargo fuzz` explores from these files; what it finds comes to lie beside them, under a name
//! that says what it was.

use std::fs;
use std::panic;
use std::path::PathBuf;

use enforcer_tests::fuzz::TARGETS;

/// A corpus of fewer files is none.
const FILES_MIN: usize = 5;

/// A file that explains itself is no longer than this.
const BYTES_MAX: usize = 16 << 10;

#[test]
fn what_is_in_a_corpus_breaks_no_promise() {
    let mut broken = Vec::new();
    for target in TARGETS {
        for (file, bytes) in corpus(target.name) {
            if panic::catch_unwind(|| (target.run)(&bytes)).is_err() {
                broken.push(file);
            }
        }
    }

    assert_eq!(broken, [""; 0].map(PathBuf::from), "what the target says stands above");
}

#[test]
fn every_target_has_a_corpus_that_can_be_read() {
    for target in TARGETS {
        let files = corpus(target.name);

        assert!(files.len() >= FILES_MIN, "{}: {} files", target.name, files.len());
        for (file, bytes) in files {
            assert!(bytes.len() <= BYTES_MAX, "{}: {} bytes", file.display(), bytes.len());
        }
    }
    assert_eq!(entries("corpus"), names(), "a corpus without a target is never replayed");
}

#[test]
fn every_target_can_be_explored() {
    let listed = fs::read_to_string(fuzz().join("targets.json")).unwrap();
    let listed: Vec<String> = serde_json::from_str(&listed).unwrap();
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();

    assert_eq!(listed, names());
    for name in &listed {
        let path = format!("fuzz_targets/{name}.rs");
        let wrapper = fs::read_to_string(fuzz().join(&path)).unwrap();
        assert!(wrapper.contains(&format!("enforcer_tests::fuzz::{name}(bytes)")), "{path}");
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"{path}\"\n")), "{name}");
    }
    let wrappers: Vec<String> = listed.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(entries("fuzz_targets"), wrappers, "a wrapper without a target");
}

fn names() -> Vec<String> {
    TARGETS.iter().map(|target| target.name.to_owned()).collect()
}

/// The files of a target's corpus, in the order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = format!("corpus/{target}");
    let files = entries(&folder).into_iter().map(|name| fuzz().join(&folder).join(name));
    files.map(|file| (file.clone(), fs::read(&file).unwrap())).collect()
}

fn entries(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(fuzz().join(folder)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fuzz() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}
