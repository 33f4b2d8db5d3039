//! The raw bytes of a request: nothing ambiguous passes, and what passes is its own canonical form.

use enforcer_inspect::{Head, strip};
use enforcer_proxy::first_request;
use http::HeaderMap;
use http::header::HOST;

/// Bytes of a connection, from the first one on.
///
/// A request that passes stands in whole lines, each ended by CR LF alone, after at most one empty one;
/// names one host and frames its body in one way; and its target has no fragment. Written as it is
/// forwarded, it is read as the same request again.
pub fn canonical_request(bytes: &[u8]) {
    let Some(read) = first_request(bytes) else { return };
    let (head, headers) = match read {
        Ok(read) => read,
        Err(refused) => {
            let status = refused.reason.status();
            assert!((400..500).contains(&status) && status != 401, "{}", refused.reason);
            return;
        }
    };
    plain(bytes);
    let canonical = written(&head, headers);

    let (again, headers) = first_request(&canonical)
        .expect("what is forwarded is a request")
        .unwrap_or_else(|refused| panic!("{}: {canonical:?}", refused.chain()));

    assert_eq!(again, head, "the upstream reads another request");
    assert_eq!(written(&again, headers), canonical, "a canonical request has another form");
}

/// The raw head, looked at line by line.
fn plain(bytes: &[u8]) {
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head has an end");
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    let mut lines = text.split("\r\n");
    let first = lines.next().expect("a head has a line");
    let words: Vec<&str> = first.split(' ').collect();
    assert!(matches!(words[..], [_, _, "HTTP/1.0" | "HTTP/1.1"]), "{first:?}");
    assert!(!first.contains(['#', '\t', '\n', '\r']), "{first:?}");
    let (mut framings, mut hosts) = (0, 0);
    for line in lines {
        assert!(!line.contains(['\n', '\r', '\0']), "{line:?}");
        let (name, value) = line.split_once(':').expect("a field has a colon");
        assert!(!name.is_empty() && !name.contains([' ', '\t']), "{line:?}");
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("content-length") {
            framings += 1;
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            assert!(digits, "{line:?}");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framings += 1;
            assert!(value.eq_ignore_ascii_case("chunked"), "{line:?}");
        } else if name.eq_ignore_ascii_case("host") {
            hosts += 1;
        }
    }
    assert!(framings <= 1, "two framings: {text:?}");
    assert_eq!(hosts, 1, "hosts: {text:?}");
}

/// The request as an upstream gets it, but for what we say ourselves.
fn written(head: &Head, mut headers: HeaderMap) -> Vec<u8> {
    strip(&mut headers);
    headers.remove(HOST);
    let line =
        format!("{} {} HTTP/1.1\r\nhost: {}\r\n", head.method, head.target(), head.host.as_str());
    let mut bytes = line.into_bytes();
    // In which order different fields stand means nothing (RFC 9110 section 5.3).
    let mut fields: Vec<_> = headers.iter().collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in fields {
        bytes.extend(name.as_str().bytes().chain(*b": ").chain(value.as_bytes().iter().copied()));
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes
}
