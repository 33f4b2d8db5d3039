//! What is known of an identity, for people.

use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::level;
use super::num::{measure, seconds};
use super::{DAY, Profiles};
use crate::Signal;

/// Shares of weeks with requests: 168 hours from Monday 00:00 UTC.
pub type Heat = Vec<f32>;

/// What is usual and what is now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    /// Of an ordinary day.
    pub usual: f32,
    /// Of the day under way, or of the last one that was seen.
    pub now: f32,
}

/// One identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileView {
    /// As its principal prints.
    pub identity: String,
    /// Its peers; empty: everybody.
    pub role: String,
    /// Since when it is known.
    pub since: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// Days learned.
    pub days: u16,
    /// Nothing is found yet: the host learns.
    pub learning: bool,
    /// When it is usually there.
    pub hours: Heat,
    /// The hours of the day under way, a bit each.
    pub hours_now: u32,
    /// Requests in a day.
    pub requests: Usual,
    /// The most requests in ten minutes.
    pub requests_burst: Usual,
    /// Bytes in a day.
    pub bytes: Usual,
    /// The share of requests that fail.
    pub errors: Usual,
    /// Different objects in a day.
    pub objects: Usual,
    /// Objects never read before in a day.
    pub novel: Usual,
    /// Kinds of request (method and route) that it uses.
    pub routes: f32,
    /// Networks that it is known from, of the last six.
    pub networks: usize,
    /// TLS clients that it is known with, of the last six.
    pub clients: usize,
    /// The score of the day under way, in bits; zero when it was not there today.
    pub score: f32,
    /// The score from which a day is a finding.
    pub threshold: f32,
    /// Why, the most telling first.
    pub signals: Vec<Signal>,
}

impl Profiles {
    /// What is known of `identity`; none: nothing.
    pub fn show(&self, identity: &str, now: Timestamp) -> Option<ProfileView> {
        self.view(self.named(identity)?, now)
    }

    /// Those whose day is the most surprising, at most `most` of them.
    pub fn list(&self, most: usize, now: Timestamp) -> Vec<ProfileView> {
        let today = seconds(now.unix_seconds()) / DAY;
        let mut found: Vec<(f32, usize)> = self
            .table
            .all()
            .enumerate()
            .filter(|(_, (identity, _))| identity.number >= today)
            .map(|(place, (identity, _))| (identity.day.score, place))
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.into_iter().take(most).filter_map(|(_, place)| self.view(place, now)).collect()
    }

    fn view(&self, place: usize, now: Timestamp) -> Option<ProfileView> {
        let identity = self.table.get(place)?;
        let day = &identity.day;
        let at = seconds(now.unix_seconds());
        let usual = |kind, now| Usual { usual: level::count(self.usual(identity, kind)), now };
        let here = identity.number >= at / DAY;
        let judged = self.judged_of(identity).filter(|_| here);
        let known = identity.places.known();
        Some(ProfileView {
            identity: self.table.text(place).to_owned(),
            role: self
                .groups
                .get(usize::from(identity.group))
                .map_or_else(String::new, |group| group.role.to_string()),
            since: Timestamp::from_unix_seconds(identity.first.into()),
            last_seen: Timestamp::from_unix_seconds(identity.last.into()),
            days: identity.days,
            learning: self.is_learning(at),
            hours: identity.hours.shares(),
            hours_now: day.hours,
            requests: usual(Kind::DayRequests, measure(day.requests.into())),
            requests_burst: usual(
                Kind::BurstRequests,
                identity.bursts().first().copied().unwrap_or_default(),
            ),
            bytes: usual(Kind::DayBytes, measure(day.bytes)),
            errors: Usual {
                usual: level::part(self.usual(identity, Kind::DayErrors)),
                now: measure(day.errors.into()) / measure(day.requests.max(1).into()),
            },
            objects: usual(Kind::DayDistinct, day.different.count()),
            novel: usual(Kind::DayNovel, day.novel),
            routes: identity.routes.count(),
            networks: known.0,
            clients: known.1,
            score: if here { day.score } else { 0.0 },
            threshold: self.plan.bits,
            signals: judged
                .map(|judged| self.signals_of(identity, &judged, None))
                .unwrap_or_default(),
        })
    }
}
