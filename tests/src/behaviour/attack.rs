//! Seven attacks on the made-up company.

use super::chance::{Chance, truncated};
use super::deed::Deed;
use super::world::{Person, ROLES, World};

/// What somebody does who should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attack {
    /// A token used from elsewhere, beside its owner.
    StolenToken,
    /// One object after the other.
    Enumeration,
    /// A little at each hour of the day.
    SlowScraping,
    /// An insider who takes much of what it may read.
    BulkRead,
    /// The usual, in the night.
    OddHours,
    /// Routes that others use.
    Probing,
    /// A little more each day.
    Poisoning,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::StolenToken,
        Self::Enumeration,
        Self::SlowScraping,
        Self::BulkRead,
        Self::OddHours,
        Self::Probing,
        Self::Poisoning,
    ];

    /// As tables call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StolenToken => "stolen token",
            Self::Enumeration => "enumeration",
            Self::SlowScraping => "slow scraping",
            Self::BulkRead => "bulk read",
            Self::OddHours => "odd hours",
            Self::Probing => "probing",
            Self::Poisoning => "poisoning",
        }
    }

    /// On how many days in a row.
    fn lasts(self, chance: &mut Chance) -> u32 {
        let days = match self {
            Self::StolenToken | Self::SlowScraping => 1 + chance.below(3),
            Self::Enumeration | Self::BulkRead | Self::OddHours | Self::Probing => 1,
            Self::Poisoning => 14,
        };
        u32::try_from(days).unwrap_or(1)
    }

    /// What `person` seems to do on the `nth` day of it.
    pub fn strike(
        self,
        world: &World,
        person: &Person,
        day: u32,
        nth: u32,
        into: &mut Vec<Deed>,
    ) -> bool {
        let mut chance =
            Chance::new(world.seed ^ 0xA77A).branch(u64::from(person.who) << 32 | u64::from(day));
        let Some(role) = ROLES.get(person.role) else { return false };
        let (network, client) = person.home();
        let (first_route, routes) = role.routes();
        let route = first_route + u16::try_from(chance.below(u64::from(routes))).unwrap_or(0);
        let plain = Deed {
            at: person.local(day, 12.0),
            who: person.who,
            role: person.role,
            network,
            client,
            route,
            writes: false,
            object: None,
            status: 200,
            bytes: u32::try_from(truncated(role.bytes())).unwrap_or(0),
        };
        let elsewhere = Deed {
            network: u32::try_from(0x00C0_0000 + chance.below(0x0010_0000)).unwrap_or(0),
            client: u32::try_from(9_000 + chance.below(5)).unwrap_or(0),
            ..plain
        };
        let strength = world.strength;
        let before = into.len();
        match self {
            Self::StolenToken => {
                let hour = chance.between(0.0, 24.0);
                let count = chance.count(chance.clone().between(15.0, 80.0) * strength);
                for _ in 0..count {
                    let at = person.local(day, (hour + chance.between(0.0, 2.0)) % 24.0);
                    into.push(Deed { at, object: Some(chance.below(1 << 40)), ..elsewhere });
                }
            }
            Self::Enumeration => {
                let hour = chance.between(8.0, 20.0);
                let count = chance.count(chance.clone().between(100.0, 1_000.0) * strength);
                let from = chance.below(1 << 30);
                for number in 0..count {
                    let at = person.local(day, hour + chance.between(0.0, 0.7));
                    let status = if chance.happens(0.15) { 404 } else { 200 };
                    into.push(Deed { at, object: Some(from + number), status, ..plain });
                }
            }
            Self::SlowScraping => {
                let rate = chance.between(8.0, 25.0) * strength;
                for hour in 0..24_u32 {
                    for _ in 0..chance.count(rate) {
                        let at = person.local(day, f64::from(hour) + chance.unit());
                        into.push(Deed { at, object: Some(chance.below(1 << 40)), ..plain });
                    }
                }
            }
            Self::BulkRead => {
                let (from, to) = role.hours();
                let factor = chance.between(3.0, 10.0) * strength;
                let wide = f64::from(to - from);
                for _ in 0..chance.count(person.level.max(30.0) * factor) {
                    let at = person.local(day, (f64::from(from) + wide * chance.unit()) % 24.0);
                    let bytes = u32::try_from(truncated(role.bytes() * chance.between(1.0, 6.0)));
                    let object = Some(chance.below(1 << 40));
                    into.push(Deed { at, object, bytes: bytes.unwrap_or(u32::MAX), ..plain });
                }
            }
            Self::OddHours => {
                let night = f64::from(role.hours().1) + 6.0 + chance.between(0.0, 2.0);
                for _ in 0..chance.count(chance.clone().between(10.0, 40.0) * strength) {
                    let at = person.local(day, (night + chance.between(0.0, 2.0)) % 24.0);
                    into.push(Deed { at, object: Some(chance.below(1 << 40)), ..plain });
                }
            }
            Self::Probing => {
                let hour = chance.between(8.0, 18.0);
                for _ in 0..chance.count(chance.clone().between(8.0, 40.0) * strength) {
                    let at = person.local(day, hour + chance.between(0.0, 1.5));
                    let route = u16::try_from(100 + chance.below(20)).unwrap_or(0);
                    let status = if chance.happens(0.8) { 403 } else { 200 };
                    let writes = chance.happens(0.4);
                    into.push(Deed { at, route, writes, status, ..plain });
                }
            }
            Self::Poisoning => {
                // A tenth more each day, to nearly four times the usual.
                let extra =
                    person.level * (1.1_f64.powi(i32::try_from(nth + 1).unwrap_or(0)) - 1.0);
                let (from, to) = role.hours();
                let wide = f64::from(to - from);
                for _ in 0..chance.count(extra * strength) {
                    let at = person.local(day, (f64::from(from) + wide * chance.unit()) % 24.0);
                    into.push(Deed { at, object: Some(chance.below(1 << 40)), ..plain });
                }
                // Until it doubles what is usual it is no different from a busy week.
                return extra >= person.level && into.len() > before;
            }
        }
        into.len() > before
    }
}

