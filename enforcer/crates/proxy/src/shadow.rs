//! A policy that watches: each decision is made by it as well, and only differences are kept.
//!
//! It sees what the policy in force sees of a request, never takes from a limit, and answers nobody.
//! Kinds of difference are bounded by [`FLIPS_MAX`]; those beyond are counted in the sum only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use enforcer_model::Timestamp;
use enforcer_policy::Policy;
use parking_lot::Mutex;

/// Kinds of difference that are told apart.
const FLIPS_MAX: usize = 256;

/// A policy that is not in force, and what it would have decided otherwise.
#[derive(Debug)]
pub struct Shadow {
    policy: Arc<Policy>,
    text: Option<String>,
    until: Timestamp,
    compared: AtomicU64,
    flipped: AtomicU64,
    flips: Mutex<BTreeMap<Kind, Seen>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    route: Option<Arc<str>>,
    from: Verdict,
    to: Verdict,
}

#[derive(Debug)]
struct Seen {
    count: u64,
    sample: String,
}

/// What a policy makes of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is served.
    Allow,
    /// It is not; why.
    Deny(Arc<str>),
}

/// One kind of difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The route in force; none where none matched.
    pub route: Option<Arc<str>>,
    /// What the policy in force decided.
    pub from: Verdict,
    /// What this one would have.
    pub to: Verdict,
    /// How often.
    pub count: u64,
    /// The first such request.
    pub sample: String,
}

impl Shadow {
    /// `policy` watches until `until`; it was read from `text`, where that is still known.
    pub fn new(policy: Arc<Policy>, text: Option<String>, until: Timestamp) -> Self {
        Self {
            policy,
            text,
            until,
            compared: AtomicU64::new(0),
            flipped: AtomicU64::new(0),
            flips: Mutex::default(),
        }
    }

    /// The policy that watches.
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// What it was read from, to be put in force.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// When it stops watching.
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// How many decisions both have made, and how many differed.
    pub fn counts(&self) -> (u64, u64) {
        (self.compared.load(Ordering::Relaxed), self.flipped.load(Ordering::Relaxed))
    }

    /// The kinds of difference, the most frequent first.
    pub fn flips(&self) -> Vec<Flip> {
        let seen = self.flips.lock();
        let mut flips: Vec<Flip> = seen
            .iter()
            .map(|(kind, seen)| Flip {
                route: kind.route.clone(),
                from: kind.from.clone(),
                to: kind.to.clone(),
                count: seen.count,
                sample: seen.sample.clone(),
            })
            .collect();
        drop(seen);
        flips.sort_by_key(|flip| std::cmp::Reverse(flip.count));
        flips
    }

    /// Notes what both made of one request. A refusal for another reason is no difference: what the
    /// operator asks is who gets in who did not, and who does not any more.
    pub(crate) fn compare(
        &self,
        route: Option<&Arc<str>>,
        from: Verdict,
        to: Verdict,
        sample: impl FnOnce() -> String,
    ) {
        self.compared.fetch_add(1, Ordering::Relaxed);
        if (from == Verdict::Allow) == (to == Verdict::Allow) {
            return;
        }
        self.flipped.fetch_add(1, Ordering::Relaxed);
        let kind = Kind { route: route.cloned(), from, to };
        // Never waited for: where threads meet, the sum is enough.
        let Some(mut flips) = self.flips.try_lock() else { return };
        if let Some(seen) = flips.get_mut(&kind) {
            seen.count = seen.count.saturating_add(1);
        } else if flips.len() < FLIPS_MAX {
            flips.insert(kind, Seen { count: 1, sample: sample() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_who_gets_in_or_does_not_any_more_is_a_difference() {
        let shadow = shadow();
        let route: Arc<str> = "orders".into();
        let no = |why: &str| Verdict::Deny(why.into());

        shadow.compare(Some(&route), Verdict::Allow, Verdict::Allow, String::new);
        shadow.compare(Some(&route), no("a"), no("b"), String::new);
        shadow.compare(Some(&route), Verdict::Allow, no("b"), || "first".to_owned());
        shadow.compare(Some(&route), Verdict::Allow, no("b"), || "second".to_owned());

        assert_eq!(shadow.counts(), (4, 2));
        let flips = shadow.flips();
        assert_eq!(flips.len(), 1);
        assert_eq!((flips[0].count, flips[0].sample.as_str()), (2, "first"));
    }

    #[test]
    fn kinds_of_difference_are_bounded_and_the_sum_goes_on() {
        let shadow = shadow();

        for n in 0..FLIPS_MAX + 10 {
            let to = Verdict::Deny(n.to_string().into());
            shadow.compare(None, Verdict::Allow, to, String::new);
        }

        assert_eq!(shadow.flips().len(), FLIPS_MAX);
        assert_eq!(shadow.counts().1, u64::try_from(FLIPS_MAX + 10).unwrap());
    }

    fn shadow() -> Shadow {
        let text = "version = 1\nlisten.a.address = \"127.0.0.1:0\"\n";
        let policy = Policy::parse(text, Path::new("p.toml")).unwrap();
        Shadow::new(Arc::new(policy), None, Timestamp::from_unix_seconds(1))
    }
}
