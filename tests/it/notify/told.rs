//! What is told though no rule found it: what operators do by hand, and trouble of the audit log.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use enforcer_tests::lab::DEADLINE;
use serde_json::Value;

use super::post::{Post, receiver};
use super::{LOOPBACK, policy, stage, webhook};
use crate::stage::{LAYER_7, Stage};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_level_set_by_hand_and_an_upstream_isolated_by_hand_are_told_with_who_did_it() {
    let stage = stage();
    let (address, posts) = receiver(&stage, &["204 No Content"]);
    stage.apply(&policy(&[webhook("soc", address, LOOPBACK)]));

    let words = ["incident", "level", "2", "--reason", "a drill"];
    assert!(stage.enforcer(&words).is_success());
    let level = next(&posts, "level-changed", DEADLINE);
    assert_eq!(level["title"], "the incident level is 2, before 0: a drill");
    assert_eq!(
        (&level["facts"]["level"], &level["facts"]["operator"]),
        (&"2".into(), &"root".into())
    );

    let host = "orders/127.0.0.1:9000";
    let words = ["upstream", "isolate", host, "--reason", "it leaks", "--force"];
    let isolated = stage.enforcer(&words);
    assert!(isolated.is_success(), "{isolated}");
    let told = next(&posts, "upstream-isolated", DEADLINE);
    assert_eq!((&told["severity"], &told["facts"]["operator"]), (&"error".into(), &"root".into()));
    assert_eq!(told["about"], format!("upstream:{host}"));
    assert!(told["text"].as_str().unwrap().contains("enforcer upstream restore"), "{told}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_audit_log_that_takes_nothing_is_told_from_a_full_disk_and_so_is_its_end() {
    let mut stage = Stage::without_agent(LAYER_7);
    stage.file("secret", &format!("whsec_{}\n", super::SECRET));
    let (address, posts) = receiver(&stage, &["204 No Content"]);
    stage.small_disk();
    stage.site.write_policy(&policy(&[webhook("soc", address, LOOPBACK)])).unwrap();
    stage.start();

    let ballast = stage.fill_disk();
    let begun = Instant::now();
    let told = loop {
        // Something that belongs on record, until there is no room for it.
        stage.enforcer(&["incident", "level", "1", "--reason", "a drill"]);
        if let Some(told) = soon(&posts, "audit-trouble") {
            break told;
        }
        assert!(begun.elapsed() < DEADLINE * 3, "nobody was told");
        ballast.fill();
    };
    assert_eq!(told["title"], "the audit log takes no records: the disk is full");
    assert_eq!((&told["severity"], &told["about"]), (&"critical".into(), &"audit:writing".into()));

    drop(ballast);
    // Half a minute without trouble, and room for a slow machine.
    let over = next(&posts, "audit-trouble", Duration::from_secs(90));
    let title = over["title"].as_str().unwrap();
    assert!(title.starts_with("over: the audit log takes no records"), "{over}");
}

/// The next notice of this kind; others may come before it.
fn next(posts: &Receiver<Post>, kind: &str, patience: Duration) -> Value {
    loop {
        let post = posts.recv_timeout(patience).unwrap_or_else(|error| panic!("{kind}: {error}"));
        if let Some(found) = of(&post, kind) {
            return found;
        }
    }
}

/// The next notice of this kind, if one comes within a moment.
fn soon(posts: &Receiver<Post>, kind: &str) -> Option<Value> {
    while let Ok(post) = posts.recv_timeout(Duration::from_millis(500)) {
        if let Some(found) = of(&post, kind) {
            return Some(found);
        }
    }
    None
}

fn of(post: &Post, kind: &str) -> Option<Value> {
    post.notices().into_iter().find(|notice| notice["kind"] == kind)
}
