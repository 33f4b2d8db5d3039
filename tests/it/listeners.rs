//! What stands in front: certificates, balancers, proxies, sockets, scanners; with the clients that
//! everybody has.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use enforcer_tests::lab::{CLIENT, Certificate, DEADLINE, Family, Namespace, wait_until};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use crate::stage::{NAME, Stage, THRESHOLD};

/// The host as the client's tools name it.
const HOST: &str = "10.77.1.1";

const LISTEN: &str = r#"
[net]
balancers = ["10.77.1.2"]

[listen.public]
address = ["0.0.0.0:8443", "[::]:8443"]
tls     = { certificate = "tls/cert.pem", key = "tls/key.pem", ocsp = "tls/api.ocsp", certificates = [{ certificate = "tls/second/cert.pem", key = "tls/second/key.pem" }, { certificate = "tls/wild/cert.pem", key = "tls/wild/key.pem" }] }
hsts    = { age = "2y", subdomains = true, preload = true }

[listen.balanced]
address        = "0.0.0.0:8444"
tls            = { certificate = "tls/cert.pem", key = "tls/key.pem" }
proxy_protocol = { from = "net:balancers" }

[listen.behind]
address = "127.0.0.1:8445"
trusted = ["127.0.0.1", "10.1.0.0/16"]

[listen.announced]
address        = "127.0.0.1:8446"
proxy_protocol = { from = "127.0.0.1" }

[listen.local]
address = "unix:api.sock"
mode    = "0660"

[listen.door]
address  = "0.0.0.0:8080"
redirect = "https"
"#;

fn policy() -> String {
    let whole = crate::stage::policy(crate::stage::Hook::Native);
    let (before, rest) = whole.split_once("[listen.public]").unwrap();
    let (_, behind) = rest.split_once("\n\n").unwrap();
    format!("{before}{LISTEN}\n{behind}")
}

