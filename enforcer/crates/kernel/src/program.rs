//! The programs in the kernel: loaded on pinned maps, put in their places, found again by pins.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{
    LinkOrder, ProgramError, ProgramFd, ProgramInfo, SchedClassifier, TcAttachType, TestRun,
    TestRunOptions, Xdp, XdpMode, loaded_programs,
};
use aya::{Ebpf, EbpfError, EbpfLoader};
use enforcer_ebpf::{map, program};

use crate::Attach;
use crate::bpf::{Place, Way};
use crate::error::AttachError;
use crate::pins::Pins;
use crate::sources::sets6;

/// The last lines of what the verifier says: the instruction that it refuses, and why.
const VERIFIER_LINES: usize = 6;

/// The verifier gives up when a signal comes; then it is asked again.
const ATTEMPTS: u32 = 10;

/// The programs of this build, in the kernel.
pub(crate) struct Loaded {
    ebpf: Ebpf,
    pub(crate) attach: Attach,
}

/// Why there is no new link.
#[derive(Debug)]
pub(crate) enum NoLink {
    /// The kernel refuses it.
    Refused(ProgramError),
    /// It was made, could not be pinned, and is gone again.
    Unpinned(io::Error),
}

impl Loaded {
    /// Loads the programs on the maps of the folder that `shared` names; what is not there is made,
    /// with room for `sets` sets of sources.
    pub(crate) fn load(
        object: &[u8],
        sets: u32,
        pins: &Pins,
        shared: &[&'static str],
        attach: Attach,
    ) -> Result<Self, AttachError> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(map::SOURCE4, sets).map_max_entries(map::SOURCE6, sets6(sets));
        for &name in shared {
            loader.map_pin_path(name, pins.map(name));
        }
        let mut ebpf = loader.load(object).map_err(unloadable)?;
        let refused = |name| move |error| refused_program(name, error);
        verified(|| xdp(&mut ebpf)?.load()).map_err(refused(program::XDP))?;
        for way in Way::BOTH {
            let loaded = verified(|| classifier(&mut ebpf, way)?.load());
            loaded.map_err(refused(name_of(way)))?;
        }
        Ok(Self { ebpf, attach })
    }

    /// Keeps the programs where their numbers and tags can be looked up without an agent.
    pub(crate) fn pin(&mut self, pins: &Pins) -> Result<(), AttachError> {
        for name in program::ALL {
            let (next, path) = (pins.next(name), pins.program(name));
            let refused = |source| AttachError::Pins { path: path.clone(), source };
            let program = self.ebpf.program_mut(name).ok_or_else(|| no_program(name))?;
            // Of an agent that died at this very place.
            if next.exists() {
                fs::remove_file(&next).map_err(refused)?;
            }
            program.pin(&next).map_err(|error| refused(io::Error::other(error)))?;
            fs::rename(&next, &path).map_err(refused)?;
        }
        Ok(())
    }

    /// The hash that the kernel made of a program's instructions, and its number.
    pub(crate) fn identity(&self, name: &'static str) -> Result<(u64, u32), AttachError> {
        let program = self.ebpf.program(name).ok_or_else(|| no_program(name))?;
        let info = program.info().map_err(|error| refused_program(name, error))?;
        Ok((info.tag(), info.id()))
    }

    /// What a program makes of a frame, as the kernel's number.
    pub(crate) fn try_out(
        &mut self,
        name: &'static str,
        frame: &[u8],
    ) -> Result<u32, ProgramError> {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let result = match name {
            program::XDP => xdp(&mut self.ebpf)?.test_run(options),
            program::INGRESS => classifier(&mut self.ebpf, Way::In)?.test_run(options),
            _ => classifier(&mut self.ebpf, Way::Out)?.test_run(options),
        };
        result.map(|result| result.return_value)
    }

    // === links ===

    /// Changes the program of a pinned link in one step: no packet meets none.
    pub(crate) fn replace(&mut self, pin: &Path, place: Place) -> Result<(), ProgramError> {
        let broken = |error| ProgramError::IOError(io::Error::other(error));
        let link = FdLink::from(PinnedLink::from_pin(pin).map_err(broken)?);
        // The pin keeps it; what we hold is a second reference.
        match place {
            Place::Xdp => {
                let program = xdp(&mut self.ebpf)?;
                let link = program.attach_to_link(XdpLink::try_from(link).map_err(broken)?)?;
                program.take_link(link).map(drop)
            }
            Place::Tcx(way) => {
                let program = classifier(&mut self.ebpf, way)?;
                let link = SchedClassifierLink::try_from(link).map_err(broken)?;
                let link = program.attach_to_link(link)?;
                program.take_link(link).map(drop)
            }
            Place::Other => Err(ProgramError::UnexpectedProgramType),
        }
    }

    /// Makes an XDP link and pins it.
    pub(crate) fn link_xdp(&mut self, index: u32, mode: XdpMode, pin: &Path) -> Result<(), NoLink> {
        let program = xdp(&mut self.ebpf)?;
        let link = program.attach_to_if_index(index, mode)?;
        // A kernel before 5.9 answers with a program that no pin can keep.
        keep(FdLink::try_from(program.take_link(link)?), pin)
    }

