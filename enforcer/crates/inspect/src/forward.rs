//! The head that the upstream sees, and the one that the client gets back.
//!
//! What belongs to one connection stays on it, what a client claims about itself goes, and what we
//! know takes its place. To be called on heads that [`crate::normalise`] accepted: `Connection`
//! names nothing that matters there.

use std::fmt::Write;
use std::net::IpAddr;

use enforcer_model::{RequestId, Source, SourceBy};
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, EXPECT, FORWARDED, HOST, HeaderName, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SERVER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

use crate::headers::{is_identity, tokens};
use crate::host::Host;

/// Fields of one connection, RFC 9110 section 7.6.1.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

const DPOP: HeaderName = HeaderName::from_static("dpop");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Removes from a request what must not reach an upstream, whatever the route is.
///
/// Hop-by-hop fields and what `Connection` names; identity and forwarding fields that the client
/// made up; `Expect`, which hyper has answered; and every API key of ours, whether the route wanted
/// one or not. A credential for somebody else passes; [`strip_credential`] takes one that was for
/// us. Cookies that HTTP/2 split are joined again (RFC 9113 section 8.2.3).
pub fn strip(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(EXPECT);
    remove_where(headers, |name, _| is_identity(name.as_str()));
    remove_where(headers, |name, value| {
        (name == AUTHORIZATION || name == X_API_KEY) && has_our_key(value)
    });
    join_cookies(headers);
}

/// Removes the credential that was accepted here and the proof that came with it: it is meant for
/// us, and an upstream that has it could use it elsewhere.
pub fn strip_credential(headers: &mut HeaderMap) {
    for name in [AUTHORIZATION, X_API_KEY, DPOP] {
        headers.remove(name);
    }
}

/// Removes from a response what belongs to the upstream's connection or tells about its software.
pub fn strip_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(SERVER);
    headers.remove(X_POWERED_BY);
}

/// Whether a field called `name` reaches the upstream just as the client sent it; of others we take
/// some away and set some ourselves.
pub fn is_forwarded_as_sent(name: &HeaderName) -> bool {
    let ours = [AUTHORIZATION, COOKIE, DPOP, EXPECT, HOST, X_API_KEY];
    !HOP_BY_HOP.contains(name) && !ours.contains(name) && !is_identity(name.as_str())
}

/// Where a request comes from, as far as it is believed.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// Whom it comes from.
    pub source: Source,
    /// Every hop from the source to the peer; none where the source is the peer.
    pub hops: &'a [Source],
    /// The field that told.
    pub by: Option<SourceBy>,
}

/// Tells the upstream what we know: the chain as far as it is believed, the canonical host, the
/// scheme, the request's id. What told of the chain tells it on, so `Forwarded` only where one came.
///
/// `Host` is set as well: with HTTP/2 there was none, and with HTTP/1.1 it had the client's port
/// and case.
pub fn forwarding_headers(
    headers: &mut HeaderMap,
    chain: Chain<'_>,
    host: &Host,
    tls: bool,
    id: RequestId,
) {
    let proto = if tls { "https" } else { "http" };
    set(headers, HOST, host.as_str());
    match chain.hops {
        [] => set(headers, X_FORWARDED_FOR, &chain.source.to_string()),
        hops => set(headers, X_FORWARDED_FOR, &listed(hops)),
    }
    if chain.by == Some(SourceBy::Forwarded) {
        set(headers, FORWARDED, &forwarded(chain.hops, host, proto));
    }
    set(headers, X_FORWARDED_HOST, host.as_str());
    set(headers, X_FORWARDED_PROTO, proto);
    set(headers, X_REQUEST_ID, &id.to_string());
}

fn listed(hops: &[Source]) -> String {
    let mut text = String::new();
    for (at, hop) in hops.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Writing into a string does not fail.
        write!(text, "{comma}{hop}").unwrap_or_default();
    }
    text
}

/// RFC 7239; host and scheme are what the last hop asked for.
fn forwarded(hops: &[Source], host: &Host, proto: &str) -> String {
    let mut text = String::new();
    for (at, hop) in hops.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let written = match hop.address() {
            IpAddr::V4(address) => write!(text, "{comma}for={address}"),
            IpAddr::V6(address) => write!(text, "{comma}for=\"[{address}]\""),
        };
        written.unwrap_or_default();
    }
    write!(text, ";host=\"{host}\";proto={proto}").unwrap_or_default();
    text
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    // Hosts, addresses and ids are ASCII by construction; without a value the claim must still go.
    match HeaderValue::from_str(text) {
        Ok(value) => drop(headers.insert(name, value)),
        Err(_) => drop(headers.remove(name)),
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most heads have none of them: one walk is cheaper than ten look-ups.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn remove_where(
    headers: &mut HeaderMap,
    mut unwanted: impl FnMut(&HeaderName, &HeaderValue) -> bool,
) {
    let names: Vec<HeaderName> = headers
        .iter()
        .filter(|(name, value)| unwanted(name, value))
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether one of the words is a key of ours, whatever scheme stands before it.
fn has_our_key(value: &HeaderValue) -> bool {
    let between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
    value.as_bytes().split(between).any(is_our_key)
}

/// Whatever begins as keys do that no policy has named, mistyped or whole; and the whole form of a
/// key behind any other word, because the word is the policy's to choose and to change. A credential
/// of somebody else's has neither.
fn is_our_key(value: &[u8]) -> bool {
    value.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"enf_")) || is_key(value)
}

/// `WORD_live_<12 id>_<43 secret><6 checksum>`, or `test` in the place of `live`.
fn is_key(value: &[u8]) -> bool {
    let mut parts = value.split(|&byte| byte == b'_');
    let (Some(word), Some(environment), Some(id), Some(secret), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let plain = |part: &[u8], length: usize| {
        part.len() == length && part.iter().all(u8::is_ascii_alphanumeric)
    };
    !word.is_empty()
        && plain(word, word.len())
        && [&b"live"[..], b"test"].contains(&environment)
        && plain(id, 12)
        && plain(secret, 49)
}

fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() < 2 {
        return;
    }
    match HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        Ok(joined) => drop(headers.insert(COOKIE, joined)),
        Err(_) => drop(headers.remove(COOKIE)),
    }
}
