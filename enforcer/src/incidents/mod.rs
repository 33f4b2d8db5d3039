//! The one owner of incidents and decisions: the court, its store, its records.
//!
//! Lives in the watcher's task and never waits: what is to be done comes back as [`Act`]s, what is
//! to be kept goes to the store's own thread, records take a slot of the log's queue. Operators'
//! orders arrive as [`Asked`] over a channel of [`ASKED_MAX`]; when it is full, whoever asks waits.

mod answers;
mod around;
mod notes;
mod rows;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::Refusal;
use enforcer_admin::call::{CaseAnswer, CaseOrder};
use enforcer_audit::{Audit, Ticket};
use enforcer_detect::court::{
    Court, Decision, Effect, Entry, Forgotten, LevelStep, Limits, Notice, NoticeKind, Step,
    Surroundings, TriggerPlan, Triggers,
};
use enforcer_detect::{Finding, Mode, Request};
use enforcer_model::{Author, DecisionId, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;
use tracing::{error, warn};

pub(crate) use around::Around;
pub(crate) use store::StoreError;
use store::{Kept, Row, Store};

/// Operators' orders that may wait for the watcher.
pub(crate) const ASKED_MAX: usize = 32;

/// An operator's order, on its way from the desk to the watcher.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What is to be done.
    pub(crate) order: CaseOrder,
    /// Who asks.
    pub(crate) by: Author,
    /// Gets the answer, and the record that is to be waited for.
    pub(crate) reply: oneshot::Sender<Result<Answered, Refusal>>,
}

/// What came of an order.
#[derive(Debug)]
pub(crate) struct Answered {
    /// For the operator.
    pub(crate) answer: CaseAnswer,
    /// The record of the transition; none: the order changed nothing of an incident.
    pub(crate) ticket: Option<Ticket>,
}

/// What the watcher is to have done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// Carry it out, then say so with [`Docket::done`].
    Do(Decision),
    /// It lasts longer: carry it out again in its own place, then say so with [`Docket::done`].
    Extend(Decision),
    /// Take it back, then say so with [`Docket::undone`].
    Undo(Decision),
    /// Tell somebody.
    Tell(Notice),
    /// The incident level is to be at least this for a while.
    Hold {
        /// Which.
        level: u8,
        /// For how long.
        ttl: Duration,
        /// Which threshold was reached.
        why: String,
    },
    /// What held it at this level holds it no longer.
    Relax {
        /// Which.
        level: u8,
    },
}

/// The court with its memory.
pub(crate) struct Docket {
    court: Court,
    store: Store,
    audit: Audit,
    triggers: Triggers,
}

impl Docket {
    /// Opens `incidents.db` in `state`, and takes up where it ended; what is in force is to be
    /// carried out again, what has run out is to be ended.
    pub(crate) fn open(
        state: &Path,
        limits: Limits,
        audit: Audit,
        now: Timestamp,
    ) -> Result<(Self, Vec<Act>), StoreError> {
        let (store, saved) = Store::open(&state.join("incidents.db"))?;
        let court = Court::new(limits, Box::new(random_bits()));
        let mut docket = Self { court, store, audit, triggers: Triggers::default() };
        let steps = docket.court.restore(saved, now);
        let acts = docket.take(steps).0;
        Ok((docket, acts))
    }

    /// The court, to look at.
    pub(crate) const fn court(&self) -> &Court {
        &self.court
    }

    /// What a policy says of limits and of levels that open by themselves.
    pub(crate) fn set_policy(&mut self, limits: Limits, triggers: &[TriggerPlan]) {
        self.court.set_limits(limits);
        self.triggers.replace(triggers);
    }

    /// Takes note of a request, for the levels that open by themselves.
    pub(crate) fn observe(&mut self, request: &Request<'_>) {
        self.triggers.observe(request);
    }

    /// Sets what a rule may do, whatever its file says; none: as its file says.
    pub(crate) fn set_mode(&mut self, rule: Arc<str>, mode: Option<Mode>) {
        self.court.set_mode(rule, mode);
        self.keep_modes();
    }

    /// Of rules that have one: the largest share of callers, in thousandths.
    pub(crate) fn set_shares(&mut self, shares: impl IntoIterator<Item = (Arc<str>, u16)>) {
        self.court.set_shares(shares);
    }

    /// Something was found by a rule that may do `mode`.
    pub(crate) fn found(
        &mut self,
        finding: &Finding,
        mode: Mode,
        around: &dyn Surroundings,
        now: Timestamp,
    ) -> Vec<Act> {
        self.triggers.found(now);
        let steps = self.court.found(finding, mode, around, now);
        self.take(steps).0
    }

    /// What came of a decision that was to be carried out or extended.
    pub(crate) fn done(
        &mut self,
        id: DecisionId,
        outcome: Result<Effect, String>,
        around: &dyn Surroundings,
        now: Timestamp,
    ) -> Vec<Act> {
        let steps = self.court.done(id, outcome, around, now);
        self.take(steps).0
    }

    /// What came of a decision that was to be taken back.
    pub(crate) fn undone(
        &mut self,
        id: DecisionId,
        outcome: Result<Effect, String>,
        now: Timestamp,
    ) -> Vec<Act> {
        let steps = self.court.undone(id, outcome, now);
        self.take(steps).0
    }

