//! A real HTTP server behind the agent, which remembers what reached it.
//!
//! What it answers is written in the path, after any prefix, so that a test can ask for it through
//! whatever route it has:
//!
//! | path | answer |
//! |---|---|
//! | `…/echo` | the request's body, as it arrives |
//! | `…/bytes/N` | N bytes |
//! | `…/drip/N/MS` | N bytes, one every MS milliseconds |
//! | `…/status/CODE` | that status |
//! | `…/fresh` | a line that may be kept for a minute |
//! | `…/hang` | nothing, ever |
//! | `…/socket` | a WebSocket, if one is asked for, that sends back every byte as it is |
//! | `…/break/N` | a promise of one byte more than the N that are sent, then the end |
//! | anything else | a line that repeats method and target |
//!
//! Parts of the query `say.NAME=VALUE` become fields of the answer, with `%20` for a space, `%22` for
//! a quote and `%3D` for `=`. A GET whose `If-None-Match` is the `ETag` that it asks for gets 304.
//!
//! It remembers the last [`REMEMBERED`] requests; older ones are only counted.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, ETAG, HeaderName, IF_NONE_MATCH, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use ring::digest;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::{DEADLINE, Namespace, wait_until};

/// How many requests are remembered.
pub const REMEMBERED: usize = 4096;

/// The largest body that `bytes` makes.
const BYTES_MAX: u64 = 1 << 32;

/// The largest piece of a body.
const PIECE: usize = 64 * 1024;

/// A running server. It stops when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    log: Arc<Log>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A request as it reached the server.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its target, byte for byte.
    pub target: Uri,
    /// Its version.
    pub version: Version,
    /// Its headers.
    pub headers: HeaderMap,
    /// Who sent it.
    pub peer: SocketAddr,
    /// When its head was complete.
    pub at: Instant,
}

#[derive(Debug, Default)]
struct Log {
    fails: bool,
    seen: Mutex<VecDeque<Seen>>,
    requests: AtomicU64,
    connections: AtomicU64,
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

impl Upstream {
    /// Starts a server in `host` and returns when connections are accepted.
    pub fn start(host: &Namespace, address: SocketAddr) -> Result<Self> {
        Self::serve(host.run(|| TcpListener::bind(address))??)
    }

    /// Starts a server in `host` that fails: whatever it is asked, it answers 500.
    pub fn failing(host: &Namespace, address: SocketAddr) -> Result<Self> {
        let log = Log { fails: true, ..Log::default() };
        Self::serve_with(host.run(|| TcpListener::bind(address))??, log)
    }

    /// Starts a server on a socket that listens.
    pub fn serve(listener: TcpListener) -> Result<Self> {
        Self::serve_with(listener, Log::default())
    }

    fn serve_with(listener: TcpListener, log: Log) -> Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let log = Arc::new(log);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("upstream".to_owned()).spawn({
            let log = Arc::clone(&log);
            move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, log) => {}
                        _ = stopped => {}
                    }
                });
            }
        })?;
        Ok(Self { address, log, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests reached it.
    pub fn requests(&self) -> u64 {
        self.log.requests.load(Ordering::Relaxed)
    }

    /// How many connections reached it.
    pub fn connections(&self) -> u64 {
        self.log.connections.load(Ordering::Relaxed)
    }

    /// The last requests, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().iter().cloned().collect()
    }

    /// Waits until so many requests reached it.
    pub fn wait_for_requests(&self, count: u64) -> Result<()> {
        wait_until(&format!("{count} requests reach the upstream"), DEADLINE, || {
            self.requests() >= count
        })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server has been printed by its own thread.
            drop(thread.join());
        }
    }
}

