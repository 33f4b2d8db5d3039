//! The requests under way, by who sent them, and the way to cut them.
//!
//! Every request with a caller is here from the moment that the caller is known to the last byte of
//! its answer, so that a key, a token or a subject can be shut out in the middle of a download, of
//! an HTTP/2 stream or of a tunnel, without harm to others on the same connection.
//!
//! Shut the caller out first, then cut. A request enters before it is asked whether its caller is
//! shut out, and both sides pass the lock of one bucket: either the cut finds the request here, or
//! the request, which came to the lock later, finds its caller shut out.
//!
//! A request of a key lies in a row that its key names, so that one key is found without a walk
//! through everybody's; every other lies in any. Each thread has a lane of its own, so that no
//! thread waits for another. What is here hangs on an open connection, so that connections times
//! streams bound it; it costs a few hundred bytes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use enforcer_authn::Identity;
use enforcer_model::{Fingerprint, KeyId, Reason, Rejection, Source};
use parking_lot::Mutex;

/// Few enough to walk through all of them, together with [`LANES`].
const ROWS: usize = 128;
/// As many threads as have one to themselves.
const LANES: usize = 8;

/// The requests under way, of all threads: rows of one bucket for each lane.
pub(crate) struct UnderWay(Box<[[Arc<Bucket>; LANES]]>);

/// A cache line apart, for the sake of the lanes.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket(Mutex<Vec<Arc<Ticket>>>);

/// One request under way and its caller; dropping it says that the request is over.
pub(crate) struct InFlight {
    bucket: Arc<Bucket>,
    ticket: Arc<Ticket>,
}

/// Whether a request was cut, for whoever does not hold the request.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Arc<Ticket>);

/// The caller of a request was shut out while the request was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the caller was shut out while the request was under way")]
pub(crate) struct Cut;

#[derive(Debug)]
struct Ticket {
    caller: Identity,
    /// Whom a proxy named as the source; its connection is the proxy's and carries others.
    named: Option<Source>,
    /// What the caller showed with this request.
    credential: Option<Fingerprint>,
    /// Where in the bucket; changes under the bucket's lock only.
    place: AtomicUsize,
    is_cut: AtomicBool,
    ending: Mutex<Ending>,
}

#[derive(Debug, Default)]
struct Ending {
    /// Set once.
    why: Option<Reason>,
    /// Of the one task that works on the request.
    waker: Option<Waker>,
}

