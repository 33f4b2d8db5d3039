//! As many identities as there may be, and requests of all of them in turn: what one request costs.

use enforcer_detect::profile::{Plan, Profiles};

use super::chance::Chance;
use super::deed::{Deed, Texts};
use super::world::FIRST_DAY;

/// Requests between two of the clock's ten minutes.
const PACE: u64 = 600;

/// Profiles of `identities`, all known.
pub fn crowd(identities: u32) -> Profiles {
    let plan = Plan { identities_max: usize::try_from(identities).unwrap_or(1), ..Plan::default() };
    let mut profiles = Profiles::new(plan, *b"a key of a bench");
    let mut texts = Texts::default();
    let mut chance = Chance::new(5);
    for who in 0..identities {
        profiles.observe(&deed(who, 0, &mut chance).request(&mut texts));
    }
    profiles
}

/// Requests of chosen identities, ready to be seen; `known` of all there are.
pub fn traffic(known: u32, requests: u32) -> Vec<Deed> {
    let mut chance = Chance::new(6);
    (0..requests)
        .map(|number| {
            let who = u32::try_from(chance.below(u64::from(known))).unwrap_or(0);
            deed(who, 1 + u64::from(number) / PACE, &mut chance)
        })
        .collect()
}

/// Shows all of `deeds` to `profiles`; or to nobody, which is what making requests of them costs.
pub fn drive(mut profiles: Option<&mut Profiles>, deeds: &[Deed]) -> u64 {
    let mut texts = Texts::default();
    let mut sum = 0;
    for deed in deeds {
        let request = deed.request(&mut texts);
        sum += u64::from(request.status);
        if let Some(profiles) = &mut profiles {
            sum += u64::from(profiles.observe(&request).is_some());
        }
    }
    std::hint::black_box(sum)
}

fn deed(who: u32, second: u64, chance: &mut Chance) -> Deed {
    Deed {
        at: FIRST_DAY * 86_400 + u32::try_from(second).unwrap_or(0),
        who,
        role: usize::try_from(who % 7).unwrap_or(0),
        network: (0x0A00_0000_u32 >> 8) | (who % 4_096),
        client: who % 12,
        route: u16::try_from(chance.below(8)).unwrap_or(0),
        writes: chance.happens(0.15),
        object: chance.happens(0.8).then(|| chance.below(200) + u64::from(who) * 1_000),
        status: if chance.happens(0.015) { 404 } else { 200 },
        bytes: 2_000,
    }
}
