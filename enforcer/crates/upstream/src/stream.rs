//! The bytes of one connection: how it comes to be, how it can be cut from outside, and how much an
//! upstream may send that is of no use to anybody.
//!
//! hyper skips informational answers, however many there are. So what is read is counted until
//! something of it was handed on: a head, or a part of a body. An upstream that sends more than its
//! allowance without that is cut ([`Flood`]).

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::fleet::Place;

/// A connection to a host, whatever it runs over.
pub struct Stream {
    io: Io,
    gauge: Arc<Gauge>,
}

enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
    TlsTcp(Box<TlsStream<TcpStream>>),
    TlsUnix(Box<TlsStream<UnixStream>>),
}

/// What the two ends of a connection inside this process know of it.
#[derive(Debug)]
pub(crate) struct Gauge {
    /// Bytes read since something was handed on.
    idle_bytes: AtomicUsize,
    most: AtomicUsize,
    is_cut: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

/// The upstream sent more than anybody can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flood;

/// The connection was cut from inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut;

/// What was agreed on in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agreed {
    Http1,
    Http2,
    /// There was none.
    Nothing,
}

/// How a host is to be known.
pub(crate) type TlsWith<'a> = Option<(&'a Arc<ClientConfig>, ServerName<'static>)>;

impl Stream {
    /// Connects; what is read in vain may be `most` bytes.
    pub(crate) async fn connect(
        place: &Place,
        tls: TlsWith<'_>,
        most: usize,
    ) -> io::Result<(Self, Agreed)> {
        let gauge = Arc::new(Gauge::new(most));
        let (io, agreed) = match place {
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                match tls {
                    None => (Io::Tcp(stream), Agreed::Nothing),
                    Some((config, name)) => {
                        let connector = TlsConnector::from(Arc::clone(config));
                        let stream = Box::pin(connector.connect(name, stream)).await?;
                        let agreed = agreed(stream.get_ref().1.alpn_protocol());
                        (Io::TlsTcp(Box::new(stream)), agreed)
                    }
                }
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                match tls {
                    None => (Io::Unix(stream), Agreed::Nothing),
                    Some((config, name)) => {
                        let connector = TlsConnector::from(Arc::clone(config));
                        let stream = Box::pin(connector.connect(name, stream)).await?;
                        let agreed = agreed(stream.get_ref().1.alpn_protocol());
                        (Io::TlsUnix(Box::new(stream)), agreed)
                    }
                }
            }
        };
        Ok((Self { io, gauge }, agreed))
    }

    pub(crate) const fn gauge(&self) -> &Arc<Gauge> {
        &self.gauge
    }
}

const fn agreed(protocol: Option<&[u8]>) -> Agreed {
    match protocol {
        Some(b"h2") => Agreed::Http2,
        Some(b"http/1.1") => Agreed::Http1,
        Some(_) | None => Agreed::Nothing,
    }
}

impl Gauge {
    fn new(most: usize) -> Self {
        Self {
            idle_bytes: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            is_cut: AtomicBool::new(false),
            reader: Mutex::new(None),
        }
    }

    /// Something that was read was handed on.
    pub(crate) fn progress(&self) {
        self.idle_bytes.store(0, Relaxed);
    }

    /// From here on what is read is looked at by somebody else.
    pub(crate) fn release(&self) {
        self.most.store(usize::MAX, Relaxed);
    }

    /// Ends the connection: whoever reads or writes next gets an error.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Relaxed);
        let reader = self.reader.lock().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn refuse(&self) -> io::Result<()> {
        if self.is_cut.load(Relaxed) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, Cut));
        }
        if self.idle_bytes.load(Relaxed) > self.most.load(Relaxed) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Flood));
        }
        Ok(())
    }

    fn wait(&self, cx: &Context<'_>) {
        let mut reader = self.reader.lock();
        if !reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.gauge.refuse()?;
        let before = buf.filled().len();
        let polled = match &mut this.io {
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::TlsTcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::TlsUnix(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if polled.is_pending() {
            this.gauge.wait(cx);
        }
        ready!(polled)?;
        let idle = this.gauge.idle_bytes.load(Relaxed);
        this.gauge.idle_bytes.store(idle.saturating_add(buf.filled().len() - before), Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.gauge.refuse()?;
        let written = ready!(match &mut this.io {
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::TlsTcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::TlsUnix(stream) => Pin::new(stream).poll_write(cx, buf),
        })?;
        this.gauge.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.gauge.refuse()?;
        let written = ready!(match &mut this.io {
            Io::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::TlsTcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Io::TlsUnix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        })?;
        this.gauge.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tcp(stream) => stream.is_write_vectored(),
            Io::Unix(stream) => stream.is_write_vectored(),
            Io::TlsTcp(stream) => stream.is_write_vectored(),
            Io::TlsUnix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Io::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Io::TlsTcp(stream) => Pin::new(stream).poll_flush(cx),
            Io::TlsUnix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::TlsTcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::TlsUnix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Gauge {
    /// What is sent makes an upstream of HTTP/2 answer with frames of its own, far fewer than bytes
    /// were sent.
    fn wrote(&self, count: usize) {
        let idle = self.idle_bytes.load(Relaxed);
        if idle > 0 {
            self.idle_bytes.store(idle.saturating_sub(count / 4), Relaxed);
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more than an answer has room for was sent without one")
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was cut here")
    }
}

impl std::error::Error for Flood {}
impl std::error::Error for Cut {}
