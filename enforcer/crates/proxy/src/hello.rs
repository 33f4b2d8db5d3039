//! Keeps what a client says first until it is known by whom it was said.
//!
//! Around the socket of a TLS connection. Nothing is held back or changed: bytes pass, and a copy of
//! the first of them stays until it is a whole `ClientHello`, no longer than [`ja4::BYTES_MAX`]. After
//! that it costs one look at a flag.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ja4::{self, Hello, hello};

/// A stream whose first bytes are overheard.
#[derive(Debug)]
pub(crate) struct Overheard<S> {
    stream: S,
    heard: Heard,
}

#[derive(Debug)]
enum Heard {
    Part(Vec<u8>),
    Whole(Vec<u8>),
    Nothing,
}

impl<S> Overheard<S> {
    pub(crate) const fn new(stream: S) -> Self {
        Self { stream, heard: Heard::Part(Vec::new()) }
    }

    /// The fingerprint of the client's software; asked once.
    pub(crate) fn fingerprint(&mut self) -> Option<Arc<str>> {
        match std::mem::replace(&mut self.heard, Heard::Nothing) {
            Heard::Whole(hello) => ja4::ja4(&hello),
            Heard::Part(_) | Heard::Nothing => None,
        }
    }
}

impl Heard {
    fn listen(&mut self, bytes: &[u8]) {
        let Self::Part(part) = self else { return };
        part.extend_from_slice(bytes);
        match hello(part) {
            Hello::Whole(whole) => *self = Self::Whole(whole),
            Hello::Unfinished if part.len() < ja4::BYTES_MAX => {}
            Hello::Unfinished | Hello::Other => *self = Self::Nothing,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, heard } = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(stream).poll_read(cx, buffer))?;
        if matches!(heard, Heard::Part(_)) {
            heard.listen(buffer.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
