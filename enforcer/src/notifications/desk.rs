//! What operators ask of the receivers of notices.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::call::{
    NotifyOrder, NotifyTested, ReceiverRow, ReceiverState, ReceiversListed, TestedRow,
};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_audit::ConfigEvent;
use enforcer_notify::{Courier, Event, Form, Outcome, Receiver, Standing};
use tokio::sync::{mpsc, oneshot};

use super::{Done, Worker, bits};
use crate::cli::chain;

/// The way to the receivers for others.
#[derive(Clone)]
pub(crate) struct NotifyDesk {
    orders: mpsc::Sender<Order>,
}

/// An order, and where its answer goes.
pub(super) struct Order {
    order: NotifyOrder,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// Receivers that are being tried out.
#[derive(Default)]
pub(super) struct Tests {
    number: u64,
    running: HashMap<u64, Running>,
}

struct Running {
    names: Vec<Arc<str>>,
    rows: Vec<TestedRow>,
    reply: oneshot::Sender<Result<Answer, Refusal>>,
}

impl NotifyDesk {
    pub(super) const fn new(orders: mpsc::Sender<Order>) -> Self {
        Self { orders }
    }

    /// Does what is ordered; a test takes as long as the slowest receiver may.
    pub(crate) async fn order(&self, order: NotifyOrder) -> Result<Answer, Refusal> {
        let busy = || {
            Refusal::new(RefusalKind::Failed, "nobody is told of anything by this agent now")
                .hint("another agent may just deliver; see the agent's log, and ask again")
        };
        let (reply, answer) = oneshot::channel();
        self.orders.try_send(Order { order, reply }).map_err(|_full| busy())?;
        // While another agent has the lock nobody answers.
        let answered = tokio::time::timeout(Duration::from_secs(75), answer).await;
        answered.map_err(|_elapsed| busy())?.map_err(|_gone| busy())?
    }
}

impl Tests {
    /// What came of trying one out; the answer goes with the last.
    pub(super) fn take(
        &mut self,
        number: u64,
        receiver: &Receiver,
        outcome: &Outcome,
        took: Duration,
    ) {
        let Some(running) = self.running.get_mut(&number) else { return };
        running.rows.push(TestedRow {
            name: receiver.name.to_string(),
            kind: receiver.form.as_str().to_owned(),
            target: receiver.target().to_string(),
            delivered: matches!(outcome, Outcome::Delivered(_)),
            said: outcome.said().to_owned(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        if running.rows.len() < running.names.len() {
            return;
        }
        let Some(Running { names, mut rows, reply }) = self.running.remove(&number) else { return };
        rows.sort_by_key(|row| names.iter().position(|name| **name == *row.name));
        let tested = NotifyTested { receivers: rows, audit: None };
        reply.send(Ok(Answer::NotifyTested(tested))).unwrap_or_default();
    }
}

impl Worker {
    pub(super) fn order(&mut self, Order { order, reply }: Order) {
        let done = match order {
            NotifyOrder::List => Ok(self.listed()),
            NotifyOrder::Test { name } => match self.chosen(name.as_deref()) {
                Ok(names) => return self.test(names, reply),
                Err(refusal) => Err(refusal),
            },
            NotifyOrder::Enable { name } => {
                match self.office.enable(&name, "an operator says so") {
                    Some(event) => {
                        if let Some(Event::Enabled { receiver, why }) = event {
                            self.record(ConfigEvent::ReceiverEnabled, format!("{receiver}: {why}"));
                        }
                        Ok(self.listed())
                    }
                    None => Err(self.unknown(&name)),
                }
            }
            NotifyOrder::Resend { name } => self.resend(name.as_deref()),
        };
        reply.send(done).unwrap_or_default();
    }

    fn resend(&mut self, name: Option<&str>) -> Result<Answer, Refusal> {
        let now = self.means.clock.now().wall;
        for name in self.chosen(name)? {
            let resent = self.office.resend(&name, now);
            resent.map_err(|error| Refusal::new(RefusalKind::Failed, chain(&error)))?;
        }
        Ok(self.listed())
    }

    fn test(&mut self, names: Vec<Arc<str>>, reply: oneshot::Sender<Result<Answer, Refusal>>) {
        self.tests.number += 1;
        let number = self.tests.number;
        let now = self.means.clock.now().wall;
        for name in &names {
            let id = format!("msg_{:016x}{:016x}", bits(&self.random), bits(&self.random));
            let Some(job) = self.office.test(name, id, now) else { continue };
            let clock = Arc::clone(&self.means.clock);
            self.jobs.spawn_local(async move {
                let begun = clock.now().monotonic;
                let outcome = Courier::deliver(&job, &*clock).await;
                let took = clock.now().monotonic.saturating_duration_since(begun);
                Done::Tested { number, receiver: job.receiver, outcome, took }
            });
        }
        self.tests.running.insert(number, Running { names, rows: Vec::new(), reply });
    }

    /// The receiver of this name, or all of them.
    fn chosen(&self, name: Option<&str>) -> Result<Vec<Arc<str>>, Refusal> {
        let names = self.office.names();
        match name {
            Some(name) => match names.into_iter().find(|known| **known == *name) {
                Some(known) => Ok(vec![known]),
                None => Err(self.unknown(name)),
            },
            None if names.is_empty() => {
                let message = "the policy names no receiver of notices";
                Err(Refusal::new(RefusalKind::NotFound, message).hint("add `[notify.NAME]`"))
            }
            None => Ok(names),
        }
    }

    fn unknown(&self, name: &str) -> Refusal {
        let names = self.office.names();
        let hint = match &*names {
            [] => "the policy names none; add `[notify.NAME]`".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        Refusal::new(RefusalKind::NotFound, format!("no receiver is called `{name}`")).hint(hint)
    }

    fn listed(&mut self) -> Answer {
        let standings = self.office.standings(self.means.clock.now().wall);
        let receivers = standings.into_iter().map(row).collect();
        Answer::Receivers(ReceiversListed { receivers, audit: None })
    }
}

fn row(standing: Standing) -> ReceiverRow {
    let receiver = &standing.receiver;
    let state = match (&standing.disabled, &standing.trouble, standing.well) {
        (Some(_), _, _) => ReceiverState::Disabled,
        (None, Some(_), _) => ReceiverState::Failing,
        (None, None, Some(_)) => ReceiverState::Well,
        (None, None, None) => ReceiverState::Unused,
    };
    let (why_since, why) = standing.disabled.or(standing.trouble).unzip();
    let public_keys = match &receiver.form {
        Form::Webhook { keys, .. } => keys.iter().filter_map(|key| key.public()).collect(),
        Form::Slack { .. }
        | Form::PagerDuty { .. }
        | Form::Alertmanager { .. }
        | Form::Syslog { .. } => Vec::new(),
    };
    ReceiverRow {
        name: receiver.name.to_string(),
        kind: receiver.form.as_str().to_owned(),
        target: receiver.target().to_string(),
        severity: receiver.severity.to_string(),
        state,
        why,
        why_since,
        waiting: standing.waiting,
        oldest: standing.oldest,
        next: standing.next,
        delivered: standing.well,
        dropped: standing.lost,
        given_up: standing.given_up,
        public_keys,
    }
}
