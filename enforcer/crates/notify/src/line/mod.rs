//! What waits for one receiver, and when what of it is told. Pure: time and chance come in.
//!
//! One message is under way at a time. What arrives meanwhile waits, and is made into messages when
//! the receiver is free: so whoever was away gets one digest and not a thousand messages. A message
//! that was not taken is tried again by the table; something new that waits shortens the pause to a
//! minute, because a receiver that is back should not have to wait for hours.
//!
//! Bounds: [`QUEUE_MAX`] notices and [`QUEUE_BYTES_MAX`] bytes wait; the oldest of those that matter
//! least go first. What nobody took in three days is dropped. Both are counted and told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backoff::pause;
use crate::bundle::{Bundle, Telling};
use crate::forms::alertmanager::{self, Firing};
use crate::{Form, Notice, Outcome, Receiver, Severity};

/// Notices that wait for one receiver.
pub const QUEUE_MAX: usize = 2_000;
/// Bytes of notices that wait for one receiver.
pub const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Messages that were given up and are kept for `notify resend`, for each receiver.
pub const PARCELS_DEAD_MAX: usize = 50;

/// What nobody took by then is dropped.
pub(crate) const KEEP: Duration = Duration::from_secs(3 * 86_400);
/// What a storm is counted over, and how often it is told of.
const STORM: Duration = Duration::from_secs(60);
/// Something new is not kept waiting longer by a receiver that failed.
const PROBE: Duration = Duration::from_secs(60);
/// Tries of a message that the receiver understands and refuses.
const REFUSALS_MAX: usize = 3;
/// Groups whose last message is remembered; those of long ago are forgotten first.
const GROUPS_MAX: usize = 500;

/// What waits for one receiver.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) receiver: Arc<Receiver>,
    pub(crate) state: State,
    waiting: VecDeque<Entry>,
    bytes: usize,
    /// When notices came, within the last minute.
    recent: VecDeque<Timestamp>,
    parcels: VecDeque<Parcel>,
}

/// A notice that waits.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: i64,
    /// When it was taken up.
    pub(crate) at: Timestamp,
    pub(crate) notice: Arc<Notice>,
}

/// A message that was made and not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parcel {
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) tries: usize,
    pub(crate) refusals: usize,
    /// When it is tried next.
    pub(crate) next: Timestamp,
    /// When it was tried last.
    pub(crate) tried: Option<Timestamp>,
}

/// What is remembered of a receiver over a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) disabled: Option<Disabled>,
    /// Dropped since a message told how many.
    pub(crate) lost: u64,
    /// Dropped ever.
    pub(crate) lost_ever: u64,
    /// Given up ever.
    pub(crate) given_up: u64,
    groups: BTreeMap<String, Remembered>,
    last_digest: Option<Timestamp>,
    /// Not before then, as it asked.
    not_before: Option<Timestamp>,
    pub(crate) well: Option<Timestamp>,
    pub(crate) trouble: Option<Trouble>,
    pub(crate) firing: Firing,
    resent: Option<Timestamp>,
}

/// Why nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disabled {
    pub(crate) at: Timestamp,
    pub(crate) why: String,
    /// What the policy said then; another URL is another receiver.
    pub(crate) target: String,
}

/// What went wrong last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trouble {
    pub(crate) at: Timestamp,
    pub(crate) why: String,
}

/// The last message about a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    at: Timestamp,
    severity: Severity,
}

/// When something is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    At(Timestamp),
    Never,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Send the first parcel.
    Send(Arc<Bundle>),
    /// Tell alerts that go on once more.
    Resend,
}

/// A message that was just made, and what it was made of.
#[derive(Debug)]
pub(crate) struct Formed {
    pub(crate) parcel: Parcel,
    pub(crate) seqs: Vec<i64>,
}

/// What came of a try.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The receiver has it.
    Delivered,
    /// It is tried again.
    Again,
    /// It is not tried again; the count of its notices.
    GivenUp(Arc<Bundle>),
    /// The receiver wants nothing more.
    Disabled,
}

/// How one receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The receiver.
    pub receiver: Arc<Receiver>,
    /// Notices that wait, those in a message under way included.
    pub waiting: u64,
    /// The oldest of them.
    pub oldest: Option<Timestamp>,
    /// When something is tried next.
    pub next: Option<Timestamp>,
    /// Since when nothing is sent, and why.
    pub disabled: Option<(Timestamp, String)>,
    /// When it last took something.
    pub well: Option<Timestamp>,
    /// When and why it last did not, if that was after it last did.
    pub trouble: Option<(Timestamp, String)>,
    /// Notices dropped ever, for want of room or in time.
    pub lost: u64,
    /// Messages given up ever.
    pub given_up: u64,
}

