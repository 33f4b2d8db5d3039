//! Where notices never go: into this host or its networks, however the way there is written.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use enforcer_tests::lab::DEADLINE;

use super::post::receiver;
use super::{policy, stage, tested};
use crate::stage::Stage;

/// Somewhere on the public internet, where the lab has no way to.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn nothing_of_ones_own_is_connected_to_in_any_notation() {
    let stage = stage();
    let door = Door::open(&stage);
    let places = [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "0.0.0.0",
        "[::]",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd77::1]",
        "10.77.0.1",
    ];
    let receivers: Vec<_> = places
        .iter()
        .enumerate()
        .map(|(number, host)| {
            own(&format!("r{number}"), &format!("https://{host}:{}", door.port), "")
        })
        .collect();
    stage.apply(&policy(&receivers));

    let said = tested(&stage);

    for (number, host) in places.iter().enumerate() {
        let (is_delivered, words) = said(&format!("r{number}"));
        assert!(!is_delivered && words.contains("leads to"), "{host}: {words}");
    }
    door.expect_untouched();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_name_that_leads_elsewhere_when_it_is_asked_again_leads_nowhere() {
    let stage = stage();
    let door = Door::open(&stage);
    let (named, posts) = receiver(&stage, &["204 No Content"]);
    resolve(&stage);
    let at_door = |name: &str| format!("https://{name}:{}", door.port);
    stage.apply(&policy(&[
        own("rebinding", &at_door("rebinding.test"), ""),
        own("both", &at_door("both.test"), ""),
        own("private", &at_door("private.test"), ""),
        own("other", &at_door("private.test"), "allow_private = ['named.test']"),
        own(
            "named",
            &format!("http://named.test:{}", named.port()),
            "allow_private = ['named.test']",
        ),
        own(
            "clear",
            &format!("http://both.test:{}", named.port()),
            "allow_private = ['named.test']",
        ),
    ]));

    let mut refused = 0;
    for _ in 0..6 {
        let said = tested(&stage);
        assert_eq!(said("named"), (true, "204 No Content".to_owned()));
        for name in ["rebinding", "both", "private", "other", "clear"] {
            assert!(!said(name).0, "{name}: {}", said(name).1);
        }
        for name in ["private", "other", "clear"] {
            assert!(said(name).1.contains("leads to"), "{name}: {}", said(name).1);
        }
        refused += usize::from(said("rebinding").1.contains("this machine"));
    }

    assert!(refused > 0, "it did lead to this machine");
    door.expect_untouched();
    assert_eq!(posts.recv_timeout(DEADLINE).unwrap().body()["type"], "enforcer.test");
    let to = posts.recv_timeout(DEADLINE).unwrap();
    assert_eq!(to.field("host"), format!("named.test:{}", named.port()));
}

/// A receiver at a URL.
fn own(name: &str, url: &str, rest: &str) -> String {
    format!(
        "[notify.{name}]\nkind = 'webhook'\nurl = '{url}/in'\nsecret = ['secret']\n\
         timeout = '3s'\n{rest}\n"
    )
}

/// What listens at every address of the host, and counts nobody.
struct Door {
    listener: TcpListener,
    port: u16,
}

impl Door {
    fn open(stage: &Stage) -> Self {
        let listener = stage.lab.host.run(|| TcpListener::bind("[::]:0")).unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    fn expect_untouched(&self) {
        assert_eq!(self.listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

/// The host asks a resolver of ours from here on; its answers for `rebinding.test` change each time.
fn resolve(stage: &Stage) {
    let host = &stage.lab.host;
    let socket = host.run(|| UdpSocket::bind("127.0.0.1:53")).unwrap().unwrap();
    thread::spawn(move || {
        let asked = AtomicUsize::new(0);
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let answer = answer(&buffer[..length], &asked);
            socket.send_to(&answer, from).unwrap_or_default();
        }
    });
    let file = stage.file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n");
    let mut mount = host.command("mount");
    mount.args(["--bind", &file, "/etc/resolv.conf"]);
    host.succeed(mount).unwrap();
}

/// The answer to one question (RFC 1035); IPv6 has none.
fn answer(question: &[u8], asked: &AtomicUsize) -> Vec<u8> {
    let mut name = String::new();
    let mut place = 12;
    while question[place] > 0 {
        let end = place + 1 + usize::from(question[place]);
        name.push_str(std::str::from_utf8(&question[place + 1..end]).unwrap());
        name.push('.');
        place = end;
    }
    let is_v4 = question[place + 1..place + 3] == [0, 1];
    let addresses = match name.as_str() {
        _ if !is_v4 => vec![],
        "rebinding.test." if asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => {
            vec![PUBLIC]
        }
        "both.test." => vec![PUBLIC, Ipv4Addr::LOCALHOST],
        "rebinding.test." | "private.test." | "named.test." => vec![Ipv4Addr::LOCALHOST],
        _ => vec![],
    };
    let count = u8::try_from(addresses.len()).unwrap();
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(&question[12..place + 5]);
    for address in addresses {
        // The name above, an address, of the internet, good for no time.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}
