//! What callers are told of a limit: `RateLimit` and `RateLimit-Policy`.
//!
//! `draft-ietf-httpapi-ratelimit-headers-10`, structured fields (RFC 9651). It is a draft, so it
//! stands behind a switch of each limit; `Retry-After` does not.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// Where one limit stands for one caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// The limit's name.
    pub limit: Arc<str>,
    /// What is counted.
    pub unit: Unit,
    /// As much is admitted in each window, or at once.
    pub quota: u64,
    /// In this time all of it comes back; none for what is under way at once.
    pub window: Option<Duration>,
    /// As much is left.
    pub remaining: u64,
    /// After this time all of it is back.
    pub reset: Duration,
}

/// What is counted, in the draft's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Requests under way.
    ConcurrentRequests,
    /// Bytes of bodies.
    ContentBytes,
    /// Requests, or their weights.
    Requests,
}

/// The values of `RateLimit` and `RateLimit-Policy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// `RateLimit`.
    pub limit: String,
    /// `RateLimit-Policy`.
    pub policy: String,
}

/// An integer of a structured field has at most 15 digits.
const INTEGER_MAX: u64 = 999_999_999_999_999;

/// What to tell of `levels`; nothing when there are none.
pub fn headers(levels: &[Level]) -> Option<Headers> {
    if levels.is_empty() {
        return None;
    }
    let mut headers = Headers { limit: String::new(), policy: String::new() };
    for level in levels {
        level.append(&mut headers).ok()?;
    }
    Some(headers)
}

impl Level {
    fn append(&self, Headers { limit, policy }: &mut Headers) -> std::fmt::Result {
        for list in [&mut *limit, &mut *policy] {
            if !list.is_empty() {
                list.push_str(", ");
            }
            quote(&self.limit, list);
        }
        write!(policy, ";q={}", self.quota.min(INTEGER_MAX))?;
        match self.unit {
            Unit::ConcurrentRequests => policy.push_str(";qu=\"concurrent-requests\""),
            Unit::ContentBytes => policy.push_str(";qu=\"content-bytes\""),
            Unit::Requests => {}
        }
        if let Some(window) = self.window {
            write!(policy, ";w={}", seconds(window))?;
        }
        write!(limit, ";r={}", self.remaining.min(INTEGER_MAX))?;
        if self.window.is_some() {
            write!(limit, ";t={}", seconds(self.reset))?;
        }
        Ok(())
    }
}

/// Whole seconds, up, so that nobody comes back too early.
fn seconds(duration: Duration) -> u64 {
    let part = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(part).min(INTEGER_MAX)
}

/// A string of RFC 9651: printable ASCII, with what ends it escaped; anything else cannot stand there.
fn quote(text: &str, into: &mut String) {
    into.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => into.extend(['\\', c]),
            ' '..='~' => into.push(c),
            _ => into.push('_'),
        }
    }
    into.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_one_item_of_both_lists() {
        let levels = [
            Level {
                limit: "per_key".into(),
                unit: Unit::Requests,
                quota: 200,
                window: Some(Duration::from_secs(2)),
                remaining: 17,
                reset: Duration::from_millis(1_001),
            },
            Level {
                limit: "exports".into(),
                unit: Unit::ContentBytes,
                quota: u64::MAX,
                window: Some(Duration::from_secs(86_400)),
                remaining: 0,
                reset: Duration::from_secs(60),
            },
            Level {
                limit: "busy".into(),
                unit: Unit::ConcurrentRequests,
                quota: 10,
                window: None,
                remaining: 9,
                reset: Duration::ZERO,
            },
        ];

        let told = headers(&levels).unwrap();

        assert_eq!(told.limit, "\"per_key\";r=17;t=2, \"exports\";r=0;t=60, \"busy\";r=9");
        assert_eq!(
            told.policy,
            "\"per_key\";q=200;w=2, \"exports\";q=999999999999999;qu=\"content-bytes\";w=86400, \
             \"busy\";q=10;qu=\"concurrent-requests\""
        );
        assert_eq!(headers(&[]), None);
    }

    #[test]
    fn a_name_cannot_break_out_of_its_string() {
        let mut quoted = String::new();
        quote("a\"b\\c\r\né", &mut quoted);

        assert_eq!(quoted, "\"a\\\"b\\\\c___\"");
    }
}
