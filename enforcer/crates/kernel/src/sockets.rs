//! Ends the live sockets of a network: a block drops packets, and what is open already would stay
//! until it times out.
//!
//! `NETLINK_SOCK_DIAG` lists the sockets whose far end lies in the network, `SOCK_DESTROY` ends each
//! by its tuple and its cookie: a listener, or a later socket with the same ports, is never hit.
//! Then they are listed again, and only an empty list counts as done. Sockets belong to one network
//! namespace, here that of the calling thread; those of containers are not seen.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use enforcer_model::Prefix;
use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{connect, recv, send, socket_with};

use crate::netlink::{put_attribute, read_u16, read_u32};

/// The sockets that [`close_sockets`] has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Connections: both ends see a reset.
    pub tcp: u64,
    /// Connected sockets: the owner sees an error and is no longer connected.
    pub udp: u64,
}

/// Ends every TCP connection and every connected UDP socket of this thread's network namespace whose
/// far end lies in `prefix` and is not `spared`. IPv4-mapped IPv6 addresses count as IPv4.
///
/// `PermissionDenied`: the thread lacks `CAP_NET_ADMIN`. `Unsupported`: the kernel was built without
/// `CONFIG_INET_DIAG_DESTROY` or cannot list such sockets. After an error some may be closed.
pub fn close_sockets(prefix: Prefix, spared: &dyn Fn(IpAddr) -> bool) -> io::Result<Closed> {
    // An IPv4 peer of a socket that takes both families has an IPv6 socket.
    let families: &[u8] = if prefix.address().is_ipv4() { &[INET, INET6] } else { &[INET6] };
    let mut closed = Closed::default();
    for (protocol, states, count) in
        [(TCP, CONNECTED, &mut closed.tcp), (UDP, 1 << ESTABLISHED, &mut closed.udp)]
    {
        for &family in families {
            let kind = Kind { family, protocol, states };
            *count = count.saturating_add(close_all(kind, prefix, spared)?);
        }
    }
    Ok(closed)
}

/// Which sockets one request is about.
#[derive(Clone, Copy, Debug)]
struct Kind {
    family: u8,
    protocol: u8,
    /// One bit for each state.
    states: u32,
}

/// A socket as the kernel knows it: its `inet_diag_sockid`, sent back as it came.
type SocketId = [u8; ID_BYTES];

// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const REQUEST_DUMP: u16 = 0x301;
const REQUEST_ACK: u16 = 0x5;
const REQ_BYTECODE: u16 = 1;
const BC_REMOTE: u8 = 8;
const INET: u8 = 2;
const INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ESTABLISHED: u32 = 1;
/// Of TCP, every state in which there is a far end to be reset: neither `TIME_WAIT` (6), nor `CLOSE`
/// (7), nor `LISTEN` (10).
const CONNECTED: u32 = 0b1_1011_0011_1110;
/// The timer of a connection that its owner has closed for good: nothing but a port number is left,
/// though it may be listed in the state that it had before.
const TIMER_TIME_WAIT: u8 = 3;

const HEADER_BYTES: usize = 16;
const ID_BYTES: usize = 48;
/// Where `inet_diag_msg` has its id, and where the id has the far end's address.
const ID_AT: usize = 4;
const REMOTE_AT: usize = 20;

const BUFFER_BYTES: usize = 64 * 1024;
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// More datagrams than this is not an answer about one host's sockets.
const DATAGRAMS_MAX: usize = 1 << 16;
/// Sockets that are listed before they are ended; the rest has its turn in the next pass.
const PASS_MAX: usize = 1 << 17;
/// Passes in which sockets of the network may still be found.
const PASSES_MAX: usize = 8;
/// Requests in one datagram: their answers fit into the smallest receive buffer.
const BATCH: usize = 64;

