//! Counts failures of authentication by source and says when a rule's threshold is crossed.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Instant;

use enforcer_model::{Exchange, FailureCount, Finding, Prefix, RequestId, Source};

use crate::{Mode, Rule};

/// Sources remembered per rule. When full, the sixteenth that failed longest ago makes room, so a
/// flood of new sources forgets the quietest first.
pub const SOURCES_MAX: usize = 65_536;

/// Requests that a finding names as evidence; the newest are kept.
pub const EVIDENCE_MAX: usize = 16;

/// One failure of authentication.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// The TCP peer: a completed handshake, so the address is not forged.
    pub source: Source,
    /// The request that failed.
    pub request: RequestId,
    /// When it was answered.
    pub at: Instant,
}

/// The state of every rule. A reload that keeps a rule unchanged keeps what it has counted.
#[derive(Debug, Default)]
pub struct Detector {
    watches: Vec<Watch>,
}

#[derive(Debug)]
struct Watch {
    rule: Rule,
    recent: HashMap<Prefix, VecDeque<Failure>>,
}

impl Failure {
    /// The failure that `exchange` is, if it is one: a credential was presented and not accepted.
    pub fn from_exchange(exchange: &Exchange, at: Instant) -> Option<Self> {
        let reason = exchange.reason?;
        reason.is_refused_credential().then(|| Self {
            source: Source::new(exchange.peer.ip()),
            request: exchange.id,
            at,
        })
    }
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(rules: &[Rule]) -> Self {
        let mut detector = Self::default();
        detector.replace(rules);
        detector
    }

    /// Puts `rules` in force; counts of rules that did not change are kept.
    pub fn replace(&mut self, rules: &[Rule]) {
        let mut kept: Vec<Watch> = self.watches.drain(..).collect();
        self.watches = rules
            .iter()
            .map(|rule| match kept.iter().position(|watch| watch.rule == *rule) {
                Some(place) => kept.swap_remove(place),
                None => Watch { rule: rule.clone(), recent: HashMap::new() },
            })
            .collect();
    }

    /// Takes note of `failure` and returns what it completed, with the mode of each rule.
    ///
    /// A finding clears what was counted: the next one needs a whole threshold again.
    pub fn observe(&mut self, failure: Failure) -> Vec<(Finding, Mode)> {
        self.watches.iter_mut().filter_map(|watch| watch.observe(failure)).collect()
    }

    /// Forgets what is older than every rule's window; call it now and then.
    pub fn forget_old(&mut self, now: Instant) {
        for watch in &mut self.watches {
            let within = watch.rule.within;
            watch.recent.retain(|_, failures| {
                failures.back().is_some_and(|last| now.duration_since(last.at) <= within)
            });
        }
    }
}

impl Watch {
    fn observe(&mut self, failure: Failure) -> Option<(Finding, Mode)> {
        let threshold = usize::try_from(self.rule.failures.get()).unwrap_or(usize::MAX);
        let neighbourhood = neighbourhood(failure.source);
        if !self.recent.contains_key(&neighbourhood) && self.recent.len() >= SOURCES_MAX {
            self.make_room();
        }

        let failures = self.recent.entry(neighbourhood).or_default();
        failures.push_back(failure);
        while failures.len() > threshold
            || failures.front().is_some_and(|first| {
                failure.at.saturating_duration_since(first.at) > self.rule.within
            })
        {
            failures.pop_front();
        }
        if failures.len() < threshold {
            return None;
        }

        let failures = self.recent.remove(&neighbourhood)?;
        Some((self.finding(failure.source, neighbourhood, &failures), self.rule.mode))
    }

    fn finding(&self, last: Source, around: Prefix, failures: &VecDeque<Failure>) -> Finding {
        let alone = failures.iter().all(|failure| failure.source == last);
        let surplus = failures.len().saturating_sub(EVIDENCE_MAX);
        Finding {
            rule: self.rule.id.to_string(),
            target: if alone { last.into() } else { around },
            failures: FailureCount { seen: self.rule.failures.get(), window: self.rule.within },
            ttl: self.rule.ttl,
            evidence: failures.iter().skip(surplus).map(|failure| failure.request).collect(),
        }
    }

    /// Drops the quietest sixteenth at once: one by one, each newcomer of a flood would cost a scan.
    fn make_room(&mut self) {
        let mut last: Vec<_> =
            self.recent.values().filter_map(|failures| Some(failures.back()?.at)).collect();
        let cut = last.len() / 16;
        let (_, &mut oldest_kept, _) = last.select_nth_unstable(cut);
        self.recent.retain(|_, failures| failures.back().is_some_and(|last| last.at > oldest_kept));
    }
}

