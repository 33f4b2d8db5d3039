//! A set of header fields: nobody says by one of them who he is, or where he comes from.

use enforcer_inspect::{Head, normalise, strip, strip_credential};
use enforcer_model::Reason;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Request, Version};

use super::fields;

/// By which proxies, gateways and frameworks learn who somebody is or what he "really" asked for,
/// each as its documentation writes it.
const CLAIMS: &[&str] = &[
    "Cf-Access-Authenticated-User-Email",
    "Cf-Connecting-Ip",
    "Client-Cert",
    "Client-Ip",
    "Enforcer-Identity",
    "Fastly-Client-Ip",
    "Forwarded",
    "Oidc-Claim-Sub",
    "Proxy",
    "Remote-User",
    "Ssl-Client-Verify",
    "Tailscale-User-Login",
    "True-Client-Ip",
    "X-Amzn-Mtls-Clientcert-Subject",
    "X-Amzn-Oidc-Identity",
    "X-Apigateway-Api-Userinfo",
    "X-Auth-Request-Email",
    "X-Authenticated-User",
    "X-Authentik-Username",
    "X-Client-Cert",
    "X-Client-Dn",
    "X-Client-Ip",
    "X-Client-Verify",
    "X-Cluster-Client-Ip",
    "X-Consumer-Username",
    "X-Credential-Identifier",
    "X-Endpoint-Api-Userinfo",
    "X-Envoy-External-Address",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Email",
    "X-Forwarded-For",
    "X-Forwarded-Groups",
    "X-Forwarded-Host",
    "X-Forwarded-Uri",
    "X-Forwarded-User",
    "X-Goog-Authenticated-User-Email",
    "X-Goog-Iap-Jwt-Assertion",
    "X-Ms-Client-Principal",
    "X-Original-Url",
    "X-Pomerium-Jwt-Assertion",
    "X-Real-Ip",
    "X-Remote-User",
    "X-Request-Id",
    "X-Rewrite-Url",
    "X-Spiffe-Id",
    "X-Ssl-Client-Cert",
    "X-User-Email",
    "X-Vouch-User",
    "X-Webauth-User",
];

/// Beginnings of [`CLAIMS`] that others go on differently.
const CLAIMS_BEGIN: &[&str] = &["ENFORCER_", "X_FORWARDED", "X_ENVOY_", "X_SPIFFE"];

/// Characters that a name may have, and that a gateway interface turns into `_`.
const FOLDED: &[u8] = b"_.!#$%&'*+^`|~";

/// A block of fields, one `name: value` a line.
///
/// Refused, or stripped of all that tells an application who somebody is: no field is left that an
/// application could read as such, however its name is written, and what has nothing to do with
/// that stays as it was, in its order. Each known name is put among the fields, as it is and in the
/// spellings that CGI reads as it; and `Connection` never takes one away that means something.
pub fn header_set(bytes: &[u8]) {
    let block = fields(bytes);
    for version in [Version::HTTP_11, Version::HTTP_2] {
        if let Ok((parts, _)) = accepted(&block, version) {
            silenced(&parts.headers);
        }
    }
    let turn = bytes.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
    for (place, claim) in CLAIMS.iter().enumerate() {
        planted(&block, &claim.to_ascii_lowercase());
        planted(&block, &twin(claim, turn.wrapping_add(place)));
    }
    if let Some(name) = CLAIMS.get(turn % CLAIMS.len()) {
        removed_by_connection(&block, name);
    }
}

/// `name` with each of its hyphens as some character that CGI folds.
fn twin(name: &str, turn: usize) -> String {
    let other = |c: char| if c == '-' { folded(turn) } else { c };
    name.to_ascii_lowercase().chars().map(other).collect()
}

fn folded(turn: usize) -> char {
    FOLDED.get(turn % FOLDED.len()).copied().map_or('_', char::from)
}

fn accepted(block: &HeaderMap, version: Version) -> Result<(Parts, Head), Reason> {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.uri = "https://api.example.com/v1/orders".parse().expect("a target");
    parts.version = version;
    parts.headers = block.clone();
    if version == Version::HTTP_11 {
        parts.headers.entry(HOST).or_insert(HeaderValue::from_static("api.example.com"));
    }
    let head = normalise(&parts).map_err(|refused| refused.reason)?;
    Ok((parts, head))
}

fn silenced(before: &HeaderMap) {
    let mut after = before.clone();
    strip(&mut after);
    for name in after.keys() {
        let seen = as_cgi_sees(name.as_str());
        assert!(!is_claim(&seen), "{name} is the client's claim");
    }
    let mut twice = after.clone();
    strip(&mut twice);
    assert_eq!(twice, after, "stripping is not done with once");
    strip_credential(&mut twice);
    assert!(["authorization", "x-api-key", "dpop"].iter().all(|name| !twice.contains_key(*name)));
    for (name, value) in before.iter().filter(|(name, _)| name.as_str().starts_with("x-plain")) {
        let named = before.get_all(CONNECTION).iter().any(|names| {
            let names = String::from_utf8_lossy(names.as_bytes()).to_ascii_lowercase();
            names.contains(name.as_str())
        });
        let stays = after.get_all(name).iter().any(|other| other == value);
        assert!(stays || named, "{name} was nobody's claim");
    }
}

fn planted(block: &HeaderMap, name: &str) {
    let Ok(name) = HeaderName::try_from(name) else { return };
    let mut headers = block.clone();
    if headers.try_append(&name, HeaderValue::from_static("admin")).is_err() {
        return;
    }
    if let Ok((parts, _)) = accepted(&headers, Version::HTTP_11) {
        silenced(&parts.headers);
        let mut headers = parts.headers;
        strip(&mut headers);
        assert!(!headers.contains_key(&name), "{name} was put there by a client");
    }
}

fn removed_by_connection(block: &HeaderMap, name: &str) {
    let mut headers = block.clone();
    let Ok(value) = HeaderValue::from_str(&format!("keep-alive, {name}")) else { return };
    if headers.try_append(CONNECTION, value).is_ok() {
        let read = accepted(&headers, Version::HTTP_11);
        assert!(read.is_err(), "Connection takes {name} away");
    }
}

/// Whether an application learns from the field that it sees as `seen` who somebody is.
pub(super) fn is_claim(seen: &str) -> bool {
    CLAIMS.iter().any(|claim| as_cgi_sees(claim) == seen)
        || CLAIMS_BEGIN.iter().any(|begin| seen.starts_with(begin))
}

/// The name in the environment of a CGI program, without its prefix.
pub(super) fn as_cgi_sees(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(plain).collect()
}
