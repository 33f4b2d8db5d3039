//! The rows of the database: read with suspicion, written in one place.
//!
//! What the program never writes is damage, not a guess. Lists of all keys are read table by table,
//! so that a hundred thousand keys cost a handful of queries.

use std::collections::HashMap;
use std::path::Path;

use enforcer_model::{KeyId, KeyIdError, Prefix, PrefixError, Role, Thumbprint, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::error::{Damage, StoreError};
use super::pepper::Mac;
use super::plan::KeyPrefixError;
use super::record::{EnvironmentError, KeyRecord, Revocation, SecretForm, SecretRecord};
use super::schema::{damaged, failed};
use super::uses::LastUse;

/// A key with what its secrets are compared with, in the order of the record.
#[derive(Clone, Debug)]
pub(super) struct StoredKey {
    pub(super) record: KeyRecord,
    pub(super) macs: Vec<Mac>,
}

/// The keys, oldest first; with `id` that one only.
pub(super) fn read(
    connection: &Connection,
    path: &Path,
    id: Option<KeyId>,
) -> Result<Vec<StoredKey>, StoreError> {
    let told = |fault| match fault {
        RowFault::Sqlite(error) => failed("read", path, error),
        RowFault::Value(what) => damaged(path, Damage::Row(what)),
    };
    let on = |error| failed("read", path, error);
    let mut lists = Lists::read(connection, id).map_err(told)?;
    let mut statement = connection
        .prepare_cached(
            "SELECT id, name, environment, created_ns, not_before_ns, expires_ns, revoked_ns,
                    revoked_reason, owner, application, certificate, notes
             FROM keys WHERE ?1 IS NULL OR id = ?1 ORDER BY created_ns, id",
        )
        .map_err(on)?;
    let mut rows = statement.query([id.as_ref().map(KeyId::as_str)]).map_err(on)?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next().map_err(on)? {
        keys.push(key(row, &mut lists).map_err(told)?);
    }
    Ok(keys)
}

enum RowFault {
    Sqlite(rusqlite::Error),
    Value(String),
}

/// What stands in tables of its own, by key.
struct Lists {
    roles: ByKey<String>,
    scopes: ByKey<String>,
    routes: ByKey<String>,
    networks: ByKey<String>,
    limits: ByKey<String>,
    secrets: ByKey<(SecretRecord, Mac)>,
}

type ByKey<T> = HashMap<String, Vec<T>>;

impl Lists {
    fn read(connection: &Connection, id: Option<KeyId>) -> Result<Self, RowFault> {
        let texts = |table: &str, column: &str| {
            by_key(connection, id, table, column, |row| Ok(row.get(1)?))
        };
        Ok(Self {
            roles: texts("key_roles", "role")?,
            scopes: texts("key_scopes", "scope")?,
            routes: texts("key_routes", "route")?,
            networks: texts("key_networks", "network")?,
            limits: texts("key_limits", "name")?,
            secrets: by_key(
                connection,
                id,
                "key_secrets",
                "number, form, prefix, pepper, created_ns, ends_ns, used_ns, used_from, hmac",
                secret,
            )?,
        })
    }
}

/// The rows of `table` by their key, each list in the order of the first column.
fn by_key<T>(
    connection: &Connection,
    id: Option<KeyId>,
    table: &str,
    columns: &str,
    read: impl Fn(&Row<'_>) -> Result<T, RowFault>,
) -> Result<ByKey<T>, RowFault> {
    let sql =
        format!("SELECT key, {columns} FROM {table} WHERE ?1 IS NULL OR key = ?1 ORDER BY 1, 2");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id.as_ref().map(KeyId::as_str)])?;
    let mut found = ByKey::new();
    while let Some(row) = rows.next()? {
        found.entry(row.get(0)?).or_default().push(read(row)?);
    }
    Ok(found)
}

