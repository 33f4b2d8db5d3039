//! ICMP echo, one or a train of them, with the time of each: who still gets through, and when that
//! ended.

use std::io::ErrorKind;
use std::mem;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

use super::{DEADLINE, Namespace, wait_for};

/// The most echoes of one train.
const TRAIN_MAX: usize = 1_000_000;

/// The kernel fills in identifier and checksum of datagram ICMP sockets.
const HEADER: usize = 8;

/// A socket for echoes to one address.
#[derive(Debug)]
pub struct Ping {
    socket: UdpSocket,
    kind: u8,
    next: AtomicU64,
}

/// One echo of a train.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    /// When it was handed to the kernel.
    pub sent: Instant,
    /// When its answer was read.
    pub answered: Option<Instant>,
}

/// Echoes sent at a steady pace until [`Train::stop`].
#[derive(Debug)]
pub struct Train {
    echoes: Arc<Mutex<Vec<Echo>>>,
    halt: Arc<AtomicBool>,
    sender: Option<JoinHandle<()>>,
    receiver: Option<JoinHandle<()>>,
}

impl Ping {
    /// Echoes from `namespace` to `target`.
    pub fn new(namespace: &Namespace, target: IpAddr) -> Result<Self> {
        let socket = Self::socket(namespace, target)?;
        Self::towards(target, socket)
    }

    /// Echoes from one address of `namespace` to `target`.
    pub(super) fn bearing(namespace: &Namespace, source: IpAddr, target: IpAddr) -> Result<Self> {
        let socket = Self::socket(namespace, target)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        Self::towards(target, socket)
    }

    fn towards(target: IpAddr, socket: Socket) -> Result<Self> {
        socket.connect(&SocketAddr::new(target, 0).into())?;
        let kind = if target.is_ipv4() { 8 } else { 128 };
        Ok(Self { socket: socket.into(), kind, next: AtomicU64::new(0) })
    }

    fn socket(namespace: &Namespace, target: IpAddr) -> Result<Socket> {
        let (domain, protocol) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        namespace
            .run(|| Socket::new(domain, Type::DGRAM, Some(protocol)))?
            .context("an ICMP socket")
    }

