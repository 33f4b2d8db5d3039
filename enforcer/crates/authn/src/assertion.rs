//! `Enforcer-Identity`: what upstreams are told about the caller, signed.
//!
//! A JWT of its own type, signed with Ed25519, good for one upstream, method and path and for a
//! minute. The key lies in the state directory and is made once; upstreams fetch its public half as
//! a key set. Every header of that name that comes from outside is taken off before.
//!
//! | claim | it says |
//! |---|---|
//! | `iss`, `aud` | this gateway; the `[upstream.NAME]` it is for |
//! | `sub` | the principal, such as `key:k7Qx2mP9aB3c` or `token:corp/alice`; `anonymous` on public routes |
//! | `iat`, `exp`, `jti` | seconds since 1970; the request's id, as in the audit log |
//! | `htm`, `host`, `htp` | method, host and path (without query) of the request as forwarded |
//! | `kind`, `bound` | `api-key`, `certificate` or `token`; `mtls` or `dpop` for a token that its holder proved |
//! | `issuer`, `client_id`, `scope`, `roles` | who vouched, for which application, and for what |
//! | `region` | where the operator's database places the caller |

use std::fmt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use enforcer_model::{CredentialKind, RequestId, Timestamp};
use ring::digest;
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::private::{self, SecretFileError};
use crate::{Binding, Identity, Proof};

/// `typ` of these tokens: no other verifier takes them for its own.
pub const ASSERTION_TYPE: &str = "enforcer-identity+jwt";

/// Signs what upstreams are told about callers.
pub struct Assertions {
    pair: Ed25519KeyPair,
    kid: Box<str>,
    /// The header in base64url, with the dot behind it.
    header: Box<str>,
    issuer: Box<str>,
    life: Duration,
}

/// What an upstream is told about one request.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// The `[upstream.NAME]` that it is for.
    pub audience: &'a str,
    /// Who calls; nobody on a public route.
    pub caller: Option<&'a Identity>,
    /// The names of the caller's roles.
    pub roles: &'a [&'a str],
    /// The method, as forwarded.
    pub method: &'a str,
    /// The host, as forwarded.
    pub host: &'a str,
    /// The path without its query, as forwarded.
    pub path: &'a str,
    /// The id of the request in the audit log.
    pub request: RequestId,
    /// Where the operator's database places the caller.
    pub region: Option<&'a str>,
}

impl Assertions {
    /// Signs as `issuer`, for `life`, with the key in the file at `path`; a fresh one is written
    /// there first when there is none.
    pub fn load_or_create(
        path: &Path,
        issuer: &str,
        life: Duration,
    ) -> Result<Self, SecretFileError> {
        let seed = private::load_or_create(path)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed)
            .map_err(|_rejected| SecretFileError::Length { path: path.to_owned(), found: 0 })?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let print = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, print.as_bytes()));
        let header = format!(r#"{{"alg":"EdDSA","typ":"{ASSERTION_TYPE}","kid":"{kid}"}}"#);
        Ok(Self {
            pair,
            kid: kid.into(),
            header: format!("{}.", URL_SAFE_NO_PAD.encode(header)).into(),
            issuer: issuer.into(),
            life,
        })
    }

    /// The header's value for one request.
    pub fn sign(&self, statement: &Statement<'_>, now: Timestamp) -> String {
        let claims = self.claims(statement, now);
        let mut token = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 100);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// The key set (RFC 7517) that upstreams verify with.
    pub fn jwks(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}","kid":"{}","alg":"EdDSA","use":"sig"}}]}}"#,
            self.kid
        )
    }

    fn claims(&self, statement: &Statement<'_>, now: Timestamp) -> String {
        let issued = now.unix_seconds();
        let expires = now.saturating_add(self.life).unix_seconds();
        let mut claims = Object::new();
        claims.text("iss", &self.issuer);
        claims.text("aud", statement.audience);
        claims.text("sub", statement.caller.map_or("anonymous", |who| who.principal().as_str()));
        claims.raw("iat", &issued.to_string());
        claims.raw("exp", &expires.to_string());
        claims.text("jti", &statement.request.to_string());
        claims.text("htm", statement.method);
        claims.text("host", statement.host);
        claims.text("htp", statement.path);
        if let Some(caller) = statement.caller {
            claims.text("kind", kind(caller.kind()));
            if let Some(bound) = caller.bound() {
                claims.text("bound", binding(bound));
            }
            if let Proof::Token(token) = caller.proof() {
                claims.text("issuer", &token.issuer);
            }
            if let Some(application) = caller.application() {
                claims.text("client_id", application);
            }
            if !caller.scopes().is_empty() {
                claims.text("scope", &caller.scopes().join(" "));
            }
        }
        claims.texts("roles", statement.roles);
        if let Some(region) = statement.region {
            claims.text("region", region);
        }
        claims.end()
    }
}

impl fmt::Debug for Assertions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertions").field("kid", &self.kid).finish_non_exhaustive()
    }
}

const fn kind(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::ApiKey => "api-key",
        CredentialKind::Certificate => "certificate",
        CredentialKind::Token => "token",
    }
}

const fn binding(binding: Binding) -> &'static str {
    match binding {
        Binding::Certificate => "mtls",
        Binding::Dpop => "dpop",
    }
}

