//! The programs of the object on an agent's maps, asked for a verdict at a time that a test sets.

use std::fs;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use enforcer_ebpf::{Config as Words, Mode as Word, map, program};
use enforcer_kernel::{
    Budget, BudgetClass, Budgets, Bytes, Config, Counters, Direction, Egress, Entry, Kernel, Mode,
    OnAgentLoss, Packets, Reason, Verdict,
};
use enforcer_model::{BlockId, PerSecond, Prefix};

use crate::lab::Lab;
use crate::reference::{self, AnyNetwork, Lease, Rate, World};

/// Longer than the lease of an agent that is lost, shorter than that of one that is not.
const LATER: Duration = Duration::from_secs(3_600);

/// Every unit of time of the programs divides it.
const STEP_NS: u64 = 1 << 30;

pub struct Trial {
    pub kernel: Kernel,
    ebpf: Ebpf,
    config: Array<MapData, [u64; 23]>,
    pub lab: Lab,
    counters: Counters,
}

impl Trial {
    pub fn new() -> Self {
        let lab = Lab::new();
        let config = Config { interfaces: Vec::new(), sources: 4_096, ..lab.config() };
        Self::on(lab, &config)
    }

    pub fn on(lab: Lab, config: &Config) -> Self {
        let kernel = Kernel::attach(config, &[], &[]).unwrap();
        let folder = lab.pins.join(format!("v{}", enforcer_ebpf::ABI));
        let object = fs::read(concat!(env!("OUT_DIR"), "/enforcer-ebpf.o")).unwrap();
        let mut loader = EbpfLoader::new();
        loader.override_global("TEST_CLOCK", &1u64, true);
        for name in map::ALL {
            loader.map_pin_path(name, folder.join(name));
        }
        let mut ebpf = loader.load(&object).unwrap();
        xdp(&mut ebpf).load().unwrap();
        classifier(&mut ebpf, program::INGRESS).load().unwrap();
        classifier(&mut ebpf, program::EGRESS).load().unwrap();
        let pinned = Map::Array(MapData::from_pin(folder.join(map::CONFIG)).unwrap());
        let config = Array::try_from(pinned).unwrap();
        let counters = kernel.counters().unwrap();
        let mut trial = Self { kernel, ebpf, config, lab, counters };
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let now_ns = now.tv_sec.cast_unsigned() * 1_000_000_000 + LATER.as_nanos() as u64;
        trial.set_clock(now_ns.next_multiple_of(STEP_NS));
        trial
    }

    pub fn words(&self) -> Words {
        Words::from_words(self.config.get(&0, 0).unwrap())
    }

    pub fn now_ns(&self) -> u64 {
        self.words().test_clock_ns
    }

    pub fn set_clock(&mut self, now_ns: u64) {
        let words = Words { test_clock_ns: now_ns, ..self.words() };
        self.config.set(0, words.to_words(), 0).unwrap();
    }

