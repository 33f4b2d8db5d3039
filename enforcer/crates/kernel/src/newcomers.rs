//! A listening socket that nobody new comes to, while it is still open.

#![expect(unsafe_code, reason = "a socket option that no crate wraps")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// An interface that no packet comes in by: numbers are given from 1 on.
static NOWHERE: libc::c_int = libc::c_int::MAX;

/// Has whoever begins to connect to this TCP socket refused, like where nobody listens; whoever has
/// begun before can still be accepted.
///
/// The system resets the connections that wait in the queue of a socket that is closed, and those
/// whose handshake it has answered. So an agent that stops first binds its sockets to an interface
/// that there is not, and then has time to accept the last. This takes no privilege while the socket
/// is bound to no other interface (`sock_bindtoindex_locked` in the kernel's `net/core/sock.c`).
pub fn refuse_newcomers(listener: impl AsFd) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&NOWHERE)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed for the call, which reads an integer that is ours.
    let done = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTOIFINDEX,
            (&raw const NOWHERE).cast(),
            length,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn newcomers_are_refused_and_whoever_waits_is_accepted() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let to = listener.local_addr().unwrap();
            let mut waiting = TcpStream::connect(to).unwrap();

            refuse_newcomers(&listener).unwrap();

            let refused = TcpStream::connect(to).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{address}");
            let (mut accepted, _peer) = listener.accept().unwrap();
            waiting.write_all(b"still here").unwrap();
            let mut heard = [0; 10];
            accepted.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"still here");
            accepted.write_all(&heard).unwrap();
            waiting.read_exact(&mut heard).unwrap();
        }
    }
}
