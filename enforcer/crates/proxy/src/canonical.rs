//! From the raw bytes of a request to the one that would be forwarded, without a socket.
//!
//! The same three readers as on a connection, in the same order: [`Framing`], hyper, and
//! `enforcer_inspect`. For whoever wants to know what becomes of some bytes: tests, above all.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use enforcer_inspect::{Head, normalise};
use enforcer_model::Rejection;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;

use crate::framing::{Framing, HEAD_BYTES_MAX};

/// The first request in `bytes` as a connection of HTTP/1 understands it: its one meaning, and the
/// fields as they were sent. `None` when no head is complete, or hyper cannot read it.
pub fn first_request(bytes: &[u8]) -> Option<Result<(Head, HeaderMap), Rejection>> {
    let mut framing = Framing::default();
    let sound = framing.read(bytes);
    let Some(parts) = parse(bytes.get(..sound)?) else {
        return framing.fault_in_head().map(|fault| Err(fault.into()));
    };
    Some(normalise(&parts).map(|head| (head, parts.headers)))
}

/// What hyper makes of the first head.
fn parse(bytes: &[u8]) -> Option<Parts> {
    let first = RefCell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        first.borrow_mut().get_or_insert(request.into_parts().0);
        async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
    });
    let connection = http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(Memory(bytes), service);
    let mut connection = pin!(connection);
    // Nothing in memory waits for anything: what one turn does not reach is not the first head.
    let _whatever = connection.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    first.take()
}

/// Bytes that have all arrived, from a client that hears nothing.
struct Memory<'a>(&'a [u8]);

impl hyper::rt::Read for Memory<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        mut room: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(room.remaining()));
        room.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Memory<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use enforcer_model::Reason;

    use super::*;

    #[test]
    fn the_first_request_is_read_as_on_a_connection() {
        let honest = b"GET /a?b HTTP/1.1\r\nHost: API.test\r\n\r\nGET /c HTTP/1.1\r\n\r\n";
        let two =
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n";

        let (head, headers) = first_request(honest).unwrap().unwrap();
        assert_eq!((head.target().as_str(), head.host.as_str()), ("/a?b", "api.test"));
        assert_eq!(headers["host"], "API.test");
        let refused = first_request(two).unwrap().unwrap_err();
        assert_eq!(refused.reason, Reason::FramingAmbiguous);
        assert!(first_request(b"GET / HTTP/1.1\r\nHost: a\r\n").is_none(), "it is not complete");
        assert!(first_request(b"GET / HTTP/0.9\r\n\r\n").is_none(), "hyper reads no such thing");
    }
}
