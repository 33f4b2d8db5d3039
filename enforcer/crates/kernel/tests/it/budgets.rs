//! What sources may send, who has another budget, and the agent's lease, as the maps hold it.

use std::num::NonZeroU32;
use std::time::Duration;

use aya::maps::{Array, LpmTrie, Map, MapData};
use enforcer_ebpf::{Class, Ports, flag, map};
use enforcer_kernel::{
    BlockError, Budget, BudgetClass, Budgets, Bytes, Config, Egress, Escalate, Kernel, Lease,
    OnAgentLoss, Packets, Reason, Verdict,
};
use enforcer_model::{PerSecond, Prefix};

use crate::blocks::detached;
use crate::lab::{Lab, PEERS4, prefix, wait_for};
use crate::table::words;

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn budgets_are_held_as_the_policy_says() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 64);
    let default = Budget {
        packets: Some(packets(1_000, 50)),
        bytes: Some(Bytes { rate: 1 << 20, burst: 1 << 21 }),
        syns: Some(packets(20, 40)),
        penalty: Duration::from_secs(30),
        observe: true,
    };
    let escalate = Escalate {
        sources: NonZeroU32::new(8).unwrap(),
        within: Duration::from_secs(10),
        for_: Duration::from_secs(600),
    };
    let budgets = Budgets {
        default: Some(default),
        classes: vec![class("partners", &["198.51.100.0/24", "2001:db8::/32"], None)],
        ports: vec![443, 8443],
        flood: Some(rate(50_000)),
        escalate: Some(escalate),
    };

    kernel.set_budgets(&budgets).unwrap();
    kernel.set_egress(Egress::Contain).unwrap();

    let held = words(&lab);
    let all = flag::BUDGETS | flag::CLASSES | flag::SYNS | flag::CONTAIN | flag::PEERS;
    assert_eq!(held.flags, all);
    assert_eq!(held.ports, Ports::of(&[443, 8443]));
    assert_eq!((held.flood_per_second, held.escalate_after), (50_000, 8));
    let (within_ns, for_ns) = (held.escalate_within_ns, held.escalate_for_ns);
    assert_eq!((within_ns, for_ns), (10_000_000_000, 600_000_000_000));
    let encoded = Class::NONE.packets(1_000, 50).bytes(1 << 20, 1 << 21).syns(20, 40);
    let encoded = Class { penalty: 30_000_000_000 / 8, observe: 1, ..encoded };
    assert_eq!(class_words(&lab, 0), encoded);
    assert_eq!(class_words(&lab, 1), Class { packet_tolerance: u64::MAX, ..Class::NONE });
    assert_eq!(classes4(&lab), [(24, [198, 51, 100, 0], 1)]);

    kernel.set_budgets(&Budgets::default()).unwrap();
    let held = words(&lab);
    assert_eq!(held.flags, flag::CONTAIN | flag::PEERS);
    assert_eq!((held.ports, held.flood_per_second, held.escalate_after), (Ports([0, 0]), 0, 0));
    assert_eq!(classes4(&lab), []);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_generation_of_classes_moves_on_only_when_somebody_changes_his_class() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 64);
    let one = |networks: &[&str]| Budgets {
        classes: vec![class("one", networks, Some(limited(5)))],
        ..Budgets::default()
    };
    let generation = || words(&lab).class_generation;
    assert_eq!(generation(), 0);

    kernel.set_budgets(&one(&["192.0.2.0/24"])).unwrap();
    assert_eq!(generation(), 1);
    let other_budget = Budgets {
        classes: vec![class("one", &["192.0.2.0/24"], Some(limited(9)))],
        ..Budgets::default()
    };
    kernel.set_budgets(&other_budget).unwrap();
    assert_eq!(generation(), 1, "the same networks");
    for turn in 0..4 {
        let network = format!("192.0.{turn}.0/24");
        kernel.set_budgets(&one(&[&network])).unwrap();
    }

    assert!(generation() <= 3, "two bits");
    let reordered = Budgets {
        classes: vec![class("two", &["10.0.0.0/8"], None), other_budget.classes[0].clone()],
        ..Budgets::default()
    };
    kernel.set_budgets(&reordered).unwrap();
    assert_eq!(classes4(&lab), [(8, [10, 0, 0, 0], 2), (24, [192, 0, 2, 0], 1)]);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn what_does_not_fit_is_refused_before_anything_changes() {
    let lab = Lab::new();
    let mut kernel = detached(&lab, 64);
    let good = Budgets { default: Some(limited(5)), ..Budgets::default() };
    kernel.set_budgets(&good).unwrap();
    let before = (words(&lab), class_words(&lab, 0));
    let crowd: Vec<String> =
        (0..4_097u32).map(|n| format!("10.{}.{}.0/24", n >> 8, n & 255)).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    let classes = |count: usize| -> Vec<BudgetClass> {
        (0..count).map(|number| class(&number.to_string(), &[], None)).collect()
    };

    let many_networks =
        Budgets { classes: vec![class("crowd", &crowd, None)], ..Budgets::default() };
    let refused = kernel.set_budgets(&many_networks).unwrap_err();
    assert!(matches!(refused, BlockError::TooManyInClasses { networks: 4_097 }), "{refused}");
    let many_classes = Budgets { classes: classes(63), ..Budgets::default() };
    let refused = kernel.set_budgets(&many_classes).unwrap_err();
    assert!(matches!(refused, BlockError::TooManyClasses { classes: 63 }), "{refused}");
    let many_ports = Budgets { ports: (1..=9).collect(), ..Budgets::default() };
    let refused = kernel.set_budgets(&many_ports).unwrap_err();
    assert!(matches!(refused, BlockError::TooManyPorts { ports: 9 }), "{refused}");
    assert!(refused.hint().is_some());

    assert_eq!((words(&lab), class_words(&lab, 0)), before);
    kernel.set_budgets(&Budgets { classes: classes(62), ..Budgets::default() }).unwrap();
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_source_that_is_silent_while_classes_change_is_in_its_new_class_afterwards() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    let strict = |networks: &[&str]| Budgets {
        default: Some(Budget { penalty: Duration::from_secs(1), ..limited(1_000) }),
        classes: vec![class("strict", networks, Some(limited(1)))],
        ..Budgets::default()
    };
    kernel.set_budgets(&strict(&[])).unwrap();
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Pass);

    // Two bits of generations go round once while it is silent.
    let last = [PEERS4[0]];
    for networks in [&["198.51.100.1"][..], &["198.51.100.2"], &["198.51.100.3"], &last] {
        kernel.set_budgets(&strict(networks)).unwrap();
    }
    let verdicts: Vec<Verdict> =
        (0..3).map(|_| lab.send(PEERS4[0], || kernel.counters().unwrap())).collect();

    assert!(verdicts.contains(&Verdict::Drop), "{verdicts:?}");
    assert_eq!(lab.send(PEERS4[1], || kernel.counters().unwrap()), Verdict::Pass);
    assert!(kernel.counters().unwrap().packets(Verdict::Drop, Reason::Budget) > 0);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn without_an_agents_sign_of_life_the_kernel_observes_and_with_one_it_enforces_again() {
    let lab = Lab::new();
    let loss = OnAgentLoss::Observe { lease: Duration::from_millis(200) };
    let config = Config { on_agent_loss: loss, ..lab.config() };
    let mut kernel = Kernel::attach(&config, &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), crate::lab::entry(7, None)).unwrap();
    wait_for("the end of the lease", || matches!(kernel.lease(), Lease::Over(_)));

    assert!(kernel.explain(PEERS4[0].parse().unwrap()).unwrap().lease_over);
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Pass);
    // Who only looks is no agent.
    Kernel::open_pinned(&lab.pins).unwrap().renew_lease().unwrap();
    assert!(matches!(kernel.lease(), Lease::Over(_)));
    let longer = OnAgentLoss::Observe { lease: Duration::from_secs(60) };
    kernel.set_on_agent_loss(longer).unwrap();
    kernel.renew_lease().unwrap();

    assert!(matches!(kernel.lease(), Lease::Left(left) if left > Duration::from_secs(50)));
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Drop);
    kernel.set_on_agent_loss(OnAgentLoss::Keep).unwrap();
    assert_eq!(kernel.lease(), Lease::Unlimited);
}

