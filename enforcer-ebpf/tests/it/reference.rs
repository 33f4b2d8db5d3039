//! What the verdict should be, said again in the plainest way: numbers, lists, no bytes.
//!
//! Works from the description of a frame, so that a mistake in the parser cannot hide here too.

use enforcer_ebpf::{Config, Key4, Key6, Lengths, Mode, NEVER_NS, Reason, Verdict};
use proptest::prelude::*;

use crate::frames::{FRAGMENT_HEADER, Network, Shape, Transport, any_source4, any_source6};
use crate::memory::{Memory, entry};

/// Everything that is in force, but budgets.
#[derive(Clone, Debug)]
pub struct World {
    pub mode: Mode,
    pub blocks: Vec<Block>,
    pub allow: Vec<AnyNetwork>,
}

/// A network of either family, its bits right-aligned in 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnyNetwork {
    pub v6: bool,
    pub bits: u128,
    pub length: u32,
}

#[derive(Clone, Debug)]
pub struct Block {
    pub network: AnyNetwork,
    pub expired: bool,
    pub observe: bool,
}

impl Block {
    /// One in force that drops.
    pub fn around(network: AnyNetwork) -> Self {
        Self { network, expired: false, observe: false }
    }
}

impl AnyNetwork {
    fn width(self) -> u32 {
        if self.v6 { 128 } else { 32 }
    }

    pub fn contains(self, v6: bool, address: u128) -> bool {
        let host_bits = self.width() - self.length;
        let cut = |bits: u128| bits.checked_shr(host_bits).unwrap_or(0);
        v6 == self.v6 && cut(address) == cut(self.bits)
    }
}

impl World {
    /// The verdict on the first `length` bytes of a frame.
    pub fn verdict(&self, shape: &Shape, length: usize) -> (Verdict, Reason) {
        let dropped = match self.mode {
            Mode::Off => return (Verdict::Pass, Reason::Off),
            Mode::Observe => Verdict::Pass,
            Mode::Enforce => Verdict::Drop,
        };
        // Each tag needs the type behind it; the walk ends at the first that nobody reads.
        if length < 14 + 4 * shape.tags.len().min(2) {
            return (dropped, Reason::Unreadable);
        }
        if shape.tags.len() > 2 {
            return (dropped, Reason::Unreadable);
        }
        let (v6, address, header) = match &shape.network {
            Network::V4(v4) => (false, u32::from_be_bytes(v4.source).into(), 20),
            Network::V6(v6) => (true, u128::from_be_bytes(v6.source), 40),
            Network::Other(..) => return (Verdict::Pass, Reason::NotIp),
        };
        if length < shape.network_at() + header {
            return (dropped, Reason::Unreadable);
        }
        let in_force: Vec<&Block> = self
            .blocks
            .iter()
            .filter(|block| !block.expired && block.network.contains(v6, address))
            .collect();
        if in_force.is_empty() {
            return (Verdict::Pass, Reason::Clean);
        }
        if self.allow.iter().any(|network| network.contains(v6, address)) {
            return (Verdict::Pass, Reason::Allowed);
        }
        if is_essential(shape, length) {
            return (Verdict::Pass, Reason::Essential);
        }
        let drops = in_force.iter().any(|block| !block.observe);
        (if drops { dropped } else { Verdict::Pass }, Reason::Blocked)
    }

    /// The same as tables.
    pub fn tables(&self) -> Memory {
        let mut config = Config { mode: self.mode.word(), ..Config::default() };
        for block in &self.blocks {
            let host_bits = block.network.width() - block.network.length;
            let lengths =
                if block.network.v6 { &mut config.lengths6 } else { &mut config.lengths4 };
            *lengths = lengths.union(Lengths::of(host_bits));
        }
        let mut memory = Memory::new(config);
        for (id, block) in self.blocks.iter().enumerate() {
            let expires_ns = if block.expired { memory.now_ns.get() } else { NEVER_NS };
            let row = entry(expires_ns, id as u64, block.observe);
            match key(block.network) {
                Either::V4(key) => memory.v4.blocks.insert(key, row).is_some(),
                Either::V6(key) => memory.v6.blocks.insert(key, row).is_some(),
            };
        }
        for network in &self.allow {
            match key(*network) {
                Either::V4(key) => memory.v4.allow.push(key),
                Either::V6(key) => memory.v6.allow.push(key),
            }
        }
        memory
    }
}

enum Either {
    V4(Key4),
    V6(Key6),
}

fn key(network: AnyNetwork) -> Either {
    let AnyNetwork { v6, bits, length } = network;
    if v6 {
        Either::V6(Key6 { high: (bits >> 64) as u64, low: bits as u64, length: length.into() })
    } else {
        Either::V4(Key4 { address: bits as u32, length })
    }
}

fn is_essential(shape: &Shape, length: usize) -> bool {
    let readable = length >= shape.transport_at() + 4;
    let both = |from: u16, to: u16, ports: [u16; 2]| ports.contains(&from) && ports.contains(&to);
    match &shape.network {
        Network::V4(v4) => {
            readable
                && v4.fragment & 0x3fff == 0
                && match v4.transport {
                    Transport::Icmp(kind, code) => (kind, code) == (3, 4),
                    Transport::Udp(from, to) => both(from, to, [67, 68]),
                    Transport::Tcp(..) => false,
                }
        }
        Network::V6(v6) => {
            readable
                && v6.extensions.len() <= 6
                && v6.extensions.iter().all(|(kind, _)| *kind != FRAGMENT_HEADER)
                && match v6.transport {
                    Transport::Icmp(kind, _) => {
                        kind == 2 || ((133..=137).contains(&kind) && v6.hop_limit == 255)
                    }
                    Transport::Udp(from, to) => both(from, to, [546, 547]),
                    Transport::Tcp(..) => false,
                }
        }
        Network::Other(..) => false,
    }
}

/// A small world: few networks, of many lengths, around few sources.
pub fn any_world() -> impl Strategy<Value = World> {
    let block = (any_network(), any::<bool>(), prop::bool::weighted(0.3))
        .prop_map(|(network, expired, observe)| Block { network, expired, observe });
    let mode = prop_oneof![
        1 => Just(Mode::Off),
        2 => Just(Mode::Observe),
        5 => Just(Mode::Enforce),
    ];
    let allow = prop::collection::vec(any_network(), 0..3);
    (mode, prop::collection::vec(block, 0..12), allow).prop_map(|(mode, mut blocks, allow)| {
        // A map has one entry for a network.
        let mut seen = Vec::new();
        blocks.retain(|block| {
            let new = !seen.contains(&block.network);
            seen.push(block.network);
            new
        });
        World { mode, blocks, allow }
    })
}

fn any_network() -> impl Strategy<Value = AnyNetwork> {
    let cut = |bits: u128, host_bits: u32| {
        bits.checked_shr(host_bits).unwrap_or(0).checked_shl(host_bits).unwrap_or(0)
    };
    let v4 = (any_source4(), 0..=32u32).prop_map(move |(source, length)| AnyNetwork {
        v6: false,
        bits: cut(u32::from_be_bytes(source).into(), 32 - length),
        length,
    });
    let v6 = (any_source6(), 0..=128u32).prop_map(move |(source, length)| AnyNetwork {
        v6: true,
        bits: cut(u128::from_be_bytes(source), 128 - length),
        length,
    });
    prop_oneof![v4, v6]
}
