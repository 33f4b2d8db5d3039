//! `[detect]`: the pack, files of rules, and modes.

use std::fs;

use enforcer_detect::Mode;
use tempfile::TempDir;

use super::{codes, shipped_text};
use crate::{LoadError, Policy, Problems};

const RULE: &str = "id: mine\nkey: source\nevent_count: {gte: 5, within: 1m}\n";

#[test]
fn a_policy_without_the_section_has_no_rules_and_one_with_it_has_the_pack() {
    let without = load("", &[]).unwrap();
    let with = load("[detect]\n", &[]).unwrap();

    assert!(without.detection().rules.is_empty());
    let rules = &with.detection().rules;
    assert!(rules.iter().any(|rule| &*rule.id == "credential-stuffing"));
    assert_eq!(rules.len(), enforcer_detect::rules::pack().unwrap().len());
}

#[test]
fn the_country_is_looked_up_where_a_rule_reads_it() {
    let reads = |more: &str| {
        let rule = format!("{RULE}{more}");
        let text = "[detect]\npack = \"none\"\nrules = \"r.yaml\"\n";
        load(text, &[("r.yaml", &rule)]).unwrap().detection().reads_region
    };

    assert!(load("[detect]\n", &[]).unwrap().detection().reads_region, "impossible-travel does");
    assert!(!reads(""));
    assert!(!reads("when: 'status >= 400 && !(method in [\"GET\"])'\n"));
    assert!(reads("when: 'status >= 400 && !(region in [\"DE\"])'\n"));
    assert!(reads("when: 'has(region)'\n"));
}

#[test]
fn rules_of_files_stand_behind_the_pack_and_a_star_takes_them_in_their_order() {
    let files = [
        ("rules/b.yaml", RULE),
        ("rules/a.yaml", "id: first\nkey: route\nevent_count: {gte: 5, within: 1m}\n"),
        ("rules/c.txt", "not a rule"),
    ];

    let policy = load("[detect]\npack = \"none\"\nrules = [\"rules/*.yaml\"]\n", &files).unwrap();
    let ids: Vec<&str> = policy.detection().rules.iter().map(|rule| &*rule.id).collect();
    assert_eq!(ids, ["first", "mine"]);

    let policy = load("[detect]\nrules = \"rules/b.yaml\"\n", &files).unwrap();
    assert_eq!(&*policy.detection().rules.last().unwrap().id, "mine");
}

#[test]
fn a_mode_of_the_policy_holds_whatever_the_file_says() {
    let text = "[detect]\nrules = [\"r.yaml\"]\n[detect.modes]\nmine = \"auto\"\n\
                credential-stuffing = \"observe\"\nscanner = \"off\"\ntoken-two-networks = \"off\"\n";

    let policy = load(text, &[("r.yaml", RULE)]).unwrap();

    let rules = &policy.detection().rules;
    let mode = |id: &str| rules.iter().find(|rule| &*rule.id == id).map(|rule| rule.mode);
    assert_eq!(mode("mine"), Some(Mode::Auto));
    assert_eq!(mode("credential-stuffing"), Some(Mode::Observe));
    assert_eq!(mode("scanner"), None);
    assert!(mode("token-two-networks").is_some(), "it is a step of another rule");
}

#[test]
fn a_mistake_in_a_file_of_rules_is_a_problem_of_the_policy_with_its_line_and_column() {
    let rule = "id: mine\nkey: source\nwhen: 'statuz > 5'\nevent_count: {gte: 5, within: 1m}\n";

    let problems = refused("[detect]\nrules = [\"r.yaml\"]\n", &[("r.yaml", rule)]);

    assert_eq!(codes(&problems), ["E-POL-036"]);
    let problem = problems.iter().next().unwrap();
    assert!(problem.message.contains("r.yaml:3:8: no event has `statuz`"), "{problem}");
    assert_eq!(problem.hint.as_deref(), Some("did you mean `status`?"));
}

#[test]
fn names_that_no_rule_has_and_files_that_are_not_there_are_told() {
    let unknown = "[detect.modes]\ncredential-stufing = \"auto\"\n";
    let problems = refused(unknown, &[]);
    assert_eq!(codes(&problems), ["E-POL-010"]);
    let problem = problems.iter().next().unwrap();
    assert_eq!(problem.hint.as_deref(), Some("did you mean `credential-stuffing`?"));

    for missing in ["rules = [\"none.yaml\"]", "rules = [\"*.yaml\"]"] {
        let problems = refused(&format!("[detect]\n{missing}\n"), &[]);
        assert_eq!(problems.len(), 1, "{problems}");
    }
    let same = refused(
        "[detect]\nrules = [\"a.yaml\", \"b.yaml\"]\n",
        &[("a.yaml", RULE), ("b.yaml", RULE)],
    );
    assert!(same.iter().next().unwrap().message.contains("two rules are called `mine`"));
}

fn load(section: &str, files: &[(&str, &str)]) -> Result<Policy, LoadError> {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let text = shipped_text("minimal.toml");
    // Without TLS files: only the rules are of interest here.
    let text = format!("{}\n{section}", without_tls(&text));
    let file = folder.path().join("policy.toml");
    fs::write(&file, text).unwrap();
    Policy::load(&file)
}

fn without_tls(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("tls"));
    let text: Vec<&str> = lines.collect();
    text.join("\n").replace("[\"0.0.0.0:8443\", \"[::]:8443\"]", "\"127.0.0.1:8443\"")
}

fn refused(section: &str, files: &[(&str, &str)]) -> Problems {
    match load(section, files) {
        Err(LoadError::Problems(problems)) => problems,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the policy was accepted"),
    }
}
