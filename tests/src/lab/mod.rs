//! Three hosts on one machine: `client` and `attacker`, each with a cable to `host`.
//!
//! ```text
//! client   eth0 10.77.1.2 fd77:1::2 ── enf-client   10.77.1.1 fd77:1::1
//!                                                                        host
//! attacker eth0 10.77.2.2 fd77:2::2 ── enf-attacker 10.77.2.1 fd77:2::1
//! ```
//!
//! The host forwards nothing, has a file system for BPF pins of its own, and sees only its own
//! interfaces. Everything ends with the process that made it, however that ends: the namespaces
//! live as long as a keeper that reads from this process, and every process started here is killed
//! with it. Nothing touches the machine's own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};

mod agent;
mod attacker;
mod certificate;
mod client;
mod country;
mod forgery;
mod guess;
pub mod idp;
mod namespace;
mod ping;
mod probe;
mod process;
mod stream;
mod upstream;
mod veth;
mod wait;

pub use agent::{Agent, Output, Site};
pub use attacker::{Flood, Sink, crowd, knock, raw_exchange};
pub use certificate::Certificate;
pub use client::{Answer, Ask, Client, Connection, Http, Steady, Tally, TlsStream};
pub use country::countries;
pub use forgery::Forgery;
pub use guess::{KeyGuesses, guess};
pub use namespace::Namespace;
pub use ping::{Echo, Ping, Train};
pub use probe::{INSIDE, MALFORMED, SMUGGLED, send_raw, word_list};
pub use stream::{Passage, Stream};
pub use upstream::{REMEMBERED, Seen, Upstream};
pub use veth::Cable;
pub use wait::{DEADLINE, wait_for, wait_until};

/// The host's interface towards the client.
pub const CLIENT_FACING: &str = "enf-client";
/// The host's interface towards the attacker.
pub const ATTACKER_FACING: &str = "enf-attacker";

/// The client's own addresses.
pub const CLIENT: Addresses = Addresses::numbered(1, 2);
/// The host's addresses, as the client sees them.
pub const HOST_FOR_CLIENT: Addresses = Addresses::numbered(1, 1);
/// The attacker's own addresses.
pub const ATTACKER: Addresses = Addresses::numbered(2, 2);
/// The host's addresses, as the attacker sees them.
pub const HOST_FOR_ATTACKER: Addresses = Addresses::numbered(2, 1);

/// Where the agent listens for TLS, in every policy of the lab.
pub const PORT: u16 = 8443;
/// Where the upstream listens in the host, in every policy of the lab.
pub const UPSTREAM: SocketAddr = SocketAddr::new(Family::V4.loopback(), 9000);

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One end of a cable: an address of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// In a /24.
    pub v4: Ipv4Addr,
    /// In a /64.
    pub v6: Ipv6Addr,
}

/// The three hosts and their cables. Taken down when dropped, after a panic too.
#[derive(Debug)]
pub struct Lab {
    /// Somebody with a right to be served.
    pub client: Namespace,
    /// Somebody without.
    pub attacker: Namespace,
    /// The host that the agent protects.
    pub host: Namespace,
    /// From the client to the host.
    pub client_cable: Cable,
    /// From the attacker to the host.
    pub attacker_cable: Cable,
}

impl Lab {
    /// Builds the hosts and their cables; returns when packets can pass.
    pub fn new() -> Result<Self> {
        let host = Namespace::new("host")?;
        let client = Namespace::new("client")?;
        let attacker = Namespace::new("attacker")?;
        let client_cable = Cable::lay(&host, CLIENT_FACING, HOST_FOR_CLIENT, &client, CLIENT)
            .context("the cable from the client to the host")?;
        let attacker_cable =
            Cable::lay(&host, ATTACKER_FACING, HOST_FOR_ATTACKER, &attacker, ATTACKER)
                .context("the cable from the attacker to the host")?;
        Ok(Self { client, attacker, host, client_cable, attacker_cable })
    }
}

impl Family {
    /// Both, for tests that hold on each.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The loopback address.
    pub const fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }
}

impl Addresses {
    /// `host` on the network with this number.
    const fn numbered(network: u8, host: u8) -> Self {
        Self {
            v4: Ipv4Addr::new(10, 77, network, host),
            v6: Ipv6Addr::from_octets([
                0xfd, 0x77, 0, network, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host,
            ]),
        }
    }

    /// The address of this family.
    pub const fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }

    /// A port at the address of this family.
    pub const fn at(self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.of(family), port)
    }
}
