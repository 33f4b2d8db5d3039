//! The owner of the rules, against a folder and a table.

use enforcer_admin::call::TightenBy;
use enforcer_audit::Config;
use enforcer_model::SystemClock;
use tempfile::TempDir;

use super::*;

struct House {
    folder: TempDir,
    table: Arc<Endpoints>,
    audit: Audit,
    policy: Policy,
}

const POLICY: &str = r#"
version = 1
[listen.public]
address = "127.0.0.1:0"
[upstream.orders]
hosts = ["127.0.0.1:9"]
[limit]
ip = { by = "ip", rate = "10/s" }
[role]
reader = { from = ["key"] }
[[route]]
name = "exports"
match = "api.test/v1/{**}"
upstream = "orders"
public = true
[[route]]
name = "orders"
match = "api.test/orders/{**}"
upstream = "orders"
limits = ["ip"]
  [[route.allow]]
  method = ["GET"]
  role = "reader"
[incident.2.require]
orders = "bound"
"#;

#[test]
fn what_was_decided_holds_after_a_restart_and_ids_are_never_used_twice() {
    let house = House::new();
    let mut desk = house.open().unwrap();
    let first = house.changed(&mut desk, disable("DELETE api.test/v1/export/{**}", Some(60)));
    house.changed(&mut desk, tighten("api.test/v1/login"));
    house.changed(&mut desk, enable("EP-1"));
    drop(desk);

    let mut desk = house.open().unwrap();

    assert_eq!((first.rule.id.as_str(), first.rule.routes), ("EP-1", vec!["exports".to_owned()]));
    assert!(!house.table.holds("EP-1") && house.table.holds("EP-2"));
    let kept = desk.held[0].row(&house.policy);
    let tightened =
        EndpointMeasure::Tightened { rate: "5/m".to_owned(), burst: 5, by: TightenBy::Ip };
    assert_eq!((kept.measure, kept.reason.as_str()), (tightened, "test"));
    assert_eq!(kept.author, author());
    let third = house.changed(&mut desk, disable("*/x", None));
    assert_eq!(third.rule.id, "EP-3");
}

#[test]
fn saying_it_again_changes_the_rule_and_tells_what_it_was() {
    let house = House::new();
    let mut desk = house.open().unwrap();
    house.changed(&mut desk, disable("*/a/{x}", Some(60)));

    let again = house.changed(&mut desk, disable("*/a/{y}", None));

    assert_eq!((again.rule.id.as_str(), again.rule.until), ("EP-1", Expiry::Never));
    assert_eq!(again.before.unwrap().until, Expiry::At(at(60)));
    assert_eq!(desk.held.len(), 1);
    // Another kind of rule for the same endpoint stands beside it.
    let beside = house.changed(&mut desk, tighten("*/a/{x}"));
    assert_eq!(beside.rule.id, "EP-2");
}

#[test]
fn a_rule_ends_when_its_time_is_over() {
    let house = House::new();
    let mut desk = house.open().unwrap();
    house.changed(&mut desk, disable("*/a", Some(60)));

    desk.tick(at(59));
    assert!(house.table.holds("EP-1"));
    desk.tick(at(60));

    assert!(!house.table.holds("EP-1"));
    drop(desk);
    assert!(house.open().unwrap().held.is_empty());
}

#[test]
fn a_full_table_refuses_and_every_rule_that_it_has_holds() {
    let house = House::new();
    let mut desk = house.open().unwrap();
    for n in 0..ENDPOINTS_MAX {
        house.changed(&mut desk, disable(&format!("*/a/{n}"), None));
    }

    let refused = house.ask(&mut desk, disable("*/b", None)).unwrap_err();

    assert_eq!(refused.kind, RefusalKind::Guarded);
    assert!((1..=ENDPOINTS_MAX).all(|n| house.table.holds(&format!("EP-{n}"))));
    // A rule that is there can still be changed, and one that ends makes room.
    house.changed(&mut desk, disable("*/a/0", Some(5)));
    house.changed(&mut desk, enable("*/a/1"));
    house.changed(&mut desk, disable("*/b", None));
}

