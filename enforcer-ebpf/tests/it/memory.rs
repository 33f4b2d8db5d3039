//! The tables of a verdict in ordinary memory, with a clock that stands until it is moved.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::Hash;

use enforcer_ebpf::{
    Address, Bucket, Config, Entry, Event, Key4, Key6, Lengths, Lists, Packet, Reason, Shared,
    Tables, V4, V6, Verdict, judge,
};

pub struct Memory {
    pub config: Config<Shared>,
    pub now_ns: Cell<u64>,
    pub v4: Family<V4>,
    pub v6: Family<V6>,
    pub counts: RefCell<HashMap<(Verdict, Reason), (u64, u64)>>,
    pub events: RefCell<Vec<Event>>,
}

pub struct Family<A: Address> {
    pub blocks: HashMap<A::Key, Entry<Shared>>,
    pub allow: Vec<A::Key>,
    /// Leaked: a bucket stays where it is while others come.
    buckets: RefCell<HashMap<A::Payer, &'static Bucket<Shared>>>,
}

pub struct Bytes<'b>(pub &'b [u8]);

impl Memory {
    pub fn new(config: Config) -> Self {
        let shared = |lengths: Lengths| Lengths(lengths.0.map(Shared::new));
        Self {
            config: Config {
                mode: Shared::new(config.mode),
                interval_ns: Shared::new(config.interval_ns),
                tolerance_ns: Shared::new(config.tolerance_ns),
                lengths4: shared(config.lengths4),
                lengths6: shared(config.lengths6),
            },
            now_ns: Cell::new(1_000_000_000_000),
            v4: Family::new(),
            v6: Family::new(),
            counts: RefCell::default(),
            events: RefCell::default(),
        }
    }

    pub fn judge(&self, frame: &[u8]) -> Verdict {
        judge(&Bytes(frame), self).unwrap()
    }

    /// The verdict with its reason, which is the counter that went up.
    pub fn judge_with_reason(&self, frame: &[u8]) -> (Verdict, Reason) {
        let before = self.counts.borrow().clone();
        let verdict = self.judge(frame);
        let counts = self.counts.borrow();
        let mut grown = counts.iter().filter(|(pair, count)| before.get(*pair) != Some(*count));
        let ((counted, reason), _) = grown.next().unwrap();
        assert_eq!((*counted, grown.next()), (verdict, None));
        (verdict, *reason)
    }
}

impl<A: Address> Family<A>
where
    A::Key: Eq + Hash,
    A::Payer: Eq + Hash,
{
    fn new() -> Self {
        Self { blocks: HashMap::new(), allow: Vec::new(), buckets: RefCell::default() }
    }
}

/// A block as the agent writes it.
pub fn entry(expires_ns: u64, id: u64, observe: bool) -> Entry<Shared> {
    let image = Entry { expires_ns, id, observe: u64::from(observe), ..Entry::default() };
    let [expires_ns, id, observe, packets, bytes, last_hit_ns, reported_ns] =
        image.to_words().map(Shared::new);
    Entry { expires_ns, id, observe, packets, bytes, last_hit_ns, reported_ns }
}

impl Packet for Bytes<'_> {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..)?.first_chunk().copied()
    }

    fn length(&self) -> u64 {
        self.0.len() as u64
    }
}

impl Tables for Memory {
    type V4 = Family<V4>;
    type V6 = Family<V6>;

    fn config(&self) -> Option<&Config<Shared>> {
        Some(&self.config)
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn v4(&self) -> &Family<V4> {
        &self.v4
    }

    fn v6(&self) -> &Family<V6> {
        &self.v6
    }

    fn count(&self, verdict: Verdict, reason: Reason, bytes: u64) {
        let mut counts = self.counts.borrow_mut();
        let (packets, total) = counts.entry((verdict, reason)).or_default();
        *packets += 1;
        *total += bytes;
    }

    fn report(&self, event: &Event) {
        self.events.borrow_mut().push(*event);
    }
}

impl<A: Address> Lists<A> for Family<A>
where
    A::Key: Length + Eq + Hash,
    A::Payer: Eq + Hash,
{
    fn block(&self, network: &A::Key) -> Option<&Entry<Shared>> {
        self.blocks.get(network)
    }

    fn allows(&self, address: A) -> bool {
        self.allow.iter().any(|network| address.network(A::BITS - network.length()) == *network)
    }

    fn bucket(&self, payer: &A::Payer) -> Option<&Bucket<Shared>> {
        self.buckets.borrow().get(payer).copied()
    }

    fn open_bucket(&self, payer: &A::Payer, bucket: Bucket) {
        let Bucket { spent_until_ns, reported_ns } = bucket;
        let bucket = Box::leak(Box::new(Bucket {
            spent_until_ns: Shared::new(spent_until_ns),
            reported_ns: Shared::new(reported_ns),
        }));
        self.buckets.borrow_mut().insert(*payer, bucket);
    }
}

/// Fixed bits of a network.
pub trait Length {
    fn length(&self) -> u32;
}

impl Length for Key4 {
    fn length(&self) -> u32 {
        self.length
    }
}

impl Length for Key6 {
    fn length(&self) -> u32 {
        self.length as u32
    }
}
