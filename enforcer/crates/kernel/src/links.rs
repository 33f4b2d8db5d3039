//! The places of one interface: what of ours is there, what of others, and how ours gets there.
//!
//! XDP and the kernel's list at traffic control have links, which pins keep; a filter of a queueing
//! discipline stays by itself. Whatever is said here was asked of the kernel just before: a pin
//! alone proves nothing, its link may hang on an interface that is gone.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::{ProgramError, XdpMode};
use enforcer_ebpf::flag;

use crate::bpf::{self, Place, Way};
use crate::interface::{Attachment, Device, Devices, Hook, Interface, Program};
use crate::kernel::Kernel;
use crate::netlink::Netlink;
use crate::pins::Pins;
use crate::program::{Loaded, NoLink, describe, name_of, pinned};
use crate::qdisc::{self, Filter};

/// The places of one interface.
#[derive(Clone, Copy)]
pub(crate) struct Places<'k> {
    pub(crate) netlink: &'k Netlink,
    pub(crate) pins: &'k Pins,
    pub(crate) device: &'k Device,
}

/// Something of ours that is in force.
#[derive(Clone, Debug)]
pub(crate) struct Ours {
    pub(crate) hook: Hook,
    pub(crate) program: u32,
    at: At,
}

#[derive(Clone, Debug)]
enum At {
    Link(PathBuf, Place),
    Filter(Filter),
}

impl Places<'_> {
    /// What judges packets that go this way, the first on their way first.
    pub(crate) fn ours(&self, way: Way) -> io::Result<Vec<Ours>> {
        let mut ours = Vec::new();
        for pinned in self.pins.links()? {
            let link = pinned.link;
            let hook = match link.place {
                Place::Xdp if way == Way::In => {
                    self.device.program.filter(|(_, id)| *id == link.program).map(|(hook, _)| hook)
                }
                Place::Tcx(at) if at == way => Some(Hook::Tcx),
                Place::Xdp | Place::Tcx(_) | Place::Other => None,
            };
            if let Some(hook) = hook.filter(|_| link.index == self.device.index) {
                let at = At::Link(pinned.path, link.place);
                ours.push(Ours { hook, program: link.program, at });
            }
        }
        ours.sort_by_key(|it| it.hook == Hook::Tcx);
        let name = self.pins.filter(name_of(way));
        for filter in self.filters(way)?.into_iter().filter(|filter| filter.name == name) {
            let program = filter.program.unwrap_or_default();
            ours.push(Ours { hook: Hook::Clsact, program, at: At::Filter(filter) });
        }
        Ok(ours)
    }

    /// Programs of others, such as `xdp 17 (name)`.
    pub(crate) fn foreign(&self) -> io::Result<Vec<String>> {
        let mut foreign = Vec::new();
        for way in Way::BOTH {
            let ours: Vec<u32> = self.ours(way)?.iter().map(|it| it.program).collect();
            if let (Way::In, Some((_, id))) = (way, self.device.program)
                && !ours.contains(&id)
            {
                foreign.push(format!("xdp {}", describe(id)));
            }
            match bpf::programs(self.device.index, way) {
                Ok(programs) => {
                    let others = programs.into_iter().filter(|id| !ours.contains(id));
                    foreign.extend(others.map(|id| format!("tcx-{} {}", way.name(), describe(id))));
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    foreign.push(format!("tcx-{} not shown without CAP_NET_ADMIN", way.name()));
                }
                Err(error) => return Err(error),
            }
            let name = self.pins.filter(name_of(way));
            for filter in self.filters(way)?.into_iter().filter(|filter| filter.name != name) {
                let what = match filter.program {
                    Some(id) => format!("{id} ({})", filter.name),
                    None => filter.kind,
                };
                foreign.push(format!("clsact-{} {what}", way.name()));
            }
        }
        Ok(foreign)
    }

    fn filters(&self, way: Way) -> io::Result<Vec<Filter>> {
        qdisc::filters(self.netlink, self.device.index, way)
    }

    /// Puts the program in a place where nothing of ours is.
    pub(crate) fn make(&self, hook: Hook, way: Way, loaded: &mut Loaded) -> Result<(), NoLink> {
        let pin = |place| -> Result<PathBuf, NoLink> {
            let pin = self.pins.link(&self.device.name, place);
            // Of an interface that had this name and is gone, or that has another name now.
            forget(&pin).map_err(NoLink::Unpinned)?;
            Ok(pin)
        };
        let index = self.device.index;
        match hook {
            Hook::Native => loaded.link_xdp(index, XdpMode::Driver, &pin(Place::Xdp)?),
            Hook::Generic => loaded.link_xdp(index, XdpMode::Skb, &pin(Place::Xdp)?),
            Hook::Tcx => loaded.link_tcx(&self.device.name, way, &pin(Place::Tcx(way))?),
            Hook::Clsact => {
                let made = self.make_filter(way, loaded);
                if made.is_err() {
                    self.give_up_qdisc().map_err(NoLink::Unpinned)?;
                }
                made
            }
        }
    }

    fn make_filter(&self, way: Way, loaded: &mut Loaded) -> Result<(), NoLink> {
        let refused = |error| NoLink::Refused(ProgramError::IOError(error));
        let Device { name, index, .. } = self.device;
        if !qdisc::exists(self.netlink, *index).map_err(refused)? {
            // Noted first: an agent that dies in between leaves a note too many, not one too few.
            self.pins.note_qdisc(name, *index).map_err(NoLink::Unpinned)?;
            if !qdisc::make(self.netlink, *index).map_err(refused)? {
                fs::remove_file(self.pins.qdisc(name)).map_err(NoLink::Unpinned)?;
            }
        }
        let program = loaded.classifier(way)?;
        let name = self.pins.filter(name_of(way));
        qdisc::put(self.netlink, *index, way, &name, program.as_fd()).map_err(refused)
    }

    /// Gives what is in force another program, in one step.
    pub(crate) fn replace(
        &self,
        ours: &Ours,
        way: Way,
        loaded: &mut Loaded,
    ) -> Result<(), ProgramError> {
        match &ours.at {
            At::Link(pin, place) => loaded.replace(pin, *place),
            At::Filter(filter) => {
                let program = loaded.classifier(way)?;
                let index = self.device.index;
                qdisc::replace(self.netlink, index, way, filter, program.as_fd())
                    .map_err(ProgramError::IOError)
            }
        }
    }

    /// Ends what is in force.
    pub(crate) fn remove(&self, ours: &Ours, way: Way) -> io::Result<()> {
        match &ours.at {
            At::Link(pin, _) => forget(pin),
            At::Filter(filter) => {
                qdisc::remove(self.netlink, self.device.index, way, filter)?;
                self.give_up_qdisc()
            }
        }
    }

    /// Takes the queueing discipline away if we made it and nobody uses it.
    fn give_up_qdisc(&self) -> io::Result<()> {
        let note = self.pins.qdisc(&self.device.name);
        let Ok(index) = fs::read_link(&note) else { return Ok(()) };
        if index == Path::new(&self.device.index.to_string())
            && !qdisc::remove_unused(self.netlink, self.device.index)?
        {
            return Ok(());
        }
        fs::remove_file(note)
    }
}

