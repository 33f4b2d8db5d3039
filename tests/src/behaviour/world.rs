//! A made-up company: who works when, from where, and on what.

use super::chance::{Chance, truncated};
use super::deed::Deed;

/// A Monday, 2024-10-07.
pub const FIRST_DAY: u32 = 20_003;

/// What can be varied.
#[derive(Clone, Debug)]
pub struct World {
    /// Of everything.
    pub seed: u64,
    /// How many identities.
    pub identities: u32,
    /// Days before the attacks.
    pub history: u32,
    /// Days with attacks.
    pub days: u32,
    /// How much heavier than ordinary the tails of volumes are.
    pub tails: f64,
    /// The share of days with a harmless burst.
    pub bursts: f64,
    /// Hours that time zones are spread over.
    pub zones: u32,
    /// The share of those who join late.
    pub joiners: f64,
    /// Attack days among all, about.
    pub attacks: f64,
    /// How strong attacks are.
    pub strength: f64,
}

/// How a role works.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// What the policy calls it.
    pub name: &'static str,
    /// Of 100 identities.
    share: u64,
    /// Requests in a day.
    requests: f64,
    /// How identities differ, and how days do.
    spread: (f64, f64),
    /// Objects known to an identity.
    working_set: u64,
    /// The share of reads of something new.
    novelty: f64,
    /// Bytes of an answer.
    bytes: f64,
    /// Routes used.
    routes: u16,
    /// The first of them.
    first_route: u16,
    /// From, to: hours of work.
    hours: (u32, u32),
    /// Works at weekends as on other days.
    always: bool,
    /// New networks a day.
    roams: f64,
    /// A machine.
    machine: bool,
}

/// All roles.
pub const ROLES: &[Role] = &[
    Role {
        name: "clerk",
        share: 36,
        requests: 90.0,
        spread: (0.5, 0.35),
        working_set: 80,
        novelty: 0.12,
        bytes: 3e3,
        routes: 6,
        first_route: 0,
        hours: (8, 17),
        always: false,
        roams: 0.01,
        machine: false,
    },
    Role {
        name: "analyst",
        share: 14,
        requests: 45.0,
        spread: (0.7, 0.6),
        working_set: 60,
        novelty: 0.25,
        bytes: 4e4,
        routes: 5,
        first_route: 4,
        hours: (9, 19),
        always: false,
        roams: 0.02,
        machine: false,
    },
    Role {
        name: "support",
        share: 16,
        requests: 220.0,
        spread: (0.4, 0.3),
        working_set: 40,
        novelty: 0.55,
        bytes: 2e3,
        routes: 8,
        first_route: 6,
        hours: (7, 20),
        always: true,
        roams: 0.02,
        machine: false,
    },
    Role {
        name: "operator",
        share: 10,
        requests: 60.0,
        spread: (0.6, 0.6),
        working_set: 50,
        novelty: 0.10,
        bytes: 2e3,
        routes: 10,
        first_route: 12,
        hours: (9, 17),
        always: false,
        roams: 0.03,
        machine: false,
    },
    Role {
        name: "service",
        share: 10,
        requests: 700.0,
        spread: (0.8, 0.15),
        working_set: 150,
        novelty: 0.05,
        bytes: 1e3,
        routes: 3,
        first_route: 2,
        hours: (0, 24),
        always: true,
        roams: 0.003,
        machine: true,
    },
    Role {
        name: "batch",
        share: 4,
        requests: 900.0,
        spread: (0.6, 0.3),
        working_set: 60,
        novelty: 0.7,
        bytes: 8e3,
        routes: 2,
        first_route: 20,
        hours: (2, 4),
        always: true,
        roams: 0.002,
        machine: true,
    },
    Role {
        name: "mobile",
        share: 10,
        requests: 35.0,
        spread: (0.7, 0.7),
        working_set: 40,
        novelty: 0.2,
        bytes: 2e3,
        routes: 5,
        first_route: 1,
        hours: (7, 23),
        always: true,
        roams: 0.5,
        machine: false,
    },
];