fn secret(row: &Row<'_>) -> Result<(SecretRecord, Mac), RowFault> {
    let key: String = row.get(0)?;
    let fault =
        |what: &str| RowFault::Value(format!("a secret of key `{}`: {what}", key.escape_debug()));
    let time = |at| time(row, at).map_err(|_negative| fault("a time is negative"));
    let form: String = row.get(2)?;
    let used = match (time(7)?, row.get::<_, Option<String>>(8)?) {
        (Some(at), Some(from)) => {
            let from = from.parse().map_err(|_odd| fault("used_from is not an address"))?;
            Some(LastUse { at, from })
        }
        (None, None) => None,
        _ => return Err(fault("half a use")),
    };
    let record = SecretRecord {
        number: row.get(1)?,
        form: SecretForm::ALL
            .into_iter()
            .find(|known| known.as_str() == form)
            .ok_or_else(|| fault("a form that nobody knows"))?,
        prefix: row
            .get::<_, String>(3)?
            .parse()
            .map_err(|error: KeyPrefixError| fault(&error.to_string()))?,
        pepper: row.get(4)?,
        created: time(5)?.ok_or_else(|| fault("created is missing"))?,
        ends: time(6)?,
        used,
    };
    Ok((record, row.get(9)?))
}

fn key(row: &Row<'_>, lists: &mut Lists) -> Result<StoredKey, RowFault> {
    let id: String = row.get(0)?;
    let fault = |what: &str| RowFault::Value(format!("key `{}`: {what}", id.escape_debug()));
    let time = |at, what: &str| time(row, at).map_err(|_negative| fault(what));
    let revoked = match (time(6, "revoked is negative")?, row.get::<_, Option<String>>(7)?) {
        (Some(at), Some(reason)) => Some(Revocation { at, reason }),
        (None, None) => None,
        _ => return Err(fault("half a revocation")),
    };
    let mut networks = taken(&mut lists.networks, &id)
        .iter()
        .map(|network| network.parse())
        .collect::<Result<Vec<Prefix>, _>>()
        .map_err(|error: PrefixError| fault(&error.to_string()))?;
    networks.sort_unstable();
    let (secrets, macs): (Vec<_>, Vec<_>) = taken(&mut lists.secrets, &id).into_iter().unzip();
    if secrets.is_empty() {
        return Err(fault("it has no secret"));
    }
    let record = KeyRecord {
        id: id.parse().map_err(|error: KeyIdError| fault(&error.to_string()))?,
        name: row.get(1)?,
        owner: row.get(8)?,
        application: row.get(9)?,
        environment: row
            .get::<_, String>(2)?
            .parse()
            .map_err(|error: EnvironmentError| fault(&error.to_string()))?,
        roles: taken(&mut lists.roles, &id).iter().map(|role| Role::new(role)).collect(),
        scopes: taken(&mut lists.scopes, &id),
        routes: taken(&mut lists.routes, &id),
        networks,
        certificate: row.get::<_, Option<[u8; 32]>>(10)?.map(Thumbprint),
        limits: taken(&mut lists.limits, &id),
        notes: row.get(11)?,
        created: time(3, "created is negative")?.ok_or_else(|| fault("created is missing"))?,
        not_before: time(4, "not_before is negative")?,
        expires: time(5, "expires is negative")?,
        revoked,
        secrets,
    };
    Ok(StoredKey { record, macs })
}

fn taken<T>(lists: &mut ByKey<T>, id: &str) -> Vec<T> {
    lists.remove(id).unwrap_or_default()
}

fn time(row: &Row<'_>, at: usize) -> Result<Option<Timestamp>, RowFault> {
    match row.get::<_, Option<i64>>(at)?.map(u64::try_from) {
        None => Ok(None),
        Some(Ok(ns)) => Ok(Some(Timestamp::from_unix_ns(ns))),
        Some(Err(negative)) => Err(RowFault::Value(negative.to_string())),
    }
}

/// Whether `text` is the id or the name of a key.
pub(super) fn is_taken(connection: &Connection, text: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM keys WHERE id = ?1 OR name = ?1)")?
        .query_row([text], |row| row.get(0))
}

