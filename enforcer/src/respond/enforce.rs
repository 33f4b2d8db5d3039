//! How a block comes and goes: every layer in its order, and what each of them says.

use std::time::Duration;

use enforcer_admin::call::{self, Blocked, Released, Which};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{BlockEvent, Layer, Ticket};
use enforcer_model::{Author, Block, BlockId, Expiry, Finding, Moment, Target};
use tracing::{info, warn};

use super::{Responder, Surroundings, failed, random_block_id};

/// The kernel ends a block by its own clock; so far the wall clock may be off without being wrong.
const CLOCKS_AGREE: Duration = Duration::from_secs(2);

/// When open connections of a blocked source are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connected {
    AtOnce,
    Later,
}

impl Responder {
    pub(super) fn quarantine(
        &mut self,
        asked: &call::Quarantine,
        by: Author,
    ) -> Result<(Blocked, Option<Ticket>), Refusal> {
        let now = self.parts.clock.now();
        let mut around = Surroundings::read();
        around.ssh_peers.extend(asked.ssh_peer.map(|peer| peer.to_canonical()));
        around.ssh_peers.sort_unstable();
        around.ssh_peers.dedup();
        let objections = self.objections(asked.target, &around, now);
        let ttl = asked.ttl_seconds.map(Duration::from_secs);
        let block = self.draft(asked.target, asked.reason.clone(), by, ttl, now)?;

        if let Target::Network(prefix) = asked.target
            && let Some(list) = self.parts.guards.never_blocks(prefix)
        {
            // The kernel's allow map wins over every block: saying "blocked" would be a lie.
            let hint = format!("take it off the never-block list `{list}` in the policy first");
            return Err(self.refuse(&block, objections).hint(hint));
        }
        if !objections.is_empty() && asked.override_guard != Some(asked.target) {
            return Err(self.refuse(&block, objections));
        }
        if asked.dry_run {
            return Ok((self.rehearsal(block, objections), None));
        }
        self.enforce(block, Connected::AtOnce, objections, now)
    }

    /// A rule's finding becomes a block, unless a guard stands against it.
    ///
    /// Open connections are closed a moment later, by [`super::Order::Close`]: the answer to the
    /// request that crossed the threshold may still wait for its record to be on disk.
    pub(super) fn answer(&mut self, finding: &Finding) -> Result<BlockId, String> {
        let now = self.parts.clock.now();
        let target = Target::Network(finding.target);
        let objections = self.objections(target, &self.around, now);
        let author = Author::Rule(finding.rule.clone());
        let mut block = self
            .draft(target, finding.failures.to_string(), author, Some(finding.ttl), now)
            .map_err(|refusal| refusal.message)?;
        if !objections.is_empty() {
            let detail = objections.join("; ");
            self.refuse(&block, objections);
            return Err(format!("refused by a guard: {detail}"));
        }
        // A rule never shortens what stands already.
        if let Some(standing) = self.parts.decisions.by_target(target)
            && outlasts(standing.until, block.until)
        {
            if self.is_enforced(standing) {
                return Ok(standing.id);
            }
            block = standing.clone();
        }
        let enforced = self.enforce(block, Connected::Later, Vec::new(), now);
        let (blocked, _) = enforced.map_err(|refusal| refusal.message)?;
        info!(id = %blocked.block.id, rule = finding.rule, "a source is blocked");
        Ok(blocked.block.id)
    }

    pub(super) fn release(
        &mut self,
        what: Which,
        reason: Option<&str>,
        by: &Author,
    ) -> Result<(Released, Option<Ticket>), Refusal> {
        let found = match what {
            Which::Id(id) => self.parts.decisions.by_id(id),
            Which::Target(target) => self.parts.decisions.by_target(target),
        };
        let block = found.cloned().ok_or_else(|| {
            Refusal::new(RefusalKind::NotFound, format!("nothing is blocked as {what}")).hint(
                "`enforcer blocks` lists what is; `enforcer blocks --why ADDRESS` finds the \
                 network that covers an address",
            )
        })?;
        let detail = match reason {
            Some(reason) => format!("by {by}: {reason}"),
            None => format!("by {by}"),
        };
        self.end(&block, BlockEvent::Released, Some(detail))
    }

