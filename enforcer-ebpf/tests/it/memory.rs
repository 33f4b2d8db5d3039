//! The tables of a verdict in ordinary memory, with clocks that stand until they are moved.
//!
//! Whatever is shared is made of the same words as in the kernel, so threads may judge at once.

#![expect(clippy::disallowed_types, reason = "the packages of these tests need no other lock")]

use std::array;
use std::sync::Mutex;

use enforcer_ebpf::escalation::{Escalation, PLACES};
use enforcer_ebpf::events::REPORTS;
use enforcer_ebpf::flood::{COLUMNS, ROWS, State};
use enforcer_ebpf::source::CLASSES;
use enforcer_ebpf::table::{Hits, Row};
use enforcer_ebpf::{
    COUNTERS, Class, Config, Direction, Event, Lengths, Lists, Packet, Ports, Reason, Set, Shared,
    Tables, Transport, V4, V6, Verdict, counter_index, judge_incoming, judge_outgoing, transport,
};

use crate::reference::AnyNetwork;
use crate::writer::Bits;

/// What the clocks say at first: a multiple of every unit of time.
pub const START_NS: u64 = 1 << 50;

pub struct Memory {
    pub config: Config<Shared>,
    pub boot_ns: Shared,
    pub monotonic_ns: Shared,
    /// How late the coarse clocks are.
    pub late_ns: Shared,
    pub v4: Family<1>,
    pub v6: Family<2>,
    pub classes: Vec<Class<Shared>>,
    pub state: State<Shared>,
    pub common: Vec<Shared>,
    pub escalated: Vec<Escalation<Shared>>,
    pub reported: Vec<Shared>,
    /// Packets and bytes.
    counts: Vec<[Shared; 2]>,
    /// Which counter grew last.
    last: Shared,
    /// Events that nobody was told.
    pub lost: Shared,
    pub events: Mutex<Vec<Event>>,
}

/// One family's lists; keys of `N` words.
pub struct Family<const N: usize> {
    pub tables: [Vec<Row<N, Shared>>; 2],
    pub prefilter: Bits,
    pub allow: Vec<AnyNetwork>,
    pub classes: Vec<(AnyNetwork, u32)>,
    pub sources: Vec<Set<Shared>>,
    /// None where nobody counts destinations.
    pub peers: Vec<Set<Shared>>,
}

pub struct Bytes<'b>(pub &'b [u8]);

impl Memory {
    /// With as many sets of sources as the configuration says, and no blocks.
    pub fn new(config: Config) -> Self {
        let (sets4, sets6) = (config.source4_mask as usize + 1, config.source6_mask as usize + 1);
        Self {
            config: share(config),
            boot_ns: Shared::new(START_NS),
            monotonic_ns: Shared::new(START_NS),
            late_ns: Shared::new(0),
            v4: Family::new(sets4),
            v6: Family::new(sets6),
            classes: many(CLASSES as usize),
            state: State::default(),
            common: many((ROWS * COLUMNS) as usize),
            escalated: many(PLACES as usize),
            reported: many(2 * REPORTS as usize),
            counts: many(COUNTERS as usize),
            last: Shared::default(),
            events: Mutex::default(),
            lost: Shared::default(),
        }
    }

    /// What sources of this class may send.
    pub fn set_class(&self, number: usize, class: Class) {
        let shared = &self.classes[number];
        let words = [
            &shared.packet_cost,
            &shared.packet_tolerance,
            &shared.byte_cost,
            &shared.byte_tolerance,
            &shared.syn_cost,
            &shared.syn_tolerance,
            &shared.penalty,
            &shared.observe,
        ];
        words.into_iter().zip(class.to_words()).for_each(|(word, value)| word.set(value));
    }

    /// Moves every clock.
    pub fn pass(&self, ns: u64) {
        self.boot_ns.add(ns);
        self.monotonic_ns.add(ns);
    }

    pub fn now_ns(&self) -> u64 {
        self.monotonic_ns.get()
    }

    pub fn incoming(&self, frame: &[u8]) -> (Verdict, Reason) {
        let verdict = judge_incoming(&Bytes(frame), self).unwrap();
        self.told(Direction::In, verdict)
    }

    pub fn outgoing(&self, frame: &[u8]) -> (Verdict, Reason) {
        let verdict = judge_outgoing(&Bytes(frame), self).unwrap();
        self.told(Direction::Out, verdict)
    }

    /// Only the verdict, for threads.
    pub fn passes(&self, frame: &[u8]) -> bool {
        judge_incoming(&Bytes(frame), self) == Some(Verdict::Pass)
    }

    /// The reason of the counter that grew last.
    fn told(&self, direction: Direction, verdict: Verdict) -> (Verdict, Reason) {
        let is_last = |reason: &Reason| {
            u64::from(counter_index(direction, verdict, *reason)) == self.last.get()
        };
        (verdict, Reason::ALL.into_iter().find(is_last).unwrap())
    }

    /// Packets that were counted, and their bytes.
    pub fn counted(&self, direction: Direction, verdict: Verdict, reason: Reason) -> (u64, u64) {
        let [packets, bytes] = &self.counts[counter_index(direction, verdict, reason) as usize];
        (packets.get(), bytes.get())
    }

    /// Packets that were counted at all.
    pub fn counted_packets(&self) -> u64 {
        self.counts.iter().map(|[packets, _]| packets.get()).sum()
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }
}

