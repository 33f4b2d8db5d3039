//! Hosts of upstreams that operators take out and put back, and what happens to them by itself.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use enforcer_tests::lab::{Answer, Ask, DEADLINE, Family, Upstream, wait_until};
use serde_json::Value;

use super::{aside, bodies};
use crate::stage::{Hook, Stage, orders, policy};

const ONE: &str = "orders/127.0.0.1:9000";
const TWO: &str = "orders/127.0.0.1:9001";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_drain_loses_nothing_waits_for_what_is_under_way_and_ends_by_hand() {
    let (stage, two) = pair("");
    let reader = stage.key("client", "reader");
    let steady: Vec<_> = Family::BOTH
        .map(|family| {
            stage.client(family).steadily(orders().key(&reader), Duration::from_millis(1))
        })
        .into();
    both_are_asked(&stage, &two);

    let (name, slow) = slow(&stage, &two, &reader);
    let drained =
        stage.enforcer(&["upstream", "drain", name, "--wait", "20s", "--reason", "upgrade"]);
    assert!(drained.is_success(), "{drained}");
    assert!(drained.stdout.contains("draining (was up)"), "{drained}");
    assert!(drained.stderr.contains("requests under way") || drained.stderr.contains("1 request"));
    assert!(drained.stdout.ends_with(&format!("undo: enforcer upstream undrain {name}\n")));
    assert!(slow.is_finished(), "what was under way has finished");
    let answer = slow.join().unwrap().unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 40));

    let is_one = name == ONE;
    let requests = || if is_one { stage.upstream.requests() } else { two.requests() };
    let (before, other) = (requests(), steady[0].so_far().served);
    wait_until("the other host serves", DEADLINE, || steady[0].so_far().served > other + 50)
        .unwrap();
    assert_eq!(requests(), before, "a drained host gets nothing");
    assert_eq!(state(&stage, name), "draining");

    assert!(stage.enforcer(&["upstream", "undrain", name]).is_success());
    wait_until("it is asked again", DEADLINE, || requests() > before).unwrap();
    let again = stage.enforcer(&["upstream", "undrain", name]);
    assert_eq!(again.code, Some(3), "{again}");
    let records = bodies(&stage, "upstream");
    let whats: Vec<&Value> = records.iter().map(|record| &record["what"]).collect();
    assert_eq!(whats, ["drained", "undrained"]);
    assert_eq!(records[0]["before"], "up");
    assert_eq!(records[0]["after"], "draining");
    assert_eq!(records[0]["reason"], "upgrade");
    assert_eq!(records[0]["author"]["operator"]["name"], "root");
    for steady in steady {
        let tally = steady.finish().unwrap();
        assert!(tally.is_spotless(), "{tally:?}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_isolation_cuts_what_is_under_way_there_and_nothing_else() {
    let (stage, two) = pair("");
    let reader = stage.key("client", "reader");
    let steady = stage.client(Family::V6).steadily(orders().key(&reader), Duration::from_millis(1));
    both_are_asked(&stage, &two);

    let hung = aside(&stage.client(Family::V4), Ask::get("/v1/hang").key(&reader));
    let at =
        |upstream: &Upstream| upstream.seen().iter().any(|seen| seen.target.path() == "/v1/hang");
    wait_until("it hangs", DEADLINE, || at(&stage.upstream) || at(&two)).unwrap();
    let name = if at(&stage.upstream) { ONE } else { TWO };
    let late = stage.enforcer(&["upstream", "drain", name, "--wait", "1s"]);
    assert_eq!(late.code, Some(8), "{late}");
    assert!(late.stderr.contains("1 request still under way"), "{late}");

    let bare = stage.enforcer(&["upstream", "isolate", name]);
    assert_eq!(bare.code, Some(2), "a reason is wanted: {bare}");
    let isolated = stage.json(&["upstream", "isolate", name, "--reason", "compromised"]);

    assert_eq!(isolated["cut"], 1, "{isolated}");
    assert_eq!(isolated["hosts"][0]["state"], "isolated");
    let cut = hung.join().unwrap();
    assert!(cut.map_or(true, |answer| answer.status.is_server_error()));
    assert_eq!(state(&stage, name), "isolated");
    assert!(stage.enforcer(&["upstream", "restore", name]).is_success());
    assert_ne!(state(&stage, name), "isolated");
    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless(), "{tally:?}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_was_taken_out_stays_out_over_a_reload_a_kill_and_a_restart() {
    let (mut stage, two) = pair("");
    let reader = stage.key("client", "reader");
    let ask = |stage: &Stage| {
        let asked = stage.client(Family::V4).ask(&orders().key(&reader));
        assert_eq!(asked.unwrap().status, 200);
    };
    let done = stage.enforcer(&["upstream", "isolate", TWO, "--reason", "compromised"]);
    assert!(done.is_success(), "{done}");
    let before = two.requests();

    // Away with one policy and back with the next one, it is still out.
    stage.apply(&with_hosts("\"127.0.0.1:9000\"", ""));
    let listed = stage.enforcer(&["upstream", "list"]);
    assert!(listed.stderr.contains("the policy names no such host"), "{listed}");
    stage.apply(&with_hosts("\"127.0.0.1:9000\", \"127.0.0.1:9001\"", ""));
    (0..20).for_each(|_| ask(&stage));
    stage.kill();
    stage.start();
    (0..20).for_each(|_| ask(&stage));

    assert_eq!(two.requests(), before);
    let host = host(&stage, TWO);
    assert_eq!(host["state"], "isolated");
    assert_eq!(host["order"]["reason"], "compromised");
    assert_eq!(host["order"]["author"]["operator"]["name"], "root");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn nobody_takes_out_the_last_host_that_is_well_by_a_slip_of_the_hand() {
    let (stage, _two) = pair("");
    let whole = stage.enforcer(&["upstream", "drain", "orders"]);
    assert_eq!(whole.code, Some(4), "{whole}");
    assert!(whole.stderr.contains("--force"), "{whole}");
    assert!(stage.enforcer(&["upstream", "drain", ONE]).is_success());

    let last = stage.enforcer(&["upstream", "isolate", TWO, "--reason", "x"]);

    assert_eq!(last.code, Some(4), "{last}");
    assert!(last.stderr.contains("127.0.0.1:9000 is draining"), "{last}");
    assert_eq!(state(&stage, TWO), "up");
    let forced = stage.enforcer(&["upstream", "drain", TWO, "--force", "--for", "2s"]);
    assert!(forced.is_success(), "{forced}");
    let health = stage.enforcer(&["upstream", "health"]);
    assert_eq!(health.code, Some(7), "{health}");
    wait_until("its time is over", DEADLINE, || state(&stage, TWO) != "draining").unwrap();
    for (words, said) in [
        (["upstream", "drain", "ordres"], "did you mean `orders`?"),
        (["upstream", "drain", "orders/127.0.0.1:900"], "did you mean `127.0.0.1:900"),
        (["upstream", "restore", TWO], "nobody has taken"),
        (["upstream", "list", "billing"], "no upstream is called `billing`"),
    ] {
        let unknown = stage.enforcer(&words);
        assert_eq!(unknown.code, Some(3), "{words:?}: {unknown}");
        assert!(unknown.stderr.contains(said), "{words:?}: {unknown}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_happens_to_hosts_by_itself_is_shown_logged_and_recorded_with_its_cause() {
    let health = "health = { path = \"/healthz\", every = \"200ms\", timeout = \"1s\", healthy = 1, \
                  unhealthy = 2 }\nbackup = [[\"127.0.0.1:9001\"]]\n";
    let stage = Stage::without_agent(&with_hosts("\"127.0.0.1:9000\"", health));
    let two = second(&stage);
    let Stage { lab, upstream, site, .. } = stage;
    let one = upstream.address();
    let mut stage = Stage { lab, upstream: two, site, agent: None };
    stage.start();
    let reader = stage.key("client", "reader");
    let ask = || stage.client(Family::V4).ask(&orders().key(&reader)).unwrap().status;
    wait_until("it is well", DEADLINE, || state(&stage, ONE) == "up").unwrap();
    assert_eq!(ask(), 200);

    drop(upstream);
    wait_until("its end is noticed", DEADLINE, || state(&stage, ONE) == "unhealthy").unwrap();
    wait_until("the other pool is asked", DEADLINE, || row(&stage)["tier"] == 1).unwrap();

    assert_eq!(ask(), 200);
    assert!(host(&stage, ONE)["cause"].is_string(), "{}", host(&stage, ONE));
    wait_until("the cause is known", DEADLINE, || row(&stage)["cause"].is_string()).unwrap();
    let listed = stage.enforcer(&["upstream", "list"]).stdout;
    assert!(listed.contains("failed over") && listed.contains("hosts are well"), "{listed}");
    stage.agent.as_ref().unwrap().wait_until_said("unhealthy").unwrap();
    let found = |what: &str| {
        let records = bodies(&stage, "upstream");
        records.into_iter().find(|record| record["what"] == what)
    };
    wait_until("both are on record", DEADLINE, || {
        found("unhealthy").is_some() && found("failed-over").is_some()
    })
    .unwrap();
    let over = found("failed-over").unwrap();
    assert_eq!((&over["before"], &over["after"]), (&"tier 0".into(), &"tier 1".into()));
    assert!(over["cause"].as_str().unwrap().contains("hosts are well"), "{over}");
    assert_eq!(over["author"], "agent");

    let _back = Upstream::start(&stage.lab.host, one).unwrap();
    wait_until("it is asked again", DEADLINE, || row(&stage)["tier"] == 0).unwrap();
    wait_until("that is on record, too", DEADLINE, || found("healthy").is_some()).unwrap();
    assert!(row(&stage)["cause"].is_null());
}

/// An upstream of two hosts, both running.
fn pair(more: &str) -> (Stage, Upstream) {
    let mut stage =
        Stage::without_agent(&with_hosts("\"127.0.0.1:9000\", \"127.0.0.1:9001\"", more));
    let two = second(&stage);
    stage.start();
    (stage, two)
}

fn second(stage: &Stage) -> Upstream {
    let address: SocketAddr = "127.0.0.1:9001".parse().unwrap();
    Upstream::start(&stage.lab.host, address).unwrap()
}

fn with_hosts(hosts: &str, more: &str) -> String {
    let before = "hosts      = [\"127.0.0.1:9000\"]\n";
    let policy = policy(Hook::Native);
    assert!(policy.contains(before));
    policy.replace(before, &format!("hosts = [{hosts}]\n{more}"))
}

fn both_are_asked(stage: &Stage, two: &Upstream) {
    wait_until("both hosts are asked", DEADLINE, || {
        stage.upstream.requests() > 5 && two.requests() > 5
    })
    .unwrap();
}

/// A request of two seconds, and the host that it is at.
fn slow(
    stage: &Stage,
    two: &Upstream,
    reader: &str,
) -> (&'static str, JoinHandle<anyhow::Result<Answer>>) {
    const PATH: &str = "/v1/drip/40/50";
    let slow = aside(&stage.client(Family::V4), Ask::get(PATH).key(reader));
    let at = |upstream: &Upstream| upstream.seen().iter().any(|seen| seen.target.path() == PATH);
    wait_until("it is under way", DEADLINE, || at(&stage.upstream) || at(two)).unwrap();
    (if at(&stage.upstream) { ONE } else { TWO }, slow)
}

fn row(stage: &Stage) -> Value {
    stage.json(&["upstream", "list", "orders"])[0].clone()
}

fn host(stage: &Stage, target: &str) -> Value {
    let (_, name) = target.split_once('/').unwrap();
    let row = row(stage);
    row["hosts"].as_array().unwrap().iter().find(|host| host["name"] == name).unwrap().clone()
}

fn state(stage: &Stage, target: &str) -> String {
    host(stage, target)["state"].as_str().unwrap().to_owned()
}
