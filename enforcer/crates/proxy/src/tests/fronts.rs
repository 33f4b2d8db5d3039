//! What stands in front of the proxy: balancers, proxies that name clients, sockets in the file
//! system, browsers that hold on to a connection or come back by TLS only.

use std::num::NonZeroUsize;

use enforcer_model::{Peer, Reason, SourceBy};
use enforcer_policy::{Address, Policy};
use http_body_util::Empty;
use hyper::Request;
use rustls::version::TLS13;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use super::client::{body_of, connect, head_of, raw, request, settings, status_of, to_end};
use super::house::Plan;
use super::{House, Http2};
use crate::Listeners;

const FRONTS: &str = r#"
[listen.balanced]
address = "127.0.0.1:0"
proxy_protocol = { from = "127.0.0.1" }

[listen.behind]
address = "127.0.0.1:0"
trusted = ["127.0.0.1", "10.0.0.0/8"]

[listen.local]
address = "unix:api.sock"
mode = "0600"
"#;

const SECURE: &str = "hsts = { age = '2y', subdomains = true }\n\
                      proxy_protocol = { from = '127.0.0.2' }";

fn house() -> House {
    House::with(Plan { listen: FRONTS, secure: SECURE, ..Plan::default() })
}

#[tokio::test]
async fn a_balancer_says_whom_it_speaks_for_and_that_is_where_requests_come_from() {
    let house = house();
    let get = request("GET /open/x", &["x-forwarded-for: 6.6.6.6"]);
    for (header, source) in [
        ("PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n", Some("203.0.113.7")),
        ("PROXY TCP6 2001:db8::7 ::1 4711 443\r\n", Some("2001:db8::7")),
        ("PROXY UNKNOWN\r\n", None),
    ] {
        let before = house.count();
        let answer = raw(house.address("balanced"), format!("{header}{get}")).await;

        assert_eq!(status_of(&answer), 200, "{header}");
        let record = house.seen_at(before).await;
        assert_eq!(record.source.map(|source| source.to_string()).as_deref(), source);
        assert_eq!(record.source_by, source.map(|_| SourceBy::ProxyProtocol));
        let Peer::Tcp(peer) = record.peer else { panic!("{:?}", record.peer) };
        assert!(peer.ip().is_loopback());
        let told = house.upstream.seen().pop().unwrap();
        assert_eq!(told.headers["x-forwarded-for"], source.unwrap_or("127.0.0.1"));
    }
    house.close().await;
}

#[tokio::test]
async fn a_balancer_that_says_nothing_is_not_served_and_one_too_many_word_neither() {
    let house = house();
    let get = request("GET /open/x", &[]);
    let header = "PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n";
    let mut refused = 0;
    for bytes in [
        get.clone().into_bytes(),
        b"PROXY TCP4 203.0.113.7\r\n".to_vec(),
        b"PROXY ".repeat(40),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(),
        [&[0x16, 3, 1][..], &[0; 64]].concat(),
    ] {
        let answer = raw(house.address("balanced"), &bytes).await;
        assert_eq!(answer, "", "{bytes:?}");
        refused += 1;
    }
    house.until(|| house.shared.counters.proxy_headers_refused.get() == refused).await;
    // Two headers: the second one is no request.
    assert_eq!(
        status_of(&raw(house.address("balanced"), format!("{header}{header}{get}")).await),
        400
    );
    // Nobody else may say whom it speaks for.
    assert_eq!(status_of(&raw(house.plain(), format!("{header}{get}")).await), 400);
    assert!(house.upstream.seen().is_empty());
    house.close().await;
}

