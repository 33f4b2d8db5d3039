//! One connection of a client: handshake, requests, end.
//!
//! Each waits on its own clock ([`crate::wire`]), ends when its source is shut out, and when the
//! agent stops finishes what is under way. A panic ends the connection that it happened on, is
//! counted, and harms nobody else.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use enforcer_authz::Networks;
use enforcer_model::{Clock, HttpVersion, Peer, Reason, Rejection};
use enforcer_policy::{Policy, Serves, Timeouts};
use http::header::STRICT_TRANSPORT_SECURITY;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::trace;

use crate::answer::AnswerBody;
use crate::connections::{Registered, Share};
use crate::counters::Counters;
use crate::entry::Origin;
use crate::handshake::{Over, announce, count_crowded, shake};
use crate::pipeline::{Arrival, Engine};
use crate::socket::Socket;
use crate::tls::Trust;
use crate::tunnel::{Agreed, End};
use crate::wire::{Active, Ended, Overdue, Pulse, Turn, Wire};

/// A request's head, with some room above what is refused with a record of its own.
const HEAD_BYTES_MAX: usize = 48 * 1024;
/// Bytes of one connection that are held unread or unsent.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Requests that one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 128;
/// Bytes of names and values in one HTTP/2 head; twice what is refused with a record of its own.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;
/// Streams that a client may reset before they were taken up (CVE-2023-44487, rapid reset).
const PENDING_RESETS_MAX: usize = 32;
/// Streams that a client may make us reset (CVE-2025-8671, made you reset).
const OWN_RESETS_MAX: usize = 128;
/// Bytes of request bodies that one HTTP/2 stream, and one connection, may have in flight.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// A connection on which nothing moves is asked whether it is alive.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// Between the wish to stop and the refusal of new requests on a connection: what a client has
/// sent by then is on its way to us, and is served.
const LAST_CALL: Duration = Duration::from_millis(50);

/// Where a connection came in.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) name: Arc<str>,
    pub(crate) serves: Serves,
}

/// The tokens that end a connection.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// The agent stops: finish what is under way.
    pub(crate) stop: CancellationToken,
    /// The agent has waited long enough.
    pub(crate) hurry: CancellationToken,
    /// This connection is not wanted any more.
    pub(crate) cut: CancellationToken,
}

/// The other end of a connection.
struct Client {
    origin: Origin,
    door: Rc<Door>,
    engine: Rc<Engine>,
    pulse: Rc<Pulse>,
    /// A tunnel whose client has been told of it, or is just being.
    agreed: RefCell<Option<Agreed>>,
    /// An upgrade was asked for, to whatever.
    asked_to_leave: Cell<bool>,
}

/// Runs the streams of one HTTP/2 connection, no longer than the connection.
#[derive(Clone)]
struct Streams {
    counters: Arc<Counters>,
    cut: CancellationToken,
    pulse: Rc<Pulse>,
}

/// Sees a panic pass, counts it, and ends the connection. One for each task.
struct Witness {
    counters: Arc<Counters>,
    cut: CancellationToken,
}

/// Serves one connection to its end, unless there is no place for it or its source is shut out.
///
/// Such a connection is closed before a byte of it is read, and counted; it is not recorded,
/// because nothing was asked.
pub(crate) async fn serve(
    socket: Socket,
    peer: Peer,
    door: Rc<Door>,
    ends: Ends,
    engine: Rc<Engine>,
) {
    let shared = &engine.shared;
    let counters = Arc::clone(&shared.counters);
    let _witness = Witness { counters: Arc::clone(&counters), cut: ends.cut.clone() };
    let source = peer.source();
    let policy = shared.policy.load_full();
    let is_proxy = policy.listener(&door.name).is_some_and(|listener| {
        let of = |proxies: &Networks| proxies.covering(source.address()).is_some();
        of(&listener.trusted) || of(&listener.proxy_protocol)
    });
    // Registered before the look-up: whoever blocks the source finds the connection there, or it
    // finds the block here.
    let (share, cut) = (Share::of(source, is_proxy), ends.cut.clone());
    let registered = shared.connections.register(source, share, cut, policy.connections());
    let registered = match registered {
        Ok(registered) => registered,
        Err(crowded) => return count_crowded(crowded, &counters),
    };
    if shared.quarantine.refuse_source(source, shared.clock.now().wall).is_err() {
        return counters.connections_quarantined.add_one();
    }
    counters.connections.add_one();
    // Whatever way the connection ends, its streams end with it.
    let cut = ends.cut.clone();
    let _streams = cut.clone().drop_guard();
    let origin = Origin::of(peer, &door.name);
    cut.run_until_cancelled(meet(socket, origin, door, ends, registered, policy, engine)).await;
}

