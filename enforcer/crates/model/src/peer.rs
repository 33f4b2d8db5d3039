//! The other end of a connection, and how somebody behind it is known.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Source;

/// The other end of a connection, as the system knows it: nothing that a client says changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A TCP peer, whose handshake shows that its address is its own.
    Tcp(SocketAddr),
    /// A process of this host, by the credentials that the kernel vouches for.
    Unix {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its id when it connected; zero when it lives where this process cannot see it.
        pid: u32,
    },
}

/// How a source is known that is not the peer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceBy {
    /// `Forwarded` (RFC 7239), from trusted proxies.
    Forwarded,
    /// The PROXY protocol.
    ProxyProtocol,
    /// `X-Forwarded-For`, from trusted proxies.
    XForwardedFor,
}

/// The text is no peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a peer; write it as `192.0.2.1:4711` or `unix:uid=0,gid=0,pid=1`")]
pub struct PeerError(String);

impl Peer {
    /// Where it counts as coming from. A process of this host counts as `127.0.0.1`.
    pub fn source(self) -> Source {
        match self {
            Self::Tcp(address) => Source::new(address.ip()),
            Self::Unix { .. } => Source::new(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { uid, gid, pid } => write!(f, "unix:uid={uid},gid={gid},pid={pid}"),
        }
    }
}

impl FromStr for Peer {
    type Err = PeerError;

    fn from_str(text: &str) -> Result<Self, PeerError> {
        let refused = || PeerError(text.to_owned());
        let Some(credentials) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).or(Err(refused()));
        };
        let mut parts = credentials.split(',');
        let mut number = |name: &str| -> Option<u32> {
            parts.next()?.strip_prefix(name)?.strip_prefix('=')?.parse().ok()
        };
        match (number("uid"), number("gid"), number("pid"), number("")) {
            (Some(uid), Some(gid), Some(pid), None) => Ok(Self::Unix { uid, gid, pid }),
            _ => Err(refused()),
        }
    }
}

impl Serialize for Peer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl SourceBy {
    /// As records and messages say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::ProxyProtocol => "proxy-protocol",
            Self::XForwardedFor => "x-forwarded-for",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_survives_printing_and_parsing() {
        for text in ["192.0.2.1:4711", "[2001:db8::1]:80", "unix:uid=1000,gid=100,pid=42"] {
            assert_eq!(text.parse::<Peer>().unwrap().to_string(), text);
        }
        for text in ["", "192.0.2.1", "unix:", "unix:uid=1,gid=2", "unix:gid=1,uid=2,pid=3"] {
            assert!(text.parse::<Peer>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_process_of_this_host_counts_as_loopback() {
        let peer = Peer::Unix { uid: 1, gid: 1, pid: 1 };

        assert!(peer.source().address().is_loopback());
    }
}