#[tokio::test]
async fn a_header_may_come_in_pieces_and_takes_no_byte_of_what_follows() {
    let house = house();
    let mut stream = TcpStream::connect(house.address("balanced")).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x12\x67\x01\xbb";
    for byte in header {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(request("GET /open/x", &[]).as_bytes()).await.unwrap();

    assert_eq!(status_of(&to_end(stream).await), 200);

    assert_eq!(house.record().await.source().to_string(), "203.0.113.7");
    house.close().await;
}

#[tokio::test]
async fn a_client_behind_a_balancer_is_shut_out_and_the_others_are_not() {
    let house = house();
    let get = request("GET /open/x", &[]);
    let from = |client: &str| format!("PROXY TCP4 {client} 10.0.0.1 4711 443\r\n{get}");
    let mut open = TcpStream::connect(house.address("balanced")).await.unwrap();
    let drip = request("GET /open/drip", &[]);
    let header = "PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n";
    open.write_all(format!("{header}{drip}").as_bytes()).await.unwrap();
    house.until(|| house.upstream.seen().len() == 1).await;

    assert_eq!(house.block("203.0.113.7".parse().unwrap()), 1, "found where it is known to be");
    drop(to_end(open).await);

    assert_eq!(raw(house.address("balanced"), from("203.0.113.7")).await, "");
    assert_eq!(house.shared.counters.connections_quarantined.get(), 1);
    assert_eq!(status_of(&raw(house.address("balanced"), from("203.0.113.8")).await), 200);
    house.close().await;
}

#[tokio::test]
async fn a_proxy_names_its_clients_and_each_is_limited_and_shut_out_by_itself() {
    let mut house = house();
    let (_, key) = house.key(&["reader"]);
    let credential = format!("x-api-key: {key}");
    let ask = async |client: &str| {
        let named = format!("x-forwarded-for: 6.6.6.6, {client}, 10.0.0.4");
        let fields = [credential.as_str(), named.as_str()];
        status_of(&raw(house.address("behind"), request("GET /app/x", &fields)).await)
    };
    assert_eq!(ask("203.0.113.7").await, 200);
    let record = house.record().await;
    assert_eq!(record.source().to_string(), "203.0.113.7");
    assert_eq!(record.source_by, Some(SourceBy::XForwardedFor));
    assert_eq!(record.through().unwrap().to_string(), "127.0.0.1");
    let told = house.upstream.seen().pop().unwrap();
    assert_eq!(told.headers["x-forwarded-for"], "203.0.113.7, 10.0.0.4, 127.0.0.1");

    house.block("203.0.113.7".parse().unwrap());
    assert_eq!(ask("203.0.113.7").await, 403);
    assert_eq!(ask("203.0.113.8").await, 200);

    // Three an hour by address, spent by one of them.
    let tight = async |client: &str| {
        let named = format!("x-forwarded-for: {client}");
        let fields = ["x-api-key: wrong", named.as_str()];
        status_of(&raw(house.address("behind"), request("GET /tight/x", &fields)).await)
    };
    for expected in [401, 401, 401, 429] {
        assert_eq!(tight("203.0.113.20").await, expected);
    }
    assert_eq!(tight("203.0.113.21").await, 401);
    house.close().await;
}

#[tokio::test]
async fn a_download_through_a_proxy_ends_when_its_source_is_shut_out_and_the_others_go_on() {
    let mut house = house();
    let (_, key) = house.key(&["reader"]);
    let mut open = Vec::new();
    for client in ["203.0.113.7", "203.0.113.8"] {
        let fields = [format!("x-api-key: {key}"), format!("x-forwarded-for: {client}")];
        let fields = [fields[0].as_str(), fields[1].as_str()];
        let mut stream = TcpStream::connect(house.address("behind")).await.unwrap();
        stream.write_all(request("GET /app/drip", &fields).as_bytes()).await.unwrap();
        open.push(stream);
    }
    house.until(|| house.upstream.seen().len() == 2).await;

    assert_eq!(house.block("203.0.113.7".parse().unwrap()), 1);

    drop(to_end(open.remove(0)).await);
    let cut = house.record().await;
    assert_eq!(cut.source().to_string(), "203.0.113.7");
    assert_eq!(cut.reason, Some(Reason::Quarantined));
    drop(open);
    house.records(2).await;
    house.close().await;
}

#[tokio::test]
async fn whoever_is_not_trusted_says_of_itself_what_it_likes_in_vain() {
    let house = house();
    let fields =
        ["x-forwarded-for: 203.0.113.7", "forwarded: for=203.0.113.7", "x-real-ip: 1.1.1.1"];

    assert_eq!(status_of(&raw(house.plain(), request("GET /open/x", &fields)).await), 200);

    let record = house.record().await;
    assert_eq!((record.source, record.source_by), (None, None));
    let told = house.upstream.seen().pop().unwrap();
    assert_eq!(told.headers["x-forwarded-for"], "127.0.0.1");
    assert!(!told.headers.contains_key("forwarded") && !told.headers.contains_key("x-real-ip"));
    house.close().await;
}

#[tokio::test]
async fn two_stories_about_one_client_are_refused_and_nonsense_is_noted() {
    let house = house();
    let ask = async |fields: &[&str]| {
        let before = house.count();
        let answer = raw(house.address("behind"), request("GET /open/x", fields)).await;
        (status_of(&answer), house.seen_at(before).await)
    };

    let (status, record) =
        ask(&["x-forwarded-for: 203.0.113.7", "forwarded: for=203.0.113.8"]).await;
    assert_eq!((status, record.reason), (400, Some(Reason::HeaderMalformed)));
    assert!(record.cause.unwrap().contains("203.0.113.8"));
    let (status, record) = ask(&["forwarded: for=203.0.113.7, for=_hidden"]).await;
    assert_eq!((status, record.source), (200, None));
    assert!(record.source_doubt.unwrap().contains("hidden"));
    let (status, record) = ask(&["forwarded: for=\"[2001:db8::7]:80\";proto=http"]).await;
    assert_eq!((status, record.source_by), (200, Some(SourceBy::Forwarded)));
    let told = house.upstream.seen().pop().unwrap();
    assert_eq!(told.headers["x-forwarded-for"], "2001:db8::7, 127.0.0.1");
    assert!(told.headers["forwarded"].to_str().unwrap().starts_with("for=\"[2001:db8::7]\", "));
    house.close().await;
}

#[tokio::test]
async fn a_socket_in_the_file_system_serves_and_knows_who_asks() {
    let house = house();
    let mut stream = UnixStream::connect(house.folder.path().join("api.sock")).await.unwrap();
    stream.write_all(request("GET /open/x", &[]).as_bytes()).await.unwrap();

    let answer = to_end(stream).await;

    assert_eq!((status_of(&answer), body_of(&answer)), (200, "ok"));
    let record = house.record().await;
    let Peer::Unix { uid, pid, .. } = record.peer else { panic!("{:?}", record.peer) };
    assert_eq!((uid, pid), (rustix::process::getuid().as_raw(), std::process::id()));
    assert_eq!(record.source().to_string(), "127.0.0.1");
    assert_eq!(&*record.listener, "local");
    house.close().await;
}

#[tokio::test]
async fn browsers_are_told_to_come_back_by_tls_with_every_answer_and_over_tls_only() {
    let house = house();
    let ask = async |target: &str| {
        let tls = settings(house.certificate(), &["http/1.1"], &TLS13, None);
        let mut stream = connect(house.address("secure"), &tls).await.unwrap();
        stream.write_all(request(target, &[]).as_bytes()).await.unwrap();
        to_end(stream).await
    };
    let told = "\r\nstrict-transport-security: max-age=63072000; includeSubDomains";
    for (target, status) in
        [("GET /open/x", 200), ("GET /app/x", 401), ("GET /nowhere", 404), ("GET /open/hsts", 200)]
    {
        let answer = ask(target).await;
        assert_eq!(status_of(&answer), status, "{target}");
        let head = head_of(&answer);
        assert!(head.contains(told), "{head}");
        assert_eq!(head.matches("strict-transport-security").count(), 1, "{head}");
    }
    let plain = raw(house.plain(), request("GET /open/x", &[])).await;
    assert!(!plain.contains("strict-transport-security"), "{plain}");
    house.close().await;
}

#[tokio::test]
async fn every_connection_is_known_by_what_its_software_offers() {
    let house = house();
    for alpn in ["h2", "http/1.1"] {
        let tls = settings(house.certificate(), &[alpn], &TLS13, None);
        let stream = connect(house.address("secure"), &tls).await.unwrap();
        match alpn {
            "h2" => drop(Http2::over(stream).await.text("GET /open/x", &[]).await),
            _ => {
                let mut stream = stream;
                stream.write_all(request("GET /open/x", &[]).as_bytes()).await.unwrap();
                to_end(stream).await;
            }
        }
    }
    raw(house.plain(), request("GET /open/x", &[])).await;

    let records = house.records(3).await;

    let [two, one, none] =
        records.iter().map(|record| record.ja4.as_deref()).collect::<Vec<_>>()[..]
    else {
        panic!()
    };
    let (two, one) = (two.unwrap(), one.unwrap());
    assert!(two.starts_with("t13d"), "{two}");
    assert_eq!((two.get(8..10), one.get(8..10)), (Some("h2"), Some("h1")), "{two} {one}");
    assert_eq!(two.get(10..), one.get(10..), "the same software");
    assert_eq!(none, None);
    house.close().await;
}

#[tokio::test]
async fn a_browser_that_uses_one_connection_for_two_names_is_told_to_make_another() {
    let house = house();
    let tls = settings(house.certificate(), &["h2"], &TLS13, None);
    let stream = connect(house.address("secure"), &tls).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async |host: &str| {
        let request = Request::get(format!("https://{host}/open/x"));
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        sender.send_request(request).await.unwrap().status().as_u16()
    };

    assert_eq!(ask("api.test").await, 200);
    assert_eq!(ask("other.test").await, 421);
    assert_eq!(ask("192.0.2.1").await, 404, "an address is nobody's name");
    assert_eq!(ask("api.test").await, 200, "the connection goes on");

    let records = house.records(4).await;
    assert_eq!(records[1].reason, Some(Reason::HostMisdirected));
    house.close().await;
}

#[test]
fn sockets_that_another_process_opened_are_taken_over_with_whoever_waits_there() {
    let folder = tempfile::tempdir().unwrap();
    let policy = |listen: &str| {
        let text = format!(
            "version = 1\n{listen}\n[upstream.a]\nhosts = ['127.0.0.1:9']\n[[route]]\nname = 'a'\n\
             match = '*/{{**}}'\nupstream = 'a'\npublic = true\n"
        );
        Policy::parse(&text, &folder.path().join("policy.toml")).unwrap()
    };
    let both = policy("[listen.a]\naddress = ['127.0.0.1:0', 'unix:a.sock']\n");
    let old = Listeners::bind(&both, NonZeroUsize::new(3).unwrap()).unwrap();
    let tcp = old.addresses()[0].1.tcp().unwrap();
    let waiting: Vec<_> = (0..12).map(|_| std::net::TcpStream::connect(tcp).unwrap()).collect();
    let local = std::os::unix::net::UnixStream::connect(folder.path().join("a.sock")).unwrap();
    let shared = old.share().unwrap();
    assert_eq!(shared.len(), 4);
    drop(old);

    let new = Listeners::adopt(&both, NonZeroUsize::new(2).unwrap(), shared).unwrap();

    assert_eq!(new.addresses()[0].1, Address::Tcp(tcp));
    assert_eq!(new.addresses().len(), 2);
    assert_eq!(accepted(new), (12, 1));
    drop((waiting, local));
    // What the policy does not name any more is closed.
    let only = policy("[listen.b]\naddress = 'unix:b.sock'\n");
    let old = Listeners::bind(&both, NonZeroUsize::MIN).unwrap();
    let tcp = old.addresses()[0].1.tcp().unwrap();
    let shared = old.share().unwrap();
    drop(old);
    let new = Listeners::adopt(&only, NonZeroUsize::MIN, shared).unwrap();
    assert!(std::net::TcpStream::connect(tcp).is_err());
    assert_eq!(new.addresses().len(), 1);
}

/// How many connections wait, over TCP and in the file system.
fn accepted(listeners: Listeners) -> (usize, usize) {
    use crate::listeners::Opening;
    let (mut tcp, mut unix) = (0, 0);
    for bound in listeners.into_threads().into_iter().flat_map(|thread| thread.0) {
        match bound.opening {
            Opening::Tcp(socket) => tcp += std::iter::from_fn(|| socket.accept().ok()).count(),
            Opening::Unix(socket) => unix += std::iter::from_fn(|| socket.accept().ok()).count(),
        }
    }
    (tcp, unix)
}
