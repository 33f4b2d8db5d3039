//! One path, in one spelling as far as meaning goes: refused or forwarded byte for byte.
//!
//! Every rule closes a way in which an upstream could read another path than the one that was
//! authorised. An unreserved character must stand for itself (`%41` is refused): encoding it has no
//! use but to look different. Two spellings that real clients produce stay: hexadecimal digits in
//! either case, and the reserved characters of a segment (`:@!$&'()*+,=`) raw or encoded. They are
//! forwarded as sent, and [`fold`] gives the one form in which routes are compared, together with
//! the trailing slash, which never makes another route. What a route may opt out of stands in
//! [`OptOut`].

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use enforcer_model::{Reason, Rejection};
use http::Uri;

use crate::exact::{OptOut, OptOuts, needs};

/// A canonical path: what was authorised is, byte for byte, what is forwarded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    text: Box<str>,
    /// What a route had to opt out of for it; empty for all but a few.
    needs: OptOuts,
}

/// Why a path is refused, with the place of the offending byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A byte below 0x20 or 0x7F, raw or encoded.
    #[error("control byte at {0}")]
    ControlByte(usize),
    /// `.` or `..`, raw or encoded, as a whole segment.
    #[error("dot segment at {0}")]
    DotSegment(usize),
    /// Decoded once, it is an escape again.
    #[error("double encoding at {0}")]
    DoubleEncoding(usize),
    /// `//`.
    #[error("empty segment at {0}")]
    EmptySegment(usize),
    /// `%2F`, `%5C` or `\`; also `%3F` and `%23`, which end a path once they are decoded.
    #[error("encoded separator or backslash at {0}")]
    EncodedSeparator(usize),
    /// A byte that a path must encode, or an escape that is none.
    #[error("byte that cannot stand in a path at {0}")]
    Malformed(usize),
    /// `;` or `%3B`.
    #[error("matrix parameter at {0}")]
    MatrixParameter(usize),
    /// An encoded unreserved character, such as `%41` for `A`.
    #[error("needless escape at {0}")]
    NeedlessEscape(usize),
    /// The target is not an absolute path: `*`, or an authority alone.
    #[error("the target is not a path")]
    NotAPath,
    /// The decoded bytes are not UTF-8, or are an overlong form.
    #[error("not UTF-8 after decoding at {0}")]
    NotUtf8(usize),
    /// A prefix that is to be cut off is not there.
    #[error("the path does not begin with the prefix that the route strips")]
    OutsidePrefix,
    /// Longer than [`Path::MAX`].
    #[error("{0} bytes are more than a path may have")]
    TooLong(usize),
}

/// The path of a target in origin or absolute form. `has_exact` is asked whether a route wants
/// just this text, when only what a route can opt out of stands against it.
pub(crate) fn of(uri: &Uri, has_exact: impl FnOnce(&str) -> bool) -> Result<Path, PathError> {
    // The scheme of an absolute target has no say in what is served; an unknown one is no path.
    let text = match uri.scheme_str() {
        None | Some("http" | "https") => uri.path(),
        Some(_) => return Err(PathError::NotAPath),
    };
    let refused = match text.parse::<Path>() {
        Ok(path) => return Ok(path),
        Err(refused) => refused,
    };
    match refused.opt_out().map(|_| needs(text)) {
        Some(Ok(needs)) if has_exact(text) => Ok(Path { text: text.into(), needs }),
        _ => Err(refused),
    }
}

/// The form in which routes compare paths: escapes of the reserved characters of a segment become
/// that character, hexadecimal digits upper case, one trailing slash goes.
///
/// Meant for accepted paths and for the literal parts of route patterns; anything else comes back
/// unchanged where it is not understood.
pub fn fold(path: &str) -> Cow<'_, str> {
    let path = match path.strip_suffix('/') {
        Some("") | None => path,
        Some(shorter) => shorter,
    };
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut pieces = path.split('%');
    let mut folded = String::with_capacity(path.len());
    folded.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        match piece.split_at_checked(2).map(|(digits, rest)| (digits, escaped(digits), rest)) {
            Some((_, Some(byte), rest)) if is_reserved_in_segment(byte) => {
                folded.push(char::from(byte));
                folded.push_str(rest);
            }
            Some((digits, Some(_), rest)) => {
                folded.push('%');
                folded.push_str(&digits.to_ascii_uppercase());
                folded.push_str(rest);
            }
            Some((_, None, _)) | None => {
                folded.push('%');
                folded.push_str(piece);
            }
        }
    }
    Cow::Owned(folded)
}

