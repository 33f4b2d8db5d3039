//! How others were walked around, tried on us: eleven bypasses of proxies and gateways, each with
//! the request that did it, over HTTP/1.1 as raw bytes and over HTTP/2 where it can be said there.
//!
//! Nothing that is protected may reach the service, whatever the answer is; and the honest request,
//! which differs only in being honest, does. Most of them fell because one part judged another path
//! than the next one served. Here there is one path, which is judged and forwarded byte for byte.

use std::io::{Read, Write};

use enforcer_tests::lab::{Answer, Ask, CLIENT, Family, Http};
use http::{HeaderName, HeaderValue};

use crate::stage::Stage;

/// What everybody may have, and what only a reader may. Most attacks need a route for everybody
/// that a protected path can be dressed up for; the last one takes whatever no other takes.
const POLICY: &str = r#"
version = 1

[agent]
state  = "state"
socket = "admin.sock"

[listen.public]
address = ["0.0.0.0:8443", "[::]:8443"]
tls     = { certificate = "tls/cert.pem", key = "tls/key.pem" }

[role]
reader = { from = ["key"] }

[upstream.app]
hosts = ["127.0.0.1:9000"]

[[route]]
name     = "public"
match    = "api.test/public/{**}"
upstream = "app"
public   = true

[[route]]
name     = "admin"
match    = "api.test/admin/{**}"
upstream = "app"

  [[route.allow]]
  method = ["GET"]
  role   = "reader"

[[route]]
name     = "report"
match    = "api.test/report"
upstream = "app"

  [[route.allow]]
  method = ["GET"]
  role   = "reader"
"#;

/// Everything that no other route takes.
const CATCH_ALL: &str = r#"
[[route]]
name     = "rest"
match    = "api.test/{**}"
upstream = "app"
public   = true
"#;

/// What is below a prefix is served without the prefix.
const STRIPPED: &str = r#"
[[route]]
name     = "api"
match    = "api.test/api/{**}"
upstream = "app"
public   = true
strip    = "/api"
"#;

const SECRET: &str = "/admin/secret";

/// Envoy CVE-2019-9901: Envoy matched the path as it was sent, and services resolved its dots.
#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_path_that_is_not_normalised_is_refused_and_not_matched() {
    let scene = Scene::open(&[CATCH_ALL]);

    scene.never_arrive(&[
        "/public/../admin/secret",
        "/public/./../admin/secret",
        "/public/%2e%2e/admin/secret",
        "/public/.%2E/admin/secret",
        "/public/x/../../admin/secret",
        "/./admin/secret",
        "/x/../admin/secret",
    ]);
    scene.honest_arrives(SECRET);
}

/// Envoy CVE-2021-29492: `%2F` and `%5C` were characters like any to Envoy, and slashes behind it.
#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_escaped_slash_is_refused_and_not_taken_for_a_character() {
    let scene = Scene::open(&[CATCH_ALL]);

    scene.never_arrive(&[
        "/admin%2fsecret",
        "/admin%2Fsecret",
        "/admin%5csecret",
        "/admin%5Csecret",
        "/public%2f..%2fadmin%2fsecret",
        "/public/..%2fadmin/secret",
        "/%2fadmin/secret",
        "/admin\\secret",
        "/admin%252fsecret",
    ]);
    scene.honest_arrives(SECRET);
}

/// Istio CVE-2021-31920: `//admin` met no rule for `/admin`, and services merge slashes.
#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn repeated_slashes_are_refused_and_not_another_path() {
    let scene = Scene::open(&[CATCH_ALL]);

    scene.never_arrive(&[
        "//admin/secret",
        "///admin/secret",
        "/admin//secret",
        "/public//../admin/secret",
        "/x//admin/secret",
        "/admin/secret//",
    ]);
    scene.honest_arrives(SECRET);
}

/// OPA-Envoy CVE-2026-26205: the policy was shown `/secret` of `//admin/secret`, with `admin` taken
/// for the authority of a URI; the service was shown all of it.
#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_path_that_begins_like_an_authority_is_no_shorter_path() {
    let scene = Scene::open(&[CATCH_ALL]);

    scene.never_arrive(&[
        "//public/admin/secret",
        "//admin/secret",
        "//x@admin/secret",
        "//public:443/admin/secret",
        "//public/../admin/secret",
    ]);
    // A target in absolute form has an authority, which must be the host's.
    let absolute = "GET https://public/admin/secret HTTP/1.1\r\nHost: api.test\r\n\r\n";
    assert_eq!(scene.raw(absolute), Some(400));
    let absolute = "GET https://api.test/admin/secret HTTP/1.1\r\nHost: api.test\r\n\r\n";
    assert_eq!(scene.raw(absolute), Some(401));
    scene.nothing_arrived();
    scene.honest_arrives(SECRET);
}

