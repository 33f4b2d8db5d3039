//! A frame from the wire, judged by the lines that the kernel runs.

use std::cell::{Cell, OnceCell, RefCell};

use enforcer_ebpf::{
    Address, Bucket, Config, Entry, Event, Key, Lengths, Lists, Mode, NEVER_NS, Packet, Reason,
    Shared, Tables, V4, V6, Verdict, judge,
};

const NOW_NS: u64 = 1_000_000_000_000;
const BLOCK_ID: u64 = 77;

/// Further out the kernel's half reads nothing, so nothing may be looked for there.
const FARTHEST: usize = 0x3fff;

/// Two bytes that say what is in force, then a frame.
///
/// The first byte is the mode in its lowest two bits, then whether the source is allowed, whether
/// its block has expired, whether it only observes. The second is the number of host bits of the
/// block. In every world one decision is counted once; a source that is blocked, and can be read, is
/// dropped in enforcing mode unless the network would break; a block of the neighbours hits nobody
/// else; and the second packet over a budget of one is dropped.
pub fn packet(bytes: &[u8]) {
    let [switches, host_bits, frame @ ..] = bytes else { return };
    let asked = Asked::new(*switches);
    match look(frame) {
        Seen::V4(source, essential) => {
            let hit = World::around(&asked, V4(source), u32::from(*host_bits) % 33);
            family(hit, &asked, frame, essential);
        }
        Seen::V6(source, essential) => {
            let hit = World::around(&asked, V6(source), u32::from(*host_bits) % 129);
            family(hit, &asked, frame, essential);
        }
        Seen::Other => nameless(&asked, frame, Reason::NotIp),
        Seen::Unreadable => nameless(&asked, frame, Reason::Unreadable),
    }
}

/// What is in force for the source.
struct Asked {
    mode: u64,
    allowed: bool,
    expired: bool,
    observe: bool,
}

impl Asked {
    fn new(switches: u8) -> Self {
        let is_set = |bit: u8| switches >> bit & 1 == 1;
        Self {
            mode: u64::from(switches & 3),
            allowed: is_set(2),
            expired: is_set(3),
            observe: is_set(4),
        }
    }

    fn enforces(&self) -> bool {
        self.mode >= Mode::Enforce.word()
    }

    fn expected(&self, essential: bool) -> (Verdict, Reason) {
        let drops = if self.enforces() { Verdict::Drop } else { Verdict::Pass };
        match self {
            Self { mode: 0, .. } => (Verdict::Pass, Reason::Off),
            Self { expired: true, .. } => (Verdict::Pass, Reason::Clean),
            Self { allowed: true, .. } => (Verdict::Pass, Reason::Allowed),
            _ if essential => (Verdict::Pass, Reason::Essential),
            Self { observe: true, .. } => (Verdict::Pass, Reason::Blocked),
            _ => (drops, Reason::Blocked),
        }
    }
}

/// Frames without a source: no list matters.
fn nameless(asked: &Asked, frame: &[u8], reason: Reason) {
    let world = World::<V4>::empty(asked.mode);
    let expected = match (asked.mode, reason) {
        (0, _) => (Verdict::Pass, Reason::Off),
        (2.., Reason::Unreadable) => (Verdict::Drop, reason),
        _ => (Verdict::Pass, reason),
    };
    assert_eq!(world.judge(frame), expected);
    assert!(world.events.borrow().is_empty());
}

/// A frame with a source, in the world that was asked for and in two others.
fn family<A: Network>(hit: World<A>, asked: &Asked, frame: &[u8], essential: bool) {
    let expected = asked.expected(essential);
    assert_eq!(hit.judge(frame), expected);
    let told = u64::from(expected.1 == Reason::Blocked);
    let bytes = u64::try_from(frame.len()).unwrap_or_default();
    if let Some((key, entry)) = &hit.lists.block {
        assert_eq!((entry.packets.get(), entry.bytes.get()), (told, told * bytes));
        for event in hit.events.borrow().iter() {
            assert!(event.is(expected.0) && event.because(Reason::Blocked));
            assert_eq!((event.id, event.at_ns), (BLOCK_ID, NOW_NS));
            assert_eq!((event.bits, event.length), (A::BITS, key.length));
            assert_eq!(A::read(event.source), hit.source);
        }
    }
    assert_eq!(hit.judge(frame), expected, "a second look differs");
    assert_eq!(hit.events.borrow().len(), usize::from(told == 1), "told more than once");

    if let Some(source) = hit.source {
        let neighbours = hit.around_neighbours(source);
        if let Some(world) = neighbours {
            assert_eq!(world.judge(frame), (Verdict::Pass, Reason::Clean), "a neighbour's block");
        }
        budget(source, frame, essential);
    }
}

