//! The connections of one thread, and the one way to send a request over them.
//!
//! Hosts are asked in turn. One that did not accept a connection is asked last for a short time, so
//! that a dead host costs one time-out and not one per request. At most [`Plan::connections`] are
//! open per upstream and thread; a request that finds all of them in use fails at once, because a
//! queue would only hide the overload from the client.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::body::Body;
use crate::connection::{BoxError, Line};
use crate::failure::{Cause, Failure, Misplaced, Retry};
use crate::fleet::Fleet;
use crate::plan::Plan;
use crate::progress::{Progress, Sending};

/// How long a host that refused a connection is asked only when no other is left.
const COOL_OFF: Duration = Duration::from_secs(2);

/// The connections of one thread to every upstream; needs a `LocalSet` around it.
pub struct Pools<B> {
    pools: RefCell<HashMap<Arc<str>, Home<B>>>,
    _fleet: Arc<Fleet>,
}

/// An answer, of which the body is still arriving.
pub struct Answer<B> {
    /// Head as received; no 1xx, no upgrade, one framing.
    pub response: Response<Body<B>>,
    /// Who answered.
    pub upstream: Arc<str>,
    /// From handing over the request to the head of the answer.
    pub waited: Duration,
}

/// A connection with one request on it.
pub(crate) struct Lease<B> {
    line: Line<B>,
    home: Home<B>,
    progress: Progress,
    idle: Duration,
    /// Of a connection that serves one request only; else its driver has it.
    slot: Option<Slot<B>>,
}

/// The right to one connection; held by its driver until the socket is closed.
pub(crate) struct Slot<B> {
    home: Weak<RefCell<Pool<B>>>,
    host: SocketAddr,
}

type Home<B> = Rc<RefCell<Pool<B>>>;

struct Pool<B> {
    hosts: Vec<Host<B>>,
    /// The host that is asked first moves on by one with every request.
    turn: usize,
    /// Connections that exist, in use or not.
    open: usize,
}

struct Host<B> {
    address: SocketAddr,
    /// The last one used is the first one used again, so that surplus connections age and close.
    unused: Vec<Line<B>>,
    cool_until: Option<Instant>,
}

/// How a connection was come by.
#[derive(Clone, Copy)]
enum Origin {
    Fresh,
    /// It was open before, so the upstream may have closed it without our knowing.
    Reused,
}

/// A request that got no answer.
struct Unanswered<B> {
    failure: Failure,
    /// The request itself, when no byte of it was sent.
    unsent: Option<Box<Request<Sending<B>>>>,
}

impl<B> Pools<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// No connections yet; what all threads know is in `fleet`.
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { pools: RefCell::default(), _fleet: fleet }
    }

    /// Sends `request` to one host of `plan` and returns the answer once its head is there.
    ///
    /// The target must be in origin form and `Host` set. A connection that turns out to have been
    /// closed while it was unused is replaced once, when the request cannot have been carried out
    /// or when carrying it out twice is the same as once and it has no body.
    pub async fn forward(&self, request: Request<B>, plan: &Plan) -> Result<Answer<B>, Failure> {
        let (parts, body) = request.into_parts();
        let (body, progress) = Sending::new(body);
        let request = Request::from_parts(parts, body);
        let home = self.home(plan);

        let (line, origin) = checkout(&home, plan).await?;
        let lease = Lease::new(line, &home, &progress, plan);
        let spare = match origin {
            Origin::Fresh => None,
            Origin::Reused => repeatable(&request),
        };
        let Unanswered { failure, unsent } = match lease.ask(request, plan).await {
            Ok(answer) => return Ok(answer),
            Err(unanswered) => unanswered,
        };
        let again = match (origin, &failure.cause) {
            (Origin::Reused, Cause::Closed(_)) => unsent.or(spare),
            (Origin::Fresh | Origin::Reused, _) => None,
        };
        let Some(request) = again else { return Err(failure) };
        debug!(%failure, "sent once more on a fresh connection");
        let line = connect(&home, plan).await?;
        let lease = Lease::new(line, &home, &progress, plan);
        lease.ask(*request, plan).await.map_err(|unanswered| unanswered.failure)
    }

    /// Sends `request` on a connection that has carried no other and will carry no other.
    pub(crate) async fn ask_alone(
        &self,
        request: Request<B>,
        plan: &Plan,
    ) -> Result<(Response<Incoming>, Lease<B>, Duration), Failure> {
        let (parts, body) = request.into_parts();
        let (body, progress) = Sending::new(body);
        let home = self.home(plan);
        let order = home.borrow_mut().order(Instant::now());
        let mut failure = Failure::new(None, Cause::NoHost);
        for host in order {
            let slot = Slot::take(&home, host, plan.connections);
            let opened = match slot {
                Ok(slot) => Line::open(host, None, plan).await.map(|line| (line, slot)),
                Err(cause) => return Err(Failure::new(Some(host.to_string().into()), cause)),
            };
            home.borrow_mut().heard_of(host, opened.is_ok());
            match opened {
                Ok((line, slot)) => {
                    let mut lease = Lease::new(line, &home, &progress, plan);
                    lease.slot = Some(slot);
                    let asked = lease.hear(Request::from_parts(parts, body), plan).await;
                    let (response, waited) = asked.map_err(|unanswered| unanswered.failure)?;
                    return Ok((response, lease, waited));
                }
                Err(cause) => failure = Failure::new(Some(host.to_string().into()), cause),
            }
        }
        Err(failure)
    }

    /// Connections of this thread to the upstream called `name`, in use or not.
    pub fn open_connections(&self, name: &str) -> usize {
        self.pools.borrow().get(name).map_or(0, |home| home.borrow().open)
    }

    fn home(&self, plan: &Plan) -> Home<B> {
        let mut pools = self.pools.borrow_mut();
        let home = match pools.get(&plan.name) {
            Some(home) => Rc::clone(home),
            None => {
                // Upstreams that left the policy are forgotten once their connections ended.
                pools.retain(|_name, home| home.borrow().open > 0);
                let home = Rc::new(RefCell::new(Pool { hosts: Vec::new(), turn: 0, open: 0 }));
                pools.insert(Arc::clone(&plan.name), Rc::clone(&home));
                home
            }
        };
        home.borrow_mut().adopt(&plan.addresses().collect::<Vec<_>>());
        home
    }
}

