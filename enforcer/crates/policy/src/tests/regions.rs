//! The database that knows countries, and the other files that a policy names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::{SMALL, codes};
use crate::{LoadError, Policy};

#[test]
fn an_address_has_the_country_that_the_database_says() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("c.mmdb"), database(&[("10", "DE"), ("1100", "FR")])).unwrap();

    let policy = load(&folder, &with_region()).unwrap();

    // 10… is 128.0.0.0/2, 1100… is 192.0.0.0/4.
    let region = |address: &str| policy.region_of(address.parse().unwrap()).map(str::to_owned);
    assert_eq!(region("128.0.0.1").as_deref(), Some("DE"));
    assert_eq!(region("191.255.255.255").as_deref(), Some("DE"));
    assert_eq!(region("192.0.2.1").as_deref(), Some("FR"));
    assert_eq!(region("::ffff:192.0.2.1").as_deref(), Some("FR"));
    assert_eq!(region("10.0.0.1"), None);
    assert_eq!(region("2001:db8::1"), None);
    assert!(policy.routes()[0].reads_region);
    assert!(policy.vocabulary().has_regions);
}

#[test]
fn without_its_files_a_policy_can_be_read_and_knows_no_region() {
    let policy = Policy::parse(&with_region(), Path::new("/nowhere/policy.toml")).unwrap();

    assert_eq!(policy.region_of("128.0.0.1".parse().unwrap()), None);
}

#[test]
fn a_file_that_is_no_country_database_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("c.mmdb");
    assert_eq!(refused(&folder, &with_region()), ["E-POL-026"]);
    let good = database(&[("10", "DE")]);
    let mut cut = good.clone();
    cut.drain(4..12);
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("text", b"not a database".to_vec()),
        ("no country", database(&[])),
        ("cut", cut),
    ] {
        fs::write(&file, bytes).unwrap();

        assert_eq!(refused(&folder, &with_region()), ["E-POL-027"], "{what}");
    }
    fs::write(&file, good).unwrap();
    assert!(load(&folder, &with_region()).is_ok());
}

#[test]
fn no_damage_to_a_database_makes_the_agent_panic() {
    let good = database(&[("10", "DE"), ("0", "FR"), ("1111", "US")]);
    for at in 0..good.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            if let Ok(regions) = crate::regions::Regions::new(bad) {
                for address in ["0.0.0.0", "128.0.0.1", "255.255.255.255", "::1"] {
                    let code = regions.of(address.parse().unwrap());
                    assert!(code.is_none_or(|code| code.len() == 2));
                }
            }
        }
    }
}

#[test]
fn the_files_of_an_issuer_are_read_with_the_policy_and_told_when_they_are_wrong() {
    let folder = TempDir::new().unwrap();
    let issuer = |keys: &str, algs: &str| {
        format!(
            "{SMALL}[issuer.corp]\nurl = 'https://idp'\naudience = 'a'\nalgs = '{algs}'\n{keys}\n\
             [role.token]\nfrom = 'issuer:corp/x'\nincludes = 'reader'\n"
        )
    };
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("short", "too short\n");
    write("long", &format!("{}\n", "s".repeat(40)));
    write("empty", "\n");
    write("keys.json", "{\"keys\":[]}");
    write("pem", "nothing");

    for (keys, algs, code) in [
        ("keys = 'absent'", "ES256", "E-POL-026"),
        ("keys = 'keys.json'", "ES256", "E-POL-027"),
        ("keys = 'short'", "ES256", "E-POL-027"),
        ("secret = 'short'", "HS256", "E-POL-027"),
        ("ca = 'pem'", "ES256", "E-POL-027"),
        ("introspection = { client = 'c', secret = 'absent' }", "ES256", "E-POL-026"),
        ("introspection = { client = 'c', secret = 'empty' }", "ES256", "E-POL-027"),
    ] {
        assert_eq!(refused(&folder, &issuer(keys, algs)), [code], "{keys}");
    }
    let policy = load(&folder, &issuer("secret = 'long'", "HS256")).unwrap();
    assert!(matches!(policy.issuers()[0].keys, enforcer_authn::KeySource::Pinned(_)));
    let asks = issuer("introspection = { client = 'c', secret = 'long' }", "ES256");
    assert!(load(&folder, &asks).unwrap().issuers()[0].introspection.is_some());
    fs::set_permissions(folder.path().join("long"), fs::Permissions::from_mode(0o644)).unwrap();
    let warned = load(&folder, &asks).unwrap();
    assert_eq!(warned.warnings()[0].code, "E-POL-107");
}

