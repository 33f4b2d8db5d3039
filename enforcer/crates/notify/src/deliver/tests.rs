//! Against real sockets of this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket as StdUdp};
use std::os::unix::net::UnixDatagram as StdUnix;
use std::sync::Arc;
use std::thread;

use enforcer_model::SystemClock;

use super::*;
use crate::receiver::tests::receiver;
use crate::{Facility, Kind, Notice, Severity, SyslogFormat};

/// Answers one connection with `answer`, and gives back what it was asked.
fn server(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut buffer = [0; 4_096];
        loop {
            let read = stream.read(&mut buffer).unwrap();
            asked.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&asked);
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = text.find("\r\n\r\n").zip(length);
            if read == 0
                || whole
                    .is_some_and(|(head, n)| asked.len() >= head + 4 + n.parse::<usize>().unwrap())
            {
                break;
            }
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (address, serving)
}

fn job(target: Target, allowed: &[&str]) -> Job {
    let mut receiver = receiver("one");
    allowed.iter().for_each(|one| receiver.permits.allow(one).unwrap());
    receiver.timeout = Duration::from_millis(800);
    let Form::Webhook { target: url, .. } = &mut receiver.form else { panic!() };
    *url = target;
    of(receiver)
}

fn of(receiver: Receiver) -> Job {
    let at = Timestamp::from_unix_seconds(1_795_000_000);
    let notice = Notice::new(Kind::Finding, Severity::Error, at, "a finding").with_rule("bola");
    Job {
        receiver: Arc::new(receiver),
        bundle: Some(Arc::new(Bundle::single("msg_01".to_owned(), notice))),
        firing: Arc::default(),
        at,
        host: "edge-1".into(),
    }
}

fn http(address: SocketAddr) -> Target {
    Target::http(&format!("http://{address}/in?a=b")).unwrap()
}

#[tokio::test]
async fn an_answer_decides_what_becomes_of_a_message() {
    let wait = Some(Duration::from_secs(120));
    for (answer, expected) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", Outcome::Delivered("204 No Content".to_owned())),
        (
            "HTTP/1.1 410 Gone\r\ncontent-length: 2\r\n\r\nno",
            Outcome::Gone("410 Gone: no".to_owned()),
        ),
        (
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
            Outcome::Refused("400 Bad Request".to_owned()),
        ),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
            Outcome::failed(
                "302 Found; redirects are not followed: write the URL it leads to".to_owned(),
            ),
        ),
        (
            "HTTP/1.1 429 Too Many Requests\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n",
            Outcome::Failed { why: "429 Too Many Requests".to_owned(), wait },
        ),
        (
            "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
            Outcome::failed("500 Internal Server Error".to_owned()),
        ),
    ] {
        let (address, serving) = server(answer);
        let outcome = Courier::deliver(&job(http(address), &["127.0.0.1/32"]), &SystemClock).await;

        assert_eq!(outcome, expected);
        let asked = serving.join().unwrap();
        assert!(asked.starts_with("POST /in?a=b HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("webhook-id: msg_01\r\n"), "{asked}");
        assert!(asked.contains("webhook-signature: v1,"), "{asked}");
    }
}

#[tokio::test]
async fn a_private_address_is_not_even_connected_to_unless_it_is_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let by_name = Target::http(&format!("https://localhost:{}/", address.port())).unwrap();
    for job in [
        job(http(address), &["10.0.0.0/8"]),
        job(Target::http(&format!("https://{address}/")).unwrap(), &[]),
        job(by_name, &["other.internal"]),
    ] {
        let outcome = Courier::deliver(&job, &SystemClock).await;

        assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
        assert!(outcome.said().contains("allow_private"), "{}", outcome.said());
    }
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn one_that_hangs_has_its_time_and_no_more_and_an_endless_answer_is_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = job(http(listener.local_addr().unwrap()), &["127.0.0.1/32"]);
    let outcome = Courier::deliver(&hangs, &SystemClock).await;
    assert_eq!(outcome, Outcome::failed("no answer within 800ms".to_owned()));

    let endless = TcpListener::bind("127.0.0.1:0").unwrap();
    let job = job(http(endless.local_addr().unwrap()), &["127.0.0.1/32"]);
    let pouring = thread::spawn(move || {
        let (mut stream, _) = endless.accept().unwrap();
        let mut poured = 0_u64;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        while stream.write_all(b"400\r\n").is_ok()
            && stream.write_all(&[b'x'; 1_024]).is_ok()
            && stream.write_all(b"\r\n").is_ok()
            && poured < 1 << 30
        {
            poured += 1_024;
        }
        poured
    });
    let outcome = Courier::deliver(&job, &SystemClock).await;
    assert!(matches!(&outcome, Outcome::Delivered(said) if said.len() < 1_000), "{outcome:?}");
    assert!(pouring.join().unwrap() < 1 << 26);
}

