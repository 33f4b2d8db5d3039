//! Lists in force: many networks under one decision, put in force and ended as one.
//!
//! Memory says what holds, the files in `list_file.rs` say it again after a reboot. The networks of
//! a list never change: a list of the same name takes its place as a whole and keeps its id, so that
//! what its entries have counted goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use enforcer_admin::call::ListName;
use enforcer_audit::{ListChange, ListCounts, ListEvent};
use enforcer_authz::{Listed, Networks};
use enforcer_model::{Author, BlockId, Expiry, Prefix, Timestamp};

use super::claims::Claim;
use super::clock::Jump;

/// Lists that may be in force at once: a request at layer 7 is compared with each.
pub(crate) const LISTS_MAX: usize = 64;

/// One list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) name: ListName,
    pub(crate) id: BlockId,
    pub(crate) reason: String,
    pub(crate) author: Author,
    pub(crate) since: Timestamp,
    pub(crate) until: Expiry,
    pub(crate) networks: Arc<Networks>,
    /// SHA-256 of the networks in hex: one a line, in order.
    pub(crate) sha256: Arc<str>,
}

/// Every list, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lists(BTreeMap<String, List>);

impl List {
    pub(crate) fn is_in_force(&self, now: Timestamp) -> bool {
        !self.until.is_over(now)
    }

    pub(crate) const fn claim(&self) -> Claim {
        Claim::of_list(self.id, self.until)
    }

    /// A record of what happened to it, to be filled in.
    pub(crate) fn record(&self, what: ListEvent) -> ListChange {
        ListChange {
            what,
            list: self.name.to_string(),
            id: self.id,
            reason: self.reason.clone(),
            author: self.author.clone(),
            since: self.since,
            until: self.until,
            networks: u64::try_from(self.networks.len()).unwrap_or(u64::MAX),
            sha256: self.sha256.to_string(),
            counts: ListCounts::default(),
            layers: Vec::new(),
            took: None,
            detail: None,
        }
    }
}

impl Lists {
    pub(crate) fn all(&self) -> impl Iterator<Item = &List> {
        self.0.values()
    }

    pub(crate) fn in_force(&self, now: Timestamp) -> impl Iterator<Item = &List> {
        self.all().filter(move |list| list.is_in_force(now))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&List> {
        self.0.get(name)
    }

    pub(crate) fn by_id(&self, id: BlockId) -> Option<&List> {
        self.all().find(|list| list.id == id)
    }

    /// Puts `list` in the place of the one of its name; returns that one.
    pub(crate) fn put(&mut self, list: List) -> Option<List> {
        self.0.insert(list.name.to_string(), list)
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<List> {
        self.0.remove(name)
    }

    /// What the lists that name exactly `prefix` want of its slot.
    pub(crate) fn claims(&self, prefix: Prefix, now: Timestamp) -> impl Iterator<Item = Claim> {
        self.in_force(now).filter(move |list| list.networks.contains(prefix)).map(List::claim)
    }

    /// Moves every end along with a wall clock that was set.
    pub(crate) fn shift(&mut self, by: Jump) {
        for list in self.0.values_mut() {
            if let Expiry::At(end) = &mut list.until {
                *end = by.apply(*end);
            }
        }
    }

    /// As layer 7 holds them.
    pub(crate) fn listed(&self) -> Vec<Listed> {
        let listed = |list: &List| Listed {
            id: list.id,
            until: list.until,
            networks: Arc::clone(&list.networks),
        };
        self.all().map(listed).collect()
    }
}
