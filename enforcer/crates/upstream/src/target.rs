//! Where one host of an upstream is: an address, a name that leads to addresses, or a socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// Where a host is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// An address with its port.
    Address(SocketAddr),
    /// A name that is looked up again and again, with a port.
    Name {
        /// In lower case, without a dot at the end.
        host: Arc<str>,
        /// Of every address that it leads to.
        port: u16,
    },
    /// A Unix socket.
    Unix(Arc<Path>),
}

/// The text names no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Neither an address nor a name.
    #[error("it is neither an address nor a name with a port")]
    Malformed,
    /// Nothing listens on port 0.
    #[error("it has port 0; write the port that the host listens on")]
    NoPort,
    /// Longer than the system takes (`sun_path`), or not absolute.
    #[error("the path of a socket is absolute and at most {} bytes long", Target::SOCKET_PATH_MAX)]
    SocketPath,
    /// `0.0.0.0` or `[::]`.
    #[error("it is not the address of a host; for this host write `127.0.0.1` or `[::1]`")]
    Unspecified,
}

impl Target {
    /// The longest path of a socket: `sun_path` with the zero behind it.
    pub const SOCKET_PATH_MAX: usize = 107;

    /// The address, if it is known without a look-up.
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Name { .. } | Self::Unix(_) => None,
        }
    }

    /// The name or address that a certificate has to show.
    pub fn certified_as(&self) -> Option<String> {
        match self {
            Self::Address(address) => Some(address.ip().to_string()),
            Self::Name { host, .. } => Some(host.to_string()),
            Self::Unix(_) => None,
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let fits = path.len() <= Self::SOCKET_PATH_MAX && !path.contains('\0');
            let path = Path::new(path);
            return match path.is_absolute() && fits {
                true => Ok(Self::Unix(path.into())),
                false => Err(TargetError::SocketPath),
            };
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match (address.port(), address.ip().is_unspecified()) {
                (0, _) => Err(TargetError::NoPort),
                (_, true) => Err(TargetError::Unspecified),
                (_, false) => Ok(Self::Address(address)),
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(TargetError::Malformed)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or(TargetError::Malformed)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        if !is_name(host) {
            return Err(TargetError::Malformed);
        }
        if port == 0 {
            return Err(TargetError::NoPort);
        }
        Ok(Self::Name { host: host.to_ascii_lowercase().into(), port })
    }
}

/// RFC 1123 with the underscores that service names have; nothing that is nearly an address.
fn is_name(host: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let top = host.rsplit('.').next().unwrap_or_default();
    (1..=253).contains(&host.len())
        && host.split('.').all(label)
        && !top.bytes().all(|byte| byte.is_ascii_digit())
        && host.parse::<IpAddr>().is_err()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_a_name_or_a_socket_and_nothing_else() {
        for text in [
            "10.0.4.2:8443",
            "[::1]:80",
            "orders.internal:8443",
            "localhost:1",
            "_http._tcp.orders:80",
            "unix:/run/orders.sock",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for (text, error) in [
            ("10.0.4.2", TargetError::Malformed),
            ("10.0.4.256:80", TargetError::Malformed),
            ("1.2.3:80", TargetError::Malformed),
            ("0x7f.1:80", TargetError::Malformed),
            ("10.0.4.2:0", TargetError::NoPort),
            ("orders:0", TargetError::NoPort),
            ("orders:+1", TargetError::Malformed),
            ("orders:70000", TargetError::Malformed),
            ("or ders:80", TargetError::Malformed),
            ("-orders:80", TargetError::Malformed),
            ("orders..internal:80", TargetError::Malformed),
            (":80", TargetError::Malformed),
            ("0.0.0.0:80", TargetError::Unspecified),
            ("[::]:80", TargetError::Unspecified),
            ("unix:run/orders.sock", TargetError::SocketPath),
            ("unix:", TargetError::SocketPath),
        ] {
            assert_eq!(text.parse::<Target>(), Err(error), "{text}");
        }
        let long = format!("unix:/{}", "x".repeat(Target::SOCKET_PATH_MAX));
        assert_eq!(long.parse::<Target>(), Err(TargetError::SocketPath));
    }

    #[test]
    fn two_spellings_of_a_name_are_one_host() {
        assert_eq!("Orders.Internal.:80".parse::<Target>(), "orders.internal:80".parse());
    }
}