thread_local! {
    static LANE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

impl Default for UnderWay {
    fn default() -> Self {
        Self((0..ROWS).map(|_| std::array::from_fn(|_| Arc::default())).collect())
    }
}

impl UnderWay {
    /// A request of `caller`, who showed `credential`, is under way from here on; from `named`, where a
    /// proxy says so.
    pub(crate) fn enter(
        &self,
        caller: Identity,
        named: Option<Source>,
        credential: Option<Fingerprint>,
    ) -> InFlight {
        let key = caller.key_id();
        let (place, is_cut, ending) =
            (AtomicUsize::new(0), AtomicBool::new(false), Mutex::default());
        let ticket = Arc::new(Ticket { caller, named, credential, place, is_cut, ending });
        let row = match key {
            Some(key) => row_of(key),
            // Where the allocator put it is as good as drawn, and costs nothing.
            None => Arc::as_ptr(&ticket).addr() >> 6,
        };
        let bucket = Arc::clone(self.bucket(row, LANE.with(|lane| *lane)));
        bucket.add(&ticket);
        InFlight { bucket, ticket }
    }

    /// Cuts the requests of every caller that `hit` names; how many.
    pub(crate) fn cut_where(&self, why: Reason, hit: &dyn Fn(&Identity) -> bool) -> usize {
        let hit = |ticket: &Ticket| hit(&ticket.caller);
        self.0.iter().flatten().map(|bucket| bucket.cut(why, &hit)).sum()
    }

    /// Cuts the requests of every source that a proxy named and that `hit` says; how many.
    pub(crate) fn cut_named(&self, why: Reason, hit: &dyn Fn(Source) -> bool) -> usize {
        let hit = |ticket: &Ticket| ticket.named.is_some_and(hit);
        self.0.iter().flatten().map(|bucket| bucket.cut(why, &hit)).sum()
    }

    /// Cuts the requests that came with one credential; how many.
    pub(crate) fn cut_credential(&self, why: Reason, credential: Fingerprint) -> usize {
        let hit = |ticket: &Ticket| ticket.credential == Some(credential);
        self.0.iter().flatten().map(|bucket| bucket.cut(why, &hit)).sum()
    }

    /// Cuts the requests of one key; how many.
    pub(crate) fn cut_key(&self, key: KeyId, why: Reason) -> usize {
        let row = (0..LANES).map(|lane| self.bucket(row_of(key), lane));
        row.map(|bucket| bucket.cut(why, &|ticket| ticket.caller.key_id() == Some(key))).sum()
    }

    #[expect(clippy::indexing_slicing, reason = "both places are taken modulo the length")]
    fn bucket(&self, row: usize, lane: usize) -> &Arc<Bucket> {
        &self.0[row % ROWS][lane % LANES]
    }
}

/// Ids are random, and only those of good keys come here: nobody chooses his neighbours.
fn row_of(key: KeyId) -> usize {
    let fold = |sum: usize, byte: &u8| sum.wrapping_mul(31).wrapping_add(usize::from(*byte));
    key.as_str().as_bytes().iter().fold(0, fold)
}

impl Bucket {
    fn add(&self, ticket: &Arc<Ticket>) {
        let mut tickets = self.0.lock();
        ticket.place.store(tickets.len(), Ordering::Relaxed);
        tickets.push(Arc::clone(ticket));
    }

    fn remove(&self, ticket: &Ticket) {
        let mut tickets = self.0.lock();
        let place = ticket.place.load(Ordering::Relaxed);
        if place < tickets.len() {
            drop(tickets.swap_remove(place));
            if let Some(moved) = tickets.get(place) {
                moved.place.store(place, Ordering::Relaxed);
            }
        }
    }

    fn cut(&self, why: Reason, hit: &dyn Fn(&Ticket) -> bool) -> usize {
        let tickets = self.0.lock();
        tickets.iter().filter(|ticket| hit(ticket) && ticket.cut(why)).count()
    }
}

impl Ticket {
    /// Whether this was the cut.
    fn cut(&self, why: Reason) -> bool {
        let mut ending = self.ending.lock();
        if ending.why.is_some() {
            return false;
        }
        ending.why = Some(why);
        self.is_cut.store(true, Ordering::Release);
        if let Some(waker) = ending.waker.take() {
            waker.wake();
        }
        true
    }

    fn why(&self) -> Option<Reason> {
        // The lock is only worth its price once there is something behind it.
        self.is_cut.load(Ordering::Acquire).then(|| self.ending.lock().why).flatten()
    }
}

impl InFlight {
    /// Who sent the request.
    pub(crate) fn caller(&self) -> &Identity {
        &self.ticket.caller
    }

    /// For whoever watches the connection.
    pub(crate) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.ticket))
    }

    /// Refuses to go on with a request that was cut.
    pub(crate) fn refuse_cut(&self) -> Result<(), Rejection> {
        self.ticket.why().map_or(Ok(()), |why| Err(why.because(Cut)))
    }

    /// Ready once the request is cut. One task waits for it, the last that asked.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<Rejection> {
        let mut ending = self.ticket.ending.lock();
        if let Some(why) = ending.why {
            return Poll::Ready(why.because(Cut));
        }
        if !ending.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            ending.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Watch {
    /// Why the request was cut, if it was.
    pub(crate) fn why(&self) -> Option<Reason> {
        self.0.why()
    }
}

/// Does `work`, unless the caller is shut out before it is done.
pub(crate) async fn unless_cut<T>(
    in_flight: Option<&InFlight>,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Rejection> {
    let Some(in_flight) = in_flight else { return Ok(work.await) };
    poll_fn(|cx| {
        if let Err(rejection) = in_flight.refuse_cut() {
            return Poll::Ready(Err(rejection));
        }
        match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => in_flight.poll_cut(cx).map(Err),
        }
    })
    .await
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.bucket.remove(&self.ticket);
    }
}

