//! Start, reload, quarantine, stop: what happens to requests that are under way.

use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use enforcer_model::{Clock, Reason, RequestId, Role, SystemClock, Target};
use enforcer_policy::Policy;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::{self, body_of, raw, request, status_of};
use super::house::Plan;
use super::{House, Http2};
use crate::entry::{Entry, Origin};
use crate::{BindError, Listeners};

#[tokio::test]
async fn a_blocked_source_loses_its_connections_at_once_and_gets_no_other() {
    let house = House::open();
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let mut dripping = client.send("GET /open/drip", &[], "").await.unwrap().into_body();
    dripping.frame().await.unwrap().unwrap();
    let mut unused = TcpStream::connect(house.plain()).await.unwrap();
    house.until(|| house.shared.connections.open() == 2).await;

    let began = Instant::now();
    let closed = house.block(Target::Network("127.0.0.0/8".parse().unwrap()));
    let dropped = unused.read(&mut [0]).await.unwrap_or(0);
    let took = began.elapsed();
    while dripping.frame().await.is_some_and(|frame| frame.is_ok()) {}

    assert_eq!((closed, dropped), (2, 0));
    assert!(took < Duration::from_millis(500), "{took:?}");
    let record = house.record().await;
    assert_eq!((record.status, record.reason), (200, Some(Reason::Quarantined)));
    let mut refused = TcpStream::connect(house.plain()).await.unwrap();
    assert_eq!(refused.read(&mut [0]).await.unwrap_or(0), 0);
    assert_eq!(house.shared.counters.connections_quarantined.get(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_blocked_key_loses_its_answers_and_others_keep_theirs() {
    let mut house = House::open();
    let (id, bad) = house.key(&["reader"]);
    let (_, good) = house.key(&["reader"]);
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let ask = async |path: &str, key: &str| {
        client.send(&format!("GET {path}"), &[("x-api-key", key)], "").await
    };
    let mut bad_answer = ask("/app/drip", &bad).await.unwrap().into_body();
    let mut good_answer = ask("/app/drip", &good).await.unwrap().into_body();
    let waiting = ask("/app/hang", &bad);
    let blocking = async {
        house.until(|| house.upstream.seen().len() == 3).await;
        house.block(Target::Key(id))
    };

    let (waited, cut) = tokio::join!(waiting, blocking);
    while bad_answer.frame().await.is_some_and(|frame| frame.is_ok()) {}

    assert_eq!(cut, 2);
    assert_eq!(waited.unwrap().status(), 403);
    assert_eq!(ask("/app/x", &bad).await.unwrap().status(), 403);
    for _ in 0..5 {
        good_answer.frame().await.unwrap().unwrap();
    }
    for record in house.records(3).await {
        assert_eq!(record.reason, Some(Reason::Quarantined));
        assert_eq!(record.who.unwrap().key, Some(id));
    }
    assert_eq!(house.upstream.seen().len(), 3);
    drop((good_answer, client));
    house.close().await;
}

#[tokio::test]
async fn a_blocked_credential_or_role_loses_its_streams_and_nobody_else_on_the_connection_does() {
    let mut house = House::open();
    let [(_, bad), (_, good)] = [house.key(&["writer"]), house.key(&["reader"])];
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let ask = async |path: &str, key: &str| {
        client.send(&format!("GET {path}"), &[("x-api-key", key)], "").await.unwrap()
    };
    assert_eq!(ask("/app/x", &bad).await.status(), 200);
    let credential = house.record().await.credential.unwrap();
    let mut seen = 1;
    for target in [Target::Token(credential), Target::Role(Role::new("writer"))] {
        let mut bad_answer = ask("/app/drip", &bad).await.into_body();
        let mut good_answer = ask("/app/drip", &good).await.into_body();
        bad_answer.frame().await.unwrap().unwrap();

        let began = Instant::now();
        assert_eq!(house.block(target.clone()), 1, "{target}");
        while bad_answer.frame().await.is_some_and(|frame| frame.is_ok()) {}
        let took = began.elapsed();

        assert!(took < Duration::from_millis(100), "{target}: {took:?}");
        assert_eq!(ask("/app/x", &bad).await.status(), 403, "{target}");
        good_answer.frame().await.unwrap().unwrap();
        seen += 2;
        let records = house.records(seen).await;
        let refused = &records[seen - 2..];
        assert!(refused.iter().all(|one| one.reason == Some(Reason::Quarantined)), "{target}");
        assert!(house.shared.quarantine.remove(&target));
        drop(good_answer);
        seen += 1;
        house.records(seen).await;
    }
    drop(client);
    house.close().await;
}

#[tokio::test]
async fn a_blocked_tls_client_loses_its_connections_and_gets_no_other() {
    let house = House::open();
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let mut dripping = client.send("GET /open/drip", &[], "").await.unwrap().into_body();
    dripping.frame().await.unwrap().unwrap();
    let clear = TcpStream::connect(house.plain()).await.unwrap();
    let ended = client.send("GET /open/x", &[], "").await.unwrap();
    assert_eq!(ended.status(), 200);
    drop(ended);
    let ja4 = house.record().await.ja4.unwrap();

    let began = Instant::now();
    let closed = house.block(Target::Ja4(ja4));
    while dripping.frame().await.is_some_and(|frame| frame.is_ok()) {}

    assert_eq!(closed, 1);
    assert!(began.elapsed() < Duration::from_millis(100));
    let address = house.address("secure");
    let again = client::tls(address, house.certificate(), &["h2"], &rustls::version::TLS13).await;
    if let Ok(mut again) = again {
        assert_eq!(again.read(&mut [0]).await.unwrap_or(0), 0);
    }
    assert_eq!(house.shared.counters.connections_quarantined.get(), 1);
    drop(clear);
    house.close().await;
}

#[tokio::test]
async fn a_reload_under_load_loses_no_request() {
    let house = House::with(Plan { threads: 2, ..Plan::default() });
    let done = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (done, address) = (Arc::clone(&done), house.plain());
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut served = 0;
            while !done.load(Ordering::Relaxed) {
                stream.write_all(b"GET /open/x HTTP/1.1\r\nhost: api.test\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                while !answer.ends_with("\r\n\r\nok") {
                    let mut buffer = [0; 1024];
                    let count = stream.read(&mut buffer).await.unwrap();
                    assert_ne!(count, 0, "{answer}");
                    answer.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                }
                assert_eq!(status_of(&answer), 200);
                served += 1;
            }
            served
        });
    }

    house.until(|| house.count() > 0).await;
    let old = Arc::clone(house.shared.policy.load().sha256());
    let new: Vec<Policy> =
        (1..20).map(|n| house.policy(&format!("idle = \"{n}m\""), "denied = \"queued\"")).collect();
    for policy in new {
        sleep(Duration::from_millis(10)).await;
        house.shared.certificates.reload(&policy).unwrap();
        house.shared.policy.store(Arc::new(policy));
    }
    let before = house.count();
    house.until(|| house.count() > before + 16).await;
    done.store(true, Ordering::Relaxed);
    let served: usize = clients.join_all().await.into_iter().sum();

    let records = house.records(served).await;
    assert!(records.iter().all(|record| record.status == 200));
    let in_force = Arc::clone(house.shared.policy.load().sha256());
    assert!(records.iter().any(|record| record.policy == old));
    assert!(records.iter().any(|record| record.policy == in_force));
    house.close().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_from_the_next_handshake_on() {
    let house = House::open();
    let (old, secure) = (house.certificate(), house.address("secure"));
    let before = Http2::connect(secure, old.clone()).await;

    house.renew_certificate();
    house.shared.certificates.reload(&house.shared.policy.load()).unwrap();
    let after = Http2::connect(secure, house.certificate()).await;

    assert_eq!(before.text("GET /open/x", &[]).await.0, 200);
    assert_eq!(after.text("GET /open/x", &[]).await.0, 200);
    let version = &rustls::version::TLS13;
    assert!(client::tls(secure, old, &["h2"], version).await.is_err());
    drop((before, after));
    house.close().await;
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_its_key_changes_nothing() {
    let house = House::open();
    let certificate = house.certificate();
    let policy = house.shared.policy.load_full();
    let file = policy.file().with_file_name("key.pem");
    std::fs::write(&file, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();

    let refused = house.shared.certificates.reload(&policy).unwrap_err();

    assert!(refused.to_string().contains("listener `secure`"), "{refused}");
    std::fs::write(&file, "").unwrap();
    let refused = house.shared.certificates.reload(&policy).unwrap_err();
    assert!(refused.to_string().contains("key.pem"), "{refused}");
    let client = Http2::connect(house.address("secure"), certificate).await;
    assert_eq!(client.text("GET /open/x", &[]).await.0, 200);
    house.close().await;
}

#[tokio::test]
async fn stopping_finishes_what_is_under_way_and_takes_nothing_new() {
    let house = House::with(Plan { threads: 2, ..Plan::default() });
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let idle = TcpStream::connect(house.plain()).await.unwrap();
    let plain = house.plain();
    let mut under_way = JoinSet::new();
    for _ in 0..4 {
        let client = client.clone();
        under_way.spawn(async move { client.text("GET /open/slow", &[]).await });
        under_way.spawn(async move {
            let answer = raw(plain, request("GET /open/slow", &[])).await;
            (status_of(&answer), body_of(&answer).to_owned())
        });
    }
    house.until(|| house.upstream.seen().len() == 8).await;

    let began = Instant::now();
    house.stop.cancel();
    let answers = under_way.join_all().await;
    house.until(|| house.has_ended()).await;

    assert!(answers.iter().all(|answer| *answer == (200, "slow".to_owned())), "{answers:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(TcpStream::connect(plain).await.is_err());
    drop(idle);
    house.records(8).await;
    house.close().await;
}

#[tokio::test]
async fn connections_that_arrive_with_the_wish_to_stop_are_served() {
    let house = House::open();
    let plain = house.plain();
    let mut arriving = JoinSet::new();
    for _ in 0..50 {
        // Connected and asked before the stop; whether it was accepted by then is the system's
        // matter.
        let mut stream = TcpStream::connect(plain).await.unwrap();
        stream.write_all(request("GET /open/x", &[]).as_bytes()).await.unwrap();
        arriving.spawn(async move { status_of(&client::to_end(stream).await) });
    }

    house.stop.cancel();

    assert!(arriving.join_all().await.iter().all(|status| *status == 200));
    house.records(50).await;
    house.close().await;
}

#[tokio::test]
async fn whoever_gets_in_by_a_socket_in_the_file_system_while_the_agent_stops_is_served() {
    let local = "[listen.local]\naddress = 'unix:api.sock'\nmode = '0600'\n";
    let house = House::with(Plan { threads: 2, listen: local, ..Plan::default() });
    let path = house.folder.path().join("api.sock");
    let mut arriving = JoinSet::new();
    for _ in 0..8 {
        let path = path.clone();
        arriving.spawn(async move {
            let mut served = 0;
            while let Ok(mut stream) = UnixStream::connect(&path).await {
                stream.write_all(request("GET /open/x", &[]).as_bytes()).await.unwrap();
                assert_eq!(status_of(&client::to_end(stream).await), 200);
                served += 1;
            }
            served
        });
    }
    house.until(|| house.count() > 50).await;

    house.stop.cancel();

    let served = arriving.join_all().await.into_iter().sum();
    house.records(served).await;
    house.close().await;
}

#[tokio::test]
async fn stopping_waits_no_longer_than_the_policy_says() {
    let house = House::with(Plan { timeouts: "shutdown = \"300ms\"", ..Plan::default() });
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let mut plain = TcpStream::connect(house.plain()).await.unwrap();
    plain.write_all(request("GET /open/hang", &[]).as_bytes()).await.unwrap();
    let mut dripping = client.send("GET /open/drip", &[], "").await.unwrap().into_body();
    dripping.frame().await.unwrap().unwrap();
    house.until(|| house.upstream.seen().len() == 2).await;

    let began = Instant::now();
    house.stop.cancel();
    house.until(|| house.has_ended()).await;

    assert!((250..5_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    for record in house.records(2).await {
        assert_eq!(record.reason, Some(Reason::ShuttingDown));
    }
    house.close().await;
}

#[tokio::test]
async fn a_panic_outside_of_a_request_ends_its_connection_alone_and_is_counted() {
    let bug = Arc::new(AtomicBool::new(false));
    let house = House::with(Plan { bug: Arc::clone(&bug), ..Plan::default() });
    let client = Http2::connect(house.address("secure"), house.certificate()).await;
    let mut plain = TcpStream::connect(house.plain()).await.unwrap();
    let bystander = TcpStream::connect(house.plain()).await.unwrap();
    house.until(|| house.shared.connections.open() == 3).await;

    bug.store(true, Ordering::SeqCst);
    plain.write_all(request("GET /open/x", &[]).as_bytes()).await.unwrap();
    let nothing = client::to_end(plain).await;
    bug.store(true, Ordering::SeqCst);
    let http2 = client.send("GET /open/x", &[], "").await;

    assert_eq!(nothing, "");
    assert!(http2.is_err());
    // Of an HTTP/2 connection one stream was reset; the others, and the next ones, go on.
    assert_eq!(client.text("GET /open/x", &[]).await, (200, "ok".to_owned()));
    house.until(|| house.shared.connections.open() == 2).await;
    assert_eq!(house.shared.counters.panics.get(), 2);
    let mut bystander = bystander;
    bystander.write_all(request("GET /open/x", &[]).as_bytes()).await.unwrap();
    assert_eq!(status_of(&client::to_end(bystander).await), 200);
    house.close().await;
}

#[tokio::test]
async fn a_panic_of_the_observer_costs_neither_the_record_nor_the_answer() {
    let house = House::with(Plan { on_finish: |_| panic!("on purpose"), ..Plan::default() });

    let answer = raw(house.plain(), request("GET /open/x", &[])).await;

    assert_eq!((status_of(&answer), body_of(&answer)), (200, "ok"));
    assert_eq!(house.shared.counters.panics.get(), 1);
    house.records(1).await;
    house.close().await;
}

#[tokio::test]
async fn a_request_that_ends_in_a_panic_is_recorded() {
    let house = House::open();
    let origin = Origin::of("192.0.2.1:5".parse().unwrap(), &"plain".into());
    let (id, now) = (RequestId::from_bits(7), SystemClock.now());
    let slot = house.shared.audit.reserve().unwrap();
    let entry = Entry::open(slot, id, &origin, "GET", &"sha".into(), now, &house.shared);

    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _open = entry;
        panic!("on purpose");
    }));

    assert!(panicked.is_err());
    let record = house.record().await;
    assert_eq!((record.status, record.reason), (500, Some(Reason::Internal)));
    house.close().await;
}

#[tokio::test]
async fn an_occupied_port_is_refused_and_its_holder_named() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let house = House::open();

    for taken in [other.local_addr().unwrap(), house.plain()] {
        let refused = bind(&format!("[\"127.0.0.1:0\", \"{taken}\"]")).unwrap_err();

        assert!(matches!(refused, BindError::InUse { .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains(&taken.to_string()), "{text}");
        assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
        assert!(text.contains("hint: "), "{text}");
    }
    house.close().await;
}

#[test]
fn an_address_of_another_host_is_refused_with_a_hint() {
    let refused = bind("\"127.0.0.1:0\"").map(drop);
    assert!(refused.is_ok());

    let refused = bind_redirect("\"192.0.2.1:0\"").unwrap_err();

    assert!(matches!(refused, BindError::NotOurs { .. }), "{refused}");
    assert!(refused.to_string().contains("hint: "), "{refused}");
}

#[test]
fn both_families_share_a_port_and_every_thread_has_all() {
    let first = bind("\"127.0.0.1:0\"").unwrap();
    let port = first.addresses()[0].1.tcp().unwrap().port();
    drop(first);

    let listeners = bind_redirect(&format!("[\"0.0.0.0:{port}\", \"[::]:{port}\"]")).unwrap();

    assert_eq!(listeners.addresses().len(), 2);
    let threads = listeners.into_threads();
    assert_eq!(threads.len(), 2);
    assert!(threads.iter().all(|thread| thread.0.len() == 2));
}

fn bind(addresses: &str) -> Result<Listeners, BindError> {
    bound(&format!("[listen.plain]\naddress = {addresses}\n"))
}

fn bind_redirect(addresses: &str) -> Result<Listeners, BindError> {
    bound(&format!("[listen.door]\naddress = {addresses}\nredirect = \"https\"\n"))
}

fn bound(listen: &str) -> Result<Listeners, BindError> {
    let text = format!(
        "version = 1\n{listen}\n[upstream.a]\nhosts = [\"127.0.0.1:9\"]\n[[route]]\nname = \"a\"\n\
         match = \"*/{{**}}\"\nupstream = \"a\"\npublic = true\n"
    );
    let policy = Policy::parse(&text, "policy.toml".as_ref()).expect("a policy");
    Listeners::bind(&policy, NonZeroUsize::new(2).unwrap())
}
