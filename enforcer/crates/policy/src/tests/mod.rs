//! The promises of the crate as a whole.

mod analysis;
mod anchoring;
mod cache;
mod conditions;
mod detection;
mod files;
mod incidents;
mod kernel;
mod limits;
mod listeners;
mod notify;
mod problems;
mod regions;
mod routes;
mod trial;
mod upstreams;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use enforcer_detect::Mode;
use enforcer_kernel::Attach;
use enforcer_model::{Bytes, Role};
use proptest::prelude::*;

use crate::{
    Address, CertificateFiles, ConnectionsPlan, Durability, Policy, Problems, Serves, Tls, schema,
};

#[test]
fn every_shipped_policy_is_valid_and_free_of_warnings() {
    let mut parsed = Vec::new();

    for (name, text) in shipped() {
        let policy = read(&text).unwrap_or_else(|problems| panic!("{name}:\n{problems}"));
        assert_eq!(policy.warnings(), [], "{name}");
        parsed.push(name);
    }

    assert_eq!(
        parsed,
        [
            "demo.toml",
            "edge.toml",
            "incident-ready.toml",
            "minimal.toml",
            "mtls-mesh.toml",
            "multi-tenant.toml",
            "oidc.toml",
        ]
    );
}

#[test]
fn every_shipped_policy_answers_its_own_tests_as_it_says() {
    for (name, text) in shipped() {
        let policy = read(&text).unwrap_or_else(|problems| panic!("{name}:\n{problems}"));

        let report = crate::trial::run(&policy);

        let failed: Vec<_> = report.failures().collect();
        assert!(report.passed(), "{name}: {failed:#?}");
        let shows = ["incident-ready.toml", "mtls-mesh.toml", "multi-tenant.toml", "oidc.toml"];
        assert!(!shows.contains(&&*name) || policy.tests().len() >= 5, "{name}");
    }
}

#[test]
fn the_demo_policy_becomes_what_it_says() {
    let policy = demo();

    let [public, plain] = policy.listeners() else { panic!("{:?}", policy.listeners()) };
    assert_eq!(&*public.name, "public");
    assert_eq!(public.addresses, addresses(["0.0.0.0:8443", "[::]:8443"]).map(Address::Tcp));
    assert_eq!(plain.serves, Serves::Redirect { port: 8443 });
    let kernel = policy.kernel().unwrap();
    assert_eq!(kernel.interfaces, ["enf-client", "enf-attacker"]);
    assert_eq!(kernel.attach, Attach::Native);
    assert_eq!(kernel.mode, enforcer_kernel::Mode::Enforce);
    let packets = kernel.budgets.default.unwrap().packets.unwrap();
    assert_eq!((packets.rate.count(), packets.burst.get()), (50_000, 100_000));
    let [monitoring] = &*policy.guard().never_block else { panic!() };
    assert_eq!(&*monitoring.name, "monitoring");
    assert_eq!(monitoring.networks, ["10.77.9.0/24".parse().unwrap()]);
    let line = shipped_text("demo.toml").lines().nth(monitoring.line - 1).unwrap().to_owned();
    assert!(line.contains("monitoring"), "{line}");
    assert_eq!(policy.audit().allowed, Some(Durability::Queued));
    assert_eq!(policy.audit().denied, Durability::Durable);
    let [rule] = policy.rules() else { panic!() };
    assert_eq!((rule.failures.get(), rule.within), (10, Duration::from_secs(10)));
    assert_eq!((rule.ttl, rule.mode), (Duration::from_secs(900), Mode::Auto));
    let orders = policy.route_for("api.demo.test", "/v1/orders/7").unwrap().route;
    assert_eq!(&*orders.name, "orders");
    assert_eq!(orders.upstream.addresses().collect::<Vec<_>>(), addresses(["127.0.0.1:9000"]));
    assert_eq!(
        orders.limits.iter().map(|charged| &**charged.limit.name()).collect::<Vec<_>>(),
        ["per_key", "per_ip"]
    );
    let [read, write] = orders.authz.allow() else { panic!() };
    assert_eq!((&**read.name(), read.role()), ("orders.allow[1]", Some(&Role::new("reader"))));
    assert_eq!((&**write.name(), write.role()), ("orders.allow[2]", Some(&Role::new("admin"))));
    let admin = policy.roles().closure(["admin"]).unwrap();
    assert!(admin.contains(read.held().unwrap().index));
    assert!(policy.route_for("any.host", "/healthz").unwrap().route.authz.is_public());
    assert!(policy.route_for("any.host", "/v1/orders").is_none());
    assert!(policy.route_for("api.demo.test", "/v1").is_none());
}

