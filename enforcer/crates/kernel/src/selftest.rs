//! Do the programs judge as they should? Asked before any link runs them.
//!
//! Twins of the programs, the same to the last instruction, run on frames made here. They share all
//! that decides with what is in force: configuration, lists, tables of blocks. What only counts,
//! meters and reports is their own and gone with them, so a self-test leaves no trace in counters
//! and events, and a flood that rages meanwhile does not fail it. The canary that must drop is an
//! address that no wire carries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use enforcer_ebpf::{map, program};
use enforcer_model::{BlockId, Prefix};

use crate::bpf::Way;
use crate::error::{AttachError, BlockError, MapError};
use crate::kernel::{Cursor, Entry, Kernel};
use crate::lease::Lease;
use crate::program::Loaded;
use crate::system::boot_ns;
use crate::{Attach, Mode};

/// What decides; everything else a twin has for itself.
const DECIDING: [&str; 10] = [
    map::ALLOW4,
    map::ALLOW6,
    map::BLOCK4,
    map::BLOCK6,
    map::CLASS,
    map::CLASS4,
    map::CLASS6,
    map::CONFIG,
    map::PREFILTER4,
    map::PREFILTER6,
];

/// Should we die before the canary is removed, it ends by itself.
const CANARY_LASTS: Duration = Duration::from_secs(5);

/// Blocks that are looked at for one that can stand in for the canary.
const ROWS: usize = 64;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const TC_DROP: u32 = 2;
/// `TC_ACT_UNSPEC`: the next program decides.
const TC_PASS: u32 = u32::MAX;

/// Whether a packet is to be dropped that comes from an address, or goes to it.
#[derive(Clone, Copy, Debug)]
struct Expected {
    incoming: bool,
    outgoing: bool,
}

impl Kernel {
    /// Runs the programs of `object`, which `loaded` holds, on the maps in force.
    pub(crate) fn self_test(
        &mut self,
        object: &[u8],
        sets: u32,
        loaded: &Loaded,
    ) -> Result<(), AttachError> {
        let mut twins = Loaded::load(object, sets, &self.pins, &DECIDING, Attach::Auto)?;
        for name in program::ALL {
            let ((tag, _), (own, _)) = (twins.identity(name)?, loaded.identity(name)?);
            if tag != own {
                let what = "it is not the program that was loaded first".to_owned();
                return Err(AttachError::SelfTest { program: name, what });
            }
        }
        for family in [Family::V4, Family::V6] {
            self.test_blocked(family, &mut twins)?;
            self.test_peer(family, &mut twins)?;
        }
        Ok(())
    }

    /// What is blocked drops where the mode says so.
    fn test_blocked(&mut self, family: Family, twins: &mut Loaded) -> Result<(), AttachError> {
        let canary = family.unused_address(0);
        let prefix = Prefix::around(canary, u8::MAX);
        let entry = Entry {
            id: BlockId::from_bits(0),
            expires: Some(CANARY_LASTS),
            observe: false,
            contain: true,
        };
        match self.block(prefix, entry) {
            Ok(_) => {
                let tested = self
                    .expect_of_blocked(canary, true)
                    .map_err(AttachError::from)
                    .and_then(|expected| try_all(twins, canary, expected));
                self.release(prefix)?;
                tested
            }
            // No room for one more: then something that is blocked already is the canary.
            Err(BlockError::Full { .. } | BlockError::Lengths { .. }) => {
                let Some((address, contain)) = self.blocked_address(family)? else {
                    tracing::warn!("no room for a canary, so no self-test of what is blocked");
                    return Ok(());
                };
                let expected = self.expect_of_blocked(address, contain)?;
                try_all(twins, address, expected)
            }
            Err(refused) => Err(refused.into()),
        }
    }

    /// What is not blocked passes.
    fn test_peer(&self, family: Family, twins: &mut Loaded) -> Result<(), AttachError> {
        for name in program::ALL {
            // A budget may be a single packet.
            let peer = family.unused_address(u8::from(name == program::XDP));
            // Somebody may block what no wire carries, with everything else most likely.
            if !self.is_covered(peer, 0)? {
                try_out(twins, name, peer, "free", Expected { incoming: false, outgoing: false })?;
            }
        }
        Ok(())
    }

    fn expect_of_blocked(&self, address: IpAddr, contain: bool) -> Result<Expected, MapError> {
        let allowed = self.allow()?.iter().any(|network| network.contains(address));
        let enforces = self.mode()? == Mode::Enforce && !matches!(self.lease(), Lease::Over(_));
        let drops = enforces && !allowed;
        Ok(Expected { incoming: drops, outgoing: drops && contain && self.contains_peers() })
    }

