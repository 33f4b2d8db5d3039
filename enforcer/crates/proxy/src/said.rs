//! What a client says of itself and of its errand: kept for the record, believed by nobody.

use std::sync::Arc;

use enforcer_model::TraceId;
use http::{HeaderMap, HeaderName, header};

/// Of what a client calls itself, so much is kept.
const USER_AGENT_BYTES_MAX: usize = 512;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The client's name for its software; bytes that are no text are replaced.
pub(crate) fn user_agent(headers: &HeaderMap) -> Option<Arc<str>> {
    let bytes = headers.get(header::USER_AGENT)?.as_bytes();
    let kept = bytes.get(..USER_AGENT_BYTES_MAX).unwrap_or(bytes);
    (!kept.is_empty()).then(|| String::from_utf8_lossy(kept).into())
}

/// The trace that the request is part of, where exactly one valid field names it.
pub(crate) fn trace(headers: &HeaderMap) -> Option<TraceId> {
    let mut fields = headers.get_all(TRACEPARENT).iter();
    let field = fields.next()?;
    fields.next().is_none().then(|| TraceId::from_traceparent(field.as_bytes())).flatten()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_long_name_is_cut_and_strange_bytes_are_replaced() {
        let name = |bytes: &[u8]| {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            user_agent(&HeaderMap::from_iter([(header::USER_AGENT, value)]))
        };

        assert_eq!(name(b"curl/8.5.0").as_deref(), Some("curl/8.5.0"));
        assert_eq!(name(&[b'x'; 600]).map(|name| name.len()), Some(USER_AGENT_BYTES_MAX));
        assert_eq!(name(b"caf\xe9").as_deref(), Some("caf\u{fffd}"));
        assert_eq!(name(b""), None);
        assert_eq!(user_agent(&HeaderMap::new()), None);
    }

    #[test]
    fn two_traces_are_none() {
        let field =
            HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, field.clone());
        assert_eq!(trace(&headers).unwrap().to_string(), "0af7651916cd43dd8448eb211c80319c");

        headers.append(TRACEPARENT, field);
        assert_eq!(trace(&headers), None);
    }
}