#[test]
fn what_is_not_written_has_the_documented_default() {
    let policy = read(SMALL).unwrap();

    assert_eq!(policy.agent().state, Path::new("/var/lib/enforcer"));
    assert_eq!(policy.agent().socket, Path::new("/run/enforcer/admin.sock"));
    assert_eq!(policy.agent().threads, None);
    assert_eq!(policy.agent().limit_entries.get(), 65_536);
    assert_eq!(policy.kernel(), None);
    assert_eq!(policy.guard().max_clients.get(), 20);
    assert_eq!(policy.audit().origin, None);
    assert_eq!(policy.audit().queue.get(), 8_192);
    let anchoring = &policy.audit().anchoring;
    assert!(!anchoring.is_any() && anchoring.policy().needs_nobody());
    assert_eq!(anchoring.every, Duration::from_secs(10));
    assert_eq!(anchoring.age, Duration::from_secs(3_600));
    assert_eq!(anchoring.wait, Duration::from_secs(5));
    assert_eq!(policy.timeouts().handshake, Duration::from_secs(10));
    assert_eq!(policy.timeouts().head, Duration::from_secs(10));
    assert_eq!(policy.timeouts().body_rate, Bytes(1_024));
    assert_eq!(policy.timeouts().answer_rate, Bytes(1_024));
    assert_eq!(policy.timeouts().idle, Duration::from_secs(60));
    assert_eq!(policy.timeouts().request, None);
    assert_eq!(policy.timeouts().shutdown, Duration::from_secs(30));
    let upstream = policy.upstreams().next().unwrap();
    assert_eq!(upstream.connect_timeout, Duration::from_secs(1));
    assert_eq!(upstream.first_byte, Duration::from_secs(10));
    assert_eq!(upstream.between_bytes, Duration::from_secs(30));
    assert_eq!(upstream.idle, Duration::from_secs(60));
    assert_eq!(upstream.connections, 512);
    assert_eq!(*policy.connections(), ConnectionsPlan::default());
    let route = policy.routes().first().unwrap();
    assert_eq!((route.body_max, route.buffer), (Bytes(1 << 20), Bytes(64 << 10)));
    assert_eq!(route.total(policy.timeouts()), None);
}

#[test]
fn a_route_says_how_long_a_request_may_take_and_zero_is_for_ever() {
    let with = |timeouts: &str, route: &str| {
        let text =
            SMALL.replace("upstream = \"orders\"", &format!("upstream = \"orders\"\n{route}"));
        let policy = read(&format!("{text}[timeouts]\n{timeouts}\n")).unwrap();
        policy.routes().first().unwrap().total(policy.timeouts())
    };

    assert_eq!(with("request = \"1m\"", ""), Some(Duration::from_secs(60)));
    assert_eq!(with("request = \"0s\"", ""), None);
    assert_eq!(with("request = \"1m\"", "total = \"5s\""), Some(Duration::from_secs(5)));
    assert_eq!(with("request = \"1m\"", "total = \"0s\""), None);
    assert_eq!(with("", "total = \"5s\""), Some(Duration::from_secs(5)));
}

