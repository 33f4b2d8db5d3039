//! The handle that everyone holds: slots before, tickets after, never a wait in between.
//!
//! A [`Slot`] is room for one record, taken before the work starts, so that nothing can be done
//! unrecorded: no slot, no service. Writing to it cannot fail and never blocks. The [`Ticket`] says
//! when the record is under a signed checkpoint on disk; whoever need not know drops it.
//!
//! When the queue is full or the disk is, [`Audit::reserve`] refuses, and the refusal is counted: a
//! `gap` record tells how many there were.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use enforcer_model::{Clock, Timestamp};
use tokio::sync::{broadcast, oneshot};

use crate::encode::Unnumbered;
use crate::lend::{Lender, Lending, Outlet};
use crate::merkle::Hash;
use crate::open::{OpenError, Opened};
use crate::record::Record;
use crate::sealing::age::Recipient;
use crate::shared::{Health, Shared};
use crate::stored::Stored;
use crate::writer::{self, Message};

/// How often whoever waits for room looks again. A commit frees thousands of places at once.
const ROOM_EVERY: Duration = Duration::from_millis(2);

/// Where the log lives and how much may wait.
#[derive(Clone, Debug)]
pub struct Config {
    /// The log's own directory; nothing else belongs in there.
    pub directory: PathBuf,
    /// The log's name in its checkpoints, such as `host.example/enforcer`; never changes.
    pub origin: String,
    /// Records that may be reserved, waiting or on their way to the disk; at least one.
    pub queue: usize,
    /// A segment that has grown beyond this is closed …
    pub segment_bytes: u64,
    /// … or that has so many records …
    pub segment_records: u64,
    /// … or is so old.
    pub segment_age: Duration,
    /// Who can read sealed segments when the host no longer can; at most 16.
    pub recipients: Vec<Recipient>,
    /// For how long the host keeps the key of a closed segment that recipients can open.
    pub hot: Duration,
    /// The key that signs commits is replaced after so long …
    pub epoch_age: Duration,
    /// … or so many records.
    pub epoch_records: u64,
}

/// The append side of the log. Clones share one writer thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    writer: SyncSender<Message>,
}

/// Room for one record. Dropped unwritten, it gives the room back.
#[derive(Debug)]
#[must_use = "a slot that is dropped records nothing"]
pub struct Slot {
    audit: Audit,
    written: bool,
}

/// The promise of an index.
#[derive(Debug)]
pub struct Ticket {
    index: oneshot::Receiver<Result<u64, Lost>>,
    shared: Arc<Shared>,
}

/// No record can be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
    /// The disk has no room; service resumes by itself when there is some.
    #[error("the disk of the audit log is full; free some space, service resumes by itself")]
    Disk,
    /// The log cannot be written any more.
    #[error("the audit log has failed and needs a restart of the agent: {0}")]
    Failed(Arc<str>),
    /// Every slot is taken; the disk is slower than the requests come in.
    #[error("the audit queue is full")]
    Queue,
}

/// A record that was taken and is not known to be on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The log was closed before the record was written.
    #[error("the audit log was closed before the record was written")]
    Closed,
    /// The disk is full. The record is kept in memory, and written when there is room.
    #[error("the disk of the audit log is full; the record waits in memory")]
    DiskFull,
    /// The disk failed. Whether the record survived is known when the log is opened again.
    #[error("the audit log has failed: {0}")]
    Failed(Arc<str>),
}

/// [`Audit::append`] did not end with the record on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There was no room to begin with.
    #[error(transparent)]
    Full(#[from] Full),
    /// It was taken and not committed.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// The log at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Records under the last checkpoint.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
    /// The last signed checkpoint, as published.
    pub checkpoint: Arc<str>,
    /// When it was signed.
    pub at: Timestamp,
    /// Whether records are taken.
    pub health: Health,
    /// Slots that are in use.
    pub waiting: usize,
    /// Records refused since the log was opened, whatever the cause.
    pub refused: u64,
}

// === impl Config ===

