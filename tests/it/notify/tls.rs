//! Receivers over TLS: whoever cannot prove who it is learns nothing.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use enforcer_tests::lab::DEADLINE;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::post::{Post, listener, read};
use super::{LOOPBACK, policy, stage, tested, webhook};
use crate::stage::Stage;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn only_a_receiver_with_a_valid_certificate_of_its_own_authority_is_told_anything() {
    let stage = stage();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    stage.file("ours.pem", &ours.pem);
    stage.file("theirs.pem", &theirs.pem);
    let good = serve(&stage, ours.leaf("127.0.0.1", 2090));
    let name = serve(&stage, ours.leaf("receiver.example", 2090));
    let expired = serve(&stage, ours.leaf("127.0.0.1", 2021));
    let own = |name: &str, address: SocketAddr, ca: &str| {
        webhook(name, address, &format!("{LOOPBACK}\n{ca}")).replace("http://", "https://")
    };
    stage.apply(&policy(&[
        own("good", good.0, "ca = 'ours.pem'"),
        own("other-ca", good.0, "ca = 'theirs.pem'"),
        own("system", good.0, ""),
        own("name", name.0, "ca = 'ours.pem'"),
        own("expired", expired.0, "ca = 'ours.pem'"),
        own("by-name", good.0, "ca = 'ours.pem'").replace("127.0.0.1:", "localhost:"),
    ]));

    let said = tested(&stage);

    assert_eq!(said("good"), (true, "204 No Content".to_owned()));
    for (who, why) in [
        ("other-ca", "UnknownIssuer"),
        ("system", "UnknownIssuer"),
        ("name", "not valid for"),
        ("expired", "expired"),
        // The address that it leads to is allowed, and the certificate is for another name.
        ("by-name", "not valid for"),
    ] {
        let (is_delivered, words) = said(who);
        assert!(!is_delivered && words.contains(why), "{who}: {words}");
    }
    assert_eq!(good.1.recv_timeout(DEADLINE).unwrap().body()["type"], "enforcer.test");
    for posts in [good.1, name.1, expired.1] {
        assert!(posts.try_recv().is_err(), "nobody else was told anything");
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For `name`, valid until the end of the year before `until`.
    fn leaf(&self, name: &str, until: i32) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(leaf.der().to_vec())], key)
            .unwrap()
    }
}

fn serve(stage: &Stage, config: ServerConfig) -> (SocketAddr, Receiver<Post>) {
    let listener = listener(stage);
    let address = listener.local_addr().unwrap();
    let config = Arc::new(config);
    let (send, posts) = channel();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let server = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(server, connection.unwrap());
            let Some(post) = read(&mut stream) else { continue };
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap_or_default();
            stream.conn.send_close_notify();
            stream.flush().unwrap_or_default();
            if send.send(post).is_err() {
                return;
            }
        }
    });
    (address, posts)
}
