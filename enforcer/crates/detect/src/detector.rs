//! Counts failures of authentication by source and says when a rule's threshold is crossed.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use enforcer_model::{Exchange, FailureCount, Failures, Offence, Prefix, RequestId, Source};

use crate::{Mode, Rule};

/// Sources remembered per rule, once as those that failed lately and once as those that were found
/// lately. When full, the sixteenth that failed longest ago makes room, so a
/// flood of new sources forgets the quietest first.
pub const SOURCES_MAX: usize = 65_536;

/// Requests that a finding names as evidence; the newest are kept.
pub const EVIDENCE_MAX: usize = 16;

/// One failure of authentication.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Whose failure it is: a TCP peer (a completed handshake, so the address is not forged), or whom a
    /// trusted proxy named.
    pub source: Source,
    /// The proxy that named it.
    pub through: Option<Source>,
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
    /// What failed inside the rule's window, by neighbourhood.
    recent: HashMap<Around, VecDeque<Failure>>,
    /// What was found inside the rule's time to live, by neighbourhood of more than one address.
    found: HashMap<Around, Found>,
}

/// A neighbourhood, and whether it is known only by the word of proxies: what they say of an address
/// is never added to what its own packets have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Around {
    network: Prefix,
    named: bool,
}

/// The last finding about one neighbourhood.
#[derive(Clone, Copy, Debug)]
struct Found {
    target: Prefix,
    at: Instant,
}

impl Failure {
    /// The failure that `exchange` is, if it is one: a credential was presented and not accepted.
    ///
    /// One that a rule had permitted was accepted, and was cut when its credential was taken back:
    /// that is our doing, and no guess.
    pub fn from_exchange(exchange: &Exchange, at: Instant) -> Option<Self> {
        let reason = exchange.reason?;
        let was_accepted = exchange.rule.is_some();
        (reason.is_refused_credential() && !was_accepted).then(|| Self {
            source: exchange.source(),
            through: exchange.through(),
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
                None => Watch::new(rule.clone()),
            })
            .collect();
    }

    /// Takes note of `failure` and returns what it completed, with the mode of each rule.
    ///
    /// A finding clears what was counted: the next one needs a whole threshold again. One IPv6
    /// address that failed alone is found by itself; as soon as a second one of its /64 is found
    /// while the first finding lasts, the whole /64 is.
    pub fn observe(&mut self, failure: Failure) -> Vec<(Offence, Mode)> {
        self.watches.iter_mut().filter_map(|watch| watch.observe(failure)).collect()
    }

    /// Forgets what is older than every rule's window; call it now and then.
    pub fn forget_old(&mut self, now: Instant) {
        for watch in &mut self.watches {
            let within = watch.rule.within;
            watch.recent.retain(|_, failures| {
                failures.back().is_some_and(|last| now.duration_since(last.at) <= within)
            });
            let ttl = watch.rule.ttl;
            watch.found.retain(|_, found| now.duration_since(found.at) <= ttl);
        }
    }
}

impl Watch {
    fn new(rule: Rule) -> Self {
        Self { rule, recent: HashMap::new(), found: HashMap::new() }
    }

    fn observe(&mut self, failure: Failure) -> Option<(Offence, Mode)> {
        let threshold = usize::try_from(self.rule.failures.get()).unwrap_or(usize::MAX);
        let named = failure.through.is_some();
        let around = Around { network: failure.source.neighbourhood(), named };
        make_room(&mut self.recent, around, |failures| failures.back().map(|last| last.at));

        let failures = self.recent.entry(around).or_default();
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

        let failures = self.recent.remove(&around)?;
        let alone = failures.iter().all(|earlier| earlier.source == failure.source);
        let target = self.target(around, alone.then_some(failure.source), failure.at);
        Some((self.finding(target, &failures), self.rule.mode))
    }

    /// The `alone` one, unless another of its neighbourhood was found lately: who takes a fresh
    /// address for every threshold is found by all of them.
    fn target(&mut self, around: Around, alone: Option<Source>, at: Instant) -> Prefix {
        if around.network.is_single() {
            return around.network;
        }
        make_room(&mut self.found, around, |found| Some(found.at));
        let before = self
            .found
            .get(&around)
            .filter(|found| at.saturating_duration_since(found.at) <= self.rule.ttl);
        let target = match alone.map(Prefix::from) {
            Some(alone) if before.is_none_or(|found| found.target == alone) => alone,
            Some(_) | None => around.network,
        };
        self.found.insert(around, Found { target, at });
        target
    }

    fn finding(&self, target: Prefix, failures: &VecDeque<Failure>) -> Offence {
        let surplus = failures.len().saturating_sub(EVIDENCE_MAX);
        Offence {
            rule: self.rule.id.to_string(),
            target,
            through: failures.back().and_then(|last| last.through),
            failures: FailureCount {
                seen: self.rule.failures.get(),
                window: self.rule.within,
                of: Failures::Authentication,
            },
            ttl: self.rule.ttl,
            evidence: failures.iter().skip(surplus).map(|failure| failure.request).collect(),
        }
    }
}