impl Line {
    pub(crate) const fn new(receiver: Arc<Receiver>, state: State) -> Self {
        Self {
            receiver,
            state,
            waiting: VecDeque::new(),
            bytes: 0,
            recent: VecDeque::new(),
            parcels: VecDeque::new(),
        }
    }

    /// The same line for what a new policy says of the receiver.
    pub(crate) fn adopt(&mut self, receiver: Arc<Receiver>) {
        let target = print_of(&receiver);
        if self.state.disabled.as_ref().is_some_and(|disabled| disabled.target != target) {
            self.state.disabled = None;
            self.hurry();
        }
        self.receiver = receiver;
    }

    /// Takes up what was on disk.
    pub(crate) fn restore(&mut self, entries: Vec<Entry>, parcels: Vec<Parcel>) {
        self.bytes = entries.iter().map(|entry| entry.notice.size()).sum();
        self.waiting = entries.into();
        self.parcels = parcels.into();
    }

    /// All that waits, to be written down anew.
    pub(crate) fn all(&self) -> (impl Iterator<Item = &Entry>, impl Iterator<Item = &Parcel>) {
        (self.waiting.iter(), self.parcels.iter())
    }

    /// What waits has these numbers from here on, in the order of [`Line::all`].
    pub(crate) fn renumber(&mut self, seqs: &[i64]) {
        for (entry, seq) in self.waiting.iter_mut().zip(seqs) {
            entry.seq = *seq;
        }
    }

    /// Takes one up; gives back those that have no room.
    pub(crate) fn take(&mut self, entry: Entry) -> Vec<i64> {
        self.recent.push_back(entry.at);
        while self.recent.len() > QUEUE_MAX {
            self.recent.pop_front();
        }
        self.bytes = self.bytes.saturating_add(entry.notice.size());
        self.waiting.push_back(entry);
        let mut dropped = Vec::new();
        while self.waiting.len() > QUEUE_MAX || self.bytes > QUEUE_BYTES_MAX {
            let least = self.waiting.iter().map(|entry| entry.notice.severity()).min();
            let place =
                self.waiting.iter().position(|entry| Some(entry.notice.severity()) == least);
            let Some(entry) = place.and_then(|place| self.waiting.remove(place)) else { break };
            self.bytes = self.bytes.saturating_sub(entry.notice.size());
            dropped.push(entry.seq);
        }
        self.lose(dropped.len());
        dropped
    }

    /// Drops what nobody took in three days.
    pub(crate) fn forget_old(&mut self, now: Timestamp) -> Vec<i64> {
        let mut dropped = Vec::new();
        while let Some(entry) = self.waiting.front()
            && now.since(entry.at) > KEEP
        {
            dropped.push(entry.seq);
            self.bytes = self.bytes.saturating_sub(entry.notice.size());
            self.waiting.pop_front();
        }
        self.lose(dropped.len());
        dropped
    }

    fn lose(&mut self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.state.lost = self.state.lost.saturating_add(count);
        self.state.lost_ever = self.state.lost_ever.saturating_add(count);
    }

    /// When something is to be done next.
    pub(crate) fn due(&mut self, now: Timestamp) -> Due {
        if self.state.disabled.is_some() {
            return Due::Never;
        }
        let not_before = self.state.not_before.filter(|then| *then > now);
        let after = |then: Timestamp| Due::At(not_before.map_or(then, |asked| asked.max(then)));
        if let Some(parcel) = self.parcels.front() {
            // A clock that was set back must not keep it for longer than the table does.
            let longest = Duration::from_secs(86_400 + 8_640);
            let mut next = parcel.next.min(now.saturating_add(longest));
            let is_news = self.waiting.back().is_some_and(|entry| Some(entry.at) > parcel.tried);
            if let Some(tried) = parcel.tried
                && is_news
            {
                next = next.min(tried.saturating_add(PROBE));
            }
            return after(next);
        }
        let waiting = self.next_told(now).map(|(then, _)| then);
        let resend = self.resend_at();
        match (waiting, resend) {
            (Some(one), Some(other)) => after(one.min(other)),
            (Some(one), None) | (None, Some(one)) => after(one),
            (None, None) => Due::Never,
        }
    }

    /// What is to be done now; a message that was made for it.
    pub(crate) fn next(
        &mut self,
        now: Timestamp,
        id: impl FnOnce() -> String,
    ) -> Option<(Task, Option<Formed>)> {
        if !matches!(self.due(now), Due::At(then) if then <= now) {
            return None;
        }
        if let Some(parcel) = self.parcels.front() {
            return Some((Task::Send(Arc::clone(&parcel.bundle)), None));
        }
        if let Some((then, chosen)) = self.next_told(now)
            && then <= now
        {
            let formed = self.form(&chosen, now, id())?;
            return Some((Task::Send(Arc::clone(&formed.parcel.bundle)), Some(formed)));
        }
        Some((Task::Resend, None))
    }