/// An unused connection to the host whose turn it is, or else a fresh one.
async fn checkout<B>(home: &Home<B>, plan: &Plan) -> Result<(Line<B>, Origin), Failure>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let order = home.borrow_mut().order(Instant::now());
    let mut failure = Failure::new(None, Cause::NoHost);
    for host in order {
        if let Some(line) = home.borrow_mut().reuse(host) {
            return Ok((line, Origin::Reused));
        }
        match connect_to(host, home, plan).await {
            Ok(line) => return Ok((line, Origin::Fresh)),
            Err(cause) => failure = Failure::new(Some(host.to_string().into()), cause),
        }
    }
    Err(failure)
}

/// A fresh connection to the first host that accepts one.
async fn connect<B>(home: &Home<B>, plan: &Plan) -> Result<Line<B>, Failure>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let order = home.borrow_mut().order(Instant::now());
    let mut failure = Failure::new(None, Cause::NoHost);
    for host in order {
        match connect_to(host, home, plan).await {
            Ok(line) => return Ok(line),
            Err(cause) => failure = Failure::new(Some(host.to_string().into()), cause),
        }
    }
    Err(failure)
}

async fn connect_to<B>(host: SocketAddr, home: &Home<B>, plan: &Plan) -> Result<Line<B>, Cause>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let slot = Slot::take(home, host, plan.connections)?;
    let opened = Line::open(host, Some(slot), plan).await;
    home.borrow_mut().heard_of(host, opened.is_ok());
    opened
}

impl<B> Pool<B> {
    /// Makes the hosts those of the plan; unused connections to others are closed.
    fn adopt(&mut self, addresses: &[SocketAddr]) {
        if self.hosts.iter().map(|host| &host.address).eq(addresses) {
            return;
        }
        let mut old = std::mem::take(&mut self.hosts);
        self.hosts = addresses
            .iter()
            .map(|&address| match old.iter().position(|host| host.address == address) {
                Some(known) => old.swap_remove(known),
                None => Host { address, unused: Vec::new(), cool_until: None },
            })
            .collect();
    }

    /// Every host once: the next in turn first, those that are cooling off last.
    fn order(&mut self, now: Instant) -> Vec<SocketAddr> {
        let count = self.hosts.len();
        let first = self.turn.checked_rem(count).unwrap_or(0);
        self.turn = first.wrapping_add(1);
        let in_turn = self.hosts.iter().cycle().skip(first).take(count);
        let cools = |host: &&Host<B>| host.cool_until.is_some_and(|end| now < end);
        let ready = in_turn.clone().filter(|host| !cools(host));
        ready.chain(in_turn.filter(cools)).map(|host| host.address).collect()
    }

    fn host(&mut self, address: SocketAddr) -> Option<&mut Host<B>> {
        self.hosts.iter_mut().find(|host| host.address == address)
    }

    fn reuse(&mut self, address: SocketAddr) -> Option<Line<B>> {
        let host = self.host(address)?;
        while let Some(line) = host.unused.pop() {
            if line.sender.is_ready() {
                line.unused_until.set(None);
                return Some(line);
            }
        }
        None
    }

