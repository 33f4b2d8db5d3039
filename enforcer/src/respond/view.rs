//! What holds, read back from where it is enforced.

use std::net::IpAddr;

use enforcer_admin::Refusal;
use enforcer_admin::call::{
    BLOCKS_PAGE, BlockRow, Blocks, KernelReport, KernelVerb, KernelVerdict, Place, Talkers, Why,
};
use enforcer_audit::{ConfigEvent, Ticket};
use enforcer_kernel::{Installed, Verdict};
use enforcer_model::{Author, Block, Prefix, Target};

use super::kernel_part::Seat;
use super::{KernelView, Repair, Responder, count, failed};

/// Most rows of each kind that one answer tells.
const TALKERS_MAX: u32 = 10_000;

impl Responder {
    /// A page of the decisions behind `after`, the oldest first.
    pub(super) fn list(&self, after: Option<Place>) -> Result<Blocks, Refusal> {
        let now = self.parts.clock.now().wall;
        let seat = self.parts.kernel.seat();
        let aged = self.parts.decisions.aged(after.map(|place| (place.since, place.id)));
        let page: Vec<_> = aged.take(BLOCKS_PAGE).collect();
        let next = page.last().filter(|_| page.len() == BLOCKS_PAGE);
        let next = next.map(|last| Place { since: last.since, id: last.id });
        let in_force = page.into_iter().filter(|block| !block.until.is_over(now));
        let blocks: Result<_, Refusal> =
            in_force.map(|block| Ok(self.row(block, self.held(block)?, &seat))).collect();
        let lists = if after.is_none() { self.list_rows() } else { Vec::new() };
        Ok(Blocks { blocks: blocks?, lists, next })
    }

    pub(super) fn why(&self, address: IpAddr) -> Result<Why, Refusal> {
        let now = self.parts.clock.now().wall;
        let address = address.to_canonical();
        let seat = self.parts.kernel.seat();
        let single = Prefix::from(address);
        let exactly = self.parts.decisions.by_target(&Target::Network(single));
        let exactly = exactly.filter(|block| !block.until.is_over(now)).into_iter();
        let covering = exactly.chain(self.parts.decisions.around(single, now));
        let blocks: Result<Vec<_>, Refusal> =
            covering.map(|block| Ok(self.row(block, self.held(block)?, &seat))).collect();
        let blocks = blocks?;
        let lists = self.parts.guards.never_block.iter();
        let protected_by: Vec<_> = lists
            .filter(|(_, prefixes)| prefixes.iter().any(|prefix| prefix.contains(address)))
            .map(|(name, _)| format!("never-block list `{name}`"))
            .collect();
        let kernel = self.explain(address)?;
        let covering = self.parts.lists.in_force(now);
        let covering: Vec<_> = covering
            .filter_map(|list| Some((list, list.networks.covering(address)?)))
            .map(|(list, network)| {
                format!("list {} ({}) names {network} until {}", list.name, list.id, list.until)
            })
            .collect();
        let (verdict, because) = verdict(&protected_by, &blocks, &covering, kernel.as_ref());
        let verdict = verdict.to_owned();
        Ok(Why { address, verdict, because, protected_by, blocks, lists: covering, kernel })
    }

    pub(super) fn view(&self) -> KernelView {
        let now = self.parts.clock.now().wall;
        let lists = self.parts.lists.in_force(now);
        let (lists, networks) = lists.fold((0usize, 0usize), |(lists, networks), list| {
            (lists.saturating_add(1), networks.saturating_add(list.networks.len()))
        });
        KernelView {
            status: self.parts.kernel.status(),
            blocks: count(self.parts.decisions.in_force(now).count()),
            lists: count(lists),
            listed_networks: count(networks),
            mended: self.rounds.mended,
            throttled: count(self.throttling.view().sources.len()),
            capabilities: held_capabilities(),
        }
    }

    pub(super) fn talkers(&self, most: u32) -> Talkers {
        self.parts.kernel.talkers(most.min(TALKERS_MAX))
    }

