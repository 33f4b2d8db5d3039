//! Two hosts on one wire, made for one test and gone with it.
//!
//! `host` is the one that is guarded; the test's thread lives in its network namespace. `peer`
//! sends. Both have one IPv4 and one IPv6 network, and the peer has several addresses of each.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use enforcer_kernel::{
    Attach, Attachment, Budgets, Config, Counters, Egress, Entry, Hook, Kernel, Mode, OnAgentLoss,
    Verdict, object_sha256,
};
use enforcer_model::{BlockId, Prefix};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub const HOST4: &str = "10.77.0.1";
pub const HOST6: &str = "2001:db8:77::1";
pub const PEERS4: [&str; 3] = ["10.77.0.2", "10.77.0.3", "10.77.0.4"];
pub const PEERS6: [&str; 3] = ["2001:db8:77::2", "2001:db8:77::3", "2001:db8:77::4"];

/// Longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(10);
const PORT: u16 = 7777;

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub struct Lab {
    host: String,
    peer: String,
    pub pins: PathBuf,
    /// The namespace that the thread came from.
    home: File,
    ears: Vec<UdpSocket>,
}

impl Lab {
    pub fn new() -> Self {
        require_root_and_object();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("enforcer-test-{}-{number}", std::process::id());
        let (host, peer) = (format!("{name}-host"), format!("{name}-peer"));
        let home = File::open("/proc/thread-self/ns/net").unwrap();
        let pins = PathBuf::from("/sys/fs/bpf").join(&name);
        let mut lab = Self { host, peer, pins, home, ears: Vec::new() };
        ip(&["netns", "add", &lab.host]);
        ip(&["netns", "add", &lab.peer]);
        enter(&lab.host);
        lab.plug_in("guard");
        lab.ears = [HOST4, HOST6].map(|address| ear(address.parse().unwrap())).into();
        lab
    }

    /// A folder for the pins of another agent; its owner detaches it.
    pub fn new_pins() -> PathBuf {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("/sys/fs/bpf/enforcer-other-{}-{number}", std::process::id()).into()
    }