impl Config {
    /// Records that may wait when the policy does not say.
    pub const QUEUE: usize = 8_192;
    /// Some hundred thousand requests: a start reads at most this much.
    pub const SEGMENT_BYTES: u64 = 128 << 20;
    /// Records of one segment.
    pub const SEGMENT_RECORDS: u64 = 1_000_000;
    /// A segment is closed at this age, so that its key can be destroyed and its index made.
    pub const SEGMENT_AGE: Duration = Duration::from_secs(3_600);
    /// For how long a closed segment can be read without a recipient's help.
    pub const HOT: Duration = Duration::from_secs(24 * 3_600);
    /// What an intruder can rewrite is younger than this.
    pub const EPOCH_AGE: Duration = Duration::from_secs(600);
    /// Records under one key.
    pub const EPOCH_RECORDS: u64 = 1_000_000;

    /// The log of `origin` in `directory`, with the usual sizes.
    pub fn new(directory: impl Into<PathBuf>, origin: impl Into<String>) -> Self {
        Self {
            directory: directory.into(),
            origin: origin.into(),
            queue: Self::QUEUE,
            segment_bytes: Self::SEGMENT_BYTES,
            segment_records: Self::SEGMENT_RECORDS,
            segment_age: Self::SEGMENT_AGE,
            recipients: Vec::new(),
            hot: Self::HOT,
            epoch_age: Self::EPOCH_AGE,
            epoch_records: Self::EPOCH_RECORDS,
        }
    }
}

// === impl Audit ===

impl Audit {
    /// Opens the log, or begins it, and starts the writer thread.
    ///
    /// Everything that a crash can leave behind is put in order, and told in [`Opened`]. Anything
    /// else that is not as it was left refuses to open: evidence is never repaired in silence.
    pub fn open(config: Config, clock: Arc<dyn Clock>) -> Result<(Self, Opened), OpenError> {
        writer::start(config, clock)
    }

    pub(crate) fn new(shared: Arc<Shared>, writer: SyncSender<Message>) -> Self {
        Self(Arc::new(Handle { shared, writer }))
    }

    /// Room for one record, or the reason why the work must not be done. Never blocks.
    pub fn reserve(&self) -> Result<Slot, Full> {
        self.0.shared.take_slot()?;
        Ok(Slot { audit: self.clone(), written: false })
    }

    /// Room for one record, waiting at most `patience` while the queue is full: a disk that pauses
    /// slows requests down before it refuses them. Any other refusal comes at once.
    pub async fn reserve_within(&self, patience: Duration) -> Result<Slot, Full> {
        let mut waited = Duration::ZERO;
        while waited < patience && !self.0.shared.has_room() {
            tokio::time::sleep(ROOM_EVERY).await;
            waited += ROOM_EVERY;
        }
        self.reserve()
    }

    /// Writes `record` and waits until it is on disk; gives its index.
    pub async fn append(&self, record: Record) -> Result<u64, AppendError> {
        Ok(self.reserve()?.write(record).committed().await?)
    }

    /// The log as of the last commit.
    pub fn state(&self) -> State {
        self.0.shared.state()
    }

