//! Takes notices up, keeps them until they are told, and says what is to be done next.
//!
//! Every receiver has a line of its own; none waits for another. What is taken up is on disk before
//! anything is sent. The office does no network itself: it hands out [`Job`]s and is told their
//! [`Outcome`]s, so that time, chance and receivers can be anybody's.

use std::sync::Arc;

use enforcer_model::Timestamp;

use crate::bundle::Bundle;
use crate::forms::alertmanager::Firing;
use crate::line::{Due, Entry, Formed, Line, Settled, Task};
use crate::store::{Store, StoreError, Taken};
use crate::{Kind, Notice, Outcome, Receiver, Severity, Standing};

/// The owner of what waits.
#[derive(Debug)]
pub struct Office {
    store: Store,
    lines: Vec<Post>,
    host: Arc<str>,
    disk: Disk,
}

/// Whether what waits is on disk as well.
#[derive(Debug)]
enum Disk {
    Well,
    Failed { why: String, is_told: bool },
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
    /// The disk takes nothing: notices are told from memory, and would not survive a crash.
    Unwritten {
        /// What it says.
        why: String,
    },
    /// All that waits is on disk again.
    Written,
}

impl Disk {
    /// What the disk gave; none where it failed, which is told with the next [`Office::mend`].
    fn kept<T>(&mut self, done: Result<T, StoreError>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(error) => {
                if matches!(self, Self::Well) {
                    let cause = std::error::Error::source(&error);
                    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                    *self = Self::Failed { why: format!("{error}{cause}"), is_told: false };
                }
                None
            }
        }
    }
}

