//! New file, new policy, one swap; or the old one stays and the reason is told.
//!
//! A policy is checked whole before anything of it is in force, its certificates included. What a
//! running agent cannot change (its listeners, its state directory) is named in the answer and waits
//! for a restart. Requests see the old policy or the new one, never a mixture.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enforcer_admin::call::PolicyApplied;
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{Audit, ConfigChange, ConfigEvent, Record, Ticket};
use enforcer_model::{Author, Clock};
use enforcer_policy::{LoadError, Policy};
use enforcer_proxy::{Certificates, Shared};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::respond::{Guards, Order, Policed, as_micros};

/// The owner of the policy in force.
pub(crate) struct Policies {
    file: PathBuf,
    /// The text in force, and where it goes when another takes its place.
    text: Option<String>,
    previous: PathBuf,
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
        let policy = proxy.policy.load();
        let previous = policy.agent().state.join("policy.previous.toml");
        let text = text_of(&policy, &file);
        drop(policy);
        Self { file, text, previous, proxy, rules, audit, clock }
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
        &mut self,
        text: Option<String>,
        by: Author,
        orders: &mpsc::Sender<Order>,
    ) -> Result<(PolicyApplied, Option<Ticket>), Refusal> {
        let begun = self.clock.now().monotonic;
        let before = self.current();
        let next = match self.read(text.as_deref()) {
            Ok(next) => Arc::new(next),
            Err(refusal) => {
                return Err(self.refused(refusal, &by, &before));
            }
        };
        // Certificates that cannot be read refuse the policy before anything of it is in force.
        if let Err(error) = Certificates::load(&next) {
            let refusal = Refusal::new(RefusalKind::Failed, crate::cli::chain(&error));
            return Err(self.refused(refusal, &by, &before));
        }
        // Nothing is in force until the file is safe: a restart must not bring back the old one.
        let replaced = text.as_deref().map(|text| replace(&self.file, text)).transpose();
        if let Err(error) = replaced {
            let file = self.file.display();
            let whose = if error.kind() == std::io::ErrorKind::PermissionDenied {
                "; it must belong to the agent's user and to a group of that user"
            } else {
                ""
            };
            let refusal =
                Refusal::new(RefusalKind::Failed, format!("cannot write {file}: {error}{whose}"));
            return Err(self.refused(refusal, &by, &before));
        }
        let mut problems = Vec::new();
        if let Err(error) = self.proxy.certificates.reload(&next) {
            problems.push(format!("certificates: {}", crate::cli::chain(&error)));
        }
        let text = text.or_else(|| text_of(&next, &self.file));
        let previous = self.keep_previous(text);
        self.proxy.policy.store(Arc::clone(&next));
        self.rules.send_replace(Arc::clone(&next));
        let (reply, done) = oneshot::channel();
        let policed = Policed {
            guards: guards(&next),
            when_full: next.when_full(),
            kernel: next.kernel().cloned(),
        };
        let reguard = Order::Reguard { policed: Box::new(policed), reply };
        problems.extend(match orders.send(reguard).await {
            Ok(()) => {
                done.await.unwrap_or_else(|_| vec!["guards: the agent is stopping".to_owned()])
            }
            Err(_) => vec!["guards: the agent is stopping".to_owned()],
        });
        for problem in &problems {
            error!(problem, "a part of the new policy is not in force");
        }

        let needs_restart = before.needs_restart(&next);
        let took = self.clock.now().monotonic.saturating_duration_since(begun);
        info!(sha256 = %next.sha256(), %by, "policy in force");
        let detail = (!problems.is_empty()).then(|| problems.join("; "));
        let ticket = self.note(ConfigEvent::PolicyApplied, &by, &next, detail.as_deref());
        let applied = PolicyApplied {
            file: self.file.clone(),
            sha256: next.sha256().to_string(),
            previous_sha256: before.sha256().to_string(),
            took_us: as_micros(took),
            needs_restart: needs_restart.into_iter().map(str::to_owned).collect(),
            warnings: next.warnings().iter().map(ToString::to_string).collect(),
            problems,
            previous,
            audit: None,
        };
        Ok((applied, ticket))
    }

    /// Keeps the text that was in force, so that the change can be undone.
    fn keep_previous(&mut self, next: Option<String>) -> Option<PathBuf> {
        let before = std::mem::replace(&mut self.text, next)?;
        if self.text.as_ref() == Some(&before) {
            return None;
        }
        match std::fs::write(&self.previous, before) {
            Ok(()) => Some(self.previous.clone()),
            Err(error) => {
                warn!(%error, "the policy before is not kept");
                None
            }
        }
    }

    fn read(&self, text: Option<&str>) -> Result<Policy, Refusal> {
        let read = match text {
            Some(text) => Policy::parse(text, &self.file).map_err(LoadError::from),
            None => Policy::load(&self.file),
        };
        read.map_err(|error| Refusal::new(RefusalKind::Failed, crate::cli::chain(&error)))
    }

    fn refused(&self, refusal: Refusal, by: &Author, before: &Policy) -> Refusal {
        warn!(reason = refusal.message, "the new policy is refused; the old one stays");
        drop(self.note(ConfigEvent::PolicyRefused, by, before, Some(&refusal.message)));
        refusal.hint("the old policy stays in force")
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

/// The text that `policy` was read from, if the file still holds it.
fn text_of(policy: &Policy, file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let same = Policy::parse(&text, file).is_ok_and(|read| read.sha256() == policy.sha256());
    same.then_some(text)
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

/// Replaces `file` in one step that survives a power cut; a link stays a link, owner and mode stay.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let file = std::fs::canonicalize(file)?;
    let draft = file.with_extension("toml.new");
    let written = write_draft(&draft, &file, text).and_then(|()| std::fs::rename(&draft, &file));
    if let Err(error) = written {
        // Whatever is left of the draft is of no use to anybody.
        drop(std::fs::remove_file(&draft));
        return Err(error);
    }
    match file.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn write_draft(draft: &Path, file: &Path, text: &str) -> std::io::Result<()> {
    let old = std::fs::metadata(file)?;
    let mut written = std::fs::File::create(draft)?;
    written.write_all(text.as_bytes())?;
    written.set_permissions(old.permissions())?;
    let new = written.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        // Without privileges: to a group of the agent's, and to nobody else.
        std::os::unix::fs::fchown(&written, Some(old.uid()), Some(old.gid()))?;
    }
    written.sync_all()
}
