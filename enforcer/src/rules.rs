//! Rules of detection as an operator sees them: what the desk asks, and what their owner answers.

use std::sync::Arc;

use enforcer_admin::call::{RuleCounters, RuleRow};
use enforcer_detect::Mode;
use enforcer_detect::rules::{RulePlan, Rules};
use tokio::sync::{mpsc, oneshot};

use crate::incidents::Docket;

/// What the desk asks of the owner of the rules.
#[derive(Debug)]
pub(crate) enum RulesAsk {
    /// How every rule does.
    List {
        /// Where to.
        reply: oneshot::Sender<Vec<RuleRow>>,
    },
    /// What a rule may do.
    Mode {
        /// Which.
        rule: String,
        /// What; none: as its file says.
        mode: Option<Mode>,
        /// Where to; none: there is no such rule.
        reply: oneshot::Sender<Option<RuleRow>>,
    },
}

/// Asks that may wait; an operator is answered one at a time.
pub(crate) const ASKS_MAX: usize = 16;

/// The way to the owner of the rules.
pub(crate) type RulesDesk = mpsc::Sender<RulesAsk>;

/// Answers `ask`.
pub(crate) fn answer(ask: RulesAsk, rules: &Rules, docket: &mut Docket) {
    match ask {
        RulesAsk::List { reply } => reply.send(rows(rules, docket)).unwrap_or_default(),
        RulesAsk::Mode { rule, mode, reply } => {
            let known = rules.plan(&rule).map(|plan| Arc::clone(&plan.id));
            if let Some(id) = known {
                docket.set_mode(id, mode);
            }
            let row = rows(rules, docket).into_iter().find(|row| row.id == rule);
            // Whoever asked may be gone; the deed stands.
            reply.send(row).unwrap_or_default();
        }
    }
}

fn rows(rules: &Rules, docket: &Docket) -> Vec<RuleRow> {
    let court = docket.court();
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    rules
        .counters()
        .map(|counters| {
            let plan = &counters.plan;
            let decided = court.counts().get(&plan.id).copied().unwrap_or_default();
            let counts = RuleCounters {
                matched: counters.matched,
                findings: counters.findings,
                would_have_acted: decided.would_have_acted,
                asked: decided.asked,
                acted: decided.acted,
                last: counters.last,
                keys: number(counters.keys),
                bytes: number(counters.bytes),
            };
            row(plan, court.mode(&plan.id, plan.mode), Some(counts))
        })
        .collect()
}

/// One rule, as it is shown.
pub(crate) fn row(plan: &RulePlan, mode: Mode, counts: Option<RuleCounters>) -> RuleRow {
    RuleRow {
        id: plan.id.to_string(),
        title: plan.title.to_string(),
        owasp: plan.owasp.iter().map(ToString::to_string).collect(),
        key: plan.key.to_string(),
        severity: plan.severity.to_string(),
        mode: word(mode).to_owned(),
        own_mode: word(plan.mode).to_owned(),
        silent: plan.silent,
        counts,
    }
}

/// A mode, as rules write it.
pub(crate) const fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Approve => "approve",
        Mode::Auto => "auto",
    }
}

/// The mode of that name.
pub(crate) fn mode(word: &str) -> Option<Mode> {
    [Mode::Observe, Mode::Approve, Mode::Auto].into_iter().find(|mode| self::word(*mode) == word)
}
