//! Where a receiver is reached: an address that says how, checked before anything is sent.

use std::fmt;
use std::sync::Arc;

use http::Uri;

/// The URL of a receiver.
///
/// Printed without what follows the host: the path of a Slack webhook is its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    scheme: Scheme,
    host: Arc<str>,
    port: u16,
    /// Path and query, as they are sent; the path of a socket.
    rest: Arc<str>,
}

/// How a receiver is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http://`: in the clear, so only to addresses that are allowed by name.
    Http,
    /// `https://`.
    Https,
    /// `udp://`: a datagram for each syslog message.
    Udp,
    /// `tcp://`: syslog with octet counts.
    Tcp,
    /// `tls://`: the same over TLS.
    Tls,
    /// `unix:`: a socket of this host.
    Unix,
}

/// The text is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL at all, or one with parts that are not used.
    #[error(
        "not a URL that can be used: write `https://host/path`, without user, blanks and fragment"
    )]
    Malformed,
    /// Syslog over something else.
    #[error(
        "not where syslog goes: write `udp://host:514`, `tcp://host:601`, `tls://host:6514` or `unix:/dev/log`"
    )]
    NotSyslog,
    /// Something else than HTTP.
    #[error("not an `https://` URL (`http://` only to addresses in `allow_private`)")]
    NotHttp,
}

/// Bytes in a URL.
const LENGTH_MAX: usize = 2_048;

impl Target {
    /// The URL of a receiver that is posted to.
    pub fn http(text: &str) -> Result<Self, TargetError> {
        let scheme = match text.split_once("://").map(|(scheme, _)| scheme) {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            Some(_) | None => return Err(TargetError::NotHttp),
        };
        Self::parse(text, scheme)
    }

    /// The URL of a syslog server.
    pub fn syslog(text: &str) -> Result<Self, TargetError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.contains('\0') || path.len() > 100 {
                return Err(TargetError::NotSyslog);
            }
            return Ok(Self { scheme: Scheme::Unix, host: "".into(), port: 0, rest: path.into() });
        }
        let scheme = match text.split_once("://").map(|(scheme, _)| scheme) {
            Some("udp") => Scheme::Udp,
            Some("tcp") => Scheme::Tcp,
            Some("tls") => Scheme::Tls,
            Some(_) | None => return Err(TargetError::NotSyslog),
        };
        let target = Self::parse(text, scheme)?;
        if &*target.rest == "/" { Ok(target) } else { Err(TargetError::NotSyslog) }
    }

    fn parse(text: &str, scheme: Scheme) -> Result<Self, TargetError> {
        let malformed = TargetError::Malformed;
        // `http::Uri` drops a fragment without a word.
        if text.len() > LENGTH_MAX
            || text.contains('#')
            || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(malformed);
        }
        let Ok(uri) = text.parse::<Uri>() else { return Err(malformed) };
        let authority = uri.authority().ok_or(malformed)?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(malformed);
        }
        let after_host = authority.as_str().strip_prefix(host).ok_or(malformed)?;
        let port = match after_host.strip_prefix(':') {
            None if after_host.is_empty() => scheme.port(),
            None => return Err(malformed),
            Some(_) => authority.port_u16().filter(|&port| port > 0).ok_or(malformed)?,
        };
        let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
        // `https://host?query` has a query and no path.
        let slash = if rest.starts_with('/') { "" } else { "/" };
        Ok(Self { scheme, host: host.into(), port, rest: format!("{slash}{rest}").into() })
    }

    /// How it is talked to.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The name or address, an IPv6 address without its brackets; empty for a socket.
    pub fn host(&self) -> &str {
        let inner = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(&self.host)
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as they are sent; the path of a socket.
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// The same with `path` behind it.
    #[must_use]
    pub fn join(&self, path: &str) -> Self {
        let rest = format!("{}{path}", self.rest.trim_end_matches('/'));
        Self { rest: rest.into(), ..self.clone() }
    }

    /// The value of the `Host` field.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl Scheme {
    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Udp => 514,
            Self::Tcp => 601,
            Self::Tls => 6_514,
            Self::Unix => 0,
        }
    }

    /// Whether the receiver proves who it is, and nobody between can read along.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Udp => "udp",
            Scheme::Tcp => "tcp",
            Scheme::Tls => "tls",
            Scheme::Unix => return write!(f, "unix:{}", self.rest),
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_how_whom_and_what_and_is_printed_without_its_secret() {
        for (text, printed, host, port, rest) in [
            (
                "https://hooks.slack.com/services/T0/B0/x",
                "https://hooks.slack.com",
                "hooks.slack.com",
                443,
                "/services/T0/B0/x",
            ),
            ("http://127.0.0.1:9093", "http://127.0.0.1:9093", "127.0.0.1", 9093, "/"),
            (
                "https://[2001:db8::1]:8443/a?b",
                "https://[2001:db8::1]:8443",
                "2001:db8::1",
                8443,
                "/a?b",
            ),
        ] {
            let target = Target::http(text).unwrap();
            assert_eq!(target.to_string(), printed);
            assert_eq!((target.host(), target.port(), target.rest()), (host, port, rest));
        }
        let joined = Target::http("http://am:9093/prefix/").unwrap().join("/api/v2/alerts");
        assert_eq!(joined.rest(), "/prefix/api/v2/alerts");
        let syslog = Target::syslog("tls://logs.example").unwrap();
        assert_eq!((syslog.scheme(), syslog.port()), (Scheme::Tls, 6_514));
        assert_eq!(Target::syslog("unix:/dev/log").unwrap().rest(), "/dev/log");
    }

    #[test]
    fn what_is_no_plain_url_is_refused() {
        for text in [
            "",
            "hooks.example",
            "ftp://hooks.example/",
            "https://",
            "https://user@hooks.example/",
            "https://hooks.example/#part",
            "https://hooks.example/a b",
            "https://hooks.example:0/",
            "file:///etc/passwd",
            "gopher://hooks.example/",
            "udp://hooks.example",
        ] {
            assert!(Target::http(text).is_err(), "{text}");
        }
        for text in ["", "https://logs.example", "udp://logs.example/path", "unix:log", "udp://"] {
            assert!(Target::syslog(text).is_err(), "{text}");
        }
    }
}
