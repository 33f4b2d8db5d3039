//! What the verdict should be, said again in the plainest way: numbers and lists.
//!
//! Works from the description of a frame and of what is in force. It knows nothing of bytes,
//! hashes, rows, prefilters and slots, so a mistake in them cannot hide here too.

use std::collections::HashMap;

use enforcer_ebpf::table::Meta;
use enforcer_ebpf::{Class, Config, Mode, NEVER_NS, Ports, Reason, Verdict, flag};

use crate::frames::{ACK, FRAGMENT_HEADER, Network, RST, SYN, Shape, Transport};
use crate::memory::{Memory, START_NS};
use crate::writer::Entry;

/// Everything that is in force.
#[derive(Clone, Debug)]
pub struct World {
    pub mode: Mode,
    pub lease: Lease,
    pub blocks: Vec<Block>,
    pub allow: Vec<AnyNetwork>,
    /// The first is everybody's; none: no budgets.
    pub budgets: Vec<Budget>,
    /// Who has which budget.
    pub classes: Vec<(AnyNetwork, usize)>,
    pub ports: Vec<u16>,
    pub contain: bool,
    pub peers: bool,
    /// Only for the tables: home rows, and the secrets of hashes.
    pub homes: u32,
    pub seed: [u64; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    None,
    Running,
    Over,
}

/// A network of either family, its bits right-aligned in 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    pub contain: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    pub packets: Option<Rate>,
    pub bytes: Option<Rate>,
    pub syns: Option<Rate>,
    pub penalty_ns: u64,
    pub observe: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub rate: u64,
    pub burst: u64,
}

/// What a source owes, in ns until it has paid.
#[derive(Clone, Debug)]
struct Account {
    class: usize,
    packets: u128,
    bytes: u128,
    syns: u128,
    seen_ns: u64,
}

/// The reference at work: it remembers what sources have sent.
pub struct Judge<'w> {
    world: &'w World,
    pub now_ns: u64,
    accounts: HashMap<(bool, u128), Account>,
}

/// What is behind the IP header, as far as `length` bytes of the frame tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub known: bool,
    pub port: u16,
    pub opens: bool,
    pub resets: bool,
    pub essential: bool,
}

enum Seen {
    Unreadable,
    Other,
    Ip { v6: bool, source: u128, destination: u128 },
}

impl AnyNetwork {
    pub fn v4(address: [u8; 4], length: u32) -> Self {
        let bits = u128::from(u32::from_be_bytes(address));
        Self { v6: false, bits: cut(bits, 32 - length), length }
    }

    pub fn v6(address: [u8; 16], length: u32) -> Self {
        Self { v6: true, bits: cut(u128::from_be_bytes(address), 128 - length), length }
    }

    pub fn width(self) -> u32 {
        if self.v6 { 128 } else { 32 }
    }

    pub fn contains(self, v6: bool, address: u128) -> bool {
        v6 == self.v6 && cut(address, self.width() - self.length) == self.bits
    }

    pub fn words(self) -> [u64; 2] {
        [(self.bits >> 64) as u64, self.bits as u64]
    }

    /// A block that drops, in either direction, for ever.
    pub fn entry(self, id: u64) -> Entry {
        Entry { network: self, id, expires_ns: NEVER_NS, flags: Meta::CONTAIN }
    }
}

fn cut(bits: u128, host_bits: u32) -> u128 {
    bits.checked_shr(host_bits).unwrap_or(0).checked_shl(host_bits).unwrap_or(0)
}

impl Block {
    /// One in force that drops.
    pub fn around(network: AnyNetwork) -> Self {
        Self { network, expired: false, observe: false, contain: true }
    }
}

impl Budget {
    pub fn packets(rate: u64, burst: u64) -> Self {
        Self { packets: Some(Rate { rate, burst }), ..Self::default() }
    }

