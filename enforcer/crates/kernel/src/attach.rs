//! Putting the program in force.
//!
//! The order is what keeps blocked packets out while agents come and go. A pinned folder is
//! adopted: the new programs are loaded on the maps that are in force, tested there, and each link
//! or filter changes its program in one step. Where nothing of this layout is in force, the blocks
//! are put in before the first link. An agent that dies at any point leaves links that drop, and a
//! folder that the next agent adopts.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use enforcer_ebpf::map;
use enforcer_model::Prefix;

use crate::bpf::Way;
use crate::detach::{self, remove_layout};
use crate::error::{AttachError, MapError};
use crate::interface::{Attachment, Device, Devices, Interface};
use crate::kernel::{Entry, Kernel};
use crate::ladder::{Failure, judge_incoming, judge_outgoing};
use crate::links::{Places, follow_renames};
use crate::object::OBJECT;
use crate::pins::{Pins, links_in};
use crate::program::{Loaded, describe};
use crate::system::{make_pin_folder, missing_capabilities};
use crate::{Attach, Config, shapes, sources};

impl Kernel {
    /// Puts the program in force on every interface of `config`, with `allow` never dropped.
    ///
    /// What an earlier agent left pinned is adopted with all its blocks. Where none of this layout
    /// has anything in force, `blocks` are put in before any packet meets the program. Interfaces
    /// are those of the calling thread's network namespace. Fails whole: what a failed call has
    /// begun it takes back, and what was in force before stays.
    pub fn attach(
        config: &Config,
        allow: &[Prefix],
        blocks: &[(Prefix, Entry)],
    ) -> Result<Self, AttachError> {
        let missing = missing_capabilities();
        if !missing.is_empty() {
            return Err(AttachError::Capabilities { missing });
        }
        Self::attach_object(OBJECT.ok_or(AttachError::NoObject)?, config, allow, blocks)
    }

    /// The same with the programs of another object, which must have this build's layout.
    #[doc(hidden)]
    pub fn attach_object(
        object: &[u8],
        config: &Config,
        allow: &[Prefix],
        blocks: &[(Prefix, Entry)],
    ) -> Result<Self, AttachError> {
        let devices = Devices::open().map_err(AttachError::Interfaces)?;
        let mut pins = Pins::new(&config.pins);
        for interface in &config.interfaces {
            check_interface(interface, config.attach, &devices, &pins)?;
        }
        make_pin_folder(pins.top())?;
        pins.check()?;
        let others = pins.other_layouts().map_err(unusable(&config.pins))?;
        let mut undo = Undo::begin(&pins)?;
        let sets = sources::sets(config.sources);
        shapes::check(sets, &mut pins)?;
        follow_renames(&pins, &devices).map_err(unusable(pins.folder()))?;

        let loaded = Loaded::load(object, sets, &pins, &map::ALL, config.attach)?;
        let mut kernel = Self::open_maps(pins, devices, config.interfaces.clone(), None)?;
        let adopts = kernel.adopts().map_err(AttachError::Interfaces)?;
        kernel.set_allow(allow)?;
        let masks = kernel.masks();
        kernel.configure(config)?;
        let wanted = kernel.masks();
        if adopts {
            // Programs that run still have the old memory of sources, which may be the smaller one.
            let ([old4, old6], [new4, new6]) = (masks, wanted);
            kernel.set_masks([old4.min(new4), old6.min(new6)])?;
        }
        if !adopts || !others.is_empty() {
            kernel.load(blocks, &[])?;
        }
        kernel.self_test(object, sets, &loaded)?;

        kernel.program = Some(loaded);
        for folder in &others {
            let mut taken = false;
            let done = kernel.take_over(folder, &mut taken);
            if taken {
                undo.keep_folder();
            }
            done?;
        }
        for interface in &config.interfaces {
            kernel.attach_one(interface, &mut undo)?;
        }
        kernel.set_masks(wanted)?;
        kernel.pins.settle().map_err(unusable(&config.pins))?;
        if let Some(loaded) = &mut kernel.program {
            loaded.pin(&kernel.pins)?;
        }
        undo.keep();
        kernel.detach_unwanted()?;
        for folder in &others {
            remove_layout(folder).map_err(unusable(folder))?;
        }
        Ok(kernel)
    }

    /// Attaches again where an interface went away and came back, and follows the policy about
    /// packets that go out. Returns the state of all.
    ///
    /// Every interface is tried; the first failure is reported.
    pub fn reattach(&mut self) -> Result<Vec<Interface>, AttachError> {
        follow_renames(&self.pins, &self.devices).map_err(AttachError::Interfaces)?;
        let outgoing = self.judges_outgoing();
        let mut first_failure = None;
        for interface in self.interfaces().map_err(AttachError::Interfaces)? {
            let Interface { name, attachment, egress, .. } = interface;
            let complete = attachment != Attachment::Detached
                && egress != Some(Attachment::Detached)
                && (outgoing || egress.is_none());
            if complete || attachment == Attachment::Missing || !self.wanted.contains(&name) {
                continue;
            }
            let mut undo = Undo::default();
            match self.attach_one(&name, &mut undo) {
                Ok(()) => undo.keep(),
                Err(failure) => first_failure = first_failure.or(Some(failure)),
            }
        }
        match first_failure {
            Some(failure) => Err(failure),
            None => self.interfaces().map_err(AttachError::Interfaces),
        }
    }