impl std::fmt::Debug for UnderWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnderWay").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InFlight").field(&self.ticket.caller.principal()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use std::sync::Barrier;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    use enforcer_authn::Certificate;
    use enforcer_model::Thumbprint;

    use super::*;

    #[test]
    fn a_caller_is_cut_and_later_requests_of_it_are_counted_anew() {
        let all = UnderWay::default();
        let (one, two, other) = (
            all.enter(caller(1), None, None),
            all.enter(caller(1), None, None),
            all.enter(caller(2), None, None),
        );

        assert_eq!(all.cut_where(Reason::TokenRevoked, &is(1)), 2);
        assert_eq!(one.refuse_cut().unwrap_err().reason, Reason::TokenRevoked);
        assert_eq!(two.watch().why(), Some(Reason::TokenRevoked));
        assert!(other.refuse_cut().is_ok());

        let later = all.enter(caller(1), None, None);
        assert!(later.refuse_cut().is_ok());
        assert_eq!(all.cut_where(Reason::Quarantined, &is(1)), 1, "what was cut is not cut again");
        assert_eq!(one.watch().why(), Some(Reason::TokenRevoked), "and keeps its reason");
    }

    #[test]
    fn a_credential_is_cut_and_another_one_of_the_same_caller_is_not() {
        let all = UnderWay::default();
        let shown = |byte| Some(Fingerprint([byte; 16]));
        let (old, new, none) = (
            all.enter(caller(1), None, shown(1)),
            all.enter(caller(1), None, shown(2)),
            all.enter(caller(1), None, None),
        );

        assert_eq!(all.cut_credential(Reason::Quarantined, Fingerprint([1; 16])), 1);

        assert!(old.refuse_cut().is_err());
        assert!(new.refuse_cut().is_ok() && none.refuse_cut().is_ok());
    }

    #[test]
    fn whoever_leaves_is_gone_and_the_others_stay_whatever_the_order() {
        let all = UnderWay::default();
        let mut inside: Vec<_> = (0..200_u8).map(|n| all.enter(caller(n), None, None)).collect();
        for step in [7, 3, 2, 1] {
            let mut at = 0;
            inside.retain(|_| {
                at += 1;
                at % step != 0 || step == 1
            });
            assert_eq!(count(&all), inside.len());
        }

        drop(inside);

        assert_eq!(count(&all), 0);
    }

    #[tokio::test]
    async fn work_ends_when_its_caller_is_cut_and_not_before() {
        let all = UnderWay::default();
        let in_flight = all.enter(caller(1), None, None);
        assert_eq!(unless_cut(Some(&in_flight), pin!(async { 7 })).await.unwrap(), 7);
        assert_eq!(unless_cut(None, pin!(async { 7 })).await.unwrap(), 7);

        let never = pin!(std::future::pending::<()>());
        let waits = unless_cut(Some(&in_flight), never);
        let cuts = async {
            tokio::task::yield_now().await;
            all.cut_where(Reason::KeyRevoked, &|_| true)
        };
        let (ended, cut) = tokio::join!(waits, cuts);

        assert_eq!((ended.unwrap_err().reason, cut), (Reason::KeyRevoked, 1));
        assert!(unless_cut(Some(&in_flight), pin!(async { 7 })).await.is_err(), "nor later");
    }

    #[test]
    fn no_request_slips_between_the_look_up_and_the_cut() {
        const ROUNDS: u64 = 2_000;
        let all = UnderWay::default();
        // In round N, callers are shut out by writing N; a request of round N looks that up.
        let shut_out = AtomicU64::new(0);
        let slipped = AtomicU64::new(0);
        let start = Barrier::new(3);

        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for round in 1..=ROUNDS {
                        start.wait();
                        let in_flight = all.enter(caller(1), None, None);
                        let served = shut_out.load(Ordering::Relaxed) < round;
                        start.wait();
                        // By now the cut has returned.
                        if served && in_flight.refuse_cut().is_ok() {
                            slipped.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for round in 1..=ROUNDS {
                start.wait();
                shut_out.store(round, Ordering::Relaxed);
                all.cut_where(Reason::Quarantined, &is(1));
                start.wait();
            }
        });

        assert_eq!(slipped.load(Ordering::Relaxed), 0);
    }

    fn caller(number: u8) -> Identity {
        Identity::from_certificate(&Arc::new(Certificate {
            thumbprint: Thumbprint([number; 32]),
            spiffe: None,
            names: Box::default(),
        }))
    }

    fn is(number: u8) -> impl Fn(&Identity) -> bool {
        move |caller| {
            caller.certificate().is_some_and(|held| held.thumbprint == Thumbprint([number; 32]))
        }
    }

    fn count(all: &UnderWay) -> usize {
        all.0.iter().flatten().map(|bucket| bucket.0.lock().len()).sum()
    }
}