    /// As the map holds it.
    pub fn class(&self) -> Class {
        let class =
            Class { observe: self.observe.into(), penalty: self.penalty_ns / 8, ..Class::NONE };
        let class = self.packets.map_or(class, |it| class.packets(it.rate as u32, it.burst as u32));
        let class = self.bytes.map_or(class, |it| class.bytes(it.rate, it.burst));
        self.syns.map_or(class, |it| class.syns(it.rate as u32, it.burst as u32))
    }
}

impl Default for World {
    /// Enforcing nothing.
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            lease: Lease::None,
            blocks: Vec::new(),
            allow: Vec::new(),
            budgets: Vec::new(),
            classes: Vec::new(),
            ports: Vec::new(),
            contain: true,
            peers: false,
            homes: 8,
            seed: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
        }
    }
}

impl World {
    /// Everybody has this budget, and nobody is blocked.
    pub fn with_budget(budget: Budget) -> Self {
        Self { budgets: vec![budget], ..Self::default() }
    }

    /// The same as tables.
    pub fn tables(&self) -> Memory {
        let mut memory = Memory::new(self.config());
        if !self.blocks.is_empty() {
            memory.make_tables(self.homes);
        }
        for (id, block) in self.blocks.iter().enumerate() {
            let observe = if block.observe { Meta::OBSERVE } else { 0 };
            let contain = if block.contain { Meta::CONTAIN } else { 0 };
            let expires_ns = if block.expired { START_NS - 1_000_000 } else { NEVER_NS };
            let id = id as u64 + 1;
            memory.block(Entry {
                network: block.network,
                id,
                expires_ns,
                flags: observe | contain,
            });
        }
        let of = |v6: bool| self.allow.iter().copied().filter(move |it| it.v6 == v6).collect();
        (memory.v4.allow, memory.v6.allow) = (of(false), of(true));
        let classes = self.classes.iter().map(|(network, class)| (*network, *class as u32));
        (memory.v6.classes, memory.v4.classes) = classes.partition(|(network, _)| network.v6);
        for (number, budget) in self.budgets.iter().enumerate() {
            memory.set_class(number, budget.class());
        }
        memory
    }

    pub fn config(&self) -> Config {
        let when = |condition: bool, flag: u64| if condition { flag } else { 0 };
        let syns = self.budgets.iter().any(|budget| budget.syns.is_some());
        Config {
            mode: self.mode.word(),
            lease_ns: match self.lease {
                Lease::None => 0,
                Lease::Running => u64::MAX,
                Lease::Over => START_NS,
            },
            seed: self.seed,
            source4_mask: 255,
            source6_mask: 255,
            flags: when(!self.budgets.is_empty(), flag::BUDGETS)
                | when(!self.classes.is_empty(), flag::CLASSES)
                | when(syns, flag::SYNS)
                | when(self.contain, flag::CONTAIN)
                | when(self.peers, flag::PEERS),
            ports: Ports::of(&self.ports),
            ..Config::default()
        }
    }

    pub fn judge(&self) -> Judge<'_> {
        Judge { world: self, now_ns: START_NS, accounts: HashMap::new() }
    }

    fn consequence(&self) -> Verdict {
        let drops = self.mode == Mode::Enforce && self.lease != Lease::Over;
        if drops { Verdict::Drop } else { Verdict::Pass }
    }

    fn spares(&self, v6: bool, address: u128, facts: Facts) -> Option<Reason> {
        if self.allow.iter().any(|network| network.contains(v6, address)) {
            return Some(Reason::Allowed);
        }
        facts.essential.then_some(Reason::Essential)
    }

    /// Whether any block in force names the address, and whether one drops.
    fn blocked(&self, v6: bool, address: u128, contained: bool) -> Option<bool> {
        let in_force = |block: &&Block| {
            !block.expired && (block.contain || !contained) && block.network.contains(v6, address)
        };
        let around: Vec<&Block> = self.blocks.iter().filter(in_force).collect();
        (!around.is_empty()).then(|| around.iter().any(|block| !block.observe))
    }
}

