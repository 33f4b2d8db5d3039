//! The `clsact` queueing discipline: filters of an interface, read and changed over rtnetlink.
//!
//! A filter has no link that a file could keep alive; it stays until somebody removes it. So ours
//! are found again by what they are called: the program and the folder of pins that it belongs to.
//! Giving a filter that is there another program is one step for the kernel.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::bpf::Way;
use crate::netlink::{
    CREATE, EXCLUSIVE, Netlink, REPLACE, attribute, put_attribute, read_text, read_u32,
};

// linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h, linux/if_ether.h
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const NESTED: u16 = 0x8000;
/// The program's answer is the verdict.
const DIRECT_ACTION: u32 = 1;
const CLSACT_PARENT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
const ALL_PROTOCOLS: u16 = 3;
const MESSAGE_BYTES: usize = 20;

/// Our number within a priority. Anything but the small ones that the kernel hands out.
const HANDLE: u32 = 0x656e_666f;

/// A filter of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) priority: u16,
    handle: u32,
    /// In network order, as the kernel keeps it.
    protocol: u16,
    /// `bpf`, `flower` and the like.
    pub(crate) kind: String,
    /// What its owner calls it.
    pub(crate) name: String,
    /// The program that it runs.
    pub(crate) program: Option<u32>,
}

/// The filters of this interface and way, the first to be asked first.
pub(crate) fn filters(netlink: &Netlink, index: u32, way: Way) -> io::Result<Vec<Filter>> {
    let request = message(index, 0, parent(way), 0);
    let messages = match netlink.dump(RTM_GETTFILTER, &request) {
        // How the kernel says that there is no such queueing discipline, or no such interface.
        Err(error) if matches!(error.raw_os_error(), Some(EINVAL | ENOENT | ENODEV)) => Vec::new(),
        answer => answer?,
    };
    let filters = messages.iter().filter(|message| message.kind == RTM_NEWTFILTER);
    // The kernel lists every chain once with no filter in it.
    let filters = filters.filter_map(|message| read_filter(&message.body));
    Ok(filters.filter(|filter| filter.handle != 0).collect())
}

/// The numbers of the interfaces that have the queueing discipline.
pub(crate) fn interfaces(netlink: &Netlink) -> io::Result<Vec<u32>> {
    let messages = netlink.dump(RTM_GETQDISC, &message(0, 0, 0, 0))?;
    let index_of = |body: &[u8]| {
        let kind = attribute(body.get(MESSAGE_BYTES..)?, TCA_KIND)?;
        if read_text(kind) == "clsact" { read_u32(body, 4) } else { None }
    };
    let disciplines = messages.iter().filter(|message| message.kind == RTM_NEWQDISC);
    Ok(disciplines.filter_map(|message| index_of(&message.body)).collect())
}

/// Whether the interface has the queueing discipline.
pub(crate) fn exists(netlink: &Netlink, index: u32) -> io::Result<bool> {
    Ok(interfaces(netlink)?.contains(&index))
}

/// Gives the interface the queueing discipline; whether it had none.
pub(crate) fn make(netlink: &Netlink, index: u32) -> io::Result<bool> {
    let mut request = message(index, CLSACT_HANDLE, CLSACT_PARENT, 0);
    put_attribute(&mut request, TCA_KIND, b"clsact\0");
    match netlink.change(RTM_NEWQDISC, CREATE | EXCLUSIVE, &request) {
        Err(error) if error.raw_os_error() == Some(EEXIST) => Ok(false),
        answer => answer.map(|()| true),
    }
}

/// Takes the queueing discipline away if no filter uses it; whether it is gone.
pub(crate) fn remove_unused(netlink: &Netlink, index: u32) -> io::Result<bool> {
    for way in Way::BOTH {
        if !filters(netlink, index, way)?.is_empty() {
            return Ok(false);
        }
    }
    let mut request = message(index, CLSACT_HANDLE, CLSACT_PARENT, 0);
    put_attribute(&mut request, TCA_KIND, b"clsact\0");
    gone_is_fine(netlink.change(RTM_DELQDISC, 0, &request)).map(|()| true)
}

