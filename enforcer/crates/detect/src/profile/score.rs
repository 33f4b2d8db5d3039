//! From measures to bits, from bits to a score, from a score to a finding.

use enforcer_model::{Principal, Timestamp};

use super::group::Group;
use super::identity::Identity;
use super::kind::{Aspect, COUNTED, FAMILIES, KINDS, Kind, PerKind};
use super::level::{self, Expected};
use super::marks::marks;
use super::num::{Coarse, Small, measure, seconds};
use super::{DAY, Profiles};
use crate::detector::EVIDENCE_MAX;
use crate::{Entity, Finding, Request, SIGNALS_MAX, Scene, Signal};

/// A finding about an identity that has one today follows only when the score has risen by this.
const RISE: f32 = 6.0;

/// Days after which a drift is told from chance.
pub(super) const DRIFT_DAYS: u16 = 7;
/// What is left of a drift after a day, and what a day may be above the usual without one.
pub(super) const DRIFT_KEPT: f32 = 0.9;
pub(super) const DRIFT_FREE: f32 = 1.0;

/// How far above the long run a day is that belongs to a drift, in deviations.
pub(super) const DRIFT_SHOWS: f32 = 0.7;

/// Places of the two counts of which one explains the other.
const BURST_REQUESTS: usize = Kind::BurstRequests.place();
const BURST_ERRORS: usize = Kind::BurstErrors.place();

/// The kinds whose long memory is kept, in its order.
pub(super) const LONG: [Kind; 4] =
    [Kind::DayRequests, Kind::DayBytes, Kind::DayDistinct, Kind::DayNovel];

/// What is known of the day of an identity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    /// By kind.
    pub(super) bits: [f32; KINDS],
    /// The score.
    pub(super) score: f32,
}

impl Profiles {
    /// Scores the day so far and makes a finding of it when it is one.
    pub(super) fn judge(
        &mut self,
        place: usize,
        request: &Request<'_>,
        now: u32,
    ) -> Option<Finding> {
        let judged = self.score(place, true)?;
        let learning = self.is_learning(now);
        let bits = self.plan.bits;
        let identity = self.table.get_mut(place)?;
        self.rose = (!learning && judged.score > identity.day.score).then_some(place);
        identity.day.score = identity.day.score.max(judged.score);
        self.last_score = identity.day.score;
        let told = identity.tally.told.get();
        let window = identity.short_window();
        let again = judged.score >= told + RISE && window != identity.tally.told_in;
        if learning || judged.score < bits || told > 0.0 && !again {
            return None;
        }
        identity.tally.told = Coarse::new(judged.score);
        identity.tally.told_in = window;
        self.finding(place, &judged, request)
    }

    /// Scores the day so far; `tell` says whether it counts for what others do today.
    pub(super) fn score(&mut self, place: usize, tell: bool) -> Option<Judged> {
        let identity = self.table.get_mut(place)?;
        let (all, group) = (self.groups.first()?, usize::from(identity.group));
        let peers = self.groups.get(group).unwrap_or(all);
        let (values, expected) = (values(identity), all_expected(identity, peers, all));
        let mut raws = [0.0; KINDS];
        let mut burst = 0.0;
        for (place, (value, expected)) in values.iter().zip(expected).enumerate() {
            let mut above = value - expected.mean;
            if place == BURST_REQUESTS {
                burst = above.max(0.0);
            } else if place == BURST_ERRORS {
                // More requests fail when there are more.
                above -= burst;
            }
            if let Some(raw) = raws.get_mut(place) {
                *raw = (above / expected.deviation).max(0.0);
            }
        }
        raws.set(Kind::OddHours, identity.tally.odd.get());
        raws.set(Kind::Network, identity.tally.network.get());
        raws.set(Kind::Client, identity.tally.client.get());
        raws.set(Kind::Routes, identity.tally.route.get());
        raws.set(Kind::Drift, drift_now(identity, &values, &expected));
        for (place, (raw, top)) in raws.iter().zip(&mut identity.tally.top).enumerate() {
            let before = top.get();
            if *raw > before {
                let groups = if tell { 1 + usize::from(group != 0) } else { 0 };
                for group in [0, group].into_iter().take(groups) {
                    if let Some(group) = self.groups.get_mut(group) {
                        group.rise(place, before, *raw);
                    }
                }
                *top = Small::new(*raw);
            }
        }
        let judged = self.judged_of(self.table.get(place)?)?;
        let bits = self.plan.bits;
        let identity = self.table.get_mut(place)?;
        identity.marks = marks(identity, &expected, bits - judged.score);
        Some(judged)
    }

