//! nginx as the upstream: what passes through must arrive as nginx sent it.

use std::collections::BTreeSet;

use super::{Scene, bytes, http, https};

/// Header lines, in lower case, and the body.
fn split(answer: &str) -> (String, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body)
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn ranges_conditions_and_heads_are_answered_as_nginx_answers_them() {
    let scene = Scene::with_nginx("");
    scene.file("letters", b"abcdefghijklmnopqrstuvwxyz");
    let url = https("/files/letters");
    for version in ["--http1.1", "--http2"] {
        let ask = |more: &[&str]| scene.curl(&[&["-i", version], more, &[&url]].concat());

        let whole = ask(&[]);
        let (head, body) = split(&whole);
        assert!(head.contains(" 200") && head.contains("content-length: 26"), "{head}");
        assert_eq!(body, "abcdefghijklmnopqrstuvwxyz");
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();

        let part = ask(&["-r", "2-5"]);
        let (head, body) = split(&part);
        assert!(head.contains(" 206") && head.contains("content-range: bytes 2-5/26"), "{head}");
        assert_eq!(body, "cdef");
        let parts = ask(&["-r", "0-1,24-25"]);
        let (head, body) = split(&parts);
        assert!(head.contains("content-type: multipart/byteranges"), "{head}");
        assert!(body.contains("\r\n\r\nab\r\n") && body.contains("\r\n\r\nyz\r\n"), "{body}");
        let beyond = ask(&["-r", "100-"]);
        assert!(split(&beyond).0.contains(" 416"), "{beyond}");

        let unchanged = ask(&["-H", &format!("If-None-Match: {etag}")]);
        let (head, body) = split(&unchanged);
        assert!(head.contains(" 304") && body.is_empty(), "{unchanged}");
        assert!(!head.contains("content-length: 26") || head.contains(" 304"), "{head}");

        let only_head = ask(&["-I"]);
        let (head, body) = split(&only_head);
        assert!(head.contains(" 200") && head.contains("content-length: 26"), "{head}");
        assert_eq!(body, "");

        let nothing = scene.curl(&["-i", version, &https("/files/nothing")]);
        let (head, body) = split(&nothing);
        assert!(head.contains(" 204") && body.is_empty(), "{nothing}");
        assert!(!head.contains("content-length"), "{head}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn bodies_of_every_size_arrive_whole() {
    let scene = Scene::with_nginx("");
    let back = scene.path("back");
    for size in [0, 1, 1_023, 1_024, 16_384, 65_536, 65_537, 3_000_000] {
        let content = bytes(size);
        scene.file("data", &content);
        for version in ["--http1.1", "--http2"] {
            let url = https("/files/data");
            scene.curl(&[version, "-f", "-o", back.to_str().unwrap(), &url]);

            let received = std::fs::read(&back).unwrap_or_default();
            assert!(received == content, "{version}: {} of {size} bytes", received.len());
            drop(std::fs::remove_file(&back));
        }
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn compressed_answers_pass_through_as_they_are() {
    let scene = Scene::with_nginx("");
    let text = "one and the same line\n".repeat(5_000);
    scene.file("text", text.as_bytes());
    let url = https("/files/zipped/text");
    for version in ["--http1.1", "--http2"] {
        let plain = scene.curl(&[version, &url]);
        let unpacked = scene.curl(&[version, "--compressed", &url]);
        let told = ["-o", "/dev/null", "-D", "-", "-w", "%{size_download}"];
        let packed =
            scene.curl(&[&[version, "-H", "Accept-Encoding: gzip"], &told[..], &[&url]].concat());

        assert!(plain == text && unpacked == text, "{version}");
        let (head, size) = split(&packed);
        assert!(head.contains("content-encoding: gzip"), "{head}");
        assert!(size.parse::<usize>().unwrap() < text.len() / 10, "{size}");
        // It tells caches what the answer depends on, or nothing; never another encoding.
        assert!(!head.contains("content-length: 110000"), "{head}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_stands_behind_the_last_chunk_arrives_behind_it() {
    let scene = Scene::with_nginx("");
    scene.file("text", b"some text that is told in chunks");
    let gzip = ["-H", "Accept-Encoding: gzip", "-H", "TE: trailers"];

    let url = http("/files/trailing/text");
    let words = ["--raw", "-i", "-o", "-", "--http1.1", "-H", "Connection: TE", &url];
    let raw = scene.curl(&[&gzip[..], &words].concat());
    let ca = scene.path("tls/cert.pem");
    let secured = https("/files/trailing/text").replace("api.test", "127.0.0.1");
    let words = ["-vn", "-H", "accept-encoding: gzip", "-H", "te: trailers", "-H"];
    let told = scene.run("nghttp", &[&words[..], &[":authority: api.test", &secured]].concat());

    assert!(raw.to_lowercase().contains("transfer-encoding: chunked"), "{raw}");
    let (_, end) = raw.rsplit_once("\r\n0\r\n").unwrap();
    assert!(end.to_lowercase().starts_with("x-sum: sum of it\r\n\r\n"), "{end:?}");
    assert!(ca.is_file() && told.is_success(), "{told}");
    let (_, behind) = told.stdout.rsplit_once("DATA frame").unwrap();
    assert!(behind.contains("x-sum") && behind.contains("sum of it"), "{}", told.stdout);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn connections_to_nginx_are_used_again_and_one_that_it_closes_costs_nothing() {
    let scene = Scene::with_nginx("");
    scene.file("text", b"x");
    let connections = |path: &str| -> BTreeSet<String> {
        let url = https(path);
        let heads = scene.curl(&["-o", "/dev/null", "-D", "-", "--http1.1", &url]);
        let heads = heads.to_lowercase();
        let statuses = heads.lines().filter(|line| line.starts_with("http/1.1 200")).count();
        assert_eq!(statuses, 20, "{heads}");
        let lines = heads.lines().filter_map(|line| line.strip_prefix("x-connection: "));
        lines.map(str::to_owned).collect()
    };

    assert_eq!(connections("/files/text?[1-20]").len(), 1);
    // nginx closes after each answer here.
    assert_eq!(connections("/files/one/text?[1-20]").len(), 20);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_redirect_of_the_upstream_is_the_clients_to_follow() {
    let scene = Scene::with_nginx("");
    scene.file("there", b"here");

    let told = scene.curl(&["-i", &https("/files/moved")]);

    let (head, _) = split(&told);
    assert!(head.contains(" 301") && head.contains("location: "), "{head}");
}
