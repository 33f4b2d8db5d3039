//! From a decision to its effect: the one owner of blocks, on a thread of its own.
//!
//! An [`Order`] comes from the admin socket or from a detection rule over a bounded channel
//! ([`ORDERS_MAX`]; operators wait, a rule's finding is dropped with a count, and the next failure
//! makes another). The kernel map is written first, because there an attacker's next packet is
//! decided; then layer 7, open connections, the store on disk, the audit log. Every answer says what
//! was read back. A file system that hangs delays answers, never the request path.

mod guards;
mod kernel_part;
mod reconcile;
mod store;

use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::call::{self, BlockRow, Blocked, Released, Which, Why};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{Audit, BlockChange, BlockEvent, Layer, Record, Ticket};
use enforcer_authz::Quarantine;
use enforcer_detect::Clients;
use enforcer_kernel::Counters;
use enforcer_model::{
    Author, Block, BlockId, Clock, Expiry, Finding, KeyId, Moment, Prefix, Target,
};
use enforcer_proxy::Connections;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

pub(crate) use guards::{ClientShare, Guards, Surroundings};
pub(crate) use kernel_part::KernelPart;
pub(crate) use store::Store;

/// Orders that may wait for the responder.
pub(crate) const ORDERS_MAX: usize = 1_024;

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
        address: std::net::IpAddr,
        reply: Reply<Why>,
    },
    Verify {
        repair: bool,
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
    /// A new policy: its guards, and what it changes in the kernel half.
    Reguard {
        guards: Guards,
        kernel: Option<enforcer_kernel::Config>,
        reply: oneshot::Sender<()>,
    },
}

/// When open connections of a blocked source are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connected {
    AtOnce,
    Later,
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
    pub(crate) store: Store,
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

/// A fresh id; 35 random bits, so a repeat among a million blocks is unlikely and caught by the
/// store.
pub(crate) fn random_block_id() -> Result<BlockId, NoEntropy> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).or(Err(NoEntropy))?;
    Ok(BlockId::from_bits(u64::from_le_bytes(bytes)))
}

