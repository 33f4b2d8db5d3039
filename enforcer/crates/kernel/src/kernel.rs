//! The maps of one host, and everything that is done with them.
//!
//! A block is in force when [`Kernel::block`] returns: the entry and its prefix length were written
//! and read back. An entry that has expired is as good as absent, here as in the program; it stays
//! in the map until [`Kernel::sweep`] or until somebody needs its room.

use std::path::Path;
use std::time::Duration;

use aya::maps::{MapData, PerCpuArray};
use aya::programs::ProgramInfo;
use enforcer_ebpf::{
    Address, Config as Shared, Entry as Row, Lengths, MAX_LENGTHS, Mode as Word, NEVER_NS, V4, V6,
};
use enforcer_model::{BlockId, Prefix};

use crate::counters::Counters;
use crate::error::{BlockError, MapError, OpenError};
use crate::events::Events;
use crate::interface::{Attachment, Devices, Interface, Program};
use crate::pins::Pins;
use crate::program::{Loaded, linked_program};
use crate::system::{boot_ns, boot_ns_after, missing_capabilities};
use crate::table::{AllowList, BlockTable, Blocks, ConfigMap, open_stats};
use crate::{Budget, Mode};

/// The sole owner of the program and its maps.
pub struct Kernel {
    pub(crate) pins: Pins,
    pub(crate) devices: Devices,
    /// Interfaces that the policy names; those that are pinned come on top.
    pub(crate) wanted: Vec<String>,
    /// `None` when only the maps were opened.
    pub(crate) program: Option<Loaded>,
    blocks4: Blocks<V4>,
    blocks6: Blocks<V6>,
    allow4: AllowList<V4>,
    allow6: AllowList<V6>,
    config: ConfigMap,
    stats: PerCpuArray<MapData, [u64; 2]>,
}

/// A block to put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: BlockId,
    /// How long it lasts from now; `None`: until it is released.
    pub expires: Option<Duration>,
    /// Count and report, and let pass.
    pub observe: bool,
}

/// A block in force, as the kernel holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Whom it hits.
    pub prefix: Prefix,
    /// Its id.
    pub id: BlockId,
    /// How long it lasts; `None`: until it is released.
    pub remaining: Option<Duration>,
    /// Whether it only observes.
    pub observe: bool,
    /// Packets that met it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long ago the last one came.
    pub last_hit: Option<Duration>,
}

/// What [`Kernel::sweep`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Entries that had expired and are gone.
    pub expired: usize,
}

impl Kernel {
    /// The maps that an agent left pinned, without a program: to look, to release, to detach.
    pub fn open_pinned(pins: &Path) -> Result<Self, OpenError> {
        let missing = missing_capabilities();
        if !missing.is_empty() {
            return Err(OpenError::Capabilities { missing });
        }
        let pins = Pins::new(pins);
        if !pins.folder().exists() {
            return Err(match pins.other_layout() {
                Ok(Some(folder)) => OpenError::OtherLayout { folder },
                Ok(None) | Err(_) => OpenError::NothingPinned { folder: pins.folder().to_owned() },
            });
        }
        let devices = Devices::open().map_err(OpenError::Interfaces)?;
        Ok(Self::open_maps(pins, devices, Vec::new(), None)?)
    }

    pub(crate) fn open_maps(
        pins: Pins,
        devices: Devices,
        wanted: Vec<String>,
        program: Option<Loaded>,
    ) -> Result<Self, MapError> {
        Ok(Self {
            blocks4: Blocks::open(&pins)?,
            blocks6: Blocks::open(&pins)?,
            allow4: AllowList::open(&pins)?,
            allow6: AllowList::open(&pins)?,
            config: ConfigMap::open(&pins)?,
            stats: open_stats(&pins)?,
            pins,
            devices,
            wanted,
            program,
        })
    }

    // === blocks ===

    /// Blocks `prefix`, or changes the block that it has.
    ///
    /// The counters go on when the id is the same. A full map is swept once before it is an error.
    pub fn block(&mut self, prefix: Prefix, entry: Entry) -> Result<Installed, BlockError> {
        let id = entry.id.bits();
        let before = self.table(prefix).get(prefix)?.filter(|row| row.id == id);
        let row = Row {
            expires_ns: entry.expires.map_or(NEVER_NS, boot_ns_after),
            id,
            observe: u64::from(entry.observe),
            ..before.unwrap_or_default()
        };
        self.admit_length(prefix)?;
        if let Err(refused) = self.table_mut(prefix).put(prefix, row) {
            if !matches!(refused, BlockError::Full { .. }) || self.sweep()?.expired == 0 {
                return Err(refused);
            }
            self.admit_length(prefix)?;
            self.table_mut(prefix).put(prefix, row)?;
        }
        let now_ns = boot_ns();
        match self.table(prefix).get(prefix)? {
            Some(found) if same_decision(&found, &row) => {
                Ok(Installed::new(prefix, &found, now_ns))
            }
            Some(_) | None => Err(BlockError::Lost { prefix }),
        }
    }

