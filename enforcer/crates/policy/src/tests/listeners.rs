//! Where clients are met, and whom listeners believe.

use std::path::Path;
use std::time::Duration;

use super::{SMALL, codes, read};
use crate::{Address, Hsts, Policy, Serves};

#[test]
fn a_listener_says_everything_about_its_certificates_its_proxies_and_its_places() {
    let policy = listening(
        "address = ['127.0.0.1:8443', 'unix:run/api.sock']\n\
         mode = '0600'\n\
         tls = { certificate = 'a.pem', key = 'a.key', ocsp = 'a.ocsp', certificates = [\n\
           { certificate = 'b.pem', key = 'b.key' }] }\n\
         hsts = { subdomains = true, preload = true }\n\
         trusted = ['10.0.0.0/8', 'net:balancers']\n\
         proxy_protocol = { from = 'net:balancers' }\n\
         [net]\nbalancers = ['192.0.2.1', '2001:db8::/32']",
    )
    .unwrap();

    let [listener] = policy.listeners() else { panic!() };
    assert_eq!(
        listener.addresses,
        [
            Address::Tcp("127.0.0.1:8443".parse().unwrap()),
            Address::Unix("/etc/enforcer/run/api.sock".into())
        ]
    );
    assert_eq!(listener.mode, 0o600);
    let Serves::Tls(tls) = &listener.serves else { panic!() };
    let [first, second] = &*tls.certificates else { panic!() };
    assert_eq!(first.ocsp.as_deref(), Some(Path::new("/etc/enforcer/a.ocsp")));
    assert_eq!(second.key, Path::new("/etc/enforcer/b.key"));
    let two_years = Duration::from_secs(2 * 365 * 86_400);
    assert_eq!(listener.hsts, Some(Hsts { age: two_years, subdomains: true, preload: true }));
    let trusts = |address: &str| listener.trusted.covering(address.parse().unwrap()).is_some();
    assert!(trusts("10.1.2.3") && trusts("192.0.2.1") && trusts("2001:db8::1"));
    assert!(!trusts("192.0.2.2"));
    assert_eq!(listener.proxy_protocol.len(), 2);
    assert_eq!(listener.proxies().count(), 5);
    assert!(policy.warnings().is_empty(), "{:?}", policy.warnings());
}

#[test]
fn clear_text_is_for_this_host_and_a_socket_in_the_file_system_is_this_host() {
    assert!(listening("address = ['unix:/run/api.sock', '127.0.0.1:80']").is_ok());
    assert_eq!(refused("address = ['unix:/run/api.sock', '0.0.0.0:80']"), ["E-POL-007"]);
}

#[test]
fn what_a_listener_cannot_mean_is_refused() {
    let plain = "address = '127.0.0.1:8080'\n";
    for (more, code) in [
        ("hsts = {}", "E-POL-022"),
        ("mode = '0660'", "E-POL-022"),
        ("mode = '660'", "E-POL-005"),
        ("mode = '0888'", "E-POL-005"),
        ("trusted = '0.0.0.0/0'", "E-POL-005"),
        ("trusted = ['::/0']", "E-POL-005"),
        ("trusted = 'net:nobody'", "E-POL-010"),
        ("trusted = 'proxy.example.com'", "E-POL-005"),
        ("proxy_protocol = {}", "E-POL-003"),
        ("proxy_protocol = { from = [] }", "E-POL-005"),
        ("proxy_protocol = { from = '10.0.0.1/8' }", "E-POL-005"),
    ] {
        let problems = refused(&format!("{plain}{more}"));
        assert!(problems.contains(&code), "{more}: {problems:?}");
    }
    let tls = "tls = { certificate = 'a', key = 'b' }\n";
    for (more, code) in [
        ("hsts = { preload = true }", "E-POL-022"),
        ("hsts = { preload = true, subdomains = true, age = '30d' }", "E-POL-022"),
        ("hsts = { age = '20y' }", "E-POL-005"),
    ] {
        let problems = refused(&format!("{plain}{tls}{more}"));
        assert!(problems.contains(&code), "{more}: {problems:?}");
    }
    let long = format!("address = 'unix:/{}'", "x".repeat(100));
    assert_eq!(refused(&long), ["E-POL-005"]);
    assert_eq!(refused("address = ['unix:/a', 'unix:/a']"), ["E-POL-009"]);
}

#[test]
fn a_change_of_whom_is_believed_needs_no_restart_and_one_of_the_places_does() {
    let with = |listen: &str| listening(listen).unwrap();
    let before = with("address = 'unix:/run/a.sock'");

    let believes = with("address = 'unix:/run/a.sock'\ntrusted = '127.0.0.1'");
    assert!(before.needs_restart(&believes).is_empty());
    for moved in ["address = 'unix:/run/b.sock'", "address = 'unix:/run/a.sock'\nmode = '0666'"] {
        assert_eq!(before.needs_restart(&with(moved)), ["listen"]);
    }
}

fn text(listen: &str) -> String {
    SMALL.replace("address = \"127.0.0.1:8080\"", listen)
}

fn listening(listen: &str) -> Result<Policy, crate::Problems> {
    Policy::parse(&text(listen), Path::new("/etc/enforcer/policy.toml"))
}

fn refused(listen: &str) -> Vec<&'static str> {
    codes(&read(&text(listen)).unwrap_err())
}
