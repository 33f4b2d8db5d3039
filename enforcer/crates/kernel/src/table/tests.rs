//! The table on plain memory: against a map, and against readers that run the program's own lines.

#![expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "small numbers of tests, and their deadlines"
)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use enforcer_ebpf::escalation::Escalation;
use enforcer_ebpf::flood::State;
use enforcer_ebpf::quarantine::{self, Position};
use enforcer_ebpf::table::Row6;
use enforcer_ebpf::{
    Class, Direction, Event, Lengths, Lists, Reason, Set, TableWord, Tables, V4, V6, Verdict,
};
use proptest::prelude::*;

use super::*;

type Rows = Arc<Vec<Row6<Shared>>>;
type Heap = Table<Row6<Shared>, Memory>;

/// Rows that a reader may hold, too.
#[derive(Clone)]
struct Memory(Rows);

impl AsRef<[Row6<Shared>]> for Memory {
    fn as_ref(&self) -> &[Row6<Shared>] {
        &self.0
    }
}

/// No reader, or one who does something while he is waited for.
struct While<F>(F);

impl<F: FnMut()> Quiet for While<F> {
    type Error = Infallible;

    fn wait(&mut self) -> Result<(), Infallible> {
        (self.0)();
        Ok(())
    }
}

const SEED: [u64; 2] = [0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321];

fn rows(homes: u32) -> Rows {
    Arc::new((0..homes + PROBES - 1).map(|_| empty()).collect())
}

fn empty() -> Row6<Shared> {
    let four = || [0; SLOTS].map(Shared::new);
    let key = [four(), four()];
    Row6 { meta: four(), key, hits: std::array::from_fn(|_| Hits::default()) }
}

fn table(homes: u32, live: bool) -> Heap {
    Table::new(Memory(rows(homes)), SEED, live).unwrap()
}

fn block(length: u8, id: u64) -> Block {
    Block { meta: Meta::new(length, 1 << 60, 0), id, ..Block::default() }
}

fn put(table: &mut Heap, key: u64, id: u64) -> Result<(), Refused<Infallible>> {
    table.insert(&[key, 0], &block(64, id), &mut While(|| ()))
}

#[derive(Clone, Debug)]
enum Act {
    Put(u64, u8, u64),
    Remove(u64, u8),
    Tidy,
}

