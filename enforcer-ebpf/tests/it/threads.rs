//! Packets on several CPUs at once, and an agent that writes meanwhile.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::thread;

use enforcer_ebpf::source::Tally;
use enforcer_ebpf::table::Meta;
use enforcer_ebpf::{Direction, Reason, Shared, TableWord, Verdict};

use crate::frames::{SYN, Shape, Transport};
use crate::memory::{Memory, empty_rows};
use crate::reference::{AnyNetwork, Budget, Rate, World};
use crate::writer::{Counts, Entry};

const CPUS: usize = 2;

/// Runs `work` on every CPU at once; what each of them returns.
fn together<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(CPUS);
    thread::scope(|scope| {
        let run = |cpu| {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(cpu)
            })
        };
        let threads: Vec<_> = (0..CPUS).map(run).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    })
}

fn from4(address: [u8; 4]) -> Vec<u8> {
    Shape::v4(address, Transport::Tcp(1, 443, SYN)).bytes()
}

#[test]
fn a_race_lets_one_packet_through_for_each_cpu_and_loses_none() {
    const PACKETS: usize = 200_000;
    let packets = Some(Rate { rate: 1, burst: 50_000 });
    let tables = World::with_budget(Budget { packets, ..Budget::default() }).tables();
    let frame = from4([192, 0, 2, 1]);

    let passed: usize =
        together(|_| (0..PACKETS).filter(|_| tables.passes(&frame)).count()).into_iter().sum();

    let (clean, _) = tables.counted(Direction::In, Verdict::Pass, Reason::Clean);
    let (over, _) = tables.counted(Direction::In, Verdict::Drop, Reason::Budget);
    assert_eq!((clean as usize, clean + over), (passed, (CPUS * PACKETS) as u64));
    // Two CPUs that pay with the same coin both get through: at most every packet twice.
    assert!((50_000..=CPUS * 50_000).contains(&passed), "{passed}");
    let tally = Tally(tables.v4.sources.iter().map(|set| set.tally[0].get()).max().unwrap());
    assert!(tally.packets() <= (CPUS * PACKETS) as u64);
    // What is spent stays spent: nobody is let through any more.
    assert!((0..100).all(|_| !tables.passes(&frame)));
}

#[test]
fn a_race_for_the_last_packet_lets_no_more_than_two_through_for_each_cpu() {
    let tables = World::with_budget(Budget::packets(1, 1)).tables();
    for round in 0..3_000u32 {
        // Another source every time.
        let frame = from4((0x0a00_0000 | round).to_be_bytes());
        let passed: usize =
            together(|_| (0..4).filter(|_| tables.passes(&frame)).count()).into_iter().sum();
        // Two CPUs that both give him his slot start him anew, each after the other has let one through.
        assert!((1..=2 * CPUS).contains(&passed), "{passed} in round {round}");
        tables.pass(20_000_000_000);
    }
}

#[test]
fn the_counts_of_a_block_are_exact() {
    const PACKETS: u64 = 100_000;
    let network = AnyNetwork::v4([192, 0, 2, 0], 24);
    let mut tables = World::default().tables();
    tables.make_tables(4);
    tables.block(network.entry(1));
    let frames = [from4([192, 0, 2, 1]), from4([192, 0, 2, 2])];

    together(|cpu| (0..PACKETS).for_each(|_| assert!(!tables.passes(&frames[cpu]))));

    let packets = CPUS as u64 * PACKETS;
    let bytes = packets * frames[0].len() as u64;
    assert_eq!(tables.counts(network), Counts { packets, bytes });
    assert_eq!(tables.counted(Direction::In, Verdict::Drop, Reason::Blocked), (packets, bytes));
    assert!((1..=CPUS).contains(&tables.events().len()), "the first of the second, or two at once");
}

#[test]
fn sources_that_race_for_one_set_take_no_slot_of_those_who_were_heard_of() {
    let mut tables = World::with_budget(Budget::packets(1, 1_000_000)).tables();
    tables.config.source4_mask.set(0);
    tables.v4.sources.truncate(1);
    let known = [[10, 0, 0, 1], [10, 0, 0, 2]].map(from4);
    known.iter().for_each(|frame| assert!(tables.passes(frame)));
    let keys = || [0, 1].map(|way| tables.v4.sources[0].key[way].get());
    let before = keys();

    together(|cpu| {
        for number in 0..50_000u32 {
            tables.passes(&from4((0x0b00_0000 | number << 1 | cpu as u32).to_be_bytes()));
            assert!(tables.passes(&known[cpu]), "{number}");
        }
    });

    assert_eq!(keys(), before);
}

/// Readers who say when they look, so that a writer can wait for those who looked before.
struct Readers([AtomicU64; CPUS]);

impl Readers {
    /// One look: odd while it lasts.
    fn look<T>(&self, cpu: usize, look: impl FnOnce() -> T) -> T {
        self.0[cpu].fetch_add(1, Ordering::SeqCst);
        let seen = look();
        self.0[cpu].fetch_add(1, Ordering::SeqCst);
        seen
    }

    /// What the kernel does for whoever replaces a table.
    fn wait(&self) {
        fence(Ordering::SeqCst);
        for reader in &self.0 {
            let now = reader.load(Ordering::SeqCst);
            while now % 2 == 1 && reader.load(Ordering::SeqCst) == now {
                thread::yield_now();
            }
        }
    }
}

