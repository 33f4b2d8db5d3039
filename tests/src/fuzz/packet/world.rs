//! The tables of a verdict, as small as they can be: one of everything.

use std::cell::{Cell, RefCell};

use enforcer_ebpf::escalation::Escalation;
use enforcer_ebpf::flood::State;
use enforcer_ebpf::table::{Hits, Meta, PROBES, Row, Slots, TICK_NS};
use enforcer_ebpf::{
    Address, Class, Config, Direction, Event, Lengths, Lists, NEVER_NS, Packet, Ports, Reason, Set,
    Shared, TableWord, Tables, Transport, V4, V6, Verdict, flag, judge_incoming, judge_outgoing,
    transport,
};

use super::Asked;

pub(super) const NOW_NS: u64 = TICK_NS * 1000;
const BLOCK_ID: u64 = 77;

/// Further out the kernel's half reads nothing, so nothing may be looked for there.
const FARTHEST: usize = 0x3fff;

/// Tables with one block, one allowed address and one source in each family.
pub(super) struct World {
    config: Config<Shared>,
    pub(super) now_ns: Cell<u64>,
    v4: One<V4>,
    v6: One<V6>,
    class: Class<Shared>,
    state: State<Shared>,
    common: Shared,
    reported: Shared,
    counts: RefCell<Vec<(Direction, Verdict, Reason, u64)>>,
    pub(super) events: RefCell<Vec<Event>>,
}

pub(super) struct One<A: Address> {
    rows: Vec<A::Row>,
    /// Whatever it is asked for may be blocked.
    prefilter: Shared,
    allowed: Option<A>,
    sources: Set<Shared>,
}

/// An address that can be counted with.
pub(super) trait Network: Address<Row: Cells> {
    fn number(self) -> u128;
    fn from_number(number: u128) -> Self;
    fn with_lengths(lengths: Lengths, table: u64) -> Config;
    fn lists(world: &World) -> &One<Self>;
    fn lists_mut(world: &mut World) -> &mut One<Self>;
}

/// A row with one block in it.
pub(super) trait Cells: Slots {
    fn with(key: Self::Key, meta: u64) -> Self;
    fn hits(&self) -> (u64, u64);
}

impl<const N: usize> Cells for Row<N, Shared> {
    fn with(key: [u64; N], meta: u64) -> Self {
        let four = |word: u64| [word, 0, 0, 0].map(Shared::new);
        let hits = [BLOCK_ID, 0, 0, 0].map(|id| Hits { id: Shared::new(id), ..Hits::default() });
        Self { meta: four(meta), key: key.map(four), hits }
    }

    fn hits(&self) -> (u64, u64) {
        let [Hits { packets, bytes, .. }, ..] = &self.hits;
        (packets.get(), bytes.get())
    }
}

impl Network for V4 {
    fn number(self) -> u128 {
        self.0.into()
    }

    fn from_number(number: u128) -> Self {
        Self(u32::try_from(number).unwrap_or_default())
    }

    fn with_lengths(lengths4: Lengths, table4: u64) -> Config {
        Config { lengths4, table4, ..Config::default() }
    }

    fn lists(world: &World) -> &One<Self> {
        &world.v4
    }

    fn lists_mut(world: &mut World) -> &mut One<Self> {
        &mut world.v4
    }
}

impl Network for V6 {
    fn number(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    fn from_number(number: u128) -> Self {
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        Self { high: half(number >> 64), low: half(number) }
    }

    fn with_lengths(lengths6: Lengths, table6: u64) -> Config {
        Config { lengths6, table6, ..Config::default() }
    }

    fn lists(world: &World) -> &One<Self> {
        &world.v6
    }

    fn lists_mut(world: &mut World) -> &mut One<Self> {
        &mut world.v6
    }
}

impl World {
    /// Everybody may send one packet a second, if there are budgets.
    pub(super) fn new(config: Config) -> Self {
        let words = config.to_words().map(Shared::new);
        let [packet_cost, packet_tolerance, ..] = Class::NONE.packets(1, 1).to_words();
        Self {
            config: config_of(words),
            now_ns: Cell::new(NOW_NS),
            v4: One::empty(),
            v6: One::empty(),
            class: Class {
                packet_cost: Shared::new(packet_cost),
                packet_tolerance: Shared::new(packet_tolerance),
                ..Class::default()
            },
            state: State::default(),
            common: Shared::default(),
            reported: Shared::default(),
            counts: RefCell::default(),
            events: RefCell::default(),
        }
    }

    /// A block around `network`, and what else was asked for.
    pub(super) fn blocking<A: Network>(asked: &Asked, network: A, host_bits: u32) -> Self {
        // One home row: everything is in the first.
        let table = TableWord { index: 0, rows: 1 };
        let config = A::with_lengths(asked.lengths(host_bits, A::BITS), table.word());
        let mut world = Self::new(Config { mode: asked.mode, flags: flag::CONTAIN, ..config });
        let expires_ns = if asked.expired { NOW_NS } else { NEVER_NS };
        let observe = if asked.observe { Meta::OBSERVE } else { 0 };
        let length = u8::try_from(A::BITS - host_bits).unwrap_or_default();
        let meta = Meta::new(length, expires_ns, observe | Meta::CONTAIN);
        let nothing = || Cells::with(A::from_number(0).network(A::BITS), 0);
        let lists = A::lists_mut(&mut world);
        lists.rows = vec![Cells::with(network.network(host_bits), meta.0)];
        lists.rows.extend((1..PROBES).map(|_| nothing()));
        lists.allowed = asked.allowed.then_some(network);
        world
    }