    /// Ends the block of exactly `prefix`; returns what it was when it was still in force.
    pub fn release(&mut self, prefix: Prefix) -> Result<Option<Installed>, BlockError> {
        let before = self.find(prefix)?;
        self.table_mut(prefix).remove(prefix)?;
        match self.table(prefix).get(prefix)? {
            Some(_) => Err(BlockError::Lost { prefix }),
            None => Ok(before),
        }
    }

    /// The block of exactly `prefix`, if it is in force.
    pub fn find(&self, prefix: Prefix) -> Result<Option<Installed>, MapError> {
        let now_ns = boot_ns();
        let row = self.table(prefix).get(prefix)?.filter(|row| row.expires_ns > now_ns);
        Ok(row.map(|row| Installed::new(prefix, &row, now_ns)))
    }

    /// Every block in force, IPv4 first.
    pub fn blocks(&self) -> Result<Vec<Installed>, MapError> {
        let now_ns = boot_ns();
        let rows = self.blocks4.list()?.into_iter().chain(self.blocks6.list()?);
        Ok(rows
            .filter(|(_, row)| row.expires_ns > now_ns)
            .map(|(prefix, row)| Installed::new(prefix, &row, now_ns))
            .collect())
    }

    /// Removes entries that have expired and forgets prefix lengths that no block has.
    ///
    /// Neither changes a verdict: it makes room, and packets cheaper.
    pub fn sweep(&mut self) -> Result<Swept, MapError> {
        let now_ns = boot_ns();
        let swept4 = sweep(&mut self.blocks4, now_ns)?;
        let swept6 = sweep(&mut self.blocks6, now_ns)?;
        let config = self.config.get()?;
        let fresh = Shared { lengths4: swept4.lengths, lengths6: swept6.lengths, ..config };
        if fresh != config {
            self.config.set(fresh)?;
        }
        Ok(Swept { expired: swept4.expired + swept6.expired })
    }

    /// Makes the program look for networks of this length.
    ///
    /// Before the entry is written, so that the entry is in force the moment that it is.
    fn admit_length(&mut self, prefix: Prefix) -> Result<(), BlockError> {
        let host_bits = |bits: u32| Lengths::of(bits.saturating_sub(u32::from(prefix.length())));
        let with_length = |config: Shared| match prefix.address() {
            std::net::IpAddr::V4(_) => {
                let lengths = config.lengths4.union(host_bits(V4::BITS));
                (lengths, Shared { lengths4: lengths, ..config })
            }
            std::net::IpAddr::V6(_) => {
                let lengths = config.lengths6.union(host_bits(V6::BITS));
                (lengths, Shared { lengths6: lengths, ..config })
            }
        };
        let config = self.config.get()?;
        let (mut lengths, mut fresh) = with_length(config);
        if fresh == config {
            return Ok(());
        }
        if lengths.count() > MAX_LENGTHS {
            self.sweep()?;
            (lengths, fresh) = with_length(self.config.get()?);
        }
        if lengths.count() > MAX_LENGTHS {
            return Err(BlockError::Lengths { prefix });
        }
        Ok(self.config.set(fresh)?)
    }

    fn table(&self, prefix: Prefix) -> &dyn BlockTable {
        if prefix.address().is_ipv4() { &self.blocks4 } else { &self.blocks6 }
    }

    fn table_mut(&mut self, prefix: Prefix) -> &mut dyn BlockTable {
        if prefix.address().is_ipv4() { &mut self.blocks4 } else { &mut self.blocks6 }
    }

    // === what else is in force ===

    /// Makes `allow` the list of networks that are never dropped.
    pub fn set_allow(&mut self, allow: &[Prefix]) -> Result<(), BlockError> {
        self.allow4.set(allow)?;
        self.allow6.set(allow)
    }

    /// The networks that are never dropped, IPv4 first.
    pub fn allow(&self) -> Result<Vec<Prefix>, MapError> {
        let mut networks = self.allow4.networks()?;
        networks.extend(self.allow6.networks()?);
        Ok(networks)
    }