/// One identity.
#[derive(Clone, Debug)]
pub struct Person {
    /// Its number.
    pub who: u32,
    /// Place of its role.
    pub role: usize,
    /// Its level of requests.
    pub level: f64,
    zone: u32,
    joins: u32,
    homes: Vec<u32>,
    client: u32,
    known: Vec<u64>,
    days_off: [bool; 7],
    chance: Chance,
}

/// What the day is for everybody.
#[derive(Clone, Copy, Debug)]
struct Mood {
    holiday: bool,
    /// Role whose clients were renewed, and by what.
    rollout: Option<(usize, u32)>,
}

impl World {
    /// The world that all tables are made of.
    pub const fn ordinary(seed: u64) -> Self {
        Self {
            seed,
            identities: 240,
            history: 21,
            days: 14,
            tails: 1.0,
            bursts: 0.01,
            zones: 4,
            joiners: 0.06,
            attacks: 0.02,
            strength: 1.0,
        }
    }

    /// Who lives in it.
    pub fn people(&self) -> Vec<Person> {
        (0..self.identities).map(|who| self.person(who)).collect()
    }

    fn person(&self, who: u32) -> Person {
        let mut chance = Chance::new(self.seed).branch(u64::from(who) + 1);
        let mut left = chance.below(100);
        let mut place = 0;
        for (at, role) in ROLES.iter().enumerate() {
            place = at;
            if left < role.share {
                break;
            }
            left -= role.share;
        }
        #[expect(clippy::indexing_slicing, reason = "there are roles")]
        let role = ROLES.get(place).copied().unwrap_or(ROLES[0]);
        let spread = role.spread.0;
        let late = chance.happens(self.joiners);
        let office = 0x000A_0000 + u32::try_from(chance.below(6)).unwrap_or(0);
        let home = 0x0050_0000 + who * 37;
        let span = u64::from(self.history + self.days);
        Person {
            who,
            role: place,
            level: chance.lognormal(role.requests, spread),
            zone: u32::try_from(chance.below(u64::from(self.zones.max(1)))).unwrap_or(0),
            joins: if late { u32::try_from(chance.below(span)).unwrap_or(0) } else { 0 },
            homes: if role.machine { vec![office] } else { vec![office, home] },
            client: u32::try_from(chance.below(12)).unwrap_or(0),
            known: (0..role.working_set).map(|_| chance.below(1 << 40)).collect(),
            days_off: std::array::from_fn(|day| !role.always && day >= 5),
            chance,
        }
    }

    fn mood(&self, day: u32) -> Mood {
        let mut chance = Chance::new(self.seed ^ 0xB007).branch(u64::from(day));
        let rollout = chance.happens(0.08).then(|| {
            let role = truncated(chance.between(0.0, 7.0));
            (usize::try_from(role).unwrap_or(0), 1_000 + day)
        });
        Mood { holiday: chance.happens(0.02), rollout }
    }