    /// The verdict, with the reason that was counted for it.
    pub(super) fn judge(&self, direction: Direction, frame: &[u8]) -> (Verdict, Reason) {
        self.counts.borrow_mut().clear();
        let verdict = match direction {
            Direction::In => judge_incoming(&Frame(frame), self),
            Direction::Out => judge_outgoing(&Frame(frame), self),
        };
        match (verdict, self.counts.borrow().as_slice()) {
            (Some(verdict), [(way, counted, reason, bytes)]) => {
                let told = (*way, *counted, usize::try_from(*bytes));
                assert_eq!((direction, verdict, Ok(frame.len())), told);
                (verdict, *reason)
            }
            (verdict, counts) => panic!("{verdict:?}, counted as {counts:?}"),
        }
    }

    /// Packets that met the block, and their bytes.
    pub(super) fn hits<A: Network>(&self) -> (u64, u64) {
        A::lists(self).rows.first().map(Cells::hits).unwrap_or_default()
    }

    /// The agent was told of this once, or never.
    pub(super) fn has_told<A: Network>(
        &self,
        (verdict, reason): (Verdict, Reason),
        once: bool,
        direction: Direction,
        peer: A,
        host_bits: u32,
    ) {
        let events = self.events.borrow();
        assert_eq!(events.len(), usize::from(once), "told more than once, or never");
        for event in events.iter() {
            assert!(event.is(verdict) && event.because(reason) && event.went(direction));
            assert_eq!((event.id, event.at_ns, event.peer), (BLOCK_ID, NOW_NS, peer.padded()));
            assert_eq!((event.bits, event.length), (A::BITS, A::BITS - host_bits));
        }
    }
}

fn config_of(words: [Shared; 23]) -> Config<Shared> {
    let [
        mode,
        lease_ns,
        seed,
        more,
        table4,
        table6,
        a,
        b,
        c,
        d,
        e,
        f,
        source4_mask,
        source6_mask,
        flags,
        ports,
        others,
        class_generation,
        flood_per_second,
        escalate_after,
        escalate_within_ns,
        escalate_for_ns,
        test_clock_ns,
    ] = words;
    Config {
        mode,
        lease_ns,
        seed: [seed, more],
        table4,
        table6,
        lengths4: Lengths([a, b, c]),
        lengths6: Lengths([d, e, f]),
        source4_mask,
        source6_mask,
        flags,
        ports: Ports([ports, others]),
        class_generation,
        flood_per_second,
        escalate_after,
        escalate_within_ns,
        escalate_for_ns,
        test_clock_ns,
    }
}

impl Tables for World {
    type V4 = One<V4>;
    type V6 = One<V6>;

    fn config(&self) -> Option<&Config<Shared>> {
        Some(&self.config)
    }

    fn boot_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn boot_coarse_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn monotonic_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn coarse_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn v4(&self) -> &One<V4> {
        &self.v4
    }

    fn v6(&self) -> &One<V6> {
        &self.v6
    }

    fn class(&self, number: u64) -> Option<&Class<Shared>> {
        (number == 0).then_some(&self.class)
    }

    fn state(&self) -> Option<&State<Shared>> {
        Some(&self.state)
    }

    fn common(&self, _: u32) -> Option<&Shared> {
        Some(&self.common)
    }

    fn escalation(&self, _: u32) -> Option<&Escalation<Shared>> {
        None
    }

    fn reported(&self, _: u32) -> Option<&Shared> {
        Some(&self.reported)
    }

    fn count(&self, direction: Direction, verdict: Verdict, reason: Reason, bytes: u64) {
        self.counts.borrow_mut().push((direction, verdict, reason, bytes));
    }

    fn report(&self, event: &Event) {
        self.events.borrow_mut().push(*event);
    }

    fn lose(&self) {
        panic!("one event is not too much");
    }
}

impl<A: Address> One<A> {
    fn empty() -> Self {
        let prefilter = Shared::new(u64::MAX);
        Self { rows: Vec::new(), prefilter, allowed: None, sources: Set::default() }
    }
}

impl<A: Address> Lists<A> for One<A> {
    fn row(&self, table: u32, index: u32) -> Option<&A::Row> {
        assert_eq!(table, 0, "the other table is not in force");
        self.rows.get(usize::try_from(index).ok()?)
    }

    fn prefilter(&self, _: u32) -> Option<&Shared> {
        Some(&self.prefilter)
    }

    fn allows(&self, address: A) -> bool {
        self.allowed == Some(address)
    }

    fn class(&self, _: A) -> Option<u32> {
        None
    }

    fn sources(&self, set: u32) -> Option<&Set<Shared>> {
        (set == 0).then_some(&self.sources)
    }

    fn peers(&self, _: u32) -> Option<&Set<Shared>> {
        None
    }
}

struct Frame<'b>(&'b [u8]);

impl Packet for Frame<'_> {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        assert!(offset <= FARTHEST, "the kernel's half reads nothing at {offset}");
        self.0.get(offset..)?.first_chunk().copied()
    }

    fn length(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    fn transport(&self) -> Transport {
        transport::read(self)
    }
}