async fn accept(listener: TcpListener, log: Arc<Log>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    // Accepting fails for a moment when descriptors run out, or for a client that gave up.
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        log.connections.fetch_add(1, Ordering::Relaxed);
        // Without it a benchmark measures Nagle's algorithm; an error means the peer is gone.
        drop(stream.set_nodelay(true));
        let log = Arc::clone(&log);
        let service = service_fn(move |request| {
            log.remember(&request, peer);
            let fails = log.fails;
            async move {
                let mut response = answer(request).await?;
                if fails {
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // A client that breaks off is the test's business, and the test sees its own end.
            drop(connection.await);
        });
    }
}

impl Log {
    fn remember(&self, request: &Request<Incoming>, peer: SocketAddr) {
        let mut seen = self.seen.lock();
        if seen.len() == REMEMBERED {
            seen.pop_front();
        }
        seen.push_back(Seen {
            method: request.method().clone(),
            target: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            peer,
            at: Instant::now(),
        });
        drop(seen);
        self.requests.fetch_add(1, Ordering::Release);
    }
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Echo,
    Fresh,
    Bytes(u64),
    Drip { count: u64, pause: Duration },
    Status(StatusCode),
    Hang,
    Break(u64),
    Socket,
    Line,
}

impl Wish {
    fn read(path: &str) -> Self {
        let mut segments = path.split('/');
        while let Some(segment) = segments.next() {
            let mut rest = segments.clone();
            let mut number = || rest.next().and_then(|text| text.parse::<u64>().ok());
            let wish = match segment {
                "echo" => Some(Self::Echo),
                "fresh" => Some(Self::Fresh),
                "hang" => Some(Self::Hang),
                "socket" => Some(Self::Socket),
                "bytes" => number().map(|count| Self::Bytes(count.min(BYTES_MAX))),
                "break" => number().map(|count| Self::Break(count.min(BYTES_MAX))),
                "drip" => number().zip(number()).map(|(count, pause)| Self::Drip {
                    count: count.min(BYTES_MAX),
                    pause: Duration::from_millis(pause),
                }),
                "status" => number()
                    .and_then(|code| u16::try_from(code).ok())
                    .and_then(|code| StatusCode::from_u16(code).ok())
                    .filter(|code| !code.is_informational())
                    .map(Self::Status),
                _ => None,
            };
            if let Some(wish) = wish {
                return wish;
            }
        }
        Self::Line
    }
}

async fn answer(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let said = said(request.uri().query().unwrap_or_default());
    let known = request.headers().get(IF_NONE_MATCH).cloned();
    let mut response = wished(request).await;
    if known.is_some() && known.as_ref() == said.get(ETAG) {
        response = line(String::new());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    response.headers_mut().extend(said);
    Ok(response)
}

/// The fields that a query asks for.
fn said(query: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in
        query.split('&').filter_map(|part| part.strip_prefix("say.")?.split_once('='))
    {
        let value = value.replace("%20", " ").replace("%22", "\"").replace("%3D", "=");
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            fields.append(name, value);
        }
    }
    fields
}

async fn wished(request: Request<Incoming>) -> Answer {
    match Wish::read(request.uri().path()) {
        Wish::Echo => Response::new(request.into_body().boxed()),
        Wish::Fresh => {
            let mut response = line("fresh\n".to_owned());
            let minute = HeaderValue::from_static("max-age=60");
            response.headers_mut().insert(CACHE_CONTROL, minute);
            response
        }
        Wish::Bytes(count) => Response::new(Pieces::of(count).boxed()),
        Wish::Drip { count, pause } => Response::new(Pieces::drip(count, pause).boxed()),
        Wish::Status(status) => {
            let mut response = line(format!("{status}\n"));
            *response.status_mut() = status;
            response
        }
        Wish::Hang => std::future::pending().await,
        Wish::Break(count) => Response::new(Pieces::broken(count).boxed()),
        Wish::Socket => socket(request),
        Wish::Line => line(format!("{} {}\n", request.method(), request.uri())),
    }
}

/// Agrees to a WebSocket (RFC 6455, section 4.2.2), and echoes what comes through it.
fn socket(request: Request<Incoming>) -> Answer {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return line("this is a socket\n".to_owned());
    };
    let mut digest = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = BASE64_STANDARD.encode(digest.finish());
    tokio::spawn(async {
        // Who breaks off is the test's business, and the test sees its own end.
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        drop(tokio::io::copy(&mut from, &mut to).await);
        drop(to.shutdown().await);
    });
    let mut response = line(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    // Base64 has no byte that a header cannot have.
    headers.extend(HeaderValue::try_from(accept).map(|accept| (SEC_WEBSOCKET_ACCEPT, accept)));
    response
}

fn line(text: String) -> Answer {
    Response::new(Full::from(text).map_err(|never| match never {}).boxed())
}

/// A body made on the way.
struct Pieces {
    /// What is still to be sent.
    left: u64,
    /// What the header promises beyond that.
    promised_more: u64,
    /// The time between single bytes.
    pause: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pieces {
    const fn of(left: u64) -> Self {
        Self { left, promised_more: 0, pause: None, sleep: None }
    }

    const fn drip(left: u64, pause: Duration) -> Self {
        Self { left, promised_more: 0, pause: Some(pause), sleep: None }
    }

    const fn broken(left: u64) -> Self {
        Self { left, promised_more: 1, pause: None, sleep: None }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        static ZEROS: [u8; PIECE] = [b'0'; PIECE];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut length = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        if let Some(pause) = self.pause {
            length = 1;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        self.left = self.left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        let piece = ZEROS.get(..length).unwrap_or(&ZEROS);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.saturating_add(self.promised_more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_after_any_prefix_and_nonsense_is_a_line() {
        let pause = Duration::from_millis(7);
        for (path, wish) in [
            ("/echo", Wish::Echo),
            ("/v1/orders/bytes/10", Wish::Bytes(10)),
            ("/v1/orders/drip/3/7", Wish::Drip { count: 3, pause }),
            ("/x/status/503", Wish::Status(StatusCode::SERVICE_UNAVAILABLE)),
            ("/x/hang", Wish::Hang),
            ("/x/break/5", Wish::Break(5)),
            ("/v1/socket", Wish::Socket),
            ("/v1/orders", Wish::Line),
            ("/bytes/many", Wish::Line),
            ("/status/100", Wish::Line),
            ("/status/70000", Wish::Line),
            ("/bytes/x/echo", Wish::Echo),
        ] {
            assert_eq!(Wish::read(path), wish, "{path}");
        }
    }
}
