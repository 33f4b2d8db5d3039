//! Who goes on after being refused: first the kernel passes fewer of its packets, then none.
//!
//! Refusals by a source's own limits are counted in a sliding window. Crossing the policy's threshold
//! shrinks the packet budget of the source; crossing it again and again for `block_after` under that
//! budget is answered by a block with an end. An address on which [`SHARED_FROM`] callers were
//! authenticated within ten minutes is shared and never touched: one of them would shut out the rest.
//!
//! Pure: refusals in, [`Step`]s out. At most [`SOURCES_MAX`] sources are known at once; when there is
//! no room, one more is limited at layer 7 and nothing else. At most [`THROTTLED_MAX`] are throttled;
//! one more keeps its budget and goes on towards its block.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use enforcer_limits::Throttle;
use enforcer_model::{Exchange, Prefix, Reason};

/// Sources that are counted at once.
pub(crate) const SOURCES_MAX: usize = 65_536;

/// Sources whose budget is shrunk at once.
pub(crate) const THROTTLED_MAX: usize = 1_024;

/// So many callers on one address make it a shared one.
const SHARED_FROM: usize = 4;

/// How long a caller, and a silent source, is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Parts of a window.
const PARTS: usize = 10;

/// What is to be done about a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It went on: nothing of it passes for a while.
    Block { source: Prefix, refusals: u32, within: Duration, ttl: Duration },
    /// It is shared, as it turns out: it gets everybody's budget again.
    Lift { source: Prefix },
    /// Fewer of its packets pass until the end of the penalty.
    Shrink { source: Prefix, refusals: u32, within: Duration, penalty: Duration },
}

/// Everything that is known of sources.
#[derive(Debug, Default)]
pub(crate) struct Offenders {
    plan: Option<Throttle>,
    sources: HashMap<(Prefix, Seen), Known>,
    /// Those that the kernel was told of, and until when they are throttled.
    told: HashMap<Prefix, Instant>,
    hasher: RandomState,
    /// When the first request was seen; windows are cut from here on.
    origin: Option<Instant>,
    /// When the full table was last looked through.
    cleared: Option<Instant>,
}

/// How a source is known. What proxies say of it is never added to what its own packets have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Seen {
    Itself,
    /// By the word of a proxy: the kernel never sees its packets.
    Named,
}

/// One source: an IPv4 address or an IPv6 /64.
#[derive(Debug)]
struct Known {
    callers: [Option<(u64, Instant)>; SHARED_FROM],
    window: Window,
    /// Since when and until when it is throttled.
    throttled: Option<(Instant, Instant)>,
    last: Instant,
}

/// Refusals in the last parts of a window.
#[derive(Debug)]
struct Window {
    parts: [u32; PARTS],
    /// Number of the latest part.
    at: u128,
}

impl Offenders {
    /// Counts by `plan` from here on; without one, nothing. What is throttled runs out.
    pub(crate) fn replace(&mut self, plan: Option<&Throttle>) {
        self.plan = plan.copied();
        if self.plan.is_none() {
            self.sources.clear();
            self.told.clear();
        }
    }

    /// Takes a finished request into account.
    pub(crate) fn observe(&mut self, exchange: &Exchange, now: Instant) -> Option<Step> {
        let plan = self.plan?;
        let refused = exchange.reason.is_some_and(is_own_doing);
        let caller = exchange.who.as_ref().map(|who| self.hasher.hash_one(&who.principal));
        if !refused && caller.is_none() {
            return None;
        }
        let source = exchange.source().neighbourhood();
        let seen = if exchange.through().is_some() { Seen::Named } else { Seen::Itself };
        let since = now.saturating_duration_since(*self.origin.get_or_insert(now));
        let known = self.known((source, seen), now)?;
        known.last = now;
        if let Some(caller) = caller {
            known.meet(caller, now);
        }
        if known.is_shared(now) {
            known.window.clear();
            known.throttled = None;
            let told = match seen {
                Seen::Itself => self.told.remove(&source),
                Seen::Named => None,
            };
            return told.map(|_| Step::Lift { source });
        }
        if !refused {
            return None;
        }
        let step = known.refuse(source, &plan, since, now)?;
        if seen == Seen::Named {
            return Some(step);
        }
        match step {
            Step::Block { .. } | Step::Lift { .. } => drop(self.told.remove(&source)),
            Step::Shrink { penalty, .. } => {
                if !self.has_room(source, now) {
                    return None;
                }
                self.told.insert(source, now + penalty);
            }
        }
        Some(step)
    }

