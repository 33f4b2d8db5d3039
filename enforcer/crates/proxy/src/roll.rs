//! The connections that one thread serves, and what others ask of them.
//!
//! A thread keeps its roll for itself, so that no request costs a lock or an atomic for it: whoever
//! wants to know something, or wants requests to end, sends an errand to each thread and waits for a
//! bounded time. An errand that finds a thread's queue full, or its thread gone, is told as not done.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use enforcer_model::HttpVersion;
use enforcer_policy::Policy;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::endpoints::Endpoints;
use crate::wire::Pulse;

/// Errands that may wait for one thread.
const ERRANDS_MAX: usize = 16;

/// How long a thread may take with one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The rolls of all threads, from outside.
#[derive(Debug, Default)]
pub struct Rolls(Mutex<Vec<mpsc::Sender<Errand>>>);

/// Connections of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionCount {
    /// Where they came in.
    pub listener: Arc<str>,
    /// What is spoken.
    pub protocol: Spoken,
    /// Those without a request under way.
    pub idle: u64,
    /// Those with one.
    pub active: u64,
    /// Requests under way on them.
    pub requests: u64,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Something else, by way of an upgrade.
    Tunnel,
}

/// What a thread is asked.
#[derive(Debug)]
pub(crate) enum Errand {
    /// How many connections it has.
    Count { reply: oneshot::Sender<Vec<ConnectionCount>> },
    /// To end the requests that the rule with this id is about; how many there were.
    Cut { rule: Arc<str>, reply: oneshot::Sender<u64> },
}

/// The connections of one thread.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    seats: RefCell<BTreeMap<u64, Weak<Seat>>>,
    next: Cell<u64>,
}

/// A connection on the roll.
#[derive(Debug)]
pub(crate) struct Seat {
    listener: Arc<str>,
    spoken: Cell<Spoken>,
    pulse: Rc<Pulse>,
}

/// A place on the roll; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Seated {
    roll: Rc<Roll>,
    number: u64,
    seat: Rc<Seat>,
}

impl Rolls {
    /// How many connections there are, of each kind; and how many threads have not told.
    pub async fn count(&self) -> (Vec<ConnectionCount>, usize) {
        let (counts, silent) = self.ask(|reply| Errand::Count { reply }).await;
        let mut all: Vec<ConnectionCount> = Vec::new();
        for one in counts.into_iter().flatten() {
            add(&mut all, one);
        }
        all.sort_by(|a, b| (&a.listener, a.protocol).cmp(&(&b.listener, b.protocol)));
        (all, silent)
    }

    /// Ends the requests under way that a rule of the endpoints is about; how many, and how many
    /// threads have not answered.
    ///
    /// Publish the rule first: a request meets it, or is found here.
    pub async fn cut(&self, rule: &Arc<str>) -> (u64, usize) {
        let (cut, silent) = self.ask(|reply| Errand::Cut { rule: Arc::clone(rule), reply }).await;
        (cut.into_iter().sum(), silent)
    }

    async fn ask<T>(&self, errand: impl Fn(oneshot::Sender<T>) -> Errand) -> (Vec<T>, usize) {
        let waiting: Vec<_> = {
            let threads = self.0.lock();
            let sent = threads.iter().map(|thread| {
                let (reply, answer) = oneshot::channel();
                // Whoever has no room drops the reply, and is told as silent.
                drop(thread.try_send(errand(reply)));
                answer
            });
            sent.collect()
        };
        let (mut answers, mut silent) = (Vec::new(), 0);
        for answer in waiting {
            match timeout(PATIENCE, answer).await {
                Ok(Ok(told)) => answers.push(told),
                Ok(Err(_)) | Err(_) => silent += 1,
            }
        }
        (answers, silent)
    }

    /// What one thread is to do from here on.
    pub(crate) fn join(&self) -> mpsc::Receiver<Errand> {
        let (errands, waiting) = mpsc::channel(ERRANDS_MAX);
        let mut threads = self.0.lock();
        threads.retain(|thread| !thread.is_closed());
        threads.push(errands);
        waiting
    }
}

impl Roll {
    /// A connection that has come in at `listener`.
    pub(crate) fn seat(
        self: &Rc<Self>,
        listener: &Arc<str>,
        version: HttpVersion,
        pulse: &Rc<Pulse>,
    ) -> Seated {
        let spoken = match version {
            HttpVersion::H1 => Spoken::Http1,
            HttpVersion::H2 => Spoken::Http2,
        };
        let seat = Rc::new(Seat {
            listener: Arc::clone(listener),
            spoken: Cell::new(spoken),
            pulse: Rc::clone(pulse),
        });
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        self.seats.borrow_mut().insert(number, Rc::downgrade(&seat));
        Seated { roll: Rc::clone(self), number, seat }
    }

    /// Does what the thread is asked, as long as anybody can ask.
    pub(crate) async fn attend(
        self: Rc<Self>,
        mut errands: mpsc::Receiver<Errand>,
        endpoints: Arc<Endpoints>,
        policy: Arc<ArcSwap<Policy>>,
    ) {
        while let Some(errand) = errands.recv().await {
            // Whoever asked may be gone.
            match errand {
                Errand::Count { reply } => drop(reply.send(self.count())),
                Errand::Cut { rule, reply } => {
                    reply.send(self.cut(&rule, &endpoints, &policy.load())).unwrap_or_default();
                }
            }
        }
    }

    fn count(&self) -> Vec<ConnectionCount> {
        let mut all = Vec::new();
        for seat in self.seats() {
            let requests = seat.pulse.under_way();
            let is_busy = requests > 0 || seat.spoken.get() == Spoken::Tunnel;
            let one = ConnectionCount {
                listener: Arc::clone(&seat.listener),
                protocol: seat.spoken.get(),
                idle: u64::from(!is_busy),
                active: u64::from(is_busy),
                requests: u64::try_from(requests).unwrap_or(u64::MAX),
            };
            add(&mut all, one);
        }
        all
    }

    fn cut(&self, rule: &str, endpoints: &Endpoints, policy: &Policy) -> u64 {
        let Some(rule) = endpoints.rule(rule) else { return 0 };
        let cut = self
            .seats()
            .into_iter()
            .map(|seat| seat.pulse.withdraw(&|head| rule.scope.means(head, policy)));
        cut.map(|cut| u64::try_from(cut).unwrap_or(u64::MAX)).sum()
    }

    fn seats(&self) -> Vec<Rc<Seat>> {
        self.seats.borrow().values().filter_map(Weak::upgrade).collect()
    }
}

impl Seated {
    /// From here on something else than HTTP is spoken.
    pub(crate) fn tunnels(&self) {
        self.seat.spoken.set(Spoken::Tunnel);
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.roll.seats.borrow_mut().remove(&self.number);
    }
}

fn add(all: &mut Vec<ConnectionCount>, one: ConnectionCount) {
    let same = |known: &&mut ConnectionCount| {
        (&known.listener, known.protocol) == (&one.listener, one.protocol)
    };
    match all.iter_mut().find(same) {
        None => all.push(one),
        Some(known) => {
            known.idle += one.idle;
            known.active += one.active;
            known.requests += one.requests;
        }
    }
}