/// Lists and ends until there is nothing left to list.
///
/// The second pass is the proof, and finds what came up during the first: of two UDP sockets with
/// the same four numbers, for instance, the kernel shows both and ends one at a time.
fn close_all(kind: Kind, prefix: Prefix, spared: &dyn Fn(IpAddr) -> bool) -> io::Result<u64> {
    let mut closed = 0_u64;
    for _ in 0..PASSES_MAX {
        let found = list(kind, prefix, spared)?;
        if found.is_empty() {
            return Ok(closed);
        }
        let socket = open()?;
        for batch in found.chunks(BATCH) {
            closed = closed.saturating_add(end(&socket, kind, batch)?);
        }
    }
    Err(io::Error::other(format!("sockets of {prefix} come as fast as they are closed")))
}

/// The sockets whose far end lies in `prefix` and is not spared, at most [`PASS_MAX`].
fn list(kind: Kind, prefix: Prefix, spared: &dyn Fn(IpAddr) -> bool) -> io::Result<Vec<SocketId>> {
    let socket = open()?;
    send(&socket, &list_request(kind, prefix), SendFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    for _ in 0..DATAGRAMS_MAX {
        for message in messages(receive(&socket, &mut buffer)?) {
            match message? {
                Message::Done(Err(Errno::NOENT)) | Message::Outcome(Err(Errno::NOENT)) => {
                    return Err(unlisted());
                }
                Message::Done(outcome) => return Ok(outcome.map(|()| found)?),
                Message::Outcome(outcome) => outcome?,
                Message::Socket(listed) => {
                    // The kernel has sorted out the rest already; what is spared rests on this.
                    if kind.includes(&listed)
                        && prefix.contains(listed.remote)
                        && !spared(listed.remote)
                    {
                        found.push(listed.id);
                    }
                    if found.len() >= PASS_MAX {
                        return Ok(found);
                    }
                }
                Message::Other => {}
            }
        }
    }
    Err(malformed())
}

/// Ends these sockets, a few at once, and says how many were there to be ended.
fn end(socket: &OwnedFd, kind: Kind, batch: &[SocketId]) -> io::Result<u64> {
    let requests: Vec<u8> = batch.iter().flat_map(|id| end_request(kind, id)).collect();
    send(socket, &requests, SendFlags::empty())?;
    let (mut ended, mut outstanding) = (0, batch.len());
    let mut buffer = [0; 4096];
    while outstanding > 0 {
        for message in messages(receive(socket, &mut buffer)?) {
            let Message::Outcome(outcome) = message? else { return Err(malformed()) };
            outstanding = outstanding.saturating_sub(1);
            match outcome {
                Ok(()) => ended += 1,
                // Closed by its owner meanwhile, or the ports have another socket by now.
                Err(Errno::NOENT | Errno::STALE) => {}
                Err(Errno::OPNOTSUPP) => return Err(unsupported()),
                Err(Errno::PERM) => return Err(forbidden()),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(ended)
}

fn unsupported() -> io::Error {
    let words = "this kernel closes no sockets of others: no CONFIG_INET_DIAG_DESTROY";
    io::Error::new(ErrorKind::Unsupported, words)
}

fn unlisted() -> io::Error {
    let words =
        "this kernel does not list sockets: no CONFIG_INET_TCP_DIAG or CONFIG_INET_UDP_DIAG";
    io::Error::new(ErrorKind::Unsupported, words)
}

fn forbidden() -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, "closing sockets of others needs CAP_NET_ADMIN")
}

fn malformed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the kernel's answer about sockets cannot be read")
}

// === asking ===

/// A socket that the kernel, and nobody else, can answer on.
fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWERS_WITHIN))?;
    connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

fn receive<'buffer>(socket: &OwnedFd, buffer: &'buffer mut [u8]) -> io::Result<&'buffer [u8]> {
    let (_, length) = recv(socket, &mut *buffer, RecvFlags::TRUNC)?;
    buffer.get(..length).filter(|datagram| !datagram.is_empty()).ok_or_else(malformed)
}

fn list_request(kind: Kind, prefix: Prefix) -> Vec<u8> {
    let mut body = request(kind, &[0; ID_BYTES]);
    put_attribute(&mut body, REQ_BYTECODE, &remote_in(prefix));
    message(SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, &body)
}

