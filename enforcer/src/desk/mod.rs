//! Where operators' calls are answered: one at a time, so that two of them never cross.
//!
//! Blocks are the responder's business and policies that of [`Policies`]; keys are kept here, by the
//! one writer of `keys.db`. Lists take time to be read and judged: that is done beside the desk, one
//! list at a time, while other calls are answered. Every call that changes something, and every one
//! that was refused, leaves a record with the name of who asked. A log that takes no records does not
//! keep an operator from acting: the answer then says that it is not on record.

mod cache;
mod cases;
mod certs;
mod clerk;
mod endpoints;
mod keys;
mod limits;
mod lists;
mod look;
mod near;
mod notify;
mod profile;
mod rules;
mod status;
mod tokens;
mod upkeep;
mod upstreams;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_admin::call::{self, AuditStatus, Counter, KernelVerb, Lists, PolicyStatus, Status};
use enforcer_admin::{Answer, Call, Incoming, Peer, Refusal, RefusalKind};
use enforcer_audit::Health;
use enforcer_authn::KeyStore;
use enforcer_model::{Author, Clock};
use enforcer_notify::Notifier;
use enforcer_policy::Policy;
use enforcer_proxy::Rolls;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::error;

use crate::anchoring::AnchorDesk;
use crate::cli::chain;
use crate::handover::{Loan, Returned};
use crate::incident::Incident;
use crate::incidents::Asked;
use crate::notifications::NotifyDesk;
use crate::operators::{operator, ssh_peer};
use crate::policies::{Begun, Policies};
use crate::profiles::ProfilesDesk;
use crate::respond::{Order, Repair};
use crate::rules::RulesDesk;

pub(crate) use certs::CertDesk;
pub(crate) use clerk::{Clerk, committed};
pub(crate) use endpoints::EndpointDesk;
pub(crate) use lists::ListDesk;
pub(crate) use look::looked;
pub(crate) use tokens::TokenDesk;
pub(crate) use upstreams::{Causes, HostOrders, UpstreamDesk, tell as tell_of_upstreams};

use keys::Upkeep;
use lists::ListCall;

/// How often what has a time is looked at; so much later may it end.
const TICK: Duration = Duration::from_millis(250);

/// Longest reason that goes on record, in characters.
const REASON_MAX: usize = 500;