    /// Every record from here on, as it is committed. A receiver that is slower than the log loses
    /// the oldest and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Stored>> {
        self.0.shared.committed.subscribe()
    }

    /// Waits until a record is to be witnessed: [`Ticket::witnessed`] was called.
    pub async fn witnesses_wanted(&self) {
        self.0.shared.witnessed.wanted().await;
    }

    /// A quorum of witnesses has cosigned a checkpoint over the first `size` records.
    pub fn witnessed(&self, size: u64) {
        self.0.shared.witnessed.raise(size);
    }

    /// How many records a checkpoint must cover for everybody who ever waited for the witnesses.
    pub fn witnesses_needed(&self) -> u64 {
        self.0.shared.witnessed.needed()
    }

    /// Somebody waited for the witnesses, and enough of them did not answer.
    pub fn witnesses_lost(&self) {
        self.0.shared.witnessed.lose();
    }

    /// Whether waiting for the witnesses is of use, as far as is known.
    pub fn are_witnesses_reachable(&self) -> bool {
        self.0.shared.witnessed.is_reachable()
    }

    /// Commits what was written so far and leaves the directory to another process. From here on
    /// records go to that one by `outlet`, and their tickets wait for its answers; no slot is lost,
    /// and service goes on.
    ///
    /// When the outlet breaks, the log waits to be taken back, or to be given up for good
    /// ([`Lender`]); then what comes goes to the file `spill`, to be appended by the next start.
    pub async fn lend(
        &self,
        outlet: Box<dyn Outlet>,
        spill: PathBuf,
    ) -> Result<(u64, Lender), Lost> {
        let (lending, lent, lender) = Lending::new(outlet, spill);
        // The queue has room for this one message beyond all slots.
        drop(self.0.writer.try_send(Message::Lend(Box::new(lending))));
        let size = lent.await.unwrap_or_else(|_| Err(self.0.shared.lost()))?;
        Ok((size, lender))
    }

    /// Commits what was written so far and closes the segment that it is in, so that it can be
    /// indexed, exported or pruned; gives the size of the log.
    pub async fn roll(&self) -> Result<u64, Lost> {
        let (reply, rolled) = oneshot::channel();
        // The queue has room for this beyond all slots; when it has none, another one is under way.
        drop(self.0.writer.try_send(Message::Roll(reply)));
        rolled.await.unwrap_or_else(|_| Err(self.0.shared.lost()))
    }

    /// Commits what was written so far, ends the writer and frees the directory.
    ///
    /// From the call on [`Audit::reserve`] refuses; slots that are written later are lost.
    pub async fn close(self) -> Result<u64, Lost> {
        if self.0.shared.begin_closing() {
            let (reply, closed) = oneshot::channel();
            // The queue has room for this one message beyond all slots. When the writer is gone,
            // `closed` says so.
            drop(self.0.writer.try_send(Message::Close(reply)));
            closed.await.unwrap_or_else(|_| Err(self.0.shared.lost()))
        } else {
            Err(self.0.shared.lost())
        }
    }
}

// === impl Slot ===

impl Slot {
    /// Hands a record of another process to the writer.
    pub fn pass(mut self, record: Unnumbered) -> Ticket {
        let (ticket, index) = oneshot::channel();
        let handle = &self.audit.0;
        self.written = handle.writer.try_send(Message::Pass { record, ticket }).is_ok();
        Ticket { index, shared: Arc::clone(&handle.shared) }
    }

    /// Hands the record to the writer.
    pub fn write(mut self, record: Record) -> Ticket {
        let (ticket, index) = oneshot::channel();
        let handle = &self.audit.0;
        let record = record.into();
        // Cannot be full, a slot is room in this very queue. When the writer is gone the ticket
        // says so, and the slot is free again.
        self.written = handle.writer.try_send(Message::Write { record, ticket }).is_ok();
        Ticket { index, shared: Arc::clone(&handle.shared) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.written {
            self.audit.0.shared.free_slots(1);
        }
    }
}

// === impl Ticket ===

impl Ticket {
    /// Waits until the record is on disk under a signed checkpoint.
    pub async fn committed(self) -> Result<u64, Lost> {
        self.shared.hurry();
        self.index.await.unwrap_or_else(|_| Err(self.shared.lost()))
    }

    /// Waits until a quorum of witnesses has cosigned a checkpoint over the record. There may be
    /// none, so this takes a time limit.
    pub async fn witnessed(self) -> Result<u64, Lost> {
        let shared = Arc::clone(&self.shared);
        let index = self.committed().await?;
        shared.witnessed.covers(index).await;
        Ok(index)
    }

    /// The same as [`Ticket::committed`] on a thread that may wait.
    pub fn wait(self) -> Result<u64, Lost> {
        self.shared.hurry();
        self.index.blocking_recv().unwrap_or_else(|_| Err(self.shared.lost()))
    }
}
