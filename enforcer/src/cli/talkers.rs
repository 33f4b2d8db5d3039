//! Who sends most, and where most goes to: the kernel's tables as rows, with rates between two looks.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use enforcer_admin::call::Talkers;
use enforcer_admin::{Answer, Call};
use enforcer_model::Prefix;

use super::quarantine::span;
use super::{Context, Failure, bytes, mismatched};

/// What was counted at the look before, to tell rates.
#[derive(Debug, Default)]
pub(super) struct Before {
    sources: HashMap<Prefix, u64>,
    destinations: HashMap<Prefix, u64>,
    at: Option<Instant>,
}

/// The first `most` of each.
pub(super) fn ask(context: &Context, most: u32) -> Result<Talkers, Failure> {
    let Answer::Talkers(talkers) = context.ask(&Call::Talkers { most })? else {
        return Err(mismatched());
    };
    Ok(*talkers)
}

impl Before {
    /// What `talkers` counted at the look `at` that time.
    pub(super) fn of(talkers: &Talkers, at: Instant) -> Self {
        let sources = talkers.sources.iter().map(|one| (one.source, one.packets));
        let destinations = talkers.destinations.iter().map(|one| (one.destination, one.bytes));
        Self { sources: sources.collect(), destinations: destinations.collect(), at: Some(at) }
    }

    fn rate(&self, before: Option<&u64>, count: u64, now: Instant) -> Option<u64> {
        let elapsed = now.saturating_duration_since(self.at?);
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        // Counters of the kernel wrap, and who was gone meanwhile begins anew.
        Some(count.saturating_sub(*before?).saturating_mul(1_000) / millis)
    }
}

/// Rows for people; with a look before, their rates as well.
pub(super) fn told(talkers: &Talkers, before: &Before, now: Instant) -> Vec<String> {
    if let Some(why) = &talkers.kernel_off {
        return vec![format!("talkers  none: the kernel part is off ({why})")];
    }
    let per_second =
        |rate: Option<u64>| rate.map_or_else(|| "-".to_owned(), |rate| rate.to_string());
    let mut lines = Vec::new();
    if !talkers.sources.is_empty() {
        let (packets, idle) = ("PACKETS", "IDLE");
        lines.push(format!("{:<24} {packets:>12} {:>10} {idle:>8}", "SOURCE", "PER SECOND"));
    }
    for one in &talkers.sources {
        let rate = per_second(before.rate(before.sources.get(&one.source), one.packets, now));
        let over = if one.over { "  OVER ITS BUDGET" } else { "" };
        let (source, idle) = (one.source.to_string(), idle(one.idle_ms));
        lines.push(format!("{source:<24} {:>12} {rate:>10} {idle:>8}{over}", one.packets));
    }
    if !talkers.destinations.is_empty() {
        let (sent, idle) = ("BYTES", "IDLE");
        lines.push(format!("{:<24} {sent:>12} {:>10} {idle:>8}", "DESTINATION", "PER SECOND"));
    }
    for one in &talkers.destinations {
        let rate = before.rate(before.destinations.get(&one.destination), one.bytes, now);
        let rate = rate.map_or_else(|| "-".to_owned(), bytes);
        let (destination, idle) = (one.destination.to_string(), idle(one.idle_ms));
        lines.push(format!("{destination:<24} {:>12} {rate:>10} {idle:>8}", bytes(one.bytes)));
    }
    if talkers.sources.is_empty() && talkers.destinations.is_empty() {
        lines.push(
            "talkers  none: budgets and egress keep the tables, and both are off or unused".into(),
        );
    }
    lines
}

fn idle(ms: u64) -> String {
    if ms < 1_000 { "now".to_owned() } else { span(Duration::from_millis(ms)) }
}

#[cfg(test)]
mod tests {
    use enforcer_admin::call::{Peer, Talker};
    use enforcer_model::{Clock, SystemClock};

    use super::*;

    #[test]
    fn rates_are_those_between_two_looks_and_absent_at_the_first() {
        let first = talkers(1_000, 1 << 20);
        let now = talkers(3_000, 3 << 20);

        let begin = SystemClock.now().monotonic;

        let once = told(&first, &Before::default(), begin);
        let before = Before::of(&first, begin);
        let again = told(&now, &before, begin + Duration::from_millis(500));

        assert_eq!(
            once,
            [
                "SOURCE                        PACKETS PER SECOND     IDLE",
                "203.0.113.7                      1000          -      now  OVER ITS BUDGET",
                "DESTINATION                     BYTES PER SECOND     IDLE",
                "2001:db8::/64                 1.0 MiB          -       2s",
            ]
        );
        assert!(again[1].contains(" 4000 "), "{again:#?}");
        assert!(again[3].contains(" 4.0 MiB "), "{again:#?}");
    }

    #[test]
    fn no_table_and_no_kernel_part_are_told_apart() {
        let none = Talkers::default();
        let off = Talkers { kernel_off: Some("no capability".to_owned()), ..Talkers::default() };

        let first =
            |talkers| told(talkers, &Before::default(), SystemClock.now().monotonic).swap_remove(0);

        assert!(first(&none).contains("budgets and egress"));
        assert!(first(&off).contains("no capability"));
    }

    fn talkers(packets: u64, bytes: u64) -> Talkers {
        let source = "203.0.113.7".parse().unwrap();
        let destination = "2001:db8::/64".parse().unwrap();
        Talkers {
            sources: vec![Talker { source, packets, idle_ms: 3, over: true }],
            destinations: vec![Peer { destination, packets, bytes, idle_ms: 2_000 }],
            flood: None,
            kernel_off: None,
        }
    }
}
