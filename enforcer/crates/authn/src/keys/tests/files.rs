//! The database and what lies beside it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{Damage, SecretFileError, StoreError};

#[test]
fn the_database_is_private_and_readable_beside_the_running_agent() {
    let mut home = Home::new();
    home.issue(|new| new.name = "ci".into());

    for entry in fs::read_dir(home.directory()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
    assert_eq!(fs::metadata(home.directory()).unwrap().mode() & 0o777, 0o700);
    let reader = Connection::open(home.database()).unwrap();
    let name: String = reader.query_row("SELECT name FROM keys", [], |row| row.get(0)).unwrap();
    assert_eq!(name, "ci");
}

#[test]
fn a_second_owner_is_kept_out_while_the_first_lives() {
    let home = Home::new();

    let refused = KeyStore::open(&home.database(), home.pepper()).unwrap_err();

    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    home.restart();
}

#[test]
fn another_pepper_is_noticed_at_once() {
    let home = Home::new();
    let folder = home.close();
    fs::remove_file(state(&folder).join("pepper")).unwrap();

    let refused = Home::try_open(folder).unwrap_err();

    assert!(matches!(refused, StoreError::WrongPepper { .. }));
    assert!(refused.to_string().contains("restore the `pepper` file"), "{refused}");
}

#[test]
fn a_database_that_others_may_read_is_refused() {
    let folder = Home::new().close();
    let database = state(&folder).join("keys.db");
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();

    let refused = Home::try_open(folder).unwrap_err();

    assert!(matches!(refused, StoreError::File(SecretFileError::Mode { .. })), "{refused}");
}

#[test]
fn a_damaged_database_says_what_to_do() {
    let noise = vec![0x5a; 8192];
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2 + 100].to_vec();
    let overwritten = |mut bytes: Vec<u8>| {
        bytes[4096..12_288].fill(0x5a);
        bytes
    };
    let damages: [&dyn Fn(Vec<u8>) -> Vec<u8>; 4] =
        [&|_| Vec::new(), &|_| noise.clone(), &cut, &overwritten];
    for (n, damage) in damages.iter().enumerate() {
        let mut home = Home::new();
        for _ in 0..50 {
            home.issue(|_| {});
        }
        let folder = home.close();
        let database = state(&folder).join("keys.db");
        let broken = damage(fs::read(&database).unwrap());
        fs::write(&database, &broken).unwrap();

        let refused = Home::try_open(folder).unwrap_err();

        assert!(matches!(refused, StoreError::Damaged { .. }), "{n}: {refused:?}");
        assert!(refused.to_string().contains("enforcer keys issue"), "{n}: {refused}");
    }
}

#[test]
fn a_log_without_its_database_is_damage_and_not_a_beginning() {
    let folder = Home::new().close();
    let database = state(&folder).join("keys.db");
    fs::rename(&database, state(&folder).join("keys.db-wal")).unwrap();

    let refused = Home::try_open(folder).unwrap_err();

    assert!(matches!(refused, StoreError::Damaged { damage: Damage::Headless, .. }));
}

#[test]
fn values_that_the_program_never_writes_are_damage() {
    for sql in [
        "UPDATE keys SET id = 'k7Qx2mP9aB3-'",
        "UPDATE keys SET expires_ns = -1",
        "INSERT INTO key_networks SELECT id, '10.1.2.3/8' FROM keys",
        "DELETE FROM peppers",
    ] {
        let mut home = Home::new();
        home.issue(|_| {});
        let folder = home.close();
        let edited = Connection::open(state(&folder).join("keys.db")).unwrap();
        edited.execute_batch(&format!("PRAGMA foreign_keys = OFF; {sql}")).unwrap();
        drop(edited);

        let refused = Home::try_open(folder).unwrap_err();

        assert!(matches!(refused, StoreError::Damaged { .. }), "{sql}: {refused:?}");
    }
}

#[test]
fn a_database_of_a_later_version_or_another_program_is_refused_and_left_alone() {
    let newer = edited("PRAGMA user_version = 7");
    let foreign = edited("PRAGMA application_id = 7");

    assert!(matches!(newer, StoreError::Newer { found: 7, known: 2, .. }), "{newer:?}");
    assert!(newer.to_string().contains("run the version that wrote it"));
    assert!(matches!(foreign, StoreError::Foreign { .. }), "{foreign:?}");
}

#[test]
fn a_creation_that_was_broken_off_is_begun_again() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(state(&folder)).unwrap();
    fs::write(state(&folder).join("keys.db.new"), b"half a database").unwrap();

    let home = Home::try_open(folder).unwrap();

    assert!(home.store.list().unwrap().is_empty());
    assert!(!home.directory().join("keys.db.new").exists());
}

fn edited(sql: &str) -> StoreError {
    let folder = Home::new().close();
    let database = state(&folder).join("keys.db");
    Connection::open(&database).unwrap().execute_batch(sql).unwrap();
    let before = fs::read(&database).unwrap();

    let refused =
        KeyStore::open(&database, Pepper::load_or_create(&state(&folder).join("pepper")).unwrap())
            .unwrap_err();

    assert_eq!(fs::read(&database).unwrap(), before);
    refused
}
