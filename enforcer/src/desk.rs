//! Where operators' calls are answered: one at a time, so that two of them never cross.
//!
//! Blocks are the responder's business and policies that of [`Policies`]; keys are kept here, by the
//! one writer of `keys.db`. Every call that changes something, and every one that was refused, leaves
//! a record with the name of who asked. A log that takes no records does not keep an operator from
//! acting: the answer then says that it is not on record.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use enforcer_admin::call::{
    self, AuditStatus, Blocks, Counter, KernelStatus, Key, KeyIssue, KeyIssued, Keys, PolicyStatus,
    Status,
};
use enforcer_admin::{Answer, Call, Incoming, Peer, Refusal, RefusalKind};
use enforcer_audit::{AdminAction, Audit, Health, Outcome, Record, Ticket};
use enforcer_authn::{Environment, KeyRecord, KeyState, KeyStore, NewKey, StoreError};
use enforcer_model::{Author, Clock, Role};
use enforcer_policy::Policy;
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::operators::{operator, ssh_peer};
use crate::reload::Policies;
use crate::respond::{KernelView, Order, Repair};

/// Longest reason that goes on record, in characters.
const REASON_MAX: usize = 500;

/// What the answers are made of.
pub(crate) struct Desk {
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) keys: KeyStore,
    pub(crate) policies: Policies,
    pub(crate) audit: Audit,
    pub(crate) audit_folder: std::path::PathBuf,
    pub(crate) counters: Arc<enforcer_proxy::Counters>,
    pub(crate) listeners: Vec<String>,
    pub(crate) started: Instant,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Desk {
    /// Answers calls until nobody can call any more.
    ///
    /// Waits for files: keys are written with fsync, and a policy may name ten thousand routes. So
    /// it has a thread to itself, where nobody's packets wait behind it.
    pub(crate) async fn attend(mut self, mut calls: mpsc::Receiver<Incoming>) -> io::Result<()> {
        while let Some(Incoming { call, peer, reply }) = calls.recv().await {
            let answer = self.answer(call, peer).await;
            // Whoever asked may be gone; the deed stands.
            drop(reply.send(answer));
        }
        Ok(())
    }

    async fn answer(&mut self, call: Call, peer: Peer) -> Result<Answer, Refusal> {
        // Calls over the socket have a process; a signal to the agent has none.
        let by = &peer.pid.map_or(Author::Agent, |_| operator(peer.uid));
        match call {
            Call::Status => self.status().await,
            Call::Quarantine(mut asked) => {
                checked(&asked.reason)?;
                asked.ssh_peer = asked.ssh_peer.or_else(|| ssh_peer(peer.pid?));
                let arguments = arguments(&asked);
                let by_whom = by.clone();
                let done = self
                    .order(|reply| Order::Quarantine { asked, by: by_whom, reply })
                    .await
                    .map(|(blocked, ticket)| (Answer::Blocked(Box::new(blocked)), ticket));
                self.recorded("quarantine", arguments, by, done).await
            }
            Call::Release { what, reason } => {
                reason.as_deref().map_or(Ok(()), checked)?;
                let arguments = vec![what.to_string(), reason.clone().unwrap_or_default()];
                let by_whom = by.clone();
                let done = self
                    .order(|reply| Order::Release { what, reason, by: by_whom, reply })
                    .await
                    .map(|(released, ticket)| (Answer::Released(Box::new(released)), ticket));
                self.recorded("release", arguments, by, done).await
            }
            Call::Blocks => {
                let blocks = self.order(|reply| Order::List { reply }).await?;
                Ok(Answer::Blocks(Blocks { blocks }))
            }
            Call::Why { address } => {
                let why = self.order(|reply| Order::Why { address, reply }).await?;
                Ok(Answer::Why(Box::new(why)))
            }
            Call::VerifyBlocks { repair: false } => {
                let repair = Repair::Tell;
                let found = self.order(|reply| Order::Verify { repair, reply }).await?;
                Ok(Answer::Verified(found))
            }
            Call::VerifyBlocks { repair: true } => {
                let repair = Repair::Mend;
                let done = self.order(|reply| Order::Verify { repair, reply }).await;
                let done = done.map(|verified| (Answer::Verified(verified), None));
                self.recorded("blocks --repair", Vec::new(), by, done).await
            }
            Call::KeyIssue(asked) => {
                let mut arguments = vec![asked.name.clone()];
                arguments.extend(asked.roles.iter().cloned());
                arguments.extend(asked.networks.iter().map(ToString::to_string));
                arguments.extend(asked.expires.map(|end| format!("until {end}")));
                let done = self.issue(asked);
                if let Ok(Answer::KeyIssued(issued)) = &done {
                    arguments.push(format!("key:{}", issued.key.id));
                }
                let done = done.map(|answer| (answer, None));
                self.recorded("keys issue", arguments, by, done).await
            }
            Call::KeyList => self.list_keys(),
            Call::KeyShow { which } => {
                let record = self.keys.show(&which).map_err(|error| key_refusal(&error))?;
                Ok(Answer::Key(Box::new(self.key(&record))))
            }
            Call::KeyRevoke { which, reason } => {
                checked(&reason)?;
                let mut arguments = vec![which.clone(), reason.clone()];
                arguments.extend(self.keys.show(&which).ok().map(|key| format!("key:{}", key.id)));
                let done = self.revoke(&which, &reason).await.map(|answer| (answer, None));
                self.recorded("keys revoke", arguments, by, done).await
            }
            Call::PolicyApply { text } => self.apply_policy(text, by.clone()).await,
        }
    }

    /// Reads the policy file again, as an operator's `SIGHUP` asks.
    pub(crate) async fn apply_policy(
        &mut self,
        text: Option<String>,
        by: Author,
    ) -> Result<Answer, Refusal> {
        let mut applied = self.policies.apply(text, by, &self.orders).await?;
        applied.0.audit = committed(applied.1).await;
        Ok(Answer::PolicyApplied(applied.0))
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Order,
    ) -> Result<T, Refusal> {
        let stopping = || Refusal::new(RefusalKind::Failed, "the agent is stopping");
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_gone| stopping())?;
        answer.await.map_err(|_gone| stopping())?
    }

    /// Records what was asked and what came of it, and puts the record's number in the answer.
    async fn recorded(
        &self,
        verb: &str,
        arguments: Vec<String>,
        by: &Author,
        done: Result<(Answer, Option<Ticket>), Refusal>,
    ) -> Result<Answer, Refusal> {
        let (outcome, detail) = match &done {
            Ok(_) => (Outcome::Done, None),
            Err(refusal) => match refusal.kind {
                RefusalKind::Failed => (Outcome::Failed, Some(refusal.message.clone())),
                RefusalKind::Guarded | RefusalKind::NotFound | RefusalKind::Usage => {
                    (Outcome::Refused, Some(refusal.message.clone()))
                }
            },
        };
        let action =
            AdminAction { operator: by.clone(), verb: verb.to_owned(), arguments, outcome, detail };
        let ticket = self.audit.reserve().ok().map(|slot| slot.write(Record::Admin(action)));
        let own = committed(ticket).await;
        let (mut answer, effect) = done?;
        let effect = match effect {
            Some(ticket) => committed(Some(ticket)).await,
            None => own,
        };
        match &mut answer {
            Answer::Blocked(blocked) => blocked.audit = effect.filter(|_| !blocked.dry_run),
            Answer::Released(released) => released.audit = effect,
            Answer::KeyIssued(issued) => issued.audit = own,
            Answer::Key(key) => key.audit = own,
            Answer::Verified(verified) => verified.audit = own,
            Answer::Status(_)
            | Answer::Blocks(_)
            | Answer::Why(_)
            | Answer::Keys(_)
            | Answer::PolicyApplied(_) => {}
        }
        Ok(answer)
    }

    fn issue(&mut self, asked: KeyIssue) -> Result<Answer, Refusal> {
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
            self.order(|reply| Order::Cut { key, reply }).await?;
        }
        let record = revoked.map_err(|error| key_refusal(&error))?;
        info!(key = %record.id, name = record.name, "key revoked");
        Ok(Answer::Key(Box::new(self.key(&record))))
    }

    fn list_keys(&self) -> Result<Answer, Refusal> {
        let records = self.keys.list().map_err(|error| key_refusal(&error))?;
        let keys = records.iter().map(|record| self.key(record)).collect();
        Ok(Answer::Keys(Keys { keys }))
    }

    fn key(&self, record: &KeyRecord) -> Key {
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

    async fn status(&self) -> Result<Answer, Refusal> {
        let view = self.order(|reply| Order::Kernel { reply }).await?;
        let policy = self.policies.current();
        let now = self.clock.now().monotonic;
        let log = self.audit.state();
        Ok(Answer::Status(Box::new(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: now.saturating_duration_since(self.started).as_secs(),
            policy: PolicyStatus {
                file: self.policies.file().to_owned(),
                sha256: policy.sha256().to_string(),
                summary: summary(&policy),
            },
            listeners: self.listeners.clone(),
            blocks: view.blocks,
            kernel: kernel_status(view),
            audit: AuditStatus {
                directory: self.audit_folder.clone(),
                records: log.size,
                root: log.root.iter().map(|byte| format!("{byte:02x}")).collect(),
                failed: match log.health {
                    Health::Serving => None,
                    Health::DiskFull => Some("the disk is full".to_owned()),
                    Health::Failed(why) => Some(why.to_string()),
                    Health::Closed => Some("the log is closed".to_owned()),
                },
            },
            requests: self
                .counters
                .read()
                .into_iter()
                .map(|(name, count)| Counter { name, count })
                .collect(),
        })))
    }
}

