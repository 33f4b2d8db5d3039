//! What all threads know of the upstreams, and the one who looks after them.

mod view;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use view::{
    BreakerState, Event, Few, Happening, HostView, Meant, NotFound, State, UpstreamView, Why, Wish,
};

use crate::plan::Plan;

/// Events that may wait to be told; more are counted and not told.
const EVENTS_MAX: usize = 1_024;

/// What all threads know of the upstreams.
pub struct Fleet {
    plans: ArcSwap<Vec<Arc<Plan>>>,
    #[expect(dead_code, reason = "told by what follows")]
    told: mpsc::Sender<Event>,
    untold: Mutex<Option<mpsc::Receiver<Event>>>,
}

/// What is known of the upstream of a [`Plan`].
#[derive(Default)]
pub struct Link(OnceLock<()>);

impl Fleet {
    /// One that knows of nothing.
    pub fn new() -> Self {
        let (told, untold) = mpsc::channel(EVENTS_MAX);
        Self { plans: ArcSwap::default(), told, untold: Mutex::new(Some(untold)) }
    }

    /// From here on the upstreams are these; what is known of hosts that stay is kept.
    pub fn apply(&self, plans: &[Arc<Plan>], _now: Instant) {
        self.plans.store(Arc::new(plans.to_vec()));
    }

    /// Every upstream, in the order of the policy.
    pub fn view(&self, _now: Instant) -> Vec<UpstreamView> {
        Vec::new()
    }

    /// Carries out `wish` for one host of `upstream`, or for all of them.
    pub fn order(
        &self,
        upstream: &str,
        _host: Option<&str>,
        _wish: Wish,
        _now: Instant,
    ) -> Result<UpstreamView, NotFound> {
        Err(NotFound::Upstream { upstream: upstream.to_owned(), meant: Meant(None) })
    }

    /// What happens, for whoever asks first.
    pub fn events(&self) -> Option<mpsc::Receiver<Event>> {
        self.untold.lock().take()
    }

    /// Looks names up, asks hosts for their health, and lets them come back, until `until`.
    ///
    /// Needs a `LocalSet` around it; one for the whole process.
    pub async fn look_after(&self, until: impl Future<Output = ()>) {
        until.await;
    }

    /// Looks up the names of upstreams that are about to be applied, as far as it goes in a bounded
    /// time, so that the first request finds where they lead.
    pub async fn prepare(&self, _plans: &[Arc<Plan>]) {
        std::future::ready(()).await;
    }
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
