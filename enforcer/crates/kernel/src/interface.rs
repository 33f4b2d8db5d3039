//! What the host says about its interfaces, and what is said about a guarded one.
//!
//! One `RTM_GETLINK` dump: which interfaces there are, how large their frames, and which XDP
//! program each one runs. What hangs at traffic control is read in `qdisc.rs` and `links.rs`.

use std::fmt;
use std::io;

use crate::netlink::{Message, Netlink, attribute, attributes, read_text, read_u16, read_u32};

/// One guarded interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether our program judges what comes in there.
    pub attachment: Attachment,
    /// Whether our program judges what goes out there; `None` when the policy wants none and none
    /// is there.
    pub egress: Option<Attachment>,
    /// The longest packet that it carries, in bytes; 0 when there is no such interface.
    pub mtu: u32,
    /// Programs of others in the same places, such as `xdp 17 (name)`.
    pub foreign: Vec<String>,
}

/// Whether our program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// It does.
    Attached {
        /// Where on the way of a packet.
        hook: Hook,
        /// Which.
        program: Program,
    },
    /// The interface is there and does not run it: it was made anew, or somebody removed the link.
    Detached,
    /// There is no such interface.
    Missing,
}

/// Where on the way of a packet a program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP, in the driver.
    Native,
    /// XDP, after the kernel made its packet buffer.
    Generic,
    /// Traffic control, in the kernel's list of programs.
    Tcx,
    /// Traffic control, as a filter of the `clsact` queueing discipline.
    Clsact,
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
    pub(crate) mtu: u32,
    /// The XDP program that it runs.
    pub(crate) program: Option<(Hook, u32)>,
}

/// Where to ask for interfaces.
#[derive(Debug)]
pub(crate) struct Devices {
    pub(crate) netlink: Netlink,
}

// linux/rtnetlink.h, linux/if_link.h, linux/if_arp.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const ATTACHED_DRIVER: u8 = 1;
const ATTACHED_HARDWARE: u8 = 3;
const TYPE_ETHERNET: u16 = 1;
const TYPE_LOOPBACK: u16 = 772;

const LINK_BYTES: usize = 16;

impl Hook {
    /// Its word in reports and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
        Ok(Self { netlink: Netlink::open()? })
    }

    /// Every interface of the namespace.
    pub(crate) fn list(&self) -> io::Result<Vec<Device>> {
        let messages = self.netlink.dump(RTM_GETLINK, &[0; LINK_BYTES])?;
        messages.iter().filter(|message| message.kind == RTM_NEWLINK).map(device).collect()
    }

    /// The interface of this name.
    pub(crate) fn find(&self, name: &str) -> io::Result<Option<Device>> {
        Ok(self.list()?.into_iter().find(|device| device.name == name))
    }
}

fn device(message: &Message) -> io::Result<Device> {
    read_device(&message.body).ok_or_else(|| io::ErrorKind::InvalidData.into())
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
            IFLA_IFNAME => device.name = read_text(value),
            IFLA_MTU => device.mtu = read_u32(value, 0)?,
            IFLA_XDP => device.program = read_program(value),
            _ => {}
        }
    }
    Some(device)
}

fn read_program(nested: &[u8]) -> Option<(Hook, u32)> {
    let hook = match *attribute(nested, IFLA_XDP_ATTACHED)?.first()? {
        ATTACHED_DRIVER | ATTACHED_HARDWARE => Hook::Native,
        _ => Hook::Generic,
    };
    Some((hook, read_u32(attribute(nested, IFLA_XDP_PROG_ID)?, 0)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::put_attribute;

    #[test]
    fn the_loopback_of_this_namespace_is_listed() {
        let devices = Devices::open().unwrap();

        let loopback = devices.find("lo").unwrap().unwrap();

        assert_eq!(loopback.index, 1);
        assert!(loopback.ethernet && loopback.mtu > 0);
        assert_eq!(devices.find("no-such-device").unwrap(), None);
    }

    #[test]
    fn a_program_is_read_with_its_hook_and_number() {
        let mut xdp = Vec::new();
        put_attribute(&mut xdp, IFLA_XDP_ATTACHED, &[2]);
        put_attribute(&mut xdp, IFLA_XDP_PROG_ID, &77u32.to_ne_bytes());
        let mut body = vec![0; LINK_BYTES];
        put_attribute(&mut body, IFLA_IFNAME, b"veth7\0");
        put_attribute(&mut body, IFLA_MTU, &9000u32.to_ne_bytes());
        put_attribute(&mut body, IFLA_XDP | 0x8000, &xdp);

        let device = read_device(&body).unwrap();

        assert_eq!((device.name.as_str(), device.mtu), ("veth7", 9000));
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
        fn no_interface_makes_the_reader_panic(body: Vec<u8>) {
            let device = read_device(&body);

            prop_assert!(device.is_none() || body.len() >= LINK_BYTES);
        }
    }
}
