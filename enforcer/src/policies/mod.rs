//! New file, new policy, one swap; or the old one stays and the reason is told.
//!
//! A policy is checked whole before anything of it is in force, its certificates included. What a
//! running agent cannot change (its listeners, its state directory) is named in the answer and waits
//! for a restart. Requests see the old policy or the new one, never a mixture.
//!
//! A policy can also begin on probation ([`Probation`]), or only watch ([`Shadow`]).

mod probation;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_admin::call::{Begin, Flip, PolicyApplied, PolicyState, ShadowStatus};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{Audit, ConfigChange, ConfigEvent, Record, Ticket};
use enforcer_model::{Author, Clock, Timestamp};
use enforcer_policy::{Case, LoadError, Policy, trial};
use enforcer_proxy::{Certificates, Shadow, Shared, Verdict};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

pub(crate) use probation::Probation;

use crate::desk::HostOrders;
use crate::files;
use crate::respond::{Guards, Order, Policed, as_micros};

/// The owner of the policy in force, of the one before, and of one that watches.
pub(crate) struct Policies {
    file: PathBuf,
    /// The text in force; none when the file holds another one by now.
    text: Option<String>,
    probation: Probation,
    confirm_until: Option<Timestamp>,
    proxy: Arc<Shared>,
    hosts: Arc<HostOrders>,
    rules: watch::Sender<Arc<Policy>>,
    audit: Audit,
    clock: Arc<dyn Clock>,
}

/// What became of a policy that an operator brought.
pub(crate) enum Begun {
    /// It is in force.
    InForce(Box<PolicyApplied>, Option<Ticket>),
    /// It watches.
    Watching(PolicyState, Option<Ticket>),
}

impl Policies {
    pub(crate) fn new(
        file: PathBuf,
        proxy: Arc<Shared>,
        hosts: Arc<HostOrders>,
        rules: watch::Sender<Arc<Policy>>,
        audit: Audit,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let policy = proxy.policy.load();
        let probation = Probation::of(&policy.agent().state);
        let text = text_of(&policy, &file);
        drop(policy);
        Self { file, text, probation, confirm_until: None, proxy, hosts, rules, audit, clock }
    }

    /// The policy in force.
    pub(crate) fn current(&self) -> Arc<Policy> {
        self.proxy.policy.load_full()
    }

    /// Where it was read.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Lets `text`, or what the file holds by now, begin as `begin` says; in force, `text` also
    /// replaces the file.
    pub(crate) async fn apply(
        &mut self,
        text: Option<String>,
        begin: Begin,
        by: Author,
        orders: &mpsc::Sender<Order>,
    ) -> Result<Begun, Refusal> {
        let before = self.current();
        let now = self.clock.now();
        let next = match self.read(text.as_deref()) {
            Ok(next) => Arc::new(next),
            Err(refusal) => return Err(self.refused(refusal, &by, &before)),
        };
        if let Err(failed) = tested(&next) {
            return Err(self.refused(failed, &by, &before));
        }
        match begin {
            Begin::Now => self.enforce(next, text, None, &by, orders, now.monotonic).await,
            Begin::Confirm { within_seconds } => {
                let until = now.wall.saturating_add(Duration::from_secs(within_seconds));
                self.enforce(next, text, Some(until), &by, orders, now.monotonic).await
            }
            Begin::Shadow { for_seconds } => {
                let until = now.wall.saturating_add(Duration::from_secs(for_seconds));
                let ticket = self.note(ConfigEvent::PolicyWatches, &by, &next, None);
                info!(sha256 = %next.sha256(), %by, "a policy watches");
                let text = text.or_else(|| text_of(&next, &self.file));
                self.proxy.shadow.store(Some(Arc::new(Shadow::new(next, text, until))));
                Ok(Begun::Watching(self.state(), ticket))
            }
        }
    }

