//! Where a request comes from, as the proxies that it came through tell: `Forwarded` (RFC 7239) and
//! `X-Forwarded-For`, read from right to left.
//!
//! Each proxy adds its own peer at the right end, so the right end is what the nearest proxy says,
//! and only as far as one trusted proxy names another is the next word believed. Everything to the
//! left of the first address that is not trusted may have been made up by whoever has that address.
//! So the fields are taken apart from the right as well: whatever a client has put to the left, an
//! open quote or a comma inside of one, cannot change how the part reads that trusted proxies wrote.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use enforcer_model::{Reason, Rejection, Source, SourceBy};
use http::header::{FORWARDED, HeaderMap, HeaderName};

/// Where a request comes from, by the word of trusted proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Every hop that is believed, the source first; the peer is the last.
    pub hops: Vec<Source>,
    /// The field that told.
    pub by: SourceBy,
    /// Why the next word was not understood, where there was one and the one who said it is trusted.
    pub doubt: Option<&'static str>,
}

/// `Forwarded` names one client and `X-Forwarded-For` another.
///
/// A proxy that writes one of them passes the other on as its client has made it up. Which of the
/// two that is cannot be seen from here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Forwarded comes from {forwarded}, X-Forwarded-For from {listed}")]
pub struct Disagreement {
    forwarded: Source,
    listed: Source,
}

/// Proxies that one request may come through.
pub const HOPS_MAX: usize = 32;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where a request comes from whose `peer` is trusted; none when it says nothing about that.
///
/// Where both fields are there they must agree.
pub fn walk(
    headers: &HeaderMap,
    peer: Source,
    trusted: impl Fn(Source) -> bool,
) -> Result<Option<Walk>, Disagreement> {
    let forwarded = field(headers, &FORWARDED, SourceBy::Forwarded, peer, &trusted);
    let listed = field(headers, &X_FORWARDED_FOR, SourceBy::XForwardedFor, peer, &trusted);
    match (forwarded, listed) {
        (Some(forwarded), Some(listed)) if forwarded.source() != listed.source() => {
            Err(Disagreement { forwarded: forwarded.source(), listed: listed.source() })
        }
        (forwarded, listed) => Ok(forwarded.or(listed)),
    }
}

fn field(
    headers: &HeaderMap,
    name: &HeaderName,
    by: SourceBy,
    peer: Source,
    trusted: &dyn Fn(Source) -> bool,
) -> Option<Walk> {
    let mut walk = None;
    for line in headers.get_all(name).iter().rev() {
        let mut rest = Some(line.as_bytes());
        while let Some(elements) = rest {
            let (before, element) = match by {
                SourceBy::Forwarded => last_element(elements),
                SourceBy::XForwardedFor | SourceBy::ProxyProtocol => last_comma(elements),
            };
            rest = before;
            let element = element.trim_ascii();
            if element.is_empty() {
                continue;
            }
            let Walk { hops, doubt, .. } =
                walk.get_or_insert_with(|| Walk { hops: vec![peer], by, doubt: None });
            if hops.len() >= HOPS_MAX {
                *doubt = Some("it came through too many proxies");
                return walk;
            }
            let named = match by {
                SourceBy::Forwarded => named(element),
                SourceBy::XForwardedFor | SourceBy::ProxyProtocol => listed(element),
            };
            match named {
                Ok(address) => {
                    let source = Source::new(address);
                    hops.insert(0, source);
                    if !trusted(source) {
                        return walk;
                    }
                }
                Err(why) => {
                    *doubt = Some(why);
                    return walk;
                }
            }
        }
    }
    walk
}

impl Walk {
    /// The last hop that is believed.
    #[expect(clippy::missing_panics_doc, reason = "the peer is always there")]
    pub fn source(&self) -> Source {
        #[expect(clippy::expect_used, reason = "a walk begins with its peer")]
        *self.hops.first().expect("a walk begins with its peer")
    }
}

impl From<Disagreement> for Rejection {
    fn from(error: Disagreement) -> Self {
        Reason::HeaderMalformed.because(error)
    }
}

// === X-Forwarded-For ===

fn last_comma(bytes: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match bytes.iter().rposition(|byte| *byte == b',') {
        Some(at) => (bytes.get(..at), bytes.get(at.saturating_add(1)..).unwrap_or_default()),
        None => (None, bytes),
    }
}

