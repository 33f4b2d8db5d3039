//! Limits, the load of upstreams, and what follows refusals.

use std::time::Duration;

use enforcer_limits::{By, Class, Cost, Throttle};

use super::{SMALL, code_of, read};

#[test]
fn a_limit_becomes_what_it_says() {
    let policy = read(&with(
        "a = { by = 'principal', rate = '100/s' }\n\
         b = { by = 'claims.org.tenant', quota = '50/day', cost = 'response.kib / 1024', strict = true }\n\
         c = { by = 'prefix', v6 = 48, concurrent = 10, when = 'anonymous', headers = true }\n\
         d = { by = 'global', rate = '5/m', burst = 9, cost = 3 }\n\
         e = { by = 'claims[\"https://x/y\"]', quota = '7/month' }\n",
    ))
    .unwrap();

    let shown: Vec<String> = policy
        .limits()
        .iter()
        .map(|charged| {
            let limit = &charged.limit;
            let when = charged.when.as_ref().map_or("", |when| when.text());
            format!("{} by {}: {} {} {when}", limit.name(), limit.by(), limit.kind(), limit.cost())
        })
        .collect();
    assert_eq!(
        shown,
        [
            "a by principal: 100/s burst 100 1 ",
            "b by claims.org.tenant: 50/day strict response.mib ",
            "c by prefix /24 /48: 10 at once 1 anonymous",
            "d by global: 5/m burst 9 3 ",
            "e by claims.https://x/y: 7/month 1 ",
        ]
    );
    assert!(policy.limit("c").unwrap().limit.shows_headers());
    assert_eq!(policy.limit("b").unwrap().number, 1);
    assert!(policy.limit("z").is_none());
    assert_eq!(policy.limit("a").unwrap().limit.cost(), Cost::ONE);
    assert_eq!(*policy.limit("a").unwrap().limit.by(), By::Principal);
}

#[test]
fn each_problem_of_a_limit_has_its_code() {
    for (keys, code) in [
        ("by = 'ip'", "E-POL-003"),
        ("by = 'ip', rate = '1/s', quota = '1/day'", "E-POL-028"),
        ("by = 'ip', quota = '1/day', burst = 5", "E-POL-022"),
        ("by = 'ip', rate = '1/s', strict = true", "E-POL-022"),
        ("by = 'ip', rate = '1/s', v4 = 16", "E-POL-022"),
        ("by = 'prefix', rate = '1/s', v4 = 7", "E-POL-005"),
        ("by = 'prefix', rate = '1/s', v6 = 65", "E-POL-005"),
        ("by = 'tenant', rate = '1/s'", "E-POL-005"),
        ("by = 'claims', rate = '1/s'", "E-POL-005"),
        ("by = 'claims.', rate = '1/s'", "E-POL-005"),
        ("by = 'ip', rate = '1/s', burst = 4, cost = 5", "E-POL-033"),
        ("by = 'ip', quota = '4/day', cost = 5", "E-POL-033"),
        ("by = 'ip', concurrent = 4, cost = 'request.kib'", "E-POL-028"),
        ("by = 'ip', quota = '9999999999999999/day', cost = 'request.mib'", "E-POL-028"),
        ("by = 'ip', quota = '1/week'", "E-POL-005"),
        ("by = 'ip', quota = '0/day'", "E-POL-005"),
        ("by = 'ip', rate = '1/s', cost = 'bytes'", "E-POL-005"),
        ("by = 'ip', rate = '1/s', cost = 0", "E-POL-005"),
        ("by = 'ip', rate = '1/s', cost = true", "E-POL-004"),
        ("by = 'ip', rate = '1/s', when = ' '", "E-POL-005"),
        ("by = 'ip', rate = '1/s', when = 'param.id == \"7\"'", "E-POL-024"),
    ] {
        assert_eq!(code_of(&with(&format!("l = {{ {keys} }}\n"))), [code], "{keys}");
    }
}

