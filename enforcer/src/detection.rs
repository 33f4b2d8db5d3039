//! Detection at work: what has happened goes in, decisions are carried out, and what came of each
//! goes back to whoever decided.
//!
//! Lives in the watcher's task, which owns all of it and never waits: an effect is a task of its own,
//! and its outcome comes back over a channel. Time is that of the monotonic clock, told as wall time
//! from one anchor: a clock that is set moves no window and no end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_detect::court::{Decision, Effect, Notice as Told, NoticeKind};
use enforcer_detect::rules::Rules;
use enforcer_detect::{Action, Entity, Event, Finding, Mode, Packets, Request, Scene};
use enforcer_model::{Author, DecisionId, Exchange, Moment, Timestamp};
use enforcer_notify::{Kind, Notice, Notifier, Severity};
use enforcer_policy::Policy;
use enforcer_proxy::IncidentLevel;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::act::{Actor, Deed, Undo};
use crate::incidents::{Act, Around, Asked, Docket};
use crate::policies::guards;
use crate::profiles::{Keeper, ProfilesAsk};
use crate::rules::{self, RulesAsk};

/// Levels of incident, with none.
const LEVELS: usize = 6;

/// Thresholds as they are, in parts of a thousand.
const WHOLE: u32 = 1_000;

/// Outcomes that wait for the watcher; whoever has one more waits.
const OUTCOMES_MAX: usize = 1_024;

/// The rules, who was served lately, and what is decided.
pub(crate) struct Detection {
    rules: Rules,
    keeper: Keeper,
    around: Around,
    docket: Docket,
    hands: Hands,
    anchor: Moment,
    /// The incident level in force, and what it makes of thresholds, by level.
    level: Arc<IncidentLevel>,
    sensitivities: [u32; LEVELS],
    sensitivity: u32,
    /// By the event that is looked at; kept for its memory.
    found: Vec<Finding>,
}

/// Who carries out what is decided, and who is told.
pub(crate) struct Hands {
    actor: Actor,
    notifier: Notifier,
    outcomes: mpsc::Sender<Outcome>,
}

/// What came of a decision that was carried out, or taken back.
#[derive(Debug)]
pub(crate) struct Outcome {
    decision: DecisionId,
    what: What,
    came: Result<Effect, String>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Done,
    Undone,
}

impl Detection {
    /// By the rules of `policy`, with what was decided before; `again` is what of that is to be
    /// carried out once more.
    pub(crate) fn new(
        policy: &Policy,
        keeper: Keeper,
        (mut docket, again): (Docket, Vec<Act>),
        hands: Hands,
        anchor: Moment,
        level: Arc<IncidentLevel>,
    ) -> Self {
        hands.carry_out(again);
        docket.set_policy(policy.detection().limits.clone(), policy.triggers());
        docket.set_shares(shares(policy));
        Self {
            rules: Rules::new(&policy.detection().rules),
            keeper,
            around: Around::new(guards(policy)),
            docket,
            hands,
            anchor,
            level,
            sensitivities: sensitivities(policy),
            sensitivity: WHOLE,
            found: Vec::new(),
        }
    }

    /// Puts another policy in force; rules that count as before keep what they have counted.
    ///
    /// The last word about what a rule may do holds: the policy's, where it says another mode than
    /// before, else an operator's.
    pub(crate) fn replace(&mut self, policy: &Policy) {
        let set: Vec<Arc<str>> = self.docket.court().modes().keys().cloned().collect();
        for id in set {
            let before = self.rules.plan(&id).map(|plan| plan.mode);
            let after = policy.detection().rules.iter().find(|plan| plan.id == id);
            if let (Some(before), Some(after)) = (before, after)
                && before != after.mode
            {
                info!(rule = %id, "the policy says anew what it may do; `rules mode` no longer counts");
                self.docket.set_mode(id, None);
            }
        }
        self.rules.replace(&policy.detection().rules);
        self.keeper.replace(policy.profiling());
        self.around.set_guards(guards(policy));
        self.docket.set_policy(policy.detection().limits.clone(), policy.triggers());
        self.docket.set_shares(shares(policy));
        self.sensitivities = sensitivities(policy);
    }

    /// Some requests were answered.
    pub(crate) fn requests(&mut self, exchanges: &[Arc<Exchange>], now: Instant) {
        let at = self.time(now);
        let requests: Vec<_> =
            exchanges.iter().map(|exchange| Request::new(exchange, at)).collect();
        self.keeper.look_ahead(&requests);
        for (place, request) in requests.into_iter().enumerate() {
            self.request(place, request);
        }
    }

