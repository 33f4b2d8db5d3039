//! Takes notices up, keeps them until they are told, and says what is to be done next.
//!
//! Every receiver has a line of its own; none waits for another. What is taken up is on disk before
//! anything is sent. The office does no network itself: it hands out [`Job`]s and is told their
//! [`Outcome`]s, so that time, chance and receivers can be anybody's.

use std::sync::Arc;

use enforcer_model::Timestamp;

use crate::bundle::Bundle;
use crate::forms::alertmanager::Firing;
use crate::line::{Due, Entry, Line, Settled, Task};
use crate::store::{Store, StoreError, Taken};
use crate::{Kind, Notice, Outcome, Receiver, Severity, Standing};

/// The owner of what waits.
#[derive(Debug)]
pub struct Office {
    store: Store,
    lines: Vec<Post>,
    host: Arc<str>,
}

#[derive(Debug)]
struct Post {
    line: Line,
    busy: Option<Task>,
}

/// Something to be sent.
#[derive(Clone, Debug)]
pub struct Job {
    /// To whom.
    pub receiver: Arc<Receiver>,
    /// What; none: alerts that go on are told again.
    pub bundle: Option<Arc<Bundle>>,
    /// Alerts that go on, where the receiver has such.
    pub firing: Arc<Firing>,
    /// Since when it is tried.
    pub at: Timestamp,
    /// Who we are.
    pub host: Arc<str>,
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Then.
    At(Timestamp),
    /// When something is told.
    Never,
}

/// What belongs on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A receiver said that it wants nothing more.
    Disabled {
        /// Which.
        receiver: String,
        /// What it said.
        why: String,
    },
    /// It works again.
    Enabled {
        /// Which.
        receiver: String,
        /// Who says so.
        why: String,
    },
    /// A message is not tried again.
    GivenUp {
        /// For whom.
        receiver: String,
        /// Notices in it.
        count: u64,
        /// The last answer.
        why: String,
    },
    /// Notices found no room, or nobody took them in time.
    Dropped {
        /// For whom.
        receiver: String,
        /// So many.
        count: u64,
        /// Why.
        why: &'static str,
    },
}

impl Office {
    /// For these receivers, with what waits in `store`; `host` is told as who speaks.
    pub fn new(store: Store, receivers: &[Arc<Receiver>], host: &str) -> Result<Self, StoreError> {
        let mut office = Self { store, lines: Vec::new(), host: host.into() };
        office.adopt(receivers)?;
        Ok(office)
    }

    /// For other receivers from here on. Those that stay keep what waits for them; what waits for
    /// those that go is there when they come back within three days.
    pub fn adopt(&mut self, receivers: &[Arc<Receiver>]) -> Result<(), StoreError> {
        let mut before = std::mem::take(&mut self.lines);
        for receiver in receivers {
            let known = before.iter().position(|post| post.line.receiver.name == receiver.name);
            if let Some(known) = known {
                let mut post = before.swap_remove(known);
                post.line.adopt(Arc::clone(receiver));
                self.lines.push(post);
                continue;
            }
            let (state, entries, parcels) = self.store.load(&receiver.name)?;
            let mut line = Line::new(Arc::clone(receiver), state);
            line.restore(entries, parcels);
            line.adopt(Arc::clone(receiver));
            self.lines.push(Post { line, busy: None });
        }
        Ok(())
    }

