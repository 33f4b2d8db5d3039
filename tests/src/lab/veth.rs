//! A cable between two hosts: a pair of virtual Ethernet interfaces.
//!
//! The interface at the far end is called `eth0`. Addresses work when [`Cable::lay`] returns.
//! Checksum offload stays on, as on any virtual machine: an XDP program sees unfinished checksums
//! in packets of the lab, and must not judge by them.

use anyhow::Result;

use super::wait::{DEADLINE, wait_until};
use super::{Addresses, Namespace};

/// The interface at the far end.
const FAR: &str = "eth0";

/// A cable from the host to somebody else. It goes with its hosts.
#[derive(Debug)]
pub struct Cable {
    near: Namespace,
    name: &'static str,
}

impl Cable {
    /// Lays a cable: `name` at `near`, `eth0` at `far`.
    pub(super) fn lay(
        near: &Namespace,
        name: &'static str,
        near_addresses: Addresses,
        far: &Namespace,
        far_addresses: Addresses,
    ) -> Result<Self> {
        let keeper = far.keeper();
        near.ip(&format!("link add {name} type veth peer name {FAR} netns {keeper}"))?;
        for (end, link, addresses) in [(near, name, near_addresses), (far, FAR, far_addresses)] {
            end.ip(&format!("addr add {}/24 dev {link}", addresses.v4))?;
            end.ip(&format!("addr add {}/64 dev {link} nodad", addresses.v6))?;
            end.ip(&format!("link set {link} up"))?;
        }
        let gateway = near_addresses;
        far.ip(&format!("route add default via {}", gateway.v4))?;
        far.ip(&format!("-6 route add default via {}", gateway.v6))?;
        let cable = Self { near: near.clone(), name };
        wait_until(&format!("{name} carries packets"), DEADLINE, || cable.is_up())?;
        Ok(cable)
    }

    /// The interface's name at the host.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the interface at the host has a carrier.
    pub fn is_up(&self) -> bool {
        let state = self.near.path(format!("/sys/class/net/{}/operstate", self.name));
        std::fs::read_to_string(state).is_ok_and(|state| state.trim() == "up")
    }

    /// Unplugs the cable: the interface stays, without carrier traffic.
    pub fn unplug(&self) -> Result<()> {
        self.near.ip(&format!("link set {} down", self.name)).map(drop)
    }

    /// Plugs the cable in again.
    pub fn plug(&self) -> Result<()> {
        self.near.ip(&format!("link set {} up", self.name))?;
        wait_until(&format!("{} carries packets", self.name), DEADLINE, || self.is_up())
    }

    /// Makes both interfaces vanish, as when a card is pulled.
    pub fn remove(&self) -> Result<()> {
        self.near.ip(&format!("link delete {}", self.name)).map(drop)
    }
}