fn budget<A: Network>(source: A, frame: &[u8], essential: bool) {
    let mut world = World::empty(Mode::Enforce.word());
    world.source = Some(source);
    let once = Config { mode: Mode::Enforce.word(), ..Config::default() }.with_budget(1, 1);
    world.config = shared(once);
    let spared = (Verdict::Pass, Reason::Essential);
    let over = if essential { spared } else { (Verdict::Drop, Reason::Budget) };

    assert_eq!(world.judge(frame), (Verdict::Pass, Reason::Clean));
    assert_eq!(world.judge(frame), over);
    world.now_ns.set(NOW_NS + 1_000_000_000);
    assert_eq!(world.judge(frame), (Verdict::Pass, Reason::Clean), "the budget never recovers");
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
        (1, Some([3, 4, ..])) => true,
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

/// Tables with one block, one allowed address and one bucket, all about one source.
struct World<A: Network> {
    config: Config<Shared>,
    now_ns: Cell<u64>,
    source: Option<A>,
    lists: One<A>,
    counts: RefCell<Vec<(Verdict, Reason, u64)>>,
    events: RefCell<Vec<Event>>,
}

struct One<A: Network> {
    block: Option<(Key<A>, Entry<Shared>)>,
    allowed: Option<A>,
    bucket: OnceCell<(A::Payer, Bucket<Shared>)>,
}

/// An address that this file can count with.
trait Network: Address<Payer: PartialEq> {
    /// In the low bits.
    fn number(self) -> u128;
    fn of(number: u128) -> Self;
    fn configure(lengths: Lengths) -> Config;
    fn read(octets: [u8; 16]) -> Option<Self>;

    /// The network of this address with so many host bits.
    fn key(self, host_bits: u32) -> Key<Self> {
        let cut = self.number().checked_shr(host_bits).unwrap_or(0);
        let address = Self::of(cut.checked_shl(host_bits).unwrap_or(0));
        Key { length: Self::BITS - host_bits, address }
    }
}

impl Network for V4 {
    fn number(self) -> u128 {
        u32::from_be_bytes(self.0).into()
    }

    fn of(number: u128) -> Self {
        Self(u32::try_from(number).unwrap_or_default().to_be_bytes())
    }

    fn configure(lengths: Lengths) -> Config {
        Config { lengths4: lengths.0, ..Config::default() }
    }

    fn read([a, b, c, d, rest @ ..]: [u8; 16]) -> Option<Self> {
        (rest == [0; 12]).then_some(Self([a, b, c, d]))
    }
}

impl Network for V6 {
    fn number(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    fn of(number: u128) -> Self {
        Self(number.to_be_bytes())
    }

    fn configure(lengths: Lengths) -> Config {
        Config { lengths6: lengths.0, ..Config::default() }
    }

    fn read(octets: [u8; 16]) -> Option<Self> {
        Some(Self(octets))
    }
}

impl<A: Network> World<A> {
    fn empty(mode: u64) -> Self {
        Self {
            config: shared(Config { mode, ..Config::default() }),
            now_ns: Cell::new(NOW_NS),
            source: None,
            lists: One { block: None, allowed: None, bucket: OnceCell::new() },
            counts: RefCell::default(),
            events: RefCell::default(),
        }
    }

    fn around(asked: &Asked, source: A, host_bits: u32) -> Self {
        let mut world = Self::empty(asked.mode);
        let config = A::configure(Lengths::of(host_bits));
        world.config = shared(Config { mode: asked.mode, ..config });
        let expires_ns = if asked.expired { NOW_NS } else { NEVER_NS };
        let [zero, none, never] = [0, 0, 0].map(Shared::new);
        let entry = Entry {
            expires_ns: Shared::new(expires_ns),
            id: Shared::new(BLOCK_ID),
            observe: Shared::new(asked.observe.into()),
            packets: zero,
            bytes: none,
            last_hit_ns: never,
            reported_ns: Shared::new(0),
        };
        world.lists.block = Some((source.key(host_bits), entry));
        world.lists.allowed = asked.allowed.then_some(source);
        world.source = Some(source);
        world
    }

    /// A block of the same size beside the one of this world; none beside everybody.
    fn around_neighbours(&self, source: A) -> Option<Self> {
        let (key, _) = self.lists.block.as_ref()?;
        let host_bits = A::BITS - key.length;
        let beside = A::of(source.number() ^ 1u128.checked_shl(host_bits)?);
        if key.length == 0 {
            return None;
        }
        let asked =
            Asked { mode: Mode::Enforce.word(), allowed: false, expired: false, observe: false };
        Some(Self::around(&asked, beside, host_bits))
    }

    /// The verdict with the reason that was counted for it.
    fn judge(&self, frame: &[u8]) -> (Verdict, Reason) {
        self.counts.borrow_mut().clear();
        let verdict = judge(&Frame(frame), self);
        let counts = self.counts.borrow();
        match (verdict, counts.as_slice()) {
            (Some(verdict), [(counted, reason, bytes)]) => {
                assert_eq!(verdict, *counted);
                assert_eq!(usize::try_from(*bytes), Ok(frame.len()));
                (verdict, *reason)
            }
            (verdict, counts) => panic!("{verdict:?}, counted as {counts:?}"),
        }
    }
}

fn shared(config: Config) -> Config<Shared> {
    let Config { mode, interval_ns, tolerance_ns, lengths4, lengths6 } = config;
    Config {
        mode: Shared::new(mode),
        interval_ns: Shared::new(interval_ns),
        tolerance_ns: Shared::new(tolerance_ns),
        lengths4: lengths4.map(Shared::new),
        lengths6: lengths6.map(Shared::new),
    }
}

struct Frame<'b>(&'b [u8]);

impl Packet for Frame<'_> {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        assert!(offset <= FARTHEST, "the kernel's half does not read at {offset}");
        self.0.get(offset..)?.first_chunk().copied()
    }

    fn length(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }
}

/// Each family's lists; those of the other family are empty.
impl<A: Network> Tables for World<A>
where
    One<A>: Lists<V4> + Lists<V6>,
{
    type V4 = One<A>;
    type V6 = One<A>;

    fn config(&self) -> Option<&Config<Shared>> {
        Some(&self.config)
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn v4(&self) -> &One<A> {
        &self.lists
    }

    fn v6(&self) -> &One<A> {
        &self.lists
    }

    fn count(&self, verdict: Verdict, reason: Reason, bytes: u64) {
        self.counts.borrow_mut().push((verdict, reason, bytes));
    }

    fn report(&self, event: &Event) {
        self.events.borrow_mut().push(*event);
    }
}