impl Path {
    /// The longest path that is accepted, in bytes.
    pub const MAX: usize = 8 * 1024;

    /// As matched, logged and forwarded.
    pub const fn as_str(&self) -> &str {
        &self.text
    }

    /// A path as it is written in a route that has opted out of `allowed`.
    pub fn exact(text: &str, allowed: OptOuts) -> Result<Self, PathError> {
        let refused = match text.parse() {
            Ok(path) => return Ok(path),
            Err(refused) => refused,
        };
        let needs = needs(text)?;
        if allowed.covers(needs) { Ok(Self { text: text.into(), needs }) } else { Err(refused) }
    }

    /// What a route had to opt out of for this path. Where it is not empty, the path has no
    /// canonical form, so only a route with just this text may decide on it.
    pub const fn needs(&self) -> OptOuts {
        self.needs
    }
}

impl PathError {
    /// What a route opts out of to have such a path; none for what is never accepted.
    pub const fn opt_out(&self) -> Option<OptOut> {
        match self {
            Self::DoubleEncoding(_) => Some(OptOut::DoubleEncoding),
            Self::EmptySegment(_) => Some(OptOut::EmptySegment),
            Self::EncodedSeparator(_) => Some(OptOut::EncodedSlash),
            Self::MatrixParameter(_) => Some(OptOut::Matrix),
            Self::ControlByte(_)
            | Self::DotSegment(_)
            | Self::Malformed(_)
            | Self::NeedlessEscape(_)
            | Self::NotAPath
            | Self::NotUtf8(_)
            | Self::OutsidePrefix
            | Self::TooLong(_) => None,
        }
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.len() > Self::MAX {
            return Err(PathError::TooLong(text.len()));
        }
        let inside = text.strip_prefix('/').ok_or(PathError::NotAPath)?;
        if is_plain(inside.as_bytes()) {
            return Ok(Self { text: text.into(), needs: OptOuts::default() });
        }
        let mut segments = inside.split('/').peekable();
        let mut decoded = Vec::new();
        let mut at = 1;
        while let Some(raw) = segments.next() {
            // An empty last segment is a trailing slash.
            if raw.is_empty() && segments.peek().is_some() {
                return Err(PathError::EmptySegment(at));
            }
            segment(raw.as_bytes(), at, &mut decoded)?;
            at += raw.len() + 1;
        }
        Ok(Self { text: text.into(), needs: OptOuts::default() })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<PathError> for Rejection {
    fn from(error: PathError) -> Self {
        let reason = match error {
            PathError::ControlByte(_) => Reason::PathControlByte,
            PathError::DotSegment(_) => Reason::PathDotSegment,
            PathError::DoubleEncoding(_) => Reason::PathDoubleEncoding,
            PathError::EmptySegment(_) => Reason::PathEmptySegment,
            PathError::EncodedSeparator(_) => Reason::PathEncodedSeparator,
            PathError::Malformed(_)
            | PathError::NeedlessEscape(_)
            | PathError::NotAPath
            | PathError::OutsidePrefix => Reason::PathMalformed,
            PathError::MatrixParameter(_) => Reason::PathMatrixParameter,
            PathError::NotUtf8(_) => Reason::PathNotUtf8,
            PathError::TooLong(_) => Reason::PathTooLong,
        };
        reason.because(error)
    }
}

/// How far a segment is read.
#[derive(Clone, Copy)]
enum Read {
    Nothing,
    Dot,
    TwoDots,
    Name,
}

/// Whether segments without escapes have nothing against them: what nearly every path is, told in
/// one pass and without memory. Whatever is not so simple takes the long way.
fn is_plain(inside: &[u8]) -> bool {
    let mut read = Read::Nothing;
    for &byte in inside {
        read = match (CLASSES.get(usize::from(byte)), read) {
            (Some(Class::Name), _) => Read::Name,
            (Some(Class::Slash), Read::Name) => Read::Nothing,
            (Some(Class::Dot), Read::Nothing) => Read::Dot,
            (Some(Class::Dot), Read::Dot) => Read::TwoDots,
            (Some(Class::Dot), Read::TwoDots | Read::Name) => Read::Name,
            (Some(Class::Slash | Class::Other) | None, _) => return false,
        };
    }
    matches!(read, Read::Nothing | Read::Name)
}

/// What a byte is to [`is_plain`].
#[derive(Clone, Copy)]
enum Class {
    Name,
    Slash,
    Dot,
    Other,
}

static CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0u8;
    while byte < 0x80 {
        #[expect(
            clippy::indexing_slicing,
            clippy::as_conversions,
            reason = "at compile time, and a byte is an index of 256 places"
        )]
        let class = &mut classes[byte as usize];
        *class = match byte {
            b'/' => Class::Slash,
            b'.' => Class::Dot,
            byte if is_unreserved(byte) || is_reserved_in_segment(byte) => Class::Name,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

/// Checks one segment that begins at byte `start` of the path; `decoded` is room to decode it in.
fn segment(raw: &[u8], start: usize, decoded: &mut Vec<u8>) -> Result<(), PathError> {
    decoded.clear();
    let mut needless = None;
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        let at = start + raw.len() - rest.len();
        if byte == b'%' {
            let (digits, after) = after.split_at_checked(2).ok_or(PathError::Malformed(at))?;
            let digits = std::str::from_utf8(digits).ok().ok_or(PathError::Malformed(at))?;
            let byte = escaped(digits).ok_or(PathError::Malformed(at))?;
            forbidden(byte, at)?;
            match byte {
                b'/' | b'?' | b'#' => return Err(PathError::EncodedSeparator(at)),
                _ if is_unreserved(byte) => needless = needless.or(Some(at)),
                _ => {}
            }
            decoded.push(byte);
            rest = after;
        } else {
            forbidden(byte, at)?;
            if !is_unreserved(byte) && !is_reserved_in_segment(byte) {
                return Err(PathError::Malformed(at));
            }
            decoded.push(byte);
            rest = after;
        }
    }
    if matches!(decoded.as_slice(), b"." | b"..") {
        return Err(PathError::DotSegment(start));
    }
    if is_escaped_again(decoded) {
        return Err(PathError::DoubleEncoding(start));
    }
    if let Some(at) = needless {
        return Err(PathError::NeedlessEscape(at));
    }
    // The standard library refuses overlong forms and surrogates.
    std::str::from_utf8(decoded).map(|_| ()).or(Err(PathError::NotUtf8(start)))
}

/// What may stand in a path neither raw nor encoded.
fn forbidden(byte: u8, at: usize) -> Result<(), PathError> {
    match byte {
        0..0x20 | 0x7F => Err(PathError::ControlByte(at)),
        b'\\' => Err(PathError::EncodedSeparator(at)),
        b';' => Err(PathError::MatrixParameter(at)),
        _ => Ok(()),
    }
}

/// Whether a second decoder would find something to decode: `%2e`, or the `%u002e` of some servers.
fn is_escaped_again(decoded: &[u8]) -> bool {
    decoded.windows(3).any(|triple| matches!(triple, [b'%', digits @ ..] if is_hex(digits)))
        || has_unicode_escape(decoded)
}

/// Whether `%u002e` stands in it.
pub(crate) fn has_unicode_escape(text: &[u8]) -> bool {
    text.windows(6).any(|six| matches!(six, [b'%', b'u' | b'U', digits @ ..] if is_hex(digits)))
}

fn is_hex(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_hexdigit)
}

/// The byte that two hexadecimal digits name.
pub(crate) fn escaped(digits: &str) -> Option<u8> {
    let hex = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if hex { u8::from_str_radix(digits, 16).ok() } else { None }
}

pub(crate) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `sub-delims`, `:` and `@` of RFC 3986 without `;`.
pub(crate) const fn is_reserved_in_segment(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
    )
}