/// Drops the quietest sixteenth of a full `map` when `newcomer` is not in it: one by one, each
/// newcomer of a flood would cost a scan.
fn make_room<T>(
    map: &mut HashMap<Around, T>,
    newcomer: Around,
    last: impl Fn(&T) -> Option<Instant>,
) {
    if map.len() < SOURCES_MAX || map.contains_key(&newcomer) {
        return;
    }
    let mut times: Vec<_> = map.values().filter_map(&last).collect();
    let cut = times.len() / 16;
    let (_, &mut oldest_dropped, _) = times.select_nth_unstable(cut);
    map.retain(|_, entry| last(entry).is_some_and(|at| at > oldest_dropped));
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use enforcer_model::Reason;
    use proptest::prelude::*;

    use super::*;
    use crate::clients::tests::exchange;

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
    fn a_fresh_ipv6_address_for_every_threshold_is_found_by_its_64() {
        let mut detector = Detector::new(&[rule(3, 10)]);
        let start = start();

        let first = guess(&mut detector, "2001:db8::1", start, 0);
        let second = guess(&mut detector, "2001:db8::2", start, 3);
        let third = guess(&mut detector, "2001:db8::2", start, 6);

        assert_eq!(first, "2001:db8::1".parse().unwrap());
        assert_eq!(second, "2001:db8::/64".parse().unwrap());
        assert_eq!(third, "2001:db8::/64".parse().unwrap(), "the /64 stays found");
    }

    #[test]
    fn the_same_ipv6_address_again_is_found_by_itself_again() {
        let mut detector = Detector::new(&[rule(3, 10)]);
        let start = start();

        let first = guess(&mut detector, "2001:db8::1", start, 0);
        let second = guess(&mut detector, "2001:db8::1", start, 3);

        assert_eq!(first, second);
        assert_eq!(second, "2001:db8::1".parse().unwrap());
    }

    #[test]
    fn a_neighbour_found_longer_ago_than_the_block_lasts_widens_nothing() {
        let mut detector = Detector::new(&[rule(3, 10)]);
        let start = start();

        guess(&mut detector, "2001:db8::1", start, 0);
        let other = guess(&mut detector, "2001:db8:0:1::1", start, 3);
        let later = guess(&mut detector, "2001:db8::2", start, 903);

        assert_eq!(other, "2001:db8:0:1::1".parse().unwrap());
        assert_eq!(later, "2001:db8::2".parse().unwrap());
        detector.forget_old(start + Duration::from_secs(1_806));
        assert!(detector.watches[0].found.is_empty());
    }

    #[test]
    fn a_flood_of_findings_stays_within_the_bound() {
        let mut detector = Detector::new(&[rule(1, 10)]);
        let start = start();

        for n in 0..u64::try_from(SOURCES_MAX).unwrap() + 64 {
            let address = std::net::Ipv6Addr::from(u128::from(n) << 64 | 1);
            let at = start + Duration::from_micros(n);
            let source = Source::new(address.into());
            detector.observe(Failure {
                source,
                through: None,
                request: RequestId::from_bits(n.into()),
                at,
            });
        }

        let found = &detector.watches[0].found;
        assert!(found.len() <= SOURCES_MAX);
        assert!(found.len() >= SOURCES_MAX / 16 * 15);
        assert!(!found.contains_key(&around("::/64")));
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
            detector.observe(Failure {
                source,
                through: None,
                request: RequestId::from_bits(n.into()),
                at,
            });
        }

        let watch = &detector.watches[0];
        assert!(watch.recent.len() <= SOURCES_MAX);
        assert!(watch.recent.len() >= SOURCES_MAX / 16 * 15);
        assert!(!watch.recent.contains_key(&around("0.0.0.0")));
        assert!(watch.recent.contains_key(&around("0.1.0.63")));
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

    #[test]
    fn a_request_that_was_cut_is_no_failure_of_whoever_sent_it() {
        let refused = exchange("203.0.113.7", true, Some(Reason::KeyRevoked));
        let cut = Exchange { rule: Some("orders.allow[1]".to_owned()), ..refused.clone() };

        assert!(Failure::from_exchange(&refused, start()).is_some());
        assert!(Failure::from_exchange(&cut, start()).is_none());
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

    #[test]
    fn what_a_proxy_says_is_found_as_that_and_adds_nothing_to_what_packets_show() {
        let mut detector = Detector::new(&[rule(3, 10)]);
        let (start, proxy) = (start(), Source::new([10, 0, 0, 5].into()));
        let named =
            |second| Failure { through: Some(proxy), ..failure("203.0.113.7", start, second) };

        assert!(detector.observe(named(0)).is_empty());
        assert!(detector.observe(failure("203.0.113.7", start, 1)).is_empty());
        assert!(detector.observe(failure("203.0.113.7", start, 2)).is_empty());
        assert!(detector.observe(named(3)).is_empty());
        let (by_word, _) = detector.observe(named(4)).remove(0);
        let (by_packets, _) = detector.observe(failure("203.0.113.7", start, 5)).remove(0);

        assert_eq!((by_word.target, by_word.through), (by_packets.target, Some(proxy)));
        assert_eq!(by_packets.through, None);
    }

    fn around(network: &str) -> Around {
        Around { network: network.parse().unwrap(), named: false }
    }

    /// Three failures from `source`, one a second, and whom they are found to be.
    fn guess(detector: &mut Detector, source: &str, start: Instant, second: u64) -> Prefix {
        let mut found: Vec<_> = (second..second + 3)
            .flat_map(|second| detector.observe(failure(source, start, second)))
            .collect();
        assert_eq!(found.len(), 1);
        found.remove(0).0.target
    }

    fn failure(source: &str, start: Instant, second: u64) -> Failure {
        Failure {
            source: Source::new(source.parse().unwrap()),
            through: None,
            request: RequestId::from_bits(second.into()),
            at: start + Duration::from_secs(second),
        }
    }

    fn start() -> Instant {
        use enforcer_model::Clock;
        enforcer_model::SystemClock.now().monotonic
    }
}
