//! One rule, and what it has counted.

use std::collections::VecDeque;
use std::sync::Arc;

use enforcer_model::{RequestId, Timestamp};

use super::cells::{Chain, Count, Limit, Outcome, Sampling, Share, Values, nanos, scale};
use super::keys::Hashes;
use super::table::Table;
use super::{Counters, Fired, RING};
use crate::rules::plan::{Pattern, RulePlan, Step, Summed, span};
use crate::rules::when::{About, Needs};
use crate::{EVIDENCE_MAX, Event, Finding, SIGNALS_MAX, Scene, Signal};

#[derive(Debug)]
pub(super) struct Watch {
    pub(super) plan: Arc<RulePlan>,
    pub(super) about: About,
    pub(super) needs: Needs,
    tables: Tables,
    /// Of the thresholds, in parts of a thousand.
    pub(super) sensitivity: u32,
    /// What was counted last, with its key.
    ring: VecDeque<(u64, RequestId)>,
    /// Keys whose profiles were surprised.
    surprised: Table<Count>,
    matched: u64,
    findings: u64,
    last: Option<Timestamp>,
}

#[derive(Debug)]
enum Tables {
    Counts(Limit, Table<Count>),
    Values(Sampling, Limit, Table<Values>),
    Shares(Limit, Table<Share>),
    /// With the places of the rules that are steps.
    Chains(Box<[Option<usize>]>, Table<Chain>),
}

impl Watch {
    pub(super) fn new(plan: Arc<RulePlan>) -> Self {
        let tables = match &plan.pattern {
            Pattern::EventCount(threshold) | Pattern::ValueSum(_, threshold) => {
                Tables::Counts(Limit::of(threshold), Table::default())
            }
            Pattern::ValueCount(_, threshold) => {
                let kept = Sampling::of(threshold);
                let limit = Limit::of(threshold);
                let limit = Limit { on: kept.part(limit.on), off: kept.part(limit.off), ..limit };
                Tables::Values(kept, limit, Table::default())
            }
            Pattern::Ratio { threshold, .. } => {
                Tables::Shares(Limit::of(threshold), Table::default())
            }
            Pattern::Temporal { .. } => Tables::Chains(Box::default(), Table::default()),
        };
        Self {
            about: plan.about(),
            needs: plan.needs(),
            tables,
            sensitivity: 1_000,
            ring: VecDeque::new(),
            surprised: Table::default(),
            matched: 0,
            findings: 0,
            last: None,
            plan,
        }
    }

    /// Takes `plan`, which counts the same, behind the rules `before` it.
    pub(super) fn renew(&mut self, plan: Arc<RulePlan>, before: &[Self]) {
        if let (Tables::Chains(places, _), Pattern::Temporal { steps, .. }) =
            (&mut self.tables, &plan.pattern)
        {
            let place = |step: &Step| match step {
                Step::When(_) => None,
                Step::Rule(id) => before.iter().position(|watch| watch.plan.id == *id),
            };
            *places = steps.iter().map(place).collect();
        }
        self.plan = plan;
    }

