//! Clients that show a certificate: what they may do by the name in it, and when it stops counting.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use enforcer_tests::lab::{DEADLINE, Family, Seen, wait_until};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::stage::{NAME, Stage};

/// Who has a certificate of the mesh is known by it; a key opens the same, if it is shown together
/// with the certificate that it goes with.
const POLICY: &str = r#"
version = 1

[agent]
state  = "state"
socket = "admin.sock"

[listen.public]
address = ["0.0.0.0:8443"]
tls     = { certificate = "tls/cert.pem", key = "tls/key.pem", clients = { ca = "tls/ca.pem", crl = "tls/crl.pem", require = REQUIRE } }

[role]
billing = { from = ["spiffe://example.com/ns/pay/*", "key"] }

[upstream.app]
hosts = ["127.0.0.1:9000"]

[[route]]
name     = "bills"
match    = "api.test/bills/{**}"
upstream = "app"

  [[route.allow]]
  method = ["GET"]
  role   = "billing"

[[route]]
name     = "health"
match    = "api.test/healthz"
upstream = "app"
public   = true
"#;

const PAY: &str = "spiffe://example.com/ns/pay/api";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_workload_may_do_what_its_spiffe_id_says() {
    let mesh = Mesh::open("true");
    let pay = mesh.admit(&[PAY], 1);

    assert_eq!(mesh.ask(Some(&pay), "/bills/1", ""), Some(200));
    for stranger in [
        &["spiffe://example.com/ns/web/api"][..],
        &["spiffe://example.org/ns/pay/api"],
        &["spiffe://example.com/ns/payroll"],
        &["https://example.com/ns/pay/api"],
        &[PAY, "spiffe://example.com/ns/web/api"],
    ] {
        let stranger = mesh.admit(stranger, 2);
        assert!(matches!(mesh.ask(Some(&stranger), "/bills/1", ""), Some(401 | 403)));
        assert_eq!(mesh.ask(Some(&stranger), "/healthz", ""), Some(200), "public");
    }

    let bills = |seen: &&Seen| seen.target.path().starts_with("/bills");
    let seen = mesh.stage.upstream.seen();
    assert_eq!(seen.iter().filter(bills).count(), 1);
    let on_record = || mesh.stage.records_of("http");
    wait_until("every request is on record", DEADLINE, || on_record().len() == 11).unwrap();
    let records = on_record();
    let served = records.iter().find(|record| record["body"]["status"] == 200).unwrap();
    assert_eq!(served["body"]["path"], "/bills/1");
    assert_eq!(served["body"]["who"]["principal"], PAY);
    assert_eq!(served["body"]["who"]["role"], "billing");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_has_no_good_certificate_gets_no_connection_where_one_is_required() {
    let mesh = Mesh::open("true");
    let good = mesh.admit(&[PAY], 1);
    let foreign = Authority::new().admit(&[PAY], 1, 2_090);
    let expired = mesh.authority.admit(&[PAY], 2, 2_020);
    let revoked = mesh.admit(&[PAY], REVOKED);

    assert_eq!(mesh.ask(Some(&good), "/bills/1", ""), Some(200));
    for member in [None, Some(&foreign), Some(&expired), Some(&revoked)] {
        assert_eq!(mesh.ask(member, "/healthz", ""), None);
    }
    assert_eq!(mesh.stage.upstream.requests(), 1);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_certificate_that_is_asked_for_may_be_left_out_but_not_be_bad() {
    let mesh = Mesh::open("false");
    let foreign = Authority::new().admit(&[PAY], 1, 2_090);
    let revoked = mesh.admit(&[PAY], REVOKED);

    assert_eq!(mesh.ask(None, "/healthz", ""), Some(200));
    assert_eq!(mesh.ask(None, "/bills/1", ""), Some(401));
    assert_eq!(mesh.ask(Some(&foreign), "/healthz", ""), None);
    assert_eq!(mesh.ask(Some(&revoked), "/healthz", ""), None);
    assert_eq!(mesh.stage.upstream.requests(), 1);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_resumed_session_keeps_its_name_until_the_certificate_is_revoked() {
    let mesh = Mesh::open("true");
    let client = mesh.client(Some(&mesh.admit(&[PAY], 7)));

    let first = mesh.ask_over(&client, "/bills/1", "").unwrap();
    let resumed = mesh.ask_over(&client, "/bills/1", "").unwrap();
    assert_eq!(first, (200, HandshakeKind::Full));
    assert_eq!(resumed, (200, HandshakeKind::Resumed));

    mesh.authority.revoke(mesh.stage.site.folder(), &[REVOKED, 7]);
    let applied = mesh.stage.enforcer(&["policy", "apply"]);
    assert!(applied.is_success(), "{applied}");
    assert_eq!(mesh.ask_over(&client, "/bills/1", ""), None);
    assert_eq!(mesh.stage.upstream.requests(), 2);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_revocation_list_that_is_put_in_force_ends_open_connections() {
    let mesh = Mesh::open("true");
    let (stays, goes) = (mesh.admit(&[PAY], 6), mesh.admit(&[PAY], 7));
    let mut download = mesh.connect(&mesh.client(Some(&goes))).unwrap();
    write!(download, "GET /bills/drip/100000/5 HTTP/1.1\r\nHost: {NAME}\r\n\r\n").unwrap();
    let mut some = [0; 64];
    download.read_exact(&mut some).unwrap();

    mesh.authority.revoke(mesh.stage.site.folder(), &[REVOKED, 7]);
    assert!(mesh.stage.enforcer(&["policy", "apply"]).is_success());
    let mut rest = Vec::new();
    let ended = download.read_to_end(&mut rest);

    assert!(ended.is_err() || rest.len() < 100_000, "{ended:?}");
    assert_eq!(mesh.ask(Some(&goes), "/bills/1", ""), None);
    assert_eq!(mesh.ask(Some(&stays), "/bills/1", ""), Some(200));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_bad_revocation_list_refuses_the_reload_and_the_old_one_holds() {
    let mesh = Mesh::open("true");
    let (good, revoked) = (mesh.admit(&[PAY], 1), mesh.admit(&[PAY], REVOKED));
    std::fs::write(mesh.stage.site.folder().join("tls/crl.pem"), "nonsense").unwrap();

    let refused = mesh.stage.enforcer(&["policy", "apply"]);

    assert!(!refused.is_success());
    assert!(refused.stderr.contains("crl.pem"), "{refused}");
    assert_eq!(mesh.ask(Some(&good), "/bills/1", ""), Some(200));
    assert_eq!(mesh.ask(Some(&revoked), "/bills/1", ""), None);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_key_that_goes_with_a_certificate_is_worth_nothing_without_it() {
    let mesh = Mesh::open("false");
    let (own, other) = (mesh.admit(&[], 1), mesh.admit(&[], 2));
    let file = mesh.stage.file("own.pem", &own.pem);
    let issued = mesh.stage.json(&[
        "keys",
        "issue",
        "--name",
        "bound",
        "--role",
        "billing",
        "--certificate",
        &file,
    ]);
    let key = format!("Authorization: Bearer {}\r\n", issued["credential"].as_str().unwrap());

    assert_eq!(mesh.ask(Some(&own), "/bills/1", &key), Some(200));
    assert_eq!(mesh.ask(Some(&other), "/bills/1", &key), Some(401));
    assert_eq!(mesh.ask(None, "/bills/1", &key), Some(401));
    assert_eq!(mesh.stage.upstream.requests(), 1);
    let reasons: Vec<_> = mesh
        .stage
        .records_of("http")
        .iter()
        .map(|record| record["body"]["reason"].clone())
        .filter(|reason| !reason.is_null())
        .collect();
    assert_eq!(reasons, ["key-wrong-certificate", "key-wrong-certificate"]);
}

/// The number of a certificate that was revoked before everything.
const REVOKED: u64 = 66;

/// The lab, and the authority of the mesh.
struct Mesh {
    stage: Stage,
    authority: Authority,
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Who has a certificate.
struct Member {
    pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Mesh {
    fn open(require: &str) -> Self {
        let mut stage = Stage::without_agent(&POLICY.replace("REQUIRE", require));
        let authority = Authority::new();
        authority.revoke(stage.site.folder(), &[REVOKED]);
        stage.start();
        Self { stage, authority }
    }

    fn admit(&self, ids: &[&str], number: u64) -> Member {
        self.authority.admit(ids, number, 2_090)
    }

    /// The status; none when there is no answer.
    fn ask(&self, member: Option<&Member>, target: &str, fields: &str) -> Option<u16> {
        self.ask_over(&self.client(member), target, fields).map(|(status, _)| status)
    }

    fn ask_over(
        &self,
        client: &Arc<ClientConfig>,
        target: &str,
        fields: &str,
    ) -> Option<(u16, HandshakeKind)> {
        let mut stream = self.connect(client)?;
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n{fields}\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        // To the end, for tickets stand behind the handshake.
        drop(stream.read_to_end(&mut answer));
        let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
        Some((status, stream.conn.handshake_kind()?))
    }

    fn connect(
        &self,
        client: &Arc<ClientConfig>,
    ) -> Option<StreamOwned<ClientConnection, std::net::TcpStream>> {
        let mut socket = self.stage.client(Family::V4).socket().unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let mut connection = ClientConnection::new(Arc::clone(client), name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).ok()?;
        }
        Some(StreamOwned::new(connection, socket))
    }

    /// What one client keeps between connections.
    fn client(&self, member: Option<&Member>) -> Arc<ClientConfig> {
        let own = self.stage.site.folder().join("tls/cert.pem");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(own).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match member {
            None => builder.with_no_client_auth(),
            Some(member) => {
                let key = PrivateKeyDer::try_from(member.key.clone()).unwrap();
                builder.with_client_auth_cert(member.chain.clone(), key).unwrap()
            }
        })
    }
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "mesh");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn admit(&self, ids: &[&str], number: u64, until: i32) -> Member {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let names = ids.iter().map(|id| SanType::URI((*id).try_into().unwrap()));
        params.subject_alt_names = names.collect();
        params.serial_number = Some(SerialNumber::from(number));
        params.not_before = date_time_ymd(2_000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = vec![certificate.der().clone()];
        Member { pem: certificate.pem(), chain, key: key.serialize_der() }
    }

    /// Writes authority and list where the policy looks for them.
    fn revoke(&self, folder: &Path, numbers: &[u64]) {
        let revoked = numbers.iter().map(|number| RevokedCertParams {
            serial_number: SerialNumber::from(*number),
            revocation_time: date_time_ymd(2_020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2_020, 1, 1),
            next_update: date_time_ymd(2_090, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap().pem().unwrap();
        std::fs::write(folder.join("tls/ca.pem"), &self.pem).unwrap();
        std::fs::write(folder.join("tls/crl.pem"), list).unwrap();
    }
}
