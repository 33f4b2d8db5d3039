//! Putting the program in force, and taking it out again.
//!
//! The order is what keeps blocked packets out while agents come and go. A pinned folder is
//! adopted: the new program is loaded on the maps that are in force, and each link changes its
//! program in one step. A map whose capacity changes is copied first; links change to the program
//! that uses the copy before the copy takes the name. An agent that dies at any point leaves links
//! that drop, and a folder that the next agent adopts.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use aya::maps::{MapInfo, MapType};
use aya::programs::ProgramError;
use enforcer_ebpf::{COUNTERS, EVENT_BYTES, MAX_ALLOW, V4, V6, map};
use enforcer_model::Prefix;

use crate::Config;
use crate::error::{AttachError, DetachError, MapError};
use crate::interface::{Attachment, Device, Devices, Interface};
use crate::kernel::Kernel;
use crate::object::OBJECT;
use crate::pins::{Pins, list};
use crate::program::{
    EBUSY, EEXIST, ENODEV, Loaded, NoLink, capacities, describe, errno, linked_program,
};
use crate::system::{boot_ns, boot_ns_after, make_pin_folder, missing_capabilities};
use crate::table::{BlockTable, Blocks, Family};

/// A link ends some time after its last owner; longer than this means that somebody holds it.
const DETACH_WITHIN: Duration = Duration::from_secs(2);

impl Kernel {
    /// Puts the program in force on every interface of `config`, with `allow` never dropped.
    ///
    /// What an earlier agent left pinned is adopted with all its blocks. Interfaces are those of
    /// the calling thread's network namespace. Fails whole: what a failed call has begun it takes
    /// back, and what was in force before stays.
    pub fn attach(config: &Config, allow: &[Prefix]) -> Result<Self, AttachError> {
        let missing = missing_capabilities();
        if !missing.is_empty() {
            return Err(AttachError::Capabilities { missing });
        }
        let object = OBJECT.ok_or(AttachError::NoObject)?;
        let devices = Devices::open().map_err(AttachError::Interfaces)?;
        let mut pins = Pins::new(&config.pins);
        for interface in &config.interfaces {
            check_interface(interface, &devices, &pins)?;
        }
        make_pin_folder(pins.top())?;
        if let Some(folder) = pins.other_layout().map_err(unusable(&config.pins))? {
            return Err(AttachError::OtherLayout { folder });
        }
        let mut undo = Undo::begin(&pins)?;

        check_shapes(config, &mut pins)?;
        let mut loaded = Loaded::load(object, config, &pins)?;
        copy_blocks::<V4>(&pins)?;
        copy_blocks::<V6>(&pins)?;
        loaded.pin(&pins)?;
        let mut kernel = Self::open_maps(pins, devices, config.interfaces.clone(), Some(loaded))?;
        kernel.set_allow(allow)?;
        kernel.configure(config.mode, config.budget)?;

        for interface in &config.interfaces {
            kernel.attach_one(interface, &mut undo)?;
        }
        kernel.pins.settle().map_err(unusable(&config.pins))?;
        undo.keep();
        kernel.detach_unwanted()?;
        Ok(kernel)
    }

    /// Attaches again where an interface went away and came back. Returns the state of all.
    ///
    /// Every interface is tried; the first failure is reported.
    pub fn reattach(&mut self) -> Result<Vec<Interface>, AttachError> {
        let mut first_failure = None;
        for interface in self.interfaces().map_err(AttachError::Interfaces)? {
            let wanted = self.wanted.contains(&interface.name);
            if !wanted || interface.attachment != Attachment::Detached {
                continue;
            }
            let mut undo = Undo::default();
            match self.attach_one(&interface.name, &mut undo) {
                Ok(()) => undo.keep(),
                Err(failure) => first_failure = first_failure.or(Some(failure)),
            }
        }
        match first_failure {
            Some(failure) => Err(failure),
            None => self.interfaces().map_err(AttachError::Interfaces),
        }
    }

    /// Takes the program off every interface and removes all pins: nothing is in force afterwards.
    pub fn detach(self) -> Result<(), DetachError> {
        let pins = self.pins.clone();
        // Our own hold on maps and program goes first.
        drop(self);
        unpin(&pins).map(drop)
    }