fn any_act() -> impl Strategy<Value = Act> {
    let key = || (0..120u64, prop_oneof![Just(48u8), Just(64)]);
    prop_oneof![
        6 => (key(), any::<u64>()).prop_map(|((key, length), id)| Act::Put(key, length, id)),
        4 => key().prop_map(|(key, length)| Act::Remove(key, length)),
        1 => Just(Act::Tidy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_table_holds_what_a_map_holds(
        acts in prop::collection::vec(any_act(), 0..400),
        live: bool,
    ) {
        let mut table = table(9, live);
        let mut model = BTreeMap::new();
        for act in acts {
            match act {
                Act::Put(key, length, id) => {
                    let block = block(length, id);
                    if let Some((at, _)) = table.find(&[key, 1], length) {
                        table.change(at, block.meta, id);
                        model.insert((key, length), id);
                    } else {
                        match table.insert(&[key, 1], &block, &mut While(|| ())) {
                            Ok(()) => drop(model.insert((key, length), id)),
                            Err(Refused::Crowded) => prop_assert!(model.len() > 24, "{model:?}"),
                            Err(Refused::Quiet(never)) => match never {},
                        }
                    }
                }
                Act::Remove(key, length) => {
                    let found = table.find(&[key, 1], length);
                    prop_assert_eq!(found.is_some(), model.remove(&(key, length)).is_some());
                    found.into_iter().for_each(|(at, _)| table.remove(at));
                }
                Act::Tidy => {
                    table.shorten_walks();
                    table.rested();
                }
            }
            let held: Vec<_> = table.iter().collect();
            prop_assert_eq!(table.used() as usize, model.len());
            let listed: BTreeMap<_, _> = held
                .iter()
                .map(|(_, key, block)| ((key[0], block.meta.length()), block.id))
                .collect();
            prop_assert_eq!(held.len(), listed.len(), "nobody is in two places");
            prop_assert_eq!(&listed, &model);
            for (at, key, block) in held {
                prop_assert_eq!(table.find(&key, block.meta.length()), Some((at, block)));
            }
        }
    }
}

#[test]
fn a_table_can_be_filled_to_nine_tenths() {
    let mut table = table(2_000, false);
    for key in 0..7_200 {
        assert_eq!(put(&mut table, key, key), Ok(()), "{key}");
    }

    assert_eq!((table.used(), table.percent()), (7_200, 90));
    for key in 0..7_200 {
        assert_eq!(table.find(&[key, 0], 64).unwrap().1.id, key);
    }
    assert_eq!(table.find(&[7_200, 0], 64), None);
}

#[test]
fn a_slot_that_was_emptied_is_nobody_elses_before_its_readers_have_ended() {
    let mut table = table(1, true);
    for key in 0..32 {
        put(&mut table, key, key).unwrap();
    }
    let (at, _) = table.find(&[7, 0], 64).unwrap();
    table.remove(at);
    let written = |table: &Heap| table.row(at.row).unwrap().key(at.slot);
    let mut waited = 0;
    let rows = table.rows.clone();

    let asked = |_: &()| {
        let row = &rows.as_ref()[at.row as usize];
        assert_eq!(row.key(at.slot), [7, 0], "written before the reader had ended");
        waited += 1;
    };
    let mut asked = asked;
    table.insert(&[99, 0], &block(64, 99), &mut While(|| asked(&()))).unwrap();

    assert_eq!((waited, written(&table)), (1, [99, 0]));
}

#[test]
fn what_is_counted_while_a_block_moves_is_not_lost() {
    let mut table = table(64, true);
    let mut key = 0;
    // Whatever is waited for here is a block on its way.
    let mut moves = 0;
    while moves == 0 {
        let rows = table.rows.clone();
        let count_late = || {
            let cells = rows.as_ref().iter();
            for (row, slot) in cells.flat_map(|row| (0..SLOTS as u64).map(move |at| (row, at))) {
                let meta = Meta(cell(row.metas(), slot as usize).get());
                if meta.is_used() && meta.length() == MOVED {
                    row.count(slot, 100, 5 << 30);
                    moves += 1;
                }
            }
        };
        let counted = Block { packets: 3, bytes: 30, ..block(64, key) };
        table.insert(&[key, 0], &counted, &mut While(count_late)).unwrap();
        key += 1;
    }

    let (mut packets, mut bytes) = (0, 0);
    for (_, _, block) in table.iter() {
        packets += block.packets;
        bytes += block.bytes;
    }
    assert_eq!((packets, bytes), (3 * key + moves, 30 * key + 100 * moves));
}

#[test]
fn what_a_writer_did_not_live_to_finish_is_mended() {
    let mut table = table(1, true);
    for key in 0..6 {
        put(&mut table, key, key).unwrap();
    }
    // Copied forward and not taken out yet; copied forward and marked as moved.
    let (first, block) = table.find(&[1, 0], 64).unwrap();
    let row = |row: u32| &table.rows()[row as usize];
    fill(row(first.row + 1), 3, &[1, 0], &block);
    let (second, block) = table.find(&[2, 0], 64).unwrap();
    fill(row(second.row + 1), 2, &[2, 0], &block);
    set_meta(row(second.row), second.slot, Meta(block.meta.0 & !0xff00 | 0xff00));

    let memory = table.rows.clone();
    let mut table: Heap = Table::new(memory, SEED, true).unwrap();
    table.repair();

    let mut ids: Vec<u64> = table.iter().map(|(_, _, block)| block.id).collect();
    ids.sort_unstable();
    assert_eq!((ids, table.used()), ((0..6).collect(), 6));
    let (at, _) = table.find(&[1, 0], 64).unwrap();
    table.remove(at);
    assert_eq!(table.find(&[1, 0], 64), None, "there is no second one behind it");
}

#[test]
fn rows_forget_what_went_past_them_when_it_is_gone() {
    let overflowing = |table: &Heap| table.rows().iter().filter(|row| row.overflows()).count();
    let mut table = table(1, false);
    for key in 0..20 {
        put(&mut table, key, key).unwrap();
    }
    assert_eq!(overflowing(&table), 4);

    for key in 6..20 {
        let (at, _) = table.find(&[key, 0], 64).unwrap();
        table.remove(at);
        table.shorten_walks();
    }

    assert_eq!(overflowing(&table), 1, "four at home, two in the row behind");
    for key in 0..6 {
        assert_eq!(table.find(&[key, 0], 64).unwrap().1.id, key);
    }
}

#[test]
fn a_table_smaller_than_a_walk_is_refused() {
    let short: Rows = Arc::new((0..PROBES - 1).map(|_| empty()).collect());

    assert!(Heap::new(Memory(short), SEED, false).is_none());
}

// === readers ===

/// What the program sees: two places, and the word that says which counts.
struct World {
    config: Config<Shared>,
    places: [RwLock<Option<Rows>>; 2],
    bits: Shared,
    /// Odd while the reader looks something up.
    steps: AtomicU64,
    stop: AtomicBool,
}

/// One look-up of the reader: whatever comes and goes, the memory that he saw stays.
struct Glance<'w> {
    world: &'w World,
    places: [Option<Rows>; 2],
}

impl Lists<V6> for Glance<'_> {
    fn row(&self, table: u32, index: u32) -> Option<&Row6<Shared>> {
        self.places[table as usize].as_ref()?.get(index as usize)
    }

    fn prefilter(&self, _: u32) -> Option<&Shared> {
        Some(&self.world.bits)
    }

    fn allows(&self, _: V6) -> bool {
        false
    }

    fn class(&self, _: V6) -> Option<u32> {
        None
    }

    fn sources(&self, _: u32) -> Option<&Set<Shared>> {
        None
    }

    fn peers(&self, _: u32) -> Option<&Set<Shared>> {
        None
    }
}

