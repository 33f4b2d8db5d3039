//! The tables of a verdict as maps. Sizes are for a program loaded by hand; the agent sets its own.
//!
//! A hash map hands out the memory of a removed element again at once, so a packet that races with
//! a change of the very block that it met can be judged by the element's next owner. Every value is
//! made of whole words and every owner is a block in force, so such a packet is judged wrongly at
//! worst as it would have been a microsecond earlier or later.

#![expect(unsafe_code, reason = "map values are shared with other CPUs and the agent")]

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use enforcer_ebpf::{
    Address, Bucket, COUNTERS, Config, Counter, EVENT_BYTES, Entry, Event, Key4, Key6, LOST_EVENTS,
    Lists, MAX_ALLOW, Reason, Shared, Tables, V4, V6, Verdict, counter_index,
};

const CAPACITY: u32 = 65_536;

#[map]
static ALLOW4: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(MAX_ALLOW, 0);
#[map]
static ALLOW6: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(MAX_ALLOW, 0);
#[map]
static BLOCK4: HashMap<Key4, Entry<Shared>> = HashMap::with_max_entries(CAPACITY, 0);
#[map]
static BLOCK6: HashMap<Key6, Entry<Shared>> = HashMap::with_max_entries(CAPACITY, 0);
#[map]
static CONFIG: Array<Config<Shared>> = Array::with_max_entries(1, 0);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES, 0);
#[map]
static SOURCE4: LruHashMap<u32, Bucket<Shared>> = LruHashMap::with_max_entries(CAPACITY, 0);
#[map]
static SOURCE6: LruHashMap<u64, Bucket<Shared>> = LruHashMap::with_max_entries(CAPACITY, 0);
#[map]
static STATS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(COUNTERS, 0);

pub(crate) struct Maps {
    v4: Family<V4>,
    v6: Family<V6>,
}

pub(crate) struct Family<A: Address> {
    allow: &'static LpmTrie<A::Octets, u32>,
    blocks: &'static HashMap<A::Key, Entry<Shared>>,
    sources: &'static LruHashMap<A::Payer, Bucket<Shared>>,
}

impl Maps {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self {
            v4: Family { allow: &ALLOW4, blocks: &BLOCK4, sources: &SOURCE4 },
            v6: Family { allow: &ALLOW6, blocks: &BLOCK6, sources: &SOURCE6 },
        }
    }
}

impl Tables for Maps {
    type V4 = Family<V4>;
    type V6 = Family<V6>;

    #[inline(always)]
    fn config(&self) -> Option<&Config<Shared>> {
        CONFIG.get(0)
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: takes nothing and returns a number.
        unsafe { bpf_ktime_get_boot_ns() }
    }

    #[inline(always)]
    fn v4(&self) -> &Family<V4> {
        &self.v4
    }

    #[inline(always)]
    fn v6(&self) -> &Family<V6> {
        &self.v6
    }

    #[inline(always)]
    fn count(&self, verdict: Verdict, reason: Reason, bytes: u64) {
        add(counter_index(verdict, reason), bytes);
    }

    #[inline(always)]
    fn report(&self, event: &Event) {
        if EVENTS.output::<Event>(event, 0).is_err() {
            add(LOST_EVENTS, 0);
        }
    }
}

impl<A: Address> Lists<A> for Family<A> {
    #[inline(always)]
    fn block(&self, network: &A::Key) -> Option<&Entry<Shared>> {
        // SAFETY: the value is made of atomic words, so whoever writes it meanwhile, each read is
        // of a whole word; see the head of this file for an element that changes its owner.
        unsafe { self.blocks.get(network) }
    }

    #[inline(always)]
    fn allows(&self, address: A) -> bool {
        self.allow.get(lpm_trie::Key::new(A::BITS, address.octets())).is_some()
    }

    #[inline(always)]
    fn bucket(&self, payer: &A::Payer) -> Option<&Bucket<Shared>> {
        // SAFETY: as above.
        unsafe { self.sources.get(payer) }
    }

    #[inline(always)]
    fn open_bucket(&self, payer: &A::Payer, bucket: Bucket) {
        let Bucket { spent_until_ns, reported_ns } = bucket;
        let bucket = Bucket {
            spent_until_ns: Shared::new(spent_until_ns),
            reported_ns: Shared::new(reported_ns),
        };
        // No room even after the kernel threw out the oldest: the source goes unmetered, which is
        // what it is without a budget.
        let _ = self.sources.insert(payer, bucket, 0);
    }
}

#[inline(always)]
fn add(index: u32, bytes: u64) {
    if let Some(counter) = STATS.get_ptr_mut(index) {
        // SAFETY: a per-CPU value, and no other program runs on this CPU meanwhile.
        let counter = unsafe { &mut *counter };
        counter.packets = counter.packets.wrapping_add(1);
        counter.bytes = counter.bytes.wrapping_add(bytes);
    }
}