    fn request(&mut self, place: usize, request: Request<'_>) {
        self.around.observe(&request);
        self.docket.observe(&request);
        let unusual = self.keeper.observe(place, &request);
        let event = Event::Request(request);
        self.event(&event);
        if let Some(finding) = unusual {
            self.decide(&finding, self.keeper.plan().mode, event.at());
        }
        let surprises = self.keeper.surprises();
        if !surprises.is_empty() {
            let mut found = Vec::new();
            self.rules.surprised(&event, &surprises, &mut found);
            self.all(found, event.at());
        }
    }

    /// The kernel dropped packets of a source for its own budget.
    pub(crate) fn packets(&mut self, packets: Packets) {
        self.event(&Event::Packets(packets));
    }

    /// What came of a decision.
    pub(crate) fn came(&mut self, Outcome { decision, what, came }: Outcome, now: Instant) {
        if let Err(why) = &came {
            warn!(%decision, why, "a decision could not be carried out or taken back");
        }
        let now = self.time(now);
        let acts = match what {
            What::Done => self.docket.done(decision, came, &self.around.at(now), now),
            What::Undone => self.docket.undone(decision, came, now),
        };
        self.hands.carry_out(acts);
    }

    /// Answers an operator about incidents, decisions and findings.
    pub(crate) fn answer(&mut self, Asked { order, by, reply }: Asked, now: Instant) {
        let now = self.time(now);
        let (answered, acts) = self.docket.answer(order, &by, &self.around.at(now), now);
        self.hands.carry_out(acts);
        // Whoever asked may be gone; the deed stands.
        drop(reply.send(answered));
    }

    /// Answers an operator about rules.
    pub(crate) fn answer_rules(&mut self, ask: RulesAsk) {
        rules::answer(ask, &self.rules, &mut self.docket);
    }

    /// Answers an operator about profiles.
    pub(crate) fn answer_profiles(&self, ask: ProfilesAsk, now: Instant) {
        self.keeper.answer(ask, self.time(now));
    }

    /// Ends what is over; call it several times a second.
    pub(crate) fn tick(&mut self, now: Instant) {
        let level = self.level.get();
        let wanted = self.sensitivities.get(usize::from(level)).copied().unwrap_or(WHOLE);
        if std::mem::replace(&mut self.sensitivity, wanted) != wanted {
            self.rules.set_sensitivity(wanted);
        }
        let acts = self.docket.tick(level, self.time(now));
        self.hands.carry_out(acts);
        self.keeper.save_more();
    }

    /// Forgets what is older than every window; call it every few seconds.
    pub(crate) fn forget_old(&mut self, now: Instant) {
        self.keeper.save_when_due(now);
        let now = self.time(now);
        self.rules.forget_old(now);
        self.around.refresh(now);
    }

    /// A successor is to go on from here: everything is on disk, and nothing more is decided until
    /// [`Self::take_back`].
    pub(crate) fn let_go(&mut self) {
        self.docket.let_go();
        self.keeper.save();
    }

    /// No successor came.
    pub(crate) fn take_back(&mut self) {
        self.docket.take_back();
    }

    fn event(&mut self, event: &Event<'_>) {
        let mut found = std::mem::take(&mut self.found);
        self.rules.observe(event, &mut found);
        self.all(found.drain(..), event.at());
        self.found = found;
    }

    fn all(&mut self, found: impl IntoIterator<Item = Finding>, now: Timestamp) {
        for finding in found {
            let mode = self.rules.plan(&finding.rule).map_or(Mode::Observe, |plan| plan.mode);
            self.decide(&finding, mode, now);
        }
    }

    fn decide(&mut self, finding: &Finding, mode: Mode, now: Timestamp) {
        info!(rule = %finding.rule, why = finding.explanation(), "finding");
        let acts = self.docket.found(finding, mode, &self.around.at(now), now);
        self.hands.carry_out(acts);
    }

    /// `now` as windows and ends know it.
    fn time(&self, now: Instant) -> Timestamp {
        self.anchor.wall.saturating_add(now.saturating_duration_since(self.anchor.monotonic))
    }
}

impl Hands {
    /// Everything is done by `actor` and told to `notifier`; outcomes come over the channel.
    pub(crate) fn new(actor: Actor, notifier: Notifier) -> (Self, mpsc::Receiver<Outcome>) {
        let (outcomes, back) = mpsc::channel(OUTCOMES_MAX);
        (Self { actor, notifier, outcomes }, back)
    }

