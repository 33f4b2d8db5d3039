//! From a decision to its effect: the one owner of blocks, on a thread of its own.
//!
//! An [`Order`] comes from the desk or from a detection rule over a bounded channel ([`ORDERS_MAX`]:
//! operators wait; a finding that meets a full channel is recorded as unanswered, and the source
//! needs a whole threshold for another). The kernel map is written first, because there an
//! attacker's next packet is decided; then layer 7, open connections, the store, the audit log. Every
//! answer says what was read back. A disk that hangs delays answers, never the request path.
//!
//! Where to look: `claims.rs` says who is to hold which slot of the kernel map, `enforce.rs` and
//! `bulk.rs` carry out single decisions and lists, `crowd.rs` what does not fit, `reconcile.rs` and
//! `rounds.rs` compare what is decided with what is enforced.

mod adopt;
mod bulk;
mod claims;
mod clock;
mod closing;
mod crowd;
mod decisions;
mod enforce;
mod export;
mod guards;
mod kernel_part;
mod lapse;
mod list_file;
mod lists;
mod orders;
mod overlaps;
mod reconcile;
mod room;
mod rounds;
mod sift;
mod singles;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod throttle;
mod throttled;
mod view;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{
    Audit, BlockChange, BlockEvent, Layer, ListChange, ListEvent, Record, Ticket,
};
use enforcer_authz::Quarantine;
use enforcer_detect::Clients;
use enforcer_kernel::{Entry, Events};
use enforcer_model::{Block, BlockId, Clock, Moment, Prefix, Role, Target, Timestamp};
use enforcer_policy::{Policy, WhenFull};
use enforcer_proxy::Connections;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

pub(crate) use bulk::Draft;
pub(crate) use decisions::Decisions;
pub(crate) use enforce::{Shut, ShutOut};
pub(crate) use guards::{ClientShare, Guards, Surroundings};
pub(crate) use kernel_part::{KernelPart, counter_name};
pub(crate) use list_file::{ListFiles, discard, draft, sha256_of};
pub(crate) use lists::{List, Lists};
pub(crate) use orders::{KernelView, ORDERS_MAX, Order, Policed, Repair};
pub(crate) use rounds::keep_going;
pub(crate) use sift::{Objections, Sifted, sift};
pub(crate) use store::Store;
pub(crate) use throttle::{Offenders, Step};
pub(crate) use throttled::ThrottledView;

use crate::handover::{Loan, Returned};

use claims::Claims;
use clock::Clocks;
use room::Room;
use rounds::Rounds;
use throttled::Throttling;

/// Ticks between two looks at what costs a walk through whole tables.
const TICKS_TO_SWEEP: u32 = 60;

/// Ticks between two looks at the host's sockets and routes: the kernel walks a large table for it.
const TICKS_TO_LOOK_AROUND: u32 = 5;

/// Ticks between two tries to write a list that could not be written.
const TICKS_TO_WRITE_LISTS: u32 = 30;

/// Decisions that moved with the clock and are on record one by one; more are only counted.
const MOVED_ON_RECORD: usize = 1_000;

/// Everything that a block touches. Owned by the responder's thread.
pub(crate) struct Responder {
    parts: Parts,
    /// What a full kernel map keeps out.
    room: Room,
    rounds: Rounds,
    throttling: Throttling,
    clocks: Clocks,
    /// As of some ticks ago, for findings: they come faster than the host's surroundings change.
    around: Surroundings,
    ticks: u32,
    /// The tick at which the kernel map was swept because it was full.
    swept: Option<u32>,
    /// Where putting back what was evicted goes on.
    putting_back: Option<Prefix>,
    /// Whether an expired block could not be cleared away; told once.
    stuck: bool,
    /// Whether sockets cannot be closed; told once.
    sockets_stay: bool,
}

/// What a responder is made of.
pub(crate) struct Parts {
    pub(crate) decisions: Decisions,
    pub(crate) lists: Lists,
    pub(crate) files: ListFiles,
    pub(crate) kernel: KernelPart,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) audit: Audit,
    pub(crate) guards: Guards,
    pub(crate) when_full: WhenFull,
    pub(crate) clients: Arc<Mutex<Clients>>,
    /// The policy in force, which says who holds a role.
    pub(crate) policy: Arc<ArcSwap<Policy>>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The system gave no random bits.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bits for a block id")]
pub(crate) struct NoEntropy;

/// A fresh id. Whoever keeps a table of them draws again on a repeat.
pub(crate) fn random_block_id() -> Result<BlockId, NoEntropy> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).or(Err(NoEntropy))?;
    Ok(BlockId::from_bits(u64::from_le_bytes(bytes)))
}

impl Responder {
    /// A responder whose never-block lists hold at layer 7 from here on.
    pub(crate) fn new(parts: Parts) -> Self {
        parts.quarantine.spare(parts.guards.networks());
        let clocks = Clocks::read(parts.clock.now().wall);
        Self {
            parts,
            room: Room::default(),
            rounds: Rounds::default(),
            throttling: Throttling::default(),
            clocks,
            around: Surroundings::read(),
            ticks: 0,
            swept: None,
            putting_back: None,
            stuck: false,
            sockets_stay: false,
        }
    }

