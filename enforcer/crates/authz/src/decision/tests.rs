//! The semantics of a decision, by name, and as properties over random plans.

use enforcer_model::{Reason, Role};
use http::Method;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::condition::tests::{Defined, World};
use crate::{Methods, RoleSet, Tri};

fn rule(name: &str, methods: &[Method], role: Option<&str>, when: Option<&str>) -> Rule {
    let defined = Defined::shared();
    let role = role.map(Role::new);
    let when = when.map(|text| defined.read(text));
    let methods =
        if methods.is_empty() { Methods::any() } else { methods.iter().cloned().collect() };
    Rule::new(name, methods, role.as_ref(), when, &defined.roles).unwrap()
}

/// The example of the documentation.
fn orders() -> Plan {
    let change = [Method::POST, Method::PATCH, Method::DELETE];
    let inside = "ip in net.office || (mtls && ip in net.mesh)";
    let freeze = "incident >= 2 && !(\"responder\" in roles)";
    Plan::rules(vec![
        rule("orders.allow[1]", &[Method::GET, Method::HEAD], Some("reader"), None),
        rule("orders.allow[2]", &change, Some("writer"), Some(inside)),
    ])
    .denying(vec![rule("orders.freeze-writes", &change, None, Some(freeze))])
}

fn roles(names: &[&str]) -> RoleSet {
    Defined::shared().roles.closure(names.iter().copied()).unwrap()
}

fn asks(method: Method, names: &[&str]) -> World {
    World { method, roles: roles(names), ..World::default() }
}

fn refusal(plan: &Plan, world: &World) -> (Reason, String) {
    let refused = decide(plan, &world.facts()).expect_err("a refusal");
    (refused.reason, refused.chain())
}

#[test]
fn what_no_rule_allows_is_refused() {
    let everything = asks(Method::GET, &["writer", "responder"]);

    assert_eq!(
        refusal(&Plan::rules(Vec::new()), &everything),
        (Reason::NotAllowed, "no allow rule matched".to_owned())
    );
    assert_eq!(
        refusal(&Plan::default(), &everything),
        (Reason::NotAllowed, "no allow rule matched".to_owned())
    );
    assert_eq!(
        refusal(&orders(), &asks(Method::PUT, &["writer"])),
        (Reason::NotAllowed, "no allow rule matched (orders.allow[2].method)".to_owned())
    );
}

#[test]
fn the_permit_names_the_rule_and_the_role_it_asked_for() {
    let plan = orders();
    let (read, write) = (asks(Method::GET, &["writer"]), asks(Method::POST, &["writer"]));

    let read = decide(&plan, &read.facts()).unwrap();
    let write = decide(&plan, &write.facts()).unwrap();

    assert_eq!((read.rule(), read.role().unwrap().as_str()), ("orders.allow[1]", "reader"));
    assert_eq!((write.rule(), write.role().unwrap().as_str()), ("orders.allow[2]", "writer"));
}

#[test]
fn a_refusal_names_the_last_rule_that_got_furthest_and_its_failing_part() {
    let plan = orders();
    let outside = World { ip: "203.0.113.9".parse().unwrap(), ..asks(Method::DELETE, &["writer"]) };

    assert_eq!(refusal(&plan, &outside).1, "no allow rule matched (orders.allow[2].when)");
    assert_eq!(
        refusal(&plan, &asks(Method::GET, &[])).1,
        "no allow rule matched (orders.allow[1].role)"
    );
    assert_eq!(
        refusal(&plan, &asks(Method::POST, &["reader"])).1,
        "no allow rule matched (orders.allow[2].role)"
    );
    assert_eq!(
        refusal(&plan, &asks(Method::OPTIONS, &["reader"])).1,
        "no allow rule matched (orders.allow[2].method)"
    );
}

#[test]
fn a_deny_that_matches_wins_over_every_allow() {
    let allowed = World { incident: 1, ..asks(Method::POST, &["writer"]) };
    let frozen = World { incident: 2, ..asks(Method::POST, &["writer"]) };
    let responder = World { incident: 5, ..asks(Method::POST, &["writer", "responder"]) };
    let reading = World { incident: 5, ..asks(Method::GET, &["writer"]) };

    let plan = orders();

    assert!(decide(&plan, &allowed.facts()).is_ok());
    assert_eq!(
        refusal(&plan, &frozen),
        (Reason::DeniedByRule, "orders.freeze-writes matched".to_owned())
    );
    assert!(decide(&plan, &responder.facts()).is_ok());
    assert!(decide(&plan, &reading.facts()).is_ok());
}

