//! `cargo xtask gen`: the documents that the program writes about itself.
//!
//! The program knows its own policy format, verbs and reasons; `enforcer gen <folder>` writes them
//! down. Here they are put under `enforcer/docs`, or, with `--check`, compared with what is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xshell::cmd;

use crate::build::{self, Profile};
use crate::workshop::Workshop;

/// What to do with the documents.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail when a document is not what the program would write
    #[arg(long)]
    check: bool,
}

/// Write or compare.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// Put the documents into the tree.
    Write,
    /// Compare them with the tree.
    Check,
}

/// A folder that holds nothing but generated documents: what the program no longer writes goes.
const OWNED: &str = "man";

/// Generates the documents.
pub(crate) fn generate(workshop: &Workshop, arguments: &Arguments) -> Result<()> {
    documents(workshop, if arguments.check { Mode::Check } else { Mode::Write })
}

/// Builds the program, lets it write, and puts or compares what it wrote.
pub(crate) fn documents(workshop: &Workshop, mode: Mode) -> Result<()> {
    let program = build::program(workshop, Profile::Dev)?;
    let fresh = workshop.shell.create_temp_dir()?;
    let folder = fresh.path();
    cmd!(workshop.shell, "{program} gen {folder}").quiet().run().context("enforcer gen")?;

    let docs = workshop.root.join("enforcer/docs");
    let wanted = read_tree(folder)?;
    if wanted.is_empty() {
        bail!("`enforcer gen` wrote nothing");
    }
    let differences = differences(&wanted, &docs)?;
    match mode {
        Mode::Check if differences.is_empty() => Ok(()),
        Mode::Check => bail!(
            "not what the program would write: {}\nhint: cargo xtask gen",
            differences
                .iter()
                .map(|name| format!("enforcer/docs/{}", name.display()))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        Mode::Write => put(&wanted, &differences, &docs),
    }
}

/// The files that differ, are missing, or should not be there.
fn differences(wanted: &BTreeMap<PathBuf, String>, docs: &Path) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for (name, text) in wanted {
        if fs::read_to_string(docs.join(name)).ok().as_deref() != Some(text) {
            names.push(name.clone());
        }
    }
    let owned = docs.join(OWNED);
    if owned.is_dir() {
        names.extend(
            read_tree(&owned)?
                .into_keys()
                .map(|name| Path::new(OWNED).join(name))
                .filter(|name| !wanted.contains_key(name)),
        );
    }
    Ok(names)
}

fn put(wanted: &BTreeMap<PathBuf, String>, names: &[PathBuf], docs: &Path) -> Result<()> {
    for name in names {
        let path = docs.join(name);
        if let Some(text) = wanted.get(name) {
            let folder = path.parent().context("a document without a folder")?;
            fs::create_dir_all(folder)?;
            fs::write(&path, text).with_context(|| path.display().to_string())?;
            println!("gen: wrote enforcer/docs/{}", name.display());
        } else {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
            println!("gen: removed enforcer/docs/{}", name.display());
        }
    }
    println!("gen: {} documents, {} changed", wanted.len(), names.len());
    Ok(())
}

fn read_tree(folder: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                files.insert(path.strip_prefix(folder)?.to_path_buf(), text);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_missing_stale_or_left_over_is_named() {
        let fresh = tempfile::tempdir().unwrap();
        let docs = tempfile::tempdir().unwrap();
        fs::create_dir(fresh.path().join("man")).unwrap();
        fs::create_dir(docs.path().join("man")).unwrap();
        for (folder, name, text) in [
            (&fresh, "cli.md", "new"),
            (&docs, "cli.md", "old"),
            (&fresh, "reasons.md", "same"),
            (&docs, "reasons.md", "same"),
            (&fresh, "man/enforcer.1", "page"),
            (&docs, "man/enforcer-gone.1", "page"),
            (&docs, "attacks.md", "written by hand"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let wanted = read_tree(fresh.path()).unwrap();

        let names = differences(&wanted, docs.path()).unwrap();

        let names: Vec<_> = names.iter().map(|name| name.to_str().unwrap()).collect();
        assert_eq!(names, ["cli.md", "man/enforcer.1", "man/enforcer-gone.1"]);
    }

    #[test]
    fn after_writing_nothing_differs_and_hand_written_pages_stay() {
        let fresh = tempfile::tempdir().unwrap();
        let docs = tempfile::tempdir().unwrap();
        fs::create_dir(docs.path().join("man")).unwrap();
        fs::write(fresh.path().join("cli.md"), "new").unwrap();
        fs::write(docs.path().join("man/enforcer-gone.1"), "page").unwrap();
        fs::write(docs.path().join("attacks.md"), "written by hand").unwrap();
        let wanted = read_tree(fresh.path()).unwrap();
        let names = differences(&wanted, docs.path()).unwrap();

        put(&wanted, &names, docs.path()).unwrap();

        assert!(differences(&wanted, docs.path()).unwrap().is_empty());
        assert!(docs.path().join("attacks.md").exists());
        assert!(!docs.path().join("man/enforcer-gone.1").exists());
    }
}
