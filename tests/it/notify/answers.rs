//! Receivers that answer badly: each is treated as its answer says, and none delays another.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use enforcer_tests::lab::DEADLINE;

use super::post::{odd, receiver};
use super::{LOOPBACK, open, policy, row, stage, tested, time, until_state, webhook};

/// Longer than a receiver of these tests has.
const PATIENCE: &str = "timeout = '1s'";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_a_busy_receiver_asks_for_is_waited_and_never_more_than_a_day() {
    for (answer, least, most) in [
        ("429 Too Many Requests\r\nretry-after: 3600", 3_590, 3_610),
        ("503 Service Unavailable\r\nretry-after: 7200", 7_190, 7_210),
        ("429 Too Many Requests\r\nretry-after: Tue, 31 Dec 2199 23:59:59 GMT", 86_390, 86_410),
        ("429 Too Many Requests\r\nretry-after: 99999999999999999999999", 86_390, 86_410),
        // What is past, or cannot be read, is as if it said nothing.
        ("429 Too Many Requests\r\nretry-after: Sun, 06 Nov 1994 08:49:37 GMT", 4, 7),
        ("429 Too Many Requests\r\nretry-after: soon", 4, 7),
        ("429 Too Many Requests\r\nretry-after: -5", 4, 7),
    ] {
        let stage = stage();
        let (address, posts) = receiver(&stage, &[answer]);
        stage.apply(&policy(&[webhook("soc", address, LOOPBACK)]));

        open(&stage);
        posts.recv_timeout(DEADLINE).unwrap();
        until_state(&stage, "failing");

        let row = row(&stage, "soc");
        let pause = time(&row["next"]).since(time(&row["why_since"])).as_secs();
        assert!((least..=most).contains(&pause), "{answer}: {row}");
        assert_eq!(row["waiting"], 1, "{row}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_receiver_that_fails_is_asked_again_later_and_later_with_the_same_message() {
    let stage = stage();
    let failing = &["500 Internal Server Error", "502 Bad Gateway", "204 No Content"];
    let (address, posts) = receiver(&stage, failing);
    stage.apply(&policy(&[webhook("soc", address, LOOPBACK)]));

    open(&stage);
    let first = posts.recv_timeout(DEADLINE).unwrap();
    let second = posts.recv_timeout(DEADLINE).unwrap();

    assert_eq!((first.id(), &first.body), (second.id(), &second.body));
    assert!(second.is_signed_by(super::SECRET), "signed anew, for its own time");
    enforcer_tests::lab::wait_until("the second answer is known", DEADLINE, || {
        row(&stage, "soc")["why"].as_str().is_some_and(|why| why.starts_with("502"))
    })
    .unwrap();
    let row = row(&stage, "soc");
    let pause = time(&row["next"]).since(time(&row["why_since"])).as_secs();
    assert!((300..=331).contains(&pause), "{row}");
    assert!(posts.try_recv().is_err());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn whoever_hangs_pours_or_talks_nonsense_has_its_time_and_the_others_are_told() {
    let stage = stage();
    let (good, _posts) = receiver(&stage, &["204 No Content"]);
    let slow_head = odd(&stage, |connection| {
        connection.write_all(b"HTTP/1.1 200 OK\r\nx: ").unwrap_or_default();
        while connection.write_all(b"a").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let endless_head = odd(&stage, |connection| {
        connection.write_all(b"HTTP/1.1 200 OK\r\n").unwrap_or_default();
        while connection.write_all(b"x: 0123456789\r\n").is_ok() {}
    });
    let slow_body = odd(&stage, |connection| {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
        connection.write_all(head).unwrap_or_default();
        while connection.write_all(b"a").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let poured = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&poured);
    let endless_body = odd(&stage, move |connection| {
        connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap_or_default();
        while connection.write_all(&[b'x'; 4_096]).is_ok() {
            counted.fetch_add(4_096, Ordering::Relaxed);
        }
    });
    let nonsense = odd(&stage, |connection| {
        connection.write_all(b"220 mail.example ESMTP\r\n").unwrap_or_default();
    });
    let silent = odd(&stage, |connection| {
        // Until the other side has had enough.
        drop(connection.read(&mut [0; 1]));
    });
    let gone = odd(&stage, |_connection: &mut TcpStream| {});
    let rest = format!("{LOOPBACK}\n{PATIENCE}");
    stage.apply(&policy(&[
        webhook("slow-head", slow_head, &rest),
        webhook("endless-head", endless_head, &rest),
        webhook("slow-body", slow_body, &rest),
        webhook("endless-body", endless_body, &rest),
        webhook("nonsense", nonsense, &rest),
        webhook("silent", silent, &rest),
        webhook("gone", gone, &rest),
        webhook("good", good, &rest),
    ]));

    let said = tested(&stage);

    for (who, why) in [
        ("slow-head", "no answer within 1s"),
        ("endless-head", "not whole, readable HTTP"),
        ("nonsense", "not whole, readable HTTP"),
        ("silent", "no answer within 1s"),
        ("gone", "not whole, readable HTTP"),
    ] {
        let (is_delivered, words) = said(who);
        assert!(!is_delivered && words.contains(why), "{who}: {words}");
    }
    // The status decides, however long the body.
    for who in ["slow-body", "endless-body"] {
        let (is_delivered, words) = said(who);
        assert!(is_delivered && words.starts_with("200 OK"), "{who}: {words}");
        assert!(words.chars().count() < 300, "{who}: {words}");
    }
    assert!(said("good").0);
    assert!(poured.load(Ordering::Relaxed) < 64 << 20, "nobody reads it to its end");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn nobody_follows_a_redirect_wherever_it_leads() {
    let stage = stage();
    let (elsewhere, posts) = receiver(&stage, &["204 No Content"]);
    let redirects: Vec<_> = ["301 Moved", "302 Found", "303 See Other", "307 Temp", "308 Perm"]
        .into_iter()
        .map(|status| {
            let status: &'static str =
                format!("{status}\r\nlocation: http://{elsewhere}/in").leak();
            receiver(&stage, &[status])
        })
        .collect();
    let receivers = redirects.iter().enumerate();
    let receivers: Vec<_> =
        receivers.map(|(n, (at, _))| webhook(&format!("r{n}"), *at, LOOPBACK)).collect();
    stage.apply(&policy(&receivers));

    let said = tested(&stage);

    for number in 0..redirects.len() {
        let (is_delivered, words) = said(&format!("r{number}"));
        assert!(!is_delivered && words.contains("redirects are not followed"), "{words}");
    }
    assert!(posts.try_recv().is_err());
}