/// Traefik CVE-2026-48020: `/api../admin` was routed as below `/api`, and once that was cut off, the
/// dots were resolved to a path that another router protected.
#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_left_of_a_stripped_prefix_is_judged_again() {
    let scene = Scene::open(&[STRIPPED]);

    scene.never_arrive(&[
        "/api../admin/secret",
        "/api%2e%2e/admin/secret",
        "/api/../admin/secret",
        "/api/%2e%2e/admin/secret",
        "/api/x/../admin/secret",
        "/api//admin/secret",
        "/apiadmin/secret",
        // Well-formed, and the path of another route once the prefix is gone.
        "/api/admin/secret",
        "/api/report",
    ]);
    let served = scene.ask(Http::One, &Ask::get("/api/public/x"));
    assert_eq!(served.status, 200);
    assert_eq!(scene.arrived(), ["/public/x"]);
    scene.honest_arrives(SECRET);
}

/// Traefik CVE-2026-40912: `StripPrefixRegex` measured the prefix in the decoded path and cut as much
/// from the encoded one, so that `/api%2e/admin` became `/./admin` for the part that was asked.
#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_prefix_is_never_measured_in_one_spelling_and_cut_from_another() {
    let scene = Scene::open(&[STRIPPED]);

    scene.never_arrive(&[
        "/api%2e/admin/secret",
        "/%61pi/admin/secret",
        "/%61pi./admin/secret",
        "/ap%69../admin/secret",
        "/api%20/admin/secret",
        "/ap%69/admin/secret",
    ]);
    // An escape behind the prefix arrives as it was sent.
    let served = scene.ask(Http::One, &Ask::get("/api/public/a%20b"));
    assert_eq!(served.status, 200);
    assert_eq!(scene.arrived(), ["/public/a%20b"]);
    scene.honest_arrives(SECRET);
}

/// Traefik CVE-2025-66490: the escapes of `/`, `\`, NUL, `;`, `?` and `#` were ordinary characters
/// to its matchers, and meant something behind it.
#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn escapes_of_characters_with_a_meaning_are_refused() {
    let scene = Scene::open(&[CATCH_ALL]);

    scene.never_arrive(&[
        "/admin%2fsecret",
        "/admin%5csecret",
        "/admin%00/secret",
        "/admin%3b/secret",
        "/admin;/secret",
        "/admin;x=y/secret",
        "/admin%3f/secret",
        "/admin%23/secret",
        "/public%23/../admin/secret",
    ]);
    scene.honest_arrives(SECRET);
}

/// oauth2-proxy CVE-2026-40575: a client's `X-Forwarded-Uri` was judged in the place of its path.
#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn no_header_says_which_path_is_judged() {
    let scene = Scene::open(&[CATCH_ALL]);
    let claims =
        ["x-forwarded-uri", "x-original-url", "x-original-uri", "x-rewrite-url", "forwarded"];

    for http in [Http::One, Http::Two] {
        for claim in claims {
            let dressed =
                Ask::get(SECRET).header(name(claim), HeaderValue::from_static("/public/x"));
            assert_eq!(scene.ask(http, &dressed).status, 401, "{http:?} {claim}");
        }
    }
    scene.nothing_arrived();
    for claim in claims {
        let reversed = Ask::get("/public/x").header(name(claim), HeaderValue::from_static(SECRET));
        assert_eq!(scene.ask(Http::One, &reversed).status, 200);
        let seen = scene.stage.upstream.seen().pop().unwrap();
        assert_eq!(seen.target, "/public/x");
        assert!(!seen.headers.contains_key(claim), "{claim} would lead the service astray");
    }
    scene.honest_arrives(SECRET);
}

/// oauth2-proxy CVE-2025-64484: it removed `X-Forwarded-User` and let `X_Forwarded_User` through,
/// which many applications read alike.
#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_twin_of_a_protected_header_is_refused() {
    let scene = Scene::open(&[CATCH_ALL]);
    let twins = [
        "x_forwarded_user",
        "x_forwarded-for",
        "x-forwarded_for",
        "x_real_ip",
        "enforcer_identity",
        "enforcer-_identity",
        "x.forwarded.for",
        "x_api_key",
    ];

    for http in [Http::One, Http::Two] {
        for twin in twins {
            let forged = HeaderValue::from_static("203.0.113.66");
            let dressed = Ask::get(SECRET).key(&scene.key).header(name(twin), forged);
            assert_eq!(scene.ask(http, &dressed).status, 400, "{http:?} {twin}");
        }
    }
    scene.nothing_arrived();

    let harmless =
        Ask::get(SECRET).key(&scene.key).header(name("x_color"), HeaderValue::from_static("red"));
    assert_eq!(scene.ask(Http::One, &harmless).status, 200);
    assert_eq!(scene.stage.upstream.seen().pop().unwrap().headers["x_color"], "red");
}