impl Responder {
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
            Order::Kernel { reply } => drop(reply.send(self.view())),
            Order::Cut { key, reply } => {
                self.connections.close_key(key);
                drop(reply.send(Ok(())));
            }
            Order::Close { prefix } => {
                let closed = self.connections.close_from(prefix);
                debug!(closed, "connections of a blocked source are closed");
            }
            Order::Tick => self.tick(),
            Order::Reguard { guards, kernel, reply } => {
                self.reguard(guards, kernel.as_ref());
                reply.send(()).unwrap_or_default();
            }
        }
    }

    fn quarantine(
        &mut self,
        asked: &call::Quarantine,
        by: Author,
    ) -> Result<(Blocked, Option<Ticket>), Refusal> {
        let now = self.clock.now();
        let objections = self.objections(asked.target, asked.ssh_peer, now);
        let overridden = asked.override_guard == Some(asked.target);
        let block = self.block(
            asked.target,
            asked.reason.clone(),
            by,
            asked.ttl_seconds.map(Duration::from_secs),
            now,
        )?;
        if !objections.is_empty() && !overridden {
            self.note(BlockEvent::Refused, &block, Vec::new(), None, Some(objections.join("; ")));
            return Err(guarded(asked.target, objections));
        }
        if let Target::Network(prefix) = asked.target
            && let Some(list) = self.guards.never_blocks(prefix)
        {
            // The kernel's allow map wins over every block: saying "blocked" would be a lie.
            return Err(guarded(asked.target, objections)
                .hint(format!("take it off the never-block list `{list}` in the policy first")));
        }
        if asked.dry_run {
            return Ok((self.rehearsal(block, objections), None));
        }
        let (mut blocked, ticket) = self.enforce(block, Connected::AtOnce, now)?;
        blocked.overridden = objections;
        Ok((blocked, ticket))
    }

    /// A rule's finding becomes a block, unless a guard stands against it.
    ///
    /// Open connections are closed a moment later, by [`Order::Close`]: the answer to the request
    /// that crossed the threshold may still wait for its record to be on disk.
    fn answer(&mut self, finding: &Finding) -> Result<BlockId, String> {
        let now = self.clock.now();
        let target = Target::Network(finding.target);
        let objections = self.objections(target, None, now);
        let reason = finding.failures.to_string();
        let author = Author::Rule(finding.rule.clone());
        let block = self
            .block(target, reason, author, Some(finding.ttl), now)
            .map_err(|refusal| refusal.message)?;
        if !objections.is_empty() {
            let detail = objections.join("; ");
            self.note(BlockEvent::Refused, &block, Vec::new(), None, Some(detail.clone()));
            return Err(format!("refused by a guard: {detail}"));
        }
        // A rule never shortens what stands already.
        if let Ok(Some(standing)) = self.store.by_target(target)
            && outlasts(standing.until, block.until)
            && self.is_enforced(&standing)
        {
            return Ok(standing.id);
        }
        let (blocked, _) =
            self.enforce(block, Connected::Later, now).map_err(|refusal| refusal.message)?;
        info!(target = %blocked.block.target, id = %blocked.block.id, rule = finding.rule, "blocked");
        Ok(blocked.block.id)
    }

    fn block(
        &self,
        target: Target,
        reason: String,
        author: Author,
        ttl: Option<Duration>,
        now: Moment,
    ) -> Result<Block, Refusal> {
        let id = random_block_id().map_err(failed)?;
        let until = ttl.map_or(Expiry::Never, |ttl| Expiry::At(now.wall.saturating_add(ttl)));
        Ok(Block { id, target, reason, author, since: now.wall, until })
    }

    fn rehearsal(&self, block: Block, overridden: Vec<String>) -> Blocked {
        Blocked {
            kernel_off: self.kernel_off(block.target),
            kernel_wanted: self.kernel.is_wanted(),
            block,
            replaced: None,
            kernel: None,
            layer7: false,
            connections_closed: 0,
            audit: None,
            dry_run: true,
            overridden,
        }
    }

    /// Puts `block` in force, kernel first, and reads back what holds.
    fn enforce(
        &mut self,
        block: Block,
        connected: Connected,
        now: Moment,
    ) -> Result<(Blocked, Option<Ticket>), Refusal> {
        let replaced = self.store.by_target(block.target).map_err(failed)?.map(|old| old.id);
        let mut kernel_off = self.kernel_off(block.target);
        let mut kernel = None;
        if let Target::Network(prefix) = block.target
            && kernel_off.is_none()
        {
            let installed = self.kernel.block(prefix, &block, now.wall);
            let took = self.clock.now().monotonic.saturating_duration_since(now.monotonic);
            match installed {
                Ok(installed) => kernel = Some(self.kernel.describe(&installed, Some(took))),
                Err(error) => kernel_off = Some(error),
            }
        }
        if let Err(full) = self.quarantine.insert(&block) {
            warn!(error = %full, "layer 7 does not hold the block");
        }
        let connections_closed = match connected {
            Connected::AtOnce => self.close_connections(block.target),
            Connected::Later => 0,
        };
        self.store.put(&block).map_err(|error| {
            failed(error).hint(
                "the block is in force and will be forgotten at the next start; free the disk and repeat",
            )
        })?;
        let layer7 = self.holds_at_layer7(&block);
        let took = self.clock.now().monotonic.saturating_duration_since(now.monotonic);
        let layers = self.layers(kernel.is_some(), layer7);
        let ticket = self.note(BlockEvent::Applied, &block, layers, Some(took), kernel_off.clone());
        let blocked = Blocked {
            block,
            replaced,
            kernel,
            kernel_off,
            kernel_wanted: self.kernel.is_wanted(),
            layer7,
            connections_closed,
            audit: None,
            dry_run: false,
            overridden: Vec::new(),
        };
        Ok((blocked, ticket))
    }

    fn release(
        &mut self,
        what: Which,
        reason: Option<&str>,
        by: &Author,
    ) -> Result<(Released, Option<Ticket>), Refusal> {
        let found = match what {
            Which::Id(id) => self.store.by_id(id),
            Which::Target(target) => self.store.by_target(target),
        };
        let block = found.map_err(failed)?.ok_or_else(|| {
            let what = match what {
                Which::Id(id) => id.to_string(),
                Which::Target(target) => target.to_string(),
            };
            Refusal::new(RefusalKind::NotFound, format!("nothing is blocked as {what}"))
                .hint("`enforcer blocks` lists what is; `enforcer blocks --why ADDRESS` finds the network that covers an address")
        })?;
        let detail = match reason {
            Some(reason) => format!("by {by}: {reason}"),
            None => format!("by {by}"),
        };
        self.end(&block, BlockEvent::Released, Some(detail))
    }

    /// Takes `block` out of every layer, the kernel last: while one layer fails, the other holds.
    fn end(
        &mut self,
        block: &Block,
        event: BlockEvent,
        detail: Option<String>,
    ) -> Result<(Released, Option<Ticket>), Refusal> {
        let layer7 = self.quarantine.remove(block.target);
        let mut packets = 0;
        let mut in_kernel = false;
        if let Target::Network(prefix) = block.target
            && let Some(entry) = self.kernel.release(prefix).map_err(failed_text)?
        {
            in_kernel = true;
            packets = entry.packets;
        }
        self.store.remove(block.id).map_err(failed)?;
        let layers = self.layers(in_kernel, layer7);
        let ticket = self.note(event, block, layers, None, detail);
        let released =
            Released { block: block.clone(), kernel: in_kernel, packets, layer7, audit: None };
        Ok((released, ticket))
    }

    fn list(&self) -> Result<Vec<BlockRow>, Refusal> {
        let now = self.clock.now().wall;
        let blocks = self.store.all().map_err(failed)?;
        let current = blocks.into_iter().filter(|block| !block.until.is_over(now));
        current.map(|block| self.row(block)).collect()
    }

    fn row(&self, block: Block) -> Result<BlockRow, Refusal> {
        let kernel = match block.target {
            Target::Network(prefix) => self.kernel.find(prefix).map_err(failed_text)?,
            Target::Key(_) => None,
        };
        let kernel = kernel
            .filter(|entry| entry.id == block.id)
            .map(|entry| self.kernel.describe(&entry, None));
        Ok(BlockRow { layer7: self.holds_at_layer7(&block), kernel, block })
    }

    fn why(&self, address: std::net::IpAddr) -> Result<Why, Refusal> {
        let address = address.to_canonical();
        let covers = |row: &BlockRow| match row.block.target {
            Target::Network(prefix) => prefix.contains(address),
            Target::Key(_) => false,
        };
        let blocks: Vec<_> = self.list()?.into_iter().filter(covers).collect();
        let lists = &self.guards.never_block;
        let protected_by: Vec<_> = lists
            .iter()
            .filter(|(_, prefixes)| prefixes.iter().any(|prefix| prefix.contains(address)))
            .map(|(name, _)| format!("never-block list `{name}`"))
            .collect();
        let dropping = blocks.iter().find(|row| row.kernel.as_ref().is_some_and(|k| !k.observe));
        let (verdict, because) = if let Some(list) = protected_by.first() {
            ("pass", format!("protected by {list}, which wins over every block"))
        } else if let Some(row) = dropping {
            ("drop", format!("block {} of {}, in the kernel", row.block.id, row.block.target))
        } else if let Some(row) = blocks.iter().find(|row| row.layer7) {
            ("refuse", format!("block {} of {}, at layer 7", row.block.id, row.block.target))
        } else {
            ("pass", "no block covers it".to_owned())
        };
        Ok(Why { address, verdict: verdict.to_owned(), because, protected_by, blocks })
    }

    fn view(&self) -> Result<KernelView, Refusal> {
        let blocks = self.store.all().map_err(failed)?.len();
        Ok(self.kernel.view(u64::try_from(blocks).unwrap_or(u64::MAX)))
    }

    fn tick(&mut self) {
        let now = self.clock.now().wall;
        match self.store.over(now) {
            Ok(over) => {
                for block in over {
                    if let Err(refusal) = self.end(&block, BlockEvent::Expired, None) {
                        warn!(id = %block.id, error = %refusal, "an expired block was not cleared away");
                    }
                }
            }
            Err(error) => warn!(%error, "the decisions cannot be read"),
        }
        self.quarantine.purge(now);
        self.kernel.look_after(&self.audit, now);
    }

    fn reguard(&mut self, guards: Guards, kernel: Option<&enforcer_kernel::Config>) {
        self.guards = guards;
        let allow: Vec<Prefix> =
            self.guards.never_block.iter().flat_map(|(_, prefixes)| prefixes.clone()).collect();
        self.kernel.reconfigure(kernel, &allow);
        self.release_protected();
    }

    /// A list that grows lifts the blocks that it covers.
    pub(crate) fn release_protected(&mut self) {
        let blocks = self.store.all().unwrap_or_default();
        for block in blocks {
            let Target::Network(prefix) = block.target else { continue };
            let Some(list) = self.guards.never_blocks(prefix) else { continue };
            let detail = format!("covered by the never-block list `{list}`");
            if let Err(refusal) = self.end(&block, BlockEvent::Released, Some(detail)) {
                warn!(id = %block.id, error = %refusal, "a protected block was not lifted");
            }
        }
    }

    fn objections(
        &self,
        target: Target,
        ssh_peer: Option<std::net::IpAddr>,
        now: Moment,
    ) -> Vec<String> {
        let Target::Network(prefix) = target else { return Vec::new() };
        let mut around = Surroundings::read();
        around.ssh_peers.extend(ssh_peer.map(|peer| peer.to_canonical()));
        around.ssh_peers.sort_unstable();
        around.ssh_peers.dedup();
        let (hit, all) = self.clients.lock().share(prefix, now.monotonic);
        self.guards.objections(prefix, &around, ClientShare { hit, all })
    }

    fn close_connections(&self, target: Target) -> u64 {
        let closed = match target {
            Target::Network(prefix) => self.connections.close_from(prefix),
            Target::Key(key) => self.connections.close_key(key),
        };
        u64::try_from(closed).unwrap_or(u64::MAX)
    }

    fn kernel_off(&self, target: Target) -> Option<String> {
        match target {
            Target::Network(_) => self.kernel.off_because(),
            Target::Key(_) => None,
        }
    }

    fn holds_at_layer7(&self, block: &Block) -> bool {
        self.quarantine.find(block.target).is_some_and(|(id, _)| id == block.id)
    }

    fn is_enforced(&self, block: &Block) -> bool {
        let in_kernel = match block.target {
            Target::Network(prefix) if self.kernel.off_because().is_none() => {
                matches!(self.kernel.find(prefix), Ok(Some(entry)) if entry.id == block.id)
            }
            Target::Network(_) | Target::Key(_) => true,
        };
        in_kernel && self.holds_at_layer7(block)
    }

    fn layers(&self, in_kernel: bool, at_layer7: bool) -> Vec<Layer> {
        let mut layers = if in_kernel { self.kernel.layers() } else { Vec::new() };
        if at_layer7 {
            layers.push(Layer::Proxy);
        }
        layers
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
        match self.audit.reserve() {
            Ok(slot) => Some(slot.write(Record::Block(change))),
            Err(error) => {
                warn!(id = %block.id, %error, "a change of a block is not on record");
                None
            }
        }
    }
}

fn outlasts(standing: Expiry, other: Expiry) -> bool {
    match (standing, other) {
        (Expiry::Never, _) => true,
        (Expiry::At(_), Expiry::Never) => false,
        (Expiry::At(standing), Expiry::At(other)) => standing >= other,
    }
}

fn guarded(target: Target, objections: Vec<String>) -> Refusal {
    Refusal::new(RefusalKind::Guarded, format!("{target} contains protected addresses:"))
        .details(objections)
        .hint("narrow it, or say --override-guard (asks for the target again; recorded)")
}

fn failed(error: impl std::error::Error) -> Refusal {
    let mut message = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        message = format!("{message}: {cause}");
        next = cause.source();
    }
    Refusal::new(RefusalKind::Failed, message)
}

fn failed_text(message: String) -> Refusal {
    Refusal::new(RefusalKind::Failed, message)
}

/// Microseconds, saturating.
pub(crate) fn as_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
