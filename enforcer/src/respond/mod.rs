//! From a decision to its effect: the one owner of blocks, on a thread of its own.
//!
//! An [`Order`] comes from the desk or from a detection rule over a bounded channel ([`ORDERS_MAX`]:
//! operators wait; a finding that meets a full channel is recorded as unanswered, and the source
//! needs a whole threshold for another). The kernel map is written first, because there an
//! attacker's next packet is decided; then layer 7, open connections, the store, the audit log. Every
//! answer says what was read back. A disk that hangs delays answers, never the request path.

mod decisions;
mod enforce;
mod guards;
mod kernel_part;
mod reconcile;
mod store;
mod view;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::call::{self, BlockRow, Blocked, Released, Which, Why};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{Audit, BlockChange, BlockEvent, Layer, Record, Ticket};
use enforcer_authz::Quarantine;
use enforcer_detect::Clients;
use enforcer_kernel::Counters;
use enforcer_model::{Author, Block, BlockId, Clock, Finding, KeyId, Moment, Prefix, Target};
use enforcer_proxy::Connections;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

pub(crate) use decisions::Decisions;
pub(crate) use guards::{ClientShare, Guards, Surroundings};
pub(crate) use kernel_part::KernelPart;
pub(crate) use store::Store;

/// Orders that may wait for the responder.
pub(crate) const ORDERS_MAX: usize = 1_024;

/// Ticks between two looks at what costs a walk through whole tables.
const TICKS_TO_SWEEP: u32 = 60;

/// What the responder is asked to do.
#[derive(Debug)]
pub(crate) enum Order {
    Quarantine {
        asked: call::Quarantine,
        by: Author,
        reply: Reply<(Blocked, Option<Ticket>)>,
    },
    Answer {
        finding: Finding,
        reply: oneshot::Sender<Result<BlockId, String>>,
    },
    Release {
        what: Which,
        reason: Option<String>,
        by: Author,
        reply: Reply<(Released, Option<Ticket>)>,
    },
    List {
        reply: Reply<Vec<BlockRow>>,
    },
    Why {
        address: IpAddr,
        reply: Reply<Why>,
    },
    Verify {
        repair: Repair,
        reply: Reply<call::Verified>,
    },
    Kernel {
        reply: Reply<KernelView>,
    },
    /// Cuts the requests in flight of a key that was revoked.
    Cut {
        key: KeyId,
        reply: Reply<()>,
    },
    /// Closes the connections of a source that a rule has blocked.
    Close {
        prefix: Prefix,
    },
    /// Ends what is over, looks after the interfaces.
    Tick,
    /// A new policy: its guards, and what it changes in the kernel half. The answer says what of it
    /// is not in force.
    Reguard {
        guards: Guards,
        kernel: Option<enforcer_kernel::Config>,
        reply: oneshot::Sender<Vec<String>>,
    },
}

/// Whether differences are only told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    Tell,
    Mend,
}

type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// The kernel half at one moment.
#[derive(Debug)]
pub(crate) struct KernelView {
    pub(crate) mode: String,
    pub(crate) problem: Option<String>,
    pub(crate) interfaces: Vec<String>,
    pub(crate) counters: Option<Counters>,
    pub(crate) blocks: u64,
}

/// Everything that a block touches. Owned by the responder's thread.
pub(crate) struct Responder {
    parts: Parts,
    /// As of the last tick, for findings: they come faster than the host's surroundings change.
    around: Surroundings,
    ticks: u32,
    /// Whether an expired block could not be cleared away; told once.
    stuck: bool,
}

