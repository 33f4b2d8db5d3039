//! One request and its answer: who is asked, what is counted, and when somebody else is asked.
//!
//! A request is sent again only where that cannot carry it out twice, or where twice is the same as
//! once (RFC 9110, 9.2.2) and its body is there to be sent again; never once an answer has begun,
//! never after a time-out, and never beyond the budget. Who accepts no connection costs nothing:
//! the next host is asked at once.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::Incoming;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::body::Body;
use crate::connection::{BoxError, Line, Sender};
use crate::failure::{Cause, Failure, Fault, Misplaced, Retry};
use crate::fleet::{Admitted, Upstream, Went};
use crate::plan::Plan;
use crate::pool::{Affinity, Home, Host, Leased, Origin, Pools, Slot, Tried, Wanted};
use crate::progress::{Progress, Replay, Sending};

/// An answer, of which the body is still arriving.
pub struct Answer<B> {
    /// Head as received; no 1xx, no upgrade, one framing.
    pub response: Response<Body<B>>,
    /// Who answered: an address, or `unix:` and a path.
    pub upstream: Arc<str>,
    /// From handing over the request to the head of the answer.
    pub waited: Duration,
}

/// A connection with one request on it.
pub(crate) struct Lease<B> {
    leased: Leased<B>,
    turn: Turn<B>,
    progress: Progress,
    idle: Duration,
    /// The connection carries no other request.
    is_alone: bool,
}

/// One request at one host, counted when it ends.
pub(crate) struct Turn<B> {
    home: Home<B>,
    host: Rc<Host<B>>,
    went: Cell<Went>,
}

/// A request that got no answer.
struct Unanswered<B> {
    failure: Failure,
    /// The request itself, when no byte of it was sent.
    unsent: Option<Box<Request<Sending<B>>>>,
}

/// The one request that finds out whether an upstream is well again.
struct Probe<'a> {
    upstream: &'a Upstream,
    plan: &'a Plan,
    went: Went,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        let now_ms = self.upstream.ms(Instant::now().into_std());
        self.upstream.probed(self.went, self.plan, now_ms);
    }
}

impl<B> Pools<B>
where
    B: Replay + http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Sends `request` to one host of `plan` and returns the answer once its head is there.
    ///
    /// The target must be in origin form and `Host` set.
    pub async fn forward(
        &self,
        request: Request<B>,
        affinity: Affinity,
        plan: &Plan,
    ) -> Result<Answer<B>, Failure> {
        let home = self.home(plan, Instant::now());
        let mut probe = admitted(&home.upstream, plan)?;
        let answered = exchange(request, affinity, &home, plan).await;
        if let Some(probe) = &mut probe {
            probe.went = match &answered {
                Ok(answer) if is_failure(answer.response.status()) => Went::Badly,
                Ok(_) => Went::Well,
                Err(failure) if failure.whose == Fault::Upstream => Went::Badly,
                Err(_) => Went::Nowhere,
            };
        }
        answered
    }

    /// Sends `request` on a connection that has carried no other and will carry no other.
    pub(crate) async fn ask_alone(
        &self,
        request: Request<B>,
        affinity: Affinity,
        plan: &Plan,
    ) -> Result<(Response<Incoming>, Lease<B>, Duration), Failure> {
        let home = self.home(plan, Instant::now());
        drop(admitted(&home.upstream, plan)?);
        let (parts, body) = request.into_parts();
        let (body, progress) = Sending::new(body);
        let mut tried = Tried::default();
        let found = home.checkout(Wanted::Alone, affinity, &mut tried, plan).await?;
        let mut lease = Lease::new(found.0, Turn::begin(&home, &found.1), &progress, plan);
        lease.is_alone = true;
        let request = Request::from_parts(parts, body);
        let asked = lease.hear(request, Origin::Fresh, plan).await;
        let (response, waited) = asked.map_err(|unanswered| unanswered.failure)?;
        Ok((response, lease, waited))
    }
}

