//! What is claimed about all requests is so.

use expect_test::expect;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::read;
use crate::Policy;
use crate::diff::diff;
use crate::trial::{Request, judge};

/// A policy with roles from everywhere; `rules` are those of its route.
fn policy_of(rules: &str) -> String {
    format!(
        r#"version = 1
[listen.local]
address = "127.0.0.1:8080"
[issuer.corp]
url = "https://idp.example.com"
audience = ["https://api.example.com"]
algs = ["ES256"]
[role]
reader = {{ from = ["key", "issuer:corp/read"] }}
writer = {{ from = ["issuer:corp/write"], includes = ["reader"] }}
billing = {{ from = ["spiffe://example.com/ns/pay/*"] }}
[net]
office = ["198.51.100.0/24"]
mesh = ["10.0.0.0/8"]
[time]
work = {{ days = "mon-fri", hours = "08:00-18:00", zone = "Europe/Berlin" }}
[upstream.orders]
hosts = ["127.0.0.1:9000"]
[[route]]
name = "orders"
match = "api.example.com/v1/{{tenant}}/{{**}}"
upstream = "orders"
{rules}
"#
    )
}

fn warned(rules: &str) -> Vec<String> {
    let policy = read(&policy_of(rules)).unwrap_or_else(|problems| panic!("{problems}"));
    let warnings = policy.warnings().iter().filter(|problem| problem.code != "E-POL-101");
    warnings.map(|problem| format!("{} {}", problem.code, problem.message)).collect()
}

