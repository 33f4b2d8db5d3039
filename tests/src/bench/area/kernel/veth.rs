//! A packet that arrives on a cable and is dropped there, by us and by others on the same cable.
//!
//! One core sends and receives: the generator fills the interface's ring, and the kernel empties it
//! before the generator goes on. So the time of a packet is all that it costs the host, and what is
//! left after the floor, an XDP program that drops everything, is the price of the filter.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use aya::programs::xdp::XdpLinkId;

use super::super::super::{Effort, Row, Samples, Target};
use super::ours::{Ours, ROOM, generous};
use super::peers::{Peer, Peers};
use super::traffic::{DROP, Generator, Stream};
use super::{MILLION, SIZES, packets, rounds, thousands};
use crate::lab::{ATTACKER_FACING, Family, Lab, Namespace};

/// Who drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Arm {
    /// An empty XDP program.
    Floor,
    /// Ours, in XDP.
    Ours,
    /// Somebody else.
    Other(Peer),
    /// Nobody: the packet goes to the network stack, where a rule discards everything.
    Nobody,
}

/// The cable from the attacker to the host, and who can be put on it.
struct Cable<'c> {
    lab: &'c Lab,
    generator: &'c mut Generator,
    ours: Ours,
    far: u32,
    near: u32,
    hardware: [u8; 6],
}

pub(super) fn measure(lab: &Lab, generator: &mut Generator, effort: Effort) -> Result<Vec<Row>> {
    // Without it frames that no XDP program waits for are lost.
    let mut offload = lab.host.command("ethtool");
    offload.args(["-K", ATTACKER_FACING, "gro", "on"]);
    lab.host.succeed(offload)?;
    let ours = Ours::start(&lab.host, &ROOM, generous())?;
    let hardware = text(&lab.host, ATTACKER_FACING, "address")?;
    let octets: Vec<u8> =
        hardware.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect::<Result<_, _>>()?;
    let mut cable = Cable {
        lab,
        generator,
        ours,
        far: text(&lab.attacker, "eth0", "ifindex")?.parse()?,
        near: text(&lab.host, ATTACKER_FACING, "ifindex")?.parse()?,
        hardware: octets.try_into().ok().context("no hardware address")?,
    };
    let mut rows = Vec::new();
    let mut from = 0;
    for size in SIZES {
        cable.ours.block(Family::V4, from..size)?;
        let peers = Peers::load(&lab.host, size)?;
        rows.extend(dropped(&mut cable, &peers, size, effort)?);
        if size == MILLION {
            rows.push(passed(&mut cable, &peers, effort)?);
        }
        from = size;
    }
    Ok(rows)
}

/// One list of addresses, and a packet from each of them by turns.
fn dropped(
    cable: &mut Cable<'_>,
    peers: &Peers<'_>,
    size: u32,
    effort: Effort,
) -> Result<Vec<Row>> {
    let mut arms = vec![Arm::Floor, Arm::Ours];
    arms.extend(Peer::ALL.into_iter().filter(|peer| peer.holds(size)).map(Arm::Other));
    let stream = Stream::new(Family::V4, cable.hardware, 0..size);
    let medians = cable.compare(&arms, peers, &stream, packets(effort, 1_000_000), effort)?;
    let of = |arm| medians.get(&arm).copied();
    let floor = of(Arm::Floor).context("no floor")?;
    let ours = of(Arm::Ours).context("no figure of ours")? - floor;

    let size_text = thousands(size);
    let mut rows =
        vec![Row::new(format!("veth, dropped by an empty program, {size_text} keys"), "ns", floor)];
    let sets = [Peer::NftRaw, Peer::NftNetdev];
    let best = sets.iter().filter_map(|peer| of(Arm::Other(*peer))).fold(f64::INFINITY, f64::min);
    for peer in Peer::ALL {
        let Some(theirs) = of(Arm::Other(peer)) else { continue };
        let name = format!("veth, dropped, {size_text} blocked, above the empty program");
        let row = Row::new(name, "ns", ours).beside(peer.name(), theirs - floor);
        let is_best = sets.contains(&peer) && theirs <= best;
        rows.push(match (peer, size) {
            _ if is_best && size == MILLION => row.target(Target::RatioAtMost(0.4)),
            (Peer::XdpFilter, 10_000) => row.target(Target::RatioAtMost(1.0)),
            _ => row,
        });
    }
    // What is left of either when its hook and its packet are taken off as well.
    let set = of(Arm::Other(Peer::NftNetdev)).zip(of(Arm::Other(Peer::NftNetdevAll)));
    if let Some((set, hook)) = set {
        let name = format!("veth, dropped, {size_text} blocked, above a hook that asks nothing");
        rows.push(Row::new(name, "ns", ours).beside("nftables netdev", set - hook));
    }
    Ok(rows)
}

