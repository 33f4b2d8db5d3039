//! When a level of incident opens by itself, and when it is over again.
//!
//! A trigger has two thresholds: it opens at what the policy says, and is quiet below half of that.
//! What it opened relaxes once it has been quiet for a span. A level that an operator has set lower
//! in the meantime stays so until the trigger has been quiet once.

use std::collections::VecDeque;
use std::time::Duration;

use enforcer_model::Timestamp;

use crate::Request;

/// What opens a level: any of its thresholds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerPlan {
    /// The level.
    pub level: u8,
    /// Findings inside a minute.
    pub findings_per_minute: Option<u32>,
    /// Share of refused logins inside a minute, in percent; judged from [`LOGINS_MIN`] logins on.
    pub refused_logins: Option<u8>,
    /// Incidents open at once.
    pub open_incidents: Option<u32>,
    /// How long it must be quiet before its level relaxes.
    pub quiet: Duration,
}

/// A share of fewer logins says nothing.
pub const LOGINS_MIN: u64 = 20;

/// How often a level that is open is said to hold still: well inside what it holds for.
const AGAIN: Duration = Duration::from_secs(20);

/// Seconds that are looked at, each counted alone.
const SECONDS: usize = 60;

/// Counts what triggers look at, and knows which of them have opened their level.
#[derive(Debug, Default)]
pub struct Triggers {
    states: Vec<State>,
    seconds: VecDeque<Second>,
}

#[derive(Clone, Debug)]
struct State {
    plan: TriggerPlan,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Below its threshold.
    Off,
    /// Its level is open, or about to be.
    On {
        /// Since when it has been quiet, if it is.
        quiet_since: Option<Timestamp>,
        /// When it was said last that the level is to hold.
        held: Timestamp,
        /// Whether the level was seen to be open: to open it takes as long as a disk does.
        is_open: bool,
    },
    /// An operator has lowered the level; it may open again once it was quiet.
    StoodDown,
}

#[derive(Clone, Copy, Debug)]
struct Second {
    at: u64,
    findings: u64,
    logins: u64,
    refused: u64,
}

/// What becomes of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LevelStep {
    /// It opens, or stays open: the level is to hold for at least so long.
    Hold {
        /// Which.
        level: u8,
        /// For how long, unless it is held again.
        ttl: Duration,
        /// Which threshold was reached, with the numbers.
        why: String,
        /// It opens with this, and was not open before.
        is_first: bool,
    },
    /// Its trigger has been quiet long enough.
    Relax {
        /// Which.
        level: u8,
    },
}

impl Triggers {
    /// Puts `plans` in force; a trigger that did not change goes on as it was.
    pub fn replace(&mut self, plans: &[TriggerPlan]) {
        let before = std::mem::take(&mut self.states);
        self.states = plans
            .iter()
            .map(|plan| {
                let same = before.iter().find(|state| state.plan == *plan);
                same.cloned().unwrap_or_else(|| State { plan: plan.clone(), phase: Phase::Off })
            })
            .collect();
    }

    /// Takes note of a request, if it was a login. Our own denials are none.
    pub fn observe(&mut self, request: &Request<'_>) {
        if self.states.is_empty() || request.is_own_denial() {
            return;
        }
        let is_refused = request.reason.is_some_and(enforcer_model::Reason::is_refused_credential);
        if !is_refused && request.identity.is_none() {
            return;
        }
        let second = self.second(request.at);
        second.logins += 1;
        second.refused += u64::from(is_refused);
    }

    /// Takes note of a finding.
    pub fn found(&mut self, now: Timestamp) {
        if !self.states.is_empty() {
            self.second(now).findings += 1;
        }
    }

    fn second(&mut self, now: Timestamp) -> &mut Second {
        let at = now.unix_seconds();
        // What comes late counts with the latest.
        if self.seconds.back().is_none_or(|last| last.at < at) {
            if self.seconds.len() >= SECONDS {
                self.seconds.pop_front();
            }
            self.seconds.push_back(Second { at, findings: 0, logins: 0, refused: 0 });
        }
        let last = self.seconds.len().saturating_sub(1);
        #[expect(clippy::indexing_slicing, reason = "one was pushed if there was none")]
        &mut self.seconds[last]
    }

