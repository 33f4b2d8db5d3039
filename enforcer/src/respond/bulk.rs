//! How a list comes and goes: a million networks in one step, while other orders wait for less than
//! a second.
//!
//! Whoever prepares a list does the long work elsewhere: reading, sorting, asking the guards, writing
//! the file. Here the draft is put in its place, the kernel gets the difference in one switch, layer
//! 7 the whole list in another.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use enforcer_admin::call::{Imported, ListInKernel, ListName, ListRow, REFUSED_TOLD, Refused};
use enforcer_admin::{Refusal, RefusalKind};
use enforcer_audit::{Layer, ListChange, ListCounts, ListEvent, Ticket};
use enforcer_authz::Networks;
use enforcer_kernel::Cursor;
use enforcer_model::{BlockId, Prefix, Timestamp};
use enforcer_policy::WhenFull;
use tracing::{info, warn};

use super::claims::{self, Change, Claims};
use super::kernel_part::NoSlot;
use super::lists::{LISTS_MAX, List};
use super::room::Family;
use super::{Guards, Responder, Sifted, count};

/// Networks of one family that a list may have when no kernel part says how many fit.
const NETWORKS_MAX: usize = 1 << 20;

/// Rows of the kernel maps that are read at once.
const ROWS: usize = 16_384;

/// A list that waits to be put in force; its file is beside its place.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) list: List,
    pub(crate) sifted: Sifted,
    /// What it was judged by.
    pub(crate) guards: Guards,
    /// Why the file could not be written.
    pub(crate) not_written: Option<String>,
    pub(crate) dry_run: bool,
    /// When the call came.
    pub(crate) begun: Instant,
}

impl Responder {
    /// The id that a list named `name` has or will have.
    pub(super) fn enlist(&self, name: &ListName) -> Result<BlockId, Refusal> {
        if let Some(list) = self.parts.lists.get(name.as_str()) {
            return Ok(list.id);
        }
        if self.parts.lists.len() >= LISTS_MAX {
            return Err(Refusal::new(
                RefusalKind::Failed,
                format!("{LISTS_MAX} lists are in force, and no more fit"),
            )
            .hint("`enforcer blocks` names them; release one, or join two into one"));
        }
        self.fresh_id()
    }

    /// Puts a list in force, in the place of an earlier one of its name.
    pub(super) fn import(&mut self, draft: Draft) -> Result<(Imported, Option<Ticket>), Refusal> {
        let now = self.now();
        if draft.guards != self.parts.guards {
            return Err(Refusal::new(RefusalKind::Failed, STALE));
        }
        let Draft { list, sifted, not_written, dry_run, begun, .. } = draft;
        let name = list.name.as_str().to_owned();
        self.fits(&list.networks)?;

        let mut after = self.parts.lists.clone();
        let replaced = after.put(list.clone());
        let singles = &*self.parts.decisions;
        let before = Claims { singles, lists: &self.parts.lists, now: now.wall };
        let change = claims::change(&name, before, Claims { lists: &after, ..before });
        let removed = replaced.as_ref().map_or(0, |old| {
            old.networks.len().saturating_sub(old.networks.common(&list.networks).count())
        });
        let mut imported = Imported {
            list: list.name.clone(),
            id: list.id,
            networks: count(list.networks.len()),
            v4: count(list.networks.len4()),
            v6: count(list.networks.len6()),
            duplicates: count(sifted.left_out.duplicates),
            contained: count(sifted.left_out.contained),
            already_blocked: count(change.shared),
            refused_total: count(sifted.refused.len()),
            refused: first(sifted.refused),
            removed: count(removed),
            replaced: replaced.as_ref().map(|old| old.id),
            previous: None,
            kernel: None,
            kernel_off: self.parts.kernel.off_because(),
            kernel_wanted: self.parts.kernel.is_wanted(),
            layer7: false,
            not_stored: None,
            overridden: first(sifted.overridden),
            connections_closed: 0,
            took_us: 0,
            until: list.until,
            since: list.since,
            audit: None,
            dry_run,
        };
        if !dry_run {
            self.has_room_for(&change)?;
            (imported.previous, imported.not_stored) = self.store(&name, not_written);
            self.parts.lists = after;
            let switched = self.clock_of(|responder| responder.switch(change, now.wall));
            match switched {
                (Ok(()), took) => imported.kernel = self.in_kernel(list.id, took),
                (Err(why), _) => imported.kernel_off = Some(why),
            }
            self.parts.quarantine.set_lists(self.parts.lists.listed());
            imported.layer7 = self.lists_at_layer7(list.id);
            imported.connections_closed = self.close_listed(&list.networks);
        }
        let took = self.parts.clock.now().monotonic.saturating_duration_since(begun);
        imported.took_us = super::as_micros(took);
        let ticket = (!dry_run).then(|| {
            let in_kernel = imported.kernel.is_some().then(|| self.parts.kernel.layers());
            let at_layer7 = imported.layer7.then_some(Layer::Proxy);
            let details = [
                imported.kernel_off.as_ref().map(|why| format!("not in the kernel: {why}")),
                imported.not_stored.as_ref().map(|why| format!("not on disk: {why}")),
                (!imported.overridden.is_empty()).then(|| "guards were overridden".to_owned()),
            ];
            let details: Vec<_> = details.into_iter().flatten().collect();
            self.note_list(ListChange {
                counts: ListCounts {
                    duplicates: imported.duplicates,
                    contained: imported.contained,
                    refused: imported.refused_total,
                    removed: imported.removed,
                },
                layers: self.layers(in_kernel.as_deref(), at_layer7),
                took: Some(took),
                detail: (!details.is_empty()).then(|| details.join("; ")),
                ..list.record(ListEvent::Imported)
            })
        });
        info!(list = name, networks = imported.networks, dry_run, ?took, "list imported");
        Ok((imported, ticket.flatten()))
    }

