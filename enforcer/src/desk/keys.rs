//! API keys, by the one writer of `keys.db`.

use enforcer_admin::call::{Key, KeyIssue, KeyIssued, Keys};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_authn::{Environment, KeyRecord, KeyState, NewKey, StoreError};
use enforcer_model::Role;
use tracing::info;

use super::Desk;
use crate::respond::Order;

impl Desk {
    pub(super) fn issue(&mut self, asked: KeyIssue) -> Result<Answer, Refusal> {
        let policy = self.policies.current();
        let known: Vec<_> = policy.roles().iter().map(|role| role.as_str().to_owned()).collect();
        let unknown: Vec<_> = asked.roles.iter().filter(|role| !known.contains(role)).collect();
        if let Some(role) = unknown.first() {
            return Err(Refusal::new(
                RefusalKind::Usage,
                format!("the policy in force knows no role `{role}`"),
            )
            .hint(format!("it knows: {}", known.join(", "))));
        }
        let new = NewKey {
            name: asked.name,
            roles: asked.roles.iter().map(|role| Role::new(role)).collect(),
            networks: asked.networks,
            not_before: None,
            expires: asked.expires,
            environment: if asked.test { Environment::Test } else { Environment::Live },
        };
        let now = self.clock.now().wall;
        let (record, issued) = self.keys.issue(new, now).map_err(|error| key_refusal(&error))?;
        info!(key = %record.id, name = record.name, "key issued");
        Ok(Answer::KeyIssued(Box::new(KeyIssued {
            key: self.key(&record),
            credential: issued.expose().to_owned(),
            audit: None,
        })))
    }

    pub(super) async fn revoke(&mut self, which: &str, reason: &str) -> Result<Answer, Refusal> {
        let now = self.clock.now().wall;
        let revoked = self.keys.revoke(which, reason, now);
        // A disk that refuses does not keep the key alive, nor its requests.
        let key = match &revoked {
            Ok(record) => Some(record.id),
            Err(StoreError::RevokedInMemoryOnly { id, .. }) => Some(*id),
            Err(_) => None,
        };
        if let Some(key) = key {
            self.clerk.order(|reply| Order::Cut { key, reply }).await?;
        }
        let record = revoked.map_err(|error| key_refusal(&error))?;
        info!(key = %record.id, name = record.name, "key revoked");
        Ok(Answer::Key(Box::new(self.key(&record))))
    }

    pub(super) fn list_keys(&self) -> Result<Answer, Refusal> {
        let records = self.keys.list().map_err(|error| key_refusal(&error))?;
        let keys = records.iter().map(|record| self.key(record)).collect();
        Ok(Answer::Keys(Keys { keys }))
    }

    pub(super) fn key(&self, record: &KeyRecord) -> Key {
        let policy = self.policies.current();
        let is_unknown = |role: &&Role| !policy.roles().iter().any(|known| known == *role);
        Key {
            id: record.id,
            name: record.name.clone(),
            unknown_roles: record.roles.iter().filter(is_unknown).cloned().collect(),
            roles: record.roles.clone(),
            networks: record.networks.clone(),
            state: match record.state(self.clock.now().wall) {
                KeyState::Active => "active",
                KeyState::Expired => "expired",
                KeyState::NotYetValid => "not yet valid",
                KeyState::Revoked => "revoked",
            }
            .to_owned(),
            created: record.created,
            expires: record.expires,
            revoked: record.revoked.as_ref().map(|revocation| revocation.at),
            revoked_because: record.revoked.as_ref().map(|revocation| revocation.reason.clone()),
            audit: None,
        }
    }
}

pub(super) fn key_refusal(error: &StoreError) -> Refusal {
    let kind = match error {
        StoreError::NoSuchKey(_) => RefusalKind::NotFound,
        StoreError::New(_) | StoreError::NameTaken(_) => RefusalKind::Usage,
        StoreError::Damaged { .. }
        | StoreError::DiskFull { .. }
        | StoreError::Foreign { .. }
        | StoreError::Full { .. }
        | StoreError::InUse { .. }
        | StoreError::Newer { .. }
        | StoreError::NoWal { .. }
        | StoreError::Random
        | StoreError::File(_)
        | StoreError::RevokedInMemoryOnly { .. }
        | StoreError::Sqlite { .. }
        | StoreError::WrongPepper { .. } => RefusalKind::Failed,
    };
    Refusal::new(kind, crate::cli::chain(error))
}
