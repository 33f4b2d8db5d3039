//! Tokens, end to end: issued by a provider that nobody here wrote, checked by the real program.
//!
//! The provider and the agent live in the lab's host and meet on its loopback. Beside the provider
//! stands an issuer that signs whatever a test wants, for what no good provider says.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use enforcer_tests::lab::idp::{BrokenIssuer, GATEWAY, Idp, IdpOptions, secret};
use enforcer_tests::lab::{Answer, Ask, DEADLINE, Family, Http, wait_until};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::stage::Stage;

mod accepted;
mod bound;
mod denied;
mod issuers;
mod reload;
mod revoked;
mod rotated;
mod upstreams;

/// What the issuer beside the provider signs tokens for.
const LAB: &str = "https://lab.test";

/// Everything but the issuers.
const POLICY: &str = r#"
version = 1

[agent]
state  = "state"
socket = "admin.sock"

[listen.public]
address = ["0.0.0.0:8443"]
tls     = { certificate = "tls/cert.pem", key = "tls/key.pem"CLIENTS }

[role]
reader = { from = ["key", FROM"issuer:corp/reader"] }
writer = { from = ["issuer:corp/writer"], includes = ["reader"] }

[upstream.app]
hosts = ["127.0.0.1:9000"]

[upstream.trusting]
hosts              = ["127.0.0.1:9000"]
forward_credential = true
identity           = false

[[route]]
name     = "orders"
match    = "api.test/v1/{**}"
upstream = "app"
upgrade  = ["websocket"]

  [[route.allow]]
  method = ["GET", "HEAD"]
  role   = "reader"

  [[route.allow]]
  method = "POST"
  role   = "writer"
  when   = 'claims.tenant == "t1"'

  [[route.allow]]
  method = "DELETE"
  role   = "writer"
  when   = 'claims.tenant == "t2"'

[[route]]
name     = "trusting"
match    = "api.test/trusting/{**}"
upstream = "trusting"

  [[route.allow]]
  method = "GET"
  role   = "reader"

[[route]]
name     = "bound"
match    = "api.test/bound/{**}"
upstream = "app"
require  = "bound"

  [[route.allow]]
  method = "GET"
  role   = "reader"

[[route]]
name     = "old"
match    = "api.test/old/{**}"
upstream = "app"
strip    = "/old"
rewrite  = "/v1"

  [[route.allow]]
  method = "GET"
  role   = "reader"

[[route]]
name     = "health"
match    = "api.test/healthz"
upstream = "app"
public   = true
"#;

/// The lab with its agent, which believes these issuers.
struct Scene {
    stage: Stage,
    idp: Idp,
    lab: BrokenIssuer,
}

impl Scene {
    /// With a provider of the usual kind.
    fn open() -> Self {
        Self::with(IdpOptions::default(), "")
    }

    fn with(options: IdpOptions, more: &str) -> Self {
        let stage = Stage::without_agent("");
        let idp = Idp::start(Some(&stage.lab.host), options).unwrap();
        let lab = BrokenIssuer::start(Some(&stage.lab.host)).unwrap();
        let mut scene = Self { stage, idp, lab };
        scene.stage.site.write_policy(&scene.policy(more)).unwrap();
        private(&scene.stage, "idp.secret", &secret(GATEWAY));
        scene.stage.start();
        scene.until_usable();
        scene
    }

    /// A policy that believes both issuers, and `more`.
    fn policy(&self, more: &str) -> String {
        let issuers = format!("{}{}{more}", self.corp(), issuer("lab", self.lab.issuer(), ""));
        policy(&["lab"], &issuers)
    }

    fn corp(&self) -> String {
        format!(
            r#"
[issuer.corp]
url           = "{}"
audience      = ["https://api.test/es256", "https://api.test/rs256", "https://api.test/ps256", "https://api.test/eddsa", "https://api.test/opaque"]
algs          = ["ES256", "RS256", "PS256", "EdDSA"]
roles         = "claims.roles"
leeway        = "0s"
timeout       = "2s"
introspection = {{ client = "enforcer", secret = "idp.secret", cache = "500ms" }}
"#,
            self.idp.issuer()
        )
    }

