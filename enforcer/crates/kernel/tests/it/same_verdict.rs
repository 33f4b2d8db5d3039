//! The programs in the kernel and the same lines on the host give the same verdict for the same
//! reason, on every frame.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::time::Duration;

use enforcer_ebpf::{Mode as Word, program};
use enforcer_kernel::{Budgets, Config, Entry, Escalate, Mode, Reason, Verdict};
use enforcer_model::{BlockId, PerSecond, Prefix};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::any::{any_shape, any_world};
use crate::frames::{SYN, Shape, Transport, every_shape};
use crate::lab::{Lab, entry, prefix};
use crate::memory::Memory;
use crate::reference::{AnyNetwork, Block, Budget, Lease, Rate, World};
use crate::trial::{Trial, budget_of, mode};

/// `BPF_PROG_TEST_RUN` wants an Ethernet header, for XDP and for traffic control.
const SHORTEST: usize = 14;

/// The finest step that every clock of the programs can tell.
const TICK_NS: u64 = 1 << 15;

/// The verifier gives up at a million; what is left is room for the next feature.
const MOST_VERIFIED: u32 = 150_000;

const SOURCE4: [u8; 4] = [203, 0, 113, 7];
const SOURCE6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];

/// Whether the kernel tries the program on such a frame: at traffic control none gets that far
/// whose IP header is cut, and a trial says so.
fn is_run(name: &str, frame: &[u8]) -> bool {
    let header = match frame[12..14] {
        [8, 0] => 20,
        [0x86, 0xdd] => 40,
        _ => 0,
    };
    name == program::XDP || frame.len() >= SHORTEST + header
}

