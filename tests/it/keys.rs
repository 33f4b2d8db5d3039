//! The life of an API key, through the real binary.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use enforcer_tests::lab::{Ask, CLIENT, DEADLINE, Family, wait_until};
use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::stage::{LAYER_7, Stage, orders};

const WEBHOOK: &str = "127.0.0.1:9100";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_rotation_with_overlap_fails_no_active_consumer() {
    let stage = stage("");
    let old = stage.key("ci", "reader");
    let client = stage.client(Family::V4);
    let by_old = client.steadily(orders().key(&old), Duration::from_millis(2));

    let rotated = stage.json(&["keys", "rotate", "ci", "--grace", "1h"]);
    let new = rotated["credential"].as_str().unwrap();
    let by_new = client.steadily(orders().key(new), Duration::from_millis(2));
    wait_until("both secrets are in use", DEADLINE, || {
        by_old.so_far().served > 50 && by_new.so_far().served > 50
    })
    .unwrap();

    let shown = stage.json(&["keys", "show", "ci"]);
    let [retiring, current] = [&shown["secrets"][0], &shown["secrets"][1]];
    assert_eq!([&retiring["state"], &current["state"]], ["retiring", "current"]);
    assert_eq!(retiring["last_address"], CLIENT.of(Family::V4).to_string(), "{shown}");
    assert!(current["last_used"].is_string(), "{shown}");
    let third = stage.enforcer(&["keys", "rotate", "ci"]);
    assert_eq!(third.code, Some(4), "{third}");
    assert!(third.stderr.contains("--finish"), "{third}");
    let early = stage.enforcer(&["keys", "rotate", "ci", "--finish"]);
    assert_eq!(early.code, Some(4), "{early}");
    assert!(early.stderr.contains("last used at"), "{early}");

    assert!(by_old.finish().unwrap().is_spotless());
    assert!(stage.enforcer(&["keys", "rotate", "ci", "--finish", "-y"]).is_success());
    assert_eq!(status(&stage, &old), 401);
    assert!(by_new.finish().unwrap().is_spotless());
    assert_eq!(stage.enforcer(&["keys", "rotate", "ci", "--finish"]).code, Some(3));
    let ids: Vec<_> = [&old, new].iter().map(|key| key.split('_').nth(2)).collect();
    assert_eq!(ids[0], ids[1], "the key stays who it is");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_rotation_without_grace_refuses_the_old_secret_and_cuts_what_it_opened() {
    let stage = stage("");
    let old = stage.key("ci", "reader");
    let client = stage.client(Family::V4);
    let slow = Ask::get("/v1/drip/6000/10").key(&old);
    let before = stage.upstream.requests();
    let download = thread::spawn(move || client.ask(&slow).is_err());
    stage.upstream.wait_for_requests(before + 1).unwrap();

    let rotated = stage.json(&["keys", "rotate", "ci", "--grace", "0"]);

    assert!(download.join().unwrap(), "the download was cut");
    assert_eq!(status(&stage, &old), 401);
    assert_eq!(status(&stage, rotated["credential"].as_str().unwrap()), 200);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn everything_that_was_said_of_a_key_is_shown_and_names_nobody_knows_are_refused() {
    let stage = stage("[limit]\nper_key = { by = \"key\", rate = \"100/s\" }\n");
    let full = [
        "keys",
        "issue",
        "--name",
        "full",
        "--owner",
        "J\u{fc}rgen, ops",
        "--application",
        "billing",
        "--role",
        "reader",
        "--scope",
        "orders:read",
        "--route",
        "orders",
        "--network",
        "10.0.0.0/8",
        "--certificate",
        &"ab".repeat(32),
        "--expires",
        "40d",
        "--limit",
        "per_key",
        "--note",
        "for the nightly run",
        "--test",
    ];
    let rehearsed = stage.enforcer(&[&full[..], &["--dry-run"]].concat());
    assert!(rehearsed.is_success(), "{rehearsed}");
    assert_eq!(stage.json(&["keys", "list"]), Value::Array(Vec::new()));

    let issued = stage.json(&full);

    assert!(issued["credential"].as_str().unwrap().starts_with("enf_test_"));
    let shown = stage.json(&["keys", "show", "full"]);
    for (field, expected) in [
        ("owner", "J\u{fc}rgen, ops".into()),
        ("application", "billing".into()),
        ("scopes", ["orders:read"][..].into()),
        ("routes", ["orders"][..].into()),
        ("networks", ["10.0.0.0/8"][..].into()),
        ("certificate", "ab".repeat(32).into()),
        ("limits", ["per_key"][..].into()),
        ("notes", "for the nightly run".into()),
        ("environment", "test".into()),
        ("state", Value::from("active")),
    ] {
        assert_eq!(shown[field], expected, "{field}");
    }
    assert!(stage.enforcer(&["keys", "show", "full"]).stdout.contains("never used"));
    for (flag, name, meant) in [
        ("--role", "raeder", "reader"),
        ("--route", "order", "orders"),
        ("--limit", "perkey", "per_key"),
    ] {
        let words = ["keys", "issue", "--name", "x", "--role", "reader", flag, name];
        let refused = stage.enforcer(&words);
        assert_eq!(refused.code, Some(2), "{refused}");
        assert!(refused.stderr.contains(&format!("did you mean `{meant}`")), "{refused}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn keys_from_elsewhere_are_imported_whole_or_not_at_all() {
    let stage = stage("");
    let (key, other) = ("legacy-Key~1/2+3==", "legacy.other");
    let line =
        |key: &str, name: &str, role: &str| format!("{},{name},{role},ops\n", hex(&sha256(key)));
    let header = "hash,name,roles,owner\n";
    let bad = stage.file(
        "bad.csv",
        &format!(
            "{header}{}{}abc,third,reader,ops\n",
            line(key, "one", "reader"),
            line(other, "two", "emperor")
        ),
    );
    let good = stage.file(
        "good.csv",
        &format!("{header}{}{}", line(key, "one", "reader"), line(other, "two", "reader")),
    );
    let status_of = |header: &'static str, value: &str| {
        let value = HeaderValue::try_from(value).unwrap();
        let ask = orders().header(HeaderName::from_static(header), value);
        stage.client(Family::V4).ask(&ask).unwrap().status.as_u16()
    };

    let refused = stage.enforcer(&["keys", "import", &bad]);
    assert_eq!(refused.code, Some(2), "{refused}");
    for problem in ["line 3: the policy in force knows no role `emperor`", "line 4: `hash`"] {
        assert!(refused.stderr.contains(problem), "{refused}");
    }
    assert!(stage.enforcer(&["keys", "import", &good, "--dry-run"]).is_success());
    assert_eq!(stage.json(&["keys", "list"]), Value::Array(Vec::new()));
    assert_eq!(status_of("x-api-key", key), 401);

    let imported = stage.json(&["keys", "import", &good]);

    assert_eq!(imported["keys"].as_array().unwrap().len(), 2, "{imported}");
    assert_eq!(status_of("x-api-key", key), 200);
    assert_eq!(status_of("authorization", &format!("Bearer {other}")), 200);
    assert_eq!(status_of("x-api-key", "legacy-Key~1/2+3="), 401);
    let again = stage.enforcer(&["keys", "import", &good]);
    assert_eq!(again.code, Some(2), "{again}");
    assert!(stage.enforcer(&["keys", "revoke", "one", "--reason", "test"]).is_success());
    assert_eq!(status_of("x-api-key", key), 401);
    assert_eq!(status_of("x-api-key", other), 200);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn leaked_keys_are_found_told_apart_and_revoked() {
    let mut stage = stage("");
    let issued =
        stage.json(&["keys", "issue", "--name", "ci", "--role", "reader", "--owner", "ops"]);
    let key = issued["credential"].as_str().unwrap();
    let folder = stage.site.folder().join("tree");
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    fs::write(folder.join("clean.bin"), [0u8; 4096]).unwrap();
    fs::write(folder.join("deep/er/long"), format!("{}\n\0 KEY={key};", "x".repeat(300_000)))
        .unwrap();
    fs::write(folder.join("near"), key.replace("_live_", "_test_")).unwrap();
    std::os::unix::fs::symlink("deep", folder.join("link")).unwrap();
    let tree = folder.to_str().unwrap();

    let found = stage.enforcer(&["keys", "scan", tree, "--json"]);
    assert_eq!(found.code, Some(7), "{found}");
    let findings: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(findings.as_array().unwrap().len(), 1, "{found}");
    assert_eq!([&findings[0]["line"], &findings[0]["column"]], [2, 7], "{found}");
    let told = ["name", "owner", "state"].map(|field| findings[0][field].as_str().unwrap());
    assert_eq!(told, ["ci", "ops", "active"]);
    let (_, secret) = key.rsplit_once('_').unwrap();
    assert!(!found.stdout.contains(secret) && !found.stderr.contains(secret));
    let near = stage.enforcer(&["keys", "scan", folder.join("near").to_str().unwrap()]);
    assert_eq!(near.code, Some(0), "{near}");

    let no = stage.typing(&["keys", "scan", tree, "--revoke"], "n\n");
    assert_eq!((no.code, status(&stage, key)), (Some(7), 200), "{no}");
    let yes = stage.typing(&["keys", "scan", tree, "--revoke"], "y\n");
    assert_eq!((yes.code, status(&stage, key)), (Some(7), 401), "{yes}");

    stage.kill();
    let alone = stage.typing(&["keys", "scan", "-"], &format!("a\nb {key}"));
    assert_eq!(alone.code, Some(7), "{alone}");
    assert!(alone.stdout.starts_with("-:2:3\t"), "{alone}");
    assert_eq!(stage.enforcer(&["keys", "scan", tree, "--revoke", "-y"]).code, Some(5));
    assert_eq!(stage.enforcer(&["keys", "scan", "/nowhere"]).code, Some(1));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_webhook_hears_once_of_a_key_that_ends_even_if_it_refuses_at_first() {
    let stage = Stage::without_agent(&policy(&format!(
        "[keys]\nwebhook = \"http://{WEBHOOK}/hook\"\nrotate = {{ notify = [\"30d\", \"7d\", \"1d\"] }}\n"
    )));
    let posts = webhook(&stage, [503, 200, 200]);
    let mut stage = Stage { agent: Some(stage.site.start().unwrap()), ..stage };
    let words =
        ["keys", "issue", "--name", "ci", "--role", "reader", "--owner", "ops", "--expires", "20h"];
    assert!(stage.enforcer(&words).is_success());
    // What is due is looked for at the start, and every half a minute from then on.
    assert!(stage.agent.take().unwrap().terminate().unwrap().success());
    stage.start();

    let (first, second) =
        (posts.recv_timeout(DEADLINE).unwrap(), posts.recv_timeout(DEADLINE).unwrap());

    assert_eq!(first, second, "what was refused is posted again");
    assert_eq!([&first["notice"], &first["name"], &first["owner"]], ["expiry", "ci", "ops"]);
    let left = first["seconds_left"].as_u64().unwrap();
    assert!((19 * 3_600..=20 * 3_600).contains(&left), "{first}");
    let records = stage.offline(&["audit", "tail", "-n", "50", "-o", "json"]).stdout;
    assert!(records.contains("keys notice"), "{records}");
    assert!(posts.recv_timeout(Duration::from_secs(2)).is_err(), "what was taken is not repeated");
    assert!(stage.agent.take().unwrap().terminate().unwrap().success());
    stage.start();
    assert!(posts.recv_timeout(Duration::from_secs(2)).is_err(), "a restart repeats nothing");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_prefix_of_ones_own_holds_for_new_keys_and_the_last_use_survives_a_restart() {
    let mut stage = stage("");
    let old = stage.key("old", "reader");
    stage.apply(&policy("[keys]\nprefix = \"acme\"\n"));

    let new = stage.key("new", "reader");

    assert!(new.starts_with("acme_live_"), "{new}");
    assert_eq!([status(&stage, &old), status(&stage, &new)], [200, 200]);
    let found = stage.typing(&["keys", "scan", "-"], &new);
    assert_eq!(found.code, Some(7), "{found}");
    assert!(stage.agent.take().unwrap().terminate().unwrap().success());
    stage.start();
    assert_eq!([status(&stage, &old), status(&stage, &new)], [200, 200]);
    let used = stage.json(&["keys", "show", "new"])["secrets"][0]["last_address"].clone();
    assert_eq!(used, CLIENT.of(Family::V4).to_string());
}

/// Keys and nothing of the kernel; wrong ones have no consequences.
fn policy(more: &str) -> String {
    format!("{}\n{more}", LAYER_7.replace("failures = 5", "failures = 500"))
}

fn stage(more: &str) -> Stage {
    Stage::with_policy(&policy(more))
}

fn status(stage: &Stage, key: &str) -> u16 {
    stage.client(Family::V4).ask(&orders().key(key)).unwrap().status.as_u16()
}

/// A webhook that answers with these statuses, one each, and passes on what it got.
fn webhook(stage: &Stage, statuses: [u16; 3]) -> Receiver<Value> {
    let address: SocketAddr = WEBHOOK.parse().unwrap();
    let listener = stage.lab.host.run(|| TcpListener::bind(address)).unwrap().unwrap();
    let (send, posts) = channel();
    let statuses = Arc::new(statuses);
    thread::spawn(move || {
        for (connection, status) in listener.incoming().zip(statuses.iter()) {
            let mut connection = connection.unwrap();
            let body = request_body(&mut connection);
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
            connection.write_all(answer.as_bytes()).unwrap();
            if send.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    posts
}

/// The body of one request; its length stands in the head.
fn request_body(connection: &mut TcpStream) -> Vec<u8> {
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 1024];
        let length = connection.read(&mut piece).unwrap();
        read.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("post /hook "), "{head}");
        let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= wanted.unwrap().parse().unwrap() {
            return read.split_off(head.len() + 4);
        }
    }
}

fn sha256(text: &str) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
