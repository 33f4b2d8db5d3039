//! A WebSocket through the proxy: a request like any other, and then bytes both ways.
//!
//! The request is recorded, identified, permitted and limited as every request is; only then is the
//! upstream asked. Its 101 must answer this very request (RFC 6455, 4.2.2), or there is no tunnel:
//! an upstream that was made to say 101 by something else would read requests where we see frames.
//!
//! From there on bytes are carried, counted and not looked at. A tunnel ends when either end ends
//! it, when nothing moved for the idle time, at once when its source, its caller or the client's
//! certificate is shut out, and with a word to both ends when the agent stops.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use enforcer_authz::Permit;
use enforcer_inspect::{FramingError, Head, Upgrade};
use enforcer_model::{Rejection, RequestId};
use enforcer_upstream::{
    self as upstream, Affinity, Cause, Failure, Fault, Misplaced, Opened, Plan, Pools, Retry,
};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response};
use ring::digest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use crate::admission::Admitted;
use crate::body::ClientBody;
use crate::connection::Ends;
use crate::entry::Entry;
use crate::flow::Flow;
use crate::forward::tidy;
use crate::under_way::InFlight;

/// What a server appends to the client's key (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Close, 1001: the endpoint is going away. Servers do not mask; a mask of zeros changes nothing.
const GOING_AWAY: &[u8] = &[0x88, 0x02, 0x03, 0xE9];
const GOING_AWAY_MASKED: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE9];
/// For both ends to say goodbye as well.
const GOODBYE: Duration = Duration::from_secs(1);

/// The upstream's end of a tunnel, and who has the other one.
pub(crate) struct Tunnel {
    upstream: Box<upstream::Tunnel<ClientBody>>,
    in_flight: Option<InFlight>,
}

/// A tunnel whose client is being told, and its open record.
pub(crate) struct Agreed {
    pub(crate) tunnel: Tunnel,
    pub(crate) entry: Entry,
}

/// Why bytes are no longer carried.
#[derive(Debug)]
pub(crate) enum End {
    /// Both ends have ended, or one has gone away, or nothing moved any more.
    Over,
    /// The caller was shut out.
    Cut(Rejection),
    /// The agent could not wait any longer.
    Hurry,
    /// The client's certificate is not good any more.
    Distrusted,
}

/// Refuses a request for a tunnel where there is none to be had.
pub(crate) fn refuse_unless(allowed: bool, head: &Head) -> Result<(), Rejection> {
    match head.upgrade {
        Some(_) if !allowed => Err(FramingError::Upgrade(UPGRADE).into()),
        Some(_) | None => Ok(()),
    }
}

/// Asks for a tunnel, for what was permitted and admitted; nothing else can be.
pub(crate) async fn open(
    request: Request<ClientBody>,
    protocol: Upgrade,
    affinity: Affinity,
    plan: &Plan,
    _permit: &Permit<'_>,
    _admitted: &Admitted,
    pools: &Pools<ClientBody>,
) -> Result<Opened<ClientBody>, Failure> {
    let expected = request.headers().get(SEC_WEBSOCKET_KEY).map(accept);
    let opened = pools.open(request, protocol.as_str(), affinity, plan).await?;
    if let Opened::Switched(tunnel) = &opened
        && (expected.is_none() || only(tunnel.response.headers()) != expected.as_deref())
    {
        return Err(Failure {
            whose: Fault::Upstream,
            retry: Retry::Unsafe,
            upstream: Some(Arc::clone(&tunnel.upstream)),
            cause: Cause::Misplaced(Misplaced::Upgrade),
        });
    }
    Ok(opened)
}

/// The upstream's 101 as the client sees it.
pub(crate) fn agreed(tunnel: &upstream::Tunnel<ClientBody>, id: RequestId) -> Response<()> {
    let mut response = Response::new(());
    response.status_mut().clone_from(&tunnel.response.status());
    response.headers_mut().clone_from(tunnel.response.headers());
    let mut response = tidy(response, id);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(tunnel.protocol));
    response
}

