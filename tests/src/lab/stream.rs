//! Datagrams at a steady pace from several addresses of one host: how many of each arrived.
//!
//! A datagram needs no answer, so what is dropped on its way in cannot be mistaken for an answer
//! that is dropped on its way out. Each bears the number of its source and its own, so a single one
//! that is lost, or that should have been, is found and dated.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};

use super::{DEADLINE, Namespace, wait_until};

/// The most datagrams of one source.
const DATAGRAMS_MAX: usize = 1_000_000;

/// Room for what arrives while the receiver waits for its turn: no datagram may be lost there.
const BUFFER: usize = 32 << 20;

/// Silence after which nothing more is on its way.
const SILENCE: Duration = Duration::from_millis(50);

/// Datagrams that flow until [`Stream::stop`].
#[derive(Debug)]
pub struct Stream {
    sources: Vec<IpAddr>,
    begun: Instant,
    sent: Arc<Mutex<Vec<Instant>>>,
    arrived: Arc<Mutex<Vec<Vec<bool>>>>,
    halt: Arc<AtomicBool>,
    sender: Option<JoinHandle<Result<()>>>,
    receiver: Option<JoinHandle<()>>,
}

/// What became of the datagrams of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Where they came from.
    pub source: IpAddr,
    /// How many were sent.
    pub sent: usize,
    /// How many arrived.
    pub arrived: usize,
    /// When the first one that was lost was sent, since the stream began.
    pub first_lost: Option<Duration>,
    /// When the first one that arrived was sent.
    pub first_arrived: Option<Duration>,
}

impl Stream {
    /// Sends one datagram from each of `sources`, which are addresses of `from`, `every` so often
    /// to the address `to` of `at`. Returns when the first ones are on their way.
    pub fn start(
        from: &Namespace,
        sources: &[IpAddr],
        at: &Namespace,
        to: IpAddr,
        every: Duration,
    ) -> Result<Self> {
        let ear = at.run(|| UdpSocket::bind(SocketAddr::new(to, 0)))??;
        ear.set_read_timeout(Some(SILENCE))?;
        set_socket_recv_buffer_size_force(&ear, BUFFER).context("a large receive buffer")?;
        let to = ear.local_addr()?;
        let mouths: Vec<UdpSocket> =
            sources.iter().map(|source| mouth(from, *source, to)).collect::<Result<_>>()?;
        let mut stream = Self {
            sources: sources.to_vec(),
            begun: Instant::now(),
            sent: Arc::default(),
            arrived: Arc::new(Mutex::new(vec![Vec::new(); sources.len()])),
            halt: Arc::default(),
            sender: None,
            receiver: None,
        };
        let (sent, halt) = (Arc::clone(&stream.sent), Arc::clone(&stream.halt));
        stream.sender = Some(thread::spawn(move || send_all(&mouths, &sent, &halt, every)));
        let (arrived, halt) = (Arc::clone(&stream.arrived), Arc::clone(&stream.halt));
        let addresses = stream.sources.clone();
        stream.receiver =
            Some(thread::spawn(move || receive_all(&ear, &addresses, &arrived, &halt)));
        stream.flow(1)?;
        Ok(stream)
    }

    /// Waits until each source has sent so many more.
    pub fn flow(&self, datagrams: usize) -> Result<()> {
        let enough = self.sent.lock().len().saturating_add(datagrams);
        let what = format!("{datagrams} datagrams are sent");
        wait_until(&what, DEADLINE, || self.sent.lock().len() >= enough)
    }

