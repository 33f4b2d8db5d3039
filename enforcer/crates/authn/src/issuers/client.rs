//! Asks one question over HTTP, and takes no more of an answer than was agreed.
//!
//! HTTP/1.1, one connection for each question (TLS sessions are resumed). The whole exchange, from
//! the look-up of the name to the last byte, has one deadline; the body has a longest length; a
//! redirect is a failure, because it would lead past the rules for addresses; an encoded body is
//! one too. What the answer calls its content type is not looked at: the strict parser behind
//! decides what it is.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::endpoint::{Endpoint, Tls};
use super::roots::{Roots, RootsError};

/// Addresses of one name that are tried, one after the other, within the deadline.
const ADDRESSES_MAX: usize = 4;
/// The head of an answer.
const HEAD_BYTES_MAX: usize = 32 * 1024;
const AGENT: HeaderValue = HeaderValue::from_static("enforcer");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Asks endpoints whose certificates chain up to one set of roots.
pub struct Client {
    roots: Roots,
    /// Made with the first question that needs it, on the thread that asks.
    tls: OnceLock<TlsConnector>,
}

/// A question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Not a single byte of HTTP came to pass.
    #[error("cannot connect to {address}")]
    Connect {
        /// The last address that was tried.
        address: SocketAddr,
        /// The answer of the system, or of TLS.
        source: io::Error,
    },
    /// The body is compressed, which was not asked for.
    #[error("the answer is encoded, which was not asked for")]
    Encoded,
    /// It is not HTTP, or it broke off.
    #[error("the answer is not whole, readable HTTP")]
    Http(#[source] hyper::Error),
    /// The name leads to nothing that may be asked.
    #[error("`{host}` has no address that may be asked")]
    NoAddress {
        /// Of the endpoint.
        host: String,
    },
    /// 3xx.
    #[error("the answer is {0}; redirects are not followed: write the URL it leads to")]
    Redirect(StatusCode),
    /// The name could not be looked up.
    #[error("cannot look up `{host}`")]
    Resolve {
        /// Of the endpoint.
        host: String,
        /// The answer of the system.
        source: io::Error,
    },
    /// No roots, no TLS.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// Neither 2xx nor 3xx.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// Not all of it came in time.
    #[error("no whole answer within {0:?}")]
    TimedOut(Duration),
    /// More than was agreed.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl Client {
    /// One that trusts `roots`.
    pub const fn new(roots: Roots) -> Self {
        Self { roots, tls: OnceLock::new() }
    }

    /// What is at `endpoint`: at most `most` bytes, within `patience`.
    pub async fn get(
        &self,
        endpoint: &Endpoint,
        most: usize,
        patience: Duration,
    ) -> Result<Bytes, AskError> {
        let request = request(Method::GET, endpoint, Bytes::new());
        self.within(patience, self.exchange(endpoint, request, most)).await
    }

    /// What `endpoint` answers to a form: at most `most` bytes, within `patience`.
    pub async fn post_form(
        &self,
        endpoint: &Endpoint,
        form: Bytes,
        authorization: HeaderValue,
        most: usize,
        patience: Duration,
    ) -> Result<Bytes, AskError> {
        let mut request = request(Method::POST, endpoint, form);
        request.headers_mut().insert(CONTENT_TYPE, FORM);
        request.headers_mut().insert(AUTHORIZATION, authorization);
        self.within(patience, self.exchange(endpoint, request, most)).await
    }

    /// What `endpoint` answers to `body`, whatever its status: at most `most` bytes, within
    /// `patience`.
    pub async fn post(
        &self,
        endpoint: &Endpoint,
        content_type: HeaderValue,
        body: impl Into<Bytes>,
        most: usize,
        patience: Duration,
    ) -> Result<(StatusCode, Bytes), AskError> {
        let mut request = request(Method::POST, endpoint, body.into());
        request.headers_mut().insert(CONTENT_TYPE, content_type);
        request.headers_mut().remove(ACCEPT);
        let asked = async {
            let stream = self.connect(endpoint).await?;
            answered(stream, request, async |response| {
                let status = response.status();
                Ok((status, whole(response.into_body(), most).await?))
            })
            .await
        };
        self.within(patience, asked).await
    }

    /// Sends a JSON document and waits for a 2xx, whose body nobody reads.
    pub async fn post_json(
        &self,
        endpoint: &Endpoint,
        document: impl Into<Bytes>,
        headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        patience: Duration,
    ) -> Result<(), AskError> {
        let mut request = request(Method::POST, endpoint, document.into());
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        request.headers_mut().extend(headers);
        let sent = async {
            let stream = self.connect(endpoint).await?;
            answered(stream, request, async |response| accepted(&response)).await
        };
        self.within(patience, sent).await
    }

    async fn within<T>(
        &self,
        patience: Duration,
        asking: impl Future<Output = Result<T, AskError>>,
    ) -> Result<T, AskError> {
        let asked = tokio::time::timeout(patience, asking).await;
        asked.unwrap_or(Err(AskError::TimedOut(patience)))
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request<Full<Bytes>>,
        most: usize,
    ) -> Result<Bytes, AskError> {
        let stream = self.connect(endpoint).await?;
        answered(stream, request, async |response| {
            accepted(&response)?;
            if response.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
                return Err(AskError::Encoded);
            }
            whole(response.into_body(), most).await
        })
        .await
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Box<dyn Stream>, AskError> {
        let host = endpoint.host();
        let found = tokio::net::lookup_host((host, endpoint.port())).await;
        let found = found.map_err(|source| AskError::Resolve { host: host.to_owned(), source })?;
        let may = |address: &SocketAddr| endpoint.tls().admits(address.ip());
        let addresses: Vec<_> = found.filter(may).take(ADDRESSES_MAX).collect();
        let mut outcome = Err(AskError::NoAddress { host: host.to_owned() });
        for address in addresses {
            outcome = self.connect_to(address, endpoint).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    async fn connect_to(
        &self,
        address: SocketAddr,
        endpoint: &Endpoint,
    ) -> Result<Box<dyn Stream>, AskError> {
        let failed = |source| AskError::Connect { address, source };
        // An address that swallows packets must leave time for the next one.
        let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(stream) => stream.map_err(failed)?,
            Err(_elapsed) => return Err(failed(io::ErrorKind::TimedOut.into())),
        };
        stream.set_nodelay(true).map_err(failed)?;
        match endpoint.tls() {
            Tls::Loopback | Tls::Unneeded => Ok(Box::new(stream)),
            Tls::Required => {
                let name = ServerName::try_from(endpoint.host().to_owned());
                let name = name.map_err(|error| failed(io::Error::other(error)))?;
                let stream = self.connector()?.connect(name, stream).await.map_err(failed)?;
                Ok(Box::new(stream))
            }
        }
    }

    fn connector(&self) -> Result<TlsConnector, RootsError> {
        if let Some(connector) = self.tls.get() {
            return Ok(connector.clone());
        }
        let roots = self.roots.store()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(RootsError::Tls)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(self.tls.get_or_init(|| TlsConnector::from(Arc::new(config))).clone())
    }
}

/// For the TCP handshake with one address.
const CONNECT: Duration = Duration::from_secs(2);

/// What HTTP runs over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn request(method: Method, endpoint: &Endpoint, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    // Checked when the endpoint was made.
    *request.uri_mut() = endpoint.target().parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::try_from(endpoint.authority()) {
        headers.insert(HOST, host);
    }
    headers.insert(USER_AGENT, AGENT);
    headers.insert(ACCEPT, JSON);
    request
}

/// Sends `request`, moves the bytes of the connection, and lets `take` have the answer.
async fn answered<T>(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
    take: impl AsyncFnOnce(Response<Incoming>) -> Result<T, AskError>,
) -> Result<T, AskError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(AskError::Http)?;
    let mut exchange = pin!(async {
        let response = sender.send_request(request).await.map_err(AskError::Http)?;
        take(response).await
    });
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        taken = &mut exchange => return taken,
        // What was read before the end is still to be taken; a failure shows there as well.
        _ended = &mut connection => {}
    }
    exchange.await
}

fn accepted(response: &Response<Incoming>) -> Result<(), AskError> {
    let status = response.status();
    if status.is_redirection() {
        return Err(AskError::Redirect(status));
    }
    if status.is_success() { Ok(()) } else { Err(AskError::Status(status)) }
}

async fn whole(body: Incoming, most: usize) -> Result<Bytes, AskError> {
    match Limited::new(body, most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(AskError::TooLong(most)),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(AskError::Http(*error)),
            Err(_) => Err(AskError::TooLong(most)),
        },
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("roots", &self.roots).finish_non_exhaustive()
    }
}