    /// What came of the first parcel.
    pub(crate) fn settle(&mut self, outcome: &Outcome, now: Timestamp, random: u64) -> Settled {
        let Some(parcel) = self.parcels.front_mut() else { return Settled::Again };
        self.state.not_before = None;
        // Asked early, because of something new: the table is not used up by that.
        let is_early = now < parcel.next;
        parcel.tries += usize::from(!is_early);
        parcel.tried = Some(now);
        let (why, wait) = match outcome {
            Outcome::Delivered(_) => {
                let bundle = Arc::clone(&parcel.bundle);
                self.parcels.pop_front();
                self.delivered(&bundle, now);
                return Settled::Delivered;
            }
            Outcome::Gone(why) => {
                parcel.next = now;
                let target = print_of(&self.receiver);
                self.state.disabled = Some(Disabled { at: now, why: why.clone(), target });
                self.state.trouble = Some(Trouble { at: now, why: why.clone() });
                return Settled::Disabled;
            }
            Outcome::Refused(why) => {
                parcel.refusals += 1;
                (why, None)
            }
            Outcome::Failed { why, wait } => (why, *wait),
        };
        self.state.trouble = Some(Trouble { at: now, why: why.clone() });
        let pause = match pause(parcel.tries, random) {
            Some(_) if is_early => Some(parcel.next.since(now)),
            pause => pause,
        };
        let Some(pause) = pause.filter(|_| parcel.refusals < REFUSALS_MAX) else {
            let bundle = Arc::clone(&parcel.bundle);
            self.parcels.pop_front();
            self.state.given_up = self.state.given_up.saturating_add(1);
            return Settled::GivenUp(bundle);
        };
        parcel.next = now.saturating_add(pause);
        if let Some(wait) = wait {
            let asked = now.saturating_add(wait);
            self.state.not_before = Some(asked);
            parcel.next = parcel.next.max(asked);
        }
        Settled::Again
    }

    /// The first parcel, as it is by now.
    pub(crate) fn first(&self) -> Option<&Parcel> {
        self.parcels.front()
    }

    /// What came of telling alerts again.
    pub(crate) fn resent(&mut self, outcome: &Outcome, now: Timestamp) {
        self.state.resent = Some(now);
        match outcome {
            Outcome::Delivered(_) => self.well(now),
            Outcome::Gone(why) | Outcome::Refused(why) | Outcome::Failed { why, .. } => {
                self.state.trouble = Some(Trouble { at: now, why: why.clone() });
            }
        }
    }

    /// It works again, or an operator says so: what waits is tried at once.
    pub(crate) fn enable(&mut self) -> bool {
        let was_disabled = self.state.disabled.take().is_some();
        self.hurry();
        was_disabled
    }

    /// What waits is tried at once, messages that were given up included; says how many do.
    pub(crate) fn resend(&mut self, dead: Vec<Arc<Bundle>>, now: Timestamp) -> u64 {
        self.hurry();
        self.parcels.extend(dead.into_iter().map(|bundle| Parcel {
            bundle,
            tries: 0,
            refusals: 0,
            next: now,
            tried: None,
        }));
        u64::try_from(self.parcels.len() + usize::from(!self.waiting.is_empty())).unwrap_or(0)
    }

    /// Whether it took a test.
    pub(crate) fn well(&mut self, now: Timestamp) {
        self.state.well = Some(now);
        self.state.trouble = None;
    }

    /// How it is.
    pub(crate) fn standing(&mut self, now: Timestamp) -> Standing {
        let packed: u64 = self.parcels.iter().map(|parcel| parcel.bundle.count).sum();
        let waiting = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        let packed_oldest = self.parcels.iter().map(|parcel| parcel.bundle.since).min();
        let oldest = self.waiting.front().map(|entry| entry.at);
        let next = match self.due(now) {
            Due::At(then) if packed > 0 || waiting > 0 => Some(then),
            Due::At(_) | Due::Never => None,
        };
        let disabled = self.state.disabled.as_ref();
        Standing {
            receiver: Arc::clone(&self.receiver),
            waiting: packed.saturating_add(waiting),
            oldest: packed_oldest.into_iter().chain(oldest).min(),
            next,
            disabled: disabled.map(|disabled| (disabled.at, disabled.why.clone())),
            well: self.state.well,
            trouble: self.state.trouble.as_ref().map(|one| (one.at, one.why.clone())),
            lost: self.state.lost_ever,
            given_up: self.state.given_up,
        }
    }

    fn hurry(&mut self) {
        self.state.not_before = None;
        for parcel in &mut self.parcels {
            parcel.next = Timestamp::from_unix_ns(0);
        }
    }

