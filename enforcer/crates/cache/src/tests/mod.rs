//! The cache as a request meets it: an upstream that is a closure, and a clock that is moved by
//! hand.

mod asking;
mod conditions;
mod flights;
mod freshness;
mod keeping;
mod oracle;
mod parsing;
mod scopes;
mod store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use enforcer_model::{CacheUse, Clock, Moment, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use parking_lot::Mutex;

use crate::{Asked, Bounds, Cache, Errand, Fields, Found, Heard, Length, Plan, Scope, Target};

/// A cache, its route, and the time.
pub(super) struct Lab {
    pub(super) cache: Arc<Cache>,
    pub(super) plan: Arc<Plan>,
    clock: Hand,
}

struct Hand(Mutex<Moment>);

/// A request.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) host: &'static str,
    pub(super) path: &'static str,
    pub(super) query: Option<&'static str>,
    pub(super) secure: bool,
    pub(super) scope: Scope,
    pub(super) has_body: bool,
    pub(super) headers: HeaderMap,
}

/// What came of a request.
#[derive(Debug)]
pub(super) enum Got {
    /// From what is kept; the upstream was not asked.
    Kept(CacheUse, Response<Bytes>),
    /// From what is kept, after the upstream had been asked with these fields.
    Asked(CacheUse, Response<Bytes>, HeaderMap),
    /// From the upstream, which had been asked with these fields.
    Upstream(Response<Bytes>, HeaderMap),
    /// The upstream was not asked, and there is no answer.
    Nothing,
}

/// 2026-11-22, a Sunday.
pub(super) const NOW: u64 = 1_795_305_600;

impl Clock for Hand {
    fn now(&self) -> Moment {
        *self.0.lock()
    }
}

impl Lab {
    pub(super) fn new() -> Self {
        Self::with(Bounds::default(), false)
    }

    pub(super) fn with(bounds: Bounds, shared: bool) -> Self {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let monotonic = Instant::now();
        let moment = Moment { monotonic, wall: Timestamp::from_unix_seconds(NOW) };
        Self {
            cache: Arc::new(Cache::new(bounds)),
            plan: Arc::new(Plan { route: "api".into(), via: "service".into(), shared }),
            clock: Hand(Mutex::new(moment)),
        }
    }