    fn keep(&mut self, line: Line<B>) {
        if let Some(host) = self.host(line.host) {
            host.unused.push(line);
        }
    }

    fn heard_of(&mut self, address: SocketAddr, connected: bool) {
        if let Some(host) = self.host(address) {
            host.cool_until = (!connected).then(|| Instant::now() + COOL_OFF);
        }
    }
}

impl<B> Slot<B> {
    fn take(home: &Home<B>, host: SocketAddr, limit: usize) -> Result<Self, Cause> {
        let mut pool = home.borrow_mut();
        if pool.open >= limit {
            return Err(Cause::Busy { limit });
        }
        pool.open += 1;
        Ok(Self { home: Rc::downgrade(home), host })
    }
}

impl<B> Drop for Slot<B> {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else { return };
        let mut pool = home.borrow_mut();
        pool.open = pool.open.saturating_sub(1);
        if let Some(host) = pool.host(self.host) {
            host.unused.retain(|line| !line.sender.is_closed());
        }
    }
}

impl<B> Lease<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    fn new(line: Line<B>, home: &Home<B>, progress: &Progress, plan: &Plan) -> Self {
        let (home, progress) = (Rc::clone(home), progress.clone());
        Self { line, home, progress, idle: plan.idle, slot: None }
    }

    async fn ask(
        mut self,
        request: Request<Sending<B>>,
        plan: &Plan,
    ) -> Result<Answer<B>, Unanswered<B>> {
        let (response, waited) = self.hear(request, plan).await?;
        let answer = self.answer(response, waited, plan);
        answer.map_err(|failure| Unanswered { failure, unsent: None })
    }

    /// The head of the answer to `request`, and how long it took.
    async fn hear(
        &mut self,
        request: Request<Sending<B>>,
        plan: &Plan,
    ) -> Result<(Response<Incoming>, Duration), Unanswered<B>> {
        let host = self.line.host;
        let refused = |cause| Unanswered {
            failure: Failure::new(Some(host.to_string().into()), cause),
            unsent: None,
        };
        let started = Instant::now();
        self.progress.begin(started);

        let sent = self.line.sender.try_send_request(request);
        let response = match before_overdue(sent, &self.progress, plan.first_byte).await {
            Some(Ok(response)) => response,
            Some(Err(mut error)) => {
                let unsent = error.take_message().map(Box::new);
                let mut failure =
                    Failure::new(Some(host.to_string().into()), Cause::from(error.into_error()));
                if unsent.is_some() {
                    failure.retry = Retry::Safe;
                }
                return Err(Unanswered { failure, unsent });
            }
            None => return Err(refused(Cause::Timeout(plan.first_byte))),
        };
        Ok((response, started.elapsed()))
    }

    /// An answer that may be passed on.
    pub(crate) fn answer(
        self,
        response: Response<Incoming>,
        waited: Duration,
        plan: &Plan,
    ) -> Result<Answer<B>, Failure> {
        let upstream = self.line.host;
        refuse_misplaced(&response).map_err(|misplaced| {
            Failure::new(Some(upstream.to_string().into()), Cause::Misplaced(misplaced))
        })?;
        let response = response.map(|incoming| Body::new(incoming, self, plan.between_bytes));
        Ok(Answer { response, upstream: upstream.to_string().into(), waited })
    }

    pub(crate) const fn host(&self) -> SocketAddr {
        self.line.host
    }

    /// The slot of a connection that hyper is done with.
    pub(crate) fn into_slot(self) -> Option<Slot<B>> {
        self.slot
    }

    /// The answer was read to its end: the connection may carry the next request.
    ///
    /// An upstream that answered before it had the whole request has not read the rest, so that
    /// connection is closed.
    pub(crate) fn give_back(self) {
        let Self { mut line, home, progress, idle, slot } = self;
        if slot.is_some() || !progress.is_sent() || line.sender.is_closed() {
            return;
        }
        line.unused_until.set(Some(Instant::now() + idle));
        if line.sender.is_ready() {
            home.borrow_mut().keep(line);
        } else {
            // Ends at the latest when the driver finds the connection unused for too long.
            spawn_local(async move {
                if line.sender.ready().await.is_ok() {
                    home.borrow_mut().keep(line);
                }
            });
        }
    }
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

/// A copy of a request that may be carried out twice: idempotent (RFC 9110, 9.2.2), without a body.
fn repeatable<B>(request: &Request<Sending<B>>) -> Option<Box<Request<Sending<B>>>>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
    if !idempotent.contains(request.method()) {
        return None;
    }
    let mut copy = Request::new(request.body().repeat()?);
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    Some(Box::new(copy))
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