/// The id of the key called `name`.
pub(super) fn id_of_name(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT id FROM keys WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Writes a key that was not there, with its secrets.
pub(super) fn insert(transaction: &Transaction<'_>, key: &StoredKey) -> rusqlite::Result<()> {
    let StoredKey { record, macs } = key;
    let id = record.id.as_str();
    transaction
        .prepare_cached(
            "INSERT INTO keys (id, name, environment, created_ns, not_before_ns, expires_ns, owner,
                               application, certificate, notes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            id,
            record.name,
            record.environment.as_str(),
            ns(record.created),
            record.not_before.map(ns),
            record.expires.map(ns),
            record.owner,
            record.application,
            record.certificate.map(|print| print.0),
            record.notes,
        ])
        .map(drop)?;
    let words = |sql: &str, words: &mut dyn Iterator<Item = String>| -> rusqlite::Result<()> {
        let mut statement = transaction.prepare_cached(sql)?;
        for word in words {
            statement.execute(params![id, word]).map(drop)?;
        }
        Ok(())
    };
    let roles = record.roles.iter().map(|role| role.as_str().to_owned());
    words("INSERT INTO key_roles VALUES (?1, ?2)", &mut { roles })?;
    words("INSERT INTO key_scopes VALUES (?1, ?2)", &mut record.scopes.iter().cloned())?;
    words("INSERT INTO key_routes VALUES (?1, ?2)", &mut record.routes.iter().cloned())?;
    let networks = record.networks.iter().map(ToString::to_string);
    words("INSERT INTO key_networks VALUES (?1, ?2)", &mut { networks })?;
    words("INSERT INTO key_limits VALUES (?1, ?2)", &mut record.limits.iter().cloned())?;
    record
        .secrets
        .iter()
        .zip(macs)
        .try_for_each(|(secret, mac)| insert_secret(transaction, record.id, secret, mac))
}

/// Writes a secret that was not there.
pub(super) fn insert_secret(
    transaction: &Transaction<'_>,
    key: KeyId,
    secret: &SecretRecord,
    mac: &Mac,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO key_secrets (key, number, form, prefix, hmac, pepper, created_ns, ends_ns)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            key.as_str(),
            secret.number,
            secret.form.as_str(),
            secret.prefix.as_str(),
            mac.as_slice(),
            secret.pepper,
            ns(secret.created),
            secret.ends.map(ns),
        ])
        .map(drop)
}

/// Forgets every secret of `key` but this one.
pub(super) fn remove_other_secrets(
    transaction: &Transaction<'_>,
    key: KeyId,
    number: u32,
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM key_secrets WHERE key = ?1 AND number <> ?2";
    transaction.execute(sql, params![key.as_str(), number]).map(drop)
}

/// Notes when a secret ends.
pub(super) fn end_secret(
    connection: &Connection,
    key: KeyId,
    number: u32,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "UPDATE key_secrets SET ends_ns = ?3 WHERE key = ?1 AND number = ?2";
    connection.execute(sql, params![key.as_str(), number, ns(at)]).map(drop)
}

/// Notes a secret's last use; nothing when the secret is gone.
pub(super) fn note_use(
    transaction: &Transaction<'_>,
    key: KeyId,
    number: u32,
    last: &LastUse,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE key_secrets SET used_ns = ?3, used_from = ?4 WHERE key = ?1 AND number = ?2",
        )?
        .execute(params![key.as_str(), number, ns(last.at), last.from.to_string()])
        .map(drop)
}

/// The first revocation stays: a second one changes neither its time nor its reason.
pub(super) fn revoke(
    connection: &Connection,
    id: KeyId,
    revocation: &Revocation,
) -> rusqlite::Result<()> {
    connection
        .execute(
            "UPDATE keys SET revoked_ns = ?2, revoked_reason = ?3
             WHERE id = ?1 AND revoked_ns IS NULL",
            params![id.as_str(), ns(revocation.at), revocation.reason],
        )
        .map(drop)
}

pub(super) fn ns(time: Timestamp) -> i64 {
    i64::try_from(time.unix_ns()).unwrap_or(i64::MAX)
}

impl From<rusqlite::Error> for RowFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