    /// What becomes of levels `now`, with so many open incidents, where `level` is in force.
    pub fn tick(&mut self, open_incidents: u64, level: u8, now: Timestamp) -> Vec<LevelStep> {
        let oldest = now.unix_seconds().saturating_sub(60);
        while self.seconds.front().is_some_and(|second| second.at <= oldest) {
            self.seconds.pop_front();
        }
        let sum = |of: fn(&Second) -> u64| self.seconds.iter().map(of).sum::<u64>();
        let seen = Seen {
            findings: sum(|second| second.findings),
            logins: sum(|second| second.logins),
            refused: sum(|second| second.refused),
            open_incidents,
        };
        self.states.iter_mut().filter_map(|state| state.step(&seen, level, now)).collect()
    }
}

/// What there was in the last minute.
struct Seen {
    findings: u64,
    logins: u64,
    refused: u64,
    open_incidents: u64,
}

impl State {
    fn step(&mut self, seen: &Seen, level: u8, now: Timestamp) -> Option<LevelStep> {
        let plan = &self.plan;
        let reached = plan.reached(seen, 1);
        let is_quiet = plan.reached(seen, 2).is_none();
        match self.phase {
            Phase::Off => {
                let why = reached?;
                self.phase = Phase::On { quiet_since: None, held: now, is_open: false };
                Some(plan.hold(why, true))
            }
            // Somebody wants it lower.
            Phase::On { is_open: true, .. } if level < plan.level => {
                self.phase = if is_quiet { Phase::Off } else { Phase::StoodDown };
                None
            }
            Phase::On { quiet_since, held, is_open } => {
                let is_open = is_open || level >= plan.level;
                let since = if is_quiet { quiet_since.or(Some(now)) } else { None };
                if since.is_some_and(|since| now.since(since) >= plan.quiet) {
                    self.phase = Phase::Off;
                    return Some(LevelStep::Relax { level: plan.level });
                }
                let has_calmed = is_quiet && quiet_since.is_none();
                // Neither at each look, nor so rarely that it ends in between.
                let is_due = !is_quiet && now.since(held) >= AGAIN;
                let held = if has_calmed || is_due { now } else { held };
                self.phase = Phase::On { quiet_since: since, held, is_open };
                match (has_calmed, is_due) {
                    (true, _) => Some(plan.hold("quiet now".to_owned(), false)),
                    (false, true) => {
                        let why = reached.unwrap_or_else(|| "not quiet yet".to_owned());
                        Some(plan.hold(why, false))
                    }
                    (false, false) => None,
                }
            }
            Phase::StoodDown => {
                if is_quiet {
                    self.phase = Phase::Off;
                }
                None
            }
        }
    }
}

impl TriggerPlan {
    /// Which threshold, divided by `part`, is reached.
    fn reached(&self, seen: &Seen, part: u64) -> Option<String> {
        if let Some(most) = self.findings_per_minute.map(u64::from)
            && seen.findings.saturating_mul(part) >= most
        {
            return Some(format!("{} findings in the last minute, of {most}", seen.findings));
        }
        if let Some(percent) = self.refused_logins.map(u64::from)
            && seen.logins >= LOGINS_MIN
            && seen.refused.saturating_mul(100).saturating_mul(part)
                >= seen.logins.saturating_mul(percent)
        {
            let (refused, logins) = (seen.refused, seen.logins);
            return Some(format!(
                "{refused} of {logins} logins refused in the last minute, of {percent} %"
            ));
        }
        let most = self.open_incidents.map(u64::from)?;
        (seen.open_incidents.saturating_mul(part) >= most)
            .then(|| format!("{} incidents open, of {most}", seen.open_incidents))
    }

