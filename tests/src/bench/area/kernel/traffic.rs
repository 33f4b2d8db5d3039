//! Packets whose source is another random key each time, and the programs that judge or send them.
//!
//! The programs are those of `enforcer-ebpf/src/bench.rs`. One makes a packet and hands it to the
//! program under test by a tail call, all inside `BPF_PROG_TEST_RUN`: its time less that of a program
//! that does nothing is the time of a verdict. The other sends live frames to an interface. Keys are
//! in random order and every key of a stream is sent as often as any other, so what must be counted
//! where is known exactly.

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData, ProgramArray};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{ProgramFd, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use parking_lot::Mutex;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::lab::{Family, HOST_FOR_ATTACKER, Namespace};

/// Keys that streams can be made of.
pub(super) const KEYS: u32 = 2_100_000;

/// Room behind them for keys that are chosen for a purpose.
const CHOSEN: u32 = 2048;

/// What `XDP_PASS` and `XDP_DROP` are called by the kernel.
pub(super) const PASS: u32 = 2;
pub(super) const DROP: u32 = 1;

/// Frames that are made at once; an interface's ring has room for four times as many.
const BATCH: u32 = 64;

/// Words of a CPU's entry in `TRAFFIC`; see `Traffic` of the program.
type Words = [u64; 16];

/// Makes packets.
pub(super) struct Generator {
    ebpf: Ebpf,
    cpus: Vec<usize>,
    programs: Mutex<ProgramArray<MapData>>,
    traffic: Mutex<Array<MapData, Words>>,
}

/// Packets that differ in their source only.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// Numbers of the keys.
    keys: Range<u32>,
    frame: Frame,
}

/// A UDP packet whose source is not filled in.
#[derive(Clone, Copy, Debug)]
struct Frame {
    bytes: [u8; FRAME_BYTES],
    family: Family,
}

/// As short as both families can be.
const FRAME_BYTES: usize = 64;

/// What a run of packets took and came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Mean time of a packet, as the kernel took it: whole nanoseconds, without what it takes to
    /// begin and to end a run (some 20 ms) and without the time that other processes had.
    pub(super) ns: f64,
    /// The verdict on the last one.
    pub(super) verdict: u32,
}

/// The key with this number: a permutation of all 32-bit numbers that looks random (the last step of
/// `MurmurHash3`, public domain). No key below `u32::MAX` is 0.
pub(super) const fn key(number: u32) -> u32 {
    let mut key = number.wrapping_add(1);
    key = (key ^ key >> 16).wrapping_mul(0x85eb_ca6b);
    key = (key ^ key >> 13).wrapping_mul(0xc2b2_ae35);
    key ^ key >> 16
}

/// The address that the program makes of a key.
pub(super) fn address(family: Family, number: u32) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(key(number))),
        Family::V6 => {
            let key = u128::from(key(number));
            IpAddr::V6(Ipv6Addr::from_bits(0x2a00 << 112 | key << 80 | key))
        }
    }
}

impl Generator {
    /// Loads the programs and the keys.
    pub(super) fn load() -> Result<Self> {
        let object = object()?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("KEYS", KEYS + CHOSEN)
            .load(&object)
            .context("loading the benches' programs")?;
        for name in ["judged", "sent", "drops", "passes"] {
            xdp_mut(&mut ebpf, name)?.load().with_context(|| format!("loading `{name}`"))?;
        }
        let mut keys: Array<_, u32> =
            ebpf.map_mut("KEYS").context("the object has no map `KEYS`")?.try_into()?;
        for number in 0..KEYS {
            keys.set(number, key(number), 0)?;
        }
        let set = sched_getaffinity(None)?;
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect();
        ensure!(cpus.len() >= 2, "this bench needs two cores");
        let programs = Mutex::new(taken(&mut ebpf, "PROGRAM")?.try_into()?);
        let traffic = Mutex::new(taken(&mut ebpf, "TRAFFIC")?.try_into()?);
        Ok(Self { ebpf, cpus, programs, traffic })
    }