impl Lists<V4> for Glance<'_> {
    fn row(&self, _: u32, _: u32) -> Option<&enforcer_ebpf::Row4<Shared>> {
        None
    }

    fn prefilter(&self, _: u32) -> Option<&Shared> {
        None
    }

    fn allows(&self, _: V4) -> bool {
        false
    }

    fn class(&self, _: V4) -> Option<u32> {
        None
    }

    fn sources(&self, _: u32) -> Option<&Set<Shared>> {
        None
    }

    fn peers(&self, _: u32) -> Option<&Set<Shared>> {
        None
    }
}

impl Tables for Glance<'_> {
    type V4 = Self;
    type V6 = Self;

    fn config(&self) -> Option<&Config<Shared>> {
        Some(&self.world.config)
    }

    fn boot_ns(&self) -> u64 {
        1
    }

    fn boot_coarse_ns(&self) -> u64 {
        self.boot_ns()
    }

    fn monotonic_ns(&self) -> u64 {
        1
    }

    fn coarse_ns(&self) -> u64 {
        1
    }

    fn v4(&self) -> &Self {
        self
    }

    fn v6(&self) -> &Self {
        self
    }

    fn class(&self, _: u64) -> Option<&Class<Shared>> {
        None
    }

    fn state(&self) -> Option<&State<Shared>> {
        None
    }

    fn common(&self, _: u32) -> Option<&Shared> {
        None
    }

    fn escalation(&self, _: u32) -> Option<&Escalation<Shared>> {
        None
    }

    fn reported(&self, _: u32) -> Option<&Shared> {
        None
    }

    fn count(&self, _: Direction, _: Verdict, _: Reason, _: u64) {}

    fn report(&self, _: &Event) {}

    fn lose(&self) {}
}

impl World {
    /// The id of the block of a single address, as the program finds it.
    fn look_up(&self, key: [u64; 2]) -> Option<u64> {
        self.steps.fetch_add(1, SeqCst);
        let [first, second] = &self.places;
        let places = [first.read().unwrap().clone(), second.read().unwrap().clone()];
        let glance = Glance { world: self, places };
        let address = V6 { high: key[0], low: key[1] };
        let lists: &Glance<'_> = &glance;
        let found: Position =
            quarantine::find::<V6, _, _>(address, 0, &self.config, lists, &glance);
        let (table, row) = found.row();
        let id = found.is_some().then(|| {
            let row = Lists::<V6>::row(&glance, table, row).unwrap();
            row.id(found.slot())
        });
        drop(glance);
        self.steps.fetch_add(1, SeqCst);
        id
    }

    /// Returns when no look-up of before is still going on.
    fn wait(&self) {
        let step = self.steps.load(SeqCst);
        let begun = Instant::now();
        while step % 2 == 1 && self.steps.load(SeqCst) == step {
            assert!(begun.elapsed() < Duration::from_secs(10), "the reader is gone");
            thread::yield_now();
        }
    }
}

