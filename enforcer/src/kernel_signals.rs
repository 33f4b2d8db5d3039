//! What the kernel part tells, on its way to detection: sources whose packets went over their budget.
//!
//! The kernel tells of a source once a second. The first word of a quiet moment is passed on at once,
//! because a block may hang on it; of a flood of them at most [`AT_ONCE`] pass in each [`BEAT`], and the
//! rest is summed by source, at most [`WAITING_MAX`] of them: what finds no room there either is only
//! counted. Detection that is behind ([`SIGNALS_MAX`] wait for it) is told later, and loses nothing but
//! the exact time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use enforcer_detect::Packets;
use enforcer_kernel::{Event, Events, Reason};
use enforcer_model::{Clock, Prefix, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

/// Signals that may wait for detection.
pub(crate) const SIGNALS_MAX: usize = 1_024;

/// Sources whose words are summed while they wait.
const WAITING_MAX: usize = 8_192;

/// Signals that pass in each [`BEAT`].
const AT_ONCE: usize = 128;

/// How often what was summed is passed on.
const BEAT: Duration = Duration::from_millis(100);

/// What waits to be told, and how much may be told in this beat.
#[derive(Debug)]
struct Signals {
    waiting: HashMap<(Prefix, bool), u64>,
    left: usize,
    lost: u64,
}

impl Signals {
    fn new() -> Self {
        Self { waiting: HashMap::new(), left: AT_ONCE, lost: 0 }
    }

    /// One more word about a source; what of it is told now.
    fn hear(&mut self, source: Prefix, opening: bool, at: Timestamp) -> Option<Packets> {
        if self.left > 0 && self.waiting.is_empty() {
            self.left -= 1;
            return Some(Packets { at, source, count: 1, opening });
        }
        self.wait(source, opening, 1);
        None
    }

    fn wait(&mut self, source: Prefix, opening: bool, count: u64) {
        let is_full = self.waiting.len() >= WAITING_MAX;
        match self.waiting.entry((source, opening)) {
            Entry::Occupied(mut known) => *known.get_mut() = known.get().saturating_add(count),
            Entry::Vacant(_) if is_full => self.lost = self.lost.saturating_add(count),
            Entry::Vacant(new) => drop(new.insert(count)),
        }
    }

    /// A new beat; what of that which waits is told in it, those with most first.
    fn beat(&mut self, at: Timestamp) -> Vec<Packets> {
        self.left = AT_ONCE;
        if self.waiting.is_empty() {
            return Vec::new();
        }
        if self.lost > 0 {
            warn!(lost = self.lost, "more sources are over their budgets than can be told apart");
            self.lost = 0;
        }
        let mut all: Vec<_> = self.waiting.drain().collect();
        all.sort_unstable_by_key(|(_, count)| std::cmp::Reverse(*count));
        let rest = all.split_off(all.len().min(AT_ONCE));
        self.waiting.extend(rest);
        self.left -= all.len().min(AT_ONCE);
        let told = |((source, opening), count)| Packets { at, source, count, opening };
        all.into_iter().map(told).collect()
    }
}

/// Passes on what the kernel tells, as long as it tells.
pub(crate) async fn tell(
    mut events: Events,
    signals: mpsc::Sender<Packets>,
    clock: Arc<dyn Clock>,
) {
    let mut all = Signals::new();
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let told = tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return };
                let now = clock.now().wall;
                heard(&event).and_then(|(source, opening)| all.hear(source, opening, now))
            }
            _ = beat.tick(), if all.left < AT_ONCE || !all.waiting.is_empty() => {
                let now = clock.now().wall;
                for packets in all.beat(now) {
                    pass(packets, &signals, &mut all);
                }
                None
            }
        };
        if let Some(packets) = told {
            pass(packets, &signals, &mut all);
        }
    }
}

/// Detection that is behind hears of it with the next beat.
fn pass(packets: Packets, signals: &mpsc::Sender<Packets>, all: &mut Signals) {
    if signals.try_send(packets).is_err() {
        all.wait(packets.source, packets.opening, packets.count);
    }
}

/// Whose budget was spent, and whether by opening connections; blocks that act are no news.
fn heard(event: &Event) -> Option<(Prefix, bool)> {
    match event {
        Event::Blocked { source, id, verdict, .. } => {
            debug!(%source, block = %id, %verdict, "first packet in a while met its block");
            None
        }
        Event::BudgetExceeded { source, prefix, reason, verdict, sample, .. } => {
            debug!(%source, %prefix, %reason, %verdict, "budget spent");
            Some((*prefix, *reason == Reason::SynBudget || is_opening(sample.flags)))
        }
        Event::Contained { destination, id, verdict, .. } => {
            debug!(%destination, block = %id, %verdict, "first packet in a while to a blocked peer");
            None
        }
    }
}

/// A SYN that answers nothing.
const fn is_opening(flags: u8) -> bool {
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    flags & SYN != 0 && flags & ACK == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_moment_is_told_at_once_and_a_flood_in_beats_with_nothing_lost() {
        let mut signals = Signals::new();
        let told: Vec<_> =
            (0..1_000).filter_map(|n| signals.hear(source(n), false, at(1))).collect();
        assert_eq!(told.len(), AT_ONCE);
        assert!(signals.hear(source(999), false, at(1)).is_none());

        let first = signals.beat(at(2));
        assert_eq!((first.len(), first[0].count, first[0].source), (AT_ONCE, 2, source(999)));
        let mut rest = 0;
        loop {
            let more = signals.beat(at(3));
            rest += more.iter().map(|one| one.count).sum::<u64>();
            if more.is_empty() {
                break;
            }
        }

        let first: u64 = first.iter().map(|one| one.count).sum();
        assert_eq!(u64::try_from(AT_ONCE).unwrap() + first + rest, 1_001);
        assert!(signals.hear(source(1), true, at(4)).is_some(), "quiet again");
    }

    #[test]
    fn opening_and_other_packets_of_one_source_are_told_apart() {
        let mut signals = Signals::new();
        signals.left = 0;
        for opening in [true, false, true] {
            assert!(signals.hear(source(1), opening, at(1)).is_none());
        }

        let told = signals.beat(at(2));

        let expected = |count, opening| Packets { at: at(2), source: source(1), count, opening };
        assert_eq!(told, [expected(2, true), expected(1, false)]);
    }

    #[test]
    fn there_is_a_bound_and_what_is_beyond_it_is_counted() {
        let mut signals = Signals::new();
        signals.left = 0;
        for n in 0..WAITING_MAX + 5 {
            signals.hear(source(n), false, at(1));
        }

        assert_eq!((signals.waiting.len(), signals.lost), (WAITING_MAX, 5));
        signals.hear(source(0), false, at(1));
        assert_eq!(signals.lost, 5, "who waits already is summed");
    }

    #[test]
    fn detection_that_is_behind_hears_of_it_later() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut all = Signals::new();
        for _ in 0..3 {
            let packets = Packets { at: at(1), source: source(1), count: 2, opening: false };
            pass(packets, &sender, &mut all);
        }

        assert_eq!(receiver.try_recv().unwrap().count, 2);
        assert_eq!(all.beat(at(2))[0].count, 4);
    }

    #[test]
    fn a_connection_is_opened_by_a_syn_that_answers_nothing() {
        assert!(is_opening(0x02) && is_opening(0xc2));
        assert!(!is_opening(0x12) && !is_opening(0x10) && !is_opening(0));
    }

    fn source(n: usize) -> Prefix {
        let n = u32::try_from(n).unwrap();
        std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n)).into()
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_unix_seconds(second)
    }
}