/// Who is attacked when: by day and identity, with the day of the attack.
pub fn campaign(world: &World, people: &[Person]) -> Vec<(u32, u32, Attack, u32)> {
    let mut chance = Chance::new(world.seed ^ 0xCA3F);
    let mut plan = Vec::new();
    let mut taken = std::collections::BTreeSet::new();
    let days = f64::from(world.identities * world.days) * world.attacks;
    let mut which = 0_usize;
    let mut left = days;
    for _ in 0..world.identities * 4 {
        if left <= 0.0 {
            break;
        }
        let Some(attack) = Attack::ALL.get(which % Attack::ALL.len()).copied() else { break };
        let Some(person) =
            people.get(usize::try_from(chance.below(u64::from(world.identities))).unwrap_or(0))
        else {
            break;
        };
        let night_owl = ROLES.get(person.role).is_some_and(super::world::Role::is_always_there);
        if taken.contains(&person.who)
            || night_owl && matches!(attack, Attack::OddHours | Attack::SlowScraping)
            || attack == Attack::Poisoning && !which.is_multiple_of(3)
        {
            which += usize::from(attack == Attack::Poisoning);
            continue;
        }
        let lasts = attack.lasts(&mut chance);
        let latest = world.days.saturating_sub(lasts);
        let from = world.history + u32::try_from(chance.below(u64::from(latest) + 1)).unwrap_or(0);
        if !person.is_here(from) {
            continue;
        }
        taken.insert(person.who);
        for nth in 0..lasts {
            plan.push((from + nth, person.who, attack, nth));
        }
        left -= f64::from(lasts.min(3));
        which += 1;
    }
    plan
}