fn kernel_status(view: KernelView) -> KernelStatus {
    let counters = view.counters.into_iter().flat_map(|counters| counters.entries);
    KernelStatus {
        mode: view.mode,
        problem: view.problem,
        interfaces: view.interfaces,
        object: enforcer_kernel::object_sha256(),
        packets: counters
            .map(|counter| Counter {
                name: format!("{} {}", counter.verdict, counter.reason),
                count: counter.packets,
            })
            .collect(),
    }
}

fn summary(policy: &Policy) -> String {
    let (routes, rules) = (policy.routes().len(), policy.rules().len());
    format!("{routes} routes, {} roles, {rules} rules", policy.roles().iter().count())
}

/// The number of a record once it is on disk; none when the log does not say so.
pub(crate) async fn committed(ticket: Option<Ticket>) -> Option<u64> {
    ticket?.committed().await.ok()
}

/// What a quarantine was asked to be, for the record: a rehearsal and an override are told.
fn arguments(asked: &call::Quarantine) -> Vec<String> {
    let mut arguments = vec![asked.target.to_string(), asked.reason.clone()];
    arguments.push(match asked.ttl_seconds {
        Some(seconds) => format!("for {seconds} s"),
        None => "forever".to_owned(),
    });
    arguments.extend(asked.dry_run.then(|| "dry-run".to_owned()));
    arguments.extend(asked.override_guard.map(|_| "override-guard".to_owned()));
    arguments
}

/// A reason is for people who read it later: a few words, on one line.
fn checked(reason: &str) -> Result<(), Refusal> {
    let length = reason.chars().count();
    if reason.trim().is_empty() || length > REASON_MAX || reason.chars().any(char::is_control) {
        return Err(Refusal::new(RefusalKind::Usage, "the reason is not one line of words")
            .hint(format!("say in 1 to {REASON_MAX} characters why")));
    }
    Ok(())
}

fn key_refusal(error: &StoreError) -> Refusal {
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