    fn finding(&self, place: usize, judged: &Judged, request: &Request<'_>) -> Option<Finding> {
        let identity = self.table.get(place)?;
        let principal: Principal = serde_json::from_value(request.identity?.into()).ok()?;
        let mut signals = self.signals_of(identity, judged, Some(request.source.address()));
        signals.truncate(SIGNALS_MAX);
        let mut evidence: Vec<_> = self
            .recent
            .iter()
            .rev()
            .filter(|(name, _)| *name == identity.name)
            .take(EVIDENCE_MAX)
            .map(|(_, id)| *id)
            .collect();
        evidence.reverse();
        Some(Finding {
            rule: std::sync::Arc::clone(&self.rule),
            about: Entity::Identity(principal.clone()),
            at: request.at,
            window: std::time::Duration::from_secs(DAY.into()),
            signals,
            evidence,
            scene: Scene {
                source: Some(request.source),
                through: request.through,
                identity: Some(principal),
                credential: request.credential,
                ja4: request.ja4.map(Into::into),
                route: request.route.map(Into::into),
                upstream: request.upstream.map(Into::into),
            },
            respond: std::sync::Arc::clone(&self.plan.respond),
        })
    }

    /// What each signal of the day of `identity` says now, in bits; nothing of who is unknown or was
    /// not there today.
    pub fn signals(&self, identity: &str, now: Timestamp) -> Vec<(Aspect, f32)> {
        let Some(judged) = self.judged(identity, now) else { return Vec::new() };
        Aspect::ALL.iter().map(|aspect| (*aspect, largest(&judged.bits, &[*aspect]))).collect()
    }

    /// The score of `identity` by `aspects` alone: what a rule's `or_profile` compares.
    pub fn surprise(&self, identity: &str, aspects: &[Aspect], now: Timestamp) -> f32 {
        let Some(judged) = self.judged(identity, now) else { return 0.0 };
        total(FAMILIES.iter().map(|family| {
            let named: Vec<Aspect> =
                family.iter().filter(|aspect| aspects.contains(aspect)).copied().collect();
            largest(&judged.bits, &named)
        }))
    }

    /// The signals of the identity whose day the last request has made more surprising, by name: what
    /// rules with an `or_profile` look at. Nothing of others, nor while the host learns.
    pub fn surprises(&self) -> Vec<(&'static str, Signal)> {
        let Some(identity) = self.rose.and_then(|place| self.table.get(place)) else {
            return Vec::new();
        };
        let Some(judged) = self.judged_of(identity) else { return Vec::new() };
        Aspect::ALL
            .into_iter()
            .filter_map(|aspect| {
                Some((aspect.as_str(), self.signal_of(identity, &judged, aspect)?))
            })
            .collect()
    }

    fn judged(&self, identity: &str, now: Timestamp) -> Option<Judged> {
        let place = self.named(identity)?;
        let identity = self.table.get(place)?;
        (identity.number >= seconds(now.unix_seconds()) / DAY).then_some(())?;
        self.judged_of(identity)
    }

    /// The bits of the day as it stands.
    pub(super) fn judged_of(&self, identity: &Identity) -> Option<Judged> {
        let (all, peers) = (self.groups.first()?, self.groups.get(usize::from(identity.group))?);
        let mut bits = [0.0; KINDS];
        for (place, (raw, bits)) in identity.tally.top.iter().zip(&mut bits).enumerate() {
            *bits = peers.bits(all, place, raw.get());
        }
        let score = total(FAMILIES.iter().map(|family| largest(&bits, family)));
        Some(Judged { bits, score })
    }
}