    /// How many sets of sources the programs use, less one.
    fn masks(&self) -> [u64; 2] {
        [self.config.source4_mask.get(), self.config.source6_mask.get()]
    }

    fn set_masks(&self, [v4, v6]: [u64; 2]) -> Result<(), MapError> {
        self.config.set(|config| &config.source4_mask, v4)?;
        self.config.set(|config| &config.source6_mask, v6)
    }

    /// One interface, both ways.
    fn attach_one(&mut self, interface: &str, undo: &mut Undo) -> Result<(), AttachError> {
        let device = find_device(interface, &self.devices)?;
        let outgoing = self.judges_outgoing();
        let loaded = self.program.as_mut().ok_or(AttachError::NoProgram)?;
        let places = Places { netlink: &self.devices.netlink, pins: &self.pins, device: &device };
        if places.ours(Way::In).map_err(AttachError::Interfaces)?.is_empty() {
            undo.made.push(device.name.clone());
        } else {
            // It runs on the maps of this folder from now on.
            undo.keep_folder();
        }
        judge_incoming(&places, loaded).map_err(|failure| match failure {
            Failure::Gone => unknown(interface.to_owned(), &self.devices),
            Failure::Occupied => occupied(interface.to_owned(), &self.devices),
            Failure::Named(error) => *error,
        })?;
        // Containment is the lesser half: without it the interface is guarded all the same, and
        // its state says what is missing.
        if let Err(error) = judge_outgoing(&places, loaded, outgoing) {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(interface, error, "what goes out is not judged");
        }
        Ok(())
    }
}

// === interfaces ===

/// There, of a kind that the program can read, and free where the policy leaves no choice.
fn check_interface(
    name: &str,
    attach: Attach,
    devices: &Devices,
    pins: &Pins,
) -> Result<(), AttachError> {
    let device = find_device(name, devices)?;
    if !device.ethernet {
        return Err(AttachError::NotEthernet { interface: device.name });
    }
    let Some((_, id)) = device.program else { return Ok(()) };
    if !matches!(attach, Attach::Native | Attach::Generic) {
        return Ok(());
    }
    for folder in pins.layouts().map_err(unusable(pins.top()))? {
        let links = links_in(&folder).map_err(unusable(&folder))?;
        if links.iter().any(|pinned| pinned.link.program == id) {
            return Ok(());
        }
    }
    Err(occupied(device.name, devices))
}

fn find_device(name: &str, devices: &Devices) -> Result<Device, AttachError> {
    let found = devices.find(name).map_err(AttachError::Interfaces)?;
    found.ok_or_else(|| unknown(name.to_owned(), devices))
}

fn unknown(interface: String, devices: &Devices) -> AttachError {
    let present = devices.list().unwrap_or_default();
    let present = present.into_iter().map(|device| device.name).collect();
    AttachError::Unknown { interface, present }
}

fn occupied(interface: String, devices: &Devices) -> AttachError {
    let device = devices.find(&interface).ok().flatten();
    let program = device.and_then(|device| device.program).map(|(_, id)| describe(id));
    AttachError::Occupied { interface, program: program.unwrap_or_default() }
}

// === undo ===

/// Takes back what a call that fails has begun.
#[derive(Default)]
struct Undo {
    /// Interfaces where nothing of ours was.
    made: Vec<String>,
    /// The folder, when it is new.
    folder: Option<PathBuf>,
    pins: Option<Pins>,
}

impl Undo {
    /// Makes the folder if there is none, and clears away what a call that was killed left behind.
    fn begin(pins: &Pins) -> Result<Self, AttachError> {
        let folder = pins.folder();
        let made = match fs::DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => Some(folder.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
            Err(error) => return Err(unusable(folder)(error)),
        };
        pins.remove_unfinished().map_err(unusable(folder))?;
        Ok(Self { made: Vec::new(), folder: made, pins: Some(pins.clone()) })
    }

    fn take_back(&self) -> io::Result<()> {
        let Some(pins) = &self.pins else { return Ok(()) };
        let devices = Devices::open()?;
        for device in devices.list()?.iter().filter(|device| self.made.contains(&device.name)) {
            detach::remove(device, &devices, pins)?;
        }
        pins.remove_unfinished()?;
        self.folder.as_deref().map_or(Ok(()), remove_layout)
    }

    /// Something that was in force depends on the folder now.
    fn keep_folder(&mut self) {
        self.folder = None;
    }

    fn keep(mut self) {
        self.pins = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Err(error) = self.take_back() {
            tracing::warn!(%error, "something of a failed attempt stays pinned");
        }
    }
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> AttachError + use<> {
    let path = path.to_owned();
    move |source| AttachError::Pins { path, source }
}
