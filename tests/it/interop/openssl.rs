//! `openssl s_client`: TLS by hand, and requests typed into it.

use enforcer_tests::lab::Output;

use super::{Scene, TLS};

impl Scene {
    /// `openssl s_client` with these flags, and what is typed.
    fn s_client(&self, flags: &[&str], typed: &str) -> Output {
        let ca = self.path("tls/cert.pem");
        let target = format!("127.0.0.1:{TLS}");
        let mut words = vec!["s_client", "-connect", &target, "-CAfile", ca.to_str().unwrap()];
        words.extend(["-servername", "api.test", "-verify_return_error", "-ign_eof"]);
        words.extend(flags);
        self.run_with("openssl", &words, typed.as_bytes())
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn requests_typed_into_s_client_are_answered() {
    let scene = Scene::new("");
    for (flags, version) in [(&["-tls1_3"][..], "TLSv1.3"), (&["-tls1_2"], "TLSv1.2")] {
        for request in [
            "GET /made/bytes/4 HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n",
            "GET /made/bytes/4 HTTP/1.0\r\nHost: api.test\r\n\r\n",
            "GET https://api.test/made/bytes/4 HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n",
        ] {
            let said = scene.s_client(flags, request);

            assert!(said.stdout.contains(version), "{said}");
            assert!(said.stdout.contains("Verify return code: 0 (ok)"), "{said}");
            assert!(said.stdout.contains(" 200 OK\r\n"), "{request}: {said}");
            assert!(said.stdout.contains("\r\n\r\n0000"), "{request}: {said}");
        }
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_agreed_is_what_the_client_offered() {
    let scene = Scene::new("");
    let agreed = |flags: &[&str]| scene.s_client(flags, "x\r\n\r\n").stdout;

    assert!(agreed(&["-alpn", "h2,http/1.1"]).contains("ALPN protocol: h2"));
    assert!(agreed(&["-alpn", "http/1.1"]).contains("ALPN protocol: http/1.1"));
    assert!(agreed(&[]).contains("No ALPN negotiated"));
    for old in ["-tls1", "-tls1_1"] {
        let refused = scene.s_client(&[old, "-cipher", "ALL:@SECLEVEL=0"], "");
        assert!(!refused.is_success(), "{old}: {refused}");
        assert!(!refused.stdout.contains("Verify return code: 0 (ok)\n---\nHTTP"), "{refused}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_session_is_resumed() {
    let scene = Scene::new("");
    let session = scene.path("session");
    let session = session.to_str().unwrap();
    let request = "GET /made/bytes/4 HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
    for version in ["-tls1_3", "-tls1_2"] {
        let first = scene.s_client(&[version, "-sess_out", session], request);
        let second = scene.s_client(&[version, "-sess_in", session], request);

        assert!(first.stdout.contains("\nNew, "), "{first}");
        assert!(second.stdout.contains("\nReused, "), "{version}: {second}");
        assert!(second.stdout.contains("\r\n\r\n0000"), "{second}");
    }
}
