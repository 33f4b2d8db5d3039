//! Which certificate is shown to whom, what is stapled to it, and what a reload takes away.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ::ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use enforcer_model::{Clock, Moment, Reason, SystemClock, Timestamp};
use enforcer_policy::Policy;
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair, SerialNumber, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, ServerConnection,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tempfile::TempDir;

use super::facts::{Facts, Names};
use super::{Certificates, TlsError};

#[test]
fn a_client_gets_the_certificate_for_just_its_name_then_a_wildcard_then_the_first() {
    let house = House::new(&[
        ("default", &["api.test", "www.test"]),
        ("wild", &["*.wild.test"]),
        ("exact", &["one.wild.test"]),
        ("two", &["a.two.test", "b.two.test"]),
    ]);

    for (name, expected) in [
        (Some("api.test"), "default"),
        (Some("WWW.test"), "default"),
        (Some("one.wild.test"), "exact"),
        (Some("other.wild.test"), "wild"),
        (Some("b.two.test"), "two"),
        (Some("deep.other.wild.test"), "default"),
        (Some("wild.test"), "default"),
        (Some("nobody.test"), "default"),
        (None, "default"),
    ] {
        assert_eq!(house.shown(name), expected, "{name:?}");
    }
}

#[test]
fn of_two_certificates_for_one_name_a_client_gets_the_one_that_it_can_verify() {
    let house = House::new(&[("ecdsa", &["api.test"])]);
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    house.write("ed", &["api.test"], &key, 9, 2_090);
    let house = house.with(&["ecdsa", "ed"]);

    let only = |scheme| house.shake_with(Some("api.test"), Some(scheme)).0;
    assert_eq!(only(SignatureScheme::ECDSA_NISTP256_SHA256), "ecdsa");
    assert_eq!(only(SignatureScheme::ED25519), "ed");
    assert_eq!(house.shown(None), "ecdsa");
}

#[test]
fn a_request_for_a_host_that_the_connection_is_not_for_is_misdirected() {
    let house = House::new(&[("a", &["a.test", "*.a.test"]), ("b", &["b.test"])]);
    for (name, host, is_misdirected) in [
        // What the certificate is for, whatever was asked for first.
        (Some("a.test"), "a.test", false),
        (Some("a.test"), "x.a.test", false),
        (Some("x.a.test"), "a.test", false),
        (None, "a.test", false),
        // What another one is for.
        (Some("a.test"), "b.test", true),
        (Some("b.test"), "x.a.test", true),
        (None, "b.test", true),
        (Some("nobody.test"), "b.test", true),
        // What none is for: only under the name that was asked for, or by address.
        (Some("nobody.test"), "nobody.test", false),
        (Some("nobody.test"), "other.test", true),
        (Some("a.test"), "nobody.test", true),
        (Some("a.test"), "x.y.a.test", true),
        (None, "nobody.test", false),
        (None, "192.0.2.1", false),
        (Some("a.test"), "192.0.2.1", false),
        (Some("a.test"), "[2001:db8::1]", false),
    ] {
        let shown = house.certificates.of("public").unwrap().shown(name);

        let refused = shown.refuse_misdirected(host, &house.certificates);

        assert_eq!(refused.is_err(), is_misdirected, "{name:?} {host}");
        if let Err(rejection) = refused {
            assert_eq!(rejection.reason, Reason::HostMisdirected);
            assert_eq!(rejection.reason.status(), 421);
        }
    }
}

#[test]
fn a_connection_to_one_listener_is_not_for_the_names_of_another() {
    let house = House::new(&[("a", &["a.test"]), ("b", &["b.test"])]);
    let text = format!(
        "{}[listen.other]\naddress = '127.0.0.1:0'\n\
         tls = {{ certificate = 'b.pem', key = 'b.key' }}\n",
        listener(&["a"], "")
    );
    house.certificates.reload(&house.parse(&text)).unwrap();

    // Although the client asked for that name, and was shown what it may have taken for good.
    let shown = house.certificates.of("public").unwrap().shown(Some("b.test"));
    assert!(shown.refuse_misdirected("b.test", &house.certificates).is_err());
    let shown = house.certificates.of("other").unwrap().shown(Some("b.test"));
    assert!(shown.refuse_misdirected("b.test", &house.certificates).is_ok());
}

