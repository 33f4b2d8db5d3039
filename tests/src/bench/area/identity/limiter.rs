//! One rate limit with a million callers, on one thread and on two, beside governor.
//!
//! Both are asked about addresses in random order, are told the time (neither reads a clock), and
//! admit every request: buckets hold more than is drawn. Ours has places for twice the callers;
//! governor keeps its keys in a `DashMap`, as it recommends, and grows with them.

use std::fs;
use std::net::Ipv4Addr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use enforcer_limits::{By, Factor, Kind, Limit, Limits, Payer};
use enforcer_model::{Clock, Moment, Rate, Source, SystemClock};
use governor::clock::FakeRelativeClock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use super::super::super::{Effort, Row, Samples, Target, alternate};
use super::{at_once, each};
use crate::oracle::Random;

const CALLERS: u32 = 1 << 20;
const PLACES: usize = 1 << 21;
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999);
const ONE_MOST: f64 = 240.0;
const TWO_MOST: f64 = 520.0;
const BYTES_MOST: f64 = 40.0;
/// Nobody's bucket is one of these.
const STRANGERS: u32 = 1 << 30;

type Governor = RateLimiter<
    Ipv4Addr,
    DashMapStateStore<Ipv4Addr>,
    FakeRelativeClock,
    NoOpMiddleware<<FakeRelativeClock as governor::clock::Clock>::Instant>,
>;

/// A limiter with its one limit, at one moment.
struct Ours {
    limits: Arc<Limits>,
    limit: Limit,
    now: Moment,
}

pub(super) fn measure(effort: Effort) -> Result<Vec<Row>> {
    let (calls, rounds, strangers) = match effort {
        Effort::Quick => (200_000, 5, 1_000_000),
        Effort::Full => (1_000_000, 15, 8_000_000),
    };
    let before = resident()?;
    let ours = Ours::new()?;
    for caller in 0..CALLERS {
        ensure!(ours.take(caller)?, "a first request is refused");
    }
    let filled = resident()?;
    let lost = ours.limits.lossy_evictions();
    let theirs = governor();
    for caller in 0..CALLERS {
        ensure!(theirs.check_key(&Ipv4Addr::from(caller)).is_ok(), "a first request is refused");
    }
    let with_theirs = resident()?;

    let order = orders(calls);
    let [first, second] = order.each_ref().map(Vec::as_slice);
    let mine = |list: &[u32]| each(list.len(), |n| admitted(ours.take(list[n])?));
    let peer = |list: &[u32]| {
        each(list.len(), |n| admitted(theirs.check_key(&Ipv4Addr::from(list[n])).is_ok()))
    };
    let one = alternate(rounds, || mine(first), || peer(first))?;
    let two = alternate(rounds, || both([first, second], &mine), || both([first, second], &peer))?;

    let settled = resident()?;
    for stranger in 0..strangers {
        ensure!(ours.take(STRANGERS + stranger)?, "a first request is refused");
    }
    let flooded = resident()?;
    let of_one = |bytes: u64| to_float(bytes).map(|bytes| bytes / f64::from(CALLERS));
    let row = |figure: &str, (ours, theirs): &(Samples, Samples), most| -> Result<Row> {
        let row = Row::new(figure, "ns", ours.median()?).beside("governor", theirs.median()?);
        Ok(row.target(Target::AtMost(most)))
    };
    Ok(vec![
        row("one limit of 1,048,576 callers, one thread", &one, ONE_MOST)?,
        row("the same, each of two threads", &two, TWO_MOST)?,
        Row::new("memory for a caller", "B", of_one(filled.saturating_sub(before))?)
            .beside("governor", of_one(with_theirs.saturating_sub(filled))?)
            .target(Target::AtMost(BYTES_MOST)),
        Row::new(
            format!("memory that grew by {strangers} callers more"),
            "MiB",
            to_float(flooded.saturating_sub(settled))? / 1024.0 / 1024.0,
        )
        .target(Target::AtMost(1.0)),
        Row::new("callers forgotten early, of the first 1,048,576", "", to_float(lost)?),
    ])
}

impl Ours {
    fn new() -> Result<Self> {
        let now = SystemClock.now();
        let places = NonZeroUsize::new(PLACES).context("no places")?;
        let limits = Limits::new(places, [0x5eed_5eed, 0xcafe_cafe], now.monotonic);
        let second = Duration::from_secs(1);
        let rate = Rate::new(BURST, second).context("no rate")?;
        let kind = Kind::Rate { rate, burst: BURST };
        // Past the beginning of time, so that a bucket is not full at zero.
        let now = Moment { monotonic: now.monotonic + second, ..now };
        Ok(Self { limits: Arc::new(limits), limit: Limit::new("per_ip", By::Ip, kind), now })
    }

    /// As the request path asks: from the source to what was taken.
    fn take(&self, caller: u32) -> Result<bool> {
        let source = Source::new(Ipv4Addr::from(caller).into());
        let payer = Payer::from_source(source, "route", Some(0));
        let demands = [self.limit.demand(&payer, Factor::WHOLE)];
        Ok(at_once(self.limits.take(&demands, self.now))?.is_ok())
    }
}

fn governor() -> Governor {
    let quota = Quota::per_second(BURST).allow_burst(BURST);
    RateLimiter::dashmap_with_clock(quota, FakeRelativeClock::default())
}

/// Two random orders of callers, as long as `calls`.
fn orders(calls: usize) -> [Vec<u32>; 2] {
    [0x0001_d0e5, 0x0002_d0e5].map(|seed| {
        let mut random = Random::new(seed);
        let mut caller = || u32::try_from(random.below(1 << 20)).unwrap_or_default();
        (0..calls).map(|_| caller()).collect()
    })
}

/// Both threads at once; the mean of what a call costs each of them.
fn both(lists: [&[u32]; 2], one: &(impl Fn(&[u32]) -> Result<f64> + Sync)) -> Result<f64> {
    let start = Barrier::new(lists.len());
    let costs = thread::scope(|scope| {
        let run = |list| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                one(list)
            })
        };
        let [first, second] = lists.map(run);
        [first.join(), second.join()]
    });
    let [first, second] = costs.map(|cost| cost.map_err(|_panic| anyhow!("a thread panicked"))?);
    Ok(f64::midpoint(first?, second?))
}

fn admitted(admitted: bool) -> Result<bool> {
    ensure!(admitted, "a request is refused");
    Ok(true)
}

/// Bytes of memory that this process really has.
fn resident() -> Result<u64> {
    let pages = fs::read_to_string("/proc/self/statm").context("/proc/self/statm")?;
    let pages: u64 = pages.split(' ').nth(1).context("no such field")?.parse()?;
    Ok(pages * u64::try_from(rustix::param::page_size())?)
}

fn to_float(number: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(number >> 4)?) * 16.0 + f64::from(u32::try_from(number & 15)?))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the figures are chosen to be exact")]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_the_same_number_as_a_float() {
        assert_eq!(
            [0, 15, 16, 1_000_003].map(|n| to_float(n).unwrap()),
            [0.0, 15.0, 16.0, 1e6 + 3.0]
        );
    }

    #[test]
    fn each_of_two_threads_has_its_own_list() {
        let cost = both([&[1, 2], &[3]], &|list| Ok(f64::from(list[0]))).unwrap();

        assert_eq!(cost, 2.0);
    }
}
