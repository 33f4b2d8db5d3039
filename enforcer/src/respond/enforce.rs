//! How a block comes and goes: every layer in its order, and what each of them says.

use std::time::Duration;

use enforcer_admin::call::{self, Blocked, Released, Which};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{BlockEvent, Layer, Ticket};
use enforcer_model::{Author, Block, BlockId, Expiry, Moment, Offence, Source, Target};
use tracing::{info, warn};

use super::closing::Closed;
use super::crowd::Slot;
use super::{Responder, Surroundings, failed};

/// The kernel ends a block by its own clock; so far the wall clock may be off without being wrong.
pub(super) const CLOCKS_AGREE: Duration = Duration::from_secs(2);

/// Decisions that one tick clears away; what is over has no effect meanwhile.
const ENDED_AT_ONCE: usize = 256;

/// When open connections of a blocked source are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connected {
    AtOnce,
    Later,
}

/// Whom a rule wants shut out.
#[derive(Clone, Debug)]
pub(crate) struct Shut {
    pub(crate) target: Target,
    /// The proxy that the target came through.
    pub(crate) through: Option<Source>,
    pub(crate) reason: String,
    pub(crate) author: Author,
    pub(crate) ttl: Duration,
}

/// What holds of a [`Shut`], read back.
#[derive(Debug)]
pub(crate) struct ShutOut {
    pub(crate) id: BlockId,
    pub(crate) until: Expiry,
    /// Whether it stood before, for as long or longer: nothing was changed.
    pub(crate) stood: bool,
    /// Whether the kernel drops it.
    pub(crate) kernel: bool,
    /// Why the kernel does not.
    pub(crate) kernel_off: Option<String>,
    /// Whether layer 7 refuses it.
    pub(crate) layer7: bool,
    /// Why a restart would forget it.
    pub(crate) not_stored: Option<String>,
    /// Of its record.
    pub(crate) ticket: Option<Ticket>,
}

impl Responder {
    pub(super) fn quarantine(
        &mut self,
        asked: &call::Quarantine,
        by: Author,
    ) -> Result<(Blocked, Option<Ticket>), Refusal> {
        let now = self.now();
        let mut around = Surroundings::read();
        around.ssh_peers.extend(asked.ssh_peer.map(|peer| peer.to_canonical()));
        around.ssh_peers.sort_unstable();
        around.ssh_peers.dedup();
        let objections = self.objections(&asked.target, &around, now);
        let ttl = asked.ttl_seconds.map(Duration::from_secs);
        let block = self.draft(asked.target.clone(), asked.reason.clone(), by, ttl, now)?;

        if let Target::Network(prefix) = asked.target
            && let Some(list) = self.parts.guards.never_blocks(prefix)
        {
            // The kernel's allow map wins over every block: saying "blocked" would be a lie.
            let hint = format!("take it off the never-block list `{list}` in the policy first");
            return Err(self.refuse(&block, objections).hint(hint));
        }
        if !objections.is_empty() && asked.override_guard.as_ref() != Some(&asked.target) {
            return Err(self.refuse(&block, objections));
        }
        if asked.dry_run {
            return Ok((self.rehearsal(block, objections, now), None));
        }
        self.enforce(block, Connected::AtOnce, objections, now)
    }

    /// A rule's finding becomes a block, unless a guard stands against it.
    pub(super) fn answer(&mut self, finding: &Offence) -> Result<BlockId, String> {
        let shut = Shut {
            target: Target::Network(finding.target),
            through: finding.through,
            reason: finding.failures.to_string(),
            author: Author::Rule(finding.rule.clone()),
            ttl: finding.ttl,
        };
        self.shut(shut).map(|held| held.id)
    }

