//! Live sockets of a blocked source end, on both sides, and no other does.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use enforcer_kernel::{Closed, close_sockets};
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, capabilities, move_into_link_name_space, set_capabilities,
};

use crate::lab::{ip, prefix, wait_for};

/// The host, a source that is blocked, and one that is not.
const V4: [&str; 3] = ["10.79.0.1", "10.79.1.7", "10.79.2.7"];
const V6: [&str; 3] = ["2001:db8:79::1", "2001:db8:79:1::7", "2001:db8:79:2::7"];
const NOBODY: &dyn Fn(IpAddr) -> bool = &|_| false;
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_blocked_sources_connection_is_reset_on_both_ends_and_nobody_elses() {
    in_namespace(|| {
        for [host, blocked, other] in [V4, V6] {
            let listener = TcpListener::bind((address(host), 0)).unwrap();
            let mut theirs = connection(&listener, blocked);
            let mut others = connection(&listener, other);

            let closed = close_sockets(prefix(blocked), NOBODY).unwrap();

            assert_eq!(closed, Closed { tcp: 1, udp: 0 });
            // Ended here, and the far end told so by a reset.
            assert_eq!(fate(&mut theirs.host), ErrorKind::ConnectionAborted);
            assert_eq!(fate(&mut theirs.source), ErrorKind::ConnectionReset);
            assert!(others.lives());
            assert!(connection(&listener, blocked).lives(), "the listener has gone");
        }
    });
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_ipv4_source_of_a_socket_that_takes_both_families_is_found() {
    in_namespace(|| {
        let listener = dual_stack_listener();
        let mut four = connection(&listener, V4[1]);
        let mut other = connection(&listener, V4[2]);
        let mut six = connection(&listener, V6[1]);
        assert!(four.host.peer_addr().unwrap().is_ipv6(), "not mapped");

        // What holds every IPv4-mapped address is an IPv6 network nevertheless.
        assert_eq!(close_sockets(prefix("::/64"), NOBODY).unwrap(), Closed::default());
        assert!(four.lives());
        let closed = close_sockets(prefix("10.79.1.0/24"), NOBODY).unwrap();

        assert_eq!(closed, Closed { tcp: 1, udp: 0 });
        assert_eq!(fate(&mut four.host), ErrorKind::ConnectionAborted);
        assert_eq!(fate(&mut four.source), ErrorKind::ConnectionReset);
        assert!(other.lives() && six.lives());
    });
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_spared_address_inside_the_network_keeps_its_connections() {
    in_namespace(|| {
        let listener = TcpListener::bind((address(V4[0]), 0)).unwrap();
        let [mut blocked, mut spared] = [V4[1], V4[2]].map(|source| connection(&listener, source));

        // The sources live on this host too, and the far end of theirs is the host.
        let is_spared = |far: IpAddr| [address(V4[0]), address(V4[2])].contains(&far);
        let closed = close_sockets(prefix("10.79.0.0/16"), &is_spared).unwrap();

        assert_eq!(closed, Closed { tcp: 1, udp: 0 });
        assert_eq!(fate(&mut blocked.source), ErrorKind::ConnectionReset);
        assert!(spared.lives());
    });
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn connected_datagram_sockets_end_and_those_that_hear_everybody_do_not() {
    in_namespace(|| {
        for [host, blocked, other] in [V4, V6] {
            let ear = UdpSocket::bind((address(host), 0)).unwrap();
            let towards = |far: &str| {
                let socket = UdpSocket::bind((address(host), 0)).unwrap();
                socket.connect((address(far), 9)).unwrap();
                socket
            };
            let (theirs, others) = (towards(blocked), towards(other));

            let closed = close_sockets(prefix(blocked), NOBODY).unwrap();

            assert_eq!(closed, Closed { tcp: 0, udp: 1 });
            assert_eq!(theirs.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
            assert_eq!(theirs.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
            assert!(others.peer_addr().is_ok());
            ear.set_read_timeout(Some(PATIENCE)).unwrap();
            let mouth = UdpSocket::bind((address(other), 0)).unwrap();
            mouth.send_to(b"knock", ear.local_addr().unwrap()).unwrap();
            assert_eq!(ear.recv(&mut [0; 8]).unwrap(), 5);
        }
    });
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn sockets_that_share_all_four_numbers_end_all() {
    in_namespace(|| {
        let twins = [(); 3].map(|()| {
            let twin = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
            set_socket_reuseport(&twin, true).unwrap();
            bind(&twin, &SocketAddr::new(address(V4[0]), 7)).unwrap();
            rustix::net::connect(&twin, &SocketAddr::new(address(V4[1]), 9)).unwrap();
            UdpSocket::from(twin)
        });

        let closed = close_sockets(prefix(V4[1]), NOBODY).unwrap();

        assert_eq!(closed, Closed { tcp: 0, udp: 3 });
        assert!(twins.iter().all(|twin| twin.peer_addr().is_err()));
    });
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn whatever_state_a_connection_is_in_it_ends() {
    in_namespace(|| {
        let listener = TcpListener::bind((address(V4[0]), 0)).unwrap();
        // Half closed by either side, not yet accepted, asked for and never answered.
        let mut written = connection(&listener, V4[1]);
        written.host.shutdown(Shutdown::Write).unwrap();
        let mut read = connection(&listener, V4[1]);
        read.source.shutdown(Shutdown::Write).unwrap();
        let mut waiting = connect(V4[1], listener.local_addr().unwrap());
        let _asked = asked_for_in_vain("10.79.1.200");

        let closed = close_sockets(prefix("10.79.1.0/24"), NOBODY).unwrap();

        assert_eq!(closed, Closed { tcp: 4, udp: 0 });
        assert_eq!(written.source.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(fate(&mut read.source), ErrorKind::ConnectionReset);
        assert_eq!(fate(&mut waiting), ErrorKind::ConnectionReset);
    });
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_connection_that_its_owner_has_closed_is_no_obstacle() {
    in_namespace(|| {
        let listener = TcpListener::bind((address(V4[0]), 0)).unwrap();
        // Closed by the host first: its port waits, without an owner, for the far end's last word,
        // and when that has come for stray packets.
        let [mut half, mut whole] = [(); 2].map(|()| connection(&listener, V4[1]).source);
        for source in [&mut half, &mut whole] {
            assert_eq!(source.read(&mut [0; 8]).unwrap(), 0);
        }
        drop(whole);
        let states = || {
            let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
            let state = |line: &str| line.split_whitespace().nth(3).unwrap().to_owned();
            table.lines().skip(1).map(state).collect::<Vec<_>>()
        };
        wait_for("one in FIN_WAIT2 and one in TIME_WAIT", || {
            ["05", "06"].iter().all(|wanted| states().iter().any(|state| state == wanted))
        });
        let mut live = connection(&listener, V4[1]);

        let closed = close_sockets(prefix(V4[1]), NOBODY).unwrap();

        // The half closed one counts as long as the kernel keeps a whole socket for it.
        assert!(matches!(closed, Closed { tcp: 1 | 2, udp: 0 }), "{closed:?}");
        assert_eq!(fate(&mut live.source), ErrorKind::ConnectionReset);
        assert_eq!(close_sockets(prefix(V4[1]), NOBODY).unwrap(), Closed::default());
    });
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_thousand_connections_end_at_once() {
    const CONNECTIONS: usize = 1_000;
    in_namespace(|| {
        let limits = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limits.maximum, ..limits })
            .unwrap();
        let listener = TcpListener::bind((address(V4[0]), 0)).unwrap();
        let mut other = connection(&listener, V4[2]);
        let mut many: Vec<_> = (0..CONNECTIONS).map(|_| connection(&listener, V4[1])).collect();

        let begun = Instant::now();
        let closed = close_sockets(prefix("10.79.1.0/24"), NOBODY).unwrap();
        let took = begun.elapsed();

        assert_eq!(closed, Closed { tcp: 1_000, udp: 0 });
        assert!(many.iter_mut().all(|ends| fate(&mut ends.source) == ErrorKind::ConnectionReset));
        assert!(other.lives());
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_thread_without_the_capability_is_told_so_and_one_with_no_other_may() {
    in_namespace(|| {
        let listener = TcpListener::bind((address(V4[0]), 0)).unwrap();
        let mut ends = connection(&listener, V4[1]);

        let refused = with_capabilities(CapabilitySet::empty()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
        assert!(ends.lives());

        let closed = with_capabilities(CapabilitySet::NET_ADMIN).unwrap();
        assert_eq!(closed, Closed { tcp: 1, udp: 0 });
        assert_eq!(fate(&mut ends.source), ErrorKind::ConnectionReset);
    });
}

/// Both ends of one connection.
struct Ends {
    host: TcpStream,
    source: TcpStream,
}

impl Ends {
    /// Whether a byte comes through.
    fn lives(&mut self) -> bool {
        self.source.write_all(b"x").is_ok() && self.host.read_exact(&mut [0]).is_ok()
    }
}

fn connection(listener: &TcpListener, source: &str) -> Ends {
    let port = listener.local_addr().unwrap().port();
    let host = if address(source).is_ipv4() { V4[0] } else { V6[0] };
    let source = connect(source, SocketAddr::new(address(host), port));
    let (host, _) = listener.accept().unwrap();
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    Ends { host, source }
}

fn connect(source: &str, to: SocketAddr) -> TcpStream {
    let socket = unconnected(source);
    rustix::net::connect(&socket, &to).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A connection that this host has asked for, of a far end that is silent.
fn asked_for_in_vain(far: &str) -> OwnedFd {
    ip(&["route", "add", &format!("{far}/32"), "dev", "lo"]);
    let socket = unconnected(V4[0]);
    rustix::io::ioctl_fionbio(&socket, true).unwrap();
    let outcome = rustix::net::connect(&socket, &SocketAddr::new(address(far), 9));
    assert_eq!(outcome, Err(rustix::io::Errno::INPROGRESS));
    socket
}

fn unconnected(source: &str) -> OwnedFd {
    let family = if address(source).is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(address(source), 0)).unwrap();
    socket
}

fn dual_stack_listener() -> TcpListener {
    let socket = socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
    set_ipv6_v6only(&socket, false).unwrap();
    bind(&socket, &SocketAddr::new("::".parse().unwrap(), 0)).unwrap();
    listen(&socket, 8).unwrap();
    socket.into()
}

/// How reading from a connection ends.
fn fate(socket: &mut TcpStream) -> ErrorKind {
    match socket.read(&mut [0; 8]) {
        Ok(_) => panic!("still open, or closed in peace"),
        Err(error) => error.kind(),
    }
}

fn with_capabilities(kept: CapabilitySet) -> std::io::Result<Closed> {
    let close = move || {
        let mut sets = capabilities(None).unwrap();
        (sets.effective, sets.permitted) = (kept, kept);
        set_capabilities(None, sets).unwrap();
        close_sockets(prefix(V4[1]), NOBODY)
    };
    thread::scope(|scope| scope.spawn(close).join().unwrap())
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs `test` on a thread in a network namespace that has every address, on its loopback.
fn in_namespace(test: impl FnOnce() + Send) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    assert!(rustix::process::geteuid().is_root(), "run `cargo xtask test` as root");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let namespace = Namespace(format!("enforcer-sockets-{}-{number}", std::process::id()));
    ip(&["netns", "add", &namespace.0]);
    ip(&["-n", &namespace.0, "link", "set", "lo", "up"]);
    for address in V4.iter().chain(&V6) {
        ip(&["-n", &namespace.0, "addr", "add", address, "dev", "lo"]);
    }
    let file = File::open(format!("/run/netns/{}", namespace.0)).unwrap();
    let ended = thread::scope(|scope| {
        let run = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            test();
        };
        scope.spawn(run).join()
    });
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "del", &self.0]).status());
    }
}