impl Office {
    /// For these receivers, with what waits in `store`; `host` is told as who speaks.
    pub fn new(store: Store, receivers: &[Arc<Receiver>], host: &str) -> Result<Self, StoreError> {
        let mut office = Self { store, lines: Vec::new(), host: host.into(), disk: Disk::Well };
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

    /// Takes notices up, on disk; each once, however often it is told. A disk that takes nothing
    /// keeps nobody from being told.
    pub fn take(&mut self, notices: Vec<Notice>, now: Timestamp) -> Vec<Event> {
        let notices: Vec<_> = notices.into_iter().map(Arc::new).collect();
        let receivers: Vec<_> =
            self.lines.iter().map(|post| Arc::clone(&post.line.receiver)).collect();
        let taken = self.disk.kept(self.store.take(&notices, &receivers, now));
        let taken = taken.unwrap_or_else(|| unwritten(&notices, &receivers));
        let mut dropped: Vec<(usize, Vec<i64>)> = Vec::new();
        for Taken { receiver: place, seq, notice } in taken {
            let Some(post) = self.lines.get_mut(place) else { continue };
            let lost = post.line.take(Entry { seq, at: now, notice });
            match dropped.iter_mut().find(|(other, _)| *other == place) {
                _ if lost.is_empty() => {}
                Some((_, seqs)) => seqs.extend(lost),
                None => dropped.push((place, lost)),
            }
        }
        let dropped = dropped.into_iter();
        dropped
            .filter_map(|(place, seqs)| self.drop_notices(place, &seqs, "the queue is full"))
            .collect()
    }

    /// Tells everybody that notices were lost before they were taken up.
    pub fn lost(&mut self, count: u64, now: Timestamp) -> Vec<Event> {
        let title = format!("{count} notices were lost: more came at once than could be taken up");
        self.take(vec![Notice::new(Kind::DeliveryTrouble, Severity::Error, now, &title)], now)
    }

    /// What is to be sent now.
    pub fn jobs(&mut self, now: Timestamp, mut random: impl FnMut() -> u64) -> Vec<Job> {
        let mut jobs = Vec::new();
        for post in &mut self.lines {
            if post.busy.is_some() {
                continue;
            }
            let id = || format!("msg_{:016x}{:016x}", random(), random());
            let Some((task, formed)) = post.line.next(now, id) else { continue };
            let name = Arc::clone(&post.line.receiver.name);
            if let Some(formed) = formed {
                let Formed { parcel, seqs } = formed;
                let state = &post.line.state;
                self.disk.kept(self.store.form(&name, &parcel, &seqs, state, now));
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
        jobs
    }

    /// What came of the job of `receiver`.
    pub fn settle(
        &mut self,
        receiver: &str,
        outcome: &Outcome,
        now: Timestamp,
        random: u64,
    ) -> Option<Event> {
        let post = self.lines.iter_mut().find(|post| *post.line.receiver.name == *receiver)?;
        let bundle = match post.busy.take()? {
            Task::Send(bundle) => bundle,
            Task::Resend => {
                post.line.resent(outcome, now);
                self.disk.kept(self.store.remember(receiver, &post.line.state));
                return None;
            }
        };
        // An operator may have changed the line meanwhile.
        if post.line.first().is_none_or(|first| first.bundle.id != bundle.id) {
            return None;
        }
        let settled = post.line.settle(outcome, now, random);
        let state = &post.line.state;
        let (kept, event) = match settled {
            Settled::Delivered => (self.store.delivered(receiver, &bundle.id, state), None),
            Settled::Again | Settled::Disabled => {
                let first = post.line.first();
                let kept = first.map_or(Ok(()), |first| self.store.again(receiver, first, state));
                let event = (settled == Settled::Disabled).then(|| Event::Disabled {
                    receiver: receiver.to_owned(),
                    why: outcome.said().to_owned(),
                });
                (kept, event)
            }
            Settled::GivenUp(bundle) => {
                let event = Event::GivenUp {
                    receiver: receiver.to_owned(),
                    count: bundle.count,
                    why: outcome.said().to_owned(),
                };
                (self.store.give_up(receiver, &bundle.id, state), Some(event))
            }
        };
        self.disk.kept(kept);
        event
    }

    /// Says when the disk begins to fail, and tries to write all that waits until it is written.
    /// Call it every second.
    pub fn mend(&mut self, now: Timestamp) -> Option<Event> {
        let Disk::Failed { why, is_told } = &mut self.disk else { return None };
        if !std::mem::replace(is_told, true) {
            return Some(Event::Unwritten { why: why.clone() });
        }
        for post in &mut self.lines {
            let line = &mut post.line;
            let (entries, parcels) = line.all();
            let name = &line.receiver.name;
            let seqs = self.store.replace(name, &line.state, entries, parcels, now).ok()?;
            line.renumber(&seqs);
        }
        self.disk = Disk::Well;
        Some(Event::Written)
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
    pub fn forget_old(&mut self, now: Timestamp) -> Vec<Event> {
        let mut events = Vec::new();
        for place in 0..self.lines.len() {
            let Some(post) = self.lines.get_mut(place) else { continue };
            let dropped = post.line.forget_old(now);
            events.extend(self.drop_notices(place, &dropped, "nobody took them in three days"));
        }
        self.disk.kept(self.store.forget_old(now));
        events
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
    pub fn tested(&mut self, receiver: &str, outcome: &Outcome, now: Timestamp) -> Option<Event> {
        if !matches!(outcome, Outcome::Delivered(_)) {
            return None;
        }
        let enabled = self.enable(receiver, "it took a test").flatten();
        self.post(receiver)?.line.well(now);
        self.remember(receiver);
        enabled
    }

    /// Sends to `receiver` again, whatever it said; outer none: there is no such receiver.
    pub fn enable(&mut self, receiver: &str, why: &str) -> Option<Option<Event>> {
        let was_disabled = self.post(receiver)?.line.enable();
        self.remember(receiver);
        let event = Event::Enabled { receiver: receiver.to_owned(), why: why.to_owned() };
        Some(was_disabled.then_some(event))
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

    fn remember(&mut self, receiver: &str) {
        let Some(post) = self.lines.iter().find(|post| *post.line.receiver.name == *receiver)
        else {
            return;
        };
        self.disk.kept(self.store.remember(receiver, &post.line.state));
    }

    fn drop_notices(&mut self, place: usize, seqs: &[i64], why: &'static str) -> Option<Event> {
        let post = self.lines.get(place).filter(|_| !seqs.is_empty())?;
        let receiver = &post.line.receiver.name;
        self.disk.kept(self.store.drop_notices(receiver, seqs, &post.line.state));
        let count = u64::try_from(seqs.len()).unwrap_or(u64::MAX);
        Some(Event::Dropped { receiver: receiver.to_string(), count, why })
    }
}

/// What is taken up without a disk; it has no number there.
fn unwritten(notices: &[Arc<Notice>], receivers: &[Arc<Receiver>]) -> Vec<Taken> {
    const NUMBER: i64 = -1;
    let each = notices.iter().flat_map(|notice| {
        let wanting = receivers.iter().enumerate().filter(|(_, one)| one.wants(notice));
        wanting.map(|(receiver, _)| Taken { receiver, seq: NUMBER, notice: Arc::clone(notice) })
    });
    each.collect()
}

#[cfg(test)]
mod tests;