    /// What an operator makes of the kernel half.
    pub(super) fn change_kernel(
        &mut self,
        verb: KernelVerb,
        by: Author,
    ) -> (KernelReport, Option<Ticket>) {
        let now = self.now().wall;
        let (mut done, mut problems) = (Vec::new(), Vec::new());
        let mut event = None;
        match verb {
            KernelVerb::Status => {}
            KernelVerb::Attach => {
                self.make_fit(now);
                self.attach(now);
                match self.parts.kernel.off_because() {
                    Some(why) => problems.push(why),
                    None => {
                        event = Some(ConfigEvent::KernelAttached);
                        done.push(self.parts.kernel.described());
                        let verified = self.verify(Repair::Mend);
                        problems.extend(match verified {
                            Ok(verified) => verified.remaining,
                            Err(refusal) => vec![refusal.to_string()],
                        });
                    }
                }
            }
            KernelVerb::Detach => match self.parts.kernel.detach() {
                Ok(()) => {
                    event = Some(ConfigEvent::KernelDetached);
                    done.push("packets are no longer judged; layer 7 still refuses".to_owned());
                }
                Err(why) => problems.push(why),
            },
            KernelVerb::Upgrade => match self.parts.kernel.upgrade() {
                Ok(upgraded) => {
                    event = Some(ConfigEvent::KernelAttached);
                    done.push(upgraded);
                }
                Err(why) => problems.push(why),
            },
        }
        let ticket = event.and_then(|event| {
            let detail = Some(format!("by hand: {}", done.join("; ")));
            self.parts.kernel.note(&self.parts.audit, event, Some(by), detail)
        });
        self.parts.kernel.set_crowded(self.room.described());
        let kernel = self.parts.kernel.status();
        (KernelReport { verb, done, problems, kernel, audit: None }, ticket)
    }

    /// The kernel's own verdict, as far as it has one.
    fn explain(&self, address: IpAddr) -> Result<Option<KernelVerdict>, Refusal> {
        let explained = self.parts.kernel.explain(address).map_err(failed)?;
        Ok(explained.map(|explained| {
            let mut steps = explained.steps;
            let decided = explained.block.and_then(|entry| {
                let claim = self.claims(self.parts.clock.now().wall).desired(entry.prefix)?;
                self.decided(entry.prefix, claim).filter(|block| block.id == entry.id)
            });
            steps.extend(decided.map(|block| {
                format!("{} was decided by {}: {}", block.id, block.author, block.reason)
            }));
            KernelVerdict {
                verdict: explained.verdict.to_string(),
                reason: explained.reason.to_string(),
                steps,
            }
        }))
    }

    /// The entry that enforces `block`: its own, or that of whoever has a stronger claim on the
    /// same network, or the one that stands for it.
    fn held(&self, block: &Block) -> Result<Option<Installed>, Refusal> {
        let Some(prefix) = block.target.network() else { return Ok(None) };
        let slot = self.room.stand_in(prefix).unwrap_or(prefix);
        let held = self.parts.kernel.find(slot).map_err(failed)?;
        let desired = self.claims(self.parts.clock.now().wall).desired(slot);
        Ok(held.filter(|entry| desired.is_some_and(|claim| claim.id == entry.id)))
    }

    fn row(&self, block: &Block, held: Option<Installed>, seat: &Seat) -> BlockRow {
        BlockRow {
            kernel: held.map(|entry| seat.describe(&entry, None)),
            layer7: self.holds_at_layer7(block),
            block: block.clone(),
        }
    }
}

/// What this thread may do; every other thread of the agent may do less.
fn held_capabilities() -> Vec<String> {
    let Ok(held) = rustix::thread::capabilities(None) else { return Vec::new() };
    held.effective.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

fn verdict(
    protected_by: &[String],
    blocks: &[BlockRow],
    lists: &[String],
    kernel: Option<&KernelVerdict>,
) -> (&'static str, String) {
    if let Some(list) = protected_by.first() {
        return ("pass", format!("protected by {list}, which wins over every block"));
    }
    let dropping = |row: &&BlockRow| row.kernel.as_ref().is_some_and(|entry| !entry.observe);
    if let Some(row) = blocks.iter().find(dropping) {
        let (id, target) = (row.block.id, &row.block.target);
        return ("drop", format!("block {id} of {target}, in the kernel"));
    }
    let drops = kernel.filter(|kernel| kernel.verdict == Verdict::Drop.to_string());
    if let (Some(_), Some(list)) = (drops, lists.first()) {
        return ("drop", format!("{list}, in the kernel"));
    }
    if let Some(row) = blocks.iter().find(|row| row.layer7) {
        let (id, target) = (row.block.id, &row.block.target);
        return ("refuse", format!("block {id} of {target}, at layer 7"));
    }
    if let Some(list) = lists.first() {
        return ("refuse", format!("{list}, at layer 7"));
    }
    if let Some(kernel) = drops {
        return ("drop", format!("the kernel drops its next packet: {}", kernel.reason));
    }
    ("pass", "no block covers it".to_owned())
}