/// What the answers are made of.
pub(crate) struct Desk {
    pub(crate) clerk: Clerk,
    pub(crate) lists: ListDesk,
    pub(crate) cache: Arc<enforcer_cache::Cache>,
    pub(crate) rolls: Arc<Rolls>,
    pub(crate) certs: CertDesk,
    pub(crate) endpoints: EndpointDesk,
    pub(crate) upstreams: UpstreamDesk,
    pub(crate) keys: KeyStore,
    pub(crate) limits: Arc<enforcer_limits::Limits>,
    pub(crate) tokens: TokenDesk,
    pub(crate) incident: Incident,
    pub(crate) rules: RulesDesk,
    pub(crate) profiles: ProfilesDesk,
    /// Incidents and decisions are the watcher's.
    pub(crate) cases: mpsc::Sender<Asked>,
    pub(crate) policies: Policies,
    pub(crate) anchors: AnchorDesk,
    pub(crate) receivers: NotifyDesk,
    pub(crate) notifier: Notifier,
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
    ///
    /// While what it owns is lent to a successor, calls wait.
    pub(crate) async fn attend(
        mut self,
        mut calls: mpsc::Receiver<Incoming>,
        mut loans: mpsc::Receiver<Loan>,
    ) -> io::Result<()> {
        let beside = TaskTracker::new();
        let mut upkeep = Upkeep::new();
        let mut pruned = None;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let incoming = tokio::select! {
                incoming = calls.recv() => incoming,
                Some(loan) = loans.recv() => {
                    beside.close();
                    beside.wait().await;
                    match self.lend(loan).await {
                        Returned::Back => {
                            beside.reopen();
                            continue;
                        }
                        Returned::Never => return Ok(()),
                    }
                }
                _ = ticks.tick() => {
                    self.tick().await;
                    self.look_after_keys(&mut upkeep);
                    self.keep(&mut pruned, self.clock.now()).await;
                    continue;
                }
            };
            let Some(Incoming { call, peer, author: whose, reply }) = incoming else { break };
            let by = whose.unwrap_or_else(|| author(peer));
            // Whoever asked may be gone; the deed stands.
            match ListCall::among(call) {
                Ok(call) => {
                    let work =
                        self.lists.clone().answer(call, self.asked(peer), self.clerk.clone());
                    beside.spawn(async move { drop(reply.send(work.await)) });
                }
                // Whom an issuer keeps waiting, nobody else waits for.
                Err(Call::TokenInspect { token }) => {
                    let tokens = self.tokens.tokens.clone();
                    let work = tokens::inspect(tokens, token, self.clock.now());
                    beside.spawn(async move { drop(reply.send(Ok(work.await))) });
                }
                // Nor for a receiver of notices.
                Err(Call::Notify { order }) => {
                    let work = notify::order(self.receivers.clone(), order, by, self.clerk.clone());
                    beside.spawn(async move { drop(reply.send(work.await)) });
                }
                // Nor for a witness.
                Err(Call::Anchor) => {
                    let (anchors, clerk) = (self.anchors.clone(), self.clerk.clone());
                    let by = author(peer);
                    beside.spawn(async move {
                        let done = anchors.anchor().await;
                        let done = done.map(|round| (Answer::Anchored(Box::new(round)), None));
                        let done = clerk.recorded("audit anchor", Vec::new(), &by, done).await;
                        drop(reply.send(done));
                    });
                }
                Err(call) => drop(reply.send(self.answer(call, peer, &by).await)),
            }
        }
        self.flush_uses();
        beside.close();
        beside.wait().await;
        Ok(())
    }

    /// Leaves every file to a successor, until it is known what came of it.
    async fn lend(&mut self, Loan { lent, back }: Loan) -> Returned {
        self.flush_uses();
        let free = self.keys.lend().map_err(|error| chain(&error));
        let free = free.and_then(|()| self.tokens.revocations.lend().map_err(|e| chain(&e)));
        lent.send(free).unwrap_or_default();
        let returned = back.await.unwrap_or(Returned::Never);
        if returned == Returned::Back {
            for taken in [
                self.keys.take_back().map_err(|error| chain(&error)),
                self.tokens.revocations.take_back().map_err(|error| chain(&error)),
            ] {
                if let Err(error) = taken {
                    error!(error, "a store is not locked any more; another agent could open it");
                }
            }
        }
        returned
    }

    /// What is over by now ends.
    async fn tick(&mut self) {
        self.policies.tick(&self.clerk.orders).await;
        let now = self.clock.now();
        self.incident.tick(now.wall);
        self.endpoints.tick(now.wall);
        self.upstreams.tick(now);
        self.certs.tick(now);
    }

    /// Who asks about a list, and what it is judged by.
    fn asked(&self, peer: Peer) -> lists::Asked {
        lists::Asked {
            by: author(peer),
            ssh_peer: peer.pid.and_then(ssh_peer),
            policy: self.policies.current(),
            begun: self.clock.now(),
        }
    }

    async fn answer(&mut self, call: Call, peer: Peer, by: &Author) -> Result<Answer, Refusal> {
        match call {
            Call::Anchor => {
                Err(Refusal::new(RefusalKind::Failed, "the log is anchored beside the desk"))
            }
            Call::Notify { .. } => {
                Err(Refusal::new(RefusalKind::Failed, "receivers are told beside the desk"))
            }
            Call::AuditErase(asked) => self.erase(asked, by).await,
            Call::AuditPrune(asked) => self.prune(asked, by).await,
            Call::Status => self.status().await,
            Call::Quarantine(mut asked) => {
                checked(&asked.reason)?;
                asked.ssh_peer = asked.ssh_peer.or_else(|| ssh_peer(peer.pid?));
                let arguments = arguments(&asked);
                let by_whom = by.clone();
                let done = self
                    .clerk
                    .order(|reply| Order::Quarantine { asked, by: by_whom, reply })
                    .await
                    .map(|(blocked, ticket)| (Answer::Blocked(Box::new(blocked)), ticket));
                self.clerk.recorded("quarantine", arguments, by, done).await
            }
            Call::Release { what, reason } => {
                reason.as_deref().map_or(Ok(()), checked)?;
                let arguments = vec![what.to_string(), reason.clone().unwrap_or_default()];
                let by_whom = by.clone();
                let done = self
                    .clerk
                    .order(|reply| Order::Release { what, reason, by: by_whom, reply })
                    .await
                    .map(|(released, ticket)| (Answer::Released(Box::new(released)), ticket));
                self.clerk.recorded("release", arguments, by, done).await
            }
            Call::Blocks { after } => {
                let blocks = self.clerk.order(|reply| Order::List { after, reply }).await?;
                Ok(Answer::Blocks(blocks))
            }
            Call::Why { address } => {
                let why = self.clerk.order(|reply| Order::Why { address, reply }).await?;
                Ok(Answer::Why(Box::new(why)))
            }
            Call::VerifyBlocks { repair: false } => {
                let repair = Repair::Tell;
                let found = self.clerk.order(|reply| Order::Verify { repair, reply }).await?;
                Ok(Answer::Verified(found))
            }
            Call::VerifyBlocks { repair: true } => {
                let repair = Repair::Mend;
                let done = self.clerk.order(|reply| Order::Verify { repair, reply }).await;
                let done = done.map(|verified| (Answer::Verified(verified), None));
                self.clerk.recorded("blocks --repair", Vec::new(), by, done).await
            }
            Call::Lists => {
                let lists = self.clerk.order(|reply| Order::Lists { reply }).await?;
                Ok(Answer::Lists(Lists { lists }))
            }
            Call::Export { list, after } => {
                let order = |reply| Order::Export { list, after, reply };
                Ok(Answer::Exported(self.clerk.order(order).await?))
            }
            Call::Talkers { most } => {
                let talkers = self.clerk.order(|reply| Order::Talkers { most, reply }).await?;
                Ok(Answer::Talkers(Box::new(talkers)))
            }
            Call::Sources { most } => Ok(Answer::Sources(self.sources(most))),
            Call::Kernel { verb } => {
                let by_whom = by.clone();
                let done = self
                    .clerk
                    .order(|reply| Order::Kernel { verb, by: by_whom, reply })
                    .await
                    .map(|(report, ticket)| (Answer::Kernel(Box::new(report)), ticket));
                let verb = match verb {
                    KernelVerb::Attach => "kernel attach",
                    KernelVerb::Detach => "kernel detach",
                    KernelVerb::Upgrade => "kernel upgrade",
                    KernelVerb::Status => return done.map(|(answer, _)| answer),
                };
                self.clerk.recorded(verb, Vec::new(), by, done).await
            }
            Call::Import(_) | Call::ReleaseList { .. } => {
                Err(Refusal::new(RefusalKind::Failed, "lists are prepared beside the desk"))
            }
            Call::KeyFinish(asked) => self.finish_key(asked, by).await,
            Call::KeyImport(asked) => self.import_keys(asked, by).await,
            Call::KeyIssue(asked) => self.issue_key(*asked, by).await,
            Call::KeyList => self.list_keys(),
            Call::KeyRevoke { which, reason, dry_run } => {
                self.revoke_key(&which, &reason, dry_run, by).await
            }
            Call::KeyRotate(asked) => self.rotate_key(asked, by).await,
            Call::KeyShow { which } => self.show_key(&which),
            Call::TokenInspect { .. } => {
                Err(Refusal::new(RefusalKind::Failed, "tokens are looked at beside the desk"))
            }
            Call::TokenList { after } => self.tokens.list(after.as_deref(), self.clock.now().wall),
            Call::TokenRestore { id, reason } => {
                checked(&reason)?;
                let done = self.tokens.restore(&id, self.clock.now().wall);
                let done = done.map(|answer| (answer, None));
                self.clerk.recorded("tokens restore", vec![id, reason], by, done).await
            }
            Call::TokenRevoke(asked) => {
                checked(&asked.reason)?;
                let mut arguments = tokens::arguments(&asked);
                let done = self.tokens.revoke(&asked, by, self.clock.now().wall);
                if let Ok(Answer::TokensRevoked(revoked)) = &done {
                    arguments.push(revoked.revocation.id.clone());
                }
                let done = done.map(|answer| (answer, None));
                self.clerk.recorded("tokens revoke", arguments, by, done).await
            }
            Call::Limits { what, most } => self.show_limits(what.as_deref(), most).await,
            Call::LimitSet(asked) => self.set_limit(asked, by).await,
            Call::PolicyApply { text, begin } => {
                let orders = &self.clerk.orders;
                begun(self.policies.apply(text, begin, by.clone(), orders).await?).await
            }
            Call::PolicyPromote => {
                let done = self.policies.promote(by.clone(), &self.clerk.orders).await;
                self.step("policy promote", by, done).await
            }
            Call::PolicyRollback => {
                let done = self.policies.rollback(by.clone(), &self.clerk.orders).await;
                self.step("policy rollback", by, done).await
            }
            Call::PolicyState => Ok(Answer::PolicyState(Box::new(self.policies.state()))),
            Call::Upstream { order } => self.order_upstream(order, peer, by).await,
            Call::Certs { order } => self.order_certs(order, by).await,
            Call::Cache { order } => self.order_cache(order, by).await,
            Call::Endpoint { order } => self.order_endpoint(order, peer, by).await,
            Call::Look(look) => self.clerk.look(look, by).await,
            Call::HandOver(_) => {
                Err(Refusal::new(RefusalKind::Failed, "this agent hands nothing over now"))
            }
            Call::Profile { order } => self.show_profiles(order).await,
            Call::Rules { order } => self.order_rules(order, by).await,
            Call::Case { order } => self.order_case(order, by).await,
            Call::Incident { set: None } => Ok(Answer::Incident(self.incident.status())),
            Call::Incident { set: Some(asked) } => {
                checked(&asked.reason)?;
                let mut arguments = vec![asked.level.to_string(), asked.reason.clone()];
                arguments.extend(asked.ttl_seconds.map(|seconds| format!("for {seconds} s")));
                let done = self.incident.set(&asked, by, self.clock.now().wall);
                let done = done.map(|(status, ticket)| (Answer::Incident(status), ticket));
                self.clerk.recorded("incident level", arguments, by, done).await
            }
        }
    }

    /// A step from one policy to another that takes no text.
    async fn step(
        &self,
        verb: &str,
        by: &Author,
        done: Result<Begun, Refusal>,
    ) -> Result<Answer, Refusal> {
        let done = match done {
            Ok(done) => Ok((begun(done).await?, None)),
            Err(refusal) => Err(refusal),
        };
        self.clerk.recorded(verb, Vec::new(), by, done).await
    }

    async fn status(&self) -> Result<Answer, Refusal> {
        let view = self.clerk.order(|reply| Order::Status { reply }).await?;
        let policy = self.policies.current();
        let now = self.clock.now().monotonic;
        let log = self.clerk.audit.state();
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
            connections: self.connections(&policy).await,
            upstreams: self.upstreams.rows(self.clock.now()),
            cache: cache::stats(&self.cache),
            certificates: self.certs.pressing(self.clock.now().wall),
            endpoints_disabled: self.endpoints.disabled(),
            endpoints_tightened: self.endpoints.tightened(),
            incident: self.incident.status().level,
            issuers: self.tokens.issuers(),
            blocks: view.blocks,
            lists: view.lists,
            listed_networks: view.listed_networks,
            kernel: view.status,
            capabilities: view.capabilities,
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
                anchors: self.anchors.status(self.clock.now().wall),
            },
            requests: self
                .counters
                .read()
                .into_iter()
                .map(|(name, count)| Counter { name, count })
                .chain([
                    Counter { name: "kernel slots mended".to_owned(), count: view.mended },
                    Counter { name: "sources throttled".to_owned(), count: view.throttled },
                    Counter {
                        name: "limit buckets forgotten".to_owned(),
                        count: self.limits.lossy_evictions(),
                    },
                ])
                .collect(),
        })))
    }
}

