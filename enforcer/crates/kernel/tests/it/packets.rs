//! What packets meet, on a wire, in the driver and in the generic path, over both families.

use std::num::NonZeroU32;
use std::time::Duration;

use enforcer_kernel::{
    Attach, Attachment, Budget, Budgets, Config, Entry, Event, Hook, Kernel, Mode, Packets, Reason,
    Verdict,
};
use enforcer_model::PerSecond;

use crate::lab::{Lab, PEERS4, PEERS6, entry, prefix, wait_for};

const EITHER_HOOK: [(Attach, Hook); 2] =
    [(Attach::Native, Hook::Native), (Attach::Generic, Hook::Generic)];

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_blocked_source_is_dropped_and_its_neighbours_are_not() {
    for (attach, expected) in EITHER_HOOK {
        let lab = Lab::new();
        let mut kernel = Kernel::attach(&Config { attach, ..lab.config() }, &[], &[]).unwrap();
        let attachment = kernel.interfaces().unwrap()[0].attachment;
        assert!(matches!(attachment, Attachment::Attached { hook, .. } if hook == expected));

        for [blocked, neighbour, _] in [PEERS4, PEERS6] {
            assert_eq!(lab.send(blocked, || kernel.counters().unwrap()), Verdict::Pass);
            let installed = kernel.block(prefix(blocked), entry(7, None)).unwrap();
            assert_eq!((installed.packets, installed.remaining), (0, None));

            assert_eq!(lab.send(blocked, || kernel.counters().unwrap()), Verdict::Drop);
            assert_eq!(lab.send(neighbour, || kernel.counters().unwrap()), Verdict::Pass);
            let met = kernel.find(prefix(blocked)).unwrap().unwrap();
            assert_eq!(met.packets, 1);
            assert!(met.bytes > 0 && met.last_hit.is_some());

            let released = kernel.release(prefix(blocked)).unwrap().unwrap();
            assert_eq!(released.packets, 1);
            assert_eq!(lab.send(blocked, || kernel.counters().unwrap()), Verdict::Pass);
        }
        assert_eq!(kernel.counters().unwrap().packets(Verdict::Drop, Reason::Blocked), 2);
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_network_of_any_length_is_dropped_whole() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    let networks4 = ["0.0.0.0/0", "10.0.0.0/7", "10.77.0.0/24", "10.77.0.2/31", "10.77.0.2"];
    let networks6 = ["::/0", "2001:db8::/33", "2001:db8:77::/64", "2001:db8:77::2/127"];

    for network in networks4.into_iter().chain(networks6) {
        let [source, outside] =
            if network.contains(':') { [PEERS6[0], PEERS6[2]] } else { [PEERS4[0], PEERS4[2]] };
        kernel.block(prefix(network), entry(1, None)).unwrap();

        let judged = lab.send(source, || kernel.counters().unwrap());
        assert_eq!(judged, Verdict::Drop, "{network}");
        let covers = prefix(network).contains(outside.parse().unwrap());
        let expected = if covers { Verdict::Drop } else { Verdict::Pass };
        assert_eq!(lab.send(outside, || kernel.counters().unwrap()), expected, "{network}");

        kernel.release(prefix(network)).unwrap();
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_block_ends_at_its_time_though_the_agent_is_gone() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    let ttl = Duration::from_millis(700);
    kernel.block(prefix(PEERS4[0]), entry(1, Some(ttl))).unwrap();
    kernel.block(prefix(PEERS6[0]), entry(2, Some(ttl))).unwrap();
    drop(kernel);
    let pinned = Kernel::open_pinned(&lab.pins).unwrap();
    let counters = || pinned.counters().unwrap();

    assert_eq!(lab.send(PEERS4[0], counters), Verdict::Drop);
    assert_eq!(lab.send(PEERS6[0], counters), Verdict::Drop);
    wait_for("the end of the block", || lab.send(PEERS4[0], counters) == Verdict::Pass);
    wait_for("the end of the block", || lab.send(PEERS6[0], counters) == Verdict::Pass);
    assert_eq!(pinned.blocks().unwrap(), []);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_allow_list_wins_over_blocks_and_budgets() {
    let lab = Lab::new();
    let config = Config { budgets: packets(1, 1), ..lab.config() };
    let allow = [prefix("10.77.0.2"), prefix("2001:db8:77::2")];
    let mut kernel = Kernel::attach(&config, &allow, &[]).unwrap();
    kernel.block(prefix("10.77.0.0/24"), entry(1, None)).unwrap();
    kernel.block(prefix("2001:db8::/32"), entry(2, None)).unwrap();

    for [allowed, other, _] in [PEERS4, PEERS6] {
        for _ in 0..3 {
            assert_eq!(lab.send(allowed, || kernel.counters().unwrap()), Verdict::Pass);
        }
        assert_eq!(lab.send(other, || kernel.counters().unwrap()), Verdict::Drop);
    }
    kernel.release(prefix("10.77.0.0/24")).unwrap();
    for _ in 0..3 {
        assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Pass);
    }

    kernel.set_allow(&[prefix("10.77.0.3")]).unwrap();
    assert_eq!(kernel.allow().unwrap(), [prefix("10.77.0.3")]);
    assert_eq!(lab.send(PEERS6[0], || kernel.counters().unwrap()), Verdict::Drop);
    assert!(kernel.counters().unwrap().packets(Verdict::Pass, Reason::Allowed) >= 6);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_source_over_its_budget_is_dropped_until_it_has_saved_up() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    // An exchange of neighbour discovery before it spends nothing.
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Pass);
    kernel.set_budgets(&packets(1, 3)).unwrap();

    let judged = [(); 6].map(|()| lab.send(PEERS4[0], || kernel.counters().unwrap()));

    assert_eq!(judged[..3], [Verdict::Pass; 3]);
    assert!(judged[3..].contains(&Verdict::Drop), "{judged:?}");
    assert_eq!(lab.send(PEERS4[1], || kernel.counters().unwrap()), Verdict::Pass);
    wait_for("the next token", || {
        lab.send(PEERS4[0], || kernel.counters().unwrap()) == Verdict::Pass
    });

    kernel.set_budgets(&Budgets::default()).unwrap();
    for _ in 0..10 {
        assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Pass);
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn observing_counts_and_drops_nothing() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    let observed = Entry { observe: true, ..entry(1, None) };

    assert!(kernel.block(prefix(PEERS4[0]), observed).unwrap().observe);
    assert_eq!(lab.send(PEERS4[0], || kernel.counters().unwrap()), Verdict::Pass);
    kernel.set_mode(Mode::Observe).unwrap();
    kernel.block(prefix(PEERS4[1]), entry(2, None)).unwrap();
    assert_eq!(lab.send(PEERS4[1], || kernel.counters().unwrap()), Verdict::Pass);

    assert_eq!(kernel.counters().unwrap().packets(Verdict::Pass, Reason::Blocked), 2);
    assert_eq!(kernel.find(prefix(PEERS4[1])).unwrap().unwrap().packets, 1);
    kernel.set_mode(Mode::Enforce).unwrap();
    assert_eq!(lab.send(PEERS4[1], || kernel.counters().unwrap()), Verdict::Drop);
    kernel.set_mode(Mode::Off).unwrap();
    assert_eq!(lab.send(PEERS4[1], || kernel.counters().unwrap()), Verdict::Pass);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_first_drop_of_a_source_wakes_who_waits_for_events() {
    let lab = Lab::new();
    let mut kernel = Kernel::attach(&lab.config(), &[], &[]).unwrap();
    let mut events = kernel.take_events().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let network = prefix("2001:db8:77::/64");
    kernel.block(network, entry(7, None)).unwrap();

    for _ in 0..20 {
        lab.send(PEERS6[1], || kernel.counters().unwrap());
    }
    let first = async { tokio::time::timeout(Duration::from_secs(5), events.next()).await };
    let Ok(Some(Event::Blocked { source, prefix, id, verdict, age, sample })) =
        runtime.block_on(first)
    else {
        panic!("no event of a block");
    };

    assert_eq!(source.to_string(), PEERS6[1]);
    assert_eq!((prefix, id.bits(), verdict), (network, 7, Verdict::Drop));
    assert!(age < Duration::from_secs(5));
    assert_eq!((sample.protocol, sample.port), (17, 7777), "UDP to the ear of the lab");
    let more = std::iter::from_fn(|| events.try_next()).count();
    assert!(more <= 1, "once in a second, of which another one may have begun: {more} more");
    assert_eq!(kernel.counters().unwrap().events_lost, 0);
}

/// So many packets in a second, and so many at once.
fn packets(rate: u32, burst: u32) -> Budgets {
    let rate = PerSecond::new(NonZeroU32::new(rate).unwrap());
    let packets = Some(Packets { rate, burst: NonZeroU32::new(burst).unwrap() });
    let (bytes, syns, penalty, observe) = (None, None, Duration::ZERO, false);
    let default = Some(Budget { packets, bytes, syns, penalty, observe });
    Budgets { default, ..Budgets::default() }
}
