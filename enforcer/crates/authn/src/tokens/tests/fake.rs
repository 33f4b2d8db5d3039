//! An issuer on a loopback port that behaves as a test says, and counts what it is asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};

pub(super) const DISCOVERY: &str = "/.well-known/openid-configuration";
pub(super) const JWKS: &str = "/jwks";
pub(super) const INTROSPECT: &str = "/introspect";

/// What is at one path.
#[derive(Clone)]
pub(super) enum Reply {
    /// This body.
    Body(String),
    /// Nothing, after the connection was taken.
    Close,
    /// A body without end.
    Endless,
    /// Bytes that are no HTTP.
    Raw(&'static [u8]),
    /// To somewhere else.
    Redirect(String),
    /// This status.
    Status(u16),
    /// The body, after so long.
    Late(Duration, String),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) body: String,
}

#[derive(Default)]
struct Behaviour {
    replies: HashMap<String, Reply>,
    seen: HashMap<String, Vec<Seen>>,
}

#[derive(Clone)]
pub(super) struct Fake {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
}

/// A key of the issuer.
pub(super) struct Signer {
    pub(super) kid: &'static str,
    pair: Ed25519KeyPair,
}

impl Fake {
    /// One that serves discovery and the public halves of `signers`.
    pub(super) fn new(signers: &[&Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Self { address, behaviour: Arc::default() };
        let url = fake.url();
        fake.reply(
            DISCOVERY,
            Reply::Body(format!(
                r#"{{"issuer":"{url}","jwks_uri":"{url}{JWKS}","introspection_endpoint":"{url}{INTROSPECT}"}}"#
            )),
        );
        fake.serve_keys(signers);
        let serving = fake.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        fake
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn reply(&self, path: &str, reply: Reply) {
        self.behaviour.lock().replies.insert(path.to_owned(), reply);
    }

    pub(super) fn serve_keys(&self, signers: &[&Signer]) {
        let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
        self.reply(JWKS, Reply::Body(format!(r#"{{"keys":[{}]}}"#, keys.join(","))));
    }

    pub(super) fn asked(&self, path: &str) -> usize {
        self.seen(path).len()
    }

    pub(super) fn seen(&self, path: &str) -> Vec<Seen> {
        self.behaviour.lock().seen.get(path).cloned().unwrap_or_default()
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let reply = {
            let mut behaviour = self.behaviour.lock();
            let body = String::from_utf8(body).unwrap();
            behaviour.seen.entry(path.clone()).or_default().push(Seen { head, body });
            behaviour.replies.get(&path).cloned()
        };
        answer(stream, reply.unwrap_or(Reply::Status(404)));
    }
}

/// Whoever asked may be gone.
fn answer(mut stream: TcpStream, reply: Reply) {
    let head = |status: u16, more: &str| format!("HTTP/1.1 {status} x\r\n{more}\r\n");
    let whole = |body: &str| head(200, &format!("content-length: {}\r\n", body.len())) + body;
    drop(match reply {
        Reply::Body(body) => stream.write_all(whole(&body).as_bytes()),
        Reply::Close => Ok(()),
        Reply::Raw(bytes) => stream.write_all(bytes),
        Reply::Redirect(to) => stream
            .write_all(head(302, &format!("location: {to}\r\ncontent-length: 0\r\n")).as_bytes()),
        Reply::Status(status) => stream.write_all(head(status, "content-length: 0\r\n").as_bytes()),
        Reply::Late(pause, body) => {
            std::thread::sleep(pause);
            stream.write_all(whole(&body).as_bytes())
        }
        Reply::Endless => {
            let mut sent = stream.write_all(head(200, "").as_bytes());
            while sent.is_ok() {
                sent = stream.write_all(&[b' '; 64 * 1024]);
            }
            sent
        }
    });
}

impl Signer {
    pub(super) fn new(kid: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { kid, pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap() }
    }

    pub(super) fn jwk(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        format!(r#"{{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"{}","x":"{x}"}}"#, self.kid)
    }

    /// An access token with these claims.
    pub(super) fn token(&self, claims: &serde_json::Value) -> String {
        let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#, self.kid);
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(&header), encode(&claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

impl Signer {
    /// RFC 7638, as `cnf.jkt` has it.
    pub(super) fn thumbprint(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        URL_SAFE_NO_PAD.encode(crate::issuers::digest_of(canonical.as_bytes()))
    }

    /// A proof of having this key (RFC 9449) for `GET https://api.example.com/v1/orders`.
    pub(super) fn proof(&self, token: &str, id: &str, made: u64) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        let header = format!(
            r#"{{"typ":"dpop+jwt","alg":"EdDSA","jwk":{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}}}"#
        );
        let ath = URL_SAFE_NO_PAD.encode(crate::issuers::digest_of(token.as_bytes()));
        let payload = format!(
            r#"{{"jti":"{id}","htm":"GET","htu":"https://api.example.com/v1/orders","iat":{made},"ath":"{ath}"}}"#
        );
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(&header), encode(&payload));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}
