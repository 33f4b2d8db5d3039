//! Carries out what has been decided about a finding, and says what holds, read back.
//!
//! Blocks are orders to the responder, which writes the kernel map first: there the attacker's next
//! packet is decided. Everything else is a call to the desk, as an operator would make it, with the
//! rule as its author: it has the same checks, the same records, the same end, and stands in the same
//! lists. Nothing here keeps state: every effect ends by itself at its time, also over a restart and
//! under the next agent, and its [`Undo`] takes it back before.

mod desk;
#[cfg(test)]
mod tests;
mod undo;

use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_admin::Incoming;
use enforcer_audit::Ticket;
use enforcer_detect::court::{Decision, Effect};
use enforcer_detect::{Action, Entity, Scene};
use enforcer_model::{Author, Clock, Expiry, Prefix, Source, Target};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::info;

use crate::desk::committed;
use crate::respond::{Order, Shut, ShutOut};

pub(crate) use undo::Undo;

/// For the answer to the request that crossed the threshold, once its record is on disk, to be sent
/// before what its sender has open ends.
const LAST_ANSWER: Duration = Duration::from_millis(20);

/// A disk that takes longer does not keep anything of a denied sender open.
const LAST_RECORD: Duration = Duration::from_millis(60);

/// How long an effect may take until it counts as not acknowledged.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest reason, in characters; what an operator may write is as long.
const REASON_MAX: usize = 480;

/// What is to be done, and on whose behalf.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    /// Names the decision in records.
    pub(crate) decision: String,
    /// The incident that it belongs to.
    pub(crate) incident: Option<String>,
    /// The rule that found it.
    pub(crate) rule: Arc<str>,
    /// Who decided; an approved one is its operator's.
    pub(crate) author: Author,
    /// What is done.
    pub(crate) action: Action,
    /// Whom or what the finding is about.
    pub(crate) about: Entity,
    /// Who was there when it was completed.
    pub(crate) scene: Scene,
    /// For how long.
    pub(crate) ttl: Duration,
    /// Why, in one line.
    pub(crate) reason: String,
    /// How it is taken back, where it was carried out before and is only to go on.
    pub(crate) held: Option<Undo>,
}

/// What has been done.
#[derive(Clone, Debug)]
pub(crate) struct Acted {
    /// In plain words, such as `user:token:corp/alice is refused at layer 7 for 30m (B-7K2Q4XW)`.
    pub(crate) what: String,
    /// How it is taken back before its time.
    pub(crate) undo: Undo,
    /// When it ends by itself.
    pub(crate) until: Option<Expiry>,
    /// Where it is in force, read back: `kernel`, `layer 7`, `desk`.
    pub(crate) layers: Vec<&'static str>,
    /// What holds less than it should: why the kernel does not, why a restart would forget it.
    pub(crate) problems: Vec<String>,
}

/// The way to every effect; a clone is the same way.
#[derive(Clone)]
pub(crate) struct Actor {
    orders: mpsc::Sender<Order>,
    /// Weak: the desk ends when nobody can call any more, and whoever watches outlives it.
    calls: mpsc::WeakSender<Incoming>,
    clock: Arc<dyn Clock>,
}

impl Actor {
    /// Blocks are ordered over `orders`, everything else is asked of the desk over `calls`.
    pub(crate) fn new(
        orders: mpsc::Sender<Order>,
        calls: &mpsc::Sender<Incoming>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { orders, calls: calls.downgrade(), clock }
    }

    /// Does it, and answers once it is in force; why it is not, in words for operators.
    ///
    /// To be awaited in a task of its own: an effect takes as long as its layer does, at most
    /// [`PATIENCE`].
    pub(crate) async fn act(&self, deed: Deed) -> Result<Acted, String> {
        let began = self.now();
        let doing = async {
            match deed.action {
                Action::Notify => Ok(told()),
                Action::Drop
                | Action::DenyCredential
                | Action::DenyFingerprint
                | Action::DenyIdentity
                | Action::DenySource => self.shut(&deed, target(&deed)?).await,
                Action::DisableRoute
                | Action::IsolateUpstream
                | Action::RaiseLevel(_)
                | Action::RequireStronger
                | Action::Tighten(_) => self.ask_for(&deed).await,
            }
        };
        let done = timeout(PATIENCE, doing).await;
        let done = done.unwrap_or_else(|_late| {
            Err(format!("{} was not acknowledged within {PATIENCE:?}", deed.action))
        });
        let took = self.now().saturating_duration_since(began);
        match &done {
            Ok(Acted { what, until, .. }) => {
                let until = until.map(tracing::field::display);
                info!(decision = deed.decision, what, until, ?took, "carried out");
            }
            Err(why) => info!(decision = deed.decision, why, ?took, "not carried out"),
        }
        done
    }

    /// Shuts `target` out, and ends what it has open once the last answer is out.
    async fn shut(&self, deed: &Deed, target: Target) -> Result<Acted, String> {
        let through = target.network().and_then(|network| {
            // What packets are not to follow from is refused at layer 7 alone.
            let alone = deed.action == Action::DenySource;
            deed.scene.through.or_else(|| alone.then(|| Source::new(network.address())))
        });
        let shut = Shut {
            target: target.clone(),
            through,
            reason: deed.told(),
            author: deed.author.clone(),
            ttl: deed.ttl,
        };
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Shut { shut, reply }).await.map_err(|_gone| stopping())?;
        let held = answer.await.map_err(|_gone| stopping())??;
        let (acted, ticket) = shut_out(&target, held, deed);
        let orders = self.orders.clone();
        tokio::task::spawn(close_soon(orders, target, ticket));
        Ok(acted)
    }

    fn now(&self) -> Instant {
        self.clock.now().monotonic
    }
}