#[test]
fn unknown_in_a_deny_denies_and_unknown_in_an_allow_does_not_allow() {
    let tenant = "claims.tenant == \"evil\"";
    let plan = |allow, deny| {
        let allow = rule("r.allow[1]", &[], Some("reader"), allow);
        Plan::rules(vec![allow]).denying(vec![rule("r.deny[1]", &[], None, deny)])
    };
    let known = asks(Method::GET, &["reader"]);
    let unknown = World { claims: None, ..asks(Method::GET, &["reader"]) };

    let denying = plan(None, Some(tenant));
    assert!(decide(&denying, &known.facts()).is_ok());
    assert_eq!(
        refusal(&denying, &unknown),
        (
            Reason::DeniedByRule,
            "r.deny[1] cannot be ruled out (claims.tenant is unknown)".to_owned()
        )
    );

    let not_evil = "claims.tenant != \"evil\"";
    let allowing = plan(Some(not_evil), Some("false"));
    assert!(decide(&allowing, &known.facts()).is_ok());
    let refused = decide(&allowing, &unknown.facts()).unwrap_err();
    assert_eq!(refused.chain(), "no allow rule matched (r.allow[1].when)");
    let denied = refused.cause.downcast_ref::<Denied>().unwrap();
    let Denied::NotAllowed { part: Part::When, unknown: Some(named), .. } = denied else {
        panic!("{denied:?}")
    };
    assert_eq!(named.to_string(), "claims.tenant");
}

#[test]
fn a_public_route_admits_nobody_whom_it_denies() {
    let deny = rule("site.deny[1]", &[], None, Some("region in [\"DE\"]"));
    let plan = Plan::public().denying(vec![deny]);
    let nobody = |region| World { known: false, region, ..asks(Method::DELETE, &[]) };

    let elsewhere = nobody(Some("FR"));
    let permit = decide(&plan, &elsewhere.facts()).unwrap();
    assert_eq!((permit.rule(), permit.role()), ("public", None));
    assert_eq!(refusal(&plan, &nobody(Some("DE"))).1, "site.deny[1] matched");
    assert_eq!(
        refusal(&plan, &nobody(None)).1,
        "site.deny[1] cannot be ruled out (region is unknown)"
    );
}

#[test]
fn a_rule_with_a_role_is_for_callers_only() {
    let allow = Plan::rules(vec![rule("r.allow[1]", &[], Some("reader"), None)]);
    let by_address = Plan::rules(vec![rule("r.allow[1]", &[], None, Some("ip in net.office"))]);
    let nobody = World { known: false, ..asks(Method::GET, &["reader"]) };

    assert_eq!(refusal(&allow, &nobody).1, "no allow rule matched (r.allow[1].role)");
    let permit = decide(&by_address, &nobody.facts()).unwrap();
    assert_eq!((permit.rule(), permit.role()), ("r.allow[1]", None));
}

#[test]
fn the_incident_level_changes_decisions_without_another_plan() {
    let plan = orders();
    let answers: Vec<bool> = (0..=5)
        .map(|incident| {
            let world = World { incident, ..asks(Method::POST, &["writer"]) };
            decide(&plan, &world.facts()).is_ok()
        })
        .collect();

    assert_eq!(answers, [true, true, false, false, false, false]);
}

