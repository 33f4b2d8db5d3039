//! What the maps hold, and what they refuse. No wire: a program on no interface will do.

use std::time::Duration;

use enforcer_kernel::{AttachError, BlockError, Config, Kernel, OpenError};
use enforcer_model::Prefix;

use crate::lab::{Lab, entry, prefix, wait_for};

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_block_reads_back_as_it_was_written() {
    let lab = Lab::new();
    let mut kernel = detached(&lab);
    let hour = Duration::from_secs(3_600);

    let first = kernel.block(prefix("192.0.2.0/24"), entry(7, Some(hour))).unwrap();
    let second = kernel.block(prefix("2001:db8::/48"), entry(8, None)).unwrap();

    assert!(first.remaining.unwrap() <= hour);
    assert!(first.remaining.unwrap() > hour - Duration::from_secs(60));
    assert_eq!(kernel.find(prefix("192.0.2.0/25")).unwrap(), None);
    let listed: Vec<_> =
        kernel.blocks().unwrap().iter().map(|block| (block.prefix, block.id)).collect();
    assert_eq!(listed, [(first.prefix, first.id), (second.prefix, second.id)]);
    assert_eq!(kernel.release(prefix("198.51.100.1")).unwrap(), None);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn an_entry_that_has_expired_is_as_good_as_absent_and_makes_room() {
    let lab = Lab::new();
    let config = Config { interfaces: Vec::new(), blocks: 4, ..lab.config() };
    let mut kernel = Kernel::attach(&config, &[]).unwrap();
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
    // What is there can still be changed.
    kernel.block(address(10), entry(4, None)).unwrap();
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_thirty_third_prefix_length_is_refused_until_one_is_no_longer_used() {
    let lab = Lab::new();
    let mut kernel = detached(&lab);
    let network = |length: u8| Prefix::around("2001:db8::".parse().unwrap(), length);
    for length in 33..=64 {
        kernel.block(network(length), entry(1, None)).unwrap();
    }

    let refused = kernel.block(network(65), entry(2, None)).unwrap_err();
    assert!(matches!(refused, BlockError::Lengths { .. }), "{refused}");
    assert!(refused.hint().unwrap().contains("/64"));
    assert_eq!(kernel.find(network(65)).unwrap(), None);
    kernel.block(Prefix::around("2001:db9::".parse().unwrap(), 64), entry(3, None)).unwrap();

    kernel.release(network(40)).unwrap();
    kernel.block(network(65), entry(4, None)).unwrap();
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_counters_of_a_block_go_on_while_its_id_is_the_same() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[]).unwrap();
    let source = crate::lab::PEERS4[0];
    kernel.block(prefix(source), entry(7, None)).unwrap();
    lab.send(source, || kernel.counters().unwrap());

    let longer = kernel.block(prefix(source), entry(7, Some(Duration::from_secs(60)))).unwrap();
    let another = kernel.block(prefix(source), entry(8, None)).unwrap();

    assert_eq!((longer.packets, another.packets), (1, 0));
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_allow_list_is_replaced_whole_and_has_a_limit() {
    let lab = Lab::new();
    let mut kernel = detached(&lab);
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
fn more_or_less_room_keeps_every_block() {
    let lab = Lab::new();
    let mut kernel = detached(&lab);
    for host in 0..40 {
        kernel.block(address(host), entry(u64::from(host), None)).unwrap();
    }
    kernel.block(prefix("2001:db8::/40"), entry(99, None)).unwrap();
    let before = kernel.blocks().unwrap();
    drop(kernel);
    let sized = |blocks| Config { interfaces: Vec::new(), blocks, ..lab.config() };

    for blocks in [128, 40] {
        let kernel = Kernel::attach(&sized(blocks), &[]).unwrap();
        assert_eq!(kernel.blocks().unwrap(), before, "blocks = {blocks}");
    }
    let Err(refused) = Kernel::attach(&sized(39), &[]) else { panic!("40 blocks in 39 places") };

    assert!(matches!(refused, AttachError::Capacity { blocks: 40, capacity: 39 }), "{refused}");
    assert!(refused.hint().unwrap().contains("40"));
    assert_eq!(Kernel::open_pinned(&lab.pins).unwrap().blocks().unwrap(), before);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn without_an_agent_the_pinned_maps_can_be_read_and_released() {
    let lab = Lab::new();
    let nothing = Kernel::open_pinned(&lab.pins).err().unwrap();
    assert!(matches!(nothing, OpenError::NothingPinned { .. }), "{nothing}");
    let mut kernel = detached(&lab);
    kernel.block(address(1), entry(7, None)).unwrap();
    drop(kernel);

    let mut pinned = Kernel::open_pinned(&lab.pins).unwrap();

    assert_eq!(pinned.blocks().unwrap().len(), 1);
    assert!(pinned.release(address(1)).unwrap().is_some());
    assert_eq!(pinned.blocks().unwrap(), []);
    assert!(matches!(pinned.reattach(), Ok(interfaces) if interfaces.is_empty()));
}

/// A program on no interface.
fn detached(lab: &Lab) -> Kernel {
    Kernel::attach(&Config { interfaces: Vec::new(), ..lab.config() }, &[]).unwrap()
}

fn address(host: u8) -> Prefix {
    prefix(&format!("192.0.2.{host}"))
}