impl Judge<'_> {
    /// The verdict on the first `length` bytes of a frame that comes in.
    pub fn incoming(&mut self, shape: &Shape, length: usize) -> (Verdict, Reason) {
        let world = self.world;
        let pass = |reason| (Verdict::Pass, reason);
        if world.mode == Mode::Off {
            return pass(Reason::Off);
        }
        let (v6, source) = match see(shape, length) {
            Seen::Unreadable => return (world.consequence(), Reason::Unreadable),
            Seen::Other => return pass(Reason::NotIp),
            Seen::Ip { v6, source, .. } => (v6, source),
        };
        let facts = facts(shape, length);
        let (reason, observe) = if let Some(drops) = world.blocked(v6, source, false) {
            (Reason::Blocked, !drops)
        } else if let Some(excess) = self.spend(v6, source, facts, length) {
            excess
        } else {
            return pass(Reason::Clean);
        };
        match world.spares(v6, source, facts) {
            Some(spared) => pass(spared),
            None if observe => pass(reason),
            None => (world.consequence(), reason),
        }
    }

    /// The same for one that goes out.
    pub fn outgoing(&self, shape: &Shape, length: usize) -> (Verdict, Reason) {
        let world = self.world;
        let pass = |reason| (Verdict::Pass, reason);
        if world.mode == Mode::Off {
            return pass(Reason::Off);
        }
        let (v6, destination) = match see(shape, length) {
            Seen::Unreadable => return pass(Reason::Unreadable),
            Seen::Other => return pass(Reason::NotIp),
            Seen::Ip { v6, destination, .. } => (v6, destination),
        };
        let facts = facts(shape, length);
        match world.blocked(v6, destination, true).filter(|_| world.contain) {
            None => pass(Reason::Clean),
            Some(drops) => match world.spares(v6, destination, facts) {
                Some(spared) => pass(spared),
                None if facts.resets => pass(Reason::Essential),
                None if !drops => pass(Reason::Contained),
                None => (world.consequence(), Reason::Contained),
            },
        }
    }

    /// What a packet is too much for, and whether that is only observed.
    fn spend(
        &mut self,
        v6: bool,
        source: u128,
        facts: Facts,
        length: usize,
    ) -> Option<(Reason, bool)> {
        let world = self.world;
        let ports = &world.ports;
        if world.budgets.is_empty()
            || (!ports.is_empty() && facts.known && !ports.contains(&facts.port))
        {
            return None;
        }
        let payer = if v6 { cut(source, 64) } else { source };
        let account = self.accounts.entry((v6, payer)).or_insert_with(|| {
            let around = world.classes.iter().filter(|(network, _)| network.contains(v6, source));
            let class = around.max_by_key(|(network, _)| network.length).map_or(0, |(_, it)| *it);
            Account { class, packets: 0, bytes: 0, syns: 0, seen_ns: self.now_ns }
        });
        let budget = &world.budgets[account.class];
        let passed = u128::from(self.now_ns - account.seen_ns);
        account.seen_ns = self.now_ns;
        for debt in [&mut account.packets, &mut account.bytes, &mut account.syns] {
            *debt = debt.saturating_sub(passed);
        }
        // Units of the clocks: 8 ns, and 4,096 ns for connections.
        let interval = |it: Rate, unit: u64| u128::from(1_000_000_000 / unit / it.rate * unit);
        let full = |it: Rate, unit| interval(it, unit) * u128::from(it.burst - 1);
        let byte_ns = |it: Rate| u128::from(1_000_000_000 / it.rate);
        let most = budget.packets.map_or(0, |it| full(it, 8));
        let counts_syn = budget.syns.filter(|_| facts.opens);
        let excess = if account.packets > most {
            Some(Reason::Budget)
        } else if budget.bytes.is_some_and(|it| account.bytes > byte_ns(it) * u128::from(it.burst))
        {
            Some(Reason::ByteBudget)
        } else if counts_syn.is_some_and(|it| account.syns > full(it, 4096)) {
            Some(Reason::SynBudget)
        } else {
            None
        };
        if excess.is_some() {
            if budget.penalty_ns > 0 {
                account.packets = account.packets.max(most + u128::from(budget.penalty_ns));
            }
        } else {
            account.packets += budget.packets.map_or(0, |it| interval(it, 8));
            account.bytes += budget.bytes.map_or(0, |it| byte_ns(it) * length as u128);
            account.syns += counts_syn.map_or(0, |it| interval(it, 4096));
        }
        excess.map(|reason| (reason, budget.observe))
    }
}