/// The counts of the day as they are compared, in the order of the kinds.
pub(super) fn values(identity: &Identity) -> [f32; COUNTED] {
    let day = &identity.day;
    let mut values = [0.0; COUNTED];
    let counts = identity.bursts().into_iter().chain(day.counts()).map(level::log);
    values.iter_mut().zip(counts).for_each(|(slot, value)| *slot = value);
    values.set(Kind::DayHours, measure(u64::from(day.hours.count_ones())) / 2.0);
    values.set(Kind::Moves, level::log_of(day.moves.into()));
    let requests = measure(day.requests.into());
    values.set(Kind::DayErrors, level::share(measure(day.errors.into()), requests));
    values.set(Kind::NovelShare, level::share(day.novel.min(requests), requests));
    values.set(Kind::BytesEach, level::log(measure(day.bytes) / requests.max(1.0)));
    values
}

/// What is expected of each count.
pub(super) fn all_expected(identity: &Identity, peers: &Group, all: &Group) -> [Expected; COUNTED] {
    let mut each = [Expected::default(); COUNTED];
    for (kind, slot) in Kind::ALL.into_iter().zip(&mut each) {
        *slot = expected(identity, kind, peers, all);
    }
    each
}

/// What is expected of a count.
pub(super) fn expected(identity: &Identity, kind: Kind, peers: &Group, all: &Group) -> Expected {
    let level = identity.levels.of(kind);
    let peers = peers.levels.of(kind).or(all.levels.of(kind));
    let requests = measure(identity.day.requests.into());
    level.expected(identity.days, peers, |mean| match kind {
        Kind::DayErrors | Kind::NovelShare => level::chance_of_share(mean, requests),
        Kind::BytesEach => 1.0 / (1.0 + requests),
        Kind::BurstRequests
        | Kind::BurstBytes
        | Kind::BurstErrors
        | Kind::BurstDistinct
        | Kind::BurstNovel
        | Kind::DayRequests
        | Kind::DayBytes
        | Kind::DayDistinct
        | Kind::DayNovel
        | Kind::DayHours
        | Kind::Moves
        | Kind::OddHours
        | Kind::Network
        | Kind::Client
        | Kind::Routes
        | Kind::Drift => level::chance_of_count(mean),
    })
}

/// The drift with the day so far.
fn drift_now(identity: &Identity, values: &[f32], expected: &[Expected]) -> f32 {
    if identity.days < DRIFT_DAYS {
        return 0.0;
    }
    // What today adds is told by today's counts; a day that is as it always was tells of no drift.
    if above_long(identity, values, expected) < DRIFT_SHOWS { 0.0 } else { identity.drift }
}

/// How far the day is above the long memory, in deviations, by the count that is furthest.
pub(super) fn above_long(identity: &Identity, values: &[f32], expected: &[Expected]) -> f32 {
    LONG.into_iter()
        .zip(identity.long)
        .map(|(kind, long)| {
            ((values.of(kind) - long.get()) / expected.of(kind).deviation).clamp(-3.0, 3.0)
        })
        .fold(-3.0, f32::max)
}

/// The largest of the signals named.
pub(super) fn largest(bits: &[f32; KINDS], aspects: &[Aspect]) -> f32 {
    let kinds = aspects.iter().flat_map(|aspect| aspect.kinds());
    kinds.map(|kind| bits.of(*kind)).fold(0.0, f32::max)
}

/// The three largest: two whole, half of the third.
fn total(bits: impl Iterator<Item = f32>) -> f32 {
    let mut best = [0.0_f32; 3];
    for mut bits in bits {
        for place in &mut best {
            if bits > *place {
                std::mem::swap(place, &mut bits);
            }
        }
    }
    let [first, second, third] = best;
    first + second + third / 2.0
}
