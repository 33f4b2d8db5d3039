//! What profiles are compared with: fixed thresholds, and an isolation forest (Liu, Ting and Zhou, 2008).

use std::collections::{BTreeMap, BTreeSet};

use super::chance::Chance;
use super::deed::Deed;

/// Counts of a day.
const COUNTS: usize = 9;

/// What both look at: requests, bytes, failures, different objects, new objects, hours, requests at
/// night, new networks, new routes; as logarithms.
pub(super) type Features = [f64; COUNTS];

/// What is remembered to tell what is new: without bound, which is to their advantage.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: BTreeMap<u32, Known>,
}

#[derive(Debug, Default)]
struct Known {
    objects: BTreeSet<u64>,
    networks: BTreeSet<u32>,
    routes: BTreeSet<(u16, bool)>,
    today: Today,
}

#[derive(Debug, Default)]
struct Today {
    requests: u32,
    bytes: u64,
    failed: u32,
    night: u32,
    fresh: u32,
    networks: u32,
    routes: u32,
    objects: BTreeSet<u64>,
    hours: BTreeSet<u32>,
}

impl Memory {
    /// Counts a request.
    pub(super) fn add(&mut self, deed: &Deed) {
        let known = self.known.entry(deed.who).or_default();
        let today = &mut known.today;
        let hour = deed.at / 3_600 % 24;
        today.requests += 1;
        today.bytes += u64::from(deed.bytes);
        today.failed += u32::from(deed.status >= 400);
        today.night += u32::from(hour < 6);
        today.hours.insert(hour);
        if let Some(object) = deed.object {
            today.objects.insert(object);
            today.fresh += u32::from(known.objects.insert(object));
        }
        today.networks += u32::from(known.networks.insert(deed.network));
        today.routes += u32::from(known.routes.insert((deed.route, deed.writes)));
    }

    /// Ends the day: what everybody who was there did.
    pub(super) fn close(&mut self) -> Vec<(u32, Features)> {
        let mut days = Vec::new();
        for (who, known) in &mut self.known {
            let today = std::mem::take(&mut known.today);
            if today.requests == 0 {
                continue;
            }
            let many = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            let bytes = many(usize::try_from(today.bytes).unwrap_or(usize::MAX));
            let features = [
                f64::from(today.requests),
                bytes,
                f64::from(today.failed),
                many(today.objects.len()),
                f64::from(today.fresh),
                many(today.hours.len()),
                f64::from(today.night),
                f64::from(today.networks),
                f64::from(today.routes),
            ];
            days.push((*who, features.map(f64::ln_1p)));
        }
        days
    }
}

/// One threshold for each count, the same for everybody.
#[derive(Clone, Debug)]
pub(super) struct Static {
    bounds: Features,
}

impl Static {
    /// At what one day of a hundred exceeds.
    pub(super) fn new(past: &[Features]) -> Self {
        let mut bounds = [1.0; COUNTS];
        for (place, bound) in bounds.iter_mut().enumerate() {
            let mut values: Vec<f64> =
                past.iter().filter_map(|day| day.get(place)).copied().collect();
            values.sort_by(f64::total_cmp);
            *bound = values.get(values.len() * 99 / 100).copied().unwrap_or(1.0).max(0.5);
        }
        Self { bounds }
    }

    /// The count that exceeds its threshold by the largest factor.
    pub(super) fn score(&self, day: &Features) -> f64 {
        day.iter().zip(self.bounds).map(|(value, bound)| value - bound).fold(-99.0, f64::max)
    }
}

/// Trees of a forest, and days that each is made of.
const TREES: usize = 100;
const SAMPLE: usize = 256;
const DEEP: u32 = 8;

/// An isolation forest.
#[derive(Debug)]
pub(super) struct Forest {
    trees: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    Leaf(usize),
    Split { place: usize, at: f64, low: Box<Self>, high: Box<Self> },
}

impl Forest {
    /// Made of `past`.
    pub(super) fn new(past: &[Features], seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0xF0E5);
        let bound = u64::try_from(past.len()).unwrap_or(0);
        let trees = (0..TREES)
            .map(|_| {
                let sample = (0..SAMPLE).filter_map(|_| {
                    past.get(usize::try_from(chance.below(bound)).unwrap_or(0)).copied()
                });
                let sample: Vec<Features> = sample.collect();
                Node::grow(sample, 0, &mut chance)
            })
            .collect();
        Self { trees }
    }

    /// How soon a day is alone.
    pub(super) fn score(&self, day: &Features) -> f64 {
        -self.trees.iter().map(|tree| tree.depth(day, 0.0)).sum::<f64>()
    }
}

impl Node {
    fn grow(days: Vec<Features>, depth: u32, chance: &mut Chance) -> Self {
        let place = usize::try_from(chance.below(9)).unwrap_or(0);
        let values = || days.iter().filter_map(|day| day.get(place)).copied();
        let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
        if depth >= DEEP || days.len() < 2 || least >= most {
            return Self::Leaf(days.len());
        }
        let at = chance.between(least, most);
        let is_low = |day: &Features| day.get(place).is_some_and(|value| *value < at);
        let (low, high): (Vec<_>, Vec<_>) = days.into_iter().partition(is_low);
        let mut side = |days| Box::new(Self::grow(days, depth + 1, chance));
        Self::Split { place, at, low: side(low), high: side(high) }
    }

    fn depth(&self, day: &Features, above: f64) -> f64 {
        match self {
            Self::Leaf(days) => {
                let days = f64::from(u32::try_from(*days).unwrap_or(u32::MAX));
                let rest = if days > 1.0 { 2.0 * (days.ln() + 0.577) - 2.0 } else { 0.0 };
                above + rest.max(0.0)
            }
            Self::Split { place, at, low, high } => {
                let is_low = day.get(*place).is_some_and(|value| value < at);
                if is_low { low.depth(day, above + 1.0) } else { high.depth(day, above + 1.0) }
            }
        }
    }
}