    fn delivered(&mut self, bundle: &Bundle, now: Timestamp) {
        self.well(now);
        if bundle.digest.is_some() {
            self.state.last_digest = Some(now);
        }
        let remembered = Remembered { at: now, severity: bundle.severity };
        self.state.groups.insert(bundle.group.clone(), remembered);
        let interval = self.receiver.group_interval;
        self.state.groups.retain(|_, one| now.since(one.at) <= interval);
        while self.state.groups.len() > GROUPS_MAX {
            let oldest = self.state.groups.iter().min_by_key(|(_, one)| one.at);
            let Some(oldest) = oldest.map(|(group, _)| group.clone()) else { break };
            self.state.groups.remove(&oldest);
        }
        if matches!(self.receiver.form, Form::Alertmanager { .. }) {
            alertmanager::after(bundle, &mut self.state.firing, now);
            self.state.resent = Some(now);
        }
        // A receiver that is back is told the rest at once.
        self.hurry();
    }

    fn resend_at(&self) -> Option<Timestamp> {
        let Form::Alertmanager { resend, .. } = &self.receiver.form else { return None };
        if self.state.firing.is_empty() {
            return None;
        }
        Some(self.state.resent.map_or(Timestamp::from_unix_ns(0), |at| at.saturating_add(*resend)))
    }

    /// What is told next, and when.
    fn next_told(&mut self, now: Timestamp) -> Option<(Timestamp, Chosen)> {
        let first = self.waiting.front()?;
        while self.recent.front().is_some_and(|at| now.since(*at) > STORM) {
            self.recent.pop_front();
        }
        let wait = self.receiver.group_wait;
        if self.recent.len() > self.receiver.digest {
            let begun = first.at.saturating_add(wait);
            let then = match self.state.last_digest {
                Some(last) => begun.max(last.saturating_add(STORM)),
                None => begun,
            };
            return Some((then, Chosen::Everything));
        }
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for entry in &self.waiting {
            let group = groups.entry(entry.notice.group()).or_insert_with(|| Group {
                since: entry.at,
                severity: entry.notice.severity(),
                is_urgent: false,
                count: 0,
            });
            group.severity = group.severity.max(entry.notice.severity());
            group.is_urgent |= entry.notice.is_urgent();
            group.count += 1;
        }
        let interval = self.receiver.group_interval;
        let due = |name: &String, group: &Group| {
            let begun = group.since.saturating_add(wait);
            match self.state.groups.get(name) {
                // Something graver, and what somebody waits for, is not held back.
                Some(told) if !group.is_urgent && group.severity <= told.severity => {
                    begun.max(told.at.saturating_add(interval))
                }
                Some(_) | None => begun,
            }
        };
        let dues: Vec<_> =
            groups.iter().map(|(name, group)| (due(name, group), name, group)).collect();
        let ready = dues.iter().filter(|(then, ..)| *then <= now).map(|(.., group)| group.count);
        if ready.sum::<usize>() > self.receiver.digest {
            return Some((now, Chosen::Everything));
        }
        let (then, name, _) = dues.into_iter().min_by_key(|(then, ..)| *then)?;
        Some((then, Chosen::Group(name.clone())))
    }

    fn form(&mut self, chosen: &Chosen, now: Timestamp, id: String) -> Option<Formed> {
        let (group, telling) = match chosen {
            Chosen::Everything => ("digest", Telling::Digest),
            Chosen::Group(name) => (name.as_str(), Telling::Group),
        };
        let is_chosen = |entry: &Entry| match chosen {
            Chosen::Everything => true,
            Chosen::Group(name) => entry.notice.group() == *name,
        };
        let (taken, left): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(is_chosen);
        self.waiting = left;
        self.bytes = self.waiting.iter().map(|entry| entry.notice.size()).sum();
        let notices: Vec<_> = taken.iter().map(|entry| Arc::clone(&entry.notice)).collect();
        let lost = std::mem::take(&mut self.state.lost);
        let bundle = Arc::new(Bundle::of(id, group, &notices, telling, lost)?);
        let parcel = Parcel { bundle, tries: 0, refusals: 0, next: now, tried: None };
        self.parcels.push_back(parcel.clone());
        Some(Formed { parcel, seqs: taken.into_iter().map(|entry| entry.seq).collect() })
    }
}

/// What is told next.
enum Chosen {
    /// One group.
    Group(String),
    /// Whatever waits, as a digest.
    Everything,
}

struct Group {
    since: Timestamp,
    severity: Severity,
    is_urgent: bool,
    count: usize,
}

/// Tells two targets apart, and nothing of their secrets.
pub(crate) fn print_of(receiver: &Receiver) -> String {
    let target = receiver.target();
    let whole = format!("{target} {}", target.rest());
    let digest = ring::digest::digest(&ring::digest::SHA256, whole.as_bytes());
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
