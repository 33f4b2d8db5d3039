//! Who pays, by which class, and what happens to those who exceed their budget.

use enforcer_ebpf::{Direction, Reason, Verdict};

use crate::frames::{SYN, Shape, Transport};
use crate::memory::Memory;
use crate::reference::{AnyNetwork, Budget, Rate, World};
use crate::verdict::{SOURCE4, SOURCE6};

const SECOND_NS: u64 = 1_000_000_000;
const PASSED: (Verdict, Reason) = (Verdict::Pass, Reason::Clean);
const OVER: (Verdict, Reason) = (Verdict::Drop, Reason::Budget);

fn v4(host: u8) -> Vec<u8> {
    Shape::v4([192, 0, 2, host], Transport::Tcp(1, 443, SYN)).bytes()
}

fn v6(subnet: u8, host: u8) -> Vec<u8> {
    let source = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, subnet, 0, 0, 0, 0, 0, 0, 0, host];
    Shape::v6(source, Transport::Tcp(1, 443, SYN)).bytes()
}

/// How many of `count` packets in a row get through.
fn passing(tables: &Memory, frame: &[u8], count: usize) -> usize {
    (0..count).filter(|_| tables.passes(frame)).count()
}

#[test]
fn ipv4_pays_by_address_and_ipv6_by_64() {
    let tables = World::with_budget(Budget::packets(1, 1)).tables();

    assert_eq!([v4(1), v4(1), v4(2)].map(|it| tables.incoming(&it)), [PASSED, OVER, PASSED]);
    assert_eq!(
        [v6(1, 1), v6(1, 2), v6(2, 1)].map(|it| tables.incoming(&it)),
        [PASSED, OVER, PASSED]
    );
}

#[test]
fn the_network_of_zeros_has_a_budget_like_any_other() {
    let tables = World {
        classes: vec![(AnyNetwork::v6([0; 16], 64), 1)],
        ..World::with_budget(Budget::packets(1, 1))
    };
    let tables = World { budgets: vec![Budget::packets(1, 1), Budget::packets(1, 5)], ..tables };
    let tables = tables.tables();
    let nobody = Shape::v6([0; 16], Transport::Tcp(1, 443, SYN)).bytes();
    assert_eq!(passing(&tables, &nobody, 20), 5, "by its class");

    // Others come and take free places; its own is not one of them.
    for subnet in 1..=255 {
        assert_eq!(tables.incoming(&v6(subnet, 1)), PASSED);
        assert_eq!(tables.incoming(&nobody), OVER, "after {subnet} others");
    }
}

#[test]
fn no_budget_meters_nobody() {
    let without = World::default().tables();
    let unlimited = World::with_budget(Budget::default()).tables();
    for tables in [without, unlimited] {
        assert_eq!(passing(&tables, &v4(1), 1_000), 1_000);
    }
}

#[test]
fn the_longest_network_says_which_class_an_address_has() {
    let budgets = vec![Budget::packets(1, 1), Budget::packets(1, 10), Budget::packets(1, 20)];
    let classes = vec![
        (AnyNetwork::v4([192, 0, 2, 0], 24), 1),
        (AnyNetwork::v4([192, 0, 2, 128], 25), 2),
        (AnyNetwork::v6(SOURCE6, 48), 1),
    ];
    let tables = World { budgets, classes, ..World::default() }.tables();

    let other = Shape::v4(SOURCE4, Transport::Icmp(8, 0)).bytes();
    let passed = [v4(1), v4(129), v6(9, 9), other].map(|it| passing(&tables, &it, 50));
    assert_eq!(passed, [10, 20, 10, 1]);
}

#[test]
fn a_class_holds_from_the_generation_on_that_brought_it_and_every_one_after() {
    let mut tables = World::with_budget(Budget::packets(1, 2)).tables();
    tables.set_class(1, Budget::packets(1, 1_000_000).class());
    assert_eq!(passing(&tables, &v4(1), 10), 2);

    for generation in 1..=9u64 {
        let is_partner = generation % 2 == 1;
        tables.v4.classes =
            if is_partner { vec![(AnyNetwork::v4([192, 0, 2, 1], 32), 1)] } else { Vec::new() };
        tables.config.flags.set(tables.config.flags.get() | enforcer_ebpf::flag::CLASSES);
        assert_eq!(passing(&tables, &v4(1), 10) == 10, !is_partner && generation > 1, "cached");
        tables.config.class_generation.set(generation);
        // What was spent as a partner is over at once, or long after.
        tables.pass(100 * SECOND_NS);

        assert_eq!(passing(&tables, &v4(1), 10), if is_partner { 10 } else { 2 }, "{generation}");
    }
}

