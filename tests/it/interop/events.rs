//! Server-sent events: each arrives when it is sent, not when the answer is whole.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::{NAME, PROGRAM, Scene, TLS, https};

const APP: &str = r#"
[upstream.app]
hosts = ["127.0.0.1:9002"]

[[route]]
name     = "app"
match    = "*/app/{**}"
upstream = "app"
public   = true
"#;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn the_first_event_arrives_before_the_second_is_sent() {
    let mut scene = Scene::new(APP);
    scene.start_python("events.py", &[&PROGRAM.to_string()]);
    scene.wait_for(PROGRAM);
    for (stream, version) in ["--http1.1", "--http2"].into_iter().enumerate() {
        let ca = scene.path("tls/cert.pem");
        let mut curl = scene.host.command("timeout");
        curl.args(["--kill-after=1", "30", "curl", "-sSN", version, "--noproxy", "*", "--cacert"])
            .arg(ca)
            .args(["--resolve", &format!("{NAME}:{TLS}:127.0.0.1")])
            .arg(https(&format!("/app/events/{stream}")))
            .stdout(Stdio::piped());
        let mut child = scene.host.spawn(curl).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);

        // The server sends each next event only when it is told that the one before has arrived.
        for event in 1..=5 {
            assert_eq!(lines.next().unwrap(), format!("data: event {event}"), "{version}");
            assert_eq!(lines.next().unwrap(), "");
            assert_eq!(
                scene.curl(&[&https(&format!("/app/arrived/{stream}/{event}"))]),
                "so be it"
            );
        }

        assert_eq!(lines.next(), None);
        assert!(child.wait().unwrap().success());
    }
}
