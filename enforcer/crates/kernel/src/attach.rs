//! Putting the program in force.
//!
//! The order is what keeps blocked packets out while agents come and go. A pinned folder is
//! adopted: the new programs are loaded on the maps that are in force, tested there, and each link
//! or filter changes its program in one step. Where nothing of this layout is in force, the blocks
//! are put in before the first link. An agent that dies at any point leaves links that drop, and a
//! folder that the next agent adopts.
//!
//! Where: the first place of the ladder that the interface has. Under `auto` somebody else's XDP
//! program is left alone and traffic control is taken instead; a place that the policy names is
//! taken or is an error.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aya::programs::ProgramError;
use enforcer_ebpf::map;
use enforcer_model::Prefix;

use crate::bpf::Way;
use crate::detach::{self, remove_layout};
use crate::error::AttachError;
use crate::interface::{Attachment, Device, Devices, Hook, Interface};
use crate::kernel::{Entry, Kernel};
use crate::links::{Ours, Places, follow_renames};
use crate::object::OBJECT;
use crate::pins::{Pins, links_in};
use crate::program::{EBUSY, EEXIST, ENODEV, EPERM, Loaded, NoLink, describe, errno};
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
        kernel.configure(config)?;
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

    /// One interface, both ways.
    fn attach_one(&mut self, interface: &str, undo: &mut Undo) -> Result<(), AttachError> {
        let device = find_device(interface, &self.devices)?;
        let outgoing = self.judges_outgoing();
        let loaded = self.program.as_mut().ok_or(AttachError::NoProgram)?;
        let places = Places { netlink: &self.devices.netlink, pins: &self.pins, device: &device };
        let fresh = places.ours(Way::In).map_err(AttachError::Interfaces)?.is_empty();
        if fresh {
            undo.made.push(device.name.clone());
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

/// Why one interface is not guarded.
enum Failure {
    /// It is not there any more.
    Gone,
    /// Somebody else's XDP program is there.
    Occupied,
    Named(Box<AttachError>),
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        Self::Named(Box::new(error))
    }
}

impl Attach {
    /// The places to try, in this order.
    pub(crate) const fn ladder(self) -> &'static [Hook] {
        match self {
            Self::Auto => &[Hook::Native, Hook::Generic, Hook::Tcx, Hook::Clsact],
            Self::Native => &[Hook::Native],
            Self::Generic => &[Hook::Generic],
            Self::Tcx => &[Hook::Tcx],
            Self::Clsact => &[Hook::Clsact],
        }
    }

    /// The same for packets that go out, which XDP never sees.
    const fn ladder_out(self) -> &'static [Hook] {
        match self {
            Self::Clsact => &[Hook::Clsact],
            Self::Auto | Self::Native | Self::Generic | Self::Tcx => &[Hook::Tcx, Hook::Clsact],
        }
    }
}

/// Replaces the program where it may stay, else puts it in the best place.
fn judge_incoming(places: &Places<'_>, loaded: &mut Loaded) -> Result<(), Failure> {
    let ours = places.ours(Way::In).map_err(AttachError::Interfaces)?;
    let ladder = loaded.attach.ladder();
    if let Some(stays) = ours.iter().find(|it| ladder.contains(&it.hook)) {
        let refused = |source| link_error(places, stays.hook, source);
        places.replace(stays, Way::In, loaded).map_err(refused)?;
        let others = ours.iter().filter(|it| it.hook != stays.hook);
        return Ok(remove_all(places, others, Way::In)?);
    }
    // Two XDP programs the kernel refuses, so one that moves between its two places is stood in
    // for meanwhile; everywhere else the new one comes first and the old one goes after it.
    let mut old = ours;
    if old.iter().any(|it| is_xdp(it.hook)) && ladder.iter().any(|hook| is_xdp(*hook)) {
        stand_in(places, loaded)?;
        let xdp: Vec<Ours> = old.extract_if(.., |it| is_xdp(it.hook)).collect();
        remove_all(places, xdp.iter(), Way::In)?;
        old = places.ours(Way::In).map_err(AttachError::Interfaces)?;
    }
    climb(places, loaded)?;
    Ok(remove_all(places, old.iter(), Way::In)?)
}

