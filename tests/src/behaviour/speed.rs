//! As many identities as there may be, days of their requests, and what one more request costs.

use enforcer_detect::profile::{Ahead, Plan, Profiles};

use super::chance::{Chance, truncated};
use super::deed::{Deed, Texts};
use super::world::FIRST_DAY;

/// Days that are lived through before anything is measured: profiles learn as long.
const HISTORY: u32 = 3;

/// Seconds of a day on which there are requests.
const OPEN: u64 = 80_000;

/// Requests that are made ready together; their texts stay in the cache, as those of requests do
/// that have just been answered.
const BLOCK: usize = 256;

/// Requests that are looked up together.
const AHEAD: usize = 32;

/// Who of them comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Anybody.
    Uniform,
    /// The n-th most frequent a n-th as often as the most frequent.
    Zipf,
}

/// How requests are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// Each by itself.
    Single,
    /// Those at hand looked up together, as the agent does.
    Together,
}

/// Profiles of a crowd, in the middle of a day like those before.
#[derive(Debug)]
pub struct Crowd {
    /// What is known of them.
    pub profiles: Profiles,
    identities: u32,
    arrival: Arrival,
    chance: Chance,
    requests: u64,
    a_day: u64,
    texts: Vec<Texts>,
    ahead: Vec<Ahead>,
}

impl Crowd {
    /// `identities` with four requests a day each, or as many in all.
    pub fn new(identities: u32, arrival: Arrival) -> Self {
        let identities_max = usize::try_from(identities).unwrap_or(1);
        let learn = std::time::Duration::from_secs(u64::from(HISTORY) * 86_400);
        let plan = Plan { identities_max, learn, ..Plan::default() };
        let mut crowd = Self {
            profiles: Profiles::new(plan, *b"a key of a bench"),
            identities,
            arrival,
            chance: Chance::new(5),
            requests: 0,
            a_day: u64::from(identities.max(250_000)) * 4,
            texts: (0..BLOCK).map(|_| Texts::default()).collect(),
            ahead: Vec::with_capacity(AHEAD),
        };
        for who in 0..identities {
            let deed = crowd.deed(who, FIRST_DAY * 86_400);
            let mut texts = Texts::default();
            crowd.profiles.observe(&deed.request(&mut texts));
        }
        crowd
    }

    /// Lives through the days of learning and three quarters of the day after them.
    pub fn grow_up(&mut self) {
        let quarters = u64::from(HISTORY) * 4 + 3;
        while self.requests < self.a_day * quarters / 4 {
            self.block(Hand::Together, || ());
        }
    }

    /// A block of requests more: what `clock` says before and after what is measured, and in how many
    /// of them something was found.
    pub fn block<T>(&mut self, hand: Hand, clock: impl Fn() -> T) -> (T, T, usize) {
        let deeds: Vec<Deed> = (0..BLOCK).map(|_| self.next()).collect();
        let mut texts = std::mem::take(&mut self.texts);
        let requests: Vec<_> =
            deeds.iter().zip(&mut texts).map(|(deed, texts)| deed.request(texts)).collect();
        let before = clock();
        let mut found = 0;
        match hand {
            Hand::Single => {
                for request in &requests {
                    found += usize::from(self.profiles.observe(request).is_some());
                }
            }
            Hand::Together => {
                for requests in requests.chunks(AHEAD) {
                    self.ahead.clear();
                    self.ahead.extend(requests.iter().map(|one| self.profiles.ahead(one)));
                    self.profiles.fetch(&self.ahead);
                    for (ahead, request) in self.ahead.iter().zip(requests) {
                        let finding = self.profiles.observe_ahead(*ahead, request);
                        found += usize::from(finding.is_some());
                    }
                }
            }
        }
        let after = clock();
        drop(requests);
        self.texts = texts;
        (before, after, std::hint::black_box(found))
    }

    /// Requests of one block.
    pub const fn size() -> usize {
        BLOCK
    }

    fn next(&mut self) -> Deed {
        let (day, request) = (self.requests / self.a_day, self.requests % self.a_day);
        self.requests += 1;
        let second = u64::from(FIRST_DAY) * 86_400 + day * 86_400 + request * OPEN / self.a_day;
        let who = match self.arrival {
            Arrival::Uniform => self.chance.below(self.identities.into()),
            Arrival::Zipf => truncated(f64::from(self.identities).powf(self.chance.unit())),
        };
        // Neighbours in frequency are no neighbours in memory.
        let who = who.wrapping_mul(0x9E37_79B1) % u64::from(self.identities);
        self.deed(u32::try_from(who).unwrap_or(0), u32::try_from(second).unwrap_or(0))
    }

    fn deed(&mut self, who: u32, at: u32) -> Deed {
        deed(who, at, &mut self.chance)
    }
}

/// Requests of chosen identities; `known` of all there are.
pub fn traffic(known: u32, requests: u32) -> Vec<Deed> {
    let mut chance = Chance::new(6);
    (0..requests)
        .map(|number| {
            let who = u32::try_from(chance.below(u64::from(known))).unwrap_or(0);
            deed(who, FIRST_DAY * 86_400 + 1 + number / 600, &mut chance)
        })
        .collect()
}

/// Makes requests of all of `deeds` for nobody: what that costs.
pub fn drive(deeds: &[Deed]) -> u64 {
    let mut texts = Texts::default();
    let statuses = deeds.iter().map(|deed| u64::from(deed.request(&mut texts).status));
    std::hint::black_box(statuses.sum())
}

fn deed(who: u32, at: u32, chance: &mut Chance) -> Deed {
    let fresh = chance.happens(0.15);
    let object = if fresh { chance.below(1 << 40) } else { chance.below(40) };
    Deed {
        at,
        who,
        role: usize::try_from(who % 7).unwrap_or(0),
        network: (0x0A00_0000_u32 >> 8) | (who % 4_096),
        client: who % 12,
        route: u16::try_from(u64::from(who % 5) * 3 + chance.below(4)).unwrap_or(0),
        writes: chance.happens(0.15),
        object: chance.happens(0.8).then_some(object + u64::from(who) * 1_000),
        status: if chance.happens(0.015) { 404 } else { 200 },
        bytes: u32::try_from(truncated(chance.lognormal(2_000.0, 0.8))).unwrap_or(u32::MAX),
    }
}
