//! The one thread that writes: collects what waits, commits it as a group, tells who waited.
//!
//! Records that arrive during a sync form the next group, so that the slower the disk is, the more
//! records share a sync and a signature. When the disk is full, what was accepted is kept and tried
//! again, nothing more is accepted, and the refusals are counted; the reserve file makes room for
//! the last words. Any other failure ends the thread and with it the service.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use enforcer_model::{Clock, Moment};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::audit::{Audit, Config, Lost};
use crate::encode::{Content, Encoder, Unnumbered};
use crate::files::Reserve;
use crate::lend::{Lending, Relay};
use crate::open::{self, OpenError, Opened};
use crate::record::{Gap, GapReason, KeyChange, Record};
use crate::shared::{Health, Published, Shared};
use crate::store::Store;
use crate::store_error::StoreError;
use crate::stored::Stored;

/// A group is committed at the latest when it has this many records …
const GROUP_RECORDS_MAX: usize = 8_192;
/// … or bytes.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// From the beginning of one commit to the next: under load, groups are worth their signature.
const GROUP_FLOOR: Duration = Duration::from_micros(500);
/// The same while nobody waits for a record: a commit costs as much as some hundred requests.
const GROUP_QUIET: Duration = Duration::from_millis(20);
/// How often an idle writer looks for refusals that no record tells yet.
const IDLE: Duration = Duration::from_secs(1);
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What handles send to the writer.
#[derive(Debug)]
pub(crate) enum Message {
    /// A record, and where its index is awaited.
    Write { record: Content, ticket: oneshot::Sender<Result<u64, Lost>> },
    /// A record of another process, and where its index is awaited.
    Pass { record: Unnumbered, ticket: oneshot::Sender<Result<u64, Lost>> },
    /// Commit what came before, leave the directory to another process, and hand it what comes.
    Lend(Box<Lending>),
    /// Commit what came before and close the segment, whatever its size.
    Roll(oneshot::Sender<Result<u64, Lost>>),
    /// Commit what came before and end.
    Close(oneshot::Sender<Result<u64, Lost>>),
}

struct Writer {
    config: Config,
    store: Store,
    encoder: Encoder,
    shared: Arc<Shared>,
    queue: Receiver<Message>,
    reserve: Reserve,
    group: Group,
    group_began: Instant,
    /// To be written before anything else.
    gaps: Vec<Gap>,
    closing: Option<oneshot::Sender<Result<u64, Lost>>>,
    lending: Option<Box<Lending>>,
    rolling: Vec<oneshot::Sender<Result<u64, Lost>>>,
    epoch_began: Instant,
    ended: bool,
}

/// How the work of a writer comes to an end.
enum End {
    /// For good, with this answer for whoever closed the log.
    Closed(Result<u64, Lost>),
    /// Another process writes from here on.
    Lent(Box<Lending>),
}

/// Who wants to know of staged records, each by its place in the group.
#[derive(Default)]
struct Group {
    slots: usize,
    tickets: Vec<(usize, oneshot::Sender<Result<u64, Lost>>)>,
}

/// Whether everything staged is on disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    Yes,
    NoSpace,
}

/// Opens the log and starts its writer.
pub(crate) fn start(config: Config, clock: Arc<dyn Clock>) -> Result<(Audit, Opened), OpenError> {
    let now = clock.now();
    let ready = open::open(&config, now)?;
    let opened = ready.opened;
    let published = Published {
        size: ready.signed.size,
        root: ready.signed.root,
        checkpoint: ready.checkpoint.into(),
        at: now.wall,
    };
    let (reserve, health) = reserved(ready.reserved);
    let capacity = config.queue.max(1);
    let shared = Arc::new(Shared::new(capacity, clock, health, published));
    // Some places more than slots: for the messages that lend, roll and close.
    let (sender, receiver) = sync_channel(capacity + 4);
    let encoder = Encoder::new(now);
    let mut writer = Writer::new(config, ready.store, encoder, Arc::clone(&shared), receiver);
    writer.reserve = reserve;
    if opened.torn_bytes > 0 {
        let bytes = opened.torn_bytes;
        writer.gaps.push(Gap { why: GapReason::TornTail, records: 0, bytes, since: None });
    }
    // What a crash left behind is in order, and signed, before the first new record.
    writer.settle().map_err(StoreError::into_open)?;
    writer.resume_epoch().map_err(StoreError::into_open)?;
    thread::Builder::new()
        .name("audit-writer".to_owned())
        .spawn(move || writer.run())
        .map_err(OpenError::Thread)?;
    Ok((Audit::new(shared, sender), opened))
}

