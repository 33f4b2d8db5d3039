//! curl: what a person tries first.

use super::{Scene, bytes, http, https};

/// Status, version of HTTP, bytes of the body.
const TOLD: [&str; 2] = ["-w", "%{stderr}%{http_code} HTTP/%{http_version} %{size_download}"];

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn curl_is_served_over_every_version_that_it_speaks() {
    let scene = Scene::new("");
    let url = https("/made/bytes/1000");
    let clear = http("/made/bytes/1000");
    let head = ["-o", "/dev/null", TOLD[0], TOLD[1]];

    for (flags, url, told) in [
        (&["--http1.1"][..], &url, "200 HTTP/1.1 1000"),
        (&["--http2"], &url, "200 HTTP/2 1000"),
        (&["--http2", "--tlsv1.3"], &url, "200 HTTP/2 1000"),
        (&["--http2", "--tls-max", "1.2"], &url, "200 HTTP/2 1000"),
        (&["--http1.0"], &url, "200 HTTP/1 1000"),
        (&["--http1.1"], &clear, "200 HTTP/1.1 1000"),
        (&["--http1.0"], &clear, "200 HTTP/1 1000"),
        (&["--no-alpn", "--http1.1"], &url, "200 HTTP/1.1 1000"),
    ] {
        let output = scene.try_curl(&[flags, &head, &[url.as_str()]].concat());
        assert_eq!(output.stderr, told, "{flags:?}");
        assert!(output.is_success());
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn many_requests_of_one_curl_share_a_connection() {
    let scene = Scene::new("");
    for version in ["--http1.1", "--http2"] {
        let url = https("/made/bytes/[1-20]");

        let told = scene.curl(&[version, "-o", "/dev/null", "-w", "%{num_connects}", &url]);

        assert_eq!(told, format!("1{}", "0".repeat(19)), "{version}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_upload_arrives_byte_by_byte_however_it_is_framed() {
    let scene = Scene::new("");
    let body = bytes(1_000_000);
    let file = scene.path("upload");
    std::fs::write(&file, &body).unwrap();
    let from_file = format!("@{}", file.display());
    let back = scene.path("back");
    let back = back.to_str().unwrap();

    for (what, flags) in [
        ("a length", &["--http1.1", "-H", "Expect:"][..]),
        ("chunks", &["--http1.1", "-H", "Expect:", "-H", "Transfer-Encoding: chunked"]),
        ("a question before", &["--http1.1", "-H", "Expect: 100-continue"]),
        ("a stream", &["--http2"]),
    ] {
        let url = https("/made/echo");
        let words = ["-v", "--data-binary", &from_file, "-o", back, &url];
        let output = scene.try_curl(&[flags, &words].concat());

        assert!(output.is_success(), "{what}: {output}");
        assert!(std::fs::read(back).unwrap() == body, "{what}: other bytes came back");
        let asked = flags.contains(&"Expect: 100-continue");
        assert_eq!(output.stderr.contains("< HTTP/1.1 100 Continue"), asked, "{what}: {output}");
        std::fs::remove_file(back).unwrap();
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_asks_before_sending_and_is_refused_sends_nothing() {
    let scene = Scene::new("");
    let body = vec![b'x'; 100_000];
    let url = https("/nowhere");

    let words = ["-v", "--http1.1", "-H", "Expect: 100-continue", "--data-binary", "@-", &url];
    let output = scene.curl_with(&words, &body);

    assert!(output.is_success(), "{output}");
    assert!(output.stderr.contains("< HTTP/1.1 404"), "{output}");
    assert!(!output.stderr.contains("100 Continue"), "{output}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn http2_without_asking_is_answered_or_refused_at_once() {
    let scene = Scene::new("");

    let over_tls = scene.try_curl(&["--http2-prior-knowledge", &https("/made/bytes/5")]);
    let clear = scene.try_curl(&["--http2-prior-knowledge", "-m", "5", &http("/made/bytes/5")]);

    assert_eq!((over_tls.code, &*over_tls.stdout), (Some(0), "00000"), "{over_tls}");
    // In clear text only HTTP/1.1 is spoken: neither the preface of HTTP/2 is a request of that, nor
    // is there an upgrade but to WebSockets.
    assert!(!clear.is_success() && clear.code != Some(28), "{clear}");
    let upgraded = scene.curl(&["--http2", "-w", "%{stderr}%{http_code}", &http("/made/bytes/5")]);
    assert!(upgraded.contains("Bad Request"), "{upgraded}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_client_of_http_1_0_gets_answers_that_it_can_read() {
    let scene = Scene::with_nginx("");
    scene.file("text", &bytes(100_000));
    let get = |path: &str, more: &[&str]| {
        let url = http(path);
        scene.curl(&[&["--http1.0", "-i", "--raw"], more, &[&url]].concat()).to_lowercase()
    };

    // Of unknown length: it ends with the connection, and is not in chunks.
    let unknown =
        get("/files/zipped/text", &["-o", "/dev/null", "-D", "-", "-H", "Accept-Encoding: gzip"]);
    let known = get("/files/text", &["-o", "/dev/null", "-D", "-"]);
    let kept = get("/files/text", &["-o", "/dev/null", "-D", "-", "-H", "Connection: keep-alive"]);

    assert!(!unknown.contains("transfer-encoding"), "{unknown}");
    assert!(known.contains("content-length: 100000"), "{known}");
    assert!(!known.contains("connection: keep-alive"), "{known}");
    assert!(kept.contains("connection: keep-alive"), "{kept}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_answer_that_nobody_waits_for_leaves_the_next_one_alone() {
    let scene = Scene::new("");
    for version in ["--http1.1", "--http2"] {
        let cut = scene.try_curl(&[
            version,
            "--max-filesize",
            "10",
            "-o",
            "/dev/null",
            &https("/made/drip/1000/20"),
        ]);
        assert!(!cut.is_success(), "{version}: {cut}");

        assert_eq!(scene.curl(&[version, &https("/made/bytes/3")]), "000", "{version}");
    }
}
