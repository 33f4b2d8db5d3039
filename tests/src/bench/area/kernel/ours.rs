//! The agent's kernel half without the agent: what `enforcer-kernel` puts into the kernel.
//!
//! It is attached to no interface, so that its program can be asked in a test run, or be put on the
//! cable for the length of a round. Expiry, budgets and statistics are on, and a few networks of
//! other lengths are blocked beside the addresses, as on any host that is in use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::{ProgramFd, ProgramInfo};
use enforcer_ebpf::{
    ABI, Config as Shared, Direction, Reason, Verdict, counter_index, map, program,
};
use enforcer_kernel::{
    Attach, Budget, Budgets, Bytes, Config, Egress, Entry, Kernel, Mode, OnAgentLoss, Packets,
};
use enforcer_model::{BlockId, PerSecond, Prefix};

use super::MILLION;
use super::traffic::{KEYS, address, key};
use crate::lab::{Family, Namespace};

/// Blocks and sources that there is room for, for each family.
pub(super) struct Room {
    pub(super) blocks: u32,
    pub(super) sources: u32,
}

/// What the policies of these benches have room for.
pub(super) const ROOM: Room = Room { blocks: 2 * MILLION, sources: MILLION };

/// The folder of pins, in the host.
const PINS: &str = "/sys/fs/bpf/enforcer-bench";

/// The kernel half in force. It goes when dropped, with everything that it pinned.
pub(super) struct Ours {
    pub(super) kernel: Kernel,
    program: ProgramFd,
    host: Namespace,
}

/// What was counted of packets that came in, since the maps were made.
pub(super) struct Counted {
    stats: PerCpuArray<MapData, [u64; 2]>,
}

/// A block as an operator makes it: it ends some time.
const ENTRY: Entry = Entry {
    id: BlockId::from_bits(1),
    expires: Some(Duration::from_secs(3600)),
    observe: false,
    contain: false,
};

/// Lengths of networks that are blocked beside the addresses, and how many of each.
const NETWORKS: [(Family, u8); 6] = [
    (Family::V4, 24),
    (Family::V4, 22),
    (Family::V4, 20),
    (Family::V6, 64),
    (Family::V6, 56),
    (Family::V6, 48),
];
const NETWORKS_EACH: usize = 16;

impl Ours {
    /// Puts it in force, with nothing blocked but the few networks.
    pub(super) fn start(host: &Namespace, room: &Room, budgets: Budgets) -> Result<Self> {
        let config = Config {
            interfaces: Vec::new(),
            attach: Attach::Auto,
            egress: Egress::Off,
            mode: Mode::Enforce,
            budgets,
            blocks: room.blocks,
            sources: room.sources,
            on_agent_loss: OnAgentLoss::Keep,
            pins: host.path(PINS),
        };
        let kernel = host
            .run(|| Kernel::attach(&config, &[], &[]))?
            .context("putting the kernel half in force")?;
        let program = info(host, program::XDP)?.fd()?;
        let mut ours = Self { kernel, program, host: host.clone() };
        ours.load(&networks())?;
        Ok(ours)
    }

    /// Blocks the addresses with these numbers, in one step.
    pub(super) fn block(&mut self, family: Family, numbers: Range<u32>) -> Result<()> {
        self.load(&blocks(family, numbers))
    }

    fn load(&mut self, blocks: &[(Prefix, Entry)]) -> Result<()> {
        let loaded = self.kernel.load(blocks, &[])?;
        ensure!(loaded.added == blocks.len(), "not all blocks were added: {loaded:?}");
        Ok(())
    }

    /// The program that judges packets that come in.
    pub(super) const fn program(&self) -> &ProgramFd {
        &self.program
    }

    /// Puts it on an interface, in the driver.
    pub(super) fn attach(&self, interface: &str) -> Result<()> {
        let pin = pin(program::XDP);
        self.host.ip(&format!("link set dev {interface} xdpdrv pinned {}", pin.display())).map(drop)
    }

    /// Takes it off again.
    pub(super) fn detach(&self, interface: &str) -> Result<()> {
        self.host.ip(&format!("link set dev {interface} xdpdrv off")).map(drop)
    }

    /// What the kernel's verifier went through for each program.
    pub(super) fn verified(&self) -> Result<Vec<(&'static str, u32)>> {
        let count = |name| {
            let count = info(&self.host, name)?.verified_instruction_count();
            Ok((name, count.context("this kernel does not tell what it verified")?))
        };
        program::ALL.into_iter().map(count).collect()
    }

    /// Its counters.
    pub(super) fn counted(&self) -> Result<Counted> {
        let stats = Map::PerCpuArray(self.map(map::STATS)?);
        Ok(Counted { stats: stats.try_into()? })
    }

