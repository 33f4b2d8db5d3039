//! One agent takes another's place: no request fails, nothing is lost, and whatever dies on the way
//! leaves a host that is served, or can be.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use enforcer_tests::lab::{Agent, Ask, Client, Family, Http, Steady, TlsStream, wait_until};
use rustix::process::Signal;

use crate::stage::{Hook, Stage, orders, policy};

/// Longer than anything takes on a machine that has other work.
const LONG: Duration = Duration::from_secs(60);

/// Who is blocked and who is not, of the attacker's crowd.
const CROWD: [&str; 2] = ["10.88.0.1", "10.88.0.2"];

/// What a successor says, step by step, before it serves.
const STEPS_OF_SUCCESSOR: [&str; 4] = [
    "taking over from the agent",
    "prepared: asking for everything",
    "everything is handed over",
    "audit log is open",
];

/// What a predecessor says, step by step.
const STEPS_OF_PREDECESSOR: [&str; 3] =
    ["wants to take this one's place", "the audit log is lent", "handed over: accepting no more"];

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn five_agents_in_a_row_take_over_under_mixed_load_and_no_request_fails() {
    let mut stage = stage();
    stage.crowd();
    stage.quarantine(&[CROWD[0]]);
    let stream = stage.stream(&CROWD);
    let reader = stage.key("client", "reader");
    let load = Load::begin(&stage, &reader);

    for round in 0..5 {
        load.flow();
        let next = take_over(&stage);
        next.wait_until_said("serving").unwrap();
        let mut old = stage.agent.replace(next).unwrap();
        let ended = old.wait(LONG).unwrap_or_else(|error| panic!("{error}: {}", old.said()));
        assert!(ended.success(), "round {round}: {}", old.said());
        stream.flow(20).unwrap();
    }
    load.flow();

    load.end_spotless();
    let passages = stream.stop().unwrap();
    assert!(passages[0].is_shut_out(), "{:?}", passages[0]);
    assert!(passages[1].is_served(), "{:?}", passages[1]);
    stage.expect_verified();
    assert_eq!(stage.problem(), None);
    assert!(stage.agent.take().unwrap().terminate().unwrap().success());
    expect_one_record_each(&stage);
    let taken_back = told(&stage, "taken-back");
    assert_eq!((told(&stage, "handing-over"), taken_back), (5, 0));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_cannot_serve_takes_nothing_over_and_the_agent_serves_on() {
    let stage = stage();
    let reader = stage.key("client", "reader");
    let steady = stage.client(Family::V4).steadily(orders().key(&reader), PAUSE);
    let good = policy_of_the_lab();
    let broken = [
        (good.replace("role   = \"reader\"", "role   = \"raeder\""), "raeder"),
        (good.replace("cert.pem", "none.pem"), "none.pem"),
        (good.replace("[::]:8443\"", "[::]:8443\", \"192.0.2.1:8443\""), "has no address"),
        (good.replace("\"state\"", "\"elsewhere\""), "elsewhere"),
    ];

    for (policy, why) in broken {
        stage.site.write_policy(&policy).unwrap();
        let mut next = take_over(&stage);
        assert!(!next.wait(LONG).unwrap().success());
        assert!(next.said().contains(why), "{why}: {}", next.said());
        assert!(stage.enforcer(&["status"]).is_success(), "{why}");
    }

    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless(), "{tally:?}");
    let agent = stage.agent.as_ref().unwrap();
    assert!(!agent.said().contains("the audit log is lent"), "{}", agent.said());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn of_two_who_take_over_at_once_one_is_refused_and_the_other_serves() {
    let mut stage = stage();
    let reader = stage.key("client", "reader");
    let steady = stage.client(Family::V4).steadily(orders().key(&reader), PAUSE);

    let (mut one, mut two) = (take_over(&stage), take_over(&stage));
    let serves = |agent: &Agent| agent.said().contains("serving policy");
    wait_until("both have come to an end", LONG, || {
        [&mut one, &mut two].into_iter().all(|agent| serves(agent) || has_ended(agent))
    })
    .unwrap();

    // Whoever came late may also have taken over from the first.
    let last = if serves(&two) && !has_ended(&mut two) { two } else { one };
    let old = stage.agent.replace(last).unwrap();
    old.wait_until_said("stopped; blocks stay").unwrap();
    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless(), "{tally:?}");
    assert!(stage.enforcer(&["status"]).is_success());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_successor_that_is_killed_at_any_step_leaves_the_agent_serving() {
    let mut stage = stage();
    let reader = stage.key("client", "reader");
    let load = Load::begin(&stage, &reader);

    for step in STEPS_OF_SUCCESSOR {
        let next = take_over(&stage);
        next.wait_until_said(step).unwrap();
        next.kill().unwrap();
        load.flow();
        wait_until("the agent answers again", LONG, || stage.enforcer(&["status"]).is_success())
            .unwrap();
        let key = format!("made-after-{}", step.replace(|c: char| !c.is_alphabetic(), "-"));
        stage.key(&key, "reader");
    }
    load.flow();

    load.end_spotless();
    stage.expect_verified();
    let agent = stage.agent.take().unwrap();
    assert!(!agent.said().contains("handed over:"), "{}", agent.said());
    assert!(agent.terminate().unwrap().success());
    expect_one_record_each(&stage);
    assert!(told(&stage, "taken-back") > 0);
    stage.start();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_agent_that_is_killed_at_any_step_is_succeeded_all_the_same() {
    let mut stage = stage();
    stage.crowd();
    stage.quarantine(&[CROWD[0]]);
    let stream = stage.stream(&CROWD);
    let reader = stage.key("client", "reader");

    for step in STEPS_OF_PREDECESSOR {
        let next = take_over(&stage);
        stage.agent.as_ref().unwrap().wait_until_said(step).unwrap();
        stage.kill();
        next.wait_until_said("serving policy").unwrap();
        stage.agent = Some(next);
        let served = stage.client(Family::V4).ask(&orders().key(&reader)).unwrap();
        assert_eq!(served.status, 200, "{step}");
        stage.expect_verified();
        stream.flow(20).unwrap();
    }

    let passages = stream.stop().unwrap();
    assert!(passages[0].is_shut_out(), "{:?}", passages[0]);
    stage.kill();
    stage.start();
    stage.agent.take().unwrap().terminate().unwrap();
    let verified = stage.offline(&["audit", "verify"]);
    assert!(verified.is_success(), "{verified}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_finished_after_the_successor_was_killed_is_on_record_after_the_next_start() {
    let mut stage = stage();
    let reader = stage.key("client", "reader");
    let download = download(&stage, &reader, "/v1/drip/60/50");
    stage.upstream.wait_for_requests(1).unwrap();
    let next = take_over(&stage);
    next.wait_until_said("serving policy").unwrap();

    next.kill().unwrap();
    let old = stage.agent.take().unwrap();
    stage.start();

    assert_eq!(download.join().unwrap().unwrap(), 60);
    old.wait_until_said("kept aside for the next start").unwrap();
    let spills = stage.site.state().join("audit-spill");
    wait_until("the record is in the log", LONG, || {
        std::fs::read_dir(&spills).is_ok_and(|spills| spills.count() == 0)
    })
    .unwrap();
    stage.agent.take().unwrap().terminate().unwrap();
    expect_one_record_each(&stage);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_is_told_to_stop_while_handing_over_stops_and_nobody_is_left_without_an_agent() {
    for (whom, step) in [
        ("old", STEPS_OF_PREDECESSOR[0]),
        ("old", STEPS_OF_PREDECESSOR[1]),
        ("new", STEPS_OF_SUCCESSOR[1]),
        ("new", STEPS_OF_SUCCESSOR[3]),
    ] {
        let mut stage = stage();
        let mut next = take_over(&stage);
        let old = stage.agent.as_mut().unwrap();
        if whom == "old" {
            old.wait_until_said(step).unwrap();
            old.signal(Signal::TERM).unwrap();
        } else {
            next.wait_until_said(step).unwrap();
            next.signal(Signal::TERM).unwrap();
        }
        wait_until("one of the two has ended", LONG, || has_ended(old) || has_ended(&mut next))
            .unwrap();

        wait_until("the other one knows what it is to do", LONG, || {
            next.said().contains("serving policy") || has_ended(&mut next) || whom == "new"
        })
        .unwrap();
        if whom == "old" {
            // Before it began nobody serves, as was asked for; after that the successor does.
            if has_ended(&mut next) {
                stage.agent = None;
                stage.start();
            }
        }
        assert!(stage.enforcer(&["status"]).is_success(), "{whom} {step}: {}", next.said());
        let verified = stage.offline(&["audit", "verify"]);
        assert!(verified.is_success(), "{whom} {step}: {verified}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn whoever_is_shut_out_of_the_successor_is_cut_off_in_the_agent_that_finishes() {
    let patient = policy_of_the_lab().replace("shutdown = \"5s\"", "shutdown = \"30s\"");
    let mut stage = Stage::with_policy(&patient);
    let [blocked, revoked, spared] =
        ["blocked", "revoked", "spared"].map(|name| stage.key(name, "reader"));
    let slow = |key: &str| download(&stage, key, "/v1/drip/180/50");
    let (cut, gone, kept) = (slow(&blocked), slow(&revoked), slow(&spared));
    stage.upstream.wait_for_requests(3).unwrap();
    let next = take_over(&stage);
    next.wait_until_said("serving policy").unwrap();

    let keys = stage.json(&["keys", "list"]);
    let id = |name: &str| {
        let mut keys = keys.as_array().unwrap().iter();
        keys.find(|key| key["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let target = format!("key:{}", id("blocked"));
    stage.quarantine(&[&target]);
    let done = stage.enforcer(&["keys", "revoke", "revoked", "--reason", "test"]);
    assert!(done.is_success(), "{done}");

    assert!(cut.join().unwrap().is_err(), "a quarantined key's download goes on");
    assert!(gone.join().unwrap().is_err(), "a revoked key's download goes on");
    assert_eq!(kept.join().unwrap().unwrap(), 180);
    let mut old = stage.agent.replace(next).unwrap();
    assert!(old.wait(LONG).unwrap().success());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn policies_and_certificates_come_into_force_under_mixed_load_and_no_request_fails() {
    let stage = stage();
    let reader = stage.key("client", "reader");
    let load = Load::begin(&stage, &reader);

    for round in 0..10 {
        load.flow();
        let changed = policy_of_the_lab() + &format!("\n# round {round}\n");
        stage.site.write_policy(&changed).unwrap();
        stage.agent.as_ref().unwrap().hang_up().unwrap();
        let reloaded = stage.enforcer(&["certs", "reload"]);
        assert!(reloaded.is_success(), "{reloaded}");
    }

    load.end_spotless();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_stop_under_mixed_load_breaks_no_request_off() {
    let mut stage = stage();
    let reader = stage.key("client", "reader");
    let load = Load::begin(&stage, &reader);
    load.flow();

    let ended = stage.agent.take().unwrap().terminate().unwrap();

    assert!(ended.success());
    load.end_unbroken();
    expect_one_record_each(&stage);
}

const PAUSE: Duration = Duration::from_millis(2);

fn policy_of_the_lab() -> String {
    let text = policy(Hook::Native);
    let text = text.replace(
        "match    = \"api.test/v1/{**}\"",
        "match    = \"api.test/v1/{**}\"\nupgrade  = [\"websocket\"]",
    );
    text + "\n[timeouts]\nshutdown = \"5s\"\n"
}

fn stage() -> Stage {
    Stage::with_policy(&policy_of_the_lab())
}

/// Starts an agent that is to take the place of the one that runs.
pub(crate) fn take_over(stage: &Stage) -> Agent {
    let policy = stage.site.policy();
    let words = ["run", "--take-over", "--policy", policy.to_str().unwrap()];
    stage.site.launch_command(stage.site.command(&words).unwrap()).unwrap()
}

fn has_ended(agent: &mut Agent) -> bool {
    agent.wait(Duration::ZERO).is_ok()
}

fn told(stage: &Stage, what: &str) -> usize {
    stage.records_of("config").iter().filter(|record| record["body"]["what"] == what).count()
}

/// The log verifies, and holds one record for each request that reached the upstream.
fn expect_one_record_each(stage: &Stage) {
    let verified = stage.offline(&["audit", "verify"]);
    assert!(verified.is_success(), "{verified}");
    let records = stage.records_of("http");
    let ids: BTreeSet<_> = records.iter().map(|one| one["body"]["id"].to_string()).collect();
    assert_eq!(ids.len(), records.len(), "a request is on record twice");
    let forwarded = records.iter().filter(|one| !one["body"]["upstream"].is_null()).count();
    assert_eq!(u64::try_from(forwarded).unwrap(), stage.upstream.requests());
}

/// Downloads slowly in the background; how many bytes came.
fn download(stage: &Stage, key: &str, path: &str) -> JoinHandle<anyhow::Result<usize>> {
    let (client, ask) = (stage.client(Family::V4), Ask::get(path).key(key));
    std::thread::spawn(move || Ok(client.ask(&ask)?.body.len()))
}

/// Everything that clients do, at once.
struct Load {
    short: Vec<Steady>,
    long: Vec<Looping>,
}

/// Something that is done again and again, and how often it was done or failed.
struct Looping {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Load {
    fn begin(stage: &Stage, key: &str) -> Self {
        let by = |family, http| stage.client(family).steadily_by(http, orders().key(key), PAUSE);
        let (v4, v6) = (stage.client(Family::V4), stage.client(Family::V6));
        let drip = Ask::get("/v1/drip/20/20").key(key);
        let large = Ask::get("/v1/bytes/2000000").key(key);
        let key = key.to_owned();
        Self {
            short: vec![
                by(Family::V4, Http::One),
                by(Family::V6, Http::One),
                by(Family::V4, Http::Two),
                by(Family::V6, Http::Two),
            ],
            long: vec![
                Looping::begin(ask_once(v4.clone(), drip, 20)),
                Looping::begin(ask_once(v6, large, 2_000_000)),
                Looping::begin(talk(v4, key)),
            ],
        }
    }

    /// Waits until each of them has been served a few times more.
    fn flow(&self) {
        let short: Vec<_> = self.short.iter().map(|one| one.so_far().served).collect();
        let long: Vec<_> = self.long.iter().map(|one| one.done.load(Ordering::Relaxed)).collect();
        let begun = Instant::now();
        let short_flow =
            || self.short.iter().zip(&short).all(|(one, &was)| one.so_far().served >= was + 5);
        let long_flow = || {
            self.long.iter().zip(&long).all(|(one, &was)| one.done.load(Ordering::Relaxed) > was)
        };
        while !(short_flow() && long_flow()) {
            assert!(begun.elapsed() < LONG, "the load does not flow");
            std::thread::sleep(PAUSE);
        }
    }

    fn end_spotless(self) {
        let tallies: Vec<_> = self.short.into_iter().map(|one| one.finish().unwrap()).collect();
        let failures: Vec<_> = self.long.into_iter().map(Looping::end).collect();
        assert!(tallies.iter().all(enforcer_tests::lab::Tally::is_spotless), "{tallies:?}");
        assert!(failures.iter().all(Vec::is_empty), "{failures:?}");
    }

    /// As above, but for those who found nobody.
    fn end_unbroken(self) {
        let tallies: Vec<_> = self.short.into_iter().map(|one| one.finish().unwrap()).collect();
        let failures: Vec<_> = self.long.into_iter().map(Looping::end).collect();
        assert!(tallies.iter().all(enforcer_tests::lab::Tally::is_unbroken), "{tallies:?}");
        let broken: Vec<_> =
            failures.iter().flatten().filter(|why| !why.contains("connecting to")).collect();
        assert!(broken.is_empty(), "{broken:?}");
    }
}

impl Looping {
    fn begin(
        mut work: impl FnMut(&AtomicU64, &AtomicBool) -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        let (done, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
            move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) && failures.len() < 20 {
                    if let Err(error) = work(&done, &stop) {
                        failures.push(format!("{error:#}"));
                        std::thread::sleep(PAUSE);
                    }
                }
                failures
            }
        });
        Self { done, stop, thread }
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A connection of its own each time; the answer must be whole.
fn ask_once(
    client: Client,
    ask: Ask,
    length: usize,
) -> impl FnMut(&AtomicU64, &AtomicBool) -> anyhow::Result<()> {
    move |done, _stop| {
        let answer = client.ask(&ask)?;
        anyhow::ensure!(answer.status == 200 && answer.body.len() == length, "{answer:?}");
        done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A WebSocket on which everything that is said comes back, until the server says that it is going
/// away; then another one. What was said when it went away is said again there.
fn talk(client: Client, key: String) -> impl FnMut(&AtomicU64, &AtomicBool) -> anyhow::Result<()> {
    move |done, stop| {
        let mut socket = client.tls_socket(&[b"http/1.1"])?;
        write!(
            socket,
            "GET /v1/socket HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {key}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .context("asking for a WebSocket")?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).context("waiting for the WebSocket")?;
            head.extend(byte);
        }
        anyhow::ensure!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        while !stop.load(Ordering::Relaxed) {
            // A masked ping of four bytes; the upstream sends back what it gets.
            let frame = [0x89, 0x84, 0, 0, 0, 0, b'p', b'i', b'n', b'g'];
            socket.write_all(&frame).context("saying something")?;
            match said(&mut socket).context("hearing it again")? {
                0x88 => return Ok(()),
                0x89 => {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                other => anyhow::bail!("a frame that begins with {other:#x}"),
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// How the next frame begins.
fn said(socket: &mut TlsStream) -> anyhow::Result<u8> {
    let mut head = [0; 2];
    socket.read_exact(&mut head)?;
    let [first, length] = head;
    let mask = if length & 0x80 == 0 { 0 } else { 4 };
    let mut rest = vec![0; usize::from(length & 0x7f) + mask];
    socket.read_exact(&mut rest)?;
    Ok(first)
}
