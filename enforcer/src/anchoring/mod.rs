//! Shows the log to its witnesses and to a timestamping authority, beside everything else.
//!
//! One thread, one round after the other: the newest checkpoint goes to every witness at once. When
//! enough of them have cosigned it, the note is on disk before anybody hears of it, and the next round
//! may begin; whoever is slower adds a line. A witness that fails rests, one that hangs keeps only its
//! own place. No request waits for any of this, unless the policy wants its record witnessed.

mod round;
mod stamp;
mod submit;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use enforcer_admin::call::{AnchorRound, AnchorStatus, Anchored, TimestampSaid, WitnessRow};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{Anchors, Audit, Log, ReadError, Stamped, WitnessPolicy};
use enforcer_authn::{HttpClient, Roots};
use enforcer_model::{Clock, Timestamp};
use enforcer_policy::{Anchoring as Plan, Policy};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::cli::chain;
use crate::daemon::{control_runtime, thread};
use crate::privileges::Thread;
use crate::shutdown;
use round::{Member, Reply, Round, Stamp};
use submit::{Submitted, submit};

/// Operators who may wait for a round at once.
const ORDERS_MAX: usize = 16;
/// How often the time is looked at, at most.
const TICK: Duration = Duration::from_secs(1);
/// How long the file of a checkpoint may lag behind the commit that it is about.
const LAG: (u32, Duration) = (100, Duration::from_millis(2));
/// For an authority that failed.
const STAMP_REST: Duration = Duration::from_secs(30);
/// Anchors that are looked through for the newest one at the start.
const LOOKED_THROUGH: usize = 64;

/// The way to it for others.
#[derive(Clone)]
pub(crate) struct AnchorDesk {
    orders: mpsc::Sender<Reply>,
    status: Arc<Mutex<AnchorStatus>>,
}

/// Who does it.
struct Anchoring {
    audit: Audit,
    folder: PathBuf,
    anchors: Anchors,
    clock: Arc<dyn Clock>,
    policies: watch::Receiver<Arc<Policy>>,
    orders: mpsc::Receiver<Reply>,
    status: Arc<Mutex<AnchorStatus>>,
    plan: Plan,
    believed: WitnessPolicy,
    members: Vec<Member>,
    tasks: JoinSet<Done>,
    stamper: Arc<HttpClient>,
    is_stamping: bool,
    /// Those that somebody still works on, oldest first.
    rounds: Vec<Round>,
    number: u64,
    asked: Vec<Reply>,
    is_wanted: bool,
    next: Instant,
    next_try: Instant,
    next_stamp: Instant,
}

/// Its thread.
pub(crate) struct Showing {
    thread: JoinHandle<()>,
    served: CancellationToken,
}

/// What a task has done.
enum Done {
    Submitted { round: u64, place: usize, submitted: Submitted },
    Stamped { round: u64, answer: Result<(Vec<u8>, Stamped), String> },
}

// === impl AnchorDesk ===

impl AnchorDesk {
    /// How far others know the log, as of `now`.
    pub(crate) fn status(&self, now: Timestamp) -> AnchorStatus {
        let mut status = self.status.lock().clone();
        let newest = if status.witnesses.is_empty() { status.stamped } else { status.witnessed };
        status.is_overdue = status.age_bound_seconds.is_some_and(|bound| {
            newest.is_none_or(|newest| now.since(newest.at) > Duration::from_secs(bound))
        });
        status
    }

    /// Shows the newest checkpoint to everybody, and waits for what they say.
    pub(crate) async fn anchor(&self) -> Result<AnchorRound, Refusal> {
        if self.status.lock().age_bound_seconds.is_none() {
            let message = "the policy names no witness and no timestamping authority";
            return Err(Refusal::new(RefusalKind::Failed, message)
                .hint("add `[audit.witness.NAME]` or `[audit.timestamp]`"));
        }
        let busy = || Refusal::new(RefusalKind::Failed, "the log is not anchored now; ask again");
        let (reply, outcome) = oneshot::channel();
        self.orders.try_send(reply).map_err(|_full| busy())?;
        outcome.await.map_err(|_gone| busy())
    }
}

