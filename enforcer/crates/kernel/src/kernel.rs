//! The maps of one host, and everything that is done with them.
//!
//! A block is in force when [`Kernel::block`] returns: it was written and read back. One that has
//! expired is as good as absent, here as in the program; it stays in its table until
//! [`Kernel::sweep`] or until somebody needs its room.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use enforcer_model::{BlockId, Prefix};

use crate::counters::Counters;
use crate::error::{BlockError, MapError, OpenError};
use crate::events::Events;
use crate::explain::Explained;
use crate::interface::Devices;
use crate::lease::Lease;
use crate::pins::Pins;
use crate::program;
use crate::sources::{Flood, PeerTraffic, Talker};
use crate::{Budgets, Config, Egress, Mode, OnAgentLoss};

/// The sole owner of the program and its maps.
pub struct Kernel {
    pub(crate) pins: Pins,
    pub(crate) devices: Devices,
    /// Interfaces that the policy names; those that are pinned come on top.
    pub(crate) wanted: Vec<String>,
    /// `None` when only the maps were opened.
    pub(crate) program: Option<program::Loaded>,
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
    _todo: (),
}

impl Kernel {
    /// The maps that an agent left pinned, without a program: to look, to release, to detach.
    pub fn open_pinned(pins: &Path) -> Result<Self, OpenError> {
        todo!()
    }

    /// Opens the pinned maps; draws the secrets of this host's hashes when there are none.
    ///
    /// For `attach`: afterwards [`Self::set_allow`], [`Self::configure`], [`Self::load`], links.
    pub(crate) fn open_maps(
        pins: Pins,
        devices: Devices,
        wanted: Vec<String>,
        program: Option<program::Loaded>,
    ) -> Result<Self, MapError> {
        todo!()
    }

    /// Everything in `CONFIG` that follows from the policy, and the sizes of the maps; mode last.
    pub(crate) fn configure(&mut self, config: &Config) -> Result<(), BlockError> {
        todo!()
    }

    // === blocks ===

    /// Blocks `prefix`, or changes the block that it has.
    ///
    /// The counters go on when the id is the same. A full table is swept once before it is an error.
    pub fn block(&mut self, prefix: Prefix, entry: Entry) -> Result<Installed, BlockError> {
        todo!()
    }

    /// Ends the block of exactly `prefix`; returns what it was when it was still in force.
    pub fn release(&mut self, prefix: Prefix) -> Result<Option<Installed>, BlockError> {
        todo!()
    }

    /// The block of exactly `prefix`, if it is in force.
    pub fn find(&self, prefix: Prefix) -> Result<Option<Installed>, MapError> {
        todo!()
    }

    /// Every block in force, IPv4 first, in order.
    pub fn blocks(&self) -> Result<Vec<Installed>, MapError> {
        todo!()
    }

    /// The blocks in force in the next `rows` rows of four, and where to go on; `None` at the end.
    pub fn scan(&self, from: Cursor, rows: usize) -> (Vec<Installed>, Option<Cursor>) {
        todo!()
    }

    /// Takes `remove` out and puts `add` in: each family in one step that no packet sees half of.
    ///
    /// When it fails because something does not fit, nothing has changed.
    pub fn load(
        &mut self,
        add: &[(Prefix, Entry)],
        remove: &[Prefix],
    ) -> Result<Loaded, BlockError> {
        todo!()
    }

    /// How full the tables are.
    pub fn occupancy(&self) -> Occupancy {
        todo!()
    }

    /// Removes blocks that have expired, and what only they needed.
    ///
    /// Changes no verdict: it makes room, and packets cheaper.
    pub fn sweep(&mut self) -> Result<Swept, MapError> {
        todo!()
    }

    // === what else is in force ===

    /// Makes `allow` the list of networks that are never dropped.
    pub fn set_allow(&mut self, allow: &[Prefix]) -> Result<(), BlockError> {
        todo!()
    }

    /// The networks that are never dropped, IPv4 first.
    pub fn allow(&self) -> Result<Vec<Prefix>, MapError> {
        todo!()
    }

    /// Changes what a match does, from the next packet on.
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), MapError> {
        todo!()
    }

    /// What a match does.
    pub fn mode(&self) -> Result<Mode, MapError> {
        todo!()
    }

    /// Changes what sources may send, from the next packet on.
    pub fn set_budgets(&mut self, budgets: &Budgets) -> Result<(), BlockError> {
        todo!()
    }

    /// Changes what is done with packets that go out, where a program judges them.
    pub fn set_egress(&mut self, egress: Egress) -> Result<(), MapError> {
        todo!()
    }

    /// Changes what happens when the agent is gone, and renews its lease.
    pub fn set_on_agent_loss(&mut self, loss: OnAgentLoss) -> Result<(), MapError> {
        todo!()
    }

    /// A sign of life: the lease begins anew.
    pub fn renew_lease(&mut self) -> Result<(), MapError> {
        todo!()
    }

    /// How the program stands towards its agent.
    pub fn lease(&self) -> Lease {
        todo!()
    }

    // === what it sees ===

    /// What the program counted since the maps were made.
    pub fn counters(&self) -> Result<Counters, MapError> {
        todo!()
    }

    /// The reader of what the program reports. One at a time.
    pub fn take_events(&mut self) -> Result<Events, MapError> {
        todo!()
    }

    /// The verdict that the kernel would give a packet from `address` now. Spends nothing.
    pub fn explain(&self, address: IpAddr) -> Result<Explained, MapError> {
        todo!()
    }

    /// At most `most` sources, those with most packets first.
    pub fn talkers(&self, most: usize) -> Vec<Talker> {
        todo!()
    }

    /// At most `most` destinations, those with most bytes first.
    pub fn peers(&self, most: usize) -> Vec<PeerTraffic> {
        todo!()
    }

    /// Whether more new sources come than anybody has clients.
    pub fn flood(&self) -> Flood {
        todo!()
    }

    /// Bytes of kernel memory that all maps take.
    pub fn memory(&self) -> u64 {
        todo!()
    }
}
