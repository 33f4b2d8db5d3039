//! HTTP on one connection: its requests, its clocks, and how it ends.
//!
//! hyper reads and writes; what it may read is decided by [`crate::wire`]. A connection ends when a
//! clock runs out or its client floods it, and is asked to close when it is old or has served enough:
//! by `Connection: close` behind a request, or by GOAWAY, so that no request is lost. A panic ends
//! its request, is counted, and harms nobody else.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use enforcer_model::{HttpVersion, Reason, Rejection};
use enforcer_policy::{ConnectionsPlan, Timeouts};
use http::header::{CONNECTION, STRICT_TRANSPORT_SECURITY};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::spawn_local;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tracing::trace;

use crate::answer::AnswerBody;
use crate::aside::Aside;
use crate::connection::{Door, Ends, Witness, distrusted};
use crate::counters::Counters;
use crate::entry::Origin;
use crate::framing::HEAD_BYTES_MAX;
use crate::pipeline::{Arrival, Engine};
use crate::problem::on_the_wire;
use crate::roll::Seated;
use crate::tls::Trust;
use crate::tunnel::{Agreed, End};
use crate::turn::Turn;
use crate::wire::{Active, Ended, Overdue, Pulse, Wire, Wish};

/// Bytes of one connection that are held unread or unsent.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Requests that one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 128;
/// Bytes of names and values in one HTTP/2 head; twice what is refused with a record of its own.
const HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;
/// Streams that a client may reset before they were taken up (CVE-2023-44487, rapid reset).
const PENDING_RESETS_MAX: usize = 32;
/// Streams that a client may make us reset in the life of a connection; [`crate::floods`] bounds how
/// fast (CVE-2025-8671, made you reset).
const OWN_RESETS_MAX: usize = 1_024;
/// Bytes of request bodies that one HTTP/2 stream, and one connection, may have in flight.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// A connection on which nothing moves is asked whether it is alive.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// Between the wish to stop and the refusal of new requests on a connection: what a client has
/// sent by then is on its way to us, and is served.
const LAST_CALL: Duration = Duration::from_millis(50);

/// A client whose last request was refused unread is given so long, and so many bytes, to take the
/// answer: whoever closes at once takes it back.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// The other end of a connection.
struct Client {
    origin: Origin,
    door: Rc<Door>,
    engine: Rc<Engine>,
    pulse: Rc<Pulse>,
    seated: Seated,
    plan: ConnectionsPlan,
    /// The connection is old, or the agent stops: its next answer says that it is the last one.
    leaving: Cell<bool>,
    /// A tunnel whose client has been told of it, or is just being.
    agreed: RefCell<Option<Agreed>>,
    /// An upgrade was asked for, to whatever.
    asked_to_leave: Cell<bool>,
}

/// What happens to a connection from elsewhere.
enum Event {
    /// Its client's certificate is not good any more.
    Distrusted,
    /// The agent has waited long enough.
    Hurry,
    /// The agent stops, and what was sent by then has arrived.
    LastCall,
}

/// Runs the streams of one HTTP/2 connection, no longer than the connection.
#[derive(Clone)]
struct Streams {
    counters: Arc<Counters>,
    ends: Ends,
    pulse: Rc<Pulse>,
}

pub(crate) async fn http1<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    origin: Origin,
    trust: Option<Trust>,
    door: Rc<Door>,
    ends: Ends,
    timeouts: Timeouts,
    engine: Rc<Engine>,
) {
    let pulse = Pulse::http1(&timeouts);
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
        .serve_connection(
            wire,
            // hyper keeps room for the future of a request as long as the connection lives; in a box
            // of its own it takes none while nothing is asked.
            service_fn(|request| Box::pin(client.answer(request, client.pulse.begin()))),
        );
    let finish = http1::Connection::graceful_shutdown;
    loop {
        let working = Pin::new(&mut connection);
        let ended = drive(working, finish, &client, &ends, distrusted.as_mut(), &timeouts).await;
        if let (Some(_), Err(unsound)) = (&ended, client.pulse.refuse_unsound()) {
            let stream = connection.into_parts().io.into_inner().into_inner();
            return Box::pin(client.refuse_unsound(stream, &unsound)).await;
        }
        match ended {
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
            let mut carried =
                Box::pin(client.carry(agreed, stream, early, &ends, &timeouts, distrusted));
            return poll_fn(|cx| match carried.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => client.pulse.poll_withdrawn(cx),
            })
            .await;
        }
        // hyper leaves a connection open on which an upgrade was asked for. Where none was agreed
        // to, it is asked once more, and closes it.
        if !client.asked_to_leave.take() {
            return;
        }
    }
}