// === impl Showing ===

impl Showing {
    /// Shows the log in `folder` as the policy wants it, on a thread of its own.
    pub(crate) fn start(
        audit: &Audit,
        folder: &Path,
        clock: &Arc<dyn Clock>,
        policies: watch::Receiver<Arc<Policy>>,
        stop: &CancellationToken,
    ) -> anyhow::Result<(Self, AnchorDesk)> {
        let (anchoring, desk) = Anchoring::new(audit.clone(), folder, Arc::clone(clock), policies);
        let served = CancellationToken::new();
        let until = served.clone();
        let thread = thread("anchoring", Thread::Other, stop, move || {
            let run = anchoring.run(until.cancelled());
            tokio::task::LocalSet::new().block_on(&control_runtime()?, run);
            Ok(())
        })?;
        Ok((Self { thread, served }, desk))
    }

    /// Ends it. Answers that are under way may wait for the witnesses, so this comes after them.
    pub(crate) async fn end(self, patience: Duration) {
        self.served.cancel();
        shutdown::join(vec![self.thread], patience).await;
    }
}

// === impl Anchoring ===

impl Anchoring {
    /// For the log in `folder`, as the policy wants it.
    fn new(
        audit: Audit,
        folder: &Path,
        clock: Arc<dyn Clock>,
        policies: watch::Receiver<Arc<Policy>>,
    ) -> (Self, AnchorDesk) {
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        let status = Arc::new(Mutex::new(AnchorStatus::default()));
        let now = clock.now().monotonic;
        let plan = policies.borrow().audit().anchoring.clone();
        let mut anchoring = Self {
            anchors: Anchors::of(folder),
            audit,
            folder: folder.to_owned(),
            clock,
            policies,
            orders: waiting,
            status: Arc::clone(&status),
            believed: plan.policy(),
            members: Vec::new(),
            tasks: JoinSet::new(),
            stamper: Arc::new(HttpClient::new(Roots::default())),
            is_stamping: false,
            plan,
            rounds: Vec::new(),
            number: 0,
            asked: Vec::new(),
            is_wanted: false,
            next: now,
            next_try: now,
            next_stamp: now,
        };
        anchoring.adopt();
        (anchoring, AnchorDesk { orders, status })
    }

    /// Does it until `until`.
    async fn run(mut self, until: impl Future<Output = ()>) {
        let mut until = std::pin::pin!(until);
        let mut policies = self.policies.clone();
        let audit = self.audit.clone();
        loop {
            tokio::select! {
                () = &mut until => return,
                Some(done) = self.tasks.join_next() => self.take(done),
                Some(reply) = self.orders.recv() => self.asked.push(reply),
                () = audit.witnesses_wanted() => self.is_wanted = true,
                Ok(()) = policies.changed() => {
                    let plan = policies.borrow_and_update().audit().anchoring.clone();
                    if plan != self.plan {
                        self.plan = plan;
                        self.adopt();
                    }
                }
                () = tokio::time::sleep(self.plan.every.min(TICK)) => {}
            }
            self.begin().await;
        }
    }

    /// The plan is another one; what was under way is dropped.
    fn adopt(&mut self) {
        self.tasks = JoinSet::new();
        // Whoever waits is told that it came to nothing.
        self.rounds.clear();
        self.is_stamping = false;
        self.believed = self.plan.policy();
        self.members = self.plan.witnesses.iter().map(Member::new).collect();
        let roots = self.plan.timestamp.as_ref().map(|plan| plan.roots.clone());
        self.stamper = Arc::new(HttpClient::new(roots.unwrap_or_default()));
        let now = self.clock.now().monotonic;
        (self.next, self.next_try, self.next_stamp) = (now, now, now);
        let mut status = AnchorStatus {
            quorum: u64::try_from(self.plan.quorum).unwrap_or(u64::MAX),
            age_bound_seconds: self.plan.is_any().then_some(self.plan.age.as_secs()),
            ..AnchorStatus::default()
        };
        status.witnesses.extend(self.plan.witnesses.iter().map(|plan| WitnessRow {
            name: plan.name.to_string(),
            url: plan.submit.as_str().to_owned(),
            cosigned: None,
            trouble: None,
            contradicts: false,
        }));
        if self.plan.is_any()
            && let Err(error) = self.look_back(&mut status)
        {
            warn!(error, "what was anchored before cannot be read");
        }
        *self.status.lock() = status;
    }

