//! What an attacker does, in bounded amounts: raw bytes, datagrams and connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};

use super::stream::{mouth, mouth_here};
use super::{DEADLINE, Namespace, wait_until};

/// The longest answer that [`raw_exchange`] keeps.
const ANSWER_MAX: u64 = 1024 * 1024;

/// The most datagrams of one flood.
const FLOOD_MAX: u64 = 10_000_000;

/// Room for what arrives while a sink waits for its turn: a flood is counted to the last datagram.
const SINK_BYTES: usize = 64 << 20;

/// Sends bytes on a connection of its own, says that no more follow, and reads until the end.
///
/// A reset counts as the end: what arrived before it is the answer.
pub fn raw_exchange(from: &Namespace, to: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut socket = from
        .run(|| TcpStream::connect_timeout(&to, DEADLINE))?
        .with_context(|| format!("connecting to {to}"))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_write_timeout(Some(DEADLINE))?;
    let mut answer = Vec::new();
    let spoken = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
    if let Err(error) = spoken
        && !is_end(error.kind())
    {
        return Err(error).context("sending");
    }
    match socket.take(ANSWER_MAX).read_to_end(&mut answer) {
        Ok(_) => Ok(answer),
        Err(error) if is_end(error.kind()) => Ok(answer),
        Err(error) => Err(error).context("reading the answer"),
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected)
}

/// Datagrams from one place to another.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// How many.
    pub packets: u64,
    /// How many bytes each carries.
    pub payload: usize,
}

impl Flood {
    /// Sends them as fast as the kernel takes them, and says how many it took.
    pub fn send(self, from: &Namespace, to: SocketAddr) -> Result<u64> {
        let any = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        self.send_as(from, any, to)
    }

    /// The same from `source`, which may be any address of a network that is the host's own.
    pub fn send_as(self, from: &Namespace, source: IpAddr, to: SocketAddr) -> Result<u64> {
        let socket = mouth(from, source, to)?;
        let payload = vec![0_u8; self.payload];
        let mut sent = 0_u64;
        for _ in 0..self.packets.min(FLOOD_MAX) {
            match socket.send(&payload) {
                Ok(_) => sent = sent.saturating_add(1),
                // Nobody listens, or the queue is full: both are the flood's fate.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionRefused)
                        || error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {}
                Err(error) => return Err(error).context("flooding"),
            }
        }
        Ok(sent)
    }
}

/// Sends one datagram from each of `sources`, as fast as the kernel takes them; they must be
/// addresses of networks that are the host's own.
pub fn crowd(
    from: &Namespace,
    sources: impl Iterator<Item = IpAddr> + Send,
    to: SocketAddr,
) -> Result<()> {
    from.run(|| {
        for source in sources {
            let socket = mouth_here(source, to)?;
            if let Err(error) = socket.send(b"one of many")
                && error.kind() != ErrorKind::ConnectionRefused
            {
                return Err(error).context("sending as one of many");
            }
        }
        Ok(())
    })?
}

/// Begins so many TCP connections from `source`, which may be any address of a network that is the
/// host's own, and waits for none of them. They are broken off when dropped.
pub fn knock(from: &Namespace, source: IpAddr, to: SocketAddr, times: u32) -> Result<Vec<Socket>> {
    let begin = || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                Err(error)
            }
            Ok(()) | Err(_) => Ok(socket),
        }
    };
    let begun: std::io::Result<Vec<_>> = from.run(|| (0..times).map(|_| begin()).collect())?;
    begun.context("knocking")
}

/// Counts the datagrams that reach a port.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Opens a port in `namespace`.
    pub fn open(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let socket = namespace.run(|| UdpSocket::bind(address))??;
        set_socket_recv_buffer_size_force(&socket, SINK_BYTES)?;
        let address = socket.local_addr()?;
        // A short time-out is how the thread notices that it should end.
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let received = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (received, stop) = (Arc::clone(&received), Arc::clone(&stop));
            move || {
                let mut buffer = [0_u8; 2048];
                while !stop.load(Ordering::Relaxed) {
                    if socket.recv(&mut buffer).is_ok() {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Ok(Self { address, received, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many datagrams arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until so many arrived.
    pub fn wait_for(&self, count: u64) -> Result<()> {
        wait_until(&format!("{count} datagrams arrive"), DEADLINE, || self.received() >= count)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread has nothing that could panic.
            drop(thread.join());
        }
    }
}