    /// Forgets who was not heard of for ten minutes; call it now and then.
    pub(crate) fn forget_old(&mut self, now: Instant) {
        self.told.retain(|_, until| *until > now);
        self.sources.retain(|_, known| {
            let silent = now.saturating_duration_since(known.last);
            silent <= REMEMBERED || known.throttled.is_some_and(|(_, until)| until > now)
        });
    }

    fn known(&mut self, source: (Prefix, Seen), now: Instant) -> Option<&mut Known> {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            // A flood of sources must not pay for a walk through all of them each.
            let pause = Duration::from_secs(1);
            if self.cleared.is_some_and(|at| now.saturating_duration_since(at) < pause) {
                return None;
            }
            self.cleared = Some(now);
            self.forget_old(now);
            if self.sources.len() >= SOURCES_MAX {
                return None;
            }
        }
        Some(self.sources.entry(source).or_insert_with(|| Known::new(now)))
    }

    fn has_room(&mut self, source: Prefix, now: Instant) -> bool {
        if self.told.len() >= THROTTLED_MAX {
            self.told.retain(|_, until| *until > now);
        }
        self.told.len() < THROTTLED_MAX || self.told.contains_key(&source)
    }
}

impl Known {
    const fn new(now: Instant) -> Self {
        Self { callers: [None; SHARED_FROM], window: Window::NEW, throttled: None, last: now }
    }

    /// Remembers a caller, in the place of the one not seen for longest.
    fn meet(&mut self, caller: u64, now: Instant) {
        let same =
            |place: &&mut Option<(u64, Instant)>| place.is_some_and(|(known, _)| known == caller);
        let place = match self.callers.iter_mut().find(same) {
            Some(place) => Some(place),
            None => self.callers.iter_mut().min_by_key(|place| place.map(|(_, seen)| seen)),
        };
        if let Some(place) = place {
            *place = Some((caller, now));
        }
    }

    fn is_shared(&self, now: Instant) -> bool {
        let recent = |seen: Instant| now.saturating_duration_since(seen) <= REMEMBERED;
        self.callers.iter().all(|caller| caller.is_some_and(|(_, seen)| recent(seen)))
    }

    /// Counts a refusal; whoever was throttled for long enough and crosses the threshold once more
    /// is blocked.
    fn refuse(
        &mut self,
        source: Prefix,
        plan: &Throttle,
        since: Duration,
        now: Instant,
    ) -> Option<Step> {
        let refusals = self.window.count(since, plan.within);
        if refusals < plan.refusals.get() {
            return None;
        }
        self.window.clear();
        let (within, penalty) = (plan.within, plan.penalty);
        let begun = self.throttled.filter(|(_, until)| *until > now).map(|(since, _)| since);
        if begun.is_some_and(|at| now.saturating_duration_since(at) >= plan.block_after) {
            // Whoever comes back after the block begins at the first step.
            self.throttled = None;
            return Some(Step::Block { source, refusals, within, ttl: plan.block_for });
        }
        self.throttled = Some((begun.unwrap_or(now), now + penalty));
        Some(Step::Shrink { source, refusals, within, penalty })
    }
}

impl Window {
    const NEW: Self = Self { parts: [0; PARTS], at: 0 };

    /// Counts one more at `since` the beginning; how many there were in the last `within`, up to a
    /// tenth of it.
    fn count(&mut self, since: Duration, within: Duration) -> u32 {
        let number = since.as_nanos() / (within.as_nanos() / 10).max(1);
        for step in 1..=number.saturating_sub(self.at).min(10) {
            *self.part(self.at.saturating_add(step)) = 0;
        }
        self.at = self.at.max(number);
        let latest = self.part(self.at);
        *latest = latest.saturating_add(1);
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(*part))
    }

    const fn clear(&mut self) {
        self.parts = [0; PARTS];
    }

    fn part(&mut self, number: u128) -> &mut u32 {
        let [first, rest @ ..] = &mut self.parts;
        match usize::try_from(number % 10).unwrap_or(0) {
            0 => first,
            place => rest.get_mut(place - 1).unwrap_or(first),
        }
    }
}

/// Whether a refusal is by a limit that the source, or its caller, has for itself. One that many
/// share may be used up by others.
const fn is_own_doing(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::LimitConcurrent | Reason::LimitKey | Reason::LimitSource | Reason::QuotaUsed
    )
}