/// Fabio CVE-2025-48865: a client named `X-Forwarded-For` in `Connection`, and what the proxy had
/// set was removed on its way. HTTP/2 has no such field, which is refused there as well.
#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn connection_removes_nothing_that_we_say() {
    let scene = Scene::open(&[CATCH_ALL]);
    let ask = |connection: &str| {
        format!(
            "GET {SECRET} HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {}\r\n\
             Connection: {connection}\r\n\r\n",
            scene.key
        )
    };

    for named in [
        "x-forwarded-for",
        "close, X-Forwarded-Host",
        "X-Forwarded-Proto",
        "x-request-id",
        "enforcer-identity",
        "authorization",
        "x_forwarded_for",
        "close\r\nConnection: x-real-ip",
    ] {
        assert_eq!(scene.raw(&ask(named)), Some(400), "{named}");
    }
    scene.nothing_arrived();

    assert_eq!(scene.raw(&ask("x-anything")), Some(200));
    let seen = scene.stage.upstream.seen().pop().unwrap();
    assert_eq!(seen.target, SECRET);
    assert_eq!(seen.headers["x-forwarded-for"], CLIENT.v4.to_string());
}

/// AWS HTTP APIs: a rule held for `/report`, and `/report/` fell to a greedy route without one.
#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_trailing_slash_leads_to_the_same_rule() {
    let scene = Scene::open(&[CATCH_ALL]);

    scene.never_arrive(&["/report/", "/report", "/admin/secret/", "/admin/", "/report/?a=b"]);
    for http in [Http::One, Http::Two] {
        let before = scene.arrived().len();
        let honest = scene.ask(http, &Ask::get("/report/").key(&scene.key));
        assert_eq!(honest.status, 200);
        assert_eq!(scene.arrived().split_off(before), ["/report/"], "forwarded byte for byte");
    }
    scene.honest_arrives("/report");
}

/// The lab, and a key that opens what is protected.
struct Scene {
    stage: Stage,
    key: String,
}

impl Scene {
    fn open(more: &[&str]) -> Self {
        let stage = Stage::with_policy(&(POLICY.to_owned() + &more.concat()));
        let key = stage.key("reader", "reader");
        Self { stage, key }
    }

    /// Nobody without a key gets these through, whatever they are dressed up as.
    fn never_arrive(&self, targets: &[&str]) {
        for target in targets {
            let request = format!("GET {target} HTTP/1.1\r\nHost: api.test\r\n\r\n");
            let status = self.raw(&request);
            assert!(matches!(status, Some(400 | 401 | 404)), "{target}: {status:?}");
            // Some of them cannot be said by a client that parses its own target.
            let ask = Ask::get(target);
            if let Ok(answer) = self.stage.client(Family::V4).connect(Http::Two).unwrap().ask(&ask)
            {
                assert!(matches!(answer.status.as_u16(), 400 | 401 | 404), "{target}: {answer:?}");
            }
        }
        self.nothing_arrived();
    }

    /// Who has the key gets exactly this through, and everybody what is everybody's.
    fn honest_arrives(&self, target: &str) {
        for http in [Http::One, Http::Two] {
            let before = self.arrived().len();
            assert_eq!(self.ask(http, &Ask::get(target).key(&self.key)).status, 200, "{http:?}");
            assert_eq!(self.ask(http, &Ask::get(target)).status, 401, "{http:?}");
            assert_eq!(self.ask(http, &Ask::get("/public/x")).status, 200, "{http:?}");
            assert_eq!(self.arrived().split_off(before), [target, "/public/x"]);
        }
    }

    fn nothing_arrived(&self) {
        assert_eq!(self.arrived(), [""; 0]);
    }

    /// The targets that the service saw, byte for byte.
    fn arrived(&self) -> Vec<String> {
        self.stage.upstream.seen().iter().map(|seen| seen.target.to_string()).collect()
    }

    fn ask(&self, http: Http, ask: &Ask) -> Answer {
        self.stage.client(Family::V4).connect(http).unwrap().ask(ask).unwrap()
    }

    /// The status of the answer to these bytes.
    fn raw(&self, request: &str) -> Option<u16> {
        let mut stream = self.stage.client(Family::V4).tls_socket(&[b"http/1.1"]).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut line = [0; 12];
        stream.read_exact(&mut line).ok()?;
        std::str::from_utf8(&line).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
    }
}

fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}