fn stage() -> Stage {
    let mut stage = Stage::without_agent(&policy());
    let tls = stage.site.folder().join("tls");
    for (folder, name) in [("second", "second.test"), ("wild", "*.wild.test")] {
        Certificate::for_names(&[name]).unwrap().write(&tls.join(folder)).unwrap();
    }
    std::fs::write(tls.join("api.ocsp"), "nothing yet").unwrap();
    stage.start();
    stage
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn openssl_gets_the_certificate_for_the_name_that_it_asks_for() {
    let stage = stage();
    for (asked, shown) in [
        ("-servername api.test", "api.test"),
        ("-servername second.test", "second.test"),
        ("-servername SECOND.test", "second.test"),
        ("-servername one.wild.test", "*.wild.test"),
        ("-servername one.two.wild.test", "api.test"),
        ("-servername nobody.test", "api.test"),
        ("-noservername", "api.test"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            assert_eq!(names(&stage, &format!("{asked} {version}")), [shown], "{asked} {version}");
        }
    }
    for version in ["-tls1", "-tls1_1"] {
        let script =
            format!("openssl s_client -connect {HOST}:8443 {version} </dev/null 2>&1 || true");
        let said = shell(&stage.lab.client, &script);
        assert!(!said.contains("Cipher is TLS") && !said.contains("BEGIN CERTIFICATE"), "{said}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn curl_is_told_to_make_another_connection_for_a_name_that_this_one_is_not_for() {
    let stage = stage();
    let curl = |version: &str, host: &str, at: &str| {
        let script = format!(
            "curl -sk --{version} --connect-to ::{HOST}:8443 -H 'Host: {host}' -o /dev/null \
             -w '%{{http_code}}' https://{at}/healthz"
        );
        shell(&stage.lab.client, &script)
    };
    for version in ["http1.1", "http2"] {
        assert_eq!(curl(version, "api.test", "api.test:8443"), "200");
        assert_eq!(curl(version, "second.test", "api.test:8443"), "421");
        assert_eq!(curl(version, "nobody.test", "api.test:8443"), "421");
        assert_eq!(curl(version, "api.test", "second.test:8443"), "421");
        // By address, and to a name that no certificate has.
        assert_eq!(curl(version, "api.test", &format!("{HOST}:8443")), "200");
        assert_eq!(curl(version, "nobody.test", "nobody.test:8443"), "404");
    }
    let refused = stage.records_of("http").into_iter().filter(|one| one["body"]["status"] == 421);
    assert!(refused.into_iter().all(|one| one["body"]["reason"] == "host-misdirected"));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn openssl_resumes_its_session_after_a_reload_with_a_new_certificate() {
    let stage = stage();
    for version in ["-tls1_2", "-tls1_3"] {
        let session = stage.site.folder().join(format!("session{version}"));
        let session = session.display();
        let ask =
            "printf 'GET /healthz HTTP/1.1\\r\\nHost: api.test\\r\\nConnection: close\\r\\n\\r\\n'";
        let connect = |more: &str| {
            let script = format!(
                "({ask}; sleep 1) | openssl s_client -connect {HOST}:8443 -servername {NAME} \
                 {version} -ign_eof {more} 2>&1 || true"
            );
            shell(&stage.lab.client, &script)
        };
        let first = connect(&format!("-sess_out {session}"));
        assert!(first.contains("New, TLSv1") && first.contains("200 OK"), "{first}");

        let renewed = Certificate::for_names(&[NAME]).unwrap();
        renewed.write(&stage.site.folder().join("tls")).unwrap();
        let applied = stage.enforcer(&["policy", "apply"]);
        assert!(applied.is_success(), "{applied}");

        let again = connect(&format!("-sess_in {session}"));
        assert!(again.contains("Reused, TLSv1") && again.contains("200 OK"), "{version}: {again}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_staple_is_served_while_it_counts_and_told_when_it_does_not() {
    let stage = stage();
    let agent = stage.agent.as_ref().unwrap();
    agent.wait_until_said("is not stapled: it is no OCSP response").unwrap();
    assert!(!stapled(&stage));
    let tls = stage.site.folder().join("tls");
    issue(&tls, "api", "api.test");
    issue(&tls, "other", "other.test");

    let put = |from: &str| std::fs::copy(tls.join(from), tls.join("api.ocsp")).unwrap();
    for (file, to) in [("api.crt", "cert.pem"), ("api.key", "key.pem")] {
        std::fs::copy(tls.join(file), tls.join(to)).unwrap();
    }
    put("api.der");
    stage.agent.as_ref().unwrap().hang_up().unwrap();
    wait_until("the staple is served", DEADLINE, || stapled(&stage)).unwrap();

    put("other.der");
    assert!(stage.enforcer(&["policy", "apply"]).is_success());
    agent.wait_until_said("is not stapled: it is about another certificate").unwrap();
    assert!(!stapled(&stage));
    assert_eq!(names(&stage, "-servername api.test"), ["api.test"]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn no_handshake_fails_while_certificates_are_replaced_and_a_broken_one_changes_nothing() {
    let stage = stage();
    let tls = stage.site.folder().join("tls");
    let (stop, served) = (AtomicBool::new(false), AtomicU32::new(0));
    let failures = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        match handshake(&stage) {
                            Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
                            Err(error) => failures.push(error),
                        }
                    }
                    failures
                })
            })
            .collect();
        for round in 0..12 {
            let before = served.load(Ordering::Relaxed);
            match round % 3 {
                0 => std::fs::write(tls.join("second/cert.pem"), "broken").unwrap(),
                _ => Certificate::for_names(&["second.test"])
                    .unwrap()
                    .write(&tls.join("second"))
                    .unwrap(),
            }
            let applied = stage.enforcer(&["policy", "apply"]);
            assert_eq!(applied.is_success(), round % 3 != 0, "{applied}");
            wait_until("handshakes go on", DEADLINE, || {
                served.load(Ordering::Relaxed) > before + 5
            })
            .unwrap();
            assert_eq!(names(&stage, "-servername second.test"), ["second.test"]);
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });

    assert_eq!(failures, [""; 0]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_expired_certificate_is_told_and_served_until_it_is_replaced() {
    let stage = stage();
    let tls = stage.site.folder().join("tls");
    let dates = format!(
        "openssl s_client -connect {HOST}:8443 -servername second.test </dev/null 2>/dev/null | \
         openssl x509 -noout -enddate"
    );
    let key = KeyPair::generate().unwrap();
    let mut expired = CertificateParams::new(["second.test".to_owned()]).unwrap();
    expired.not_before = date_time_ymd(2_020, 1, 1);
    expired.not_after = date_time_ymd(2_021, 1, 1);
    let expired = expired.self_signed(&key).unwrap();
    std::fs::write(tls.join("second/cert.pem"), expired.pem()).unwrap();
    std::fs::write(tls.join("second/key.pem"), key.serialize_pem()).unwrap();

    assert!(stage.enforcer(&["policy", "apply"]).is_success());

    let agent = stage.agent.as_ref().unwrap();
    agent.wait_until_said("has expired on").unwrap();
    assert_eq!(names(&stage, "-servername second.test"), ["second.test"]);
    let seen = shell(&stage.lab.client, &dates);
    assert!(seen.contains("2021 GMT"), "{seen}");
    Certificate::for_names(&["second.test"]).unwrap().write(&tls.join("second")).unwrap();
    assert!(stage.enforcer(&["policy", "apply"]).is_success());
    let seen = shell(&stage.lab.client, &dates);
    assert!(!seen.contains("2021 GMT"), "{seen}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_balancer_speaks_for_its_clients_and_nobody_else_may() {
    let stage = stage();
    // curl speaks version 1, for itself.
    let curl = |more: &str| {
        let script = format!(
            "curl -sk {more} --connect-to ::{HOST}:8444 -o /dev/null -w '%{{http_code}}' \
             https://api.test:8444/healthz || true"
        );
        shell(&stage.lab.client, &script)
    };
    assert_eq!(curl("--haproxy-protocol"), "200");
    assert_eq!(curl(""), "000", "a balancer that says nothing is not served");
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x12\x67\x01\xbb";
    let get = b"GET /healthz HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n";
    let told = said(&stage, 8446, &[&v2[..], get].concat());
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    for hostile in [
        &b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2\n"[..],
        b"PROXY TCP4 203.0.113.07 10.0.0.1 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c",
    ] {
        assert_eq!(said(&stage, 8446, &[hostile, get].concat()), "", "{hostile:?}");
    }
    let told = said(&stage, 8445, &[&v2[..], get].concat());
    assert!(!told.contains("HTTP/1.1 200"), "{told}");
    assert_eq!(stage.upstream.requests(), 2);

    let mut records = stage.records_of("http");
    records.retain(|record| record["body"]["status"] == 200);
    let [by_curl, by_v2] = &records[..] else { panic!("{records:#?}") };
    assert_eq!(by_curl["body"]["source"], CLIENT.v4.to_string());
    assert_eq!(by_v2["body"]["source"], "203.0.113.7");
    assert_eq!(by_v2["body"]["source_by"], "proxy-protocol");
    assert!(by_v2["body"]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_guesses_keys_through_a_proxy_is_blocked_at_layer_7_and_nobody_with_him() {
    let stage = stage();
    let ask = |client: &str, key: &str| {
        let request = format!(
            "GET /v1/orders HTTP/1.1\r\nHost: api.test\r\nX-Api-Key: {key}\r\n\
             X-Forwarded-For: 6.6.6.6, {client}, 10.1.2.3\r\nConnection: close\r\n\r\n"
        );
        let answer = said(&stage, 8445, request.as_bytes());
        answer.get(9..12).unwrap_or_default().to_owned()
    };
    let reader = stage.key("client", "reader");
    for _ in 0..THRESHOLD {
        assert_eq!(ask("203.0.113.66", "wrong"), "401");
    }
    wait_until("the guesses are answered", DEADLINE, || stage.block_of("203.0.113.66").is_some())
        .unwrap();

    let block = stage.block_of("203.0.113.66").unwrap();
    assert_eq!(block["through"], "127.0.0.1");
    assert_eq!((&block["kernel"], &block["layer7"]), (&serde_json::Value::Null, &true.into()));
    let listed = stage.enforcer(&["blocks"]);
    assert!(listed.stdout.contains("layer 7 only: came through 127.0.0.1"), "{listed}");
    assert_eq!(ask("203.0.113.66", &reader), "403");
    assert_eq!(ask("203.0.113.67", &reader), "200");
    stage.expect_verified();
    let findings = stage.records_of("finding");
    assert_eq!(findings[0]["body"]["through"], "127.0.0.1");
    let applied = stage.records_of("block");
    let applied = applied.iter().find(|one| one["body"]["what"] == "applied").unwrap();
    assert!(applied["body"]["detail"].as_str().unwrap().contains("came through 127.0.0.1"));
    // Whom many come through is not blocked by mistake.
    let refused = stage.enforcer(&["quarantine", "10.1.2.3", "--reason", "test"]);
    assert!(refused.stderr.contains("trusted proxy of listener `behind`"), "{refused}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_layer_7_block_outlives_the_agent_and_never_reaches_the_kernel() {
    let mut stage = stage();
    let guess = b"GET /v1/orders HTTP/1.1\r\nHost: api.test\r\nX-Api-Key: wrong\r\n\
                  Forwarded: for=\"[2001:db8::66]\"\r\nConnection: close\r\n\r\n";
    for _ in 0..THRESHOLD {
        assert!(said(&stage, 8445, guess).starts_with("HTTP/1.1 401"));
    }
    let target = "2001:db8::66";
    wait_until("the guesses are answered", DEADLINE, || stage.block_of(target).is_some()).unwrap();

    stage.kill();
    stage.start();

    assert_eq!(stage.block_of(target).unwrap()["through"], "127.0.0.1");
    assert!(said(&stage, 8445, guess).starts_with("HTTP/1.1 403"));
    stage.expect_verified();
    let why = stage.enforcer(&["blocks", "--why", target]);
    assert!(why.stdout.contains("came through 127.0.0.1"), "{why}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_a_stranger_says_about_where_it_comes_from_is_in_vain() {
    let stage = stage();
    let script = format!(
        "curl -sk --connect-to ::{HOST}:8443 -H 'X-Forwarded-For: 203.0.113.7' \
         -H 'Forwarded: for=203.0.113.8' -o /dev/null -w '%{{http_code}}' \
         https://api.test:8443/healthz"
    );

    assert_eq!(shell(&stage.lab.client, &script), "200");

    let seen = stage.upstream.seen().pop().unwrap();
    assert_eq!(seen.headers["x-forwarded-for"], CLIENT.v4.to_string());
    assert!(!seen.headers.contains_key("forwarded"));
    let records = stage.records_of("http");
    assert!(records[0]["body"].get("source").is_none(), "{}", records[0]);
    let ja4 = records[0]["body"]["ja4"].as_str().unwrap();
    assert!(ja4.starts_with("t13d") && ja4.len() == 36, "{ja4}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn curl_asks_over_a_socket_in_the_file_system_and_is_known_by_its_user() {
    let mut stage = stage();
    let socket = stage.site.folder().join("api.sock");
    let ask = |stage: &Stage| {
        let script = format!(
            "curl -s --unix-socket {} -o /dev/null -w '%{{http_code}}' http://api.test/healthz",
            socket.display()
        );
        shell(&stage.lab.host, &script)
    };
    assert_eq!(ask(&stage), "200");
    let record = stage.records_of("http").pop().unwrap();
    assert!(record["body"]["peer"].as_str().unwrap().starts_with("unix:uid=0,gid=0,pid="));
    let mode = shell(&stage.lab.host, &format!("stat -c %a {}", socket.display()));
    assert_eq!(mode.trim(), "660");

    // What a dead agent leaves is replaced.
    stage.kill();
    stage.start();
    assert_eq!(ask(&stage), "200");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn browsers_are_sent_to_https_and_told_to_stay_there() {
    let stage = stage();
    let heads = |url: &str, more: &str| {
        let script = format!("curl -skI {more} --connect-to ::{HOST}: '{url}'");
        shell(&stage.lab.client, &script).to_ascii_lowercase()
    };
    let secure = heads("https://api.test:8443/healthz", "");
    let hsts = "strict-transport-security: max-age=63072000; includesubdomains; preload";
    assert!(secure.contains(hsts), "{secure}");
    let door = heads("http://api.test:8080/v1/orders?a=b", "-H 'X-Forwarded-Host: evil.test'");
    assert!(door.contains(" 308 "), "{door}");
    assert!(door.contains("location: https://api.test:8443/v1/orders?a=b"), "{door}");
    assert!(!door.contains("strict-transport-security"), "{door}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn sslyze_finds_protocols_ciphers_and_curves_as_mozilla_wants_them() {
    let stage = stage();
    let tls = stage.site.folder().join("tls");
    issue(&tls, "api", "api.test");
    for (file, to) in [("api.crt", "cert.pem"), ("api.key", "key.pem"), ("api.der", "api.ocsp")] {
        std::fs::copy(tls.join(file), tls.join(to)).unwrap();
    }
    assert!(stage.enforcer(&["policy", "apply"]).is_success());
    let report = stage.site.folder().join("sslyze.json");
    let scanner = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/sslyze");

    let said = shell(
        &stage.lab.client,
        &format!(
            "PYTHONPATH={scanner} python3 -m sslyze --mozilla_config=intermediate --json_out={} \
             --resum --heartbleed --openssl_ccs --robot --reneg --compression --early_data --fallback \
             '{NAME}:8443{{{HOST}}}' 2>&1 || true",
            report.display()
        ),
    );

    for wrong in [
        "tls_versions",
        "ciphers",
        "cipher_suites",
        "tls_curves",
        "curves",
        "dh_param",
        "VULNERABLE",
        "hsts",
    ] {
        let named =
            said.lines().find(|line| line.contains(wrong) && line.trim_start().starts_with('*'));
        assert_eq!(named, None, "{said}");
    }
    let report = std::fs::read(&report).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let results = &report["server_scan_results"][0]["scan_result"];
    let result = |name: &str| results[name]["result"].clone();
    for old in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        let accepted = result(&format!("{old}_cipher_suites"))["accepted_cipher_suites"].clone();
        assert_eq!(accepted, serde_json::json!([]), "{old}");
    }
    let names = |version: &str| -> Vec<String> {
        let accepted = result(&format!("{version}_cipher_suites"));
        let accepted = accepted["accepted_cipher_suites"].as_array().unwrap().clone();
        let name =
            |one: &serde_json::Value| one["cipher_suite"]["name"].as_str().unwrap().to_owned();
        let mut names: Vec<_> = accepted.iter().map(name).collect();
        names.sort();
        names
    };
    assert_eq!(
        names("tls_1_3"),
        ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
    );
    assert_eq!(names("tls_1_2").len(), 3, "{:?}", names("tls_1_2"));
    let curves = result("elliptic_curves")["supported_curves"].as_array().unwrap().clone();
    let mut curves: Vec<_> = curves.iter().map(|curve| curve["name"].as_str().unwrap()).collect();
    curves.sort_unstable();
    assert_eq!(curves, ["X25519", "secp256r1", "secp384r1"]);
}

// === what others say ===

/// What a shell command says; it must succeed.
fn shell(host: &Namespace, script: &str) -> String {
    let mut command = host.command("sh");
    command.args(["-c", script]);
    host.succeed(command).unwrap()
}

/// The names in the certificate that openssl gets.
fn names(stage: &Stage, arguments: &str) -> Vec<String> {
    let script = format!(
        "openssl s_client -connect {HOST}:8443 {arguments} </dev/null 2>/dev/null | \
         openssl x509 -noout -ext subjectAltName"
    );
    let said = shell(&stage.lab.client, &script);
    said.split("DNS:").skip(1).map(|name| name.trim_matches([',', ' ', '\n']).to_owned()).collect()
}

fn stapled(stage: &Stage) -> bool {
    let script = format!(
        "openssl s_client -connect {HOST}:8443 -servername {NAME} -status </dev/null 2>&1 || true"
    );
    let said = shell(&stage.lab.client, &script);
    assert!(said.contains("OCSP response:"), "{said}");
    said.contains("OCSP Response Status: successful") && said.contains("Cert Status: good")
}

/// A certificate `NAME.crt` with its key, and what its authority says of it, `NAME.der`.
fn issue(folder: &Path, file: &str, name: &str) {
    let mut script = String::from("set -e; exec 2>&1; ");
    writeln!(
        script,
        "cd {}; [ -e ca.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
         -nodes -subj /CN=lab -days 30 -keyout ca.key -out ca.pem
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} \
         -keyout {file}.key -out {file}.csr
         printf 'subjectAltName=DNS:{name}\\n' > {file}.ext
         openssl x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
         -extfile {file}.ext -out {file}.leaf
         cat {file}.leaf ca.pem > {file}.crt
         serial=$(openssl x509 -in {file}.leaf -noout -serial | cut -d= -f2)
         printf 'V\\t300101000000Z\\t\\t%s\\tunknown\\t/CN={name}\\n' $serial > {file}.index
         openssl ocsp -issuer ca.pem -cert {file}.leaf -no_nonce -reqout {file}.req
         openssl ocsp -index {file}.index -CA ca.pem -rsigner ca.pem -rkey ca.key -ndays 2 \
         -reqin {file}.req -respout {file}.der; chmod 600 {file}.key",
        folder.display()
    )
    .unwrap();
    let made = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
}

/// What the host's own listener at this port answers to these bytes.
fn said(stage: &Stage, port: u16, bytes: &[u8]) -> String {
    let talk = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Whoever is refused at once may be gone before everything is written.
        drop(stream.write_all(bytes));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    };
    stage.lab.host.run(talk).unwrap()
}

/// A whole connection by TLS with a request.
fn handshake(stage: &Stage) -> Result<(), String> {
    let client = stage.client(Family::V4);
    let mut stream = client.tls_socket(&[b"http/1.1"]).map_err(|error| format!("{error:#}"))?;
    let get = format!("GET /healthz HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    stream.write_all(get.as_bytes()).map_err(|error| error.to_string())?;
    let mut line = [0; 12];
    stream.read_exact(&mut line).map_err(|error| error.to_string())?;
    match &line {
        b"HTTP/1.1 200" => Ok(()),
        other => Err(String::from_utf8_lossy(other).into_owned()),
    }
}
