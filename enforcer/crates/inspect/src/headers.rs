//! Fields that decide who somebody is, where they come from or what they ask for: told once, in
//! their own name, and never removed by `Connection`.
//!
//! CGI and its heirs (WSGI, Rack, PHP) turn every character of a name that is not a letter or digit
//! into `_`, so `X_Forwarded_For` reaches an application as `X-Forwarded-For`. A name that becomes
//! a protected one in this way, without being it, is refused (oauth2-proxy CVE-2025-64484).

use std::borrow::Cow;

use enforcer_model::{Reason, Rejection};
use http::header::{CONNECTION, HeaderName};
use http::{HeaderMap, Version};

/// Why the fields of a head are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// `Connection` holds something that is not a field name.
    #[error("Connection holds something that is not a field name")]
    ConnectionMalformed,
    /// `Connection` would remove a field that means something.
    #[error("Connection names the protected field `{0}`")]
    ConnectionProtected(String),
    /// A control byte in a value.
    #[error("control byte in the value of `{0}`")]
    ControlByte(HeaderName),
    /// A field that asks for another method.
    #[error("`{0}` asks for another method")]
    MethodOverride(HeaderName),
    /// Over [`BLOCK_MAX`].
    #[error("the fields have more than {BLOCK_MAX} bytes")]
    TooLarge,
    /// Over [`FIELDS_MAX`].
    #[error("{0} fields are more than {FIELDS_MAX}")]
    TooMany(usize),
    /// Reads as a protected field in some applications.
    #[error("`{0}` reads as a protected field in some applications")]
    Twin(HeaderName),
}

/// The most fields that a request may have.
pub const FIELDS_MAX: usize = 100;
/// The most bytes that names and values may have together, with four per field for the line.
pub const BLOCK_MAX: usize = 32 * 1024;

/// Fields by which frameworks change the method.
const OVERRIDES: &[&str] = &["x-http-method", "x-http-method-override", "x-method-override"];

/// Names with a meaning that another part of the way relies on; those of [`is_identity`] come on
/// top.
const PROTECTED: &[&str] = &[
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "dpop",
    "expect",
    "host",
    "origin",
    "proxy-authorization",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "transfer-encoding",
    "x-api-key",
];

/// What has no meaning behind a body, or another one than in front of it.
const NOT_BEHIND: &[&str] = &[
    "cache-control",
    "connection",
    "content-range",
    "keep-alive",
    "max-forwards",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "upgrade",
];

/// Beginnings of names by which proxies and identity services tell an application who a client is.
const IDENTITY_PREFIXES: &[&str] = &[
    "cf-access-",
    "enforcer-",
    "oidc-",
    "remote-",
    "ssl-client-",
    "tailscale-user-",
    "x-amzn-mtls-",
    "x-amzn-oidc-",
    "x-auth-request-",
    "x-authenticated-",
    "x-authentik-",
    "x-client-cert",
    "x-client-verify",
    "x-consumer-",
    "x-envoy-",
    "x-forwarded",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-ms-client-principal",
    "x-original-",
    "x-pomerium-",
    "x-remote-",
    "x-spiffe",
    "x-ssl-",
    "x-vouch-",
    "x-webauth-",
];

/// Names other than those that tell an application who a client is, where it comes from or which
/// target it "really" asked for; sorted. `proxy` becomes `HTTP_PROXY` behind a gateway interface,
/// and with it the proxy of the application's own requests (CVE-2016-5385).
const IDENTITY: &[&str] = &[
    "cf-connecting-ip",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "forwarded-for",
    "proxy",
    "true-client-ip",
    "x-anonymous-consumer",
    "x-apigateway-api-userinfo",
    "x-arr-clientcert",
    "x-client-dn",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-credential-identifier",
    "x-email",
    "x-endpoint-api-userinfo",
    "x-groups",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
    "x-roles",
    "x-user",
    "x-user-email",
    "x-user-groups",
    "x-user-id",
    "x-user-name",
    "x-user-roles",
    "x-userinfo",
    "x-username",
];

