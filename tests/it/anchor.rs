//! What others know of the log, its owner cannot change in silence.

#![expect(
    clippy::panic,
    clippy::panic_in_result_fn,
    reason = "what helpers of tests find wrong fails the test"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use enforcer_tests::lab::{Agent, DEADLINE, Family, Http, Output, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::Value;

use crate::stage::{LAYER_7, Stage, orders};

/// No answer takes as long when nobody is waited for; the shortest wait in here is longer.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_quorum_of_witnesses_knows_the_log_and_verify_tells_its_three_ranges() {
    let house = House::new(&["one", "two"]);
    house.put_in_force("quorum = 2\nanchor_every = '1h'\n", &house.urls());
    house.refuse(10);

    let anchored = house.stage.enforcer(&["audit", "anchor"]);
    assert_eq!(anchored.code, Some(0), "{anchored}");
    assert!(anchored.stdout.contains("one  cosigned"), "{anchored}");
    assert!(anchored.stdout.contains("two  cosigned"), "{anchored}");
    house.refuse(5);

    let verified = house.verify(&[]).unwrap();
    let (witnessed, signed) =
        (number(&verified, "witnessed_records"), number(&verified, "signed_records"));
    assert!(witnessed >= 10 && signed >= witnessed + 5, "{verified}");
    assert_eq!(verified["witnessed_by"], serde_json::json!(["one", "two"]));
    assert_eq!(verified["anchor_overdue"], false);
    let listed = house.stage.offline(&["audit", "anchor", "--list"]);
    assert!(listed.is_success() && listed.stdout.contains("one,two"), "{listed}");
    let status = house.status();
    assert_eq!(number(&status["witnessed"], "size"), witnessed);
    assert_eq!(status["is_overdue"], false);

    // Anybody can check that: the note is Ed25519 over a text.
    let note = fs::read_to_string(house.anchor(witnessed, "note")).unwrap();
    for witness in &house.witnesses {
        assert!(openssl_cosigned(&note, &witness.key, house.stage.site.folder()), "{note}");
    }
    let altered = note.replacen(&format!("\n{witnessed}\n"), &format!("\n{}\n", witnessed + 1), 1);
    assert!(!openssl_cosigned(&altered, &house.witnesses[0].key, house.stage.site.folder()));

    // Keys from elsewhere are believed in place of those beside the log.
    let policy = house.stage.file(
        "elsewhere.policy",
        &format!(
            "log {}\nwitness a {}\nwitness b {}\ngroup g any a b\nquorum g\n",
            house.key, house.witnesses[1].key, STRANGER,
        ),
    );
    let verified = house.verify(&["--witness-policy", &policy]).unwrap();
    assert_eq!(verified["witnessed_by"], serde_json::json!(["a"]));
    // A witnessed checkpoint that is not what was cosigned is no evidence.
    fs::write(house.anchor(witnessed, "note"), altered).unwrap();
    let refused = house.verify(&[]).unwrap_err();
    assert_eq!(refused.code, Some(7), "{refused}");
    assert!(refused.stderr.contains(&format!("{witnessed}.note")), "{refused}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_old_copy_that_was_put_back_is_refused_and_so_is_the_history_that_grows_from_it() {
    let mut house = House::new(&["one", "two"]);
    house.put_in_force("quorum = 2\nanchor_every = '1h'\n", &house.urls());
    let (state, image) = (house.stage.site.state(), house.stage.site.folder().join("image"));
    stop(&mut house.stage);
    copy(&state, &image);
    house.stage.start();
    house.refuse(20);
    assert!(house.stage.enforcer(&["audit", "anchor"]).is_success());
    let known = number(&house.status()["witnessed"], "size");
    let kept = house.stage.site.folder().join("kept.note");
    fs::copy(house.anchor(known, "note"), &kept).unwrap();
    // A witness remembers, whatever ends it.
    house.restart_witness(0);
    house.put_in_force("quorum = 2\nanchor_every = '1h'\n", &house.urls());

    stop(&mut house.stage);
    fs::remove_dir_all(&state).unwrap();
    copy(&image, &state);
    house.put_in_force_at_start("quorum = 2\nanchor_every = '1h'\n", &house.urls());
    let refused = house.stage.enforcer(&["audit", "anchor"]);
    assert_eq!(refused.code, Some(7), "{refused}");
    assert!(refused.stdout.contains("an old copy was put back"), "{refused}");
    let told = format!("it knows {known} records");
    wait_until("status tells it", DEADLINE, || {
        let status = house.status();
        let rows = status["witnesses"].as_array().unwrap().clone();
        rows.iter().all(|row| {
            row["contradicts"] == true && row["trouble"].as_str().unwrap().contains(&told)
        })
    })
    .unwrap();
    // By itself the log is good; the checkpoint that somebody kept says otherwise.
    house.verify(&[]).unwrap();
    let kept = kept.to_str().unwrap();
    let refused = house.verify(&["--checkpoint", kept]).unwrap_err();
    assert_eq!(refused.code, Some(7), "{refused}");
    assert!(refused.stderr.contains(&format!("{known} records")), "{refused}");

    house.refuse(40);
    let refused = house.stage.enforcer(&["audit", "anchor"]);
    assert_eq!(refused.code, Some(7), "{refused}");
    assert!(refused.stdout.contains("the log was forked"), "{refused}");
    let refused = house.verify(&["--checkpoint", kept]).unwrap_err();
    assert!(refused.stderr.contains("history was rewritten"), "{refused}");
    assert!(refused.stderr.contains(&format!("{known} records")), "{refused}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_witness_that_is_stopped_or_never_answers_holds_no_request_and_is_told() {
    let house = House::new(&["one", "two"]);
    let hole = house.black_hole();
    let mut urls = house.urls();
    urls[1] = format!("http://{}", hole.local_addr().unwrap());
    house.put_in_force("quorum = 2\nanchor_every = '200ms'\nanchor_age = '1s'\n", &urls);

    let begun = Instant::now();
    house.refuse(20);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    wait_until("status tells of the silence", DEADLINE, || {
        let status = house.status();
        status["is_overdue"] == true && status["witnesses"][1]["trouble"].is_string()
    })
    .unwrap();
    let told = house.stage.enforcer(&["status"]).stdout;
    assert!(told.contains("OVERDUE") && told.contains("witness two does not cosign"), "{told}");

    // The other one is enough where one is asked for, and is not held by it.
    house.put_in_force("quorum = 1\nanchor_every = '200ms'\n", &urls);
    house.refuse(1);
    wait_until("the quorum is met", DEADLINE, || house.status()["witnessed"].is_object()).unwrap();
    house.witnesses[0].process.signal(Signal::STOP).unwrap();
    let begun = Instant::now();
    house.refuse(20);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    let failed = house.stage.enforcer(&["audit", "anchor"]);
    assert_eq!(failed.code, Some(7), "{failed}");
    assert!(failed.stdout.contains("one  NOT: "), "{failed}");
    house.witnesses[0].process.signal(Signal::CONT).unwrap();
    assert!(house.stage.enforcer(&["audit", "anchor"]).is_success());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_answer_waits_until_the_witnesses_know_its_record_and_not_for_ever() {
    let mut house = House::new(&["one", "two"]);
    let audit = "quorum = 2\nanchor_every = '1h'\ndenied = 'witnessed'\nallowed = 'witnessed'\n\
                 witness_wait = '2500ms'\n";
    house.put_in_force(audit, &house.urls());
    let reader = house.stage.key("client", "reader");

    for _ in 0..5 {
        house.refuse(1);
        let newest = house.stage.offline(&["audit", "tail", "-n", "1", "-o", "jsonl"]).stdout;
        let newest: Value = serde_json::from_str(&newest).unwrap();
        assert_eq!(newest["class"], "http");
        let witnessed = number(&house.status()["witnessed"], "size");
        assert!(witnessed > number(&newest, "index"), "{witnessed}: {newest}");
    }
    let client = house.stage.client(Family::V4);
    assert_eq!(client.ask(&orders().key(&reader)).unwrap().status, 200);

    house.witnesses[1].process.signal(Signal::STOP).unwrap();
    assert_eq!(client.ask(&orders()).unwrap().status, 503, "nobody knows it");
    // What could not be witnessed is not even begun.
    wait_until("the agent knows that it would wait in vain", DEADLINE, || {
        let before = house.stage.upstream.seen().len();
        let refused = client.ask(&orders().key(&reader)).is_ok_and(|answer| answer.status == 503);
        refused && house.stage.upstream.seen().len() == before
    })
    .unwrap();
    house.witnesses[1].process.signal(Signal::CONT).unwrap();
    wait_until("the witness is back", DEADLINE, || client.ask(&orders()).unwrap().status == 401)
        .unwrap();
    assert_eq!(client.ask(&orders().key(&reader)).unwrap().status, 200);

    // Killed and started again in between, it goes on from what it signed.
    for _ in 0..3 {
        let steady = house.stage.client(Family::V4).steadily(orders(), Duration::from_millis(5));
        house.restart_witness(0);
        steady.finish().unwrap();
    }
    wait_until("all is well again", DEADLINE, || client.ask(&orders()).unwrap().status == 401)
        .unwrap();
    house.verify(&[]).unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_timestamp_is_kept_and_openssl_verifies_it() {
    let house = House::new(&["one"]);
    let folder = house.stage.site.folder().join("tsa");
    let authority = Authority::start(&house, &folder);
    let timestamp =
        format!("[audit.timestamp]\nurl = 'http://{}/tsr'\nevery = '1h'\n", authority.address);
    house.put_in_force_with("quorum = 1\n", &house.urls(), &timestamp);
    house.refuse(3);

    let anchored = house.stage.enforcer(&["audit", "anchor", "-o", "json"]);
    assert!(anchored.is_success(), "{anchored}");
    let size =
        wait_for("a timestamp", DEADLINE, || house.status()["stamped"]["size"].as_u64()).unwrap();
    let (note, token) = (house.anchor(size, "note"), house.anchor(size, "tsr"));
    assert!(authority.verifies(&note, &token));
    let other = house.stage.file("other.note", "another note\n");
    assert!(!authority.verifies(Path::new(&other), &token));
    let verified = house.verify(&[]).unwrap();
    assert_eq!(number(&verified, "stamped_records"), size);

    // A token over something else is noticed.
    fs::write(&note, fs::read_to_string(&note).unwrap() + "— x AAAAAAAA\n").unwrap();
    let refused = house.verify(&[]).unwrap_err();
    assert!(refused.stderr.contains("timestamp"), "{refused}");

    // One that never answers holds nobody, and is told.
    let hole = house.black_hole();
    let timestamp = format!(
        "[audit.timestamp]\nurl = 'http://{}/tsr'\nevery = '1s'\n",
        hole.local_addr().unwrap()
    );
    house.put_in_force_with("quorum = 1\n", &house.urls(), &timestamp);
    let begun = Instant::now();
    house.refuse(20);
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    // The agent has patience of its own with an authority.
    let told = || house.status()["stamp_trouble"].is_string();
    wait_until("its silence is told", 3 * DEADLINE, told).unwrap();
}

/// The key of a witness that exists nowhere.
const STRANGER: &str = "stranger+00653eec+BIrKTzZ3T4KmfFB8uclmeUguLMdn8tOFAiaVV6VmsJL7";

/// An agent, and witnesses of its log on the same host.
struct House {
    stage: Stage,
    /// Of the log.
    key: String,
    witnesses: Vec<Witness>,
}

struct Witness {
    name: &'static str,
    state: PathBuf,
    key: String,
    url: String,
    process: Agent,
}

impl House {
    fn new(names: &[&'static str]) -> Self {
        let stage = Stage::with_policy(LAYER_7);
        let key = fs::read_to_string(stage.site.state().join("audit/key.pub")).unwrap();
        let key = key.lines().next().unwrap().to_owned();
        let mut house = Self { stage, key, witnesses: Vec::new() };
        for name in names {
            let state = house.stage.site.folder().join(format!("witness-{name}"));
            let words = ["witness", "init", "--state", state.to_str().unwrap(), "--name", name];
            let made = house.stage.site.program(&words).unwrap();
            assert!(made.is_success(), "{made}");
            let key = made.stdout.trim().to_owned();
            let (process, url) = house.run(&state, "127.0.0.1:0");
            house.witnesses.push(Witness { name, state, key, url, process });
        }
        house
    }

    /// Starts a witness; gives where it is.
    fn run(&self, state: &Path, listen: &str) -> (Agent, String) {
        let state = state.to_str().unwrap();
        let words = ["witness", "run", "--state", state, "--listen", listen, "--log", &self.key];
        let process =
            self.stage.site.launch_command(self.stage.site.command(&words).unwrap()).unwrap();
        let url = wait_for("the witness tells where it is", DEADLINE, || {
            let said = process.said();
            let line = said.lines().find(|line| line.starts_with("http://"))?;
            Some(line.split(' ').next()?.to_owned())
        });
        let url = url.unwrap_or_else(|error| panic!("{error}: {}", process.said()));
        (process, url)
    }

    /// Ends a witness as `kill -9` does, and starts it again where it was.
    fn restart_witness(&mut self, place: usize) {
        let Witness { name, state, key, url, process } = self.witnesses.remove(place);
        process.kill().unwrap();
        let (process, url) = self.run(&state, url.strip_prefix("http://").unwrap());
        self.witnesses.insert(place, Witness { name, state, key, url, process });
    }

    fn urls(&self) -> Vec<String> {
        self.witnesses.iter().map(|witness| witness.url.clone()).collect()
    }

    fn policy(&self, audit: &str, urls: &[String], more: &str) -> String {
        let mut policy = format!("{LAYER_7}\n[audit]\n{audit}");
        for (Witness { name, key, .. }, url) in self.witnesses.iter().zip(urls) {
            policy += &format!("[audit.witness.{name}]\nurl = '{url}'\nkey = '{key}'\n");
        }
        policy + more
    }

    /// The agent shows its log to these witnesses from here on.
    fn put_in_force(&self, audit: &str, urls: &[String]) {
        self.put_in_force_with(audit, urls, "");
    }

    fn put_in_force_with(&self, audit: &str, urls: &[String], more: &str) {
        self.stage.apply(&self.policy(audit, urls, more));
        wait_until("the witnesses are known", DEADLINE, || {
            self.status()["witnesses"].as_array().is_some_and(|rows| rows.len() == urls.len())
        })
        .unwrap();
    }

    /// The same for an agent that does not run yet.
    fn put_in_force_at_start(&mut self, audit: &str, urls: &[String]) {
        self.stage.site.write_policy(&self.policy(audit, urls, "")).unwrap();
        self.stage.start();
    }

    /// So many requests without a credential, each of which leaves a record.
    fn refuse(&self, times: usize) {
        let mut connection = self.stage.client(Family::V4).connect(Http::One).unwrap();
        for _ in 0..times {
            assert_eq!(connection.ask(&orders()).unwrap().status, 401);
        }
    }

    fn status(&self) -> Value {
        self.stage.json(&["status"])["audit"]["anchors"].clone()
    }

    fn verify(&self, more: &[&str]) -> Result<Value, Output> {
        let words: Vec<_> = ["audit", "verify", "-o", "json"].iter().chain(more).copied().collect();
        let verified = self.stage.offline(&words);
        if verified.is_success() {
            Ok(serde_json::from_str(&verified.stdout).unwrap())
        } else {
            Err(verified)
        }
    }

    fn anchor(&self, size: u64, kind: &str) -> PathBuf {
        self.stage.site.state().join(format!("audit/anchors/{size}.{kind}"))
    }

    /// A socket on which everybody can connect, and nobody ever answers.
    fn black_hole(&self) -> TcpListener {
        self.stage.lab.host.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap()
    }
}

/// A timestamping authority: `openssl ts -reply` behind as much HTTP as it takes.
struct Authority {
    folder: PathBuf,
    address: SocketAddr,
}

impl Authority {
    fn start(house: &House, folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("tsa.cnf"), TSA_CONFIG).unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "3"])
            .args(["-config", "tsa.cnf", "-extensions", "ext"])
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let listener = house.black_hole();
        let address = listener.local_addr().unwrap();
        let at = folder.to_owned();
        thread::spawn(move || {
            for stream in listener.incoming() {
                drop(reply(stream.unwrap(), &at));
            }
        });
        Self { folder: folder.to_owned(), address }
    }

    fn verifies(&self, data: &Path, token: &Path) -> bool {
        let mut verify = Command::new("openssl");
        verify
            .args(["ts", "-verify", "-CAfile", "cert.pem", "-data"])
            .arg(data)
            .arg("-in")
            .arg(token);
        verify.current_dir(&self.folder).output().unwrap().status.success()
    }
}

fn reply(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 4_096];
    let body = loop {
        let length = stream.read(&mut part)?;
        request.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let expected =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let head = request.windows(4).position(|window| window == b"\r\n\r\n");
        if let (Some(head), Some(expected)) = (head, expected) {
            let body = &request[head + 4..];
            if body.len() >= expected {
                break body.to_vec();
            }
        }
        if length == 0 {
            return Ok(());
        }
    };
    fs::write(folder.join("query.tsq"), body)?;
    let answered = Command::new("openssl")
        .args(["ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query.tsq"])
        .args(["-inkey", "key.pem", "-signer", "cert.pem", "-out", "reply.tsr"])
        .current_dir(folder)
        .output()?;
    assert!(answered.status.success(), "{answered:?}");
    let token = fs::read(folder.join("reply.tsr"))?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/timestamp-reply\r\nContent-Length: {}\r\n\r\n",
        token.len()
    )?;
    stream.write_all(&token)
}

