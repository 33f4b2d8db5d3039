//! What others drop with, each as its own documentation says: nftables, ipset, xdp-filter.
//!
//! A peer's list stays loaded; only the hook is put in and taken out between rounds, so that all
//! meet the same packets on the same cable within seconds. Behind all of them stands a witness, a
//! rule that discards and counts what got past.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use aya::maps::{Map, MapData, PerCpuHashMap, PerCpuValues};
use tempfile::TempDir;

use super::traffic::key;
use crate::lab::{ATTACKER_FACING, Namespace};

/// Somebody who can be given a list of addresses to drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    /// A set, looked up in the first chain of prerouting.
    NftRaw,
    /// A set, looked up at ingress of the interface.
    NftNetdev,
    /// The same hook with a rule that asks nothing.
    NftNetdevAll,
    /// `hash:ip`, matched in the raw table of iptables.
    Ipset,
    /// XDP, from Debian's xdp-tools.
    XdpFilter,
}

/// xdp-filter's list has room for so many, whatever one asks for.
const XDP_FILTER_MOST: u32 = 10_000;

/// The peers of one host, with the first `count` keys as their lists.
pub(super) struct Peers<'l> {
    host: &'l Namespace,
    count: u32,
    folder: TempDir,
}

impl Peer {
    /// Those that are sets, then the one whose hook is XDP.
    pub(super) const ALL: [Self; 5] =
        [Self::NftRaw, Self::NftNetdev, Self::NftNetdevAll, Self::Ipset, Self::XdpFilter];

    /// What it is called in a report.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::NftRaw => "nftables raw",
            Self::NftNetdev => "nftables netdev",
            Self::NftNetdevAll => "nftables netdev, no set",
            Self::Ipset => "ipset",
            Self::XdpFilter => "xdp-filter",
        }
    }

    /// Whether a list of so many addresses fits.
    pub(super) const fn holds(self, count: u32) -> bool {
        match self {
            Self::NftRaw | Self::NftNetdev | Self::NftNetdevAll | Self::Ipset => true,
            Self::XdpFilter => count <= XDP_FILTER_MOST,
        }
    }
}

impl<'l> Peers<'l> {
    /// Gives each its list, which replaces the one it had.
    pub(super) fn load(host: &'l Namespace, count: u32) -> Result<Self> {
        let peers = Self { host, count, folder: tempfile::tempdir()? };
        peers.load_nft()?;
        peers.load_ipset()?;
        Ok(peers)
    }

    fn load_nft(&self) -> Result<()> {
        let mut script = String::from("flush ruleset\n");
        for family in ["ip", "netdev"] {
            let count = self.count;
            script.push_str(&format!(
                "table {family} peer {{\nset blocked {{\ntype ipv4_addr\nsize {count}\nelements = {{\n"
            ));
            for address in self.addresses() {
                script.push_str(&format!("{address},\n"));
            }
            script.push_str("}\n}\n}\n");
        }
        script.push_str(
            "table ip witness {\nchain rest {\ntype filter hook prerouting priority 0\n\
             ip protocol udp counter drop\n}\n}\n",
        );
        self.run_with("nft", "peers.nft", &script, "nft -f")
    }

    fn load_ipset(&self) -> Result<()> {
        // A set that is in use cannot be destroyed, one that does not exist neither.
        self.shell("iptables-legacy -t raw -F; ipset destroy blocked 2>/dev/null || true")?;
        let (count, buckets) = (self.count, self.count.next_power_of_two().max(64));
        let mut script = format!("create blocked hash:ip maxelem {count} hashsize {buckets}\n");
        for address in self.addresses() {
            script.push_str(&format!("add blocked {address}\n"));
        }
        self.run_with("ipset", "peers.ipset", &script, "ipset restore -file")
    }

    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        (0..self.count).map(|number| Ipv4Addr::from_bits(key(number)))
    }

    /// Writes `text` to a file, and runs a command with the file as its last word.
    fn run_with(&self, what: &str, name: &str, text: &str, command: &str) -> Result<()> {
        let path = self.folder.path().join(name);
        fs::write(&path, text)?;
        self.shell(&format!("{command} {}", path.display()))
            .with_context(|| format!("loading {} addresses into {what}", self.count))?;
        Ok(fs::remove_file(path)?)
    }

    /// Puts the peer where it drops.
    pub(super) fn hook(&self, peer: Peer) -> Result<()> {
        let link = ATTACKER_FACING;
        let ingress =
            format!("'{{ type filter hook ingress device {link} priority 0; policy accept; }}'");
        match peer {
            Peer::NftRaw => self.shell(
                "nft add chain ip peer drops '{ type filter hook prerouting priority raw; }' \
                 && nft add rule ip peer drops ip saddr @blocked drop",
            ),
            Peer::NftNetdev => self.shell(&format!(
                "nft add chain netdev peer drops {ingress} \
                 && nft add rule netdev peer drops ip saddr @blocked drop"
            )),
            Peer::NftNetdevAll => self.shell(&format!(
                "nft add chain netdev peer drops {ingress} && nft add rule netdev peer drops drop"
            )),
            Peer::Ipset => self.shell(
                "iptables-legacy -t raw -A PREROUTING -m set --match-set blocked src -j DROP",
            ),
            Peer::XdpFilter => {
                self.shell(&format!("xdp-filter load --mode native --features ipv4 {link}"))?;
                self.fill_xdp_filter()?;
                return Ok(());
            }
        }
        .with_context(|| format!("hooking {} in", peer.name()))
        .map(drop)
    }

    /// Takes it out again.
    pub(super) fn unhook(&self, peer: Peer) -> Result<()> {
        let command = match peer {
            Peer::NftRaw => "nft delete chain ip peer drops".to_owned(),
            Peer::NftNetdev | Peer::NftNetdevAll => "nft delete chain netdev peer drops".to_owned(),
            Peer::Ipset => "iptables-legacy -t raw -F PREROUTING".to_owned(),
            Peer::XdpFilter => format!("xdp-filter unload {ATTACKER_FACING}"),
        };
        self.shell(&command).with_context(|| format!("taking {} out", peer.name())).map(drop)
    }

    /// Its own command adds one address in 10 ms. The map is the same: the command adds the first
    /// address, and what it wrote for that one is written for the others.
    fn fill_xdp_filter(&self) -> Result<()> {
        let mut addresses = self.addresses();
        let first = addresses.next().context("an empty list")?;
        self.shell(&format!("xdp-filter ip --mode src {first}"))?;
        let pin = self.host.path("/sys/fs/bpf/xdp-filter/filter_ipv4");
        let map = Map::PerCpuHashMap(MapData::from_pin(pin)?);
        let mut map: PerCpuHashMap<_, [u8; 4], u64> = map.try_into()?;
        let written = map.get(&first.octets(), 0)?.iter().copied().collect::<Vec<_>>();
        for address in addresses {
            map.insert(address.octets(), PerCpuValues::try_from(written.clone())?, 0)?;
        }
        Ok(())
    }

    /// Packets that got past everybody.
    pub(super) fn witnessed(&self) -> Result<u64> {
        let rules = self.shell("nft list chain ip witness rest")?;
        let mut words = rules.split_whitespace().skip_while(|word| *word != "packets");
        let packets = words.nth(1).with_context(|| format!("no counter in {rules}"))?;
        Ok(packets.parse()?)
    }

    fn shell(&self, line: &str) -> Result<String> {
        let mut command = self.host.command("sh");
        command.args(["-c", line]);
        self.host.succeed(command)
    }
}