/// What a responder is made of.
pub(crate) struct Parts {
    pub(crate) decisions: Decisions,
    pub(crate) kernel: KernelPart,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) audit: Audit,
    pub(crate) guards: Guards,
    pub(crate) clients: Arc<Mutex<Clients>>,
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
        Self { parts, around: Surroundings::read(), ticks: 0, stuck: false }
    }

    /// Takes orders until every sender is gone. What is blocked in the kernel stays so.
    pub(crate) fn work(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.blocking_recv() {
            self.obey(order);
        }
    }

    fn obey(&mut self, order: Order) {
        // Whoever asked may be gone by the time of the answer; the deed stands.
        match order {
            Order::Quarantine { asked, by, reply } => {
                drop(reply.send(self.quarantine(&asked, by)));
            }
            Order::Answer { finding, reply } => drop(reply.send(self.answer(&finding))),
            Order::Release { what, reason, by, reply } => {
                drop(reply.send(self.release(what, reason.as_deref(), &by)));
            }
            Order::List { reply } => drop(reply.send(self.list())),
            Order::Why { address, reply } => drop(reply.send(self.why(address))),
            Order::Verify { repair, reply } => drop(reply.send(self.verify(repair))),
            Order::Kernel { reply } => drop(reply.send(Ok(self.view()))),
            Order::Cut { key, reply } => {
                self.parts.connections.close_key(key);
                drop(reply.send(Ok(())));
            }
            Order::Close { prefix } => {
                let closed = self.close_from(prefix);
                debug!(closed, "connections of a blocked source are closed");
            }
            Order::Tick => self.tick(),
            Order::Reguard { guards, kernel, reply } => {
                drop(reply.send(self.reguard(guards, kernel.as_ref())));
            }
        }
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        self.around = Surroundings::read();
        self.end_what_is_over();
        self.parts.decisions.retry();
        let now = self.parts.clock.now().wall;
        if self.ticks.is_multiple_of(TICKS_TO_SWEEP) {
            self.parts.quarantine.purge(now);
            self.parts.kernel.sweep();
        }
        if self.parts.kernel.look_after(&self.parts.audit, now) == kernel_part::Change::Regained
            && let Err(refusal) = self.verify(Repair::Mend)
        {
            warn!(error = %refusal, "the kernel part is back without its blocks");
        }
    }

    /// Puts a new policy's guards in force, and says what of it is not.
    fn reguard(&mut self, guards: Guards, kernel: Option<&enforcer_kernel::Config>) -> Vec<String> {
        self.parts.guards = guards;
        let allow = self.parts.guards.networks();
        let mut problems = self.parts.kernel.reconfigure(kernel, &allow);
        self.parts.quarantine.spare(allow);
        problems.extend(self.release_protected());
        problems
    }

    /// A list that grows lifts the blocks that it covers; says which it could not lift.
    pub(crate) fn release_protected(&mut self) -> Vec<String> {
        let protected: Vec<(Block, String)> = self
            .parts
            .decisions
            .all()
            .filter_map(|block| {
                let Target::Network(prefix) = block.target else { return None };
                let list = self.parts.guards.never_blocks(prefix)?;
                Some((block.clone(), format!("covered by the never-block list `{list}`")))
            })
            .collect();
        let lifted = protected.into_iter().map(|(block, detail)| {
            self.end(&block, BlockEvent::Released, Some(detail))
                .err()
                .map(|refusal| format!("{} of {} is not lifted: {refusal}", block.id, block.target))
        });
        lifted.flatten().collect()
    }

    fn objections(&self, target: Target, around: &Surroundings, now: Moment) -> Vec<String> {
        let Target::Network(prefix) = target else { return Vec::new() };
        let (hit, all) = self.parts.clients.lock().share(prefix, now.monotonic);
        self.parts.guards.objections(prefix, around, ClientShare { hit, all })
    }

    fn close_from(&self, prefix: Prefix) -> usize {
        let spared = |address| self.parts.quarantine.is_spared(address);
        self.parts.connections.close_from(prefix, spared)
    }

    fn kernel_off(&self, target: Target) -> Option<String> {
        match target {
            Target::Network(_) => self.parts.kernel.off_because(),
            Target::Key(_) => None,
        }
    }

    fn holds_at_layer7(&self, block: &Block) -> bool {
        self.parts.quarantine.find(block.target).is_some_and(|(id, _)| id == block.id)
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
        let change = BlockChange { what, block: block.clone(), layers, took, detail };
        match self.parts.audit.reserve() {
            Ok(slot) => Some(slot.write(Record::Block(change))),
            Err(error) => {
                debug!(id = %block.id, %error, "a change of a block is not on record");
                None
            }
        }
    }
}

fn failed(message: String) -> Refusal {
    Refusal::new(RefusalKind::Failed, message)
}

/// Microseconds, saturating.
pub(crate) fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
