//! What operators may ask of hosts, against views of a fleet and a file.

use enforcer_audit::Config;
use enforcer_model::{Clock, SystemClock, Timestamp};
use enforcer_upstream::{BreakerState, HostView, State, Why};

use super::*;

#[test]
fn a_target_is_an_upstream_or_one_of_its_hosts_by_name_or_address() {
    let views = [view("orders", [("db.internal:80", State::Up), ("10.0.4.3:80", State::Up)])];

    let hosts = |target: &str| find(&views, target).map(|(_, hosts)| hosts.join(" "));

    assert_eq!(hosts("orders").unwrap(), "db.internal:80 10.0.4.3:80");
    assert_eq!(hosts("orders/10.0.4.3:80").unwrap(), "10.0.4.3:80");
    assert_eq!(hosts("orders/192.0.2.1:80").unwrap(), "192.0.2.1:80", "by its address");
    for (target, message, hint) in [
        ("ordres", "no upstream is called `ordres`", "did you mean `orders`?"),
        ("billing/10.0.4.3:80", "no upstream is called `billing`", "it has: orders"),
        ("orders/10.0.4.4:80", "has no host `10.0.4.4:80`", "did you mean `10.0.4.3:80`?"),
        ("orders/", "has no host ``", "it has: db.internal:80, 10.0.4.3:80"),
    ] {
        let refused = find(&views, target).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind, RefusalKind::NotFound, "{target}");
        assert!(refused.message.contains(message), "{target}: {}", refused.message);
        assert!(refused.hint.as_ref().unwrap().contains(hint), "{target}: {:?}", refused.hint);
    }
}

#[test]
fn the_last_host_that_is_well_is_guarded_and_the_others_are_told_with_their_cause() {
    let ejected = State::Ejected { why: Why::InARow(5), left: Duration::from_secs(9) };
    let one_left = view("orders", [("a:1", State::Up), ("b:1", ejected)]);
    let two_left = view("orders", [("a:1", State::Up), ("b:1", State::Starting)]);
    let none_left = view("orders", [("a:1", State::Isolated), ("b:1", State::Isolated)]);

    let refused = refuse_last(&one_left, &["a:1"], "orders/a:1").unwrap_err();

    assert_eq!(refused.kind, RefusalKind::Guarded);
    assert_eq!(refused.details, ["b:1 is ejected: 5 failures in a row"]);
    assert!(refused.hint.unwrap().contains("--force"));
    assert!(refuse_last(&one_left, &["b:1"], "orders/b:1").is_ok());
    assert!(refuse_last(&two_left, &["a:1"], "orders/a:1").is_ok());
    assert!(refuse_last(&two_left, &["a:1", "b:1"], "orders").is_err());
    assert!(refuse_last(&none_left, &["a:1"], "orders/a:1").is_ok(), "nothing gets worse");
}

#[test]
fn what_was_decided_is_read_back_and_nothing_else_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upstreams.json");
    assert!(file::read(&file).unwrap().is_empty());

    file::write(&file, vec![order("a:1", HostWish::Isolate, 60)]).unwrap();
    assert_eq!(file::read(&file).unwrap(), [order("a:1", HostWish::Isolate, 60)]);
    file::write(&file, Vec::new()).unwrap();
    assert!(!file.exists());

    let text = serde_json::to_string(&order("a:1", HostWish::Restore, 60)).unwrap();
    for broken in ["", "{", r#"{"orders":[{}]}"#, &format!(r#"{{"orders":[{text}]}}"#)] {
        std::fs::write(&file, broken).unwrap();
        let refused = open(&folder).err().unwrap().to_string();
        assert!(refused.contains("upstreams.json") && refused.contains("hint:"), "{refused}");
    }
}

#[test]
fn one_decision_for_each_host_until_its_time_is_over_and_no_more_than_there_is_room_for() {
    let orders = HostOrders::default();
    orders.put(&[order("a:1", HostWish::Drain, 60), order("b:1", HostWish::Drain, 90)]).unwrap();
    orders.put(&[order("a:1", HostWish::Isolate, 120)]).unwrap();

    assert_eq!(orders.of("orders", "a:1").unwrap().wish, HostWish::Isolate);
    assert_eq!(orders.take_over(at(89)), []);
    assert_eq!(orders.take_over(at(90)), [order("b:1", HostWish::Drain, 90)]);
    assert_eq!(orders.end("orders", &["a:1"], None, at(90)), []);
    assert!(orders.all().is_empty());

    let many = (0..ORDERS_MAX).map(|n| order(&format!("h{n}:1"), HostWish::Drain, 60));
    orders.put(&many.collect::<Vec<_>>()).unwrap();
    assert!(orders.put(&[order("one:1", HostWish::Drain, 60)]).is_err());
    assert!(orders.put(&[order("h7:1", HostWish::Isolate, 60)]).is_ok(), "in its own place");
    assert_eq!(orders.all().len(), ORDERS_MAX);
}

