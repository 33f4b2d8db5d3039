//! Asks one host whether it is well: one request on a connection of its own, as a client would.

use std::fmt;
use std::pin::pin;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::connection::{Here, connect};
use crate::failure::Cause;
use crate::fleet::Member;
use crate::plan::{HealthPlan, Plan, Protocol};

/// The head of an answer.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// The body of an answer is read up to here, so that the host sees it taken.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Why a host is not well.
#[derive(Debug)]
pub(crate) enum Ill {
    Connect(Cause),
    Http(hyper::Error),
    Status(StatusCode),
    TimedOut(std::time::Duration),
}

/// Whether `member` answers as `health` wants it.
pub(crate) async fn ask(member: &Member, health: &HealthPlan, plan: &Plan) -> Result<(), Ill> {
    let status = match timeout(health.timeout, status(member, health, plan)).await {
        Ok(status) => status?,
        Err(_elapsed) => return Err(Ill::TimedOut(health.timeout)),
    };
    if health.status.contains(&status.as_u16()) { Ok(()) } else { Err(Ill::Status(status)) }
}

async fn status(member: &Member, health: &HealthPlan, plan: &Plan) -> Result<StatusCode, Ill> {
    let (stream, spoken) = connect(member, plan.protocol, plan).await.map_err(Ill::Connect)?;
    let request = request(member, health, plan, spoken);
    let io = TokioIo::new(stream);
    match spoken {
        Protocol::Http1 => {
            let (mut sender, connection) = http1::Builder::new()
                .max_buf_size(HEAD_BYTES_MAX)
                .handshake(io)
                .await
                .map_err(Ill::Http)?;
            beside(connection, async move { taken(sender.send_request(request).await).await }).await
        }
        Protocol::Http2 => {
            let (mut sender, connection) =
                http2::Builder::new(Here).handshake(io).await.map_err(Ill::Http)?;
            beside(connection, async move { taken(sender.send_request(request).await).await }).await
        }
    }
}

/// `exchange`, while `connection` moves the bytes.
async fn beside<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    exchange: impl Future<Output = Result<T, Ill>>,
) -> Result<T, Ill> {
    let (mut connection, mut exchange) = (pin!(connection), pin!(exchange));
    tokio::select! {
        biased;
        done = &mut exchange => return done,
        _ended = &mut connection => {}
    }
    exchange.await
}

async fn taken(answer: hyper::Result<Response<Incoming>>) -> Result<StatusCode, Ill> {
    let (head, mut body) = answer.map_err(Ill::Http)?.into_parts();
    let mut length = 0;
    while length < BODY_BYTES_MAX
        && let Some(frame) = body.frame().await
    {
        length += frame.map_err(Ill::Http)?.data_ref().map_or(0, Bytes::len).max(1);
    }
    Ok(head.status)
}

fn request(
    member: &Member,
    health: &HealthPlan,
    plan: &Plan,
    spoken: Protocol,
) -> Request<Empty<Bytes>> {
    let own = || HeaderValue::try_from(&*member.host).ok().filter(|_| !member.is_local());
    let host = health.host.clone().or_else(own);
    let host = host.unwrap_or_else(|| HeaderValue::from_static("localhost"));
    let mut request = Request::new(Empty::new());
    request.uri_mut().clone_from(&health.path);
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static("enforcer"));
    match spoken {
        Protocol::Http1 => {
            headers.insert(HOST, host);
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Protocol::Http2 => {
            let mut parts = health.path.clone().into_parts();
            parts.scheme = Some(if plan.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
            parts.authority = Authority::try_from(host.as_bytes()).ok();
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
            *request.version_mut() = Version::HTTP_2;
        }
    }
    request
}

impl fmt::Display for Ill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(cause) => {
                cause.fmt(f)?;
                chain(std::error::Error::source(cause), f)
            }
            Self::Http(error) => {
                error.fmt(f)?;
                chain(std::error::Error::source(error), f)
            }
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::TimedOut(patience) => write!(f, "no whole answer within {patience:?}"),
        }
    }
}

fn chain(
    mut next: Option<&(dyn std::error::Error + 'static)>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    while let Some(cause) = next {
        write!(f, ": {cause}")?;
        next = cause.source();
    }
    Ok(())
}