/// Learns whom the connection is from, shakes hands, where that is due, and serves. Each kind of
/// connection has a box of its own size.
async fn meet(
    mut socket: Socket,
    mut origin: Origin,
    door: Rc<Door>,
    ends: Ends,
    mut registered: Registered,
    policy: Arc<Policy>,
    engine: Rc<Engine>,
) {
    // A connection keeps the time-outs under which it was made; its requests follow the policy.
    let timeouts = *policy.timeouts();
    let shared = &engine.shared;
    let announced = announce(&mut socket, &mut origin, &mut registered, &policy, shared).await;
    if let Err(Over) = announced {
        return;
    }
    if !matches!(door.serves, Serves::Tls(_)) {
        drop(policy);
        return Box::pin(http1(socket, origin, None, door, ends, timeouts, engine)).await;
    }
    let shaken = Box::pin(shake(socket, &mut origin, &registered, policy, shared)).await;
    let Ok((stream, trust)) = shaken else { return };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        origin.http = HttpVersion::H2;
        Box::pin(http2(stream, origin, trust, door, ends, timeouts, engine)).await;
    } else {
        Box::pin(http1(stream, origin, trust, door, ends, timeouts, engine)).await;
    }
}

async fn http1<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    origin: Origin,
    trust: Option<Trust>,
    door: Rc<Door>,
    ends: Ends,
    timeouts: Timeouts,
    engine: Rc<Engine>,
) {
    let pulse = Pulse::http1();
    let wire = TokioIo::new(Wire::new(stream, Rc::clone(&pulse)));
    let client = Client::new(origin, door, engine, pulse);
    let mut distrusted = pin!(distrusted(trust, &*client.engine.shared.clock));
    let mut connection = http1::Builder::new()
        // A client may say that it has nothing more to ask and still wait for the answer
        // (RFC 9112, 9.6). One that is gone is noticed when the answer is written.
        .half_close(true)
        // It would also run between requests; the pulse tells the two apart.
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(wire, service_fn(|request| client.answer(request, client.pulse.begin())));
    let finish = http1::Connection::graceful_shutdown;
    loop {
        let working = Pin::new(&mut connection);
        match drive(working, finish, &client, &ends, distrusted.as_mut(), &timeouts).await {
            Some(Ok(())) => {}
            Some(Err(error)) if error.is_parse() => return client.record_unread(error),
            Some(Err(_)) | None => return,
        }
        let agreed = client.agreed.take();
        if let Some(agreed) = agreed {
            let parts = connection.into_parts();
            let stream = parts.io.into_inner().into_inner();
            // Few connections become tunnels; the others keep no room for one.
            let early = &parts.read_buf;
            let carried = client.carry(agreed, stream, early, &ends, &timeouts, distrusted);
            return Box::pin(carried).await;
        }
        // hyper leaves a connection open on which an upgrade was asked for. Where none was agreed
        // to, it is asked once more, and closes it.
        if !client.asked_to_leave.take() {
            return;
        }
    }
}

async fn http2<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    origin: Origin,
    trust: Option<Trust>,
    door: Rc<Door>,
    ends: Ends,
    timeouts: Timeouts,
    engine: Rc<Engine>,
) {
    let pulse = Pulse::http2();
    let wire = TokioIo::new(Wire::new(stream, Rc::clone(&pulse)));
    let streams = Streams {
        cut: ends.cut.clone(),
        counters: Arc::clone(&engine.shared.counters),
        pulse: Rc::clone(&pulse),
    };
    let client = Rc::new(Client::new(origin, door, engine, pulse));
    let mut distrusted = pin!(distrusted(trust, &*client.engine.shared.clock));
    let service = {
        let client = Rc::clone(&client);
        service_fn(move |request| {
            let client = Rc::clone(&client);
            // Before hyper has the stream executed, which looks for it.
            let begun = client.pulse.begin();
            async move { client.answer(request, begun).await }
        })
    };
    let connection = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_local_error_reset_streams(OWN_RESETS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_send_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(wire, service);
    let connection = pin!(connection);
    let finish = http2::Connection::graceful_shutdown;
    let distrusted = distrusted.as_mut();
    if let Some(Err(error)) = drive(connection, finish, &client, &ends, distrusted, &timeouts).await
    {
        trace!(%error, "connection ended");
    }
}

/// Ends when the client's certificate is not good any more; never without one.
async fn distrusted(trust: Option<Trust>, clock: &dyn Clock) {
    let Some(mut trust) = trust else { return std::future::pending().await };
    while trust.next_look(clock).await.is_ok() {}
}

/// Moves bytes until the connection ends; none when it is overdue, or no longer wanted.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    finish: fn(Pin<&mut C>),
    client: &Client,
    ends: &Ends,
    mut distrusted: Pin<&mut impl Future<Output = ()>>,
    timeouts: &Timeouts,
) -> Option<hyper::Result<()>> {
    let pulse = &client.pulse;
    let counters = &client.engine.shared.counters;
    let look_again = Pulse::look_again(timeouts);
    let mut alarm = pin!(sleep(look_again));
    let mut last_call = pin!(async {
        ends.stop.cancelled().await;
        sleep(LAST_CALL).await;
    });
    let mut finishing = false;
    loop {
        tokio::select! {
            biased;
            // Before the connection: no request that came after a reload is served by what held
            // before it.
            () = &mut distrusted => {
                counters.certificates_refused.add_one();
                pulse.end(Ended::Distrusted);
                return None;
            }
            ended = &mut connection => return Some(ended),
            () = poll_fn(|_| pulse.poll_cut_off()) => return None,
            () = &mut last_call, if !finishing => {
                finishing = true;
                finish(connection.as_mut());
            }
            () = ends.hurry.cancelled() => {
                pulse.end(Ended::ShutDown);
                return None;
            }
            () = &mut alarm => {
                let now = Instant::now();
                let next = now + look_again;
                match pulse.deadline(timeouts) {
                    Some((end, overdue)) if end <= now => match overdue {
                        Overdue::Idle if !finishing => {
                            finishing = true;
                            finish(connection.as_mut());
                            alarm.as_mut().reset(now + LAST_CALL);
                        }
                        Overdue::Idle => return None,
                        Overdue::Head => {
                            counters.heads_too_slow.add_one();
                            return None;
                        }
                        Overdue::Stalled => {
                            counters.connections_stalled.add_one();
                            pulse.end(Ended::Stalled(timeouts.idle));
                            return None;
                        }
                    },
                    Some((end, _)) => alarm.as_mut().reset(end.min(next)),
                    None => alarm.as_mut().reset(next),
                }
            }
        }
    }
}

