//! One connection to one host: what is spoken on it, who drives it, when it ends.
//!
//! An HTTP/1 connection carries one request at a time and is handed around whole. An HTTP/2
//! connection carries many: each has a share of the line, and the socket is closed when the last
//! share is dropped.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Parts, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, Sleep, sleep};
use tracing::trace;

use crate::dial::{Place, Stream, dial};
use crate::failure::Cause;
use crate::plan::{Plan, Protocol};
use crate::progress::Sending;

/// The head of an answer, and its trailers.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The same on HTTP/2, where names and values are counted with 32 bytes for each field.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;
/// Bytes of an answer that are held unread when the client is slower than the upstream.
const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// The same on HTTP/2, for one answer and for all of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes of one request that may wait on their way out.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// An HTTP/2 connection that carries something and says nothing is asked whether it is alive.
const PING_EVERY: Duration = Duration::from_secs(15);
const PING_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An open connection, or a share of one. With the last share the socket is closed, whatever was
/// under way on it.
pub(crate) struct Line<B> {
    sender: Sender<B>,
    common: Rc<Common>,
}

/// What a request goes through.
enum Sender<B> {
    Http1(http1::SendRequest<Sending<B>>),
    Http2(http2::SendRequest<Sending<B>>, Scheme),
}

/// What the shares of a line have in common.
struct Common {
    shares: Cell<usize>,
    /// When the driver closes the connection by itself; none while a request is on it.
    unused_until: Rc<Cell<Option<Instant>>>,
    driver: AbortHandle,
}

impl Drop for Common {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request that got no answer.
pub(crate) struct Unsent<B> {
    pub(crate) cause: Cause,
    /// The request itself, when no byte of it was sent.
    pub(crate) request: Option<Box<Request<Sending<B>>>>,
    /// The upstream has said that it did not look at it (RFC 9113, 8.7).
    pub(crate) unprocessed: bool,
}

/// Runs what hyper needs beside a connection, on the thread of the connection.
#[derive(Clone, Copy)]
struct Here;

impl<F: Future + 'static> Executor<F> for Here {
    fn execute(&self, work: F) {
        let work = Box::pin(work);
        spawn_local(async move {
            work.await;
        });
    }
}

impl<B> Line<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Connects; `held` is dropped when the connection has ended. Whoever has it in mind to speak
    /// another protocol on it keeps what counts the connection, for hyper's part ends there.
    pub(crate) async fn open(
        place: &Place,
        certified_as: Option<&ServerName<'static>>,
        held: impl Sized + 'static,
        plan: &Plan,
    ) -> Result<Self, Cause> {
        let (stream, protocol) = dial(place, certified_as, plan).await?;
        let scheme = match &stream {
            Stream::Clear(_) => Scheme::HTTP,
            Stream::Tls(_) => Scheme::HTTPS,
        };
        let unused_until = Rc::new(Cell::new(None));
        let refused = |error| Cause::Connect(io::Error::other(error));
        let io = TokioIo::new(stream);
        let (sender, driver) = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::Builder::new()
                    .max_buf_size(READ_BUFFER_BYTES_MAX)
                    .max_header_size(HEAD_BYTES_MAX)
                    .handshake(io)
                    .await
                    .map_err(refused)?;
                let driver =
                    drive(connection.with_upgrades(), held, Rc::clone(&unused_until), plan.idle);
                (Sender::Http1(sender), driver)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::Builder::new(Here)
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                    .max_header_list_size(HEADER_LIST_BYTES_MAX)
                    .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
                    .keep_alive_interval(PING_EVERY)
                    .keep_alive_timeout(PING_PATIENCE)
                    .handshake(io)
                    .await
                    .map_err(refused)?;
                let driver = drive(connection, held, Rc::clone(&unused_until), plan.idle);
                (Sender::Http2(sender, scheme), driver)
            }
        };
        let common = Common { shares: Cell::new(1), unused_until, driver };
        Ok(Self { sender, common: Rc::new(common) })
    }

    /// Sends `request`, whose target is in origin form and whose `Host` is set; the answer once its
    /// head is there.
    pub(crate) async fn send(
        &mut self,
        request: Request<Sending<B>>,
    ) -> Result<Response<Incoming>, Unsent<B>> {
        self.common.unused_until.set(None);
        let error = match &mut self.sender {
            Sender::Http1(sender) => match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            },
            Sender::Http2(sender, scheme) => {
                let request = for_http2(request, scheme);
                match sender.try_send_request(request).await {
                    Ok(response) => return Ok(response),
                    Err(error) => error,
                }
            }
        };
        let mut error = error;
        let request = error.take_message().map(|request| Box::new(for_http1(request)));
        let error = error.into_error();
        let unprocessed = request.is_some() || was_not_looked_at(&error);
        Err(Unsent { cause: Cause::from(error), request, unprocessed })
    }

    /// Waits until the next request may be sent.
    pub(crate) async fn ready(&mut self) -> hyper::Result<()> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await,
            Sender::Http2(sender, _) => sender.ready().await,
        }
    }
}

