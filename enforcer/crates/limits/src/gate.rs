//! How many requests an upstream has at once, and who is turned away first when it fills.
//!
//! From four fifths on callers are turned away by kind: the classes of the plan share the last fifth
//! evenly, the first one from its beginning. Who is in none of them is admitted to the end.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use enforcer_model::Role;
use parking_lot::Mutex;

use crate::{Exceeded, Why};

/// What a policy says of an upstream's load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatePlan {
    /// The upstream's name; plans of one name share one count.
    pub name: Arc<str>,
    /// Requests at once.
    pub concurrent: NonZeroU32,
    /// Who is turned away, first of all first.
    pub shed: Box<[Class]>,
}

/// A kind of caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Whoever did not say who they are.
    Anonymous,
    /// Whoever has this role, and none that is turned away later or never.
    Role(Role),
}

/// Where a caller stands in the order of a plan; lower is turned away earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(Option<usize>);

/// A request that an upstream has; one fewer when dropped.
#[derive(Debug)]
#[must_use]
pub struct Entered(Arc<AtomicU32>);

/// The count of every upstream.
#[derive(Default)]
pub(crate) struct Gates {
    counts: ArcSwap<HashMap<Arc<str>, Arc<AtomicU32>>>,
    /// Held while a name is added.
    adding: Mutex<()>,
}

/// Names of upstreams that are counted; a policy has far fewer, and names of old ones stay.
const GATES_MAX: usize = 4_096;

/// Load from which somebody may be turned away, in fifths.
const SHED_FROM: u64 = 4;

/// When it is worth asking again.
const RETRY: Duration = Duration::from_secs(1);

impl GatePlan {
    /// Where a caller stands who has `roles`, closed over inclusion; none when anonymous.
    pub fn rank<'a>(&self, roles: Option<impl IntoIterator<Item = &'a str>>) -> Rank {
        let place = |wanted: Option<&str>| {
            self.shed.iter().position(|class| match (class, wanted) {
                (Class::Anonymous, None) => true,
                (Class::Role(role), Some(name)) => role.as_str() == name,
                (Class::Anonymous, Some(_)) | (Class::Role(_), None) => false,
            })
        };
        let Some(roles) = roles else { return Rank(place(None)) };
        let mut latest = None;
        for role in roles {
            match place(Some(role)) {
                None => return Rank::LAST,
                found => latest = latest.max(found),
            }
        }
        Rank(latest)
    }

    /// As many may be under way when one of `rank` still enters.
    fn room(&self, Rank(rank): Rank) -> u64 {
        let most = u64::from(self.concurrent.get());
        let (Some(rank), classes) = (rank, self.shed.len()) else { return most };
        let part = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let classes = part(classes).max(1);
        // most × (4 + rank/classes) / 5, up: of ten the first two are never turned away for load.
        let share =
            most.saturating_mul(SHED_FROM.saturating_mul(classes).saturating_add(part(rank)));
        share.div_ceil(classes.saturating_mul(SHED_FROM + 1)).min(most)
    }
}

impl Rank {
    /// Admitted until the upstream is full.
    pub const LAST: Self = Self(None);
}

impl Gates {
    pub(crate) fn enter(&self, plan: &GatePlan, rank: Rank) -> Result<Entered, Exceeded> {
        let Some(count) = self.count(&plan.name) else {
            return Err(refused(plan, Why::Unavailable(crate::Unavailable::Full)));
        };
        let room = plan.room(rank);
        let entered = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |under_way| {
            if u64::from(under_way) < room { under_way.checked_add(1) } else { None }
        });
        match entered {
            Ok(_) => Ok(Entered(count)),
            Err(under_way) if under_way < plan.concurrent.get() => Err(refused(plan, Why::Shed)),
            Err(_) => Err(refused(plan, Why::Busy)),
        }
    }

    /// Requests that the upstream `name` has.
    pub(crate) fn under_way(&self, name: &str) -> u32 {
        self.counts.load().get(name).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn count(&self, name: &Arc<str>) -> Option<Arc<AtomicU32>> {
        if let Some(count) = self.counts.load().get(name) {
            return Some(Arc::clone(count));
        }
        let adding = self.adding.lock();
        let mut counts = HashMap::clone(&self.counts.load());
        if !counts.contains_key(name) && counts.len() >= GATES_MAX {
            return None;
        }
        let count = Arc::clone(counts.entry(Arc::clone(name)).or_default());
        self.counts.store(Arc::new(counts));
        drop(adding);
        Some(count)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn refused(plan: &GatePlan, why: Why) -> Exceeded {
    Exceeded { limit: Arc::clone(&plan.name), by: None, why, retry_after: RETRY, level: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_anonymous_go_first_then_the_listed_roles_and_others_stay_to_the_end() {
        let (gates, plan) = (Gates::default(), plan(10, &["reader"]));
        let anonymous = plan.rank(None::<[&str; 0]>);
        let reader = plan.rank(Some(["reader"]));
        let writer = plan.rank(Some(["reader", "writer"]));

        let mut inside: Vec<_> = (0..8).map(|_| gates.enter(&plan, anonymous).unwrap()).collect();
        assert_eq!(gates.enter(&plan, anonymous).unwrap_err().why, Why::Shed);
        inside.push(gates.enter(&plan, reader).unwrap());
        assert_eq!(gates.enter(&plan, reader).unwrap_err().why, Why::Shed);
        inside.push(gates.enter(&plan, writer).unwrap());
        assert_eq!(gates.enter(&plan, writer).unwrap_err().why, Why::Busy);
        assert_eq!(gates.enter(&plan, anonymous).unwrap_err().why, Why::Busy);

        inside.truncate(7);
        assert_eq!(gates.under_way("orders"), 7);
        assert!(gates.enter(&plan, anonymous).is_ok());
    }

    #[test]
    fn without_an_order_everybody_is_admitted_to_the_end() {
        let (gates, plan) = (Gates::default(), plan(1, &[]));
        let open = GatePlan { shed: [].into(), ..plan };

        let rank = open.rank(None::<[&str; 0]>);
        let one = gates.enter(&open, rank).unwrap();
        let refused = gates.enter(&open, rank).unwrap_err();

        assert_eq!((refused.why, &*refused.limit), (Why::Busy, "orders"));
        drop(one);
        assert!(gates.enter(&open, Rank::LAST).is_ok());
    }

    #[test]
    fn a_reload_that_admits_fewer_counts_those_who_are_inside() {
        let (gates, wide) = (Gates::default(), plan(5, &[]));
        let inside: Vec<_> = (0..5).map(|_| gates.enter(&wide, Rank::LAST).unwrap()).collect();

        let narrow = plan(3, &[]);
        assert!(gates.enter(&narrow, Rank::LAST).is_err());
        drop(inside);
        assert!(gates.enter(&narrow, Rank::LAST).is_ok());
    }

    #[test]
    fn threads_never_fill_an_upstream_beyond_its_room() {
        let (gates, plan) = (Gates::default(), plan(4, &[]));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Ok(entered) = gates.enter(&plan, Rank::LAST) {
                            assert!(gates.under_way("orders") <= 4);
                            drop(entered);
                        }
                    }
                });
            }
        });
        assert_eq!(gates.under_way("orders"), 0);
    }

    fn plan(concurrent: u32, roles: &[&str]) -> GatePlan {
        let roles = roles.iter().map(|role| Class::Role(Role::new(role)));
        GatePlan {
            name: "orders".into(),
            concurrent: NonZeroU32::new(concurrent).unwrap(),
            shed: std::iter::once(Class::Anonymous).chain(roles).collect(),
        }
    }
}