    pub(super) fn pass(&self, seconds: u64) {
        let mut moment = self.clock.0.lock();
        moment.monotonic += Duration::from_secs(seconds);
        moment.wall = moment.wall.saturating_add(Duration::from_secs(seconds));
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Seconds from now as a date.
    pub(super) fn date(&self, ahead: i64) -> String {
        let seconds = self.now().wall.unix_seconds().saturating_add_signed(ahead);
        crate::date::format(seconds).unwrap().to_str().unwrap().to_owned()
    }

    pub(super) async fn find(&self, ask: &Ask) -> Found {
        let onward = || ask.headers.clone();
        let asked = Asked {
            plan: &self.plan,
            method: &ask.method,
            target: ask.target(),
            scope: ask.scope,
            scope_has_credential: false,
            has_body: ask.has_body,
            fields: Fields { sent: &ask.headers, is_as_sent: |_| true, onward: &onward },
        };
        self.cache.find(&asked, &self.clock).await
    }

    /// Asks; the upstream answers what `answer` says, with the fields that it was asked with.
    pub(super) async fn ask(
        &self,
        ask: &Ask,
        answer: impl FnOnce(&HeaderMap) -> Response<&'static str>,
    ) -> Got {
        match self.find(ask).await {
            Found::Answer(kept) | Found::Refresh(kept, _) => Got::Kept(kept.used, kept.response),
            Found::Nothing => Got::Nothing,
            Found::Ask(errand) => self.upstream(errand, ask, answer),
        }
    }

    /// Asks for what is kept.
    pub(super) async fn kept(&self, ask: &Ask) -> Got {
        self.ask(ask, |_| panic!("the upstream is asked")).await
    }

    pub(super) fn upstream(
        &self,
        mut errand: Errand,
        ask: &Ask,
        answer: impl FnOnce(&HeaderMap) -> Response<&'static str>,
    ) -> Got {
        let mut sent = ask.headers.clone();
        errand.prepare(&mut sent, self.now());
        let (mut parts, body) = answer(&sent).into_parts();
        let body = Bytes::from_static(body.as_bytes());
        self.cache.changed(&ask.method, ask.target(), parts.status, &parts.headers);
        match errand.heard(parts.status, &mut parts.headers, Length::Told, self.now()) {
            Heard::Reuse(answer) => Got::Asked(answer.used, answer.response, sent),
            Heard::Pass => Got::Upstream(Response::from_parts(parts, body), sent),
            Heard::Fill(mut fill) => {
                fill.push(&body);
                fill.complete();
                Got::Upstream(Response::from_parts(parts, body), sent)
            }
        }
    }

    /// Whether a second request for what `fields` came with is answered from here after `seconds`.
    pub(super) async fn is_reused_after(&self, seconds: u64, fields: &[(&str, &str)]) -> bool {
        let ask = Ask::get("/a");
        let first = self.ask(&ask, |_| ok(fields)).await;
        assert!(first.is_from_upstream(), "{first:?}");
        self.pass(seconds);
        !self.ask(&ask, |_| ok(&[])).await.is_from_upstream()
    }
}

impl Ask {
    pub(super) fn get(path: &'static str) -> Self {
        Self {
            method: Method::GET,
            host: "api.example",
            path,
            query: None,
            secure: true,
            scope: Scope::Everyone,
            has_body: false,
            headers: HeaderMap::new(),
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    pub(super) fn by(self, caller: &str) -> Self {
        Self { scope: Scope::only([caller.as_bytes()]), ..self }
    }

    pub(super) fn method(self, method: &str) -> Self {
        Self { method: method.parse().unwrap(), ..self }
    }

    pub(super) fn target(&self) -> Target<'_> {
        Target { secure: self.secure, host: self.host, path: self.path, query: self.query }
    }
}

impl Got {
    pub(super) fn is_from_upstream(&self) -> bool {
        matches!(self, Self::Upstream(..))
    }

    pub(super) fn response(&self) -> &Response<Bytes> {
        match self {
            Self::Kept(_, response) | Self::Asked(_, response, _) | Self::Upstream(response, _) => {
                response
            }
            Self::Nothing => panic!("there is no answer"),
        }
    }

    pub(super) fn used(&self) -> CacheUse {
        match self {
            Self::Kept(used, _) | Self::Asked(used, ..) => *used,
            Self::Upstream(..) | Self::Nothing => CacheUse::Miss,
        }
    }

    pub(super) fn status(&self) -> u16 {
        self.response().status().as_u16()
    }

    pub(super) fn body(&self) -> &str {
        std::str::from_utf8(self.response().body()).unwrap()
    }

    /// All lines of a field of the answer.
    pub(super) fn field(&self, name: &str) -> String {
        let values = self.response().headers().get_all(name).iter();
        values.map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(" | ")
    }

    /// A field that the upstream was asked with.
    pub(super) fn sent(&self, name: &str) -> Option<&str> {
        match self {
            Self::Asked(_, _, sent) | Self::Upstream(_, sent) => {
                sent.get(name).map(|value| value.to_str().unwrap())
            }
            Self::Kept(..) | Self::Nothing => panic!("the upstream was not asked"),
        }
    }
}

pub(super) fn answer(
    status: u16,
    fields: &[(&str, &str)],
    body: &'static str,
) -> Response<&'static str> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        response.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    response
}

pub(super) fn ok(fields: &[(&str, &str)]) -> Response<&'static str> {
    answer(200, fields, "0123456789A")
}

/// An answer that is good for an hour.
pub(super) fn fresh(body: &'static str) -> Response<&'static str> {
    answer(200, &[("cache-control", "max-age=3600")], body)
}
