//! The program in the kernel and the same lines on the host give the same verdict for the same
//! reason, on every frame.

use std::cell::RefCell;
use std::fs;
use std::num::NonZeroU32;
use std::time::Duration;

use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use enforcer_ebpf::{Mode as Word, PROGRAM, map};
use enforcer_kernel::{Budget, Config, Entry, Kernel, Mode, Reason, Verdict};
use enforcer_model::{BlockId, PerSecond, Prefix};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::frames::{Shape, Transport, any_shape, every_shape};
use crate::lab::{Lab, entry, prefix};
use crate::memory::Memory;
use crate::reference::{AnyNetwork, World, any_world};

/// `BPF_PROG_TEST_RUN` wants an Ethernet header.
const SHORTEST: usize = 14;

/// A program on the maps of an agent, which it can be asked for a verdict with.
struct Bench {
    kernel: Kernel,
    ebpf: Ebpf,
    _lab: Lab,
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_kernel_judges_every_frame_as_the_host_does() {
    let bench = RefCell::new(Bench::new());
    let frames = prop::collection::vec(
        prop_oneof![
            3 => any_shape().prop_map(|shape| shape.bytes()),
            1 => (any_shape(), any::<prop::sample::Index>()).prop_map(|(shape, cut)| {
                let frame = shape.bytes();
                let length = SHORTEST + cut.index(frame.len() - SHORTEST + 1);
                frame[..length].to_vec()
            }),
            1 => prop::collection::vec(any::<u8>(), SHORTEST..200),
        ],
        1..12,
    );
    let mut runner = TestRunner::new(ProptestConfig::with_cases(300));

    let outcome = runner.run(&(any_world(), frames), |(world, frames)| {
        let mut bench = bench.borrow_mut();
        bench.enact(&world);
        let host = world.tables();
        for frame in frames {
            prop_assert_eq!(bench.judge(&frame), host.judge_with_reason(&frame), "{:02x?}", frame);
        }
        Ok(())
    });

    outcome.unwrap();
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_kernel_judges_every_shape_cut_at_every_byte_as_the_host_does() {
    let mut bench = Bench::new();
    let (source4, source6) = ([203, 0, 113, 7], [0x20; 16]);
    for (mode, word) in [(Mode::Observe, Word::Observe), (Mode::Enforce, Word::Enforce)] {
        let network = |v6, bits, length| AnyNetwork { v6, bits, length };
        let networks = [
            network(false, u32::from_be_bytes(source4).into(), 32),
            network(true, u128::from_be_bytes(source6), 128),
        ];
        let world = World {
            mode: word,
            blocks: networks.map(crate::reference::Block::around).to_vec(),
            allow: Vec::new(),
        };
        bench.enact(&world);
        assert_eq!(bench.kernel.mode().unwrap(), mode);
        let host = world.tables();

        for (name, shape) in every_shape(source4, source6) {
            let frame = shape.bytes();
            for length in SHORTEST..=frame.len() {
                let cut = &frame[..length];
                assert_eq!(bench.judge(cut), host.judge_with_reason(cut), "{name} cut at {length}");
            }
        }
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_kernel_spends_a_budget_as_the_host_does() {
    let mut bench = Bench::new();
    let burst = NonZeroU32::new(3).unwrap();
    let budget = Budget { packets: PerSecond::new(NonZeroU32::MIN), burst };
    bench.kernel.set_mode(Mode::Enforce).unwrap();
    bench.kernel.set_budget(Some(budget)).unwrap();
    let config = enforcer_ebpf::Config { mode: Word::Enforce.word(), ..Default::default() };
    let host = Memory::new(config.with_budget(1, 3));
    let tcp = || Transport::Tcp(40_000, 443);
    let sources = (0..20u8).flat_map(|source| {
        let subnet = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, source, 0, 0, 0, 0, 0, 0, 0, source];
        [Shape::v4([10, 0, 0, source], tcp()), Shape::v6(subnet, tcp())]
    });

    for shape in sources {
        let frame = shape.bytes();
        // Well within the second that the next token takes.
        for packet in 0..5 {
            assert_eq!(bench.judge(&frame), host.judge_with_reason(&frame), "packet {packet}");
        }
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_map_full_of_lengths_is_walked_to_the_last() {
    let mut bench = Bench::new();
    bench.kernel.set_mode(Mode::Enforce).unwrap();
    let source = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let address = std::net::IpAddr::from(source);
    for length in 97..=128 {
        let other = Prefix::around("2001:db8::8000:0:0:0".parse().unwrap(), length);
        bench.kernel.block(other, entry(1, None)).unwrap();
    }
    let frame = Shape::v6(source, Transport::Tcp(1, 2)).bytes();
    assert_eq!(bench.judge(&frame), (Verdict::Pass, Reason::Clean));

    for length in 97..=128 {
        let network = Prefix::around(address, length);
        bench.kernel.block(network, entry(2, None)).unwrap();
        assert_eq!(bench.judge(&frame), (Verdict::Drop, Reason::Blocked), "/{length}");
        bench.kernel.release(network).unwrap();
    }
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn a_full_ring_loses_events_and_counts_the_loss() {
    let lab = Lab::new();
    let config = Config { interfaces: Vec::new(), blocks: 8_192, ..lab.config() };
    let mut bench = Bench::on(lab, &config);
    bench.kernel.set_mode(Mode::Enforce).unwrap();
    let frame = |host: u16| {
        let [high, low] = host.to_be_bytes();
        Shape::v4([10, 9, high, low], Transport::Tcp(1, 2)).bytes()
    };
    for host in 0..6_000u16 {
        let [high, low] = host.to_be_bytes();
        let source = prefix(&format!("10.9.{high}.{low}"));
        bench.kernel.block(source, entry(u64::from(host), None)).unwrap();
        assert_eq!(bench.judge(&frame(host)), (Verdict::Drop, Reason::Blocked));
    }

    let lost = bench.kernel.counters().unwrap().events_lost;
    let mut events = bench.kernel.take_events().unwrap();
    let read = std::iter::from_fn(|| events.try_next()).count() as u64;

    assert!(lost > 0 && read > 4_000, "{lost} lost, {read} read");
    assert_eq!(lost + read, 6_000);
}

#[test]
#[ignore = "needs root and the BPF object; run by `cargo xtask test`"]
fn the_program_stays_within_its_budget_of_verified_instructions() {
    let bench = Bench::new();

    let info = bench.program().info().unwrap();

    // The kernel gives up at a million; what is left is room for the next feature.
    let verified = info.verified_instruction_count().unwrap();
    assert!(verified < 200_000, "{verified} instructions verified");
}

impl Bench {
    fn new() -> Self {
        let lab = Lab::new();
        let config = Config { interfaces: Vec::new(), ..lab.config() };
        Self::on(lab, &config)
    }

    fn on(lab: Lab, config: &Config) -> Self {
        let kernel = Kernel::attach(config, &[]).unwrap();
        let object = fs::read(concat!(env!("OUT_DIR"), "/enforcer-ebpf.o")).unwrap();
        let mut loader = EbpfLoader::new();
        for name in map::ALL {
            loader.map_pin_path(name, lab.pins.join("v1").join(name));
        }
        let mut ebpf = loader.load(&object).unwrap();
        let program: &mut Xdp = ebpf.program_mut(PROGRAM).unwrap().try_into().unwrap();
        program.load().unwrap();
        Self { kernel, ebpf, _lab: lab }
    }

    fn program(&self) -> &Xdp {
        self.ebpf.program(PROGRAM).unwrap().try_into().unwrap()
    }

    /// Makes the maps say what `world` says.
    fn enact(&mut self, world: &World) {
        for block in self.kernel.blocks().unwrap() {
            self.kernel.release(block.prefix).unwrap();
        }
        self.kernel.sweep().unwrap();
        self.kernel
            .set_mode(match world.mode {
                Word::Enforce => Mode::Enforce,
                Word::Observe => Mode::Observe,
                Word::Off => Mode::Off,
            })
            .unwrap();
        for (id, block) in world.blocks.iter().enumerate() {
            let expires = block.expired.then_some(Duration::ZERO);
            let id = BlockId::from_bits(id as u64);
            let entry = Entry { id, expires, observe: block.observe };
            self.kernel.block(network(block.network), entry).unwrap();
        }
        let allow: Vec<Prefix> = world.allow.iter().map(|allowed| network(*allowed)).collect();
        self.kernel.set_allow(&allow).unwrap();
    }

    /// The program's verdict, with the reason of the counter that went up.
    fn judge(&self, frame: &[u8]) -> (Verdict, Reason) {
        let before = self.kernel.counters().unwrap();
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let answer = self.program().test_run(options).unwrap().return_value;
        let after = self.kernel.counters().unwrap();
        let mut grown = before.entries.iter().zip(&after.entries).filter(|(old, new)| old != new);
        let (old, new) = grown.next().unwrap();
        assert_eq!(grown.next(), None);
        assert_eq!((new.packets - old.packets, new.bytes - old.bytes), (1, frame.len() as u64));
        let verdict = match answer {
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            other => panic!("XDP action {other}"),
        };
        assert_eq!(new.verdict, verdict);
        (verdict, new.reason)
    }
}

fn network(network: AnyNetwork) -> Prefix {
    let AnyNetwork { v6, bits, length } = network;
    let address = if v6 {
        std::net::IpAddr::from(bits.to_be_bytes())
    } else {
        std::net::IpAddr::from((bits as u32).to_be_bytes())
    };
    Prefix::new(address, length as u8).unwrap()
}