/// Whether a log whose reserve is whole, or is not, takes records.
const fn reserved(is_whole: bool) -> (Reserve, Health) {
    if is_whole {
        (Reserve::Whole, Health::Serving)
    } else {
        (Reserve::LastWords, Health::DiskFull)
    }
}

impl Writer {
    fn new(
        config: Config,
        store: Store,
        encoder: Encoder,
        shared: Arc<Shared>,
        queue: Receiver<Message>,
    ) -> Self {
        let group_began = shared.clock.now().monotonic;
        Self {
            config,
            store,
            encoder,
            shared,
            queue,
            reserve: Reserve::Whole,
            group: Group::default(),
            group_began,
            gaps: Vec::new(),
            closing: None,
            lending: None,
            rolling: Vec::new(),
            epoch_began: group_began,
            ended: false,
        }
    }

    fn run(self) {
        let mut writer = self;
        loop {
            match writer.work() {
                Ok(End::Closed(answer)) => return writer.finish(answer),
                Ok(End::Lent(lending)) => match writer.lend(*lending) {
                    Some(back) => writer = back,
                    None => return,
                },
                Err(error) => {
                    let lost = writer.fail(&error);
                    return writer.finish(Err(lost));
                }
            }
        }
    }

    /// Writes until somebody closes the log or it is lent.
    fn work(&mut self) -> Result<End, StoreError> {
        loop {
            self.collect();
            self.settle()?;
            if self.ended {
                return self.end().map(End::Closed);
            }
            self.upkeep()?;
            if let Some(lending) = self.lending.take() {
                if self.is_full() {
                    lending.refuse(Lost::DiskFull);
                } else {
                    return Ok(End::Lent(lending));
                }
            }
        }
    }

    /// Leaves the directory to another process, and serves as its outpost until the log is closed or
    /// comes back.
    fn lend(self, mut lending: Lending) -> Option<Self> {
        let Self { config, store, encoder, shared, queue, .. } = self;
        let size = store.next_index();
        drop(store);
        lending.begun(size);
        info!(records = size, "the audit log is lent; its records go to the successor");
        let relay = Relay::new(size, encoder, Arc::clone(&shared), lending);
        let (relay, back) = relay.run(&queue)?;
        match Self::take_back(config, relay, Arc::clone(&shared), queue) {
            Ok(writer) => {
                info!(records = writer.store.next_index(), "the audit log is taken back");
                back.send(Ok(writer.store.next_index())).unwrap_or_default();
                Some(writer)
            }
            Err(why) => {
                let why: Arc<str> = why.into();
                error!(error = %why, "the audit log could not be taken back");
                shared.fail(&why);
                back.send(Err(Lost::Failed(why))).unwrap_or_default();
                None
            }
        }
    }

    /// Opens the log again. What the successor has written counts; the rest of what it was given is
    /// written here.
    fn take_back(
        config: Config,
        mut relay: Relay,
        shared: Arc<Shared>,
        queue: Receiver<Message>,
    ) -> Result<Self, String> {
        let now = shared.clock.now();
        let ready = open::open(&config, now).map_err(|error| error.to_string())?;
        let (reserve, health) = reserved(ready.reserved);
        if health == Health::DiskFull {
            shared.suspend();
        }
        let directory = config.directory.clone();
        let encoder = relay.encoder();
        let mut writer = Self::new(config, ready.store, encoder, shared, queue);
        writer.reserve = reserve;
        // Under a checkpoint, so that it can be looked through.
        writer.settle().map_err(|error| error.to_string())?;
        for (record, ticket) in relay.unwritten(&directory)? {
            let place = writer.store.stage(record.bytes());
            if let Some(ticket) = ticket {
                writer.group.slots += 1;
                writer.group.tickets.push((place, ticket));
            }
        }
        writer.settle().map_err(|error| error.to_string())?;
        Ok(writer)
    }

    fn finish(self, answer: Result<u64, Lost>) {
        let Self { store, queue, closing, .. } = self;
        // The directory is free, and no slot can be written, before anyone learns of the end.
        drop((store, queue));
        if let Some(closing) = closing {
            drop(closing.send(answer));
        }
    }