    /// Ends what is over, sees which level is to be open where `level` is, and hands to the store
    /// what is to be kept. Call it several times a second.
    pub(crate) fn tick(&mut self, level: u8, now: Timestamp) -> Vec<Act> {
        let mutes = self.court.mutes().len();
        let steps = self.court.tick(now);
        let mut acts = self.take(steps).0;
        let open = u64::try_from(self.court.open_incidents()).unwrap_or(u64::MAX);
        for step in self.triggers.tick(open, level, now) {
            match step {
                LevelStep::Hold { level, ttl, why, is_first } => {
                    if is_first {
                        acts.push(Act::Tell(level_notice(level, &why, now)));
                    }
                    acts.push(Act::Hold { level, ttl, why });
                }
                LevelStep::Relax { level } => {
                    acts.push(Act::Tell(level_notice(level, "quiet: it relaxes", now)));
                    acts.push(Act::Relax { level });
                }
            }
        }
        for entry in self.court.touched() {
            self.keep(&entry);
        }
        if self.court.mutes().len() != mutes {
            self.keep_mutes();
        }
        self.store.flush();
        acts
    }

    /// A successor is to go on from here: everything is on disk, and nothing more is written.
    pub(crate) fn let_go(&mut self) {
        for entry in self.court.touched() {
            self.keep(&entry);
        }
        self.store.let_go();
    }

    /// No successor came.
    pub(crate) fn take_back(&mut self) {
        if let Err(error) = self.store.take_back() {
            error!(%error, "incidents are no longer written; a restart forgets what follows");
        }
    }

    /// Records and keeps what changed; gives what is to be done, and the last record.
    fn take(&mut self, steps: Vec<Step>) -> (Vec<Act>, Option<Ticket>) {
        let mut acts = Vec::new();
        let mut last = None;
        let mut has_news = false;
        for step in steps {
            match step {
                Step::Act(decision) => acts.push(Act::Do(decision)),
                Step::Extend(decision) => acts.push(Act::Extend(decision)),
                Step::Undo(decision) => acts.push(Act::Undo(decision)),
                // What waits is in the tables, and its notice says so.
                Step::Ask(_) => {}
                Step::Notify(notice) => acts.push(Act::Tell(notice)),
                Step::Record(entry) => {
                    has_news |= matches!(entry, Entry::Decision(..));
                    last = self.note(&entry).or(last);
                    self.keep(&entry);
                }
            }
        }
        let Forgotten { incidents, findings, decisions } = self.court.forgotten();
        let rows = incidents.into_iter().map(Row::Incident);
        let rows = rows.chain(findings.into_iter().map(Row::Finding));
        for row in rows.chain(decisions.into_iter().map(Row::Decision)) {
            self.store.put(row, None);
        }
        if has_news {
            // What is decided is known to the next agent, however soon this one dies.
            self.store.flush();
        }
        (acts, last)
    }

    fn note(&self, entry: &Entry) -> Option<Ticket> {
        let record = notes::record(entry)?;
        match self.audit.reserve() {
            Ok(slot) => Some(slot.write(record)),
            Err(error) => {
                warn!(%error, "a transition of an incident is not on record");
                None
            }
        }
    }

    fn keep(&mut self, entry: &Entry) {
        let (row, json) = match entry {
            Entry::Finding(_, kept) => (Row::Finding(kept.id), serde_json::to_string(kept)),
            Entry::Incident(_, incident) => {
                let next = self.court.next_incident().to_string();
                self.store.put(Row::Kept(Kept::NextIncident), Some(next));
                (Row::Incident(incident.id), serde_json::to_string(incident))
            }
            Entry::Decision(_, decision, _) => {
                (Row::Decision(decision.id), serde_json::to_string(decision))
            }
        };
        match json {
            Ok(json) => self.store.put(row, Some(json)),
            Err(error) => error!(%error, "a row of incidents.db cannot be made"),
        }
    }

    fn keep_mutes(&mut self) {
        if let Ok(json) = serde_json::to_string(self.court.mutes()) {
            self.store.put(Row::Kept(Kept::Mutes), Some(json));
        }
    }

    fn keep_modes(&mut self) {
        if let Ok(json) = serde_json::to_string(self.court.modes()) {
            self.store.put(Row::Kept(Kept::Modes), Some(json));
        }
    }
}

fn level_notice(level: u8, why: &str, now: Timestamp) -> Notice {
    Notice {
        kind: NoticeKind::Level,
        incident: None,
        decision: None,
        rule: None,
        about: None,
        text: format!("trigger of incident level {level}: {why}"),
        by: None,
        at: now,
    }
}

/// Random bits for ids; without any from the system, ids are counted, which is as unique.
fn random_bits() -> impl FnMut() -> u64 + Send {
    let random = SystemRandom::new();
    let mut counted = 0_u64;
    move || {
        let mut bytes = [0; 8];
        if random.fill(&mut bytes).is_err() {
            counted = counted.wrapping_add(1);
            return counted;
        }
        u64::from_le_bytes(bytes)
    }
}

/// What a rule's name is worth when an operator types it: at most this many characters.
const RULE_MAX: usize = 256;

/// The rule that an operator names.
fn rule(text: &str) -> Option<Arc<str>> {
    let fits = !text.is_empty() && text.len() <= RULE_MAX && !text.chars().any(char::is_control);
    fits.then(|| text.into())
}
