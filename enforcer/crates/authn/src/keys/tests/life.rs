//! From a key's issue to its end.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use enforcer_model::{CredentialKind, Reason, Timestamp};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{Environment, KeyState, NewKeyError, StoreError};

// What a caller experiences.

#[test]
fn an_issued_key_identifies_its_caller_with_its_roles() {
    let mut home = Home::new();
    let (record, key) = home.issue(|new| new.roles = roles(&["writer", "reader", "writer"]));

    let who = home.identify(key.expose()).unwrap();

    assert_eq!(who.principal().as_str(), format!("key:{}", record.id));
    assert_eq!((who.key_id(), who.kind()), (Some(record.id), CredentialKind::ApiKey));
    assert_eq!(roles_of(&who), roles(&["reader", "writer"]));
}

#[test]
fn a_wrong_secret_and_an_unknown_id_are_one_reason() {
    let mut home = Home::new();
    let (_, key) = home.issue(|_| {});
    let mut other = Home::new();
    let (_, stranger) = other.issue(|_| {});
    let (_, own_secret) = key.expose().rsplit_once('_').unwrap();
    let (_, other_secret) = stranger.expose().rsplit_once('_').unwrap();
    let forged = with_checksum(&key.expose().replace(own_secret, other_secret));

    let unknown = home.identify(stranger.expose()).unwrap_err();
    let wrong = home.identify(&forged).unwrap_err();

    assert_eq!((unknown.reason, wrong.reason), (Reason::KeyUnknown, Reason::KeyUnknown));
    assert!(unknown.chain().starts_with("no key has the id"), "{}", unknown.chain());
    assert!(wrong.chain().starts_with("the secret sent for key"), "{}", wrong.chain());
}

#[test]
fn a_live_key_is_not_a_test_key() {
    let mut home = Home::new();
    let (_, key) = home.issue(|_| {});
    let renamed = with_checksum(&key.expose().replace("enf_live_", "enf_test_"));

    assert_eq!(home.identify(&renamed).unwrap_err().reason, Reason::KeyUnknown);
}

#[test]
fn what_is_not_a_key_is_malformed_and_looks_nothing_up() {
    let home = Home::new();

    for text in ["a", "enf_live_", &"A".repeat(71), "enf_live_k7Qx2mP9aB3c_short"] {
        assert_eq!(home.identify(text).unwrap_err().reason, Reason::KeyMalformed, "{text}");
    }
}

#[test]
fn a_key_is_refused_by_time_and_network_only_when_its_secret_is_right() {
    let mut home = Home::new();
    let (_, late) = home.issue(|new| new.expires = Some(Timestamp::from_unix_seconds(NOW + 10)));
    let (_, early) =
        home.issue(|new| new.not_before = Some(Timestamp::from_unix_seconds(NOW + 10)));
    let (_, bound) = home.issue(|new| new.networks = networks(&["192.0.2.0/24", "2001:db8::/32"]));
    let reason = |key: &str, from: &str, at| {
        identify(&home.keys(), key, from, at).map_err(|refused| refused.reason).map(drop)
    };

    assert_eq!(reason(late.expose(), "192.0.2.1", NOW + 9), Ok(()));
    assert_eq!(reason(late.expose(), "192.0.2.1", NOW + 10), Err(Reason::KeyExpired));
    assert_eq!(reason(early.expose(), "192.0.2.1", NOW + 9), Err(Reason::KeyNotYetValid));
    assert_eq!(reason(early.expose(), "192.0.2.1", NOW + 10), Ok(()));
    assert_eq!(reason(bound.expose(), "192.0.2.9", NOW), Ok(()));
    assert_eq!(reason(bound.expose(), "::ffff:192.0.2.9", NOW), Ok(()));
    assert_eq!(reason(bound.expose(), "2001:db8::9", NOW), Ok(()));
    assert_eq!(reason(bound.expose(), "198.51.100.1", NOW), Err(Reason::KeyWrongNetwork));
    for key in [&late, &early, &bound] {
        let (public, _) = key.expose().rsplit_once('_').unwrap();
        let guess = with_checksum(&format!("{public}_{}", "A".repeat(49)));
        assert_eq!(reason(&guess, "198.51.100.1", NOW + 10), Err(Reason::KeyUnknown));
    }
}

