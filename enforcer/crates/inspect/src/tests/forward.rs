//! What is forwarded, and what comes back.

use enforcer_model::{RequestId, Source};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Chain, Host, forwarding_headers, strip, strip_credential, strip_response};

#[test]
fn what_belongs_to_one_connection_stays_on_it() {
    let mut headers = map(&[
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eA=="),
        ("te", "trailers"),
        ("trailer", "x-sum"),
        ("transfer-encoding", "chunked"),
        ("expect", "100-continue"),
        ("accept", "*/*"),
        ("content-type", "text/plain"),
    ]);

    strip(&mut headers);

    assert_eq!(names(&headers), ["accept", "content-type"]);
}

#[test]
fn what_a_client_claims_about_itself_is_removed() {
    let mut headers = map(&[
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-uri", "/public"),
        ("x-forwarded-user", "admin"),
        ("x-real-ip", "192.0.2.1"),
        ("true-client-ip", "192.0.2.1"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("x-request-id", "chosen"),
        ("enforcer-identity", "admin"),
        ("user-agent", "test"),
    ]);

    strip(&mut headers);

    assert_eq!(names(&headers), ["user-agent"]);
}

#[test]
fn no_key_of_ours_reaches_an_upstream_and_foreign_credentials_do() {
    for (name, value, passes) in [
        (
            "x-api-key",
            "acme2_live_k7Qx2mP9aB3c_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA4Zt9Pt",
            false,
        ),
        (
            "authorization",
            "DPoP  acme2_live_k7Qx2mP9aB3c_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA4Zt9Pt",
            false,
        ),
        (
            "authorization",
            "Bearer x,acme2_live_k7Qx2mP9aB3c_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA4Zt9Pt",
            false,
        ),
        ("x-api-key", "sk_live_51HqLyjWDarjtT1zdp7dc", true),
        (
            "x-api-key",
            "acme2_live_k7Qx2mP9aB3c_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA4Zt9P",
            true,
        ),
        ("authorization", "DPoP enf_live_secret", false),
        ("authorization", "ApiKey\tenf_live_secret", false),
        ("authorization", "enf_live_secret x", false),
        ("authorization", "Bearer enf_live_secret", false),
        ("authorization", "bearer   enf_live_secret", false),
        ("authorization", "BEARER ENF_live_secret", false),
        ("authorization", "enf_live_secret", false),
        ("x-api-key", "enf_live_secret", false),
        ("authorization", "Bearer eyJhbGciOi.enf_.x", true),
        ("authorization", "Basic ZW5mXzo=", true),
        ("x-api-key", "other", true),
    ] {
        let mut headers = map(&[(name, value)]);

        strip(&mut headers);

        assert_eq!(headers.contains_key(name), passes, "{name}: {value}");
    }
}

#[test]
fn a_credential_that_was_for_us_stays_here_with_its_proof() {
    let mut headers = map(&[
        ("authorization", "DPoP eyJhbGciOi.x.y"),
        ("dpop", "eyJ0eXAiOi.x.y"),
        ("x-api-key", "other"),
        ("accept", "*/*"),
    ]);

    strip_credential(&mut headers);

    assert_eq!(names(&headers), ["accept"]);
}

#[test]
fn no_header_by_which_others_say_who_is_calling_passes() {
    for name in [
        "enforcer-identity",
        "x-forwarded-client-cert",
        "x-forwarded-email",
        "x-forwarded-groups",
        "x-spiffe-id",
        "x-client-cert",
        "x-ssl-client-verify",
        "ssl-client-cert",
        "client-cert",
        "x-amzn-oidc-data",
        "x-goog-iap-jwt-assertion",
        "x-auth-request-user",
        "x-ms-client-principal",
        "cf-access-jwt-assertion",
        "remote-user",
        "x-remote-user",
        "x-webauth-user",
        "tailscale-user-login",
        "x-user",
        "x-user-id",
        "x-userinfo",
        "x-envoy-original-path",
        "x-original-method",
        "x-consumer-username",
        "oidc-claim-sub",
    ] {
        let mut headers = map(&[(name, "admin")]);

        strip(&mut headers);

        assert!(headers.is_empty(), "{name}");
    }
    let mut headers = map(&[("x-users-per-page", "9"), ("x-tenant", "a"), ("dpop", "a.b.c")]);
    strip(&mut headers);
    assert_eq!(names(&headers), ["dpop", "x-tenant", "x-users-per-page"]);
}

#[test]
fn cookies_that_http2_split_become_one_field() {
    let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);

    strip(&mut headers);

    let cookies: Vec<_> = headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2; c=3"]);
}

#[test]
fn the_upstream_is_told_what_we_know_and_nothing_else() {
    let mut headers = map(&[
        ("host", "API.example.com:8443"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-request-id", "chosen"),
    ]);
    let source = Source::new("2001:db8::1".parse().unwrap());
    let host: Host = "api.example.com".parse().unwrap();

    let chain = Chain { source, hops: &[], by: None };
    forwarding_headers(&mut headers, chain, &host, true, RequestId::from_bits(7));

    let all = |name| headers.get_all(name).iter().collect::<Vec<_>>();
    assert_eq!(all("host"), ["api.example.com"]);
    assert_eq!(all("x-forwarded-for"), ["2001:db8::1"]);
    assert_eq!(all("x-forwarded-host"), ["api.example.com"]);
    assert_eq!(all("x-forwarded-proto"), ["https"]);
    assert_eq!(all("x-request-id"), ["00000000000000000000000000000007"]);
}

#[test]
fn a_request_in_clear_text_is_forwarded_as_such() {
    let mut headers = HeaderMap::new();
    let source = Source::new("::ffff:192.0.2.1".parse().unwrap());

    let (chain, host) = (Chain { source, hops: &[], by: None }, "h".parse().unwrap());
    forwarding_headers(&mut headers, chain, &host, false, RequestId::from_bits(1));

    assert_eq!(headers.get("x-forwarded-proto").unwrap(), "http");
    assert_eq!(headers.get("x-forwarded-for").unwrap(), "192.0.2.1");
}

#[test]
fn a_response_tells_nothing_about_the_upstream() {
    let mut headers = map(&[
        ("server", "Apache/2.4.1"),
        ("x-powered-by", "PHP/5"),
        ("connection", "x-internal"),
        ("x-internal", "10.0.0.1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("content-type", "text/plain"),
    ]);

    strip_response(&mut headers);

    assert_eq!(names(&headers), ["content-type", "set-cookie", "set-cookie"]);
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        headers.append(name, value);
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}