fn end_request(kind: Kind, id: &SocketId) -> Vec<u8> {
    message(SOCK_DESTROY, REQUEST_ACK, &request(kind, id))
}

/// `inet_diag_req_v2`
fn request(kind: Kind, id: &SocketId) -> Vec<u8> {
    [&[kind.family, kind.protocol, 0, 0], kind.states.to_ne_bytes().as_slice(), id].concat()
}

/// The one instruction of a filter that passes sockets whose far end lies in `prefix`: in the
/// kernel, so that a host with a hundred thousand connections does not list them all.
fn remote_in(prefix: Prefix) -> Vec<u8> {
    const ANY_PORT: i32 = -1;
    let (family, address) = match prefix.address() {
        IpAddr::V4(address) => (INET, address.octets().to_vec()),
        IpAddr::V6(address) => (INET6, address.octets().to_vec()),
    };
    let condition =
        [&[family, prefix.length(), 0, 0], ANY_PORT.to_ne_bytes().as_slice(), &address].concat();
    // To the end of the code, which is a match, or beyond it, which is none.
    let yes = u8::try_from(4 + condition.len()).unwrap_or_default();
    let no = u16::from(yes) + 4;
    [&[BC_REMOTE, yes], no.to_ne_bytes().as_slice(), &condition].concat()
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence and port: the socket has one request at a time, and only the kernel to answer it.
    message.resize(HEADER_BYTES, 0);
    message.extend(body);
    message
}

// === reading ===

/// What the kernel says.
#[derive(Debug)]
enum Message {
    /// The list is complete, or was broken off.
    Done(Result<(), Errno>),
    /// What came of a request.
    Outcome(Result<(), Errno>),
    /// One socket.
    Socket(Listed),
    /// What newer kernels may say besides.
    Other,
}

/// A socket, as listed.
#[derive(Debug)]
struct Listed {
    family: u8,
    state: u8,
    timer: u8,
    id: SocketId,
    remote: IpAddr,
}

impl Kind {
    /// Whether this is one of those that were asked for, with a far end to be reset.
    fn includes(self, listed: &Listed) -> bool {
        let state = 1_u32.checked_shl(listed.state.into()).unwrap_or_default();
        listed.family == self.family && self.states & state != 0 && listed.timer != TIMER_TIME_WAIT
    }
}

/// The messages of one datagram; ends behind the first that does not fit.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = io::Result<Message>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let whole = std::mem::take(&mut rest);
        let read = read_message(whole).ok_or_else(malformed);
        Some(read.map(|(message, length)| {
            rest = whole.get(length.next_multiple_of(4)..).unwrap_or_default();
            message
        }))
    })
}

/// The first message and its length.
fn read_message(datagram: &[u8]) -> Option<(Message, usize)> {
    let length = usize::try_from(read_u32(datagram, 0)?).ok()?;
    let body = datagram.get(HEADER_BYTES..length)?;
    let message = match read_u16(datagram, 4)? {
        NLMSG_DONE => Message::Done(read_outcome(body)?),
        NLMSG_ERROR => Message::Outcome(read_outcome(body)?),
        SOCK_DIAG_BY_FAMILY => Message::Socket(read_socket(body)?),
        _ => Message::Other,
    };
    Some((message, length))
}

/// Zero or a negated error number.
fn read_outcome(body: &[u8]) -> Option<Result<(), Errno>> {
    match read_u32(body, 0)?.cast_signed() {
        0 => Some(Ok(())),
        number @ -4095..0 => Some(Err(Errno::from_raw_os_error(-number))),
        _ => None,
    }
}