    /// Makes a list of keys that only one part needs, and says which numbers it has.
    pub(super) fn choose(&mut self, numbers: &[u32]) -> Result<Range<u32>> {
        let mut keys: Array<_, u32> =
            self.ebpf.map_mut("KEYS").context("the object has no map `KEYS`")?.try_into()?;
        let count = u32::try_from(numbers.len())?;
        for (at, number) in (KEYS..).zip(numbers) {
            keys.set(at, key(*number), 0)?;
        }
        Ok(KEYS..KEYS + count)
    }

    /// Makes `program` the one that [`Self::judge`] asks.
    pub(super) fn ask(&self, program: &ProgramFd) -> Result<()> {
        Ok(self.programs.lock().set(0, program, 0)?)
    }

    /// The program that drops everything, or the one that passes everything.
    pub(super) fn empty(&self, verdict: u32) -> Result<&ProgramFd> {
        Ok(xdp(&self.ebpf, empty(verdict))?.fd()?)
    }

    /// Puts the program that drops or passes everything on an interface of the calling thread's
    /// network.
    pub(super) fn attach_empty(&mut self, verdict: u32, interface: u32) -> Result<XdpLinkId> {
        let program = xdp_mut(&mut self.ebpf, empty(verdict))?;
        Ok(program.attach_to_if_index(interface, XdpMode::Driver)?)
    }

    /// Takes it off again.
    pub(super) fn detach_empty(&mut self, verdict: u32, link: XdpLinkId) -> Result<()> {
        Ok(xdp_mut(&mut self.ebpf, empty(verdict))?.detach(link)?)
    }

    /// Has so many packets judged on one of two CPUs, 0 or 1.
    pub(super) fn judge(&self, cpu: usize, stream: &Stream, packets: u32) -> Result<Run> {
        let cpu = *self.cpus.get(cpu).context("there is no such CPU")?;
        self.prepare(cpu, stream, 0)?;
        let program = xdp(&self.ebpf, "judged")?;
        let run = pinned(cpu, || measured(program, stream, packets, TestRunAttrs::new()))?;
        ensure!(matches!(run.verdict, PASS | DROP), "the program under test was not asked");
        Ok(run)
    }

    /// Sends so many packets to an interface of `network`, on the first CPU.
    pub(super) fn send(
        &self,
        network: &Namespace,
        interface: u32,
        stream: &Stream,
        packets: u32,
    ) -> Result<Run> {
        let cpu = *self.cpus.first().context("there is no CPU")?;
        self.prepare(cpu, stream, interface)?;
        let program = xdp(&self.ebpf, "sent")?;
        let live = TestRunAttrs::new().xdp_live_frames(BATCH);
        network.run(|| pinned(cpu, || measured(program, stream, packets, live)))?
    }

    /// Tells a CPU what to send; it goes on where it was when that is what it sent before.
    fn prepare(&self, cpu: usize, stream: &Stream, interface: u32) -> Result<()> {
        let cpu = u32::try_from(cpu)?;
        let mut traffic = self.traffic.lock();
        let [first, count, next, ..] = traffic.get(&cpu, 0)?;
        let keys = &stream.keys;
        let (wanted, length) = (u64::from(keys.start), u64::from(keys.end - keys.start));
        ensure!(length > 0 && keys.end <= KEYS + CHOSEN, "no such keys: {keys:?}");
        let next = if (first, count) == (wanted, length) { next } else { 0 };
        let what = [wanted, length, next, interface.into(), stream.frame.sum()];
        let mut words = Words::default();
        words.iter_mut().zip(what).for_each(|(word, what)| *word = what);
        Ok(traffic.set(cpu, words, 0)?)
    }
}