/// Ends what is open: behind the record of the request that crossed the threshold, which stands before
/// that of the block.
async fn close_soon(orders: mpsc::Sender<Order>, target: Target, ticket: Option<Ticket>) {
    if timeout(LAST_RECORD, committed(ticket)).await.is_ok() {
        tokio::time::sleep(LAST_ANSWER).await;
    }
    // A responder that is gone has nobody left to close.
    orders.send(Order::Close { target }).await.unwrap_or_default();
}

/// Whom a rung of the ladder shuts out.
fn target(deed: &Deed) -> Result<Target, String> {
    let Deed { action, about, scene, .. } = deed;
    let found = match (action, about) {
        (Action::DenySource | Action::Drop, Entity::Source(network)) => {
            Some(Target::Network(*network))
        }
        (Action::DenySource | Action::Drop, _) => {
            scene.source.map(Source::neighbourhood).map(Target::Network)
        }
        (Action::DenyCredential, Entity::Credential(credential)) => {
            Some(Target::Token(*credential))
        }
        (Action::DenyCredential, _) => scene.credential.map(Target::Token),
        (Action::DenyFingerprint, Entity::Ja4(ja4)) => Some(ja4_target(ja4)?),
        (Action::DenyFingerprint, _) => scene.ja4.as_ref().map(ja4_target).transpose()?,
        (_, Entity::Identity(caller)) => Some(Target::caller(caller)),
        (_, _) => scene.identity.as_ref().map(Target::caller),
    };
    let lacking = match action {
        Action::DenySource | Action::Drop => "address",
        Action::DenyCredential => "credential",
        Action::DenyFingerprint => "TLS fingerprint",
        Action::DenyIdentity
        | Action::DisableRoute
        | Action::IsolateUpstream
        | Action::Notify
        | Action::RaiseLevel(_)
        | Action::RequireStronger
        | Action::Tighten(_) => "caller",
    };
    let found = found.filter(|target| !is_everybody(target));
    found.ok_or_else(|| format!("{action} of {about}: no {lacking} is known"))
}

/// Recorded by us, and told as it is.
fn ja4_target(ja4: &Arc<str>) -> Result<Target, String> {
    format!("ja4:{ja4}").parse().map_err(|error: enforcer_model::TargetError| error.to_string())
}

fn is_everybody(target: &Target) -> bool {
    target.network().is_some_and(|network: Prefix| network.length() == 0)
}

fn shut_out(target: &Target, held: ShutOut, deed: &Deed) -> (Acted, Option<Ticket>) {
    let ShutOut { id, until, stood, kernel, kernel_off, layer7, not_stored, ticket } = held;
    let mut layers = Vec::new();
    layers.extend(kernel.then_some("kernel"));
    layers.extend(layer7.then_some("layer 7"));
    let verb = match (kernel, stood) {
        (true, false) => "is dropped in the kernel",
        (false, false) => "is refused at layer 7",
        (_, true) => "was blocked already, for as long or longer",
    };
    let mut what = format!("{target} {verb} ({id})");
    if !stood {
        what.push_str(&format!(" for {}", crate::cli::span(deed.ttl)));
    }
    // What is to be refused at layer 7 alone lacks nothing.
    let problems = kernel_off
        .filter(|_| deed.action != Action::DenySource)
        .map(|why| format!("not in the kernel: {why}"))
        .into_iter()
        .chain(not_stored.map(|why| format!("not on disk: {why}")));
    let problems = problems.collect();
    // What stood before is somebody else's to take back, unless it stood for this.
    let is_own = !stood || deed.held == Some(Undo::Release(id));
    let undo = if is_own { Undo::Release(id) } else { Undo::Nothing };
    (Acted { what, undo, until: Some(until), layers, problems }, ticket)
}

/// Operators are told by whoever decided.
fn told() -> Acted {
    Acted {
        what: "operators are told".to_owned(),
        undo: Undo::Nothing,
        until: None,
        layers: Vec::new(),
        problems: Vec::new(),
    }
}

fn stopping() -> String {
    "the agent is stopping".to_owned()
}

impl From<&Decision> for Deed {
    fn from(decision: &Decision) -> Self {
        Self {
            decision: decision.id.to_string(),
            incident: Some(decision.incident.to_string()),
            rule: Arc::clone(&decision.rule),
            author: decision.author.clone(),
            action: decision.action,
            about: decision.target.clone(),
            scene: Scene { through: decision.through, ..Scene::default() },
            ttl: decision.ttl,
            reason: decision.reason.clone(),
            held: decision.effect.as_ref().and_then(|effect| effect.undo.parse().ok()),
        }
    }
}

impl From<Acted> for Effect {
    fn from(acted: Acted) -> Self {
        let Acted { what, undo, layers, problems, .. } = acted;
        let layers = layers.into_iter().map(str::to_owned);
        let applied = std::iter::once(what).chain(layers).collect();
        Self { applied, problems, undo: undo.to_string() }
    }
}

impl Deed {
    /// The reason as lists and records show it: one line, with the incident before it.
    fn told(&self) -> String {
        let incident = self.incident.as_deref().map(|id| format!("{id}: ")).unwrap_or_default();
        let text = format!("{incident}{} ({})", self.reason, self.decision);
        let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        plain.take(REASON_MAX).collect()
    }
}
