//! Certificates that are replaced, broken or expired while requests are served.

use std::path::Path;
use std::time::Duration;

use enforcer_tests::lab::{
    Certificate, Client, DEADLINE, Family, HOST_FOR_CLIENT, Http, PORT, wait_until,
};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;

use super::bodies;
use crate::stage::{Hook, NAME, Stage, orders, policy};

/// A listener beside the public one, with files of its own.
const SECOND: &str = "\n[listen.second]\naddress = \"127.0.0.1:9443\"\n\
                      tls = { certificate = \"second/cert.pem\", key = \"second/key.pem\" }\n";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_replaced_certificate_is_shown_from_the_next_handshake_on_and_no_request_notices() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let steady = stage.client(Family::V4).steadily(orders().key(&reader), Duration::from_millis(1));
    let before = stage.json(&["certs", "list"]);
    assert_eq!(before[0]["listener"], "public");
    assert_eq!(before[0]["names"][0], NAME);
    assert!(before[0]["days_left"].as_i64().unwrap() > 30, "{before}");
    assert!(before[0]["warning"].is_null());
    let unchanged = stage.json(&["certs", "reload"]);
    assert_eq!(unchanged["listeners"][0]["unchanged"], 1);
    assert_eq!(unchanged["listeners"][0]["added"].as_array().unwrap().len(), 0);

    let fresh = Certificate::for_names(&[NAME]).unwrap();
    fresh.write(&stage.site.folder().join("tls")).unwrap();
    let reloaded = stage.json(&["certs", "reload"]);

    let listener = &reloaded["listeners"][0];
    assert_eq!(listener["removed"][0]["sha256"], before[0]["sha256"]);
    assert_ne!(listener["added"][0]["sha256"], before[0]["sha256"]);
    let target = HOST_FOR_CLIENT.at(Family::V4, PORT);
    let trusting = Client::new(&stage.lab.client, target, NAME, Some(&fresh));
    assert_eq!(trusting.ask(&orders().key(&reader)).unwrap().status, 200);
    assert!(stage.client(Family::V4).connect(Http::One).is_err(), "the old one is gone");
    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless(), "{tally:?}");
    let record = bodies(&stage, "certificate").pop().unwrap();
    assert_eq!(record["what"], "replaced");
    assert_eq!(record["before"], before[0]["sha256"]);
    assert_eq!(record["after"], listener["added"][0]["sha256"]);
    assert_eq!(record["author"]["operator"]["name"], "root");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_broken_or_expired_file_leaves_the_old_certificate_in_force_and_says_so() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let steady = stage.client(Family::V4).steadily(orders().key(&reader), Duration::from_millis(1));
    let before = stage.json(&["certs", "list"])[0]["sha256"].clone();
    let tls = stage.site.folder().join("tls");

    expired(&tls);
    let refused = stage.enforcer(&["certs", "reload"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stdout.contains("public  NOT changed"), "{refused}");
    assert!(refused.stdout.contains("has expired on 2020-01-02"), "{refused}");
    std::fs::write(tls.join("cert.pem"), "nonsense").unwrap();
    let refused = stage.enforcer(&["certs", "reload"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stdout.contains("cert.pem"), "{refused}");

    assert_eq!(stage.json(&["certs", "list"])[0]["sha256"], before);
    let served = stage.client(Family::V4).ask(&orders().key(&reader)).unwrap();
    assert_eq!(served.status, 200);
    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless(), "{tally:?}");
    let records = bodies(&stage, "certificate");
    let whats: Vec<&Value> = records.iter().map(|record| &record["what"]).collect();
    assert_eq!(whats, ["refused", "refused"]);
    assert!(records[0]["cause"].as_str().unwrap().contains("expired"), "{records:?}");
    assert_eq!(records[0]["after"], before);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn one_bad_listener_does_not_keep_another_from_its_new_certificate() {
    let mut stage = Stage::without_agent(&(policy(Hook::Native) + SECOND));
    let second = stage.site.folder().join("second");
    Certificate::for_names(&[NAME]).unwrap().write(&second).unwrap();
    stage.start();

    Certificate::for_names(&[NAME]).unwrap().write(&stage.site.folder().join("tls")).unwrap();
    std::fs::remove_file(second.join("key.pem")).unwrap();
    let partly = stage.enforcer(&["certs", "reload"]);

    assert_eq!(partly.code, Some(6), "{partly}");
    assert!(partly.stdout.contains("public  changed"), "{partly}");
    assert!(partly.stdout.contains("second  NOT changed, the old certificates stay"), "{partly}");
    assert_eq!(stage.json(&["certs", "list"]).as_array().unwrap().len(), 2);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_certificate_that_ends_soon_is_marked_warned_of_and_on_record() {
    let stage = Stage::without_agent(&policy(Hook::Native));
    // The clock of the lab is the host's: as many days from now as the year's end is far.
    let day = std::time::SystemTime::now() + Duration::from_secs(5 * 86_400);
    write(&stage.site.folder().join("tls"), |params| params.not_after = day.into());
    let mut stage = stage;
    stage.start();

    let listed = stage.json(&["certs", "list"]);
    assert_eq!(listed[0]["warning"], "very-soon");
    assert!((4..=5).contains(&listed[0]["days_left"].as_i64().unwrap()), "{listed}");
    let table = stage.enforcer(&["certs", "list", "-o", "table"]);
    assert!(table.stdout.contains("!! "), "{table}");
    assert!(stage.enforcer(&["status"]).stdout.contains("cert     public"), "in status");
    stage.agent.as_ref().unwrap().wait_until_said("a certificate has to be replaced").unwrap();
    wait_until("it is on record", DEADLINE, || {
        bodies(&stage, "certificate").iter().any(|record| record["what"] == "expiring")
    })
    .unwrap();
}

/// Replaces certificate and key by some whose time is over.
fn expired(folder: &Path) {
    write(folder, |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
    });
}

fn write(folder: &Path, change: impl FnOnce(&mut CertificateParams)) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    change(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}