/// Has the kernel run `program` on so many packets.
fn measured(program: &Xdp, stream: &Stream, packets: u32, attrs: TestRunAttrs) -> Result<Run> {
    let frame = stream.frame.bytes;
    let options =
        TestRunOptions { data_in: Some(&frame), repeat: packets, attrs, ..TestRunOptions::new() };
    let result = program.test_run(options)?;
    let ns = u32::try_from(result.duration.as_nanos())?.into();
    Ok(Run { ns, verdict: result.return_value })
}

fn pinned<T: Send>(cpu: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only)?;
    let done = work();
    sched_setaffinity(None, &before)?;
    done
}

impl Stream {
    /// Packets for whoever has this hardware address, with these keys by turns.
    pub(super) fn new(family: Family, to: [u8; 6], keys: Range<u32>) -> Self {
        Self { keys, frame: Frame::new(family, to) }
    }
}

impl Frame {
    /// UDP from port 40,000 to port 7,000 of the lab's host, without a UDP checksum.
    fn new(family: Family, to: [u8; 6]) -> Self {
        let mut bytes = Vec::with_capacity(FRAME_BYTES);
        bytes.extend(to);
        bytes.extend([2, 0, 0, 0, 0, 1]);
        match family {
            Family::V4 => {
                bytes.extend([0x08, 0x00, 0x45, 0, 0, 50, 0, 1, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0]);
                bytes.extend(HOST_FOR_ATTACKER.v4.octets());
                bytes.extend([0x9c, 0x40, 0x1b, 0x58, 0, 30, 0, 0]);
            }
            Family::V6 => {
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 10, 17, 64]);
                bytes.extend([0; 16]);
                bytes.extend(HOST_FOR_ATTACKER.v6.octets());
                bytes.extend([0x9c, 0x40, 0x1b, 0x58, 0, 10, 0, 0]);
            }
        }
        let mut frame = [0; FRAME_BYTES];
        frame.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Self { bytes: frame, family }
    }

    /// The sum of the IPv4 header, as the program wants it.
    fn sum(&self) -> u64 {
        match self.family {
            Family::V4 => {
                let header = self.bytes.iter().skip(14).take(20);
                let weights = [256, 1].into_iter().cycle();
                header.zip(weights).map(|(&byte, weight)| u64::from(byte) * weight).sum()
            }
            Family::V6 => 0,
        }
    }
}

const fn empty(verdict: u32) -> &'static str {
    if verdict == DROP { "drops" } else { "passes" }
}

/// What `cargo xtask ebpf` built, beside the folder that this program stands in.
fn object() -> Result<Vec<u8>> {
    let program = env::current_exe()?;
    let target = program.ancestors().nth(2).context("the program stands in no target folder")?;
    let object = target.join("ebpf/enforcer-bench.o");
    let hint = || format!("{}\nhint: `cargo xtask ebpf` builds it", object.display());
    fs::read(&object).with_context(hint)
}

fn taken(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the object has no map `{name}`"))
}

fn xdp<'e>(ebpf: &'e Ebpf, name: &str) -> Result<&'e Xdp> {
    let program = ebpf.program(name);
    Ok(program.with_context(|| format!("the object has no program `{name}`"))?.try_into()?)
}

fn xdp_mut<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name);
    Ok(program.with_context(|| format!("the object has no program `{name}`"))?.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_packets_of_a_stream_have_the_same_source() {
        for family in Family::BOTH {
            let sources: BTreeSet<IpAddr> =
                (0..100_000).map(|number| address(family, number)).collect();
            assert_eq!(sources.len(), 100_000);
            assert!(!sources.iter().any(IpAddr::is_unspecified));
        }
    }

    #[test]
    fn the_sum_of_a_header_is_that_of_its_halves() {
        let frame = Frame::new(Family::V4, [0xff; 6]);

        let [a, b, c, d] = HOST_FOR_ATTACKER.v4.octets().map(u64::from);
        assert_eq!(frame.sum(), 0x4500 + 50 + 1 + (64 << 8 | 17) + (a << 8 | b) + (c << 8 | d));
        assert_eq!(Frame::new(Family::V6, [0xff; 6]).sum(), 0);
    }
}