const TSA_CONFIG: &str = "\
[tsa]
default_tsa = one
[one]
serial = ./serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
[req]
distinguished_name = name
prompt = no
[name]
CN = a timestamping authority
[ext]
extendedKeyUsage = critical,timeStamping
";

/// Whether openssl finds the cosignature of `key` under `note`, from the specification alone.
fn openssl_cosigned(note: &str, key: &str, folder: &Path) -> bool {
    let (name, encoded) = (key.split('+').next().unwrap(), key.splitn(3, '+').nth(2).unwrap());
    let (text, lines) = note.rsplit_once("\n\n").unwrap();
    let prefix = format!("— {name} ");
    let line = lines.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap();
    let (public, signature) = (decode(encoded, folder), decode(line, folder));
    let time = u64::from_be_bytes(signature[4..12].try_into().unwrap());
    // SubjectPublicKeyInfo of Ed25519 (RFC 8410).
    let der = [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", &public[1..]].concat();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let key = file("cosigner.der", &der);
    let message = file("message", format!("cosignature/v1\ntime {time}\n{text}\n").as_bytes());
    let signature = file("signature", &signature[12..]);
    let mut verify = Command::new("openssl");
    verify.args(["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-rawin", "-inkey"]).arg(key);
    verify.arg("-in").arg(message).arg("-sigfile").arg(signature);
    verify.output().unwrap().status.success()
}

fn decode(base64: &str, folder: &Path) -> Vec<u8> {
    let file = folder.join("encoded");
    fs::write(&file, base64).unwrap();
    let mut decode = Command::new("openssl");
    decode.args(["base64", "-d", "-A", "-in"]).arg(file);
    decode.output().unwrap().stdout
}

fn stop(stage: &mut Stage) {
    let ended = stage.agent.take().unwrap().terminate().unwrap();
    assert!(ended.success(), "{ended}");
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

fn number(of: &Value, field: &str) -> u64 {
    of[field].as_u64().unwrap_or_else(|| panic!("{field} in {of}"))
}