#[test]
fn a_trace_tells_every_part_of_every_rule_and_what_it_saw() {
    let world =
        World { incident: 2, ip: "10.0.0.9".parse().unwrap(), ..asks(Method::POST, &["reader"]) };

    let Trace { outcome, deny, allow } = trace(&orders(), &world.facts());

    assert_eq!(outcome, Outcome::Denied(Denied::Matched { rule: "orders.freeze-writes".into() }));
    let [freeze] = &*deny else { panic!() };
    assert_eq!((freeze.matches, freeze.method, freeze.role), (Tri::True, true, None));
    assert_eq!(freeze.when, Some(Tri::True));
    let seen: Vec<_> = freeze.tests.iter().map(|seen| (&*seen.test, seen.holds)).collect();
    assert_eq!(seen, [("incident >= 2", Tri::True), ("\"responder\" in roles", Tri::False)]);
    assert_eq!(freeze.tests[0].values, [("incident".to_owned(), Some("2".to_owned()))]);
    let [read, write] = &*allow else { panic!() };
    assert_eq!((read.matches, read.method, read.role), (Tri::False, false, Some(true)));
    assert_eq!((read.when, read.tests.len()), (None, 0));
    assert_eq!((write.method, write.role, write.when), (true, Some(false), Some(Tri::False)));
    let seen: Vec<_> = write.tests.iter().map(|seen| (&*seen.test, seen.holds)).collect();
    assert_eq!(
        seen,
        [("ip in net.office", Tri::False), ("mtls", Tri::False), ("ip in net.mesh", Tri::True)]
    );
    assert_eq!(write.tests[0].values, [("ip".to_owned(), Some("10.0.0.9".to_owned()))]);
}

#[test]
fn a_trace_shows_values_in_quotes_and_absent_ones_as_none() {
    let when = "header.x-tenant == claims.ghost && \"pay\" in claims.teams && time.work && \
                claims.level < 9 && \"x\" in scopes";
    let plan = Plan::rules(vec![rule("r.allow[1]", &[], None, Some(when))]);

    let seen = trace(&plan, &World::default().facts()).allow.remove(0).tests;

    let values: Vec<(&str, Option<&str>)> = seen
        .iter()
        .flat_map(|seen| &seen.values)
        .map(|(name, value)| (&**name, value.as_deref()))
        .collect();
    assert_eq!(
        values,
        [
            ("header.x-tenant", Some("\"acme\"")),
            ("claims.ghost", None),
            ("claims.teams", Some("[\"pay\", \"ops\"]")),
            ("now", Some("2026-11-18T09:00:00.000000Z")),
            ("claims.level", Some("3")),
            ("scopes", Some("[\"orders\", \"profile\"]")),
        ]
    );
}

const CONDITIONS: [&str; 7] = [
    "mtls",
    "ip in net.office",
    "claims.tenant == \"acme\"",
    "claims.ghost == \"x\" || incident >= 3",
    "!(region in [\"DE\"])",
    "\"responder\" in roles && claims.admin",
    "true",
];
const METHODS: [Method; 3] = [Method::GET, Method::POST, Method::DELETE];
const ROLES: [&str; 3] = ["reader", "writer", "responder"];

type RawRule = (Vec<Method>, Option<&'static str>, Option<&'static str>);

