//! Tells receivers what happened, on a thread of its own.
//!
//! The office owns what waits, on disk; each delivery is a task, so that a receiver that hangs keeps
//! nobody waiting. One agent delivers at a time: a successor takes the lock when its predecessor has
//! ended, and takes notices up until then. What does not work for good goes on record, and the
//! others are told.

mod desk;
mod trouble;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use enforcer_audit::{Audit, ConfigChange, ConfigEvent, Record};
use enforcer_model::{Author, Clock, Timestamp};
use enforcer_notify::{
    Courier, Event, Job, Kind, Notice, Office, Outcome, Receiver, Severity, Store, StoreError,
    Told, Wake,
};
use enforcer_policy::Policy;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::anchoring::AnchorDesk;
use crate::cli::chain;
use crate::daemon::{control_runtime, thread};
use crate::privileges::Thread;
use crate::shutdown;

pub(crate) use desk::NotifyDesk;
use desk::{Order, Tests};
use trouble::{Seen, Watch};

/// Operators' orders that may wait.
const ORDERS_MAX: usize = 16;
/// How often the lock is tried while another agent has it.
const LOCK: Duration = Duration::from_millis(200);
/// How long the office sleeps at most; a clock that is set is noticed by then.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How often what is too old is dropped.
const HOUSEKEEPING: Duration = Duration::from_secs(300);
/// How often the audit log and the disk are looked after.
const LOOK: Duration = Duration::from_secs(1);

/// Its thread.
pub(crate) struct Notifications {
    thread: JoinHandle<()>,
    until: CancellationToken,
}

/// What it works with.
pub(crate) struct Means {
    /// The state directory.
    pub(crate) state: PathBuf,
    /// Where receivers come from.
    pub(crate) policies: watch::Receiver<Arc<Policy>>,
    /// What happened.
    pub(crate) told: Told,
    /// Where failures go on record, and what is itself looked after.
    pub(crate) audit: Audit,
    /// What the opening of the log had to say.
    pub(crate) audit_found: Vec<String>,
    /// How far others know the log.
    pub(crate) anchors: AnchorDesk,
    /// For times.
    pub(crate) clock: Arc<dyn Clock>,
    /// Who speaks.
    pub(crate) host: String,
}

struct Worker {
    office: Office,
    means: Means,
    orders: mpsc::Receiver<Order>,
    jobs: JoinSet<Done>,
    tests: Tests,
    watch: Watch,
    random: SystemRandom,
    /// Held as long as this agent delivers.
    _lock: File,
}

/// What a task has done.
enum Done {
    Delivered { receiver: Arc<str>, outcome: Outcome },
    Tested { number: u64, receiver: Arc<Receiver>, outcome: Outcome, took: Duration },
}

// === impl Notifications ===

impl Notifications {
    /// Tells the policy's receivers what comes in, until it is ended.
    pub(crate) fn start(
        means: Means,
        stop: &CancellationToken,
    ) -> anyhow::Result<(Self, NotifyDesk)> {
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        let until = CancellationToken::new();
        let ending = until.clone();
        let thread = thread("notifications", Thread::Other, stop, move || {
            let work = work(means, waiting, ending);
            tokio::task::LocalSet::new().block_on(&control_runtime()?, work);
            Ok(())
        })?;
        Ok((Self { thread, until }, NotifyDesk::new(orders)))
    }

    /// Ends it; what was told is on disk then.
    pub(crate) async fn end(self, patience: Duration) {
        self.until.cancel();
        shutdown::join(vec![self.thread], patience).await;
    }
}

async fn work(means: Means, orders: mpsc::Receiver<Order>, until: CancellationToken) {
    let path = means.state.join("notifications.lock");
    let lock = tokio::select! {
        lock = locked(&path) => lock,
        () = until.cancelled() => return,
    };
    let Some(lock) = lock else {
        // Nobody is told then; the agent protects all the same, and whoever looks is told.
        return until.cancelled().await;
    };
    let receivers = means.policies.borrow().receivers().to_vec();
    let office = match open(&means.state, &receivers, &means.host) {
        Ok(office) => office,
        Err(error) => {
            error!(error = chain(&error), "notices cannot be kept, so nobody is told of any");
            return until.cancelled().await;
        }
    };
    let watch = Watch::new(means.clock.now().wall, means.audit.state().refused);
    let worker = Worker {
        office,
        watch,
        means,
        orders,
        jobs: JoinSet::new(),
        tests: Tests::default(),
        random: SystemRandom::new(),
        _lock: lock,
    };
    worker.run(until).await;
}

