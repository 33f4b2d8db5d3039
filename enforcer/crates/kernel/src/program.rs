//! The program in the kernel: loaded on pinned maps, put on interfaces, found again by its pins.

use std::fs;
use std::io;
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode, loaded_programs};
use aya::{Ebpf, EbpfLoader};
use enforcer_ebpf::{PROGRAM, map};

use crate::error::AttachError;
use crate::interface::Hook;
use crate::pins::Pins;
use crate::{Attach, Config};

/// The program of this build, in the kernel.
pub(crate) struct Loaded {
    ebpf: Ebpf,
    attach: Attach,
}

/// Why there is no new link.
pub(crate) enum NoLink {
    /// The kernel refuses it.
    Refused(ProgramError),
    /// It was made, could not be pinned, and is gone again.
    Unpinned(io::Error),
}

impl Loaded {
    /// Loads the program on the maps of the folder, and makes those that are not there.
    pub(crate) fn load(object: &[u8], config: &Config, pins: &Pins) -> Result<Self, AttachError> {
        let mut loader = EbpfLoader::new();
        for (name, capacity) in capacities(config) {
            loader.map_max_entries(name, capacity);
        }
        for name in map::ALL {
            loader.map_pin_path(name, pins.map(name));
        }
        let refused = |error: aya::EbpfError| AttachError::Load(Box::new(error));
        let mut ebpf = loader.load(object).map_err(refused)?;
        let loaded = xdp(&mut ebpf).and_then(Xdp::load);
        loaded.map_err(|error| refused(error.into()))?;
        Ok(Self { ebpf, attach: config.attach })
    }

    pub(crate) const fn attach(&self) -> Attach {
        self.attach
    }

    /// Keeps the program where its number and tag can be looked up without an agent.
    pub(crate) fn pin(&mut self, pins: &Pins) -> Result<(), AttachError> {
        let (next, path) = (pins.next_program(), pins.program());
        let refused = |source| AttachError::Pins { path: path.clone(), source };
        let program =
            xdp(&mut self.ebpf).map_err(|error| AttachError::Load(Box::new(error.into())))?;
        program.pin(&next).map_err(|error| refused(io::Error::other(error)))?;
        fs::rename(&next, &path).map_err(refused)
    }

    /// Changes the program of a pinned link in one step: no packet meets none.
    pub(crate) fn replace(&mut self, pin: &Path) -> Result<(), ProgramError> {
        let link = PinnedLink::from_pin(pin)
            .and_then(|link| XdpLink::try_from(FdLink::from(link)))
            .map_err(|error| ProgramError::IOError(io::Error::other(error)))?;
        let program = xdp(&mut self.ebpf)?;
        let link = program.attach_to_link(link)?;
        // The pin keeps it; what we hold is a second reference.
        program.take_link(link).map(drop)
    }

    /// Makes a link in the first mode that the interface has, and pins it.
    pub(crate) fn link(&mut self, index: u32, pin: &Path) -> Result<(), NoLink> {
        let program = xdp(&mut self.ebpf).map_err(NoLink::Refused)?;
        let mut refusal = ProgramError::NotAttached;
        for &mode in self.attach.modes() {
            match program.attach_to_if_index(index, mode) {
                Ok(link) => {
                    let link = program.take_link(link).map_err(NoLink::Refused)?;
                    // A kernel before 5.9 answers with a program that no pin can keep.
                    let link = FdLink::try_from(link).map_err(io::Error::other);
                    let pinned = link.and_then(|link| link.pin(pin).map_err(io::Error::other));
                    return pinned.map(drop).map_err(NoLink::Unpinned);
                }
                Err(source) => {
                    // These say nothing about the mode: the other one would meet the same.
                    let ends = matches!(errno(&source), Some(EBUSY | EEXIST | ENODEV));
                    refusal = source;
                    if ends {
                        break;
                    }
                    tracing::warn!(index, ?mode, error = %refusal, "the interface refuses this mode");
                }
            }
        }
        Err(NoLink::Refused(refusal))
    }
}

impl Attach {
    /// Whether a link of an earlier agent may stay where it is.
    pub(crate) const fn accepts(self, hook: Hook) -> bool {
        matches!(
            (self, hook),
            (Self::Auto, _) | (Self::Generic, Hook::Generic) | (Self::Native, Hook::Native)
        )
    }

    const fn modes(self) -> &'static [XdpMode] {
        match self {
            Self::Auto => &[XdpMode::Driver, XdpMode::Skb],
            Self::Generic => &[XdpMode::Skb],
            Self::Native => &[XdpMode::Driver],
        }
    }
}

pub(crate) const EBUSY: i32 = 16;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const ENODEV: i32 = 19;

/// The maps whose size the policy chooses.
pub(crate) fn capacities(config: &Config) -> [(&'static str, u32); 4] {
    [
        (map::BLOCK4, config.blocks),
        (map::BLOCK6, config.blocks),
        (map::SOURCE4, config.sources),
        (map::SOURCE6, config.sources),
    ]
}

/// The program behind a pinned link, whether or not its interface is still there.
pub(crate) fn linked_program(pin: &Path) -> Option<u32> {
    let link = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    link.info().ok().map(|info| info.program_id())
}

/// What a person calls a program: its number, and its name where we may look it up.
pub(crate) fn describe(id: u32) -> String {
    let named = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
    match named.as_ref().and_then(|program| program.name_as_str()) {
        Some(name) if !name.is_empty() => format!("{id} ({name})"),
        Some(_) | None => id.to_string(),
    }
}

/// The number of the kernel's answer, wherever aya keeps it.
pub(crate) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // A transparent variant skips the error that it holds when it is asked for its source.
        let held = match (error.downcast_ref(), error.downcast_ref()) {
            (Some(aya::maps::MapError::IoError(io)), _) | (_, Some(ProgramError::IOError(io))) => {
                Some(io)
            }
            _ => error.downcast_ref::<io::Error>(),
        };
        if let Some(io) = held {
            return io.raw_os_error();
        }
        cause = error.source();
    }
    None
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramError> {
    ebpf.program_mut(PROGRAM).ok_or(ProgramError::NotLoaded)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_where_it_is_unless_the_policy_names_another_place() {
        assert!(Attach::Auto.accepts(Hook::Native) && Attach::Auto.accepts(Hook::Generic));
        assert!(Attach::Native.accepts(Hook::Native) && !Attach::Native.accepts(Hook::Generic));
        assert!(Attach::Generic.accepts(Hook::Generic) && !Attach::Generic.accepts(Hook::Native));
    }

    #[test]
    fn the_kernels_answer_is_found_however_deep_it_is_wrapped() {
        let answer = aya::maps::MapError::IoError(io::Error::from_raw_os_error(EBUSY));

        assert_eq!(errno(&answer), Some(EBUSY));
        assert_eq!(errno(&aya::maps::MapError::KeyNotFound), None);
    }
}
