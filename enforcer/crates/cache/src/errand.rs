//! A request that goes upstream, and what its answer means for what is kept.

use std::sync::Arc;

use bytes::Bytes;
use enforcer_model::{CacheUse, Moment};
use http::header::{
    CONTENT_LENGTH, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::answer::{Answer, tell_forwarded};
use crate::conditions::{Conditions, opaque};
use crate::directives::Wishes;
use crate::fill::{Fill, Pending};
use crate::flight::Lead;
use crate::freshness::Times;
use crate::judge::{News, Request, freshen, judge};
use crate::kept::Kept;
use crate::key::{Key, Scope};
use crate::look::Asked;
use crate::place::Place;
use crate::plan::Plan;
use crate::store::{Cache, Counts};

/// What is to be done with the answer of the upstream. Whoever waits for it is told when this is
/// dropped.
#[derive(Debug)]
pub struct Errand {
    cache: Arc<Cache>,
    plan: Arc<Plan>,
    scope: Scope,
    scope_has_credential: bool,
    conditions: Conditions,
    wishes: Wishes,
    /// Why the upstream is asked; a word of RFC 9211.
    why: &'static str,
    /// None when the answer is not for keeping.
    keeps: Option<Keeps>,
    /// What is kept already, under which scope.
    kept: Option<(Scope, Arc<Kept>)>,
    sent: Option<Sent>,
}

#[derive(Debug)]
struct Keeps {
    place: Arc<Place>,
    generation: u64,
    purges: u64,
    lead: Option<Lead>,
}

#[derive(Debug)]
struct Sent {
    /// As the upstream saw them, but for conditions of ours.
    headers: HeaderMap,
    asked: Moment,
    /// The conditions are ours.
    validates: bool,
}

/// How the end of an answer's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// By a length or by the last chunk: an end that comes too soon is an error.
    Told,
    /// By the end of the connection, so that nobody can tell whether it is all there.
    UntilClosed,
}

/// What becomes of the upstream's answer.
#[derive(Debug)]
pub enum Heard {
    /// It goes to the client, and comes to be kept.
    Fill(Box<Fill>),
    /// It goes to the client.
    Pass,
    /// The client gets this, and the upstream's answer is done with.
    Reuse(Answer),
}

impl Errand {
    pub(crate) fn new(
        cache: &Arc<Cache>,
        asked: &Asked<'_>,
        place: &Arc<Place>,
        conditions: Conditions,
        wishes: Wishes,
        why: &'static str,
    ) -> Self {
        let keeps = Keeps {
            place: Arc::clone(place),
            generation: place.generation(),
            purges: cache.purges(),
            lead: None,
        };
        let past = Self::past(cache, asked, conditions, why);
        Self { wishes, keeps: Some(keeps), ..past }
    }

    /// One that leaves nothing behind.
    pub(crate) fn past(
        cache: &Arc<Cache>,
        asked: &Asked<'_>,
        conditions: Conditions,
        why: &'static str,
    ) -> Self {
        Self {
            cache: Arc::clone(cache),
            plan: Arc::clone(asked.plan),
            scope: asked.scope,
            scope_has_credential: asked.scope_has_credential,
            conditions,
            wishes: Wishes::default(),
            why,
            keeps: None,
            kept: None,
            sent: None,
        }
    }

    /// To hear whether `kept` is still right.
    pub(crate) fn about(self, kept: Option<(Scope, Arc<Kept>)>) -> Self {
        Self { kept, ..self }
    }

    pub(crate) fn leading(mut self, lead: Lead) -> Self {
        if let Some(keeps) = &mut self.keeps {
            keeps.lead = Some(lead);
        }
        self
    }

    /// As if it was begun here: what happened while it waited is before it.
    pub(crate) fn renewed(mut self, cache: &Cache) -> Self {
        if let Some(keeps) = &mut self.keeps {
            keeps.generation = keeps.place.generation();
            keeps.purges = cache.purges();
        }
        self
    }

    /// Whether what is kept has something by which the upstream can tell if it is still right.
    pub(crate) fn validates(&self) -> bool {
        self.kept.as_ref().is_some_and(|(_, kept)| {
            kept.headers.contains_key(ETAG) || kept.headers.contains_key(LAST_MODIFIED)
        })
    }

