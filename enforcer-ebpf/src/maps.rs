//! The tables of a verdict as maps. Sizes are for a program loaded by hand; the agent sets its own.

#![expect(unsafe_code, reason = "map values are shared with other CPUs and the agent")]

use core::ptr;

use aya_ebpf::btf_maps::{Array, ArrayOfMaps, LpmTrie, PerCpuArray, RingBuf, lpm_trie};
use aya_ebpf::helpers::{bpf_ktime_get_boot_ns, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};
use aya_ebpf::macros::btf_map;
use enforcer_ebpf::escalation::{Escalation, PLACES};
use enforcer_ebpf::events::REPORTS;
use enforcer_ebpf::flood::{COLUMNS, ROWS, State};
use enforcer_ebpf::prefilter::{WORDS4, WORDS6};
use enforcer_ebpf::quarantine::{self, Position};
use enforcer_ebpf::source::{CLASSES, PEER_SETS};
use enforcer_ebpf::table::MOMENT_NS;
use enforcer_ebpf::{
    Address, COUNTERS, Class, Config, Counter, Direction, EVENT_BYTES, Event, LOST_EVENTS, Lists,
    MAX_NETWORKS, Reason, Row4, Row6, Set, Shared, Tables, V4, V6, Verdict, counter_index, map,
};

const MMAPABLE: usize = map::MMAPABLE as usize;
const TABLE: usize = (map::MMAPABLE | map::INNER) as usize;
const NETWORKS: usize = MAX_NETWORKS as usize;
const WORDS: usize = WORDS4 as usize;
const SETS: usize = 16_384;

type Words<const N: usize> = Array<Shared, N, MMAPABLE>;
type Sets<const N: usize> = Array<Set<Shared>, N, MMAPABLE>;
type Networks<K> = LpmTrie<K, u32, NETWORKS>;
type Table<R> = ArrayOfMaps<Array<R, 1, TABLE>, 2>;

#[btf_map]
static ALLOW4: Networks<[u8; 4]> = LpmTrie::new();
#[btf_map]
static ALLOW6: Networks<[u8; 16]> = LpmTrie::new();
#[btf_map]
static BLOCK4: Table<Row4<Shared>> = ArrayOfMaps::new();
#[btf_map]
static BLOCK6: Table<Row6<Shared>> = ArrayOfMaps::new();
#[btf_map]
static CLASS: Array<Class<Shared>, { CLASSES as usize }, MMAPABLE> = Array::new();
#[btf_map]
static CLASS4: Networks<[u8; 4]> = LpmTrie::new();
#[btf_map]
static CLASS6: Networks<[u8; 16]> = LpmTrie::new();
#[btf_map]
static CONFIG: Array<Config<Shared>, 1, MMAPABLE> = Array::new();
#[btf_map]
static ESCALATED: Array<Escalation<Shared>, { PLACES as usize }, MMAPABLE> = Array::new();
#[btf_map]
static EVENTS: RingBuf<(), { EVENT_BYTES as usize }> = RingBuf::new();
#[btf_map]
static FLOOD: Words<{ (ROWS * COLUMNS) as usize }> = Array::new();
#[btf_map]
static PEER4: Sets<{ PEER_SETS as usize }> = Array::new();
#[btf_map]
static PEER6: Sets<{ PEER_SETS as usize }> = Array::new();
#[btf_map]
static PREFILTER4: Words<WORDS> = Array::new();
#[btf_map]
static PREFILTER6: Words<WORDS> = Array::new();
#[btf_map]
static REPORTED: Words<{ 2 * REPORTS as usize }> = Array::new();
#[btf_map]
static SOURCE4: Sets<SETS> = Array::new();
#[btf_map]
static SOURCE6: Sets<SETS> = Array::new();
#[btf_map]
static STATE: Array<State<Shared>, 1, MMAPABLE> = Array::new();
#[btf_map]
static STATS: PerCpuArray<Counter, { COUNTERS as usize }> = PerCpuArray::new();

