//! From where on a day is scored again.
//!
//! To score a day costs more than to count a request, and nearly no request changes a score: as long
//! as all counts are below what is expected, and a deviation and a half more, none of them is worth
//! more than a few bits, and all together are no finding.
//! So each count has a mark, set when the day begins and each time it is scored, and a request that
//! reaches none is only counted.

use super::identity::Identity;
use super::kind::{COUNTED, Kind, PerKind};
use super::level::{self, Expected};
use super::num::{Coarse, measure};
use super::score::{DRIFT_DAYS, DRIFT_SHOWS, LONG, values};

/// Deviations above what is expected that are worth a score while nothing else is surprising, and
/// while something is.
const CALM: f32 = 1.5;
const ALERT: f32 = 0.25;

/// Bits that are missing to a finding for a day to be calm.
const FAR: f32 = 9.0;

/// The logarithm of what a count must have grown by since it was scored last: a sixth.
const GROWN: f32 = 0.15;

/// Counts below this are no reason.
const FEW: f32 = 4.0;

/// The marks of the day of `identity`, of which `expected` was expected and to whose finding so many
/// bits are missing.
pub(super) fn marks(
    identity: &Identity,
    expected: &[Expected; COUNTED],
    missing: f32,
) -> [Coarse; COUNTED] {
    let above = if missing > FAR { CALM } else { ALERT };
    let mut marks = [Coarse::default(); COUNTED];
    let all = Kind::ALL.into_iter().zip(values(identity)).zip(expected);
    for (mark, ((kind, value), expected)) in marks.iter_mut().zip(all) {
        let mut bound = expected.mean + above * expected.deviation;
        if let Some(long) = drifts(identity, kind) {
            bound = bound.min(long + DRIFT_SHOWS * expected.deviation);
        }
        *mark = Coarse::new(match kind {
            Kind::DayErrors | Kind::NovelShare => level::part(bound.max(value + GROWN)),
            Kind::DayHours => (2.0 * bound).max(2.0 * value + 1.0),
            Kind::BytesEach => level::count(bound.max(value + GROWN)),
            // What is expected of shares follows from how many requests there are.
            Kind::DayRequests => {
                let twice = 2.0 * measure(identity.day.requests.into());
                level::count(bound.max(value + GROWN)).min(twice).max(2.0 * FEW)
            }
            Kind::BurstRequests
            | Kind::BurstBytes
            | Kind::BurstErrors
            | Kind::BurstDistinct
            | Kind::BurstNovel
            | Kind::DayBytes
            | Kind::DayDistinct
            | Kind::DayNovel
            | Kind::Moves
            | Kind::OddHours
            | Kind::Network
            | Kind::Client
            | Kind::Routes
            | Kind::Drift => level::count(bound.max(value + GROWN)).max(FEW),
        });
    }
    marks
}

/// What a count is compared with of whose drift something is known.
fn drifts(identity: &Identity, kind: Kind) -> Option<f32> {
    if identity.days < DRIFT_DAYS || identity.drift < DRIFT_SHOWS {
        return None;
    }
    LONG.iter().zip(identity.long).find(|(other, _)| **other == kind).map(|(_, long)| long.get())
}

impl Identity {
    /// Whether `count`, of this kind, has reached its mark.
    pub(super) fn reaches(&self, kind: Kind, count: f32) -> bool {
        count >= self.marks.of(kind).get()
    }

    /// Whether a `part` of the requests of the day has reached the mark of its share.
    pub(super) fn reaches_share(&self, kind: Kind, part: f32) -> bool {
        let requests = measure(self.day.requests.into());
        part + 0.5 >= self.marks.of(kind).get() * (requests + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> [Expected; COUNTED] {
        [Expected { mean: 100.0_f32.ln_1p(), deviation: 0.5 }; COUNTED]
    }

    #[test]
    fn a_day_below_the_usual_is_not_scored_and_one_above_it_at_each_sixth() {
        let mut identity = Identity::new(1, 0, 0);
        identity.marks = marks(&identity, &expected(), 17.0);
        assert!(!identity.reaches(Kind::BurstRequests, 205.0));
        assert!(identity.reaches(Kind::BurstRequests, 215.0));

        identity.burst.requests = 240;
        identity.marks = marks(&identity, &expected(), 17.0);

        assert!(!identity.reaches(Kind::BurstRequests, 270.0));
        assert!(identity.reaches(Kind::BurstRequests, 282.0));
    }

    #[test]
    fn whose_day_is_surprising_is_looked_at_closer() {
        let mut identity = Identity::new(1, 0, 0);

        identity.marks = marks(&identity, &expected(), 5.0);

        assert!(identity.reaches(Kind::BurstRequests, 115.0));
    }

    #[test]
    fn who_drifts_is_scored_where_the_drift_shows() {
        let mut identity = Identity::new(1, 0, 0);
        identity.days = 20;
        identity.drift = 3.0;
        identity.long = [super::super::num::Small::new(50.0_f32.ln_1p()); 4];

        identity.marks = marks(&identity, &expected(), 17.0);

        assert!(identity.reaches(Kind::DayBytes, 75.0));
        assert!(!identity.reaches(Kind::BurstBytes, 75.0));
    }
}
