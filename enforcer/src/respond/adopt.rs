//! What holds in the kernel and nothing decided becomes a decision: letting somebody in must be an
//! operator's act.
//!
//! Entries of one id are one decision: one network a block, several a list. So an agent that lost its
//! files, or finds what was written while it was away, goes on with what is enforced.

use std::collections::HashMap;
use std::sync::Arc;

use enforcer_audit::{BlockEvent, Layer, ListEvent};
use enforcer_authz::Networks;
use enforcer_kernel::Installed;
use enforcer_model::{Author, Block, BlockId, Expiry, Prefix, Target, Timestamp};
use tracing::warn;

use super::claims::{Claim, by_end};
use super::crowd::end_of;
use super::lists::List;
use super::{Responder, list_file};

impl Responder {
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

    /// Takes over a list as it holds in the kernel.
    pub(super) fn adopt_list(&mut self, list: List, why: &str) {
        let name = list.name.to_string();
        let mut change = list.record(ListEvent::Reconciled);
        change.layers = self.layers(Some(&self.parts.kernel.layers()), Some(Layer::Proxy));
        change.detail = Some(why.to_owned());
        self.parts.lists.put(list);
        self.parts.quarantine.set_lists(self.parts.lists.listed());
        self.parts.files.is_behind(&name);
        self.parts.files.retry(&self.parts.lists);
        drop(self.note_list(change));
    }

    /// Takes over every entry.
    pub(super) fn adopt_all(&mut self, entries: &[Installed], now: Timestamp) {
        let mut by_id: HashMap<BlockId, Vec<&Installed>> = HashMap::new();
        for entry in entries {
            by_id.entry(entry.id).or_default().push(entry);
        }
        for (id, entries) in by_id {
            match entries.as_slice() {
                [entry] => {
                    let id = if self.parts.decisions.by_id(id).is_some() {
                        self.fresh_id().unwrap_or(id)
                    } else {
                        id
                    };
                    self.adopt(&adopted(id, entry, now), "adopted from the kernel");
                }
                several => {
                    let ends = several.iter().map(|entry| end_of(entry, now));
                    let until = ends.max_by(|one, other| by_end(*one, *other));
                    let networks = several.iter().map(|entry| entry.prefix).collect();
                    let list = until.and_then(|until| recovered(id, networks, until, now));
                    if let Some(list) = list {
                        self.adopt_recovered(list);
                    }
                }
            }
        }
        // What is a decision now holds like one: under its id, and with nothing sent there either.
        for entry in entries {
            let desired = self.claims(now).desired(entry.prefix);
            let is_so = |claim: &Claim| claim.id == entry.id && claim.contain == entry.contain;
            if !desired.as_ref().is_some_and(is_so)
                && let Err(why) = self.settle(entry.prefix, now)
            {
                warn!(prefix = %entry.prefix, why, "what was adopted is not in force as decided");
            }
        }
    }

    fn adopt_recovered(&mut self, list: List) {
        warn!(list = %list.name, networks = list.networks.len(), "a list without a decision");
        self.adopt_list(list, "adopted from the kernel");
    }
}

/// The list that entries of one id make which nothing decided.
fn recovered(id: BlockId, networks: Vec<Prefix>, until: Expiry, now: Timestamp) -> Option<List> {
    let (networks, _) = Networks::collect(networks);
    Some(List {
        name: format!("recovered-{id}").to_lowercase().parse().ok()?,
        id,
        reason: "found in the kernel without a list".to_owned(),
        author: Author::Agent,
        since: now,
        until,
        sha256: list_file::sha256_of(&networks),
        networks: Arc::new(networks),
    })
}

fn adopted(id: BlockId, entry: &Installed, now: Timestamp) -> Block {
    Block {
        id,
        target: Target::Network(entry.prefix),
        reason: "found in the kernel without a decision".to_owned(),
        author: Author::Agent,
        since: now,
        until: end_of(entry, now),
        through: None,
    }
}