impl<const N: usize> Family<N> {
    fn new(sets: usize) -> Self {
        Self {
            tables: [Vec::new(), Vec::new()],
            prefilter: Bits::new(),
            allow: Vec::new(),
            classes: Vec::new(),
            sources: many(sets),
            peers: Vec::new(),
        }
    }

    fn allows(&self, v6: bool, address: u128) -> bool {
        self.allow.iter().any(|network| network.contains(v6, address))
    }

    fn class(&self, v6: bool, address: u128) -> Option<u32> {
        let around = self.classes.iter().filter(|(network, _)| network.contains(v6, address));
        around.max_by_key(|(network, _)| network.length).map(|(_, class)| *class)
    }
}

/// A configuration that can be changed while packets are judged.
pub fn share(config: Config) -> Config<Shared> {
    let Lengths(lengths4) = config.lengths4;
    let Lengths(lengths6) = config.lengths6;
    let Ports(ports) = config.ports;
    Config {
        mode: Shared::new(config.mode),
        lease_ns: Shared::new(config.lease_ns),
        seed: config.seed.map(Shared::new),
        table4: Shared::new(config.table4),
        table6: Shared::new(config.table6),
        lengths4: Lengths(lengths4.map(Shared::new)),
        lengths6: Lengths(lengths6.map(Shared::new)),
        source4_mask: Shared::new(config.source4_mask),
        source6_mask: Shared::new(config.source6_mask),
        flags: Shared::new(config.flags),
        ports: Ports(ports.map(Shared::new)),
        class_generation: Shared::new(config.class_generation),
        flood_per_second: Shared::new(config.flood_per_second),
        escalate_after: Shared::new(config.escalate_after),
        escalate_within_ns: Shared::new(config.escalate_within_ns),
        escalate_for_ns: Shared::new(config.escalate_for_ns),
        test_clock_ns: Shared::new(config.test_clock_ns),
    }
}

pub fn many<T: Default>(count: usize) -> Vec<T> {
    (0..count).map(|_| T::default()).collect()
}

pub fn empty_rows<const N: usize>(count: usize) -> Vec<Row<N, Shared>> {
    let four = || array::from_fn(|_| Shared::default());
    (0..count)
        .map(|_| Row {
            meta: four(),
            key: array::from_fn(|_| four()),
            hits: array::from_fn(|_| Hits::default()),
        })
        .collect()
}

impl Packet for Bytes<'_> {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        assert!(N.is_multiple_of(2) && offset.is_multiple_of(2), "{N} bytes at {offset}");
        self.0.get(offset..)?.first_chunk().copied()
    }

    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn transport(&self) -> Transport {
        transport::read(self)
    }
}

impl Tables for Memory {
    type V4 = Family<1>;
    type V6 = Family<2>;

    fn config(&self) -> Option<&Config<Shared>> {
        Some(&self.config)
    }

    fn boot_ns(&self) -> u64 {
        self.boot_ns.get()
    }

    fn boot_coarse_ns(&self) -> u64 {
        self.boot_ns.get() - self.late_ns.get()
    }

    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.get()
    }

    fn coarse_ns(&self) -> u64 {
        self.monotonic_ns.get() - self.late_ns.get()
    }

    fn v4(&self) -> &Family<1> {
        &self.v4
    }

    fn v6(&self) -> &Family<2> {
        &self.v6
    }

    fn class(&self, number: u64) -> Option<&Class<Shared>> {
        self.classes.get(number as usize)
    }

    fn state(&self) -> Option<&State<Shared>> {
        Some(&self.state)
    }

    fn common(&self, index: u32) -> Option<&Shared> {
        self.common.get(index as usize)
    }

    fn escalation(&self, index: u32) -> Option<&Escalation<Shared>> {
        self.escalated.get(index as usize)
    }

    fn reported(&self, index: u32) -> Option<&Shared> {
        self.reported.get(index as usize)
    }

    fn count(&self, direction: Direction, verdict: Verdict, reason: Reason, bytes: u64) {
        let index = counter_index(direction, verdict, reason);
        let [packets, total] = &self.counts[index as usize];
        packets.add(1);
        total.add(bytes);
        self.last.set(index.into());
    }

    fn report(&self, event: &Event) {
        self.events.lock().unwrap().push(*event);
    }

    fn lose(&self) {
        self.lost.add(1);
    }
}

macro_rules! lists {
    ($address:ty, $words:literal, $v6:literal, $number:expr) => {
        impl Lists<$address> for Family<$words> {
            fn row(&self, table: u32, index: u32) -> Option<&Row<$words, Shared>> {
                self.tables[table as usize].get(index as usize)
            }

            fn prefilter(&self, word: u32) -> Option<&Shared> {
                self.prefilter.word(word)
            }

            fn allows(&self, address: $address) -> bool {
                Self::allows(self, $v6, $number(address))
            }

            fn class(&self, address: $address) -> Option<u32> {
                Self::class(self, $v6, $number(address))
            }

            fn sources(&self, set: u32) -> Option<&Set<Shared>> {
                self.sources.get(set as usize)
            }

            fn peers(&self, set: u32) -> Option<&Set<Shared>> {
                self.peers.get(set as usize)
            }
        }
    };
}

lists!(V4, 1, false, |V4(address)| u128::from(address));
lists!(V6, 2, true, |V6 { high, low }| u128::from(high) << 64 | u128::from(low));