fn raw_rules(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<RawRule>> {
    let methods = subsequence(METHODS.to_vec(), 1..=3);
    vec(
        (methods, option::of(select(ROLES.to_vec())), option::of(select(CONDITIONS.to_vec()))),
        count,
    )
}

fn rules(kind: &str, raw: &[RawRule]) -> Vec<Rule> {
    (1..)
        .zip(raw)
        .map(|(n, (methods, role, when))| rule(&format!("r.{kind}[{n}]"), methods, *role, *when))
        .collect()
}

fn request() -> impl Strategy<Value = World> {
    let held = subsequence(ROLES.to_vec(), 0..=3);
    let region = option::of(select(vec!["DE", "FR"]));
    let ip = select(vec!["198.51.100.1", "203.0.113.1"]);
    (select(METHODS.to_vec()), held, region, ip, 0..=5_u8, any::<[bool; 3]>()).prop_map(
        |(method, held, region, ip, incident, [mtls, known, claims])| {
            let world = World { region, incident, mtls, known, ..asks(method, &held) };
            let claims = world.claims.clone().filter(|_| claims);
            World { ip: ip.parse().unwrap(), claims, ..world }
        },
    )
}

/// Which rules match, may match, or do not: one by one, with nothing shared.
fn plain(raw: &RawRule, world: &World) -> Tri {
    let (methods, role, when) = raw;
    let held = |role: &str| {
        world.known && Defined::shared().roles.named(world.roles).any(|one| one.as_str() == role)
    };
    if !methods.contains(&world.method) || role.is_some_and(|role| !held(role)) {
        return Tri::False;
    }
    when.map_or(Tri::True, |when| Defined::shared().read(when).holds(&world.facts()))
}

proptest! {
    /// The model looks at rules one by one, and at names of roles.
    #[test]
    fn a_decision_equals_that_of_a_plain_model(
        public in any::<bool>(),
        allow in raw_rules(0..4),
        deny in raw_rules(0..3),
        world in request(),
    ) {
        let base = if public { Plan::public() } else { Plan::rules(rules("allow", &allow)) };
        let plan = base.denying(rules("deny", &deny));

        let denying = (1..).zip(&deny).find(|(_, raw)| plain(raw, &world) != Tri::False);
        let allowing = (1..).zip(&allow).find(|(_, raw)| plain(raw, &world) == Tri::True);
        let decided = decide(&plan, &world.facts());

        match (denying, public, allowing) {
            (Some((n, raw)), ..) => {
                let refused = decided.unwrap_err();
                prop_assert_eq!(refused.reason, Reason::DeniedByRule);
                let wanted = match plain(raw, &world) {
                    Tri::True => format!("r.deny[{n}] matched"),
                    Tri::False | Tri::Unknown => format!("r.deny[{n}] cannot be ruled out ("),
                };
                prop_assert!(refused.chain().starts_with(&wanted), "{} {}", refused.chain(), wanted);
            }
            (None, true, _) => prop_assert_eq!(decided.unwrap().rule(), "public"),
            (None, false, Some((n, (_, role, _)))) => {
                let permit = decided.unwrap();
                prop_assert_eq!(permit.rule(), format!("r.allow[{n}]"));
                prop_assert_eq!(permit.role().map(Role::as_str), *role);
            }
            (None, false, None) => {
                let refused = decided.unwrap_err();
                prop_assert_eq!(refused.reason, Reason::NotAllowed);
                prop_assert!(refused.chain().starts_with("no allow rule matched"));
            }
        }
    }

    #[test]
    fn another_deny_never_allows_more(
        public in any::<bool>(),
        allow in raw_rules(0..4),
        mut deny in raw_rules(0..3),
        more in raw_rules(1..2),
        world in request(),
    ) {
        let base = if public { Plan::public() } else { Plan::rules(rules("allow", &allow)) };
        let few = base.clone().denying(rules("deny", &deny));
        deny.extend(more);
        let many = base.denying(rules("deny", &deny));

        if decide(&many, &world.facts()).is_ok() {
            prop_assert!(decide(&few, &world.facts()).is_ok());
        }
    }

    #[test]
    fn knowing_less_never_allows_what_knowing_more_refuses(
        allow in raw_rules(0..4),
        deny in raw_rules(0..3),
        mut world in request(),
    ) {
        let plan = Plan::rules(rules("allow", &allow)).denying(rules("deny", &deny));
        let full = decide(&plan, &world.facts()).is_ok();

        (world.region, world.claims) = (None, None);
        let less = decide(&plan, &world.facts()).is_ok();

        prop_assert!(full || !less);
    }

    #[test]
    fn a_trace_says_what_was_decided(
        allow in raw_rules(0..4),
        deny in raw_rules(0..3),
        world in request(),
    ) {
        let plan = Plan::rules(rules("allow", &allow)).denying(rules("deny", &deny));

        let traced = trace(&plan, &world.facts());

        match (decide(&plan, &world.facts()), traced.outcome) {
            (Ok(permit), Outcome::Allowed { rule, role }) => {
                prop_assert_eq!((permit.rule(), permit.role()), (&*rule, role.as_ref()));
            }
            (Err(refused), Outcome::Denied(denied)) => {
                prop_assert_eq!((refused.reason, refused.chain()), (denied.reason(), denied.to_string()));
            }
            (decided, outcome) => prop_assert!(false, "{decided:?} {outcome:?}"),
        }
        for (traced, raw) in traced.allow.iter().zip(&allow).chain(traced.deny.iter().zip(&deny)) {
            prop_assert_eq!(traced.matches, plain(raw, &world));
        }
    }
}
