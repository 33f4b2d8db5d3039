//! A frame from the wire, judged by the lines that the kernel runs.

use std::cell::{Cell, OnceCell, RefCell};

use enforcer_ebpf::{
    Address, Bucket, Config, Entry, Event, Key4, Key6, Lengths, Lists, Mode, NEVER_NS, Packet,
    Reason, Shared, Tables, V4, V6, Verdict, judge,
};

const NOW_NS: u64 = 1_000_000_000_000;
const BLOCK_ID: u64 = 77;

/// Further out the kernel's half reads nothing, so nothing may be looked for there.
const FARTHEST: usize = 0x3fff;

/// Two bytes that say what is in force, then a frame.
///
/// The first byte is the mode in its lowest two bits, then whether the source is allowed, whether
/// its block has expired, whether it only observes, and three lengths that no block has any more.
/// The second is the number of host bits of the block. In every world one decision is counted once; a source that is blocked, and can be read, is
/// dropped in enforcing mode unless the network would break; a block of the neighbours hits nobody
/// else; and the second packet over a budget of one is dropped.
pub fn packet(bytes: &[u8]) {
    let [switches, host_bits, frame @ ..] = bytes else { return };
    let (asked, host_bits) = (Asked::new(*switches), u32::from(*host_bits));
    match look(frame) {
        Seen::V4(source, essential) => {
            let source = V4(u32::from_be_bytes(source));
            sent_by(source, host_bits % 33, &asked, frame, essential);
        }
        Seen::V6(source, essential) => {
            let source = V6::from_number(u128::from_be_bytes(source));
            sent_by(source, host_bits % 129, &asked, frame, essential);
        }
        Seen::Other => sent_by_nobody(&asked, frame, Reason::NotIp),
        Seen::Unreadable => sent_by_nobody(&asked, frame, Reason::Unreadable),
    }
}

/// What is in force for the source.
struct Asked {
    mode: u64,
    allowed: bool,
    expired: bool,
    observe: bool,
    /// Lengths that are looked for in vain.
    idle: [bool; 3],
}

impl Asked {
    fn new(switches: u8) -> Self {
        let is_set = |bit: u8| switches >> bit & 1 == 1;
        let mode = u64::from(switches & 3);
        Self {
            mode,
            allowed: is_set(2),
            expired: is_set(3),
            observe: is_set(4),
            idle: [is_set(5), is_set(6), is_set(7)],
        }
    }

    /// The same, with nothing that could spare the source.
    fn in_earnest(&self) -> Self {
        let mode = Mode::Enforce.word();
        Self { mode, allowed: false, expired: false, observe: false, ..*self }
    }

    /// The length of the block, and those of no block.
    fn lengths(&self, host_bits: u32, bits: u32) -> Lengths {
        let idle = [0, host_bits.saturating_sub(1), (host_bits + 1).min(bits)];
        let idle = idle.into_iter().zip(self.idle).filter(|(_, set)| *set);
        idle.fold(Lengths::of(host_bits), |all, (length, _)| all.union(Lengths::of(length)))
    }

    /// What a charge leads to; an unknown mode is the strictest.
    fn consequence(&self) -> Verdict {
        if self.mode >= Mode::Enforce.word() { Verdict::Drop } else { Verdict::Pass }
    }

    fn expected(&self, essential: bool) -> (Verdict, Reason) {
        match self {
            Self { mode: 0, .. } => (Verdict::Pass, Reason::Off),
            Self { expired: true, .. } => (Verdict::Pass, Reason::Clean),
            Self { allowed: true, .. } => (Verdict::Pass, Reason::Allowed),
            _ if essential => (Verdict::Pass, Reason::Essential),
            Self { observe: true, .. } => (Verdict::Pass, Reason::Blocked),
            _ => (self.consequence(), Reason::Blocked),
        }
    }
}

/// A frame without a source: no list matters.
fn sent_by_nobody(asked: &Asked, frame: &[u8], reason: Reason) {
    let world = World::empty(Config { mode: asked.mode, ..Config::default() });
    let expected = match (asked.mode, reason) {
        (0, _) => (Verdict::Pass, Reason::Off),
        (_, Reason::Unreadable) => (asked.consequence(), reason),
        (_, reason) => (Verdict::Pass, reason),
    };
    assert_eq!(world.judge(frame), expected);
    assert!(world.events.borrow().is_empty());
}

