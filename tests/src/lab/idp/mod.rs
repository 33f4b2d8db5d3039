//! A real identity provider: panva's certified oidc-provider on loopback, at a port of its own.
//!
//! `cargo xtask setup` installs it (`package-lock.json` pins every package); [`Idp::start`] runs it
//! with the keys, the lifetime and the transport that a test wants, and it ends with the [`Idp`],
//! or with this process. Requests to it are made with `curl`, in the same namespace.
//!
//! | resource | access token |
//! |---|---|
//! | `https://api.test/es256` (any algorithm of its keys, in lower case) | a JWT (RFC 9068), signed so |
//! | `https://api.test/opaque` | opaque |
//!
//! | client | its tokens |
//! |---|---|
//! | [`ORDERS`], [`READONLY`], [`ONCALL`] | bearer tokens with the roles `reader` and `writer`; `reader`; `reader` and `sec-oncall` |
//! | [`DPOP`] | bound to the key of a [`Holder`] |
//! | [`MTLS`] | bound to a client certificate; needs TLS |
//! | [`GATEWAY`] | none, but it may introspect |

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Namespace, process};

mod broken;
mod holder;

pub use broken::{BrokenIssuer, Manner};
pub use holder::Holder;
pub(crate) use holder::{fresh, jwk_of, sign};

/// A client whose tokens carry the roles `reader` and `writer`.
pub const ORDERS: &str = "svc-orders";
/// A client whose tokens carry the role `reader`.
pub const READONLY: &str = "svc-readonly";
/// A client whose tokens carry the roles `reader` and `sec-oncall`.
pub const ONCALL: &str = "svc-oncall";
/// A client whose tokens are bound to a key.
pub const DPOP: &str = "svc-dpop";
/// A client whose tokens are bound to a certificate.
pub const MTLS: &str = "svc-mtls";
/// The gateway itself, which may introspect.
pub const GATEWAY: &str = "enforcer";

/// What runs it.
const SERVER: &str = include_str!("server.mjs");

/// A running provider.
#[derive(Debug)]
pub struct Idp {
    child: Child,
    host: Option<Namespace>,
    options: IdpOptions,
    issuer: String,
    keys: Vec<Value>,
}

/// How a provider is to be.
#[derive(Clone, Debug)]
pub struct IdpOptions {
    /// Where to listen; 0 for any.
    pub port: u16,
    /// How long access tokens live.
    pub ttl: Duration,
    /// What it signs with.
    pub keys: Vec<IdpKey>,
    /// The folder with `cert.pem` and `key.pem` that it speaks TLS with; plain HTTP without.
    pub tls: Option<PathBuf>,
}

/// A key of the provider.
#[derive(Clone, Debug)]
pub enum IdpKey {
    /// Made when it starts.
    Fresh {
        /// Its algorithm, such as `ES256`.
        algorithm: String,
        /// Its name.
        id: String,
    },
    /// One that a provider had before: an entry of [`Idp::keys`].
    Kept(Value),
}

impl Default for IdpOptions {
    /// Any port, a minute, and a key each for ES256, RS256, PS256 and `EdDSA`, without TLS.
    fn default() -> Self {
        let keys = ["ES256", "RS256", "PS256", "EdDSA"];
        Self {
            port: 0,
            ttl: Duration::from_secs(60),
            keys: keys.map(|algorithm| IdpKey::fresh(algorithm, algorithm)).to_vec(),
            tls: None,
        }
    }
}

impl IdpKey {
    /// A key that is made when the provider starts.
    pub fn fresh(algorithm: &str, id: &str) -> Self {
        Self::Fresh { algorithm: algorithm.to_owned(), id: id.to_owned() }
    }

    fn wish(&self) -> Value {
        match self {
            Self::Fresh { algorithm, id } => json!({ "alg": algorithm, "kid": id }),
            Self::Kept(key) => key.clone(),
        }
    }
}

/// The secret of a client.
pub fn secret(client: &str) -> String {
    format!("{client}-secret-of-the-lab-and-of-nothing-else")
}