    /// Makes `headers` ask what this is about. To be called once, on the head that is sent.
    pub fn prepare(&mut self, headers: &mut HeaderMap, now: Moment) {
        let sent = headers.clone();
        let validates = !self.conditions.head_only && self.validates();
        if let Some((_, kept)) = self.kept.as_ref().filter(|_| !self.conditions.head_only) {
            for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE] {
                headers.remove(name);
            }
            for (condition, validator) in
                [(IF_NONE_MATCH, ETAG), (IF_MODIFIED_SINCE, LAST_MODIFIED)]
            {
                if let Some(value) = kept.headers.get(validator) {
                    headers.insert(condition, value.clone());
                }
            }
        }
        self.sent = Some(Sent { headers: sent, asked: now, validates });
    }

    /// What becomes of an answer with this head, which tells in it what was done.
    pub fn heard(
        mut self,
        status: StatusCode,
        answer: &mut HeaderMap,
        length: Length,
        now: Moment,
    ) -> Heard {
        if let Some(reuse) = self.reuse(status, answer, now) {
            return Heard::Reuse(reuse);
        }
        Counts::add(&self.cache.counts.misses);
        let fill = if length == Length::UntilClosed {
            None
        } else if self.conditions.head_only {
            self.compare(status, answer, now);
            None
        } else {
            let fill = self.fill(status, answer, now);
            if fill.is_none() && !status.is_server_error() {
                // What the upstream no longer lets anybody keep is not kept either.
                self.forget();
            }
            fill
        };
        tell_forwarded(answer, self.why, status, fill.is_some());
        fill.map_or(Heard::Pass, |fill| Heard::Fill(Box::new(fill)))
    }

    /// What stands in for an upstream that cannot be reached.
    pub fn failed(self, now: Moment) -> Option<Answer> {
        let otherwise = self.cache.bounds().unreachable;
        let (_, kept) = self.kept.as_ref()?;
        let age_max = self.wishes.max_age.map(std::time::Duration::from_secs);
        let insists = self.wishes.no_cache
            || self.wishes.min_fresh.is_some()
            || age_max.is_some_and(|most| kept.freshness.age(now) > most);
        if insists || !kept.is_current() || !kept.freshness.serves_unreachable(now, otherwise) {
            return None;
        }
        Counts::add(&self.cache.counts.stale);
        Some(Answer::of(kept, &self.conditions, CacheUse::Stale, now))
    }

    /// The answer from what is kept, if the upstream's says that it is right, or is an error.
    fn reuse(&mut self, status: StatusCode, answer: &HeaderMap, now: Moment) -> Option<Answer> {
        let sent = self.sent.as_ref()?;
        let (_, kept) = self.kept.as_ref()?;
        if status == StatusCode::NOT_MODIFIED && sent.validates {
            let times = Times { asked: sent.asked, heard: now };
            let kept = match self.freshened(answer, sent, times) {
                Freshened::As(fresh) => {
                    self.renew(&fresh);
                    fresh
                }
                Freshened::Never => {
                    let kept = Arc::clone(kept);
                    self.forget();
                    kept
                }
                Freshened::Unchanged => Arc::clone(kept),
            };
            Counts::add(&self.cache.counts.revalidated);
            return Some(Answer::of(&kept, &self.conditions, CacheUse::Revalidated, now));
        }
        let is_error = matches!(status.as_u16(), 500 | 502 | 503 | 504);
        let insists = self.wishes.no_cache || self.wishes.max_age.is_some();
        if is_error && !insists && kept.is_current() && kept.freshness.serves_on_error(now) {
            Counts::add(&self.cache.counts.stale);
            return Some(Answer::of(kept, &self.conditions, CacheUse::Stale, now));
        }
        None
    }

    /// Keeps `fresh` in the place of what was kept, and lets the others have it.
    fn renew(&mut self, fresh: &Arc<Kept>) {
        let (Some((scope, kept)), Some(keeps)) = (&self.kept, &mut self.keeps) else { return };
        let key = Key::new(&self.plan, *scope, &keeps.place);
        if self.cache.purges() == keeps.purges {
            self.cache.replace(key, kept, Arc::clone(fresh));
        }
        if let Some(lead) = keeps.lead.take() {
            lead.kept();
        }
    }

    fn forget(&mut self) {
        let (Some((scope, kept)), Some(keeps)) = (self.kept.take(), &self.keeps) else { return };
        self.cache.remove(Key::new(&self.plan, scope, &keeps.place), &kept);
    }

    /// What the answer to a HEAD says about what is kept (RFC 9111, 4.3.5).
    fn compare(&mut self, status: StatusCode, answer: &HeaderMap, now: Moment) {
        let (Some(sent), Some((_, kept))) = (&self.sent, &self.kept) else { return };
        if status != StatusCode::OK || kept.status != status {
            return;
        }
        let differs = |name| {
            let said: Option<&HeaderValue> = answer.get(&name);
            said.is_some() && said != kept.headers.get(&name)
        };
        let length = answer.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let is_other = length.is_some_and(|length| length != kept.body.len().to_string());
        if is_other || differs(ETAG) || differs(LAST_MODIFIED) {
            return self.forget();
        }
        let times = Times { asked: sent.asked, heard: now };
        match self.freshened(answer, sent, times) {
            Freshened::As(fresh) => self.renew(&fresh),
            Freshened::Never => self.forget(),
            Freshened::Unchanged => {}
        }
    }

    /// What is kept, as `news` to what was sent make it.
    fn freshened(&self, news: &HeaderMap, sent: &Sent, times: Times) -> Freshened {
        let Some((scope, kept)) = &self.kept else { return Freshened::Unchanged };
        // Of another tag than the one that was asked about nothing is learned (RFC 9111, 4.3.4).
        let tag = |headers: &HeaderMap| headers.get(ETAG).map(|tag| tag.as_bytes().to_vec());
        let same = |one: &[u8], other: &[u8]| one == other || opaque(one) == opaque(other);
        if let (Some(new), Some(old)) = (tag(news), tag(&kept.headers))
            && !same(&new, &old)
        {
            return Freshened::Unchanged;
        }
        let request = self.request(&sent.headers);
        match freshen((*scope, request), kept.status, &kept.headers, news, times) {
            News::Head(headers, freshness) => Freshened::As(Arc::new(Kept {
                headers,
                freshness,
                heard_at: times.heard.wall.unix_seconds(),
                ..Kept::clone(kept)
            })),
            News::Forbidden => Freshened::Never,
            News::Personal => Freshened::Unchanged,
        }
    }

    fn request<'a>(&self, headers: &'a HeaderMap) -> Request<'a> {
        Request {
            headers,
            scope: self.scope,
            shares: self.plan.shared,
            scope_has_credential: self.scope_has_credential,
        }
    }

    fn fill(&mut self, status: StatusCode, answer: &HeaderMap, now: Moment) -> Option<Fill> {
        let sent = self.sent.take()?;
        let verdict = judge(
            self.request(&sent.headers),
            status,
            answer,
            Times { asked: sent.asked, heard: now },
        )?;
        let declared = match answer.get(CONTENT_LENGTH) {
            Some(length) => Some(number(length)?),
            None => None,
        };
        if declared.is_some_and(|declared| declared > self.cache.bounds().entry.0) {
            return None;
        }
        let Keeps { place, generation, purges, lead } = self.keeps.take()?;
        let key = Key::new(&self.plan, verdict.scope, &place);
        let kept = Kept {
            status,
            headers: verdict.headers,
            body: Bytes::new(),
            vary: verdict.vary,
            freshness: verdict.freshness,
            heard_at: now.wall.unix_seconds(),
            place,
            generation,
        };
        Fill::new(&self.cache, Pending { key, kept, purges, lead }, declared)
    }
}

/// A length in digits and nothing else.
fn number(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

enum Freshened {
    As(Arc<Kept>),
    /// It must not be kept any longer.
    Never,
    /// What the upstream speaks of is not what is kept.
    Unchanged,
}

/// Methods that change nothing (RFC 9110, 9.2.1, and the registry of methods).
const SAFE: [&str; 8] =
    ["GET", "HEAD", "OPTIONS", "PROPFIND", "QUERY", "REPORT", "SEARCH", "TRACE"];

/// Whether a request with `method` may change what it is for.
pub fn may_change(method: &Method) -> bool {
    !SAFE.contains(&method.as_str())
}
