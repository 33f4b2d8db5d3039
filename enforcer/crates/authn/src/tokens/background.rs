//! What goes on beside the requests: keys are kept fresh, and issuers are asked about tokens.
//!
//! One task for each source of keys, and at most [`ANSWERING_MAX`] questions under way; the others
//! wait in a queue that has an end. A task that ends unasked is made again after a pause.

use std::collections::HashMap;
use std::sync::Arc;

use enforcer_model::Clock;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinSet};
use tracing::error;

use super::Tokens;
use super::authenticate::Question;
use crate::issuers::{PAUSE_MIN, Source, keep};

/// Questions under way at once, each with a connection of its own.
const ANSWERING_MAX: usize = 64;

/// The background of [`Tokens`]; without it nothing is fetched and nobody is asked.
#[derive(Debug)]
pub struct Issuers {
    tokens: Tokens,
    questions: mpsc::Receiver<Question>,
}

/// The tasks that keep sources fresh.
struct Keepers {
    tasks: JoinSet<()>,
    running: HashMap<Id, (Arc<Source>, AbortHandle)>,
    clock: Arc<dyn Clock>,
}

impl Issuers {
    pub(super) const fn new(tokens: Tokens, questions: mpsc::Receiver<Question>) -> Self {
        Self { tokens, questions }
    }

    /// Fetches and asks until `until`. Needs a runtime with IO and time, and no thread but one.
    pub async fn run(mut self, clock: Arc<dyn Clock>, until: impl Future<Output = ()>) {
        let mut until = std::pin::pin!(until);
        let mut changed = self.tokens.0.changed.subscribe();
        let mut answering = JoinSet::new();
        let mut keepers =
            Keepers { tasks: JoinSet::new(), running: HashMap::new(), clock: Arc::clone(&clock) };
        loop {
            keepers.attend(&self.sources());
            tokio::select! {
                () = &mut until => return,
                _ = changed.changed() => {}
                Some(ended) = keepers.tasks.join_next_with_id() => {
                    let task = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    keepers.ended(task);
                }
                Some(question) = self.questions.recv(), if answering.len() < ANSWERING_MAX => {
                    // Now, not when it was asked: it may have waited.
                    let now = clock.now();
                    answering.spawn(self.tokens.clone().answer(question, now));
                }
                Some(_ended) = answering.join_next() => {}
            }
        }
    }

    fn sources(&self) -> Vec<Arc<Source>> {
        let issuers = self.tokens.0.issuers.load();
        issuers.iter().map(|issuer| Arc::clone(&issuer.source)).collect()
    }
}

impl Keepers {
    /// Makes tasks for `sources` that have none, and ends those that nobody needs any more.
    fn attend(&mut self, sources: &[Arc<Source>]) {
        let is = |one: &Arc<Source>, other: &Arc<Source>| Arc::ptr_eq(one, other);
        self.running.retain(|_, (source, task)| {
            let is_needed = sources.iter().any(|needed| is(needed, source));
            if !is_needed {
                task.abort();
            }
            is_needed
        });
        for source in sources {
            if !self.running.values().any(|(known, _)| is(known, source)) {
                let task = self.tasks.spawn(keep(Arc::clone(source), Arc::clone(&self.clock)));
                self.running.insert(task.id(), (Arc::clone(source), task));
            }
        }
    }

    /// A task that nobody ended is a fault of ours; the issuer's keys must not grow old for it.
    fn ended(&mut self, task: Id) {
        let Some((source, _)) = self.running.remove(&task) else { return };
        error!(issuer = %source.spec.name, "the task that fetches its keys ended; it begins again");
        let clock = Arc::clone(&self.clock);
        let again = Arc::clone(&source);
        let task = self.tasks.spawn(async move {
            tokio::time::sleep(PAUSE_MIN).await;
            keep(again, clock).await;
        });
        self.running.insert(task.id(), (source, task));
    }
}
