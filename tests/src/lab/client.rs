//! An HTTP client inside the lab: TLS or plain, HTTP/1.1 or HTTP/2, with the time of every answer.
//!
//! Calls block, so that a test reads from top to bottom. A [`Connection`] keeps its socket between
//! calls; [`Client::ask`] opens one for a single request. [`Client::steadily`] asks in the
//! background, to show that a client is served while other things happen. Every call ends within
//! [`DEADLINE`].

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;

use super::{Certificate, DEADLINE, Namespace};

/// A TLS connection to write bytes of one's own into.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Somebody who asks one server.
#[derive(Clone, Debug)]
pub struct Client {
    namespace: Namespace,
    target: SocketAddr,
    /// Which of the namespace's addresses it has; none: whichever the kernel takes.
    address: Option<IpAddr>,
    name: String,
    trust: Option<Certificate>,
    own: Option<Certificate>,
}

/// The version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1
    One,
    /// HTTP/2
    Two,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    target: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The version that the server spoke.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// From the first byte sent to the last byte received.
    pub took: Duration,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    runtime: Runtime,
    sender: Sending,
    scheme: &'static str,
    name: String,
}

#[derive(Debug)]
enum Sending {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// A client that asks again and again until [`Steady::finish`].
#[derive(Debug)]
pub struct Steady {
    stop: Sender<()>,
    tally: Arc<Mutex<Tally>>,
    thread: JoinHandle<()>,
}

/// What a steady client got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Answers of the 2xx kind.
    pub served: u64,
    /// Other answers.
    pub refused: u64,
    /// No answer at all, or not all of it.
    pub failed: u64,
    /// No connection to begin with.
    pub missed: u64,
    /// The slowest of the served.
    pub slowest: Duration,
}

impl Client {
    /// A client in `namespace` that asks `target`, which calls itself `name`. With a certificate
    /// it speaks TLS and trusts nothing else.
    pub fn new(
        namespace: &Namespace,
        target: SocketAddr,
        name: &str,
        trust: Option<&Certificate>,
    ) -> Self {
        Self {
            namespace: namespace.clone(),
            target,
            address: None,
            name: name.to_owned(),
            trust: trust.cloned(),
            own: None,
        }
    }

    /// The same client, that shows this certificate to a server that asks for one.
    #[must_use]
    pub fn showing(mut self, own: &Certificate) -> Self {
        self.own = Some(own.clone());
        self
    }

    /// The same client at this address, of a network that is its namespace's own.
    #[must_use]
    pub fn at(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Asks once, by HTTP/1.1 on a connection of its own.
    pub fn ask(&self, ask: &Ask) -> Result<Answer> {
        self.connect(Http::One)?.ask(ask)
    }

    /// Opens a connection.
    pub fn connect(&self, http: Http) -> Result<Connection> {
        let socket = self.socket()?;
        socket.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, scheme) = runtime.block_on(within(async {
            let socket = tokio::net::TcpStream::from_std(socket)?;
            let Some(trust) = &self.trust else {
                return Ok((handshake(socket, http).await?, "http"));
            };
            let protocol: &[u8] = match http {
                Http::One => b"http/1.1",
                Http::Two => b"h2",
            };
            let tls =
                tokio_rustls::TlsConnector::from(trust.trusting(&[protocol], self.own.as_ref())?);
            let socket = tls.connect(self.server_name()?, socket).await.context("TLS")?;
            let agreed = socket.get_ref().1.alpn_protocol();
            if http == Http::Two && agreed != Some(protocol) {
                bail!("the server does not offer HTTP/2");
            }
            Ok((handshake(socket, http).await?, "https"))
        }))?;
        Ok(Connection { runtime, sender, scheme, name: self.name.clone() })
    }

    /// Opens a TCP connection, to write bytes of one's own into.
    pub fn socket(&self) -> Result<TcpStream> {
        let socket = self
            .namespace
            .run(|| self.dial())?
            .with_context(|| format!("connecting to {}", self.target))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        Ok(socket)
    }

    fn dial(&self) -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.target), Type::STREAM, None)?;
        if let Some(address) = self.address {
            socket.bind(&SocketAddr::new(address, 0).into())?;
        }
        socket.connect_timeout(&self.target.into(), DEADLINE)?;
        Ok(socket.into())
    }

    /// Opens a TLS connection, to write bytes of one's own into.
    pub fn tls_socket(&self, protocols: &[&[u8]]) -> Result<TlsStream> {
        let trust = self.trust.as_ref().context("a client without trust speaks no TLS")?;
        let config = trust.trusting(protocols, self.own.as_ref())?;
        let session = ClientConnection::new(config, self.server_name()?)?;
        Ok(StreamOwned::new(session, self.socket()?))
    }

    /// Asks in the background, pausing for `every` after each answer.
    pub fn steadily(&self, ask: Ask, every: Duration) -> Steady {
        self.steadily_by(Http::One, ask, every)
    }

    /// The same by this version of HTTP.
    pub fn steadily_by(&self, http: Http, ask: Ask, every: Duration) -> Steady {
        let (stop, stopped) = channel();
        let client = self.clone();
        let tally = Arc::new(Mutex::new(Tally::default()));
        let shared = Arc::clone(&tally);
        let thread = thread::spawn(move || {
            let mut connection = None;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                // A server that has said goodbye is not asked again.
                let open = connection.take().filter(Connection::is_open);
                let Ok(open) = open.map_or_else(|| client.connect(http), Ok) else {
                    shared.lock().miss();
                    continue;
                };
                let outcome = Ok(open).and_then(|mut open: Connection| Ok((open.ask(&ask)?, open)));
                match outcome {
                    Ok((answer, open)) => {
                        shared.lock().count(&answer);
                        connection = Some(open);
                    }
                    // The server said goodbye just before: nothing was sent, and may be sent again.
                    Err(error) if is_unsent(&error) => {}
                    Err(_) => shared.lock().fail(),
                }
            }
        });
        Steady { stop, tally, thread }
    }

    fn server_name(&self) -> Result<ServerName<'static>> {
        Ok(ServerName::try_from(self.name.clone())?)
    }
}