#[test]
fn sessions_are_resumed_after_a_reload_unless_other_clients_are_let_in() {
    for versions in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let house = House::new(&[("a", &["a.test"])]);
        let client = client(Some(versions), None, &Arc::default());
        assert_ne!(house.shake(&client, "a.test"), HandshakeKind::Resumed);
        assert_eq!(house.shake(&client, "a.test"), HandshakeKind::Resumed);

        house.write("a", &["a.test"], &KeyPair::generate().unwrap(), 7, 2_090);
        house.certificates.reload(&house.policy(&["a"])).unwrap();
        assert_eq!(house.shake(&client, "a.test"), HandshakeKind::Resumed, "{versions:?}");

        let asks = listener(&["a"], ", clients = { ca = 'a.pem' }");
        house.certificates.reload(&house.parse(&asks)).unwrap();
        assert_ne!(house.shake(&client, "a.test"), HandshakeKind::Resumed, "{versions:?}");
        assert_eq!(house.shake(&client, "a.test"), HandshakeKind::Resumed);
        let requires = listener(&["a"], ", clients = { ca = 'a.pem', require = true }");
        house.certificates.reload(&house.parse(&requires)).unwrap();
        assert!(house.try_shake(&client, "a.test").is_err(), "a ticket lets nobody in");
    }
}

#[test]
fn a_file_that_is_broken_leaves_every_certificate_in_force() {
    let house = House::new(&[("a", &["a.test"]), ("b", &["b.test"])]);
    let before = house.certificates.list();

    for (file, text) in [("b.pem", ""), ("b.key", "nonsense"), ("b.pem", "-----BEGIN")] {
        house.write("a", &["new.test"], &KeyPair::generate().unwrap(), 5, 2_090);
        let good = fs::read(house.folder.path().join(file)).unwrap();
        fs::write(house.folder.path().join(file), text).unwrap();

        let refused = house.certificates.reload(&house.policy(&["a", "b"])).unwrap_err();

        assert!(refused.to_string().contains(file), "{refused}");
        assert_eq!(house.certificates.list(), before);
        fs::write(house.folder.path().join(file), good).unwrap();
    }
    let foreign = KeyPair::generate().unwrap().serialize_pem();
    fs::write(house.folder.path().join("b.key"), foreign).unwrap();
    let refused = house.certificates.reload(&house.policy(&["a", "b"])).unwrap_err();
    assert!(matches!(refused, TlsError::Pair { .. }), "{refused}");
    assert_eq!(house.certificates.list(), before);
}

#[test]
fn an_operator_is_told_of_every_certificate_what_it_says_and_what_is_wrong() {
    let house = House::new(&[("a", &["b.test", "a.test", "*.a.test"]), ("b", &["c.test"])]);
    house.write("b", &["c.test"], &KeyPair::generate().unwrap(), 8, 2_020);
    house.certificates.reload(&house.policy(&["a", "b"])).unwrap();

    let list = house.certificates.list();

    let [a, b] = &*list else { panic!("{list:?}") };
    assert_eq!((&*a.listener, a.default, b.default), ("public", true, false));
    assert_eq!(a.names, ["*.a.test", "a.test", "b.test"]);
    assert_eq!(a.subject, "CN=rcgen self signed cert");
    assert_eq!(a.issuer, a.subject);
    assert_eq!(a.not_after.to_string(), "2090-01-01T00:00:00.000000Z");
    assert_eq!(a.sha256.len(), 64);
    let settings = house.certificates.of("public").unwrap();
    let warnings = settings.shelf.warnings(SystemClock.now().wall);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("b.pem") && warnings[0].contains("expired"), "{warnings:?}");
}