    /// Every list with what the kernel has counted.
    pub(super) fn list_rows(&self) -> Vec<ListRow> {
        let now = self.parts.clock.now().wall;
        let held = if self.parts.lists.len() > 0 { self.held_by() } else { HashMap::new() };
        let row = |list: &List| {
            let (in_kernel, packets) = held.get(&list.id).copied().unwrap_or_default();
            ListRow {
                name: list.name.clone(),
                id: list.id,
                networks: count(list.networks.len()),
                since: list.since,
                until: list.until,
                reason: list.reason.clone(),
                author: list.author.clone(),
                in_kernel,
                packets,
                layer7: self.lists_at_layer7(list.id),
            }
        };
        self.parts.lists.in_force(now).map(row).collect()
    }

    /// Whether layer 7 holds the list of this id as it is decided.
    pub(super) fn lists_at_layer7(&self, id: BlockId) -> bool {
        let Some(list) = self.parts.lists.by_id(id) else { return false };
        self.parts.quarantine.lists().iter().any(|held| {
            held.id == id && held.until == list.until && Arc::ptr_eq(&held.networks, &list.networks)
        })
    }

    /// Puts the difference in force in one step; makes everything fit when that has no room.
    pub(super) fn switch(&mut self, change: Change, now: Timestamp) -> Result<(), String> {
        if let Some(why) = self.parts.kernel.off_because() {
            return Err(why);
        }
        let mut shared = Vec::new();
        let mut add = Vec::with_capacity(change.put.len());
        for (prefix, claim) in change.put {
            if self.room.stand_in(prefix).is_some() {
                shared.push(prefix);
            } else {
                add.push((prefix, claim.entry(now)));
            }
        }
        for prefix in &change.remove {
            self.room.readmit(*prefix);
        }
        match self.parts.kernel.load(&add, &change.remove) {
            Ok(_) => {
                for (prefix, _) in &add {
                    self.room.readmit(*prefix);
                }
            }
            Err(NoSlot::Failed(why)) => return Err(why),
            Err(NoSlot::Full(_)) => {
                self.parts.kernel.sweep();
                self.make_fit(now);
                self.load_all(now)?;
            }
        }
        for prefix in shared {
            self.settle(prefix, now)?;
        }
        Ok(())
    }