    /// Instructions that the verifier followed, for each program.
    pub fn verified(&self) -> [(&'static str, u32); 3] {
        program::ALL.map(|name| {
            let info = self.ebpf.program(name).unwrap().info().unwrap();
            (name, info.verified_instruction_count().unwrap())
        })
    }

    /// What a program makes of a frame, with the reason of the counter that went up.
    pub fn judge(&mut self, name: &str, frame: &[u8]) -> (Verdict, Reason) {
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        let (answer, pass, drop) = match name {
            program::XDP => (xdp(&mut self.ebpf).test_run(options), 2, 1),
            name => (classifier(&mut self.ebpf, name).test_run(options), u32::MAX, 2),
        };
        let answer = answer.unwrap().return_value;
        let before = std::mem::replace(&mut self.counters, self.kernel.counters().unwrap());
        let both = before.entries.iter().zip(&self.counters.entries);
        let grown: Vec<_> = both.filter(|(old, new)| old != new).collect();
        let [(old, new)] = grown[..] else { panic!("{grown:?}") };
        assert_eq!((new.packets - old.packets, new.bytes - old.bytes), (1, frame.len() as u64));
        let direction = if name == program::EGRESS { Direction::Out } else { Direction::In };
        assert_eq!(new.direction, direction);
        assert_eq!(
            answer,
            if new.verdict == Verdict::Pass { pass } else { drop },
            "{}",
            new.reason
        );
        (new.verdict, new.reason)
    }

    /// Puts in force what `world` says. Sources begin anew.
    pub fn enact(&mut self, world: &World) {
        let blocked: Vec<Prefix> =
            self.kernel.blocks().unwrap().iter().map(|block| block.prefix).collect();
        self.kernel.load(&[], &blocked).unwrap();
        self.kernel.sweep().unwrap();
        self.kernel.set_mode(mode(world.mode)).unwrap();
        let lease = |lease| OnAgentLoss::Observe { lease };
        let loss = match world.lease {
            Lease::None => OnAgentLoss::Keep,
            Lease::Running => lease(1_000 * LATER),
            Lease::Over => lease(LATER / 1_000),
        };
        self.kernel.set_on_agent_loss(loss).unwrap();
        for (id, block) in world.blocks.iter().enumerate() {
            let expires = block.expired.then_some(Duration::ZERO);
            let id = BlockId::from_bits(id as u64 + 1);
            let entry = Entry { id, expires, observe: block.observe, contain: block.contain };
            self.kernel.block(prefix_of(block.network), entry).unwrap();
        }
        let allow: Vec<Prefix> = world.allow.iter().map(|it| prefix_of(*it)).collect();
        self.kernel.set_allow(&allow).unwrap();
        let egress = match (world.contain, world.peers) {
            (true, _) => Egress::Contain,
            (false, true) => Egress::Count,
            (false, false) => Egress::Off,
        };
        self.kernel.set_egress(egress).unwrap();
        self.kernel.set_budgets(&budgets(world)).unwrap();
        self.forget_sources();
    }

    /// Nobody has sent anything.
    pub fn forget_sources(&mut self) {
        for name in [map::SOURCE4, map::SOURCE6] {
            self.zero::<16>(name);
        }
    }

    /// The same, and there was no flood, and nobody answers for others.
    pub fn forget(&mut self) {
        self.forget_sources();
        self.zero::<1>(map::FLOOD);
        self.zero::<1>(map::REPORTED);
        self.zero::<4>(map::ESCALATED);
        self.zero::<{ size_of::<enforcer_ebpf::flood::State>() / 8 }>(map::STATE);
    }

    fn zero<const WORDS: usize>(&self, name: &'static str)
    where
        [u64; WORDS]: aya::Pod,
    {
        let folder = self.lab.pins.join(format!("v{}", enforcer_ebpf::ABI));
        let pinned = Map::Array(MapData::from_pin(folder.join(name)).unwrap());
        let mut array: Array<_, [u64; WORDS]> = Array::try_from(pinned).unwrap();
        for index in 0..array.len() {
            if array.get(&index, 0).unwrap() != [0; WORDS] {
                array.set(index, [0; WORDS], 0).unwrap();
            }
        }
    }
}

fn xdp(ebpf: &mut Ebpf) -> &mut Xdp {
    ebpf.program_mut(program::XDP).unwrap().try_into().unwrap()
}

fn classifier<'e>(ebpf: &'e mut Ebpf, name: &str) -> &'e mut SchedClassifier {
    ebpf.program_mut(name).unwrap().try_into().unwrap()
}

pub fn mode(word: Word) -> Mode {
    match word {
        Word::Enforce => Mode::Enforce,
        Word::Observe => Mode::Observe,
        Word::Off => Mode::Off,
    }
}

pub fn prefix_of(network: AnyNetwork) -> Prefix {
    let AnyNetwork { v6, bits, length } = network;
    let address = if v6 {
        IpAddr::from(bits.to_be_bytes())
    } else {
        IpAddr::from((bits as u32).to_be_bytes())
    };
    Prefix::new(address, length as u8).unwrap()
}

fn budgets(world: &World) -> Budgets {
    let classes = world.budgets.iter().enumerate().map(|(number, budget)| {
        let networks = world.classes.iter().filter(|(_, class)| *class == number);
        BudgetClass {
            name: format!("class {number}").into(),
            networks: networks.map(|(network, _)| prefix_of(*network)).collect(),
            budget: Some(budget_of(budget)),
        }
    });
    let classes = if world.classes.is_empty() { Vec::new() } else { classes.collect() };
    let default = world.budgets.first().map(budget_of);
    Budgets { default, classes, ports: world.ports.clone(), ..Budgets::default() }
}

pub fn budget_of(budget: &reference::Budget) -> Budget {
    let packets = |it: Rate| Packets {
        rate: PerSecond::new(NonZeroU32::new(it.rate as u32).unwrap()),
        burst: NonZeroU32::new(it.burst as u32).unwrap(),
    };
    Budget {
        packets: budget.packets.map(packets),
        bytes: budget.bytes.map(|it| Bytes { rate: it.rate, burst: it.burst }),
        syns: budget.syns.map(packets),
        penalty: Duration::from_nanos(budget.penalty_ns),
        observe: budget.observe,
    }
}