    /// Until the keys of every issuer are there.
    fn until_usable(&self) {
        wait_until("every issuer has answered", DEADLINE, || {
            let listed = self.stage.json(&["tokens", "list"]);
            let mut issuers = listed["issuers"].as_array().unwrap().iter();
            issuers.all(|issuer| issuer["usable"] == true)
        })
        .unwrap();
    }

    fn ask(&self, http: Http, ask: &Ask) -> Answer {
        ask_of(&self.stage, http, ask)
    }

    /// The status of a read with this token as bearer, which is the same over both versions.
    fn status(&self, token: &str) -> u16 {
        status_of(&self.stage, token)
    }

    /// Why the last request that was refused was, as the audit log has it.
    fn reason(&self) -> String {
        reason_of(&self.stage)
    }

    /// What the issuer beside the provider says of `subject`, with `changes`.
    fn signed(&self, subject: &str, changes: &Value) -> String {
        self.lab.sign(&claims(self.lab.issuer(), subject, changes)).unwrap()
    }
}

fn policy(others: &[&str], issuers: &str) -> String {
    let from: String = others.iter().map(|name| format!("\"issuer:{name}/reader\", ")).collect();
    POLICY.replace("FROM", &from).replace("CLIENTS", "") + issuers
}

/// An issuer whose tokens are for [`LAB`].
fn issuer(name: &str, url: &str, more: &str) -> String {
    format!(
        "\n[issuer.{name}]\nurl = \"{url}\"\naudience = [\"{LAB}\"]\nalgs = [\"ES256\"]\n\
         roles = \"claims.roles\"\n{more}\n"
    )
}

/// What a good issuer says of `subject`, a reader, but for `changes`.
fn claims(issuer: &str, subject: &str, changes: &Value) -> Value {
    let now = now();
    let mut claims = json!({
        "iss": issuer, "aud": LAB, "sub": subject, "client_id": subject, "jti": format!("{subject}-1"),
        "iat": now, "exp": now + 600, "roles": ["reader"],
    });
    for (name, value) in changes.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    claims
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A file that is its owner's alone.
fn private(stage: &Stage, name: &str, text: &str) {
    let file = stage.file(name, text);
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

fn read() -> Ask {
    Ask::get("/v1/orders")
}

fn ask_of(stage: &Stage, http: Http, ask: &Ask) -> Answer {
    stage.client(Family::V4).connect(http).unwrap().ask(ask).unwrap()
}

fn status_of(stage: &Stage, token: &str) -> u16 {
    let [one, two] =
        [Http::One, Http::Two].map(|http| ask_of(stage, http, &read().key(token)).status.as_u16());
    assert_eq!(one, two, "over HTTP/1.1 and HTTP/2");
    one
}

/// The status over HTTP/1.1 alone, to wait for one that changes.
fn once(stage: &Stage, token: &str) -> u16 {
    ask_of(stage, Http::One, &read().key(token)).status.as_u16()
}

fn reason_of(stage: &Stage) -> String {
    let records = stage.records_of("http");
    let reason = records.iter().rev().find_map(|record| record["body"]["reason"].as_str());
    reason.unwrap().to_owned()
}

/// The claims of a token, not verified.
fn payload(token: &str) -> Value {
    serde_json::from_slice(&decoded(token.split('.').nth(1).unwrap())).unwrap()
}

fn decoded(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn encoded(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

/// All that a caller is told but the id of the request and the time.
fn told(answer: &Answer) -> (u16, HeaderMap, String) {
    let mut headers = answer.headers.clone();
    let id = headers.remove("x-request-id").unwrap();
    headers.remove("date");
    let body = answer.text();
    assert!(body.contains(id.to_str().unwrap()), "{body}");
    (answer.status.as_u16(), headers, body.replace(id.to_str().unwrap(), "ID"))
}