    /// The value that the program reads for every packet.
    pub(super) fn config(&self) -> Result<Shared> {
        type Words = [u64; size_of::<Shared>() / 8];
        let map: Array<_, Words> = Map::Array(self.map(map::CONFIG)?).try_into()?;
        Ok(Shared::from_words(map.get(&0, 0)?))
    }

    fn map(&self, name: &str) -> Result<MapData> {
        MapData::from_pin(self.host.path(pin(name))).with_context(|| format!("the pin of `{name}`"))
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // A destructor has nobody to tell of a failure; what is left goes with the lab.
        drop(Kernel::detach_pinned(&self.host.path(PINS)));
    }
}

impl Counted {
    /// Packets with this verdict, for whatever reason.
    pub(super) fn total(&self, verdict: Verdict) -> Result<u64> {
        Reason::ALL.into_iter().map(|reason| self.packets(verdict, reason)).sum()
    }

    /// Packets with this verdict for this reason.
    pub(super) fn packets(&self, verdict: Verdict, reason: Reason) -> Result<u64> {
        let cpus = self.stats.get(&counter_index(Direction::In, verdict, reason), 0)?;
        Ok(cpus.iter().map(|[packets, _]| packets).sum())
    }
}

/// Blocks of the addresses with these numbers.
pub(super) fn blocks(family: Family, numbers: Range<u32>) -> Vec<(Prefix, Entry)> {
    numbers.map(|number| (single(address(family, number)), ENTRY)).collect()
}

/// The network of one address.
pub(super) fn single(address: IpAddr) -> Prefix {
    Prefix::around(address, if address.is_ipv4() { 32 } else { 128 })
}

/// A budget of packets and bytes that nobody in these benches exceeds.
pub(super) fn generous() -> Budgets {
    budgets(10_000_000, 1_000_000)
}

/// So many packets per second for each source, so many of them at once, and bytes without end.
pub(super) fn budgets(rate: u32, burst: u32) -> Budgets {
    let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let packets = Packets { rate: PerSecond::new(number(rate)), burst: number(burst) };
    let budget = Budget {
        packets: Some(packets),
        bytes: Some(Bytes { rate: 1 << 40, burst: 1 << 40 }),
        syns: None,
        penalty: Duration::ZERO,
        observe: false,
    };
    Budgets { default: Some(budget), ..Budgets::default() }
}

/// Networks that no key is in.
fn networks() -> Vec<(Prefix, Entry)> {
    let mut keys: Vec<u32> = (0..KEYS).map(key).collect();
    keys.sort_unstable();
    let mut blocks = Vec::new();
    for (family, length) in NETWORKS {
        let candidates = (0..u32::MAX).map(|number| candidate(family, number, length));
        let quiet = candidates.filter(|prefix| is_quiet(*prefix, &keys));
        blocks.extend(quiet.take(NETWORKS_EACH).map(|prefix| (prefix, ENTRY)));
    }
    blocks
}

fn candidate(family: Family, number: u32, length: u8) -> Prefix {
    // Numbers apart for each length: no network lies in another.
    let key = key(number.wrapping_add(u32::from(length) << 24));
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(key)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(0x2a01 << 112 | u128::from(key) << 64)),
    };
    Prefix::around(address, length)
}

/// IPv6 keys are in a network of their own.
fn is_quiet(prefix: Prefix, keys: &[u32]) -> bool {
    let IpAddr::V4(first) = prefix.address() else { return true };
    let at = keys.partition_point(|key| *key < first.to_bits());
    keys.get(at).is_none_or(|key| !prefix.contains(IpAddr::V4(Ipv4Addr::from_bits(*key))))
}

fn info(host: &Namespace, name: &str) -> Result<ProgramInfo> {
    ProgramInfo::from_pin(host.path(pin(name))).with_context(|| format!("the pin of `{name}`"))
}

/// Where the host sees what is pinned under this name.
fn pin(name: &str) -> PathBuf {
    Path::new(PINS).join(format!("v{ABI}")).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_blocked_networks_touch_no_source_of_the_benches() {
        let networks = networks();

        assert_eq!(networks.len(), NETWORKS.len() * NETWORKS_EACH);
        let (v4, _): (Vec<Prefix>, Vec<Prefix>) =
            networks.iter().map(|(prefix, _)| *prefix).partition(|it| it.address().is_ipv4());
        for number in (0..KEYS).step_by(101) {
            let source = address(Family::V4, number);
            assert!(!v4.iter().any(|network| network.contains(source)), "{source}");
        }
    }
}