/// A packet that is let through, beside one that nobody looks at. Both end at the same rule.
fn passed(cable: &mut Cable<'_>, peers: &Peers<'_>, effort: Effort) -> Result<Row> {
    let stream = Stream::new(Family::V4, cable.hardware, MILLION..2 * MILLION);
    cable.round(Arm::Ours, peers, &stream, MILLION, Fate::Passed)?;
    let mut ours = Vec::new();
    let mut nobody = Vec::new();
    let packets = packets(effort, 1_000_000);
    for round in 0..rounds(effort) {
        let mut turn = [(Arm::Ours, &mut ours), (Arm::Nobody, &mut nobody)];
        if round % 2 == 1 {
            turn.reverse();
        }
        for (arm, figures) in turn {
            figures.push(cable.round(arm, peers, &stream, packets, Fate::Passed)?);
        }
    }
    let name = "veth, passed to a rule that discards, 1,000,000 blocked + 1,000,000 sources";
    Ok(Row::new(name, "ns", Samples::new(ours)?.median()?)
        .beside("no filter", Samples::new(nobody)?.median()?))
}

/// Where packets must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Dropped,
    Passed,
}

impl Cable<'_> {
    /// The median time of a packet for each arm; each round begins with another arm.
    fn compare(
        &mut self,
        arms: &[Arm],
        peers: &Peers<'_>,
        stream: &Stream,
        packets: u32,
        effort: Effort,
    ) -> Result<BTreeMap<Arm, f64>> {
        let mut figures: BTreeMap<Arm, Vec<f64>> = BTreeMap::new();
        for round in 0..rounds(effort) {
            for arm in arms.iter().cycle().skip(round).take(arms.len()) {
                let ns = self
                    .round(*arm, peers, stream, packets, Fate::Dropped)
                    .with_context(|| format!("{arm:?}"))?;
                figures.entry(*arm).or_default().push(ns);
            }
        }
        let median = |(arm, figures)| Ok((arm, Samples::new(figures)?.median()?));
        figures.into_iter().map(median).collect()
    }

    /// The time of a packet, when all arrived and met their fate.
    fn round(
        &mut self,
        arm: Arm,
        peers: &Peers<'_>,
        stream: &Stream,
        packets: u32,
        fate: Fate,
    ) -> Result<f64> {
        let link = self.hook(arm, peers)?;
        let before = (self.received()?, peers.witnessed()?);
        let run = self.generator.send(&self.lab.attacker, self.far, stream, packets)?;
        let after = (self.received()?, peers.witnessed()?);
        self.unhook(arm, peers, link)?;
        let received = after.0.wrapping_sub(before.0);
        let passed = after.1.wrapping_sub(before.1);
        let sent = u64::from(packets);
        ensure!(received >= sent, "{received} of {sent} packets arrived");
        let expected = match fate {
            Fate::Dropped => 0,
            Fate::Passed => sent,
        };
        ensure!(passed == expected, "{passed} of {sent} packets passed, not {expected}");
        Ok(run.ns)
    }

    fn hook(&mut self, arm: Arm, peers: &Peers<'_>) -> Result<Option<XdpLinkId>> {
        let Self { lab, generator, ours, near, .. } = self;
        let near = *near;
        match arm {
            Arm::Floor => lab.host.run(|| generator.attach_empty(DROP, near))?.map(Some),
            Arm::Ours => ours.attach(ATTACKER_FACING).map(|()| None),
            Arm::Other(peer) => peers.hook(peer).map(|()| None),
            Arm::Nobody => Ok(None),
        }
    }

    fn unhook(&mut self, arm: Arm, peers: &Peers<'_>, link: Option<XdpLinkId>) -> Result<()> {
        match (arm, link) {
            (Arm::Floor, Some(link)) => self.generator.detach_empty(DROP, link),
            (Arm::Ours, _) => self.ours.detach(ATTACKER_FACING),
            (Arm::Other(peer), _) => peers.unhook(peer),
            (Arm::Floor, None) | (Arm::Nobody, _) => Ok(()),
        }
    }

    /// Packets that came to the host's end of the cable.
    fn received(&self) -> Result<u64> {
        Ok(text(&self.lab.host, ATTACKER_FACING, "statistics/rx_packets")?.parse()?)
    }
}

fn text(namespace: &Namespace, link: &str, file: &str) -> Result<String> {
    let path = namespace.path(format!("/sys/class/net/{link}/{file}"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.trim().to_owned())
}
