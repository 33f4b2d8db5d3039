//! Who holds a port: for the one message that an operator reads when the agent cannot start.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name, as `ps` shows it.
    pub name: String,
}

/// State `LISTEN` in `/proc/net/tcp`.
const LISTEN: &str = "0A";

impl Holder {
    /// The process that listens on the port of `address`; none when it belongs to another user and
    /// we may not look.
    pub(crate) fn of(address: SocketAddr) -> Option<Self> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
        let inodes: Vec<String> = tables
            .iter()
            .filter_map(|table| fs::read_to_string(table).ok())
            .flat_map(|table| listening(&table, address.port()))
            .collect();
        let processes = fs::read_dir("/proc").ok()?.flatten();
        processes
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .find(|pid| holds(*pid, &inodes))
            .map(|pid| Self { pid, name: name(pid) })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Inodes of the sockets in `table` that listen on `port`.
fn listening(table: &str, port: u16) -> Vec<String> {
    let sockets = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let local = columns.next()?.rsplit_once(':')?.1;
        let state = columns.nth(1)?;
        let inode = columns.nth(5)?;
        let here = u16::from_str_radix(local, 16) == Ok(port) && state == LISTEN;
        here.then(|| inode.to_owned())
    });
    sockets.collect()
}

fn holds(pid: u32, inodes: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.into_iter().any(|link| is_socket(&link, inodes))
}

fn is_socket(link: &Path, inodes: &[String]) -> bool {
    let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
    inode.is_some_and(|inode| inodes.iter().any(|known| known == inode))
}

fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn this_process_is_found_behind_its_own_port() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();

            let holder = Holder::of(listener.local_addr().unwrap()).unwrap();

            assert_eq!(holder.pid, std::process::id());
            assert!(!holder.name.is_empty());
        }
    }

    #[test]
    fn nobody_is_found_behind_a_free_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);

        assert_eq!(Holder::of(address), None);
    }
}