    /// The same without an agent, whatever version it was. Returns the interfaces that had a link.
    pub fn detach_pinned(pins: &Path) -> Result<Vec<String>, DetachError> {
        let missing = missing_capabilities();
        if !missing.is_empty() {
            return Err(DetachError::Capabilities { missing });
        }
        unpin(&Pins::new(pins))
    }

    /// One interface: change the program of its link, or make a link.
    fn attach_one(&mut self, interface: &str, undo: &mut Undo) -> Result<(), AttachError> {
        let device = find_device(interface, &self.devices)?;
        let loaded = self.program.as_mut().ok_or(AttachError::NoProgram)?;
        let attach = loaded.attach();
        let pin = self.pins.link(interface);
        let refused = |source: ProgramError| {
            let interface = interface.to_owned();
            match errno(&source) {
                Some(EBUSY | EEXIST) => occupied(interface, &self.devices),
                Some(ENODEV) => unknown(interface, &self.devices),
                Some(_) | None if attach == crate::Attach::Native => {
                    AttachError::Native { interface, source }
                }
                Some(_) | None => AttachError::Link { interface, source },
            }
        };
        if pin.exists() {
            let linked = linked_program(&pin);
            let ours = device.program.filter(|(_, id)| Some(*id) == linked);
            if ours.is_some_and(|(hook, _)| attach.accepts(hook)) {
                return loaded.replace(&pin).map_err(refused);
            }
            // The interface was made anew, or the policy wants another place. Two places at once
            // the kernel refuses, so this one change has a gap, which the operator asked for.
            remove_link(&self.devices, interface, &pin).map_err(unusable(&pin))?;
        }
        undo.links.push((interface.to_owned(), pin.clone()));
        loaded.link(device.index, &pin).map_err(|failure| match failure {
            NoLink::Refused(source) => refused(source),
            NoLink::Unpinned(source) => AttachError::Pins { path: pin.clone(), source },
        })
    }

    /// Takes the program off interfaces that the policy no longer names.
    fn detach_unwanted(&self) -> Result<(), AttachError> {
        let linked = self.pins.interfaces().map_err(unusable(self.pins.folder()))?;
        for interface in linked.iter().filter(|name| !self.wanted.contains(name)) {
            let pin = self.pins.link(interface);
            remove_link(&self.devices, interface, &pin).map_err(unusable(&pin))?;
            tracing::info!(%interface, "no longer guarded");
        }
        Ok(())
    }
}

// === interfaces ===

/// Removes all pins, and waits until no program of theirs is in force. Returns the interfaces.
fn unpin(pins: &Pins) -> Result<Vec<String>, DetachError> {
    let mut programs = Vec::new();
    let mut interfaces = Vec::new();
    for (folder, files) in pins.all().map_err(stuck(pins.top()))? {
        for file in files {
            if let Some(interface) = file.interface {
                programs.extend(linked_program(&file.path).map(|id| (interface.clone(), id)));
                interfaces.push(interface);
            }
            fs::remove_file(&file.path).map_err(stuck(&file.path))?;
        }
        fs::remove_dir(&folder).map_err(stuck(&folder))?;
    }
    // Stays when somebody keeps other things in it.
    let _refused = fs::remove_dir(pins.top());
    let devices = Devices::open().map_err(stuck(pins.top()))?;
    for (interface, program) in programs {
        if !ends_in_time(&devices, &interface, program) {
            return Err(DetachError::StillAttached { interface, program });
        }
    }
    Ok(interfaces)
}

