//! May an answer be kept, for whom, and what of it (RFC 9111, 3).

use bytes::BytesMut;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, DATE, EXPIRES, HeaderName, SET_COOKIE,
    TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::date;
use crate::directives::Directives;
use crate::freshness::{Freshness, Times, is_heuristic};
use crate::key::Scope;
use crate::vary::{self, Vary};

/// The request that an answer is for, as its upstream saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) headers: &'a HeaderMap,
    /// Of whom the upstream was told something.
    pub(crate) scope: Scope,
    /// The route lets all of its callers share what says so.
    pub(crate) shares: bool,
    /// The scope is also that of the credential in `Authorization` and the like.
    pub(crate) scope_has_credential: bool,
}

/// What is kept of an answer.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) scope: Scope,
    pub(crate) vary: Vary,
    pub(crate) freshness: Freshness,
    pub(crate) headers: HeaderMap,
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Fields of one connection or one exchange, which no other answer may have (RFC 9111, 3.1).
const UNKEPT: [HeaderName; 14] = [
    http::header::AGE,
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    http::header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    http::header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    SET_COOKIE,
    http::header::TE,
    TRAILER,
    TRANSFER_ENCODING,
    http::header::UPGRADE,
    http::header::SERVER,
    HeaderName::from_static("x-request-id"),
];

/// None when the answer must not be kept.
pub(crate) fn judge(
    request: Request<'_>,
    status: StatusCode,
    answer: &HeaderMap,
    times: Times,
) -> Option<Verdict> {
    let directives = Directives::of(answer);
    if !is_allowed(status, answer, &directives) {
        return None;
    }
    let scope = match request.scope {
        Scope::Everyone => Scope::Everyone,
        Scope::Only(_) if request.shares && directives.is_for_others() => Scope::Everyone,
        only @ Scope::Only(_) => only,
    };
    if !is_for(scope, request, &directives) {
        return None;
    }
    let freshness = Freshness::of(status, answer, &directives, times);
    let has_validator =
        answer.contains_key(http::header::ETAG) || answer.contains_key(http::header::LAST_MODIFIED);
    if !has_validator && !freshness.is_ever_used(times.heard) {
        return None;
    }
    let names = vary::names(answer).ok()?;
    let vary = Vary::new(names, request.headers);
    Some(Verdict { scope, vary, freshness, headers: head(answer, &directives, times) })
}

/// Whether an answer to `request` may be used for all of `scope`.
fn is_for(scope: Scope, request: Request<'_>, directives: &Directives) -> bool {
    let shared = directives.is_for_others();
    if scope != request.scope && !shared {
        return false;
    }
    // The scope says nothing about these: whoever sent them may be the only one for whom the answer is.
    let has = |name: &HeaderName| request.headers.contains_key(name);
    let covered = request.scope_has_credential && scope == request.scope;
    if !covered && has(&AUTHORIZATION) && !shared {
        return false;
    }
    let is_public = directives.public || directives.s_maxage.is_some();
    is_public || !(has(&COOKIE) || (!covered && (has(&X_API_KEY) || has(&DPOP))))
}

/// Whether the answer itself allows it.
fn is_allowed(status: StatusCode, answer: &HeaderMap, directives: &Directives) -> bool {
    // Parts are not put together, and "not modified" is nothing without what it is about.
    if status == StatusCode::PARTIAL_CONTENT || status == StatusCode::NOT_MODIFIED {
        return false;
    }
    let is_forbidden = match directives.must_understand {
        true => !is_understood(status),
        false => directives.no_store,
    };
    if is_forbidden || directives.private || directives.is_malformed {
        return false;
    }
    let sets_cookie = answer.contains_key(SET_COOKIE) && !directives.unkept.contains(&SET_COOKIE);
    if sets_cookie || answer.contains_key(TRAILER) {
        return false;
    }
    directives.public
        || directives.max_age.is_some()
        || directives.s_maxage.is_some()
        || (!directives.is_targeted && answer.contains_key(EXPIRES))
        || is_heuristic(status)
}

/// Statuses whose rules for keeping are all followed here.
const fn is_understood(status: StatusCode) -> bool {
    is_heuristic(status) || matches!(status.as_u16(), 302 | 303 | 307)
}

/// The head as it is kept.
fn head(answer: &HeaderMap, directives: &Directives, times: Times) -> HeaderMap {
    let mut headers = answer.clone();
    strip(&mut headers, directives);
    let mut headers = copied(&headers);
    // What says nothing about when it was made was made when it arrived (RFC 9110, 6.6.1).
    if !headers.contains_key(DATE)
        && let Some(date) = date::format(times.heard.wall.unix_seconds())
    {
        headers.insert(DATE, date);
    }
    headers
}

/// The same with memory of its own. What was parsed refers to the whole buffer that was read from the
/// socket, and would keep it.
fn copied(headers: &HeaderMap) -> HeaderMap {
    let mut text = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    for value in headers.values() {
        text.extend_from_slice(value.as_bytes());
    }
    let mut text = text.freeze();
    let mut copy = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let own = text.split_to(value.len());
        // The same bytes, so the same verdict.
        if let Ok(own) = HeaderValue::from_maybe_shared(own) {
            copy.append(name, own);
        }
    }
    copy
}

fn strip(headers: &mut HeaderMap, directives: &Directives) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&directives.unkept).chain(&UNKEPT) {
        headers.remove(name);
    }
}

/// What news make of a head that is kept.
#[derive(Debug)]
pub(crate) enum News {
    /// It says so from here on, for so long.
    Head(HeaderMap, Freshness),
    /// It is not to be kept any longer.
    Forbidden,
    /// They are for the one who asked, and what is kept is for others as well.
    Personal,
}

/// The head of an answer that is kept in `scope`, with what a 304, or the answer to a HEAD, to
/// `request` says anew (RFC 9111, 3.2): every field that it has, but for those that belong to the
/// bytes that are kept.
pub(crate) fn freshen(
    (scope, request): (Scope, Request<'_>),
    status: StatusCode,
    kept: &HeaderMap,
    news: &HeaderMap,
    times: Times,
) -> News {
    let mut merged = kept.clone();
    let bound = [CONTENT_LENGTH, http::header::CONTENT_ENCODING, http::header::CONTENT_RANGE];
    for name in news.keys().filter(|name| !bound.contains(name)) {
        merged.remove(name);
        for value in news.get_all(name) {
            merged.append(name, value.clone());
        }
    }
    let directives = Directives::of(&merged);
    if !is_allowed(status, &merged, &directives) {
        return News::Forbidden;
    }
    if !is_for(scope, request, &directives) {
        return News::Personal;
    }
    // The age is that of the news.
    if !news.contains_key(DATE) {
        merged.remove(DATE);
    }
    let freshness = Freshness::of(status, &merged, &directives, times);
    News::Head(head(&merged, &directives, times), freshness)
}