    /// Confirms the policy on probation; without one, puts the one that watches in force.
    pub(crate) async fn promote(
        &mut self,
        by: Author,
        orders: &mpsc::Sender<Order>,
    ) -> Result<Begun, Refusal> {
        let now = self.clock.now();
        if self.confirm_until.is_some() {
            self.probation.end().map_err(|error| {
                let message = format!("the confirmation cannot be kept: {error}");
                Refusal::new(RefusalKind::Failed, message)
            })?;
            self.confirm_until = None;
            let current = self.current();
            info!(sha256 = %current.sha256(), %by, "policy confirmed");
            let ticket = self.note(ConfigEvent::PolicyConfirmed, &by, &current, None);
            return Ok(Begun::Watching(self.state(), ticket));
        }
        let Some(shadow) = self.proxy.shadow.load_full() else {
            return Err(Refusal::new(RefusalKind::NotFound, "no policy waits to be promoted").hint(
                "`policy apply FILE --shadow 24h` lets one watch, `--confirm-within 60s` one begin \
                 on probation",
            ));
        };
        let text = shadow.text().map(str::to_owned).ok_or_else(|| {
            let message = "the file no longer holds the policy that watches";
            Refusal::new(RefusalKind::Failed, message).hint("apply it again, as a file of its own")
        })?;
        let begun = self
            .enforce(Arc::clone(shadow.policy()), Some(text), None, &by, orders, now.monotonic)
            .await?;
        self.proxy.shadow.store(None);
        Ok(begun)
    }

    /// Takes back the last step: the policy on probation, else the one that watches, else the one in
    /// force, for the one before.
    pub(crate) async fn rollback(
        &mut self,
        by: Author,
        orders: &mpsc::Sender<Order>,
    ) -> Result<Begun, Refusal> {
        let now = self.clock.now();
        if self.confirm_until.is_none()
            && let Some(shadow) = self.proxy.shadow.swap(None)
        {
            info!(sha256 = %shadow.policy().sha256(), %by, "a policy watches no longer");
            let ticket = self.note(ConfigEvent::PolicyUnwatched, &by, shadow.policy(), None);
            return Ok(Begun::Watching(self.state(), ticket));
        }
        let text = self.probation.previous_text().map_err(|error| {
            let told = self.probation.previous().display();
            Refusal::new(RefusalKind::Failed, format!("cannot read {told}: {error}"))
        })?;
        let Some(text) = text else {
            let message = "no policy before this one is kept";
            return Err(Refusal::new(RefusalKind::NotFound, message)
                .hint("the first `policy apply` with a change keeps one"));
        };
        let before = self.current();
        let next = match self.read(Some(&text)) {
            Ok(next) => Arc::new(next),
            Err(refusal) => return Err(self.refused(refusal, &by, &before)),
        };
        self.enforce(next, Some(text), None, &by, orders, now.monotonic).await
    }

    /// Brings the policy before back when the one on probation was not confirmed in time, and ends
    /// one that has watched long enough.
    pub(crate) async fn tick(&mut self, orders: &mpsc::Sender<Order>) {
        let now = self.clock.now().wall;
        if self.proxy.shadow.load().as_ref().is_some_and(|shadow| shadow.until() <= now)
            && let Some(shadow) = self.proxy.shadow.swap(None)
        {
            let (compared, flipped) = shadow.counts();
            info!(sha256 = %shadow.policy().sha256(), compared, flipped, "a policy has watched");
            let detail = format!("{flipped} of {compared} decisions would have differed");
            let event = ConfigEvent::PolicyUnwatched;
            drop(self.note(event, &Author::Agent, shadow.policy(), Some(&detail)));
        }
        if self.confirm_until.is_some_and(|until| until <= now) {
            warn!("the policy was not confirmed in time; the one before comes back");
            if let Err(refusal) = self.rollback(Author::Agent, orders).await {
                // Told once: what stands in the way is for a person to see, not for a loop.
                self.confirm_until = None;
                error!(reason = refusal.message, "the policy before cannot come back");
            }
        }
    }

    /// Which policies there are.
    pub(crate) fn state(&self) -> PolicyState {
        let previous = self.probation.previous();
        PolicyState {
            file: self.file.clone(),
            sha256: self.current().sha256().to_string(),
            previous: previous.exists().then(|| previous.to_owned()),
            confirm_until: self.confirm_until,
            shadow: self.proxy.shadow.load().as_deref().map(told),
            audit: None,
        }
    }

