//! Which requests change their answer when one policy takes the place of another.
//!
//! Every pair of routes that can get the same request is searched for one that the first policy
//! allows and the second refuses, and for the opposite. A sample that is shown has been decided by
//! both policies as requests are decided. Where the search does not decide, that is told: a
//! difference without changes and without such notes means that no answer changes.

mod listed;
mod meet;
mod replay;

use std::collections::BTreeSet;
use std::sync::Arc;

use enforcer_authz::{Attribute, Plan};
use enforcer_model::Timestamp;

use self::meet::meet;
use crate::Policy;
use crate::analysis::{Analysis, Answer, Formula, answered, leads_to};
use crate::parse::Route;
use crate::routing::{Pattern, Segment};
use crate::trial::{Request, Verdict, judge};

pub use replay::{Flip, Replay, replay};

/// What changes from one policy to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Requests with another answer, one sample for each route, method and direction.
    pub changes: Vec<Change>,
    /// What else differs: routes, limits, issuers, in sentences.
    pub listed: Vec<String>,
    /// What was not decided, in sentences.
    pub undecided: Vec<String>,
}

/// Requests whose answer changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The route that gets them, of the second policy if it has one for them.
    pub route: Arc<str>,
    /// Their method.
    pub method: String,
    /// One of them.
    pub sample: Request,
    /// The answer of the first policy.
    pub before: Verdict,
    /// The answer of the second policy.
    pub after: Verdict,
}

/// Which of the two policies allows what the other refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gain {
    First,
    Second,
}

/// Pairs of routes that are compared; beyond it only those with the same pattern.
const PAIRS_MAX: usize = 1_000_000;

/// The time of samples that do not depend on it: 2026-01-07T12:00Z.
const QUIET_SECONDS: u64 = 1_767_787_200;

/// What changes from `first` to `second`.
pub fn diff(first: &Policy, second: &Policy) -> Diff {
    let mut diff = Diff { listed: listed::differences(first, second), ..Diff::default() };
    let analysis = Analysis::between(first, second);
    let same_callers =
        listed::callers(first) == listed::callers(second) && first.roles() == second.roles();
    let patterns = |policy: &Policy| -> Vec<Option<Pattern>> {
        policy.routes().iter().map(|route| route.pattern.parse().ok()).collect()
    };
    let (before, after) = (patterns(first), patterns(second));
    let few = before.len().saturating_mul(after.len()) <= PAIRS_MAX;
    if !few {
        diff.undecided
            .push("routes with different patterns were not compared: too many".to_owned());
    }
    for (old, old_pattern) in first.routes().iter().zip(&before) {
        for (new, new_pattern) in second.routes().iter().zip(&after) {
            if !few && old.pattern != new.pattern {
                continue;
            }
            let (Some(a), Some(b)) = (old_pattern, new_pattern) else { continue };
            let Some(common) = meet(a, b) else { continue };
            let pair = Pair { first, second, old: Some(old), new: Some(new), place: common };
            if !(same_callers && pair.is_same()) {
                pair.compare(&analysis, &mut diff);
            }
        }
        if let Some(place) = old_pattern.clone() {
            Pair { first, second, old: Some(old), new: None, place }.compare(&analysis, &mut diff);
        }
    }
    for (new, pattern) in second.routes().iter().zip(&after) {
        if let Some(place) = pattern.clone() {
            Pair { first, second, old: None, new: Some(new), place }.compare(&analysis, &mut diff);
        }
    }
    diff
}

/// A route of each policy, of which one may be missing, and what leads to both.
struct Pair<'p> {
    first: &'p Policy,
    second: &'p Policy,
    old: Option<&'p Route>,
    new: Option<&'p Route>,
    place: Pattern,
}