/// Which address, and whose block: the id says the key, and which block of it.
fn key_of(number: u64) -> [u64; 2] {
    [0x2001_0db8_0000_0000 | (number % 7), number]
}

fn id_of(number: u64, version: u64) -> u64 {
    number << 16 | version & 0xffff
}

#[test]
fn a_reader_never_misses_who_stays_and_never_meets_somebody_elses_block() {
    const STAY: u64 = 40;
    const OTHERS: u64 = 400;
    let [seed, more] = SEED.map(Shared::new);
    let config = Config { seed: [seed, more], ..Config::default() };
    let Lengths([single, _, _]) = &config.lengths6;
    single.set(1);
    let world = Arc::new(World {
        config,
        places: [RwLock::new(None), RwLock::new(None)],
        bits: Shared::new(u64::MAX),
        steps: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    // Small and crowded, so that blocks move all the time.
    let homes = |round: u64| [20, 40, 25, 90][round as usize % 4];
    let fresh = |round| {
        let rows = rows(homes(round));
        let table: Heap = Table::new(Memory(Arc::clone(&rows)), SEED, false).unwrap();
        (table, rows)
    };
    let show = |table: &mut Heap, rows: Rows, round: u64| {
        *world.places[round as usize % 2].write().unwrap() = Some(rows);
        table.go_live();
        let word = TableWord { index: (round % 2) as u32, rows: table.homes() };
        fence(Ordering::Release);
        world.config.table6.set(word.word());
        world.wait();
    };
    let (mut table, rows) = fresh(0);
    for number in 0..STAY {
        let block = block(128, id_of(number, 0));
        table.insert(&key_of(number), &block, &mut While(|| ())).unwrap();
    }
    show(&mut table, rows, 0);
    let reader = {
        let world = Arc::clone(&world);
        thread::spawn(move || {
            let (mut looked_up, mut met) = (0u64, 0u64);
            while !world.stop.load(SeqCst) {
                for number in 0..STAY {
                    let id = world.look_up(key_of(number));
                    assert_eq!(id.map(|id| id >> 16), Some(number), "missed or mistaken");
                }
                for number in STAY..OTHERS {
                    if let Some(id) = world.look_up(key_of(number)) {
                        assert_eq!(id >> 16, number, "somebody else's block");
                        met += 1;
                    }
                }
                looked_up += OTHERS;
            }
            (looked_up, met)
        })
    };

    let mut round = 0;
    let mut noise = 1u64;
    let mut refused = 0;
    let mut moved = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while (moved < 300 || round < 20 || world.steps.load(SeqCst) < 40_000)
        && Instant::now() < deadline
        && !reader.is_finished()
    {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let number = STAY + (noise >> 33) % (OTHERS - STAY);
        let found = table.find(&key_of(number), 128);
        match (found, noise >> 60) {
            (_, 0) if noise >> 50 & 3 == 0 => {
                round += 1;
                let (mut larger, rows) = fresh(round);
                let staying = |key: &[u64; 2]| key[1] < STAY;
                for (_, key, block) in table.iter().filter(|(_, key, _)| staying(key)) {
                    larger.insert(&key, &block, &mut While(|| ())).unwrap();
                }
                for (_, key, block) in table.iter().filter(|(_, key, _)| !staying(key)) {
                    // As many as it has room for.
                    drop(larger.insert(&key, &block, &mut While(|| ())));
                }
                show(&mut larger, rows, round);
                table = larger;
            }
            (Some((at, block)), 1..4) => table.change(at, block.meta, id_of(number, noise >> 40)),
            (Some((at, _)), _) => table.remove(at),
            (None, _) => {
                let block = block(128, id_of(number, noise >> 40));
                let wait = || {
                    moved += 1;
                    world.wait();
                };
                match table.insert(&key_of(number), &block, &mut While(wait)) {
                    Ok(()) => {}
                    Err(Refused::Crowded) => refused += 1,
                    Err(Refused::Quiet(never)) => match never {},
                }
            }
        }
    }
    world.stop.store(true, SeqCst);
    let (looked_up, met) = reader.join().unwrap();

    assert!(looked_up > 10_000 && met > 100, "{looked_up} look-ups, {met} met");
    assert!(moved >= 300 && round >= 20, "{moved} waits, {round} tables, {refused} refused");
}
