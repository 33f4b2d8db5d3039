//! A request head: one meaning or none, and what an upstream gets to see of it.

use std::net::{IpAddr, Ipv4Addr};

use enforcer_inspect::{
    BLOCK_MAX, Chain, FIELDS_MAX, Head, Host, forwarding_headers, normalise, strip,
};
use enforcer_model::{RequestId, Source};
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Uri, Version};

use super::fields;
use super::header_set::{as_cgi_sees, is_claim};
use super::key::is_any_key;
use super::path::one_meaning;

/// Fields whose meaning does not survive a second name in a CGI environment.
const WITHOUT_TWIN: &[&str] =
    &["AUTHORIZATION", "CONTENT_LENGTH", "CONTENT_TYPE", "COOKIE", "HOST", "TRANSFER_ENCODING"];

/// Fields of one connection.
const HOP_BY_HOP: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"];

/// A head as HTTP/1.1 writes it; an absolute target and `HTTP/2` stand for pseudo-header fields.
///
/// An accepted path is the one that was sent, byte for byte; no decoder finds a dot segment, an
/// empty segment, a separator or another escape in it; read again it is the same, and what is
/// forwarded says the same once more. An accepted head frames one body in one way, names one host,
/// and leaves no claim of the client's about itself after [`strip`].
pub fn request_head(bytes: &[u8]) {
    let Some(parts) = parts(bytes) else { return };
    match normalise(&parts) {
        Err(refused) => {
            let status = refused.reason.status();
            assert!((400..500).contains(&status) && status != 401, "{}", refused.reason);
            assert!(!refused.chain().is_empty());
        }
        Ok(head) => {
            framing(&parts);
            path(&parts, &head);
            host(&parts, &head.host);
            again(&parts, &head);
            upstream(parts.headers, &head.host);
        }
    }
}

fn parts(bytes: &[u8]) -> Option<Parts> {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, block) = bytes.split_at(end);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let mut words = words.next()?.rsplitn(2, |byte| *byte == b' ');
    let version = match words.next()? {
        b"HTTP/1.0" => Version::HTTP_10,
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/2" => Version::HTTP_2,
        _ => return None,
    };
    let uri = Uri::try_from(words.next()?).ok()?;
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, fields(block));
    Some(parts)
}

fn framing(parts: &Parts) {
    let headers = &parts.headers;
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(headers.len() <= FIELDS_MAX && size <= BLOCK_MAX, "{} fields", headers.len());
    assert_ne!(parts.method, Method::CONNECT);
    let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => {}
        ([length], []) => {
            let number = length.to_str().ok().and_then(|text| text.parse::<u64>().ok());
            let spelled = number.map(|number| number.to_string());
            assert_eq!(spelled.as_deref(), length.to_str().ok(), "{length:?} is read two ways");
        }
        ([], [coding]) => {
            assert!(coding.as_bytes().eq_ignore_ascii_case(b"chunked"), "{coding:?}");
            assert_eq!(parts.version, Version::HTTP_11, "who else reads a chunked body?");
        }
        _ => panic!("{lengths:?} and {codings:?} frame one body"),
    }
    for (name, value) in headers {
        let odd = |byte: &u8| matches!(byte, 0..=8 | 10..=31 | 127);
        assert!(!value.as_bytes().iter().any(odd), "{name} ends a line, or more");
    }
}

fn path(parts: &Parts, head: &Head) {
    let path = head.path.as_str();
    assert_eq!(path, parts.uri.path(), "the path was repaired");
    assert_eq!(head.query.as_deref(), parts.uri.query(), "the query was repaired");
    assert_eq!(head.method, parts.method);
    assert!(head.target().bytes().all(|byte| byte.is_ascii_graphic()));
    one_meaning(path);
}

fn host(parts: &Parts, host: &Host) {
    let text = host.as_str();
    assert_eq!(text, text.to_ascii_lowercase());
    assert!(!text.is_empty() && !text.ends_with('.') && !text.contains(['@', '/', '%', ' ']));
    assert_eq!(text.parse().as_ref(), Ok(host));
    let fields = parts.headers.get_all(HOST).iter();
    let named: Vec<&str> = fields
        .map(|value| value.to_str().unwrap_or_default())
        .chain(parts.uri.authority().map(|authority| authority.as_str()))
        .collect();
    assert!(!named.is_empty(), "a host out of nothing");
    for name in named {
        let name = name.to_ascii_lowercase();
        // An IPv6 address has many spellings; the crate's is the shortest.
        let rest = if text.starts_with('[') {
            name.rsplit_once(']').map(|(_, rest)| rest)
        } else {
            name.strip_prefix(text)
        };
        let port = |rest: &str| rest.strip_prefix(':').is_some_and(|n| n.parse::<u16>().is_ok());
        assert!(rest.is_some_and(|rest| rest.is_empty() || port(rest)), "{name} became {text}");
    }
}

fn again(parts: &Parts, head: &Head) {
    let (mut forwarded, ()) = Request::new(()).into_parts();
    forwarded.method = head.method.clone();
    forwarded.uri = head.target().parse().expect("an accepted target is a target");
    forwarded.headers = parts.headers.clone();
    forwarded.version = Version::HTTP_11;
    let host = head.host.as_str().parse().expect("a canonical host is a value");
    forwarded.headers.insert(HOST, host);
    assert_eq!(forwarded.uri.path(), head.path.as_str(), "the upstream reads another path");
    assert_eq!(normalise(&forwarded).ok().as_ref(), Some(head), "read again it is another request");
}

fn upstream(mut headers: HeaderMap, host: &Host) {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    strip(&mut headers);

    for (name, value) in &headers {
        let name = name.as_str();
        assert!(!HOP_BY_HOP.contains(&name), "{name} belongs to one connection");
        assert!(!named.iter().any(|other| other == name), "Connection named {name}");
        let seen = as_cgi_sees(name);
        assert!(!is_claim(&seen), "{name} is the client's claim");
        let twin = WITHOUT_TWIN.iter().any(|other| seen == *other && name.contains('_'));
        assert!(!twin, "{name} is read as another field");
        if name == AUTHORIZATION.as_str() || name == "x-api-key" {
            let mut words = value.as_bytes().split(|byte| b" \t,".contains(byte));
            let ours = words
                .any(|word| word.to_ascii_lowercase().starts_with(b"enf_") || is_any_key(word));
            assert!(!ours, "a key of ours goes on");
        }
    }

    let source = Source::new(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let chain = Chain { source, hops: &[], by: None };
    forwarding_headers(&mut headers, chain, host, true, RequestId::from_bits(7));
    for (name, ours) in [
        ("host", host.as_str()),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", host.as_str()),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "00000000000000000000000000000007"),
    ] {
        let told: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(told, [ours], "{name}");
    }
}