/// Blocks that stay, blocks that come and go in the slots beside them, and addresses that nobody
/// blocks. Every frame of one of them is judged over and over.
struct Town {
    tables: Memory,
    readers: Readers,
    stop: AtomicBool,
}

const STAYS: u8 = 10;
const COMES_AND_GOES: u8 = 20;
const FREE: u8 = 30;

impl Town {
    fn new(homes: u32) -> Self {
        let mut tables = World::default().tables();
        tables.make_tables(homes);
        tables.v4.tables[1] = empty_rows(64);
        for host in 0..8 {
            tables.block(AnyNetwork::v4([203, 0, STAYS, host], 32).entry(host.into()));
        }
        let readers = Readers([0, 1].map(|_| AtomicU64::new(0)));
        Self { tables, readers, stop: AtomicBool::new(false) }
    }

    /// Judges until it is told to stop; how often a block that stays was met.
    fn judge(&self, cpu: usize) -> u64 {
        let frames = |kind| [0, 1, 2, 3, 4, 5, 6, 7].map(|host| from4([203, 0, kind, host]));
        let (stays, free, others) = (frames(STAYS), frames(FREE), frames(COMES_AND_GOES));
        let mut met = 0;
        while !self.stop.load(Ordering::Relaxed) {
            for host in 0..8 {
                let passes = |frame: &Vec<u8>| self.readers.look(cpu, || self.tables.passes(frame));
                assert!(!passes(&stays[host]), "a block that stands was not met");
                assert!(passes(&free[host]), "somebody else's block was met");
                passes(&others[host]);
                met += 1;
            }
        }
        met
    }
}

#[test]
fn whoever_comes_and_goes_beside_it_a_block_is_met_and_nobody_else_is_hit() {
    // All in eight rows, so that slots are filled again by others at once.
    let town = Town::new(1);
    let met: u64 = thread::scope(|scope| {
        let judges: Vec<_> = (0..CPUS)
            .map(|cpu| {
                scope.spawn({
                    let town = &town;
                    move || town.judge(cpu)
                })
            })
            .collect();
        for round in 0..300u32 {
            let networks = [0, 1, 2, 3, 4, 5].map(|step| {
                let host = (round.wrapping_mul(7) + step * 5) % 8;
                // Some address of the town, or of elsewhere with the same length.
                let kind = if (round + step) % 3 == 0 { 99 } else { COMES_AND_GOES };
                AnyNetwork::v4([203, 0, kind, host as u8], 32)
            });
            let mut put = Vec::new();
            for network in networks {
                if !put.contains(&network) {
                    let flags = if round % 2 == 0 { Meta::OBSERVE } else { Meta::CONTAIN };
                    town.tables.block(Entry { flags, ..network.entry(1_000) });
                    put.push(network);
                }
            }
            put.into_iter().for_each(|network| town.tables.release(network));
            // A slot that was emptied rests until nobody compares its key any more.
            town.readers.wait();
        }
        town.stop.store(true, Ordering::Relaxed);
        judges.into_iter().map(|judge| judge.join().unwrap()).sum()
    });

    let counted = |host| town.tables.counts(AnyNetwork::v4([203, 0, STAYS, host], 32)).packets;
    assert_eq!((0..8).map(counted).sum::<u64>(), met);
}

#[test]
fn while_tables_replace_each_other_every_block_is_met_and_every_count_is_kept() {
    let town = Town::new(4);
    let networks = [0, 1, 2, 3, 4, 5, 6, 7].map(|host| AnyNetwork::v4([203, 0, STAYS, host], 32));
    let mut counted = [0u64; 8];
    let met: u64 = thread::scope(|scope| {
        let judges: Vec<_> = (0..CPUS)
            .map(|cpu| {
                scope.spawn({
                    let town = &town;
                    move || town.judge(cpu)
                })
            })
            .collect();
        for round in 0..200u32 {
            let old = town.tables.table(false);
            let next = TableWord { index: 1 - old.index, rows: [3, 4][round as usize % 2] };
            // Nobody reads this table: its readers were waited for.
            let rows = &town.tables.v4.tables[next.index as usize];
            rows.iter().flat_map(|row| &row.meta).for_each(|meta| meta.set(0));
            for network in networks {
                town.tables.write(next, network.entry(network.bits as u64));
            }
            fence(Ordering::SeqCst);
            town.tables.config.table4.set(next.word());
            town.readers.wait();
            for (host, network) in networks.iter().enumerate() {
                counted[host] += town.tables.counts_in(old, *network).packets;
            }
        }
        town.stop.store(true, Ordering::Relaxed);
        judges.into_iter().map(|judge| judge.join().unwrap()).sum()
    });

    let left = networks.map(|network| town.tables.counts(network).packets);
    assert_eq!(counted.iter().chain(&left).sum::<u64>(), met);
}

#[test]
fn additions_of_all_cpus_add_up() {
    let sum = Shared::new(0);
    together(|_| (0..500_000).for_each(|_| sum.add(3)));
    assert_eq!(sum.get(), CPUS as u64 * 1_500_000);
}