/// Puts a program there, before the filters of everybody else where the kernel has room for it.
pub(crate) fn put(
    netlink: &Netlink,
    index: u32,
    way: Way,
    name: &str,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let others = filters(netlink, index, way)?;
    // All filters of a priority are of one kind and for one protocol.
    let fits = |priority: &u16| {
        let shares = others.iter().filter(|filter| filter.priority == *priority);
        shares.into_iter().all(|filter| {
            filter.kind == "bpf"
                && filter.protocol == ALL_PROTOCOLS.to_be()
                && filter.handle != HANDLE
        })
    };
    let priority = (1..u16::MAX).find(fits).ok_or(io::ErrorKind::AddrInUse)?;
    if priority > 1 {
        tracing::warn!(index, priority, "filters of others come before ours");
    }
    set(netlink, index, way, (priority, HANDLE), name, program, EXCLUSIVE)
}

/// Gives a filter that is there another program, in one step.
pub(crate) fn replace(
    netlink: &Netlink,
    index: u32,
    way: Way,
    filter: &Filter,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    let place = (filter.priority, filter.handle);
    set(netlink, index, way, place, &filter.name, program, REPLACE)
}

/// Takes a filter away.
pub(crate) fn remove(netlink: &Netlink, index: u32, way: Way, filter: &Filter) -> io::Result<()> {
    let info = info(filter.priority);
    let mut request = message(index, filter.handle, parent(way), info);
    put_attribute(&mut request, TCA_KIND, b"bpf\0");
    gone_is_fine(netlink.change(RTM_DELTFILTER, 0, &request))
}

fn set(
    netlink: &Netlink,
    index: u32,
    way: Way,
    (priority, handle): (u16, u32),
    name: &str,
    program: BorrowedFd<'_>,
    flags: u16,
) -> io::Result<()> {
    let mut options = Vec::new();
    put_attribute(&mut options, TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
    put_attribute(&mut options, TCA_BPF_NAME, &[name.as_bytes(), b"\0"].concat());
    put_attribute(&mut options, TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
    let mut request = message(index, handle, parent(way), info(priority));
    put_attribute(&mut request, TCA_KIND, b"bpf\0");
    put_attribute(&mut request, TCA_OPTIONS | NESTED, &options);
    netlink.change(RTM_NEWTFILTER, CREATE | flags, &request)
}

const fn parent(way: Way) -> u32 {
    match way {
        Way::In => INGRESS,
        Way::Out => EGRESS,
    }
}

fn info(priority: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(ALL_PROTOCOLS.to_be())
}

/// A `struct tcmsg`.
fn message(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for word in [index, handle, parent, info] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn read_filter(body: &[u8]) -> Option<Filter> {
    let [handle, info] = [8, 16].map(|at| read_u32(body, at));
    let attributes = body.get(MESSAGE_BYTES..)?;
    let options = attribute(attributes, TCA_OPTIONS).unwrap_or_default();
    Some(Filter {
        priority: u16::try_from(info? >> 16).ok()?,
        handle: handle?,
        protocol: u16::try_from(info? & 0xffff).ok()?,
        kind: read_text(attribute(attributes, TCA_KIND)?),
        name: attribute(options, TCA_BPF_NAME).map(read_text).unwrap_or_default(),
        program: attribute(options, TCA_BPF_ID).and_then(|id| read_u32(id, 0)),
    })
}

fn gone_is_fine(answer: io::Result<()>) -> io::Result<()> {
    match answer {
        Err(error) if matches!(error.raw_os_error(), Some(ENOENT | EINVAL | ENODEV)) => Ok(()),
        answer => answer,
    }
}

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_filter_is_read_with_its_owner_and_program() {
        let mut body = message(7, 1, INGRESS, info(9));
        let mut options = Vec::new();
        put_attribute(&mut options, TCA_BPF_NAME, b"enforcer_in /pins\0");
        put_attribute(&mut options, TCA_BPF_ID, &77u32.to_ne_bytes());
        put_attribute(&mut body, TCA_KIND, b"bpf\0");
        put_attribute(&mut body, TCA_OPTIONS, &options);

        let filter = read_filter(&body).unwrap();

        assert_eq!((filter.priority, filter.handle), (9, 1));
        assert_eq!((filter.kind.as_str(), filter.program), ("bpf", Some(77)));
        assert_eq!(filter.name, "enforcer_in /pins");
    }

    #[test]
    fn an_interface_without_the_discipline_has_no_filters() {
        let netlink = Netlink::open().unwrap();

        for way in Way::BOTH {
            assert_eq!(filters(&netlink, u32::MAX >> 1, way).unwrap(), []);
        }
        assert!(!exists(&netlink, u32::MAX >> 1).unwrap());
    }

    proptest! {
        #[test]
        fn no_filter_makes_the_reader_panic(body: Vec<u8>) {
            let filter = read_filter(&body);

            prop_assert!(filter.is_none() || body.len() >= MESSAGE_BYTES);
        }
    }
}