    /// Sends one echo and waits for its answer; none when it does not come in time. The answer to
    /// an earlier echo is not taken for its own.
    pub fn once(&self, patience: Duration) -> Result<Option<Duration>> {
        let begun = Instant::now();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.send(number)?;
        loop {
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.receive()? {
                Some(answered) if answered == number => return Ok(Some(begun.elapsed())),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Echoes until one is answered.
    pub fn until_answered(&self) -> Result<Duration> {
        wait_for("an echo is answered", DEADLINE, || {
            self.once(Duration::from_millis(50)).transpose()
        })?
    }

    fn send(&self, number: u64) -> Result<()> {
        let mut packet = [0_u8; HEADER + 8];
        let [kind, ..] = &mut packet;
        *kind = self.kind;
        if let Some(payload) = packet.last_chunk_mut::<8>() {
            *payload = number.to_be_bytes();
        }
        match self.socket.send(&packet) {
            Ok(_) => Ok(()),
            // An earlier echo was answered by an error message; this one was not sent, and a train
            // counts it as unanswered.
            Err(error) if is_rejection(error.kind()) => Ok(()),
            Err(error) => Err(error).context("sending an echo"),
        }
    }

    /// The number of the next answer; none when the socket's patience ends.
    fn receive(&self) -> Result<Option<u64>> {
        let mut packet = [0_u8; 128];
        match self.socket.recv(&mut packet) {
            Ok(length) => {
                let payload = packet.get(..length).and_then(|packet| packet.last_chunk::<8>());
                Ok(payload.map(|bytes| u64::from_be_bytes(*bytes)))
            }
            Err(error) if is_rejection(error.kind()) || is_timeout(error.kind()) => Ok(None),
            Err(error) => Err(error).context("reading an echo"),
        }
    }
}

fn is_rejection(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied
    )
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Train {
    /// Starts sending an echo `every` so often.
    pub fn start(namespace: &Namespace, target: IpAddr, every: Duration) -> Result<Self> {
        let outgoing = Ping::new(namespace, target)?;
        let socket = outgoing.socket.try_clone()?;
        let incoming = Ping { socket, kind: outgoing.kind, next: AtomicU64::new(0) };
        // A short time-out is how the receiver notices that it should end.
        incoming.socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let echoes = Arc::new(Mutex::new(Vec::new()));
        let halt = Arc::new(AtomicBool::new(false));

        let sender = thread::spawn({
            let (echoes, halt) = (Arc::clone(&echoes), Arc::clone(&halt));
            move || send_all(&outgoing, &echoes, &halt, every)
        });
        let receiver = thread::spawn({
            let (echoes, halt) = (Arc::clone(&echoes), Arc::clone(&halt));
            move || receive_all(&incoming, &echoes, &halt)
        });
        Ok(Self { echoes, halt, sender: Some(sender), receiver: Some(receiver) })
    }

    /// Waits until an echo that was sent after `moment` is answered.
    pub fn wait_for_answer_since(&self, moment: Instant) -> Result<Echo> {
        wait_for("an echo is answered", DEADLINE, || {
            let echoes = self.echoes.lock();
            echoes
                .iter()
                .rev()
                .take_while(|echo| echo.sent >= moment)
                .find(|echo| echo.answered.is_some())
                .copied()
        })
    }

    /// Waits until `silent` echoes in a row, all older than `silence`, are unanswered.
    pub fn wait_for_silence(&self, silent: usize, silence: Duration) -> Result<()> {
        wait_for("echoes are no longer answered", DEADLINE, || {
            let echoes = self.echoes.lock();
            let old = echoes.iter().rev().skip_while(|echo| echo.sent.elapsed() < silence);
            let mut looked = 0;
            for echo in old.take(silent) {
                if echo.answered.is_some() {
                    return None;
                }
                looked += 1;
            }
            (looked == silent).then_some(())
        })
    }

    /// Stops sending and returns every echo, in the order in which they were sent.
    pub fn stop(mut self) -> Vec<Echo> {
        self.end();
        mem::take(&mut *self.echoes.lock())
    }

    fn end(&mut self) {
        self.halt.store(true, Ordering::Relaxed);
        for thread in [self.sender.take(), self.receiver.take()].into_iter().flatten() {
            // A panic has been printed by the thread, and the echoes then show a gap.
            drop(thread.join());
        }
    }
}

impl Drop for Train {
    fn drop(&mut self) {
        self.end();
    }
}

fn send_all(ping: &Ping, echoes: &Mutex<Vec<Echo>>, halt: &AtomicBool, every: Duration) {
    let mut due = Instant::now();
    for number in 0..TRAIN_MAX {
        if halt.load(Ordering::Relaxed) {
            return;
        }
        // The entry comes first: its answer may be read before this thread runs again.
        echoes.lock().push(Echo { sent: Instant::now(), answered: None });
        // What cannot be sent cannot be answered, and that is what the entry says.
        drop(ping.send(u64::try_from(number).unwrap_or(u64::MAX)));
        due += every;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn receive_all(ping: &Ping, echoes: &Mutex<Vec<Echo>>, halt: &AtomicBool) {
    // After the halt one more round lets the last answers in.
    loop {
        let last = halt.load(Ordering::Relaxed);
        let answer = ping.receive();
        let now = Instant::now();
        match answer {
            Ok(Some(number)) => {
                let mut echoes = echoes.lock();
                let echo = usize::try_from(number).ok().and_then(|number| echoes.get_mut(number));
                if let Some(echo) = echo {
                    echo.answered = Some(now);
                }
            }
            Ok(None) | Err(_) if last => return,
            // Nothing to be read yet, or an interface that is down for a while.
            Ok(None) | Err(_) => {}
        }
    }
}
