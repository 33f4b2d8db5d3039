//! What waits: grouped, as a digest in a storm, bounded, and still there after kill -9.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use enforcer_admin::call::CaseOrder;
use enforcer_admin::{Call, ask};
use enforcer_tests::lab::{DEADLINE, wait_until};
use serde_json::{Value, json};

use super::post::{Post, listener, read, receiver_at};
use super::{LOOPBACK, open, policy, row, stage, until_state, webhook};
use crate::stage::Stage;

/// Incidents that are open at once; one more closes the quietest.
const OPEN_MAX: usize = 256;
/// Notices that wait for one receiver.
const QUEUE_MAX: usize = 2_000;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_belongs_to_one_incident_is_one_message() {
    let stage = stage();
    let held = Held::open(&stage);
    stage.apply(&policy(&[webhook("soc", held.address, &format!("{LOOPBACK}\ntimeout = '1m'"))]));
    open(&stage);
    held.posts.recv_timeout(DEADLINE).unwrap();

    // While the first message is under way, a whole incident happens.
    open(&stage);
    let words = "incident tighten --route orders --rate 5/m --incident INC-0002 --reason x";
    let words: Vec<_> = words.split(' ').collect();
    let tightened = stage.enforcer(&words);
    assert!(tightened.is_success(), "{tightened}");
    wait_until("that is told", DEADLINE, || row(&stage, "soc")["waiting"] == 3).unwrap();
    let closed = stage.enforcer(&["incident", "close", "INC-0002", "--reason", "over"]);
    assert!(closed.is_success(), "{closed}");
    wait_until("its end is told", DEADLINE, || row(&stage, "soc")["waiting"] == 4).unwrap();
    held.release();

    let told = held.posts.recv_timeout(DEADLINE).unwrap();
    let data = &told.body()["data"];
    assert_eq!((&data["group"], &data["count"]), (&json!("incident/INC-0002"), &json!(3)));
    let notices = told.notices();
    let kinds: Vec<_> = notices.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["incident-opened", "decision-made", "incident-closed"]);
    for notice in notices.iter().skip(1) {
        assert_eq!(notice["facts"]["operator"], "root", "{notice}");
    }
    held.release();
    until_state(&stage, "well");
    assert_eq!(row(&stage, "soc")["waiting"], 0);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_storm_is_a_digest_that_counts_everything() {
    let stage = stage();
    let held = Held::open(&stage);
    let rest = format!("{LOOPBACK}\ntimeout = '1m'\ndigest = 3");
    stage.apply(&policy(&[webhook("soc", held.address, &rest)]));
    open(&stage);
    held.posts.recv_timeout(DEADLINE).unwrap();

    open_many(&stage, 40);
    wait_until("all of them wait", DEADLINE, || row(&stage, "soc")["waiting"] == 41).unwrap();
    held.release();

    let digest = held.posts.recv_timeout(DEADLINE).unwrap().body();
    assert_eq!(digest["type"], "enforcer.digest", "{digest}");
    let data = &digest["data"];
    assert_eq!(data["count"], 40);
    assert_eq!(data["kinds"], json!([{ "what": "incident-opened", "count": 40 }]));
    assert_eq!(data["incidents"].as_array().unwrap().len(), 40);
    assert_eq!(data["notices"].as_array().unwrap().len(), 20, "the gravest, whole");
    held.release();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_full_queue_says_what_it_dropped_over_kill_9_and_the_rest_arrives_as_a_digest() {
    const OPENED: usize = 1_400;
    const TOLD: usize = OPENED + OPENED - OPEN_MAX;
    let mut stage = stage();
    let address = listener(&stage).local_addr().unwrap();
    stage.apply(&policy(&[webhook("soc", address, LOOPBACK)]));
    let counts = |stage: &Stage| {
        let row = row(stage, "soc");
        let count = |field: &str| usize::try_from(row[field].as_u64().unwrap()).unwrap();
        (count("waiting"), count("dropped"))
    };

    open_many(&stage, OPENED);
    wait_until("everything is taken up or dropped", DEADLINE, || {
        let (waiting, dropped) = counts(&stage);
        waiting + dropped == TOLD
    })
    .unwrap();
    let (waiting, dropped) = counts(&stage);
    assert!(dropped > 0 && waiting >= QUEUE_MAX, "{waiting} {dropped}");
    let on_record = |record: &Value| {
        let text = record.to_string();
        text.contains("notices-lost") && text.contains("for soc: the queue is full")
    };
    assert!(stage.records().iter().any(on_record));

    stage.kill();
    stage.start();
    assert_eq!(counts(&stage), (waiting, dropped));
    let posts = receiver_at(&stage, address, &["204 No Content"]);
    assert!(stage.enforcer(&["notify", "resend"]).is_success());

    let mut told = 0;
    let mut lost = 0;
    let mut ids = Vec::new();
    while told < waiting {
        let post = posts.recv_timeout(DEADLINE).unwrap();
        let data = &post.body()["data"];
        told += usize::try_from(data["count"].as_u64().unwrap()).unwrap();
        lost += usize::try_from(data["dropped_before"].as_u64().unwrap()).unwrap();
        ids.push(post.id().to_owned());
    }
    assert_eq!((told, lost), (waiting, dropped), "what was dropped is told");
    assert!(ids.len() <= 4, "a digest, and not a thousand messages: {ids:?}");
    ids.dedup();
    until_state(&stage, "well");
    assert_eq!(counts(&stage), (0, dropped));
}

/// Opens so many incidents by hand, quickly.
fn open_many(stage: &Stage, count: usize) {
    let socket = stage.site.socket();
    for number in 0..count {
        let order = CaseOrder::Open { reason: format!("number {number}") };
        ask(&socket, &Call::Case { order }).unwrap();
    }
}

/// A receiver that answers only when it is released, once for each time.
struct Held {
    address: SocketAddr,
    posts: Receiver<Post>,
    release: Sender<()>,
}

impl Held {
    fn open(stage: &Stage) -> Self {
        let listener = listener(stage);
        let address = listener.local_addr().unwrap();
        let (send, posts) = channel();
        let (release, released) = channel();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let Some(post) = read(&mut connection) else { continue };
                if send.send(post).is_err() || released.recv().is_err() {
                    return;
                }
                connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap_or_default();
            }
        });
        Self { address, posts, release }
    }

    fn release(&self) {
        self.release.send(()).unwrap();
    }
}