    /// Puts the draft in its place; where the earlier file is kept, and why it is not on disk.
    fn store(
        &mut self,
        name: &str,
        not_written: Option<String>,
    ) -> (Option<PathBuf>, Option<String>) {
        let committed = match not_written {
            Some(why) => Err(why),
            None => self.parts.files.commit(name).map_err(|error| error.to_string()),
        };
        match committed {
            Ok(previous) => (previous, None),
            Err(why) => {
                warn!(list = name, why, "the list holds and cannot be written; tried again");
                self.parts.files.is_behind(name);
                (None, Some(why))
            }
        }
    }

    /// Whether so many networks can be in force at all.
    fn fits(&self, networks: &Networks) -> Result<(), Refusal> {
        let most = self.parts.kernel.room().unwrap_or(NETWORKS_MAX);
        let largest = networks.len4().max(networks.len6());
        if largest <= most {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalKind::Failed,
            format!("the list has {largest} networks of one family, and {most} fit"),
        )
        .hint(format!("set `blocks` in [kernel] to more than {largest} and start the agent again")))
    }

    /// Where nothing may make room for it, a list that does not fit is refused as a whole.
    fn has_room_for(&mut self, change: &Change) -> Result<(), Refusal> {
        if self.parts.when_full != WhenFull::Refuse {
            return Ok(());
        }
        self.parts.kernel.sweep();
        let Some(occupancy) = self.parts.kernel.occupancy() else { return Ok(()) };
        for (family, coming) in [Family::V4, Family::V6].into_iter().zip(change.fresh) {
            let of_family = |prefix: &&Prefix| Family::of(**prefix) == family;
            let leaving = change.remove.iter().filter(of_family).count();
            let free = usize::try_from(family.free(occupancy)).unwrap_or(usize::MAX);
            let room = free.saturating_add(leaving);
            if coming > room {
                return Err(Refusal::new(
                    RefusalKind::Failed,
                    format!(
                        "{coming} more networks do not fit: the kernel map has room for {room}"
                    ),
                )
                .hint("raise `blocks` in [kernel], or let `when_full` make room"));
            }
        }
        Ok(())
    }

    fn in_kernel(&self, id: BlockId, took: std::time::Duration) -> Option<ListInKernel> {
        if self.parts.kernel.off_because().is_some() {
            return None;
        }
        let seat = self.parts.kernel.seat();
        let (entries, _) = self.held_by().remove(&id).unwrap_or_default();
        Some(ListInKernel {
            interfaces: seat.interfaces,
            entries,
            applied_us: super::as_micros(took),
            observe: seat.observes,
        })
    }

    /// Entries of the kernel maps and the packets that met them, by decision.
    pub(super) fn held_by(&self) -> HashMap<BlockId, (u64, u64)> {
        let mut held: HashMap<BlockId, (u64, u64)> = HashMap::new();
        let mut from = Some(Cursor::default());
        while let Some(cursor) = from {
            let (entries, next) = self.parts.kernel.scan(cursor, ROWS);
            for entry in entries {
                let (count, packets) = held.entry(entry.id).or_default();
                *count = count.saturating_add(1);
                *packets = packets.saturating_add(entry.packets);
            }
            from = next;
        }
        held
    }

    fn close_listed(&mut self, networks: &Networks) -> u64 {
        let quarantine = Arc::clone(&self.parts.quarantine);
        let spared =
            |address: IpAddr| networks.covering(address).is_none() || quarantine.is_spared(address);
        let everybody: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let closed = everybody.map(|address| {
            let closed = self.close_from(Prefix::around(address, 0), &spared);
            closed.connections.saturating_add(closed.sockets)
        });
        closed.into_iter().fold(0, u64::saturating_add)
    }

    /// What `work` gives, and how long it took.
    fn clock_of<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, std::time::Duration) {
        let begun = self.parts.clock.now();
        let done = work(self);
        (done, self.since(begun))
    }
}

/// What a draft is refused with whose guards are no longer those of the policy.
const STALE: &str = "the policy changed while the list was prepared; import it again";

fn first(mut refused: Vec<Refused>) -> Vec<Refused> {
    refused.truncate(REFUSED_TOLD);
    refused
}