impl Client {
    fn new(origin: Origin, door: Rc<Door>, engine: Rc<Engine>, pulse: Rc<Pulse>) -> Self {
        let (agreed, asked_to_leave) = (RefCell::default(), Cell::default());
        Self { origin, door, engine, pulse, agreed, asked_to_leave }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        (active, framing): (Active, Result<(), Rejection>),
    ) -> Result<Response<AnswerBody>, Infallible> {
        self.asked_to_leave.set(request.extensions().get::<OnUpgrade>().is_some());
        let (origin, serves) = (&self.origin, &self.door.serves);
        let arrival = Arrival { origin, serves, framing };
        let mut response = self.engine.answer(request, arrival, active).await;
        if let Some(hsts) = &origin.hsts {
            // Ours wins over what an upstream says of a name that we answer for.
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        let agreed = response.body_mut().take_tunnel();
        if agreed.is_some() {
            *self.agreed.borrow_mut() = agreed;
        }
        Ok(response)
    }

    /// Speaks another protocol to the end of the connection.
    async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        agreed: Agreed,
        stream: S,
        early: &Bytes,
        ends: &Ends,
        timeouts: &Timeouts,
        distrusted: Pin<&mut impl Future<Output = ()>>,
    ) {
        let counters = &self.engine.shared.counters;
        counters.tunnels.add_one();
        let (end, mut entry) = agreed.carry(stream, early, timeouts.idle, ends, distrusted).await;
        match end {
            End::Over => {}
            End::Cut(rejection) => entry.refused(&rejection),
            End::Hurry => return self.pulse.end(Ended::ShutDown),
            End::Distrusted => {
                counters.certificates_refused.add_one();
                return self.pulse.end(Ended::Distrusted);
            }
        }
        drop(entry.close());
    }

    /// hyper has answered a head that it could not read, and ended the connection.
    fn record_unread(&self, error: hyper::Error) {
        let reason = match error.is_parse_too_large() {
            true => Reason::HeadersTooLarge,
            false => Reason::HeaderMalformed,
        };
        let known = self.pulse.refuse_unread();
        let rejection = known.err().unwrap_or_else(|| reason.because(error));
        self.engine.refuse_unread(&self.origin, &rejection);
    }
}

impl<F: Future + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let Self { counters, cut, pulse } = self.clone();
        // hyper calls the service and has its stream executed in one breath.
        let turn = pulse.newest();
        // Whatever wraps a future by value makes room for it once more.
        let stream = Box::pin(stream);
        spawn_local(async move {
            let _witness = Witness { counters, cut: cut.clone() };
            cut.run_until_cancelled(unless_cut_off(stream, turn)).await;
        });
    }
}

/// Works on a stream to its end, or until nobody may have any more of an answer that its client does
/// not take: dropped, it is reset. hyper would not look at it before the client takes some.
async fn unless_cut_off(mut stream: Pin<Box<impl Future>>, turn: Option<Rc<Turn>>) {
    let is_cut_off = || turn.as_ref().is_some_and(|turn| turn.cut_off().is_some());
    poll_fn(|cx| match stream.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending if is_cut_off() => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
    })
    .await;
}

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.counters.panics.add_one();
            self.cut.cancel();
        }
    }
}