/// Takes a link off its interface at once, whoever else holds it, and removes its pin.
pub(crate) fn forget(pin: &Path) -> io::Result<()> {
    match fs::symlink_metadata(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    if let Err(error) = bpf::detach(pin) {
        // A kernel before 5.9 ends a link with its last owner only.
        tracing::debug!(pin = %pin.display(), %error, "the link ends with its pin");
    }
    fs::remove_file(pin)
}

/// Gives the pins of interfaces that have another name now that name.
pub(crate) fn follow_renames(pins: &Pins, devices: &Devices) -> io::Result<()> {
    let devices = devices.list()?;
    for pinned in pins.links()? {
        let owner = devices.iter().find(|device| device.index == pinned.link.index);
        let Some(owner) = owner.filter(|device| device.name != pinned.interface) else { continue };
        let path = pins.link(&owner.name, pinned.link.place);
        // Whatever is there is of an interface that had the name before.
        fs::rename(&pinned.path, path)?;
        tracing::info!(from = pinned.interface, to = owner.name, "a guarded interface was renamed");
    }
    Ok(())
}

impl Kernel {
    /// Every interface that the policy names or that has something of ours, and its state now.
    pub fn interfaces(&self) -> io::Result<Vec<Interface>> {
        let devices = self.devices.list()?;
        let pinned = pinned(&self.pins);
        let attachment = |ours: &Ours| {
            let tag = pinned.iter().find(|info| info.id() == ours.program).map(|info| info.tag());
            Attachment::Attached { hook: ours.hook, program: Program { id: ours.program, tag } }
        };
        let wants_egress = self.judges_outgoing();
        let mut interfaces = Vec::new();
        for name in self.guarded(&devices)? {
            let Some(device) = devices.iter().find(|device| device.name == name) else {
                let egress = wants_egress.then_some(Attachment::Missing);
                let attachment = Attachment::Missing;
                interfaces.push(Interface {
                    name,
                    attachment,
                    egress,
                    mtu: 0,
                    foreign: Vec::new(),
                });
                continue;
            };
            let places = Places { netlink: &self.devices.netlink, pins: &self.pins, device };
            let [incoming, outgoing] = [places.ours(Way::In)?, places.ours(Way::Out)?];
            let egress = outgoing.first().map(attachment);
            interfaces.push(Interface {
                name,
                attachment: incoming.first().map_or(Attachment::Detached, attachment),
                egress: egress.or(wants_egress.then_some(Attachment::Detached)),
                mtu: device.mtu,
                foreign: places.foreign()?,
            });
        }
        Ok(interfaces)
    }

    /// Whether the policy wants packets judged that go out.
    pub(crate) fn judges_outgoing(&self) -> bool {
        self.config.flags.get() & (flag::CONTAIN | flag::PEERS) != 0
    }

    /// Whether packets to blocked peers are dropped.
    pub(crate) fn contains_peers(&self) -> bool {
        self.config.flags.get() & flag::CONTAIN != 0
    }

    /// The interfaces that the policy names, and those where something of ours is, by name.
    pub(crate) fn guarded(&self, devices: &[Device]) -> io::Result<Vec<String>> {
        let mut names = self.wanted.clone();
        for pinned in self.pins.links()? {
            let owner = devices.iter().find(|device| device.index == pinned.link.index);
            names.push(owner.map_or(pinned.interface, |device| device.name.clone()));
        }
        names.extend(filtered(&self.pins, &self.devices.netlink, devices)?);
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

/// The interfaces where a queueing discipline has a filter of ours.
pub(crate) fn filtered(
    pins: &Pins,
    netlink: &Netlink,
    devices: &[Device],
) -> io::Result<Vec<String>> {
    let with_discipline = qdisc::interfaces(netlink)?;
    let mut names = Vec::new();
    for device in devices.iter().filter(|device| with_discipline.contains(&device.index)) {
        for way in Way::BOTH {
            let name = pins.filter(name_of(way));
            let filters = qdisc::filters(netlink, device.index, way)?;
            if filters.iter().any(|filter| filter.name == name) {
                names.push(device.name.clone());
                break;
            }
        }
    }
    Ok(names)
}