#[test]
fn the_authorities_of_clients_are_read_with_the_policy() {
    let folder = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("cert.pem", &made.cert.pem());
    write("key.pem", &made.signing_key.serialize_pem());
    write("empty.pem", "");
    let with = |clients: &str| {
        SMALL.replace(
            "address = \"127.0.0.1:8080\"",
            &format!(
                "address = '127.0.0.1:8080'\n\
                 tls = {{ certificate = 'cert.pem', key = 'key.pem', clients = {{ {clients} }} }}"
            ),
        )
    };

    let policy = load(&folder, &with("ca = 'cert.pem', require = true")).unwrap();
    let crate::Serves::Tls(tls) = &policy.listeners()[0].serves else { panic!() };
    let clients = tls.clients.as_ref().unwrap();
    assert_eq!((clients.require, clients.crl.is_none()), (true, true));
    assert_eq!(clients.ca, folder.path().join("cert.pem"));
    assert_eq!(refused(&folder, &with("ca = 'absent'")), ["E-POL-019"]);
    assert_eq!(refused(&folder, &with("ca = 'empty.pem'")), ["E-POL-020"]);
    assert_eq!(refused(&folder, &with("ca = 'cert.pem', crl = 'empty.pem'")), ["E-POL-020"]);
    assert_eq!(refused(&folder, &with("require = true")), ["E-POL-003"]);
}

fn with_region() -> String {
    format!("{SMALL}  when = 'region == \"DE\"'\n[region]\ndatabase = 'c.mmdb'\n")
}

fn load(folder: &TempDir, text: &str) -> Result<Policy, LoadError> {
    let file = folder.path().join("policy.toml");
    fs::write(&file, text).unwrap();
    Policy::load(&file)
}

fn refused(folder: &TempDir, text: &str) -> Vec<&'static str> {
    match load(folder, text).unwrap_err() {
        LoadError::Problems(problems) => codes(&problems),
        error @ LoadError::Read { .. } => panic!("{error}"),
    }
}

/// A database of IPv4 networks, written as the bits of their prefixes, with their countries
/// (`MaxMind` DB File Format Specification 2.0).
fn database(networks: &[(&str, &str)]) -> Vec<u8> {
    let (mut nodes, mut data, mut at) = (vec![[None, None]], Vec::new(), Vec::new());
    for (_, country) in networks {
        at.push(data.len());
        data.extend(map(&[("country", map(&[("iso_code", text(country))]))]));
    }
    for ((bits, _), at) in networks.iter().zip(at) {
        let mut node = 0;
        for (n, bit) in bits.bytes().map(|bit| usize::from(bit - b'0')).enumerate() {
            if n + 1 == bits.len() {
                nodes[node][bit] = Some((true, at));
                break;
            }
            node = match nodes[node][bit] {
                Some((_, next)) => next,
                None => {
                    nodes.push([None, None]);
                    let next = nodes.len() - 1;
                    nodes[node][bit] = Some((false, next));
                    next
                }
            };
        }
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for record in nodes.into_iter().flatten() {
        let value = match record {
            None => count,
            Some((false, node)) => node,
            Some((true, at)) => count + 16 + at,
        };
        file.extend(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let number = |kind: u8, value: u32| {
        let bytes = value.to_be_bytes();
        let mut field = if kind < 8 { vec![kind << 5 | 4] } else { vec![4, kind - 7] };
        field.extend(bytes);
        field
    };
    let small = |value: u16| [&[5 << 5 | 2][..], &value.to_be_bytes()].concat();
    file.extend(map(&[
        ("binary_format_major_version", small(2)),
        ("binary_format_minor_version", small(0)),
        ("build_epoch", number(9, 1_700_000_000)),
        ("database_type", text("Test-Country")),
        ("description", map(&[("en", text("a test"))])),
        ("ip_version", small(4)),
        ("languages", vec![0, 11 - 7]),
        ("node_count", number(6, u32::try_from(count).unwrap())),
        ("record_size", small(24)),
    ]));
    file
}

fn text(value: &str) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap();
    assert!(length < 29);
    [&[2 << 5 | length], value.as_bytes()].concat()
}

fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![7 << 5 | u8::try_from(fields.len()).unwrap()];
    for (name, value) in fields {
        bytes.extend(text(name));
        bytes.extend(value);
    }
    bytes
}
