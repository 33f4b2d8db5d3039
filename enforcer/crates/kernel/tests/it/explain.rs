//! What an operator is told is what the kernel would do, and asking changes nothing.

use std::net::IpAddr;
use std::time::Duration;

use enforcer_kernel::{
    Budget, Budgets, Config, Egress, Entry, Kernel, Mode, OnAgentLoss, Reason, Verdict,
};
use enforcer_model::Prefix;

use crate::budgets::{class, limited, rate};
use crate::lab::{Lab, PEERS4, PEERS6, entry, prefix, wait_for};

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_verdict_is_told_with_the_block_the_list_and_the_mode() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[prefix("203.0.113.7")], &[]).unwrap();
    let told = |kernel: &Kernel, address: &str| kernel.explain(ip(address)).unwrap();
    let clean = told(&kernel, "198.51.100.9");
    assert_eq!((clean.verdict, clean.reason), (Verdict::Pass, Reason::Clean));
    assert_eq!((clean.block, clean.budget, clean.allowed_by), (None, None, None));
    kernel.sweep().unwrap();
    let clean = told(&kernel, "198.51.100.9");
    assert!(clean.steps.iter().any(|step| step.contains("no blocks at all")), "{clean:?}");
    let wide = Entry { observe: true, ..entry(8, None) };
    kernel.block(prefix("203.0.113.0/24"), entry(7, Some(Duration::from_secs(600)))).unwrap();
    kernel.block(prefix("2001:db8::/32"), wide).unwrap();

    let blocked = told(&kernel, "203.0.113.8");
    assert_eq!((blocked.verdict, blocked.reason), (Verdict::Drop, Reason::Blocked));
    let block = blocked.block.unwrap();
    assert_eq!((block.prefix, block.id.bits()), (prefix("203.0.113.0/24"), 7));
    assert!(blocked.steps.iter().any(|step| step.contains("BLOCK4: 203.0.113.0/24")));
    assert_eq!(
        (blocked.allowed_by, blocked.lease_over, blocked.mode),
        (None, false, Mode::Enforce)
    );

    let allowed = told(&kernel, "203.0.113.7");
    assert_eq!((allowed.verdict, allowed.reason), (Verdict::Pass, Reason::Allowed));
    assert_eq!(allowed.allowed_by, Some(prefix("203.0.113.7")));
    assert!(allowed.block.is_some(), "the block is told all the same");

    let observed = told(&kernel, "2001:db8::9");
    assert_eq!((observed.verdict, observed.reason), (Verdict::Pass, Reason::Blocked));
    let near = told(&kernel, "203.0.114.1");
    assert!(
        near.steps.iter().any(|step| step.contains("PREFILTER4: no block touches")),
        "{near:?}"
    );

    kernel.set_mode(Mode::Observe).unwrap();
    let observed = told(&kernel, "203.0.113.8");
    assert_eq!((observed.verdict, observed.reason), (Verdict::Pass, Reason::Blocked));
    kernel.set_mode(Mode::Off).unwrap();
    let off = told(&kernel, "203.0.113.8");
    assert_eq!((off.verdict, off.reason), (Verdict::Pass, Reason::Off));
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn what_is_left_of_a_budget_is_told_and_asking_spends_nothing() {
    let lab = Lab::new();
    let budgets = Budgets {
        default: Some(limited(3)),
        classes: vec![
            class("partners", &[PEERS4[2]], None),
            class("half", &[PEERS4[1]], Some(limited(9))),
        ],
        ..Budgets::default()
    };
    let config = Config { budgets, ..lab.config() };
    let kernel = Kernel::attach(&config, &[], &[]).unwrap();
    let left = |source: &str| kernel.explain(ip(source)).unwrap().budget;
    for _ in 0..20 {
        let budget = left(PEERS4[0]).unwrap();
        assert_eq!((budget.packets_left, budget.packets_seen), (Some(3), None));
        assert_eq!((budget.class, budget.payer), (None, prefix(PEERS4[0])));
    }
    assert_eq!(left(PEERS4[2]), None, "partners have no budget to spend");
    let half = left(PEERS4[1]).unwrap();
    assert_eq!((half.class.as_deref(), half.packets_left), (Some("half"), Some(9)));

    while lab.send(PEERS4[0], || kernel.counters().unwrap()) == Verdict::Pass {}
    let spent = kernel.explain(ip(PEERS4[0])).unwrap();

    let budget = spent.budget.clone().unwrap();
    assert!(budget.packets_seen.unwrap() >= 4, "{budget:?}");
    assert!(budget.packets_left.unwrap() <= 1, "{budget:?}");
    if budget.packets_left == Some(0) {
        assert_eq!((spent.verdict, spent.reason), (Verdict::Drop, Reason::Budget), "{spent:?}");
    }
    let talkers = kernel.talkers(10);
    let talker = talkers.iter().find(|talker| talker.source == prefix(PEERS4[0])).unwrap();
    assert_eq!(Some(talker.packets), budget.packets_seen);
    assert!(talker.idle < Duration::from_secs(10));
    assert_eq!(kernel.talkers(0), []);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_verdict_that_is_told_is_the_one_that_packets_meet() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[prefix(PEERS4[1])], &[]).unwrap();
    let network6: Prefix = Prefix::around(ip(PEERS6[0]), 126);
    for (network, observe) in [(Prefix::around(ip(PEERS4[0]), 31), false), (network6, false)] {
        kernel.block(network, Entry { observe, ..entry(7, None) }).unwrap();
    }
    for source in PEERS4.into_iter().chain(PEERS6) {
        let told = kernel.explain(ip(source)).unwrap();

        let met = lab.send(source, || kernel.counters().unwrap());

        assert_eq!(told.verdict, met, "{source}: {told:?}");
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_lease_that_is_over_is_part_of_the_verdict() {
    let lab = Lab::new();
    let loss = OnAgentLoss::Observe { lease: Duration::from_millis(50) };
    let config = Config { on_agent_loss: loss, ..lab.config() };
    let mut kernel = Kernel::attach(&config, &[], &[]).unwrap();
    kernel.block(prefix(PEERS4[0]), entry(7, None)).unwrap();
    let told = || kernel.explain(ip(PEERS4[0])).unwrap();
    wait_for("the end of the lease", || told().lease_over);

    assert_eq!((told().verdict, told().reason), (Verdict::Pass, Reason::Blocked));
    assert!(told().steps[0].contains("no agent for too long"), "{:?}", told().steps);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_flood_is_told_while_it_lasts() {
    let lab = Lab::new();
    let budget = Budget { observe: true, ..limited(100) };
    let budgets = Budgets { default: Some(budget), flood: Some(rate(1)), ..Budgets::default() };
    let kernel = Kernel::attach(&Config { budgets, ..lab.config() }, &[], &[]).unwrap();
    assert!(!kernel.flood().active);

    for source in PEERS4.into_iter().chain(PEERS6) {
        lab.send(source, || kernel.counters().unwrap());
    }

    let flood = kernel.flood();
    assert!(flood.active && flood.newcomers > 1, "{flood:?}");
    assert_eq!(flood.escalated, []);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn what_goes_out_is_counted_by_destination() {
    let lab = Lab::new();
    let config = Config { egress: Egress::Count, ..lab.config() };
    let kernel = Kernel::attach(&config, &[], &[]).unwrap();
    assert!(lab.reaches_peer(PEERS4[0]));

    let peers = kernel.peers(10);

    let found = peers.iter().find(|peer| peer.destination == prefix(PEERS4[0])).unwrap();
    assert!(found.packets > 0 && found.bytes >= found.packets * 14, "{found:?}");
    assert!(found.idle < Duration::from_secs(60));
    assert!(kernel.memory() > 8 << 20, "the prefilters alone take eight mebibytes");
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
