//! `Cache-Control`, of answers and of requests (RFC 9111, 5.2), and `CDN-Cache-Control` (RFC 9213).
//!
//! A field that is read wrong must err on the side of not keeping: what restricts is obeyed however
//! it is written; what says how long an answer is good must be said once and be a number, or the
//! answer is not fresh; a quoted string that does not end hides nothing, because nothing is kept
//! then.

use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue};

use crate::structured::{Bare, dictionary};

/// For gateways like this one alone; where it is there, it stands for `Cache-Control` and `Expires`.
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What an answer says about keeping it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    pub(crate) no_store: bool,
    pub(crate) private: bool,
    /// Ask each time.
    pub(crate) no_cache: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) max_age: Option<Delta>,
    pub(crate) s_maxage: Option<Delta>,
    pub(crate) stale_while_revalidate: Option<Delta>,
    pub(crate) stale_if_error: Option<Delta>,
    /// Fields that may be passed on and not kept.
    pub(crate) unkept: Vec<HeaderName>,
    /// It was said in the field for gateways: `Expires` does not count.
    pub(crate) is_targeted: bool,
    /// Cannot be read.
    pub(crate) is_malformed: bool,
}

/// What a request says about answers that are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Option<u64>,
    pub(crate) min_fresh: Option<u64>,
    /// Seconds past freshness that are accepted.
    pub(crate) max_stale: Option<u64>,
}

/// A number of seconds, as it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delta {
    Seconds(u64),
    /// Said twice and differently, or not a number.
    Invalid,
}

/// What no number of seconds exceeds (RFC 9111, 1.2.2): 68 years.
const SECONDS_MAX: u64 = 1 << 31;

impl Directives {
    pub(crate) fn of(answer: &HeaderMap) -> Self {
        if let Some(targeted) = Self::targeted(answer) {
            return targeted;
        }
        let mut directives = Self::default();
        directives.is_malformed = !each(answer, |directive| directives.take(&directive));
        directives
    }

    /// What the field for gateways says; none when it is absent, empty or cannot be read.
    fn targeted(answer: &HeaderMap) -> Option<Self> {
        if !answer.contains_key(CDN_CACHE_CONTROL) {
            return None;
        }
        let lines: Vec<&[u8]> =
            answer.get_all(CDN_CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
        let text = lines.join(&b","[..]);
        let members = dictionary(&text)?;
        if members.is_empty() {
            return None;
        }
        let mut directives = Self { is_targeted: true, ..Self::default() };
        for (name, value) in &members {
            match value {
                Bare::False => {}
                Bare::True => directives.take(&Directive { name, value: None, is_exact: true }),
                Bare::Integer(number) => {
                    let digits = number.to_string();
                    let value = Some(digits.as_bytes());
                    directives.take(&Directive { name, value, is_exact: true });
                }
                // No directive is of that kind: a number that is none, a restriction that is one.
                Bare::Other => directives.take(&Directive { name, value: None, is_exact: false }),
            }
        }
        Some(directives)
    }

    fn take(&mut self, directive: &Directive<'_>) {
        let is = |name: &str| directive.name.eq_ignore_ascii_case(name.as_bytes());
        if is("no-store") {
            self.no_store = true;
        } else if is("private") {
            match directive.fields() {
                Some(fields) => self.unkept.extend(fields),
                None => self.private = true,
            }
        } else if is("no-cache") {
            match directive.fields() {
                Some(fields) => self.unkept.extend(fields),
                None => self.no_cache = true,
            }
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand |= directive.is_exact;
        } else if is("public") {
            // What allows must be said as it is meant to be.
            self.public |= directive.is_exact && directive.value.is_none();
        } else if is("max-age") {
            directive.count(&mut self.max_age);
        } else if is("s-maxage") {
            directive.count(&mut self.s_maxage);
        } else if is("stale-while-revalidate") {
            directive.count(&mut self.stale_while_revalidate);
        } else if is("stale-if-error") {
            directive.count(&mut self.stale_if_error);
        }
    }

    /// Whether an answer to a request with a credential may be used for others (RFC 9111, 3.5).
    pub(crate) fn is_for_others(&self) -> bool {
        self.public || self.s_maxage.is_some() || self.must_revalidate
    }
}

impl Wishes {
    pub(crate) fn of(request: &HeaderMap) -> Self {
        let mut wishes = Self::default();
        if !request.contains_key(CACHE_CONTROL) {
            return wishes;
        }
        // A request that cannot be read is one without wishes.
        each(request, |directive| wishes.take(&directive));
        wishes
    }