    /// Makes a link at traffic control, before the programs of everybody else, and pins it.
    pub(crate) fn link_tcx(&mut self, interface: &str, way: Way, pin: &Path) -> Result<(), NoLink> {
        let kind = match way {
            Way::In => TcAttachType::Ingress,
            Way::Out => TcAttachType::Egress,
        };
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let program = classifier(&mut self.ebpf, way)?;
        let link = program.attach_with_options(interface, kind, first)?;
        keep(FdLink::try_from(program.take_link(link)?), pin)
    }

    /// The program for a filter.
    pub(crate) fn classifier(&mut self, way: Way) -> Result<FilterProgram<'_>, ProgramError> {
        classifier(&mut self.ebpf, way)?.fd().map(FilterProgram)
    }
}

/// A descriptor of a program.
pub(crate) struct FilterProgram<'l>(&'l ProgramFd);

impl AsFd for FilterProgram<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<ProgramError> for NoLink {
    fn from(refused: ProgramError) -> Self {
        Self::Refused(refused)
    }
}

pub(crate) const EPERM: i32 = 1;
pub(crate) const E2BIG: i32 = 7;
pub(crate) const ENOMEM: i32 = 12;
pub(crate) const EBUSY: i32 = 16;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const ENODEV: i32 = 19;

/// What the object calls the program of traffic control.
pub(crate) const fn name_of(way: Way) -> &'static str {
    match way {
        Way::In => program::INGRESS,
        Way::Out => program::EGRESS,
    }
}

/// The pinned programs, as far as there are any.
pub(crate) fn pinned(pins: &Pins) -> Vec<ProgramInfo> {
    program::ALL.iter().filter_map(|name| ProgramInfo::from_pin(pins.program(name)).ok()).collect()
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

fn keep(link: Result<FdLink, aya::programs::links::LinkError>, pin: &Path) -> Result<(), NoLink> {
    let pinned =
        link.map_err(io::Error::other).and_then(|link| link.pin(pin).map_err(io::Error::other));
    pinned.map(drop).map_err(NoLink::Unpinned)
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramError> {
    ebpf.program_mut(program::XDP).ok_or(ProgramError::NotLoaded)?.try_into()
}

fn classifier(ebpf: &mut Ebpf, way: Way) -> Result<&mut SchedClassifier, ProgramError> {
    ebpf.program_mut(name_of(way)).ok_or(ProgramError::NotLoaded)?.try_into()
}

fn verified(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    let interrupted = |answer: &Result<(), ProgramError>| {
        matches!(answer, Err(ProgramError::LoadError { io_error, .. })
            if io_error.kind() == io::ErrorKind::WouldBlock)
    };
    let mut answer = load();
    for _ in 1..ATTEMPTS {
        if !interrupted(&answer) {
            break;
        }
        answer = load();
    }
    answer
}

fn no_program(name: &'static str) -> AttachError {
    refused_program(name, ProgramError::NotLoaded)
}

fn unloadable(error: EbpfError) -> AttachError {
    if let EbpfError::MapError(aya::maps::MapError::CreateError { name, io_error }) = error {
        return AttachError::MapCreate { map: name, source: io_error };
    }
    let senseless = matches!(
        error,
        EbpfError::ParseError(_)
            | EbpfError::BtfError(_)
            | EbpfError::BtfRelocationError(_)
            | EbpfError::RelocationError(_)
            | EbpfError::NoBTF
    );
    let error = Box::new(error);
    if senseless { AttachError::Object(error) } else { AttachError::Load(error) }
}

fn refused_program(name: &'static str, error: ProgramError) -> AttachError {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = last_lines(&verifier_log.to_string());
        return AttachError::Verifier { program: name, log, source: io_error };
    }
    AttachError::Load(Box::new(error.into()))
}

/// What a person needs of a verifier's log: the end, without its statistics.
fn last_lines(log: &str) -> String {
    let says_why = |line: &&str| {
        let statistics = ["processed ", "verification time ", "stack depth "];
        !line.trim().is_empty() && !statistics.iter().any(|start| line.starts_with(start))
    };
    let mut lines: Vec<&str> = log.lines().filter(says_why).collect();
    lines.drain(..lines.len().saturating_sub(VERIFIER_LINES));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_found_however_deep_it_is_wrapped() {
        let answer = aya::maps::MapError::IoError(io::Error::from_raw_os_error(EBUSY));

        assert_eq!(errno(&answer), Some(EBUSY));
        assert_eq!(errno(&aya::maps::MapError::KeyNotFound), None);
    }

    #[test]
    fn of_a_long_log_the_lines_that_say_why_are_kept() {
        let log: String = (0..100).map(|at| format!("{at}: r0 = 0\n")).collect();
        let log = format!(
            "{log}R1 invalid mem access 'scalar'\nverification time 7 usec\nstack depth 72\nprocessed 7 insns\n"
        );

        let kept = last_lines(&log);

        assert_eq!(kept.lines().count(), VERIFIER_LINES);
        assert!(kept.ends_with("R1 invalid mem access 'scalar'"));
    }
}
