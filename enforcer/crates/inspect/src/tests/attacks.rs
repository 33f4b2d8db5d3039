//! How others fell, one test each: the request of the advisory is refused here, or cannot matter.

use enforcer_model::Reason;
use http::{HeaderMap, HeaderValue};

use super::{accept, get, parts, plain, refuse};
use crate::{fold, normalise, strip};

/// Envoy did not normalise paths, so `/public/../admin` matched the rule of `/public`.
#[test]
fn cve_2019_9901_a_path_that_is_not_normalised() {
    for path in ["/public/../admin", "/public/%2e%2e/admin", "/public/./../admin"] {
        assert_eq!(path_reason(path), Reason::PathDotSegment, "{path}");
    }
    assert_eq!(path_reason("/public//admin"), Reason::PathEmptySegment);
}

/// Envoy matched `%2F` and `%5C` as ordinary characters, and upstreams decoded them.
#[test]
fn cve_2021_29492_escaped_slashes() {
    for path in ["/public%2f..%2fadmin", "/public%2Fadmin", "/public%5cadmin", "/public%5Cadmin"] {
        assert_eq!(path_reason(path), Reason::PathEncodedSeparator, "{path}");
    }
}

/// Istio's path rules were passed by repeated and escaped slashes.
#[test]
fn cve_2021_31920_repeated_and_escaped_slashes() {
    assert_eq!(path_reason("//admin"), Reason::PathEmptySegment);
    assert_eq!(path_reason("/a//admin"), Reason::PathEmptySegment);
    assert_eq!(path_reason("/%2fadmin"), Reason::PathEncodedSeparator);
}

/// OPA's Envoy plugin parsed `//host/path` as an authority with a path, and judged the wrong one.
#[test]
fn cve_2026_26205_a_path_that_begins_like_an_authority() {
    for path in ["//admin/secret", "//a@b/admin", "///admin"] {
        let request = get("/").header("host", "h").uri(path);

        // Refused by us, or by the parser of targets before us.
        if let Ok(request) = request.body(()) {
            let refused = normalise(&request.into_parts().0).unwrap_err();
            assert_eq!(refused.reason, Reason::PathEmptySegment, "{path}");
        }
    }
}

/// Traefik routed `/public/../admin` as public; its `StripPrefix` then resolved the dots.
#[test]
fn cve_2026_48020_dots_behind_a_prefix_that_is_stripped() {
    for path in ["/public/../admin", "/public/%2e%2e/admin", "/public/%2E./admin", "/public/.."] {
        assert_eq!(path_reason(path), Reason::PathDotSegment, "{path}");
    }
}

/// Traefik measured a prefix in the decoded path and cut the encoded one, which left `/./admin`.
#[test]
fn cve_2026_40912_a_decoded_prefix_cut_from_an_encoded_path() {
    for path in ["/%61pi./admin", "/api%2e/admin", "/ap%69../admin"] {
        assert_eq!(path_reason(path), Reason::PathMalformed, "{path}");
    }
}

/// Traefik's matchers took the escapes of `/`, `\`, NUL, `;`, `?` and `#` for ordinary characters.
#[test]
fn cve_2025_66490_escapes_of_characters_with_a_meaning() {
    for (path, reason) in [
        ("/public%2fadmin", Reason::PathEncodedSeparator),
        ("/public%5cadmin", Reason::PathEncodedSeparator),
        ("/admin%00", Reason::PathControlByte),
        ("/admin%3b", Reason::PathMatrixParameter),
        ("/admin%3f", Reason::PathEncodedSeparator),
        ("/admin%23", Reason::PathEncodedSeparator),
    ] {
        assert_eq!(path_reason(path), reason, "{path}");
    }
}

/// oauth2-proxy judged the path of a client's X-Forwarded-Uri instead of the one it forwarded.
#[test]
fn cve_2026_40575_a_header_that_claims_another_path() {
    let mut request = parts(get("/admin").header("host", "h").header("x-forwarded-uri", "/public"));

    let head = normalise(&request).unwrap();
    strip(&mut request.headers);

    assert_eq!(head.path.as_str(), "/admin");
    assert!(!request.headers.contains_key("x-forwarded-uri"));
}

/// oauth2-proxy stripped `X-Forwarded-User` and let `X_Forwarded_User` through, which WSGI reads
/// alike.
#[test]
fn cve_2025_64484_underscore_twins() {
    for name in [
        "x_forwarded_user",
        "X_Forwarded-For",
        "x-real_ip",
        "enforcer_identity",
        "x_api_key",
        "content_length",
        "transfer_encoding",
        "x.forwarded.for",
        "x~real~ip",
        "x_spiffe_id",
        "x_forwarded_client_cert",
        "remote_user",
        "x_user",
        "sec_websocket_key",
    ] {
        assert_eq!(refuse(plain().header(name, "admin")), Reason::HeaderMalformed, "{name}");
    }
    accept(plain().header("x_custom", "1").header("my_header", "2"));
}

/// Behind a gateway interface `Proxy` becomes `HTTP_PROXY`, through which applications then called.
#[test]
fn cve_2016_5385_a_field_that_becomes_the_proxy_of_the_application() {
    let mut headers = HeaderMap::new();
    headers.insert("proxy", HeaderValue::from_static("http://192.0.2.1/"));

    strip(&mut headers);

    assert!(headers.is_empty());
}

/// Fabio removed forwarding headers that `Connection` named, after it had set them.
#[test]
fn cve_2025_48865_connection_names_a_forwarding_header() {
    for token in ["x-forwarded-for", "X-Forwarded-Host", "close, x-real-ip, forwarded"] {
        let reason = refuse(plain().header("connection", token));
        assert_eq!(reason, Reason::HeaderMalformed, "{token}");
    }
}

/// AWS HTTP APIs let `/admin/` fall to a greedy route, and the service took it for `/admin`.
#[test]
fn the_trailing_slash_bypass_of_aws_http_apis() {
    let head = accept(get("/admin/").header("host", "h"));

    assert_eq!(head.path.as_str(), "/admin/");
    assert_eq!(fold(head.path.as_str()), fold("/admin"));
}

fn path_reason(path: &str) -> Reason {
    refuse(get(path).header("host", "h"))
}