    /// An address whose block drops, and whether that contains it as well.
    fn blocked_address(&self, family: Family) -> Result<Option<(IpAddr, bool)>, MapError> {
        let mut from = Some(Cursor::default());
        while let Some(cursor) = from {
            let (blocks, next) = self.scan(cursor, ROWS);
            from = next;
            for block in blocks.iter().filter(|block| !block.observe) {
                let address = block.prefix.address();
                let longer = block.prefix.length().saturating_add(1);
                if family.has(address) && !self.is_covered(address, longer)? {
                    return Ok(Some((address, block.contain)));
                }
            }
        }
        Ok(None)
    }

    /// Whether a block of this length or a longer one names the address.
    fn is_covered(&self, address: IpAddr, from: u8) -> Result<bool, MapError> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        for length in from..=bits {
            if self.find(Prefix::around(address, length))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Runs each program on a packet of a blocked address.
fn try_all(twins: &mut Loaded, address: IpAddr, expected: Expected) -> Result<(), AttachError> {
    program::ALL.iter().try_for_each(|name| try_out(twins, name, address, "blocked", expected))
}

/// Runs a program on a packet of `address`.
fn try_out(
    twins: &mut Loaded,
    name: &'static str,
    address: IpAddr,
    what: &str,
    expected: Expected,
) -> Result<(), AttachError> {
    let (way, expected) = match (name, expected) {
        (program::XDP, Expected { incoming: true, .. }) => (Way::In, XDP_DROP),
        (program::XDP, _) => (Way::In, XDP_PASS),
        (program::INGRESS, Expected { incoming: true, .. }) => (Way::In, TC_DROP),
        (program::INGRESS, _) => (Way::In, TC_PASS),
        (_, Expected { outgoing: true, .. }) => (Way::Out, TC_DROP),
        _ => (Way::Out, TC_PASS),
    };
    let failed = |what| AttachError::SelfTest { program: name, what };
    let answer = twins
        .try_out(name, &frame(address, way))
        .map_err(|error| failed(format!("the kernel does not run it: {error}")))?;
    if answer == expected {
        return Ok(());
    }
    Err(failed(format!(
        "a packet of the {what} address {address} is answered with {}, not {}",
        answer.cast_signed(),
        expected.cast_signed()
    )))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == matches!(self, Self::V4)
    }

    /// An address that is never routed, another one every time; of another network for each
    /// number.
    #[expect(clippy::as_conversions, reason = "the lower bits")]
    fn unused_address(self, network: u8) -> IpAddr {
        let noise = boot_ns().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match self {
            // 240.0.0.0/8 to 254.0.0.0/8.
            Self::V4 => {
                let first = 240 + u32::from(network) % 15;
                Ipv4Addr::from_bits((first << 24) | ((noise >> 40) as u32)).into()
            }
            // 100::/64, which is discarded, and 100:0:0:1::/64, which nobody may use.
            Self::V6 => {
                let network = (0x0100 << 112) | (u128::from(network & 1) << 64);
                Ipv6Addr::from_bits(network | u128::from(noise)).into()
            }
        }
    }
}

/// A datagram from `address`, or to it, with nothing in it.
fn frame(address: IpAddr, way: Way) -> Vec<u8> {
    const DATAGRAM: [u8; 8] = [0xc0, 0, 0, 9, 0, 8, 0, 0];
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    match address {
        IpAddr::V4(address) => {
            let here = Ipv4Addr::new(192, 0, 2, 1);
            let (from, to) = if way == Way::In { (address, here) } else { (here, address) };
            frame.extend([0x08, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        IpAddr::V6(address) => {
            let here = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
            let (from, to) = if way == Way::In { (address, here) } else { (here, address) };
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
    }
    frame.extend(DATAGRAM);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_is_an_address_that_no_wire_carries() {
        for number in 0..=u8::MAX {
            let (v4, v6) = (Family::V4.unused_address(number), Family::V6.unused_address(number));

            let reserved: Prefix = "240.0.0.0/4".parse().unwrap();
            let unused: Prefix = "100::/63".parse().unwrap();
            let broadcast: Prefix = "255.0.0.0/8".parse().unwrap();
            assert!(reserved.contains(v4) && !broadcast.contains(v4), "{v4}");
            assert!(unused.contains(v6), "{v6}");
        }
    }

    #[test]
    fn frames_are_as_long_as_their_headers_say() {
        let v4 = frame("240.0.0.1".parse().unwrap(), Way::In);
        let v6 = frame("100::1".parse().unwrap(), Way::Out);

        assert_eq!(v4.len(), 14 + 28);
        assert_eq!(v4[26..30], [240, 0, 0, 1]);
        assert_eq!(v6.len(), 14 + 40 + 8);
        assert_eq!(v6[38..40], [1, 0]);
    }
}