#[tokio::test]
async fn a_status_counts_though_the_body_behind_it_comes_drop_by_drop() {
    let drips = TcpListener::bind("127.0.0.1:0").unwrap();
    let job = job(http(drips.local_addr().unwrap()), &["127.0.0.1/32"]);
    let (ended, end) = std::sync::mpsc::channel::<()>();
    let dripping = thread::spawn(move || {
        let (mut stream, _) = drips.accept().unwrap();
        assert!(stream.read(&mut [0; 8_192]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\nt").unwrap();
        // It keeps the connection open and the body short until the delivery is over.
        end.recv().unwrap_err();
    });

    let outcome = Courier::deliver(&job, &SystemClock).await;

    drop(ended);
    dripping.join().unwrap();
    assert!(
        matches!(&outcome, Outcome::Delivered(said) if said.starts_with("200 OK")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn each_event_of_a_message_has_the_time_of_its_receiver() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut receiver = receiver("page");
    receiver.permits.allow("127.0.0.1/32").unwrap();
    receiver.timeout = Duration::from_millis(500);
    receiver.form = Form::PagerDuty {
        target: http(listener.local_addr().unwrap()),
        routing_key: crate::Routing::new("R0UT1NG").unwrap(),
    };
    let test = Notice::new(Kind::Test, Severity::Info, Timestamp::from_unix_ns(1), "a test");
    let bundle = Some(Arc::new(Bundle::single("msg_02".to_owned(), test)));
    let job = Job { bundle, ..of(receiver) };
    let serving = thread::spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 8_192];
            let read = stream.read(&mut buffer).unwrap();
            asked.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
            // Both together take longer than one may.
            thread::sleep(Duration::from_millis(300));
            stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
        asked
    });

    let outcome = Courier::deliver(&job, &SystemClock).await;

    assert_eq!(outcome, Outcome::Delivered("202 Accepted".to_owned()));
    assert_eq!(serving.join().unwrap().len(), 2);
}

#[tokio::test]
async fn syslog_goes_over_datagrams_streams_with_counts_and_the_local_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let unix = StdUnix::bind(&path).unwrap();
    let udp = StdUdp::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let counted = tcp.local_addr().unwrap();
    let reading = thread::spawn(move || {
        let mut text = String::new();
        tcp.accept().unwrap().0.read_to_string(&mut text).unwrap();
        text
    });
    let mut buffer = [0; 4_096];
    for target in [
        format!("unix:{}", path.display()),
        format!("udp://{}", udp.local_addr().unwrap()),
        format!("tcp://{counted}"),
    ] {
        let mut receiver = receiver("log");
        receiver.permits.allow("127.0.0.1/32").unwrap();
        receiver.form = Form::Syslog {
            target: Target::syslog(&target).unwrap(),
            format: SyslogFormat::Rfc5424,
            facility: Facility::named("local0").unwrap(),
        };
        let outcome = Courier::deliver(&of(receiver), &SystemClock).await;
        assert!(matches!(outcome, Outcome::Delivered(_)), "{target}: {outcome:?}");
    }
    let length = unix.recv(&mut buffer).unwrap();
    let datagram = String::from_utf8(buffer[..length].to_vec()).unwrap();
    assert!(datagram.starts_with("<131>1 ") && datagram.ends_with("a finding"), "{datagram}");
    let length = udp.recv(&mut buffer).unwrap();
    assert_eq!(String::from_utf8_lossy(&buffer[..length]), datagram);
    assert_eq!(reading.join().unwrap(), format!("{} {datagram}", datagram.len()));
}
