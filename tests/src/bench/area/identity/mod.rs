//! What it costs to know a caller, to decide and to count: each stage alone, and all together.
//!
//! What is compared takes turns round by round, and answers are compared before times are. Every
//! call asks about something else than the one before, in random order. What one thread does alone
//! is told in its own processor time, so that other work on the machine interrupts a call without
//! being counted as part of it; caches and clock speed are shared all the same. The first row is a
//! hash of 64 bytes: how fast the machine was in this run.
//! `enforcer/docs/benchmarks.md` has the method and its limits.

#![expect(clippy::indexing_slicing, reason = "lists are as long as the bench has made them")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context as Wake, Poll, Waker};
use std::time::Duration;

use anyhow::{Result, bail};
use ring::digest::{SHA256, digest};
use rustix::time::{ClockId, clock_gettime};

use super::super::{Effort, Order, Row, Samples, alternate};
use super::Area;
use crate::oracle::Random;

mod checking;
mod decision;
mod keys;
mod limiter;
mod proofs;
mod routing;
mod stages;
mod tokens;
mod world;

/// The area.
pub(super) const AREA: Area = Area {
    name: "identity",
    what: "what it costs to know a caller, to decide and to count",
    measure,
};

fn measure(order: &Order) -> Result<Vec<Row>> {
    let effort = order.effort;
    // Before anything else has touched much memory, for memory is measured there.
    let limited = limiter::measure(effort)?;
    let keys = keys::Keys::issue()?;
    let mut rows = vec![reference(effort)?];
    rows.extend(decision::measure(effort)?);
    rows.extend(routing::measure(effort)?);
    rows.extend(keys::measure(&keys, effort)?);
    rows.extend(tokens::measure(effort)?);
    rows.extend(proofs::measure(effort)?);
    rows.extend(limited);
    rows.extend(checking::measure(effort)?);
    rows.extend(stages::measure(&keys, effort)?);
    Ok(rows)
}

fn reference(effort: Effort) -> Result<Row> {
    let calls = 20_000;
    let figures = (0..rounds(effort)).map(|_| {
        each(calls, |n| {
            let mut bytes = [7; 64];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            Ok(digest(&SHA256, &bytes).as_ref()[0] < 0xFF)
        })
    });
    let samples = Samples::new(figures.collect::<Result<_>>()?)?;
    Ok(Row::new("reference: SHA-256 of 64 bytes (ring)", "ns", samples.median()?))
}

/// Rounds that take turns.
const fn rounds(effort: Effort) -> usize {
    match effort {
        Effort::Quick => 5,
        Effort::Full => 31,
    }
}

/// A figure of ours beside the same of a peer.
fn versus(
    figure: impl Into<String>,
    peer: &str,
    effort: Effort,
    ours: impl FnMut() -> Result<f64>,
    theirs: impl FnMut() -> Result<f64>,
) -> Result<Row> {
    let (ours, theirs) = alternate(rounds(effort), ours, theirs)?;
    Ok(Row::new(figure, "ns", ours.median()?).beside(peer, theirs.median()?))
}

/// Nanoseconds of this thread's processor time for one of `calls` calls. What the calls return is
/// used, so that nothing is left out.
fn each(calls: usize, mut call: impl FnMut(usize) -> Result<bool>) -> Result<f64> {
    let begun = processor_time();
    let mut yes = 0_usize;
    for n in 0..calls {
        yes += usize::from(call(n)?);
    }
    let spent = processor_time().saturating_sub(begun);
    if std::hint::black_box(yes) > calls {
        bail!("more answers than calls");
    }
    Ok(nanoseconds(spent) / f64::from(u32::try_from(calls)?))
}

/// What this thread has used of a core.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// The outcome of a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> Result<T> {
    match pin!(future).poll(&mut Wake::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Ok(outcome),
        Poll::Pending => bail!("it waits for something"),
    }
}

/// The numbers below `end` in random order.
fn shuffled(end: usize, random: &mut Random) -> Vec<usize> {
    let mut order: Vec<usize> = (0..end).collect();
    for at in (1..end).rev() {
        order.swap(at, random.below(at + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffled_order_has_every_number_once() {
        let mut order = shuffled(1_000, &mut Random::new(1));
        assert!(!order.is_sorted());

        order.sort_unstable();

        assert!(order.into_iter().eq(0..1_000));
    }

    #[test]
    fn a_call_that_works_longer_costs_more_and_one_that_sleeps_does_not() {
        let hash = |bytes: &[u8]| digest(&SHA256, bytes).as_ref()[0] == 0;
        let short = each(200, |_| Ok(hash(&[1; 64]))).unwrap();
        let long = each(200, |_| Ok(hash(&[1; 64 * 1024]))).unwrap();
        let asleep = each(1, |_| {
            std::thread::sleep(Duration::from_millis(20));
            Ok(true)
        });

        assert!(short * 10.0 < long, "{short} and {long}");
        assert!(asleep.unwrap() < 10e6);
    }

    #[test]
    fn a_future_that_waits_is_an_error() {
        assert_eq!(at_once(std::future::ready(7)).unwrap(), 7);
        assert!(at_once(std::future::pending::<()>()).is_err());
    }
}