    /// Shuts somebody out whom a rule has found, unless a guard stands against it.
    ///
    /// What is open ends a moment later, by [`super::Order::Close`]: the answer to the request that
    /// crossed the threshold may still wait for its record to be on disk.
    pub(super) fn shut(&mut self, shut: Shut) -> Result<ShutOut, String> {
        let Shut { target, through, reason, author, ttl } = shut;
        let now = self.now();
        let objections = self.objections(&target, &self.around, now);
        let mut block = self
            .draft(target.clone(), reason, author, Some(ttl), now)
            .map_err(|refusal| refusal.message)?;
        block.through = through;
        if !objections.is_empty() {
            let detail = objections.join("; ");
            self.refuse(&block, objections);
            return Err(format!("refused by a guard: {detail}"));
        }
        // A rule never shortens what stands already, nor takes it out of the kernel.
        if let Some(standing) = self.parts.decisions.by_target(&target)
            && (outlasts(standing.until, block.until) || is_weaker(&block, standing))
        {
            if self.is_enforced(standing) {
                return Ok(ShutOut {
                    id: standing.id,
                    until: standing.until,
                    stood: true,
                    kernel: self.holds_in_kernel(standing),
                    kernel_off: None,
                    layer7: true,
                    not_stored: None,
                    ticket: None,
                });
            }
            block = standing.clone();
        }
        let enforced = self.enforce(block, Connected::Later, Vec::new(), now);
        let (blocked, ticket) = enforced.map_err(|refusal| refusal.message)?;
        info!(id = %blocked.block.id, by = %blocked.block.author, "somebody is blocked");
        Ok(ShutOut {
            id: blocked.block.id,
            until: blocked.block.until,
            stood: false,
            kernel: blocked.kernel.is_some(),
            kernel_off: blocked.kernel_off,
            layer7: blocked.layer7,
            not_stored: blocked.not_stored,
            ticket,
        })
    }

    /// Whether the kernel drops what `block` is about.
    fn holds_in_kernel(&self, block: &Block) -> bool {
        let prefix = block.target.network().filter(|_| block.through.is_none());
        prefix.is_some_and(|prefix| {
            let held = self.parts.kernel.find(prefix);
            held.is_ok_and(|held| held.is_some_and(|entry| !entry.observe))
        })
    }