/// The lock of those who deliver; waits while another agent has it.
async fn locked(path: &Path) -> Option<File> {
    let opened = File::options().create(true).truncate(false).write(true).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) => {
            error!(%error, file = %path.display(), "nobody is told of anything");
            return None;
        }
    };
    loop {
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        if rustix::fs::flock(&file, exclusive).is_ok() {
            return Some(file);
        }
        tokio::time::sleep(LOCK).await;
    }
}

/// What waits on disk. A file that cannot be used is moved aside: what happens now is worth more.
fn open(state: &Path, receivers: &[Arc<Receiver>], host: &str) -> Result<Office, StoreError> {
    let path = state.join("notifications.db");
    let opened = Store::open(&path).and_then(|store| Office::new(store, receivers, host));
    let error = match opened {
        Ok(office) => return Ok(office),
        Err(error @ (StoreError::Newer { .. } | StoreError::Create { .. })) => return Err(error),
        Err(error) => error,
    };
    let aside = state.join("notifications.db.broken");
    error!(error = chain(&error), aside = %aside.display(), "notices that waited are lost");
    for suffix in ["-wal", "-shm"] {
        drop(std::fs::remove_file(state.join(format!("notifications.db{suffix}"))));
    }
    if std::fs::rename(&path, &aside).is_err() {
        return Err(error);
    }
    Store::open(&path).and_then(|store| Office::new(store, receivers, host))
}

// === impl Worker ===

impl Worker {
    async fn run(mut self, until: CancellationToken) {
        let mut policies = self.means.policies.clone();
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let found: Vec<_> =
            self.means.audit_found.iter().map(|words| self.watch.found(words)).collect();
        self.take(found);
        let mut is_told = true;
        loop {
            self.begin();
            let sleep = self.sleep();
            tokio::select! {
                () = until.cancelled() => break,
                notice = self.means.told.next(), if is_told => match notice {
                    Some(notice) => self.take(vec![notice]),
                    None => is_told = false,
                },
                Some(order) = self.orders.recv() => self.order(order),
                Some(done) = self.jobs.join_next() => self.settle(done),
                Ok(()) = policies.changed() => {
                    let receivers = policies.borrow_and_update().receivers().to_vec();
                    if let Err(error) = self.office.adopt(&receivers) {
                        error!(error = chain(&error), "the receivers of notices stay as they were");
                    }
                }
                _ = housekeeping.tick() => {
                    let dropped = self.office.forget_old(self.now());
                    self.note(dropped);
                }
                _ = looks.tick() => self.look_after(),
                () = tokio::time::sleep(sleep) => {}
            }
        }
        // What comes last is on disk as well, for the next agent.
        if let Some(notice) = self.means.told.waiting() {
            self.take(vec![notice]);
        }
    }

    /// Takes up what there is to be told of the audit log, and tries again to write what is not
    /// on disk.
    fn look_after(&mut self) {
        let now = self.now();
        let state = self.means.audit.state();
        let anchors = self.means.anchors.status(now);
        let seen = Seen { health: state.health, refused: state.refused, anchors };
        let notices = self.watch.look(&seen, now);
        self.take(notices);
        let mended = self.office.mend(now);
        self.note(mended);
    }

    fn now(&self) -> Timestamp {
        self.means.clock.now().wall
    }

    fn sleep(&mut self) -> Duration {
        let now = self.now();
        match self.office.wake(now) {
            Wake::At(then) => then.since(now).clamp(Duration::from_millis(1), SLEEP_MAX),
            Wake::Never => SLEEP_MAX,
        }
    }

