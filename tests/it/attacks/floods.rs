//! What only the kernel sees, and what is malformed.

use std::io::{Read, Write};

use enforcer_tests::lab::{ATTACKER, DEADLINE, Family, Flood, HOST_FOR_ATTACKER, Sink, wait_until};

use super::{Range, expect_spotless};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_source_that_floods_beyond_its_budget_is_dropped_when_an_operator_says_so() {
    let range = Range::new(&[], "");
    let budget = super::detecting(&super::modes(&[]), "").replace(
        "mode = \"enforce\"\n",
        "mode = \"enforce\"\nbudget = { packets = \"200/s\", burst = 200 }\n",
    );
    range.stage.apply(&budget);
    let sink = Sink::open(&range.stage.lab.host, HOST_FOR_ATTACKER.at(Family::V4, 0)).unwrap();
    let target = ATTACKER.v4.to_string();

    wait_until("the flood is found", DEADLINE, || {
        Flood { packets: 2_000, payload: 64 }
            .send(&range.stage.lab.attacker, sink.address())
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        !range.findings("packet-flood").is_empty()
    })
    .unwrap();

    let finding = range.finding("packet-flood");
    assert_eq!(finding["about"], format!("source:{target}"), "{finding}");
    let asked = range.decision(&finding, "drop the source", "waiting");
    assert!(range.stage.block_of(&target).is_none(), "a sender can be forged");
    let id = asked["id"].as_str().unwrap();
    assert!(range.stage.enforcer(&["incident", "approve", id]).is_success());
    let decision = range.decision(&finding, "drop the source", "in-force");
    assert!(range.stage.block_of(&target).is_some());
    range.expect_recorded(&finding, &decision);
    let steady = range.steady();
    std::thread::sleep(std::time::Duration::from_millis(300));
    expect_spotless(steady);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_scanner_that_sends_several_kinds_of_malformed_requests_is_dropped() {
    let range = Range::new(&[("scanner", "auto")], "");
    let steady = range.steady();
    for line in [
        "GET /v1/../etc/passwd HTTP/1.1\r\nhost: api.test\r\n\r\n",
        "GET /v1//x HTTP/1.1\r\nhost: api.test\r\n\r\n",
        "GET /v1/%2f HTTP/1.1\r\nhost: api.test\r\n\r\n",
        "GET /v1/%00 HTTP/1.1\r\nhost: api.test\r\n\r\n",
        "GET /v1/%252e HTTP/1.1\r\nhost: api.test\r\n\r\n",
        "TRACE /v1/x HTTP/1.1\r\nhost: api.test\r\n\r\n",
    ] {
        // Refused, and the connection ended, before anything of it is read as HTTP.
        if !range.findings("scanner").is_empty() {
            break;
        }
        let mut socket = range.stage.attacker(Family::V4).tls_socket(&[b"http/1.1"]).unwrap();
        socket.write_all(line.as_bytes()).unwrap();
        let mut answer = [0; 9];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 ");
    }

    let finding = range.finding("scanner");

    let decision = range.decision(&finding, "drop the source", "in-force");
    assert!(range.stage.block_of(&ATTACKER.v4.to_string()).is_some());
    range.expect_recorded(&finding, &decision);
    expect_spotless(steady);
}
