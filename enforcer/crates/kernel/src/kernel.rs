//! The maps of one host, and everything that is done with them.
//!
//! A block is in force when [`Kernel::block`] returns: it was written and read back. One that has
//! expired is as good as absent, here as in the program; it stays in its table until
//! [`Kernel::sweep`] or until somebody needs its room.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{MapData, PerCpuArray};
use enforcer_ebpf::config::flag;
use enforcer_ebpf::{Mode as Word, V4, V6, map};
use enforcer_model::{BlockId, Prefix};

use crate::blocks::{BlockTable, Blocks};
use crate::budgets::Classes;
use crate::counters::Counters;
use crate::error::{BlockError, MapError, OpenError};
use crate::events::Events;
use crate::explain::{self, Explained, Maps};
use crate::family::Family;
use crate::interface::Devices;
use crate::lease::{self, Lease, monotonic_ns};
use crate::lists::{NetworkList, NotListed};
use crate::maps::{ConfigMap, memory_of, open_stats};
use crate::pins::Pins;
use crate::program;
use crate::sources::{Flood, PeerTraffic, Sources, Talker};
use crate::system::{boot_ns, missing_capabilities};
use crate::{Budgets, Config, Egress, Mode, OnAgentLoss};

/// More blocks of one family than any table holds.
const MOST_BLOCKS: u32 = 1 << 24;

/// The sole owner of the program and its maps.
pub struct Kernel {
    pub(crate) pins: Pins,
    pub(crate) devices: Devices,
    /// Interfaces that the policy names; those that are pinned come on top.
    pub(crate) wanted: Vec<String>,
    /// `None` when only the maps were opened.
    pub(crate) program: Option<program::Loaded>,
    pub(crate) config: Arc<ConfigMap>,
    blocks4: Blocks<V4>,
    blocks6: Blocks<V6>,
    allow4: NetworkList<V4>,
    allow6: NetworkList<V6>,
    classes: Classes,
    sources: Sources,
    stats: PerCpuArray<MapData, [u64; 2]>,
    /// The most blocks of a family.
    capacity: u32,
    loss: OnAgentLoss,
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
    /// Nothing is sent to it either, where packets that go out are judged.
    pub contain: bool,
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
    /// Whether nothing is sent to it either.
    pub contain: bool,
    /// Packets that met it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long ago the last one came, to about a second.
    pub last_hit: Option<Duration>,
}

/// What [`Kernel::sweep`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blocks that had expired and are gone.
    pub expired: usize,
}

/// What [`Kernel::load`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Networks that are blocked and were not before.
    pub added: usize,
    /// Networks that were blocked and have another block now.
    pub changed: usize,
    /// Networks that were blocked and are no longer.
    pub removed: usize,
}

/// How full the tables of blocks are, expired blocks that wait for a sweep included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// IPv4 blocks.
    pub v4: u32,
    /// IPv6 blocks.
    pub v6: u32,
    /// The most of either.
    pub capacity: u32,
}

/// How far a reader of [`Kernel::scan`] has come. The default is the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    v6: bool,
    row: u32,
    /// The table that the row is of; another one is read from its beginning.
    table: Option<u64>,
}

impl Kernel {
    /// The maps that an agent left pinned, without a program: to look, to release, to detach.
    ///
    /// Looking changes nothing, so an agent may run meanwhile.
    pub fn open_pinned(pins: &Path) -> Result<Self, OpenError> {
        let missing = missing_capabilities();
        if !missing.is_empty() {
            return Err(OpenError::Capabilities { missing });
        }
        let pins = Pins::new(pins);
        if !pins.folder().exists() {
            let other = pins.other_layouts().ok().and_then(|folders| folders.into_iter().next());
            return Err(match other {
                Some(folder) => OpenError::OtherLayout { folder },
                None => OpenError::NothingPinned { folder: pins.folder().to_owned() },
            });
        }
        let devices = Devices::open().map_err(OpenError::Interfaces)?;
        Ok(Self::open_maps(pins, devices, Vec::new(), None)?)
    }

    pub(crate) fn open_maps(
        pins: Pins,
        devices: Devices,
        wanted: Vec<String>,
        program: Option<program::Loaded>,
    ) -> Result<Self, MapError> {
        let config = Arc::new(ConfigMap::open(&pins)?);
        Ok(Self {
            blocks4: Blocks::open(&pins, &config)?,
            blocks6: Blocks::open(&pins, &config)?,
            allow4: NetworkList::open(&pins, map::ALLOW4)?,
            allow6: NetworkList::open(&pins, map::ALLOW6)?,
            classes: Classes::open(&pins)?,
            sources: Sources::open(&pins)?,
            stats: open_stats(&pins)?,
            config,
            pins,
            devices,
            wanted,
            program,
            capacity: MOST_BLOCKS,
            loss: OnAgentLoss::Keep,
        })
    }