pub(crate) async fn http2<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    origin: Origin,
    trust: Option<Trust>,
    door: Rc<Door>,
    ends: Ends,
    timeouts: Timeouts,
    engine: Rc<Engine>,
) {
    let pulse = Pulse::http2(&timeouts);
    let wire = TokioIo::new(Wire::new(stream, Rc::clone(&pulse)));
    let streams = Streams {
        ends: ends.clone(),
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
    if let Err(flood) = client.pulse.refuse_unsound() {
        // Before its streams are dropped, whose records say why.
        client.pulse.end(Ended::Flooded);
        client.engine.refuse_unread(&client.origin, &flood);
    }
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
    let mut alarm = pin!(sleep_until(client.look_again(timeouts)));
    let mut last_call = pin!(async {
        ends.stop.cancelled().await;
        client.leaving.set(true);
        // Somebody else serves: whoever asks once more is answered and sent there, and to close what
        // is idle would only hit those who are just about to ask.
        if client.origin.http == HttpVersion::H1
            && client.engine.shared.connections.is_handed_over()
        {
            std::future::pending::<()>().await;
        }
        sleep(LAST_CALL).await;
    });
    let mut hurry = pin!(ends.hurry.cancelled());
    let mut called = false;
    let mut events = Aside::new(poll_fn(|cx| {
        if distrusted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Distrusted);
        }
        if hurry.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Hurry);
        }
        if !called && last_call.as_mut().poll(cx).is_ready() {
            called = true;
            return Poll::Ready(Event::LastCall);
        }
        Poll::Pending
    }));
    let mut finishing = false;
    let is_http1 = client.origin.http == HttpVersion::H1;
    loop {
        let due = alarm.deadline();
        tokio::select! {
            biased;
            // Before the connection: no request that came after a reload is served by what held
            // before it.
            event = &mut events => match event {
                Event::Distrusted => {
                    counters.certificates_refused.add_one();
                    pulse.end(Ended::Distrusted);
                    return None;
                }
                Event::Hurry => {
                    pulse.end(Ended::ShutDown);
                    return None;
                }
                Event::LastCall if finishing => {}
                Event::LastCall => {
                    finishing = true;
                    finish(connection.as_mut());
                }
            },
            ended = &mut connection => return Some(ended),
            () = poll_fn(|cx| pulse.poll_withdrawn(cx)), if is_http1 => return None,
            wish = poll_fn(|_| pulse.poll_wish(&client.plan, due, finishing)) => match wish {
                Wish::End => return None,
                Wish::Finish => {
                    finishing = true;
                    finish(connection.as_mut());
                }
                Wish::Look(sooner) => alarm.as_mut().reset(sooner),
            },
            () = &mut alarm => {
                let now = Instant::now();
                let next = client.look_again(timeouts);
                if pulse.old_at(&client.plan) <= now && !client.leaving.replace(true) {
                    // HTTP/1 is told with an answer, so that no request crosses the end.
                    if client.origin.http == HttpVersion::H2 && !finishing {
                        finishing = true;
                        finish(connection.as_mut());
                    }
                }
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
                        Overdue::Slow => {
                            counters.connections_slow.add_one();
                            pulse.end(Ended::Slow(timeouts.answer_rate));
                            return None;
                        }
                        Overdue::Total(total) => {
                            pulse.end(Ended::TooLong(total));
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
        let plan = *engine.shared.policy.load().connections();
        let (agreed, leaving, asked_to_leave) =
            (RefCell::default(), Cell::default(), Cell::default());
        let seated = engine.roll.seat(&origin.listener, origin.http, &pulse);
        Self { origin, door, engine, pulse, seated, plan, leaving, agreed, asked_to_leave }
    }

    /// When the clocks are worth another look, if nothing happens before.
    fn look_again(&self, timeouts: &Timeouts) -> Instant {
        let next = Instant::now() + Pulse::look_again(timeouts);
        if self.leaving.get() { next } else { next.min(self.pulse.old_at(&self.plan)) }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        active: Active,
    ) -> Result<Response<AnswerBody>, Infallible> {
        self.asked_to_leave.set(request.extensions().get::<OnUpgrade>().is_some());
        let (origin, serves) = (&self.origin, &self.door.serves);
        let arrival = Arrival { origin, serves, hops: Ok(()) };
        let mut response = self.engine.answer(request, arrival, active).await;
        if let Some(hsts) = &origin.hsts {
            // Ours wins over what an upstream says of a name that we answer for.
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        let agreed = response.body_mut().take_tunnel();
        if agreed.is_some() {
            *self.agreed.borrow_mut() = agreed;
        } else if origin.http == HttpVersion::H1
            && (self.leaving.get() || self.pulse.is_spent(&self.plan))
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
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
        self.seated.tunnels();
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
        self.engine.refuse_unread(&self.origin, &reason.because(error));
    }

    /// Answers what hyper was not let read, and hangs up.
    async fn refuse_unsound<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        unsound: &Rejection,
    ) {
        let answer = self.engine.refuse_unread(&self.origin, unsound);
        let saying = async {
            stream.write_all(&on_the_wire(&answer)).await?;
            stream.shutdown().await?;
            let mut rest = (&mut stream).take(u64::try_from(LINGER_BYTES_MAX).unwrap_or(0));
            tokio::io::copy_buf(
                &mut tokio::io::BufReader::with_capacity(4_096, &mut rest),
                &mut tokio::io::sink(),
            )
            .await
        };
        // It was told, or it has gone.
        let _told = timeout(LINGER, saying).await;
    }
}

impl<F: Future + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let Self { counters, ends, pulse } = self.clone();
        // hyper calls the service and has its stream executed in one breath.
        let turn = pulse.newest();
        // Whatever wraps a future by value makes room for it once more.
        let stream = Box::pin(stream);
        spawn_local(async move {
            let _witness = Witness::of_stream(counters);
            ends.cut.run_until_cancelled(unless_cut_off(stream, turn)).await;
        });
    }
}

/// Works on a stream to its end, or until nobody may have any more of an answer that its client does
/// not take, or that takes too long: dropped, it is reset. hyper would not look at it before the
/// client takes some.
async fn unless_cut_off(mut stream: Pin<Box<impl Future>>, turn: Option<Rc<Turn>>) {
    let mut alarm: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(turn) = &turn else { return Poll::Pending };
        if turn.cut_off().is_some() || turn.poll_withdrawn(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(end) = turn.deadline() else { return Poll::Pending };
        alarm.get_or_insert_with(|| Box::pin(sleep_until(end))).as_mut().poll(cx)
    })
    .await;
}
