//! What holds, read back from where it is enforced.

use std::collections::HashMap;
use std::net::IpAddr;

use enforcer_admin::Refusal;
use enforcer_admin::call::{BlockRow, Why};
use enforcer_kernel::Installed;
use enforcer_model::{Block, Prefix, Target};

use super::kernel_part::Seat;
use super::{KernelView, Responder, failed};

impl Responder {
    pub(super) fn list(&self) -> Result<Vec<BlockRow>, Refusal> {
        let now = self.parts.clock.now().wall;
        let entries = self.parts.kernel.entries().map_err(failed)?;
        let held: HashMap<_, _> = entries.into_iter().map(|entry| (entry.prefix, entry)).collect();
        let seat = self.parts.kernel.seat();
        let mut rows: Vec<_> = self
            .parts
            .decisions
            .in_force(now)
            .map(|block| self.row(block, held_by(&held, block), &seat))
            .collect();
        rows.sort_by_key(|row| row.block.since);
        Ok(rows)
    }

    pub(super) fn why(&self, address: IpAddr) -> Result<Why, Refusal> {
        let now = self.parts.clock.now().wall;
        let address = address.to_canonical();
        let seat = self.parts.kernel.seat();
        let mut blocks = Vec::new();
        // At most one decision for each prefix length: no need to look at the others.
        for length in (0..=128).rev() {
            let prefix = Prefix::around(address, length);
            let decided = self.parts.decisions.by_target(Target::Network(prefix));
            let Some(block) = decided.filter(|block| !block.until.is_over(now)) else { continue };
            if blocks.iter().any(|row: &BlockRow| row.block.id == block.id) {
                continue;
            }
            let held = self.parts.kernel.find(prefix).map_err(failed)?;
            blocks.push(self.row(block, held, &seat));
        }
        let lists = self.parts.guards.never_block.iter();
        let protected_by: Vec<_> = lists
            .filter(|(_, prefixes)| prefixes.iter().any(|prefix| prefix.contains(address)))
            .map(|(name, _)| format!("never-block list `{name}`"))
            .collect();
        let (verdict, because) = verdict(&protected_by, &blocks);
        Ok(Why { address, verdict: verdict.to_owned(), because, protected_by, blocks })
    }

    pub(super) fn view(&self) -> KernelView {
        let now = self.parts.clock.now().wall;
        let blocks = self.parts.decisions.in_force(now).count();
        self.parts.kernel.view(u64::try_from(blocks).unwrap_or(u64::MAX))
    }

    fn row(&self, block: &Block, held: Option<Installed>, seat: &Seat) -> BlockRow {
        let own = held.filter(|entry| entry.id == block.id);
        BlockRow {
            kernel: own.map(|entry| seat.describe(&entry, None)),
            layer7: self.holds_at_layer7(block),
            block: block.clone(),
        }
    }
}

fn held_by(held: &HashMap<Prefix, Installed>, block: &Block) -> Option<Installed> {
    match block.target {
        Target::Network(prefix) => held.get(&prefix).copied(),
        Target::Key(_) => None,
    }
}

fn verdict(protected_by: &[String], blocks: &[BlockRow]) -> (&'static str, String) {
    if let Some(list) = protected_by.first() {
        return ("pass", format!("protected by {list}, which wins over every block"));
    }
    let dropping = |row: &&BlockRow| row.kernel.as_ref().is_some_and(|entry| !entry.observe);
    if let Some(row) = blocks.iter().find(dropping) {
        let (id, target) = (row.block.id, row.block.target);
        return ("drop", format!("block {id} of {target}, in the kernel"));
    }
    if let Some(row) = blocks.iter().find(|row| row.layer7) {
        let (id, target) = (row.block.id, row.block.target);
        return ("refuse", format!("block {id} of {target}, at layer 7"));
    }
    ("pass", "no block covers it".to_owned())
}