/// What the answer to a client's `key` must say.
fn accept(key: &HeaderValue) -> Box<[u8]> {
    let mut digest = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(GUID.as_bytes());
    BASE64_STANDARD.encode(digest.finish()).into_bytes().into()
}

fn only(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
    values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
}

impl Tunnel {
    pub(crate) fn new(upstream: upstream::Tunnel<ClientBody>, in_flight: Option<InFlight>) -> Self {
        Self { upstream: Box::new(upstream), in_flight }
    }

    pub(crate) const fn in_flight(&self) -> Option<&InFlight> {
        self.in_flight.as_ref()
    }
}

impl Agreed {
    /// Carries bytes between `client`, of which `early` has been read already, and the upstream.
    ///
    /// `distrusted` ends when the client's certificate is not good any more. What is left of the
    /// record comes back open where the connection knows why it ended.
    pub(crate) async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        client: S,
        early: &Bytes,
        idle: Duration,
        ends: &Ends,
        mut distrusted: Pin<&mut impl Future<Output = ()>>,
    ) -> (End, Entry) {
        let Self { tunnel: Tunnel { upstream, in_flight }, mut entry } = self;
        let (server, server_early, _place) = upstream.into_parts();
        let mut ways = Ways {
            client,
            server,
            up: Flow::new(early),
            down: Flow::new(&server_early),
            last: Instant::now(),
        };
        let mut alarm = pin!(sleep(idle));
        let mut stopping = false;
        let end = loop {
            tokio::select! {
                biased;
                () = &mut distrusted => break End::Distrusted,
                rejection = poll_fn(|cx| poll_cut(in_flight.as_ref(), cx)) => {
                    break End::Cut(rejection);
                }
                () = ends.hurry.cancelled() => break End::Hurry,
                () = ends.farewell.cancelled(), if !stopping => {
                    stopping = true;
                    ways.down.end_with(GOING_AWAY);
                    ways.up.end_with(GOING_AWAY_MASKED);
                    alarm.as_mut().reset(Instant::now() + GOODBYE);
                }
                // A peer that resets the connection has ended the tunnel as well as one that says so.
                _ended = poll_fn(|cx| ways.poll(cx, &mut entry)) => break End::Over,
                () = &mut alarm => {
                    let end = ways.last + idle;
                    if stopping || end <= Instant::now() {
                        break End::Over;
                    }
                    alarm.as_mut().reset(end);
                }
            }
        };
        (end, entry)
    }
}

fn poll_cut(in_flight: Option<&InFlight>, cx: &Context<'_>) -> Poll<Rejection> {
    in_flight.map_or(Poll::Pending, |in_flight| in_flight.poll_cut(cx))
}

/// Both directions, and when something last moved.
struct Ways<S> {
    client: S,
    server: upstream::Stream,
    up: Flow,
    down: Flow,
    last: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Ways<S> {
    fn poll(&mut self, cx: &mut Context<'_>, entry: &mut Entry) -> Poll<io::Result<()>> {
        let up = self.up.poll(cx, &mut self.client, &mut self.server);
        let down = self.down.poll(cx, &mut self.server, &mut self.client);
        let (sent_up, sent_down) = (self.up.take_moved(), self.down.take_moved());
        if sent_up + sent_down > 0 {
            self.last = Instant::now();
            let received = entry.received();
            received.set(received.get().saturating_add(sent_up));
            entry.sent(usize::try_from(sent_down).unwrap_or(usize::MAX));
        }
        match (up, down) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_rfc_6455() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");

        assert_eq!(&*accept(&key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_answer_given_twice_is_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(only(&headers), None);
        headers.append(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("a"));
        assert_eq!(only(&headers), Some(&b"a"[..]));
        headers.append(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("a"));
        assert_eq!(only(&headers), None);
    }
}