fn see(shape: &Shape, length: usize) -> Seen {
    // Each tag needs the type behind it; the walk ends at the first that nobody reads.
    if length < 14 + 4 * shape.tags.len().min(2) || shape.tags.len() > 2 {
        return Seen::Unreadable;
    }
    let (v6, source, destination, header) = match &shape.network {
        Network::V4(v4) => {
            let number = |address| u128::from(u32::from_be_bytes(address));
            (false, number(v4.source), number(v4.destination), 20)
        }
        Network::V6(v6) => {
            (true, u128::from_be_bytes(v6.source), u128::from_be_bytes(v6.destination), 40)
        }
        Network::Other(..) => return Seen::Other,
    };
    if length < shape.network_at() + header {
        return Seen::Unreadable;
    }
    Seen::Ip { v6, source, destination }
}

/// What is behind the IP header.
pub fn facts(shape: &Shape, length: usize) -> Facts {
    // Nobody can tell that it opens no connection.
    let hidden = Facts { opens: true, ..Facts::default() };
    let (transport, kept, is_fragment, icmp) = match &shape.network {
        Network::Other(..) => return Facts::default(),
        Network::V4(v4) => {
            if v4.fragment & 0x1fff != 0 {
                return Facts::default();
            }
            (&v4.transport, v4.kept, v4.fragment & 0x2000 != 0, 1)
        }
        Network::V6(v6) => {
            let mut at = shape.network_at() + 40;
            let mut is_fragment = false;
            for extension in v6.extensions.iter().take(6) {
                if length < at + 4 {
                    return hidden;
                }
                if extension.kind == FRAGMENT_HEADER {
                    if is_fragment {
                        return hidden;
                    }
                    if extension.fragment >> 3 != 0 {
                        return Facts::default();
                    }
                    is_fragment = true;
                }
                at += extension.bytes();
            }
            if v6.extensions.len() > 6 {
                return hidden;
            }
            (&v6.transport, v6.kept, is_fragment, 58)
        }
    };
    let there = length.saturating_sub(shape.transport_at());
    let protocol = transport.protocol(icmp);
    let needed = if protocol == 6 { 14 } else { 4 };
    if there < needed {
        return if protocol == 6 { hidden } else { Facts::default() };
    }
    if is_fragment && kept.is_some_and(|kept| usize::from(kept) < needed) {
        return hidden;
    }
    let either = |port: &u16, first: u16| *port == first || *port == first + 1;
    let known = Facts { known: true, ..Facts::default() };
    match transport {
        Transport::Tcp(_, to, flags) => Facts {
            port: *to,
            opens: flags & (SYN | ACK) == SYN,
            resets: flags & RST != 0,
            ..known
        },
        Transport::Udp(from, to, _) => {
            let first = if icmp == 1 { 67 } else { 546 };
            let essential = !is_fragment && either(from, first) && either(to, first);
            Facts { port: *to, essential, ..known }
        }
        Transport::Icmp(kind, code) => {
            let essential = match &shape.network {
                Network::V6(v6) => {
                    *kind == 2 || ((133..=137).contains(kind) && v6.hop_limit == 255)
                }
                _ => (*kind, *code) == (3, 4),
            };
            Facts { essential: essential && !is_fragment, ..known }
        }
        Transport::Other(..) => known,
    }
}