#[test]
fn a_condition_that_cannot_hold_is_told_in_its_place() {
    let rules = "[[route.allow]]\nmethod = 'GET'\nrole = 'reader'\n\
                 when = 'ip in net.office && ip in net.mesh'\n";

    let problems = read(&policy_of(rules)).unwrap();
    let shown: Vec<String> = problems
        .warnings()
        .iter()
        .filter(|problem| problem.code == "E-POL-111")
        .map(ToString::to_string)
        .collect();

    expect![[r#"
        warning[E-POL-111]: the condition of orders.allow[1] can never be true
          --> policy.toml:26:8
           |
        26 | when = 'ip in net.office && ip in net.mesh'
           |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
           = hint: the rule allows nothing: correct it, or remove it"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn what_can_never_be_is_found_whatever_the_condition_reads() {
    for never in [
        "incident >= 2 && incident < 2",
        "path.startsWith(\"/v2/\")",
        "param.tenant == \"a/b\"",
        "anonymous && \"reader\" in roles",
        "kind == \"token\" && owner == \"x\"",
        "kind == \"api-key\" && has(claims.tenant)",
        "host == \"other.example.com\"",
        "dpop && kind == \"certificate\"",
        "claims.a == \"x\" && claims.a == \"y\"",
        "claims.level > 3 && claims.level < 4",
        "param.tenant == claims.tenant && param.tenant == \"a\" && claims.tenant == \"b\"",
        "spiffe == \"spiffe://example.com/x\" && !mtls",
    ] {
        let rules = format!("[[route.allow]]\nmethod = 'GET'\nwhen = '{never}'\n");
        let warned = warned(&rules);
        assert!(warned.iter().any(|it| it.starts_with("E-POL-111")), "{never}: {warned:?}");
    }
}

#[test]
fn what_can_be_is_never_called_impossible() {
    for possible in [
        "ip in net.office || (mtls && ip in net.mesh)",
        "path.startsWith(\"/v1/acme/orders\") && path.endsWith(\".json\")",
        "path == \"/v1/acme/orders/7\"",
        "path == \"/v1/acme\"",
        "param.tenant == \"a b\"",
        "param.tenant == claims.tenant && param.tenant != \"acme\"",
        "claims.a == \"x\" && claims.b == \"y\" && claims.a != claims.b",
        "claims.level > 3 && claims.level < 5",
        "time.work && incident == 5",
        "!time.work",
        "\"read\" in scopes && !(\"write\" in scopes) && !(\"writer\" in roles)",
        "param.tenant in claims.tenants",
        "7 in claims.levels",
        "query.page == \"1\" && header[\"x-team\"].startsWith(\"a\")",
        "spiffe.endsWith(\"/api\") && kind == \"token\"",
        "principal == \"token:corp/alice\"",
        "owner == \"team\" && application == \"app\"",
    ] {
        let rules =
            format!("[[route.allow]]\nmethod = 'GET'\nrole = 'reader'\nwhen = '{possible}'\n");
        let warned = warned(&rules);
        assert_eq!(warned, [""; 0], "{possible}");
    }
}

#[test]
fn a_rule_that_others_leave_nothing_to_is_told_with_the_other() {
    let shadowed = warned(
        "[[route.allow]]\nmethod = ['GET', 'HEAD']\nrole = 'reader'\n\
         [[route.allow]]\nmethod = 'GET'\nrole = 'writer'\nwhen = 'mtls'\n",
    );
    let denied = warned(
        "[[route.allow]]\nname = 'writes'\nmethod = 'POST'\nrole = 'writer'\n\
         [[route.deny]]\nname = 'frozen'\nmethod = 'POST'\nwhen = 'incident >= 2 || incident < 2'\n",
    );

    assert_eq!(
        shadowed,
        ["E-POL-102 everything that orders.allow[2] allows is allowed by orders.allow[1]"]
    );
    assert_eq!(
        denied,
        [
            "E-POL-113 nobody can ever use route `orders`",
            "E-POL-102 everything that orders.writes allows is denied by orders.frozen, or allowed before",
            "E-POL-112 the condition of orders.frozen is always true",
        ]
    );
}

#[test]
fn rules_that_ask_for_no_credential_are_told_with_a_request() {
    let warned = warned("[[route.allow]]\nmethod = 'GET'\nwhen = 'ip in net.office'\n");

    assert_eq!(
        warned,
        ["E-POL-114 the rules of route `orders` ask for no credential, and it is not public"]
    );
}

#[test]
fn a_looser_route_inside_a_stricter_one_is_told_with_a_request_that_goes_there() {
    let rules = "[[route.allow]]\nmethod = 'GET'\nrole = 'reader'\n\
                 [[route]]\nname = 'all'\nmatch = 'api.example.com/{**}'\nupstream = 'orders'\n\
                 [[route.allow]]\nmethod = 'GET'\nrole = 'writer'\n";

    let policy = read(&policy_of(rules)).unwrap();
    let overlap = policy.warnings().iter().find(|problem| problem.code == "E-POL-115").unwrap();

    assert!(overlap.message.contains("lies inside `api.example.com/{**}` of route `all`"));
    let hint = overlap.hint.as_deref().unwrap();
    assert!(hint.starts_with("`GET api.example.com/v1/"), "{hint}");
    assert!(hint.contains("goes to `orders` and is allowed"), "{hint}");
}

#[test]
fn a_test_that_is_not_understood_is_an_error_and_one_that_leads_nowhere_a_warning() {
    let rules = "[[route.allow]]\nmethod = 'GET'\nrole = 'reader'\n";
    let with = |run: &str, expect: &str| {
        super::code_of(&format!(
            "{}[[test]]\ndo = '{run}'\nexpect = '{expect}'\n",
            policy_of(rules)
        ))
    };
    let has = |codes: Vec<&'static str>, code: &str| codes.contains(&code);

    assert!(has(with("GET api.example.com/v1/a/b form 1.2.3.4", "allow"), "E-POL-035"));
    assert!(has(with("GET api.example.com/v1/a/b", "alow"), "E-POL-035"));
    assert!(has(with("GET api.example.com/v3/a as reader", "allow"), "E-POL-116"));
    assert!(has(with("GET api.example.com/v1/a/b as raeder", "deny"), "E-POL-116"));
    assert!(!has(with("GET api.example.com/v3/a as reader", "404"), "E-POL-116"));
}

#[test]
fn two_hundred_routes_are_examined_in_little_work() {
    let mut text = policy_of("[[route.allow]]\nmethod = 'GET'\nrole = 'reader'\n");
    for n in 0..200 {
        text.push_str(&format!(
            "[[route]]\nname = 'r{n}'\nmatch = 'api.example.com/r{n}/{{tenant}}/{{**}}'\n\
             upstream = 'orders'\n\
             [[route.allow]]\nmethod = ['GET', 'HEAD']\nrole = 'reader'\n\
             [[route.allow]]\nmethod = ['POST', 'DELETE']\nrole = 'writer'\n\
             when = 'ip in net.office || (mtls && ip in net.mesh)'\n\
             [[route.deny]]\nmethod = ['POST', 'DELETE']\n\
             when = 'incident >= 2 && param.tenant != claims.tenant'\n"
        ));
    }

    let policy = read(&text).unwrap();

    assert!(policy.warnings().iter().all(|problem| problem.code == "E-POL-101"));
}

/// Parts of conditions over a world that is small enough to be looked through.
const PARTS: [&str; 14] = [
    "ip in net.office",
    "mtls",
    "incident >= 2",
    "incident == 5",
    "anonymous",
    "\"writer\" in roles",
    "\"read\" in scopes",
    "kind == \"api-key\"",
    "claims.tenant == \"a\"",
    "param.tenant == claims.tenant",
    "param.tenant == \"a\"",
    "method != \"GET\"",
    "path.endsWith(\"/x\")",
    "has(claims.tenant)",
];

fn condition() -> impl Strategy<Value = String> {
    let part = (select(PARTS.to_vec()), any::<bool>())
        .prop_map(|(part, not)| if not { format!("!({part})") } else { part.to_owned() });
    vec((part, any::<bool>()), 1..4).prop_map(|parts| {
        let mut text = String::new();
        for (n, (part, and)) in parts.into_iter().enumerate() {
            let join = if and { " && " } else { " || " };
            text = if n == 0 { part } else { format!("({text}{join}{part})") };
        }
        text
    })
}

fn plan() -> impl Strategy<Value = String> {
    let methods = select(vec!["'GET'", "'POST'", "['GET', 'POST']"]);
    let role = select(vec!["", "role = 'reader'\n", "role = 'writer'\n", "role = 'billing'\n"]);
    let allow = (methods.clone(), role.clone(), condition()).prop_map(|(methods, role, when)| {
        format!("[[route.allow]]\nmethod = {methods}\n{role}when = '{when}'\n")
    });
    let deny = (methods, role, condition()).prop_map(|(methods, role, when)| {
        format!("[[route.deny]]\nmethod = {methods}\n{role}when = '{when}'\n")
    });
    (vec(allow, 1..3), vec(deny, 0..2))
        .prop_map(|(allow, deny)| format!("{}{}", allow.concat(), deny.concat()))
}

/// Every request of the small world.
fn world() -> Vec<Request> {
    let callers = [
        "",
        " as reader with key",
        " with token issuer=corp",
        " with token issuer=corp scope=read",
        " with token issuer=corp scope=write",
        " with token issuer=corp scope=write claims.tenant=a",
        " with token issuer=corp scope=read claims.tenant=b",
        " with token issuer=corp scope=write scope=read claims.tenant=7",
        " as spiffe://example.com/ns/pay/api",
        " as spiffe://example.com/ns/other",
    ];
    let mut requests = Vec::new();
    for caller in callers {
        for method in ["GET", "POST", "PUT"] {
            for path in ["/v1/a/x", "/v1/b/y", "/v1/c"] {
                for (ip, mtls) in [("198.51.100.7", ""), ("192.0.2.1", " with mtls")] {
                    for incident in [0, 2, 5] {
                        let text = format!(
                            "{method} api.example.com{path}{caller} from {ip}{mtls} incident {incident}"
                        );
                        requests.push(text.parse().unwrap());
                    }
                }
            }
        }
    }
    requests
}

fn allows(policy: &Policy, request: &Request) -> bool {
    judge(policy, request, None).unwrap().verdict.is_allowed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whoever looks through a small world finds nobody where nobody is claimed to be.
    #[test]
    fn what_is_called_impossible_does_not_happen(rules in plan()) {
        let policy = read(&policy_of(&rules)).unwrap();
        let has = |code: &str| policy.warnings().iter().any(|problem| problem.code == code);

        let allowed = world().into_iter().find(|request| allows(&policy, request));

        if let Some(request) = &allowed {
            prop_assert!(!has("E-POL-113"), "{request} is allowed under\n{rules}");
        }
        // Every rule that is called useless decides nothing in the small world.
        for problem in policy.warnings().iter().filter(|problem| problem.code == "E-POL-111") {
            let rule = problem.message.split_whitespace().nth(3).unwrap();
            let decided = world().into_iter().find(|request| {
                let judged = judge(&policy, request, None).unwrap();
                judged.verdict.to_string().contains(&format!("{rule} matched"))
                    || judged.verdict.to_string() == format!("allow: {rule}")
            });
            prop_assert!(decided.is_none(), "{decided:?} under\n{rules}");
        }
    }

    /// A difference that is found in a small world is found, and each sample has been decided by
    /// both policies as it is shown.
    #[test]
    fn a_difference_between_two_policies_is_found_when_there_is_one(a in plan(), b in plan()) {
        let (first, second) = (read(&policy_of(&a)).unwrap(), read(&policy_of(&b)).unwrap());

        let found = diff(&first, &second);

        for change in &found.changes {
            prop_assert_eq!(allows(&first, &change.sample), change.before.is_allowed());
            prop_assert_eq!(allows(&second, &change.sample), change.after.is_allowed());
            prop_assert!(change.before.is_allowed() != change.after.is_allowed());
            let text = change.sample.to_string();
            prop_assert_eq!(text.parse::<Request>(), Ok(change.sample.clone()), "{}", text);
        }
        prop_assert_eq!(&found.undecided, &Vec::<String>::new(), "{}\n{}", a, b);
        for request in world() {
            let (before, after) = (allows(&first, &request), allows(&second, &request));
            let is_told = found.changes.iter().any(|change| {
                change.before.is_allowed() == before && change.after.is_allowed() == after
            });
            prop_assert!(before == after || is_told, "{request}: {before} {after}\n{a}\n{b}");
        }
    }

    #[test]
    fn a_policy_does_not_differ_from_itself(rules in plan()) {
        let policy = read(&policy_of(&rules)).unwrap();

        prop_assert!(diff(&policy, &policy).is_empty());
    }
}

#[test]
fn a_single_request_that_changes_is_found() {
    let rules = |more: &str| {
        format!(
            "[[route.allow]]\nmethod = 'GET'\nrole = 'reader'\n\
             when = 'ip in net.mesh && param.tenant == claims.tenant{more}'\n"
        )
    };
    let first = read(&policy_of(&rules(""))).unwrap();
    let planted = " && !(param.tenant == \"umbrella\" && claims.level == 7 && incident == 3 && \
                   path.endsWith(\"/secret\"))";
    let second = read(&policy_of(&rules(planted))).unwrap();

    let found = diff(&first, &second);

    assert!(found.undecided.is_empty(), "{:?}", found.undecided);
    // What is unknown does not allow, so a missing level changes its answer as well; with the level
    // there, exactly the planted request does.
    assert!(!found.changes.is_empty());
    for change in &found.changes {
        let text = change.sample.to_string();
        assert!(text.contains("/v1/umbrella/") && text.contains("incident 3"), "{text}");
        assert!(text.contains("/secret"), "{text}");
        assert!(change.before.is_allowed() && !change.after.is_allowed());
    }
}

#[test]
fn new_and_removed_routes_limits_and_roles_change_answers_and_are_listed() {
    let first = policy_of("[[route.allow]]\nmethod = 'GET'\nrole = 'reader'\n");
    let second = first
        .replace("name = \"orders\"", "name = \"tenants\"")
        .replace("from = [\"key\", \"issuer:corp/read\"]", "from = [\"issuer:corp/read\"]");

    let found = diff(&read(&first).unwrap(), &read(&second).unwrap());

    assert_eq!(found.listed, ["route `orders` is removed", "route `tenants` is new"]);
    let [change] = &*found.changes else { panic!("{:?}", found.changes) };
    assert!(change.sample.proofs.key && change.before.is_allowed(), "{}", change.sample);
    assert_eq!(change.method, "GET");
}