    /// What earlier runs have left.
    fn look_back(&mut self, status: &mut AnchorStatus) -> Result<(), String> {
        let told = |error: &dyn std::error::Error| chain(error);
        let log = Log::open_read_only(&self.folder).map_err(|error| told(&error))?;
        let policy = self.believed.clone().for_log(log.key().clone());
        self.anchors.keep_policy(&policy.to_string()).map_err(|error| told(&error))?;
        let all = self.anchors.list().map_err(|error| told(&error))?;
        for anchor in all.iter().rev().take(LOOKED_THROUGH) {
            let size = anchor.size;
            if status.witnessed.is_none()
                && let Ok(Some(note)) = self.anchors.newest_note(size)
                && log.key().open(&note).is_ok()
                && let Ok(cosigned) = policy.check(&note)
                && let Some(since) = cosigned.since
                && !self.members.is_empty()
            {
                status.witnessed = Some(Anchored { size, at: Timestamp::from_unix_seconds(since) });
            }
            if status.stamped.is_none()
                && let Ok(Some(token)) = self.anchors.newest_token(size)
                && let Ok(stamped) = enforcer_audit::read_timestamp(&token)
                && let Some(at) = stamped.at()
            {
                status.stamped = Some(Anchored { size, at });
            }
        }
        let newest = all.last().map_or(0, |anchor| anchor.size);
        if newest > log.size() {
            error!(
                anchored = newest,
                records = log.size(),
                "the log is shorter than its newest anchor: it was cut, or an old copy was put back"
            );
        }
        if let (Some(stamped), Some(plan)) = (status.stamped, &self.plan.timestamp) {
            let left = plan.every.saturating_sub(self.clock.now().wall.since(stamped.at));
            self.next_stamp += left;
        }
        Ok(())
    }

    /// Begins a round, if it is time for one.
    async fn begin(&mut self) {
        let now = self.clock.now();
        let is_under_way = self.rounds.last().is_some_and(|round| !round.is_settled);
        if !self.plan.is_any() || is_under_way || !self.is_due() && self.asked.is_empty() {
            return;
        }
        let log = match self.newest().await {
            Ok(log) => log,
            Err(error) => {
                warn!(error = chain(&error), "the log cannot be read to be anchored");
                self.next_try = now.monotonic + TICK;
                return;
            }
        };
        self.next = now.monotonic + self.plan.every;
        self.number += 1;
        let asked = std::mem::take(&mut self.asked);
        let is_forced = !asked.is_empty();
        let is_wanted = std::mem::take(&mut self.is_wanted);
        let mut round = Round::new(self.number, log, &self.members, is_wanted, asked);
        for (place, member) in self.members.iter_mut().enumerate() {
            if member.is_busy {
                round.busy(place);
                continue;
            }
            if member.is_resting(now.monotonic) && !is_forced {
                continue;
            }
            member.is_busy = true;
            round.pending += 1;
            let (number, known) = (round.number, member.known);
            let (log, plan) = (Arc::clone(&round.log), Arc::clone(&member.plan));
            let client = Arc::clone(&member.client);
            self.tasks.spawn_local(async move {
                let submitted = submit(&client, &plan, &log, known).await;
                Done::Submitted { round: number, place, submitted }
            });
        }
        self.rounds.push(round);
        self.judge(self.number);
    }