/// What the host makes of a frame.
fn on_host(host: &Memory, name: &str, frame: &[u8]) -> (Verdict, Reason) {
    if name == program::EGRESS { host.outgoing(frame) } else { host.incoming(frame) }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_kernel_judges_every_frame_in_every_world_as_the_host_does() {
    let trial = RefCell::new(Trial::new());
    let frame = prop_oneof![
        3 => any_shape().prop_map(|shape| shape.bytes()),
        1 => (any_shape(), any::<prop::sample::Index>()).prop_map(|(shape, cut)| {
            let frame = shape.bytes();
            let length = SHORTEST + cut.index(frame.len() - SHORTEST + 1);
            frame[..length].to_vec()
        }),
        1 => prop::collection::vec(any::<u8>(), SHORTEST..200),
        1 => (prop::collection::vec(any::<u8>(), SHORTEST..200), any::<bool>()).prop_map(
            |(mut frame, v6)| {
                frame[12..14].copy_from_slice(if v6 { &[0x86, 0xdd] } else { &[8, 0] });
                frame
            },
        ),
    ];
    let gap = prop_oneof![2 => Just(0), 1 => 0..100_000u64];
    let frames = prop::collection::vec((frame, gap), 1..15);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(200));

    let outcome = runner.run(&(any_world(), frames), |(world, frames)| {
        let mut trial = trial.borrow_mut();
        trial.enact(&world);
        for name in program::ALL {
            let host = world.tables();
            trial.forget_sources();
            for (frame, gap) in frames.iter().filter(|(frame, _)| is_run(name, frame)) {
                host.pass(gap * TICK_NS);
                let now_ns = trial.now_ns();
                trial.set_clock(now_ns + gap * TICK_NS);
                let expected = on_host(&host, name, frame);
                prop_assert_eq!(trial.judge(name, frame), expected, "{}: {:02x?}", name, frame);
            }
        }
        Ok(())
    });

    outcome.unwrap();
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_kernel_judges_every_shape_cut_at_every_byte_as_the_host_does() {
    let mut trial = Trial::new();
    let networks = [
        AnyNetwork::v4(SOURCE4, 32),
        AnyNetwork::v6(SOURCE6, 64),
        AnyNetwork::v4(crate::frames::HERE4, 31),
        AnyNetwork::v6(crate::frames::HERE6, 128),
    ];
    let budget = Budget { syns: Some(Rate { rate: 1, burst: 2 }), ..Budget::packets(1, 40) };
    let worlds = [
        (Word::Enforce, networks.to_vec(), vec![]),
        (Word::Observe, networks.to_vec(), vec![]),
        (Word::Enforce, vec![], vec![]),
        (Word::Enforce, vec![], vec![443, 68]),
    ];
    for (word, blocked, ports) in worlds {
        let blocks = blocked.into_iter().map(Block::around).collect();
        let world = World { mode: word, blocks, ports, ..World::with_budget(budget) };
        trial.enact(&world);
        assert_eq!(trial.kernel.mode().unwrap(), mode(word));
        for name in program::ALL {
            trial.forget_sources();
            let host = world.tables();
            for (shape_name, shape) in every_shape(SOURCE4, SOURCE6) {
                let frame = shape.bytes();
                for length in SHORTEST..=frame.len() {
                    let cut = &frame[..length];
                    if !is_run(name, cut) {
                        continue;
                    }
                    let expected = on_host(&host, name, cut);
                    let judged = trial.judge(name, cut);
                    assert_eq!(judged, expected, "{name}: {shape_name} cut at {length}");
                }
            }
        }
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_kernel_meets_a_flood_and_escalates_as_the_host_does() {
    let lab = Lab::new();
    // Few sets, so that many share one.
    let config = Config { interfaces: Vec::new(), sources: 1_024, ..lab.config() };
    let mut trial = Trial::on(lab, &config);
    let budget = Budget::packets(2, 3);
    let budgets = Budgets {
        default: Some(budget_of(&budget)),
        flood: Some(PerSecond::new(NonZeroU32::new(400).unwrap())),
        escalate: Some(Escalate {
            sources: NonZeroU32::new(3).unwrap(),
            within: Duration::from_secs(10),
            for_: Duration::from_secs(2),
        }),
        ..Budgets::default()
    };
    trial.kernel.set_budgets(&budgets).unwrap();
    trial.forget();
    // With the same secrets, so that the same sources share.
    let host = Memory::new(trial.words());
    host.set_class(0, budget.class());
    host.boot_ns.set(trial.now_ns());
    host.monotonic_ns.set(trial.now_ns());
    let mut noise = 1u64;
    let mut reasons = Vec::new();

    for step in 0..12_000u32 {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let random = (noise >> 33) as u32;
        let transport = || Transport::Tcp(40_000, 443, SYN);
        // A flood for a while, from anywhere, then one from few networks.
        let is_flood = (4_000..6_000).contains(&step);
        let shape = if step % 2 == 0 {
            let address = if is_flood { random } else { 0x0a00_0000 | random & 0x1ff };
            Shape::v4(address.to_be_bytes(), transport())
        } else {
            let [a, b, c, d] = random.to_be_bytes();
            let (site, part) =
                if is_flood { ([a, b], [c, d]) } else { ([0, a & 3], [b & 3, c & 7]) };
            let [site_high, site_low] = site;
            let [network, subnet] = part;
            let source =
                [0x2a, 1, 0, 0, site_high, site_low, network, subnet, 0, 0, 0, 0, 0, 0, 0, d];
            Shape::v6(source, transport())
        };
        let frame = shape.bytes();
        let gap_ns = u64::from(random % 64) * TICK_NS;
        host.pass(gap_ns);
        trial.set_clock(host.now_ns());

        let judged = trial.judge(program::XDP, &frame);

        assert_eq!(judged, host.incoming(&frame), "step {step}");
        if !reasons.contains(&judged.1) {
            reasons.push(judged.1);
        }
    }

    assert_eq!(reasons.len(), 3, "clean, over a budget, and over that of a flood: {reasons:?}");
    assert!(host.state.escalated_until_ns.get() > 0 && host.state.flood_until_ns.get() > 0);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_block_and_a_lease_end_in_the_kernel_by_its_clock() {
    let mut trial = Trial::new();
    let frame = Shape::v4(SOURCE4, Transport::Tcp(1, 2, SYN)).bytes();
    let dropped = (Verdict::Drop, Reason::Blocked);
    let start_ns = trial.now_ns();
    let block = Entry { expires: Some(2 * Duration::from_secs(3_600)), ..entry(7, None) };
    trial.kernel.block(prefix("203.0.113.7"), block).unwrap();
    for name in [program::XDP, program::INGRESS] {
        trial.set_clock(start_ns);
        assert_eq!(trial.judge(name, &frame), dropped);
        trial.set_clock(start_ns + 3_700_000_000_000);
        assert_eq!(trial.judge(name, &frame), (Verdict::Pass, Reason::Clean), "{name}");
    }

    let world = World {
        lease: Lease::Over,
        blocks: vec![Block::around(AnyNetwork::v4(SOURCE4, 24))],
        ..World::default()
    };
    trial.enact(&world);
    trial.set_clock(start_ns);
    assert_eq!(trial.judge(program::XDP, &frame), (Verdict::Pass, Reason::Blocked));
    trial.set_clock(1);
    assert_eq!(trial.judge(program::XDP, &frame), dropped, "while the agent was there");
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_table_full_of_lengths_is_walked_to_the_last() {
    let mut trial = Trial::new();
    let address = std::net::IpAddr::from(SOURCE6);
    for length in 97..=128 {
        let other = Prefix::around("2001:db8:0:1:8000::".parse().unwrap(), length);
        trial.kernel.block(other, entry(1, None)).unwrap();
    }
    let frame = Shape::v6(SOURCE6, Transport::Tcp(1, 2, SYN)).bytes();
    assert_eq!(trial.judge(program::XDP, &frame), (Verdict::Pass, Reason::Clean));

    for length in 97..=128 {
        let network = Prefix::around(address, length);
        trial.kernel.block(network, entry(2, None)).unwrap();
        for name in [program::XDP, program::INGRESS] {
            let judged = trial.judge(name, &frame);
            assert_eq!(judged, (Verdict::Drop, Reason::Blocked), "/{length} {name}");
        }
        trial.kernel.release(network).unwrap();
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn whoever_is_not_told_of_an_event_is_told_of_the_loss() {
    const BLOCKED: u16 = 6_000;
    let lab = Lab::new();
    let config = Config { interfaces: Vec::new(), blocks: 8_192, ..lab.config() };
    let mut trial = Trial::on(lab, &config);
    trial.kernel.set_mode(Mode::Enforce).unwrap();
    let host = |number: u16| [10, 9, number.to_be_bytes()[0], number.to_be_bytes()[1]];
    let blocks: Vec<(Prefix, Entry)> = (0..BLOCKED)
        .map(|number| {
            let id = BlockId::from_bits(number.into());
            (Prefix::new(host(number).into(), 32).unwrap(), Entry { id, ..entry(0, None) })
        })
        .collect();
    trial.kernel.load(&blocks, &[]).unwrap();
    let start_ns = trial.now_ns();

    for second in 0..3 {
        trial.set_clock(start_ns + (second << 31));
        for number in 0..BLOCKED {
            let frame = Shape::v4(host(number), Transport::Tcp(1, 2, SYN)).bytes();
            assert_eq!(trial.judge(program::XDP, &frame), (Verdict::Drop, Reason::Blocked));
        }
    }

    let lost = trial.kernel.counters().unwrap().events_lost;
    let mut events = trial.kernel.take_events().unwrap();
    let read = std::iter::from_fn(|| events.try_next()).count() as u64;
    assert!(lost > 0 && read > 3_000, "{lost} lost, {read} read");
    assert_eq!(lost + read, 3 * u64::from(BLOCKED));
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_programs_stay_within_their_budget_of_verified_instructions() {
    for (name, verified) in Trial::new().verified() {
        assert!(verified > 1_000, "{name}: the kernel tells {verified}");
        assert!(verified < MOST_VERIFIED, "{name}: {verified} instructions verified");
    }
}
