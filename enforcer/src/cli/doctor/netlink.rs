//! Two questions to the kernel about an interface: what its driver can do with XDP, and which XDP
//! program it runs. One request, one answer, nothing is changed; needs no privilege.

use std::io;
use std::time::Duration;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send,
    socket_with,
};

/// The XDP program of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Xdp {
    /// Its number.
    pub(super) program: u32,
    /// In the driver.
    pub(super) native: bool,
}

// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const ATTACHED_GENERIC: u8 = 2;
// linux/genetlink.h, linux/netdev.h
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

const HEADER: usize = 16;
const LINK: usize = 16;
const GENERIC: usize = 4;

/// What the driver can do; none where the kernel does not say (before 6.3).
pub(super) fn xdp_features(name: &str) -> io::Result<Option<u64>> {
    let Some(index) = field_u32(&link(name)?, 4) else { return Ok(None) };
    let family = generic(CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let answer = ask(Some(netlink::GENERIC), GENL_ID_CTRL, &family)?;
    let Some(id) = attribute(tail(&answer, GENERIC), CTRL_ATTR_FAMILY_ID) else { return Ok(None) };
    let Ok(id) = id.try_into().map(u16::from_ne_bytes) else { return Ok(None) };
    let device = generic(NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes());
    let answer = ask(Some(netlink::GENERIC), id, &device)?;
    let features = attribute(tail(&answer, GENERIC), NETDEV_A_DEV_XDP_FEATURES);
    Ok(features.and_then(|value| value.try_into().ok()).map(u64::from_ne_bytes))
}

/// The XDP program that it runs.
pub(super) fn xdp_program(name: &str) -> io::Result<Option<Xdp>> {
    Ok(program_of(&link(name)?))
}

fn program_of(link: &[u8]) -> Option<Xdp> {
    let nested = attribute(tail(link, LINK), IFLA_XDP)?;
    let attached = *attribute(nested, IFLA_XDP_ATTACHED)?.first()?;
    let program = field_u32(attribute(nested, IFLA_XDP_PROG_ID)?, 0)?;
    Some(Xdp { program, native: attached != ATTACHED_GENERIC })
}

fn link(name: &str) -> io::Result<Vec<u8>> {
    let mut body = vec![0; LINK];
    push_attribute(&mut body, IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
    ask(None, RTM_GETLINK, &body)
}

fn generic(command: u8, kind: u16, value: &[u8]) -> Vec<u8> {
    let mut body = vec![command, 1, 0, 0];
    push_attribute(&mut body, kind, value);
    body
}

/// Sends one request (without a protocol: rtnetlink) and takes the body of the first message of its answer.
fn ask(protocol: Option<Protocol>, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(1)))?;
    connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence and port: the only request of its socket.
    message.extend([0; 8]);
    message.extend(body);
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = vec![0; 32 * 1024];
    let (count, _) = recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
    answer.truncate(count);
    body_of(&answer)
}

fn body_of(message: &[u8]) -> io::Result<Vec<u8>> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let length =
        usize::try_from(field_u32(message, 0).ok_or_else(broken)?).map_err(io::Error::other)?;
    let kind = field_u32(message, 4).ok_or_else(broken)?.to_ne_bytes();
    let body = message.get(HEADER..length.min(message.len())).ok_or_else(broken)?;
    let [low, high, ..] = kind;
    if u16::from_ne_bytes([low, high]) == NLMSG_ERROR {
        let code = field_u32(body, 0).ok_or_else(broken)?.cast_signed();
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    Ok(body.to_vec())
}

fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The value of the first attribute of this kind.
fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    // The two upper bits are flags: nested, network order.
    const KIND: u16 = 0x3fff;
    loop {
        let head: [u8; 4] = attributes.get(..4)?.try_into().ok()?;
        let [a, b, c, d] = head;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([c, d]) & KIND == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn field_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn tail(bytes: &[u8], from: usize) -> &[u8] {
    bytes.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_runs_no_program_and_a_name_that_nobody_has_is_an_error() {
        assert_eq!(xdp_program("lo").unwrap(), None);
        assert!(xdp_program("enf-nowhere").is_err());
    }

    #[test]
    fn a_program_is_read_out_of_the_nested_attribute() {
        let mut nested = Vec::new();
        push_attribute(&mut nested, IFLA_XDP_ATTACHED, &[1]);
        push_attribute(&mut nested, IFLA_XDP_PROG_ID, &17u32.to_ne_bytes());
        let mut link = vec![0; LINK];
        push_attribute(&mut link, IFLA_IFNAME, b"eth1\0");
        push_attribute(&mut link, IFLA_XDP | 0x8000, &nested);

        assert_eq!(program_of(&link), Some(Xdp { program: 17, native: true }));
        for cut in 0..link.len() {
            let whole = program_of(&link[..cut]);
            assert_eq!(whole, None, "cut at {cut}");
        }
    }
}
