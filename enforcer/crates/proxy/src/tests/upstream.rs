//! An upstream that answers by the last segment of the path, and remembers every request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: HeaderMap,
    /// Bytes of the body, once it was read to its end; only by `/read`.
    pub(super) read: Option<usize>,
    pub(super) trailers: Option<HeaderMap>,
}

/// A card, an account and an address.
const LEAK: &str =
    r#"{"card": "4111 1111 1111 1111", "iban": "DE89370400440532013000", "to": "ann@example.com"}"#;

const SUM: HeaderName = HeaderName::from_static("x-sum");

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;
type Part = Result<Bytes, BoxError>;

struct Parts(mpsc::Receiver<Part>);

impl Upstream {
    /// Runs until the test's process ends.
    pub(super) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let noted = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let seen = Arc::clone(&noted);
                    spawn_local(async move {
                        let service = service_fn(|request| answer(request, &seen));
                        let served = http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .with_upgrades()
                            .await;
                        drop(served);
                    });
                }
            });
        });
        Self { address, seen }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Vec<Seen>>,
) -> Result<Response<Body>, Infallible> {
    let (mut parts, body) = request.into_parts();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let place = {
        let mut seen = seen.lock();
        let line = format!("{} {}", parts.method, parts.uri);
        seen.push(Seen { line, headers: parts.headers, read: None, trailers: None });
        seen.len() - 1
    };
    let body = match parts.uri.path().rsplit('/').next().unwrap() {
        "hsts" => {
            let mut response = Response::new(full("ok"));
            let short = HeaderValue::from_static("max-age=1");
            response.headers_mut().insert(http::header::STRICT_TRANSPORT_SECURITY, short);
            return Ok(response);
        }
        "trace" => return Ok(failing("text/html", "at secret.rs:7")),
        "problem" => return Ok(failing("application/problem+json", "{\"title\":\"sold out\"}")),
        "echo" => body.map_err(BoxError::from).boxed_unsync(),
        "read" => {
            // Who breaks off gets no answer: this future is dropped with the connection.
            let Ok(read) = body.collect().await else { return std::future::pending().await };
            let trailers = read.trailers().cloned();
            let length = read.to_bytes().len();
            let mut seen = seen.lock();
            let seen = &mut seen[place];
            (seen.read, seen.trailers) = (Some(length), trailers);
            full(&length.to_string())
        }
        "trailers" => {
            let trailers = HeaderMap::from_iter([(SUM, HeaderValue::from_static("7"))]);
            let summed = channel(|sender| async move {
                sender.send(Ok(Bytes::from_static(b"summed"))).await.unwrap();
            });
            summed.with_trailers(async { Some(Ok(trailers)) }).boxed_unsync()
        }
        // The key of RFC 6455, whose answer is known; everything is sent back until the end.
        "socket" => return Ok(switch(upgrade.unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
        "false-socket" => return Ok(switch(upgrade.unwrap(), "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")),
        "slow" => {
            sleep(Duration::from_millis(400)).await;
            full("slow")
        }
        "hang" => std::future::pending().await,
        // In two parts, and one that is compressed, as it says.
        kind @ ("leak" | "packed-leak") => {
            let mut response = Response::new(channel(|sender| async move {
                for part in [LEAK.get(..20), LEAK.get(20..)] {
                    sender.send(Ok(Bytes::from_static(part.unwrap().as_bytes()))).await.unwrap();
                }
            }));
            let headers = response.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("application/json"));
            if kind == "packed-leak" {
                headers.insert("content-encoding", HeaderValue::from_static("br"));
            }
            return Ok(response);
        }
        "drip" => channel(|sender| async move {
            while sender.send(Ok(Bytes::from_static(b"drip\n"))).await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        }),
        "endless" => channel(|sender| async move {
            while sender.send(Ok(Bytes::from_static(&[b'x'; 16 * 1024]))).await.is_ok() {}
        }),
        "break" => channel(|sender| async move {
            sender.send(Ok(Bytes::from_static(b"half"))).await.unwrap();
            sleep(Duration::from_millis(50)).await;
            sender.send(Err("it ends here".into())).await.unwrap();
        }),
        _ => full("ok"),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert("server", "secret/1.2.3".parse().unwrap());
    response.headers_mut().insert("trailer", SUM.into());
    Ok(response)
}

fn failing(kind: &'static str, text: &str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(kind));
    headers.insert("retry-after", HeaderValue::from_static("7"));
    headers.insert("x-debug", HeaderValue::from_static("secret"));
    response
}

fn switch(upgrade: OnUpgrade, accept: &'static str) -> Response<Body> {
    spawn_local(async move {
        let Ok(socket) = upgrade.await else { return };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(socket));
        drop(tokio::io::copy(&mut from, &mut to).await);
        drop(to.shutdown().await);
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-accept", HeaderValue::from_static(accept));
    headers.insert("server", HeaderValue::from_static("secret/1.2.3"));
    response
}

fn channel<F: Future<Output = ()> + 'static>(write: impl FnOnce(mpsc::Sender<Part>) -> F) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    spawn_local(write(sender));
    Parts(receiver).boxed_unsync()
}

impl http_body::Body for Parts {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(cx).map(|part| Some(part?.map(Frame::data)))
    }
}

fn full(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes()))
        .map_err(|never| match never {})
        .boxed_unsync()
}