    /// Takes `block` out of every layer. The kernel first: when it refuses, nothing has changed.
    pub(super) fn end(
        &mut self,
        block: &Block,
        event: BlockEvent,
        detail: Option<String>,
    ) -> Result<(Released, Option<Ticket>), Refusal> {
        let removed = match block.target {
            Target::Network(prefix) => self.parts.kernel.release(prefix).map_err(failed)?,
            Target::Key(_) => None,
        };
        let layer7 = self.parts.quarantine.remove(block.target);
        let unwritten = self.parts.decisions.remove(block.target);

        let in_kernel = removed.map(|_| self.parts.kernel.layers());
        let layers = self.layers(in_kernel.as_deref(), layer7.then_some(Layer::Proxy));
        let ticket = self.note(event, block, layers, None, detail);
        let problems = unwritten
            .into_iter()
            .map(|why| format!("{why}: until that works, a restart would bring the block back"));
        let released = Released {
            block: block.clone(),
            kernel: removed.is_some(),
            packets: removed.map_or(0, |entry| entry.packets),
            layer7,
            problems: problems.collect(),
            audit: None,
        };
        Ok((released, ticket))
    }

    /// Clears away what is over. A wall clock that jumped ahead ends nothing: in the kernel the time
    /// goes on as it did, and the decision follows it.
    pub(super) fn end_what_is_over(&mut self) {
        let now = self.parts.clock.now().wall;
        let over = |block: &&Block| block.until.is_over(now);
        let over: Vec<Block> = self.parts.decisions.all().filter(over).cloned().collect();
        let mut trouble = None;
        for mut block in over {
            let held = match block.target {
                Target::Network(prefix) => self.parts.kernel.find(prefix).ok().flatten(),
                Target::Key(_) => None,
            };
            let left = held.filter(|entry| entry.id == block.id).and_then(|entry| entry.remaining);
            if let Some(left) = left.filter(|left| *left > CLOCKS_AGREE) {
                block.until = Expiry::At(now.saturating_add(left));
                self.adopt(&block, "the wall clock was set ahead; the kernel's time counts");
            } else if let Err(refusal) = self.end(&block, BlockEvent::Expired, None) {
                trouble = Some(refusal);
            }
        }
        if let Some(refusal) = &trouble
            && !self.stuck
        {
            warn!(error = %refusal, "an expired block is not cleared away; tried again each second");
        }
        self.stuck = trouble.is_some();
    }

    /// Takes over what holds in the kernel as a decision.
    pub(super) fn adopt(&mut self, block: &Block, why: &str) {
        if let Err(full) = self.parts.quarantine.insert(block) {
            warn!(id = %block.id, error = %full, "layer 7 does not take the block");
        }
        // What cannot be written is tried again at each tick.
        drop(self.parts.decisions.put(block.clone()));
        let layers = self.layers(Some(&self.parts.kernel.layers()), self.proxy_layer(block));
        drop(self.note(BlockEvent::Reconciled, block, layers, None, Some(why.to_owned())));
    }

    /// Puts `block` in force, kernel first, and reads back what holds.
    fn enforce(
        &mut self,
        block: Block,
        connected: Connected,
        overridden: Vec<String>,
        now: Moment,
    ) -> Result<(Blocked, Option<Ticket>), Refusal> {
        let mut kernel_off = self.kernel_off(block.target);
        let mut kernel = None;
        if let Target::Network(prefix) = block.target
            && kernel_off.is_none()
        {
            match self.parts.kernel.block(prefix, &block, now.wall) {
                Ok(installed) => {
                    let took = self.since(now);
                    let seat = self.parts.kernel.seat();
                    kernel = Some(seat.describe(&installed, Some(took)));
                }
                Err(error) => kernel_off = Some(error),
            }
        }
        let full = self.parts.quarantine.insert(&block).err();
        let layer7 = self.holds_at_layer7(&block);
        if kernel.is_none() && !layer7 {
            let why = full.map(|full| full.to_string()).or(kernel_off).unwrap_or_default();
            drop(self.note(BlockEvent::Refused, &block, Vec::new(), None, Some(why.clone())));
            return Err(failed(format!("no layer took the block: {why}")));
        }
        let connections_closed = match connected {
            Connected::AtOnce => self.close_connections(block.target),
            Connected::Later => 0,
        };
        let replaced = self.parts.decisions.by_target(block.target).cloned();
        let not_stored = self.parts.decisions.put(block.clone());

        if let Some(old) = replaced.as_ref().filter(|old| old.id != block.id) {
            let detail = format!("replaced by {}", block.id);
            drop(self.note(BlockEvent::Released, old, Vec::new(), None, Some(detail)));
        }
        let in_kernel = kernel.as_ref().map(|_| self.parts.kernel.layers());
        let layers = self.layers(in_kernel.as_deref(), layer7.then_some(Layer::Proxy));
        let detail = [
            kernel_off.as_ref().map(|why| format!("not in the kernel: {why}")),
            not_stored.as_ref().map(|why| format!("not on disk: {why}")),
            (!overridden.is_empty()).then(|| format!("overrode: {}", overridden.join("; "))),
        ];
        let detail: Vec<_> = detail.into_iter().flatten().collect();
        let detail = (!detail.is_empty()).then(|| detail.join("; "));
        let took = self.since(now);
        let ticket = self.note(BlockEvent::Applied, &block, layers, Some(took), detail);
        let blocked = Blocked {
            replaced: replaced.map(|old| old.id).filter(|old| *old != block.id),
            block,
            kernel,
            kernel_off,
            kernel_wanted: self.parts.kernel.is_wanted(),
            layer7,
            not_stored,
            connections_closed,
            audit: None,
            dry_run: false,
            overridden,
        };
        Ok((blocked, ticket))
    }