#[test]
fn a_route_has_room_for_sixteen_limits() {
    let limits = |count: usize| {
        let defined: String =
            (0..count).map(|n| format!("l{n} = {{ by = 'ip', rate = '1/s' }}\n")).collect();
        let named: Vec<String> = (0..count).map(|n| format!("'l{n}'")).collect();
        let named = format!("upstream = \"orders\"\nlimits = [{}]", named.join(", "));
        format!("{SMALL}[limit]\n{defined}").replace("upstream = \"orders\"", &named)
    };

    assert_eq!(code_of(&limits(16)), [""; 0]);
    assert_eq!(code_of(&limits(17)), ["E-POL-032"]);
}

#[test]
fn an_upstream_that_is_nearly_full_turns_away_whom_it_names() {
    let with = |keys: &str| {
        SMALL.replace("hosts = [\"127.0.0.1:9000\"]", &format!("hosts = '127.0.0.1:9000'\n{keys}"))
    };

    let policy = read(&with("concurrent = 500\nshed = ['anonymous', 'reader']")).unwrap();

    let gate = policy.routes()[0].gate.as_ref().unwrap();
    assert_eq!((&*gate.name, gate.concurrent.get()), ("orders", 500));
    assert_eq!(*gate.shed, [Class::Anonymous, Class::Role(enforcer_model::Role::new("reader"))]);
    assert_eq!(policy.gates().count(), 1);
    assert!(read(SMALL).unwrap().routes()[0].gate.is_none());
    assert_eq!(code_of(&with("shed = ['reader']")), ["E-POL-022"]);
    assert_eq!(code_of(&with("concurrent = 5\nshed = ['raeder']")), ["E-POL-010"]);
    assert_eq!(code_of(&with("concurrent = 5\nshed = ['reader', 'reader']")), ["E-POL-011"]);
    assert_eq!(code_of(&with("concurrent = 0")), ["E-POL-005"]);
}

#[test]
fn upstreams_are_told_who_is_calling_and_do_not_get_the_credential_unless_they_say_so() {
    let route = |keys: &str| {
        let text = SMALL
            .replace("hosts = [\"127.0.0.1:9000\"]", &format!("hosts = '127.0.0.1:9000'\n{keys}"));
        let policy = read(&text).unwrap();
        (policy.routes()[0].identity, policy.routes()[0].forward_credential)
    };

    assert_eq!(route(""), (true, false));
    assert_eq!(route("identity = false\nforward_credential = true"), (false, true));
}

#[test]
fn refusals_have_a_consequence_when_the_policy_says_so() {
    let policy = read(&format!("{SMALL}[throttle]\nrefusals = 7\nfor = '2m'\n")).unwrap();

    let throttle = policy.throttle().unwrap();
    assert_eq!((throttle.refusals.get(), throttle.penalty), (7, Duration::from_secs(120)));
    let standard =
        Throttle { refusals: throttle.refusals, penalty: throttle.penalty, ..Throttle::default() };
    assert_eq!(*throttle, standard);
    assert_eq!(read(SMALL).unwrap().throttle(), None);
    assert_eq!(
        read(&format!("{SMALL}[throttle]\n")).unwrap().throttle(),
        Some(&Throttle::default())
    );
    assert_eq!(code_of(&format!("{SMALL}[throttle]\nbudget = '5/s'\n")), ["E-POL-109"]);
    assert_eq!(code_of(&format!("{SMALL}[throttle]\nwithin = '1h'\n")), ["E-POL-005"]);
}

/// A policy whose one route is charged by every limit of `limits`.
fn with(limits: &str) -> String {
    let names: Vec<String> = limits
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| format!("'{name}'"))
        .collect();
    let named = format!("upstream = \"orders\"\nlimits = [{}]", names.join(", "));
    format!("{SMALL}[limit]\n{limits}").replace("upstream = \"orders\"", &named)
}
