//! Routes: rules, paths that stay as they are, rewrites, hosts; and what a request's route tells.

use enforcer_authn::{Bindings, KeySource, RoleValues, Unbound};
use enforcer_inspect::{Head, normalise_or};
use expect_test::expect;
use http::Request;

use super::{SMALL, code_of, read, shipped_text};
use crate::{Matched, Policy, TrailingSlash};

#[test]
fn rules_go_by_their_names_or_by_their_place_counted_from_one() {
    let policy = read(&shipped_text("incident-ready.toml")).unwrap();

    let orders = &policy.routes()[0].authz;
    let names = |rules: &[enforcer_authz::Rule]| -> Vec<String> {
        rules.iter().map(|rule| rule.name().to_string()).collect()
    };
    assert_eq!(names(orders.allow()), ["orders.allow[1]", "orders.allow[2]"]);
    assert_eq!(names(orders.deny()), ["orders.freeze-writes", "orders.office-only"]);
    assert!(orders.deny()[1].methods().is_any());
    let catalogue = &policy.routes()[1].authz;
    assert!(catalogue.is_public());
    assert_eq!(names(catalogue.deny()), ["catalogue.closed"]);
}

#[test]
fn each_problem_of_a_route_has_its_code() {
    let with = |from: &str, to: &str| {
        assert!(SMALL.contains(from), "{from}");
        code_of(&SMALL.replace(from, to))
    };
    let keys = |pattern: &str, keys: &str| {
        code_of(
            &SMALL
                .replace("match = \"*/v1/orders/{**}\"", &format!("match = \"{pattern}\"\n{keys}")),
        )
    };

    assert_eq!(with("  role = \"reader\"\n", ""), ["E-POL-003"]);
    assert_eq!(
        with(
            "  role = \"reader\"\n",
            "  role = \"reader\"\n  name = 'a'\n  [[route.allow]]\n  method='PUT'\n  role='reader'\n  name = 'a'\n"
        ),
        ["E-POL-011"]
    );
    assert_eq!(keys("*/a/", ""), ["E-POL-005"]);
    assert_eq!(keys("*/a%2Fb", ""), ["E-POL-029"]);
    assert_eq!(keys("*/a%2Fb;c", "paths = ['encoded-slash']"), ["E-POL-029"]);
    assert_eq!(keys("*/a%2Fb;c", "paths = ['encoded-slash', 'matrix']"), [""; 0]);
    assert_eq!(keys("*/a/{**}", "paths = ['matrix']"), ["E-POL-029"]);
    assert_eq!(keys("*/a", "paths = ['matrix']"), ["E-POL-109"]);
    assert_eq!(keys("*/a", "paths = ['dots']"), ["E-POL-005"]);
    assert_eq!(keys("*/a/%2e%2e", "paths = ['encoded-slash']"), ["E-POL-005"]);
    assert_eq!(keys("*/a%2F..%2Fb", "paths = ['encoded-slash']"), ["E-POL-005"]);
    assert_eq!(keys("*/a%2Fb", "paths = ['encoded-slash']\nrewrite = '/v2'"), ["E-POL-028"]);
    assert_eq!(keys("*/api/{**}", "strip = '/api'"), [""; 0]);
    assert_eq!(keys("*/api/{**}", "strip = '/ap'"), ["E-POL-030"]);
    assert_eq!(keys("*/{x}/{**}", "strip = '/api'"), ["E-POL-030"]);
    assert_eq!(keys("*/api/{**}", "strip = '/api/'"), ["E-POL-005"]);
    assert_eq!(keys("*/api/{**}", "rewrite = '/../x'"), ["E-POL-005"]);
    assert_eq!(keys("*/a", "require = 'password'"), ["E-POL-005"]);
    assert_eq!(keys("*/a", "upgrade = ['h2c']"), ["E-POL-005"]);
    assert_eq!(keys("*/{a}/{a}", ""), ["E-POL-005"]);
    let public = "public = true\nrequire = 'token'\n";
    assert_eq!(
        with("  [[route.allow]]\n  method = \"GET\"\n  role = \"reader\"\n", public),
        ["E-POL-028"]
    );
    let rules: String = (0..129).map(|_| "  [[route.deny]]\n  when = 'mtls'\n").collect();
    assert_eq!(code_of(&format!("{SMALL}{rules}")), ["E-POL-032"]);
}

