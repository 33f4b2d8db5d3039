//! Who is told, through the real binary, by receivers that answer as receivers do.
//!
//! The receivers listen in the host's own namespace and are allowed by their address; what reaches
//! them is what any receiver would get. Times are real and short.

#![expect(clippy::panic, reason = "a test that cannot go on tells what it saw")]

mod answers;
mod foreign;
mod forms;
mod places;
pub(crate) mod post;
mod queue;
mod tls;
mod told;

use std::net::SocketAddr;

use enforcer_model::Timestamp;
use enforcer_tests::lab::{Agent, DEADLINE, Output, wait_until};
use serde_json::Value;

use crate::stage::{LAYER_7, Stage};
use post::{listener, receiver, receiver_at};

/// Allows the receivers of a test.
const LOOPBACK: &str = "allow_private = ['127.0.0.1/32']";

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn every_receiver_is_tried_out_by_itself_and_says_what_it_answered() {
    let stage = stage();
    let (good, posts) = receiver(&stage, &["204 No Content"]);
    let (away, _) = receiver(&stage, &["302 Found\r\nlocation: http://169.254.169.254/"]);
    let hangs = listener(&stage);
    let hanging = hangs.local_addr().unwrap();
    stage.apply(&policy(&[
        webhook("good", good, "allow_private = ['127.0.0.1/32']"),
        webhook("away", away, "allow_private = ['127.0.0.1/32']"),
        webhook("hangs", hanging, "allow_private = ['127.0.0.1/32']\ntimeout = '1s'"),
        webhook("inside", good, "allow_private = ['10.0.0.0/8']"),
    ]));

    let tested = stage.enforcer(&["notify", "test", "--json"]);

    assert_eq!(tested.code, Some(6), "{tested}");
    let rows: Value = serde_json::from_str(&tested.stdout).unwrap();
    let said = |name: &str| {
        let row = rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
        (row["delivered"].as_bool().unwrap(), row["said"].as_str().unwrap().to_owned())
    };
    assert_eq!(said("good"), (true, "204 No Content".to_owned()));
    assert!(!said("away").0 && said("away").1.contains("redirects are not followed"));
    assert!(!said("hangs").0 && said("hangs").1.contains("no answer within 1s"));
    assert!(!said("inside").0 && said("inside").1.contains("this machine"), "{rows}");
    let post = posts.recv_timeout(DEADLINE).unwrap();
    assert_eq!(post.body()["type"], "enforcer.test");
    assert!(post.is_signed_by(SECRET) && post.is_signed_by(OLD), "{}", post.head);
    let alone = stage.enforcer(&["notify", "test", "nobody"]);
    assert_eq!(alone.code, Some(3), "{alone}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn one_that_is_gone_stays_disabled_over_a_restart_and_gets_the_rest_once_it_is_enabled() {
    let mut stage = stage();
    let (address, posts) = receiver(&stage, &["410 Gone", "204 No Content"]);
    stage.apply(&policy(&[webhook("soc", address, "allow_private = ['127.0.0.1/32']")]));

    open(&stage);
    let first = posts.recv_timeout(DEADLINE).unwrap();
    until_state(&stage, "disabled");
    stage.kill();
    stage.start();
    assert_eq!(state(&stage), "disabled");
    let enabled = stage.enforcer(&["notify", "enable", "soc"]);
    assert!(enabled.is_success(), "{enabled}");

    let again = posts.recv_timeout(DEADLINE).unwrap();
    assert_eq!(again.id(), first.id(), "the same message, by its id");
    until_state(&stage, "well");
    let records = stage.records();
    let told = |word: &str| records.iter().any(|record| record.to_string().contains(word));
    assert!(told("receiver-disabled"));
    assert!(told("receiver-enabled"), "{records:#?}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_notice_survives_the_agents_death_and_a_receiver_that_was_away() {
    let mut stage = stage();
    let address = { listener(&stage).local_addr().unwrap() };
    stage.apply(&policy(&[webhook("soc", address, "allow_private = ['127.0.0.1/32']")]));
    open(&stage);
    until_state(&stage, "failing");

    stage.kill();
    let posts = receiver_at(&stage, address, &["500 Internal Server Error", "204 No Content"]);
    stage.start();
    let resent = stage.enforcer(&["notify", "resend"]);
    assert!(resent.is_success(), "{resent}");

    let said = || stage.agent.as_ref().map(Agent::said).unwrap_or_default();
    let first = posts.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("{error}: {}", said()));
    assert!(stage.enforcer(&["notify", "resend"]).is_success());
    let second = posts.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("{error}: {}", said()));
    assert_eq!(first.id(), second.id());
    assert!(first.body().to_string().contains("incident-opened"), "{}", first.body());
    until_state(&stage, "well");
}

/// Opens an incident, which operators are told of.
fn open(stage: &Stage) {
    let opened = stage.enforcer(&["incident", "open", "--reason", "a test of notices"]);
    assert!(opened.is_success(), "{opened}");
}

fn state(stage: &Stage) -> String {
    stage.json(&["notify", "list"])[0]["state"].as_str().unwrap().to_owned()
}

fn until_state(stage: &Stage, wanted: &str) {
    wait_until(wanted, DEADLINE, || state(stage) == wanted).unwrap();
}

/// The row of a receiver.
fn row(stage: &Stage, name: &str) -> Value {
    let rows = stage.json(&["notify", "list"]);
    rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone()
}

fn time(value: &Value) -> Timestamp {
    serde_json::from_value(value.clone()).unwrap()
}

/// What each receiver said to a test, and whether it took it.
fn tested(stage: &Stage) -> impl Fn(&str) -> (bool, String) {
    let Output { stdout, .. } = stage.enforcer(&["notify", "test", "--json"]);
    let rows: Vec<Value> = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}"));
    move |name| {
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        (row["delivered"].as_bool().unwrap(), row["said"].as_str().unwrap().to_owned())
    }
}

fn stage() -> Stage {
    let stage = Stage::with_policy(LAYER_7);
    stage.file("secret", &format!("whsec_{SECRET}\nwhsec_{OLD}\n"));
    stage
}

fn policy(receivers: &[String]) -> String {
    format!("{LAYER_7}{}", receivers.concat())
}

pub(crate) fn webhook(name: &str, address: SocketAddr, rest: &str) -> String {
    format!(
        "[notify.{name}]\nkind = 'webhook'\nurl = 'http://{address}/in'\nseverity = 'info'\n\
         group_wait = '0s'\nsecret = ['secret']\n{rest}\n"
    )
}
