//! The promises of the crate: what is refused and why, what passes, and what is forwarded.

mod attacks;
mod exact;
mod forward;
mod forwarded;
mod headers;
mod paths;
mod queries;
mod upgrades;

use enforcer_model::Reason;
use http::request::{Builder, Parts};
use http::{Request, Version};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Head, normalise};

#[test]
fn an_ordinary_request_keeps_its_one_meaning() {
    let request = get("/v1/orders/7?page=2&q=a%20b").header("host", "API.Example.com:8443");

    let head = normalise(&parts(request)).unwrap();

    assert_eq!(head.method, "GET");
    assert_eq!(head.host.as_str(), "api.example.com");
    assert_eq!(head.path.as_str(), "/v1/orders/7");
    assert_eq!(head.query.as_deref(), Some("page=2&q=a%20b"));
    assert_eq!(head.target(), "/v1/orders/7?page=2&q=a%20b");
}

#[test]
fn an_empty_query_stays_an_empty_query() {
    assert_eq!(accept(get("/a?").header("host", "h")).target(), "/a?");
    assert_eq!(accept(get("/a").header("host", "h")).target(), "/a");
}

#[test]
fn requests_of_common_clients_pass() {
    let curl = get("/").header("host", "h").header("user-agent", "curl/8").header("accept", "*/*");
    let browser = get("/a")
        .header("host", "h")
        .header("connection", "keep-alive")
        .header("sec-ch-ua", "\"Chromium\";v=\"120\"")
        .header("cookie", "a=b; c=d");
    let upload = Request::post("/a")
        .header("host", "h")
        .header("content-length", "12")
        .header("expect", "100-continue");
    let stream = Request::post("/a").header("host", "h").header("transfer-encoding", "Chunked");
    let grpc = Request::post("https://h/pkg.Service/Call")
        .version(Version::HTTP_2)
        .header("te", "trailers")
        .header("content-type", "application/grpc");

    for request in [curl, browser, upload, stream, grpc] {
        accept(request);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Bytes of an attacker's: whatever the `http` crate lets through gets an answer.
    #[test]
    fn no_head_makes_it_panic(
        method in "[A-Z]{1,8}",
        target in vec(any::<u8>(), 0..40),
        fields in vec((field_name(), vec(any::<u8>(), 0..24)), 0..8),
        version in prop_oneof![
            Just(Version::HTTP_10), Just(Version::HTTP_11), Just(Version::HTTP_2)
        ],
    ) {
        let mut request = Request::builder().method(&*method).uri(&*target).version(version);
        for (name, value) in &fields {
            request = request.header(&**name, &**value);
        }
        let Ok(request) = request.body(()) else { return Ok(()) };

        if let Ok(head) = normalise(&request.into_parts().0) {
            prop_assert_eq!(head.path.as_str().parse(), Ok(head.path.clone()));
            prop_assert_eq!(head.host.as_str().parse(), Ok(head.host.clone()));
            prop_assert!(head.target().bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}

fn field_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("host".to_owned()),
        Just("connection".to_owned()),
        Just("content-length".to_owned()),
        Just("transfer-encoding".to_owned()),
        Just("cookie".to_owned()),
        "[a-z_.!-]{1,12}",
    ]
}

fn get(target: &str) -> Builder {
    Request::get(target)
}

/// A GET of `/` for a host, to which a test adds what it is about.
fn plain() -> Builder {
    get("/").header("host", "h")
}

fn h2(target: &str) -> Builder {
    get(target).version(Version::HTTP_2)
}

fn parts(request: Builder) -> Parts {
    request.body(()).unwrap().into_parts().0
}

fn accept(request: Builder) -> Head {
    let request = parts(request);
    normalise(&request).unwrap_or_else(|rejection| panic!("{request:?}: {}", rejection.chain()))
}

fn refuse(request: Builder) -> Reason {
    normalise(&parts(request)).expect_err("it has two meanings").reason
}