#[test]
fn relative_paths_start_at_the_folder_of_the_policy_file() {
    let policy =
        Policy::parse(&shipped_text("demo.toml"), Path::new("/srv/demo/policy.toml")).unwrap();

    assert_eq!(policy.agent().state, Path::new("/srv/demo/state"));
    assert_eq!(policy.agent().socket, Path::new("/srv/demo/admin.sock"));
    let files = CertificateFiles {
        certificate: "/srv/demo/tls/cert.pem".into(),
        key: "/srv/demo/tls/key.pem".into(),
        ocsp: None,
    };
    let tls = Tls { certificates: vec![files], clients: None };
    assert_eq!(policy.listeners().first().unwrap().serves, Serves::Tls(tls));
}

#[test]
fn the_sum_names_the_bytes_of_the_file() {
    let policy = read(SMALL).unwrap();

    let other = read(&format!("{SMALL}\n# a comment\n")).unwrap();
    assert_eq!(policy.sha256().len(), 64);
    assert!(policy.sha256().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    assert_ne!(policy.sha256(), other.sha256());
}

#[test]
fn a_reload_says_which_changes_wait_for_a_restart() {
    let before = demo();
    let with = |from: &str, to: &str| {
        let text = shipped_text("demo.toml");
        assert!(text.contains(from), "{from}");
        before.needs_restart(&read(&text.replace(from, to)).unwrap())
    };

    assert_eq!(before.needs_restart(&demo()), [""; 0]);
    assert_eq!(with("\"state\"", "\"elsewhere\""), ["agent"]);
    assert_eq!(with("8443\"]", "8444\"]"), ["listen"]);
    assert_eq!(with("\"native\"", "\"generic\""), ["kernel"]);
    assert_eq!(with("demo.test/enforcer", "other.test/enforcer"), ["audit.origin"]);
    assert_eq!(with("[agent]", "[identity]\nttl = \"30s\"\n\n[agent]"), ["identity"]);
    for (from, to) in [
        ("\"enforce\"", "\"observe\""),
        ("50000/s", "60000/s"),
        ("failures = 10", "failures = 20"),
        ("500/s", "600/s"),
        ("10.77.9.0/24", "10.77.8.0/24"),
        ("127.0.0.1:9000", "127.0.0.1:9001"),
        ("tls/cert.pem", "tls/other.pem"),
        ("key = \"tls/key.pem\"", "key = \"tls/key.pem\", clients = { ca = \"ca.pem\" }"),
    ] {
        assert_eq!(with(from, to), [""; 0], "{from}");
    }
}

#[test]
fn ten_thousand_routes_are_read_and_found() {
    let many: String = (0..10_000)
        .map(|n| {
            format!("[[route]]\nname='r{n}'\nmatch='h/a{n}/{{x}}'\nupstream='u'\npublic=true\n")
        })
        .collect();
    let text = format!(
        "version=1\n[listen.l]\naddress='[::1]:80'\n[upstream.u]\nhosts='[::1]:81'\n{many}"
    );

    let policy = read(&text).unwrap();

    assert_eq!(&*policy.route_for("h", "/a9999/x").unwrap().route.name, "r9999");
}

#[test]
fn the_schema_admits_the_shipped_policies_and_refuses_a_misspelt_key() {
    let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
    let value =
        |text: &str| serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();

    for (name, text) in shipped() {
        assert_eq!(admits(&schema, &value(&text)), Ok(()), "{name}");
    }
    let misspelt = shipped_text("demo.toml").replace("burst = 1000 }", "burts = 1000 }");
    assert!(admits(&schema, &value(&misspelt)).unwrap_err().contains("burts"));
    let missing = shipped_text("minimal.toml").replace("upstream = \"service\"", "");
    assert!(admits(&schema, &value(&missing)).is_err());
}

proptest! {
    /// A file that is cut off or altered anywhere is read to the end or refused, with places that
    /// lie inside it; never a panic.
    #[test]
    fn no_text_makes_the_parser_panic(
        at in 0usize..8_000,
        end in 0usize..200,
        with in "[\\x00-\\x7f\u{e4}\u{1f600}]{0,8}",
    ) {
        let text = shipped_text("demo.toml");
        let edge = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        let (start, end) = (edge(at).unwrap(), edge(at + end).unwrap());
        let broken = format!("{}{with}{}", text.get(..start).unwrap(), text.get(end..).unwrap());

        if let Err(problems) = read(&broken) {
            prop_assert!(!problems.is_empty());
            let lines = broken.split('\n').count();
            prop_assert!(problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
            prop_assert!(problems.to_string().contains("error[E-POL-"));
        }
    }
}

/// The smallest policy with a route.
const SMALL: &str = r#"
version = 1
[listen.local]
address = "127.0.0.1:8080"
[role]
reader = { from = ["key"] }
[upstream.orders]
hosts = ["127.0.0.1:9000"]
[[route]]
name = "orders"
match = "*/v1/orders/{**}"
upstream = "orders"
  [[route.allow]]
  method = "GET"
  role = "reader"
"#;

fn read(text: &str) -> Result<Policy, Problems> {
    Policy::parse(text, Path::new("policy.toml"))
}

fn demo() -> Policy {
    read(&shipped_text("demo.toml")).unwrap()
}

fn addresses<const N: usize>(texts: [&str; N]) -> [SocketAddr; N] {
    texts.map(|text| text.parse().unwrap())
}

fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../policies")
}

fn shipped_text(name: &str) -> String {
    std::fs::read_to_string(policies().join(name)).unwrap()
}

/// Name and text of every shipped policy.
fn shipped() -> Vec<(String, String)> {
    let names = std::fs::read_dir(policies()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".toml"));
    names.sort();
    names.into_iter().map(|name| (name.clone(), shipped_text(&name))).collect()
}

