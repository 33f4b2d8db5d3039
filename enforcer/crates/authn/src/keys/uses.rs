//! When and from where a secret was last used, noted by every request without waiting.
//!
//! A note is a time and an address that must fit together, kept under a sequence number: a writer
//! that finds another one at work leaves it be, because that one's note is as good, and a reader
//! tries again a bounded number of times. So nobody holds a lock, and who stops half-way delays
//! nobody's request. A use within a second of the last one from the same place is not noted again:
//! the line stays shared between the cores.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use enforcer_model::Timestamp;
use serde::Serialize;

/// A use of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LastUse {
    /// When, to about a second.
    pub at: Timestamp,
    /// From where.
    pub from: IpAddr,
}

/// The last use of one secret; shared by all threads, and by the entries of one key one after another.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// Odd while somebody writes.
    sequence: AtomicU32,
    /// Zero: never.
    at_ns: AtomicU64,
    /// An IPv4 address in its IPv6 form.
    address: [AtomicU64; 2],
    unwritten: AtomicBool,
}

/// Uses from one place that are closer than this are one.
const RESOLUTION: Duration = Duration::from_secs(1);

/// Attempts at a reading; a writer needs some nanoseconds.
const READ_TRIES: usize = 1_000;

impl Uses {
    /// As it was found on disk.
    pub(super) fn of(last: Option<LastUse>) -> Self {
        let uses = Self::default();
        if let Some(last) = last {
            uses.put(last);
        }
        uses
    }

    /// Notes a use. Never waits.
    pub(super) fn note(&self, at: Timestamp, from: IpAddr) {
        let last = Timestamp::from_unix_ns(self.at_ns.load(Ordering::Relaxed));
        let same = at >= last && at.since(last) < RESOLUTION && self.words() == words(from);
        if !same && self.put(LastUse { at, from }) {
            self.unwritten.store(true, Ordering::Release);
        }
    }

    /// The last use, if there was one. A reading that is disturbed all the time is given up.
    pub(super) fn last(&self) -> Option<LastUse> {
        (0..READ_TRIES)
            .find_map(|_| {
                let before = self.sequence.load(Ordering::Acquire);
                let (at, words) = (self.at_ns.load(Ordering::Relaxed), self.words());
                fence(Ordering::Acquire);
                let undisturbed =
                    before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before;
                undisturbed.then_some((at, words))
            })
            .filter(|(at, _)| *at > 0)
            .map(|(at, [high, low])| {
                let bits = u128::from(high) << 64 | u128::from(low);
                let from = IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical();
                LastUse { at: Timestamp::from_unix_ns(at), from }
            })
    }

    /// Whether something was noted since this was last asked.
    pub(super) fn take_unwritten(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed) && self.unwritten.swap(false, Ordering::Acquire)
    }

    /// What was taken could not be written.
    pub(super) fn still_unwritten(&self) {
        self.unwritten.store(true, Ordering::Release);
    }

    /// Whether it was done; not when somebody else is writing.
    fn put(&self, LastUse { at, from }: LastUse) -> bool {
        let sequence = self.sequence.load(Ordering::Relaxed);
        let begun = sequence.is_multiple_of(2)
            && self
                .sequence
                .compare_exchange(
                    sequence,
                    sequence.wrapping_add(1),
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_ok();
        if !begun {
            return false;
        }
        // What follows is not seen before the odd number is.
        fence(Ordering::Release);
        self.at_ns.store(at.unix_ns(), Ordering::Relaxed);
        self.address
            .iter()
            .zip(words(from))
            .for_each(|(to, from)| to.store(from, Ordering::Relaxed));
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
        true
    }

    fn words(&self) -> [u64; 2] {
        let [high, low] = &self.address;
        [high.load(Ordering::Relaxed), low.load(Ordering::Relaxed)]
    }
}

fn words(address: IpAddr) -> [u64; 2] {
    let bytes = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let (high, low) = bytes.split_at(8);
    [high, low].map(|half| half.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_read_as_it_was_noted_and_is_due_once() {
        let uses = Uses::default();
        assert_eq!((uses.last(), uses.take_unwritten()), (None, false));

        for (second, from) in [(5, "192.0.2.1"), (5, "2001:db8::1"), (9, "192.0.2.1")] {
            let noted =
                LastUse { at: Timestamp::from_unix_seconds(second), from: from.parse().unwrap() };
            uses.note(noted.at, noted.from);
            assert_eq!(uses.last(), Some(noted));
            assert!(uses.take_unwritten() && !uses.take_unwritten());
        }
    }

    #[test]
    fn a_second_use_in_the_same_second_from_the_same_place_writes_nothing() {
        let uses = Uses::default();
        let (from, at) = ("192.0.2.1".parse().unwrap(), Timestamp::from_unix_seconds(5));
        uses.note(at, from);
        assert!(uses.take_unwritten());

        uses.note(at.saturating_add(Duration::from_millis(999)), from);

        assert!(!uses.take_unwritten());
        assert_eq!(uses.last().unwrap().at, at);
    }

    #[test]
    fn time_and_address_fit_together_whoever_writes_meanwhile() {
        let uses = Uses::default();
        let place = |n: u64| IpAddr::V6(Ipv6Addr::from_bits(u128::from(n) << 64 | u128::from(n)));
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let uses = &uses;
                scope.spawn(move || {
                    for n in (1..20_000u64).map(|n| (n * 4 + thread) * 10_000_000_000) {
                        uses.note(Timestamp::from_unix_ns(n), place(n));
                    }
                });
            }
            for _ in 0..20_000 {
                if let Some(last) = uses.last() {
                    assert_eq!(last.from, place(last.at.unix_ns()));
                }
            }
        });
        assert!(uses.last().is_some());
    }
}
