//! An issuer that can be anything but well: down, slow, lying, endless.
//!
//! It has an ES256 key of its own and signs whatever a test wants, so that one and the same issuer
//! can be good, then broken, then good again. [`BrokenIssuer::set`] changes its manner for every
//! request from then on. It counts what it is asked for.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use parking_lot::{Condvar, Mutex};
use ring::rand::SystemRandom;
use ring::signature::EcdsaKeyPair;
use serde_json::json;

use super::holder::{fresh, jwk_of, sign};
use crate::lab::Namespace;

/// How an issuer behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it should: a discovery document and a key set.
    Good,
    /// Good answers, after a while.
    Slow(Duration),
    /// It accepts connections and closes them at once.
    Down,
    /// It accepts connections and never answers.
    Silent,
    /// An answer that breaks off in the middle.
    Broken,
    /// Bytes that are no JSON, as if they were.
    Garbage,
    /// A good key set among so many keys of others.
    Many(usize),
    /// A body that does not end before the reader does.
    Endless,
    /// A redirect to there.
    Redirect(String),
    /// A page for people, with status 200.
    Page,
    /// This status, with good bodies.
    Status(u16),
    /// Good documents, but the discovery document names another issuer.
    Liar,
    /// This body for every request, as JSON.
    Body(String),
}

/// A running issuer. It stops when dropped.
#[derive(Debug)]
pub struct BrokenIssuer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    host: Option<Namespace>,
}

struct Shared {
    issuer: String,
    state: Mutex<State>,
    /// Told when the manner changes or the end comes.
    changed: Condvar,
    ended: AtomicBool,
    random: SystemRandom,
}

struct State {
    manner: Manner,
    key: EcdsaKeyPair,
    kid: String,
    asked: HashMap<String, usize>,
}

impl BrokenIssuer {
    /// Starts a good issuer in `host`, or on this machine's own loopback.
    pub fn start(host: Option<&Namespace>) -> Result<Self> {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let listener = match host {
            Some(host) => host.run(bind)??,
            None => bind()?,
        };
        let address = listener.local_addr()?;
        let random = SystemRandom::new();
        let state = State {
            manner: Manner::Good,
            key: fresh(&random)?,
            kid: "k1".to_owned(),
            asked: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            issuer: format!("http://{address}"),
            state: Mutex::new(state),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
            random,
        });
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { address, shared, thread: Some(thread), host: host.cloned() })
    }

    /// Its URL.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Behaves like this from now on.
    pub fn set(&self, manner: Manner) {
        self.shared.state.lock().manner = manner;
        self.shared.changed.notify_all();
    }

    /// Signs with a fresh key of this name from now on.
    pub fn rotate(&self, kid: &str) -> Result<()> {
        let key = fresh(&self.shared.random)?;
        let mut state = self.shared.state.lock();
        state.key = key;
        kid.clone_into(&mut state.kid);
        Ok(())
    }

    /// A token of this payload, signed with its present key.
    pub fn sign(&self, claims: &serde_json::Value) -> Result<String> {
        let state = self.shared.state.lock();
        let header = json!({ "typ": "at+jwt", "alg": "ES256", "kid": state.kid });
        sign(&state.key, &self.shared.random, &header.to_string(), &claims.to_string())
    }

    /// How often it was asked for this path.
    pub fn asked(&self, path: &str) -> usize {
        self.shared.state.lock().asked.get(path).copied().unwrap_or(0)
    }
}

impl Drop for BrokenIssuer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.changed.notify_all();
        // One last connection, so that accepting returns.
        let connect = || TcpStream::connect(self.address).map(drop);
        drop(match &self.host {
            Some(host) => host.run(connect).map(drop),
            None => connect().map_err(Into::into),
        });
        if let Some(thread) = self.thread.take() {
            // A panic of the issuer has been printed by its own thread.
            drop(thread.join());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    thread::scope(|scope| {
        for stream in listener.incoming() {
            if shared.ended.load(Ordering::Acquire) {
                return;
            }
            let Ok(stream) = stream else { continue };
            // A client that gives up is the test's business, and the test sees its own end.
            scope.spawn(move || drop(answer(stream, shared)));
        }
    });
}