/// An address; some balancers write its port behind it, and brackets around the one of IPv6 then.
fn listed(element: &[u8]) -> Result<IpAddr, &'static str> {
    let text = std::str::from_utf8(element).or(Err("it is not an address"))?;
    match text.parse::<IpAddr>() {
        Ok(address) => possible(address),
        Err(_) => node(text),
    }
}

// === Forwarded ===

/// The last element of the list, and what stands before it. From the right, a quote that is not
/// escaped begins a text that the next one ends.
fn last_element(bytes: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut quoted = false;
    let mut at = bytes.len();
    while let Some((next, byte)) = at.checked_sub(1).and_then(|at| Some((at, *bytes.get(at)?))) {
        at = next;
        if byte == b'"' {
            let before = bytes.get(..at).unwrap_or_default();
            let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
            // Outside of a text nothing is escaped.
            if !quoted || backslashes.is_multiple_of(2) {
                quoted = !quoted;
            }
        } else if byte == b',' && !quoted {
            return (bytes.get(..at), bytes.get(at.saturating_add(1)..).unwrap_or_default());
        }
    }
    (None, bytes)
}

/// The address in the `for` of an element.
fn named(element: &[u8]) -> Result<IpAddr, &'static str> {
    let malformed = "an element of Forwarded is malformed";
    let mut found = None;
    let mut rest = element;
    loop {
        rest = rest.trim_ascii_start();
        if let Some(behind) = rest.strip_prefix(b";") {
            rest = behind;
            continue;
        }
        if rest.is_empty() {
            break;
        }
        let end = rest.iter().position(|byte| !is_token(*byte)).ok_or(malformed)?;
        let (name, behind) = rest.split_at_checked(end).ok_or(malformed)?;
        let behind = behind.strip_prefix(b"=").filter(|_| end > 0).ok_or(malformed)?;
        let (value, behind) = value(behind).ok_or(malformed)?;
        rest = behind.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b";") {
            return Err(malformed);
        }
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return Err("an element of Forwarded has two sources");
        }
    }
    let found = found.ok_or("an element of Forwarded has no source")?;
    node(&String::from_utf8(found).or(Err(malformed))?)
}

/// A token or a quoted string, and what follows it.
fn value(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut rest) = bytes.strip_prefix(b"\"") else {
        let end = bytes.iter().position(|byte| !is_token(*byte)).unwrap_or(bytes.len());
        let (token, rest) = bytes.split_at_checked(end)?;
        return (!token.is_empty()).then(|| (token.to_vec(), rest));
    };
    let mut text = Vec::new();
    loop {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        match byte {
            b'"' => return Some((text, rest)),
            b'\\' => {
                let (escaped, behind) = rest.split_first()?;
                rest = behind;
                text.push(*escaped);
            }
            _ => text.push(*byte),
        }
    }
}

/// RFC 9110, section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// RFC 7239, section 6: an address, in brackets if it is one of IPv6, with a port or without.
fn node(text: &str) -> Result<IpAddr, &'static str> {
    let malformed = Err("it is not an address");
    if text.starts_with('_') {
        return Err("the address is hidden behind a name");
    }
    let (name, port) = match text.strip_prefix('[') {
        Some(inside) => {
            let Some((name, behind)) = inside.split_once(']') else { return malformed };
            let Ok(address) = name.parse::<Ipv6Addr>() else { return malformed };
            (IpAddr::V6(address), behind)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            let Some((name, behind)) = text.split_at_checked(end) else { return malformed };
            if name.eq_ignore_ascii_case("unknown") {
                return Err("the address is not known to the proxy");
            }
            let Ok(address) = name.parse::<Ipv4Addr>() else { return malformed };
            (IpAddr::V4(address), behind)
        }
    };
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return malformed;
    }
    possible(name)
}

/// A number, or a name that hides one.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(hidden) => {
            let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !hidden.is_empty() && hidden.bytes().all(inside)
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// One that somebody can have.
fn possible(address: IpAddr) -> Result<IpAddr, &'static str> {
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || is_broadcast {
        return Err("nobody has that address");
    }
    Ok(address)
}
