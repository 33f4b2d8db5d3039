//! An answer from what is kept: the whole, a part, or that nothing has changed.

use bytes::Bytes;
use enforcer_model::{CacheUse, Moment};
use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, HeaderName, HeaderValue,
};
use http::{HeaderMap, Response, StatusCode};

use crate::conditions::{Conditions, Part};
use crate::kept::Kept;

/// What a cache did (RFC 9211).
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Our name in [`CACHE_STATUS`].
const NAME: &str = "enforcer";

/// An answer that costs the upstream nothing, or next to nothing.
#[derive(Debug)]
pub struct Answer {
    /// Complete, with `Age` and `Cache-Status`.
    pub response: Response<Bytes>,
    /// What to put on record.
    pub used: CacheUse,
}

/// What a 304 does not say again (RFC 9110, 15.4.5).
const DESCRIBES_CONTENT: [HeaderName; 5] =
    [ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE];

impl Answer {
    /// What a client with `conditions` gets of `kept`.
    pub(crate) fn of(kept: &Kept, conditions: &Conditions, used: CacheUse, now: Moment) -> Self {
        let mut headers = kept.headers.clone();
        headers.insert(AGE, HeaderValue::from(kept.freshness.age(now).as_secs()));
        tell(&mut headers, &told(kept, used, now));
        let mut status = kept.status;
        let mut body = kept.body.clone();
        let length = body.len();
        match conditions.part(kept) {
            Part::Whole => {}
            Part::NotModified => {
                status = StatusCode::NOT_MODIFIED;
                body = Bytes::new();
                for name in DESCRIBES_CONTENT {
                    headers.remove(name);
                }
            }
            Part::Range(first, last) => {
                status = StatusCode::PARTIAL_CONTENT;
                body = body.slice(first..=last);
                set(&mut headers, CONTENT_RANGE, &format!("bytes {first}-{last}/{length}"));
            }
            Part::Unsatisfiable => {
                status = StatusCode::RANGE_NOT_SATISFIABLE;
                body = Bytes::new();
                headers.remove(CONTENT_TYPE);
                set(&mut headers, CONTENT_RANGE, &format!("bytes */{length}"));
            }
        }
        if status != StatusCode::NOT_MODIFIED && status != StatusCode::NO_CONTENT {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        if conditions.head_only {
            body = Bytes::new();
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Self { response, used }
    }
}

fn told(kept: &Kept, used: CacheUse, now: Moment) -> String {
    let left = || match kept.freshness.left(now).as_secs() {
        0 => format!("-{}", kept.freshness.staleness(now).as_secs()),
        left => left.to_string(),
    };
    match used {
        CacheUse::Hit | CacheUse::Stale => format!("{NAME}; hit; ttl={}", left()),
        CacheUse::Revalidated => format!("{NAME}; fwd=stale; fwd-status=304"),
        CacheUse::Miss => NAME.to_owned(),
    }
}

/// Tells that the upstream was asked, why, and whether its answer comes to be kept.
pub(crate) fn tell_forwarded(headers: &mut HeaderMap, why: &str, status: StatusCode, kept: bool) {
    let stored = if kept { "; stored" } else { "" };
    tell(headers, &format!("{NAME}; fwd={why}; fwd-status={}{stored}", status.as_u16()));
}

/// Ours comes last: caches nearer to the upstream have said theirs before.
fn tell(headers: &mut HeaderMap, text: &str) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.append(CACHE_STATUS, value);
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}