    fn is_due(&self) -> bool {
        let now = self.clock.now();
        if now.monotonic < self.next_try {
            return false;
        }
        let is_stamp_due = self.is_stamp_due(now.monotonic);
        if self.members.is_empty() {
            return is_stamp_due;
        }
        let witnessed = self.status.lock().witnessed;
        // An idle log is shown again, or its newest anchor would grow too old.
        let is_old = |at: Timestamp| now.wall.since(at) > self.plan.age / 2;
        let is_behind = witnessed.is_none_or(|witnessed| {
            self.audit.state().size != witnessed.size || is_old(witnessed.at)
        });
        self.is_wanted || is_stamp_due || (is_behind && now.monotonic >= self.next)
    }

    fn is_stamp_due(&self, now: Instant) -> bool {
        self.plan.timestamp.is_some() && !self.is_stamping && now >= self.next_stamp
    }

    /// The log as of a checkpoint over everything that was acknowledged.
    async fn newest(&self) -> Result<Log, ReadError> {
        // While another agent writes the log, this one knows no more than who waits.
        let committed = self.audit.state().size.max(self.audit.witnesses_needed());
        let (tries, pause) = LAG;
        for _ in 1..tries {
            let log = Log::open_read_only(&self.folder)?;
            if log.size() >= committed {
                return Ok(log);
            }
            tokio::time::sleep(pause).await;
        }
        Log::open_read_only(&self.folder)
    }

    fn take(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Submitted { round, place, submitted }) => {
                self.take_submitted(round, place, submitted);
                self.judge(round);
            }
            Ok(Done::Stamped { round, answer }) => {
                self.take_stamp(round, answer);
                self.judge(round);
            }
            // A panic is a bug, and told by the hook; nobody must wait for it.
            Err(error) if error.is_panic() => self.adopt(),
            Err(_) => {}
        }
    }

    fn take_submitted(&mut self, number: u64, place: usize, mut submitted: Submitted) {
        let now = self.clock.now();
        let Some(round) = self.rounds.iter_mut().find(|round| round.number == number) else {
            return;
        };
        let Some(member) = self.members.get_mut(place) else { return };
        let size = round.log.size();
        if let Submitted::RolledBack { known } = submitted {
            // Another agent may write the log by now, and have shown more of it.
            let newest = Log::open_read_only(&self.folder);
            if newest.is_ok_and(|log| log.size() >= known) {
                submitted = Submitted::Overtaken { known };
            }
        }
        member.is_busy = false;
        round.pending = round.pending.saturating_sub(1);
        round.say(place, &submitted);
        match &submitted {
            Submitted::Cosigned { .. } => member.well(size),
            Submitted::Overtaken { known } => member.well(*known),
            Submitted::RolledBack { .. } | Submitted::Forked | Submitted::Failed(_) => {
                member.ill(now.monotonic);
            }
        }
        let why = submitted.why(size);
        let mut status = self.status.lock();
        let Some(row) = status.witnesses.get_mut(place) else { return };
        if let Some(why) = &why
            && row.trouble.as_ref() != Some(why)
        {
            let witness = &row.name;
            if submitted.contradicts() && !row.contradicts {
                error!(witness, why, "a witness contradicts the log");
            } else if !submitted.contradicts() {
                warn!(witness, why, "a witness did not cosign");
            }
        }
        if why.is_none() && row.trouble.is_some() {
            info!(witness = row.name, "a witness cosigns again");
        }
        if why.is_none() {
            row.cosigned = Some(Anchored { size, at: now.wall });
        }
        row.contradicts = submitted.contradicts();
        row.trouble = why;
    }

    fn take_stamp(&mut self, number: u64, answer: Result<(Vec<u8>, Stamped), String>) {
        let now = self.clock.now().monotonic;
        self.is_stamping = false;
        let Some(round) = self.rounds.iter_mut().find(|round| round.number == number) else {
            return;
        };
        let size = round.log.size();
        let kept = answer.and_then(|(token, stamped)| {
            let kept = self.anchors.keep_token(size, &token);
            kept.map(|()| stamped).map_err(|error| chain(&error))
        });
        let mut status = self.status.lock();
        let (said, pause) = match kept {
            Ok(stamped) => {
                let at = stamped.at();
                status.stamped = at.map(|at| Anchored { size, at });
                status.stamp_trouble = None;
                let every = self.plan.timestamp.as_ref().map_or(STAMP_REST, |plan| plan.every);
                (TimestampSaid { at, why: None }, every)
            }
            Err(why) => {
                warn!(why, "there is no timestamp");
                status.stamp_trouble = Some(why.clone());
                (TimestampSaid { at: None, why: Some(why) }, STAMP_REST)
            }
        };
        round.stamp = Stamp::Said(said);
        self.next_stamp = now + pause;
    }

    /// Something has come of the round with this number.
    fn judge(&mut self, number: u64) {
        let now = self.clock.now();
        let Some(index) = self.rounds.iter().position(|round| round.number == number) else {
            return;
        };
        let Some(round) = self.rounds.get_mut(index) else { return };
        let is_enough = self.believed.is_met(|place| round.is_cosigned(place));
        let is_news = round.lines.iter().any(|lines| !lines.is_empty());
        if is_enough && is_news {
            keep(&self.anchors, &self.believed, &self.audit, &self.status, round);
        }
        round.is_met = round.is_met || (is_enough && self.members.is_empty());
        let is_lost = round.pending == 0 && !round.is_met;
        if (round.is_met || is_lost) && !round.is_settled {
            round.is_settled = true;
            self.is_wanted = self.is_wanted || round.log.size() < self.audit.witnesses_needed();
            if is_lost {
                self.is_wanted = self.is_wanted || round.is_wanted;
                self.audit.witnesses_lost();
                self.next_try = now.monotonic + TICK;
            }
            let is_asked = !round.replies.is_empty() && !self.is_stamping;
            let is_due = now.monotonic >= self.next_stamp && !self.is_stamping;
            if let Some(plan) = self.plan.timestamp.clone()
                && (is_asked || is_due)
            {
                match stampable(&self.anchors, round) {
                    Ok(note) => {
                        self.is_stamping = true;
                        round.stamp = Stamp::Asked;
                        let client = Arc::clone(&self.stamper);
                        self.tasks.spawn_local(async move {
                            let answer = stamp::stamp(&client, &plan, &note).await;
                            Done::Stamped { round: number, answer }
                        });
                    }
                    Err(why) => {
                        warn!(why, "there is no timestamp");
                        round.stamp = Stamp::Said(TimestampSaid { at: None, why: Some(why) });
                        self.next_stamp = now.monotonic + STAMP_REST;
                    }
                }
            }
        }
        if round.is_over() {
            self.rounds.remove(index).end(self.plan.quorum);
        }
    }
}