    /// Counts `event`, which meets the needs, if the condition is true of it.
    pub(super) fn observe(
        &mut self,
        event: &Event<'_>,
        hashes: &mut Hashes<'_, '_>,
        fired: &Fired,
    ) -> Option<Finding> {
        let plan = &*self.plan;
        if plan.when.as_ref().is_some_and(|when| !when.holds(event)) {
            return None;
        }
        let key = hashes.key(plan.key)?;
        let now = event.at().unix_ns();
        let parts = self.sensitivity;
        let signal = match (&mut self.tables, &plan.pattern) {
            (Tables::Counts(limit, table), Pattern::EventCount(threshold)) => {
                let amount = amount(event);
                self.matched += 1;
                let outcome = table.with(key, |cell| cell.add(now, amount, &limit.scaled(parts)));
                weigh(outcome, &mut self.ring, key, event).map(|count| {
                    let what = if self.about == About::Packets { "packets" } else { "requests" };
                    let (within, most) =
                        (span(threshold.within), scale(threshold.on, parts).saturating_sub(1));
                    format!("{count} {what} in {within}; the rule allows {most}")
                })
            }
            (Tables::Counts(limit, table), Pattern::ValueSum(summed, threshold)) => {
                let amount = summed.of(event)?;
                self.matched += 1;
                let outcome = table.with(key, |cell| cell.add(now, amount, &limit.scaled(parts)));
                weigh(outcome, &mut self.ring, key, event).map(|sum| {
                    let within = span(threshold.within);
                    let (sum, most) = (summed.shown(sum), summed.shown(scale(threshold.on, parts)));
                    let whither = summed.whither();
                    format!("{sum}{whither} in {within}; the rule allows less than {most}")
                })
            }
            (Tables::Values(kept, limit, table), Pattern::ValueCount(field, threshold)) => {
                let value = hashes.field(*field)?;
                self.matched += 1;
                if !kept.keeps(value) {
                    return None;
                }
                let outcome =
                    table.with(key, |cell| cell.add(now, value, *kept, &limit.scaled(parts)));
                weigh(outcome, &mut self.ring, key, event).map(|count| {
                    let (about, within) = (kept.whole(1) > 1, span(threshold.within));
                    let about = if about { "about " } else { "" };
                    let (count, what) = (kept.whole(count), field.plural());
                    let most = scale(threshold.on, parts).saturating_sub(1);
                    format!("{about}{count} different {what} in {within}; the rule allows {most}")
                })
            }
            (Tables::Shares(limit, table), Pattern::Ratio { of, threshold, at_least }) => {
                let hit = of.holds(event);
                if hit {
                    self.matched += 1;
                    note(&mut self.ring, key, event);
                }
                let share =
                    table.with(key, |cell| cell.add(now, hit, *at_least, &limit.scaled(parts)));
                share.map(|(share, all)| {
                    let within = span(threshold.within);
                    let (share, most) = (percent(share), percent(scale(threshold.on, parts)));
                    format!(
                        "{share} of {all} requests in {within}; the rule allows less than {most}"
                    )
                })
            }
            (Tables::Chains(places, table), Pattern::Temporal { steps, ordered, within }) => {
                let mut bits = 0;
                for (n, (step, place)) in steps.iter().zip(places.iter()).enumerate() {
                    let is = match step {
                        Step::When(when) => when.holds(event),
                        Step::Rule(_) => place.is_some_and(|place| fired.has(place)),
                    };
                    bits |= u8::from(is) << n;
                }
                if bits == 0 {
                    return None;
                }
                self.matched += 1;
                note(&mut self.ring, key, event);
                let (count, ordered) = (steps.len(), *ordered);
                let full =
                    table.with(key, |cell| cell.add(now, bits, count, ordered, nanos(*within)));
                full.then(|| {
                    let order = if ordered { " in this order" } else { "" };
                    let steps: Vec<String> = steps.iter().map(Step::shown).collect();
                    format!("within {}{order}: {}", span(*within), steps.join(", "))
                })
            }
            // A table is made for its pattern.
            (
                Tables::Counts(..) | Tables::Values(..) | Tables::Shares(..) | Tables::Chains(..),
                Pattern::EventCount(_)
                | Pattern::ValueSum(..)
                | Pattern::ValueCount(..)
                | Pattern::Ratio { .. }
                | Pattern::Temporal { .. },
            ) => None,
        }?;
        let text = format!("{}: {signal}", plan.title);
        self.find(event, key, vec![Signal { text, bits: None }])
    }

    /// What a surprised profile completes.
    pub(super) fn surprised(
        &mut self,
        event: &Event<'_>,
        surprises: &[(&str, Signal)],
        hashes: &mut Hashes<'_, '_>,
    ) -> Option<Finding> {
        let or = self.plan.or_profile.as_ref()?;
        let counts = |name: &str| or.signals.is_empty() || or.signals.iter().any(|s| **s == *name);
        let bits: f32 = surprises
            .iter()
            .filter(|(name, _)| counts(name))
            .filter_map(|(_, signal)| signal.bits)
            .sum();
        if bits < or.bits {
            return None;
        }
        let key = hashes.key(self.plan.key)?;
        let within = self.plan.within();
        let once =
            Limit { on: 1, off: 0, within: nanos(within), width: super::slots::Width::of(within) };
        match self.surprised.with(key, |cell| cell.add(event.at().unix_ns(), 1, &once)) {
            Outcome::Finding(_) => {}
            Outcome::Little | Outcome::Much => return None,
        }
        let mut signals: Vec<Signal> = surprises
            .iter()
            .filter(|(name, _)| counts(name))
            .map(|(_, signal)| signal.clone())
            .collect();
        signals.sort_by(|a, b| b.bits.unwrap_or(0.0).total_cmp(&a.bits.unwrap_or(0.0)));
        signals.truncate(SIGNALS_MAX);
        self.find(event, key, signals)
    }

    fn find(&mut self, event: &Event<'_>, key: u64, mut signals: Vec<Signal>) -> Option<Finding> {
        let about = self.plan.key.entity(event)?;
        self.findings = self.findings.saturating_add(1);
        self.last = Some(event.at());
        let scene = scene(event);
        if let Some(proxy) = scene.through
            && signals.len() < SIGNALS_MAX
        {
            let text = format!("the address is known by the word of the proxy {proxy}");
            signals.push(Signal { text, bits: None });
        }
        let newest = self.ring.iter().rev().filter(|(of, _)| *of == key);
        let mut evidence: Vec<RequestId> = newest.take(EVIDENCE_MAX).map(|(_, id)| *id).collect();
        evidence.reverse();
        Some(Finding {
            rule: Arc::clone(&self.plan.id),
            about,
            at: event.at(),
            window: self.plan.within(),
            signals,
            evidence,
            scene,
            respond: Arc::clone(&self.plan.respond),
        })
    }

