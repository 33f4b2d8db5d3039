//! Rules about files: where they stand, how long they are, which words they may hold.

use super::{Finding, TextFile};

/// A file that is longer says why in its module doc, in a line that begins with [`EXCUSE`].
const LINES_MAX: usize = 600;
const EXCUSE: &str = "//! Long because ";

/// What stands at the top of the repository; a name that begins with a dot may stand there too.
const TOP: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "_typos.toml",
    "clippy.toml",
    "deny.toml",
    "enforcer",
    "enforcer-ebpf",
    "policies",
    "rustfmt.toml",
    "tests",
    "xtask",
];

/// Words of unfinished work. Written in two halves, so that this file may hold them.
const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Folders and hosts of one machine, which mean nothing on another.
const PLACES: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("deb.debian", ".org"),
    concat!("pypi", ".org"),
    concat!("registry.npmjs", ".org"),
];

/// Everything that the files themselves break.
pub(super) fn findings(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        findings.extend(misplaced(file));
        if file.is_named("Cargo.lock") {
            continue;
        }
        findings.extend(words(file));
        if file.is_rust() {
            findings.extend(too_long(file));
            findings.extend(exceptions(file));
        }
    }
    findings
}

fn misplaced(file: &TextFile) -> Option<Finding> {
    let top = file.path.components().next()?.as_os_str().to_str()?;
    if top.starts_with('.') || TOP.contains(&top) {
        return None;
    }
    Some(Finding::new(
        &file.path,
        None,
        format!("`{top}` does not belong at the top of the repository"),
        "move it under one of the folders that are there, or ignore it",
    ))
}

fn too_long(file: &TextFile) -> Option<Finding> {
    let lines = file.lines().count();
    let excused = file
        .lines()
        .map_while(|(_, line)| line.starts_with("//!").then_some(line))
        .any(|line| line.starts_with(EXCUSE));
    if lines <= LINES_MAX || excused {
        return None;
    }
    Some(Finding::new(
        &file.path,
        None,
        format!("{lines} lines; {LINES_MAX} are the limit"),
        "ask which noun wants out; or say why in the module doc: `//! Long because …`",
    ))
}

fn words(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        if let Some(marker) = MARKERS.iter().find(|marker| has_word(line, marker)) {
            findings.push(Finding::new(
                &file.path,
                Some(number),
                format!("`{marker}`"),
                "finish it, or file an issue and leave the tree clean",
            ));
        }
        if let Some(place) = PLACES.iter().find(|place| has_place(line, place)) {
            findings.push(Finding::new(
                &file.path,
                Some(number),
                format!("`{place}` is a place of one machine"),
                "name a place that every reader has",
            ));
        }
    }
    findings
}

/// The word alone: a longer identifier that contains it is something else.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at.saturating_add(word.len())..).and_then(|text| text.chars().next());
        !before.is_some_and(is_word) && (word.ends_with(':') || !after.is_some_and(is_word))
    })
}

/// The place at the beginning of a path: `/proc/1` plus a folder is a path of every machine.
fn has_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before
            .is_some_and(|before| is_word(before) || matches!(before, '.' | '/' | '}' | '>' | '*'))
    })
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Lints that are switched off say why.
fn exceptions(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for opening in [concat!("exp", "ect("), concat!("all", "ow(")] {
        for (at, _) in file.text.match_indices(opening) {
            if !is_attribute(&file.text, at) {
                continue;
            }
            let body = file.text.get(at..).unwrap_or_default();
            let body = body.split_once(")]").map_or(body, |(body, _)| body);
            if !body.contains("reason") {
                let line = file.text.get(..at).unwrap_or_default().lines().count().max(1);
                findings.push(Finding::new(
                    &file.path,
                    Some(line),
                    "a lint is switched off without a reason".to_owned(),
                    "add `reason = \"…\"`",
                ));
            }
        }
    }
    findings
}

fn is_attribute(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let line = before.lines().next_back().unwrap_or_default().trim_start();
    line == "#["
        || line == "#!["
        || line.starts_with("#[cfg_attr(")
        || line.starts_with("#![cfg_attr(")
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn a_file_at_the_top_that_is_not_of_the_house_is_found() {
        assert!(misplaced(&file("notes.txt", "")).is_some());
        assert!(misplaced(&file("scratch/lib.rs", "")).is_some());
        assert!(misplaced(&file("README.md", "")).is_none());
        assert!(misplaced(&file(".github/SECURITY.md", "")).is_none());
        assert!(misplaced(&file("enforcer/src/main.rs", "")).is_none());
    }

    #[test]
    fn a_long_file_is_found_unless_its_doc_says_why() {
        let long = "fn a() {}\n".repeat(601);

        assert!(too_long(&file("tests/a.rs", &long)).is_some());
        let excused = format!("//! A table.\n//! Long because it is a table.\n{long}");
        assert!(too_long(&file("tests/a.rs", &excused)).is_none());
        let late = format!("{long}//! Long because it is a table.\n");
        assert!(too_long(&file("tests/a.rs", &late)).is_some());
        assert!(too_long(&file("tests/a.rs", &"\n".repeat(600))).is_none());
    }

    #[test]
    fn unfinished_work_is_found_and_similar_words_are_not() {
        let marker = MARKERS[0];

        let findings = words(&file("a.md", &format!("fine\n{marker} later\n")));

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, Some(2));
        assert!(words(&file("a.md", &format!("MY_{marker}S"))).is_empty());
        assert_eq!(words(&file("a.md", &format!("({marker}: x)"))).len(), 1);
    }

    #[test]
    fn paths_of_one_machine_are_found_and_relative_ones_are_not() {
        let place = PLACES[0];

        assert_eq!(words(&file("a.rs", &format!("\"{place}main\""))).len(), 1);
        assert_eq!(words(&file("a.rs", &format!("see {place}main"))).len(), 1);
        assert!(words(&file("a.rs", &format!("team{place}main"))).is_empty());
        assert!(words(&file("a.rs", &format!("..{place}main"))).is_empty());
    }

    #[test]
    fn a_lint_switched_off_without_a_reason_is_found() {
        let bare = concat!("fn a() {}\n#[exp", "ect(dead_code)]\nfn b() {}\n");
        let split = concat!("#![exp", "ect(\n    dead_code,\n    reason = \"why\"\n)]\n");
        let call = "let x = option.expect(\"there\");";
        let nested = concat!("#[cfg_attr(test, all", "ow(dead_code))]");

        let findings = exceptions(&file("a.rs", bare));

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, Some(2));
        assert!(exceptions(&file("a.rs", split)).is_empty());
        assert!(exceptions(&file("a.rs", call)).is_empty());
        assert_eq!(exceptions(&file("a.rs", nested)).len(), 1);
    }
}
