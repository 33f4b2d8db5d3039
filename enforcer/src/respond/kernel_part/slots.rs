//! The block maps: what is put there, what is taken out, what is read back.

use std::time::Duration;

use enforcer_admin::call::InKernel;
use enforcer_audit::Layer;
use enforcer_kernel::{
    Attachment, BlockError, Cursor, Entry, Explained, Installed, Kernel, Loaded, MapError, Mode,
    Occupancy,
};
use enforcer_model::Prefix;
use tracing::debug;

use super::{KernelPart, hinted, report};
use crate::cli::chain;
use crate::respond::as_micros;

/// Where entries have effect at this moment, read once for many of them.
pub(in crate::respond) struct Seat {
    pub(in crate::respond) interfaces: Vec<String>,
    pub(in crate::respond) observes: bool,
}

/// Why a network has no slot.
#[derive(Debug)]
pub(in crate::respond) enum NoSlot {
    /// Every slot is taken.
    Full(String),
    /// Anything else.
    Failed(String),
}

impl KernelPart {
    pub(in crate::respond) fn put(
        &mut self,
        prefix: Prefix,
        entry: Entry,
    ) -> Result<Installed, NoSlot> {
        let Some(kernel) = &mut self.kernel else { return Err(NoSlot::Failed(off())) };
        kernel.block(prefix, entry).map_err(|error| no_slot(&error))
    }

    /// Takes `remove` out and puts `add` in, in one step.
    pub(in crate::respond) fn load(
        &mut self,
        add: &[(Prefix, Entry)],
        remove: &[Prefix],
    ) -> Result<Loaded, NoSlot> {
        let Some(kernel) = &mut self.kernel else { return Err(NoSlot::Failed(off())) };
        kernel.load(add, remove).map_err(|error| no_slot(&error))
    }

    pub(in crate::respond) fn release(
        &mut self,
        prefix: Prefix,
    ) -> Result<Option<Installed>, String> {
        let Some(kernel) = &mut self.kernel else { return Ok(None) };
        kernel.release(prefix).map_err(|error| hinted(&error, error.hint()))
    }

    pub(in crate::respond) fn find(&self, prefix: Prefix) -> Result<Option<Installed>, String> {
        self.read(None, |kernel| kernel.find(prefix))
    }

    /// Every entry that the kernel holds.
    pub(in crate::respond) fn entries(&self) -> Result<Vec<Installed>, String> {
        self.read(Vec::new(), Kernel::blocks)
    }

    /// The entries in some rows of the maps, and where to go on.
    pub(in crate::respond) fn scan(
        &self,
        from: Cursor,
        rows: usize,
    ) -> (Vec<Installed>, Option<Cursor>) {
        self.kernel.as_ref().map_or((Vec::new(), None), |kernel| kernel.scan(from, rows))
    }

    pub(in crate::respond) fn occupancy(&self) -> Option<Occupancy> {
        self.kernel.as_ref().map(Kernel::occupancy)
    }

    /// The verdict that the kernel would give now.
    pub(in crate::respond) fn explain(
        &self,
        address: std::net::IpAddr,
    ) -> Result<Option<Explained>, String> {
        self.read(None, |kernel| kernel.explain(address).map(Some))
    }

    /// Frees the room of entries that are over; they drop nothing.
    pub(in crate::respond) fn sweep(&mut self) {
        if let Some(kernel) = &mut self.kernel
            && let Err(error) = kernel.sweep()
        {
            debug!(error = chain(&error), "expired entries stay in the kernel map");
        }
    }

    /// Where entries have effect.
    pub(in crate::respond) fn seat(&self) -> Seat {
        Seat {
            interfaces: self.interfaces(),
            observes: self.mode().is_some_and(|mode| mode != Mode::Enforce),
        }
    }

    /// The attached interfaces, for a record.
    pub(in crate::respond) fn layers(&self) -> Vec<Layer> {
        let attached = self.read_interfaces().unwrap_or_default().into_iter();
        let layers = attached.filter_map(|interface| {
            let mode = match interface.attachment {
                Attachment::Attached { hook, .. } => hook.name().to_owned(),
                Attachment::Detached | Attachment::Missing => return None,
            };
            Some(Layer::Kernel { interface: interface.name, mode })
        });
        layers.collect()
    }

    pub(super) fn interfaces(&self) -> Vec<String> {
        match self.read_interfaces() {
            Ok(interfaces) => interfaces.iter().map(report::described).collect(),
            Err(why) => vec![why],
        }
    }

    fn read<T>(
        &self,
        off: T,
        read: impl FnOnce(&Kernel) -> Result<T, MapError>,
    ) -> Result<T, String> {
        let Some(kernel) = &self.kernel else { return Ok(off) };
        read(kernel).map_err(|error| hinted(&error, error.hint()))
    }
}

impl Seat {
    /// One entry, for an answer.
    pub(in crate::respond) fn describe(
        &self,
        entry: &Installed,
        took: Option<Duration>,
    ) -> InKernel {
        InKernel {
            interfaces: self.interfaces.clone(),
            applied_us: took.map_or(0, as_micros),
            remaining_seconds: entry.remaining.map(|left| left.as_secs()),
            packets: entry.packets,
            bytes: entry.bytes,
            observe: entry.observe || self.observes,
        }
    }
}

impl NoSlot {
    /// Why, in words.
    pub(in crate::respond) fn why(self) -> String {
        match self {
            Self::Full(why) | Self::Failed(why) => why,
        }
    }
}

fn no_slot(error: &BlockError) -> NoSlot {
    let why = hinted(error, error.hint());
    let is_full = matches!(error, BlockError::Full { .. });
    if is_full { NoSlot::Full(why) } else { NoSlot::Failed(why) }
}

fn off() -> String {
    "the kernel part is off".to_owned()
}