const _: () = assert!(WORDS4 == WORDS6);

/// Not zero in a program that is loaded for a test: `CONFIG` says what time it is.
#[unsafe(no_mangle)]
static TEST_CLOCK: u64 = 0;

pub(crate) struct Maps {
    v4: Family<V4, [u8; 4]>,
    v6: Family<V6, [u8; 16]>,
}

pub(crate) struct Family<A: Address, K: 'static> {
    allow: &'static Networks<K>,
    blocks: &'static Table<A::Row>,
    classes: &'static Networks<K>,
    peers: &'static Sets<{ PEER_SETS as usize }>,
    prefilter: &'static Words<WORDS>,
    sources: &'static Sets<SETS>,
}

impl Maps {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            v4: Family {
                allow: &ALLOW4,
                blocks: &BLOCK4,
                classes: &CLASS4,
                peers: &PEER4,
                prefilter: &PREFILTER4,
                sources: &SOURCE4,
            },
            v6: Family {
                allow: &ALLOW6,
                blocks: &BLOCK6,
                classes: &CLASS6,
                peers: &PEER6,
                prefilter: &PREFILTER6,
                sources: &SOURCE6,
            },
        }
    }
}

#[inline(always)]
fn time(clock: unsafe fn() -> u64) -> u64 {
    // SAFETY: a constant of the object, which the loader sets before the kernel sees it.
    if unsafe { ptr::read_volatile(&raw const TEST_CLOCK) } != 0 {
        return CONFIG.get(0).map_or(0, |config| config.test_clock_ns.get());
    }
    // SAFETY: takes nothing and returns a number.
    unsafe { clock() }
}

impl Tables for Maps {
    type V4 = Family<V4, [u8; 4]>;
    type V6 = Family<V6, [u8; 16]>;

    #[inline(always)]
    fn config(&self) -> Option<&Config<Shared>> {
        CONFIG.get(0)
    }

    #[inline(always)]
    fn boot_ns(&self) -> u64 {
        time(bpf_ktime_get_boot_ns)
    }

    /// Remembers, once in each step of the coarse clock, how far the other is ahead: that changes only
    /// while the host sleeps, and the exact clock costs ten times as much.
    #[inline(always)]
    fn boot_coarse_ns(&self) -> u64 {
        let moment = self.coarse_ns() / MOMENT_NS;
        let Some(state) = self.state() else { return self.boot_ns() };
        let (now, known) = (moment & 0xffff_ffff, state.ahead.get());
        let ahead = if known >> 32 == now {
            known & 0xffff_ffff
        } else {
            let ahead = (self.boot_ns() / MOMENT_NS).saturating_sub(moment) & 0xffff_ffff;
            state.ahead.set(now << 32 | ahead);
            ahead
        };
        (moment + ahead) * MOMENT_NS
    }

    #[inline(always)]
    fn monotonic_ns(&self) -> u64 {
        time(bpf_ktime_get_ns)
    }

    #[inline(always)]
    fn coarse_ns(&self) -> u64 {
        time(bpf_ktime_get_coarse_ns)
    }

    #[inline(always)]
    fn v4(&self) -> &Self::V4 {
        &self.v4
    }

    #[inline(always)]
    fn v6(&self) -> &Self::V6 {
        &self.v6
    }

    #[inline(always)]
    fn class(&self, number: u64) -> Option<&Class<Shared>> {
        CLASS.get(number as u32)
    }

    #[inline(always)]
    fn state(&self) -> Option<&State<Shared>> {
        STATE.get(0)
    }

    #[inline(always)]
    fn common(&self, index: u32) -> Option<&Shared> {
        FLOOD.get(index)
    }

    #[inline(always)]
    fn escalation(&self, index: u32) -> Option<&Escalation<Shared>> {
        ESCALATED.get(index)
    }

    #[inline(always)]
    fn reported(&self, index: u32) -> Option<&Shared> {
        REPORTED.get(index)
    }

