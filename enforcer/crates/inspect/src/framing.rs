//! Where a request ends, and whether it stays a request: the ground of request smuggling.
//!
//! hyper frames the body, and repairs what it can; this module refuses what it is shown. RFC 9112
//! section 6, RFC 9113 section 8.2.2.

use enforcer_model::{Reason, Rejection};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, Version};

/// Why a body's end, or the protocol behind the head, is not certain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// CONNECT makes a tunnel; no route allows one.
    #[error("the method is CONNECT")]
    Connect,
    /// A field about one connection in a protocol that has no such fields.
    #[error("HTTP/2 has no `{0}` field")]
    ConnectionSpecific(HeaderName),
    /// Content-Length is repeated, a list, or not a plain number.
    #[error("Content-Length is not one plain number")]
    ContentLength,
    /// The method is written in another way than every method is.
    #[error("the method `{0}` is not in capital letters, digits and hyphens")]
    Method(Method),
    /// Expect asks for something else than `100-continue`.
    #[error("Expect is not `100-continue`")]
    Expect,
    /// TE in HTTP/2 is something else than `trailers`.
    #[error("TE is not `trailers`")]
    Te,
    /// TRACE echoes a request with all that was added on the way.
    #[error("the method is TRACE")]
    Trace,
    /// Not exactly one `chunked`, or not in HTTP/1.1.
    #[error("Transfer-Encoding is not one single `chunked` of HTTP/1.1")]
    TransferEncoding,
    /// Both ways to frame a body.
    #[error("Transfer-Encoding stands beside Content-Length")]
    TwoFramings,
    /// The client asks to speak another protocol than that of a well-formed WebSocket.
    #[error("the client asks for an upgrade by `{0}`")]
    Upgrade(HeaderName),
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

pub(crate) fn one_body(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
) -> Result<(), FramingError> {
    if method == Method::CONNECT {
        return Err(FramingError::Connect);
    }
    if method == Method::TRACE {
        return Err(FramingError::Trace);
    }
    if !is_plain_method(method.as_str().as_bytes()) {
        return Err(FramingError::Method(method.clone()));
    }
    transfer_encoding(version, headers)?;
    content_length(headers)?;
    if !headers.get_all(EXPECT).iter().all(|value| is(value, "100-continue")) {
        return Err(FramingError::Expect);
    }
    if version >= Version::HTTP_2 {
        for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION] {
            if headers.contains_key(&name) {
                return Err(FramingError::ConnectionSpecific(name));
            }
        }
        if !headers.get_all(TE).iter().all(|value| is(value, "trailers")) {
            return Err(FramingError::Te);
        }
    }
    Ok(())
}

/// Whether it cannot be taken for another: some servers read `get`, and some cut at other characters.
fn is_plain_method(method: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'-';
    method.first().is_some_and(u8::is_ascii_uppercase) && method.iter().all(plain)
}

fn transfer_encoding(version: Version, headers: &HeaderMap) -> Result<(), FramingError> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(_), _) if headers.contains_key(CONTENT_LENGTH) => Err(FramingError::TwoFramings),
        (Some(one), None) if version == Version::HTTP_11 && is(one, "chunked") => Ok(()),
        (Some(_), _) => Err(FramingError::TransferEncoding),
    }
}

fn content_length(headers: &HeaderMap) -> Result<(), FramingError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if is_plain_number(one.as_bytes()) => Ok(()),
        (Some(_), _) => Err(FramingError::ContentLength),
    }
}

fn is(value: &HeaderValue, word: &str) -> bool {
    value.as_bytes().eq_ignore_ascii_case(word.as_bytes())
}

/// Digits that every parser reads alike: no sign, no leading zero (some read octal), no overflow.
fn is_plain_number(text: &[u8]) -> bool {
    match text {
        b"0" => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < 18 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

impl From<FramingError> for Rejection {
    fn from(error: FramingError) -> Self {
        let reason = match error {
            FramingError::Connect => Reason::ConnectRefused,
            FramingError::ConnectionSpecific(_) | FramingError::Te => Reason::HeaderMalformed,
            FramingError::Expect => Reason::ExpectationFailed,
            FramingError::Method(_) => Reason::MethodMalformed,
            FramingError::ContentLength
            | FramingError::TransferEncoding
            | FramingError::TwoFramings => Reason::FramingAmbiguous,
            FramingError::Trace => Reason::TraceRefused,
            FramingError::Upgrade(_) => Reason::UpgradeRefused,
        };
        reason.because(error)
    }
}
