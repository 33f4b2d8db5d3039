//! Tables that take each other's place: larger, smaller, whole lists, and an agent that dies on the
//! way.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{Array, ArrayOfMaps, Map, MapData, MapInfo};
use enforcer_ebpf::{Config as Words, Lengths, TableWord, map};
use enforcer_kernel::{BlockError, Entry, Kernel, Loaded, MapError, Reason, Verdict};
use enforcer_model::Prefix;

use crate::blocks::{address, detached};
use crate::lab::{Lab, PEERS4, entry, prefix, wait_for};

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_list_takes_effect_whole_and_another_takes_its_place() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 100_000);
    let first: Vec<_> = many(0..30_000).chain(networks6(0..500)).collect();
    let second: Vec<_> = many(10_000..50_000).map(|(it, _)| (it, entry(2, None))).collect();
    let out: Vec<Prefix> = many(0..10_000).map(|(it, _)| it).collect();

    let loaded = kernel.load(&first, &[]).unwrap();
    assert_eq!(loaded, Loaded { added: 30_500, changed: 0, removed: 0 });
    assert_eq!((kernel.occupancy().v4, kernel.occupancy().v6), (30_000, 500));
    let loaded = kernel.load(&second, &out).unwrap();

    assert_eq!(loaded, Loaded { added: 20_000, changed: 20_000, removed: 10_000 });
    let blocks = kernel.blocks().unwrap();
    assert_eq!(blocks.len(), 40_500);
    let ids: Vec<u64> = blocks.iter().map(|block| block.id.bits()).collect();
    assert_eq!(ids.iter().filter(|id| **id == 2).count(), 40_000);
    assert_eq!(kernel.find(out[77]).unwrap(), None);
    assert!(kernel.explain(ip(12_345)).unwrap().verdict == Verdict::Drop);
    assert!(kernel.explain(ip(77)).unwrap().verdict == Verdict::Pass);
    // The same list again is no news.
    assert_eq!(kernel.load(&second, &[]).unwrap().changed, 40_000);
    assert_eq!(kernel.load(&[], &[]).unwrap(), Loaded::default());
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_list_that_does_not_fit_changes_nothing() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 1_000);
    kernel.block(address(1), entry(7, None)).unwrap();
    let before = kernel.blocks().unwrap();
    let duplicates = || many(0..999).chain(many(0..999));
    let six: Vec<_> = networks6(0..1_001).chain(duplicates()).collect();

    // One family fits, the other does not.
    let refused = kernel.load(&six, &[]).unwrap_err();

    assert!(matches!(refused, BlockError::Full { capacity: 1_000, map: map::BLOCK6 }), "{refused}");
    assert_eq!(kernel.blocks().unwrap(), before);
    let loaded = kernel.load(&duplicates().collect::<Vec<_>>(), &[]).unwrap();
    assert_eq!((loaded.added, loaded.changed), (999, 999));
    let one_more = kernel.load(&[(prefix("203.0.113.7"), entry(1, None))], &[]).unwrap_err();
    assert!(matches!(one_more, BlockError::Full { .. }), "{one_more}");
    // What goes makes room for what comes.
    let swap = kernel.load(&[(prefix("203.0.113.7"), entry(1, None))], &[address(1)]).unwrap();
    assert_eq!(swap, Loaded { added: 1, changed: 0, removed: 1 });
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn memory_follows_use_and_every_block_stays() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 100_000);
    kernel.block(address(1), entry(7, None)).unwrap();
    let small = kernel.memory();

    // One by one: tables grow on the way, and in sweeps.
    for (at, (network, block)) in many(0..20_000).enumerate() {
        kernel.block(network, block).unwrap();
        if at % 3_000 == 0 {
            kernel.sweep().unwrap();
        }
    }
    let large = kernel.memory();
    assert!(large - small > 20_000 * 48, "{small} → {large}");
    assert!(large - small < 20_000 * 48 * 2, "{small} → {large}");
    assert_eq!(kernel.blocks().unwrap().len(), 20_001);
    assert_eq!(kernel.occupancy().v4, 20_001);
    assert!(many(0..20_000).all(|(it, _)| kernel.find(it).unwrap().is_some()));

    for (network, _) in many(0..20_000) {
        kernel.release(network).unwrap();
    }
    wait_for("a smaller table", || {
        kernel.sweep().unwrap();
        kernel.memory() <= small
    });
    assert_eq!(kernel.blocks().unwrap().len(), 1);
    assert_eq!(kernel.find(address(1)).unwrap().unwrap().id.bits(), 7);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn sweeping_takes_back_what_only_the_dead_needed() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 1_000);
    // What the self-test of the program has left.
    kernel.sweep().unwrap();
    let soon = Some(Duration::from_millis(30));
    kernel.block(prefix("203.0.113.0/28"), entry(1, soon)).unwrap();
    kernel.block(prefix("198.51.100.0/22"), entry(2, soon)).unwrap();
    kernel.block(prefix("198.51.100.0/23"), entry(2, None)).unwrap();
    kernel.block(prefix("2001:db8:1::/48"), entry(3, soon)).unwrap();
    kernel.block(prefix("2001:db8:2::/48"), entry(3, None)).unwrap();
    let bits = |name| {
        let words: Array<_, u64> = array(&lab, name);
        words.iter().map(|word| word.unwrap().count_ones()).sum::<u32>()
    };
    assert_eq!((bits(map::PREFILTER4), bits(map::PREFILTER6)), (1 + 4, 2));
    wait_for("the end of the blocks", || kernel.blocks().unwrap().len() == 2);

    assert_eq!(kernel.sweep().unwrap().expired, 3);

    assert_eq!((bits(map::PREFILTER4), bits(map::PREFILTER6)), (2, 1));
    let Lengths([four, ..]) = words(&lab).lengths4;
    assert_eq!(four, 1 << (32 - 23));
    assert_eq!(words(&lab).lengths6.count(), 1);
    assert_eq!((kernel.occupancy().v4, kernel.occupancy().v6), (1, 1));
    assert_eq!(kernel.sweep().unwrap().expired, 0);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn no_blocked_packet_passes_while_tables_take_each_others_place() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
    let traffic = lab.traffic(PEERS4[0], PEERS4[1]);
    let mut lists = 0;
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        let (first, second) = (many(0..40), many(20..60));
        let out: Vec<Prefix> = many(0..60).map(|(network, _)| network).collect();
        let list: Vec<_> = if lists % 2 == 0 { first.collect() } else { second.collect() };
        kernel.load(&list, &out).unwrap();
        kernel.release(list[0].0).unwrap();
        kernel.sweep().unwrap();
        lists += 1;
    }

    let (leaked, lost) = traffic.end();

    assert!(lists > 5, "{lists}");
    assert_eq!((leaked, lost), (0, 0), "over {lists} lists");
    // What one table counted, the next one goes on counting from.
    let dropped = || kernel.counters().unwrap().packets(Verdict::Drop, Reason::Blocked);
    let counted = kernel.find(prefix(PEERS4[0])).unwrap().unwrap().packets;
    assert_eq!(counted, dropped());
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn an_agent_that_died_between_two_tables_leaves_one_in_force() {
    // In force is the new one: everything but its name is done.
    let lab = Lab::new();
    let mut kernel = detached(&lab, 1_000);
    kernel.load(&many(0..10).collect::<Vec<_>>(), &[]).unwrap();
    drop(kernel);
    let (table, next) = (lab.pins.join("v2/TABLE4"), lab.pins.join("v2/TABLE4-next"));
    fs::rename(&table, &next).unwrap();
    stranger().pin(&table).unwrap();
    let looked = Kernel::open_pinned(&lab.pins).unwrap();
    assert_eq!(looked.blocks().unwrap().len(), 10);
    assert!(next.exists(), "looking changes nothing");
    let in_force = number(&next);

    let mut kernel = Kernel::open_pinned(&lab.pins).unwrap();
    kernel.block(address(1), entry(7, None)).unwrap();

    assert_eq!(kernel.blocks().unwrap().len(), 11);
    assert_eq!((number(&table), next.exists()), (in_force, false));
    drop((kernel, looked));

    // In force is the old one: the new one was made, filled and shown, and nothing leads to it.
    let word = TableWord::from_word(words(&lab).table4);
    let half = stranger();
    half.pin(&next).unwrap();
    let outer = MapData::from_pin(lab.pins.join("v2").join(map::BLOCK4)).unwrap();
    let mut outer: ArrayOfMaps<_, MapData> = Map::ArrayOfMaps(outer).try_into().unwrap();
    outer.set(1 - word.index, &half, 0).unwrap();

    let mut kernel = Kernel::open_pinned(&lab.pins).unwrap();
    assert_eq!(kernel.blocks().unwrap().len(), 11);
    kernel.release(address(1)).unwrap();

    assert_eq!((number(&table), next.exists()), (in_force, false));
    assert_eq!(kernel.blocks().unwrap().len(), 10);
    assert_eq!(kernel.load(&many(5..15).collect::<Vec<_>>(), &[]).unwrap().added, 5);
    drop(kernel);

    // Somebody removed the pin; the table is in force all the same, and has its name again.
    fs::rename(&table, &next).unwrap();
    fs::remove_file(&next).unwrap();
    half.pin(&next).unwrap();
    let mut kernel = Kernel::open_pinned(&lab.pins).unwrap();
    assert_eq!(kernel.blocks().unwrap().len(), 15);
    kernel.block(address(2), entry(7, None)).unwrap();
    assert!(table.exists() && !next.exists());
    drop(kernel);
    assert_eq!(Kernel::open_pinned(&lab.pins).unwrap().blocks().unwrap().len(), 16);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_secrets_of_a_host_are_drawn_once() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 64);
    let seed = words(&lab).seed;
    kernel.block(prefix("2001:db8::7"), entry(7, None)).unwrap();
    drop(kernel);

    drop(detached(&lab, 128));
    let other = Lab::new();
    drop(detached(&other, 64));

    assert!(seed.iter().all(|word| *word != 0), "{seed:x?}");
    assert_eq!(words(&lab).seed, seed);
    assert_ne!(words(&other).seed, seed);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn who_only_looks_may_do_so_while_an_agent_works() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 10_000);
    kernel.block(address(1), entry(7, None)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let looker = {
        let (stop, pins) = (Arc::clone(&stop), lab.pins.clone());
        thread::spawn(move || {
            let mut looks = 0;
            while !stop.load(Ordering::Relaxed) {
                let pinned = Kernel::open_pinned(&pins).unwrap();
                match pinned.find(address(1)) {
                    Ok(found) => assert!(found.is_some()),
                    // Replaced since it was opened.
                    Err(error) => assert!(matches!(error, MapError::Lost { .. }), "{error}"),
                }
                looks += 1;
            }
            looks
        })
    };
    for round in 0..20 {
        let list: Vec<(Prefix, Entry)> = many(round..round + 3_000).collect();
        kernel.load(&list, &[many(round..round + 1).next().unwrap().0]).unwrap();
    }
    stop.store(true, Ordering::Relaxed);

    assert!(looker.join().unwrap() > 3);
    assert_eq!(kernel.find(address(1)).unwrap().unwrap().id.bits(), 7);
}

