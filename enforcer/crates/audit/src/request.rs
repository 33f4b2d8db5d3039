//! The canonical bytes of a request's record, written by hand: nothing else is written as often.
//!
//! They are those that [`Serialize`](serde::Serialize) of an [`Exchange`] gives; a test compares them.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use enforcer_model::{CacheUse, CredentialKind, Exchange, Exposed, HttpVersion, Peer, Role};
use enforcer_model::{Timestamp, TlsVersion, Who};

use crate::digits::{push_hex, push_number, push_time};

/// Appends `request` as a JSON object.
pub(crate) fn push(to: &mut Vec<u8>, request: &Exchange) {
    // Every field is named, so that none can be added and left out here.
    let Exchange {
        id,
        at,
        peer,
        source,
        source_by,
        source_doubt,
        listener,
        tls,
        ja4,
        user_agent,
        trace,
        http,
        method,
        host,
        path,
        route,
        who,
        incident,
        region,
        credential,
        status,
        reason,
        cause,
        rule,
        upstream,
        cache,
        bytes_in,
        bytes_out,
        exposed,
        duration,
        upstream_wait,
        policy,
    } = request;
    shown(to, br#"{"id":""#, id);
    to.extend_from_slice(br#"","at":""#);
    push_timestamp(to, *at);
    to.extend_from_slice(br#"","peer":""#);
    push_peer(to, peer);
    to.push(b'"');
    if let Some(source) = source {
        shown(to, br#","source":""#, source);
        to.push(b'"');
    }
    optional(to, br#","source_by":"#, source_by.map(|by| by.as_str()));
    optional(to, br#","source_doubt":"#, *source_doubt);
    named(to, br#","listener":"#, Some(listener));
    let tls = tls.map(|version| match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    });
    named(to, br#","tls":"#, tls);
    optional(to, br#","ja4":"#, ja4.as_deref());
    optional(to, br#","user_agent":"#, user_agent.as_deref());
    if let Some(trace) = trace {
        shown(to, br#","trace":""#, trace);
        to.push(b'"');
    }
    let http = match http {
        HttpVersion::H1 => "1.1",
        HttpVersion::H2 => "2",
    };
    named(to, br#","http":"#, Some(http));
    named(to, br#","method":"#, Some(method));
    named(to, br#","host":"#, host.as_deref());
    named(to, br#","path":"#, path.as_deref());
    named(to, br#","route":"#, route.as_deref());
    to.extend_from_slice(br#","who":"#);
    match who {
        Some(who) => push_who(to, who),
        None => to.extend_from_slice(b"null"),
    }
    if *incident > 0 {
        number(to, br#","incident":"#, (*incident).into());
    }
    optional(to, br#","region":"#, region.as_deref());
    to.extend_from_slice(br#","credential":"#);
    match credential {
        Some(credential) => push_digits(to, &credential.0),
        None => to.extend_from_slice(b"null"),
    }
    number(to, br#","status":"#, (*status).into());
    named(to, br#","reason":"#, reason.map(|reason| reason.as_str()));
    named(to, br#","cause":"#, cause.as_deref());
    named(to, br#","rule":"#, rule.as_deref());
    named(to, br#","upstream":"#, upstream.as_deref());
    let cache = cache.map(|usage| match usage {
        CacheUse::Hit => "hit",
        CacheUse::Miss => "miss",
        CacheUse::Revalidated => "revalidated",
        CacheUse::Stale => "stale",
    });
    optional(to, br#","cache":"#, cache);
    number(to, br#","bytes_in":"#, *bytes_in);
    number(to, br#","bytes_out":"#, *bytes_out);
    if let Some(Exposed { secrets, cards, accounts, emails }) = *exposed {
        let counts: [(&[u8], u32); 4] = [
            (br#""secrets":"#, secrets),
            (br#""cards":"#, cards),
            (br#""accounts":"#, accounts),
            (br#""emails":"#, emails),
        ];
        to.extend_from_slice(br#","exposed":"#);
        let mut before: &[u8] = b"{";
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            to.extend_from_slice(before);
            number(to, name, count.into());
            before = b",";
        }
        // Without a count it is an empty object.
        to.extend_from_slice(if before == b"{" { b"{}" } else { b"}" });
    }
    number(to, br#","duration_us":"#, micros(*duration));
    number(to, br#","upstream_us":"#, micros(*upstream_wait));
    named(to, br#","policy":"#, Some(policy));
    to.push(b'}');
}

fn push_who(to: &mut Vec<u8>, who: &Who) {
    let Who {
        principal,
        key,
        kind,
        role,
        roles,
        scopes,
        issuer,
        token,
        application,
        certificate,
        bound,
    } = who;
    named(to, br#"{"principal":"#, Some(principal.as_str()));
    named(to, br#","key":"#, key.as_ref().map(|key| key.as_str()));
    let kind = match kind {
        CredentialKind::ApiKey => "api-key",
        CredentialKind::Certificate => "certificate",
        CredentialKind::Token => "token",
    };
    named(to, br#","kind":"#, Some(kind));
    named(to, br#","role":"#, role.as_ref().map(Role::as_str));
    list(to, br#","roles":["#, roles.iter().map(Role::as_str));
    list(to, br#","scopes":["#, scopes.iter().map(|scope| &**scope));
    optional(to, br#","issuer":"#, issuer.as_deref());
    optional(to, br#","token":"#, token.as_deref());
    optional(to, br#","application":"#, application.as_deref());
    if let Some(certificate) = certificate {
        to.extend_from_slice(br#","certificate":"#);
        push_digits(to, &certificate.0);
    }
    optional(to, br#","bound":"#, *bound);
    to.push(b'}');
}

/// Appends a time as records say it, without quotes.
pub(crate) fn push_timestamp(to: &mut Vec<u8>, time: Timestamp) {
    if push_time(to, time.unix_ns() / 1_000).is_none() {
        shown(to, b"", &time);
    }
}

fn push_peer(to: &mut Vec<u8>, peer: &Peer) {
    match peer {
        Peer::Tcp(SocketAddr::V4(address)) => {
            let mut mark = None;
            for part in address.ip().octets() {
                to.extend(mark.replace(b'.'));
                push_number(to, part.into());
            }
            to.push(b':');
            push_number(to, address.port().into());
        }
        Peer::Tcp(SocketAddr::V6(_)) | Peer::Unix { .. } => shown(to, b"", peer),
    }
}

/// Appends `name` and what `value` is shown as, which is nothing that JSON escapes.
fn shown(to: &mut Vec<u8>, name: &[u8], value: &impl std::fmt::Display) {
    to.extend_from_slice(name);
    // A vector takes everything.
    write!(to, "{value}").unwrap_or_default();
}

fn number(to: &mut Vec<u8>, name: &[u8], value: u64) {
    to.extend_from_slice(name);
    push_number(to, value);
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A field that is there with and without a value.
fn named(to: &mut Vec<u8>, name: &[u8], value: Option<&str>) {
    to.extend_from_slice(name);
    match value {
        Some(value) => push_string(to, value),
        None => to.extend_from_slice(b"null"),
    }
}

/// A field that is left out without a value.
fn optional(to: &mut Vec<u8>, name: &[u8], value: Option<&str>) {
    if value.is_some() {
        named(to, name, value);
    }
}

fn list<'a>(to: &mut Vec<u8>, name: &[u8], values: impl Iterator<Item = &'a str>) {
    let mut mark = name;
    for value in values {
        to.extend_from_slice(mark);
        push_string(to, value);
        mark = b",";
    }
    if mark.len() == 1 {
        to.push(b']');
    }
}

fn push_digits(to: &mut Vec<u8>, bytes: &[u8]) {
    to.push(b'"');
    push_hex(to, bytes.iter().copied());
    to.push(b'"');
}

/// Appends `text` as a JSON string.
pub(crate) fn push_string(to: &mut Vec<u8>, text: &str) {
    if has_special(text.as_bytes()) {
        // A vector takes everything.
        return serde_json::to_writer(to, text).unwrap_or_default();
    }
    to.push(b'"');
    to.extend_from_slice(text.as_bytes());
    to.push(b'"');
}

/// Whether JSON escapes anything in `text`: a control character, a quote or a backslash.
fn has_special(text: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 0xFF;
    const HIGH: u64 = ONES << 7;
    let (words, rest) = text.as_chunks::<8>();
    let mut last = [b' '; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let mut found = 0;
    for word in words.iter().chain([&last]) {
        let word = u64::from_le_bytes(*word);
        // The high bit of a byte is set where it, less what is looked for, is below zero. A borrow
        // may set that of the byte behind such a one, and of no other.
        let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
        let quote = word ^ (ONES * u64::from(b'"'));
        let slash = word ^ (ONES * u64::from(b'\\'));
        found |= (below(word, 0x20) | below(quote, 1) | below(slash, 1)) & HIGH;
    }
    found != 0
}

#[cfg(test)]
mod tests {
    use enforcer_model::{
        Fingerprint, Principal, Reason, RequestId, SourceBy, Thumbprint, TraceId,
    };
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_request_is_written_as_its_fields_say(request in requests()) {
            let mut ours = Vec::new();
            push(&mut ours, &request);
            prop_assert_eq!(
                String::from_utf8(ours).unwrap(),
                serde_json::to_string(&request).unwrap()
            );
        }

        #[test]
        fn any_text_is_escaped_as_elsewhere(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut ours = Vec::new();
            push_string(&mut ours, &text);
            prop_assert_eq!(String::from_utf8(ours).unwrap(), serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn any_time_is_written_as_elsewhere(ns in any::<u64>()) {
            let time = Timestamp::from_unix_ns(ns);
            let mut ours = Vec::new();
            push_timestamp(&mut ours, time);
            prop_assert_eq!(String::from_utf8(ours).unwrap(), time.to_string());
        }
    }

    /// Requests with and without each of their fields.
    fn requests() -> impl Strategy<Value = Exchange> {
        let texts = || prop::collection::vec(prop::option::of("[ -~\\n\"\\\\é]{0,12}"), 24);
        let peer = prop_oneof![
            any::<([u8; 4], u16)>().prop_map(|(ip, port)| Peer::Tcp((ip, port).into())),
            any::<([u16; 8], u16)>().prop_map(|(ip, port)| Peer::Tcp((ip, port).into())),
            any::<(u32, u32, u32)>().prop_map(|(uid, gid, pid)| Peer::Unix { uid, gid, pid }),
        ];
        (texts(), peer, any::<[u64; 14]>(), any::<[bool; 11]>())
            .prop_map(|(texts, peer, numbers, flags)| exchange(&texts, peer, &numbers, &flags))
    }

    fn exchange(
        texts: &[Option<String>],
        peer: Peer,
        numbers: &[u64; 14],
        flags: &[bool; 11],
    ) -> Exchange {
        let text = |at: usize| texts[at].as_deref().map(Into::into);
        let owned = |at: usize| texts[at].clone();
        let mut digest = [0; 32];
        digest.iter_mut().zip(numbers.iter().cycle()).for_each(|(to, from)| {
            *to = from.to_be_bytes()[3];
        });
        let who = Who {
            key: flags[0].then(|| "k7Qx2mP9aB3c".parse().unwrap()),
            role: owned(0).map(|name| Role::new(&name)),
            roles: texts[1..4].iter().flatten().map(|name| Role::new(name)).collect(),
            scopes: texts[4..6].iter().flatten().map(|name| name.as_str().into()).collect(),
            issuer: text(6),
            token: text(7),
            application: text(8),
            certificate: flags[1].then_some(Thumbprint(digest)),
            bound: flags[2].then_some("dpop"),
            ..Who::new(
                Principal::from_token("corp", &owned(9).unwrap_or_default()),
                match numbers[0] % 3 {
                    0 => CredentialKind::ApiKey,
                    1 => CredentialKind::Certificate,
                    _ => CredentialKind::Token,
                },
            )
        };
        let elsewhere: SocketAddr = "[2001:db8::7]:1".parse().unwrap();
        let trace = format!("00-{:032x}-00f067aa0ba902b7-01", numbers[1]);
        let reasons = [Reason::LimitKey, Reason::Quarantined, Reason::Shed];
        let caches = [CacheUse::Hit, CacheUse::Miss, CacheUse::Revalidated, CacheUse::Stale];
        let one = |at: usize, of: usize| usize::try_from(numbers[at]).unwrap() % of;
        Exchange {
            id: RequestId::from_bits(u128::from(numbers[2]) << 64 | u128::from(numbers[3])),
            at: Timestamp::from_unix_ns(numbers[4]),
            peer,
            source: flags[3].then(|| Peer::Tcp(elsewhere).source()),
            source_by: flags[3].then_some(SourceBy::ProxyProtocol),
            source_doubt: flags[4].then_some("too many"),
            listener: owned(10).unwrap_or_default().into(),
            tls: flags[5].then_some(if flags[6] { TlsVersion::V1_2 } else { TlsVersion::V1_3 }),
            ja4: text(11),
            user_agent: text(12),
            trace: TraceId::from_traceparent(trace.as_bytes()),
            http: if flags[7] { HttpVersion::H1 } else { HttpVersion::H2 },
            method: owned(13).unwrap_or_default(),
            host: owned(14),
            path: owned(15),
            route: text(16),
            who: flags[8].then_some(who),
            incident: numbers[5].to_be_bytes()[0] % 4,
            region: text(17),
            credential: flags[9].then_some(Fingerprint(*digest.first_chunk().unwrap())),
            status: u16::try_from(numbers[6] % 1_000).unwrap(),
            reason: reasons.get(one(7, 4)).copied(),
            cause: owned(18),
            rule: owned(19),
            upstream: text(20),
            cache: caches.get(one(8, 5)).copied(),
            bytes_in: numbers[9],
            bytes_out: numbers[10] >> 40,
            exposed: flags[10].then(|| Exposed {
                secrets: u32::try_from(numbers[12] % 3).unwrap(),
                cards: u32::try_from(numbers[12] >> 62).unwrap(),
                accounts: u32::try_from(numbers[13] >> 63).unwrap(),
                emails: u32::try_from(numbers[13] & 0xFFFF).unwrap(),
            }),
            duration: Duration::from_nanos(numbers[11]),
            upstream_wait: Duration::from_micros(numbers[11] >> 50),
            policy: owned(21).unwrap_or_default().into(),
        }
    }
}
