//! A log whose directory another process has: its records go there, and come back if that one fails.
//!
//! While an agent hands over to its successor, both serve, and only one may write. The one that
//! still finishes requests keeps its handles, slots and tickets; its writer thread becomes a
//! [`Relay`], which gives each group of records to an [`Outlet`] and answers the tickets when the
//! other process has them on disk. The bounds are the same: no slot, no service.
//!
//! A group whose answer never came may or may not be on the other's disk. Taken back, the log is
//! looked through for it, so that every record is there once. Given up, records go to a spill: a
//! file of one line each, which the next start appends in the same way.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{error, warn};

use crate::audit::Lost;
use crate::encode::{Encoder, Unnumbered};
use crate::record::Record;
use crate::shared::Shared;
use crate::spill::{Known, Spill};
use crate::writer::Message;

/// Records in one delivery.
const GROUP_MAX: usize = 2_048;
/// How often an idle relay looks whether the log is wanted back.
const IDLE: Duration = Duration::from_millis(50);

/// The way to the process that writes the log.
pub trait Outlet: fmt::Debug + Send {
    /// Hands `records` over and waits until they are there; of each its index, or why it is not on
    /// disk. An error: nobody knows what became of them.
    fn deliver(&mut self, records: &[Unnumbered]) -> io::Result<Vec<Result<u64, Lost>>>;
}

/// What whoever lent a log may still say about it. Dropped, it says that the log is gone for good.
#[derive(Debug)]
pub struct Lender(Sender<oneshot::Sender<Result<u64, Lost>>>);

/// Promises of indices.
type Reply = oneshot::Sender<Result<u64, Lost>>;

/// The message that begins it.
#[derive(Debug)]
pub(crate) struct Lending {
    outlet: Box<dyn Outlet>,
    spill: PathBuf,
    back: Receiver<Reply>,
    lent: Option<Reply>,
}

/// The writer's work while another process writes.
pub(crate) struct Relay {
    /// Records in the log when it was lent.
    since: u64,
    encoder: Encoder,
    shared: Arc<Shared>,
    lending: Lending,
    /// Given to the outlet, or about to be.
    group: Vec<Unnumbered>,
    tickets: Vec<Option<Reply>>,
    spill: Option<Spill>,
    closing: Option<Reply>,
}

// === impl Lender ===

impl Lender {
    /// Takes the log back: opens it again and writes what the other process has not written. The
    /// other one must be gone, or have closed it. Gives the size of the log.
    pub async fn take_back(self) -> Result<u64, Lost> {
        let (reply, back) = oneshot::channel();
        let failed = || Lost::Failed("its writer is gone".into());
        self.0.send(reply).map_err(|_gone| failed())?;
        back.await.unwrap_or_else(|_| Err(failed()))
    }
}

// === impl Lending ===

impl Lending {
    pub(crate) fn new(
        outlet: Box<dyn Outlet>,
        spill: PathBuf,
    ) -> (Self, oneshot::Receiver<Result<u64, Lost>>, Lender) {
        let (reply, lent) = oneshot::channel();
        let (lender, back) = channel();
        (Self { outlet, spill, back, lent: Some(reply) }, lent, Lender(lender))
    }

    pub(crate) fn begun(&mut self, size: u64) {
        if let Some(lent) = self.lent.take() {
            lent.send(Ok(size)).unwrap_or_default();
        }
    }

    pub(crate) fn refuse(mut self, why: Lost) {
        if let Some(lent) = self.lent.take() {
            lent.send(Err(why)).unwrap_or_default();
        }
    }

    /// Who waits to hear that it begins.
    pub(crate) fn into_reply(mut self) -> Reply {
        self.lent.take().unwrap_or_else(|| oneshot::channel().0)
    }
}

// === impl Relay ===

impl Relay {
    pub(crate) fn new(since: u64, encoder: Encoder, shared: Arc<Shared>, lending: Lending) -> Self {
        let (group, tickets) = (Vec::new(), Vec::new());
        Self { since, encoder, shared, lending, group, tickets, spill: None, closing: None }
    }

    /// Delivers until the log is closed, which ends it, or is wanted back, by whom is returned.
    pub(crate) fn run(mut self, queue: &Receiver<Message>) -> Option<(Self, Reply)> {
        loop {
            if let Ok(back) = self.lending.back.try_recv() {
                return Some((self, back));
            }
            let ended = self.collect(queue);
            if let Some(back) = self.deliver() {
                return Some((self, back));
            }
            if ended {
                self.shared.end();
                if let Some(closing) = self.closing.take() {
                    closing.send(Ok(self.shared.state().size)).unwrap_or_default();
                }
                return None;
            }
        }
    }

