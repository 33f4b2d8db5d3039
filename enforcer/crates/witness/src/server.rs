//! Plain HTTP/1.1 in front of a [`Witness`]: bounded in connections, bytes and time.
//!
//! There is nothing to keep secret and nobody to authenticate: a checkpoint proves itself. So all
//! that a stranger can do is take room, and of that there is little: a connection more than
//! [`CONNECTIONS_MAX`], or than [`CONNECTIONS_PER_SOURCE`] from one address, is closed at once; a
//! request that does not come in time, or is longer than any real one, ends its connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use enforcer_audit::{REQUEST_BYTES_MAX, SIZE_TYPE};
use enforcer_model::Clock;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::judge::{Refusal, Witness};

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 512;
/// Of these, from one address.
pub const CONNECTIONS_PER_SOURCE: usize = 32;
/// For the head of a request, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(15);
/// For the body of one.
const BODY_TIME: Duration = Duration::from_secs(10);
/// For all requests of one connection: whoever wants more connects again.
const CONNECTION_TIME: Duration = Duration::from_secs(600);
/// For what is under way at the end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// When no connection can be taken, such as for want of descriptors.
const REST: Duration = Duration::from_millis(100);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const SIZE: HeaderValue = HeaderValue::from_static(SIZE_TYPE);

/// Who is connected.
type Sources = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A place among the connections, given back when dropped.
struct Place {
    sources: Sources,
    source: IpAddr,
}

/// Serves `witness` on `listener` until `stop`.
pub async fn serve(
    witness: Arc<Witness>,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let sources = Sources::default();
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, source) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                warn!(%error, "no connection can be taken");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let Some(place) = Place::take(&sources, source) else {
            debug!(%source, "a connection too many is closed");
            continue;
        };
        let (witness, clock, stop) = (Arc::clone(&witness), Arc::clone(&clock), stop.clone());
        tasks.spawn(async move {
            converse(stream, witness, clock, stop).await;
            drop(place);
        });
    }
    tasks.close();
    drop(timeout(LAST_WORDS, tasks.wait()).await);
}

async fn converse(
    stream: TcpStream,
    witness: Arc<Witness>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request| {
        let (witness, clock) = (Arc::clone(&witness), Arc::clone(&clock));
        async move { Ok::<_, Infallible>(answer(request, witness, &*clock).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let over = tokio::select! {
        over = &mut connection => over,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_WORDS, connection).await.unwrap_or(Ok(()))
        }
        () = tokio::time::sleep(CONNECTION_TIME) => Ok(()),
    };
    if let Err(error) = over {
        debug!(%error, "a connection ended early");
    }
}

async fn answer(
    request: Request<Incoming>,
    witness: Arc<Witness>,
    clock: &dyn Clock,
) -> Response<Full<Bytes>> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    match (path.as_str(), path.strip_prefix('/').and_then(|p| p.strip_suffix("/checkpoint"))) {
        ("/add-checkpoint", _) if method == Method::POST => {
            let body = Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect();
            let body = match timeout(BODY_TIME, body).await {
                Ok(Ok(body)) => body.to_bytes(),
                Ok(Err(error)) if error.is::<LengthLimitError>() => {
                    return text(StatusCode::PAYLOAD_TOO_LARGE, "no request is that long\n");
                }
                Ok(Err(_)) => return text(StatusCode::BAD_REQUEST, "the request broke off\n"),
                Err(_elapsed) => return text(StatusCode::REQUEST_TIMEOUT, "too slow\n"),
            };
            let now = clock.now().wall;
            // Waits for a disk.
            let judged =
                tokio::task::spawn_blocking(move || witness.add_checkpoint(&body, now)).await;
            match judged {
                Ok(Ok(lines)) => text(StatusCode::OK, lines),
                Ok(Err(refusal)) => refused(&refusal),
                Err(error) => {
                    error!(%error, "a request was not judged");
                    text(StatusCode::INTERNAL_SERVER_ERROR, "not judged\n")
                }
            }
        }
        ("/add-checkpoint", _) => not_allowed("POST"),
        (_, Some(origin)) if method == Method::GET => match witness.newest(origin) {
            Ok(Some(note)) => text(StatusCode::OK, note),
            Ok(None) => text(StatusCode::NOT_FOUND, "nothing of this log was cosigned\n"),
            Err(error) => {
                error!(%error, "what is known cannot be read");
                text(StatusCode::INTERNAL_SERVER_ERROR, "not known\n")
            }
        },
        (_, Some(_)) => not_allowed("GET"),
        (_, None) => text(StatusCode::NOT_FOUND, "there is `/add-checkpoint` here\n"),
    }
}

fn refused(refusal: &Refusal) -> Response<Full<Bytes>> {
    let status = match refusal {
        Refusal::Conflict(size) => {
            info!(known = size, "refused: another size is known");
            let mut answer = text(StatusCode::CONFLICT, format!("{size}\n"));
            answer.headers_mut().insert(CONTENT_TYPE, SIZE);
            return answer;
        }
        Refusal::Forked(why) => {
            warn!(%why, "refused: a tree that does not continue the one that is known");
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Refusal::Memory(error) => {
            error!(%error, "nothing is cosigned: what is known cannot be read or written");
            return text(StatusCode::INTERNAL_SERVER_ERROR, "nothing can be remembered\n");
        }
        Refusal::Malformed(_) | Refusal::Note(_) | Refusal::Order => StatusCode::BAD_REQUEST,
        Refusal::UnknownLog => StatusCode::NOT_FOUND,
        Refusal::Unsigned(_) => StatusCode::FORBIDDEN,
    };
    debug!(%refusal, "refused");
    text(status, format!("{refusal}\n"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, TEXT);
    answer
}

fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("{allowed} it\n"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

impl Place {
    fn take(sources: &Sources, source: IpAddr) -> Option<Self> {
        let mut taken = sources.lock();
        if taken.values().sum::<usize>() >= CONNECTIONS_MAX {
            return None;
        }
        let count = taken.entry(source).or_default();
        if *count >= CONNECTIONS_PER_SOURCE {
            return None;
        }
        *count += 1;
        Some(Self { sources: Arc::clone(sources), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.sources.lock();
        if let Some(count) = taken.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
