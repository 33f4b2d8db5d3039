//! What a client asks under conditions, and what an answer that is kept makes of them (RFC 9110, 13
//! and 14).
//!
//! `If-Match` and `If-Unmodified-Since` are for whoever owns the resource; a request with one of
//! them goes past the cache. More than one range is answered with the whole, as it may be.

use http::header::{
    ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    RANGE,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::date;
use crate::kept::Kept;

/// What a request asks for beyond its target.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    /// Without the body.
    pub(crate) head_only: bool,
    none_match: Vec<HeaderValue>,
    modified_since: Option<HeaderValue>,
    range: Option<HeaderValue>,
    if_range: Option<HeaderValue>,
}

/// How much of an answer the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// The client has it.
    NotModified,
    /// From the first to the last byte, both included.
    Range(usize, usize),
    /// No byte of it lies in the range that was asked for.
    Unsatisfiable,
}

/// Whether a request is for whoever owns the resource to judge.
pub(crate) fn is_for_origin(request: &HeaderMap) -> bool {
    request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE)
}

impl Conditions {
    pub(crate) fn of(request: &HeaderMap, head_only: bool) -> Self {
        let one = |name| request.get(name).cloned();
        Self {
            head_only,
            none_match: request.get_all(IF_NONE_MATCH).iter().cloned().collect(),
            modified_since: one(IF_MODIFIED_SINCE),
            range: one(RANGE),
            if_range: one(IF_RANGE),
        }
    }

    pub(crate) const fn has_range(&self) -> bool {
        self.range.is_some()
    }

    pub(crate) fn is_conditional(&self) -> bool {
        !self.none_match.is_empty() || self.modified_since.is_some()
    }

    /// What the client gets of `kept`.
    pub(crate) fn part(&self, kept: &Kept) -> Part {
        // Of what was no success there is nothing to compare (RFC 9110, 13.2.1).
        if !kept.status.is_success() {
            return Part::Whole;
        }
        if self.is_known(kept) {
            return Part::NotModified;
        }
        if self.head_only || kept.status != StatusCode::OK || !self.is_for_range(kept) {
            return Part::Whole;
        }
        let range = self.range.as_ref().and_then(|range| range.to_str().ok());
        range.map_or(Part::Whole, |range| part(range, kept.body.len()))
    }

    fn is_known(&self, kept: &Kept) -> bool {
        let now = kept.heard_at;
        if !self.none_match.is_empty() {
            let tag = kept.headers.get(ETAG).map(HeaderValue::as_bytes);
            return self.none_match.iter().any(|list| names(list.as_bytes(), tag));
        }
        let Some(since) = &self.modified_since else { return false };
        let changed = kept.headers.get(LAST_MODIFIED).or_else(|| kept.headers.get(header::DATE));
        let changed = changed.map_or(Some(now), |changed| date::parse(changed, now));
        let since = date::parse(since, now);
        changed.zip(since).is_some_and(|(changed, since)| changed <= since)
    }

    /// Whether the range is one of this very answer (RFC 9110, 13.1.5).
    fn is_for_range(&self, kept: &Kept) -> bool {
        let Some(wanted) = &self.if_range else { return true };
        let wanted = wanted.as_bytes().trim_ascii();
        if wanted.starts_with(b"\"") {
            return kept.headers.get(ETAG).is_some_and(|tag| tag.as_bytes() == wanted);
        }
        if wanted.starts_with(b"W/") {
            return false;
        }
        let now = kept.heard_at;
        let at = |name| kept.headers.get(name).and_then(|value| date::parse(value, now));
        let Some(changed) = at(LAST_MODIFIED) else { return false };
        let is_same = self.if_range.as_ref().and_then(|wanted| date::parse(wanted, now));
        // A date proves something only if nothing can have changed within its second.
        is_same == Some(changed) && at(header::DATE).is_some_and(|date| date > changed)
    }
}

/// Whether the list of `If-None-Match` has `tag`, compared weakly (RFC 9110, 8.8.3.2).
fn names(list: &[u8], tag: Option<&[u8]>) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let Some(tag) = tag.and_then(opaque) else { return false };
    let mut rest = list;
    while !rest.is_empty() {
        let (next, behind) = next_tag(rest);
        if opaque(next) == Some(tag) {
            return true;
        }
        rest = behind;
    }
    false
}

/// Up to the next comma outside of quotes; an entity tag may have one inside.
fn next_tag(list: &[u8]) -> (&[u8], &[u8]) {
    let mut quoted = false;
    for (at, byte) in list.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                let (tag, behind) = list.split_at(at);
                return (tag, behind.get(1..).unwrap_or_default());
            }
            _ => {}
        }
    }
    (list, &[])
}

/// What stands between the quotes of an entity tag.
pub(crate) fn opaque(tag: &[u8]) -> Option<&[u8]> {
    let tag = tag.trim_ascii();
    let quoted = tag.strip_prefix(b"W/").unwrap_or(tag);
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    (!inner.contains(&b'"')).then_some(inner)
}

/// What `range` is of a body with `length` bytes.
fn part(range: &str, length: usize) -> Part {
    let Some((unit, set)) = range.split_once('=') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Part::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else { return Part::Whole };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More than any body has is all of it.
        is_number.then(|| text.parse::<usize>().unwrap_or(usize::MAX))
    };
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last),
        (Some(first), None) if last.is_empty() => (first, usize::MAX),
        (None, Some(0)) if first.is_empty() => return Part::Unsatisfiable,
        (None, Some(suffix)) if first.is_empty() => (length.saturating_sub(suffix), usize::MAX),
        _ => return Part::Whole,
    };
    match length.checked_sub(1) {
        Some(end) if first <= end => Part::Range(first, last.min(end)),
        Some(_) | None => Part::Unsatisfiable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_strictly_and_cut_to_what_there_is() {
        for (range, expected) in [
            ("bytes=0-1", Part::Range(0, 1)),
            ("bytes=1-", Part::Range(1, 10)),
            ("bytes=-1", Part::Range(10, 10)),
            ("bytes=-99", Part::Range(0, 10)),
            ("bytes=5-99999999999999999999999", Part::Range(5, 10)),
            ("Bytes=10-10", Part::Range(10, 10)),
            ("bytes=11-", Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=2-1", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("0-1", Part::Whole),
        ] {
            assert_eq!(part(range, 11), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Unsatisfiable);
        assert_eq!(part("bytes=-5", 0), Part::Unsatisfiable);
    }

    #[test]
    fn tags_are_compared_weakly_and_a_comma_in_quotes_separates_nothing() {
        let is_named = |list: &str, tag: &str| names(list.as_bytes(), Some(tag.as_bytes()));

        assert!(is_named(r#""a""#, r#""a""#));
        assert!(is_named(r#"W/"a""#, r#""a""#));
        assert!(is_named(r#""x", W/"y", "a""#, r#"W/"a""#));
        assert!(is_named(r#""a,b""#, r#""a,b""#));
        assert!(is_named("*", r#""a""#));
        assert!(!is_named(r#""x,"a"#, r#""a""#));
        assert!(!is_named(r#"a"#, r#""a""#));
        assert!(!is_named(r#""a""#, "a"));
        assert!(!names(br#""a""#, None));
        assert!(names(b"*", None));
    }
}