    /// Puts `next` in force; with `confirm_until` only until then, unless it is promoted.
    async fn enforce(
        &mut self,
        next: Arc<Policy>,
        text: Option<String>,
        confirm_until: Option<Timestamp>,
        by: &Author,
        orders: &mpsc::Sender<Order>,
        begun: Instant,
    ) -> Result<Begun, Refusal> {
        let before = self.current();
        // Certificates that cannot be read refuse the policy before anything of it is in force.
        if let Err(error) = Certificates::load(&next, &self.clock) {
            let refusal = Refusal::new(RefusalKind::Failed, crate::cli::chain(&error));
            return Err(self.refused(refusal, by, &before));
        }
        let known = text.clone().or_else(|| text_of(&next, &self.file));
        let is_same = known.is_some() && known == self.text;
        if is_same && confirm_until.is_some() {
            let message = "this policy is in force already, so there is nothing to confirm";
            return Err(self.refused(Refusal::new(RefusalKind::Usage, message), by, &before));
        }
        // What is read again, for its certificates, is neither another policy nor confirmed by that.
        let confirm_until = if is_same { self.confirm_until } else { confirm_until };
        // Nothing is in force until the files are safe: a restart must not bring back the old one,
        // nor keep one that nobody confirmed.
        let written = match is_same {
            true => self.replace_file(text.as_deref()).map(|()| None),
            false => self.write(text.as_deref(), confirm_until),
        };
        let previous = match written {
            Ok(previous) => previous,
            Err(refusal) => return Err(self.refused(refusal, by, &before)),
        };
        self.text = known;
        self.confirm_until = confirm_until;

        // Names of upstreams lead somewhere before the first request is sent there.
        let upstreams: Vec<_> = next.upstreams().map(Arc::clone).collect();
        self.proxy.fleet.prepare(&upstreams).await;
        let swapping = self.clock.now().monotonic;
        let mut problems = Vec::new();
        if let Err(error) = self.proxy.certificates.reload(&next) {
            problems.push(format!("certificates: {}", crate::cli::chain(&error)));
        }
        // Who is believed first: a token of a new issuer must not meet the old list.
        self.proxy.tokens.replace(next.issuers());
        self.proxy.fleet.apply(&upstreams, swapping);
        // A host that an operator has taken out stays out, also when it was away meanwhile.
        self.hosts.enforce(&self.proxy.fleet, swapping);
        self.proxy.cache.resize(next.cache());
        self.proxy.policy.store(Arc::clone(&next));
        let swapped = self.clock.now().monotonic.saturating_duration_since(swapping);
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
        let mut detail = problems.clone();
        detail.extend(confirm_until.map(|until| format!("to be confirmed until {until}")));
        let detail = (!detail.is_empty()).then(|| detail.join("; "));
        let ticket = self.note(ConfigEvent::PolicyApplied, by, &next, detail.as_deref());
        let applied = PolicyApplied {
            file: self.file.clone(),
            sha256: next.sha256().to_string(),
            previous_sha256: before.sha256().to_string(),
            took_us: as_micros(took),
            swapped_us: as_micros(swapped),
            needs_restart: needs_restart.into_iter().map(str::to_owned).collect(),
            warnings: next.warnings().iter().map(ToString::to_string).collect(),
            problems,
            previous,
            confirm_until,
            audit: None,
        };
        Ok(Begun::InForce(Box::new(applied), ticket))
    }

