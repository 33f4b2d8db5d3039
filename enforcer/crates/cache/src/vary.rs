//! Which fields of the request an answer was chosen by (RFC 9111, 4.1).
//!
//! What is kept of those fields is a digest: they may hold cookies and credentials, and nobody needs
//! them but to compare. Lines of one field are joined, as anybody on the way may do; the fields of
//! content negotiation are read as the lists that they are, without case and without the space
//! around their members. Of every other field each byte counts.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderName, HeaderValue, VARY,
};
use http::{HeaderMap, header};
use ring::digest::{Context, SHA256};

use crate::key::Digest;

/// What one answer varies on, and how the request had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vary {
    pub(crate) names: Arc<[HeaderName]>,
    selecting: Option<Digest>,
}

/// The fields of a request as its upstream sees them.
pub struct Fields<'a> {
    /// As the client sent them.
    pub sent: &'a HeaderMap,
    /// Whether a field reaches the upstream just as the client sent it.
    pub is_as_sent: fn(&HeaderName) -> bool,
    /// All of them as the upstream sees them; asked for only when some other field counts.
    pub onward: &'a dyn Fn() -> HeaderMap,
}

/// Why an answer cannot be chosen by fields at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unselectable;

/// An answer that varies on more is not kept.
const NAMES_MAX: usize = 16;

/// The names in the `Vary` of an answer, sorted, each once.
pub(crate) fn names(answer: &HeaderMap) -> Result<Arc<[HeaderName]>, Unselectable> {
    let mut names = Vec::new();
    for value in answer.get_all(VARY) {
        for token in value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if token.is_empty() {
                continue;
            }
            // `*` is among what is no name: the answer was chosen by something that nobody knows.
            let name = HeaderName::from_bytes(token).ok().filter(|name| name != "*");
            names.push(name.ok_or(Unselectable)?);
        }
    }
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    if names.len() > NAMES_MAX { Err(Unselectable) } else { Ok(names.into()) }
}

impl Vary {
    /// As a request with the fields `headers`, as the upstream saw them, has the fields `names`.
    pub(crate) fn new(names: Arc<[HeaderName]>, headers: &HeaderMap) -> Self {
        let selecting = selecting(&names, headers);
        Self { names, selecting }
    }

    /// Whether a request with these fields would have been given the same answer.
    pub(crate) fn is_met_by(&self, fields: &Fields<'_>) -> bool {
        self.selecting == fields.selecting(&self.names)
    }
}

impl Fields<'_> {
    /// What the fields `names` are for the upstream; none when there are no names.
    pub(crate) fn selecting(&self, names: &[HeaderName]) -> Option<Digest> {
        if names.iter().all(self.is_as_sent) {
            selecting(names, self.sent)
        } else {
            selecting(names, &(self.onward)())
        }
    }
}

impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values are nobody's business.
        f.debug_list().entries(self.sent.keys()).finish()
    }
}

fn selecting(names: &[HeaderName], headers: &HeaderMap) -> Option<Digest> {
    if names.is_empty() {
        return None;
    }
    let mut context = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        context.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(bytes);
    };
    for name in names {
        part(name.as_str().as_bytes());
        match combined(name, headers) {
            // Present and empty is not absent.
            Some(value) => {
                part(b"1");
                part(&normalised(name, &value));
            }
            None => part(b"0"),
        }
    }
    Some(Digest::of(context))
}

/// All lines of a field as one.
fn combined<'a>(name: &HeaderName, headers: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = values.next()?;
    let mut joined = Cow::Borrowed(first);
    let between: &[u8] = if name == header::COOKIE { b"; " } else { b", " };
    for value in values {
        let whole = joined.to_mut();
        whole.extend_from_slice(between);
        whole.extend_from_slice(value);
    }
    Some(joined)
}

/// The value as everybody reads it who knows the field.
fn normalised<'a>(name: &HeaderName, value: &'a [u8]) -> Cow<'a, [u8]> {
    let negotiates = [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name);
    // A quoted string may hold a comma, and case.
    if !negotiates || value.contains(&b'"') {
        return Cow::Borrowed(value.trim_ascii());
    }
    let mut members: Vec<Vec<u8>> = value
        .split(|&byte| byte == b',')
        .map(|member| member.iter().filter(|byte| !matches!(byte, b' ' | b'\t')))
        .map(|member| member.map(u8::to_ascii_lowercase).collect())
        .filter(|member: &Vec<u8>| !member.is_empty())
        .collect();
    // Codings are weighed by number alone; the order of languages some take for a preference.
    if *name == ACCEPT_ENCODING {
        members.sort();
        members.dedup();
    }
    Cow::Owned(members.join(&b","[..]))
}