    /// Puts a wire between the two; the guarded end is called `interface`.
    pub fn plug_in(&self, interface: &str) {
        let Self { host, peer, .. } = self;
        ip(&[
            "link", "add", interface, "netns", host, "type", "veth", "peer", "wire", "netns", peer,
        ]);
        for (namespace, device, v4, v6) in [
            (host, interface, &[HOST4][..], &[HOST6][..]),
            (peer, "wire", &PEERS4[..], &PEERS6[..]),
        ] {
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
            for address in v4 {
                ip(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", device]);
            }
            for address in v6 {
                let address = format!("{address}/64");
                ip(&["-n", namespace, "addr", "add", &address, "dev", device, "nodad"]);
            }
            ip(&["-n", namespace, "link", "set", device, "up"]);
        }
    }

    pub fn unplug(&self, interface: &str) {
        ip(&["-n", &self.host, "link", "del", interface]);
    }

    pub fn host_namespace(&self) -> &str {
        &self.host
    }

    /// Makes both ends of the wire carry frames of this size.
    pub fn set_mtu(&self, bytes: &str) {
        for (namespace, device) in [(&self.host, "guard"), (&self.peer, "wire")] {
            ip(&["-n", namespace, "link", "set", device, "mtu", bytes]);
        }
    }

    pub fn config(&self) -> Config {
        Config { pins: self.pins.clone(), ..Self::agents() }
    }

    /// What every agent of a lab has in common.
    pub fn agents() -> Config {
        Config {
            interfaces: vec!["guard".to_owned()],
            attach: Attach::Native,
            egress: Egress::Off,
            mode: Mode::Enforce,
            budgets: Budgets::default(),
            blocks: 64,
            sources: 64,
            on_agent_loss: OnAgentLoss::Keep,
            pins: PathBuf::new(),
        }
    }

    /// What becomes of a datagram from this address of the peer: it arrives, or a counter says
    /// that it was dropped.
    pub fn send(&self, source: &str, counters: impl Fn() -> Counters) -> Verdict {
        let source: IpAddr = source.parse().unwrap();
        let (host, ear) = match source {
            IpAddr::V4(_) => (HOST4, &self.ears[0]),
            IpAddr::V6(_) => (HOST6, &self.ears[1]),
        };
        let host: IpAddr = host.parse().unwrap();
        let mouth = self.in_peer(move || UdpSocket::bind((source, 0)).unwrap());
        let before = counters().total(Verdict::Drop);
        let deadline = Instant::now() + PATIENCE;
        mouth.send_to(b"knock", (host, PORT)).unwrap();
        let mut buffer = [0; 16];
        loop {
            match ear.recv_from(&mut buffer) {
                Ok((_, from)) if from == mouth.local_addr().unwrap() => return Verdict::Pass,
                // A datagram of an earlier knock.
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            if counters().total(Verdict::Drop) > before {
                return Verdict::Drop;
            }
            assert!(Instant::now() < deadline, "{source}: neither arrived nor was dropped");
        }
    }

    /// A socket of the peer that sends to the host.
    pub fn mouth(&self, source: &str) -> UdpSocket {
        let source: IpAddr = source.parse().unwrap();
        let host = if source.is_ipv4() { HOST4 } else { HOST6 };
        self.in_peer(move || {
            let socket = UdpSocket::bind((source, 0)).unwrap();
            socket.connect((host, PORT)).unwrap();
            socket
        })
    }

    /// Whether a datagram of the host arrives at this address of the peer.
    pub fn reaches_peer(&self, peer: &str) -> bool {
        let peer: IpAddr = peer.parse().unwrap();
        let host = if peer.is_ipv4() { HOST4 } else { HOST6 };
        let far = self.in_peer(move || {
            let socket = UdpSocket::bind((peer, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket
        });
        let near = UdpSocket::bind((host, 0)).unwrap();
        // A filter that drops is an error of some kernels' senders.
        let sent = near.send_to(b"knock", far.local_addr().unwrap());
        sent.is_ok() && far.recv_from(&mut [0; 16]).is_ok()
    }

    /// Datagrams from two addresses of one family, some thousands a second, until it ends.
    pub fn traffic(&self, blocked: &str, free: &str) -> Traffic {
        let ear = if blocked.contains(':') { &self.ears[1] } else { &self.ears[0] };
        let ear = ear.try_clone().unwrap();
        let mouths = [self.mouth(blocked), self.mouth(free)];
        let addresses = [blocked, free].map(|address| address.parse::<IpAddr>().unwrap());
        let state = Arc::new(State::default());
        let listen = {
            let state = Arc::clone(&state);
            move || {
                while !state.deaf.load(Ordering::Relaxed) {
                    let Ok((_, from)) = ear.recv_from(&mut [0; 16]) else { continue };
                    for (address, heard) in addresses.iter().zip(&state.heard) {
                        if *address == from.ip() {
                            heard.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        };
        let send = {
            let state = Arc::clone(&state);
            move || {
                while !state.stop.load(Ordering::Relaxed) {
                    for (mouth, sent) in mouths.iter().zip(&state.sent) {
                        // The neighbour may be unknown for a moment; only what was sent counts.
                        if mouth.send(b"knock").is_ok() {
                            sent.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    thread::sleep(Duration::from_micros(100));
                }
            }
        };
        let threads = [thread::spawn(listen), thread::spawn(send)];
        let traffic = Traffic { state, threads };
        traffic.flow();
        traffic
    }

    /// Whether anything came that nobody has asked for.
    pub fn heard_anything(&self) -> bool {
        self.ears.iter().any(|ear| ear.recv_from(&mut [0; 16]).is_ok())
    }

    /// Runs `action` in the peer's network namespace.
    fn in_peer<T: Send + 'static>(&self, action: impl FnOnce() -> T + Send + 'static) -> T {
        let peer = self.peer.clone();
        let run = move || {
            enter(&peer);
            action()
        };
        thread::spawn(run).join().unwrap()
    }

    /// A datagram from this address arrives: nothing is in force.
    pub fn reaches_unguarded(&self, source: &str) -> bool {
        let none = || Counters { entries: Vec::new(), events_lost: 0 };
        self.send(source, none) == Verdict::Pass
    }
}

/// Datagrams on their way from a blocked address and a free one.
pub struct Traffic {
    state: Arc<State>,
    threads: [JoinHandle<()>; 2],
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    deaf: AtomicBool,
    sent: [AtomicU64; 2],
    heard: [AtomicU64; 2],
}

impl Traffic {
    fn count(of: &[AtomicU64; 2]) -> [u64; 2] {
        [of[0].load(Ordering::Relaxed), of[1].load(Ordering::Relaxed)]
    }

    /// Waits until some hundred datagrams more were sent and heard.
    pub fn flow(&self) {
        let [_, heard] = Self::count(&self.state.heard);
        let [blocked, _] = Self::count(&self.state.sent);
        wait_for("traffic", || {
            Self::count(&self.state.sent)[0] > blocked + 200
                && Self::count(&self.state.heard)[1] > heard + 200
        });
    }

    /// Ends it; how many datagrams of the blocked address were heard, and how many of the free one
    /// were lost.
    pub fn end(self) -> (u64, u64) {
        let Self { state, threads: [listener, sender] } = self;
        state.stop.store(true, Ordering::Relaxed);
        sender.join().unwrap();
        let [_, sent] = Self::count(&state.sent);
        let deadline = Instant::now() + Duration::from_secs(2);
        while Self::count(&state.heard)[1] < sent && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        state.deaf.store(true, Ordering::Relaxed);
        listener.join().unwrap();
        let [leaked, heard] = Self::count(&state.heard);
        (leaked, sent - heard)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.ears.clear();
        // Each step is tried, so that one that fails leaves no more behind than it must.
        let pins = Kernel::detach_pinned(&self.pins);
        let back = move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&self.home),
            Some(LinkNameSpaceType::Network),
        );
        for namespace in [&self.host, &self.peer] {
            drop(Command::new("ip").args(["netns", "del", namespace]).status());
        }
        if !thread::panicking() {
            pins.unwrap();
            back.unwrap();
        }
    }
}

/// A block for this long; `None`: for ever.
pub fn entry(id: u64, expires: Option<Duration>) -> Entry {
    Entry { id: BlockId::from_bits(id), expires, observe: false, contain: true }
}

pub fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Where the program is that judges what comes in on the first interface, and its number.
pub fn attached(kernel: &Kernel) -> (Hook, u32) {
    match kernel.interfaces().unwrap()[0].attachment {
        Attachment::Attached { hook, program } => {
            assert!(program.tag.is_some(), "it is the pinned one");
            (hook, program.id)
        }
        other => panic!("{other:?}"),
    }
}

/// What `tc` says in the namespace of the calling thread.
pub fn tc(arguments: &[&str]) -> String {
    let output = Command::new("tc").args(arguments).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tc {}: {words}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {words}", arguments.join(" "));
}

/// Waits for `condition`, which must come.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

pub fn require_root_and_object() {
    assert!(rustix::process::geteuid().is_root(), "run `cargo xtask test` as root");
    assert!(object_sha256().is_some(), "run `cargo xtask ebpf` first");
}

fn ear(address: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(address, PORT)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    // What a busy machine reads late is not lost.
    set_socket_recv_buffer_size_force(&socket, 16 << 20).unwrap();
    socket
}

fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), network).unwrap();
}