    /// Takes notices up, on disk; each once, however often it is told.
    pub fn take(&mut self, notices: Vec<Notice>, now: Timestamp) -> Result<Vec<Event>, StoreError> {
        let are_new = self.store.are_new(&notices, now)?;
        let notices: Vec<_> = notices
            .into_iter()
            .zip(are_new)
            .filter(|(_, is_new)| *is_new)
            .map(|(n, _)| Arc::new(n))
            .collect();
        let wanted: Vec<(usize, &Arc<Notice>)> = notices
            .iter()
            .flat_map(|notice| {
                let wants = |(_, post): &(usize, &Post)| post.line.receiver.wants(notice);
                self.lines.iter().enumerate().filter(wants).map(move |(place, _)| (place, notice))
            })
            .collect();
        let taken: Vec<_> = wanted
            .iter()
            .filter_map(|(place, notice)| {
                let receiver = &self.lines.get(*place)?.line.receiver.name;
                Some(Taken { receiver, notice, at: now })
            })
            .collect();
        let seqs = self.store.take(&taken)?;
        let mut dropped: Vec<(usize, Vec<i64>)> = Vec::new();
        for ((place, notice), seq) in wanted.into_iter().zip(seqs) {
            let Some(post) = self.lines.get_mut(place) else { continue };
            let lost = post.line.take(Entry { seq, at: now, notice: Arc::clone(notice) });
            match dropped.iter_mut().find(|(other, _)| *other == place) {
                _ if lost.is_empty() => {}
                Some((_, seqs)) => seqs.extend(lost),
                None => dropped.push((place, lost)),
            }
        }
        let mut events = Vec::new();
        for (place, seqs) in dropped {
            events.extend(self.drop_notices(place, &seqs, "the queue is full")?);
        }
        Ok(events)
    }

    /// Tells everybody that notices were lost before they were taken up.
    pub fn lost(&mut self, count: u64, now: Timestamp) -> Result<Vec<Event>, StoreError> {
        let title = format!("{count} notices were lost: more came at once than could be taken up");
        self.take(vec![Notice::new(Kind::DeliveryTrouble, Severity::Error, now, &title)], now)
    }

    /// What is to be sent now.
    pub fn jobs(
        &mut self,
        now: Timestamp,
        mut random: impl FnMut() -> u64,
    ) -> Result<Vec<Job>, StoreError> {
        let mut jobs = Vec::new();
        for post in &mut self.lines {
            if post.busy.is_some() {
                continue;
            }
            let id = || format!("msg_{:016x}{:016x}", random(), random());
            let Some((task, formed)) = post.line.next(now, id) else { continue };
            let name = Arc::clone(&post.line.receiver.name);
            if let Some(formed) = formed {
                self.store.form(&name, &formed.parcel, &formed.seqs, &post.line.state, now)?;
            }
            jobs.push(Job {
                receiver: Arc::clone(&post.line.receiver),
                bundle: match &task {
                    Task::Send(bundle) => Some(Arc::clone(bundle)),
                    Task::Resend => None,
                },
                firing: Arc::new(post.line.state.firing.clone()),
                at: now,
                host: Arc::clone(&self.host),
            });
            post.busy = Some(task);
        }
        Ok(jobs)
    }

    /// What came of the job of `receiver`.
    pub fn settle(
        &mut self,
        receiver: &str,
        outcome: &Outcome,
        now: Timestamp,
        random: u64,
    ) -> Result<Option<Event>, StoreError> {
        let Some(post) = self.lines.iter_mut().find(|post| *post.line.receiver.name == *receiver)
        else {
            return Ok(None);
        };
        let bundle = match post.busy.take() {
            Some(Task::Send(bundle)) => bundle,
            Some(Task::Resend) => {
                post.line.resent(outcome, now);
                self.store.remember(receiver, &post.line.state)?;
                return Ok(None);
            }
            None => return Ok(None),
        };
        // An operator may have changed the line meanwhile.
        if post.line.first().is_none_or(|first| first.bundle.id != bundle.id) {
            return Ok(None);
        }
        let settled = post.line.settle(outcome, now, random);
        let state = &post.line.state;
        match settled {
            Settled::Delivered => {
                self.store.delivered(receiver, &bundle.id, state)?;
                Ok(None)
            }
            Settled::Again | Settled::Disabled => {
                if let Some(parcel) = post.line.first() {
                    self.store.again(receiver, parcel, state)?;
                }
                Ok((settled == Settled::Disabled).then(|| Event::Disabled {
                    receiver: receiver.to_owned(),
                    why: outcome.said().to_owned(),
                }))
            }
            Settled::GivenUp(bundle) => {
                self.store.give_up(receiver, &bundle.id, state)?;
                Ok(Some(Event::GivenUp {
                    receiver: receiver.to_owned(),
                    count: bundle.count,
                    why: outcome.said().to_owned(),
                }))
            }
        }
    }

