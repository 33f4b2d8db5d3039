//! The rules that come with the program.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::rules::plan::span as plan_span;
use crate::rules::when::About;
use crate::{Action, Mode};

fn plans() -> Vec<Arc<RulePlan>> {
    pack().unwrap_or_else(|(file, problems)| {
        let told: Vec<String> = problems.iter().map(|it| it.shown(file)).collect();
        panic!("{}", told.join("\n"));
    })
}

#[test]
fn every_rule_of_the_pack_finds_its_attack_and_leaves_its_neighbours_alone() {
    let plans = plans();
    let mut wrong = Vec::new();

    for plan in &plans {
        let fires = |test: &RuleTest| matches!(test.expect, Expected::Fire(_));
        assert!(plan.tests.iter().any(fires), "{} is never tried", plan.id);
        assert!(!plan.tests.iter().all(fires), "{} is never tried in vain", plan.id);
        for tried in test(plan, &plans, &pack_events) {
            if let Some(what) = tried.wrong {
                wrong.push(format!("{} {}: {what}", tried.rule, tried.test.events));
            }
        }
    }

    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn nothing_that_packets_alone_show_has_anybody_dropped_unasked() {
    let floods: Vec<_> =
        plans().into_iter().filter(|plan| plan.about() == About::Packets).collect();

    assert!(floods.len() >= 3);
    for plan in floods {
        assert_ne!(plan.mode, Mode::Auto, "{}: its sender may be forged", plan.id);
        assert!(plan.respond.iter().all(|rung| rung.mode != Some(Mode::Auto)), "{}", plan.id);
    }
}

#[test]
fn the_pack_is_all_that_stands_in_its_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pack");
    let list = |folder: &Path, ending: &str, prefix: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(ending)).map(|name| format!("{prefix}{name}")).collect()
    };
    let names = |files: &[(&str, &str)]| -> BTreeSet<String> {
        files.iter().map(|(name, _)| (*name).to_owned()).collect()
    };

    assert_eq!(names(PACK), list(&folder, ".yaml", ""));
    assert_eq!(names(PACK_EVENTS), list(&folder.join("tests"), ".jsonl", "tests/"));
}

#[test]
fn every_file_of_events_is_asked_for_and_the_pack_covers_the_ten() {
    let plans = plans();
    let asked: BTreeSet<&str> =
        plans.iter().flat_map(|plan| plan.tests.iter().map(|test| &*test.events)).collect();
    let ten: BTreeSet<&str> =
        plans.iter().flat_map(|plan| plan.owasp.iter().map(|entry| &**entry)).collect();

    assert_eq!(asked, PACK_EVENTS.iter().map(|(name, _)| *name).collect());
    let all: Vec<String> = (1..=10).map(|n| format!("API{n}:2023")).collect();
    assert_eq!(ten, all.iter().map(String::as_str).collect());
}

#[test]
fn what_the_pack_does_unasked_hits_nobody_who_was_served_by_name() {
    for plan in plans() {
        if plan.mode != Mode::Auto {
            continue;
        }
        let hits = plan.respond.iter().filter(|response| response.action != Action::Notify);
        for response in hits {
            let when = plan.when.as_ref().map(|when| when.text().to_string()).unwrap_or_default();
            // What was refused anyway, and what has no name.
            let refused = ["credential_refused", "reason", "packets"];
            assert!(refused.iter().any(|word| when.contains(word)), "{} {response:?}", plan.id);
            assert!(
                matches!(response.action, Action::Drop | Action::DenyCredential),
                "{} {response:?}",
                plan.id
            );
        }
    }
}

/// A day of one office, over all rules: nobody does anything wrong.
#[test]
fn a_working_day_makes_no_finding() {
    let plans = plans();
    let mut rules = Rules::new(&plans);
    let mut all = Vec::new();
    let mut lines = String::new();
    for person in 0..40 {
        for hour in 8..18 {
            let minute = (person * 7 + hour) % 60;
            lines += &format!(
                "{{\"at\":\"2026-01-06T{hour:02}:{minute:02}:00Z\",\"source\":\"198.51.100.7\",\
                 \"identity\":\"token:corp/p{person}\",\"credential\":\"c{person}\",\"region\":\"DE\",\
                 \"route\":\"orders\",\"path\":\"/v1/orders/{person}{hour}1\"}}\n\
                 {{\"source\":\"198.51.100.7\",\"identity\":\"token:corp/p{person}\",\
                 \"credential\":\"c{person}\",\"route\":\"orders\",\"path\":\"/v1/orders/{{n}}{person}\",\
                 \"after\":\"15s\",\"repeat\":20}}\n\
                 {{\"source\":\"198.51.100.7\",\"reason\":\"key-expired\",\"credential\":\"c{person}\"}}\n"
            );
        }
    }
    let mut pasts = Vec::new();
    events(&lines, |past| {
        pasts.push(past.clone());
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    pasts.sort_by_key(|past| past.event().at());

    for past in &pasts {
        rules.observe(&past.event(), &mut all);
    }

    let told: Vec<String> =
        all.iter().map(|it| format!("{} {}", it.rule, it.explanation())).collect();
    assert_eq!(told, Vec::<String>::new());
}

#[test]
fn the_page_about_rules_lists_the_pack_and_every_name_as_they_are() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rules.md");
    let text = std::fs::read_to_string(page).unwrap();

    for plan in plans() {
        let mode = serde_json::to_value(plan.mode).unwrap();
        let mode = if plan.silent { "step" } else { mode.as_str().unwrap() };
        let owasp: Vec<&str> =
            plan.owasp.iter().filter_map(|entry| entry.split(':').next()).collect();
        let looks = words(&plan);
        let finds = looks.iter().find_map(|line| line.strip_prefix("  finds     ")).unwrap();
        let follows: Vec<String> = plan
            .respond
            .iter()
            .map(|response| {
                let own = response.mode.filter(|own| *own < plan.mode);
                let own = if own.is_some() { " (approve)" } else { "" };
                format!("{} {}{own}", response.action, plan_span(response.ttl))
            })
            .collect();
        let row = format!(
            "| `{}` | {} | {} | {} | {} | {} |",
            plan.id,
            owasp.join(" "),
            plan.title,
            finds.replace('|', "\\|"),
            mode,
            follows.join(", ")
        );
        assert!(text.contains(&row), "{row}");
    }
    for (name, _, meaning) in super::super::when::ATTRIBUTES {
        let row = format!("| `{name}` | {meaning} |");
        assert!(text.contains(&row), "{row}");
    }
    for (name, ..) in Field::ALL {
        assert!(text.contains(&format!("`{name}`")), "{name}");
    }
}