    /// Everything in `CONFIG` that follows from the policy and from the sizes of the maps.
    pub(crate) fn configure(&mut self, config: &Config) -> Result<(), BlockError> {
        self.config.draw_seed()?;
        let mask = |sets: usize| u64::try_from(sets.saturating_sub(1)).unwrap_or(0);
        self.config.set(V4::mask_word, mask(self.sources.v4.len()))?;
        self.config.set(V6::mask_word, mask(self.sources.v6.len()))?;
        self.capacity = config.blocks;
        self.set_budgets(&config.budgets)?;
        self.set_egress(config.egress)?;
        self.set_on_agent_loss(config.on_agent_loss)?;
        Ok(self.set_mode(config.mode)?)
    }

    // === blocks ===

    /// Blocks `prefix`, or changes the block that it has.
    ///
    /// The counters go on when the id is the same. A full table is swept once before it is an error.
    pub fn block(&mut self, prefix: Prefix, entry: Entry) -> Result<Installed, BlockError> {
        let (id, most) = (entry.id.bits(), self.capacity);
        let meta = entry.meta(prefix.length(), boot_ns());
        let table = self.table_mut(prefix);
        if let Err(refused) = table.put(prefix, meta, id, most) {
            if !matches!(refused, BlockError::Full { .. }) || table.sweep_now()? == 0 {
                return Err(refused);
            }
            table.put(prefix, meta, id, most)?;
        }
        match table.find(prefix) {
            Some(found) if (found.meta, found.id) == (meta, id) => {
                Ok(Installed::new(prefix, &found, boot_ns()))
            }
            Some(_) | None => Err(BlockError::Lost { prefix }),
        }
    }

    /// Ends the block of exactly `prefix`; returns what it was when it was still in force.
    pub fn release(&mut self, prefix: Prefix) -> Result<Option<Installed>, BlockError> {
        let before = self.find(prefix)?;
        let table = self.table_mut(prefix);
        table.remove(prefix)?;
        match table.find(prefix) {
            Some(_) => Err(BlockError::Lost { prefix }),
            None => Ok(before),
        }
    }

    /// The block of exactly `prefix`, if it is in force.
    pub fn find(&self, prefix: Prefix) -> Result<Option<Installed>, MapError> {
        let now_ns = boot_ns();
        self.table(prefix).check()?;
        let found = self.table(prefix).find(prefix);
        let found = found.filter(|block| block.meta.in_force(now_ns));
        Ok(found.map(|block| Installed::new(prefix, &block, now_ns)))
    }

    /// Every block in force, IPv4 first, in order.
    pub fn blocks(&self) -> Result<Vec<Installed>, MapError> {
        let now_ns = boot_ns();
        self.blocks4.check()?;
        self.blocks6.check()?;
        let blocks4 = self.blocks4.in_force(0, u32::MAX, now_ns);
        let all = blocks4.chain(self.blocks6.in_force(0, u32::MAX, now_ns));
        let mut all: Vec<_> =
            all.map(|(prefix, block)| Installed::new(prefix, &block, now_ns)).collect();
        all.sort_unstable_by_key(|block| block.prefix);
        Ok(all)
    }

    /// The blocks in force in the next `rows` rows of four, and where to go on; `None` at the end.
    ///
    /// A block that is in force the whole time is met, and met twice when its table was replaced.
    pub fn scan(&self, from: Cursor, rows: usize) -> (Vec<Installed>, Option<Cursor>) {
        if from.v6 {
            return scan(&self.blocks6, from, rows);
        }
        let (found, next) = scan(&self.blocks4, from, rows);
        (found, next.or(Some(Cursor { v6: true, ..Cursor::default() })))
    }

    /// Takes `remove` out and puts `add` in: each family in one step that no packet sees half of.
    ///
    /// When it fails because something does not fit, nothing has changed.
    pub fn load(
        &mut self,
        add: &[(Prefix, Entry)],
        remove: &[Prefix],
    ) -> Result<Loaded, BlockError> {
        // One moment for all of it: a million entries take a while.
        let now_ns = boot_ns();
        let prepared4 = self.blocks4.prepare(add, remove, self.capacity, now_ns)?;
        let prepared6 = self.blocks6.prepare(add, remove, self.capacity, now_ns)?;
        let mut loaded = Loaded::default();
        if let Some(prepared) = prepared4 {
            loaded = loaded.and(self.blocks4.enforce(prepared)?);
        }
        if let Some(prepared) = prepared6 {
            loaded = loaded.and(self.blocks6.enforce(prepared)?);
        }
        Ok(loaded)
    }

    /// How full the tables are.
    pub fn occupancy(&self) -> Occupancy {
        let (v4, v6) = (self.blocks4.used(), self.blocks6.used());
        Occupancy { v4, v6, capacity: self.capacity }
    }

    /// Removes blocks that have expired, and what only they needed.
    ///
    /// Changes no verdict: it makes room, and packets cheaper. A pass over a table of a million
    /// blocks is not made again at once; a later call makes it.
    pub fn sweep(&mut self) -> Result<Swept, MapError> {
        Ok(Swept { expired: self.blocks4.sweep()? + self.blocks6.sweep()? })
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
        let refused = |refused| match refused {
            NotListed::TooMany(networks) => BlockError::TooManyAllowed { networks },
            NotListed::Lost(_) | NotListed::Map(_) => refused.into(),
        };
        let networks: Vec<(Prefix, u32)> = allow.iter().map(|network| (*network, 1)).collect();
        NetworkList::<V6>::check(&networks).map_err(refused)?;
        self.allow4.set(&networks).map_err(refused)?;
        self.allow6.set(&networks).map_err(refused)?;
        Ok(())
    }

