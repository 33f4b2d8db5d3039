//! Lives through a world with several judges side by side and tells what each would have found.

use std::collections::BTreeMap;

use enforcer_detect::profile::{Plan, Profiles};

use super::attack::{Attack, campaign};
use super::deed::{Deed, Texts};
use super::rivals::{Features, Forest, Static};
use super::world::World;

/// False positives per identity-day at which detection is told.
pub const RATES: [f64; 3] = [0.001, 0.005, 0.01];

/// Who judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judge {
    /// Behaviour profiles.
    Profiles,
    /// One threshold for everybody, by count.
    Static,
    /// An isolation forest over the same daily counts.
    Forest,
}

/// One identity-day with the scores of the judges.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// What it was, if it was an attack.
    pub attack: Option<Attack>,
    /// By judge.
    pub scores: [f64; 3],
    /// Whether profiles found it as they are set out of the box.
    pub told: bool,
}

/// What a judge finds at a rate of false positives.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Attack days that were found, and all, by attack.
    pub by_attack: BTreeMap<Attack, (usize, usize)>,
}

impl Found {
    /// The share of all attack days.
    pub fn share(&self) -> f64 {
        let (found, all) =
            self.by_attack.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        ratio(found, all)
    }

    /// The share of one attack's days.
    pub fn of(&self, attack: Attack) -> f64 {
        self.by_attack.get(&attack).map_or(0.0, |(found, all)| ratio(*found, *all))
    }
}

/// Lives through `world`; every identity-day of the days with attacks.
pub fn judge(world: &World) -> Vec<Verdict> {
    let mut people = world.people();
    let plan = campaign(world, &people);
    let mut profiles = Profiles::new(Plan::default(), *b"a key of a bench");
    let mut texts = Texts::default();
    let mut days: Vec<(u32, Option<Attack>, Features, f64, bool)> = Vec::new();
    let mut features = super::rivals::Memory::default();
    let mut deeds: Vec<Deed> = Vec::new();
    for day in 0..world.history + world.days {
        deeds.clear();
        let mut attacked = BTreeMap::new();
        for person in &mut people {
            world.work(person, day, &mut deeds);
        }
        for (at, who, attack, nth) in &plan {
            if *at == day
                && let Some(person) = people.get(usize::try_from(*who).unwrap_or(0))
            {
                let counts = attack.strike(world, person, day, *nth, &mut deeds);
                attacked.insert(*who, (*attack, counts));
            }
        }
        deeds.sort_by_key(|deed| (deed.at, deed.who));
        let mut scores: BTreeMap<u32, (f64, bool)> = BTreeMap::new();
        for deed in &deeds {
            let found = profiles.observe(&deed.request(&mut texts)).is_some();
            let score = scores.entry(deed.who).or_default();
            score.0 = score.0.max(f64::from(profiles.last_score()));
            score.1 |= found;
            features.add(deed);
        }
        for (who, of) in features.close() {
            let (score, told) = scores.get(&who).copied().unwrap_or_default();
            match attacked.get(&who) {
                // Days of poisoning that are not yet worth a name are neither.
                Some((_, false)) => {}
                Some((attack, true)) => days.push((day, Some(*attack), of, score, told)),
                None => days.push((day, None, of, score, told)),
            }
        }
    }
    let past: Vec<Features> =
        days.iter().filter(|day| day.0 < world.history).map(|day| day.2).collect();
    let (fixed, forest) = (Static::new(&past), Forest::new(&past, world.seed));
    days.into_iter()
        .filter(|day| day.0 >= world.history)
        .map(|(_, attack, of, score, told)| Verdict {
            attack,
            scores: [score, fixed.score(&of), forest.score(&of)],
            told,
        })
        .collect()
}

/// What `judge` finds when no more than `rate` of the harmless days are found.
pub fn found(verdicts: &[Verdict], judge: Judge, rate: f64) -> Found {
    let at = match judge {
        Judge::Profiles => 0,
        Judge::Static => 1,
        Judge::Forest => 2,
    };
    let score = |verdict: &Verdict| verdict.scores.get(at).copied().unwrap_or_default();
    let mut harmless: Vec<f64> =
        verdicts.iter().filter(|one| one.attack.is_none()).map(score).collect();
    harmless.sort_by(|a, b| b.total_cmp(a));
    let many = f64::from(u32::try_from(harmless.len()).unwrap_or(u32::MAX));
    let allowed = usize::try_from(super::chance::truncated(many * rate)).unwrap_or(0);
    let bound = harmless.get(allowed).copied().unwrap_or(0.0);
    let mut found = Found::default();
    for verdict in verdicts {
        if let Some(attack) = verdict.attack {
            let counts = found.by_attack.entry(attack).or_default();
            counts.0 += usize::from(score(verdict) > bound);
            counts.1 += 1;
        }
    }
    found
}

fn ratio(part: usize, all: usize) -> f64 {
    let real = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    if all == 0 { 0.0 } else { real(part) / real(all) }
}
