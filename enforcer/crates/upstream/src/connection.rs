//! One connection to one host: how it comes to be, who drives it, when it ends.
//!
//! With HTTP/1.1 a connection carries one request at a time and belongs to whoever has that; with
//! HTTP/2 it is shared by up to [`STREAMS_MAX`] of them.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};
use tracing::trace;

use crate::failure::Cause;
use crate::fleet::Member;
use crate::plan::{Plan, Protocol};
use crate::pool::{Host, Slot};
use crate::progress::Sending;
use crate::stream::{Agreed, Gauge, Stream};

/// The head of an answer, and its trailers.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Bytes of an answer that are held unread when the client is slower than the upstream.
const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// The same for one of many answers on a connection, and for all of them.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of one request that wait on their way out, with HTTP/2.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// What may be read without a head or a part of a body coming of it.
const IN_VAIN_BYTES_MAX: usize = 256 * 1024;
const IN_VAIN_HTTP2_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Requests at once on one connection of HTTP/2, if the upstream takes so many.
pub(crate) const STREAMS_MAX: usize = 100;
/// A connection of HTTP/2 with requests on it is asked for a sign of life this often, and ends when
/// there is none for as long again.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a [`Line`] speaks through.
pub(crate) enum Sender<B> {
    Http1(http1::SendRequest<Sending<B>>),
    Http2(http2::SendRequest<Sending<B>>),
}

/// An open connection. Dropping it closes the socket, whatever was under way on it.
pub(crate) struct Line<B> {
    pub(crate) sender: Sender<B>,
    pub(crate) gauge: Arc<Gauge>,
    /// When the driver closes the connection by itself; none while a request is on it.
    pub(crate) unused_until: Rc<Cell<Option<Instant>>>,
    /// Requests on it, where it is shared.
    pub(crate) streams: Cell<usize>,
    /// How many the upstream takes.
    pub(crate) streams_max: Rc<Cell<usize>>,
    /// None once somebody goes on without hyper.
    driver: Option<AbortHandle>,
    slot: Option<Slot<B>>,
}

impl<B> Drop for Line<B> {
    fn drop(&mut self) {
        if let Some(driver) = &self.driver {
            driver.abort();
            // With HTTP/2 the driver's own children hold the socket.
            self.gauge.cut();
        }
    }
}

/// Spawns on the thread of the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here;

impl<F> hyper::rt::Executor<F> for Here
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        spawn_local(async move { drop(future.await) });
    }
}

/// Connects to `member`, and says what is spoken.
pub(crate) async fn connect(
    member: &Member,
    protocol: Protocol,
    plan: &Plan,
) -> Result<(Stream, Protocol), Cause> {
    let tls = match &plan.tls {
        None => None,
        Some(tls) => {
            let name = tls.name().cloned().or_else(|| member.certified_as.clone());
            let name = name.ok_or_else(|| Cause::Connect(io::Error::other("no name to expect")))?;
            Some((tls.config(protocol), name))
        }
    };
    let most = match protocol {
        Protocol::Http1 => IN_VAIN_BYTES_MAX,
        Protocol::Http2 => IN_VAIN_HTTP2_BYTES_MAX,
    };
    let connecting = Stream::connect(&member.place, tls, most);
    let (stream, agreed) = match timeout(plan.connect_timeout, connecting).await {
        Ok(connected) => connected.map_err(Cause::Connect)?,
        Err(_elapsed) => return Err(Cause::ConnectTimeout(plan.connect_timeout)),
    };
    let spoken = match (agreed, plan.tls.is_some()) {
        (Agreed::Http2, _) => Protocol::Http2,
        (Agreed::Nothing, false) => protocol,
        (Agreed::Http1, _) | (Agreed::Nothing, true) => Protocol::Http1,
    };
    Ok((stream, spoken))
}

impl<B> Line<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Connects to `host`; `slot` is held for as long as the connection is.
    pub(crate) async fn open(
        host: &Rc<Host<B>>,
        slot: Slot<B>,
        protocol: Protocol,
        plan: &Plan,
    ) -> Result<Self, Cause> {
        let (stream, spoken) = connect(&host.member, protocol, plan).await?;
        let gauge = Arc::clone(stream.gauge());
        let unused_until = Rc::new(Cell::new(None));
        let watch =
            Watch { host: Rc::downgrade(host), until: Rc::clone(&unused_until), idle: plan.idle };
        let refused = |error| Cause::Connect(io::Error::other::<hyper::Error>(error));
        let io = TokioIo::new(stream);
        let streams_max = Rc::new(Cell::new(STREAMS_MAX));
        let (sender, driver) = match spoken {
            Protocol::Http1 => {
                let (sender, connection) = http1::Builder::new()
                    .max_buf_size(READ_BUFFER_BYTES_MAX)
                    .max_header_size(usize::try_from(HEAD_BYTES_MAX).unwrap_or(usize::MAX))
                    .handshake(io)
                    .await
                    .map_err(refused)?;
                (Sender::Http1(sender), spawn_local(watch.drive(connection.with_upgrades())))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::Builder::new(Here)
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW_BYTES)
                    .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                    .max_header_list_size(HEAD_BYTES_MAX)
                    .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
                    .keep_alive_interval(SIGN_OF_LIFE)
                    .keep_alive_timeout(SIGN_OF_LIFE)
                    .handshake(io)
                    .await
                    .map_err(refused)?;
                let most = Rc::clone(&streams_max);
                let mut connection = connection;
                let driven = poll_fn(move |cx| {
                    let polled = Pin::new(&mut connection).poll(cx);
                    most.set(connection.current_max_send_streams());
                    polled
                });
                (Sender::Http2(sender), spawn_local(watch.drive(driven)))
            }
        };
        host.remember(&gauge);
        let (streams, driver) = (Cell::new(0), Some(driver.abort_handle()));
        Ok(Self { sender, gauge, unused_until, streams, streams_max, driver, slot: Some(slot) })
    }
}

impl<B> Line<B> {
    /// The right to the connection, for whoever goes on without hyper.
    pub(crate) fn take_slot(&mut self) -> Option<Slot<B>> {
        self.driver = None;
        self.gauge.release();
        self.slot.take()
    }

    pub(crate) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

/// Who moves the bytes of a connection until it ends.
struct Watch<B> {
    host: Weak<Host<B>>,
    until: Rc<Cell<Option<Instant>>>,
    idle: Duration,
}

impl<B: 'static> Watch<B> {
    async fn drive(self, connection: impl Future<Output = hyper::Result<()>>) {
        let ended = moved(connection, &self.until, self.idle).await;
        if let Some(host) = self.host.upgrade() {
            if let Err(error) = ended {
                trace!(host = %host.member.label, %error, "upstream connection ended");
            }
            host.sweep();
        }
    }
}

/// Moves bytes until the connection ends or has been unused for too long.
async fn moved(
    connection: impl Future<Output = hyper::Result<()>>,
    unused_until: &Cell<Option<Instant>>,
    idle: Duration,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    let mut alarm = pin!(sleep(idle));
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => return ended,
            () = &mut alarm => match unused_until.get() {
                Some(end) if end <= Instant::now() => return Ok(()),
                Some(end) => alarm.as_mut().reset(end),
                None => rearm(alarm.as_mut(), idle),
            },
        }
    }
}

fn rearm(alarm: Pin<&mut tokio::time::Sleep>, after: Duration) {
    alarm.reset(Instant::now() + after);
}