impl Pair<'_> {
    /// Whether both decide alike, given that callers are the same.
    fn is_same(&self) -> bool {
        let (Some(old), Some(new)) = (self.old, self.new) else { return false };
        old.authz == new.authz
            && old.rewrite.is_none()
            && new.rewrite.is_none()
            && old.pattern == new.pattern
            && (0..=5).all(|level| {
                self.first.incident(level).require(old) == self.second.incident(level).require(new)
            })
    }

    fn compare(&self, analysis: &Analysis<'_>, diff: &mut Diff) {
        // Nobody's requests change their answer where no request leads to both.
        if self.find(analysis, Formula::YES) == Answer::Never {
            return;
        }
        if !self.names_fit() {
            let what = format!(
                "whether `{}` changes: its patterns have other names in braces, and conditions read them",
                self.name()
            );
            diff.undecided.push(what);
            return;
        }
        for gain in [Gain::First, Gain::Second] {
            let differs = || self.differs(gain);
            match self.find(analysis, differs()) {
                Answer::Never => {}
                Answer::Open => self.open(None, diff),
                Answer::Sample(_) => {
                    for method in self.methods() {
                        let of_method = match &method {
                            Some(method) => Formula::is(Attribute::Method, method),
                            None => Formula::All(
                                self.methods()
                                    .into_iter()
                                    .flatten()
                                    .map(|known| Formula::is(Attribute::Method, &known).negated())
                                    .collect(),
                            ),
                        };
                        match self.find(analysis, Formula::All(vec![of_method, differs()])) {
                            Answer::Never => {}
                            Answer::Open => self.open(method.as_deref(), diff),
                            Answer::Sample(sample) => self.note(*sample, diff),
                        }
                    }
                }
            }
        }
    }

    /// Adds a sample, once both policies have decided it as the search says.
    fn note(&self, sample: Request, diff: &mut Diff) {
        let now = Some(Timestamp::from_unix_seconds(QUIET_SECONDS));
        let judged = |policy| judge(policy, &sample, now).ok().map(|judged| judged.verdict);
        match (judged(self.first), judged(self.second)) {
            (Some(before), Some(after)) if before.is_allowed() != after.is_allowed() => {
                let (route, method) = (self.name(), sample.method.clone());
                diff.changes.push(Change { route, method, sample, before, after });
            }
            (_, _) => self.open(Some(&sample.method), diff),
        }
    }

    fn open(&self, method: Option<&str>, diff: &mut Diff) {
        let of = method.map_or_else(String::new, |method| format!(" for {method}"));
        diff.undecided.push(format!("whether `{}` changes{of}: too much to try", self.name()));
    }

    /// That one policy allows and the other refuses.
    fn differs(&self, gain: Gain) -> Formula<'_> {
        let allows = |number, policy, route| match route {
            None => Formula::YES.negated(),
            Some(route) => {
                Formula::All(vec![believed(policy), answered(policy, route)]).seen_in(number)
            }
        };
        let (first, second) = (allows(0, self.first, self.old), allows(1, self.second, self.new));
        match gain {
            Gain::First => Formula::All(vec![first, second.negated()]),
            Gain::Second => Formula::All(vec![second, first.negated()]),
        }
    }

    fn find(&self, analysis: &Analysis<'_>, formula: Formula<'_>) -> Answer {
        let number = |route: Option<&Route>| route.map(|route| route.number);
        let leads_here = |host: &str, path: &str| {
            leads_to(self.first, host, path) == number(self.old)
                && leads_to(self.second, host, path) == number(self.new)
        };
        analysis.find_in(self.place.clone(), formula, &leads_here)
    }

    /// Whether the names that conditions read stand for the same segments in the common pattern.
    fn names_fit(&self) -> bool {
        let segments = self.place.segments();
        let params = [self.old, self.new].into_iter().flatten().flat_map(|route| &route.params);
        params
            .into_iter()
            .all(|(n, name)| segments.get(*n) == Some(&Segment::One(Arc::clone(name))))
    }

    /// Methods that rules name, and `None` for all others.
    fn methods(&self) -> Vec<Option<String>> {
        let plans = [self.old, self.new].into_iter().flatten().map(|route| &route.authz);
        let listed = |plan: &Plan| -> Vec<String> {
            let rules = plan.allow().iter().chain(plan.deny());
            rules.flat_map(|rule| rule.methods().iter().map(ToString::to_string)).collect()
        };
        let named: BTreeSet<String> = plans.flat_map(listed).collect();
        named.into_iter().map(Some).chain([None]).collect()
    }

    fn name(&self) -> Arc<str> {
        let route = self.new.or(self.old);
        route.map_or_else(|| "?".into(), |route| Arc::clone(&route.name))
    }
}

/// That a token, if there is one, is of an issuer that `policy` believes.
fn believed<'a>(policy: &Policy) -> Formula<'a> {
    let mut parts = vec![Formula::is(Attribute::Kind, "token").surely().negated()];
    let issuers = policy.issuers().iter();
    parts.extend(issuers.map(|issuer| Formula::is(Attribute::Issuer, &issuer.name).surely()));
    Formula::Any(parts)
}

impl Diff {
    /// Whether no answer changes, nothing else differs, and everything was decided.
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.listed.is_empty() && self.undecided.is_empty()
    }
}