    /// Stages what waits in the queue; waits for a first record if there is none.
    fn collect(&mut self) {
        if self.is_full() {
            thread::sleep(RETRY);
        } else {
            match self.queue.recv_timeout(IDLE) {
                Ok(message) => {
                    let now = self.shared.clock.now().monotonic;
                    let since = now.saturating_duration_since(self.group_began);
                    if let Some(rest) = GROUP_FLOOR.checked_sub(since) {
                        thread::sleep(rest);
                    }
                    self.shared.gather(GROUP_QUIET.saturating_sub(since.max(GROUP_FLOOR)));
                    let now = self.shared.clock.now();
                    self.group_began = now.monotonic;
                    self.take(message, now);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.ended = true,
            }
        }
        let now = self.shared.clock.now();
        while self.lending.is_none() && (self.ended || self.has_room()) {
            match self.queue.try_recv() {
                Ok(message) => self.take(message, now),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.ended = true;
                    return;
                }
            }
        }
    }

    /// Whether the group may grow. On a full disk it takes what is left of the slots, and the
    /// segment grows beyond its size.
    fn has_room(&self) -> bool {
        self.is_full()
            || self.group.slots < GROUP_RECORDS_MAX
                && self.store.staged_bytes() < GROUP_BYTES_MAX
                && !self.store.wants_roll()
    }

    fn take(&mut self, message: Message, now: Moment) {
        match message {
            Message::Write { record, ticket } => {
                let place = self.store.stage(self.encoder.encode_content(now, &record));
                self.await_place(place, ticket);
            }
            Message::Pass { record, ticket } => {
                let place = self.store.stage(record.bytes());
                self.await_place(place, ticket);
            }
            Message::Lend(lending) => self.lending = Some(lending),
            Message::Roll(reply) => self.rolling.push(reply),
            Message::Close(reply) => {
                self.closing = Some(reply);
                self.ended = true;
            }
        }
    }

    fn await_place(&mut self, place: usize, ticket: oneshot::Sender<Result<u64, Lost>>) {
        self.group.slots += 1;
        self.group.tickets.push((place, ticket));
    }

    fn stage(&mut self, record: &Record, now: Moment) -> usize {
        self.store.stage(self.encoder.encode(now, record))
    }

    /// Stages a record for every kind of refusal that none tells yet.
    fn stage_gaps(&mut self) {
        self.gaps.append(&mut self.shared.take_untold());
        if !self.gaps.is_empty() {
            let now = self.shared.clock.now();
            for gap in std::mem::take(&mut self.gaps) {
                warn!(why = ?gap.why, records = gap.records, bytes = gap.bytes, "audit log has a gap");
                self.stage(&Record::Gap(gap), now);
            }
        }
    }

    /// Brings everything staged to the disk, as far as there is room.
    fn settle(&mut self) -> Result<(), StoreError> {
        if self.is_full() {
            if self.advance()? == Settled::NoSpace {
                self.tell_full();
                return Ok(());
            }
            match self.store.reserve(Reserve::Whole) {
                Err(StoreError::NoSpace) => return Ok(()),
                other => other?,
            }
            self.reserve = Reserve::Whole;
            self.shared.resume();
            info!("the disk of the audit log has room again");
        }
        self.stage_gaps();
        if self.advance()? == Settled::Yes {
            return Ok(());
        }
        self.shared.suspend();
        error!("the disk of the audit log is full; requests are refused until there is room");
        self.reserve = Reserve::LastWords;
        self.store.reserve(self.reserve)?;
        if self.advance()? == Settled::NoSpace {
            self.tell_full();
        }
        Ok(())
    }

    /// Commits and rolls; without room, stops where it is.
    fn advance(&mut self) -> Result<Settled, StoreError> {
        let now = self.shared.clock.now();
        if !self.store.is_settled() {
            match self.store.commit(now) {
                Ok(published) => self.acknowledge(published),
                Err(StoreError::NoSpace) => return Ok(Settled::NoSpace),
                Err(error) => return Err(error),
            }
        }
        if !self.store.wants_roll() && !self.store.is_old(now.monotonic) && self.rolling.is_empty()
        {
            return Ok(Settled::Yes);
        }
        match self.store.roll(now) {
            Ok(()) => {
                for reply in self.rolling.drain(..) {
                    drop(reply.send(Ok(self.store.next_index())));
                }
                Ok(Settled::Yes)
            }
            Err(StoreError::NoSpace) => Ok(Settled::NoSpace),
            Err(error) => Err(error),
        }
    }