#[test]
fn what_an_operator_has_decided_holds_again_when_a_decision_about_the_host_is_over() {
    let decision = Some("D-7K2Q4XW".parse().unwrap());
    let own = order("a:1", HostWish::Drain, 600);
    let deed = |until| {
        let before = orders::below(own.clone(), decision);
        HostOrder { decision, before, ..order("a:1", HostWish::Isolate, until) }
    };
    let orders = HostOrders::default();
    orders.put(&[deed(60)]).unwrap();
    let again = orders.of("orders", "a:1").unwrap();
    assert_eq!(orders::below(again, decision).as_deref(), Some(&own), "extended");

    assert_eq!(orders.take_over(at(60)).len(), 1);
    assert_eq!(orders.all(), std::slice::from_ref(&own), "by itself");

    orders.put(&[deed(60)]).unwrap();
    assert_eq!(
        orders.end("orders", &["a:1"], decision, at(9)),
        std::slice::from_ref(&own),
        "by its name"
    );
    assert_eq!(orders.all(), std::slice::from_ref(&own));

    orders.put(&[deed(60)]).unwrap();
    assert!(orders.end("orders", &["a:1"], None, at(9)).is_empty());
    assert!(orders.all().is_empty(), "an operator ends all of it");
    orders.put(&[deed(60)]).unwrap();
    assert!(orders.end("orders", &["a:1"], decision, at(700)).is_empty(), "that is over too");
}

#[test]
fn what_an_operator_has_isolated_for_longer_is_left_alone_by_a_decision() {
    let decision = Some("D-7K2Q4XW".parse().unwrap());
    let own = order("a:1", HostWish::Isolate, 600);
    let until = |second| Expiry::At(at(second));

    assert!(own.outlasts(HostWish::Isolate, until(600), decision));
    assert!(!own.outlasts(HostWish::Isolate, until(601), decision));
    assert!(!own.outlasts(HostWish::Isolate, Expiry::Never, decision));
    let drained = order("a:1", HostWish::Drain, 600);
    assert!(!drained.outlasts(HostWish::Isolate, until(1), decision));
    let same = HostOrder { decision, ..own };
    assert!(!same.outlasts(HostWish::Isolate, until(1), decision), "its own is extended");
}

fn open(folder: &tempfile::TempDir) -> Result<UpstreamDesk, OpenError> {
    // A log that was dropped is free a moment later: each has a place of its own.
    let log = tempfile::tempdir_in(folder).unwrap().keep();
    let config = Config::new(log.join("audit"), "test/enforcer");
    let (audit, _) = Audit::open(config, Arc::new(SystemClock)).unwrap();
    let file = folder.path().join("upstreams.json");
    UpstreamDesk::open(file, Arc::default(), Arc::default(), audit, SystemClock.now())
}

fn view<const N: usize>(name: &str, hosts: [(&str, State); N]) -> UpstreamView {
    let hosts = hosts.into_iter().map(|(name, state)| HostView {
        name: name.into(),
        address: Some(if name.starts_with("db") { "192.0.2.1:80".into() } else { name.into() }),
        tier: 0,
        weight: 1,
        state,
        in_flight: 0,
        requests: 0,
        failures: 0,
        latency: None,
        connections: 0,
    });
    UpstreamView {
        name: name.into(),
        tier: 0,
        breaker: BreakerState::Closed,
        requests: 0,
        failures: 0,
        retries: 0,
        retries_refused: 0,
        hosts: hosts.collect(),
    }
}

fn order(host: &str, wish: HostWish, until: u64) -> HostOrder {
    HostOrder {
        upstream: "orders".to_owned(),
        host: host.to_owned(),
        wish,
        since: at(0),
        until: Expiry::At(at(until)),
        author: Author::Operator { uid: 0, name: "root".to_owned() },
        reason: Some("upgrade".to_owned()),
        decision: None,
        before: None,
    }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_unix_seconds(second)
}