/// A frame with a source, in the world that was asked for and in others.
fn sent_by<A: Network>(source: A, host_bits: u32, asked: &Asked, frame: &[u8], essential: bool) {
    let world = World::blocking(asked, source, host_bits);
    let expected = asked.expected(essential);
    assert_eq!(world.judge(frame), expected);
    assert_eq!(world.judge(frame), expected, "a second look differs");

    let hits = if expected.1 == Reason::Blocked { 2 } else { 0 };
    let bytes = u64::try_from(frame.len()).unwrap_or_default();
    let counted =
        A::lists(&world).block.as_ref().map(|(_, entry)| (entry.packets.get(), entry.bytes.get()));
    assert_eq!(counted, Some((hits, hits * bytes)));
    let events = world.events.borrow();
    assert_eq!(events.len(), usize::from(hits > 0), "told more than once, or never");
    for event in events.iter() {
        assert!(event.is(expected.0) && event.because(expected.1));
        assert_eq!((event.id, event.at_ns, event.source), (BLOCK_ID, NOW_NS, source.padded()));
        assert_eq!((event.bits, event.length), (A::BITS, A::BITS - host_bits));
    }

    // Beside everybody there is nobody.
    if host_bits < A::BITS {
        let beside = A::from_number(source.number() ^ 1 << host_bits);
        let world = World::blocking(&asked.in_earnest(), beside, host_bits);
        assert_eq!(world.judge(frame), (Verdict::Pass, Reason::Clean), "a block of others");
    }
    once_a_second(frame, essential);
}

/// A budget of one packet, and no block.
fn once_a_second(frame: &[u8], essential: bool) {
    let config = Config { mode: Mode::Enforce.word(), ..Config::default() };
    let world = World::empty(config.with_budget(1, 1));
    let spared = (Verdict::Pass, Reason::Essential);
    let over = if essential { spared } else { (Verdict::Drop, Reason::Budget) };

    assert_eq!(world.judge(frame), (Verdict::Pass, Reason::Clean));
    assert_eq!(world.judge(frame), over);
    assert_eq!(world.events.borrow().len(), usize::from(!essential));
    world.now_ns.set(NOW_NS + 1_000_000_000);
    assert_eq!(world.judge(frame), (Verdict::Pass, Reason::Clean), "it never recovers");
}

/// What is there to be seen in a frame, by a reader in a hurry.
enum Seen {
    V4([u8; 4], bool),
    V6([u8; 16], bool),
    Other,
    Unreadable,
}

fn look(frame: &[u8]) -> Seen {
    let (Some(mut rest), mut tags) = (frame.get(12..), 0) else { return Seen::Unreadable };
    loop {
        let Some((kind, behind)) = rest.split_first_chunk() else { return Seen::Unreadable };
        match u16::from_be_bytes(*kind) {
            0x8100 | 0x88A8 | 0x9100 if tags < 2 => {
                tags += 1;
                rest = behind.get(2..).unwrap_or_default();
            }
            0x8100 | 0x88A8 | 0x9100 => return Seen::Unreadable,
            0x0800 => return look_v4(behind).unwrap_or(Seen::Unreadable),
            0x86DD => return look_v6(behind).unwrap_or(Seen::Unreadable),
            _ => return Seen::Other,
        }
    }
}

fn look_v4(packet: &[u8]) -> Option<Seen> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let [first, _, _, _, _, _, high, low, _, protocol, _, _, a, b, c, d, ..] = *header;
    if !(0x45..=0x4F).contains(&first) {
        return None;
    }
    let whole = u16::from_be_bytes([high, low]) & 0x3FFF == 0;
    let payload = packet.get(usize::from(first & 0x0F) * 4..).and_then(<[u8]>::first_chunk);
    let essential = match (protocol, payload) {
        (1, Some([3, 4, _, _])) => true,
        (17, Some([0, from, 0, to])) => [*from, *to].iter().all(|port| matches!(port, 67 | 68)),
        _ => false,
    };
    Some(Seen::V4([a, b, c, d], whole && essential))
}

fn look_v6(packet: &[u8]) -> Option<Seen> {
    let (header, mut rest) = packet.split_at_checked(40)?;
    let (from_here, source) = (header.get(7) == Some(&255), header.get(8..24)?);
    if header.first()? >> 4 != 6 {
        return None;
    }
    let mut protocol = *header.get(6)?;
    for _ in 0..6 {
        if let (0 | 43 | 60, [next, eights, ..]) = (protocol, rest) {
            protocol = *next;
            rest = rest.get(8 * (usize::from(*eights) + 1)..).unwrap_or_default();
        }
    }
    let essential = match (protocol, rest.first_chunk::<4>()) {
        (58, Some([2, ..])) => true,
        (58, Some([133..=137, ..])) => from_here,
        (17, Some([2, from, 2, to])) => [*from, *to].iter().all(|port| matches!(port, 34 | 35)),
        _ => false,
    };
    Some(Seen::V6(source.try_into().ok()?, essential))
}

/// Tables with one block, one allowed address and one bucket in each family.
struct World {
    config: Config<Shared>,
    now_ns: Cell<u64>,
    v4: One<V4>,
    v6: One<V6>,
    counts: RefCell<Vec<(Verdict, Reason, u64)>>,
    events: RefCell<Vec<Event>>,
}

struct One<A: Network> {
    block: Option<(A::Key, Entry<Shared>)>,
    allowed: Option<A>,
    bucket: OnceCell<(A::Payer, Bucket<Shared>)>,
}

/// An address that can be counted with.
trait Network: Address<Key: PartialEq, Payer: PartialEq> {
    fn number(self) -> u128;
    fn from_number(number: u128) -> Self;
    fn key(self, length: u32) -> Self::Key;
    fn with_lengths(lengths: Lengths) -> Config;
    fn lists(world: &World) -> &One<Self>;
    fn lists_mut(world: &mut World) -> &mut One<Self>;