    /// A day of ordinary work of `person`.
    pub fn work(&self, person: &mut Person, day: u32, into: &mut Vec<Deed>) {
        let Some(role) = ROLES.get(person.role).copied() else { return };
        let mood = self.mood(day);
        let weekday = usize::try_from(day % 7).unwrap_or(0);
        let off =
            person.days_off.get(weekday).copied().unwrap_or(false) || mood.holiday && !role.machine;
        let on_call = role.name == "operator" && (day + person.who) % 9 < 2;
        if let Some((which, client)) = mood.rollout
            && which == person.role
        {
            person.client = client;
        }
        let chance = &mut person.chance;
        if day < person.joins || off && !on_call && !chance.happens(0.03) || chance.happens(0.03) {
            return;
        }
        let start = (FIRST_DAY + day) * 86_400;
        let mut size = chance.lognormal(person.level, role.spread.1 * self.tails);
        let mut novelty = role.novelty;
        if off {
            size *= 0.25;
        }
        if chance.happens(self.bursts) {
            size *= chance.between(2.0, 6.0);
            novelty = (novelty * 1.8).min(0.9);
        }
        if chance.happens(0.004) && !role.machine {
            person.client = u32::try_from(2_000 + chance.below(400)).unwrap_or(0);
        }
        let network = if chance.happens(role.roams) {
            u32::try_from(0x0060_0000 + chance.below(0x0020_0000)).unwrap_or(0)
        } else if !role.machine && chance.happens(0.3) {
            person.homes.last().copied().unwrap_or(0)
        } else {
            person.homes.first().copied().unwrap_or(0)
        };
        let late = chance.happens(0.04);
        let (from, to) = role.hours;
        let to = if late && !role.machine { to + 3 } else { to };
        let count = chance.count(size).clamp(1, 20_000);
        let night = if on_call { chance.count(12.0) } else { 0 };
        for number in 0..count + night {
            let hour = if number >= count {
                chance.between(0.0, 4.0)
            } else if role.machine {
                chance.between(f64::from(from), f64::from(to))
            } else {
                // Two humps, before and after lunch.
                let middle = f64::from(from + to) / 2.0;
                let side = if chance.happens(0.5) { -0.25 } else { 0.25 };
                let wide = f64::from(to - from);
                middle + wide * (side + 0.11 * chance.normal()).clamp(-0.5, 0.5)
            };
            let local = (truncated(hour * 3_600.0)) % 86_400;
            let shifted = (local + 86_400 + u64::from(person.zone) * 3_600) % 86_400;
            let object = if chance.happens(0.2) {
                None
            } else if chance.happens(novelty) || person.known.is_empty() {
                let fresh = chance.below(1 << 40);
                let place = usize::try_from(chance.below(role.working_set)).unwrap_or(0);
                if let Some(slot) = person.known.get_mut(place) {
                    *slot = fresh;
                }
                Some(fresh)
            } else {
                // Some are read more often than others.
                let share = chance.unit().powi(2);
                let place = share * f64::from(u32::try_from(person.known.len()).unwrap_or(1));
                person.known.get(usize::try_from(truncated(place)).unwrap_or(0)).copied()
            };
            let route = truncated(chance.unit().powi(2) * f64::from(role.routes));
            into.push(Deed {
                at: start + u32::try_from(shifted).unwrap_or(0),
                who: person.who,
                role: person.role,
                network,
                client: person.client,
                route: role.first_route + u16::try_from(route).unwrap_or(0),
                writes: chance.happens(0.15),
                object,
                status: if chance.happens(0.015) { 404 } else { 200 },
                bytes: u32::try_from(truncated(chance.lognormal(role.bytes, 0.8)))
                    .unwrap_or(u32::MAX),
            });
        }
    }
}

impl Person {
    /// Where it usually comes from, with what.
    pub fn home(&self) -> (u32, u32) {
        (self.homes.first().copied().unwrap_or(0), self.client)
    }

    /// A second of the day at this hour of its own time.
    pub fn local(&self, day: u32, hour: f64) -> u32 {
        let shifted = (truncated(hour.max(0.0) * 3_600.0) + u64::from(self.zone) * 3_600) % 86_400;
        (FIRST_DAY + day) * 86_400 + u32::try_from(shifted).unwrap_or(0)
    }

    /// Whether it has joined before `day`.
    pub const fn is_here(&self, day: u32) -> bool {
        self.joins + 3 < day
    }
}

impl Role {
    /// When it works.
    pub const fn hours(&self) -> (u32, u32) {
        self.hours
    }

    /// Its first route and how many it has.
    pub const fn routes(&self) -> (u16, u16) {
        (self.first_route, self.routes)
    }

    /// Bytes of an answer.
    pub const fn bytes(&self) -> f64 {
        self.bytes
    }

    /// Whether it is there at any hour, or a machine.
    pub const fn is_always_there(&self) -> bool {
        self.machine || self.hours.1 - self.hours.0 > 14
    }
}