    pub(super) fn release(
        &mut self,
        what: &Which,
        reason: Option<&str>,
        by: &Author,
    ) -> Result<(Released, Option<Ticket>), Refusal> {
        let found = match what {
            Which::Id(id) => self.parts.decisions.by_id(*id),
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
    ///
    /// Whoever else claims the same network gets the slot; what an aggregate stood for gets its own.
    pub(super) fn end(
        &mut self,
        block: &Block,
        event: BlockEvent,
        detail: Option<String>,
    ) -> Result<(Released, Option<Ticket>), Refusal> {
        let ended = self.take_out(block, event)?;
        let unwritten = self.parts.decisions.write(std::slice::from_ref(&block.target));
        let in_kernel = ended.kernel.then(|| self.parts.kernel.layers());
        let layers = self.layers(in_kernel.as_deref(), ended.layer7.then_some(Layer::Proxy));
        let ticket = self.note(event, block, layers, None, detail);
        let problems = unwritten
            .into_iter()
            .map(|why| format!("{why}: until that works, a restart would bring the block back"));
        let problems = problems.chain(ended.still).collect();
        Ok((Released { problems, ..ended.told }, ticket))
    }

    fn take_out(&mut self, block: &Block, event: BlockEvent) -> Result<Ended, Refusal> {
        let now = self.parts.clock.now().wall;
        let mut ended = Ended {
            told: Released {
                block: block.clone(),
                kernel: false,
                packets: 0,
                layer7: false,
                problems: Vec::new(),
                audit: None,
            },
            still: Vec::new(),
            kernel: false,
            layer7: false,
        };
        let held = self.parts.decisions.forget(&block.target);
        if let Target::Network(prefix) = block.target {
            // Whoever is let in by hand must not be dropped for the sake of neighbours.
            if let Some(network) = self.room.stand_in(prefix)
                && event == BlockEvent::Released
            {
                self.dissolve(network, now);
            }
            if self.room.dissolve(prefix) {
                self.settle_parts(prefix, now);
            }
            let before = self.parts.kernel.find(prefix).ok().flatten();
            match self.settle(prefix, now) {
                Ok(_) => {
                    let removed = before.filter(|entry| entry.id == block.id);
                    ended.kernel = removed.is_some();
                    ended.told.kernel = ended.kernel;
                    ended.told.packets = removed.map_or(0, |entry| entry.packets);
                }
                Err(why) => {
                    held.map(|block| self.parts.decisions.hold(block));
                    return Err(failed(why));
                }
            }
            if event == BlockEvent::Released {
                let covering = self.covering(prefix, now).into_iter();
                ended.still = covering.map(|line| format!("it stays blocked: {line}")).collect();
            }
        }
        ended.layer7 = self.parts.quarantine.remove(&block.target);
        ended.told.layer7 = ended.layer7;
        Ok(ended)
    }

    /// Clears away what is over. What the kernel still counts down is not over: the decision follows
    /// it, as after a wall clock that was set while no agent ran.
    pub(super) fn end_what_is_over(&mut self) {
        let now = self.parts.clock.now().wall;
        let mut trouble = None;
        let mut targets = Vec::new();
        for mut block in self.parts.decisions.over(now, ENDED_AT_ONCE) {
            let held = block.target.network();
            let held = held.and_then(|prefix| self.parts.kernel.find(prefix).ok().flatten());
            let left = held.filter(|entry| entry.id == block.id).and_then(|entry| entry.remaining);
            if let Some(left) = left.filter(|left| *left > CLOCKS_AGREE) {
                block.until = Expiry::At(now.saturating_add(left));
                self.adopt(&block, "the wall clock was set ahead; the kernel's time counts");
                continue;
            }
            match self.take_out(&block, BlockEvent::Expired) {
                Ok(ended) => {
                    targets.push(block.target.clone());
                    let in_kernel = ended.kernel.then(|| self.parts.kernel.layers());
                    let layer7 = ended.layer7.then_some(Layer::Proxy);
                    let layers = self.layers(in_kernel.as_deref(), layer7);
                    drop(self.note(BlockEvent::Expired, &block, layers, None, None));
                }
                Err(refusal) => trouble = Some(refusal),
            }
        }
        if !targets.is_empty() {
            // What cannot be written is told once and tried again.
            drop(self.parts.decisions.write(&targets));
        }
        if let Some(refusal) = &trouble
            && !self.stuck
        {
            warn!(error = %refusal, "an expired block is not cleared away; tried again each second");
        }
        self.stuck = trouble.is_some();
    }

    /// Puts `block` in force, kernel first, and reads back what holds.
    fn enforce(
        &mut self,
        block: Block,
        connected: Connected,
        overridden: Vec<String>,
        now: Moment,
    ) -> Result<(Blocked, Option<Ticket>), Refusal> {
        let mut kernel_off = layer7_only(&block).or_else(|| self.kernel_off(&block.target));
        let mut kernel = None;
        let replaced = self.parts.decisions.hold(block.clone());
        if let Target::Network(prefix) = block.target {
            // What stood for others speaks for itself from here on.
            if self.room.dissolve(prefix) {
                self.settle_parts(prefix, now.wall);
            }
            if connected == Connected::Later {
                self.parts.decisions.answering(prefix);
            }
            if kernel_off.is_none() {
                match self.settle(prefix, now.wall) {
                    Ok(Slot::Own(installed) | Slot::Shared(installed)) => {
                        let took = self.since(now);
                        let seat = self.parts.kernel.seat();
                        kernel = Some(seat.describe(&installed, Some(took)));
                    }
                    Ok(Slot::Out(why)) | Err(why) => kernel_off = Some(why),
                    Ok(Slot::Empty) => kernel_off = Some("its time is over already".to_owned()),
                }
            }
        }
        let full = self.parts.quarantine.insert(&block).err();
        let layer7 = self.holds_at_layer7(&block);
        if kernel.is_none() && !layer7 {
            self.undo(&block, replaced);
            let why = full.map(|full| full.to_string()).or(kernel_off).unwrap_or_default();
            drop(self.note(BlockEvent::Refused, &block, Vec::new(), None, Some(why.clone())));
            return Err(failed(format!("no layer took the block: {why}")));
        }
        let closed = match connected {
            Connected::AtOnce => self.close(&block.target),
            Connected::Later => Closed::default(),
        };
        let not_stored = self.parts.decisions.write(std::slice::from_ref(&block.target));

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
            overlaps: self.overlaps(&block.target, now.wall),
            block,
            kernel,
            kernel_off,
            kernel_wanted: self.parts.kernel.is_wanted(),
            layer7,
            not_stored,
            connections_closed: closed.connections,
            sockets_closed: closed.sockets,
            audit: None,
            dry_run: false,
            overridden,
        };
        Ok((blocked, ticket))
    }

    /// Forgets a decision that no layer took; the one before it stays.
    fn undo(&mut self, block: &Block, replaced: Option<Block>) {
        match replaced {
            Some(old) => drop(self.parts.decisions.hold(old)),
            None => drop(self.parts.decisions.forget(&block.target)),
        }
        if let Target::Network(prefix) = block.target {
            self.room.readmit(prefix);
        }
    }

    fn draft(
        &self,
        target: Target,
        reason: String,
        author: Author,
        ttl: Option<Duration>,
        now: Moment,
    ) -> Result<Block, Refusal> {
        let until = ttl.map_or(Expiry::Never, |ttl| Expiry::At(now.wall.saturating_add(ttl)));
        Ok(Block {
            id: self.fresh_id()?,
            target,
            reason,
            author,
            since: now.wall,
            until,
            through: None,
        })
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

    fn rehearsal(&self, block: Block, overridden: Vec<String>, now: Moment) -> Blocked {
        Blocked {
            kernel_off: self.kernel_off(&block.target),
            kernel_wanted: self.parts.kernel.is_wanted(),
            replaced: self.parts.decisions.by_target(&block.target).map(|old| old.id),
            overlaps: self.overlaps(&block.target, now.wall),
            block,
            kernel: None,
            layer7: false,
            not_stored: None,
            connections_closed: 0,
            sockets_closed: 0,
            audit: None,
            dry_run: true,
            overridden,
        }
    }

    fn is_enforced(&self, block: &Block) -> bool {
        let in_kernel = match block.target {
            Target::Network(prefix)
                if block.through.is_none() && self.parts.kernel.off_because().is_none() =>
            {
                self.room.is_out(prefix)
                    || matches!(self.parts.kernel.find(prefix), Ok(Some(entry)) if !entry.observe)
            }
            Target::Ja4(_)
            | Target::Key(_)
            | Target::Network(_)
            | Target::Role(_)
            | Target::Token(_)
            | Target::User(_) => true,
        };
        in_kernel && self.holds_at_layer7(block)
    }

    pub(super) fn proxy_layer(&self, block: &Block) -> Option<Layer> {
        self.holds_at_layer7(block).then_some(Layer::Proxy)
    }

    pub(super) fn since(&self, moment: Moment) -> Duration {
        self.parts.clock.now().monotonic.saturating_duration_since(moment.monotonic)
    }
}

/// A decision that is out of every layer.
struct Ended {
    told: Released,
    /// What blocks the target all the same.
    still: Vec<String>,
    kernel: bool,
    layer7: bool,
}

/// Why the kernel is not told of whoever came through a proxy, or is not to be dropped.
fn layer7_only(block: &Block) -> Option<String> {
    let proxy = block.through?;
    let is_own = block.target.network().is_some_and(|own| own.contains(proxy.address()));
    Some(match is_own {
        true => "layer 7 only, as decided".to_owned(),
        false => format!("layer 7 only: came through {proxy}"),
    })
}

/// Whether `block` holds at layer 7 alone and `standing`, which is not over, in the kernel as well.
fn is_weaker(block: &Block, standing: &Block) -> bool {
    block.through.is_some() && standing.through.is_none() && !standing.until.is_over(block.since)
}

/// Whether a block with one end holds at least as long as one with the other.
pub(super) fn outlasts(standing: Expiry, other: Expiry) -> bool {
    super::claims::by_end(standing, other).is_ge()
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