/// Calls over the socket have a process; a signal to the agent has none.
fn author(peer: Peer) -> Author {
    peer.pid.map_or(Author::Agent, |_| operator(peer.uid))
}

/// What became of a policy, once it is on record.
async fn begun(begun: Begun) -> Result<Answer, Refusal> {
    Ok(match begun {
        Begun::InForce(mut applied, ticket) => {
            applied.audit = committed(ticket).await;
            Answer::PolicyApplied(applied)
        }
        Begun::Watching(mut state, ticket) => {
            state.audit = committed(ticket).await;
            Answer::PolicyState(Box::new(state))
        }
    })
}

fn summary(policy: &Policy) -> String {
    let (routes, rules) = (policy.routes().len(), policy.rules().len());
    format!("{routes} routes, {} roles, {rules} rules", policy.roles().iter().count())
}

/// What a quarantine was asked to be, for the record: a rehearsal and an override are told.
fn arguments(asked: &call::Quarantine) -> Vec<String> {
    let mut arguments = vec![asked.target.to_string(), asked.reason.clone()];
    arguments.push(match asked.ttl_seconds {
        Some(seconds) => format!("for {seconds} s"),
        None => "forever".to_owned(),
    });
    arguments.extend(asked.dry_run.then(|| "dry-run".to_owned()));
    arguments.extend(asked.override_guard.as_ref().map(|_| "override-guard".to_owned()));
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