    /// When to ask for jobs again; receivers that are busy do not count.
    pub fn wake(&mut self, now: Timestamp) -> Wake {
        let dues = self.lines.iter_mut().filter(|post| post.busy.is_none());
        let next = dues.filter_map(|post| match post.line.due(now) {
            Due::At(then) => Some(then),
            Due::Never => None,
        });
        next.min().map_or(Wake::Never, Wake::At)
    }

    /// Drops what is too old.
    pub fn forget_old(&mut self, now: Timestamp) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        for place in 0..self.lines.len() {
            let Some(post) = self.lines.get_mut(place) else { continue };
            let dropped = post.line.forget_old(now);
            events.extend(self.drop_notices(place, &dropped, "nobody took them in three days")?);
        }
        self.store.forget_old(now)?;
        Ok(events)
    }

    /// How every receiver is.
    pub fn standings(&mut self, now: Timestamp) -> Vec<Standing> {
        self.lines.iter_mut().map(|post| post.line.standing(now)).collect()
    }

    /// A job that tries `receiver` out; it waits for nothing and is kept nowhere.
    pub fn test(&self, receiver: &str, id: String, now: Timestamp) -> Option<Job> {
        let post = self.lines.iter().find(|post| *post.line.receiver.name == *receiver)?;
        let title = format!("this is a test of notifications by {}", self.host);
        let notice = Notice::new(Kind::Test, Severity::Info, now, &title)
            .with_text("An operator tries out whether notices arrive. There is nothing to do.");
        Some(Job {
            receiver: Arc::clone(&post.line.receiver),
            bundle: Some(Arc::new(Bundle::single(id, notice))),
            firing: Arc::default(),
            at: now,
            host: Arc::clone(&self.host),
        })
    }

    /// What came of trying `receiver` out: one that takes a test works again.
    pub fn tested(
        &mut self,
        receiver: &str,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<Option<Event>, StoreError> {
        if !matches!(outcome, Outcome::Delivered(_)) {
            return Ok(None);
        }
        let enabled = self.enable(receiver, "it took a test")?;
        if let Some(post) = self.post(receiver) {
            post.line.well(now);
            let state = post.line.state.clone();
            self.store.remember(receiver, &state)?;
        }
        Ok(enabled.flatten())
    }

    /// Sends to `receiver` again, whatever it said; outer none: there is no such receiver.
    pub fn enable(
        &mut self,
        receiver: &str,
        why: &str,
    ) -> Result<Option<Option<Event>>, StoreError> {
        let Some(post) = self.post(receiver) else { return Ok(None) };
        let was_disabled = post.line.enable();
        let state = post.line.state.clone();
        self.store.remember(receiver, &state)?;
        Ok(Some(
            was_disabled
                .then(|| Event::Enabled { receiver: receiver.to_owned(), why: why.to_owned() }),
        ))
    }

    /// Tries what waits for `receiver` now, messages that were given up included; says how many
    /// messages that are, none when there is no such receiver.
    pub fn resend(&mut self, receiver: &str, now: Timestamp) -> Result<Option<u64>, StoreError> {
        if self.post(receiver).is_none() {
            return Ok(None);
        }
        let dead = self.store.revive(receiver)?;
        Ok(self.post(receiver).map(|post| post.line.resend(dead, now)))
    }

    /// The names of the receivers, in the order of the policy.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.lines.iter().map(|post| Arc::clone(&post.line.receiver.name)).collect()
    }

    fn post(&mut self, receiver: &str) -> Option<&mut Post> {
        self.lines.iter_mut().find(|post| *post.line.receiver.name == *receiver)
    }

    fn drop_notices(
        &mut self,
        place: usize,
        seqs: &[i64],
        why: &'static str,
    ) -> Result<Option<Event>, StoreError> {
        let Some(post) = self.lines.get(place).filter(|_| !seqs.is_empty()) else {
            return Ok(None);
        };
        let receiver = &post.line.receiver.name;
        self.store.drop_notices(receiver, seqs, &post.line.state)?;
        let count = u64::try_from(seqs.len()).unwrap_or(u64::MAX);
        Ok(Some(Event::Dropped { receiver: receiver.to_string(), count, why }))
    }
}

#[cfg(test)]
mod tests;
