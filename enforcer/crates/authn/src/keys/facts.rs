//! What follows for a request from the key that it came with: its routes, and what it must be told.

use std::time::Duration;

use enforcer_model::{Rejection, Timestamp};
use http::HeaderValue;

use super::plan::KeyPlan;
use super::refused::Refused;
use crate::KeyFacts;

/// Two headers that tell a caller in time that what it uses will end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeHeaders {
    /// `Deprecation` (RFC 9745): since when it should be replaced, as `@` and Unix seconds.
    pub deprecation: HeaderValue,
    /// `Sunset` (RFC 8594): when it ends, as an HTTP date.
    pub sunset: HeaderValue,
}

impl KeyFacts {
    /// Refuses a route that the key may not be used for.
    pub fn check_route(&self, route: &str) -> Result<(), Rejection> {
        if self.routes.is_empty() || self.routes.iter().any(|known| **known == *route) {
            return Ok(());
        }
        Err(Refused::WrongRoute { id: self.id }.into())
    }
}

/// What to tell a caller whose key is near its end, or who used the older of two secrets; nothing
/// to anybody else. Of two ends the nearer one is told.
pub fn notice_headers(key: &KeyFacts, plan: &KeyPlan, now: Timestamp) -> Option<NoticeHeaders> {
    let ahead = plan.notify.iter().max().copied().unwrap_or_default();
    let over = key.expires.map(|end| (before(end, ahead), end)).filter(|(since, _)| *since <= now);
    let retired = key.retires.map(|end| (key.renewed.unwrap_or(now), end));
    let (since, end) = over.into_iter().chain(retired).min_by_key(|(_, end)| *end)?;
    Some(NoticeHeaders {
        deprecation: HeaderValue::try_from(format!("@{}", since.unix_seconds())).ok()?,
        sunset: HeaderValue::try_from(http_date(end)?).ok()?,
    })
}

/// `end` less `ahead`.
pub(super) fn before(end: Timestamp, ahead: Duration) -> Timestamp {
    let ahead = u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX);
    Timestamp::from_unix_ns(end.unix_ns().saturating_sub(ahead))
}

/// As RFC 9110, section 5.6.7, writes it.
fn http_date(time: Timestamp) -> Option<String> {
    let seconds = i64::try_from(time.unix_seconds()).ok()?;
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()
}

#[cfg(test)]
mod tests {
    use enforcer_model::Reason;

    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_key_far_from_its_end_says_nothing() {
        let plan = KeyPlan::default();

        assert_eq!(notice_headers(&facts(None), &plan, at(0)), None);
        assert_eq!(notice_headers(&facts(Some(at(31 * DAY))), &plan, at(0)), None);
        let silent = KeyPlan { notify: Box::default(), ..KeyPlan::default() };
        assert_eq!(notice_headers(&facts(Some(at(DAY))), &silent, at(0)), None);
    }

    #[test]
    fn a_key_near_its_end_says_since_when_and_until_when() {
        let end = at(784_111_777);

        let told = notice_headers(&facts(Some(end)), &KeyPlan::default(), at(784_111_777 - DAY));

        let told = told.unwrap();
        assert_eq!(told.sunset, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(told.deprecation, format!("@{}", 784_111_777 - 30 * DAY));
    }

    #[test]
    fn the_older_of_two_secrets_says_since_when_there_is_a_newer_one() {
        let mut key = facts(Some(at(60 * DAY)));
        (key.renewed, key.retires) = (Some(at(10 * DAY)), Some(at(13 * DAY)));

        let told = notice_headers(&key, &KeyPlan::default(), at(11 * DAY)).unwrap();
        assert_eq!(told.deprecation, format!("@{}", 10 * DAY));
        assert_eq!(told.sunset, "Wed, 14 Jan 1970 00:00:00 GMT");

        key.expires = Some(at(12 * DAY));
        let told = notice_headers(&key, &KeyPlan::default(), at(11 * DAY)).unwrap();
        assert_eq!(told.sunset, "Tue, 13 Jan 1970 00:00:00 GMT", "the nearer end is told");
    }

    #[test]
    fn a_key_opens_its_own_routes_only_and_every_route_when_it_names_none() {
        let mut key = facts(None);
        assert!(key.check_route("orders").is_ok());

        key.routes = ["orders".into(), "health".into()].into();

        assert!(key.check_route("health").is_ok());
        for other in ["", "order", "orders2", "Orders"] {
            assert_eq!(key.check_route(other).unwrap_err().reason, Reason::KeyWrongRoute);
        }
    }

    fn facts(expires: Option<Timestamp>) -> KeyFacts {
        KeyFacts {
            id: "k7Qx2mP9aB3c".parse().unwrap(),
            name: "ci".into(),
            owner: None,
            application: None,
            roles: Box::default(),
            scopes: Box::default(),
            routes: Box::default(),
            limits: Box::default(),
            expires,
            retires: None,
            renewed: None,
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }
}
