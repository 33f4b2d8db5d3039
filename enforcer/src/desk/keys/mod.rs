//! API keys, by the one writer of `keys.db`.
//!
//! What an operator asks for is compared with the policy in force first: a key that names a role,
//! route or limit which nobody knows would be found out by its user. Whatever changes a key is on
//! disk and in force before the answer, and on record; a rehearsal is neither.

mod import;
mod told;
mod upkeep;

use std::time::Duration;

use enforcer_admin::call::{Key, KeyFinish, KeyIssue, KeyIssued, KeyRehearsed, KeyRotate, Keys};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_authn::{Environment, KeyPlan, KeyRecord, NewKey, SecretRecord, StoreError};
use enforcer_model::{Author, Role, Timestamp};
use enforcer_policy::Policy;
use tracing::info;

use super::{Desk, checked};
use crate::respond::Order;

use told::key_refusal;
pub(super) use upkeep::Upkeep;

/// An old secret that was used so recently is in somebody's hands.
const STILL_IN_USE: Duration = Duration::from_secs(3_600);

impl Desk {
    pub(super) async fn issue_key(
        &mut self,
        asked: KeyIssue,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        let mut arguments = vec![asked.name.clone()];
        arguments.extend(asked.owner.iter().map(|owner| format!("owner {owner}")));
        arguments.extend(asked.roles.iter().cloned());
        arguments.extend(asked.routes.iter().map(|route| format!("route {route}")));
        arguments.extend(asked.networks.iter().map(ToString::to_string));
        arguments.extend(asked.expires.map(|end| format!("until {end}")));
        let rehearsal = asked.dry_run;
        let done = self.issue(asked);
        if rehearsal {
            return done;
        }
        if let Ok(Answer::KeyIssued(issued)) = &done {
            arguments.push(format!("key:{}", issued.key.id));
        }
        let done = done.map(|answer| (answer, None));
        self.clerk.recorded("keys issue", arguments, by, done).await
    }

    pub(super) async fn rotate_key(
        &mut self,
        asked: KeyRotate,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        let grace = asked.grace_seconds.map(Duration::from_secs);
        let grace = grace.unwrap_or_else(|| self.key_plan().grace);
        if grace > KeyPlan::GRACE_MAX {
            let days = KeyPlan::GRACE_MAX.as_secs() / 86_400;
            let message = "the old secret would live too long";
            return Err(Refusal::new(RefusalKind::Usage, message)
                .hint(format!("the longest grace is {days} days")));
        }
        let now = self.clock.now().wall;
        if asked.dry_run {
            let record = self.keys.check_rotation(&asked.which, now);
            let record = record.map_err(|error| key_refusal(&error))?;
            let ends = now.saturating_add(grace);
            let would = match grace.is_zero() {
                true => format!("key:{} would get a new secret, and the old one end", record.id),
                false => {
                    format!(
                        "key:{} would get a new secret, and the old one end at {ends}",
                        record.id
                    )
                }
            };
            return Ok(self.rehearsed(would, Some(&record)));
        }
        let mut arguments = vec![asked.which.clone(), format!("grace {} s", grace.as_secs())];
        let done = self.rotate(&asked.which, grace, now).await;
        if let Ok(Answer::KeyIssued(issued)) = &done {
            arguments.push(format!("key:{}", issued.key.id));
        }
        let done = done.map(|answer| (answer, None));
        self.clerk.recorded("keys rotate", arguments, by, done).await
    }

    pub(super) async fn finish_key(
        &mut self,
        asked: KeyFinish,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        let now = self.clock.now().wall;
        if asked.dry_run {
            let found = self.keys.retiring(&asked.which, now);
            let (record, secret) = found.map_err(|error| key_refusal(&error))?;
            let would = format!(
                "secret {} of key:{} would end; {}",
                secret.number,
                record.id,
                used(&secret)
            );
            return Ok(self.rehearsed(would, Some(&record)));
        }
        let mut arguments = vec![asked.which.clone(), "--finish".to_owned()];
        arguments.extend(asked.even_if_used.then(|| "even if used".to_owned()));
        let done = self.finish(&asked, now);
        if let Ok(record) = &done {
            arguments.push(format!("key:{}", record.id));
        }
        let done = done.map(|record| (Answer::Key(Box::new(self.key(&record))), None));
        self.clerk.recorded("keys rotate", arguments, by, done).await
    }

    pub(super) async fn revoke_key(
        &mut self,
        which: &str,
        reason: &str,
        dry_run: bool,
        by: &Author,
    ) -> Result<Answer, Refusal> {
        checked(reason)?;
        let found = self.keys.show(which);
        if dry_run {
            let record = found.map_err(|error| key_refusal(&error))?;
            let would =
                format!("key:{} would be refused for ever, and its requests cut", record.id);
            return Ok(self.rehearsed(would, Some(&record)));
        }
        let mut arguments = vec![which.to_owned(), reason.to_owned()];
        arguments.extend(found.ok().map(|key| format!("key:{}", key.id)));
        let done = self.revoke(which, reason).await.map(|answer| (answer, None));
        self.clerk.recorded("keys revoke", arguments, by, done).await
    }

