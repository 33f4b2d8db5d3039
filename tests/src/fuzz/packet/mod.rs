//! A frame from the wire, judged by the lines that the kernel runs.

mod look;
mod world;

use enforcer_ebpf::{Config, Direction, Lengths, Mode, Reason, V4, V6, Verdict, flag};

use look::{Facts, Seen, look};
use world::{NOW_NS, Network, World};

/// Two bytes that say what is in force, then a frame.
///
/// The first byte is the mode in its lowest two bits, then whether the address is allowed, whether
/// its block has expired, whether it only observes, and three lengths that no block has any more.
/// The second is the number of host bits of the block. In every world one decision is counted once,
/// each way; a peer that is blocked, and can be read, is dropped in enforcing mode, from here and to
/// it, unless the network would break; a block of the neighbours hits nobody else; and the second
/// packet over a budget of one is dropped.
pub fn packet(bytes: &[u8]) {
    let [switches, host_bits, frame @ ..] = bytes else { return };
    let (asked, host_bits) = (Asked::new(*switches), u32::from(*host_bits));
    match look(frame) {
        Seen::V4(ends, facts) => {
            let [source, destination] = ends.map(|it| V4(u32::from_be_bytes(it)));
            sent_by(source, host_bits % 33, &asked, frame, facts);
            sent_to(destination, host_bits % 33, &asked, frame, facts);
        }
        Seen::V6(ends, facts) => {
            let [source, destination] = ends.map(|it| V6::from_number(u128::from_be_bytes(it)));
            sent_by(source, host_bits % 129, &asked, frame, facts);
            sent_to(destination, host_bits % 129, &asked, frame, facts);
        }
        Seen::Other => between_nobody(&asked, frame, Reason::NotIp),
        Seen::Unreadable => between_nobody(&asked, frame, Reason::Unreadable),
    }
}

/// What is in force for the peer.
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

    /// The same, with nothing that could spare the peer.
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

    /// What becomes of a packet that meets the block.
    fn expected(&self, charge: Reason, essential: bool) -> (Verdict, Reason) {
        match self {
            Self { mode: 0, .. } => (Verdict::Pass, Reason::Off),
            Self { expired: true, .. } => (Verdict::Pass, Reason::Clean),
            Self { allowed: true, .. } => (Verdict::Pass, Reason::Allowed),
            _ if essential => (Verdict::Pass, Reason::Essential),
            Self { observe: true, .. } => (Verdict::Pass, charge),
            _ => (self.consequence(), charge),
        }
    }
}

/// A frame without addresses: no list matters.
fn between_nobody(asked: &Asked, frame: &[u8], reason: Reason) {
    let world = World::new(Config { mode: asked.mode, ..Config::default() });
    let (incoming, outgoing) = match (asked.mode, reason) {
        (0, _) => ((Verdict::Pass, Reason::Off), (Verdict::Pass, Reason::Off)),
        (_, Reason::Unreadable) => ((asked.consequence(), reason), (Verdict::Pass, reason)),
        (_, reason) => ((Verdict::Pass, reason), (Verdict::Pass, reason)),
    };
    assert_eq!(world.judge(Direction::In, frame), incoming);
    assert_eq!(world.judge(Direction::Out, frame), outgoing);
    assert!(world.events.borrow().is_empty());
}

/// A frame with a source, in the world that was asked for and in others.
fn sent_by<A: Network>(source: A, host_bits: u32, asked: &Asked, frame: &[u8], facts: Facts) {
    let world = World::blocking(asked, source, host_bits);
    let expected = asked.expected(Reason::Blocked, facts.essential);
    assert_eq!(world.judge(Direction::In, frame), expected);
    assert_eq!(world.judge(Direction::In, frame), expected, "a second look differs");

    let hits = if expected.1 == Reason::Blocked { 2 } else { 0 };
    let bytes = u64::try_from(frame.len()).unwrap_or_default();
    assert_eq!(world.hits::<A>(), (hits, hits * bytes));
    world.has_told(expected, hits > 0, Direction::In, source, host_bits);

    // Beside everybody there is nobody.
    if host_bits < A::BITS {
        let beside = A::from_number(source.number() ^ 1 << host_bits);
        let world = World::blocking(&asked.in_earnest(), beside, host_bits);
        let clean = (Verdict::Pass, Reason::Clean);
        assert_eq!(world.judge(Direction::In, frame), clean, "a block of others");
    }
    once_a_second(frame, facts.essential);
}

/// The same frame on its way out.
fn sent_to<A: Network>(destination: A, host_bits: u32, asked: &Asked, frame: &[u8], facts: Facts) {
    let world = World::blocking(asked, destination, host_bits);
    let essential = facts.essential || facts.resets;
    let expected = asked.expected(Reason::Contained, essential);
    assert_eq!(world.judge(Direction::Out, frame), expected);
    assert_eq!(world.judge(Direction::Out, frame), expected, "a second look differs");

    assert_eq!(world.hits::<A>(), (0, 0), "what we send counts against nobody");
    let told = expected.1 == Reason::Contained;
    world.has_told(expected, told, Direction::Out, destination, host_bits);
}

/// A budget of one packet, and no block.
fn once_a_second(frame: &[u8], essential: bool) {
    let config = Config { mode: Mode::Enforce.word(), flags: flag::BUDGETS, ..Config::default() };
    let world = World::new(config);
    let spared = (Verdict::Pass, Reason::Essential);
    let over = if essential { spared } else { (Verdict::Drop, Reason::Budget) };

    assert_eq!(world.judge(Direction::In, frame), (Verdict::Pass, Reason::Clean));
    assert_eq!(world.judge(Direction::In, frame), over);
    assert_eq!(world.events.borrow().len(), usize::from(!essential));
    world.now_ns.set(NOW_NS + 1_000_000_000);
    let again = world.judge(Direction::In, frame);
    assert_eq!(again, (Verdict::Pass, Reason::Clean), "it never recovers");
}
