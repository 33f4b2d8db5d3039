//! How old an answer is, and how long it is good (RFC 9111, 4.2).
//!
//! Age grows by the monotonic clock from the moment when the answer arrived; only what others said
//! about it (`Date`, `Age`, `Expires`) is in wall time. Nothing here is ever negative: what is in
//! doubt is as old, and as short-lived, as it can be.

use std::time::{Duration, Instant};

use enforcer_model::Moment;
use http::header::{AGE, DATE, EXPIRES, HeaderName, HeaderValue, LAST_MODIFIED, PRAGMA};
use http::{HeaderMap, StatusCode};

use crate::date;
use crate::directives::{Delta, Directives};

/// What the head of an answer says about its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    received: Instant,
    initial_age: Duration,
    lifetime: Duration,
    /// Even while it is fresh, the upstream is asked first.
    always_validate: bool,
    /// Once it is not fresh, it is never used without asking.
    never_stale: bool,
    while_revalidate: Duration,
    if_error: Option<Duration>,
}

/// When the answer was asked for, and when its head was there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) asked: Moment,
    pub(crate) heard: Moment,
}

/// The share of the time since the last change for which an answer is taken to be good that says
/// nothing else, and the longest (RFC 9111, 4.2.2).
const HEURISTIC_SHARE: u32 = 10;
const HEURISTIC_MAX: Duration = Duration::from_secs(86_400);
const SECONDS_MAX: u64 = 1 << 31;

impl Freshness {
    pub(crate) fn of(
        status: StatusCode,
        answer: &HeaderMap,
        directives: &Directives,
        times: Times,
    ) -> Self {
        let now = times.heard.wall.unix_seconds();
        let date = one(answer, &DATE).and_then(|date| date::parse(date, now));
        let apparent = now.saturating_sub(date.unwrap_or(now));
        let delay = times.heard.monotonic.saturating_duration_since(times.asked.monotonic);
        let told = Duration::from_secs(told_age(answer)).saturating_add(delay);
        let lifetime = lifetime(status, answer, directives, date.unwrap_or(now), now);
        let seconds =
            |delta: Option<Delta>| delta.map(|delta| Duration::from_secs(delta.seconds()));
        Self {
            received: times.heard.monotonic,
            initial_age: told.max(Duration::from_secs(apparent)),
            lifetime,
            always_validate: directives.no_cache,
            never_stale: directives.must_revalidate
                || directives.proxy_revalidate
                || directives.s_maxage.is_some(),
            while_revalidate: seconds(directives.stale_while_revalidate).unwrap_or_default(),
            if_error: seconds(directives.stale_if_error),
        }
    }

    pub(crate) fn age(&self, now: Moment) -> Duration {
        let here = now.monotonic.saturating_duration_since(self.received);
        self.initial_age.saturating_add(here)
    }

    /// How long it is good from now; zero when it is not.
    pub(crate) fn left(&self, now: Moment) -> Duration {
        self.lifetime.saturating_sub(self.age(now))
    }

    /// How long ago it ceased to be good.
    pub(crate) fn staleness(&self, now: Moment) -> Duration {
        self.age(now).saturating_sub(self.lifetime)
    }

    pub(crate) fn is_fresh(&self, now: Moment) -> bool {
        !self.always_validate && !self.left(now).is_zero()
    }

    /// Whether it may be used though it is not fresh, if somebody asks for that or has to.
    pub(crate) const fn may_be_stale(&self) -> bool {
        !self.always_validate && !self.never_stale
    }

    /// Whether it may be used while somebody asks for a newer one (RFC 5861, 3).
    pub(crate) fn serves_while_revalidated(&self, now: Moment) -> bool {
        self.may_be_stale() && self.staleness(now) < self.while_revalidate
    }

    /// Whether it stands in for an answer that tells of an error (RFC 5861, 4).
    pub(crate) fn serves_on_error(&self, now: Moment) -> bool {
        self.may_be_stale() && self.if_error.is_some_and(|most| self.staleness(now) < most)
    }

    /// Whether it stands in for an upstream that cannot be reached: as long as it says, else for
    /// `otherwise`.
    pub(crate) fn serves_unreachable(&self, now: Moment, otherwise: Duration) -> bool {
        let most = self.if_error.unwrap_or(otherwise);
        self.may_be_stale() && self.staleness(now) < most
    }

    /// Whether it can ever be used without asking.
    pub(crate) fn is_ever_used(&self, now: Moment) -> bool {
        self.is_fresh(now) || self.serves_while_revalidated(now) || self.serves_on_error(now)
    }
}

/// Whether the status alone makes an answer one that may be kept (RFC 9110, 15.1).
pub(crate) const fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

fn lifetime(
    status: StatusCode,
    answer: &HeaderMap,
    directives: &Directives,
    date: u64,
    now: u64,
) -> Duration {
    if let Some(delta) = directives.s_maxage.or(directives.max_age) {
        return Duration::from_secs(delta.seconds());
    }
    if directives.is_targeted {
        return Duration::ZERO;
    }
    if answer.contains_key(EXPIRES) {
        // Said twice, or not a date: in the past (RFC 9111, 5.3).
        let expires = one(answer, &EXPIRES).and_then(|expires| date::parse(expires, now));
        let seconds = expires.unwrap_or(0).saturating_sub(date).min(SECONDS_MAX);
        return Duration::from_secs(seconds);
    }
    let is_silent = !answer.contains_key(PRAGMA);
    if is_silent && (is_heuristic(status) || directives.public) {
        let changed = one(answer, &LAST_MODIFIED).and_then(|changed| date::parse(changed, now));
        let unchanged = Duration::from_secs(date.saturating_sub(changed.unwrap_or(date)));
        return (unchanged / HEURISTIC_SHARE).min(HEURISTIC_MAX);
    }
    Duration::ZERO
}

/// The first member of the first `Age`; what is not a number is ignored (RFC 9111, 5.1).
fn told_age(answer: &HeaderMap) -> u64 {
    let Some(line) = answer.get(AGE) else { return 0 };
    let first = line.as_bytes().split(|&byte| byte == b',').next().unwrap_or_default();
    let digits = first.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    digits.iter().fold(0, add).min(SECONDS_MAX)
}

/// The value of a field that is there once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}
