//! `cargo xtask tidy`: the rules of the house that no compiler knows.
//!
//! Every rule looks at the tree as git sees it and returns findings; all of them are told at once,
//! each with its place and what to do. A style remark that was made twice in review belongs here.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xshell::cmd;

use crate::workshop::Workshop;

mod licence;
mod manifests;
mod promises;
mod sources;
mod supply;

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: PathBuf,
    /// Counted from 1; none when the whole file is meant.
    line: Option<usize>,
    what: String,
    remedy: String,
}

/// A file of the tree that is text.
struct TextFile {
    /// From the top of the repository.
    path: PathBuf,
    text: String,
}

/// Applies every rule.
pub(crate) fn tidy(workshop: &Workshop) -> Result<()> {
    let files = read_tree(workshop)?;
    let mut findings = Vec::new();
    findings.extend(sources::findings(&files));
    findings.extend(manifests::findings(&files)?);
    findings.extend(promises::findings(&files));
    findings.extend(supply::findings(workshop)?);
    findings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));

    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", files.len());
        return Ok(());
    }
    bail!("tidy: {} findings", findings.len())
}

/// What git tracks or would track. Files that are not UTF-8 are no text and left out.
fn read_tree(workshop: &Workshop) -> Result<Vec<TextFile>> {
    let list = cmd!(workshop.shell, "git ls-files -z --cached --others --exclude-standard")
        .quiet()
        .read()
        .context("git lists the files of the tree")?;
    let mut files = Vec::new();
    for name in list.split('\0').filter(|name| !name.is_empty()) {
        // A deleted file stays in git's index until the deletion is committed.
        let Ok(bytes) = fs::read(workshop.root.join(name)) else { continue };
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(TextFile { path: PathBuf::from(name), text });
        }
    }
    Ok(files)
}

impl Finding {
    fn new(file: &Path, line: Option<usize>, what: String, remedy: &str) -> Self {
        Self { file: file.to_path_buf(), line, what, remedy: remedy.to_owned() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}\n  hint: {}", self.what, self.remedy)
    }
}

impl TextFile {
    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }

    fn is_named(&self, path: &str) -> bool {
        self.path == Path::new(path)
    }

    /// The lines with their numbers, counted from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index.saturating_add(1), line))
    }
}

#[cfg(test)]
fn file(path: &str, text: &str) -> TextFile {
    TextFile { path: PathBuf::from(path), text: text.to_owned() }
}
