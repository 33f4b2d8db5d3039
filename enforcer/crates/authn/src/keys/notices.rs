//! Who must be told that a key ends, or that its secret is old; each thing once, for all time.
//!
//! What is given is on disk before it is answered, so a restart repeats nothing. What a webhook has
//! not taken yet is found again after a restart. When several notices of one key are due at once
//! (the agent was off, or the key is short-lived), only the most urgent one is given.

use std::collections::HashMap;
use std::time::Duration;

use enforcer_model::{KeyId, Timestamp};
use rusqlite::{Connection, params};
use serde::Serialize;

use super::error::{Damage, StoreError};
use super::facts::before;
use super::plan::KeyPlan;
use super::rows::ns;
use super::schema;
use super::store::KeyStore;

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// The key expires.
    Expiry,
    /// The key's secret is older than a secret should become.
    Rotation,
}

/// Which notice; given once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NoticeMark {
    /// Which key.
    pub key: KeyId,
    /// About what.
    pub kind: NoticeKind,
    /// When the key expires, or since when its rotation is due.
    pub due: Timestamp,
    /// How long before that the notice is given.
    pub ahead: Duration,
}

/// A notice; as JSON it is what a webhook gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Which notice.
    #[serde(skip)]
    pub mark: NoticeMark,
    /// `expiry` or `rotation`.
    pub notice: NoticeKind,
    /// The key's id.
    pub key: KeyId,
    /// What people call it.
    pub name: String,
    /// Whose it is, if that was said.
    pub owner: Option<String>,
    /// Which application uses it, if that was said.
    pub application: Option<String>,
    /// When it expires, or since when its rotation is due.
    pub due: Timestamp,
    /// Whole seconds until then; zero once it is past.
    pub seconds_left: u64,
    /// When the notice was given.
    pub given: Timestamp,
    /// What to do.
    pub advice: String,
}

impl NoticeKind {
    const ALL: [Self; 2] = [Self::Expiry, Self::Rotation];

    /// As stored and posted.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expiry => "expiry",
            Self::Rotation => "rotation",
        }
    }
}

/// What is known of a key that notices depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) key: KeyId,
    pub(super) expires: Option<Timestamp>,
    /// When its newest secret was made.
    pub(super) renewed: Timestamp,
}

/// The notices that are due for a key at `now`: one of each kind at most.
pub(super) fn due(
    ending: &Ending,
    plan: &KeyPlan,
    now: Timestamp,
) -> impl Iterator<Item = NoticeMark> + use<> {
    let key = ending.key;
    let expiry = ending.expires.filter(|end| now < *end).and_then(|end| {
        let passed = plan.notify.iter().filter(|ahead| before(end, **ahead) <= now);
        let ahead = *passed.min()?;
        Some(NoticeMark { key, kind: NoticeKind::Expiry, due: end, ahead })
    });
    let due = plan.every.map(|every| ending.renewed.saturating_add(every));
    let is_over = ending.expires.is_some_and(|end| end <= now);
    let rotation = due.filter(|due| *due <= now && !is_over).map(|due| NoticeMark {
        key,
        kind: NoticeKind::Rotation,
        due,
        ahead: Duration::ZERO,
    });
    expiry.into_iter().chain(rotation)
}

impl KeyStore {
    /// Notices given, or found again, at once.
    pub const NOTICES_AT_ONCE: usize = 100;

    /// The notices that are due and were never given, [`KeyStore::NOTICES_AT_ONCE`] at most; they
    /// count as given from here on. Without a webhook there is nobody to post them to.
    pub fn give_notices(
        &mut self,
        plan: &KeyPlan,
        now: Timestamp,
    ) -> Result<Vec<Notice>, StoreError> {
        let fresh = self.index.due_notices(plan, now, |mark| !self.noticed.contains(mark));
        let fresh: Vec<_> = fresh.into_iter().take(Self::NOTICES_AT_ONCE).collect();
        if fresh.is_empty() {
            return Ok(Vec::new());
        }
        let posted = plan.webhook.is_none().then_some(now);
        self.write(|transaction, path| {
            fresh
                .iter()
                .try_for_each(|mark| insert(transaction, mark, now, posted))
                .map_err(|error| schema::failed("write", path, error))
        })?;
        // Those about an end that is not the key's any more have no use.
        let dues: HashMap<_, _> =
            fresh.iter().map(|mark| ((mark.key, mark.kind), mark.due)).collect();
        self.noticed
            .retain(|known| dues.get(&(known.key, known.kind)).is_none_or(|due| *due == known.due));
        self.noticed.extend(fresh.iter().copied());
        fresh.into_iter().map(|mark| self.notice(mark, now, now)).collect()
    }