    /// Held longer than the next time, so that an agent that ends leaves nothing behind for long.
    fn hold(&self, why: String, is_first: bool) -> LevelStep {
        let ttl = self.quiet.saturating_add(Duration::from_secs(60));
        LevelStep::Hold { level: self.level, ttl, why, is_first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> TriggerPlan {
        TriggerPlan {
            level: 2,
            findings_per_minute: Some(10),
            refused_logins: None,
            open_incidents: None,
            quiet: Duration::from_secs(300),
        }
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_000_000 + second)
    }

    fn with(plan: TriggerPlan) -> Triggers {
        let mut triggers = Triggers::default();
        triggers.replace(&[plan]);
        triggers
    }

    fn holds(steps: &[LevelStep]) -> usize {
        steps.iter().filter(|step| matches!(step, LevelStep::Hold { is_first: true, .. })).count()
    }

    #[test]
    fn a_level_opens_at_its_threshold_and_relaxes_after_quiet_below_half_of_it() {
        let mut triggers = with(plan());
        for _ in 0..9 {
            triggers.found(at(0));
        }
        assert!(triggers.tick(0, 0, at(0)).is_empty());
        triggers.found(at(1));
        assert_eq!(holds(&triggers.tick(0, 0, at(1))), 1);

        // Not quiet: seven are more than half of ten.
        for second in 60..400 {
            if second % 8 == 0 {
                triggers.found(at(second));
            }
            let steps = triggers.tick(0, 2, at(second));
            assert!(!steps.contains(&LevelStep::Relax { level: 2 }), "{second}");
            assert_eq!(holds(&steps), 0, "{second}");
        }

        let relaxed = (400..1_000).find(|second| {
            triggers.tick(0, 2, at(*second)).contains(&LevelStep::Relax { level: 2 })
        });
        let relaxed = relaxed.unwrap();
        assert!((700..760).contains(&relaxed), "{relaxed}");
    }

    #[test]
    fn a_level_that_takes_its_time_to_open_is_not_taken_for_one_that_somebody_lowered() {
        let mut triggers = with(plan());
        for _ in 0..10 {
            triggers.found(at(0));
        }
        assert_eq!(holds(&triggers.tick(0, 0, at(0))), 1);
        assert!(triggers.tick(0, 0, at(1)).is_empty(), "not open yet");

        let relaxed = (2..1_000).find(|second| {
            triggers.tick(0, 2, at(*second)).contains(&LevelStep::Relax { level: 2 })
        });

        assert!(relaxed.is_some());
    }

    #[test]
    fn what_goes_on_holds_its_level_without_saying_so_at_each_look() {
        let mut triggers = with(plan());
        let mut said = Vec::new();
        for second in 0..300 {
            triggers.found(at(second));
            let level = if said.is_empty() { 0 } else { 2 };
            let steps = triggers.tick(0, level, at(second));
            said.extend(steps.iter().filter_map(|step| match step {
                LevelStep::Hold { ttl, .. } => Some((second, *ttl)),
                LevelStep::Relax { .. } => None,
            }));
        }

        assert!(said.len() < 20, "{said:?}");
        let is_kept = |pair: &[(u64, Duration)]| pair[1].0 - pair[0].0 < pair[0].1.as_secs();
        assert!(said.windows(2).all(is_kept), "it never ends in between: {said:?}");
    }

    #[test]
    fn what_an_operator_lowered_stays_so_until_it_was_quiet() {
        let mut triggers = with(plan());
        let mut opened = Vec::new();
        for second in 0..600 {
            let is_loud = !(200..=400).contains(&second);
            if is_loud {
                triggers.found(at(second));
            }
            let level = if opened.is_empty() || second > 100 { 0 } else { 2 };
            if holds(&triggers.tick(0, level, at(second))) > 0 {
                opened.push(second);
            }
        }

        assert_eq!(opened.len(), 2, "{opened:?}");
        assert!(opened[1] > 400, "{opened:?}");
    }

    #[test]
    fn the_share_of_refused_logins_counts_from_some_logins_on() {
        let plan = TriggerPlan { findings_per_minute: None, refused_logins: Some(50), ..plan() };
        let logins = |refused: u64, all: u64| {
            let mut triggers = with(plan.clone());
            let second = triggers.second(at(0));
            (second.logins, second.refused) = (all, refused);
            holds(&triggers.tick(0, 0, at(0)))
        };

        assert_eq!(logins(19, 19), 0);
        assert_eq!(logins(10, 20), 1);
        assert_eq!(logins(9, 20), 0);
    }

    #[test]
    fn many_open_incidents_open_a_level() {
        let plan = TriggerPlan { findings_per_minute: None, open_incidents: Some(5), ..plan() };
        let mut triggers = with(plan);

        assert_eq!(holds(&triggers.tick(4, 0, at(0))), 0);
        assert_eq!(holds(&triggers.tick(5, 0, at(1))), 1);
    }

    #[test]
    fn what_is_counted_stays_bounded() {
        let mut triggers = with(plan());
        for second in 0..10_000 {
            triggers.found(at(second));
        }

        assert!(triggers.seconds.len() <= SECONDS);
    }
}