fn admitted<'a>(upstream: &'a Upstream, plan: &'a Plan) -> Result<Option<Probe<'a>>, Failure> {
    let now_ms = upstream.ms(Instant::now().into_std());
    upstream.refresh(now_ms);
    match upstream.admit(plan, now_ms) {
        Admitted::Yes => Ok(None),
        Admitted::Probe => Ok(Some(Probe { upstream, plan, went: Went::Nowhere })),
        Admitted::No(left_ms) => {
            Err(Failure::new(None, Cause::BreakerOpen(Duration::from_millis(left_ms))))
        }
    }
}

async fn exchange<B>(
    request: Request<B>,
    affinity: Affinity,
    home: &Home<B>,
    plan: &Plan,
) -> Result<Answer<B>, Failure>
where
    B: Replay + http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = request.into_parts();
    let (body, progress) = Sending::new(body);
    let mut request = Request::from_parts(parts, body);
    let idempotent = is_idempotent(request.method());
    let mut tried = Tried::default();
    let mut attempts = plan.retry.attempts;
    let mut wanted = Wanted::Any;
    loop {
        let (leased, host, origin) = home.checkout(wanted, affinity, &mut tried, plan).await?;
        let replaces = origin == Origin::Reused && wanted == Wanted::Any;
        let is_shared = matches!(leased, Leased::Shared(_));
        let spare = match attempts > 0 || replaces {
            true if idempotent || is_shared => repeated(&request),
            true | false => None,
        };
        let lease = Lease::new(leased, Turn::begin(home, &host), &progress, plan);
        let Unanswered { failure, unsent } = match lease.ask(request, origin, plan).await {
            Ok(answer) => return Ok(answer),
            Err(unanswered) => unanswered,
        };
        let safe = failure.retry == Retry::Safe;
        let again = unsent.or_else(|| spare.filter(|_| idempotent || safe));
        let is_closed = matches!(failure.cause, Cause::Closed(_));
        let Some(again) = again.filter(|_| failure.whose == Fault::Upstream && (safe || is_closed))
        else {
            return Err(failure);
        };
        if replaces && is_closed {
            debug!(%failure, "sent once more on a fresh connection");
            wanted = Wanted::Fresh;
        } else {
            let now_ms = home.upstream.ms(Instant::now().into_std());
            if attempts == 0 || !home.upstream.may_retry(plan, now_ms) {
                return Err(failure);
            }
            debug!(%failure, "sent once more");
            attempts -= 1;
            tried.failed.push(Arc::clone(&host.member));
        }
        again.body().restart();
        request = *again;
    }
}

/// Whether twice is the same as once (RFC 9110, 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method)
}