    /// Changes what a match does, from the next packet on.
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), MapError> {
        let config = self.config.get()?;
        self.config.set(Shared { mode: word(mode), ..config })
    }

    /// What a match does.
    pub fn mode(&self) -> Result<Mode, MapError> {
        Ok(match Word::from_word(self.config.get()?.mode) {
            Word::Enforce => Mode::Enforce,
            Word::Observe => Mode::Observe,
            Word::Off => Mode::Off,
        })
    }

    /// Changes what one source may send, from the next packet on.
    pub fn set_budget(&mut self, budget: Option<Budget>) -> Result<(), MapError> {
        let config = self.config.get()?;
        self.config.set(with_budget(config, budget))
    }

    /// Everything of `CONFIG` that does not follow from the blocks, and the lengths that do.
    pub(crate) fn configure(&mut self, mode: Mode, budget: Option<Budget>) -> Result<(), MapError> {
        let lengths4 = lengths_of(&self.blocks4)?;
        let lengths6 = lengths_of(&self.blocks6)?;
        let config = Shared { mode: word(mode), lengths4, lengths6, ..Shared::default() };
        self.config.set(with_budget(config, budget))
    }

    // === what it sees ===

    /// What the program counted since the maps were made.
    pub fn counters(&self) -> Result<Counters, MapError> {
        Counters::read(&self.stats)
    }

    /// The reader of what the program reports. One at a time.
    pub fn take_events(&mut self) -> Result<Events, MapError> {
        Events::open(&self.pins)
    }

    /// Every interface that the policy names or that has a pinned link, and its state now.
    pub fn interfaces(&self) -> std::io::Result<Vec<Interface>> {
        let devices = self.devices.list()?;
        let pinned = ProgramInfo::from_pin(self.pins.program()).ok();
        let mut names = self.wanted.clone();
        names.extend(self.pins.interfaces()?);
        names.sort_unstable();
        names.dedup();
        let state = |name: &String| {
            let Some(device) = devices.iter().find(|device| device.name == *name) else {
                return Attachment::Missing;
            };
            match (device.program, linked_program(&self.pins.link(name))) {
                (Some((hook, id)), Some(linked)) if id == linked => {
                    let tag = pinned.as_ref().filter(|info| info.id() == id).map(ProgramInfo::tag);
                    Attachment::Attached { hook, program: Program { id, tag } }
                }
                (Some(_) | None, _) => Attachment::Detached,
            }
        };
        let interface = |name: String| Interface { attachment: state(&name), name };
        Ok(names.into_iter().map(interface).collect())
    }
}

impl Installed {
    fn new(prefix: Prefix, row: &Row, now_ns: u64) -> Self {
        let span = |ns: u64| Duration::from_nanos(ns);
        Self {
            prefix,
            id: BlockId::from_bits(row.id),
            remaining: (row.expires_ns != NEVER_NS)
                .then(|| span(row.expires_ns.saturating_sub(now_ns))),
            observe: row.observe != 0,
            packets: row.packets,
            bytes: row.bytes,
            last_hit: (row.last_hit_ns != 0).then(|| span(now_ns.saturating_sub(row.last_hit_ns))),
        }
    }
}

struct SweptTable {
    expired: usize,
    lengths: Lengths,
}

fn sweep<F: crate::table::Family>(
    table: &mut Blocks<F>,
    now_ns: u64,
) -> Result<SweptTable, MapError> {
    let mut swept = SweptTable { expired: 0, lengths: Lengths::default() };
    for (prefix, row) in table.list()? {
        if row.expires_ns > now_ns {
            swept.lengths = swept.lengths.union(length_of::<F>(prefix));
        } else {
            table.remove(prefix)?;
            swept.expired += 1;
        }
    }
    Ok(swept)
}

fn lengths_of<F: crate::table::Family>(table: &Blocks<F>) -> Result<Lengths, MapError> {
    let rows = table.list()?;
    Ok(rows
        .iter()
        .fold(Lengths::default(), |lengths, (prefix, _)| lengths.union(length_of::<F>(*prefix))))
}

fn length_of<F: crate::table::Family>(prefix: Prefix) -> Lengths {
    Lengths::of(F::BITS.saturating_sub(u32::from(prefix.length())))
}

/// Whether two rows say the same, whatever was counted meanwhile.
fn same_decision(a: &Row, b: &Row) -> bool {
    (a.expires_ns, a.id, a.observe) == (b.expires_ns, b.id, b.observe)
}

fn with_budget(config: Shared, budget: Option<Budget>) -> Shared {
    match budget {
        Some(Budget { packets, burst }) => config.with_budget(packets.count(), burst.get()),
        None => config.with_budget(0, 0),
    }
}

const fn word(mode: Mode) -> u64 {
    match mode {
        Mode::Enforce => Word::Enforce.word(),
        Mode::Observe => Word::Observe.word(),
        Mode::Off => Word::Off.word(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_may_move_to_another_thread() {
        fn is_send<T: Send>() {}

        is_send::<Kernel>();
        is_send::<Events>();
    }

    #[test]
    fn what_was_counted_meanwhile_does_not_make_a_written_row_another() {
        let row = Row { expires_ns: 9, id: 7, ..Row::default() };

        assert!(same_decision(&row, &Row { packets: 3, last_hit_ns: 8, ..row }));
        assert!(!same_decision(&row, &Row { id: 8, ..row }));
        assert!(!same_decision(&row, &Row { expires_ns: 10, ..row }));
        assert!(!same_decision(&row, &Row { observe: 1, ..row }));
    }

    #[test]
    fn nothing_pinned_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();

        let Err(refused) = Kernel::open_pinned(folder.path()) else { panic!("opened nothing") };

        assert!(refused.hint().is_some());
    }
}
