//! What all threads know of the upstreams, and the one who looks after them.

mod breaker;
mod control;
mod keeper;
mod member;
mod names;
mod roster;
mod upstream;
mod view;
mod window;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

pub(crate) use breaker::Admitted;
pub(crate) use member::{Member, Place, hash};
pub(crate) use roster::{Chance, Roster};
pub(crate) use upstream::{Upstream, Went};
pub use view::{
    BreakerState, Event, Few, Happening, HostView, Meant, NotFound, State, UpstreamView, Why, Wish,
};

use self::names::Names;
use self::upstream::Teller;
use crate::plan::Plan;

/// Events that may wait to be told; more are counted and not told.
const EVENTS_MAX: usize = 1_024;

/// What all threads know of the upstreams.
pub struct Fleet {
    upstreams: ArcSwap<Vec<Arc<Upstream>>>,
    /// One change at a time.
    changes: Mutex<()>,
    names: Names,
    teller: Teller,
    untold: Mutex<Option<mpsc::Receiver<Event>>>,
}

/// What is known of the upstream of a [`Plan`].
#[derive(Default)]
pub struct Link(OnceLock<Arc<Upstream>>);

impl Fleet {
    /// One that knows of nothing.
    pub fn new() -> Self {
        let (told, untold) = mpsc::channel(EVENTS_MAX);
        let (lost, wake) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        // The clock of timers, which tests may stop.
        let epoch = tokio::time::Instant::now().into_std();
        Self {
            upstreams: ArcSwap::default(),
            changes: Mutex::new(()),
            names: Names::default(),
            teller: Teller { epoch, told, lost, wake },
            untold: Mutex::new(Some(untold)),
        }
    }

    /// From here on the upstreams are these; what is known of hosts that stay is kept.
    pub fn apply(&self, plans: &[Arc<Plan>], now: Instant) {
        let _one_at_a_time = self.changes.lock();
        let before = self.upstreams.load_full();
        let mut after: Vec<Arc<Upstream>> = Vec::with_capacity(plans.len());
        self.names.retain(plans, now);
        for plan in plans {
            let known = before.iter().find(|upstream| upstream.name == plan.name);
            let upstream = plan.link.0.get().or(known).map(Arc::clone);
            let upstream = match upstream {
                Some(upstream) => upstream,
                None => Arc::new(Upstream::new(plan, usize::MAX, self.teller.clone())),
            };
            // What is linked already was a plan before, and comes back.
            drop(plan.link.0.set(Arc::clone(&upstream)));
            after.push(upstream);
        }
        for (plan, upstream) in plans.iter().zip(&after) {
            if !before.iter().any(|old| Arc::ptr_eq(old, upstream)) {
                let taken = |slot| {
                    let holds = |other: &&Arc<Upstream>| {
                        !Arc::ptr_eq(other, upstream) && other.slot.load(Relaxed) == slot
                    };
                    after.iter().any(|other| holds(&other))
                };
                let slot = (0..=after.len()).find(|slot| !taken(*slot)).unwrap_or(after.len());
                upstream.slot.store(slot, Relaxed);
            }
            self.set(plan, upstream, now);
        }
        self.upstreams.store(Arc::new(after));
        self.teller.wake.notify_one();
    }

    fn set(&self, plan: &Arc<Plan>, upstream: &Upstream, now: Instant) {
        let resolved = |host: &str, port| self.names.addresses(host, port);
        upstream.control.lock().apply(plan, resolved, upstream, self.teller.ms(now));
    }

    /// What is known of the upstream of `plan`; one that was never applied is met here.
    pub(crate) fn of<'p>(&self, plan: &'p Plan, now: Instant) -> &'p Arc<Upstream> {
        if let Some(known) = plan.link.0.get() {
            return known;
        }
        let _one_at_a_time = self.changes.lock();
        plan.link.0.get_or_init(|| {
            let list = self.upstreams.load_full();
            let own = Arc::new(plan.clone());
            let known = list.iter().find(|upstream| upstream.name == plan.name).map(Arc::clone);
            let upstream = known.unwrap_or_else(|| {
                let slots =
                    list.iter().map(|upstream| upstream.slot.load(Relaxed).saturating_add(1));
                let slot = slots.max().unwrap_or(0);
                let new = Arc::new(Upstream::new(&own, slot, self.teller.clone()));
                let mut longer = (*list).clone();
                longer.push(Arc::clone(&new));
                self.upstreams.store(Arc::new(longer));
                new
            });
            self.set(&own, &upstream, now);
            upstream
        })
    }

    /// Every upstream, in the order of the policy.
    pub fn view(&self, now: Instant) -> Vec<UpstreamView> {
        self.upstreams.load().iter().map(|upstream| upstream.view(now)).collect()
    }

    /// How many events nobody could be told, because too many waited.
    pub fn events_lost(&self) -> u64 {
        self.teller.lost.load(Relaxed)
    }

    /// Carries out `wish` for one host of `upstream`, by its name in the policy or one of its
    /// addresses, or for all of them.
    pub fn order(
        &self,
        upstream: &str,
        host: Option<&str>,
        wish: Wish,
        now: Instant,
    ) -> Result<UpstreamView, NotFound> {
        let all = self.upstreams.load();
        let Some(found) = all.iter().find(|one| *one.name == *upstream) else {
            let meant = meant(upstream, all.iter().map(|one| Arc::clone(&one.name)));
            return Err(NotFound::Upstream { upstream: upstream.to_owned(), meant });
        };
        let mut control = found.control.lock();
        if !control.order(host, wish, found, self.teller.ms(now)) {
            let host = host.unwrap_or_default();
            let meant = meant(host, control.names().into_iter());
            let upstream = Arc::clone(&found.name);
            return Err(NotFound::Host { upstream, host: host.to_owned(), meant });
        }
        drop(control);
        Ok(found.view(now))
    }

    /// What happens, for whoever asks first.
    pub fn events(&self) -> Option<mpsc::Receiver<Event>> {
        self.untold.lock().take()
    }
}

/// The one of `known` that is nearest to `written`.
fn meant(written: &str, known: impl Iterator<Item = Arc<str>>) -> Meant {
    if written.len() > 256 {
        return Meant(None);
    }
    let distances = known.map(|name| (strsim::damerau_levenshtein(written, &name), name));
    let near = distances.filter(|(distance, name)| *distance <= name.len().max(written.len()) / 3);
    Meant(near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name))
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

impl Clone for Link {
    /// A plan that was copied is another plan.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Link {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}