impl Idp {
    /// Starts a provider in `host`, or on this machine's own loopback, and returns when it serves.
    pub fn start(host: Option<&Namespace>, options: IdpOptions) -> Result<Self> {
        let folder = folder()?;
        let tls = options.tls.as_ref().map(
            |folder| json!({ "key": folder.join("key.pem"), "cert": folder.join("cert.pem") }),
        );
        let wish = json!({
            "port": options.port,
            "ttl": options.ttl.as_secs(),
            "keys": options.keys.iter().map(IdpKey::wish).collect::<Vec<_>>(),
            "tls": tls,
        });
        // A program given in the arguments finds its packages in the folder where it starts, and a
        // command in a namespace starts in `/`.
        let mut command = command(host, "sh");
        command
            .args(["-c", r#"cd "$1" && exec node --no-warnings --input-type=module --eval "$2""#])
            .arg("sh")
            .arg(folder)
            .arg(SERVER)
            .env("ENFORCER_IDP", wish.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = process::spawn(command)?;
        let mut line = String::new();
        let output = child.stdout.take().context("the provider has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let Ok(said) = serde_json::from_str::<Value>(&line) else {
            let mut reason = String::new();
            if let Some(mut errors) = child.stderr.take() {
                errors.read_to_string(&mut reason)?;
            }
            child.wait()?;
            bail!("the identity provider ended at once: {}", reason.trim());
        };
        let issuer = said
            .get("issuer")
            .and_then(Value::as_str)
            .context("the provider names no issuer")?
            .to_owned();
        let keys = said
            .get("keys")
            .and_then(Value::as_array)
            .context("the provider names no keys")?
            .clone();
        Ok(Self { child, host: host.cloned(), options, issuer, keys })
    }

    /// Its URL: `iss` of its tokens, and where its discovery document is found.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where it listens.
    pub fn port(&self) -> Result<u16> {
        let port = self.issuer.rsplit(':').next().and_then(|port| port.parse().ok());
        port.with_context(|| format!("no port in {}", self.issuer))
    }

    /// Its keys as JWKs, with their private halves.
    pub fn keys(&self) -> &[Value] {
        &self.keys
    }

    /// Ends it and starts it again at the same address with these keys. What it issued as opaque
    /// tokens is forgotten.
    pub fn restart(self, keys: Vec<IdpKey>) -> Result<Self> {
        let options = IdpOptions { port: self.port()?, keys, ..self.options.clone() };
        let host = self.host.clone();
        drop(self);
        Self::start(host.as_ref(), options)
    }

    /// An access token of `client` for `https://api.test/RESOURCE`.
    pub fn token(&self, client: &str, resource: &str) -> Result<String> {
        self.grant(client, resource, &[])
    }

    /// An access token that is bound to the holder's key.
    pub fn dpop_token(&self, client: &str, resource: &str, holder: &Holder) -> Result<String> {
        let proof = holder.proof("POST", &format!("{}/token", self.issuer), None)?;
        self.grant(client, resource, &["-H", &format!("DPoP: {proof}")])
    }

    /// An access token that is bound to the certificate in `folder` (`cert.pem`, `key.pem`).
    pub fn mtls_token(&self, client: &str, resource: &str, folder: &Path) -> Result<String> {
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        self.grant(client, resource, &["--cert", &certificate, "--key", &key])
    }

    /// Tells the provider that one of the client's tokens is to end (RFC 7009).
    pub fn revoke(&self, client: &str, token: &str) -> Result<()> {
        let form = format!("token={token}");
        self.post("/token/revocation", client, &["-d", &form]).map(drop)
    }

    /// What the provider tells `client` about a token (RFC 7662).
    pub fn introspect(&self, client: &str, token: &str) -> Result<Value> {
        let form = format!("token={token}");
        let answer = self.post("/token/introspection", client, &["-d", &form])?;
        serde_json::from_str(&answer).with_context(|| format!("introspection said {answer}"))
    }

    fn grant(&self, client: &str, resource: &str, more: &[&str]) -> Result<String> {
        let resource = format!("resource=https://api.test/{resource}");
        let mut arguments = vec!["-d", "grant_type=client_credentials", "-d", &resource];
        arguments.extend(["--data-urlencode", "scope=api.read api.write"]);
        arguments.extend(more);
        let answer = self.post("/token", client, &arguments)?;
        let granted: Value = serde_json::from_str(&answer)?;
        let token = granted.get("access_token").and_then(Value::as_str);
        token.map(str::to_owned).with_context(|| format!("no token in {answer}"))
    }

    fn post(&self, path: &str, client: &str, arguments: &[&str]) -> Result<String> {
        let mut curl = command(self.host.as_ref(), "curl");
        curl.args(["-sS", "--fail-with-body", "--max-time", "10", "--noproxy", "*"])
            .args(["-u", &format!("{client}:{}", secret(client))]);
        if let Some(folder) = &self.options.tls {
            curl.arg("--cacert").arg(folder.join("cert.pem"));
        }
        curl.args(arguments)
            .arg(format!("{}{path}", self.issuer))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = process::spawn(curl)?.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{path}: {}{said}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(said)
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(host: Option<&Namespace>, program: &str) -> Command {
    host.map_or_else(|| process::mortal(program), |host| host.command(program))
}

/// Where `cargo xtask setup` has put the packages.
fn folder() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/idp");
    match fs::read_to_string(folder.join("installed.json")) {
        Ok(installed) if installed == include_str!("package-lock.json") => {
            Ok(folder.canonicalize()?)
        }
        Ok(_) | Err(_) => {
            bail!("the lab's identity provider is not installed\nhint: `cargo xtask setup`")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use enforcer_authn::jwt::{Algorithms, Expect, JwtError, KeySet, Kind, Parsed};
    use enforcer_authn::{Confirmation, DpopProofs, ProofTarget, TokenFacts};
    use enforcer_model::{Clock, SystemClock};

    use super::super::Certificate;
    use super::*;

    /// What our verifier says of a token, with the keys that the provider publishes.
    fn verify(idp: &Idp, token: &str, resource: &str) -> Result<TokenFacts, JwtError> {
        let keys = KeySet::parse(get(idp, "/jwks").unwrap().as_bytes()).unwrap();
        let (name, audience) = (Arc::from("corp"), [format!("https://api.test/{resource}").into()]);
        let expect = Expect {
            name: &name,
            issuer: idp.issuer(),
            audience: &audience,
            algorithms: Algorithms::ASYMMETRIC,
            kind: Kind::AccessToken,
            leeway: Duration::ZERO,
        };
        let parsed = Parsed::parse(token.as_bytes())?;
        let key = keys.find(parsed.header())?;
        parsed.check(&expect, SystemClock.now().wall)?.verify(key)
    }

    fn get(idp: &Idp, path: &str) -> Result<String> {
        idp.post(path, ORDERS, &["-X", "GET"])
    }

    #[test]
    fn tokens_in_every_algorithm_of_the_provider_are_verified() {
        let idp = Idp::start(None, IdpOptions::default()).unwrap();

        for resource in ["es256", "rs256", "ps256", "eddsa"] {
            let token = idp.token(ORDERS, resource).unwrap();
            let facts = verify(&idp, &token, resource).unwrap();

            assert_eq!(&*facts.subject, ORDERS, "{resource}");
            assert_eq!(facts.client.as_deref(), Some(ORDERS));
            assert_eq!(facts.scopes.len(), 2);
            let roles: Vec<_> = facts.claims.get("roles").unwrap().texts().collect();
            assert_eq!(roles, ["reader", "writer"]);
            assert_eq!(verify(&idp, &token, "other").unwrap_err(), JwtError::Audience);
        }
    }

    #[test]
    fn the_provider_knows_its_opaque_tokens_until_they_are_revoked() {
        let idp = Idp::start(None, IdpOptions::default()).unwrap();
        let token = idp.token(READONLY, "opaque").unwrap();

        assert!(!token.contains('.'));
        let told = idp.introspect(GATEWAY, &token).unwrap();
        assert_eq!((&told["active"], &told["client_id"]), (&json!(true), &json!(READONLY)));
        assert_eq!(idp.introspect(ORDERS, &token).unwrap()["active"], json!(false));
        idp.revoke(READONLY, &token).unwrap();
        assert_eq!(idp.introspect(GATEWAY, &token).unwrap()["active"], json!(false));
    }

    #[test]
    fn a_token_is_bound_to_the_key_of_its_holder_who_can_prove_it() {
        let idp = Idp::start(None, IdpOptions::default()).unwrap();
        let holder = Holder::new().unwrap();

        let token = idp.dpop_token(DPOP, "es256", &holder).unwrap();

        let facts = verify(&idp, &token, "es256").unwrap();
        assert_eq!(facts.confirmation, Some(Confirmation::Key(holder.thumbprint())));
        let url = "https://api.example.com/v1/orders";
        let proof = holder.proof("GET", url, Some(&token)).unwrap();
        let target = ProofTarget {
            method: "GET",
            scheme: "https",
            authority: "api.example.com",
            path: "/v1/orders",
        };
        let (proofs, now) = (DpopProofs::new(), SystemClock.now().wall);
        let jkt = holder.thumbprint();
        proofs.prove(proof.as_bytes(), token.as_bytes(), &target, &jkt, now).unwrap();
        assert!(idp.token(DPOP, "es256").is_err(), "without a proof there is no token");
    }

    #[test]
    fn a_token_is_bound_to_the_certificate_that_its_client_showed() {
        let folder = tempfile::tempdir().unwrap();
        let (server, client) = (folder.path().join("server"), folder.path().join("client"));
        Certificate::for_names(&["127.0.0.1"]).unwrap().write(&server).unwrap();
        Certificate::for_names(&["svc"]).unwrap().write(&client).unwrap();
        let options = IdpOptions { tls: Some(server), ..IdpOptions::default() };
        let idp = Idp::start(None, options).unwrap();

        let token = idp.mtls_token(MTLS, "es256", &client).unwrap();

        assert!(idp.issuer().starts_with("https://127.0.0.1:"));
        let facts = verify(&idp, &token, "es256").unwrap();
        let Some(Confirmation::Certificate(thumbprint)) = facts.confirmation else {
            panic!("{facts:?}")
        };
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
        let printed = openssl.arg(client.join("cert.pem")).output().unwrap().stdout;
        let printed = String::from_utf8(printed).unwrap();
        let expected = printed.trim().split('=').nth(1).unwrap();
        assert_eq!(expected.parse(), Ok(thumbprint));
        assert!(idp.token(MTLS, "es256").is_err(), "without a certificate there is no token");
    }

    #[test]
    fn a_restart_changes_keys_under_new_names_or_old_ones() {
        let options =
            IdpOptions { keys: vec![IdpKey::fresh("ES256", "k1")], ..IdpOptions::default() };
        let idp = Idp::start(None, options).unwrap();
        let (issuer, first) = (idp.issuer().to_owned(), idp.token(ORDERS, "es256").unwrap());
        let old = IdpKey::Kept(idp.keys()[0].clone());

        let idp = idp.restart(vec![IdpKey::fresh("ES256", "k2"), old]).unwrap();
        assert_eq!(idp.issuer(), issuer);
        let second = idp.token(ORDERS, "es256").unwrap();
        assert_eq!(verify(&idp, &first, "es256").unwrap().key.as_deref(), Some("k1"));
        assert_eq!(verify(&idp, &second, "es256").unwrap().key.as_deref(), Some("k2"));

        let idp = idp.restart(vec![IdpKey::fresh("ES256", "k1")]).unwrap();
        assert_eq!(verify(&idp, &first, "es256").unwrap_err(), JwtError::Signature);
        assert_eq!(verify(&idp, &second, "es256").unwrap_err(), JwtError::KeyUnknown);
    }

    #[test]
    #[ignore = "needs root; run by `cargo xtask test`"]
    fn a_provider_in_a_host_of_the_lab_is_seen_there_and_nowhere_else() {
        let host = Namespace::new("host").unwrap();
        let idp = Idp::start(Some(&host), IdpOptions::default()).unwrap();
        let port = idp.port().unwrap();
        let connect = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();

        assert!(verify(&idp, &idp.token(ORDERS, "es256").unwrap(), "es256").is_ok());
        assert!(host.run(connect).unwrap());
        assert!(!connect());
        let broken = BrokenIssuer::start(Some(&host)).unwrap();
        assert!(broken.issuer().starts_with("http://127.0.0.1:"));
        let pid = idp.child.id();
        drop(idp);
        assert!(!Path::new("/proc").join(pid.to_string()).exists());
    }

    #[test]
    fn a_short_life_ends() {
        let options = IdpOptions { ttl: Duration::from_secs(4), ..IdpOptions::default() };
        let idp = Idp::start(None, options).unwrap();
        let token = idp.token(ORDERS, "eddsa").unwrap();

        assert!(verify(&idp, &token, "eddsa").is_ok());
        super::super::wait_until("the token ends", super::super::DEADLINE, || {
            matches!(verify(&idp, &token, "eddsa"), Err(JwtError::Expired(_)))
        })
        .unwrap();
    }
}