    pub(super) fn list_keys(&self) -> Result<Answer, Refusal> {
        let records = self.keys.list().map_err(|error| key_refusal(&error))?;
        let keys = records.iter().map(|record| self.key(record)).collect();
        Ok(Answer::Keys(Keys { keys }))
    }

    pub(super) fn show_key(&self, which: &str) -> Result<Answer, Refusal> {
        let record = self.keys.show(which).map_err(|error| key_refusal(&error))?;
        Ok(Answer::Key(Box::new(self.key(&record))))
    }

    /// `[keys]` of the policy in force.
    pub(super) fn key_plan(&self) -> KeyPlan {
        self.policies.current().keys().clone()
    }

    fn issue(&mut self, asked: KeyIssue) -> Result<Answer, Refusal> {
        let now = self.clock.now().wall;
        let new = NewKey {
            name: asked.name,
            owner: asked.owner,
            application: asked.application,
            roles: asked.roles.iter().map(|role| Role::new(role)).collect(),
            scopes: asked.scopes,
            routes: asked.routes,
            networks: asked.networks,
            certificate: asked.certificate,
            not_before: asked.not_before,
            expires: asked.expires,
            limits: asked.limits,
            notes: asked.notes,
            environment: if asked.test { Environment::Test } else { Environment::Live },
        };
        let problems = told::unknown_names(&self.policies.current(), &new);
        if let Some(first) = problems.first() {
            let more = problems.get(1..).unwrap_or_default();
            let details = more.iter().map(|problem| problem.what.clone()).collect();
            let refusal = Refusal::new(RefusalKind::Usage, first.what.clone()).details(details);
            return Err(refusal.hint(first.hint.clone()));
        }
        if asked.dry_run {
            self.keys.check(&new, now).map_err(|error| key_refusal(&error))?;
            let would = format!("a key called `{}` would be made", new.name);
            return Ok(self.rehearsed(would, None));
        }
        self.keys.set_prefix(self.key_plan().prefix);
        let (record, issued) = self.keys.issue(new, now).map_err(|error| key_refusal(&error))?;
        info!(key = %record.id, name = record.name, "key issued");
        Ok(self.issued(&record, issued.expose()))
    }

    async fn rotate(
        &mut self,
        which: &str,
        grace: Duration,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        self.keys.set_prefix(self.key_plan().prefix);
        let rotated = self.keys.rotate(which, grace, now);
        let (record, issued) = rotated.map_err(|error| key_refusal(&error))?;
        if grace.is_zero() {
            // Whoever has the old secret is not to go on with what it has opened.
            let key = record.id;
            self.clerk.order(|reply| Order::Cut { key, reply }).await?;
        }
        info!(key = %record.id, name = record.name, "key rotated");
        Ok(self.issued(&record, issued.expose()))
    }

    fn finish(&mut self, asked: &KeyFinish, now: Timestamp) -> Result<KeyRecord, Refusal> {
        let found = self.keys.retiring(&asked.which, now);
        let (record, secret) = found.map_err(|error| key_refusal(&error))?;
        let in_use = secret.used.is_some_and(|last| now.since(last.at) < STILL_IN_USE);
        if in_use && !asked.even_if_used {
            let message =
                format!("the old secret of key:{} is in use: {}", record.id, used(&secret));
            return Err(Refusal::new(RefusalKind::Guarded, message).hint(
                "let its user change to the new one first, or say -y: the next use is refused",
            ));
        }
        let record = self.keys.finish(&asked.which, now).map_err(|error| key_refusal(&error))?;
        info!(key = %record.id, name = record.name, "old secret ended");
        Ok(record)
    }

    async fn revoke(&mut self, which: &str, reason: &str) -> Result<Answer, Refusal> {
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

    fn issued(&self, record: &KeyRecord, credential: &str) -> Answer {
        let (key, credential) = (self.key(record), credential.to_owned());
        Answer::KeyIssued(Box::new(KeyIssued { key, credential, audit: None }))
    }

    fn rehearsed(&self, would: String, record: Option<&KeyRecord>) -> Answer {
        let key = record.map(|record| self.key(record));
        Answer::KeyRehearsed(Box::new(KeyRehearsed { would, key }))
    }

    fn key(&self, record: &KeyRecord) -> Key {
        let plan = self.key_plan();
        told::key(record, &self.policies.current(), &plan, self.clock.now().wall)
    }
}

/// When and from where a secret was last used, in words.
fn used(secret: &SecretRecord) -> String {
    match secret.used {
        Some(last) => format!("it was last used at {} from {}", last.at, last.from),
        None => "it was never used".to_owned(),
    }
}

/// The names of a kind that the policy knows.
fn role_names(policy: &Policy) -> Vec<&str> {
    policy.roles().iter().map(Role::as_str).collect()
}

fn route_names(policy: &Policy) -> Vec<&str> {
    policy.routes().iter().map(|route| &*route.name).collect()
}

fn limit_names(policy: &Policy) -> Vec<&str> {
    policy.limits().iter().map(|charged| &**charged.limit.name()).collect()
}
