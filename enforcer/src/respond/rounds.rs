//! Going round, for ever: is what is decided in the kernel, and what is in the kernel decided?
//!
//! Ten times a second a part is compared, so that a million blocks take some tens of seconds and no
//! order waits for more than a few milliseconds. Between two rounds is a pause of random length: whoever changes
//! the maps behind the agent's back cannot know when it looks. What differs is mended, counted and on
//! record.

use std::time::Duration;

use enforcer_kernel::Cursor;
use enforcer_model::{Prefix, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::reconcile::Judged;
use super::{Order, Repair, Responder};

/// How often expired blocks are cleared away and interfaces looked after.
const TICK: Duration = Duration::from_secs(1);

/// How often a part of what is enforced is compared with what is decided.
const ROUND: Duration = Duration::from_millis(100);

/// Decisions in one part.
const DECISIONS: usize = 2_048;

/// Rows of the kernel maps in one part, four slots each.
const ROWS: usize = 1_024;

/// Entries that nothing decided; when a part has more of them, everything is compared at once.
const STRAYS: usize = 16;

/// The shortest pause between two rounds, in parts; the longest has as many more.
const PAUSE: u32 = 50;

/// How far the round has come.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    decided: Decided,
    kernel: Option<Cursor>,
    kernel_done: bool,
    /// Parts until the next round.
    pause: u32,
    /// Slots that differed and were mended, since the start.
    pub(super) mended: u64,
}

/// The decision that is compared next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Decided {
    #[default]
    First,
    /// Behind this single one.
    Behind(Prefix),
    /// The network at this place of the list of this name.
    Listed(String, usize),
    Done,
}

/// Has the responder look after everything in time, until `stop`.
pub(crate) async fn keep_going(orders: mpsc::Sender<Order>, stop: CancellationToken) {
    let [mut ticks, mut rounds] = [TICK, ROUND].map(|period| {
        let mut interval = tokio::time::interval(period);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        interval
    });
    let mut is_postponed = false;
    loop {
        let order = tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => Order::Tick,
            _ = rounds.tick() => {
                // Whatever else waits comes first, but cannot keep a round from its end for ever.
                is_postponed = !is_postponed && orders.capacity() < orders.max_capacity();
                if is_postponed {
                    continue;
                }
                Order::Round
            }
        };
        // A responder that is behind gets the next one.
        if let Err(mpsc::error::TrySendError::Closed(_)) = orders.try_send(order) {
            return;
        }
    }
}

impl Responder {
    /// Compares the next part.
    pub(super) fn go_round(&mut self) {
        let now = self.now().wall;
        if self.parts.kernel.off_because().is_some() {
            return;
        }
        if self.rounds.pause > 0 {
            self.rounds.pause = self.rounds.pause.saturating_sub(1);
            return;
        }
        let (prefixes, next) = self.part(self.rounds.decided.clone(), DECISIONS, now);
        self.rounds.decided = next;
        let mut differing: Vec<Prefix> = prefixes
            .into_iter()
            .filter(|prefix| {
                let held = self.parts.kernel.find(*prefix).ok().flatten();
                let desired = self.claims(now).desired(*prefix);
                !matches!(
                    self.judge(*prefix, desired, held.as_ref(), now),
                    Judged::Same | Judged::Adopt
                )
            })
            .collect();
        let mut strays = Vec::new();
        if !self.rounds.kernel_done {
            let from = self.rounds.kernel.unwrap_or_default();
            let (entries, next) = self.parts.kernel.scan(from, ROWS);
            self.rounds.kernel = next;
            self.rounds.kernel_done = next.is_none();
            for entry in entries {
                let desired = self.claims(now).desired(entry.prefix);
                match self.judge(entry.prefix, desired, Some(&entry), now) {
                    Judged::Same => {}
                    Judged::Put(_) | Judged::Remove => differing.push(entry.prefix),
                    Judged::Adopt => strays.push(entry),
                }
            }
        }
        if strays.len().max(differing.len()) > STRAYS {
            warn!("the kernel map is not as decided in many places: everything is compared");
            if let Err(refusal) = self.verify(Repair::Mend) {
                warn!(error = %refusal, "the kernel map stays as it is");
            }
        } else {
            self.mend_few(&differing, now);
            if !strays.is_empty() {
                self.adopt_all(&strays, now);
            }
        }
        if self.rounds.decided == Decided::Done && self.rounds.kernel_done {
            let mended = self.rounds.mended;
            self.rounds = Rounds { mended, pause: random_pause(), ..Rounds::default() };
        }
    }

