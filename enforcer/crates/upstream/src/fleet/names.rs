//! Where names lead: the last good answer for each, kept while no newer one comes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::plan::Plan;
use crate::target::Target;

/// Addresses of one name that are asked; more are not looked at.
pub(super) const ADDRESSES_MAX: usize = 32;
/// A name that has led nowhere so far, or could not be looked up, is looked up again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Every name of the plans in force.
#[derive(Default)]
pub(super) struct Names(Mutex<BTreeMap<Name, Known>>);

/// A name with a port.
pub(crate) type Name = (Arc<str>, u16);

struct Known {
    /// Sorted.
    addresses: Vec<SocketAddr>,
    every: Duration,
    due: Instant,
}

impl Names {
    /// Knows the names of `plans` and forgets all others.
    pub(super) fn retain(&self, plans: &[Arc<Plan>], now: Instant) {
        let mut names = self.0.lock();
        let mut before = std::mem::take(&mut *names);
        for plan in plans {
            for name in named(plan) {
                let known = before.remove(&name);
                let entry = names.entry(name).or_insert_with(|| {
                    known.unwrap_or(Known { addresses: Vec::new(), every: plan.dns, due: now })
                });
                entry.every = entry.every.min(plan.dns);
                entry.due = entry.due.min(now + entry.every);
            }
        }
    }

    /// What was looked up before its plan is in force.
    pub(super) fn learn(
        &self,
        name: Name,
        addresses: Vec<SocketAddr>,
        now: Instant,
        every: Duration,
    ) {
        self.0.lock().insert(name, Known { addresses, every, due: now + every });
    }

    pub(super) fn knows(&self, name: &Name) -> bool {
        self.0.lock().get(name).is_some_and(|known| !known.addresses.is_empty())
    }

    pub(super) fn addresses(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        let names = self.0.lock();
        let found = names.iter().find(|((name, of), _)| **name == *host && *of == port);
        found.map(|(_, known)| known.addresses.clone()).unwrap_or_default()
    }

    /// The names that are to be looked up, each of them taken once, and when the next one is.
    pub(super) fn take_due(&self, now: Instant) -> (Vec<Name>, Option<Instant>) {
        let mut due = Vec::new();
        let mut next = None::<Instant>;
        for (name, known) in &mut *self.0.lock() {
            if known.due <= now {
                // Until it is answered; one that never is comes up again.
                known.due = now + known.every + 2 * super::keeper::LOOKUP;
                due.push(name.clone());
            }
            next = Some(next.map_or(known.due, |next| next.min(known.due)));
        }
        (due, next)
    }

    /// The answer for `name`; without one the last good one stays. Whether there is another one now.
    pub(super) fn answered(
        &self,
        name: &Name,
        answer: Option<&[SocketAddr]>,
        now: Instant,
    ) -> bool {
        let mut names = self.0.lock();
        let Some(known) = names.get_mut(name) else { return false };
        let Some(addresses) = answer.filter(|addresses| !addresses.is_empty()) else {
            known.due = now + AGAIN.min(known.every);
            return false;
        };
        known.due = now + known.every;
        let is_new = known.addresses != addresses;
        known.addresses = addresses.to_vec();
        is_new
    }
}

/// The names in `plan`.
pub(super) fn named(plan: &Plan) -> impl Iterator<Item = Name> {
    plan.hosts().filter_map(|host| match &host.target {
        Target::Name { host, port } => Some((Arc::clone(host), *port)),
        Target::Address(_) | Target::Unix(_) => None,
    })
}