    /// The notices that were given and are not posted yet, oldest first,
    /// [`KeyStore::NOTICES_AT_ONCE`] at most.
    pub fn unposted_notices(&self, now: Timestamp) -> Result<Vec<Notice>, StoreError> {
        let on = |error| schema::failed("read", &self.path, error);
        let found = unposted(&self.connection, Self::NOTICES_AT_ONCE).map_err(on)?;
        let notices = found.into_iter().map(|(mark, given)| {
            let mark = mark.map_err(|what| schema::damaged(&self.path, Damage::Row(what)))?;
            self.notice(mark, given, now)
        });
        notices.collect()
    }

    /// Notes that a notice was posted, or that nobody tries any longer.
    pub fn notice_posted(&mut self, mark: &NoticeMark, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE key_notices SET posted_ns = ?5
                   WHERE key = ?1 AND kind = ?2 AND due_ns = ?3 AND ahead_ns = ?4";
        let row =
            params![mark.key.as_str(), mark.kind.as_str(), ns(mark.due), span(mark.ahead), ns(now)];
        let done = self.connection.execute(sql, row);
        done.map(drop).map_err(|error| schema::failed("write", &self.path, error))
    }

    fn notice(
        &self,
        mark: NoticeMark,
        given: Timestamp,
        now: Timestamp,
    ) -> Result<Notice, StoreError> {
        let record = self.stored(mark.key)?.record;
        Ok(Notice {
            mark,
            notice: mark.kind,
            key: record.id,
            name: record.name,
            owner: record.owner,
            application: record.application,
            due: mark.due,
            seconds_left: mark.due.since(now).as_secs(),
            given,
            advice: match mark.kind {
                NoticeKind::Expiry => "give its user a new key: `enforcer keys issue`".to_owned(),
                NoticeKind::Rotation => format!("enforcer keys rotate {}", mark.key),
            },
        })
    }
}

/// Every notice that was given about an end or an age that may still be a key's.
pub(super) fn given(connection: &Connection) -> rusqlite::Result<Vec<Result<NoticeMark, String>>> {
    let mut statement =
        connection.prepare("SELECT key, kind, due_ns, ahead_ns FROM key_notices")?;
    statement.query_map([], mark)?.collect()
}

fn insert(
    transaction: &Connection,
    mark: &NoticeMark,
    now: Timestamp,
    posted: Option<Timestamp>,
) -> rusqlite::Result<()> {
    let (key, kind) = (mark.key.as_str(), mark.kind.as_str());
    transaction
        .prepare_cached("DELETE FROM key_notices WHERE key = ?1 AND kind = ?2 AND due_ns <> ?3")?
        .execute(params![key, kind, ns(mark.due)])
        .map(drop)?;
    transaction
        .prepare_cached("INSERT OR IGNORE INTO key_notices VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![key, kind, ns(mark.due), span(mark.ahead), ns(now), posted.map(ns)])
        .map(drop)
}

fn unposted(
    connection: &Connection,
    most: usize,
) -> rusqlite::Result<Vec<(Result<NoticeMark, String>, Timestamp)>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, kind, due_ns, ahead_ns, given_ns FROM key_notices WHERE posted_ns IS NULL
         ORDER BY given_ns LIMIT ?1",
    )?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    statement.query_map([most], |row| Ok((mark(row)?, time(row.get(4)?))))?.collect()
}

fn mark(row: &rusqlite::Row<'_>) -> rusqlite::Result<Result<NoticeMark, String>> {
    let (key, kind): (String, String) = (row.get(0)?, row.get(1)?);
    let (due, ahead) = (time(row.get(2)?), time(row.get(3)?));
    let odd = || format!("a notice about key `{}`", key.escape_debug());
    let known = NoticeKind::ALL.into_iter().find(|known| known.as_str() == kind);
    Ok(key.parse().map_err(|_odd| odd()).and_then(|key| {
        let ahead = Duration::from_nanos(ahead.unix_ns());
        Ok(NoticeMark { key, kind: known.ok_or_else(odd)?, due, ahead })
    }))
}

fn time(ns: i64) -> Timestamp {
    Timestamp::from_unix_ns(u64::try_from(ns).unwrap_or_default())
}

fn span(ahead: Duration) -> i64 {
    i64::try_from(ahead.as_nanos()).unwrap_or(i64::MAX)
}