#[test]
fn a_path_that_is_refused_says_what_to_opt_out_of() {
    let text = SMALL.replace("*/v1/orders/{**}", "*/files/a%2Fb;v=1");

    let problems = read(&text).unwrap_err();

    expect![[r#"
        error[E-POL-029]: requests for `*/files/a%2Fb;v=1` are refused
          --> policy.toml:11:9
           |
        11 | match = "*/files/a%2Fb;v=1"
           |         ^^^^^^^^^^^^^^^^^^^
           = hint: another spelling, or `paths = ["encoded-slash", "matrix"]`"#]]
    .assert_eq(&problems.to_string());
}

#[test]
fn a_path_without_a_canonical_form_reaches_its_own_route_and_no_other() {
    let policy = read(&shipped_text("multi-tenant.toml")).unwrap();
    let routed = |path: &str| {
        let head = head(&policy, path)?;
        policy.route(&head).map(|matched| matched.route.name.to_string())
    };

    assert_eq!(routed("/legacy/tenants%2Fshared/terms"), Some("old-client".to_owned()));
    assert_eq!(routed("/v1/tenants/acme/documents/7"), Some("documents".to_owned()));
    for path in [
        "/legacy/tenants%2fshared/terms",
        "/legacy/tenants%2Fshared/terms/",
        "/legacy/tenants/shared/terms",
        "/legacy/tenants%2Fother/terms",
        "/v1/tenants/acme/documents/a%2Fb",
    ] {
        assert_eq!(routed(path), None, "{path}");
    }
    assert!(policy.route_for("api.example.com", "/legacy/tenants%2Fshared/terms").is_none());
}

#[test]
fn parameters_are_decoded_and_only_those_that_are_read() {
    let policy = read(&shipped_text("multi-tenant.toml")).unwrap();
    let params = |path: &str| -> Vec<(String, String)> {
        let matched = policy.route_for("api.example.com", path).unwrap();
        matched
            .params()
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_string()))
            .collect()
    };

    let tenant = |value: &str| [("tenant".to_owned(), value.to_owned())];
    assert_eq!(params("/v1/tenants/acme/documents/7/"), tenant("acme"));
    assert_eq!(params("/v1/tenants/m%C3%bcller%20%26%20co/documents"), tenant("m\u{fc}ller & co"));
    assert_eq!(params("/v1/tenants/a%40b/documents"), tenant("a@b"));
    let oidc = read(&shipped_text("oidc.toml")).unwrap();
    let exports = oidc.route_for("api.example.com", "/v1/exports/7").unwrap();
    assert_eq!(exports.params(), []);
}

#[test]
fn the_path_that_conditions_see_has_one_spelling() {
    let policy = read(SMALL).unwrap();
    let path = |path: &str| {
        let matched: Matched<'_> = policy.route_for("h", path).unwrap();
        matched.path.into_owned()
    };

    assert_eq!(path("/v1/orders/a:b"), "/v1/orders/a:b");
    assert_eq!(path("/v1/orders/a%3ab/"), "/v1/orders/a:b");
}

#[test]
fn a_query_that_a_condition_reads_has_one_reading() {
    let text = format!("{SMALL}  when = 'query.tenant == \"a\"'\n");
    let policy = read(&text).unwrap();
    let route = &policy.routes()[0];

    let values = route.query(Some("x=1&tenant=a%20b&tenants=7")).unwrap();
    assert_eq!(values, [("tenant".into(), "a b".into())]);
    assert_eq!(route.query(Some("x=1")).unwrap(), []);
    for query in ["tenant=a&tenant=b", "tenant=a&TENANT=b", "tenant[]=a", "x;tenant=a"] {
        let refused = route.query(Some(query)).unwrap_err();
        assert_eq!(refused.reason, enforcer_model::Reason::QueryDuplicate, "{query}");
    }
    let other = read(SMALL).unwrap();
    assert_eq!(other.routes()[0].query(Some("tenant=a&tenant=b")).unwrap(), []);
}

