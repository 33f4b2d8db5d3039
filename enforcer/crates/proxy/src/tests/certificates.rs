//! Clients that show a certificate: who gets a connection, and for how long.

use std::io;
use std::sync::Arc;

use enforcer_model::Reason;
use http_body_util::BodyExt;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt;

use super::authority::{Authority, Member};
use super::client::{connect, request, settings, status_of, to_end};
use super::house::Plan;
use super::{House, Http2};

const ID: &str = "spiffe://example.com/ns/pay/api";
const REQUIRED: &str = r#", clients = { ca = "ca.pem", crl = "crl.pem", require = true }"#;
const ASKED: &str = r#", clients = { ca = "ca.pem", crl = "crl.pem" }"#;

#[tokio::test]
async fn where_a_certificate_is_required_nobody_is_served_without_a_good_one() {
    let house = House::with(Plan { clients: REQUIRED, ..Plan::default() });
    let good = house.authority.admit(ID, 7);
    let expired = house.authority.admit_until(ID, 8, 2_020);
    let foreign = Authority::new("ours").admit(ID, 7);
    let mut refused = 0;

    for version in [&TLS13, &TLS12] {
        assert_eq!(ask(&house, version, Some(&good)).await, 200);
        for member in [None, Some(&expired), Some(&foreign)] {
            assert_eq!(ask(&house, version, member).await, 0);
            refused += 1;
        }
    }

    house.until(|| house.shared.counters.certificates_refused.get() == refused).await;
    assert_eq!(house.shared.counters.handshakes_failed.get(), 0);
    assert_eq!(house.upstream.seen().len(), 2);
    house.close().await;
}

#[tokio::test]
async fn where_a_certificate_is_asked_for_none_is_fine_and_a_bad_one_is_not() {
    let house = House::with(Plan { clients: ASKED, ..Plan::default() });
    house.authority.write(house.folder.path(), &[8]);
    house.shared.certificates.reload(&house.shared.policy.load()).unwrap();
    let (good, revoked) = (house.authority.admit(ID, 7), house.authority.admit(ID, 8));

    assert_eq!(ask(&house, &TLS13, None).await, 200);
    assert_eq!(ask(&house, &TLS13, Some(&good)).await, 200);
    assert_eq!(ask(&house, &TLS13, Some(&revoked)).await, 0);

    house.close().await;
}

#[tokio::test]
async fn a_resumed_session_still_has_its_certificate_and_no_reload_behind_it() {
    for version in [&TLS13, &TLS12] {
        let house = House::with(Plan { clients: REQUIRED, ..Plan::default() });
        let member = house.authority.admit(ID, 7);
        let client = client(&house, version, Some(&member));

        let first = asked_with(&house, &client).await.unwrap();
        let resumed = asked_with(&house, &client).await.unwrap();
        assert_eq!((first.0, resumed.0), (200, 200));
        assert_ne!(first.1, HandshakeKind::Resumed);
        assert_eq!(resumed.1, HandshakeKind::Resumed);

        // A ticket from before a reload is worth nothing, and the certificate behind it is looked
        // at anew.
        house.authority.write(house.folder.path(), &[7]);
        house.shared.certificates.reload(&house.shared.policy.load()).unwrap();
        let after = asked_with(&house, &client).await.map_or(0, |(status, _)| status);
        assert_eq!(after, 0);
        assert_eq!(house.upstream.seen().len(), 2);
        house.close().await;
    }
}

#[tokio::test]
async fn a_revoked_certificate_loses_its_open_connections_and_others_keep_theirs() {
    let house = House::with(Plan { clients: REQUIRED, ..Plan::default() });
    let (stays, goes) = (house.authority.admit(ID, 7), house.authority.admit(ID, 8));
    let (stays, goes) = (http2(&house, &stays).await, http2(&house, &goes).await);
    let mut dripping = goes.send("GET /open/drip", &[], "").await.unwrap().into_body();
    dripping.frame().await.unwrap().unwrap();
    assert_eq!(stays.text("GET /open/x", &[]).await.0, 200);

    // A reload that changes nothing harms nobody.
    house.shared.certificates.reload(&house.shared.policy.load()).unwrap();
    dripping.frame().await.unwrap().unwrap();
    house.authority.write(house.folder.path(), &[8]);
    house.shared.certificates.reload(&house.shared.policy.load()).unwrap();
    while dripping.frame().await.is_some_and(|frame| frame.is_ok()) {}

    assert!(goes.send("GET /open/x", &[], "").await.is_err());
    assert_eq!(stays.text("GET /open/x", &[]).await.0, 200);
    let cut = house.seen_at(1).await;
    assert_eq!(cut.path.as_deref(), Some("/open/drip"));
    assert_eq!(cut.reason, Some(Reason::Quarantined));
    assert!(cut.cause.unwrap().contains("certificate"));
    house.close().await;
}

#[tokio::test]
async fn bad_authorities_and_lists_refuse_a_reload_and_change_nothing() {
    let house = House::with(Plan { clients: REQUIRED, ..Plan::default() });
    let member = house.authority.admit(ID, 7);
    let policy = house.shared.policy.load_full();

    for (file, text) in [
        ("ca.pem", ""),
        ("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("crl.pem", ""),
        ("crl.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"),
    ] {
        house.authority.write(house.folder.path(), &[]);
        std::fs::write(house.folder.path().join(file), text).unwrap();
        let refused = house.shared.certificates.reload(&policy).unwrap_err();
        assert!(refused.to_string().contains("listener `secure`"), "{refused}");
    }

    assert_eq!(ask(&house, &TLS13, Some(&member)).await, 200);
    house.close().await;
}

/// The status of an answer; zero when there is none.
async fn ask(
    house: &House,
    version: &'static SupportedProtocolVersion,
    member: Option<&Member>,
) -> u16 {
    let client = client(house, version, member);
    asked_with(house, &client).await.map_or(0, |(status, _)| status)
}

async fn asked_with(house: &House, client: &Arc<ClientConfig>) -> io::Result<(u16, HandshakeKind)> {
    let mut stream = connect(house.address("secure"), client).await?;
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    stream.write_all(request("GET /open/x", &[]).as_bytes()).await?;
    let answer = to_end(stream).await;
    if answer.is_empty() {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok((status_of(&answer), kind))
    }
}

fn client(
    house: &House,
    version: &'static SupportedProtocolVersion,
    member: Option<&Member>,
) -> Arc<ClientConfig> {
    settings(house.certificate(), &["http/1.1"], version, member)
}

async fn http2(house: &House, member: &Member) -> Http2 {
    let settings = settings(house.certificate(), &["h2"], &TLS13, Some(member));
    Http2::over(connect(house.address("secure"), &settings).await.unwrap()).await
}