    /// Attaches the kernel part and puts every block back; what the kernel part is, in a line, and
    /// what it will tell.
    pub(crate) fn start(&mut self) -> Result<(String, Option<Events>), Refusal> {
        let now = self.now().wall;
        self.know_aggregates();
        self.make_fit(now);
        self.attach(now);
        let described = self.parts.kernel.described();
        let events = self.parts.kernel.take_events();
        self.restore()?;
        Ok((described, events))
    }

    /// Takes orders until every sender is gone, or until what is owned here is somebody else's: then
    /// gives the orders back. What is blocked in the kernel stays so.
    pub(crate) fn work(
        mut self,
        mut orders: mpsc::Receiver<Order>,
    ) -> Option<mpsc::Receiver<Order>> {
        while let Some(order) = orders.blocking_recv() {
            if self.obey(order) == Returned::Never {
                return Some(orders);
            }
        }
        None
    }

    /// Lets go of the pins and of `blocks.db` until it is known what came of the successor. What is
    /// blocked in the kernel stays so, whoever owns it.
    fn lend(&mut self, Loan { lent, back }: Loan) -> Returned {
        self.parts.decisions.retry();
        self.parts.files.retry(&self.parts.lists);
        let now = self.parts.clock.now().wall;
        self.parts.kernel.lend(&self.parts.audit, now);
        lent.send(Ok(())).unwrap_or_default();
        let returned = back.blocking_recv().unwrap_or(Returned::Never);
        if returned == Returned::Back {
            match self.start() {
                Ok((described, _events)) => info!(described, "the kernel part is taken back"),
                Err(refusal) => {
                    warn!(error = %refusal, "the kernel part is back without all of its blocks");
                }
            }
        }
        returned
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_TO_LOOK_AROUND) {
            self.around = Surroundings::read();
        }
        let Moment { monotonic, wall: now } = self.now();
        self.end_what_is_over();
        self.hold_throttled(monotonic);
        self.end_lists_that_are_over();
        self.parts.decisions.retry();
        if self.ticks.is_multiple_of(TICKS_TO_WRITE_LISTS) {
            self.parts.files.retry(&self.parts.lists);
        }
        if self.ticks.is_multiple_of(TICKS_TO_SWEEP) {
            self.parts.quarantine.purge(now);
            self.parts.kernel.sweep();
        }
        self.put_back(now);
        self.parts.kernel.set_crowded(self.room.described());
        let claims = Claims { singles: &self.parts.decisions, lists: &self.parts.lists, now };
        let room = &self.room;
        let blocks = || entries(claims, room);
        let change = self.parts.kernel.look_after(&self.parts.audit, now, &blocks);
        if change == kernel_part::Change::Regained
            && let Err(refusal) = self.verify(Repair::Mend)
        {
            warn!(error = %refusal, "the kernel part is back without its blocks");
        }
    }

    fn attach(&mut self, now: Timestamp) {
        let claims = Claims { singles: &self.parts.decisions, lists: &self.parts.lists, now };
        let room = &self.room;
        self.parts.kernel.attach(&|| entries(claims, room));
    }

    /// Everything that is decided.
    fn claims(&self, now: Timestamp) -> Claims<'_> {
        Claims { singles: &self.parts.decisions, lists: &self.parts.lists, now }
    }

    /// The present moment. When the wall clock was set since the last one, every end moves along.
    fn now(&mut self) -> Moment {
        let now = self.parts.clock.now();
        let clocks = Clocks::read(now.wall);
        if let Some(jump) = self.clocks.jump(clocks) {
            warn!(%jump, "every end moves along: the time that is left stays what it was");
            self.parts.decisions.shift(jump);
            self.parts.lists.shift(jump);
            self.hold_at_layer7(&jump.to_string());
        }
        self.clocks = clocks;
        now
    }

    /// Layer 7 and the log learn of ends that moved.
    fn hold_at_layer7(&mut self, why: &str) {
        for (at, block) in self.parts.decisions.all().enumerate() {
            if let Err(full) = self.parts.quarantine.insert(block) {
                debug!(id = %block.id, %full, "layer 7 does not take the block");
            }
            if at < MOVED_ON_RECORD {
                drop(self.note(
                    BlockEvent::Reconciled,
                    block,
                    Vec::new(),
                    None,
                    Some(why.to_owned()),
                ));
            }
        }
        self.parts.quarantine.set_lists(self.parts.lists.listed());
        for list in self.parts.lists.all() {
            self.parts.files.is_behind(list.name.as_str());
            let detail = Some(why.to_owned());
            drop(self.note_list(ListChange { detail, ..list.record(ListEvent::Reconciled) }));
        }
    }

    /// Puts a new policy's guards in force, and says what of it is not.
    fn reguard(&mut self, policed: Policed) -> Vec<String> {
        let Policed { guards, when_full, kernel } = policed;
        self.parts.guards = guards;
        self.parts.when_full = when_full;
        let allow = self.parts.guards.networks();
        let mut problems = self.parts.kernel.reconfigure(kernel.as_ref(), &allow);
        self.parts.quarantine.spare(allow);
        problems.extend(self.release_protected());
        problems
    }

    /// A list that grows lifts the blocks that it covers; says which it could not lift.
    pub(crate) fn release_protected(&mut self) -> Vec<String> {
        let now = self.parts.clock.now().wall;
        let mut protected: Vec<(Block, String)> = Vec::new();
        for (list, networks) in &self.parts.guards.never_block {
            for network in networks {
                let exactly = self.parts.decisions.by_target(&Target::Network(*network));
                let inside = self.parts.decisions.inside(*network, now).map(|(_, block)| block);
                let why = || format!("covered by the never-block list `{list}`");
                protected.extend(exactly.into_iter().chain(inside).map(|b| (b.clone(), why())));
            }
        }
        // A network can stand on two lists.
        protected.sort_unstable_by_key(|(block, _)| block.id);
        protected.dedup_by_key(|(block, _)| block.id);
        let lifted = protected.into_iter().map(|(block, detail)| {
            self.end(&block, BlockEvent::Released, Some(detail))
                .err()
                .map(|refusal| format!("{} of {} is not lifted: {refusal}", block.id, block.target))
        });
        lifted.flatten().collect()
    }

    fn objections(&self, target: &Target, around: &Surroundings, now: Moment) -> Vec<String> {
        let clients = self.parts.clients.lock();
        let share = |(hit, all)| ClientShare { hit, all };
        match target {
            Target::Network(prefix) => {
                let share = share(clients.share(*prefix, now.monotonic));
                drop(clients);
                self.parts.guards.objections(*prefix, around, share)
            }
            Target::Role(role) => {
                let policy = self.parts.policy.load();
                // Whoever has a role that includes it has it as well.
                let holders = policy.roles().satisfying(role).ok();
                let is_hit = |held: &Role| holders.is_some_and(|roles| roles.contains(held));
                let share = share(clients.share_of_role(is_hit, now.monotonic));
                self.parts.guards.too_many_callers(share).into_iter().collect()
            }
            Target::Ja4(ja4) => {
                let share = share(clients.share_of_ja4(ja4, now.monotonic));
                self.parts.guards.too_many_callers(share).into_iter().collect()
            }
            // One caller, or one credential of one, is what a block is for.
            Target::Key(_) | Target::Token(_) | Target::User(_) => Vec::new(),
        }
    }

    fn kernel_off(&self, target: &Target) -> Option<String> {
        target.network().and_then(|_| self.parts.kernel.off_because())
    }

    fn holds_at_layer7(&self, block: &Block) -> bool {
        self.parts.quarantine.find(&block.target).is_some_and(|(id, _)| id == block.id)
    }

    fn layers(&self, in_kernel: Option<&[Layer]>, at_layer7: Option<Layer>) -> Vec<Layer> {
        in_kernel.into_iter().flatten().cloned().chain(at_layer7).collect()
    }

    /// Writes a record; a log that takes none does not keep a block from acting.
    fn note(
        &self,
        what: BlockEvent,
        block: &Block,
        layers: Vec<Layer>,
        took: Option<Duration>,
        detail: Option<String>,
    ) -> Option<Ticket> {
        self.record(Record::Block(BlockChange { what, block: block.clone(), layers, took, detail }))
    }

    fn note_list(&self, change: ListChange) -> Option<Ticket> {
        self.record(Record::List(Box::new(change)))
    }

    fn record(&self, record: Record) -> Option<Ticket> {
        match self.parts.audit.reserve() {
            Ok(slot) => Some(slot.write(record)),
            Err(error) => {
                debug!(%error, class = record.class(), "a change is not on record");
                None
            }
        }
    }

    /// An id that nothing has.
    fn fresh_id(&self) -> Result<BlockId, Refusal> {
        let is_taken =
            |id| self.parts.decisions.by_id(id).is_some() || self.parts.lists.by_id(id).is_some();
        let draw = || random_block_id().map_err(|error| failed(error.to_string()));
        let mut id = draw()?;
        while is_taken(id) {
            id = draw()?;
        }
        Ok(id)
    }
}

/// Every slot that is to be held in the kernel, for an attach.
fn entries(claims: Claims<'_>, room: &Room) -> Vec<(Prefix, Entry)> {
    let held = claims.all().filter(|(prefix, _)| !room.is_out(*prefix));
    held.map(|(prefix, claim)| (prefix, claim.entry(claims.now))).collect()
}

fn failed(message: String) -> Refusal {
    Refusal::new(RefusalKind::Failed, message)
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Microseconds, saturating.
pub(crate) fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
