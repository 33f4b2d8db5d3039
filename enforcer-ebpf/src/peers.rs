//! How much goes to whom: bytes by destination, a signal of data on its way out.
//!
//! Sets of four, the destination heard of longest ago makes room. Counts are since the slot was
//! taken, so a destination that comes and goes among many others is counted anew.

use crate::escalation::seed;
use crate::shared::{Shared, wide};
use crate::source::{PEER_SETS, set_of};
use crate::{Address, Config, Lists};

const MASK: u64 = wide(PEER_SETS) - 1;

/// Counts a packet of `bytes` to `destination`.
#[inline(always)]
pub fn count<A: Address, L: Lists<A>>(
    destination: A,
    bytes: u64,
    config: &Config<Shared>,
    lists: &L,
    now_ns: u64,
) {
    let key = destination.peer();
    let Some(set) = lists.peers(set_of(key, seed(config), MASK)) else { return };
    let place = match set.find(key) {
        Some(place) => place,
        None => {
            let Some(place) = set.room(u64::MAX, 0) else { return };
            place.bytes().set(0);
            place.tally().set(0);
            place.key().set(key);
            place
        }
    };
    place.spent().set(now_ns);
    place.bytes().add(1);
    place.tally().add(bytes);
}