    fn mend_few(&mut self, differing: &[Prefix], now: Timestamp) {
        let mut mended = Vec::new();
        for prefix in differing {
            if let Err(why) = self.settle(*prefix, now) {
                warn!(%prefix, why, "a difference in the kernel map cannot be mended");
            } else if let Some(claim) = self.claims(now).desired(*prefix) {
                mended.push((*prefix, claim));
            }
        }
        if !mended.is_empty() {
            self.record_mended(&mended);
        }
    }

    /// The networks of the next `most` decisions, and where to go on.
    fn part(&self, from: Decided, most: usize, now: Timestamp) -> (Vec<Prefix>, Decided) {
        let claims = self.claims(now);
        part(claims, from, most)
    }
}

fn part(claims: super::Claims<'_>, from: Decided, most: usize) -> (Vec<Prefix>, Decided) {
    let first_list = |after: Option<&str>| {
        let later = |list: &&super::List| after.is_none_or(|after| list.name.as_str() > after);
        let next = claims.lists.in_force(claims.now).find(later);
        next.map_or(Decided::Done, |list| Decided::Listed(list.name.to_string(), 0))
    };
    match from {
        Decided::First | Decided::Behind(_) => {
            let after = if let Decided::Behind(prefix) = from { Some(prefix) } else { None };
            let networks = claims.singles.networks_after(after, claims.now);
            let part: Vec<_> = networks.take(most).map(|(prefix, _)| prefix).collect();
            let next = match part.last() {
                Some(last) if part.len() == most => Decided::Behind(*last),
                Some(_) | None => first_list(None),
            };
            (part, next)
        }
        Decided::Listed(name, at) => {
            let Some(list) = claims.lists.get(&name) else {
                return (Vec::new(), first_list(Some(&name)));
            };
            let end = at.saturating_add(most).min(list.networks.len());
            let part = (at..end).filter_map(|at| list.networks.get(at)).collect();
            let next = if end < list.networks.len() {
                Decided::Listed(name, end)
            } else {
                first_list(Some(&name))
            };
            (part, next)
        }
        Decided::Done => (Vec::new(), Decided::Done),
    }
}

fn random_pause() -> u32 {
    let mut byte = [0];
    // Without random bits the pause is the shortest.
    SystemRandom::new().fill(&mut byte).unwrap_or_default();
    let [byte] = byte;
    PAUSE.saturating_add(u32::from(byte) % PAUSE.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use enforcer_model::Expiry;

    use super::*;
    use crate::respond::claims::Claims;
    use crate::respond::lists::Lists;
    use crate::respond::singles::Singles;
    use crate::respond::testing::{at, block, list};

    #[test]
    fn a_round_comes_to_every_decision_whatever_the_size_of_its_parts() {
        let mut singles = Singles::default();
        for id in 1..=5 {
            singles.put(block(id, &format!("192.0.2.{id}"), Expiry::Never));
        }
        let mut lists = Lists::default();
        lists.put(list("a", 10, &["198.51.100.1", "198.51.100.2", "198.51.100.3"]));
        lists.put(list("b", 11, &[]));
        lists.put(list("c", 12, &["203.0.113.0/24"]));
        let claims = Claims { singles: &singles, lists: &lists, now: at(1) };

        for most in 1..=6 {
            let (mut seen, mut from) = (Vec::new(), Decided::First);
            for _ in 0..32 {
                let (prefixes, next) = part(claims, from, most);
                assert!(prefixes.len() <= most);
                seen.extend(prefixes);
                from = next;
            }
            assert_eq!(from, Decided::Done);
            let mut all: Vec<_> = claims.all().map(|(prefix, _)| prefix).collect();
            all.sort_unstable();
            seen.sort_unstable();
            assert_eq!(seen, all, "{most}");
        }
    }

    #[test]
    fn a_list_that_is_gone_in_the_middle_of_a_round_ends_nothing() {
        let (singles, mut lists) = (Singles::default(), Lists::default());
        lists.put(list("c", 12, &["203.0.113.0/24"]));
        let claims = Claims { singles: &singles, lists: &lists, now: at(1) };

        let (prefixes, next) = part(claims, Decided::Listed("b".into(), 3), 9);

        assert_eq!((prefixes, next), (Vec::new(), Decided::Listed("c".into(), 0)));
    }

    #[test]
    fn pauses_are_of_several_lengths_and_none_is_long() {
        let pauses: std::collections::BTreeSet<_> = (0..200).map(|_| random_pause()).collect();

        assert!(pauses.len() > 1);
        assert!(pauses.iter().all(|pause| (PAUSE..=2 * PAUSE).contains(pause)));
    }
}