/// In a release build within a second; the figures are of interest there only.
#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
#[expect(clippy::print_stderr, reason = "the figures are what somebody runs it for")]
fn a_million_networks_are_in_force_together() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 1 << 21);
    let list: Vec<_> = many(0..1_000_000).collect();
    let mut took = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        assert_eq!(kernel.load(&list, &[]).unwrap().removed, 0);
        took.push(begun.elapsed());
    }
    let begun = Instant::now();
    kernel.block(prefix("203.0.113.7"), entry(1, None)).unwrap();
    let block = begun.elapsed();
    let begun = Instant::now();
    kernel.sweep().unwrap();
    let sweep = begun.elapsed();
    let begun = Instant::now();
    assert_eq!(kernel.blocks().unwrap().len(), 1_000_001);
    let listed = begun.elapsed();
    eprintln!("load {took:?}, block {block:?}, sweep {sweep:?}, list {listed:?}");
    eprintln!("memory {} MiB", kernel.memory() >> 20);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_table_that_somebody_else_has_replaced_is_not_answered_from() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 1_000);
    kernel.block(address(1), entry(7, None)).unwrap();
    let mut other = Kernel::open_pinned(&lab.pins).unwrap();
    other.load(&many(0..10).collect::<Vec<_>>(), &[]).unwrap();

    let refused = kernel.find(address(1)).unwrap_err();

    assert!(matches!(refused, MapError::Lost { map: map::BLOCK4 }), "{refused}");
    assert!(refused.hint().unwrap().contains("another agent"));
    kernel.block(address(2), entry(7, None)).unwrap();
    assert_eq!(kernel.blocks().unwrap().len(), 12);
    // In place both see what either does.
    assert!(other.release(address(2)).unwrap().is_some());
    assert!(other.release(address(1)).unwrap().is_some());
    assert_eq!(kernel.blocks().unwrap(), other.blocks().unwrap());
    kernel.sweep().unwrap();
    assert_eq!(kernel.occupancy().v4, 10);
}

