//! Sources whose packet budget is shrunk for a while, as the kernel part holds them.
//!
//! One budget class of the agent's own, beside those of the policy, with the throttled sources as its
//! networks. It is written at most once a tick, read back, and gone when nobody is in it. A network
//! that the policy gives a class of its own keeps it where that class has no budget: the operator said
//! that it may send what it likes. Never-block lists win over every budget.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_kernel::{Budget, BudgetClass, Packets};
use enforcer_model::{PerSecond, Prefix};
use tracing::{info, warn};

use super::Responder;
use super::throttle::{Step, THROTTLED_MAX};

/// The class's name; a policy cannot use it, because of the space.
pub(super) const CLASS: &str = "throttled sources";

/// Who is throttled, and whether the kernel knows.
#[derive(Debug, Default)]
pub(super) struct Throttling {
    until: BTreeMap<Prefix, Instant>,
    budget: Option<PerSecond>,
    /// Those that the kernel holds; lags behind by a tick.
    held: Vec<Prefix>,
    is_behind: bool,
    /// Why the kernel does not hold it; told once.
    problem: Option<String>,
}

/// What `status` tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThrottledView {
    /// Sources that the kernel throttles, in their order.
    pub(crate) sources: Vec<Prefix>,
    /// Packets per second that each of them has.
    pub(crate) budget: Option<PerSecond>,
    /// Why the kernel does not hold it.
    pub(crate) problem: Option<String>,
}

impl Throttling {
    /// Takes a step; the kernel hears of it with the next tick.
    pub(super) fn take(&mut self, step: Step, budget: PerSecond, now: Instant) {
        match step {
            Step::Shrink { source, penalty, .. } => {
                if self.until.len() < THROTTLED_MAX || self.until.contains_key(&source) {
                    self.is_behind |= self.until.insert(source, now + penalty).is_none();
                }
            }
            Step::Lift { source } => self.is_behind |= self.until.remove(&source).is_some(),
            // A guard may stand against it: until the block holds, the budget does.
            Step::Block { .. } => {}
        }
        self.is_behind |= self.budget.replace(budget) != Some(budget);
    }

    /// Ends what is over; whether the kernel is to be written.
    fn end_what_is_over(&mut self, now: Instant) -> bool {
        let before = self.until.len();
        self.until.retain(|_, until| *until > now);
        self.is_behind |= self.until.len() != before;
        self.is_behind
    }

    fn class(&self) -> Option<BudgetClass> {
        let rate = self.budget.filter(|_| !self.until.is_empty())?;
        let burst = NonZeroU32::new(rate.count()).unwrap_or(NonZeroU32::MIN);
        let budget = Budget {
            packets: Some(Packets { rate, burst }),
            bytes: None,
            syns: None,
            penalty: Duration::ZERO,
            observe: false,
        };
        let networks = self.until.keys().copied().collect();
        Some(BudgetClass { name: Arc::from(CLASS), networks, budget: Some(budget) })
    }

    pub(super) fn view(&self) -> ThrottledView {
        let sources = self.held.clone();
        ThrottledView { sources, budget: self.budget, problem: self.problem.clone() }
    }
}

impl Responder {
    /// Makes the kernel hold who is throttled now, and looks whether it does.
    pub(super) fn hold_throttled(&mut self, now: Instant) {
        if !self.throttling.end_what_is_over(now) {
            return;
        }
        let class = self.throttling.class();
        let written = self.parts.kernel.set_throttled(class);
        self.throttling.is_behind = written.is_err();
        match written {
            Ok(networks) => {
                info!(sources = networks.len(), "sources under a smaller packet budget");
                self.throttling.held = networks;
                self.throttling.problem = None;
            }
            Err(why) => {
                if self.throttling.problem.as_ref() != Some(&why) {
                    warn!(
                        why,
                        "the kernel does not hold smaller packet budgets; layer 7 refuses on"
                    );
                }
                self.throttling.problem = Some(why);
            }
        }
    }
}