#[test]
fn who_exceeds_a_budget_has_none_until_he_was_quiet_for_the_penalty() {
    let penalty_ns = 30 * SECOND_NS;
    for budget in [
        Budget { packets: Some(Rate { rate: 10, burst: 5 }), ..Budget::default() },
        Budget { syns: Some(Rate { rate: 10, burst: 5 }), ..Budget::default() },
    ] {
        let tables = World::with_budget(Budget { penalty_ns, ..budget }).tables();
        assert_eq!(passing(&tables, &v4(1), 6), 5);

        for _ in 0..3 {
            tables.pass(penalty_ns - 1_000);
            assert_eq!(tables.incoming(&v4(1)), OVER, "it begins anew with every packet");
        }
        assert_eq!(passing(&tables, &v4(2), 6), 5, "of nobody else");
        tables.pass(penalty_ns);
        assert!(tables.passes(&v4(1)));
        tables.pass(SECOND_NS);
        assert_eq!(passing(&tables, &v4(1), 6), 5, "and all is as before");
    }
}

#[test]
fn a_class_that_only_observes_counts_reports_and_drops_nothing() {
    let budget = Budget { observe: true, ..Budget::packets(1, 3) };
    let tables = World::with_budget(budget).tables();

    assert_eq!(passing(&tables, &v4(1), 10), 10);

    let (over, _) = tables.counted(Direction::In, Verdict::Pass, Reason::Budget);
    let (clean, _) = tables.counted(Direction::In, Verdict::Pass, Reason::Clean);
    assert_eq!((clean, over), (3, 7));
    assert!(tables.events().iter().all(|event| event.is(Verdict::Pass)));
}

#[test]
fn what_is_refused_costs_the_other_budgets_nothing() {
    let tight = Some(Rate { rate: 1, burst: 1 });
    let bytes = Some(Rate { rate: 65_536, burst: 65_536 });
    let budget = Budget {
        syns: tight,
        bytes,
        packets: Some(Rate { rate: 1, burst: 100 }),
        ..Budget::default()
    };
    let tables = World::with_budget(budget).tables();
    let udp = Shape::v4([192, 0, 2, 1], Transport::Udp(1, 2, vec![0; 100])).bytes();

    // One connection, then refused ones: 99 packets and nearly all bytes are left.
    assert_eq!(passing(&tables, &v4(1), 50), 1);
    assert_eq!(tables.incoming(&v4(1)), (Verdict::Drop, Reason::SynBudget));
    assert_eq!(passing(&tables, &udp, 200), 99);
    assert_eq!(tables.incoming(&udp), OVER);
}

#[test]
fn an_overspent_budget_is_reported_once_in_a_second_with_its_headers() {
    let tables = World::with_budget(Budget::packets(1, 1)).tables();
    for step in 0..40 {
        tables.pass(SECOND_NS / 20);
        assert_eq!(tables.passes(&v6(1, 1)), step % 20 == 0, "{step}");
    }

    let events = tables.events();
    assert!((2..=3).contains(&events.len()), "{}", events.len());
    let event = events[0];
    assert!(event.is(Verdict::Drop) && event.because(Reason::Budget) && event.went(Direction::In));
    assert_eq!((event.id, event.bits, event.length), (0, 128, 64));
    assert_eq!((event.protocol, event.source_port, event.port, event.flags), (6, 1, 443, 2));
    assert_eq!(event.bytes as usize, v6(1, 1).len());
}

#[test]
fn what_a_network_needs_and_who_is_allowed_pass_an_empty_budget_silently() {
    let mut tables = World::with_budget(Budget::packets(1, 1)).tables();
    tables.v6.allow = vec![AnyNetwork::v6(SOURCE6, 48)];
    let path_mtu = Shape::v4([192, 0, 2, 1], Transport::Icmp(3, 4)).bytes();
    tables.incoming(&v4(1));

    assert_eq!(tables.incoming(&path_mtu), (Verdict::Pass, Reason::Essential));
    assert_eq!(tables.incoming(&v6(1, 1)), PASSED);
    assert_eq!(tables.incoming(&v6(1, 1)), (Verdict::Pass, Reason::Allowed));
    assert!(tables.events().is_empty());
}