    /// The networks that are never dropped, IPv4 first.
    pub fn allow(&self) -> Result<Vec<Prefix>, MapError> {
        let networks = self.allow4.networks()?.into_iter().chain(self.allow6.networks()?);
        Ok(networks.map(|(network, _)| network).collect())
    }

    /// Changes what a match does, from the next packet on.
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), MapError> {
        let word = match mode {
            Mode::Enforce => Word::Enforce,
            Mode::Observe => Word::Observe,
            Mode::Off => Word::Off,
        };
        self.config.set(|config| &config.mode, word.word())
    }

    /// What a match does.
    pub fn mode(&self) -> Result<Mode, MapError> {
        Ok(explain::mode(&self.config))
    }

    /// Changes what sources may send, from the next packet on.
    pub fn set_budgets(&mut self, budgets: &Budgets) -> Result<(), BlockError> {
        let sources: [&[_]; 2] = [&self.sources.v4, &self.sources.v6];
        self.classes.set(budgets, &self.config, sources)
    }

    /// Changes what is done with packets that go out, where a program judges them.
    pub fn set_egress(&mut self, egress: Egress) -> Result<(), MapError> {
        let flags = match egress {
            Egress::Contain => flag::CONTAIN | flag::PEERS,
            Egress::Count => flag::PEERS,
            Egress::Off => 0,
        };
        let others = self.config.flags.get() & !(flag::CONTAIN | flag::PEERS);
        self.config.set(|config| &config.flags, others | flags)
    }

    /// Changes what happens when the agent is gone, and renews its lease.
    pub fn set_on_agent_loss(&mut self, loss: OnAgentLoss) -> Result<(), MapError> {
        self.loss = loss;
        lease::renew(&self.config, loss)
    }

    /// A sign of life: the lease begins anew.
    ///
    /// Who has only opened the maps is no agent, and leaves the lease alone.
    pub fn renew_lease(&mut self) -> Result<(), MapError> {
        match self.loss {
            OnAgentLoss::Keep => Ok(()),
            loss @ OnAgentLoss::Observe { .. } => lease::renew(&self.config, loss),
        }
    }

    /// How the program stands towards its agent.
    pub fn lease(&self) -> Lease {
        Lease::at(monotonic_ns(), self.config.lease_ns.get())
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

    /// The verdict that the kernel would give a packet from `address` now. Spends nothing.
    pub fn explain(&self, address: IpAddr) -> Result<Explained, MapError> {
        let Self { config, blocks4, blocks6, allow4, allow6, classes, sources, .. } = self;
        blocks4.check()?;
        blocks6.check()?;
        Maps { config, blocks4, blocks6, allow4, allow6, classes, sources }.explain(address)
    }

    /// At most `most` sources, those with most packets first.
    pub fn talkers(&self, most: usize) -> Vec<Talker> {
        self.sources.talkers(most, &self.classes)
    }

    /// At most `most` destinations, those with most bytes first.
    pub fn peers(&self, most: usize) -> Vec<PeerTraffic> {
        self.sources.peers(most)
    }

    /// Whether more new sources come than anybody has clients.
    pub fn flood(&self) -> Flood {
        self.sources.flood()
    }

    /// Bytes of kernel memory that all maps take.
    pub fn memory(&self) -> u64 {
        let tables = [self.blocks4.table_bytes(), self.blocks6.table_bytes()];
        let tables = tables.into_iter().map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX));
        memory_of(&self.pins) + tables.sum::<u64>()
    }
}

fn scan<F: Family>(
    blocks: &Blocks<F>,
    from: Cursor,
    rows: usize,
) -> (Vec<Installed>, Option<Cursor>) {
    let table = Some(blocks.word().word());
    let first = if from.table == table { from.row } else { 0 };
    let rows = u32::try_from(rows).unwrap_or(u32::MAX).max(1);
    let now_ns = boot_ns();
    let found = blocks.in_force(first, rows, now_ns);
    let found = found.map(|(prefix, block)| Installed::new(prefix, &block, now_ns)).collect();
    let row = first.saturating_add(rows);
    let end = blocks.table().map_or(0, |table| table.rows().len());
    let is_over = usize::try_from(row).map_or(true, |row| row >= end);
    (found, (!is_over).then_some(Cursor { row, table, ..from }))
}

impl Loaded {
    const fn and(self, other: Self) -> Self {
        Self {
            added: self.added + other.added,
            changed: self.changed + other.changed,
            removed: self.removed + other.removed,
        }
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
    fn nothing_pinned_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();

        let Err(refused) = Kernel::open_pinned(folder.path()) else { panic!("opened nothing") };

        assert!(refused.hint().is_some());
    }
}