/// As much of a JSON Schema validator as our schema needs, patterns aside.
fn admits(schema: &serde_json::Value, value: &serde_json::Value) -> Result<(), String> {
    use serde_json::Value;
    if let Some(any) = schema.get("anyOf").and_then(Value::as_array) {
        let refused = format!("{value} is none of the forms");
        return any.iter().find_map(|schema| admits(schema, value).ok()).ok_or(refused);
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return if words.contains(value) { Ok(()) } else { Err(format!("{value} is no choice")) };
    }
    match (schema.get("type").and_then(Value::as_str), value) {
        (Some("object"), Value::Object(fields)) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, value) in fields {
                match properties.and_then(|known| known.get(name)) {
                    Some(schema) => admits(schema, value)?,
                    None => match schema.get("additionalProperties") {
                        Some(Value::Bool(false)) | None => return Err(format!("unknown {name}")),
                        Some(schema) => admits(schema, value)?,
                    },
                }
            }
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            let mut names = required.filter_map(Value::as_str);
            names
                .find(|name| !fields.contains_key(*name))
                .map_or(Ok(()), |name| Err(format!("no {name}")))
        }
        (Some("array"), Value::Array(items)) => {
            items.iter().try_for_each(|item| admits(&schema["items"], item))
        }
        (Some("number"), Value::Number(number)) => match number.as_f64() {
            Some(number) if (0.0..=1.0).contains(&number) => Ok(()),
            _ => Err(format!("{number} is out of range")),
        },
        (Some("integer"), Value::Number(number)) => {
            let number = number.as_u64().ok_or("negative")?;
            let bound = |name: &str| schema.get(name).and_then(Value::as_u64).ok_or("no bound");
            let inside = (bound("minimum")?..=bound("maximum")?).contains(&number);
            if inside { Ok(()) } else { Err(format!("{number} is out of range")) }
        }
        (Some("string"), Value::String(_)) | (Some("boolean"), Value::Bool(_)) => Ok(()),
        (wanted, value) => Err(format!("{value} is not {wanted:?}")),
    }
}

fn codes(problems: &Problems) -> Vec<&'static str> {
    problems.iter().map(|problem| problem.code).collect()
}

fn code_of(text: &str) -> Vec<&'static str> {
    match read(text) {
        Ok(policy) => policy.warnings().iter().map(|problem| problem.code).collect(),
        Err(problems) => codes(&problems),
    }
}