    #[inline(always)]
    fn count(&self, direction: Direction, verdict: Verdict, reason: Reason, bytes: u64) {
        add(counter_index(direction, verdict, reason), bytes);
    }

    #[inline(always)]
    fn report(&self, event: &Event) {
        if EVENTS.output_untyped::<Event>(event, 0).is_err() {
            self.lose();
        }
    }

    #[inline(always)]
    fn lose(&self) {
        add(LOST_EVENTS, 0);
    }
}

macro_rules! lists {
    ($address:ty, $bytes:ty, $walk:path, $step:path) => {
        impl Lists<$address> for Family<$address, $bytes> {
            #[inline(always)]
            fn row(&self, table: u32, index: u32) -> Option<&<$address as Address>::Row> {
                self.blocks.get_value(table, &index)
            }

            #[inline(always)]
            fn prefilter(&self, word: u32) -> Option<&Shared> {
                self.prefilter.get(word)
            }

            #[inline(always)]
            fn allows(&self, address: $address) -> bool {
                let key = lpm_trie::Key::new(<$address>::BITS, address.octets());
                self.allow.get(&key).is_some()
            }

            #[inline(always)]
            fn class(&self, address: $address) -> Option<u32> {
                let key = lpm_trie::Key::new(<$address>::BITS, address.octets());
                self.classes.get(&key).copied()
            }

            #[inline(always)]
            fn sources(&self, set: u32) -> Option<&Set<Shared>> {
                self.sources.get(set)
            }

            #[inline(always)]
            fn peers(&self, set: u32) -> Option<&Set<Shared>> {
                self.peers.get(set)
            }

            #[inline(always)]
            fn walk<T: Tables>(
                &self,
                address: $address,
                levels: u64,
                flags: u64,
                _: &Config<Shared>,
                _: &T,
            ) -> Position {
                Position($walk(address, levels, flags))
            }

            #[inline(always)]
            fn step<T: Tables>(
                &self,
                address: $address,
                host_bits: u32,
                flags: u64,
                _: &Config<Shared>,
                _: &T,
            ) -> Position {
                Position($step(address, host_bits, flags))
            }
        }
    };
}

lists!(V4, [u8; 4], call_walk4, call_step4);
lists!(V6, [u8; 16], call_walk6, call_step6);

// Functions with a name of their own are verified once, whoever calls them.

#[inline(always)]
fn call_walk4(V4(address): V4, levels: u64, flags: u64) -> u64 {
    walk4(address, levels, flags)
}

#[inline(always)]
fn call_walk6(V6 { high, low }: V6, levels: u64, flags: u64) -> u64 {
    walk6(high, low, levels, flags)
}

#[inline(always)]
fn call_step4(V4(address): V4, host_bits: u32, flags: u64) -> u64 {
    step4(address, host_bits, flags)
}

#[inline(always)]
fn call_step6(V6 { high, low }: V6, host_bits: u32, flags: u64) -> u64 {
    step6(high, low, host_bits, flags)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk4(address: u32, levels: u64, flags: u64) -> u64 {
    let maps = Maps::new();
    let Some(config) = maps.config() else { return 0 };
    quarantine::walk(V4(address), levels, flags, config, &maps.v4, &maps).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk6(high: u64, low: u64, levels: u64, flags: u64) -> u64 {
    let maps = Maps::new();
    let Some(config) = maps.config() else { return 0 };
    quarantine::walk(V6 { high, low }, levels, flags, config, &maps.v6, &maps).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn step4(address: u32, host_bits: u32, flags: u64) -> u64 {
    let maps = Maps::new();
    let Some(config) = maps.config() else { return 0 };
    quarantine::step(V4(address), host_bits, flags, config, &maps.v4, &maps).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn step6(high: u64, low: u64, host_bits: u32, flags: u64) -> u64 {
    let maps = Maps::new();
    let Some(config) = maps.config() else { return 0 };
    quarantine::step(V6 { high, low }, host_bits, flags, config, &maps.v6, &maps).0
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