    pub(super) fn counters(&self) -> Counters {
        let (keys, bytes) = match &self.tables {
            Tables::Counts(_, table) => (table.len(), table.bytes()),
            Tables::Values(_, _, table) => (table.len(), table.bytes()),
            Tables::Shares(_, table) => (table.len(), table.bytes()),
            Tables::Chains(_, table) => (table.len(), table.bytes()),
        };
        let ring = self.ring.capacity() * size_of::<(u64, RequestId)>();
        Counters {
            plan: Arc::clone(&self.plan),
            matched: self.matched,
            findings: self.findings,
            last: self.last,
            keys,
            bytes: bytes + ring + self.surprised.bytes(),
        }
    }

    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let (now, within) = (now.unix_ns(), nanos(self.plan.within()));
        match &mut self.tables {
            Tables::Counts(_, table) => table.forget_old(now, within),
            Tables::Values(_, _, table) => table.forget_old(now, within),
            Tables::Shares(_, table) => table.forget_old(now, within),
            Tables::Chains(_, table) => table.forget_old(now, within),
        }
        self.surprised.forget_old(now, within);
    }
}

/// The count, if it makes a finding; what may be evidence is kept.
fn weigh(
    outcome: Outcome,
    ring: &mut VecDeque<(u64, RequestId)>,
    key: u64,
    event: &Event<'_>,
) -> Option<u64> {
    match outcome {
        Outcome::Little => None,
        Outcome::Much => {
            note(ring, key, event);
            None
        }
        Outcome::Finding(count) => {
            note(ring, key, event);
            Some(count)
        }
    }
}

/// Keeps what was counted, as evidence.
fn note(ring: &mut VecDeque<(u64, RequestId)>, key: u64, event: &Event<'_>) {
    let Event::Request(request) = event else { return };
    if ring.len() >= RING {
        ring.pop_front();
    }
    ring.push_back((key, request.id));
}

/// How much an event counts.
const fn amount(event: &Event<'_>) -> u64 {
    match event {
        Event::Request(_) => 1,
        Event::Packets(packets) => packets.count,
    }
}

fn scene(event: &Event<'_>) -> Scene {
    match event {
        Event::Request(request) => Scene {
            source: Some(request.source),
            through: request.through,
            identity: request.identity.and_then(crate::entity::principal),
            credential: request.credential,
            ja4: request.ja4.map(Arc::from),
            route: request.route.map(Arc::from),
            upstream: request.upstream.map(Arc::from),
        },
        Event::Packets(packets) => Scene {
            source: packets
                .source
                .is_single()
                .then(|| enforcer_model::Source::new(packets.source.address())),
            ..Scene::default()
        },
    }
}

fn percent(thousandths: u64) -> String {
    let (whole, tenth) = (thousandths / 10, thousandths % 10);
    if tenth == 0 { format!("{whole} %") } else { format!("{whole}.{tenth} %") }
}

impl Summed {
    fn of(self, event: &Event<'_>) -> Option<u64> {
        let Event::Request(request) = event else { return None };
        Some(match self {
            Self::BytesIn => request.bytes_in,
            Self::BytesOut => request.bytes_out,
            Self::Secrets => request.exposed.secrets.into(),
            Self::Personal => request.exposed.personal().into(),
            Self::Bytes => request.bytes_in.saturating_add(request.bytes_out),
            Self::Duration => u64::try_from(request.duration.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn shown(self, sum: u64) -> String {
        match self {
            Self::BytesIn | Self::BytesOut | Self::Bytes => bytes(sum),
            Self::Secrets | Self::Personal => sum.to_string(),
            Self::Duration => format!("{}.{} s", sum / 1_000, sum % 1_000 / 100),
        }
    }

    const fn whither(self) -> &'static str {
        match self {
            Self::BytesIn => " from clients",
            Self::BytesOut => " to clients",
            Self::Bytes => "",
            Self::Secrets => " secrets in answers",
            Self::Personal => " personal data in answers",
            Self::Duration => " of answering",
        }
    }
}

/// For people: one decimal.
fn bytes(count: u64) -> String {
    for (unit, size) in [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if count >= size {
            return format!("{}.{} {unit}", count / size, count % size * 10 / size);
        }
    }
    format!("{count} B")
}

impl Step {
    fn shown(&self) -> String {
        match self {
            Self::When(when) => when.text().to_string(),
            Self::Rule(id) => format!("`{id}`"),
        }
    }
}