/// Takes the first place that the interface has.
fn climb(places: &Places<'_>, loaded: &mut Loaded) -> Result<(), Failure> {
    let (attach, interface) = (loaded.attach, &places.device.name);
    let mut refusal = None;
    let mut occupied = false;
    for &hook in attach.ladder() {
        if occupied && is_xdp(hook) {
            continue;
        }
        let source = match places.make(hook, Way::In, loaded) {
            Ok(()) => return Ok(()),
            Err(NoLink::Unpinned(source)) => {
                let path = places.pins.folder().to_owned();
                return Err(AttachError::Pins { path, source }.into());
            }
            Err(NoLink::Refused(source)) => source,
        };
        match errno(&source) {
            Some(ENODEV) => return Err(Failure::Gone),
            Some(EPERM) => return Err(link_error(places, hook, source).into()),
            Some(EBUSY | EEXIST) if is_xdp(hook) => {
                if attach != Attach::Auto {
                    return Err(Failure::Occupied);
                }
                let owner = places.device.program.map(|(_, id)| describe(id)).unwrap_or_default();
                tracing::warn!(interface, owner, "another XDP program is there and stays");
                occupied = true;
            }
            Some(_) | None => {
                let error: &dyn std::error::Error = &source;
                tracing::warn!(interface, %hook, error, "the interface refuses this place");
            }
        }
        refusal = Some((hook, source));
    }
    let (hook, source) = refusal.unwrap_or((Hook::Clsact, ProgramError::NotAttached));
    Err(link_error(places, hook, source).into())
}

/// Has traffic control judge for as long as XDP does not.
fn stand_in(places: &Places<'_>, loaded: &mut Loaded) -> Result<(), AttachError> {
    for hook in [Hook::Tcx, Hook::Clsact] {
        match places.make(hook, Way::In, loaded) {
            Ok(()) => return Ok(()),
            Err(refused) => {
                let interface = &places.device.name;
                tracing::warn!(interface, %hook, ?refused, "nothing stands in while XDP moves");
            }
        }
    }
    Ok(())
}

/// Makes what judges outgoing packets follow the policy.
fn judge_outgoing(
    places: &Places<'_>,
    loaded: &mut Loaded,
    wanted: bool,
) -> Result<(), AttachError> {
    let ours = places.ours(Way::Out).map_err(AttachError::Interfaces)?;
    if !wanted {
        return remove_all(places, ours.iter(), Way::Out);
    }
    let ladder = loaded.attach.ladder_out();
    if let Some(stays) = ours.iter().find(|it| ladder.contains(&it.hook)) {
        let refused = |source| link_error(places, stays.hook, source);
        places.replace(stays, Way::Out, loaded).map_err(refused)?;
        return remove_all(places, ours.iter().filter(|it| it.hook != stays.hook), Way::Out);
    }
    let mut refusal = None;
    for &hook in ladder {
        match places.make(hook, Way::Out, loaded) {
            Ok(()) => return remove_all(places, ours.iter(), Way::Out),
            Err(NoLink::Unpinned(source)) => {
                let path = places.pins.folder().to_owned();
                return Err(AttachError::Pins { path, source });
            }
            Err(NoLink::Refused(source)) => refusal = Some((hook, source)),
        }
    }
    let (hook, source) = refusal.unwrap_or((Hook::Clsact, ProgramError::NotAttached));
    Err(link_error(places, hook, source))
}

fn remove_all<'o>(
    places: &Places<'_>,
    mut ours: impl Iterator<Item = &'o Ours>,
    way: Way,
) -> Result<(), AttachError> {
    ours.try_for_each(|it| places.remove(it, way)).map_err(unusable(places.pins.folder()))
}

fn link_error(places: &Places<'_>, hook: Hook, source: ProgramError) -> AttachError {
    let interface = places.device.name.clone();
    match hook {
        Hook::Native => AttachError::Native { interface, source },
        Hook::Generic | Hook::Tcx | Hook::Clsact => AttachError::Link { interface, hook, source },
    }
}

const fn is_xdp(hook: Hook) -> bool {
    matches!(hook, Hook::Native | Hook::Generic)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_auto_has_more_than_the_place_that_the_policy_names() {
        for (attach, hook) in [
            (Attach::Native, Hook::Native),
            (Attach::Generic, Hook::Generic),
            (Attach::Tcx, Hook::Tcx),
            (Attach::Clsact, Hook::Clsact),
        ] {
            assert_eq!(attach.ladder(), [hook]);
            assert!(Attach::Auto.ladder().contains(&hook));
        }
        assert_eq!(Attach::Auto.ladder().len(), 4);
    }

    #[test]
    fn outgoing_packets_are_judged_where_the_policy_lets_us_be() {
        assert_eq!(Attach::Clsact.ladder_out(), [Hook::Clsact]);
        assert_eq!(Attach::Native.ladder_out(), [Hook::Tcx, Hook::Clsact]);
    }
}
