//! Programs that nobody here wrote take what we send: the published library of Standard Webhooks,
//! an independent Ed25519, Prometheus' Alertmanager, and rsyslog.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use enforcer_tests::lab::{DEADLINE, wait_until};
use serde_json::{Value, json};

use super::forms::HOSTILE;
use super::post::{Post, listener, receiver};
use super::{LOOPBACK, OLD, SECRET, policy, stage, webhook};
use crate::stage::Stage;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn the_published_library_verifies_us_while_a_secret_changes_and_no_forgery() {
    let stage = stage();
    stage.file("old", &format!("whsec_{OLD}\n"));
    let private = STANDARD.encode([7; 32]);
    stage.file("new", &format!("whsec_{SECRET}\nwhsk_{private}\n"));
    let (address, posts) = receiver(&stage, &["204 No Content"]);
    let told_with = |secrets: &str| {
        let row = webhook("soc", address, LOOPBACK).replace("['secret']", secrets);
        stage.apply(&policy(&[row]));
        assert!(stage.enforcer(&["notify", "test", "soc"]).is_success());
        posts.recv_timeout(DEADLINE).unwrap()
    };

    let before = told_with("['old']");
    let both = told_with("['new', 'old']");
    let public = stage.json(&["notify", "list"])[0]["public_keys"][0].as_str().unwrap().to_owned();
    let after = told_with("['new']");

    let (old, new) = (format!("whsec_{OLD}"), format!("whsec_{SECRET}"));
    let mut cases = vec![
        Case::of("before, by the old one", true, &before, &old),
        Case::of("before, by the new one", false, &before, &new),
        Case::of("before, by the public key", false, &before, &public),
        Case::of("both, by the old one", true, &both, &old),
        Case::of("both, by the new one", true, &both, &new),
        Case::of("both, by the public key", true, &both, &public),
        Case::of("after, by the old one", false, &after, &old),
        Case::of("after, by the new one", true, &after, &new),
        Case::of("after, by the public key", true, &after, &public),
    ];
    for key in [&old, &new, &public] {
        let good = Case::of("forged", false, &both, key);
        let field = |name: &str, value: &str| {
            let mut case = good.clone();
            case.headers[name] = value.into();
            case
        };
        let mut body = good.clone();
        body.body.push(b' ');
        cases.push(body);
        cases.push(field("webhook-id", "msg_other"));
        let seconds: u64 = both.field("webhook-timestamp").parse().unwrap();
        cases.push(field("webhook-timestamp", &(seconds + 1).to_string()));
        cases.push(field("webhook-timestamp", "1614265330"));
        cases.push(field("webhook-signature", before.field("webhook-signature")));
    }
    let file = stage.site.folder().join("cases.json");
    let told: Vec<_> = cases.iter().map(Case::told).collect();
    fs::write(&file, serde_json::to_vec(&told).unwrap()).unwrap();

    let mut command = Command::new("python3");
    // Not its own folder, and with the packages that were installed for the tests.
    command.args(["-P", "-B"]).arg(here("verify.py")).arg(&file);
    let output = command.env("PYTHONPATH", target("verifiers")).output().unwrap();

    let said = String::from_utf8(output.stdout).unwrap();
    let verdicts: Vec<_> = said.lines().collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(verdicts.len(), cases.len(), "{said}{errors}");
    for (case, verdict) in cases.iter().zip(verdicts) {
        let Case { what, is_good, key, headers, .. } = case;
        assert_eq!(verdict == "accepted", *is_good, "{what} {key}: {verdict}: {headers}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_real_alertmanager_fires_for_an_incident_and_stops_when_it_is_closed() {
    let stage = stage();
    let alerts = Alertmanager::start(&stage);
    stage.apply(&policy(&[format!(
        "[notify.alerts]\nkind = 'alertmanager'\nurl = 'http://{}'\nseverity = 'info'\n\
         group_wait = '0s'\nresend = '1s'\n{LOOPBACK}\n",
        alerts.address
    )]));
    let tested = stage.enforcer(&["notify", "test", "alerts"]);
    assert!(tested.is_success(), "{tested}");
    assert_eq!(alerts.named(&stage, "EnforcerTest").len(), 1);

    let opened = stage.enforcer(&["incident", "open", "--reason", HOSTILE]);
    assert!(opened.is_success(), "{opened}");
    let firing = || alerts.named(&stage, "EnforcerIncident");
    wait_until("it fires", DEADLINE, || {
        firing().first().is_some_and(|alert| alert["status"]["state"] == "active")
    })
    .unwrap();
    let alert = firing().remove(0);
    assert_eq!(alert["labels"]["incident"], "INC-0001");
    assert_eq!(alert["annotations"]["summary"], HOSTILE);
    wait_until("it is told again", DEADLINE, || {
        firing().iter().any(|one| one["updatedAt"] != alert["updatedAt"])
    })
    .unwrap();
    assert_eq!(firing().len(), 1, "and is the same alert");

    let closed = stage.enforcer(&["incident", "close", "INC-0001", "--reason", "over"]);
    assert!(closed.is_success(), "{closed}");
    wait_until("it has ended", DEADLINE, || firing().is_empty()).unwrap();
    assert_eq!(stage.json(&["notify", "list"])[0]["why"], Value::Null);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_real_rsyslog_reads_every_field_that_we_write_over_tcp_and_udp() {
    let stage = stage();
    let rsyslog = Rsyslog::start(&stage);
    let syslog = |name: &str, url: String, format: &str| {
        format!(
            "[notify.{name}]\nkind = 'syslog'\nurl = '{url}'\nformat = '{format}'\n\
             facility = 'authpriv'\nseverity = 'info'\ngroup_wait = '0s'\n{LOOPBACK}\n"
        )
    };
    stage.apply(&policy(&[
        syslog("tcp", format!("tcp://{}", rsyslog.address), "rfc5424"),
        syslog("udp", format!("udp://{}", rsyslog.address), "rfc5424"),
        syslog("cef", format!("tcp://{}", rsyslog.address), "cef"),
    ]));

    let opened = stage.enforcer(&["incident", "open", "--reason", HOSTILE]);
    assert!(opened.is_success(), "{opened}");

    let lines = || rsyslog.lines();
    wait_until("all three have arrived", DEADLINE, || lines().len() >= 3).unwrap();
    let lines = lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let (cef, plain): (Vec<_>, Vec<_>) =
        lines.iter().partition(|line| line["message"].as_str().unwrap().contains("CEF:0"));
    for line in &plain {
        assert_eq!(line["protocol"], "1", "{line}");
        assert_eq!((&line["facility"], &line["severity"]), (&json!("authpriv"), &json!("warning")));
        assert_eq!((&line["app"], &line["id"]), (&json!("enforcer"), &json!("incident-opened")));
        assert!(line["process"].as_str().unwrap().parse::<u32>().is_ok(), "{line}");
        let data: Value = serde_json::from_str(line["data"].as_str().unwrap()).unwrap();
        let data = &data["enforcer@32473"];
        assert_eq!(data["incident"], "INC-0001", "{line}");
        assert_eq!(data["severity"], "warning", "{line}");
        let message = line["message"].as_str().unwrap();
        assert_eq!(message.trim_start_matches('\u{feff}').trim_start(), HOSTILE, "{line}");
    }
    assert_eq!(plain.len(), 2);
    let [cef] = &cef[..] else { panic!("{lines:?}") };
    let (head, pairs) = cef_of(cef["message"].as_str().unwrap().trim_start());
    assert_eq!(head[1..3], ["enforcer", "enforcer"]);
    assert_eq!((&*head[4], &*head[5], &*head[6]), ("incident-opened", HOSTILE, "5"));
    let value = |name: &str| &*pairs.iter().find(|(known, _)| known == name).unwrap().1;
    assert_eq!(value("externalId"), "INC-0001");
    assert!(value("rt").parse::<u64>().is_ok());
}

/// A message, what it is held against, and whether it is one of ours.
#[derive(Clone)]
struct Case {
    what: &'static str,
    is_good: bool,
    headers: Value,
    body: Vec<u8>,
    key: String,
}

impl Case {
    fn of(what: &'static str, is_good: bool, post: &Post, key: &str) -> Self {
        let fields = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers = fields.map(|name| (name.to_owned(), json!(post.field(name))));
        let headers = Value::Object(headers.into_iter().collect());
        Self { what, is_good, headers, body: post.body.clone(), key: key.to_owned() }
    }

    fn told(&self) -> Value {
        let body = STANDARD.encode(&self.body);
        json!({ "headers": self.headers, "body": body, "key": self.key })
    }
}

/// Prometheus' own, in the lab's host. Killed when it is dropped.
struct Alertmanager {
    child: Child,
    address: SocketAddr,
}

impl Alertmanager {
    fn start(stage: &Stage) -> Self {
        let address = listener(stage).local_addr().unwrap();
        let file =
            stage.file("alertmanager.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n");
        let mut command = stage.lab.host.command(unpacked("usr/bin/prometheus-alertmanager"));
        command
            .arg(format!("--config.file={file}"))
            .arg(format!("--storage.path={}", stage.site.folder().join("alerts").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=");
        let child = spawn(stage, command);
        let alerts = Self { child, address };
        wait_until("the alertmanager answers", DEADLINE, || alerts.ask(stage).is_some()).unwrap();
        alerts
    }

    fn ask(&self, stage: &Stage) -> Option<Vec<Value>> {
        let mut command = stage.lab.host.command("curl");
        command.args(["--silent", "--fail", &format!("http://{}/api/v2/alerts", self.address)]);
        serde_json::from_str(&stage.lab.host.succeed(command).ok()?).ok()
    }

    fn named(&self, stage: &Stage, name: &str) -> Vec<Value> {
        let mut alerts = self.ask(stage).unwrap();
        alerts.retain(|alert| alert["labels"]["alertname"] == name);
        alerts
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// The system's logger of most, in the lab's host. Killed when it is dropped.
struct Rsyslog {
    child: Child,
    address: SocketAddr,
    out: PathBuf,
}

impl Rsyslog {
    fn start(stage: &Stage) -> Self {
        let address = listener(stage).local_addr().unwrap();
        let (ip, port) = (address.ip(), address.port());
        let folder = stage.site.folder();
        let out = folder.join("syslog.jsonl");
        let conf = format!(
            r#"global(workDirectory="{folder}" net.enableDNS="off" maxMessageSize="8k"
       parser.escapeControlCharactersOnReceive="on")
module(load="imtcp")
module(load="imudp")
module(load="mmpstrucdata")
input(type="imtcp" address="{ip}" port="{port}" ruleset="told")
input(type="imudp" address="{ip}" port="{port}" ruleset="told")
template(name="line" type="list" option.jsonf="on") {{
  property(outname="protocol" name="protocol-version" format="jsonf")
  property(outname="facility" name="syslogfacility-text" format="jsonf")
  property(outname="severity" name="syslogseverity-text" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="process" name="procid" format="jsonf")
  property(outname="id" name="msgid" format="jsonf")
  property(outname="message" name="msg" format="jsonf")
  property(outname="data" name="$!rfc5424-sd" format="jsonf")
}}
ruleset(name="told") {{
  action(type="mmpstrucdata")
  action(type="omfile" file="{out}" template="line")
}}
"#,
            folder = folder.display(),
            out = out.display(),
        );
        let file = stage.file("rsyslog.conf", &conf);
        let modules = home().join(LIBRARIES[1]).join("rsyslog");
        let mut command = stage.lab.host.command(unpacked("usr/sbin/rsyslogd"));
        command.args(["-n", "-f", &file, "-i", "NONE", "-M"]).arg(modules);
        let libraries = LIBRARIES.map(|folder| home().join(folder).display().to_string());
        command.env("LD_LIBRARY_PATH", libraries.join(":"));
        let child = spawn(stage, command);
        let rsyslog = Self { child, address, out };
        let is_open = || {
            let work = || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
            stage.lab.host.run(work).unwrap().is_ok()
        };
        wait_until("rsyslog listens", DEADLINE, is_open).unwrap();
        rsyslog
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// Where `cargo xtask setup` unpacks the receivers.
fn home() -> PathBuf {
    target("receivers")
}

fn unpacked(program: &str) -> PathBuf {
    let program = home().join(program);
    assert!(program.is_file(), "{} is missing: run `cargo xtask setup`", program.display());
    program
}

fn spawn(stage: &Stage, mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    stage.lab.host.spawn(command).unwrap()
}

fn end(child: &mut Child) {
    child.kill().unwrap_or_default();
    child.wait().unwrap();
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/notify").join(name)
}

fn target(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    target.canonicalize().unwrap().join(name)
}

/// The seven fields of a CEF event's head and its pairs, unescaped as its format says.
fn cef_of(text: &str) -> (Vec<String>, Vec<(String, String)>) {
    let (mut head, mut field) = (Vec::new(), String::new());
    let mut characters = text.chars();
    while head.len() < 7 {
        match characters.next().unwrap_or_else(|| panic!("{text}")) {
            '\\' => field.push(characters.next().unwrap()),
            '|' => head.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    let (mut pairs, mut name, mut is_name) = (Vec::<(String, String)>::new(), String::new(), true);
    let mut value = String::new();
    while let Some(c) = characters.next() {
        match c {
            '=' if is_name => (name, is_name) = (std::mem::take(&mut value), false),
            '=' => {
                // The word before it is the name of the next pair.
                let (before, next) = value.rsplit_once(' ').unwrap();
                pairs.push((name, before.to_owned()));
                (name, value) = (next.to_owned(), String::new());
            }
            '\\' => match characters.next().unwrap() {
                'n' => value.push('\n'),
                escaped => {
                    assert!(matches!(escaped, '\\' | '='), "\\{escaped} in {text}");
                    value.push(escaped);
                }
            },
            other => value.push(other),
        }
    }
    pairs.push((name, value));
    (head, pairs)
}