#[test]
fn what_a_limit_reads_is_read_on_every_route() {
    let text =
        format!("{SMALL}[limit]\nl = {{ by = 'ip', rate = '1/s', when = 'query.big == \"1\"' }}\n");
    let policy = read(&text).unwrap();

    assert!(policy.routes()[0].query(Some("big=1&big=0")).is_err());
}

#[test]
fn a_strict_host_has_routes_that_end_in_a_slash() {
    let text = format!(
        "{SMALL}[host.\"api.example.com\"]\ntrailing_slash = 'strict'\n\
         [[route]]\nname = 'docs'\nmatch = 'API.example.com/docs/'\nupstream = 'orders'\npublic = true\n"
    );
    let policy = read(&text).unwrap();

    assert_eq!(policy.host_rules("api.example.com").trailing_slash, TrailingSlash::Strict);
    assert_eq!(policy.host_rules("other").trailing_slash, TrailingSlash::Same);
    let routed = |path| policy.route_for("api.example.com", path).map(|m| m.route.name.to_string());
    assert_eq!(routed("/docs/"), Some("docs".to_owned()));
    assert_eq!(routed("/docs"), None);
    assert_eq!(code_of(&text.replace("trailing_slash = 'strict'", "")), ["E-POL-005"]);
    let unused = text.replace("*/v1", "h/v1").replace("host.\"api", "host.\"app");
    assert!(code_of(&unused).contains(&"E-POL-005"));
    assert_eq!(code_of(&format!("{SMALL}[host.\"a:80\"]\n")), ["E-POL-005"]);
}

#[test]
fn an_issuer_becomes_what_it_says_and_without_files_its_tokens_are_not_good() {
    let policy = read(&shipped_text("multi-tenant.toml")).unwrap();

    let [customers, staff] = policy.issuers() else { panic!() };
    assert_eq!((&*customers.name, &*customers.url), ("customers", "https://login.example.com"));
    assert_eq!(customers.roles, RoleValues::Scopes);
    assert_eq!((customers.bindings, customers.unbound), (Bindings::Either, Unbound::Accepted));
    assert_eq!(customers.keys, KeySource::Discovery);
    assert_eq!(staff.unbound, Unbound::Refused);
    assert_eq!(staff.roles, RoleValues::Claim(["realm_access".into(), "roles".into()].into()));
    let oidc = read(&shipped_text("oidc.toml")).unwrap();
    assert_eq!(oidc.issuers()[0].introspection, None, "its secret is in a file");
}

#[test]
fn each_problem_of_an_issuer_has_its_code() {
    let base = |keys: &str| {
        format!(
            "{SMALL}[role.token]\nfrom = 'issuer:corp/x'\nincludes = 'reader'\n\
             [issuer.corp]\nurl = 'https://idp'\naudience = 'a'\nalgs = 'ES256'\n{keys}\n"
        )
    };
    let with = |from: &str, to: &str| code_of(&base("").replace(from, to));

    assert_eq!(code_of(&base("")), [""; 0]);
    assert_eq!(with("issuer:corp/x", "issuer:crop/x")[..1], ["E-POL-010"]);
    assert_eq!(with("issuer:corp/x", "issuer:corp"), ["E-POL-005"]);
    assert_eq!(with("issuer:corp/x", "key"), ["E-POL-101"]);
    assert_eq!(with("'ES256'", "['ES256', 'HS256']"), ["E-POL-028"]);
    assert_eq!(with("'ES256'", "'HS256'"), ["E-POL-022"]);
    assert_eq!(with("'ES256'", "'none'"), ["E-POL-005"]);
    assert_eq!(with("'ES256'", "[]"), ["E-POL-005"]);
    assert_eq!(with("https://idp", "http://idp"), ["E-POL-005"]);
    assert_eq!(with("https://idp", "idp"), ["E-POL-005"]);
    assert_eq!(with("https://idp", "http://127.0.0.1:8080"), [""; 0]);
    assert_eq!(code_of(&base("jwks = 'http://idp/jwks'")), ["E-POL-005"]);
    assert_eq!(code_of(&base("jwks = 'https://idp/jwks'\nkeys = 'k'")), ["E-POL-028"]);
    assert_eq!(code_of(&base("secret = 'k'")), ["E-POL-022"]);
    assert_eq!(code_of(&base("roles = 'roles'")), ["E-POL-005"]);
    assert_eq!(code_of(&base("introspection = { client = 'c' }")), ["E-POL-003"]);
    assert_eq!(
        code_of(&base("introspection = { client = 'c', secret = 's', cache = '31s' }")),
        ["E-POL-005"]
    );
    assert_eq!(
        code_of(&base("[issuer.two]\nurl = 'https://idp'\naudience = 'b'\nalgs = 'ES256'"))[..1],
        ["E-POL-031"]
    );
    let two = base("[issuer.two]\nurl = 'https://two'\naudience = 'a'\nalgs = 'ES256'");
    assert!(code_of(&two).contains(&"E-POL-110"));
    let many: String = (0..65)
        .map(|n| format!("[issuer.i{n}]\nurl='https://i{n}'\naudience='i{n}'\nalgs='ES256'\n"))
        .collect();
    assert_eq!(code_of(&base(&many)), ["E-POL-032"]);
}

