//! h2load, nghttp and wrk: every one of many requests is answered, and well.

use super::{Scene, https};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn h2load_gets_every_answer_over_http2_and_over_http1() {
    let scene = Scene::new("");
    let url = "https://127.0.0.1:8443/made/bytes/1024";
    for flags in [
        &["-n3000", "-c4", "-m50"][..],
        &["-n3000", "-c50", "-m1"],
        &["-n1000", "-c4", "-m1", "--h1"],
        &["-n300", "-c2", "-m100", "-w14", "-W14"],
    ] {
        let said = scene.run("h2load", &[flags, &[url]].concat());

        let count = flags[0].trim_start_matches("-n");
        let all = format!("{count} done, {count} succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(said.stdout.contains(&all), "{flags:?}: {said}");
        assert!(said.stdout.contains(&format!("status codes: {count} 2xx")), "{flags:?}: {said}");
        let bytes = format!("({}) data", count.parse::<u32>().unwrap() * 1024);
        assert!(said.stdout.contains(&bytes), "{flags:?}: {said}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn h2load_sends_bodies() {
    let scene = Scene::new("");
    let body = scene.path("body");
    std::fs::write(&body, super::bytes(100_000)).unwrap();
    let data = format!("--data={}", body.display());

    let url = "https://127.0.0.1:8443/made/echo";
    let said = scene.run("h2load", &["-n200", "-c2", "-m20", &data, url]);

    assert!(said.stdout.contains("status codes: 200 2xx"), "{said}");
    assert!(said.stdout.contains("(20000000) data"), "{said}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn nghttp_asks_for_many_things_at_once() {
    let scene = Scene::new("");
    let url = |n: usize| https(&format!("/made/bytes/{n}")).replace("api.test", "127.0.0.1");
    let urls: Vec<String> = (1..40).map(url).collect();
    let mut words = vec!["-ns"];
    words.extend(urls.iter().map(String::as_str));

    let said = scene.run("nghttp", &words);

    assert!(said.is_success(), "{said}");
    let answered = said.stdout.lines().filter(|line| line.contains(" 200 ")).count();
    assert_eq!(answered, 39, "{said}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn wrk_finds_no_error() {
    let scene = Scene::new("");
    for url in ["http://127.0.0.1:8080/made/bytes/1024", "https://127.0.0.1:8443/made/bytes/1024"] {
        let said = scene.run("wrk", &["-t1", "-c32", "-d1", url]);

        assert!(said.is_success() && said.stdout.contains("requests in"), "{said}");
        assert!(!said.stdout.contains("Socket errors"), "{said}");
        assert!(!said.stdout.contains("Non-2xx"), "{said}");
    }
}
