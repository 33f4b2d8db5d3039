//! Words to the service manager (`sd_notify`): the agent serves, it stops, and who it is now.
//!
//! A word is one datagram to the socket that the manager names in the environment; without one there
//! is nobody to tell. A successor names itself as the main process, so that a unit stays up when one
//! agent takes another's place.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::warn;

/// The agent serves; this process is the one to look after.
pub(crate) fn serving() {
    say(&format!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
}

/// The agent was asked to end.
pub(crate) fn stopping() {
    say("STOPPING=1\nSTATUS=finishing what runs");
}

fn say(words: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, words) {
        warn!(%error, "the service manager does not hear that the agent {words:?}");
    }
}

fn send(socket: &OsStr, words: &str) -> io::Result<()> {
    // One that begins with `@` is no file.
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let datagrams = UnixDatagram::unbound()?;
    datagrams.set_nonblocking(true)?;
    datagrams.send_to_addr(words.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_arrives_at_a_socket_with_a_path_and_at_one_with_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("enforcer-notify-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, listening) in [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}").into(), UnixDatagram::bind_addr(&by_name).unwrap()),
        ] {
            send(&socket, "READY=1").unwrap();

            let mut heard = [0; 32];
            let length = listening.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
    }
}