    /// Takes what waits; whether it was the last.
    fn collect(&mut self, queue: &Receiver<Message>) -> bool {
        let mut message = match queue.recv_timeout(IDLE) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return true,
        };
        let now = self.shared.clock.now();
        while let Some(next) = message {
            let (record, ticket) = match next {
                Message::Write { record, ticket } => {
                    (self.encoder.content_unnumbered(now, &record), ticket)
                }
                Message::Pass { record, ticket } => (record, ticket),
                Message::Roll(reply) => {
                    // The successor closes segments.
                    reply.send(Err(Lost::Closed)).unwrap_or_default();
                    message = queue.try_recv().ok();
                    continue;
                }
                Message::Lend(lending) => {
                    lending.refuse(Lost::Closed);
                    message = queue.try_recv().ok();
                    continue;
                }
                Message::Close(reply) => {
                    self.closing = Some(reply);
                    message = queue.try_recv().ok();
                    continue;
                }
            };
            self.group.push(record);
            self.tickets.push(Some(ticket));
            if self.group.len() >= GROUP_MAX {
                break;
            }
            message = queue.try_recv().ok();
        }
        for gap in self.shared.take_untold() {
            self.group.push(self.encoder.encode_unnumbered(now, &Record::Gap(gap)));
            self.tickets.push(None);
        }
        self.closing.is_some()
    }

    /// Brings the group to the other process, or to the spill; who wants the log back instead.
    fn deliver(&mut self) -> Option<Reply> {
        if self.group.is_empty() {
            return None;
        }
        if self.spill.is_none() {
            match self.lending.outlet.deliver(&self.group) {
                Ok(indices) => {
                    self.acknowledge(indices);
                    return None;
                }
                Err(error) => {
                    warn!(%error, records = self.group.len(), "the successor takes no records");
                    // Whoever lent the log knows whether the other one is gone, and what then.
                    if let Ok(back) = self.lending.back.recv() {
                        return Some(back);
                    }
                }
            }
        }
        let spilled = self.spill();
        let answers = self.group.iter().map(|_| spilled.clone()).collect();
        self.acknowledge(answers);
        None
    }

    fn spill(&mut self) -> Result<u64, Lost> {
        let lost = |error: io::Error| {
            error!(%error, "records are lost: they can be written nowhere");
            Lost::Failed(error.to_string().into())
        };
        if self.spill.is_none() {
            let path = &self.lending.spill;
            warn!(file = %path.display(), "records are kept aside for the next start");
            self.spill = Some(Spill::create(path, self.since).map_err(lost)?);
        }
        let Some(spill) = &mut self.spill else { return Err(Lost::Closed) };
        spill.append(&self.group).map_err(lost)?;
        Ok(self.since)
    }

    fn acknowledge(&mut self, answers: Vec<Result<u64, Lost>>) {
        self.group.clear();
        // The record of a gap has no ticket, and took no slot.
        self.shared.free_slots(self.tickets.iter().flatten().count());
        for (ticket, answer) in self.tickets.drain(..).zip(answers) {
            // Whoever need not know has dropped the other end.
            if let Some(ticket) = ticket {
                ticket.send(answer).unwrap_or_default();
            }
        }
    }

    /// What was given away and is not in the log in `directory`, which holds still. What is there is
    /// acknowledged.
    pub(crate) fn unwritten(
        &mut self,
        directory: &Path,
    ) -> Result<Vec<(Unnumbered, Option<Reply>)>, String> {
        if self.group.is_empty() {
            return Ok(Vec::new());
        }
        let mut known = Known::since(self.since, directory).map_err(|error| error.to_string())?;
        let group = std::mem::take(&mut self.group).into_iter();
        let mut unwritten = Vec::new();
        let mut freed = 0;
        for (record, ticket) in group.zip(self.tickets.drain(..)) {
            match (known.take(&record), ticket) {
                (None, ticket) => unwritten.push((record, ticket)),
                (Some(index), Some(ticket)) => {
                    freed += 1;
                    ticket.send(Ok(index)).unwrap_or_default();
                }
                (Some(_), None) => {}
            }
        }
        self.shared.free_slots(freed);
        Ok(unwritten)
    }

    /// The encoder, tied to the same clocks.
    pub(crate) fn encoder(&self) -> Encoder {
        self.encoder.clone()
    }
}