impl<B> Line<B> {
    /// Whether a request may be sent at once.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender, _) => sender.is_ready(),
        }
    }

    /// Whether there is nobody any more who would take a request.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender, _) => sender.is_closed(),
        }
    }

    /// Another share of a line that carries many requests.
    pub(crate) fn share(&self) -> Option<Self> {
        let Sender::Http2(sender, scheme) = &self.sender else { return None };
        self.common.shares.set(self.common.shares.get() + 1);
        let sender = Sender::Http2(sender.clone(), scheme.clone());
        Some(Self { sender, common: Rc::clone(&self.common) })
    }

    /// How many shares there are; one for a line that carries one request at a time.
    pub(crate) fn shares(&self) -> usize {
        self.common.shares.get()
    }

    /// Whether `other` is a share of the same connection.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.common, &other.common)
    }

    /// Nothing is on it from here on: it is closed at `end` unless it is used before.
    pub(crate) fn unused_until(&self, end: Instant) {
        self.common.unused_until.set(Some(end));
    }
}

impl<B> Drop for Line<B> {
    fn drop(&mut self) {
        self.common.shares.set(self.common.shares.get().saturating_sub(1));
    }
}

/// Moves bytes on this thread until the connection ends, or has been unused for too long.
fn drive(
    connection: impl Future<Output = hyper::Result<()>> + 'static,
    held: impl Sized + 'static,
    unused_until: Rc<Cell<Option<Instant>>>,
    idle: Duration,
) -> AbortHandle {
    let task = spawn_local(async move {
        let _held = held;
        let mut connection = pin!(connection);
        let mut alarm = pin!(sleep(idle));
        let ended = std::future::poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            poll_unused(alarm.as_mut(), &unused_until, idle, cx).map(Ok)
        });
        if let Err(error) = ended.await {
            trace!(%error, "upstream connection ended");
        }
    });
    task.abort_handle()
}

/// Ready when nothing was on the connection for too long.
///
/// The alarm is set again only when it rings, not with every request.
fn poll_unused(
    mut alarm: Pin<&mut Sleep>,
    unused_until: &Cell<Option<Instant>>,
    idle: Duration,
    cx: &mut Context<'_>,
) -> Poll<()> {
    while alarm.as_mut().poll(cx).is_ready() {
        let now = Instant::now();
        match unused_until.get() {
            Some(end) if end <= now => return Poll::Ready(()),
            Some(end) => alarm.as_mut().reset(end),
            None => alarm.as_mut().reset(now + idle),
        }
    }
    Poll::Pending
}

/// The same request with its host where HTTP/2 has it (RFC 9113, 8.3.1).
fn for_http2<B>(mut request: Request<B>, scheme: &Scheme) -> Request<B> {
    let host = request.headers_mut().remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = Parts::default();
    parts.path_and_query = request.uri().path_and_query().cloned();
    parts.scheme = authority.is_some().then(|| scheme.clone());
    parts.authority = authority;
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
    request
}

/// The same request with its host where HTTP/1 has it, to be sent again.
fn for_http1<B>(mut request: Request<B>) -> Request<B> {
    let uri = request.uri();
    let Some(authority) = uri.authority() else { return request };
    let host = HeaderValue::try_from(authority.as_str());
    let target = uri.path_and_query().cloned().map(Uri::from);
    if let (Ok(host), Some(target)) = (host, target) {
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = target;
    }
    *request.version_mut() = Version::HTTP_11;
    request
}

/// Whether the upstream said that it did nothing about the request: it refused the stream, or went
/// away without an error before it came to it (RFC 9113, 6.8 and 8.7).
fn was_not_looked_at(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let left = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (refused || left);
        }
        source = cause.source();
    }
    false
}
