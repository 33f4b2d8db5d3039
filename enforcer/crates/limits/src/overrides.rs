//! What an operator puts in the place of a limit's numbers for a while.
//!
//! Kept in memory: a reload of the policy leaves them in force, a restart ends them. At most
//! [`OVERRIDES_MAX`]. Each ends by itself.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use enforcer_model::{Rate, Timestamp};
use parking_lot::Mutex;

use crate::Kind;

/// Limits that can have other numbers at once.
pub const OVERRIDES_MAX: usize = 256;

/// Other numbers for a limit; what is none stays as the policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Of a rate.
    pub rate: Option<Rate>,
    /// Of a rate.
    pub burst: Option<NonZeroU32>,
    /// Of a quota.
    pub amount: Option<NonZeroU64>,
    /// Of a limit of requests at once.
    pub concurrent: Option<NonZeroU32>,
    /// When it ends.
    pub until: Timestamp,
    /// The operator's words.
    pub reason: Arc<str>,
    /// Who said so.
    pub by: Arc<str>,
}

/// No more overrides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{OVERRIDES_MAX} limits have other numbers already; end one first")]
pub struct TooManyOverrides;

/// All that are in force, by limit.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    /// Spares every request the look-up while there are none.
    any: AtomicBool,
    by_limit: ArcSwap<BTreeMap<Arc<str>, Override>>,
    changing: Mutex<()>,
}

impl Override {
    /// What becomes of `kind`.
    pub fn on(&self, kind: Kind) -> Kind {
        match kind {
            Kind::Concurrent(most) => Kind::Concurrent(self.concurrent.unwrap_or(most)),
            Kind::Quota { amount, period, durability } => {
                Kind::Quota { amount: self.amount.unwrap_or(amount), period, durability }
            }
            Kind::Rate { rate, burst } => {
                Kind::Rate { rate: self.rate.unwrap_or(rate), burst: self.burst.unwrap_or(burst) }
            }
        }
    }
}

impl Overrides {
    /// The one of the limit `name`; what it was before.
    pub(crate) fn set(
        &self,
        name: &Arc<str>,
        new: Override,
        now: Timestamp,
    ) -> Result<Option<Override>, TooManyOverrides> {
        let _changing = self.changing.lock();
        let mut all = BTreeMap::clone(&self.by_limit.load());
        all.retain(|_, known| known.until > now);
        if !all.contains_key(name) && all.len() >= OVERRIDES_MAX {
            return Err(TooManyOverrides);
        }
        let before = all.insert(Arc::clone(name), new);
        self.store(all);
        Ok(before)
    }

    /// Ends the one of the limit `name`, and forgets those that are over; which it was.
    pub(crate) fn reset(&self, name: &str, now: Timestamp) -> Option<Override> {
        let _changing = self.changing.lock();
        let mut all = BTreeMap::clone(&self.by_limit.load());
        let ended = all.remove(name).filter(|known| known.until > now);
        all.retain(|_, known| known.until > now);
        self.store(all);
        ended
    }

    /// What `kind` of the limit `name` is at `now`, if something else than the policy says.
    pub(crate) fn of(&self, name: &str, kind: Kind, now: Timestamp) -> Option<Kind> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let all = self.by_limit.load();
        let known = all.get(name).filter(|known| known.until > now)?;
        Some(known.on(kind))
    }

    pub(crate) fn get(&self, name: &str, now: Timestamp) -> Option<Override> {
        self.by_limit.load().get(name).filter(|known| known.until > now).cloned()
    }

    fn store(&self, all: BTreeMap<Arc<str>, Override>) {
        // A request that still sees the flag unset was admitted before the change.
        self.any.store(!all.is_empty(), Ordering::Relaxed);
        self.by_limit.store(Arc::new(all));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_holds_for_its_time_and_can_be_ended_before() {
        let (all, name) = (Overrides::default(), Arc::from("per_key"));
        let kind = Kind::Concurrent(NonZeroU32::MIN);
        let [noon, later, end] = [100, 159, 160].map(Timestamp::from_unix_seconds);

        assert_eq!(all.of("per_key", kind, noon), None);
        assert_eq!(all.set(&name, five(end), noon), Ok(None));
        assert_eq!(
            all.of("per_key", kind, later),
            Some(Kind::Concurrent(NonZeroU32::new(5).unwrap()))
        );
        assert_eq!(all.of("per_ip", kind, later), None);
        assert_eq!(all.of("per_key", kind, end), None);
        assert_eq!(all.reset("per_key", later), Some(five(end)));
        assert_eq!(all.of("per_key", kind, later), None);
    }

    #[test]
    fn there_are_never_more_than_the_bound_and_those_that_are_over_make_room() {
        let all = Overrides::default();
        let [noon, end] = [100, 160].map(Timestamp::from_unix_seconds);
        for n in 0..OVERRIDES_MAX {
            assert!(all.set(&n.to_string().into(), five(end), noon).is_ok());
        }

        assert_eq!(all.set(&"more".into(), five(end), noon), Err(TooManyOverrides));
        assert_eq!(all.set(&"7".into(), five(end), noon), Ok(Some(five(end))));
        assert!(all.set(&"more".into(), five(end), end).is_ok());
    }

    #[test]
    fn numbers_that_are_not_given_stay_as_the_policy_says() {
        let rate = Kind::Rate { rate: "5/s".parse().unwrap(), burst: NonZeroU32::new(9).unwrap() };
        let faster = Override {
            rate: Some("7/s".parse().unwrap()),
            ..five(Timestamp::from_unix_seconds(1))
        };

        assert_eq!(faster.on(rate).to_string(), "7/s burst 9");
        let quota = Kind::Quota {
            amount: NonZeroU64::new(3).unwrap(),
            period: crate::Period::Day,
            durability: crate::Durability::Strict,
        };
        assert_eq!(faster.on(quota), quota);
    }

    fn five(until: Timestamp) -> Override {
        Override {
            rate: None,
            burst: None,
            amount: None,
            concurrent: NonZeroU32::new(5),
            until,
            reason: "incident".into(),
            by: "ann".into(),
        }
    }
}
