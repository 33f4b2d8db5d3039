//! A request, its answer, and another request: what the second may get of what the first brought.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use enforcer_cache::{Asked, Bounds, Cache, Fields, Found, Heard, Length, Plan, Scope, Target};
use enforcer_inspect::{Head, is_forwarded_as_sent, normalise};
use enforcer_model::{CacheUse, Clock, Moment, Timestamp};
use http::header::{CACHE_CONTROL, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode};

use super::fields;

/// A moment that does not pass.
struct Still(Moment);

impl Clock for Still {
    fn now(&self) -> Moment {
        self.0
    }
}

/// A request that has one meaning, and whose it is.
struct Asking {
    head: Head,
    parts: Parts,
    scope: Scope,
}

/// Four blocks with an empty line between: a request (`METHOD TARGET CALLER`, then its fields), an
/// answer (its status, then its fields), another request, and the seconds that pass between.
///
/// What is served to the second from what the first brought was brought by the same canonical
/// request; it was not forbidden to be kept or to be used for others; it belongs to the same caller,
/// or says that it is for others where the route shares; and no time in it is negative.
pub fn cache_key(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).replace('\r', "");
    let mut blocks = text.splitn(4, "\n\n");
    let mut next = || blocks.next();
    let (Some(first), Some(answer), Some(second)) = (next(), next(), next()) else { return };
    let passed = next().and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(0);
    let (Some(first), Some(second)) = (asking(first), asking(second)) else { return };
    let (status, block) = answer.split_once('\n').unwrap_or((answer, ""));
    let Some(status) = status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()) else {
        return;
    };
    let answer = fields(block.as_bytes());
    for shared in [false, true] {
        served(&first, status, &answer, &second, passed, shared);
    }
}

fn asking(block: &str) -> Option<Asking> {
    let (line, rest) = block.split_once('\n').unwrap_or((block, ""));
    let mut words = line.split(' ');
    let (method, target, caller) = (words.next()?, words.next()?, words.next());
    let mut request = Request::builder().method(method).uri(target).body(()).ok()?;
    *request.headers_mut() = fields(rest.as_bytes());
    let parts = request.into_parts().0;
    let head = normalise(&parts).ok()?;
    let scope = caller.map_or(Scope::Everyone, |caller| Scope::only([caller.as_bytes()]));
    Some(Asking { head, parts, scope })
}

fn served(
    first: &Asking,
    status: StatusCode,
    answer: &HeaderMap,
    second: &Asking,
    passed: u32,
    shared: bool,
) {
    let cache = Arc::new(Cache::new(Bounds::default()));
    let plan = Arc::new(Plan { route: "route".into(), via: "upstream".into(), shared });
    let start =
        Moment { monotonic: Instant::now(), wall: Timestamp::from_unix_seconds(1_800_000_000) };
    let passed = Duration::from_secs(passed.into());
    let later =
        Moment { monotonic: start.monotonic + passed, wall: start.wall.saturating_add(passed) };

    let Some(Found::Ask(mut errand)) = find(&cache, &plan, first, start) else { return };
    let mut sent = first.parts.headers.clone();
    errand.prepare(&mut sent, start);
    let mut head = answer.clone();
    if let Heard::Fill(mut fill) = errand.heard(status, &mut head, Length::Told, start) {
        fill.push(&"0123456789".into());
        fill.complete();
    }

    let (found, is_refreshed) = match find(&cache, &plan, second, later) {
        Some(Found::Answer(found)) => (found, false),
        Some(Found::Refresh(found, _)) => (found, true),
        Some(Found::Ask(_) | Found::Nothing) | None => return,
    };
    assert_eq!(target(first), target(second), "another request's");
    assert_eq!(first.head.method, Method::GET);
    assert!([Method::GET, Method::HEAD].contains(&second.head.method));
    let for_others =
        says(answer, "public") || says(answer, "s-maxage") || says(answer, "must-revalidate");
    assert!(first.scope == second.scope || (shared && for_others), "another caller's");
    let has = |name: &'static str| first.parts.headers.contains_key(HeaderName::from_static(name));
    assert!(!has("authorization") || for_others, "a credential's");
    assert!(!has("cookie") || says(answer, "public") || says(answer, "s-maxage"), "a cookie's");
    if !answer.contains_key("cdn-cache-control") {
        assert!(!says(answer, "no-store") || says(answer, "must-understand"), "not to be stored");
        assert!(!says(answer, "private"), "private");
        let asks = says(answer, "no-cache");
        assert!(!asks || found.used != CacheUse::Hit, "not without asking");
    }
    let response = &found.response;
    assert!(!response.headers().contains_key("set-cookie"));
    assert!(!answer.get_all("vary").iter().any(|vary| vary.as_bytes().contains(&b'*')));
    let age = response.headers()["age"].to_str().unwrap().parse::<u64>().unwrap();
    assert!(age >= passed.as_secs(), "younger than it can be");
    let told = response.headers().get_all("cache-status").iter().next_back().unwrap();
    let ttl = told.to_str().unwrap().split_once("ttl=").unwrap().1.parse::<i64>().unwrap();
    assert!(found.used != CacheUse::Hit || ttl >= 0, "used as fresh though it is not");
    assert!(!is_refreshed || found.used == CacheUse::Stale);
}

fn target(asking: &Asking) -> Target<'_> {
    let Head { host, path, query, .. } = &asking.head;
    Target { secure: true, host: host.as_str(), path: path.as_str(), query: query.as_deref() }
}

/// What is found without waiting.
fn find(cache: &Arc<Cache>, plan: &Arc<Plan>, asking: &Asking, now: Moment) -> Option<Found> {
    let headers = &asking.parts.headers;
    let onward = || headers.clone();
    let asked = Asked {
        plan,
        method: &asking.head.method,
        target: target(asking),
        scope: asking.scope,
        scope_has_credential: false,
        has_body: false,
        fields: Fields { sent: headers, is_as_sent: is_forwarded_as_sent, onward: &onward },
    };
    let clock = Still(now);
    let finding = pin!(cache.find(&asked, &clock));
    match finding.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => Some(found),
        Poll::Pending => None,
    }
}

/// Whether a whole directive of `Cache-Control` has this name, where nothing is quoted.
fn says(answer: &HeaderMap, name: &str) -> bool {
    answer.get_all(CACHE_CONTROL).iter().any(|line| {
        let line = String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase();
        !line.contains('"')
            && line.split(',').any(|one| one.split('=').next().unwrap_or_default().trim() == name)
    })
}
