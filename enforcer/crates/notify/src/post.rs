//! One POST over HTTP/1.1, and no more of the answer than is looked at.
//!
//! A connection for each; redirects are not followed, because they would lead past the guard of
//! addresses; proxies of the environment are not asked.

use std::pin::pin;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use enforcer_model::Timestamp;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::backoff::retry_after;
use crate::connect::{ConnectError, stream};
use crate::{Receiver, Target, Token};

/// The head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// What is looked at of an answer's body.
const BODY_BYTES_MAX: usize = 1 << 10;
/// Characters of it that are told.
const SAID_MAX: usize = 200;

/// What a receiver answered.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) wait: Option<Duration>,
    /// The beginning of the body, on one line.
    pub(crate) said: String,
}

/// It did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the answer is not whole, readable HTTP")]
    Http(#[source] hyper::Error),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("the token cannot be sent")]
    Token,
}

/// Posts `body` as JSON, within the time that `receiver` has.
///
/// Its status decides: an answer whose body does not end in time is one without a body.
pub(crate) async fn post(
    receiver: &Receiver,
    target: &Target,
    headers: HeaderMap,
    token: Option<&Token>,
    body: Vec<u8>,
    now: Timestamp,
) -> Result<Answered, PostError> {
    let request = request(target, headers, token, body)?;
    let patience = receiver.timeout;
    let head = OnceLock::new();
    let exchange = exchange(receiver, target, request, now, &head);
    match tokio::time::timeout(patience, exchange).await {
        Ok(answered) => answered,
        Err(_elapsed) => head.into_inner().ok_or(PostError::Silent(patience)),
    }
}

fn request(
    target: &Target,
    headers: HeaderMap,
    token: Option<&Token>,
    body: Vec<u8>,
) -> Result<Request<Full<Bytes>>, PostError> {
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    // Checked when the target was made.
    *request.uri_mut() = target.rest().parse().unwrap_or_default();
    *request.headers_mut() = headers;
    let fields = request.headers_mut();
    if let Ok(host) = HeaderValue::try_from(target.authority()) {
        fields.insert(HOST, host);
    }
    fields.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("enforcer/", env!("CARGO_PKG_VERSION"))),
    );
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
        let Ok(mut value) = value else { return Err(PostError::Token) };
        value.set_sensitive(true);
        fields.insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// Asks, and puts the head of the answer into `head` before its body is looked at.
async fn exchange(
    receiver: &Receiver,
    target: &Target,
    request: Request<Full<Bytes>>,
    now: Timestamp,
    head: &OnceLock<Answered>,
) -> Result<Answered, PostError> {
    let stream = stream(receiver, target).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(PostError::Http)?;
    let mut exchange = pin!(async {
        let response = sender.send_request(request).await.map_err(PostError::Http)?;
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let wait = asked.and_then(|asked| retry_after(asked, now));
        let answered = Answered { status: response.status(), wait, said: String::new() };
        head.get_or_init(|| answered.clone());
        Ok(Answered { said: beginning(response.into_body()).await, ..answered })
    });
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        answered = &mut exchange => return answered,
        // What was read before the end is still to be taken; a failure shows there as well.
        _ended = &mut connection => {}
    }
    exchange.await
}

/// What was read of a body that breaks off, comes drop by drop, or never ends.
async fn beginning(mut body: Incoming) -> String {
    /// For all of it.
    const PATIENCE: Duration = Duration::from_secs(1);
    let mut bytes = Vec::new();
    let reading = async {
        while bytes.len() < BODY_BYTES_MAX {
            let Some(Ok(frame)) = body.frame().await else { break };
            if let Some(data) = frame.data_ref() {
                let room = BODY_BYTES_MAX - bytes.len();
                bytes.extend(data.iter().take(room));
            }
        }
    };
    // What was read by then is kept.
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.split_whitespace().collect();
    crate::notice::cut(&words.join(" "), SAID_MAX)
}
