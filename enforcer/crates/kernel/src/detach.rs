//! Taking the program out of force, whatever version put it there and wherever it hangs.
//!
//! Links are taken off their interfaces at once, whoever else holds them; filters are found by what
//! they are called. What was taken away is looked for once more before it is called gone.

use std::fs;
use std::io;
use std::path::Path;

use crate::bpf::Way;
use crate::error::{AttachError, DetachError};
use crate::interface::{Device, Devices};
use crate::kernel::Kernel;
use crate::links::{Places, filtered, forget};
use crate::pins::{Pins, links_in, list, qdiscs_in};
use crate::qdisc;
use crate::system::missing_capabilities;

impl Kernel {
    /// Takes the program off every interface and removes all pins: nothing is in force afterwards.
    pub fn detach(self) -> Result<(), DetachError> {
        let pins = self.pins.clone();
        // Our own hold on maps and programs goes first.
        drop(self);
        unpin(&pins).map(drop)
    }

    /// The same without an agent, whatever version it was. Returns the interfaces where something
    /// of ours was.
    pub fn detach_pinned(pins: &Path) -> Result<Vec<String>, DetachError> {
        let missing = missing_capabilities();
        if !missing.is_empty() {
            return Err(DetachError::Capabilities { missing });
        }
        unpin(&Pins::new(pins))
    }

    /// Takes the program off interfaces that the policy no longer names.
    pub(crate) fn detach_unwanted(&self) -> Result<(), AttachError> {
        let devices = self.devices.list().map_err(AttachError::Interfaces)?;
        let guarded = self.guarded(&devices).map_err(AttachError::Interfaces)?;
        for interface in guarded.iter().filter(|name| !self.wanted.contains(name)) {
            let removed = match devices.iter().find(|device| device.name == *interface) {
                Some(device) => remove(device, &self.devices, &self.pins),
                None => Ok(()),
            };
            removed
                .and_then(|()| forget_links(&self.pins, interface))
                .map_err(|source| AttachError::Pins { path: self.pins.folder().into(), source })?;
            tracing::info!(%interface, "no longer guarded");
        }
        Ok(())
    }
}

/// Removes all of ours from one interface.
pub(crate) fn remove(device: &Device, devices: &Devices, pins: &Pins) -> io::Result<()> {
    let places = Places { netlink: &devices.netlink, pins, device };
    for way in Way::BOTH {
        for ours in places.ours(way)? {
            places.remove(&ours, way)?;
        }
    }
    Ok(())
}

/// Removes the pins of an interface that is gone.
fn forget_links(pins: &Pins, interface: &str) -> io::Result<()> {
    let links = pins.links()?;
    let mut gone = links.iter().filter(|pinned| pinned.interface == interface);
    gone.try_for_each(|pinned| forget(&pinned.path))
}

/// Removes a folder of any layout with everything in it.
pub(crate) fn remove_layout(folder: &Path) -> io::Result<()> {
    for pinned in links_in(folder)? {
        forget(&pinned.path)?;
    }
    list(folder)?.iter().try_for_each(|name| fs::remove_file(folder.join(name)))?;
    fs::remove_dir(folder)
}

fn unpin(pins: &Pins) -> Result<Vec<String>, DetachError> {
    let asked = Devices::open().map_err(stuck(pins.top()))?;
    let devices = asked.list().map_err(stuck(pins.top()))?;
    let layouts = pins.layouts().map_err(stuck(pins.top()))?;
    let (mut interfaces, mut programs) = (Vec::new(), Vec::new());
    for folder in &layouts {
        for pinned in links_in(folder).map_err(stuck(folder))? {
            let owner = devices.iter().find(|device| device.index == pinned.link.index);
            interfaces.push(owner.map_or(pinned.interface, |device| device.name.clone()));
            programs.push(pinned.link.program);
            forget(&pinned.path).map_err(stuck(&pinned.path))?;
        }
    }
    for name in filtered(pins, &asked.netlink, &devices).map_err(stuck(pins.top()))? {
        if let Some(device) = devices.iter().find(|device| device.name == name) {
            remove(device, &asked, pins).map_err(stuck(pins.top()))?;
        }
        interfaces.push(name);
    }
    for folder in &layouts {
        for index in qdiscs_in(folder).map_err(stuck(folder))? {
            qdisc::remove_unused(&asked.netlink, index).map_err(stuck(folder))?;
        }
        remove_layout(folder).map_err(stuck(folder))?;
    }
    // Stays when somebody keeps other things in it.
    let _refused = fs::remove_dir(pins.top());
    for device in asked.list().map_err(stuck(pins.top()))? {
        if let Some((_, program)) = device.program.filter(|(_, id)| programs.contains(id)) {
            return Err(DetachError::StillAttached { interface: device.name, program });
        }
    }
    interfaces.sort_unstable();
    interfaces.dedup();
    Ok(interfaces)
}

fn stuck(path: &Path) -> impl FnOnce(io::Error) -> DetachError + use<> {
    let path = path.to_owned();
    move |source| DetachError::Pin { path, source }
}
