//! The opening of a WebSocket: whole, or refused.

use enforcer_model::Reason;
use http::request::Builder;
use http::{Request, Version};

use super::{get, parts};
use crate::{Upgrade, normalise, normalise_or};

#[test]
fn a_whole_opening_passes_for_a_route_to_allow_and_for_nobody_else() {
    for request in [
        opening(&[]),
        opening(&[]).header("connection", "keep-alive"),
        opening(&[]).header("content-length", "0"),
        opening(&[]).header("sec-websocket-protocol", "chat, superchat"),
        opening(&["connection"]).header("connection", "keep-alive, upgrade"),
        opening(&["upgrade"]).header("upgrade", "WebSocket"),
    ] {
        let request = parts(request);

        let head = normalise_or(&request, |_, _| false).unwrap();

        assert_eq!(head.upgrade, Some(Upgrade::WebSocket));
        assert_eq!(normalise(&request).unwrap_err().reason, Reason::UpgradeRefused);
    }
    let plain = normalise_or(&parts(get("/").header("host", "h")), |_, _| false).unwrap();
    assert_eq!(plain.upgrade, None);
}

#[test]
fn anything_less_than_a_whole_opening_is_refused() {
    let cases = [
        opening(&["upgrade"]),
        opening(&["connection"]),
        opening(&["sec-websocket-key"]),
        opening(&["sec-websocket-version"]),
        opening(&["sec-websocket-version"]).header("sec-websocket-version", "8"),
        opening(&[]).header("sec-websocket-version", "13"),
        opening(&["sec-websocket-key"]).header("sec-websocket-key", "short=="),
        opening(&[]).header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        opening(&["upgrade"]).header("upgrade", "h2c"),
        opening(&["upgrade"]).header("upgrade", "websocket, h2c"),
        opening(&[]).header("upgrade", "websocket"),
        opening(&[]).header("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
        opening(&[]).header("content-length", "5"),
        opening(&[]).header("transfer-encoding", "chunked"),
        opening(&[]).header("expect", "100-continue"),
        opening(&[]).method("POST"),
        opening(&[]).version(Version::HTTP_10),
    ];
    for request in cases {
        let request = parts(request);

        let refused = normalise_or(&request, |_, _| true).unwrap_err();

        assert_eq!(refused.reason, Reason::UpgradeRefused, "{request:?}");
    }
}

/// The opening of RFC 6455 section 1.3, without the fields of `left_out`.
fn opening(left_out: &[&str]) -> Builder {
    let fields = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    let wanted = fields.iter().filter(|(name, _)| !left_out.contains(name));
    let request = Request::get("/chat").header("host", "h");
    wanted.fold(request, |request, (name, value)| request.header(*name, *value))
}