/// `inet_diag_msg`
fn read_socket(body: &[u8]) -> Option<Listed> {
    let &[family, state, timer, ..] = body else { return None };
    let id: SocketId = *body.get(ID_AT..)?.first_chunk()?;
    let remote = id.get(REMOTE_AT..)?;
    let remote = match family {
        INET => IpAddr::V4(Ipv4Addr::from_octets(*remote.first_chunk()?)),
        INET6 => IpAddr::V6(Ipv6Addr::from_octets(*remote.first_chunk()?)).to_canonical(),
        _ => return None,
    };
    Some(Listed { family, state, timer, id, remote })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP4: Kind = Kind { family: INET, protocol: TCP, states: CONNECTED };

    #[test]
    fn a_kernel_that_cannot_and_a_thread_that_may_not_are_told_apart() {
        assert_eq!(unsupported().kind(), ErrorKind::Unsupported);
        assert_eq!(unlisted().kind(), ErrorKind::Unsupported);
        assert_eq!(forbidden().kind(), ErrorKind::PermissionDenied);

        for (number, expected) in
            [(0, Ok(())), (-95, Err(Errno::OPNOTSUPP)), (-1, Err(Errno::PERM))]
        {
            let datagram = message(NLMSG_ERROR, 0, &i32::to_ne_bytes(number));
            let Ok(Message::Outcome(outcome)) = messages(&datagram).next().unwrap() else {
                panic!("another message")
            };
            assert_eq!(outcome, expected);
        }
    }

    #[test]
    fn a_socket_is_read_with_its_far_end_and_goes_back_as_it_came() {
        let body = listed(INET6, 1, 0, "::ffff:203.0.113.9");

        let socket = read_socket(&body).unwrap();

        assert_eq!(socket.remote, IpAddr::from([203, 0, 113, 9]));
        let sent_back = end_request(TCP4, &socket.id);
        assert_eq!(sent_back.len(), HEADER_BYTES + 56);
        assert_eq!(sent_back[HEADER_BYTES + 8..], body[ID_AT..ID_AT + ID_BYTES]);
    }

    #[test]
    fn listeners_and_what_is_closed_already_are_never_ended() {
        let includes = |family, state, timer| {
            TCP4.includes(&read_socket(&listed(family, state, timer, "203.0.113.9")).unwrap())
        };
        let (close, listen, time_wait, fin_wait2) = (7, 10, 6, 5);

        assert!((1..=5).chain([8, 9, 11]).all(|state| includes(INET, state, 0)));
        assert!(
            [close, listen, time_wait, 33, 255].into_iter().all(|state| !includes(INET, state, 0))
        );
        // Half closed and still read from, against closed by its owner.
        assert!(includes(INET, fin_wait2, 0) && !includes(INET, fin_wait2, TIMER_TIME_WAIT));
        assert!(!includes(INET6, 1, 0));
    }

    fn listed(family: u8, state: u8, timer: u8, remote: &str) -> Vec<u8> {
        let mut body = vec![family, state, timer, 0];
        body.extend(1..=20_u8);
        match remote.parse().unwrap() {
            IpAddr::V4(address) => body.extend(address.octets()),
            IpAddr::V6(address) => body.extend(address.octets()),
        }
        body.resize(ID_AT + REMOTE_AT + 16, 0);
        body.extend(1..=12_u8);
        body.resize(72, 0);
        body
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(bytes: Vec<u8>) {
            prop_assert!(messages(&bytes).count() <= bytes.len());
        }

        #[test]
        fn no_answer_of_plausible_shape_makes_the_reader_panic(
            kinds in prop::collection::vec(
                (prop::sample::select(vec![2_u16, 3, 20, 99]), prop::collection::vec(any::<u8>(), 0..90)),
                0..8,
            ),
            cut in 0_usize..16,
        ) {
            let mut datagram: Vec<u8> = kinds
                .iter()
                .flat_map(|(kind, body)| {
                    let mut bytes = message(*kind, 0, body);
                    bytes.resize(bytes.len().next_multiple_of(4), 0);
                    bytes
                })
                .collect();
            datagram.truncate(datagram.len().saturating_sub(cut));

            let read: Vec<_> = messages(&datagram).collect();

            prop_assert!(read.len() <= kinds.len());
            // Whatever cannot be read ends the list: nothing is guessed behind it.
            prop_assert!(read.iter().rev().skip(1).all(Result::is_ok));
        }
    }
}