#[test]
fn keys_and_the_word_to_upstreams_are_as_the_policy_says() {
    let policy = read(&shipped_text("oidc.toml")).unwrap();
    let day = std::time::Duration::from_secs(86_400);

    assert_eq!(policy.keys().every, Some(90 * day));
    assert_eq!(policy.keys().grace, 3 * day);
    assert_eq!(*policy.keys().notify, [30 * day, 7 * day, day]);
    assert_eq!(*read(SMALL).unwrap().keys(), enforcer_authn::KeyPlan::default());
    let identity =
        read(&format!("{SMALL}[identity]\nissuer = 'https://gw'\nttl = '30s'\n")).unwrap();
    assert_eq!(identity.identity().issuer.as_deref(), Some("https://gw"));
    assert_eq!(identity.identity().ttl.as_secs(), 30);
    let keys = |line: &str| code_of(&format!("{SMALL}[keys]\n{line}\n"));
    assert_eq!(keys("prefix = 'E_'"), ["E-POL-005"]);
    assert_eq!(keys("rotate = { every = '1d', grace = '2d' }"), ["E-POL-005"]);
    assert_eq!(keys("webhook = 'http://hooks.example/x'"), ["E-POL-005"]);
    let many: Vec<String> = (1..=9).map(|n| format!("'{n}d'")).collect();
    assert_eq!(keys(&format!("rotate = {{ notify = [{}] }}", many.join(","))), ["E-POL-032"]);
}

#[test]
fn the_bounds_of_roles_and_names_are_kept() {
    let roles: String = (0..512).map(|n| format!("r{n} = {{ from = 'key' }}\n")).collect();
    let text = SMALL.replace("reader = {", &format!("{roles}reader = {{"));
    assert!(code_of(&text).contains(&"E-POL-032"));
    let nets: String = (0..4_097).map(|n| format!("n{n} = '10.0.0.0/8'\n")).collect();
    assert_eq!(code_of(&format!("{SMALL}[net]\n{nets}"))[0], "E-POL-032");
}

#[test]
fn a_rewrite_is_authorised_again_by_whatever_route_it_leads_to() {
    let text = SMALL
        .replace("match = \"*/v1/orders/{**}\"", "match = \"*/api/{**}\"\nstrip = '/api'")
        + "[[route]]\nname = 'admin'\nmatch = '*/admin/{**}'\nupstream = 'orders'\nallow = [{ method = 'GET', role = 'reader', when = 'mtls' }]\n";
    let policy = read(&text).unwrap();
    let head = head(&policy, "/api/admin/x").unwrap();
    let first = policy.route(&head).unwrap().route;

    let path = head.path.rewritten(first.rewrite.as_ref().unwrap()).unwrap();

    let second = policy.route_for("h", path.as_str()).unwrap().route;
    assert_eq!((&*first.name, path.as_str(), &*second.name), ("orders", "/admin/x", "admin"));
    assert_ne!(first.number, second.number);
}

fn head(policy: &Policy, path: &str) -> Option<Head> {
    let request = Request::get(path).header("host", "api.example.com").body(()).unwrap();
    let has_exact =
        |host: &enforcer_inspect::Host, raw: &str| policy.exact_route(host.as_str(), raw).is_some();
    normalise_or(&request.into_parts().0, has_exact).ok()
}
