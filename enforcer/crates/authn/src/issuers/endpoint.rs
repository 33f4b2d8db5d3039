//! Where an issuer is reached: an address that says how, checked before anything is sent.
//!
//! `https` to anybody, `http` to this very machine only: whoever can read or change what an issuer
//! answers decides who may come in. What is not needed is not accepted: no user, no fragment.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use http::Uri;

/// The URL of something that is asked over HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    text: Arc<str>,
    host: Arc<str>,
    port: u16,
    /// Path and query, as they are sent.
    target: Arc<str>,
    tls: Tls,
}

/// What a connection is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// `https`.
    Required,
    /// `http`, and only to an address of this machine.
    Loopback,
    /// `http` to anybody: what is answered there proves itself.
    Unneeded,
}

/// The text is no such URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL at all, or one with parts that are not used.
    #[error(
        "`{0}` is not a URL that can be asked; write it as `https://idp.example.com/path`, \
         without user, blanks and fragment"
    )]
    Malformed(String),
    /// `http` to another machine.
    #[error(
        "`{0}` would be asked without TLS; write `https://…` (`http://` is for `127.0.0.1`, `[::1]` \
         and `localhost` only)"
    )]
    Plain(String),
    /// Longer than any that is used.
    #[error("a URL of {0} bytes; at most {max} are used", max = Endpoint::LENGTH_MAX)]
    TooLong(usize),
}

impl Endpoint {
    /// Bytes in a URL.
    pub const LENGTH_MAX: usize = 2_048;

    /// The URL that `text` is.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let endpoint = Self::parse_self_proving(text)?;
        match endpoint.tls {
            Tls::Unneeded if names_loopback(&endpoint.host) => {
                Ok(Self { tls: Tls::Loopback, ..endpoint })
            }
            Tls::Unneeded => Err(EndpointError::Plain(text.to_owned())),
            Tls::Required | Tls::Loopback => Ok(endpoint),
        }
    }

    /// The URL of somebody whose answers are signed, and who is asked no secrets: a witness, a
    /// timestamping authority. `http` leads to any machine then.
    pub fn parse_self_proving(text: &str) -> Result<Self, EndpointError> {
        if text.len() > Self::LENGTH_MAX {
            return Err(EndpointError::TooLong(text.len()));
        }
        let malformed = || EndpointError::Malformed(text.to_owned());
        let tls = match text.split_once("://").ok_or_else(malformed)?.0 {
            "https" => Tls::Required,
            "http" => Tls::Unneeded,
            _ => return Err(malformed()),
        };
        // `http::Uri` drops a fragment without a word.
        if text.contains('#') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed());
        }
        let Ok(uri) = text.parse::<Uri>() else { return Err(malformed()) };
        let authority = uri.authority().ok_or_else(malformed)?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(malformed());
        }
        let after_host = authority.as_str().strip_prefix(host).ok_or_else(malformed)?;
        let port = match (after_host.strip_prefix(':'), tls) {
            (None, _) if !after_host.is_empty() => return Err(malformed()),
            (None, Tls::Required) => 443,
            (None, Tls::Loopback | Tls::Unneeded) => 80,
            (Some(_), _) => authority.port_u16().filter(|&port| port > 0).ok_or_else(malformed)?,
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        // `https://host?query` has a query and no path.
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            text: text.into(),
            host: host.into(),
            port,
            target: format!("{slash}{target}").into(),
            tls,
        })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name or address, an IPv6 address without its brackets.
    pub(crate) fn host(&self) -> &str {
        let inner = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(&self.host)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    pub(crate) const fn tls(&self) -> Tls {
        self.tls
    }

    /// The value of the `Host` field.
    pub(crate) fn authority(&self) -> String {
        match (self.tls, self.port) {
            (Tls::Required, 443) | (Tls::Loopback | Tls::Unneeded, 80) => self.host.to_string(),
            (Tls::Required | Tls::Loopback | Tls::Unneeded, port) => {
                format!("{}:{port}", self.host)
            }
        }
    }
}

