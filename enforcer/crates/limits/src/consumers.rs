//! Who draws most on the buckets, by sample.
//!
//! Buckets know no names, so one draw in [`EVERY`] is written down with its subject. The summary is
//! that of Metwally, Agrawal and El Abbadi ("space-saving", 2005): [`PLACES`] names, the least one
//! makes room for a new one and leaves it its count. Counts are halved once a minute. A thread that
//! finds the summary in use does not wait for it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::Subject;

/// One draw in so many is written down; a power of two.
pub(crate) const EVERY: u64 = 64;

/// Names at once.
const PLACES: usize = 256;

/// Characters of a name.
const NAME_MAX: usize = 128;

const HALVED_EVERY_NS: u64 = 60_000_000_000;

/// Somebody who draws on a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// The limit.
    pub limit: Arc<str>,
    /// Whose buckets.
    pub subject: String,
    /// Draws of the last minutes, older ones counting less; an estimate, and too high rather than too low
    /// for names that came late.
    pub draws: u64,
    /// Of these, refused.
    pub refused: u64,
}

/// The summary.
#[derive(Debug, Default)]
pub(crate) struct Consumers(Mutex<Summary>);

#[derive(Debug, Default)]
struct Summary {
    places: Vec<(u64, Consumer)>,
    halved_ns: u64,
}

/// What became of a draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Admitted,
    Refused,
}

impl Consumers {
    /// Writes one draw in [`EVERY`] down.
    pub(crate) fn note(
        &self,
        name: u64,
        limit: &Arc<str>,
        subject: &Subject<'_>,
        outcome: Outcome,
        now_ns: u64,
    ) {
        // The clock's lowest digits are as good as a die, and no thread has to count.
        if (name ^ now_ns.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 58 == 0
            && let Some(mut summary) = self.0.try_lock()
        {
            summary.count(name, limit, subject, outcome, now_ns);
        }
    }

    /// The `most` greatest, of one limit or of all.
    pub(crate) fn greatest(&self, limit: Option<&str>, most: usize) -> Vec<Consumer> {
        let summary = self.0.lock();
        let mine = |consumer: &&Consumer| limit.is_none_or(|name| &*consumer.limit == name);
        let mut greatest: Vec<_> =
            summary.places.iter().map(|(_, consumer)| consumer).filter(mine).cloned().collect();
        drop(summary);
        greatest.sort_by(|a, b| b.draws.cmp(&a.draws).then_with(|| a.subject.cmp(&b.subject)));
        greatest.truncate(most);
        greatest
    }
}

impl Summary {
    fn count(
        &mut self,
        name: u64,
        limit: &Arc<str>,
        subject: &Subject<'_>,
        outcome: Outcome,
        now_ns: u64,
    ) {
        if now_ns.saturating_sub(self.halved_ns) >= HALVED_EVERY_NS {
            self.halved_ns = now_ns;
            for (_, consumer) in &mut self.places {
                (consumer.draws, consumer.refused) = (consumer.draws / 2, consumer.refused / 2);
            }
            self.places.retain(|(_, consumer)| consumer.draws > 0);
        }
        let refused = if outcome == Outcome::Refused { EVERY } else { 0 };
        if let Some((_, known)) = self.places.iter_mut().find(|(known, _)| *known == name) {
            known.draws = known.draws.saturating_add(EVERY);
            known.refused = known.refused.saturating_add(refused);
            return;
        }
        let mut subject = subject.to_string();
        if let Some((end, _)) = subject.char_indices().nth(NAME_MAX) {
            subject.truncate(end);
        }
        let mut new = Consumer { limit: Arc::clone(limit), subject, draws: EVERY, refused };
        if self.places.len() < PLACES {
            self.places.push((name, new));
        } else if let Some(least) = self.places.iter_mut().min_by_key(|(_, known)| known.draws) {
            new.draws = new.draws.saturating_add(least.1.draws);
            *least = (name, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_draws_most_is_told_whoever_else_draws_once() {
        let consumers = Consumers::default();
        let limit = Arc::from("per_ip");
        let mut now_ns = 0u64;
        for n in 0..400_000u64 {
            now_ns += 1_313;
            let (name, route) =
                if n % 4 == 0 { (5, "hungry".to_owned()) } else { (n << 9, n.to_string()) };
            let outcome = if n % 8 == 0 { Outcome::Refused } else { Outcome::Admitted };
            consumers.note(name, &limit, &Subject::Route(&route), outcome, now_ns);
        }

        let greatest = consumers.greatest(Some("per_ip"), 1);

        assert_eq!(greatest[0].subject, "route:hungry");
        assert!((80_000..120_000).contains(&greatest[0].draws), "{greatest:?}");
        assert!(greatest[0].refused > 30_000, "{greatest:?}");
        assert!(consumers.greatest(None, usize::MAX).len() <= PLACES);
        assert!(consumers.greatest(Some("other"), 9).is_empty());
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let consumers = Consumers::default();
        let limit = Arc::from("l");
        for now_ns in 0..10_000 {
            consumers.note(1, &limit, &Subject::Everybody, Outcome::Admitted, now_ns);
        }
        assert!(!consumers.greatest(None, 9).is_empty());
        for minute in 1..2_000u64 {
            let now_ns = minute * HALVED_EVERY_NS + minute;
            consumers.note(2, &limit, &Subject::Absent, Outcome::Admitted, now_ns);
        }

        assert!(consumers.greatest(None, 9).iter().all(|one| one.subject == "(absent)"));
    }
}
