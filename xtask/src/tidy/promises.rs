//! Rules about documents: what they promise is shown by something.
//!
//! Known attacks name the tests that stop them, every reason to refuse is explained, and the
//! policies that are shipped are parsed by a test.

use std::collections::BTreeSet;

use super::{Finding, TextFile};

const ATTACKS: &str = "enforcer/docs/attacks.md";
const REASONS: &str = "enforcer/docs/reasons.md";
const REASONS_SOURCE: &str = "enforcer/crates/model/src/rejection.rs";

/// The test that reads every file under `policies/`.
const POLICIES_TEST: &str = "every_shipped_policy_is_valid_and_free_of_warnings";

/// Every promise that nothing shows.
pub(super) fn findings(files: &[TextFile]) -> Vec<Finding> {
    let tests: BTreeSet<&str> =
        files.iter().filter(|file| file.is_rust()).flat_map(|file| tests_in(&file.text)).collect();
    let mut findings = Vec::new();
    if let Some(file) = files.iter().find(|file| file.is_named(ATTACKS)) {
        findings.extend(unproven(file, &tests));
    }
    if let Some(source) = files.iter().find(|file| file.is_named(REASONS_SOURCE)) {
        let page = files.iter().find(|file| file.is_named(REASONS));
        findings.extend(match page {
            Some(page) => unexplained(source, page),
            None => vec![Finding::new(
                &source.path,
                None,
                format!("{REASONS} does not exist"),
                "cargo xtask gen",
            )],
        });
    }
    let shipped = files.iter().find(|file| file.path.starts_with("policies"));
    if let Some(policy) = shipped.filter(|_| !tests.contains(POLICIES_TEST)) {
        findings.push(Finding::new(
            &policy.path,
            None,
            format!("no test is called `{POLICIES_TEST}`"),
            "write the test that parses every file under policies/",
        ));
    }
    findings
}

/// The functions that a test attribute stands above, inside `proptest!` as well.
fn tests_in(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut armed = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            armed = true;
        }
        let signature = line.strip_prefix("pub ").unwrap_or(line);
        let signature = signature.strip_prefix("async ").unwrap_or(signature);
        if let Some(rest) = signature.strip_prefix("fn ") {
            if armed {
                names.extend(rest.split(['(', '<']).next());
            }
            armed = false;
        }
    }
    names
}

/// Names in the last column of the table of attacks that no test has.
fn unproven(file: &TextFile, tests: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        let Some(cells) = cells(line) else { continue };
        let Some(proof) = cells.last() else { continue };
        for name in quoted(proof) {
            let name = name.rsplit("::").next().unwrap_or(name);
            if !tests.contains(name) {
                findings.push(Finding::new(
                    &file.path,
                    Some(number),
                    format!("no test is called `{name}`"),
                    "name the test that shows it, or write it",
                ));
            }
        }
        let heading = cells.iter().all(|cell| !cell.contains('`'));
        let rule = cells.iter().all(|cell| cell.chars().all(|c| matches!(c, '-' | ':' | ' ')));
        if quoted(proof).is_empty() && !heading && !rule {
            findings.push(Finding::new(
                &file.path,
                Some(number),
                "an attack without a test".to_owned(),
                "name the test that shows it in the last column",
            ));
        }
    }
    findings
}

/// Words of [`REASONS_SOURCE`] that have no row.
fn unexplained(source: &TextFile, page: &TextFile) -> Vec<Finding> {
    let rows: BTreeSet<&str> = page
        .lines()
        .filter_map(|(_, line)| cells(line)?.first().copied())
        .flat_map(quoted)
        .collect();
    source
        .lines()
        .filter_map(|(number, line)| Some((number, reason(line)?)))
        .filter(|(_, word)| !rows.contains(word))
        .map(|(number, word)| {
            Finding::new(
                &source.path,
                Some(number),
                format!("the reason `{word}` has no row in {REASONS}"),
                "cargo xtask gen",
            )
        })
        .collect()
}

/// The word of a line such as `NotAllowed = "not-allowed", 403;`.
fn reason(line: &str) -> Option<&str> {
    let (name, rest) = line.trim().split_once(" = \"")?;
    let (word, status) = rest.split_once("\", ")?;
    let is_name = name.chars().all(char::is_alphanumeric);
    let status = status.strip_suffix(';')?;
    (is_name && status.len() == 3 && status.chars().all(|c| c.is_ascii_digit())).then_some(word)
}

/// The cells of a row of a table.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    #[test]
    fn functions_under_a_test_attribute_are_tests_and_others_are_not() {
        let text = "#[test]\nfn a_promise() {}\nfn helper() {}\n#[tokio::test(start_paused = true)]\n\
                    async fn later() {}\nproptest! {\n    #[test]\n    fn any(x in 0..9) {}\n}\n";

        assert_eq!(tests_in(text), ["a_promise", "later", "any"]);
    }

    #[test]
    fn an_attack_that_names_a_missing_test_or_none_is_found() {
        let page = file(
            ATTACKS,
            "| attack | where it dies | shown by |\n|---|---|---|\n\
             | `..` in paths | inspect | `it::a_promise` |\n\
             | guessing | detect | `gone` |\n\
             | `x` | nowhere | |\n",
        );

        let findings = unproven(&page, &BTreeSet::from(["a_promise"]));

        let told: Vec<_> =
            findings.iter().map(|finding| (finding.line, finding.what.as_str())).collect();
        assert_eq!(
            told,
            [(Some(4), "no test is called `gone`"), (Some(5), "an attack without a test")]
        );
    }

    #[test]
    fn a_reason_without_a_row_is_found() {
        let source = file(
            REASONS_SOURCE,
            "    /// No.\n    NoRoute = \"no-route\", 404;\n    Internal = \"internal\", 500;\n\
             let x = \"a\", \"b\";\n",
        );
        let page = file(REASONS, "| reason | status |\n|---|---|\n| `no-route` | 404 |\n");

        let findings = unexplained(&source, &page);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, Some(3));
        assert_eq!(super::findings(&[source]).len(), 1);
    }

    #[test]
    fn shipped_policies_want_the_test_that_reads_them() {
        let policy = || file("policies/demo.toml", "version = 1");
        let test = file(
            "enforcer/crates/policy/src/tests.rs",
            &format!("#[test]\nfn {POLICIES_TEST}() {{}}\n"),
        );

        assert_eq!(findings(&[policy()]).len(), 1);
        assert!(findings(&[policy(), test]).is_empty());
    }
}