/// Whether an answer speaks of a host that is not well.
fn is_failure(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

/// A copy of a request whose body is there to be sent again.
fn repeated<B>(request: &Request<Sending<B>>) -> Option<Box<Request<Sending<B>>>>
where
    B: Replay + http_body::Body<Data = Bytes> + Unpin,
{
    let mut copy = Request::new(request.body().repeat()?);
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    Some(Box::new(copy))
}

impl<B> Turn<B> {
    fn begin(home: &Home<B>, host: &Rc<Host<B>>) -> Self {
        host.member.begin();
        Self { home: Rc::clone(home), host: Rc::clone(host), went: Cell::new(Went::Nowhere) }
    }

    /// Once badly is badly.
    pub(crate) fn went(&self, how: Went) {
        if self.went.get() == Went::Nowhere {
            self.went.set(how);
        }
    }

    pub(crate) fn is_isolated(&self) -> bool {
        self.host.member.is_isolated()
    }

    fn now_ms(&self) -> u64 {
        self.home.upstream.ms(Instant::now().into_std())
    }
}

impl<B> Drop for Turn<B> {
    fn drop(&mut self) {
        let Self { home, host, went } = self;
        let now_ms = || home.upstream.ms(Instant::now().into_std());
        home.upstream.ended(&host.member, went.get(), now_ms);
    }
}

impl<B> Lease<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    fn new(leased: Leased<B>, turn: Turn<B>, progress: &Progress, plan: &Plan) -> Self {
        Self { leased, turn, progress: progress.clone(), idle: plan.idle, is_alone: false }
    }

    async fn ask(
        mut self,
        request: Request<Sending<B>>,
        origin: Origin,
        plan: &Plan,
    ) -> Result<Answer<B>, Unanswered<B>> {
        let (response, waited) = self.hear(request, origin, plan).await?;
        let answer = self.answer(response, waited, plan);
        answer.map_err(|failure| Unanswered { failure, unsent: None })
    }

    /// The head of the answer to `request`, and how long it took.
    async fn hear(
        &mut self,
        request: Request<Sending<B>>,
        origin: Origin,
        plan: &Plan,
    ) -> Result<(Response<Incoming>, Duration), Unanswered<B>> {
        let started = Instant::now();
        self.progress.begin(started);
        let (sender, gauge) = match &mut self.leased {
            Leased::Own(line) => (&mut line.sender, &line.gauge),
            Leased::Shared(on) => {
                let Sender::Http2(sender) = &on.0.sender else {
                    return Err(self.unanswered(Cause::NoHost, None, origin));
                };
                (&mut Sender::Http2(sender.clone()), &on.0.gauge)
            }
        };
        let (progress, first_byte) = (&self.progress, plan.first_byte);
        let heard = match sender {
            Sender::Http1(sender) => {
                let sent = sender.try_send_request(for_http1(request));
                before_overdue(sent, progress, first_byte).await
            }
            Sender::Http2(sender) => {
                let sent = sender.try_send_request(for_http2(request, plan.tls.is_some()));
                before_overdue(sent, progress, first_byte).await
            }
        };
        match heard {
            Some(Ok(response)) => {
                gauge.progress();
                let (waited, member) = (started.elapsed(), &self.turn.host.member);
                if is_failure(response.status()) {
                    self.turn.went(Went::Badly);
                } else {
                    member.heard(waited, self.turn.now_ms());
                }
                Ok((response, waited))
            }
            Some(Err(mut error)) => {
                let unsent = error.take_message().map(Box::new);
                Err(self.unanswered(Cause::from(error.into_error()), unsent, origin))
            }
            None => Err(self.unanswered(Cause::Timeout(first_byte), None, origin)),
        }
    }

    fn unanswered(
        &self,
        cause: Cause,
        unsent: Option<Box<Request<Sending<B>>>>,
        origin: Origin,
    ) -> Unanswered<B> {
        let was_cut = matches!(cause, Cause::Closed(_)) && self.turn.is_isolated();
        let cause = if was_cut { Cause::Isolated } else { cause };
        let mut failure = Failure::new(Some(Arc::clone(&self.turn.host.member.label)), cause);
        if unsent.is_some() {
            failure.retry = Retry::Safe;
        }
        // A connection that was closed while nobody used it is nobody's fault.
        let was_stale = origin == Origin::Reused && matches!(failure.cause, Cause::Closed(_));
        if failure.whose == Fault::Upstream && !was_stale {
            self.turn.went(Went::Badly);
        }
        Unanswered { failure, unsent }
    }

    /// An answer that may be passed on.
    pub(crate) fn answer(
        self,
        response: Response<Incoming>,
        waited: Duration,
        plan: &Plan,
    ) -> Result<Answer<B>, Failure> {
        let upstream = self.label();
        if let Err(misplaced) = refuse_misplaced(&response) {
            self.turn.went(Went::Badly);
            return Err(Failure::new(Some(upstream), Cause::Misplaced(misplaced)));
        }
        let response = response.map(|incoming| Body::new(incoming, self, plan));
        Ok(Answer { response, upstream, waited })
    }

    pub(crate) fn label(&self) -> Arc<str> {
        Arc::clone(&self.turn.host.member.label)
    }

    pub(crate) const fn turn(&self) -> &Turn<B> {
        &self.turn
    }

    /// Something of the answer was handed on.
    pub(crate) fn progress(&self) {
        match &self.leased {
            Leased::Own(line) => line.gauge.progress(),
            Leased::Shared(on) => on.0.gauge.progress(),
        }
    }

    /// The right to a connection that hyper is done with, and the request that it is counted for.
    pub(crate) fn into_slot(self) -> Option<(Slot<B>, Turn<B>)> {
        match self.leased {
            Leased::Own(mut line) => Some((line.take_slot()?, self.turn)),
            Leased::Shared(_) => None,
        }
    }

    /// The answer was read to its end: the connection may carry the next request.
    ///
    /// An upstream that answered before it had the whole request has not read the rest, so that
    /// connection is closed.
    pub(crate) fn give_back(self) {
        let Self { leased, turn, progress, idle, is_alone } = self;
        turn.went(Went::Well);
        let line = match leased {
            Leased::Own(line) => line,
            Leased::Shared(_) => return,
        };
        if is_alone || !progress.is_sent() || line.is_closed() {
            return;
        }
        line.unused_until.set(Some(Instant::now() + idle));
        let host = Rc::clone(&turn.host);
        if line.is_ready() {
            host.keep(line);
        } else {
            // Ends at the latest when the driver finds the connection unused for too long.
            spawn_local(keep_when_ready(line, host));
        }
    }
}

