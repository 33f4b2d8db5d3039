//! What the host says about its interfaces: which there are, and which XDP program each one runs.
//!
//! One `RTM_GETLINK` dump over rtnetlink, read without trust in any length. The socket belongs to
//! the network namespace that it was opened in, whichever thread asks later.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socket_with};

/// One guarded interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether our program runs there.
    pub attachment: Attachment,
}

/// Whether our program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// It does.
    Attached {
        /// Where in the receive path.
        hook: Hook,
        /// Which.
        program: Program,
    },
    /// The interface is there and does not run it: it was made anew, or somebody removed the link.
    Detached,
    /// There is no such interface.
    Missing,
}

/// Where in the receive path a program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// After the kernel made its packet buffer.
    Generic,
    /// In the driver.
    Native,
}

/// A loaded program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its number in the kernel.
    pub id: u32,
    /// The hash that the kernel made of its instructions; `None` when it is not the pinned one.
    pub tag: Option<u64>,
}

/// An interface as the kernel lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) index: u32,
    /// Frames begin with an Ethernet header.
    pub(crate) ethernet: bool,
    /// The program that it runs.
    pub(crate) program: Option<(Hook, u32)>,
}

/// Where to ask for interfaces.
#[derive(Debug)]
pub(crate) struct Devices {
    socket: OwnedFd,
}

// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_arp.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST_DUMP: u16 = 0x301;
const NESTED: u16 = 0x8000;
const IFLA_IFNAME: u16 = 3;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const ATTACHED_DRIVER: u8 = 1;
const ATTACHED_HARDWARE: u8 = 3;
const TYPE_ETHERNET: u16 = 1;
const TYPE_LOOPBACK: u16 = 772;

const HEADER_BYTES: usize = 16;
const LINK_BYTES: usize = 16;
const BUFFER_BYTES: usize = 64 * 1024;
/// More messages than this is not an answer about one host's interfaces.
const MAX_DATAGRAMS: usize = 4096;

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generic => "generic",
            Self::Native => "native",
        })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tag {
            Some(tag) => write!(f, "{} tag {tag:016x}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

impl Devices {
    /// Asks about the network namespace of the calling thread from now on.
    pub(crate) fn open() -> io::Result<Self> {
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(2)))?;
        Ok(Self { socket })
    }

    /// Every interface of the namespace.
    pub(crate) fn list(&self) -> io::Result<Vec<Device>> {
        send(&self.socket, &request(), SendFlags::empty())?;
        let mut devices = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        for _ in 0..MAX_DATAGRAMS {
            let (_, length) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            let datagram = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            if collect(datagram, &mut devices)? == Dump::Complete {
                return Ok(devices);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// The interface of this name.
    pub(crate) fn find(&self, name: &str) -> io::Result<Option<Device>> {
        Ok(self.list()?.into_iter().find(|device| device.name == name))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Dump {
    Complete,
    Continues,
}

fn request() -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + LINK_BYTES).unwrap_or_default();
    let mut message = Vec::with_capacity(HEADER_BYTES + LINK_BYTES);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&RTM_GETLINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
    message.resize(HEADER_BYTES + LINK_BYTES, 0);
    message
}

/// Reads the messages of one datagram.
fn collect(mut datagram: &[u8], devices: &mut Vec<Device>) -> io::Result<Dump> {
    let refused = || io::Error::from(io::ErrorKind::InvalidData);
    while !datagram.is_empty() {
        let length = read_u32(datagram, 0).ok_or_else(refused)?;
        let kind = read_u16(datagram, 4).ok_or_else(refused)?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let body = datagram.get(HEADER_BYTES..length).ok_or_else(refused)?;
        match kind {
            NLMSG_DONE => return Ok(Dump::Complete),
            NLMSG_ERROR => {
                let number = read_u32(body, 0).ok_or_else(refused)?;
                return Err(io::Error::from_raw_os_error(number.cast_signed().wrapping_neg()));
            }
            RTM_NEWLINK => devices.push(read_device(body).ok_or_else(refused)?),
            _ => {}
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Dump::Continues)
}

fn read_device(body: &[u8]) -> Option<Device> {
    let kind = read_u16(body, 2)?;
    let mut device = Device {
        index: read_u32(body, 4)?,
        ethernet: matches!(kind, TYPE_ETHERNET | TYPE_LOOPBACK),
        ..Device::default()
    };
    for (kind, value) in attributes(body.get(LINK_BYTES..)?) {
        match kind {
            IFLA_IFNAME => {
                let name = value.split(|&byte| byte == 0).next()?;
                device.name = String::from_utf8_lossy(name).into_owned();
            }
            IFLA_XDP => device.program = read_program(value),
            _ => {}
        }
    }
    Some(device)
}

fn read_program(nested: &[u8]) -> Option<(Hook, u32)> {
    let find = |wanted| attributes(nested).find(|(kind, _)| *kind == wanted);
    let (_, attached) = find(IFLA_XDP_ATTACHED)?;
    let (_, id) = find(IFLA_XDP_PROG_ID)?;
    let hook = match *attached.first()? {
        ATTACHED_DRIVER | ATTACHED_HARDWARE => Hook::Native,
        _ => Hook::Generic,
    };
    Some((hook, read_u32(id, 0)?))
}

/// Type and value of each attribute; ends at the first that does not fit.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(bytes, 0)?);
        let kind = read_u16(bytes, 2)? & !NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_loopback_of_this_namespace_is_listed() {
        let devices = Devices::open().unwrap();

        let loopback = devices.find("lo").unwrap().unwrap();

        assert_eq!(loopback.index, 1);
        assert!(loopback.ethernet);
        assert_eq!(devices.find("no-such-device").unwrap(), None);
    }

    #[test]
    fn a_program_is_read_with_its_hook_and_number() {
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(value.len() + 4).unwrap();
            let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let xdp =
            [attribute(IFLA_XDP_ATTACHED, &[2]), attribute(IFLA_XDP_PROG_ID, &77u32.to_ne_bytes())]
                .concat();
        let mut body = vec![0; LINK_BYTES];
        body.extend(attribute(IFLA_IFNAME, b"veth7\0"));
        body.extend(attribute(IFLA_XDP | NESTED, &xdp));

        let device = read_device(&body).unwrap();

        assert_eq!(device.name, "veth7");
        assert_eq!(device.program, Some((Hook::Generic, 77)));
    }

    #[test]
    fn a_device_without_ethernet_headers_is_told_apart() {
        let of_type = |kind: u16| {
            let mut body = vec![0; LINK_BYTES];
            body[2..4].copy_from_slice(&kind.to_ne_bytes());
            read_device(&body).unwrap().ethernet
        };

        assert!(of_type(TYPE_ETHERNET) && of_type(TYPE_LOOPBACK));
        // A tunnel: packets begin with the IP header.
        assert!(!of_type(65_534));
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(bytes: Vec<u8>) {
            let mut devices = Vec::new();

            let dump = collect(&bytes, &mut devices);

            prop_assert!(devices.len() <= bytes.len());
            prop_assert!(dump.is_ok() || dump.is_err());
        }
    }
}