    /// Makes the files say what will be in force; where the text before is kept, if it is another.
    fn write(
        &self,
        text: Option<&str>,
        confirm_until: Option<Timestamp>,
    ) -> Result<Option<PathBuf>, Refusal> {
        let failed = |what: String| Refusal::new(RefusalKind::Failed, what);
        let previous = self.probation.previous();
        let keep = |before: &str| match (self.confirm_until, confirm_until) {
            // One unconfirmed policy after another: the way back leads to the one that was.
            (Some(_), Some(_)) => Ok(()),
            (None, _) | (_, None) => self.probation.keep(before),
        };
        let before = self.text.as_deref();
        match (before.map(keep).transpose(), confirm_until) {
            (Ok(Some(())), Some(until)) => self.probation.begin(until).map_err(|error| {
                failed(format!("the probation cannot be noted, so it was not begun: {error}"))
            })?,
            (Ok(None), Some(_)) => {
                let message = "the policy in force is no longer on disk, so it could not come back";
                return Err(failed(message.to_owned())
                    .hint("apply without --confirm-within, or restart the agent first"));
            }
            (Err(error), Some(_)) => {
                let message = format!("cannot keep the policy before: {error}");
                return Err(failed(message).hint(format!("see to {}", previous.display())));
            }
            (Err(error), None) => warn!(%error, "the policy before is not kept"),
            (Ok(_), None) => {}
        }
        if let Err(refusal) = self.replace_file(text) {
            if self.confirm_until.is_none() {
                drop(self.probation.end());
            }
            return Err(refusal);
        }
        if confirm_until.is_none()
            && let Err(error) = self.probation.end()
        {
            warn!(%error, "the end of a probation is not noted; a restart would go back");
        }
        Ok(before.map(|_| previous.to_owned()))
    }

    fn replace_file(&self, text: Option<&str>) -> Result<(), Refusal> {
        let Some(text) = text else { return Ok(()) };
        files::replace(&self.file, text).map_err(|error| {
            let file = self.file.display();
            let whose = if error.kind() == ErrorKind::PermissionDenied {
                "; it must belong to the agent's user and to a group of that user"
            } else {
                ""
            };
            Refusal::new(RefusalKind::Failed, format!("cannot write {file}: {error}{whose}"))
        })
    }

    fn read(&self, text: Option<&str>) -> Result<Policy, Refusal> {
        let read = match text {
            Some(text) => Policy::parse_with_files(text, &self.file).map_err(LoadError::from),
            None => Policy::load(&self.file),
        };
        read.map_err(|error| Refusal::new(RefusalKind::Failed, crate::cli::chain(&error)))
    }

    fn refused(&self, refusal: Refusal, by: &Author, before: &Policy) -> Refusal {
        warn!(reason = refusal.message, "the new policy is refused; the old one stays");
        drop(self.note(ConfigEvent::PolicyRefused, by, before, Some(&refusal.message)));
        match refusal.hint {
            Some(_) => refusal,
            None => refusal.hint("the old policy stays in force"),
        }
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

/// Refuses a policy whose own tests fail.
fn tested(policy: &Policy) -> Result<(), Refusal> {
    const TOLD: usize = 10;
    let report = trial::run(policy);
    if report.passed() {
        return Ok(());
    }
    let failures: Vec<String> = report
        .failures()
        .take(TOLD)
        .map(|failed| {
            let Case { run, line, .. } = &failed.case;
            format!("  line {line}: `{run}`: {}", failed.failure.as_deref().unwrap_or("failed"))
        })
        .collect();
    let message = format!("the policy's own tests fail:\n{}", failures.join("\n"));
    Err(Refusal::new(RefusalKind::Failed, message)
        .hint("`enforcer policy test FILE` tells them all; the old policy stays in force"))
}

/// What a policy that watches has seen, for an operator.
fn told(shadow: &Shadow) -> ShadowStatus {
    let verdict = |verdict: &Verdict| match verdict {
        Verdict::Allow => "allow".to_owned(),
        Verdict::Deny(why) => format!("deny: {why}"),
    };
    let (compared, flipped) = shadow.counts();
    ShadowStatus {
        sha256: shadow.policy().sha256().to_string(),
        until: shadow.until(),
        compared,
        flipped,
        flips: shadow
            .flips()
            .into_iter()
            .map(|flip| Flip {
                route: flip.route.as_deref().unwrap_or("-").to_owned(),
                from: verdict(&flip.from),
                to: verdict(&flip.to),
                count: flip.count,
                sample: flip.sample,
            })
            .collect(),
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
            .flat_map(|plan| plan.addresses().map(|host| host.ip()))
            .filter(|address| !address.is_loopback())
            .collect(),
        proxies: policy
            .listeners()
            .iter()
            .map(|listener| (listener.name.to_string(), listener.proxies().collect()))
            .collect(),
        clients_percent_max: policy.guard().max_clients.get(),
    }
}
