//! Whether a request asks to leave HTTP: by the opening of a WebSocket, or not at all.
//!
//! What is not the whole opening of RFC 6455 section 4.2.1 is refused like every other upgrade: a
//! half of one is how a proxy is made to think of a tunnel where the upstream thinks of requests.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Version};

use crate::framing::FramingError;
use crate::headers::{one_value, tokens};

/// The protocol that a client wants to speak behind the head. Only a route that says so allows one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upgrade {
    /// RFC 6455, version 13.
    WebSocket,
}

/// Sent with an upgrade to HTTP/2 in clear text, RFC 7540 section 3.2.1.
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The protocol asked for, or none.
pub(crate) fn of(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
) -> Result<Option<Upgrade>, FramingError> {
    if headers.contains_key(HTTP2_SETTINGS) {
        return Err(FramingError::Upgrade(HTTP2_SETTINGS));
    }
    let named = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    match (headers.contains_key(UPGRADE), named) {
        (false, false) => Ok(None),
        (true, true) if is_websocket(method, version, headers) => Ok(Some(Upgrade::WebSocket)),
        (true, _) => Err(FramingError::Upgrade(UPGRADE)),
        (false, true) => Err(FramingError::Upgrade(CONNECTION)),
    }
}

fn is_websocket(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    let upgrade = one_value(headers, &UPGRADE).is_some_and(|v| v.eq_ignore_ascii_case("websocket"));
    upgrade
        && method == Method::GET
        && version == Version::HTTP_11
        && !headers.contains_key(TRANSFER_ENCODING)
        && !headers.contains_key(EXPECT)
        && matches!(length, None | Some(b"0"))
        && one_value(headers, &SEC_WEBSOCKET_VERSION) == Some("13")
        && one_value(headers, &SEC_WEBSOCKET_KEY).is_some_and(is_nonce)
}

/// Base64 of sixteen bytes.
fn is_nonce(key: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key.strip_suffix("==").is_some_and(|digits| digits.bytes().all(digit))
}

impl Upgrade {
    /// As a policy writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
        }
    }
}