pub fn packets(per_second: u32, burst: u32) -> Packets {
    Packets { rate: rate(per_second), burst: NonZeroU32::new(burst).unwrap() }
}

pub fn rate(per_second: u32) -> PerSecond {
    PerSecond::new(NonZeroU32::new(per_second).unwrap())
}

/// So many packets at once, then one in a second.
pub fn limited(burst: u32) -> Budget {
    Budget {
        packets: Some(packets(1, burst)),
        bytes: None,
        syns: None,
        penalty: Duration::ZERO,
        observe: false,
    }
}

pub fn class(name: &str, networks: &[&str], budget: Option<Budget>) -> BudgetClass {
    let networks: Vec<Prefix> = networks.iter().map(|network| prefix(network)).collect();
    BudgetClass { name: name.into(), networks, budget }
}

fn class_words(lab: &Lab, number: u32) -> Class {
    let data = MapData::from_pin(lab.pins.join("v2").join(map::CLASS)).unwrap();
    let classes: Array<_, [u64; 8]> = Map::from_map_data(data).unwrap().try_into().unwrap();
    Class::from_words(classes.get(&number, 0).unwrap())
}

fn classes4(lab: &Lab) -> Vec<(u32, [u8; 4], u32)> {
    let data = MapData::from_pin(lab.pins.join("v2").join(map::CLASS4)).unwrap();
    let list: LpmTrie<_, [u8; 4], u32> = Map::from_map_data(data).unwrap().try_into().unwrap();
    let mut listed: Vec<_> = list
        .iter()
        .map(|entry| entry.map(|(key, number)| (key.prefix_len(), key.data(), number)).unwrap())
        .collect();
    listed.sort_unstable();
    listed
}