    fn acknowledge(&mut self, published: Published) {
        self.shared.publish(published);
        let Group { slots, tickets } = std::mem::take(&mut self.group);
        self.shared.free_slots(slots);
        for (place, ticket) in tickets {
            // Whoever need not know has dropped the other end; so below.
            drop(ticket.send(Ok(self.store.index_of(place))));
        }
        if self.shared.committed.receiver_count() > 0 {
            for (index, text) in self.store.group() {
                let text = String::from_utf8_lossy(&text).into_owned();
                drop(self.shared.committed.send(Arc::new(Stored::new(index, text))));
            }
        }
        self.store.end_group();
    }

    /// What time brings: another epoch, and the end of keys that are no longer needed here.
    fn upkeep(&mut self) -> Result<(), StoreError> {
        if self.is_full() {
            return Ok(());
        }
        let now = self.shared.clock.now();
        let age = now.monotonic.saturating_duration_since(self.epoch_began);
        if age >= self.config.epoch_age || self.store.epoch_records() >= self.config.epoch_records {
            self.renew_epoch()?;
        }
        self.store.forget(now.wall)
    }

    /// The epoch that an earlier run has begun goes on for what is left of its time.
    fn resume_epoch(&mut self) -> Result<(), StoreError> {
        match self.store.epoch_age() {
            Some(age) if age < self.config.epoch_age => {
                let now = self.shared.clock.now().monotonic;
                self.epoch_began = now.checked_sub(age).unwrap_or(now);
                Ok(())
            }
            Some(_) | None => self.renew_epoch(),
        }
    }

    /// Names the next epoch's key under the old one, which is then destroyed. An epoch without
    /// records has signed nothing, and goes on.
    fn renew_epoch(&mut self) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        self.epoch_began = now.monotonic;
        if self.store.epoch_records() == 0 || self.is_full() {
            return Ok(());
        }
        let next = match self.store.next_epoch() {
            Err(StoreError::NoSpace) => return Ok(()),
            other => other?,
        };
        let (epoch, key) = next.public();
        self.stage(&Record::Key(KeyChange { epoch, key }), now);
        self.settle()?;
        if self.is_full() {
            return Ok(());
        }
        match self.store.hand_over(next) {
            Err(StoreError::NoSpace) => Ok(()),
            other => other,
        }
    }

    /// Whoever waits for a record that cannot be written yet need not wait longer.
    fn tell_full(&mut self) {
        let rolling = self.rolling.drain(..);
        for ticket in self.group.tickets.drain(..).map(|(_, ticket)| ticket).chain(rolling) {
            drop(ticket.send(Err(Lost::DiskFull)));
        }
    }

    /// The last words: everything accepted, or a count of what has to be given up.
    fn end(&mut self) -> Result<Result<u64, Lost>, StoreError> {
        self.stage_gaps();
        if self.advance()? == Settled::Yes {
            self.shared.end();
            return Ok(Ok(self.store.next_index()));
        }
        self.tell_full();
        self.reserve = Reserve::Nothing;
        self.store.reserve(self.reserve)?;
        if self.advance()? == Settled::NoSpace {
            let records = self.store.discard_staged();
            self.group = Group::default();
            let since = Some(self.shared.clock.now().wall);
            self.gaps.push(Gap { why: GapReason::DiskFull, records, bytes: 0, since });
            self.stage_gaps();
            let told = self.advance()? == Settled::Yes;
            error!(records, told, "the audit log ends on a full disk and gives records up");
            self.shared.end();
            return Ok(Err(Lost::DiskFull));
        }
        self.shared.end();
        Ok(Ok(self.store.next_index()))
    }

    fn fail(&mut self, error: &StoreError) -> Lost {
        let why: Arc<str> = error.to_string().into();
        error!(error = %why, "the audit log has failed; nothing is served until the agent restarts");
        self.shared.fail(&why);
        let waiting = self.queue.try_iter().map(|message| match message {
            Message::Write { ticket, .. } | Message::Pass { ticket, .. } => ticket,
            Message::Close(reply) | Message::Roll(reply) => reply,
            Message::Lend(lending) => lending.into_reply(),
        });
        let staged = self.group.tickets.drain(..).map(|(_, ticket)| ticket);
        for ticket in staged.chain(self.rolling.drain(..)).chain(waiting) {
            drop(ticket.send(Err(Lost::Failed(Arc::clone(&why)))));
        }
        Lost::Failed(why)
    }

    fn is_full(&self) -> bool {
        self.reserve != Reserve::Whole
    }
}
