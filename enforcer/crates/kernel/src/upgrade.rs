//! A program that takes the place of another: of this layout by `upgrade`, of another by `attach`.
//!
//! A link changes its program in one step, so no packet meets none. Links of another layout are
//! taken over whole, with the new program and its maps, which hold the blocks before the first link
//! changes; what cannot be taken over stays as it was.

use std::fs;
use std::io;
use std::path::Path;

use aya::programs::ProgramInfo;
use enforcer_ebpf::{map, program};

use crate::Attach;
use crate::bpf::Way;
use crate::error::AttachError;
use crate::interface::Device;
use crate::kernel::Kernel;
use crate::ladder::link_error;
use crate::links::{Places, follow_renames};
use crate::object::OBJECT;
use crate::pins::{links_in, notes_in};
use crate::program::Loaded;
use crate::shapes;
use crate::system::missing_capabilities;

/// What [`Kernel::upgrade`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// The hash of the XDP program that was pinned before; `None` when there was none.
    pub before: Option<u64>,
    /// The hash of the one that is now.
    pub after: u64,
    /// The interfaces where programs were replaced.
    pub interfaces: Vec<String>,
}

impl Kernel {
    /// Loads the programs of this build on the maps in force, tests them, and puts them in the
    /// place of those that run, each in one step. Whatever fails, nothing gets weaker.
    pub fn upgrade(&mut self) -> Result<Upgraded, AttachError> {
        self.upgrade_to(OBJECT.ok_or(AttachError::NoObject)?)
    }

    /// The same with the programs of another object, which must have this build's layout.
    #[doc(hidden)]
    pub fn upgrade_to(&mut self, object: &[u8]) -> Result<Upgraded, AttachError> {
        let missing = missing_capabilities();
        if !missing.is_empty() {
            return Err(AttachError::Capabilities { missing });
        }
        self.pins.check()?;
        let before = ProgramInfo::from_pin(self.pins.program(program::XDP)).ok();
        let attach = self.program.as_ref().map_or(Attach::Auto, |loaded| loaded.attach);
        let sets = shapes::pinned_sets(&self.pins)?;
        let mut loaded = Loaded::load(object, sets, &self.pins, &map::ALL, attach)?;
        self.self_test(object, sets, &loaded)?;
        follow_renames(&self.pins, &self.devices).map_err(AttachError::Interfaces)?;
        let devices = self.devices.list().map_err(AttachError::Interfaces)?;
        let mut interfaces = Vec::new();
        for name in self.guarded(&devices).map_err(AttachError::Interfaces)? {
            let found = devices.iter().find(|device| device.name == name);
            if let Some(device) = found
                && self.replace_all(device, &mut loaded)?
            {
                interfaces.push(name);
            }
        }
        loaded.pin(&self.pins)?;
        let (after, _) = loaded.identity(program::XDP)?;
        self.program = Some(loaded);
        Ok(Upgraded { before: before.map(|info| info.tag()), after, interfaces })
    }

    /// Replaces what runs on one interface; whether anything did.
    fn replace_all(&self, device: &Device, loaded: &mut Loaded) -> Result<bool, AttachError> {
        let places = Places { netlink: &self.devices.netlink, pins: &self.pins, device };
        let mut any = false;
        for way in Way::BOTH {
            for ours in places.ours(way).map_err(AttachError::Interfaces)? {
                let refused = |source| link_error(&places, ours.hook, source);
                places.replace(&ours, way, loaded).map_err(refused)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Takes over what another layout has in force on the interfaces that the policy names.
    ///
    /// Returns whether anything was: then the maps of this layout must stay whatever happens.
    pub(crate) fn take_over(&mut self, folder: &Path, taken: &mut bool) -> Result<(), AttachError> {
        let unusable = |source| AttachError::Pins { path: folder.to_owned(), source };
        for name in notes_in(folder).map_err(unusable)? {
            fs::rename(folder.join(&name), self.pins.folder().join(name)).map_err(unusable)?;
        }
        let devices = self.devices.list().map_err(AttachError::Interfaces)?;
        let loaded = self.program.as_mut().ok_or(AttachError::NoProgram)?;
        for pinned in links_in(folder).map_err(unusable)? {
            let device = devices.iter().find(|device| device.index == pinned.link.index);
            let Some(device) = device.filter(|device| self.wanted.contains(&device.name)) else {
                continue;
            };
            let place = pinned.link.place;
            loaded.replace(&pinned.path, place).map_err(|source| AttachError::OtherLayout {
                interface: device.name.clone(),
                folder: folder.to_owned(),
                source: Box::new(source),
            })?;
            *taken = true;
            fs::rename(&pinned.path, self.pins.link(&device.name, place)).map_err(unusable)?;
            tracing::info!(interface = device.name, from = %folder.display(), "taken over");
        }
        Ok(())
    }

    /// Whether an agent of this layout has something in force.
    pub(crate) fn adopts(&self) -> io::Result<bool> {
        let devices = self.devices.list()?;
        for device in &devices {
            let places = Places { netlink: &self.devices.netlink, pins: &self.pins, device };
            if self.wanted.contains(&device.name) && !places.ours(Way::In)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
