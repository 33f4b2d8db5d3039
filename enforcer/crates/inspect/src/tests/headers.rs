//! Hosts, framing and fields.

use enforcer_model::Reason;
use http::{Request, Version};

use super::{accept, get, h2, plain, refuse};
use crate::{BLOCK_MAX, FIELDS_MAX, Host};

#[test]
fn a_host_has_one_spelling() {
    for (text, host) in [
        ("Example.COM", "example.com"),
        ("my_service", "my_service"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
        ("example.com:8443", "example.com"),
        ("[::1]:8443", "[::1]"),
    ] {
        assert_eq!(accept(get("/").header("host", text)).host.as_str(), host);
    }
}

#[test]
fn what_is_not_one_host_is_refused() {
    for text in [
        "",
        " ",
        ".",
        "a.",
        "a..b",
        ".a",
        "-a",
        "a-",
        "a b",
        "a/b",
        "a@b",
        "user:pw@a",
        "a:",
        "a:0",
        "a:x",
        "a:+80",
        "a:080",
        "a:65536",
        "a:80:80",
        "a,b",
        "a%2eb",
        "*",
        "*.a",
        "a\\b",
        "[::1",
        "::1",
        "[::1]a",
        "a[::1]",
        "[::1%25eth0]",
        "[v1.a]",
        "[]",
        "127.1",
        "0x7f.1",
        "010.0.0.1",
        "1.2.3.256",
        "2130706433",
        "0x7f000001",
        "\u{e4}.example",
    ] {
        assert_eq!(refuse(get("/").header("host", text)), Reason::HostMalformed, "{text:?}");
    }
    let long_label = "a".repeat(64);
    let long_name = ["a".repeat(60).as_str(); 5].join(".");
    for text in [long_label.as_str(), long_name.as_str()] {
        assert_eq!(refuse(get("/").header("host", text)), Reason::HostMalformed);
    }
    assert!("a:80".parse::<Host>().is_err());
}

#[test]
fn a_request_names_its_host_exactly_once() {
    assert_eq!(refuse(get("/")), Reason::HostMalformed);
    assert_eq!(refuse(get("/").version(Version::HTTP_10)), Reason::HostMalformed);
    assert_eq!(refuse(get("/").version(Version::HTTP_2)), Reason::HostMalformed);
    assert_eq!(refuse(plain().header("host", "h")), Reason::HostMalformed);
    assert_eq!(refuse(plain().header("host", "other")), Reason::HostMalformed);
    assert_eq!(refuse(get("http://h/")), Reason::HostMalformed);
    assert_eq!(accept(h2("https://h/")).host.as_str(), "h");
}

#[test]
fn host_and_target_agree_or_the_request_is_refused() {
    accept(h2("https://h/").header("host", "H"));
    accept(get("http://h:80/").header("host", "h:80"));
    for request in [
        h2("https://h/").header("host", "other"),
        h2("https://h:1/").header("host", "h:2"),
        h2("https://h:443/").header("host", "h"),
        get("http://h/").header("host", "other"),
    ] {
        assert_eq!(refuse(request), Reason::HostMismatch);
    }
    assert_eq!(refuse(h2("https://user@h/")), Reason::HostMalformed);
}

#[test]
fn a_tunnel_is_refused() {
    let connect = Request::connect("h:443").header("host", "h:443");

    assert_eq!(refuse(connect), Reason::ConnectRefused);
}

#[test]
fn a_request_that_asks_for_its_own_echo_is_refused() {
    let trace = Request::builder().method("TRACE").uri("/a").header("host", "h");

    assert_eq!(refuse(trace), Reason::TraceRefused);
}

#[test]
fn a_body_that_could_end_in_two_places_is_refused() {
    for fields in [
        &[("transfer-encoding", "chunked"), ("content-length", "5")][..],
        &[("content-length", "5"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "identity")],
        &[("transfer-encoding", "gzip, chunked")],
        &[("transfer-encoding", "chunked, chunked")],
        &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        &[("transfer-encoding", "xchunked")],
        &[("transfer-encoding", "chunked;a=b")],
        &[("transfer-encoding", "")],
        &[("content-length", "5"), ("content-length", "5")],
        &[("content-length", "5, 5")],
        &[("content-length", "+5")],
        &[("content-length", "-0")],
        &[("content-length", "0x5")],
        &[("content-length", "005")],
        &[("content-length", "")],
        &[("content-length", "5 6")],
        &[("content-length", "99999999999999999999")],
    ] {
        let request =
            fields.iter().fold(plain(), |request, (name, value)| request.header(*name, *value));

        assert_eq!(refuse(request), Reason::FramingAmbiguous, "{fields:?}");
    }
    for (version, name) in [(Version::HTTP_10, "1.0"), (Version::HTTP_2, "2")] {
        let request = plain().version(version).header("transfer-encoding", "chunked");
        assert_eq!(refuse(request), Reason::FramingAmbiguous, "{name}");
    }
}

#[test]
fn a_length_that_is_plain_passes() {
    for length in ["0", "1", "1048576", "999999999999999999"] {
        accept(plain().header("content-length", length));
    }
}

#[test]
fn every_way_to_ask_for_another_protocol_is_refused() {
    for (name, value) in [
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("connection", "Upgrade"),
        ("connection", "keep-alive, UPGRADE"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
    ] {
        assert_eq!(refuse(plain().header(name, value)), Reason::UpgradeRefused, "{name}");
    }
}

#[test]
fn http2_has_no_fields_about_a_connection() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("te", "gzip"),
    ] {
        assert_eq!(refuse(h2("https://h/").header(name, value)), Reason::HeaderMalformed, "{name}");
    }
    accept(h2("https://h/").header("te", "trailers"));
    accept(plain().header("te", "gzip").header("connection", "TE, close"));
}

