//! Databases of earlier versions, and peppers that come later.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use enforcer_model::Reason;
use rusqlite::Connection;

use super::*;
use crate::keys::schema;
use crate::keys::token::Token;

/// As the first version left it: one active key, one revoked.
fn old_database(folder: &Path, keys: &[&IssuedKey]) {
    let pepper = Pepper::load_or_create(&folder.join("pepper")).unwrap();
    let path = folder.join("keys.db");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut connection = Connection::open(&path).unwrap();
    schema::begin(&mut connection, &pepper).unwrap();
    for (n, key) in keys.iter().enumerate() {
        let token = Token::parse(key.expose().as_bytes()).unwrap();
        let mac = pepper.mac(pepper.current(), token.secret()).unwrap();
        let (id, name) = (key.id(), format!("key {n}"));
        let row =
            rusqlite::params![id.as_str(), name, mac.as_slice(), 1_700_000_000_000_000_000i64];
        connection
            .execute(
                "INSERT INTO keys (id, name, environment, secret_hmac, created_ns)
                 VALUES (?1, ?2, 'live', ?3, ?4)",
                row,
            )
            .unwrap();
        connection.execute("INSERT INTO key_roles VALUES (?1, 'reader')", [id.as_str()]).unwrap();
        connection
            .execute("INSERT INTO key_networks VALUES (?1, '192.0.2.0/24')", [id.as_str()])
            .unwrap();
    }
    connection
        .execute_batch(
            "UPDATE keys SET revoked_ns = 1, revoked_reason = 'leaked' WHERE name = 'key 1'",
        )
        .unwrap();
}

#[test]
fn a_database_of_the_first_version_goes_on_with_its_keys() {
    let mut elsewhere = Home::new();
    let ((_, live), (_, dead)) = (elsewhere.issue(|_| {}), elsewhere.issue(|_| {}));
    let folder = TempDir::new().unwrap();
    fs::create_dir(state(&folder)).unwrap();
    old_database(&state(&folder), &[&live, &dead]);

    let mut home = Home::try_open(folder).unwrap();

    assert_eq!(facts_of(&home, &live), "key 0");
    assert_eq!(home.identify(dead.expose()).unwrap_err().reason, Reason::KeyRevoked);
    let far = identify(&home.keys(), live.expose(), "198.51.100.1", NOW).unwrap_err();
    assert_eq!(far.reason, Reason::KeyWrongNetwork);
    let record = home.store.show("key 0").unwrap();
    assert_eq!((record.secrets.len(), record.secrets[0].number), (1, 1));
    assert_eq!(record.secrets[0].created, record.created);
    assert_eq!(record.roles, roles(&["reader"]));
    let (_, new) = home.store.rotate("key 0", Duration::from_secs(60), now()).unwrap();
    let home = home.restart();
    assert!(home.identify(live.expose()).is_ok() && home.identify(new.expose()).is_ok());
}

#[test]
fn an_upgraded_database_and_a_new_one_have_the_same_tables() {
    let tables = |home: &Home| -> Vec<String> {
        let mut statement = home
            .store
            .connection()
            .prepare("SELECT type || name || coalesce(sql, '') FROM sqlite_schema ORDER BY 1")
            .unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let folder = TempDir::new().unwrap();
    fs::create_dir(state(&folder)).unwrap();
    old_database(&state(&folder), &[]);

    let (old, new) = (Home::try_open(folder).unwrap(), Home::new());

    assert_eq!(tables(&old), tables(&new));
    let loose: i64 = new
        .store
        .connection()
        .query_row(
            "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
             AND NOT strict AND name NOT LIKE 'sqlite_%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(loose, 0, "every table is strict");
}

/// The old file is copied with a log, as a killed agent leaves it in the middle of the change.
#[test]
fn an_upgrade_that_is_broken_off_leaves_the_old_database() {
    let mut elsewhere = Home::new();
    let (_, live) = elsewhere.issue(|_| {});
    let folder = TempDir::new().unwrap();
    fs::create_dir(state(&folder)).unwrap();
    old_database(&state(&folder), &[&live]);
    let before = fs::read(state(&folder).join("keys.db")).unwrap();
    let blocker = Connection::open(state(&folder).join("keys.db")).unwrap();
    blocker.execute_batch("PRAGMA journal_mode = WAL; BEGIN IMMEDIATE").unwrap();

    let refused = Home::try_open_kept(&folder).unwrap_err();

    assert!(refused.to_string().contains("cannot bring up to date"), "{refused}");
    drop(blocker);
    assert_eq!(fs::read(state(&folder).join("keys.db")).unwrap().len(), before.len());
    let home = Home::try_open(folder).unwrap();
    assert!(home.identify(live.expose()).is_ok());
}

#[test]
fn a_second_pepper_is_for_new_secrets_and_the_first_for_old_ones() {
    let mut home = Home::new();
    let (record, old) = home.issue(|_| {});
    let folder = home.close();
    let pepper = state(&folder).join("pepper");
    let mut bytes = fs::read(&pepper).unwrap();
    bytes.extend([7; 32]);
    fs::write(&pepper, &bytes).unwrap();

    let mut home = Home::try_open(folder).unwrap();
    assert!(home.identify(old.expose()).is_ok());
    let (rotated, new) = home.store.rotate(&record.name, Duration::from_secs(60), now()).unwrap();

    let versions: Vec<_> = rotated.secrets.iter().map(|secret| secret.pepper).collect();
    assert_eq!(versions, [1, 2]);
    let home = home.restart();
    assert!(home.identify(old.expose()).is_ok() && home.identify(new.expose()).is_ok());
    let folder = home.close();
    bytes.truncate(32);
    fs::write(&pepper, &bytes).unwrap();
    assert!(matches!(Home::try_open(folder), Err(StoreError::WrongPepper { .. })));
}

#[test]
fn two_secrets_of_a_key_are_all_that_the_database_takes() {
    let mut home = Home::new();
    let (record, _) = home.issue(|_| {});
    home.store.rotate(&record.name, Duration::from_secs(60), now()).unwrap();

    let third = home.store.connection().execute(
        "INSERT INTO key_secrets SELECT key, 3, form, prefix, randomblob(32), pepper, created_ns,
                ends_ns, used_ns, used_from FROM key_secrets WHERE number = 1",
        [],
    );

    assert!(third.unwrap_err().to_string().contains("UNIQUE"));
}

fn facts_of(home: &Home, key: &IssuedKey) -> String {
    match home.identify(key.expose()).unwrap().proof() {
        Proof::Key(facts) => facts.name.to_string(),
        Proof::Certificate | Proof::Token(_) => String::new(),
    }
}