#[test]
fn a_staple_is_shown_as_long_as_it_counts_and_to_nobody_else() {
    let house = House::new(&[("a", &["a.test"]), ("b", &["b.test"])]);
    let der = fs::read(house.folder.path().join("a.der")).unwrap();
    let facts = Facts::read(&der).unwrap();
    let good = Ocsp::of(&facts);

    house.staple(&good.der());
    assert_eq!(house.stapled("a.test").as_deref(), Some(&*good.der()));
    assert_eq!(house.stapled("b.test"), None);
    assert_eq!(house.problem(), None);
    house.clock.set("2026-12-31T23:59:59Z");
    assert!(house.stapled("a.test").is_some());
    house.clock.set("2027-01-01T00:00:00Z");
    assert_eq!(house.stapled("a.test"), None, "it ran out while it was in force");
    assert!(house.problem().unwrap().contains("expired"));
    house.clock.set("2025-06-01T00:00:00Z");
    assert_eq!(house.stapled("a.test"), None);
    house.clock.set("2026-06-01T00:00:00Z");

    let other = Facts::read(&fs::read(house.folder.path().join("b.der")).unwrap()).unwrap();
    for (useless, why) in [
        (Ocsp::of(&other).der(), "another certificate"),
        (Ocsp { serial: vec![1, 2, 3], ..good.clone() }.der(), "another certificate"),
        (Ocsp { key: b"another key".to_vec(), ..good.clone() }.der(), "another certificate"),
        (Ocsp { status: 0xa1, ..good.clone() }.der(), "revoked"),
        (Ocsp { status: 0x82, ..good.clone() }.der(), "knows nothing"),
        (Ocsp { outcome: 6, ..good.clone() }.der(), "an error"),
        (Ocsp { until: b"20260101000000Z".to_vec(), ..good.clone() }.der(), "expired"),
        (b"-----BEGIN OCSP RESPONSE-----".to_vec(), "no OCSP response"),
        (good.der()[..good.der().len() - 1].to_vec(), "no OCSP response"),
        ([&good.der()[..], &[0]].concat(), "no OCSP response"),
        (vec![0; 70_000], "more than"),
    ] {
        house.staple(&useless);
        assert_eq!(house.stapled("a.test"), None, "{why}");
        let problem = house.problem().unwrap();
        assert!(problem.contains(why), "{problem}");
    }
    fs::remove_file(house.folder.path().join("a.ocsp")).unwrap();
    house.certificates.reload(&house.parse(&stapling())).unwrap();
    assert!(house.problem().unwrap().contains("No such file"));
}

#[test]
fn a_wildcard_stands_for_one_label_and_case_makes_no_difference() {
    let key = KeyPair::generate().unwrap();
    let names = ["A.Test".to_owned(), "*.B.test".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let names = Names::read(certificate.der()).unwrap();

    for host in ["a.test", "x.b.test"] {
        assert!(names.cover(host), "{host}");
    }
    for host in ["b.test", "x.y.b.test", "x.a.test", "", ".b.test.", "*.b.test.x"] {
        assert!(!names.cover(host), "{host}");
    }
}

// === a house with certificates ===

struct House {
    folder: TempDir,
    clock: Arc<TestClock>,
    certificates: Arc<Certificates>,
}

struct TestClock(Mutex<Timestamp>);

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment { wall: *self.0.lock(), ..SystemClock.now() }
    }
}

impl TestClock {
    fn set(&self, time: &str) {
        *self.0.lock() = time.parse().unwrap();
    }
}