#[test]
fn every_refusal_is_one_401_without_a_byte_of_the_secret() {
    let mut home = Home::new();
    let (record, key) = home.issue(|_| {});
    home.store.revoke(record.id.as_str(), "leaked", now()).unwrap();

    let refused = home.identify(key.expose()).unwrap_err();

    assert_eq!((refused.reason, refused.reason.status()), (Reason::KeyRevoked, 401));
    let (_, secret) = key.expose().rsplit_once('_').unwrap();
    assert!(
        !format!("{refused:?} {refused} {}", refused.chain()).contains(secret.get(..6).unwrap())
    );
}

// Issuing, finding, revoking.

#[test]
fn a_revoked_key_is_refused_on_every_thread_before_revoke_returns() {
    let mut home = Home::new();
    let (record, key) = home.issue(|_| {});
    let (keys, revoked) = (home.keys(), AtomicBool::new(false));

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    // Read before the attempt: what was revoked by then must be refused.
                    let must_fail = revoked.load(Ordering::SeqCst);
                    let answer = identify(&keys, key.expose(), "192.0.2.1", NOW);
                    if must_fail {
                        break assert_eq!(answer.unwrap_err().reason, Reason::KeyRevoked);
                    }
                }
            });
        }
        home.store.revoke(&record.name, "test", now()).unwrap();
        revoked.store(true, Ordering::SeqCst);
    });
}

#[test]
fn revoking_twice_keeps_the_first_time_and_reason() {
    let mut home = Home::new();
    let (record, _) = home.issue(|_| {});
    let later = Timestamp::from_unix_seconds(NOW + 60);

    let first = home.store.revoke(&record.name, "leaked\nto a log", now()).unwrap();
    let second = home.store.revoke(&record.name, "again", later).unwrap();

    assert_eq!(first, second);
    let revocation = second.revoked.as_ref().unwrap();
    assert_eq!((revocation.at, &*revocation.reason), (now(), "leaked to a log"));
    assert_eq!(second.state(later), KeyState::Revoked);
}

#[test]
fn a_key_is_found_by_id_by_principal_and_by_name() {
    let mut home = Home::new();
    let (record, _) = home.issue(|new| new.name = "ci deploy".into());

    for text in [record.id.to_string(), format!("key:{}", record.id), "ci deploy".into()] {
        assert_eq!(home.store.show(&text).unwrap(), record);
    }
    for text in ["", "ci", "key:ci deploy", "k7Qx2mP9aB3c", "' OR 1=1 --"] {
        assert!(matches!(home.store.show(text), Err(StoreError::NoSuchKey(_))), "{text}");
    }
}

#[test]
fn a_name_means_one_key_for_all_time() {
    let mut home = Home::new();
    let (record, _) = home.issue(|new| new.name = "ci".into());
    home.store.revoke("ci", "", now()).unwrap();

    for taken in ["ci", record.id.as_str()] {
        let refused = home.try_issue(|new| new.name = taken.into()).unwrap_err();
        assert!(matches!(refused, StoreError::NameTaken(name) if name == taken));
    }
    assert_eq!(home.store.list().unwrap().len(), 1);
}

#[test]
fn a_key_that_makes_no_sense_is_refused_and_leaves_nothing_behind() {
    let mut home = Home::new();
    let mut refused = |change: fn(&mut NewKey)| {
        let Err(StoreError::New(error)) = home.try_issue(change) else { panic!("it was made") };
        error
    };

    for name in ["", " ci", "ci ", "c\ni", "ключ", "key:ci", &"x".repeat(65)] {
        let new = NewKey { name: name.into(), ..new_key() };
        assert!(matches!(new.into_record(id(), now()), Err(NewKeyError::Name(_))), "{name:?}");
    }
    assert_eq!(refused(|new| new.roles.clear()), NewKeyError::NoRole);
    assert!(matches!(
        refused(|new| new.roles = roles(&["a b"])),
        NewKeyError::Word { what: "role", .. }
    ));
    assert!(matches!(
        refused(|new| new.roles = roles(&[""])),
        NewKeyError::Word { what: "role", .. }
    ));
    assert_eq!(refused(|new| new.expires = Some(now())), NewKeyError::Expired(now()));
    assert!(matches!(
        refused(|new| {
            new.not_before = Some(Timestamp::from_unix_seconds(NOW + 20));
            new.expires = Some(Timestamp::from_unix_seconds(NOW + 20));
        }),
        NewKeyError::NeverValid { .. }
    ));
    assert!(matches!(
        refused(|new| new.expires = Some(Timestamp::from_unix_ns(u64::MAX))),
        NewKeyError::TooLate(_)
    ));
    assert!(matches!(
        refused(|new| new.roles = (0..65).map(|n| Role::new(&n.to_string())).collect()),
        NewKeyError::TooMany { what: "roles", found: 65 }
    ));
    assert!(home.store.list().unwrap().is_empty());
}