/// Refuses a block that is too large, in fields or in bytes.
pub(crate) fn bounded(headers: &HeaderMap) -> Result<(), HeaderError> {
    if headers.len() > FIELDS_MAX {
        return Err(HeaderError::TooMany(headers.len()));
    }
    let size: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > BLOCK_MAX { Err(HeaderError::TooLarge) } else { Ok(()) }
}

/// Refuses fields with a second reading.
pub(crate) fn unambiguous(version: Version, headers: &HeaderMap) -> Result<(), HeaderError> {
    for (name, value) in headers {
        if value.as_bytes().iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(HeaderError::ControlByte(name.clone()));
        }
        let reading = reading(name);
        if OVERRIDES.contains(&reading.as_ref()) {
            return Err(HeaderError::MethodOverride(name.clone()));
        }
        if reading != name.as_str() && is_protected(&reading) {
            return Err(HeaderError::Twin(name.clone()));
        }
    }
    if version < Version::HTTP_2 {
        for token in tokens(headers, &CONNECTION) {
            let name =
                HeaderName::from_bytes(token).ok().ok_or(HeaderError::ConnectionMalformed)?;
            let reading = reading(&name);
            if is_protected(&reading) {
                return Err(HeaderError::ConnectionProtected(reading.into_owned()));
            }
        }
    }
    Ok(())
}

/// Whether fields may stand behind a body: none that says where it ends, where it goes or who sends it
/// (RFC 9110 section 6.5.1). Claims about the client are for [`crate::strip`] to remove.
pub fn may_trail(fields: &HeaderMap) -> bool {
    fields.keys().all(|name| {
        let reading = reading(name);
        is_identity(&reading) || !(is_protected(&reading) || NOT_BEHIND.contains(&reading.as_ref()))
    })
}

/// Whether a client must not be believed in this field: it is removed on the way to the upstream.
pub(crate) fn is_identity(name: &str) -> bool {
    // Of sorted beginnings none of which begins another, only the last one before it can be its own.
    let before = IDENTITY_PREFIXES.partition_point(|prefix| *prefix <= name);
    let nearest = before.checked_sub(1).and_then(|at| IDENTITY_PREFIXES.get(at));
    nearest.is_some_and(|prefix| name.starts_with(prefix)) || IDENTITY.binary_search(&name).is_ok()
}

/// The text of the one field called `name`; none when it is absent, repeated or not text, for then
/// nobody can say which value another reader takes.
pub fn one_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { std::str::from_utf8(first.as_bytes()).ok() }
}

/// The elements of every field called `name`, without the space around them; empty ones left out.
pub(crate) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

fn is_protected(name: &str) -> bool {
    is_identity(name) || PROTECTED.contains(&name)
}

/// The name as an application behind a gateway interface reads it, with `-` for `_`.
fn reading(name: &HeaderName) -> Cow<'_, str> {
    let name = name.as_str();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.chars().all(is_plain) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.chars().map(|c| if is_plain(c) { c } else { '-' }).collect())
}

impl From<HeaderError> for Rejection {
    fn from(error: HeaderError) -> Self {
        let reason = match error {
            HeaderError::ConnectionMalformed
            | HeaderError::ConnectionProtected(_)
            | HeaderError::ControlByte(_)
            | HeaderError::Twin(_) => Reason::HeaderMalformed,
            HeaderError::MethodOverride(_) => Reason::MethodOverride,
            HeaderError::TooLarge | HeaderError::TooMany(_) => Reason::HeadersTooLarge,
        };
        reason.because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_so_that_they_are_found() {
        assert!(IDENTITY.is_sorted() && IDENTITY_PREFIXES.is_sorted());
        assert!(IDENTITY.iter().all(|name| is_identity(name)));
        for prefix in IDENTITY_PREFIXES {
            assert!(is_identity(prefix) && is_identity(&format!("{prefix}zz")), "{prefix}");
        }
        let begins = |pair: &[&str]| pair[1].starts_with(pair[0]);
        assert!(!IDENTITY_PREFIXES.windows(2).any(begins));
    }
}