/// Different addresses that look random.
fn many(numbers: std::ops::Range<u32>) -> impl Iterator<Item = (Prefix, Entry)> {
    numbers.map(|number| (ip(number).into(), entry(1, None)))
}

fn ip(number: u32) -> IpAddr {
    let mixed = number.wrapping_mul(0x9e37_79b1);
    let [a, b, c, d] = mixed.to_be_bytes();
    [if a == 192 { 5 } else { a }, b, c, d].into()
}

fn networks6(numbers: std::ops::Range<u32>) -> impl Iterator<Item = (Prefix, Entry)> {
    numbers.map(|number| (prefix(&format!("2001:db8:{number:x}::/48")), entry(1, None)))
}

/// A table that nobody has filled.
fn stranger() -> MapData {
    let shape = aya_obj::Map::new_from_params(2, 4, 192, 2_055, map::MMAPABLE | map::INNER);
    MapData::create(shape, "TABLE4", None).unwrap()
}

fn number(pin: &Path) -> u32 {
    MapInfo::from_pin(pin).unwrap().id()
}

fn array<V: aya::Pod>(lab: &Lab, name: &str) -> Array<MapData, V> {
    let data = MapData::from_pin(lab.pins.join("v2").join(name)).unwrap();
    Map::from_map_data(data).unwrap().try_into().unwrap()
}

pub fn words(lab: &Lab) -> Words {
    Words::from_words(array(lab, map::CONFIG).get(&0, 0).unwrap())
}
