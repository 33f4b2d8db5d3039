//! What the maps hold, and what they refuse. No wire: a program on no interface will do.

use std::time::Duration;

use enforcer_kernel::{BlockError, Config, Cursor, Entry, Installed, Kernel, Occupancy, OpenError};
use enforcer_model::Prefix;

use crate::lab::{Lab, entry, prefix, wait_for};

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_block_reads_back_as_it_was_written() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 64);
    let hour = Duration::from_secs(3_600);

    let first = kernel.block(prefix("192.0.2.0/24"), entry(7, Some(hour))).unwrap();
    let observed = Entry { observe: true, contain: false, ..entry(8, None) };
    let second = kernel.block(prefix("2001:db8::/48"), observed).unwrap();

    assert!(first.remaining.unwrap() <= hour);
    assert!(first.remaining.unwrap() > hour - Duration::from_secs(60));
    assert_eq!((first.observe, first.contain), (false, true));
    assert_eq!((second.observe, second.contain, second.remaining), (true, false, None));
    assert_eq!((second.packets, second.bytes, second.last_hit), (0, 0, None));
    assert_eq!(kernel.find(prefix("192.0.2.0/25")).unwrap(), None);
    let listed: Vec<_> =
        kernel.blocks().unwrap().iter().map(|block| (block.prefix, block.id)).collect();
    assert_eq!(listed, [(first.prefix, first.id), (second.prefix, second.id)]);
    assert_eq!(kernel.release(prefix("198.51.100.1")).unwrap(), None);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_block_changes_in_place_and_is_released_whole() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 64);
    kernel.block(address(1), entry(7, None)).unwrap();

    let changed = Entry { observe: true, ..entry(8, Some(Duration::from_secs(60))) };
    let changed = kernel.block(address(1), changed).unwrap();

    assert_eq!((changed.id.bits(), changed.observe), (8, true));
    assert!(changed.remaining.is_some());
    assert_eq!(kernel.blocks().unwrap().len(), 1);
    assert_eq!(kernel.release(address(1)).unwrap().unwrap().id.bits(), 8);
    assert_eq!(kernel.find(address(1)).unwrap(), None);
    assert_eq!(kernel.blocks().unwrap(), []);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn an_entry_that_has_expired_is_as_good_as_absent_and_makes_room() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 4);
    let soon = Some(Duration::from_millis(20));
    for host in 0..4 {
        kernel.block(address(host), entry(1, soon)).unwrap();
    }
    wait_for("the end of the blocks", || kernel.blocks().unwrap().is_empty());
    assert_eq!(kernel.find(address(0)).unwrap(), None);
    assert_eq!(kernel.release(address(0)).unwrap(), None);

    for host in 10..14 {
        kernel.block(address(host), entry(2, None)).unwrap();
    }
    let refused = kernel.block(address(20), entry(3, None)).unwrap_err();

    assert!(matches!(refused, BlockError::Full { capacity: 4, .. }), "{refused}");
    assert!(refused.hint().unwrap().contains("blocks"));
    assert_eq!(kernel.blocks().unwrap().len(), 4);
    assert_eq!(kernel.occupancy(), Occupancy { v4: 4, v6: 0, capacity: 4 });
    // What is there can still be changed.
    kernel.block(address(10), entry(4, None)).unwrap();
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_thirty_third_prefix_length_is_refused_until_one_is_no_longer_used() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 64);
    let network = |length: u8| Prefix::around("2001:db8::".parse().unwrap(), length);
    for length in 33..=64 {
        kernel.block(network(length), entry(1, None)).unwrap();
    }

    let refused = kernel.block(network(65), entry(2, None)).unwrap_err();
    assert!(matches!(refused, BlockError::Lengths { .. }), "{refused}");
    assert!(refused.hint().unwrap().contains("/64"));
    assert_eq!(kernel.find(network(65)).unwrap(), None);
    let listed = kernel.load(&[(network(65), entry(2, None))], &[]).unwrap_err();
    assert!(matches!(listed, BlockError::Lengths { .. }), "{listed}");
    assert_eq!(kernel.blocks().unwrap().len(), 32);
    kernel.block(Prefix::around("2001:db9::".parse().unwrap(), 64), entry(3, None)).unwrap();

    kernel.release(network(40)).unwrap();
    kernel.block(network(65), entry(4, None)).unwrap();
    // A list may bring new lengths in place of those that it takes out.
    let out: Vec<Prefix> = (50..=60).map(network).collect();
    let new: Vec<_> = (70..=80).map(|length| (network(length), entry(5, None))).collect();
    let loaded = kernel.load(&new, &out).unwrap();
    assert_eq!((loaded.added, loaded.removed), (11, 11));
    let blocks = kernel.blocks().unwrap();
    let held: Vec<u8> = blocks.iter().map(|block| block.prefix.length()).collect();
    assert!((70..=80).all(|length| held.contains(&length)), "{held:?}");
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_counters_of_a_block_go_on_while_its_id_is_the_same() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    let source = crate::lab::PEERS4[0];
    kernel.block(prefix(source), entry(7, None)).unwrap();
    lab.send(source, || kernel.counters().unwrap());

    let longer = kernel.block(prefix(source), entry(7, Some(Duration::from_secs(60)))).unwrap();
    let listed = kernel.load(&[(prefix("198.51.100.0/24"), entry(9, None))], &[]).unwrap();
    let moved = kernel.find(prefix(source)).unwrap().unwrap();
    let another = kernel.block(prefix(source), entry(8, None)).unwrap();

    assert_eq!(listed.added, 1);
    assert!(longer.last_hit.unwrap() < Duration::from_secs(60));
    assert_eq!((longer.packets, moved.packets, another.packets), (1, 1, 0));
    assert_eq!((longer.bytes, moved.last_hit.is_some()), (moved.bytes, true));
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_allow_list_is_replaced_whole_and_has_a_limit() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 64);
    let many: Vec<Prefix> = (0..4096u32)
        .map(|n| Prefix::from(std::net::IpAddr::from((n << 4).to_be_bytes())))
        .collect();
    kernel.set_allow(&many).unwrap();
    assert_eq!(kernel.allow().unwrap().len(), 4096);

    // A full map of other networks: there is no room to have both for a moment.
    let others: Vec<Prefix> =
        many.iter().map(|network| Prefix::around(network.address(), 31)).collect();
    kernel.set_allow(&others).unwrap();
    let mut held = kernel.allow().unwrap();
    held.sort_unstable();
    assert_eq!(held, others);

    let one_more = [others, vec![prefix("203.0.113.0/24")]].concat();
    let refused = kernel.set_allow(&one_more).unwrap_err();
    assert!(matches!(refused, BlockError::TooManyAllowed { networks: 4097 }), "{refused}");
    kernel.set_allow(&[]).unwrap();
    assert_eq!(kernel.allow().unwrap(), []);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_reader_in_slices_meets_every_block() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 1_024);
    let (v4, v6) = (prefix("192.0.2.0/24"), prefix("2001:db8::/48"));
    assert_eq!(slices(&kernel, 100).len(), 0);
    let hosts: Vec<_> = (0..=255).map(|host| (address(host), entry(1, None))).collect();
    kernel.load(&hosts, &[]).unwrap();
    kernel.block(v4, entry(2, None)).unwrap();
    kernel.block(v6, entry(3, None)).unwrap();

    for rows in [1, 100, usize::MAX] {
        let mut met = slices(&kernel, rows);
        met.sort_unstable_by_key(|block| block.prefix);
        assert_eq!(met, kernel.blocks().unwrap(), "{rows} rows at a time");
    }
    // Another table in between: nobody is missed, some are met twice.
    let (some, next) = kernel.scan(Cursor::default(), 500);
    kernel.load(&[(prefix("198.51.100.1"), entry(4, None))], &[]).unwrap();
    let mut met: Vec<Prefix> = some.iter().map(|block| block.prefix).collect();
    met.extend(rest(&kernel, next.unwrap(), 500).iter().map(|block| block.prefix));
    assert!(kernel.blocks().unwrap().iter().all(|block| met.contains(&block.prefix)));
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn more_or_less_room_keeps_every_block_and_less_takes_no_more() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 64);
    for host in 0..40 {
        kernel.block(address(host), entry(u64::from(host), None)).unwrap();
    }
    kernel.block(prefix("2001:db8::/40"), entry(99, None)).unwrap();
    let decided = |kernel: &Kernel| -> Vec<_> {
        kernel.blocks().unwrap().iter().map(|block| (block.prefix, block.id)).collect()
    };
    let before = decided(&kernel);
    drop(kernel);

    for blocks in [128, 40, 20] {
        let kernel = detached(&lab, blocks);
        assert_eq!(decided(&kernel), before, "blocks = {blocks}");
        assert_eq!(kernel.occupancy(), Occupancy { v4: 40, v6: 1, capacity: blocks });
    }
    let mut kernel = detached(&lab, 20);
    let refused = kernel.block(address(50), entry(1, None)).unwrap_err();

    assert!(matches!(refused, BlockError::Full { capacity: 20, .. }), "{refused}");
    let refused = kernel.load(&[(address(50), entry(1, None))], &[]).unwrap_err();
    assert!(matches!(refused, BlockError::Full { .. }), "{refused}");
    assert_eq!(decided(&kernel), before);
    kernel.block(address(7), entry(1, None)).unwrap();
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn without_an_agent_the_pinned_maps_can_be_read_and_released() {
    let lab = Lab::new();
    let nothing = Kernel::open_pinned(&lab.pins).err().unwrap();
    assert!(matches!(nothing, OpenError::NothingPinned { .. }), "{nothing}");
    let mut kernel = detached(&lab, 64);
    kernel.block(address(1), entry(7, None)).unwrap();
    drop(kernel);

    let mut pinned = Kernel::open_pinned(&lab.pins).unwrap();

    assert_eq!(pinned.blocks().unwrap().len(), 1);
    assert!(pinned.release(address(1)).unwrap().is_some());
    assert_eq!(pinned.blocks().unwrap(), []);
    assert!(matches!(pinned.reattach(), Ok(interfaces) if interfaces.is_empty()));
}

/// A program on no interface.
pub fn detached(lab: &Lab, blocks: u32) -> Kernel {
    Kernel::attach(&Config { interfaces: Vec::new(), blocks, ..lab.config() }, &[], &[]).unwrap()
}

pub fn address(host: u8) -> Prefix {
    prefix(&format!("192.0.2.{host}"))
}

fn slices(kernel: &Kernel, rows: usize) -> Vec<Installed> {
    rest(kernel, Cursor::default(), rows)
}

fn rest(kernel: &Kernel, from: Cursor, rows: usize) -> Vec<Installed> {
    let mut met = Vec::new();
    let mut next = Some(from);
    while let Some(cursor) = next {
        let (found, following) = kernel.scan(cursor, rows);
        met.extend(found);
        next = following;
    }
    met
}
