//! One socket to a client, over TCP or in the file system, and the place where they come in.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use enforcer_model::Peer;
use rustix::net::{RecvFlags, Shutdown, SocketFlags, accept_with, recv, shutdown};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::listeners::Opening;

/// The near end of a connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Where connections come in.
#[derive(Debug)]
pub(crate) enum Entrance {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Entrance {
    /// Takes over what was bound; needs a runtime around it.
    pub(crate) fn open(opening: Opening) -> io::Result<Self> {
        Ok(match opening {
            Opening::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Opening::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    /// The next connection and who is at its other end.
    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Peer)>> {
        Poll::Ready(match self {
            Self::Tcp(listener) => {
                let (stream, address) = ready!(listener.poll_accept(cx))?;
                Ok((Socket::Tcp(stream), Peer::Tcp(address)))
            }
            Self::Unix(listener) => {
                let (stream, _unnamed) = ready!(listener.poll_accept(cx))?;
                let peer = at_the_other_end(&stream)?;
                Ok((Socket::Unix(stream), peer))
            }
        })
    }

    /// Lets nobody else in, where that is this process's matter: a socket over TCP is shut by
    /// whoever holds all of a port at once.
    pub(crate) fn shut(&self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Unix(listener) => Ok(shutdown(listener, Shutdown::Read)?),
        }
    }

    /// A connection that waits to be accepted. This asks the system itself: for the runtime, a
    /// socket that is shut is ready for ever.
    pub(crate) fn waiting(&self) -> io::Result<(Socket, Peer)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match self {
            Self::Tcp(listener) => {
                let stream = TcpStream::from_std(accept_with(listener, flags)?.into())?;
                let peer = Peer::Tcp(stream.peer_addr()?);
                Ok((Socket::Tcp(stream), peer))
            }
            Self::Unix(listener) => {
                let stream = UnixStream::from_std(accept_with(listener, flags)?.into())?;
                let peer = at_the_other_end(&stream)?;
                Ok((Socket::Unix(stream), peer))
            }
        }
    }
}

fn at_the_other_end(stream: &UnixStream) -> io::Result<Peer> {
    let known = stream.peer_cred()?;
    let pid = known.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    Ok(Peer::Unix { uid: known.uid(), gid: known.gid(), pid })
}

impl Socket {
    /// Bytes that have arrived, without taking them; waits for some. None: the client is gone.
    pub(crate) async fn peek(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.peek(room).await,
            Self::Unix(stream) => {
                let look = || Ok(recv(stream, &mut *room, RecvFlags::PEEK).map(|(_, seen)| seen)?);
                stream.async_io(Interest::READABLE, look).await
            }
        }
    }

    /// Takes `count` bytes that have arrived.
    pub(crate) async fn take(&mut self, room: &mut [u8]) -> io::Result<()> {
        self.read_exact(room).await.map(drop)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
