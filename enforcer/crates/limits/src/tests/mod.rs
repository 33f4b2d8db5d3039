//! The promises of the crate, by what they are about.

mod mixed;
mod model;
mod threads;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Clock, KeyId, Moment, Principal, Rate, Source, SystemClock, Timestamp};

use crate::take::{Halt, all_or_none};
use crate::{By, Demand, Exceeded, Factor, Kind, Limit, Limits, Payer, Taken};

pub(crate) fn rate(name: &str, by: By, per_second: u32, burst: u32) -> Limit {
    let rate = Rate::new(NonZeroU32::new(per_second).unwrap(), Duration::from_secs(1)).unwrap();
    Limit::new(name, by, Kind::Rate { rate, burst: NonZeroU32::new(burst).unwrap() })
}

pub(crate) fn limits(entries: usize) -> (Arc<Limits>, Moment) {
    let start = SystemClock.now();
    let limits =
        Limits::new(NonZeroUsize::new(entries).unwrap(), [0x5eed, 0xcafe], start.monotonic);
    (Arc::new(limits), Moment { monotonic: start.monotonic, wall: noon() })
}

/// An hour before noon of a day in the middle of a month.
pub(crate) fn noon() -> Timestamp {
    "2026-11-15T11:00:00Z".parse().unwrap()
}

pub(crate) fn later(moment: Moment, by: Duration) -> Moment {
    Moment { monotonic: moment.monotonic + by, wall: moment.wall.saturating_add(by) }
}

pub(crate) fn source(n: u32) -> Source {
    Source::new(std::net::Ipv4Addr::from(n).into())
}

pub(crate) fn key(n: u8) -> KeyId {
    KeyId::from_bytes([b'a' + n; 12]).unwrap()
}

pub(crate) fn from(n: u32) -> Payer<'static> {
    Payer::from_source(source(n), "route", Some(0))
}

pub(crate) fn demand<'a>(limit: &'a Limit, payer: &Payer<'a>) -> Demand<'a> {
    limit.demand(payer, Factor::WHOLE)
}

/// Where nothing has to wait for a disk.
pub(crate) fn take(
    limits: &Arc<Limits>,
    demands: &[Demand<'_>],
    now: Moment,
) -> Result<Taken, Exceeded> {
    all_or_none(limits, demands, now).map_err(told)
}

fn told(halt: Halt) -> Exceeded {
    match halt {
        Halt::Exceeded(exceeded) => *exceeded,
        Halt::Lease(lease) => panic!("{lease:?} is waited for"),
    }
}

pub(crate) fn principal(n: u8) -> Principal {
    Principal::from_key(key(n))
}