    fn take(&mut self, directive: &Directive<'_>) {
        let is = |name: &str| directive.name.eq_ignore_ascii_case(name.as_bytes());
        let seconds = || directive.value.and_then(seconds);
        if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            let most = |age: u64| self.max_age.map_or(age, |other| other.min(age));
            self.max_age = seconds().map(most).or(self.max_age);
        } else if is("min-fresh") {
            let least = |left: u64| self.min_fresh.map_or(left, |other| other.max(left));
            self.min_fresh = seconds().map(least).or(self.min_fresh);
        } else if is("max-stale") {
            let said = match directive.value {
                None => Some(SECONDS_MAX),
                Some(_) => seconds(),
            };
            let most = |stale: u64| self.max_stale.map_or(stale, |other| other.min(stale));
            self.max_stale = said.map(most).or(self.max_stale);
        }
    }
}

impl Delta {
    /// What is not a number is no time at all.
    pub(crate) const fn seconds(self) -> u64 {
        match self {
            Self::Seconds(seconds) => seconds,
            Self::Invalid => 0,
        }
    }
}

/// One member of the list.
struct Directive<'a> {
    name: &'a [u8],
    value: Option<&'a [u8]>,
    /// Written as the grammar wants it, without space around `=`.
    is_exact: bool,
}

impl Directive<'_> {
    fn count(&self, to: &mut Option<Delta>) {
        let said = self.value.filter(|_| self.is_exact).and_then(seconds);
        let said = said.map_or(Delta::Invalid, Delta::Seconds);
        *to = Some(match *to {
            Some(before) if before != said => Delta::Invalid,
            Some(_) | None => said,
        });
    }

    /// The fields that it is restricted to; none when it is about the whole answer.
    fn fields(&self) -> Option<Vec<HeaderName>> {
        let list = self.value.filter(|_| self.is_exact)?;
        let names = list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        let names: Option<Vec<_>> = names.map(|name| HeaderName::from_bytes(name).ok()).collect();
        names.filter(|names| !names.is_empty())
    }
}

fn seconds(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    is_number.then(|| value.iter().fold(0, add).min(SECONDS_MAX))
}

/// Shows every directive of `Cache-Control`; false when a quoted string does not end.
fn each(headers: &HeaderMap, mut take: impl FnMut(Directive<'_>)) -> bool {
    let mut is_whole = true;
    for line in headers.get_all(CACHE_CONTROL) {
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let (member, behind, ends) = member(rest);
            is_whole &= ends;
            rest = behind;
            if member.trim_ascii().is_empty() {
                continue;
            }
            let equals = member.iter().position(|&byte| byte == b'=');
            let (name, value) = match equals.and_then(|at| member.split_at_checked(at)) {
                Some((name, value)) => (name, value.get(1..)),
                None => (member, None),
            };
            let unquoted = value.map(unquoted);
            let is_exact = value.is_none_or(|value| {
                name.last() != Some(&b' ') && name.last() != Some(&b'\t') && !starts_blank(value)
            });
            let value = unquoted.as_deref();
            take(Directive { name: name.trim_ascii(), value, is_exact });
        }
    }
    is_whole
}

fn starts_blank(value: &[u8]) -> bool {
    matches!(value.first(), Some(b' ' | b'\t'))
}

/// Up to the next comma that is not quoted, what follows it, and whether quotes are closed.
fn member(list: &[u8]) -> (&[u8], &[u8], bool) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                let (member, behind) = list.split_at(at);
                return (member, behind.get(1..).unwrap_or_default(), true);
            }
            _ => {}
        }
    }
    (list, &[], !quoted)
}

/// The text of a quoted string; of anything else, itself.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let value = value.trim_ascii();
    let inner = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let Some(inner) = inner else { return value.to_vec() };
    let mut text = Vec::with_capacity(inner.len());
    let mut escaped = false;
    for &byte in inner {
        if byte == b'\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            text.push(byte);
        }
    }
    text
}