    /// The network of this address that leaves so many host bits.
    fn around(self, host_bits: u32) -> Self::Key {
        let cut = self.number().checked_shr(host_bits).unwrap_or(0);
        let first = Self::from_number(cut.checked_shl(host_bits).unwrap_or(0));
        first.key(Self::BITS - host_bits)
    }
}

impl Network for V4 {
    fn number(self) -> u128 {
        self.0.into()
    }

    fn from_number(number: u128) -> Self {
        Self(u32::try_from(number).unwrap_or_default())
    }

    fn key(self, length: u32) -> Key4 {
        Key4 { address: self.0, length }
    }

    fn with_lengths(lengths: Lengths) -> Config {
        Config { lengths4: lengths, ..Config::default() }
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

    fn key(self, length: u32) -> Key6 {
        Key6 { high: self.high, low: self.low, length: length.into() }
    }

    fn with_lengths(lengths: Lengths) -> Config {
        Config { lengths6: lengths, ..Config::default() }
    }

    fn lists(world: &World) -> &One<Self> {
        &world.v6
    }

    fn lists_mut(world: &mut World) -> &mut One<Self> {
        &mut world.v6
    }
}

impl World {
    fn empty(config: Config) -> Self {
        let Config { mode, interval_ns, tolerance_ns, lengths4, lengths6 } = config;
        let config = Config {
            mode: Shared::new(mode),
            interval_ns: Shared::new(interval_ns),
            tolerance_ns: Shared::new(tolerance_ns),
            lengths4: Lengths(lengths4.0.map(Shared::new)),
            lengths6: Lengths(lengths6.0.map(Shared::new)),
        };
        Self {
            config,
            now_ns: Cell::new(NOW_NS),
            v4: One::empty(),
            v6: One::empty(),
            counts: RefCell::default(),
            events: RefCell::default(),
        }
    }

    /// A block around `network`, and what else was asked for.
    fn blocking<A: Network>(asked: &Asked, network: A, host_bits: u32) -> Self {
        let config = A::with_lengths(asked.lengths(host_bits, A::BITS));
        let mut world = Self::empty(Config { mode: asked.mode, ..config });
        let expires_ns = if asked.expired { NOW_NS } else { NEVER_NS };
        let words = [expires_ns, BLOCK_ID, asked.observe.into(), 0, 0, 0, 0].map(Shared::new);
        let [expires_ns, id, observe, packets, bytes, last_hit_ns, reported_ns] = words;
        let entry = Entry { expires_ns, id, observe, packets, bytes, last_hit_ns, reported_ns };
        let lists = A::lists_mut(&mut world);
        lists.block = Some((network.around(host_bits), entry));
        lists.allowed = asked.allowed.then_some(network);
        world
    }

    /// The verdict, with the reason that was counted for it.
    fn judge(&self, frame: &[u8]) -> (Verdict, Reason) {
        self.counts.borrow_mut().clear();
        let verdict = judge(&Frame(frame), self);
        match (verdict, self.counts.borrow().as_slice()) {
            (Some(verdict), [(counted, reason, bytes)]) => {
                assert_eq!((verdict, usize::try_from(*bytes)), (*counted, Ok(frame.len())));
                (verdict, *reason)
            }
            (verdict, counts) => panic!("{verdict:?}, counted as {counts:?}"),
        }
    }
}

impl Tables for World {
    type V4 = One<V4>;
    type V6 = One<V6>;

    fn config(&self) -> Option<&Config<Shared>> {
        Some(&self.config)
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn v4(&self) -> &One<V4> {
        &self.v4
    }

    fn v6(&self) -> &One<V6> {
        &self.v6
    }

    fn count(&self, verdict: Verdict, reason: Reason, bytes: u64) {
        self.counts.borrow_mut().push((verdict, reason, bytes));
    }

    fn report(&self, event: &Event) {
        self.events.borrow_mut().push(*event);
    }
}

impl<A: Network> One<A> {
    fn empty() -> Self {
        Self { block: None, allowed: None, bucket: OnceCell::new() }
    }
}

impl<A: Network> Lists<A> for One<A> {
    fn block(&self, network: &A::Key) -> Option<&Entry<Shared>> {
        self.block.as_ref().filter(|(key, _)| key == network).map(|(_, entry)| entry)
    }

    fn allows(&self, address: A) -> bool {
        self.allowed == Some(address)
    }

    fn bucket(&self, payer: &A::Payer) -> Option<&Bucket<Shared>> {
        self.bucket.get().filter(|(owner, _)| owner == payer).map(|(_, bucket)| bucket)
    }

    fn open_bucket(&self, payer: &A::Payer, bucket: Bucket) {
        let Bucket { spent_until_ns, reported_ns } = bucket;
        let bucket = Bucket {
            spent_until_ns: Shared::new(spent_until_ns),
            reported_ns: Shared::new(reported_ns),
        };
        assert!(self.bucket.set((*payer, bucket)).is_ok(), "one source pays twice");
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
}
