//! A connection that becomes a tunnel: one request for it, and the bytes that follow.
//!
//! It is always a fresh connection, used for nothing else before or after, and counts against
//! [`Plan::connections`] for as long as it lives. Nothing of it is ever sent twice. Only a 101 that
//! names the protocol asked for makes a tunnel; every other answer is an answer like any.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::connection::BoxError;
use crate::exchange::{Answer, Turn};
use crate::failure::{Cause, Failure, Misplaced};
use crate::fleet::Went;
use crate::plan::Plan;
use crate::pool::{Affinity, Pools, Slot};
use crate::progress::Replay;
use crate::stream::Stream;

/// What became of a request for a tunnel.
pub enum Opened<B> {
    /// The upstream does not change the protocol, and says something else.
    Answered(Answer<B>),
    /// It does.
    Switched(Tunnel<B>),
}

/// A connection that speaks another protocol now. Dropping it closes the socket.
pub struct Tunnel<B> {
    /// What it speaks.
    pub protocol: &'static str,
    /// The head of the upstream's 101.
    pub response: Response<()>,
    /// Who is at the other end.
    pub upstream: Arc<str>,
    /// From handing over the request to the head of the answer.
    pub waited: Duration,
    /// What the upstream has sent behind the head already.
    pub early: Bytes,
    /// The connection.
    pub stream: Stream,
    place: Place<B>,
}

/// The right to a connection, for as long as somebody has the tunnel.
pub struct Place<B>(
    #[expect(dead_code, reason = "its end is its use")] Slot<B>,
    #[expect(dead_code, reason = "its end is its use")] Turn<B>,
);

impl<B> Tunnel<B> {
    /// The connection, what has arrived on it, and the place that it takes until that is dropped.
    pub fn into_parts(self) -> (Stream, Bytes, Place<B>) {
        (self.stream, self.early, self.place)
    }
}

impl<B> Pools<B>
where
    B: Replay + http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Sends `request`, which asks to speak `protocol`, to one host of `plan`.
    ///
    /// The target must be in origin form and `Host` set; the fields that ask are added here.
    pub async fn open(
        &self,
        mut request: Request<B>,
        protocol: &'static str,
        affinity: Affinity,
        plan: &Plan,
    ) -> Result<Opened<B>, Failure> {
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(protocol));
        let (mut response, lease, waited) = self.ask_alone(request, affinity, plan).await?;
        let host = lease.label();
        let refused = |cause| Failure::new(Some(Arc::clone(&host)), cause);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Opened::Answered(lease.answer(response, waited, plan)?));
        }
        if !switches_to(protocol, response.headers()) {
            return Err(refused(Cause::Misplaced(Misplaced::Upgrade)));
        }
        let upgraded = hyper::upgrade::on(&mut response).await;
        let parts = upgraded.map_err(|error| refused(Cause::Closed(error)))?;
        let Ok(parts) = parts.downcast::<TokioIo<Stream>>() else {
            return Err(refused(Cause::Misplaced(Misplaced::Upgrade)));
        };
        lease.turn().went(Went::Well);
        let Some((slot, turn)) = lease.into_slot() else {
            return Err(refused(Cause::Misplaced(Misplaced::Upgrade)));
        };
        Ok(Opened::Switched(Tunnel {
            protocol,
            response: response.map(drop),
            upstream: host,
            waited,
            early: parts.read_buf,
            stream: parts.io.into_inner(),
            place: Place(slot, turn),
        }))
    }
}

/// Whether a 101 names `protocol` and nothing else.
fn switches_to(protocol: &str, headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(UPGRADE).iter();
    let is = |text: &[u8], word: &str| text.trim_ascii().eq_ignore_ascii_case(word.as_bytes());
    let only = match (named.next(), named.next()) {
        (Some(only), None) => is(only.as_bytes(), protocol),
        (_, _) => false,
    };
    let mut tokens = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    only && tokens.any(|token| is(token, "upgrade"))
}
