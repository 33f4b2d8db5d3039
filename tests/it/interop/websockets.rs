//! `WebSockets` between the `websockets` package of Python and itself, with us in between.

use std::time::Duration;

use enforcer_tests::lab::wait_for;

use super::{PROGRAM, Scene};

const APP: &str = r#"
[upstream.app]
hosts = ["127.0.0.1:9002"]

[[route]]
name     = "app"
match    = "*/app/{**}"
upstream = "app"
upgrade  = ["websocket"]
public   = true

[[route]]
name     = "guarded"
match    = "*/guarded/{**}"
upstream = "app"
upgrade  = ["websocket"]

  [[route.allow]]
  method = "GET"
  role   = "caller"
"#;

fn scene() -> Scene {
    let mut scene = Scene::new(APP);
    scene.start_python("websockets_server.py", &[&PROGRAM.to_string()]);
    scene.wait_for(PROGRAM);
    scene
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_websocket_carries_everything_that_the_protocol_has() {
    let scene = scene();
    let ca = scene.path("tls/cert.pem");
    for case in [
        "text_and_binary",
        "fragments",
        "pings_both_ways",
        "a_megabyte_both_ways",
        "subprotocol_and_compression",
        "the_client_closes_with_a_code",
        "the_server_closes_with_a_code",
        "many_at_once",
        "a_plain_request_beside_it",
    ] {
        let said = scene.python("websockets_client.py", &[case, ca.to_str().unwrap()]);

        assert_eq!(said.trim(), "ok", "{case}: {said}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_websocket_without_a_right_to_it_is_refused_before_the_upstream_hears_of_it() {
    let scene = scene();
    let ca = scene.path("tls/cert.pem");

    let said = scene.python("websockets_client.py", &["refused", ca.to_str().unwrap()]);

    assert_eq!(said.trim(), "401\nok");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_websocket_is_cut_when_its_caller_is_shut_out() {
    let mut scene = scene();
    let words = ["keys", "issue", "--name", "ws", "--role", "caller"];
    let issued = scene.site.json(&words).unwrap();
    let credential = issued["credential"].as_str().unwrap().to_owned();
    let id = credential.split('_').nth(2).unwrap().to_owned();
    let ca = scene.path("tls/cert.pem");
    let words = ["until_cut", ca.to_str().unwrap(), &credential];
    let client = scene.start_python("websockets_client.py", &words);
    assert_eq!(client.line(), "connected");

    let target = format!("key:{id}");
    let done = scene.site.enforcer(&["quarantine", &target, "--reason", "test"]).unwrap();
    assert!(done.is_success(), "{done}");

    let mut client = scene.programs.pop().unwrap();
    assert_eq!(client.line(), "cut");
    let ended = wait_for("the client ends", Duration::from_secs(10), || {
        client.child.try_wait().transpose()
    });
    assert!(ended.unwrap().unwrap().success());
}