/// The classes of the policy, and that of throttled sources; who is in both is where the policy put it
/// when that class has no budget, or names exactly that network.
pub(super) fn with_throttled(
    policy: &[BudgetClass],
    own: Option<&BudgetClass>,
) -> Vec<BudgetClass> {
    let mut classes = policy.to_vec();
    if let Some(own) = own {
        let keeps = |source: &Prefix| {
            policy.iter().any(|class| {
                let covers = |network: &Prefix| {
                    network == source || (class.budget.is_none() && network.covers(*source))
                };
                class.networks.iter().any(covers)
            })
        };
        let networks: Vec<_> =
            own.networks.iter().copied().filter(|source| !keeps(source)).collect();
        if !networks.is_empty() {
            classes.push(BudgetClass { networks, ..own.clone() });
        }
    }
    classes
}

#[cfg(test)]
mod tests {
    use enforcer_model::{Clock, SystemClock};

    use super::*;
    use crate::respond::testing::prefix;

    const HUNDRED: PerSecond = PerSecond::new(NonZeroU32::new(100).unwrap());

    #[test]
    fn sources_come_and_go_and_the_kernel_is_written_only_when_something_changed() {
        let (mut throttling, now) = (Throttling::default(), SystemClock.now().monotonic);
        let second = |n| now + Duration::from_secs(n);
        assert!(!throttling.end_what_is_over(now));

        throttling.take(shrink("192.0.2.1", 5), HUNDRED, now);
        throttling.take(shrink("192.0.2.2", 9), HUNDRED, now);
        assert!(throttling.end_what_is_over(second(1)));
        throttling.is_behind = false;
        let class = throttling.class().unwrap();
        assert_eq!(class.networks, [prefix("192.0.2.1"), prefix("192.0.2.2")]);
        assert_eq!(class.budget.unwrap().packets.unwrap().rate, HUNDRED);

        // Going on only moves the end.
        throttling.take(shrink("192.0.2.1", 5), HUNDRED, second(2));
        assert!(!throttling.end_what_is_over(second(6)));
        assert!(throttling.end_what_is_over(second(8)));
        assert_eq!(throttling.class().unwrap().networks, [prefix("192.0.2.2")]);
        throttling.take(Step::Lift { source: prefix("192.0.2.2") }, HUNDRED, second(8));
        assert!(throttling.end_what_is_over(second(8)));
        assert_eq!(throttling.class(), None);
    }

    #[test]
    fn there_are_never_more_than_the_bound() {
        let (mut throttling, now) = (Throttling::default(), SystemClock.now().monotonic);
        for n in 0..2_000u32 {
            let source = std::net::Ipv4Addr::from(n).to_string();
            throttling.take(shrink(&source, 60), HUNDRED, now);
        }

        assert_eq!(throttling.until.len(), THROTTLED_MAX);
    }

    #[test]
    fn what_the_policy_says_of_a_network_is_not_shrunk_where_it_says_without_a_budget() {
        let free = class("partners", &["192.0.2.0/24"], None);
        let slow = class("mobile", &["198.51.100.0/24", "203.0.113.7"], Some(1));
        let own =
            class(CLASS, &["192.0.2.9", "198.51.100.9", "203.0.113.7", "203.0.113.8"], Some(1));
        let policy = [free, slow];

        let classes = with_throttled(&policy, Some(&own));

        assert_eq!(classes[..2], policy);
        assert_eq!(classes[2].networks, [prefix("198.51.100.9"), prefix("203.0.113.8")]);
        let spared = class(CLASS, &["192.0.2.9"], Some(1));
        assert_eq!(with_throttled(&policy, Some(&spared)), policy);
        assert_eq!(with_throttled(&policy, None), policy);
    }

    fn shrink(source: &str, seconds: u64) -> Step {
        let penalty = Duration::from_secs(seconds);
        Step::Shrink { source: prefix(source), refusals: 50, within: penalty, penalty }
    }

    fn class(name: &str, networks: &[&str], rate: Option<u32>) -> BudgetClass {
        let budget = rate.map(|rate| {
            let rate = NonZeroU32::new(rate).unwrap();
            let packets = Packets { rate: PerSecond::new(rate), burst: rate };
            Budget {
                packets: Some(packets),
                bytes: None,
                syns: None,
                penalty: Duration::ZERO,
                observe: false,
            }
        });
        let networks = networks.iter().map(|text| prefix(text)).collect();
        BudgetClass { name: name.into(), networks, budget }
    }
}
