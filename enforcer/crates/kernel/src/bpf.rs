//! The `bpf(2)` commands that aya does not have, or asks more privileges for than the kernel does.
//!
//! What a pin is, where a link hangs, which programs run at traffic control: all of it without
//! `CAP_SYS_ADMIN`, so that an agent that gave up privileges still tells the truth.

#![expect(unsafe_code, reason = "system calls that no crate wraps")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Which way packets go at traffic control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// What a pin keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Map,
    Program,
    Link,
}

/// What a link is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Xdp,
    Tcx(Way),
    /// Not something that we make.
    Other,
}

/// A link, whether or not its interface is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) place: Place,
    /// The program that it runs.
    pub(crate) program: u32,
    /// The interface; 0 when that is gone, or the link was taken off it.
    pub(crate) index: u32,
}

// linux/bpf.h
const OBJ_GET: i32 = 7;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const PROG_QUERY: i32 = 16;
const LINK_DETACH: i32 = 34;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
const LINK_TYPE_XDP: u32 = 6;
const LINK_TYPE_TCX: u32 = 11;
const MAX_PROGRAMS: usize = 64;

impl Way {
    pub(crate) const BOTH: [Self; 2] = [Self::In, Self::Out];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::In => "ingress",
            Self::Out => "egress",
        }
    }
}

/// What the file at `path` keeps; `None`: nothing that we know.
pub(crate) fn kind(path: &Path) -> io::Result<Option<Kind>> {
    let held = open(path)?;
    let name = std::fs::read_link(PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())))?;
    let name = name.to_string_lossy();
    Ok(match name.rsplit(':').next().unwrap_or_default() {
        "bpf-map" => Some(Kind::Map),
        "bpf-prog" => Some(Kind::Program),
        "bpf_link" | "bpf-link" => Some(Kind::Link),
        _ => None,
    })
}

/// The link that is pinned at `path`.
pub(crate) fn link(path: &Path) -> io::Result<Link> {
    if kind(path)? != Some(Kind::Link) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a link"));
    }
    let held = open(path)?;
    // `struct bpf_link_info`: type, id, program, padding, then what the type says.
    let mut info = [0u32; 32];
    let mut request = Info {
        file: number(&held),
        bytes: size_of_val(&info).try_into().unwrap_or(0),
        info: address(info.as_mut_ptr()),
    };
    call(OBJ_GET_INFO_BY_FD, &mut request)?;
    let [kind, _, program, _, index, at, ..] = info;
    let place = match (kind, at) {
        (LINK_TYPE_XDP, _) => Place::Xdp,
        (LINK_TYPE_TCX, TCX_INGRESS) => Place::Tcx(Way::In),
        (LINK_TYPE_TCX, TCX_EGRESS) => Place::Tcx(Way::Out),
        // What it hangs on is written elsewhere.
        _ => return Ok(Link { place: Place::Other, program, index: 0 }),
    };
    Ok(Link { place, program, index })
}

/// Takes the link that is pinned at `path` off its interface, whoever else holds it.
pub(crate) fn detach(path: &Path) -> io::Result<()> {
    let held = open(path)?;
    call(LINK_DETACH, &mut number(&held)).map(drop)
}

/// The programs at traffic control of an interface, in their order. None on an older kernel.
pub(crate) fn programs(index: u32, way: Way) -> io::Result<Vec<u32>> {
    let mut programs = [0u32; MAX_PROGRAMS];
    let mut request = Query {
        index,
        at: match way {
            Way::In => TCX_INGRESS,
            Way::Out => TCX_EGRESS,
        },
        programs: address(programs.as_mut_ptr()),
        count: MAX_PROGRAMS.try_into().unwrap_or(0),
        ..Query::default()
    };
    match call(PROG_QUERY, &mut request) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(Vec::new()),
        answer => answer?,
    };
    let count = usize::try_from(request.count).unwrap_or(MAX_PROGRAMS);
    Ok(programs.into_iter().take(count).collect())
}

#[repr(C)]
struct Get {
    path: u64,
    file: u32,
    flags: u32,
}

#[repr(C)]
struct Info {
    file: u32,
    bytes: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    index: u32,
    at: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut request = Get { path: address(path.as_ptr()), file: 0, flags: 0 };
    let file = call(OBJ_GET, &mut request)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

fn number(file: &OwnedFd) -> u32 {
    file.as_raw_fd().cast_unsigned()
}

#[expect(clippy::as_conversions, reason = "the kernel takes addresses as numbers")]
fn address<T>(pointer: *const T) -> u64 {
    pointer as u64
}

/// Every address in `request` is of memory that outlives the call and is as long as it says.
fn call<T>(command: i32, request: &mut T) -> io::Result<i32> {
    let request: *mut T = request;
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes of `request`, and what the
    // addresses in it point to, all of which the callers above own.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, request, size_of::<T>()) };
    match i32::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_pinned_is_an_error_and_not_a_guess() {
        assert!(kind(Path::new("/proc/version")).is_err());
        assert_eq!(link(Path::new("/no-such-pin")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