    /// Stops sending, waits for what is on its way, and says what became of each source's.
    pub fn stop(mut self) -> Result<Vec<Passage>> {
        self.halt.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            sender.join().ok().context("the sender panicked")??;
        }
        if let Some(receiver) = self.receiver.take() {
            receiver.join().ok().context("the receiver panicked")?;
        }
        let (sent, arrived) = (self.sent.lock(), self.arrived.lock());
        let passages = self.sources.iter().zip(arrived.iter()).map(|(source, arrived)| {
            let fate = |number: usize| arrived.get(number).copied().unwrap_or_default();
            let first = |wanted: bool| {
                let mut numbered = sent.iter().enumerate();
                let found = numbered.find(|(number, _)| fate(*number) == wanted);
                found.map(|(_, at)| at.saturating_duration_since(self.begun))
            };
            Passage {
                source: *source,
                sent: sent.len(),
                arrived: arrived.iter().filter(|arrived| **arrived).count(),
                first_lost: first(false),
                first_arrived: first(true),
            }
        });
        Ok(passages.collect())
    }
}

impl Passage {
    /// Whether not one arrived, of more than a few.
    pub const fn is_shut_out(&self) -> bool {
        self.sent >= 10 && self.arrived == 0
    }

    /// Whether every single one arrived, of more than a few.
    pub const fn is_served(&self) -> bool {
        self.sent >= 10 && self.arrived == self.sent
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.halt.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            // Whoever drops a stream does not ask what became of it.
            drop(sender.join());
        }
        if let Some(receiver) = self.receiver.take() {
            drop(receiver.join());
        }
    }
}

/// A socket that sends from `source`, which may be one of a whole network that is the host's own.
pub(super) fn mouth(from: &Namespace, source: IpAddr, to: SocketAddr) -> Result<UdpSocket> {
    from.run(|| mouth_here(source, to))?
}

/// The same of the host that this thread is in.
pub(super) fn mouth_here(source: IpAddr, to: SocketAddr) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    if source.is_ipv6() {
        socket.set_freebind_v6(true)?;
    }
    let bound = socket.bind(&SocketAddr::new(source, 0).into());
    bound.with_context(|| format!("sending from {source}"))?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

fn send_all(
    mouths: &[UdpSocket],
    sent: &Mutex<Vec<Instant>>,
    halt: &AtomicBool,
    every: Duration,
) -> Result<()> {
    let mut due = Instant::now();
    for number in 0..DATAGRAMS_MAX {
        if halt.load(Ordering::Relaxed) {
            break;
        }
        let at = Instant::now();
        for (source, mouth) in mouths.iter().enumerate() {
            let words = [source, number].map(|word| u32::try_from(word).unwrap_or(u32::MAX));
            mouth.send(&words.map(u32::to_be_bytes).concat()).context("sending a datagram")?;
        }
        sent.lock().push(at);
        due += every;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn receive_all(
    ear: &UdpSocket,
    sources: &[IpAddr],
    arrived: &Mutex<Vec<Vec<bool>>>,
    halt: &AtomicBool,
) {
    let mut buffer = [0_u8; 64];
    loop {
        let last = halt.load(Ordering::Relaxed);
        match ear.recv_from(&mut buffer) {
            Ok((length, from)) => {
                let Some((source, number)) = numbers(buffer.get(..length)) else { continue };
                if sources.get(source) != Some(&from.ip().to_canonical()) {
                    continue;
                }
                let mut arrived = arrived.lock();
                let Some(arrived) = arrived.get_mut(source) else { continue };
                if arrived.len() <= number && number < DATAGRAMS_MAX {
                    arrived.resize(number.saturating_add(1), false);
                }
                arrived.get_mut(number).into_iter().for_each(|arrived| *arrived = true);
            }
            Err(_) if last => return,
            // Nothing on its way, or an error message about an earlier answer.
            Err(_) => {}
        }
    }
}

fn numbers(datagram: Option<&[u8]>) -> Option<(usize, usize)> {
    let (source, number) = datagram?.split_first_chunk::<4>()?;
    let word = |bytes: [u8; 4]| usize::try_from(u32::from_be_bytes(bytes)).ok();
    Some((word(*source)?, word(number.try_into().ok()?)?))
}