impl Tls {
    /// Whether `address` may be talked to in this way.
    pub(crate) const fn admits(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Required | Self::Unneeded, _) => true,
            (Self::Loopback, IpAddr::V4(v4)) => v4.is_loopback(),
            (Self::Loopback, IpAddr::V6(v6)) => v6.is_loopback(),
        }
    }
}

/// Whether `host` cannot be another machine; `localhost` is looked up and its addresses are checked
/// again.
fn names_loopback(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match inner {
        Some(v6) => v6.parse() == Ok(Ipv6Addr::LOCALHOST),
        None => {
            host.eq_ignore_ascii_case("localhost")
                || host.parse::<Ipv4Addr>().is_ok_and(|v4| v4.is_loopback())
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_says_whom_to_ask_for_what() {
        for (text, authority, port, target) in [
            ("https://idp.example.com", "idp.example.com", 443, "/"),
            ("https://idp.example.com:8443/a/b?c=d", "idp.example.com:8443", 8443, "/a/b?c=d"),
            ("http://127.0.0.1:3000/jwks", "127.0.0.1:3000", 3000, "/jwks"),
            ("http://[::1]:3000/", "[::1]:3000", 3000, "/"),
            ("http://localhost/", "localhost", 80, "/"),
            ("https://idp.example.com?a=b", "idp.example.com", 443, "/?a=b"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();

            assert_eq!(endpoint.authority(), authority);
            assert_eq!(endpoint.port(), port);
            assert_eq!(endpoint.target(), target);
            assert_eq!(endpoint.as_str(), text);
        }
        assert_eq!(Endpoint::parse("http://[::1]:3000/").unwrap().host(), "::1");
    }

    #[test]
    fn only_this_machine_is_asked_without_tls() {
        for text in [
            "http://idp.example.com",
            "http://10.0.0.1/",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
            "http://[2001:db8::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://0.0.0.0/",
        ] {
            let refused = Endpoint::parse(text).unwrap_err();

            assert!(matches!(refused, EndpointError::Plain(_)), "{text}: {refused}");
        }
        assert!(Tls::Required.admits("10.0.0.1".parse().unwrap()));
        assert!(Tls::Loopback.admits("127.8.8.8".parse().unwrap()));
        assert!(Tls::Loopback.admits("::1".parse().unwrap()));
        assert!(!Tls::Loopback.admits("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn whose_answers_prove_themselves_may_be_asked_without_tls() {
        let endpoint = Endpoint::parse_self_proving("http://witness.example/w1").unwrap();
        assert!(endpoint.tls().admits("10.0.0.1".parse().unwrap()));
        assert_eq!((endpoint.port(), endpoint.authority().as_str()), (80, "witness.example"));
        let tls = Endpoint::parse_self_proving("https://witness.example").unwrap();
        assert_eq!(tls.tls(), Tls::Required);
        assert!(Endpoint::parse_self_proving("ftp://witness.example").is_err());
    }

    #[test]
    fn what_is_no_plain_url_is_refused() {
        for text in [
            "",
            "idp.example.com",
            "HTTPS://idp.example.com",
            "ftp://idp.example.com",
            "https://",
            "https:///path",
            "https://user@idp.example.com",
            "https://user:word@idp.example.com",
            "https://idp.example.com/#part",
            "https://idp.example.com/a b",
            "https://idp.example.com:0/",
            "https://idp.example.com:99999/",
            "https://idp.example.com:x/",
            "https://idp.example.com/\u{e9}",
            "file:///etc/passwd",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
        let long = format!("https://idp.example.com/{}", "a".repeat(Endpoint::LENGTH_MAX));
        assert!(matches!(Endpoint::parse(&long), Err(EndpointError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_tls_or_this_machine(text in "https?://[a-z0-9.:@\\[\\]/#?-]{0,40}") {
            if let Ok(endpoint) = Endpoint::parse(&text) {
                prop_assert!(text.starts_with("https://") || names_loopback(&endpoint.host));
                prop_assert!(endpoint.port() > 0 && endpoint.target().starts_with('/'));
            }
        }
    }
}
