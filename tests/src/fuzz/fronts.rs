//! What stands before a request: PROXY headers, forwarding fields, a client's hello.

use std::net::IpAddr;

use enforcer_inspect::{HOPS_MAX, walk};
use enforcer_model::Source;
use enforcer_proxy::ja4::{self, Hello, hello};
use enforcer_proxy::proxy_protocol::{Announced, HEADER_MAX, Header, parse};
use http::HeaderMap;
use http::header::{FORWARDED, HeaderName, HeaderValue};

use super::fields;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The honest end of a chain that a proxy writes behind what its client sent.
const CLIENT: &str = "203.0.113.7";

/// The first bytes of a connection.
///
/// What a header says does not depend on where the bytes are cut or on what follows; it is no longer
/// than it may be, and the address is one that a client can have, in its one spelling. Two headers of
/// one client, in either version, say the same.
pub fn proxy_protocol(bytes: &[u8]) {
    let whole = parse(bytes);
    for cut in 0..bytes.len().min(HEADER_MAX + 32) {
        match parse(bytes.get(..cut).unwrap_or_default()) {
            Ok(Header::Unfinished) => {}
            other => {
                assert_eq!(other, whole, "cut at {cut}");
                break;
            }
        }
    }
    let Ok(Header::Complete(length, announced)) = whole else { return };
    assert!((1..=HEADER_MAX).contains(&length) && length <= bytes.len(), "{length}");
    let Announced::Client(address) = announced else { return };
    assert_eq!(address, address.to_canonical());
    assert!(!address.is_unspecified() && !address.is_multicast(), "{address}");
    let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!("PROXY {family} {address} {address} 1 2\r\n");
    let again = Ok(Header::Complete(line.len(), announced));
    assert_eq!(parse(line.as_bytes()), again, "{line}");
    assert_eq!(
        parse(&binary(address)).ok(),
        Some(Header::Complete(binary(address).len(), announced))
    );
}

fn binary(address: IpAddr) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(v4) => (0x11, v4.octets().to_vec()),
        IpAddr::V6(v6) => (0x21, v6.octets().to_vec()),
    };
    let said = [&octets[..], &octets, &[0; 4]].concat();
    let length = u8::try_from(said.len()).expect("at most 36");
    [b"\r\n\r\n\0\r\nQUIT\n\x21".as_slice(), &[family, 0, length], &said].concat()
}

/// Fields of a request from a trusted proxy, one in a line.
///
/// Every hop but the source was named by one that is trusted, hops are bounded, and a doubt is told
/// only of one that is trusted. Whatever stands there, what the proxy writes behind it decides.
pub fn forwarded(bytes: &[u8]) {
    let headers = fields(bytes);
    let peer = source("10.0.0.5");
    if let Ok(Some(walk)) = walk(&headers, peer, is_trusted) {
        let (last, named) = walk.hops.split_first().expect("the peer at least");
        assert_eq!(walk.source(), *last);
        assert!(walk.hops.len() <= HOPS_MAX && named.iter().all(|hop| is_trusted(*hop)));
        assert!(walk.doubt.is_none() || is_trusted(*last), "{walk:?}");
        assert!(!last.address().is_unspecified() && !last.address().is_multicast());
    }
    for (name, honest) in [(FORWARDED, format!("for={CLIENT}")), (X_FORWARDED_FOR, CLIENT.into())] {
        let mut same_line = HeaderMap::new();
        for value in headers.get_all(&name) {
            same_line.append(&name, value.clone());
        }
        let mut new_line = same_line.clone();
        new_line.append(&name, HeaderValue::from_str(&honest).expect("plain text"));
        let values: Vec<&[u8]> =
            same_line.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        let line = [&values.join(&b", "[..])[..], b", ", honest.as_bytes()].concat();
        same_line.insert(&name, HeaderValue::from_bytes(&line).expect("of values"));
        for headers in [new_line, same_line] {
            let walk = walk(&headers, peer, is_trusted).expect("one field").expect("one hop");
            assert_eq!((walk.source(), walk.doubt), (source(CLIENT), None), "{headers:?}");
        }
    }
}

fn is_trusted(source: Source) -> bool {
    matches!(source.address(), IpAddr::V4(v4) if v4.octets()[0] == 10)
}

fn source(address: &str) -> Source {
    Source::new(address.parse().expect("an address"))
}

/// The first bytes of a TLS connection.
///
/// A hello is the same wherever the bytes are cut; its fingerprint has the one form, and neither the
/// random bytes nor the session id of the client change it.
pub fn ja4(bytes: &[u8]) {
    let whole = hello(bytes);
    for cut in 0..bytes.len() {
        match hello(bytes.get(..cut).unwrap_or_default()) {
            Hello::Unfinished => {}
            other @ (Hello::Other | Hello::Whole(_)) => {
                assert_eq!(other, whole, "cut at {cut}");
                break;
            }
        }
    }
    let Hello::Whole(body) = whole else { return };
    assert!(body.len() <= ja4::BYTES_MAX);
    let Some(text) = ja4::ja4(&body) else { return };
    let [head, ciphers, extensions] = text.split('_').collect::<Vec<_>>()[..] else {
        panic!("{text}")
    };
    assert_eq!((head.len(), ciphers.len(), extensions.len()), (10, 12, 12), "{text}");
    assert!(head.starts_with('t') && matches!(head.as_bytes().get(3), Some(b'd' | b'i')), "{text}");
    assert!(head.bytes().skip(4).take(4).all(|byte| byte.is_ascii_digit()), "{text}");
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    assert!(ciphers.bytes().chain(extensions.bytes()).all(is_hex), "{text}");
    let mut other = body;
    for byte in other.iter_mut().skip(2).take(32) {
        *byte = !*byte;
    }
    assert_eq!(ja4::ja4(&other).as_deref(), Some(&*text));
}
