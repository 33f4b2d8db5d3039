//! `Policy::load`: the file itself, and the TLS files that it names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{codes, shipped_text};
use crate::{LoadError, Policy};

#[test]
fn a_certificate_with_its_key_is_accepted() {
    let folder = Folder::new();

    let policy = folder.load().unwrap();

    assert_eq!(policy.warnings(), []);
    assert_eq!(policy.file(), folder.policy());
}

#[test]
fn a_missing_tls_file_is_told_in_its_place_beside_all_other_problems() {
    let folder = Folder::new();
    fs::remove_file(folder.path("tls/key.pem")).unwrap();
    let broken = shipped_text("minimal.toml").replace("role = \"caller\"", "role = \"x\"");
    fs::write(folder.policy(), &broken).unwrap();

    let Err(LoadError::Problems(problems)) = folder.load() else { panic!() };

    assert_eq!(codes(&problems), ["E-POL-019", "E-POL-010"]);
    let missing = problems.iter().next().unwrap();
    let line = broken.lines().nth(missing.line - 1).unwrap();
    assert!(
        line.chars().skip(missing.column - 1).collect::<String>().starts_with("\"tls/key.pem\"")
    );
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let folder = Folder::new();
    let (_, key) = certificate();
    fs::write(folder.path("tls/key.pem"), key).unwrap();

    assert_eq!(folder.codes(), ["E-POL-021"]);
}

#[test]
fn files_that_hold_something_else_are_refused() {
    let folder = Folder::new();
    fs::write(folder.path("tls/cert.pem"), "not a certificate").unwrap();
    fs::write(folder.path("tls/key.pem"), "-----BEGIN PRIVATE KEY-----\n!\n").unwrap();

    assert_eq!(folder.codes(), ["E-POL-020", "E-POL-020"]);
}

#[test]
fn a_folder_a_device_and_a_huge_file_are_no_certificates() {
    let folder = Folder::new();
    for certificate in ["tls", "/dev/zero"] {
        let text = shipped_text("minimal.toml").replace("tls/cert.pem", certificate);
        fs::write(folder.policy(), text).unwrap();

        assert_eq!(folder.codes(), ["E-POL-019"], "{certificate}");
    }
    fs::write(folder.policy(), shipped_text("minimal.toml")).unwrap();
    fs::write(folder.path("tls/cert.pem"), vec![b'x'; (1 << 20) + 1]).unwrap();

    assert_eq!(folder.codes(), ["E-POL-019"]);
}

#[test]
fn a_private_key_that_everybody_may_read_is_warned_about() {
    let folder = Folder::new();
    fs::set_permissions(folder.path("tls/key.pem"), fs::Permissions::from_mode(0o644)).unwrap();

    let policy = folder.load().unwrap();

    let [warning] = policy.warnings() else { panic!() };
    assert_eq!(warning.code, "E-POL-107");
}

#[test]
fn a_policy_file_that_cannot_be_read_says_what_to_do() {
    let folder = Folder::new();
    let absent = Policy::load(&folder.path("absent.toml")).unwrap_err();
    fs::write(folder.policy(), b"version = \"\xff\"").unwrap();
    let not_text = folder.load().unwrap_err();

    assert!(absent.to_string().ends_with("absent.toml"), "{absent}");
    assert!(absent.hint().unwrap().contains("enforcer init"));
    assert!(not_text.hint().unwrap().contains("UTF-8"));
    assert!(matches!(not_text, LoadError::Read { .. }));
}

#[test]
fn an_endless_policy_file_is_refused_without_being_read_to_its_end() {
    let refused = Policy::load(Path::new("/dev/zero")).unwrap_err();

    let LoadError::Problems(problems) = refused else { panic!("{refused}") };
    assert_eq!(codes(&problems), ["E-POL-017"]);
}

/// `minimal.toml` with a certificate, in a folder of its own.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(TempDir::new().unwrap());
        let (certificate, key) = certificate();
        fs::create_dir(folder.path("tls")).unwrap();
        fs::write(folder.path("tls/cert.pem"), certificate).unwrap();
        fs::write(folder.path("tls/key.pem"), key).unwrap();
        fs::set_permissions(folder.path("tls/key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(folder.policy(), shipped_text("minimal.toml")).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn policy(&self) -> PathBuf {
        self.path("policy.toml")
    }

    fn load(&self) -> Result<Policy, LoadError> {
        Policy::load(&self.policy())
    }

    fn codes(&self) -> Vec<&'static str> {
        match self.load().unwrap_err() {
            LoadError::Problems(problems) => codes(&problems),
            error @ LoadError::Read { .. } => panic!("{error}"),
        }
    }
}

fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["api.demo.test".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}