async fn keep_when_ready<B>(mut line: Line<B>, host: Rc<Host<B>>) {
    let ready = match &mut line.sender {
        Sender::Http1(sender) => sender.ready().await,
        Sender::Http2(sender) => sender.ready().await,
    };
    if ready.is_ok() {
        host.keep(line);
    }
}

/// Origin form, and `Host`.
fn for_http1<B>(mut request: Request<B>) -> Request<B> {
    if let Some(authority) = request.uri().authority().map(Authority::as_str)
        && let Ok(host) = HeaderValue::try_from(authority)
    {
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = request.uri().path_and_query().cloned();
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_11;
    }
    request
}

/// `:scheme` and `:authority` (RFC 9113, 8.3.1).
fn for_http2<B>(mut request: Request<B>, tls: bool) -> Request<B> {
    if request.uri().authority().is_none() {
        let host = request.headers_mut().remove(header::HOST);
        let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = authority;
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        if let Ok(target) = Uri::from_parts(parts) {
            *request.uri_mut() = target;
        }
        *request.version_mut() = Version::HTTP_2;
    }
    request
}

/// What `sent` becomes, or none once the upstream is overdue.
async fn before_overdue<F: Future>(
    sent: F,
    progress: &Progress,
    first_byte: Duration,
) -> Option<F::Output> {
    let mut sent = pin!(sent);
    let mut alarm = pin!(sleep(first_byte));
    loop {
        tokio::select! {
            biased;
            answered = &mut sent => return Some(answered),
            () = &mut alarm => {
                let end = progress.overdue(first_byte);
                if end <= Instant::now() {
                    return None;
                }
                alarm.as_mut().reset(end);
            }
        }
    }
}

fn refuse_misplaced(response: &Response<Incoming>) -> Result<(), Misplaced> {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Misplaced::Upgrade);
    }
    if !(200..600).contains(&status.as_u16()) {
        return Err(Misplaced::Status(status.as_u16()));
    }
    let headers = response.headers();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None)
            if coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && response.version() == Version::HTTP_11
                && !headers.contains_key(header::CONTENT_LENGTH) =>
        {
            Ok(())
        }
        (Some(_), _) => Err(Misplaced::AmbiguousFraming),
    }
}
