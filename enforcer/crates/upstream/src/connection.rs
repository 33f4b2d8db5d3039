//! One connection to one host: how it comes to be, who drives it, when it ends.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};
use tracing::trace;

use crate::failure::Cause;
use crate::plan::Plan;
use crate::pool::Slot;
use crate::progress::Sending;

/// The head of an answer, and its trailers.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an answer that are held unread when the client is slower than the upstream.
const READ_BUFFER_BYTES_MAX: usize = 64 * 1024;

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a [`Line`] speaks through.
pub(crate) type Sender<B> = SendRequest<Sending<B>>;

/// An open connection. Dropping it closes the socket, whatever was under way on it.
pub(crate) struct Line<B> {
    pub(crate) host: SocketAddr,
    pub(crate) sender: Sender<B>,
    /// When the driver closes the connection by itself; none while a request is on it.
    pub(crate) unused_until: Rc<Cell<Option<Instant>>>,
    _driver: Driver,
}

/// Ends the task that moves the bytes.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<B> Line<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Connects to `host`; `slot` is held until the connection has ended. Whoever has it in mind to
    /// speak another protocol on it keeps the slot, for hyper's part ends there.
    pub(crate) async fn open(
        host: SocketAddr,
        slot: Option<Slot<B>>,
        plan: &Plan,
    ) -> Result<Self, Cause> {
        let stream = match timeout(plan.connect_timeout, TcpStream::connect(host)).await {
            Ok(connected) => connected.map_err(Cause::Connect)?,
            Err(_elapsed) => return Err(Cause::ConnectTimeout(plan.connect_timeout)),
        };
        stream.set_nodelay(true).map_err(Cause::Connect)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_BUFFER_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Cause::Connect(io::Error::other(error)))?;
        let unused_until = Rc::new(Cell::new(None));
        let until = Rc::clone(&unused_until);
        let idle = plan.idle;
        let task = spawn_local(async move {
            let _slot = slot;
            if let Err(error) = drive(connection.with_upgrades(), &until, idle).await {
                trace!(%host, %error, "upstream connection ended");
            }
        });
        Ok(Self { host, sender, unused_until, _driver: Driver(task.abort_handle()) })
    }
}

/// Moves bytes until the connection ends or has been unused for too long.
async fn drive(
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