#[test]
fn what_cannot_be_done_is_refused_with_what_to_do() {
    let house = House::new();
    let mut desk = house.open().unwrap();
    house.changed(&mut desk, disable("DELETE api.test/v1/export", None));
    let burst = |burst| EndpointOrder::Tighten {
        endpoint: "*/a".to_owned(),
        rate: "5/m".to_owned(),
        burst: Some(burst),
        by: TightenBy::Principal,
        ttl_seconds: None,
        reason: "test".to_owned(),
    };
    let status = |status| EndpointOrder::Disable {
        endpoint: "*/a".to_owned(),
        status,
        ttl_seconds: None,
        cut: false,
        reason: "test".to_owned(),
        decision: None,
    };
    for (order, kind, hint) in [
        (disable("delete */a", None), RefusalKind::Usage, "DELETE HOST/PATH"),
        (status(200), RefusalKind::Usage, "503"),
        (status(401), RefusalKind::Usage, "503"),
        (status(999), RefusalKind::Usage, "503"),
        (burst(0), RefusalKind::Usage, ""),
        (enable("EP-9"), RefusalKind::NotFound, "did you mean `EP-1`?"),
        (enable("DELETE api.test/v1/exprot"), RefusalKind::NotFound, "did you mean `DELETE api"),
        (enable("nothing like it"), RefusalKind::NotFound, "endpoint list"),
        (relax("EP-1"), RefusalKind::NotFound, "enforcer endpoint enable EP-1"),
        (disable("route:order", None), RefusalKind::NotFound, "did you mean `route:orders`?"),
        (disable("user:token:corp/alice", None), RefusalKind::Usage, "enforcer quarantine"),
        (shrink("route:exports", 50), RefusalKind::Usage, "[limit]"),
        (shrink("*/a", 50), RefusalKind::Usage, "route:NAME"),
        (shrink("route:orders", 100), RefusalKind::Usage, "1 to 99"),
        (require("route:orders", &["mtls"]), RefusalKind::Guarded, "disable"),
        (require("route:exports", &["token"]), RefusalKind::Guarded, "disable"),
        (require("route:exports", &[]), RefusalKind::NotFound, "[incident.1.require]"),
        (require("route:orders", &["password"]), RefusalKind::Usage, "`mtls`"),
        (require("*/a", &["mtls"]), RefusalKind::Usage, "route:NAME"),
    ] {
        let refused = house.ask(&mut desk, order.clone()).unwrap_err();
        assert_eq!(refused.kind, kind, "{order:?}");
        assert!(refused.hint.unwrap_or_default().contains(hint), "{order:?}");
    }
    assert_eq!(desk.held.len(), 1);
}

#[test]
fn routes_and_callers_are_shrunk_and_asked_for_more_each_by_a_rule_of_its_own_also_after_a_restart()
{
    let house = House::new();
    let mut desk = house.open().unwrap();
    let said = |changed: &EndpointChanged| changed.rule.measure.to_string();

    let shrunk = house.changed(&mut desk, shrink("route:orders", 25));
    let required = house.changed(&mut desk, require("route:orders", &[]));
    let caller = house.changed(&mut desk, shrink("user:key:k7Qx2mP9aB3c", 50));
    house.changed(&mut desk, disable("route:orders", Some(60)));
    let again = house.changed(&mut desk, shrink("route:orders", 10));

    assert_eq!(
        (said(&shrunk).as_str(), said(&again).as_str()),
        ("limits at 25 %", "limits at 10 %")
    );
    assert_eq!(shrunk.rule.id, again.rule.id);
    assert_eq!(shrunk.rule.routes, ["orders"]);
    assert_eq!(said(&required), "requires bound", "as the policy says of the next higher level");
    assert_eq!(caller.rule.endpoint, "key:k7Qx2mP9aB3c");
    assert_eq!((desk.disabled(), desk.tightened()), (1, 3));
    drop(desk);

    let mut desk = house.open().unwrap();
    assert_eq!((desk.disabled(), desk.tightened()), (1, 3));
    house.changed(&mut desk, relax("EP-2"));
    house.changed(&mut desk, relax("key:k7Qx2mP9aB3c"));
    house.changed(&mut desk, enable("route:orders"));
    house.changed(&mut desk, relax("route:orders"));
    assert!(desk.held.is_empty());
}