impl House {
    fn new(certificates: &[(&str, &[&str])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (place, (file, names)) in certificates.iter().enumerate() {
            let serial = u64::try_from(place).unwrap() + 40;
            write(folder.path(), file, names, &KeyPair::generate().unwrap(), serial, 2_090);
        }
        let files: Vec<&str> = certificates.iter().map(|(file, _)| *file).collect();
        Self::of(folder, &files)
    }

    fn of(folder: TempDir, files: &[&str]) -> Self {
        let clock = Arc::new(TestClock(Mutex::new("2026-06-01T00:00:00Z".parse().unwrap())));
        let policy = parse(folder.path(), &listener(files, ""));
        let handed: Arc<dyn Clock> = Arc::<TestClock>::clone(&clock);
        let certificates = Arc::new(Certificates::load(&policy, &handed).unwrap());
        Self { folder, clock, certificates }
    }

    /// With these certificates from the same folder.
    fn with(self, files: &[&str]) -> Self {
        Self::of(self.folder, files)
    }

    fn write(&self, file: &str, names: &[&str], key: &KeyPair, serial: u64, year: i32) {
        write(self.folder.path(), file, names, key, serial, year);
    }

    fn policy(&self, files: &[&str]) -> Policy {
        self.parse(&listener(files, ""))
    }

    fn parse(&self, listeners: &str) -> Policy {
        parse(self.folder.path(), listeners)
    }

    fn staple(&self, der: &[u8]) {
        fs::write(self.folder.path().join("a.ocsp"), der).unwrap();
        self.certificates.reload(&self.parse(&stapling())).unwrap();
    }

    fn problem(&self) -> Option<String> {
        self.certificates.list()[0].staple.as_ref().unwrap().problem.clone()
    }

    /// The file of the certificate that a client gets who asks for `name`.
    fn shown(&self, name: Option<&str>) -> String {
        self.shake_with(name, None).0
    }

    fn stapled(&self, name: &str) -> Option<Vec<u8>> {
        self.shake_with(Some(name), None).1
    }

    fn shake_with(
        &self,
        name: Option<&str>,
        scheme: Option<SignatureScheme>,
    ) -> (String, Option<Vec<u8>>) {
        let seen = Arc::new(Mutex::default());
        let client = client(None, scheme, &seen);
        // Who connects by address asks for no name.
        self.try_shake(&client, name.unwrap_or("192.0.2.1")).unwrap();
        let (shown, ocsp) = seen.lock().clone();
        let is_it = |entry: &fs::DirEntry| fs::read(entry.path()).unwrap() == shown;
        let file = fs::read_dir(self.folder.path()).unwrap().map(Result::unwrap).find(is_it);
        let file = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        (file, (!ocsp.is_empty()).then_some(ocsp))
    }

    fn shake(&self, client: &Arc<ClientConfig>, name: &str) -> HandshakeKind {
        self.try_shake(client, name).unwrap()
    }

    fn try_shake(&self, client: &Arc<ClientConfig>, name: &str) -> Result<HandshakeKind, Error> {
        let config = Arc::clone(&self.certificates.of("public").unwrap().config);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut server = ServerConnection::new(config).unwrap();
        for _ in 0..8 {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets()?;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(client.handshake_kind().unwrap())
    }
}

fn write(folder: &Path, file: &str, names: &[&str], key: &KeyPair, serial: u64, year: i32) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2_000, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    let certificate = params.self_signed(key).unwrap();
    fs::write(folder.join(format!("{file}.pem")), certificate.pem()).unwrap();
    fs::write(folder.join(format!("{file}.der")), certificate.der()).unwrap();
    fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).unwrap();
}

/// `[listen.public]` with these certificates.
fn listener(files: &[&str], more: &str) -> String {
    let (first, others) = files.split_first().unwrap();
    let pair = |file: &str| format!("certificate = '{file}.pem', key = '{file}.key'");
    let others: Vec<String> = others.iter().map(|file| format!("{{ {} }}", pair(file))).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!(", certificates = [{}]", others.join(", ")),
    };
    format!("[listen.public]\naddress = '127.0.0.1:0'\ntls = {{ {}{others}{more} }}\n", pair(first))
}

