//! A connection to a receiver: looked up, judged, and to the very address that was judged.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::guard::Clear;
use crate::{Forbidden, Receiver, RootsError, Scheme, Target};

/// Addresses of one name that are tried, one after the other.
const ADDRESSES_MAX: usize = 4;
/// For the TCP handshake with one address, so that one that swallows packets leaves time for others.
const CONNECT: Duration = Duration::from_secs(4);

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot connect to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(
        "`{host}` leads to {address}, which is {why}; `allow_private = [\"{address}\"]` allows it"
    )]
    Forbidden { host: String, address: std::net::IpAddr, why: Forbidden },
    #[error(
        "`{host}` leads to {address}, and without TLS everybody on the way could read along; write `https://` or `tls://`"
    )]
    Public { host: String, address: std::net::IpAddr },
    #[error("`{0}` has no address")]
    NoAddress(String),
    #[error("cannot look up `{host}`")]
    Resolve {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Roots(#[from] RootsError),
}

/// What bytes go over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Addresses of the receiver that may be talked to; the refusal of the first where none may.
pub(crate) async fn addresses(
    receiver: &Receiver,
    target: &Target,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let host = target.host();
    let found = tokio::net::lookup_host((host, target.port())).await;
    let found = found.map_err(|source| ConnectError::Resolve { host: host.to_owned(), source })?;
    let mut refused = None;
    let mut allowed = Vec::new();
    for address in found {
        let ip = address.ip();
        let host = || host.to_owned();
        // A datagram has no answer that could be read, and syslog over UDP and TCP is in the clear
        // wherever it is used; over the internet it is not.
        let judged = if target.scheme().is_tls() {
            receiver.permits.judge(target.host(), ip).map_err(|why| ConnectError::Forbidden {
                host: host(),
                address: ip.to_canonical(),
                why,
            })
        } else {
            receiver.permits.judge_clear(target.host(), ip).map_err(|why| match why {
                Clear::Forbidden(why) => {
                    ConnectError::Forbidden { host: host(), address: ip.to_canonical(), why }
                }
                Clear::Public => ConnectError::Public { host: host(), address: ip },
            })
        };
        match judged {
            Ok(()) => allowed.push(address),
            Err(error) => drop(refused.get_or_insert(error)),
        }
    }
    allowed.truncate(ADDRESSES_MAX);
    match refused {
        Some(error) if allowed.is_empty() => Err(error),
        _ if allowed.is_empty() => Err(ConnectError::NoAddress(host.to_owned())),
        _ => Ok(allowed),
    }
}

/// A stream to the receiver, over TLS where its URL says so.
pub(crate) async fn stream(
    receiver: &Receiver,
    target: &Target,
) -> Result<Box<dyn Stream>, ConnectError> {
    let mut outcome = Err(ConnectError::NoAddress(target.host().to_owned()));
    for address in addresses(receiver, target).await? {
        outcome = stream_to(address, receiver, target).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

async fn stream_to(
    address: SocketAddr,
    receiver: &Receiver,
    target: &Target,
) -> Result<Box<dyn Stream>, ConnectError> {
    let failed = |source| ConnectError::Connect { address, source };
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(stream) => stream.map_err(failed)?,
        Err(_elapsed) => return Err(failed(io::ErrorKind::TimedOut.into())),
    };
    stream.set_nodelay(true).map_err(failed)?;
    if !target.scheme().is_tls() {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(target.host().to_owned());
    let name = name.map_err(|error| failed(io::Error::other(error)))?;
    let alpn: &[&[u8]] = if target.scheme() == Scheme::Https { &[b"http/1.1"] } else { &[] };
    let connector = receiver.roots.connector(alpn)?;
    Ok(Box::new(connector.connect(name, stream).await.map_err(failed)?))
}