#[cfg(test)]
mod tests {
    use enforcer_model::{
        Clock, CredentialKind, HttpVersion, KeyId, Principal, RequestId, Source, SystemClock,
        Timestamp, Who,
    };

    use super::*;

    /// 50 refusals in 10 s; 5 min of penalty; after 1 min of it a block of 15 min.
    fn offenders() -> (Offenders, Instant) {
        let mut offenders = Offenders::default();
        offenders.replace(Some(&Throttle::default()));
        (offenders, SystemClock.now().monotonic)
    }

    #[test]
    fn fifty_refusals_in_ten_seconds_shrink_the_budget_and_forty_nine_do_not() {
        let (mut offenders, start) = offenders();
        for n in 0..49 {
            assert_eq!(offenders.observe(&refused("192.0.2.1", None), ms(start, n)), None);
        }
        // Another source has a count of its own.
        assert_eq!(offenders.observe(&refused("192.0.2.2", None), start), None);

        let step = offenders.observe(&refused("192.0.2.1", None), ms(start, 50)).unwrap();

        let Throttle { within, penalty, .. } = Throttle::default();
        assert_eq!(step, Step::Shrink { source: net("192.0.2.1"), refusals: 50, within, penalty });
    }

    #[test]
    fn refusals_that_are_spread_out_lead_to_nothing() {
        let (mut offenders, start) = offenders();
        for n in 0..2_000 {
            // Four a second: forty in ten seconds.
            assert_eq!(offenders.observe(&refused("192.0.2.1", None), ms(start, n * 250)), None);
        }
    }

    #[test]
    fn whoever_goes_on_for_a_minute_is_blocked_and_whoever_stops_is_not() {
        let (mut offenders, start) = offenders();
        let hammer = |offenders: &mut Offenders, from: u64, until: u64| -> Vec<Step> {
            let request = refused("2001:db8::1", None);
            (from..until).filter_map(|n| offenders.observe(&request, ms(start, n * 100))).collect()
        };

        let steps = hammer(&mut offenders, 0, 640);
        assert!(matches!(steps.first(), Some(Step::Shrink { .. })), "{steps:?}");
        assert!(!steps.iter().any(|step| matches!(step, Step::Block { .. })), "{steps:?}");
        let steps = hammer(&mut offenders, 640, 690);
        let [Step::Block { source, ttl, .. }] = steps[..] else { panic!("{steps:?}") };
        assert_eq!((source, ttl), (net("2001:db8::/64"), Duration::from_secs(900)));

        // Back after the block: the first step again. Then silence for longer than the penalty.
        let steps = hammer(&mut offenders, 20_000, 20_060);
        assert!(matches!(steps[..], [Step::Shrink { .. }]), "{steps:?}");
        let steps = hammer(&mut offenders, 30_000, 30_060);
        assert!(matches!(steps[..], [Step::Shrink { .. }]), "{steps:?}");
    }

    #[test]
    fn an_address_that_four_callers_share_is_never_touched() {
        let (mut offenders, start) = offenders();
        for n in 0..10_000u64 {
            let caller = u8::try_from(n % 4).unwrap();
            let step = offenders.observe(&refused("192.0.2.1", Some(caller)), ms(start, n * 10));
            assert_eq!(step, None, "request {n}");
        }
    }

    #[test]
    fn three_callers_do_not_shield_and_callers_of_long_ago_do_not_count() {
        let (mut offenders, start) = offenders();
        for caller in 0..4 {
            assert_eq!(offenders.observe(&served("192.0.2.1", caller), start), None);
        }
        let later = start + REMEMBERED + Duration::from_secs(1);
        let steps: Vec<_> = (0..50u8)
            .filter_map(|n| offenders.observe(&refused("192.0.2.1", Some(n % 3)), later))
            .collect();

        assert!(matches!(steps[..], [Step::Shrink { .. }]), "{steps:?}");
    }

    #[test]
    fn a_source_that_turns_out_to_be_shared_gets_its_budget_back() {
        let (mut offenders, start) = offenders();
        for _ in 0..50 {
            offenders.observe(&refused("192.0.2.1", None), start);
        }
        let steps: Vec<_> =
            (0..4).filter_map(|n| offenders.observe(&served("192.0.2.1", n), start)).collect();

        assert_eq!(steps, [Step::Lift { source: net("192.0.2.1") }]);
    }