/// There, of a kind that the program can read, and not somebody else's.
fn check_interface(name: &str, devices: &Devices, pins: &Pins) -> Result<(), AttachError> {
    let device = find_device(name, devices)?;
    if !device.ethernet {
        return Err(AttachError::NotEthernet { interface: device.name });
    }
    match device.program {
        Some((_, id)) if linked_program(&pins.link(name)) != Some(id) => {
            Err(occupied(device.name, devices))
        }
        Some(_) | None => Ok(()),
    }
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

/// Gives up a link, and waits until the interface is free: whoever comes next must not meet it.
fn remove_link(devices: &Devices, interface: &str, pin: &Path) -> io::Result<()> {
    let program = linked_program(pin);
    fs::remove_file(pin)?;
    match program {
        Some(program) if !ends_in_time(devices, interface, program) => {
            Err(io::Error::other("somebody else holds the link"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Waits until an interface no longer runs a program whose link has been given up.
fn ends_in_time(devices: &Devices, interface: &str, program: u32) -> bool {
    let deadline = boot_ns_after(DETACH_WITHIN);
    loop {
        let device = devices.find(interface).ok().flatten();
        let runs = device.and_then(|device| device.program);
        if runs.is_none_or(|(_, id)| id != program) {
            return true;
        }
        if boot_ns() > deadline {
            return false;
        }
        sleep(Duration::from_millis(1));
    }
}

// === maps ===

/// Every pinned map is one that this program can use. One that only has another capacity than
/// `config` wants is marked to be replaced.
fn check_shapes(config: &Config, pins: &mut Pins) -> Result<(), AttachError> {
    for name in map::ALL {
        if !pins.map(name).exists() {
            continue;
        }
        let open = |source| MapError::Open { map: name, source };
        let info = MapInfo::from_pin(pins.map(name)).map_err(open)?;
        let kind = info.map_type().map_err(open)?;
        let (expected, capacity) = shape(name);
        if (kind, info.key_size(), info.value_size()) != expected {
            return Err(MapError::Shape { map: name }.into());
        }
        let chosen = capacities(config).into_iter().find(|(resizable, _)| *resizable == name);
        match chosen {
            Some((_, wanted)) if info.max_entries() != wanted => pins.replace(name),
            None if info.max_entries() != capacity => {
                return Err(MapError::Shape { map: name }.into());
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

/// Type, bytes of a key and of a value; and the entries where this version fixes them.
fn shape(name: &str) -> ((MapType, u32, u32), u32) {
    match name {
        map::ALLOW4 => ((MapType::LpmTrie, 8, 4), MAX_ALLOW),
        map::ALLOW6 => ((MapType::LpmTrie, 20, 4), MAX_ALLOW),
        map::BLOCK4 => ((MapType::Hash, 8, 56), 0),
        map::BLOCK6 => ((MapType::Hash, 24, 56), 0),
        map::CONFIG => ((MapType::Array, 4, 72), 1),
        map::EVENTS => ((MapType::RingBuf, 0, 0), EVENT_BYTES),
        map::SOURCE4 => ((MapType::LruHash, 4, 16), 0),
        map::SOURCE6 => ((MapType::LruHash, 8, 16), 0),
        _ => ((MapType::PerCpuArray, 4, 16), COUNTERS),
    }
}

/// Fills the successor of a map of blocks with the blocks in force.
///
/// What packets count meanwhile in the old one is lost. Budgets are not copied: every source starts
/// with a full one.
fn copy_blocks<F: Family>(pins: &Pins) -> Result<(), AttachError> {
    if !pins.replaced().contains(&F::BLOCKS) {
        return Ok(());
    }
    let mut new = Blocks::<F>::open(pins)?;
    let now_ns = boot_ns();
    let mut rows = Blocks::<F>::open_settled(pins)?.list()?;
    rows.retain(|(_, row)| row.expires_ns > now_ns);
    if u32::try_from(rows.len()).map_or(true, |blocks| blocks > new.capacity) {
        return Err(AttachError::Capacity { blocks: rows.len(), capacity: new.capacity });
    }
    for (prefix, row) in rows {
        new.put(prefix, row)?;
    }
    Ok(())
}

// === undo ===

/// Takes back what a call that fails has pinned.
#[derive(Default)]
struct Undo {
    /// Interfaces that got a link, and its pin.
    links: Vec<(String, PathBuf)>,
    /// The folder, when it is new.
    folder: Option<PathBuf>,
    /// Where maps may wait to take the place of others.
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
        Ok(Self { links: Vec::new(), folder: made, pins: Some(pins.clone()) })
    }

    fn take_back(&self) -> io::Result<()> {
        // The last one may not have come so far as to have a pin.
        for (interface, pin) in self.links.iter().filter(|(_, pin)| pin.exists()) {
            remove_link(&Devices::open()?, interface, pin)?;
        }
        if let Some(pins) = &self.pins {
            pins.remove_unfinished()?;
        }
        if let Some(folder) = &self.folder {
            list(folder)?.iter().try_for_each(|name| fs::remove_file(folder.join(name)))?;
            fs::remove_dir(folder)?;
        }
        Ok(())
    }

    fn keep(mut self) {
        self.links.clear();
        self.folder = None;
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

fn stuck(path: &Path) -> impl FnOnce(io::Error) -> DetachError + use<> {
    let path = path.to_owned();
    move |source| DetachError::Pin { path, source }
}