/// Whose failures add up: one IPv4 address, or an IPv6 /64, within which a host changes its address
/// at will (RFC 8981).
fn neighbourhood(source: Source) -> Prefix {
    match source.address() {
        IpAddr::V4(_) => source.into(),
        IpAddr::V6(_) => Prefix::around(source.address(), 64),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_threshold_inside_the_window_makes_one_finding() {
        let mut detector = Detector::new(&[rule(3, 10)]);
        let start = start();

        let found: Vec<_> = [0, 1, 2, 3, 4]
            .into_iter()
            .map(|second| detector.observe(failure("203.0.113.7", start, second)).len())
            .collect();

        assert_eq!(found, [0, 0, 1, 0, 0]);
    }

    #[test]
    fn failures_spread_wider_than_the_window_are_no_finding() {
        let mut detector = Detector::new(&[rule(3, 10)]);
        let start = start();

        for second in (0..200).step_by(6) {
            assert!(detector.observe(failure("203.0.113.7", start, second)).is_empty());
        }
    }

    #[test]
    fn two_sources_do_not_add_up() {
        let mut detector = Detector::new(&[rule(2, 10)]);
        let start = start();

        assert!(detector.observe(failure("203.0.113.7", start, 0)).is_empty());
        assert!(detector.observe(failure("203.0.113.8", start, 0)).is_empty());
    }

    #[test]
    fn a_host_that_changes_its_ipv6_address_is_found_by_its_64() {
        let mut detector = Detector::new(&[rule(3, 10)]);
        let start = start();

        detector.observe(failure("2001:db8::1", start, 0));
        detector.observe(failure("2001:db8::2", start, 1));
        let (finding, _) = detector.observe(failure("2001:db8::3", start, 2)).remove(0);

        assert_eq!(finding.target, "2001:db8::/64".parse().unwrap());
        assert_eq!(finding.evidence.len(), 3);
    }

    #[test]
    fn one_ipv6_address_alone_is_found_by_itself() {
        let mut detector = Detector::new(&[rule(2, 10)]);
        let start = start();

        detector.observe(failure("2001:db8::1", start, 0));
        let (finding, _) = detector.observe(failure("2001:db8::1", start, 1)).remove(0);

        assert_eq!(finding.target, "2001:db8::1".parse().unwrap());
    }

    #[test]
    fn a_reload_that_keeps_a_rule_keeps_its_counts() {
        let mut detector = Detector::new(&[rule(2, 10)]);
        let start = start();

        detector.observe(failure("203.0.113.7", start, 0));
        detector.replace(&[rule(2, 10), rule(5, 60)]);

        assert_eq!(detector.observe(failure("203.0.113.7", start, 1)).len(), 1);
    }

    #[test]
    fn a_flood_of_sources_stays_within_the_bound_and_forgets_the_quietest() {
        let mut detector = Detector::new(&[rule(2, 10)]);
        let start = start();

        for n in 0..u32::try_from(SOURCES_MAX).unwrap() + 64 {
            let source = Source::new(std::net::Ipv4Addr::from(n).into());
            let at = start + Duration::from_micros(n.into());
            detector.observe(Failure { source, request: RequestId::from_bits(n.into()), at });
        }

        let watch = &detector.watches[0];
        assert!(watch.recent.len() <= SOURCES_MAX);
        assert!(watch.recent.len() >= SOURCES_MAX / 16 * 15);
        assert!(!watch.recent.contains_key(&"0.0.0.0".parse().unwrap()));
        assert!(watch.recent.contains_key(&"0.1.0.63".parse().unwrap()));
    }

    #[test]
    fn old_sources_are_forgotten() {
        let mut detector = Detector::new(&[rule(2, 10)]);
        let start = start();

        detector.observe(failure("203.0.113.7", start, 0));
        detector.forget_old(start + Duration::from_secs(11));

        assert!(detector.watches[0].recent.is_empty());
    }

    proptest! {
        #[test]
        fn a_finding_is_made_exactly_when_a_plain_count_says_so(
            gaps in prop::collection::vec(0..8u64, 1..60),
            threshold in 1..6u32,
        ) {
            let mut detector = Detector::new(&[rule(threshold, 10)]);
            let start = start();
            let mut counted: Vec<u64> = Vec::new();
            let mut now = 0;

            for gap in gaps {
                now += gap;
                counted.push(now);
                counted.retain(|&at| now - at <= 10);
                let expected = counted.len() >= threshold.try_into().unwrap();
                if expected {
                    counted.clear();
                }

                let found = detector.observe(failure("203.0.113.7", start, now)).len() == 1;
                prop_assert_eq!(found, expected);
            }
        }
    }

    fn rule(failures: u32, within_seconds: u64) -> Rule {
        Rule {
            id: "key-guessing".into(),
            failures: NonZeroU32::new(failures).unwrap(),
            within: Duration::from_secs(within_seconds),
            ttl: Duration::from_secs(900),
            mode: Mode::Auto,
        }
    }

    fn failure(source: &str, start: Instant, second: u64) -> Failure {
        Failure {
            source: Source::new(source.parse().unwrap()),
            request: RequestId::from_bits(second.into()),
            at: start + Duration::from_secs(second),
        }
    }

    fn start() -> Instant {
        use enforcer_model::Clock;
        enforcer_model::SystemClock.now().monotonic
    }
}
