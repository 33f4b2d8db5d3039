//! Questions to the kernel over rtnetlink, and its answers, read without trust in any length.
//!
//! A socket belongs to the network namespace that it was opened in, whichever thread asks later.
//! One question at a time: the next one waits until the answer of the last was read to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socket_with};

// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// Change what is there, if anything is.
pub(crate) const REPLACE: u16 = 0x100;
/// Fail when it is there.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// Make it when it is not there.
pub(crate) const CREATE: u16 = 0x400;
const NESTED: u16 = 0x8000;

const HEADER_BYTES: usize = 16;
const BUFFER_BYTES: usize = 64 * 1024;
/// More datagrams than this are not an answer about one host's interfaces.
const MAX_DATAGRAMS: usize = 4096;

/// Where to ask.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    asked: AtomicU32,
}

/// One message of an answer: its type, and what follows its header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

impl Netlink {
    /// Asks about the network namespace of the calling thread from now on.
    pub(crate) fn open() -> io::Result<Self> {
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(2)))?;
        Ok(Self { socket, asked: AtomicU32::new(0) })
    }

    /// All that the kernel has of a kind.
    pub(crate) fn dump(&self, kind: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        self.ask(kind, REQUEST | DUMP, body)
    }

    /// Has the kernel change something; its refusal carries its number.
    pub(crate) fn change(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.ask(kind, REQUEST | ACK | flags, body).map(drop)
    }

    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Message>> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        send(&self.socket, &request(kind, flags, number, body)?, SendFlags::empty())?;
        let mut messages = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        for _ in 0..MAX_DATAGRAMS {
            let (_, length) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            let datagram = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            if collect(datagram, number, &mut messages)? == Answer::Complete {
                return Ok(messages);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Complete,
    Continues,
}

fn request(kind: u16, flags: u16, number: u32, body: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(HEADER_BYTES + body.len()).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&number.to_ne_bytes());
    message.extend_from_slice(&0u32.to_ne_bytes());
    message.extend_from_slice(body);
    Ok(message)
}

/// Reads the messages of one datagram; passes over what answers an earlier question.
fn collect(mut datagram: &[u8], number: u32, messages: &mut Vec<Message>) -> io::Result<Answer> {
    let refused = || io::Error::from(io::ErrorKind::InvalidData);
    while !datagram.is_empty() {
        let length = read_u32(datagram, 0).ok_or_else(refused)?;
        let kind = read_u16(datagram, 4).ok_or_else(refused)?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let body = datagram.get(HEADER_BYTES..length).ok_or_else(refused)?;
        if read_u32(datagram, 8) == Some(number) {
            match kind {
                NLMSG_DONE => return Ok(Answer::Complete),
                NLMSG_ERROR => {
                    let code = read_u32(body, 0).ok_or_else(refused)?.cast_signed();
                    // Zero is how the kernel says yes.
                    return match code {
                        0 => Ok(Answer::Complete),
                        _ => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                    };
                }
                _ => messages.push(Message { kind, body: body.to_vec() }),
            }
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Answer::Continues)
}

/// Type and value of each attribute; ends at the first that does not fit.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(bytes, 0)?);
        let kind = read_u16(bytes, 2)? & !NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub(crate) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Writes an attribute behind what `bytes` holds.
pub(crate) fn put_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Nothing that we send comes near this length; one that did would be refused as malformed.
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A text without the zero that ends it.
pub(crate) fn read_text(value: &[u8]) -> String {
    let text = value.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_attribute_reads_back_as_it_was_written() {
        let mut bytes = Vec::new();
        put_attribute(&mut bytes, 3 | NESTED, b"veth7\0");
        put_attribute(&mut bytes, 4, &77u32.to_ne_bytes());

        let read: Vec<_> = attributes(&bytes).collect();

        assert_eq!(read, [(3, &b"veth7\0"[..]), (4, &77u32.to_ne_bytes()[..])]);
        assert_eq!(read_text(attribute(&bytes, 3).unwrap()), "veth7");
        assert_eq!(attribute(&bytes, 5), None);
    }

    #[test]
    fn a_refusal_keeps_the_number_of_the_kernel_and_an_old_answer_is_passed_over() {
        let answer =
            |number: u32, code: i32| request(NLMSG_ERROR, 0, number, &code.to_ne_bytes()).unwrap();

        let refused = collect(&answer(7, -17), 7, &mut Vec::new()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(17));
        assert_eq!(collect(&answer(7, 0), 7, &mut Vec::new()).unwrap(), Answer::Complete);
        assert_eq!(collect(&answer(6, -17), 7, &mut Vec::new()).unwrap(), Answer::Continues);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(bytes: Vec<u8>) {
            let mut messages = Vec::new();
            let number = read_u32(&bytes, 8).unwrap_or_default();

            let answer = collect(&bytes, number, &mut messages);

            prop_assert!(messages.len() <= bytes.len());
            prop_assert!(answer.is_ok() || answer.is_err());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
