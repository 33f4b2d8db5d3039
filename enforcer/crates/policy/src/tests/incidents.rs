//! What becomes stricter at which level of incident.

use enforcer_authn::Binding;
use enforcer_limits::Factor;
use enforcer_model::CredentialKind;

use super::{code_of, read};
use crate::{Policy, Require, Requires, Shown};

const POLICY: &str = r#"
version = 1
[listen.local]
address = "127.0.0.1:8080"
[issuer.corp]
url = "https://idp"
audience = "a"
algs = "ES256"
[role]
reader = { from = ["key", "issuer:corp/read"] }
admin = { from = ["key", "issuer:corp/admin"], includes = ["reader"] }
[limit]
a = { by = "ip", rate = "10/s" }
b = { by = "principal", rate = "10/s" }
day = { by = "principal", quota = "5/day" }
[upstream.orders]
hosts = ["127.0.0.1:9000"]
[incident.1]
limits = { anonymous = 0.2, a = 0.5 }
[incident.3]
limits = { all = 0.75, b = 0.125, reader = 0, admin = 1 }
require = { orders = "bound", health = "mtls" }
[incident.4]
require = { orders = "mtls" }
[[route]]
name = "orders"
match = "*/v1/orders/{**}"
upstream = "orders"
limits = ["a", "b", "day"]
require = "token"
allow = [{ method = "PUT", role = "admin" }, { method = "GET", role = "reader" }]
[[route]]
name = "health"
match = "*/healthz"
upstream = "orders"
public = true
"#;

#[test]
fn a_factor_holds_at_its_level_and_above_and_the_smallest_of_all_counts() {
    let policy = read(POLICY).unwrap();

    for (level, limit, role, parts) in [
        (0, "a", None, 1_000),
        (1, "a", None, 200),
        (1, "b", None, 200),
        (1, "a", Some("admin"), 500),
        (1, "b", Some("admin"), 1_000),
        (2, "a", Some("reader"), 500),
        (3, "a", Some("reader"), 0),
        (3, "b", Some("reader"), 0),
        // Spared as an admin, though an admin is a reader as well; what is meant for all is for all.
        (3, "a", Some("admin"), 500),
        (3, "b", Some("admin"), 125),
        (3, "day", Some("admin"), 750),
        (5, "a", None, 200),
        (99, "b", Some("admin"), 125),
    ] {
        let roles = role.map(|role| policy.roles().closure([role]).unwrap());
        let limit = policy.limit(limit).unwrap();

        let factor = policy.incident(level).factor(limit, roles.as_ref());

        assert_eq!(factor, Factor::per_thousand(parts), "{level} {limit:?} {role:?}");
    }
}

#[test]
fn what_is_required_adds_up_with_the_level() {
    let policy = read(POLICY).unwrap();

    let words = |route: &str, level| {
        let route = policy.routes().iter().find(|known| &*known.name == route).unwrap();
        let required = policy.incident(level).require(route);
        required.iter().map(Require::as_str).collect::<Vec<_>>()
    };
    assert_eq!(words("orders", 0), ["token"]);
    assert_eq!(words("orders", 2), ["token"]);
    assert_eq!(words("orders", 3), ["bound", "token"]);
    assert_eq!(words("orders", 5), ["bound", "mtls", "token"]);
    assert_eq!(words("health", 2), [""; 0]);
    assert_eq!(words("health", 4), ["mtls"]);
}

#[test]
fn what_a_caller_has_shown_meets_what_it_proves_and_nothing_else() {
    let key = Shown { kind: Some(CredentialKind::ApiKey), ..Shown::default() };
    let token = Shown { kind: Some(CredentialKind::Token), ..Shown::default() };
    let dpop = Shown { bound: Some(Binding::Dpop), ..token };
    let bound = Shown { bound: Some(Binding::Certificate), mtls: true, ..token };
    let mtls = Shown { mtls: true, ..Shown::default() };

    for (require, met) in [
        (Require::Bound, &[dpop, bound][..]),
        (Require::Dpop, &[dpop]),
        (Require::Key, &[key]),
        (Require::Mtls, &[bound, mtls]),
        (Require::Token, &[token, dpop, bound]),
    ] {
        for shown in [Shown::default(), key, token, dpop, bound, mtls] {
            let unmet = Requires::from(require).unmet(shown);

            assert_eq!(unmet.is_none(), met.contains(&shown), "{require:?} {shown:?}");
        }
    }
    assert_eq!(Requires::default().unmet(Shown::default()), None);
    let both = Requires::from(Require::Token).and(Require::Mtls.into());
    assert_eq!(both.unmet(token), Some(Require::Mtls));
    assert_eq!(both.unmet(bound), None);
}

#[test]
fn each_problem_of_an_incident_has_its_code() {
    let with = |from: &str, to: &str| {
        assert!(POLICY.contains(from), "{from}");
        code_of(&POLICY.replace(from, to))
    };

    assert_eq!(code_of(POLICY), [""; 0]);
    assert_eq!(with("[incident.4]", "[incident.6]"), ["E-POL-005"]);
    assert_eq!(with("a = 0.5", "a = 1.5"), ["E-POL-005"]);
    assert_eq!(with("a = 0.5", "a = 0.0005"), ["E-POL-005"]);
    assert_eq!(with("a = 0.5", "a = -0.5"), ["E-POL-005"]);
    assert_eq!(with("a = 0.5", "a = '0.5'"), ["E-POL-004"]);
    assert_eq!(with("a = 0.5", "aa = 0.5"), ["E-POL-010"]);
    assert_eq!(with("health = \"mtls\"", "heath = \"mtls\""), ["E-POL-010"]);
    assert_eq!(with("health = \"mtls\"", "health = \"token\""), ["E-POL-028"]);
    assert_eq!(
        with("require = { orders = \"mtls\" }", "require = { orders = \"key\" }"),
        ["E-POL-028"]
    );
    assert_eq!(
        with("require = { orders = \"mtls\" }", "require = { orders = \"bound\" }"),
        ["E-POL-109"]
    );
    assert_eq!(with("b = 0.125", "a = 0.6"), ["E-POL-109"]);
    assert_eq!(with("b = 0.125", "day = 0.5"), ["E-POL-109"]);
    assert_eq!(with("a = 0.5", "both = 0.5"), ["E-POL-010"]);
    let both = POLICY.replace(
        "[limit]\n",
        "both = { from = 'key' }\n[limit]\nboth = { by = 'ip', rate = '1/s' }\n",
    );
    assert_eq!(code_of(&both.replace("a = 0.5", "both = 0.5")), ["E-POL-011"]);
}

#[test]
fn words_that_stand_for_others_are_no_names() {
    for (from, to) in [("reader = {", "all = {"), ("b = { by", "anonymous = { by")] {
        let codes = code_of(&POLICY.replacen(from, to, 1));

        assert!(codes.contains(&"E-POL-034"), "{codes:?}");
    }
}

#[test]
fn a_level_is_looked_up_and_not_worked_out() {
    let policy: Policy = read(POLICY).unwrap();

    let first: *const _ = policy.incident(3);
    assert!(std::ptr::eq(first, policy.incident(3)));
    assert!(std::ptr::eq(policy.incident(5), policy.incident(200)));
}