#[test]
fn an_expectation_that_is_not_known_is_refused() {
    assert_eq!(refuse(plain().header("expect", "200-ok")), Reason::ExpectationFailed);
    assert_eq!(refuse(plain().header("expect", "y 100-continue")), Reason::ExpectationFailed);
}

#[test]
fn fields_that_ask_for_another_method_are_refused_in_every_spelling() {
    for name in [
        "x-http-method-override",
        "X-HTTP-Method",
        "x-method-override",
        "x_http_method_override",
        "x.method.override",
    ] {
        assert_eq!(refuse(plain().header(name, "DELETE")), Reason::MethodOverride, "{name}");
    }
}

#[test]
fn connection_cannot_remove_a_field_that_means_something() {
    for token in [
        "authorization",
        "Authorization",
        "x-api-key",
        "cookie",
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "x-forwarded-for",
        "X-Forwarded-Anything",
        "forwarded",
        "x-real-ip",
        "x-request-id",
        "enforcer-identity",
        "close, x-real-ip",
        "x_real_ip",
        "expect",
    ] {
        let reason = refuse(plain().header("connection", token));
        assert_eq!(reason, Reason::HeaderMalformed, "{token}");
    }
    let second = plain().header("connection", "close").header("connection", "x-api-key");
    assert_eq!(refuse(second), Reason::HeaderMalformed);
    assert_eq!(refuse(plain().header("connection", "a b")), Reason::HeaderMalformed);
    for token in ["close", "keep-alive", "x-hop", "", "close,,keep-alive"] {
        accept(plain().header("connection", token));
    }
}

#[test]
fn control_bytes_in_a_value_are_refused() {
    accept(plain().header("x-note", "a\tb \u{e4}"));
    // `http` refuses the others while it parses.
    for value in [&b"a\x00b"[..], b"a\rb", b"a\nb", b"a\x7fb", b"a\x1bb"] {
        assert!(http::HeaderValue::from_bytes(value).is_err());
    }
}

#[test]
fn a_block_has_a_bound_in_fields_and_in_bytes() {
    let fields = |count: usize| (1..count).fold(plain(), |request, _| request.header("a", "b"));
    let bytes = |count: usize| plain().header("a", "b".repeat(count));
    let host = "host".len() + "h".len() + 4;

    accept(fields(FIELDS_MAX));
    assert_eq!(refuse(fields(FIELDS_MAX + 1)), Reason::HeadersTooLarge);
    accept(bytes(BLOCK_MAX - host - 5));
    assert_eq!(refuse(bytes(BLOCK_MAX - host - 4)), Reason::HeadersTooLarge);
}
