//! New file, new policy, one swap; or the old one stays and the reason is told.
//!
//! A policy is checked whole before anything of it is in force, its certificates included. What a
//! running agent cannot change (its listeners, its state directory) is named in the answer and waits
//! for a restart. Requests see the old policy or the new one, never a mixture.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enforcer_admin::call::PolicyApplied;
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{Audit, ConfigChange, ConfigEvent, Record, Ticket};
use enforcer_model::{Author, Clock};
use enforcer_policy::{LoadError, Policy};
use enforcer_proxy::Shared;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use crate::respond::{Guards, Order, as_micros};

/// The owner of the policy in force.
pub(crate) struct Policies {
    file: PathBuf,
    proxy: Arc<Shared>,
    rules: watch::Sender<Arc<Policy>>,
    audit: Audit,
    clock: Arc<dyn Clock>,
}

impl Policies {
    pub(crate) fn new(
        file: PathBuf,
        proxy: Arc<Shared>,
        rules: watch::Sender<Arc<Policy>>,
        audit: Audit,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { file, proxy, rules, audit, clock }
    }

    /// The policy in force.
    pub(crate) fn current(&self) -> Arc<Policy> {
        self.proxy.policy.load_full()
    }

    /// Where it was read.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Puts `text`, or what the file holds by now, in force; `text` then also replaces the file.
    pub(crate) async fn apply(
        &self,
        text: Option<String>,
        by: Author,
        orders: &mpsc::Sender<Order>,
    ) -> Result<(PolicyApplied, Option<Ticket>), Refusal> {
        let begun = self.clock.now().monotonic;
        let before = self.current();
        let next = match self.read(text.as_deref()) {
            Ok(next) => Arc::new(next),
            Err(refusal) => {
                warn!(reason = refusal.message, "the new policy is refused; the old one stays");
                drop(self.note(ConfigEvent::PolicyRefused, &by, &before, Some(&refusal.message)));
                return Err(refusal);
            }
        };
        // The certificates of a good policy are known to be good; reading them again is the last
        // thing that can fail.
        self.proxy.certificates.reload(&next).map_err(|error| {
            Refusal::new(RefusalKind::Failed, crate::cli::chain(&error))
                .hint("the old policy stays in force")
        })?;
        // Nothing is in force until the file is safe: a restart must not bring back the old one.
        if let Some(text) = &text {
            replace(&self.file, text).map_err(|error| {
                if let Err(error) = self.proxy.certificates.reload(&before) {
                    warn!(%error, "the certificates of the old policy cannot be read again");
                }
                Refusal::new(
                    RefusalKind::Failed,
                    format!("cannot write {}: {error}; the old policy stays", self.file.display()),
                )
            })?;
        }
        self.proxy.policy.store(Arc::clone(&next));
        self.rules.send_replace(Arc::clone(&next));
        let (reply, done) = oneshot::channel();
        let kernel = next.kernel().cloned();
        let reguard = Order::Reguard { guards: guards(&next), kernel, reply };
        if orders.send(reguard).await.is_ok() && done.await.is_err() {
            warn!("the responder ended before it saw the new policy");
        }

        let needs_restart = before.needs_restart(&next);
        let took = self.clock.now().monotonic.saturating_duration_since(begun);
        info!(sha256 = %next.sha256(), %by, "policy in force");
        let ticket = self.note(ConfigEvent::PolicyApplied, &by, &next, None);
        let applied = PolicyApplied {
            file: self.file.clone(),
            sha256: next.sha256().to_string(),
            previous_sha256: before.sha256().to_string(),
            took_us: as_micros(took),
            needs_restart: needs_restart.into_iter().map(str::to_owned).collect(),
            warnings: next.warnings().iter().map(ToString::to_string).collect(),
            audit: None,
        };
        Ok((applied, ticket))
    }

    fn read(&self, text: Option<&str>) -> Result<Policy, Refusal> {
        let read = match text {
            Some(text) => Policy::parse(text, &self.file).map_err(LoadError::from),
            None => Policy::load(&self.file),
        };
        read.map_err(|error| {
            Refusal::new(RefusalKind::Failed, crate::cli::chain(&error))
                .hint("the old policy stays in force")
        })
    }

    fn note(
        &self,
        what: ConfigEvent,
        by: &Author,
        policy: &Policy,
        detail: Option<&str>,
    ) -> Option<Ticket> {
        let change = ConfigChange {
            what,
            by: Some(by.clone()),
            policy: Some(Arc::clone(policy.sha256())),
            program: None,
            kernel_program: None,
            detail: detail.map(str::to_owned),
        };
        self.audit.reserve().ok().map(|slot| slot.write(Record::Config(change)))
    }
}

/// What `policy` protects from being blocked.
pub(crate) fn guards(policy: &Policy) -> Guards {
    let lists = policy.guard().never_block.iter();
    Guards {
        never_block: lists.map(|list| (list.name.to_string(), list.networks.clone())).collect(),
        upstreams: policy
            .upstreams()
            .flat_map(|plan| plan.hosts.iter().map(|host| host.ip()))
            .filter(|address| !address.is_loopback())
            .collect(),
        clients_percent_max: policy.guard().max_clients.get(),
    }
}

/// Replaces `file` in one step that survives a power cut.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let draft = file.with_extension("toml.new");
    let mut written = std::fs::File::create(&draft)?;
    written.write_all(text.as_bytes())?;
    if let Ok(old) = std::fs::metadata(file) {
        written.set_permissions(old.permissions())?;
    }
    written.sync_all()?;
    std::fs::rename(&draft, file)?;
    match file.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