    fn carry_out(&self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Do(decision) | Act::Extend(decision) => self.execute(decision),
                Act::Undo(decision) => self.take_back(decision),
                Act::Tell(told) => self.notifier.tell(notice(&told)),
                Act::Hold { level, ttl, why } => self.hold(level, ttl, why),
                Act::Relax { level } => self.relax(level),
            }
        }
    }

    fn execute(&self, decision: Decision) {
        let (actor, outcomes) = (self.actor.clone(), self.outcomes.clone());
        tokio::task::spawn_local(async move {
            let came = actor.act(Deed::from(&decision)).await.map(Effect::from);
            let outcome = Outcome { decision: decision.id, what: What::Done, came };
            // A watcher that is gone decides nothing more.
            outcomes.send(outcome).await.unwrap_or_default();
        });
    }

    /// Raises the incident level as a rule would: it adds to what people have set.
    fn hold(&self, level: u8, ttl: Duration, reason: String) {
        let actor = self.actor.clone();
        let rule = trigger(level);
        let deed = Deed {
            decision: rule.clone(),
            incident: None,
            author: Author::Rule(rule.clone()),
            rule: rule.into(),
            action: Action::RaiseLevel(level),
            about: Entity::Everyone,
            scene: Scene::default(),
            ttl,
            reason,
            held: None,
        };
        tokio::task::spawn_local(async move {
            if let Err(why) = actor.act(deed).await {
                warn!(level, why, "the incident level cannot be raised");
            }
        });
    }

    fn relax(&self, level: u8) {
        let actor = self.actor.clone();
        let undo = Undo::Lower(trigger(level));
        tokio::task::spawn_local(async move {
            let by = Author::Rule(trigger(level));
            if let Err(why) = actor.undo(&undo, "its trigger is quiet", &by).await {
                warn!(level, why, "the incident level ends at its time");
            }
        });
    }

    fn take_back(&self, decision: Decision) {
        let (actor, outcomes) = (self.actor.clone(), self.outcomes.clone());
        tokio::task::spawn_local(async move {
            let undo = decision.effect.as_ref().map_or("", |effect| effect.undo.as_str());
            let came = match undo.parse::<Undo>() {
                Ok(undo) => {
                    let reason = format!("{} of {} is over", decision.id, decision.incident);
                    let by = Author::Rule(decision.rule.to_string());
                    let undone = actor.undo(&undo, &reason, &by).await;
                    undone.map(|what| Effect { applied: vec![what], ..Effect::default() })
                }
                Err(error) => Err(error.to_string()),
            };
            let outcome = Outcome { decision: decision.id, what: What::Undone, came };
            outcomes.send(outcome).await.unwrap_or_default();
        });
    }
}

/// What stands for the trigger of a level in records.
fn trigger(level: u8) -> String {
    format!("incident-{level}-trigger")
}

/// What each level makes of thresholds, in parts of a thousand.
fn sensitivities(policy: &Policy) -> [u32; LEVELS] {
    std::array::from_fn(|level| {
        let level = u8::try_from(level).unwrap_or(u8::MAX);
        policy.incident(level).sensitivity().parts()
    })
}

/// The rules that may hit only a share of the callers.
fn shares(policy: &Policy) -> impl Iterator<Item = (Arc<str>, u16)> {
    let rules = policy.detection().rules.iter();
    rules.filter_map(|rule| Some((Arc::clone(&rule.id), rule.max_share_of_identities?)))
}

/// What receivers are told.
fn notice(told: &Told) -> Notice {
    let (kind, severity) = match told.kind {
        // Whoever was told of its beginning is told of its end.
        NoticeKind::Closed => (Kind::IncidentClosed, Severity::Warning),
        NoticeKind::Ended => (Kind::DecisionExpired, Severity::Info),
        NoticeKind::Level => (Kind::LevelChanged, Severity::Warning),
        // As grave as what it answers, or whoever was asked would not hear of it.
        NoticeKind::Decided => (Kind::DecisionMade, Severity::Warning),
        NoticeKind::Opened => (Kind::IncidentOpened, Severity::Warning),
        NoticeKind::Told => (Kind::Finding, Severity::Warning),
        NoticeKind::Acted => (Kind::DecisionApplied, Severity::Warning),
        NoticeKind::Isolated => (Kind::UpstreamIsolated, Severity::Error),
        NoticeKind::Approval => (Kind::DecisionAsked, Severity::Error),
        NoticeKind::Failed => (Kind::DecisionFailed, Severity::Critical),
        NoticeKind::Limited => (Kind::BlastRadius, Severity::Critical),
    };
    let mut notice = Notice::new(kind, severity, told.at, &told.text);
    if let Some(incident) = told.incident {
        notice = notice.with_incident(incident);
    }
    if let Some(decision) = told.decision {
        notice = notice.with_decision(decision);
    }
    if let Some(rule) = &told.rule {
        notice = notice.with_rule(rule);
    }
    if let Some(about) = &told.about {
        notice = notice.with_about(about);
    }
    if let Some(Author::Operator { name, .. }) = &told.by {
        notice = notice.by_operator(name);
    }
    notice
}