/// The same with two certificates, the first of which has a staple.
fn stapling() -> String {
    listener(&["a", "b"], ", ocsp = 'a.ocsp'")
}

fn parse(folder: &Path, listeners: &str) -> Policy {
    let text = format!(
        "version = 1\n{listeners}\n[upstream.a]\nhosts = ['127.0.0.1:9']\n[[route]]\nname = 'a'\n\
         match = '*/{{**}}'\nupstream = 'a'\npublic = true\n"
    );
    Policy::parse(&text, &folder.join("policy.toml")).unwrap_or_else(|error| panic!("{error}"))
}

type Seen = Arc<Mutex<(Vec<u8>, Vec<u8>)>>;

/// Takes every certificate, and keeps it with what is stapled to it.
#[derive(Debug)]
struct Witness {
    seen: Seen,
    algorithms: WebPkiSupportedAlgorithms,
    only: Option<SignatureScheme>,
}

fn client(
    version: Option<&'static rustls::SupportedProtocolVersion>,
    only: Option<SignatureScheme>,
    seen: &Seen,
) -> Arc<ClientConfig> {
    let provider = rustls::crypto::ring::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let versions = version.map_or_else(|| rustls::ALL_VERSIONS.to_vec(), |version| vec![version]);
    let verifier = Witness { seen: Arc::clone(seen), algorithms, only };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Arc::new(config)
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock() = (own.to_vec(), ocsp.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, own, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, own, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.only.map_or_else(|| self.algorithms.supported_schemes(), |only| vec![only])
    }
}

/// What an authority says of a certificate.
#[derive(Clone)]
struct Ocsp {
    outcome: u8,
    issuer: Vec<u8>,
    key: Vec<u8>,
    serial: Vec<u8>,
    status: u8,
    until: Vec<u8>,
}

impl Ocsp {
    /// Of one that signs itself.
    fn of(facts: &Facts) -> Self {
        Self {
            outcome: 0,
            issuer: facts.issuer_der.to_vec(),
            key: facts.public_key.to_vec(),
            serial: facts.serial.to_vec(),
            status: 0x80,
            until: b"20270101000000Z".to_vec(),
        }
    }

    fn der(&self) -> Vec<u8> {
        let hash = |bytes: &[u8]| value(4, &[digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref()]);
        let time = |text: &[u8]| value(0x18, &[text]);
        let algorithm = value(0x30, &[&value(6, &[&[0x2b, 0x0e, 3, 2, 0x1a]]), &value(5, &[])]);
        let serial = value(2, &[&self.serial]);
        let id = value(0x30, &[&algorithm, &hash(&self.issuer), &hash(&self.key), &serial]);
        let status = match self.status {
            0xa1 => value(0xa1, &[&time(b"20260101000000Z")]),
            tag => value(tag, &[]),
        };
        let until = value(0xa0, &[&time(&self.until)]);
        let from = time(b"20260101000000Z");
        let answer = value(0x30, &[&id, &status, &from, &until]);
        let responder = value(0xa2, &[&value(4, &[&[7; 20]])]);
        let answers = value(0x30, &[&answer]);
        let data = value(0x30, &[&responder, &time(b"20260101000000Z"), &answers]);
        let basic = value(0x30, &[&data, &algorithm, &value(3, &[&[0, 1, 2, 3]])]);
        let kind = value(6, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]]);
        let typed = value(0x30, &[&kind, &value(4, &[&basic])]);
        value(0x30, &[&value(0x0a, &[&[self.outcome]]), &value(0xa0, &[&typed])])
    }
}

fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let inside = parts.concat();
    let length = match inside.len() {
        short @ 0..=0x7f => vec![u8::try_from(short).unwrap()],
        middle @ 0x80..=0xff => vec![0x81, u8::try_from(middle).unwrap()],
        long => [&[0x82][..], &u16::try_from(long).unwrap().to_be_bytes()].concat(),
    };
    [&[tag], &length[..], &inside].concat()
}
