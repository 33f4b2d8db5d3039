//! Paths that have no canonical form, for the few routes that need one byte for byte.
//!
//! A route may opt out of some refusals, and then has no wildcards: a request reaches it with
//! exactly the text that the policy shows, so nobody can hide another path in it. Control bytes, dot
//! segments and bytes that are not UTF-8 are refused however deep they are encoded.

use std::fmt;
use std::str::FromStr;

use crate::path::{
    Path, PathError, escaped, has_unicode_escape, is_reserved_in_segment, is_unreserved,
};

/// One refusal that a route may opt out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OptOut {
    /// `%2541`: decoded once, it is an escape again. Deeper is refused.
    DoubleEncoding,
    /// `//`.
    EmptySegment,
    /// `%2F` and `%5C`; a raw backslash is refused all the same.
    EncodedSlash,
    /// `;` and `%3B`.
    Matrix,
}

/// Some refusals that a route opts out of.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OptOuts(u8);

/// The text names no refusal that a route may opt out of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing that a route can opt out of")]
pub struct OptOutError(String);

/// What a route has to opt out of to have the path `text`; an error for what it never can have.
pub(crate) fn needs(text: &str) -> Result<OptOuts, PathError> {
    if text.len() > Path::MAX {
        return Err(PathError::TooLong(text.len()));
    }
    let inside = text.strip_prefix('/').ok_or(PathError::NotAPath)?;
    let mut needs = OptOuts::default();
    let mut segments = inside.split('/').peekable();
    let mut at = 1;
    while let Some(raw) = segments.next() {
        if raw.is_empty() && segments.peek().is_some() {
            needs.add(OptOut::EmptySegment);
        }
        needs.0 |= segment(raw.as_bytes(), at)?.0;
        at += raw.len() + 1;
    }
    Ok(needs)
}

/// The same for one segment that begins at byte `start`.
fn segment(raw: &[u8], start: usize) -> Result<OptOuts, PathError> {
    let mut needs = OptOuts::default();
    let once = decode(raw, |byte, is_escape| match byte {
        b'/' | b'\\' if is_escape => {
            needs.add(OptOut::EncodedSlash);
            Ok(())
        }
        b';' => {
            needs.add(OptOut::Matrix);
            Ok(())
        }
        0..0x20 | 0x7F => Err(PathError::ControlByte(start)),
        b'\\' | b'?' | b'#' => Err(PathError::EncodedSeparator(start)),
        _ if is_escape && is_unreserved(byte) => Err(PathError::NeedlessEscape(start)),
        _ if is_escape || is_unreserved(byte) || is_reserved_in_segment(byte) => Ok(()),
        _ => Err(PathError::Malformed(start)),
    })
    .ok_or(PathError::Malformed(start))??;
    harmless(&once, start)?;
    // Whoever decodes a second time must not find more than another name.
    let twice = decode_where_possible(&once);
    if twice != once {
        needs.add(OptOut::DoubleEncoding);
        harmless(&twice, start)?;
        if decode_where_possible(&twice) != twice || twice.iter().any(|b| b"?#".contains(b)) {
            return Err(PathError::DoubleEncoding(start));
        }
    }
    if has_unicode_escape(&once) || has_unicode_escape(&twice) {
        return Err(PathError::DoubleEncoding(start));
    }
    Ok(needs)
}

/// Refuses decoded bytes in which a reader finds dot segments, control bytes, or no text at all.
fn harmless(decoded: &[u8], start: usize) -> Result<(), PathError> {
    if decoded.iter().any(u8::is_ascii_control) {
        return Err(PathError::ControlByte(start));
    }
    std::str::from_utf8(decoded).ok().ok_or(PathError::NotUtf8(start))?;
    let names = decoded.split(|byte| matches!(byte, b'/' | b'\\'));
    // Parameters are cut off before dots are resolved: `..;a` is `..`.
    let mut names = names.map(|name| name.split(|&byte| byte == b';').next().unwrap_or_default());
    if names.any(|name| matches!(name, b"." | b"..")) {
        return Err(PathError::DotSegment(start));
    }
    Ok(())
}

/// `raw` decoded once, after `check` has seen each byte and whether it was escaped; `None` for a
/// broken escape.
fn decode(
    raw: &[u8],
    mut check: impl FnMut(u8, bool) -> Result<(), PathError>,
) -> Option<Result<Vec<u8>, PathError>> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, is_escape) = if byte == b'%' { (escape(after)?, true) } else { (byte, false) };
        if let Err(refused) = check(byte, is_escape) {
            return Some(Err(refused));
        }
        decoded.push(byte);
        rest = if is_escape { after.get(2..)? } else { after };
    }
    Some(Ok(decoded))
}

/// Decoded once more; what is no escape stays.
fn decode_where_possible(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, escape(after), after.get(2..)) {
            (b'%', Some(escaped), Some(behind)) => {
                decoded.push(escaped);
                rest = behind;
            }
            _ => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    decoded
}

/// The byte that the two digits in front name.
fn escape(text: &[u8]) -> Option<u8> {
    escaped(std::str::from_utf8(text.get(..2)?).ok()?)
}

impl OptOut {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::DoubleEncoding, Self::EmptySegment, Self::EncodedSlash, Self::Matrix];

    /// As a policy writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DoubleEncoding => "double-encoding",
            Self::EmptySegment => "empty-segment",
            Self::EncodedSlash => "encoded-slash",
            Self::Matrix => "matrix",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::DoubleEncoding => 1,
            Self::EmptySegment => 2,
            Self::EncodedSlash => 4,
            Self::Matrix => 8,
        }
    }
}

impl FromStr for OptOut {
    type Err = OptOutError;

    fn from_str(text: &str) -> Result<Self, OptOutError> {
        let known = Self::ALL.iter().copied().find(|known| known.as_str() == text);
        known.ok_or_else(|| OptOutError(text.to_owned()))
    }
}

impl OptOuts {
    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `other` holds nothing that is not in here.
    pub const fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = OptOut> {
        OptOut::ALL.iter().copied().filter(move |one| self.0 & one.bit() != 0)
    }

    const fn add(&mut self, one: OptOut) {
        self.0 |= one.bit();
    }
}

impl FromIterator<OptOut> for OptOuts {
    fn from_iter<I: IntoIterator<Item = OptOut>>(all: I) -> Self {
        all.into_iter().fold(Self::default(), |mut set, one| {
            set.add(one);
            set
        })
    }
}

impl fmt::Debug for OptOuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
