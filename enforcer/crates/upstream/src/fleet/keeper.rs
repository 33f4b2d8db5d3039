//! The one who looks after all upstreams: names, health, and the return of those that were ejected.
//!
//! One for the process, away from the threads that serve. At most [`LOOKUPS_MAX`] names are looked
//! up and [`CHECKS_MAX`] hosts asked at the same time; the others wait for their turn.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::Fleet;
use super::control::Due;
use super::names::{ADDRESSES_MAX, Name, named};
use super::upstream::Upstream;
use super::view::Happening;
use crate::check;
use crate::plan::Plan;

/// For one look-up; the system may go on by itself.
pub(super) const LOOKUP: Duration = Duration::from_secs(5);
/// For all names of a new policy together, before it is in force.
const PREPARE: Duration = Duration::from_secs(2);
const LOOKUPS_MAX: usize = 8;
const CHECKS_MAX: usize = 64;
/// The keeper looks around at least this often.
const ROUND: Duration = Duration::from_secs(1);

impl Fleet {
    /// Looks names up, asks hosts for their health, and lets them come back, until `until`.
    ///
    /// Needs a `LocalSet` around it; one for the whole process.
    pub async fn look_after(self: Arc<Self>, until: impl Future<Output = ()>) {
        let lookups = Rc::new(Semaphore::new(LOOKUPS_MAX));
        let checks = Rc::new(Semaphore::new(CHECKS_MAX));
        let mut until = std::pin::pin!(until);
        loop {
            let next = self.round(&lookups, &checks);
            tokio::select! {
                () = &mut until => return,
                () = sleep_until(next) => {}
                () = self.teller.wake.notified() => {}
            }
        }
    }

    /// Begins what is due; when to come back.
    fn round(self: &Arc<Self>, lookups: &Rc<Semaphore>, checks: &Rc<Semaphore>) -> Instant {
        let now = Instant::now();
        let now_ms = self.teller.ms(now.into_std());
        let mut next = now + ROUND;
        let (due, next_name) = self.names.take_due(now.into_std());
        for name in due {
            let (fleet, lookups) = (Arc::clone(self), Rc::clone(lookups));
            spawn_local(async move {
                let Ok(_permit) = lookups.acquire().await else { return };
                let answer = look_up(&name).await;
                fleet.looked_up(&name, &answer);
            });
        }
        next = next_name.map_or(next, |name| next.min(Instant::from_std(name)));
        for upstream in self.upstreams.load().iter() {
            upstream.refresh(now_ms);
            let (due, next_check) = upstream.control.lock().take_due(now_ms);
            for due in due {
                let (upstream, checks) = (Arc::clone(upstream), Rc::clone(checks));
                spawn_local(async move {
                    let Ok(_permit) = checks.acquire().await else { return };
                    ask(&upstream, &due).await;
                });
            }
            let soonest = next_check.min(upstream.due_ms.load(Relaxed)).saturating_sub(now_ms);
            next = next.min(now + Duration::from_millis(soonest.clamp(1, 1_000)));
        }
        next
    }

    pub(crate) fn looked_up(&self, name: &Name, answer: &std::io::Result<Vec<SocketAddr>>) {
        let now = Instant::now().into_std();
        let addresses = answer.as_ref().ok().map(Vec::as_slice);
        self.names.answered(name, addresses, now);
        let now_ms = self.teller.ms(now);
        for upstream in self.upstreams.load().iter() {
            match answer {
                Ok(addresses) if !addresses.is_empty() => {
                    let mut control = upstream.control.lock();
                    control.resolved(&name.0, name.1, addresses, upstream, now_ms);
                }
                Ok(_) => upstream.unresolved(name, "it has no addresses"),
                Err(error) => upstream.unresolved(name, &error.to_string()),
            }
        }
    }

    /// Looks up the names of upstreams that are about to be applied, as far as it goes in a bounded
    /// time, so that the first request finds where they lead.
    pub async fn prepare(&self, plans: &[Arc<Plan>]) {
        let mut names: BTreeSet<Name> = plans.iter().flat_map(|plan| named(plan)).collect();
        names.retain(|name| !self.names.knows(name));
        let all = async {
            for name in &names {
                if let Ok(addresses) = look_up(name).await {
                    let every = plans.iter().map(|plan| plan.dns).min().unwrap_or(ROUND);
                    self.names.learn(name.clone(), addresses, Instant::now().into_std(), every);
                }
            }
        };
        if timeout(PREPARE, all).await.is_err() {
            debug!("some names of upstreams are still being looked up");
        }
    }
}

impl Upstream {
    /// Tells that a name of its hosts could not be looked up.
    fn unresolved(&self, name: &Name, why: &str) {
        let plan = Arc::clone(&self.control.lock().plan);
        if named(&plan).any(|own| own == *name) {
            let host = format!("{}:{}", name.0, name.1);
            self.tell(Some(host.into()), Happening::ResolveFailed { why: why.into() });
        }
    }
}

/// At most [`ADDRESSES_MAX`] addresses, always in the same order.
async fn look_up((host, port): &Name) -> std::io::Result<Vec<SocketAddr>> {
    let found = timeout(LOOKUP, tokio::net::lookup_host((&**host, *port))).await;
    let found: BTreeSet<SocketAddr> = found.unwrap_or_else(|_| Err(timed_out()))?.collect();
    Ok(found.into_iter().take(ADDRESSES_MAX).collect())
}

fn timed_out() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time")
}

async fn ask(upstream: &Upstream, due: &Due) {
    let Some(health) = &due.plan.health else { return };
    let answer = check::ask(&due.member, health, &due.plan).await;
    let answer = answer.map_err(|why| Arc::from(why.to_string().as_str()));
    let now_ms = upstream.ms(Instant::now().into_std());
    upstream.control.lock().checked(&due.member, answer, upstream, now_ms);
}
