//! The rules at work: events in, findings out.
//!
//! One owner, no clock, no I/O: `at` of an event is the only time, so that a replay finds what the
//! live stream found. Per rule there is one table of keys ([`KEYS_MAX`], [`TABLE_BYTES_MAX`]) with a
//! cell of constant size for each key, and one ring of the last [`RING`] events of keys that have come
//! to a quarter of the threshold, from which evidence is taken. In the worst case a rule takes 17 MiB; one that matches little takes
//! little. An event that completes nothing allocates nothing, but for new keys and new values.
//!
//! What we refused because of what was found, of a limit or of an overload is never looked at.

mod cells;
mod keys;
mod slots;
mod table;
mod watch;

use std::sync::Arc;

use enforcer_model::Timestamp;
use foldhash::fast::RandomState;

pub use table::{KEYS_MAX, TABLE_BYTES_MAX};

use self::keys::Hashes;
use self::watch::Watch;
use super::plan::RulePlan;
use super::when::{About, Facts};
use crate::{Event, Finding, Signal};

/// Events of each rule that evidence is taken from; the newest are kept.
pub const RING: usize = 1_024;

/// The rules in force, and what they have counted.
#[derive(Debug, Default)]
pub struct Rules {
    state: RandomState,
    watches: Vec<Watch>,
    /// Of every threshold, in parts of a thousand; none: as they are.
    sensitivity: Option<u32>,
}

/// What a rule has done since it came into force.
#[derive(Clone, Debug, PartialEq)]
pub struct Counters {
    /// The rule.
    pub plan: Arc<RulePlan>,
    /// Events that counted.
    pub matched: u64,
    /// Findings.
    pub findings: u64,
    /// When it found something last.
    pub last: Option<Timestamp>,
    /// Keys that it remembers.
    pub keys: usize,
    /// Memory that they take, about.
    pub bytes: usize,
}

impl Rules {
    /// Rules that have seen nothing.
    pub fn new(plans: &[Arc<RulePlan>]) -> Self {
        let mut rules = Self::default();
        rules.replace(plans);
        rules
    }

    /// Puts `plans` in force. Rules that count the same as before keep what they have counted.
    pub fn replace(&mut self, plans: &[Arc<RulePlan>]) {
        let mut kept: Vec<Watch> = self.watches.drain(..).collect();
        for plan in plans {
            let old = kept.iter().position(|watch| watch.plan.counts_like(plan));
            let mut watch = match old {
                Some(place) => kept.swap_remove(place),
                None => Watch::new(Arc::clone(plan)),
            };
            watch.sensitivity = self.sensitivity.unwrap_or(1_000);
            watch.renew(Arc::clone(plan), &self.watches);
            self.watches.push(watch);
        }
    }

    /// What thresholds are multiplied by from here on, in parts of a thousand: an incident makes
    /// detection more sensitive. What was counted is kept. Chains of events have no threshold.
    pub fn set_sensitivity(&mut self, parts: u32) {
        self.sensitivity = Some(parts.clamp(1, 1_000));
        self.watches.iter_mut().for_each(|watch| watch.sensitivity = parts.clamp(1, 1_000));
    }

    /// Takes note of `event`; what it completes is appended to `found`.
    ///
    /// In which mode a rule is, and what becomes of a finding, is for whoever decides.
    pub fn observe(&mut self, event: &Event<'_>, found: &mut Vec<Finding>) {
        let (about, facts) = match event {
            Event::Request(request) if request.is_own_denial() => return,
            Event::Request(request) => (About::Requests, Some(Facts::of(request))),
            Event::Packets(_) => (About::Packets, None),
        };
        let mut hashes = Hashes::new(&self.state, event);
        let mut fired = Fired::default();
        for (place, watch) in self.watches.iter_mut().enumerate() {
            if watch.about != about || facts.is_some_and(|facts| !watch.needs.are_met(facts)) {
                continue;
            }
            let Some(finding) = watch.observe(event, &mut hashes, &fired) else { continue };
            fired.add(place);
            if !watch.plan.silent {
                found.push(finding);
            }
        }
    }

    /// What `event` completes because a profile is surprised by `surprises`: names of signals with
    /// their bits. At most one finding of a rule and key in its window.
    pub fn surprised(
        &mut self,
        event: &Event<'_>,
        surprises: &[(&str, Signal)],
        found: &mut Vec<Finding>,
    ) {
        if matches!(event, Event::Request(request) if request.is_own_denial()) {
            return;
        }
        let mut hashes = Hashes::new(&self.state, event);
        for watch in &mut self.watches {
            if !watch.plan.silent {
                found.extend(watch.surprised(event, surprises, &mut hashes));
            }
        }
    }

    /// The rule with this id.
    pub fn plan(&self, id: &str) -> Option<&Arc<RulePlan>> {
        self.watches.iter().map(|watch| &watch.plan).find(|plan| &*plan.id == id)
    }

    /// What every rule has done, in their order.
    pub fn counters(&self) -> impl Iterator<Item = Counters> {
        self.watches.iter().map(Watch::counters)
    }

    /// Forgets what is older than each rule's window; call it now and then.
    pub fn forget_old(&mut self, now: Timestamp) {
        self.watches.iter_mut().for_each(|watch| watch.forget_old(now));
    }

    /// Memory that all keys take, about.
    pub fn bytes(&self) -> usize {
        self.watches.iter().map(|watch| watch.counters().bytes).sum()
    }
}

/// Which rules have found something in this event, by their places; of more than a thousand the
/// last ones are no step of a sequence.
#[derive(Debug, Default)]
struct Fired([u64; 16]);

impl Fired {
    fn add(&mut self, place: usize) {
        if let Some(bits) = self.0.get_mut(place / 64) {
            *bits |= 1 << (place % 64);
        }
    }

    fn has(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }
}