fn answer(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    if shared.state.lock().manner == Manner::Down {
        return Ok(());
    }
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().context("nothing asked")??;
    while lines.next().context("the head breaks off")??.as_str() != "" {}
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let manner = {
        let mut state = shared.state.lock();
        *state.asked.entry(path.clone()).or_insert(0) += 1;
        state.manner.clone()
    };
    match manner {
        Manner::Silent => shared.wait_for_change(Duration::from_secs(600)),
        Manner::Slow(pause) => {
            shared.wait_for_change(pause);
            send(&mut stream, 200, &[], &shared.document(&path, 0)?)?;
        }
        Manner::Endless => endless(&mut stream, shared)?,
        Manner::Broken => {
            let body = shared.document(&path, 0)?;
            let half = body.get(..body.len() / 2).unwrap_or_default();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{half}", body.len())?;
        }
        Manner::Good => send(&mut stream, 200, &[], &shared.document(&path, 0)?)?,
        Manner::Down => {}
        Manner::Garbage => send(&mut stream, 200, &[], "{\"keys\":[{\u{0}\u{1}]]")?,
        Manner::Many(count) => send(&mut stream, 200, &[], &shared.document(&path, count)?)?,
        Manner::Redirect(to) => send(&mut stream, 302, &[("location", &to)], "")?,
        Manner::Page => {
            send(&mut stream, 200, &[("content-type", "text/html")], "<html>Sign in</html>")?;
        }
        Manner::Status(status) => send(&mut stream, status, &[], &shared.document(&path, 0)?)?,
        Manner::Liar => {
            let body = shared.document(&path, 0)?;
            let lie = body.replace(r#""issuer":"http://"#, r#""issuer":"http://other."#);
            send(&mut stream, 200, &[], &lie)?;
        }
        Manner::Body(body) => send(&mut stream, 200, &[], &body)?,
    }
    Ok(())
}

impl Shared {
    /// The discovery document, or the key set with so many keys of others before its own.
    fn document(&self, path: &str, others: usize) -> Result<String> {
        if path != "/jwks" {
            let issuer = &self.issuer;
            return Ok(format!(
                r#"{{"issuer":"{issuer}","jwks_uri":"{issuer}/jwks","introspection_endpoint":"{issuer}/introspect"}}"#
            ));
        }
        let mut document = String::from("{\"keys\":[");
        for number in 0..others {
            // A number of 32 bytes in base64url: 43 letters, of which the last has no spare bits.
            write!(
                document,
                r#"{{"kty":"OKP","crv":"Ed25519","kid":"other-{number}","x":"{number:A>42}A"}},"#
            )?;
        }
        let state = self.state.lock();
        let jwk = jwk_of(&state.key)?;
        let members = jwk.trim_start_matches('{');
        write!(document, r#"{{"kid":"{}","use":"sig","alg":"ES256",{members}]}}"#, state.kid)?;
        Ok(document)
    }

    fn wait_for_change(&self, at_most: Duration) {
        let mut state = self.state.lock();
        if !self.ended.load(Ordering::Acquire) {
            self.changed.wait_for(&mut state, at_most);
        }
    }
}

fn send(stream: &mut TcpStream, status: u16, headers: &[(&str, &str)], body: &str) -> Result<()> {
    let mut head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        head.push_str("content-type: application/json\r\n");
    }
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n")?;
    }
    head.push_str("connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    Ok(stream.write_all(body.as_bytes())?)
}

/// Blanks, which are no error in JSON, until the reader has had enough or the manner changes.
fn endless(stream: &mut TcpStream, shared: &Shared) -> Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let blanks = [b' '; 64 * 1024];
    while !shared.ended.load(Ordering::Acquire) && shared.state.lock().manner == Manner::Endless {
        stream.write_all(&blanks)?;
    }
    Ok(())
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({})", self.issuer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use enforcer_authn::jwt::{KeySet, Parsed};

    use super::*;

    fn get(issuer: &BrokenIssuer, path: &str) -> String {
        let mut stream = TcpStream::connect(issuer.address).unwrap();
        let mut answer = String::new();
        // A connection that is closed at once takes nothing and has nothing to say.
        drop(write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
        drop(stream.take(1 << 22).read_to_string(&mut answer));
        answer
    }

    fn body(answer: &str) -> &str {
        answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    #[test]
    fn it_is_a_good_issuer_until_it_is_told_otherwise() {
        let issuer = BrokenIssuer::start(None).unwrap();
        let token = issuer.sign(&json!({ "iss": issuer.issuer() })).unwrap();
        let keys = || KeySet::parse(body(&get(&issuer, "/jwks")).as_bytes()).unwrap();

        let parsed = Parsed::parse(token.as_bytes()).unwrap();
        assert!(keys().find(parsed.header()).is_ok());
        assert!(get(&issuer, "/.well-known/openid-configuration").contains(issuer.issuer()));
        assert_eq!(issuer.asked("/jwks"), 1);

        issuer.set(Manner::Many(10_000));
        let many = keys();
        assert_eq!(many.len(), 10_001);
        assert!(many.find(parsed.header()).is_ok());
        issuer.rotate("k2").unwrap();
        assert!(keys().find(parsed.header()).is_err());
    }

    #[test]
    fn it_fails_in_every_way_that_it_is_told_to() {
        let issuer = BrokenIssuer::start(None).unwrap();
        for (manner, sign) in [
            (Manner::Garbage, "{\"keys\":[{\u{0}"),
            (Manner::Redirect("http://127.0.0.1:9/".to_owned()), "location: http://127.0.0.1:9/"),
            (Manner::Page, "<html>"),
            (Manner::Status(500), "HTTP/1.1 500 "),
            (Manner::Liar, "\"issuer\":\"http://other."),
            (Manner::Body("[]".to_owned()), "\r\n\r\n[]"),
            (Manner::Slow(Duration::from_millis(1)), "jwks_uri"),
        ] {
            issuer.set(manner.clone());
            assert!(get(&issuer, "/").contains(sign), "{manner:?}");
        }
        issuer.set(Manner::Broken);
        let (broken, whole) = (get(&issuer, "/"), issuer.shared.document("/", 0).unwrap());
        assert_eq!(body(&broken).len(), whole.len() / 2);
        issuer.set(Manner::Down);
        assert_eq!(get(&issuer, "/"), "");
        issuer.set(Manner::Endless);
        assert_eq!(get(&issuer, "/").len(), 1 << 22);
    }

    #[test]
    fn a_silent_issuer_ends_with_the_test() {
        let issuer = BrokenIssuer::start(None).unwrap();
        issuer.set(Manner::Silent);
        let mut stream = TcpStream::connect(issuer.address).unwrap();
        write!(stream, "GET / HTTP/1.1\r\n\r\n").unwrap();
        super::super::super::wait_until("it was asked", super::super::super::DEADLINE, || {
            issuer.asked("/") == 1
        })
        .unwrap();

        drop(issuer);

        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}
