//! `[cache]` and the routes that keep answers.

use std::sync::Arc;

use std::time::Duration;

use enforcer_cache::Bounds;
use enforcer_model::Bytes;

use super::{SMALL, code_of, read};

const ROUTE: &str = "match = \"*/v1/orders/{**}\"";

fn with(route: &str, section: &str) -> String {
    assert!(SMALL.contains(ROUTE));
    format!("{}\n{section}", SMALL.replace(ROUTE, &format!("{ROUTE}\n{route}")))
}

#[test]
fn without_a_word_nothing_is_kept_and_the_bounds_are_the_documented_ones() {
    let policy = read(SMALL).unwrap();

    assert_eq!(policy.cache(), Bounds::default());
    assert!(policy.routes().iter().all(|route| route.cache.is_none()));
    let off = read(&with("cache = false", "")).unwrap();
    assert_eq!(off.routes()[0].cache, None);
}

#[test]
fn a_route_keeps_answers_for_each_caller_or_for_all() {
    for (key, shared) in [
        ("cache = true", false),
        ("cache = {}", false),
        ("cache = { shared = false }", false),
        ("cache = { shared = true }", true),
    ] {
        let policy = read(&with(key, "")).unwrap();
        let route = &policy.routes()[0];
        let plan = route.cache.as_ref().unwrap();
        assert_eq!((&plan.route, plan.shared), (&route.name, shared), "{key}");
    }
    let section =
        "[cache]\nmemory = '2MiB'\nentry = '10KiB'\nwait = '0s'\nstale_if_unreachable = '1h'";
    let bounds = read(&with("cache = true", section)).unwrap().cache();
    assert_eq!((bounds.memory, bounds.entry), (Bytes(2 << 20), Bytes(10 << 10)));
    assert_eq!((bounds.wait, bounds.unreachable), (Duration::ZERO, Duration::from_secs(3_600)));
}

#[test]
fn what_changes_the_way_to_the_upstream_changes_under_what_answers_are_kept() {
    let via = |key: &str, from: &str, to: &str| {
        let text = with(&format!("cache = true\n{key}"), "").replace(from, to);
        Arc::clone(&read(&text).unwrap().routes()[0].cache.as_ref().unwrap().via)
    };
    let plain = via("", "", "");

    assert_eq!(via("body_max = '2MiB'", "", ""), plain);
    for (key, from, to) in [
        ("strip = '/v1'", "", ""),
        ("rewrite = '/v2'", "", ""),
        ("", "[upstream.", "[upstream.other]\nhosts = ['127.0.0.1:9001']\n[upstream."),
    ] {
        let changed = if from.is_empty() {
            via(key, from, to)
        } else {
            let text = with("cache = true", "").replace(from, to);
            let name =
                text.split("upstream = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
            let text = text.replace(&format!("upstream = \"{name}\""), "upstream = \"other\"");
            Arc::clone(&read(&text).unwrap().routes()[0].cache.as_ref().unwrap().via)
        };
        assert_ne!(changed, plain, "{key}{to}");
    }
}

#[test]
fn each_problem_of_a_cache_has_its_code() {
    for (route, section, code) in [
        ("cache = 1", "", "E-POL-004"),
        ("cache = \"yes\"", "", "E-POL-004"),
        ("cache = { share = true }", "", "E-POL-002"),
        ("cache = { shared = 1 }", "", "E-POL-004"),
        ("cache = true", "[cache]\nmemory = '1KiB'", "E-POL-005"),
        ("cache = true", "[cache]\nmemory = 64", "E-POL-004"),
        ("cache = true", "[cache]\nwait = '2m'", "E-POL-005"),
        ("cache = true", "[cache]\nsize = '1MiB'", "E-POL-002"),
    ] {
        assert_eq!(code_of(&with(route, section)), [code], "{route} {section}");
    }
    let rules = "  [[route.allow]]\n  method = \"GET\"\n  role = \"reader\"\n";
    let public = with("cache = { shared = true }", "").replace(rules, "public = true\n");
    assert!(code_of(&public).contains(&"E-POL-109"), "everybody shares already");
}