    #[test]
    fn only_limits_that_a_caller_has_for_itself_are_its_own_doing() {
        let (mut offenders, start) = offenders();
        for reason in Reason::ALL.iter().copied().filter(|reason| !is_own_doing(*reason)) {
            for _ in 0..200 {
                let other = Exchange { reason: Some(reason), ..refused("192.0.2.1", None) };
                assert_eq!(offenders.observe(&other, start), None, "{reason}");
            }
        }
        assert!(!is_own_doing(Reason::LimitShared) && !is_own_doing(Reason::Shed));
        assert!(offenders.sources.is_empty());
    }

    #[test]
    fn the_tables_never_outgrow_their_bounds_and_make_room_when_sources_fall_silent() {
        let (mut offenders, start) = offenders();
        let address = |n: usize| {
            let n = u32::try_from(n).unwrap();
            std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string()
        };
        for n in 0..SOURCES_MAX + 100 {
            offenders.observe(&refused(&address(n), None), start);
        }
        assert_eq!(offenders.sources.len(), SOURCES_MAX);
        let mut shrunk = 0;
        for n in 0..THROTTLED_MAX + 50 {
            let request = refused(&address(n), None);
            shrunk += (0..60).filter_map(|_| offenders.observe(&request, start)).count();
        }
        assert_eq!((shrunk, offenders.told.len()), (THROTTLED_MAX, THROTTLED_MAX));

        let later = start + REMEMBERED + Duration::from_secs(1);
        offenders.observe(&refused("192.0.2.1", None), later);
        assert_eq!(offenders.sources.len(), 1);
        offenders.forget_old(later);
        assert!(offenders.told.is_empty());
    }

    #[test]
    fn without_a_plan_nothing_is_counted_and_nothing_kept() {
        let (mut offenders, start) = offenders();
        offenders.observe(&refused("192.0.2.1", None), start);
        offenders.replace(None);

        for _ in 0..200 {
            assert_eq!(offenders.observe(&refused("192.0.2.1", None), start), None);
        }
        assert!(offenders.sources.is_empty());
    }

    fn ms(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn what_a_proxy_says_of_a_source_is_counted_by_itself_and_shrinks_no_budget_of_packets() {
        let (mut offenders, start) = offenders();
        let named = Exchange {
            source: Some("192.0.2.1".parse::<std::net::IpAddr>().map(Source::new).unwrap()),
            source_by: Some(enforcer_model::SourceBy::XForwardedFor),
            ..refused("10.0.0.5", None)
        };
        for n in 0..49 {
            assert_eq!(offenders.observe(&named, ms(start, n)), None);
            assert_eq!(offenders.observe(&refused("192.0.2.1", None), ms(start, n)), None);
        }

        let by_word = offenders.observe(&named, ms(start, 50));

        assert!(matches!(by_word, Some(Step::Shrink { source, .. }) if source == net("192.0.2.1")));
        assert!(offenders.told.is_empty(), "the kernel is not told");
        offenders.observe(&refused("192.0.2.1", None), ms(start, 51)).unwrap();
        assert_eq!(offenders.told.len(), 1);
        assert_eq!(offenders.observe(&refused("10.0.0.5", None), ms(start, 52)), None);
    }

    fn net(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn served(source: &str, caller: u8) -> Exchange {
        Exchange { reason: None, ..refused(source, Some(caller)) }
    }

    fn refused(source: &str, caller: Option<u8>) -> Exchange {
        let key = |n: u8| KeyId::from_bytes([b'a' + n; 12]).unwrap();
        Exchange {
            id: RequestId::from_bits(1),
            at: Timestamp::from_unix_seconds(1),
            peer: std::net::SocketAddr::new(source.parse().unwrap(), 40_000).into(),
            source: None,
            source_by: None,
            source_doubt: None,
            listener: "public".into(),
            tls: None,
            ja4: None,
            user_agent: None,
            trace: None,
            http: HttpVersion::H1,
            method: "GET".into(),
            host: None,
            path: None,
            route: None,
            who: caller.map(|n| Who::new(Principal::from_key(key(n)), CredentialKind::ApiKey)),
            incident: 0,
            region: None,
            credential: None,
            status: 429,
            reason: Some(Reason::LimitSource),
            cause: None,
            rule: None,
            upstream: None,
            cache: None,
            bytes_in: 0,
            bytes_out: 0,
            exposed: None,
            duration: Duration::ZERO,
            upstream_wait: Duration::ZERO,
            policy: "".into(),
        }
    }
}