#[test]
fn keys_survive_a_restart_with_everything_known_about_them() {
    let mut home = Home::new();
    let (_, live) = home.issue(|new| {
        new.networks = networks(&["2001:db8::/32", "192.0.2.0/24"]);
        new.not_before = Some(Timestamp::from_unix_ns(1_700_000_000_123_456_789));
        new.expires = Some(Timestamp::from_unix_seconds(NOW + 60));
    });
    let (gone, dead) = home.issue(|new| new.environment = Environment::Test);
    home.store.revoke(gone.id.as_str(), "über", now()).unwrap();
    let before = home.store.list().unwrap();

    let home = home.restart();

    assert_eq!(home.store.list().unwrap(), before);
    assert_eq!(before.iter().map(|key| key.revoked.is_some()).filter(|is| *is).count(), 1);
    assert!(home.identify(live.expose()).is_ok());
    assert_eq!(home.identify(dead.expose()).unwrap_err().reason, Reason::KeyRevoked);
}

/// The files are copied from under the open store, as a killed process leaves them.
#[test]
fn what_was_answered_is_found_after_a_crash() {
    let mut home = Home::new();
    let (_, kept) = home.issue(|_| {});
    let (gone, revoked) = home.issue(|_| {});
    home.store.revoke(gone.id.as_str(), "leaked", now()).unwrap();

    let folder = TempDir::new().unwrap();
    fs::create_dir(state(&folder)).unwrap();
    for file in ["keys.db", "keys.db-wal", "pepper"] {
        fs::copy(home.directory().join(file), state(&folder).join(file)).unwrap();
    }
    let survivor = Home::try_open(folder).unwrap();

    assert!(survivor.identify(kept.expose()).is_ok());
    assert_eq!(survivor.identify(revoked.expose()).unwrap_err().reason, Reason::KeyRevoked);
}

#[test]
fn no_file_contains_a_secret() {
    let mut home = Home::new();
    let (_, key) = home.issue(|_| {});
    let (_, secret) = key.expose().rsplit_once('_').unwrap();
    let secret = &secret.as_bytes()[..43];

    for file in fs::read_dir(home.directory()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

#[test]
fn a_revocation_that_the_disk_refuses_holds_in_memory_and_says_so() {
    let mut home = Home::new();
    let (record, key) = home.issue(|_| {});
    let other = Connection::open(home.database()).unwrap();
    other.execute_batch("PRAGMA busy_timeout = 0; BEGIN IMMEDIATE").unwrap();

    let refused = home.store.revoke(record.id.as_str(), "leaked", now()).unwrap_err();

    assert!(matches!(refused, StoreError::RevokedInMemoryOnly { .. }), "{refused}");
    assert_eq!(home.identify(key.expose()).unwrap_err().reason, Reason::KeyRevoked);
    other.execute_batch("ROLLBACK").unwrap();
    home.store.revoke(record.id.as_str(), "leaked", now()).unwrap();
    let home = home.restart();
    assert_eq!(home.identify(key.expose()).unwrap_err().reason, Reason::KeyRevoked);
}

#[test]
fn a_full_disk_makes_no_key_and_loses_none() {
    let mut home = Home::new();
    let (_, key) = home.issue(|_| {});
    let pages = pragma(&home, "page_count");
    pragma(&home, &format!("max_page_count = {pages}"));
    let refused = (0..200).find_map(|n| {
        let name = format!("{n:050}");
        home.try_issue(|new| new.name = name).err()
    });

    let refused = refused.unwrap();

    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused:?}");
    assert!(refused.to_string().contains("free some space"));
    let listed = home.store.list().unwrap();
    pragma(&home, "max_page_count = 1000000");
    let home = home.restart();
    assert_eq!(home.store.list().unwrap(), listed);
    assert!(home.identify(key.expose()).is_ok());
}