    fn draft(
        &self,
        target: Target,
        reason: String,
        author: Author,
        ttl: Option<Duration>,
        now: Moment,
    ) -> Result<Block, Refusal> {
        let mut id = random_block_id().map_err(|error| failed(error.to_string()))?;
        while self.parts.decisions.by_id(id).is_some() {
            id = random_block_id().map_err(|error| failed(error.to_string()))?;
        }
        let until = ttl.map_or(Expiry::Never, |ttl| Expiry::At(now.wall.saturating_add(ttl)));
        Ok(Block { id, target, reason, author, since: now.wall, until })
    }

    /// Records that guards stood against `block`.
    fn refuse(&self, block: &Block, objections: Vec<String>) -> Refusal {
        let detail = Some(objections.join("; "));
        drop(self.note(BlockEvent::Refused, block, Vec::new(), None, detail));
        Refusal::new(
            RefusalKind::Guarded,
            format!("{} contains protected addresses:", block.target),
        )
        .details(objections)
        .hint("narrow it, or say --override-guard (asks for the target again; recorded)")
    }

    fn rehearsal(&self, block: Block, overridden: Vec<String>) -> Blocked {
        Blocked {
            kernel_off: self.kernel_off(block.target),
            kernel_wanted: self.parts.kernel.is_wanted(),
            replaced: self.parts.decisions.by_target(block.target).map(|old| old.id),
            block,
            kernel: None,
            layer7: false,
            not_stored: None,
            connections_closed: 0,
            audit: None,
            dry_run: true,
            overridden,
        }
    }

    fn close_connections(&self, target: Target) -> u64 {
        let closed = match target {
            Target::Network(prefix) => self.close_from(prefix),
            Target::Key(key) => self.parts.connections.close_key(key),
        };
        u64::try_from(closed).unwrap_or(u64::MAX)
    }

    fn is_enforced(&self, block: &Block) -> bool {
        let in_kernel = match block.target {
            Target::Network(prefix) if self.parts.kernel.off_because().is_none() => {
                matches!(self.parts.kernel.find(prefix), Ok(Some(entry)) if entry.id == block.id)
            }
            Target::Network(_) | Target::Key(_) => true,
        };
        in_kernel && self.holds_at_layer7(block)
    }

    fn proxy_layer(&self, block: &Block) -> Option<Layer> {
        self.holds_at_layer7(block).then_some(Layer::Proxy)
    }

    fn since(&self, moment: Moment) -> Duration {
        self.parts.clock.now().monotonic.saturating_duration_since(moment.monotonic)
    }
}

/// Whether a block with one end holds at least as long as one with the other.
pub(super) fn outlasts(standing: Expiry, other: Expiry) -> bool {
    match (standing, other) {
        (Expiry::Never, _) => true,
        (Expiry::At(_), Expiry::Never) => false,
        (Expiry::At(standing), Expiry::At(other)) => standing >= other,
    }
}

#[cfg(test)]
mod tests {
    use enforcer_model::Timestamp;

    use super::*;

    #[test]
    fn forever_outlasts_everything_and_nothing_outlasts_it() {
        let [early, late] = [1, 2].map(|second| Expiry::At(Timestamp::from_unix_seconds(second)));

        assert!(outlasts(Expiry::Never, Expiry::Never));
        assert!(outlasts(Expiry::Never, late));
        assert!(!outlasts(late, Expiry::Never));
        assert!(outlasts(late, early) && outlasts(late, late));
        assert!(!outlasts(early, late));
    }
}