async fn handshake<S>(socket: S, http: Http) -> Result<Sending>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let socket = TokioIo::new(socket);
    // The connections below end with an error when the server breaks off; the request that was on
    // its way reports the same.
    Ok(match http {
        Http::One => {
            let (sender, connection) = http1::handshake(socket).await?;
            tokio::spawn(async { drop(connection.await) });
            Sending::One(sender)
        }
        Http::Two => {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), socket).await?;
            tokio::spawn(async { drop(connection.await) });
            Sending::Two(sender)
        }
    })
}

fn is_unsent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
}

async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(DEADLINE, work)
        .await
        .with_context(|| format!("no answer within {DEADLINE:?}"))?
}

async fn collected(response: Response<Incoming>, begun: Instant) -> Result<Answer> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.context("reading the answer's body")?.to_bytes();
    Ok(Answer {
        status: parts.status,
        version: parts.version,
        headers: parts.headers,
        body,
        took: begun.elapsed(),
    })
}

impl Connection {
    /// Whether the server has not said goodbye yet.
    pub fn is_open(&self) -> bool {
        // What has arrived is looked at first.
        self.runtime.block_on(async {
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
        match &self.sender {
            Sending::One(sender) => !sender.is_closed(),
            Sending::Two(sender) => !sender.is_closed(),
        }
    }

    /// Asks, and reads the answer to its end.
    pub fn ask(&mut self, ask: &Ask) -> Result<Answer> {
        let request = self.request(ask)?;
        let sender = &mut self.sender;
        self.runtime.block_on(within(async {
            let begun = Instant::now();
            let response = match sender {
                Sending::One(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await?
                }
                Sending::Two(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await?
                }
            };
            collected(response, begun).await
        }))
    }

    /// Asks all of these at once, each on a stream of its own, and reads the answers to their ends.
    pub fn ask_at_once(&mut self, asks: &[Ask]) -> Result<Vec<Result<Answer>>> {
        let Sending::Two(sender) = &self.sender else {
            bail!("only HTTP/2 has streams");
        };
        let requests = asks.iter().map(|ask| self.request(ask)).collect::<Result<Vec<_>>>()?;
        let under_way: Vec<_> = requests
            .into_iter()
            .map(|request| {
                let mut sender = sender.clone();
                let exchange = async move {
                    let begun = Instant::now();
                    sender.ready().await?;
                    collected(sender.send_request(request).await?, begun).await
                };
                self.runtime.spawn(within(exchange))
            })
            .collect();
        Ok(self.runtime.block_on(async {
            let mut answers = Vec::new();
            for answer in under_way {
                answers.push(answer.await.map_err(Into::into).flatten());
            }
            answers
        }))
    }

    /// HTTP/1.1 names the host in a header, HTTP/2 in the target.
    fn request(&self, ask: &Ask) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(ask.method.clone());
        request = match &self.sender {
            Sending::One(_) => request.uri(&ask.target).header(header::HOST, &self.name),
            Sending::Two(_) => {
                request.uri(format!("{}://{}{}", self.scheme, self.name, ask.target))
            }
        };
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(ask.body.clone())).with_context(|| format!("asking {}", ask.target))
    }
}

impl Ask {
    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    /// A POST.
    pub fn post(target: &str, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, target).body(body)
    }

    /// Any method on a path with its query.
    pub fn new(method: Method, target: &str) -> Self {
        Self { method, target: target.to_owned(), headers: Vec::new(), body: Bytes::new() }
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With a key as bearer. What cannot stand in a header is left out, and so is the credential.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        match HeaderValue::try_from(format!("Bearer {key}")) {
            Ok(value) => self.header(header::AUTHORIZATION, value),
            Err(_) => self,
        }
    }
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Steady {
    /// What came of it until this moment.
    pub fn so_far(&self) -> Tally {
        *self.tally.lock()
    }

    /// Stops asking and tells what came of it.
    pub fn finish(self) -> Result<Tally> {
        drop(self.stop);
        self.thread.join().ok().context("the steady client panicked")?;
        Ok(*self.tally.lock())
    }
}

impl Tally {
    fn count(&mut self, answer: &Answer) {
        if answer.status.is_success() {
            self.served = self.served.saturating_add(1);
            self.slowest = self.slowest.max(answer.took);
        } else {
            self.refused = self.refused.saturating_add(1);
        }
    }

    const fn fail(&mut self) {
        self.failed = self.failed.saturating_add(1);
    }

    const fn miss(&mut self) {
        self.missed = self.missed.saturating_add(1);
    }

    /// Whether every single request was served, and at least one was.
    pub const fn is_spotless(&self) -> bool {
        self.is_unbroken() && self.missed == 0
    }

    /// Whether every request that reached the server was served, and at least one did.
    pub const fn is_unbroken(&self) -> bool {
        self.served > 0 && self.refused == 0 && self.failed == 0
    }
}