#[test]
fn rules_leave_room_for_people() {
    let house = House::new();
    let mut desk = house.open().unwrap();
    let rule = Author::Rule("bola".into());
    let mut by_rule = |n: usize| {
        let address = std::net::Ipv4Addr::from(u32::try_from(n).unwrap());
        let order = shrink(&format!("source:{address}"), 50);
        desk.decide(order, &rule, &house.policy, at(0)).map(drop)
    };
    let fits = CALLERS_MAX / 4 * 3;
    assert!((0..fits).all(|n| by_rule(n).is_ok()));

    assert_eq!(by_rule(fits).unwrap_err().kind, RefusalKind::Guarded);
    assert!(by_rule(0).is_ok(), "what is there can be changed");
    house.changed(&mut desk, shrink("source:192.0.2.1", 50));
}

#[test]
fn a_disk_that_refuses_keeps_nobody_from_stopping_an_attack_and_is_told() {
    let house = House::new();
    let mut desk = house.open().unwrap();
    desk.file = house.folder.path().join("gone/endpoints.json");

    let Answer::EndpointChanged(changed) = house.ask(&mut desk, disable("*/a", None)).unwrap()
    else {
        panic!()
    };

    assert!(changed.applied && house.table.holds("EP-1"));
    assert!(changed.not_stored.is_some());
}

#[test]
fn an_agent_that_cannot_know_what_to_refuse_does_not_start() {
    for broken in ["", "{", r#"{"next":1}"#, r#"{"next":1,"rules":[{"id":"EP-1"}]}"#] {
        let house = House::new();
        std::fs::write(house.folder.path().join("endpoints.json"), broken).unwrap();

        let refused = house.open().err().unwrap().to_string();

        assert!(refused.contains("endpoints.json") && refused.contains("hint:"), "{refused}");
    }
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::new(folder.path().join("audit"), "test/enforcer");
        let (audit, _) = Audit::open(config, Arc::new(SystemClock)).unwrap();
        let policy = Policy::parse(POLICY, std::path::Path::new("policy.toml")).unwrap();
        Self { folder, table: Arc::default(), audit, policy }
    }

    fn open(&self) -> Result<EndpointDesk, OpenError> {
        let file = self.folder.path().join("endpoints.json");
        EndpointDesk::open(file, Arc::clone(&self.table), self.audit.clone(), at(0))
    }

    fn ask(&self, desk: &mut EndpointDesk, order: EndpointOrder) -> Result<Answer, Refusal> {
        let done = desk.decide(order, &author(), &self.policy, at(0))?;
        Ok(desk.finish(done, (0, 0)).0)
    }

    fn changed(&self, desk: &mut EndpointDesk, order: EndpointOrder) -> EndpointChanged {
        let Answer::EndpointChanged(changed) = self.ask(desk, order).unwrap() else { panic!() };
        assert!(changed.applied && changed.not_stored.is_none());
        *changed
    }
}

fn disable(endpoint: &str, ttl_seconds: Option<u64>) -> EndpointOrder {
    EndpointOrder::Disable {
        endpoint: endpoint.to_owned(),
        status: 503,
        ttl_seconds,
        cut: false,
        reason: "test".to_owned(),
        decision: None,
    }
}

fn tighten(endpoint: &str) -> EndpointOrder {
    EndpointOrder::Tighten {
        endpoint: endpoint.to_owned(),
        rate: "5/m".to_owned(),
        burst: None,
        by: TightenBy::Ip,
        ttl_seconds: None,
        reason: "test".to_owned(),
    }
}

fn shrink(scope: &str, percent: u8) -> EndpointOrder {
    EndpointOrder::Shrink {
        endpoint: scope.to_owned(),
        percent,
        ttl_seconds: None,
        reason: "test".to_owned(),
        decision: None,
    }
}

fn require(scope: &str, what: &[&str]) -> EndpointOrder {
    EndpointOrder::Require {
        endpoint: scope.to_owned(),
        what: what.iter().map(|&word| word.to_owned()).collect(),
        ttl_seconds: None,
        reason: "test".to_owned(),
        decision: None,
    }
}

fn enable(which: &str) -> EndpointOrder {
    EndpointOrder::Enable { which: which.to_owned(), reason: None }
}

fn relax(which: &str) -> EndpointOrder {
    EndpointOrder::Relax { which: which.to_owned(), reason: None }
}

fn author() -> Author {
    Author::Operator { uid: 0, name: "root".to_owned() }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_unix_seconds(second)
}