/// A JSON object on its way. The names are ours and need no escapes.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self(String::with_capacity(512))
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.push_str(value);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value);
    }

    fn texts(&mut self, name: &str, values: &[&str]) {
        self.name(name);
        self.0.push('[');
        for (number, value) in values.iter().enumerate() {
            if number > 0 {
                self.0.push(',');
            }
            self.quoted(value);
        }
        self.0.push(']');
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.quoted(name);
        self.0.push(':');
    }

    fn quoted(&mut self, text: &str) {
        self.0.push('"');
        for character in text.chars() {
            match character {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\0'..='\u{1f}' => {
                    self.0.push_str(&format!("\\u{:04x}", u32::from(character)));
                }
                _ => self.0.push(character),
            }
        }
        self.0.push('"');
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;
    use std::sync::Arc;

    use enforcer_model::{Claims, Principal, Value};

    use super::*;
    use crate::TokenFacts;
    use crate::jwt::{Embedded, Jws, KeySet, document};

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_000_000);

    fn caller() -> Identity {
        Identity {
            principal: Principal::from_token("corp", "alice \"quoted\""),
            proof: Proof::Token(Arc::new(TokenFacts {
                issuer: "corp".into(),
                subject: "alice".into(),
                id: None,
                key: None,
                client: Some("app\n1".into()),
                audience: Box::default(),
                scopes: Box::new(["orders:read".into(), "orders:write".into()]),
                issued: None,
                expires: NOW,
                confirmation: None,
                claims: Claims::default(),
            })),
            certificate: None,
            bound: Some(Binding::Dpop),
        }
    }

    fn statement(caller: Option<&Identity>) -> Statement<'_> {
        Statement {
            audience: "orders",
            caller,
            roles: &["reader", "writer"],
            method: "PATCH",
            host: "api.example.com",
            path: "/v1/orders/7\u{e9}\\",
            request: RequestId::from_bits(7),
            region: Some("DE"),
        }
    }

    fn assertions() -> (tempfile::TempDir, Assertions) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/identity.key");
        let life = Duration::from_secs(60);
        let assertions = Assertions::load_or_create(&path, "https://gw.example", life).unwrap();
        (folder, assertions)
    }

    #[test]
    fn an_upstream_learns_who_calls_and_for_which_request_alone() {
        let (_folder, assertions) = assertions();
        let caller = caller();

        let token = assertions.sign(&statement(Some(&caller)), NOW);

        let jws = Jws::parse(token.as_bytes(), Embedded::Never).unwrap();
        let keys = KeySet::parse(assertions.jwks().as_bytes()).unwrap();
        jws.verify(keys.find(jws.header()).unwrap()).unwrap();
        assert_eq!(jws.header().typ(), Some(ASSERTION_TYPE));
        let claims = document(jws.payload()).unwrap();
        let text = |name: &str| claims.get(name).and_then(Value::text).unwrap();
        assert_eq!(text("iss"), "https://gw.example");
        assert_eq!(text("aud"), "orders");
        assert_eq!(text("sub"), caller.principal().as_str());
        assert_eq!(text("htm"), "PATCH");
        assert_eq!(text("host"), "api.example.com");
        assert_eq!(text("htp"), "/v1/orders/7\u{e9}\\");
        assert_eq!(text("kind"), "token");
        assert_eq!(text("bound"), "dpop");
        assert_eq!(text("issuer"), "corp");
        assert_eq!(text("client_id"), "app\n1");
        assert_eq!(text("scope"), "orders:read orders:write");
        assert_eq!(text("region"), "DE");
        assert_eq!(text("jti"), RequestId::from_bits(7).to_string());
        assert_eq!(claims.get("iat"), Some(&Value::Number(1_795_000_000)));
        assert_eq!(claims.get("exp"), Some(&Value::Number(1_795_000_060)));
        let roles: Vec<_> = claims.get("roles").unwrap().texts().collect();
        assert_eq!(roles, ["reader", "writer"]);
    }

    #[test]
    fn a_caller_without_a_name_is_said_to_have_none() {
        let (_folder, assertions) = assertions();

        let token = assertions.sign(&statement(None), NOW);

        let jws = Jws::parse(token.as_bytes(), Embedded::Never).unwrap();
        let claims = document(jws.payload()).unwrap();
        assert_eq!(claims.get("sub").and_then(Value::text), Some("anonymous"));
        assert_eq!(claims.get("kind"), None);
    }

    #[test]
    fn the_key_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        let load = || Assertions::load_or_create(&path, "x", Duration::from_secs(1)).unwrap();

        let (first, second) = (load().jwks(), load().jwks());

        assert_eq!(first, second);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{:?}", load()).contains("pair"));
    }

    #[test]
    fn openssl_agrees_that_the_signature_is_good() {
        let (folder, assertions) = assertions();
        let token = assertions.sign(&statement(None), NOW);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        // SubjectPublicKeyInfo of RFC 8410.
        let mut spki = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
        spki.extend(assertions.pair.public_key().as_ref());
        let key = file("key", &spki);
        let signature = file("signature", &URL_SAFE_NO_PAD.decode(signature).unwrap());
        let verify = |signed: &[u8]| {
            let signed = file("signed", signed);
            let output = Command::new("openssl")
                .args(["pkeyutl", "-verify", "-pubin", "-rawin", "-keyform", "DER", "-inkey"])
                .arg(&key)
                .arg("-sigfile")
                .arg(&signature)
                .arg("-in")
                .arg(&signed)
                .output()
                .unwrap();
            output.status.success()
        };

        assert!(verify(signed.as_bytes()));
        assert!(!verify(&signed.as_bytes()[1..]));
    }
}
