//! What is asked, of whom, and how much of an answer is taken.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const SOON: Duration = Duration::from_secs(5);
const ANSWER: &[u8] = b"HTTP/1.1 200 x\r\ncontent-length: 4\r\n\r\nkeys";

#[tokio::test]
async fn an_answer_comes_whole_over_tls_from_whom_the_roots_vouch_for() {
    let (authority, other) = (Authority::new(), Authority::new());
    let port = serve_tls(&authority, "localhost").await;
    let endpoint = Endpoint::parse(&format!("https://localhost:{port}/jwks?a=b")).unwrap();

    let trusting = HttpClient::new(authority.roots());
    assert_eq!(&*trusting.get(&endpoint, 4, SOON).await.unwrap(), b"keys");
    assert!(matches!(trusting.get(&endpoint, 3, SOON).await, Err(AskError::TooLong(3))));

    let stranger = HttpClient::new(other.roots());
    let refused = stranger.get(&endpoint, 4, SOON).await.unwrap_err();
    assert!(matches!(refused, AskError::Connect { .. }), "{refused}");
    let by_address = Endpoint::parse(&format!("https://127.0.0.1:{port}/jwks")).unwrap();
    let refused = trusting.get(&by_address, 4, SOON).await.unwrap_err();
    assert!(matches!(refused, AskError::Connect { .. }), "the certificate has another name");
}

#[tokio::test]
async fn what_is_posted_arrives_as_it_is_with_its_headers() {
    let (port, seen) = serve_once(b"HTTP/1.1 204 x\r\n\r\n");
    let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}/hook")).unwrap();
    let signature = HeaderName::from_static("x-signature");
    let headers = [(signature, HeaderValue::from_static("abc"))];

    let client = HttpClient::new(Roots::System);
    client.post_json(&endpoint, r#"{"a":1}"#, headers, SOON).await.unwrap();

    let seen = seen.join().unwrap();
    assert!(seen.starts_with("POST /hook HTTP/1.1\r\n") && seen.ends_with("\r\n\r\n{\"a\":1}"));
    for line in ["content-type: application/json", "x-signature: abc", "user-agent: enforcer"] {
        assert!(seen.contains(&format!("{line}\r\n")), "{seen}");
    }
    assert!(seen.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{seen}");
}

#[tokio::test]
async fn anything_but_a_success_is_a_failure_that_says_what_it_was() {
    for (answer, wanted) in [
        (&b"HTTP/1.1 500 x\r\n\r\n"[..], "the answer is 500"),
        (b"HTTP/1.1 302 x\r\nlocation: /\r\n\r\n", "redirects are not followed"),
        (b"HTTP/1.1 200 x\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n", "encoded"),
        (b"nonsense\r\n\r\n", "not whole, readable HTTP"),
        (b"HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\nless", "not whole, readable HTTP"),
        (b"", "not whole, readable HTTP"),
    ] {
        let (port, seen) = serve_once(answer);
        let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}/")).unwrap();

        let client = HttpClient::new(Roots::System);
        let refused = client.get(&endpoint, 1_000, SOON).await.unwrap_err().to_string();

        assert!(refused.contains(wanted), "{refused}");
        drop(seen.join());
    }
}

#[tokio::test]
async fn nobody_is_waited_for_longer_than_agreed() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
    let patience = Duration::from_millis(100);

    let refused = HttpClient::new(Roots::System).get(&endpoint, 1_000, patience).await;

    assert!(matches!(refused, Err(AskError::TimedOut(after)) if after == patience));
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told_with_its_address() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = Endpoint::parse(&format!("http://{free}/")).unwrap();

    let refused = HttpClient::new(Roots::System).get(&endpoint, 1_000, SOON).await.unwrap_err();

    assert!(refused.to_string().contains(&free.to_string()), "{refused}");
}

#[test]
fn a_file_without_authorities_is_refused() {
    assert!(matches!(Roots::from_pem(b""), Err(RootsError::Empty)));
    assert!(matches!(Roots::from_pem(b"no certificate"), Err(RootsError::Empty)));
    let key = KeyPair::generate().unwrap().serialize_pem();
    assert!(matches!(Roots::from_pem(key.as_bytes()), Err(RootsError::Empty)));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(Roots::from_pem(broken.as_bytes()).is_err());
    assert!(Roots::from_pem(Authority::new().0.pem().as_bytes()).is_ok());
}

#[test]
fn a_plan_says_which_values_of_a_token_name_roles() {
    let claims =
        crate::jwt::document(br#"{"realm":{"roles":["a","b"]},"one":"c","number":7}"#).unwrap();
    let facts = crate::TokenFacts {
        issuer: "corp".into(),
        subject: "alice".into(),
        id: None,
        key: None,
        client: None,
        audience: Box::default(),
        scopes: ["x".into(), "y".into()].into(),
        issued: None,
        expires: enforcer_model::Timestamp::from_unix_seconds(0),
        confirmation: None,
        claims,
    };
    let values = |roles: RoleValues| {
        let plan = IssuerPlan {
            name: "corp".into(),
            url: "https://idp.example.com".into(),
            audience: Box::default(),
            algorithms: crate::jwt::Algorithms::ASYMMETRIC,
            keys: KeySource::Discovery,
            roles,
            bindings: Bindings::Either,
            unbound: Unbound::Accepted,
            kind: crate::jwt::Kind::AccessToken,
            leeway: SOON,
            refresh: SOON,
            timeout: SOON,
            roots: Roots::System,
            introspection: None,
        };
        plan.role_values(&facts).map(str::to_owned).collect::<Vec<_>>()
    };
    let claim = |path: &[&str]| RoleValues::Claim(path.iter().map(|&part| part.into()).collect());

    assert_eq!(values(RoleValues::Scopes), ["x", "y"]);
    assert_eq!(values(claim(&["realm", "roles"])), ["a", "b"]);
    assert_eq!(values(claim(&["one"])), ["c"]);
    assert!(values(claim(&["number"])).is_empty() && values(claim(&["none"])).is_empty());
}

#[test]
fn no_secret_is_printed() {
    let secret = ClientSecret::new(zeroize::Zeroizing::new("tiger".to_owned()));

    assert_eq!(format!("{secret:?}"), "ClientSecret(…)");
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn roots(&self) -> Roots {
        Roots::from_pem(self.0.pem().as_bytes()).unwrap()
    }

    fn server(&self, name: &str) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }
}

/// Answers [`ANSWER`] to everybody; the port.
async fn serve_tls(authority: &Authority, name: &str) -> u16 {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(authority.server(name)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 1_024];
            if stream.read(&mut head).await.is_ok() {
                drop(stream.write_all(ANSWER).await);
            }
        }
    });
    port
}

/// Answers one request with `answer`; the port, and what was asked.
fn serve_once(answer: &'static [u8]) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut bytes = [0; 4_096];
        while !is_whole(&seen) {
            let count = stream.read(&mut bytes).unwrap();
            seen.extend(&bytes[..count]);
        }
        drop(stream.write_all(answer));
        String::from_utf8(seen).unwrap()
    });
    (port, serving)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.parse::<usize>().unwrap())
}