    /// Takes up `notices` and all that wait behind them, in one write.
    fn take(&mut self, mut notices: Vec<Notice>) {
        notices.extend(std::iter::from_fn(|| self.means.told.waiting()));
        if notices.is_empty() {
            return;
        }
        let now = self.now();
        let taken = self.office.take(notices, now);
        self.note(taken);
        let lost = self.means.told.lost();
        if lost > 0 {
            warn!(lost, "notices came faster than they can be taken up");
            let told = self.office.lost(lost, now);
            self.note(told);
            self.record(ConfigEvent::NoticesLost, format!("{lost}: more came at once than fit"));
        }
    }

    /// Begins what is due.
    fn begin(&mut self) {
        let now = self.now();
        let random = self.random.clone();
        let jobs = self.office.jobs(now, || bits(&random));
        jobs.into_iter().for_each(|job| self.deliver(job));
    }

    fn deliver(&mut self, job: Job) {
        let clock = Arc::clone(&self.means.clock);
        self.jobs.spawn_local(async move {
            let outcome = Courier::deliver(&job, &*clock).await;
            Done::Delivered { receiver: Arc::clone(&job.receiver.name), outcome }
        });
    }

    fn settle(&mut self, done: Result<Done, JoinError>) {
        let now = self.now();
        match done {
            Ok(Done::Delivered { receiver, outcome }) => {
                match &outcome {
                    Outcome::Delivered(said) => debug!(%receiver, said, "notices delivered"),
                    Outcome::Gone(_) | Outcome::Refused(_) | Outcome::Failed { .. } => {
                        info!(%receiver, why = outcome.said(), "notices not delivered");
                    }
                }
                let random = bits(&self.random);
                let settled = self.office.settle(&receiver, &outcome, now, random);
                self.note(settled);
            }
            Ok(Done::Tested { number, receiver, outcome, took }) => {
                let tested = self.office.tested(&receiver.name, &outcome, now);
                self.tests.take(number, &receiver, &outcome, took);
                self.note(tested);
            }
            // A panic is a bug, and told by the hook. Its receiver waits for another agent.
            Err(error) => error!(%error, "a delivery ended badly"),
        }
    }

    /// Puts on record what belongs there, and tells the others.
    fn note(&mut self, events: impl IntoIterator<Item = Event>) {
        let now = self.now();
        for event in events {
            let (what, words, tells) = match event {
                Event::Disabled { receiver, why } => {
                    let words = format!("{receiver} wants no more notices: {why}");
                    (ConfigEvent::ReceiverDisabled, words, Some(receiver))
                }
                Event::Enabled { receiver, why } => {
                    (ConfigEvent::ReceiverEnabled, format!("{receiver}: {why}"), None)
                }
                Event::GivenUp { receiver, count, why } => {
                    let words = format!("{count} for {receiver} were given up: {why}");
                    (ConfigEvent::NoticesLost, words, Some(receiver))
                }
                // Told to the receiver itself, with the next message: another notice might find
                // no room either.
                Event::Dropped { receiver, count, why } => {
                    (ConfigEvent::NoticesLost, format!("{count} for {receiver}: {why}"), None)
                }
                Event::Unwritten { why } => {
                    error!(why, "notices are told from memory: a crash would lose what waits");
                    continue;
                }
                Event::Written => {
                    info!("all notices that wait are on disk again");
                    continue;
                }
            };
            warn!(what = words, "notices");
            self.record(what, words.clone());
            if let Some(receiver) = tells {
                let notice = Notice::new(Kind::DeliveryTrouble, Severity::Error, now, &words)
                    .with_text("`enforcer notify list` shows how receivers are; `notify test` tries them out.")
                    .with_about(format!("receiver:{receiver}"));
                // What of it finds no room is counted.
                drop(self.office.take(vec![notice], now));
            }
        }
    }

    fn record(&self, what: ConfigEvent, detail: String) {
        let change = ConfigChange {
            what,
            by: Some(Author::Agent),
            policy: None,
            program: None,
            kernel_program: None,
            detail: Some(detail),
        };
        match self.means.audit.reserve() {
            Ok(slot) => drop(slot.write(Record::Config(change))),
            Err(error) => warn!(%error, "trouble with notices is not on record"),
        }
    }
}

fn bits(random: &SystemRandom) -> u64 {
    let mut bytes = [0; 8];
    // Ids are made of them and jitter; one that repeats a name is told apart by its content.
    random.fill(&mut bytes).unwrap_or_default();
    u64::from_ne_bytes(bytes)
}