/// Puts the cosigned note on disk; only then it counts.
fn keep(
    anchors: &Anchors,
    believed: &WitnessPolicy,
    audit: &Audit,
    status: &Mutex<AnchorStatus>,
    round: &mut Round,
) {
    let (size, note) = (round.log.size(), round.note());
    let since = believed.check(&note).ok().and_then(|cosigned| cosigned.since);
    let Some(since) = since else { return };
    if let Err(error) = anchors.keep_note(size, &note) {
        warn!(error = chain(&error), "a witnessed checkpoint cannot be kept");
        return;
    }
    if !round.is_met {
        round.is_met = true;
        audit.witnessed(size);
        debug!(records = size, "enough witnesses know the log");
    }
    let mut status = status.lock();
    let newest = status.witnessed.map_or(0, |witnessed| witnessed.at.unix_seconds());
    let at = Timestamp::from_unix_seconds(since);
    if status.witnessed.is_none_or(|witnessed| size >= witnessed.size) || since > newest {
        status.witnessed = Some(Anchored { size, at });
    }
}

/// The file that a timestamp is about, as it is on disk.
fn stampable(anchors: &Anchors, round: &Round) -> Result<String, String> {
    let size = round.log.size();
    let kept = anchors.note(size).map_err(|error| chain(&error))?;
    if let Some(note) = kept {
        return Ok(note);
    }
    let note = round.note();
    anchors.keep_note(size, &note).map_err(|error| chain(&error))?;
    Ok(note)
}
