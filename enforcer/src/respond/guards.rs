//! Whom a block must not hit: the operator's own way in, and what the host needs to live.
//!
//! Judged before every decision, by hand or by rule. The never-block lists also stand in the kernel
//! program's allow map, where they win over every block; an override cannot lift that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use enforcer_model::Prefix;

/// Widest network that is blocked without an override.
const WIDEST_V4: u8 = 16;
const WIDEST_V6: u8 = 32;

/// What the policy protects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guards {
    pub(crate) never_block: Vec<(String, Vec<Prefix>)>,
    pub(crate) upstreams: Vec<IpAddr>,
    /// Whose word about clients listeners believe: behind each of them are many.
    pub(crate) proxies: Vec<(String, Vec<Prefix>)>,
    /// Largest share of recent clients that one block may hit, in percent.
    pub(crate) clients_percent_max: u8,
}

/// What the host depends on, read when it is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) resolvers: Vec<IpAddr>,
    pub(crate) own: Vec<IpAddr>,
    pub(crate) ssh_peers: Vec<IpAddr>,
}

/// How many recent clients a block would hit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClientShare {
    pub(crate) hit: usize,
    pub(crate) all: usize,
}

impl Guards {
    /// One line for each reason why `target` must not be blocked; empty when it may be.
    pub(crate) fn objections(
        &self,
        target: Prefix,
        around: &Surroundings,
        clients: ClientShare,
    ) -> Vec<String> {
        let mut objections = Vec::new();
        if let Some(widest) = too_wide(target) {
            objections.push(format!("{:<15} wider than /{widest}", target.to_string()));
        }
        if let Some(why) = never_a_sender(target) {
            objections.push(format!("{:<15} {why}", target.to_string()));
        }
        let hit = self.protected(around).into_iter().filter(|(prefix, _)| prefix.overlaps(target));
        objections.extend(hit.map(|(prefix, what)| format!("{:<15} {what}", prefix.to_string())));
        objections.extend(self.too_many(clients));
        objections
    }

    /// Every network that nobody may block, and what it is.
    pub(super) fn protected(&self, around: &Surroundings) -> Vec<(Prefix, String)> {
        let named: [(&[IpAddr], &str); 5] = [
            (&around.ssh_peers, "an SSH session to this host"),
            (&around.gateways, "default gateway"),
            (&around.resolvers, "resolver of this host"),
            (&around.own, "address of this host"),
            (&self.upstreams, "upstream"),
        ];
        let loopback = [
            Prefix::around(Ipv4Addr::LOCALHOST.into(), 8),
            IpAddr::from(Ipv6Addr::LOCALHOST).into(),
        ];
        let mut protected = Vec::from(loopback.map(|prefix| (prefix, "loopback".to_owned())));
        for (addresses, what) in named {
            let single = |address: &IpAddr| (Prefix::from(*address), what.to_owned());
            protected.extend(addresses.iter().map(single));
        }
        for (listener, prefixes) in &self.proxies {
            let proxy =
                |prefix: &Prefix| (*prefix, format!("trusted proxy of listener `{listener}`"));
            protected.extend(prefixes.iter().map(proxy));
        }
        for (list, prefixes) in &self.never_block {
            let listed = |prefix: &Prefix| (*prefix, format!("never-block list `{list}`"));
            protected.extend(prefixes.iter().map(listed));
        }
        protected
    }

    /// Every network of the never-block lists.
    pub(crate) fn networks(&self) -> Vec<Prefix> {
        self.never_block.iter().flat_map(|(_, networks)| networks.iter().copied()).collect()
    }

    /// The never-block list that covers the whole of `target`, where a block could never act.
    pub(crate) fn never_blocks(&self, target: Prefix) -> Option<&str> {
        let covering = |prefixes: &[Prefix]| prefixes.iter().any(|prefix| prefix.covers(target));
        let list = self.never_block.iter().find(|(_, prefixes)| covering(prefixes));
        list.map(|(name, _)| name.as_str())
    }

    /// Why so many of the recent callers must not be hit, by what they have in common.
    pub(super) fn too_many_callers(&self, ClientShare { hit, all }: ClientShare) -> Option<String> {
        let percent = self.clients_percent_max;
        let is_over = hit > 1 && hit.saturating_mul(100) > all.saturating_mul(percent.into());
        is_over.then(|| {
            format!(
                "it would hit {hit} of {all} callers served in the last 10 min, over {percent} %"
            )
        })
    }

    /// Why so many clients must not be hit. One client is what a block is for; a share is judged
    /// from two on.
    pub(super) fn too_many(&self, ClientShare { hit, all }: ClientShare) -> Option<String> {
        let percent = self.clients_percent_max;
        let is_over = hit > 1 && hit.saturating_mul(100) > all.saturating_mul(percent.into());
        is_over.then(|| {
            format!(
                "it would hit {hit} of {all} clients served in the last 10 min, over {percent} %"
            )
        })
    }
}

/// Addresses that no packet comes from: a block of them would only look like one.
pub(super) fn never_a_sender(target: Prefix) -> Option<&'static str> {
    let address = target.address();
    if address.is_multicast() {
        return Some("multicast: nobody sends from there");
    }
    if target.is_single() && address.is_unspecified() {
        return Some("no address at all");
    }
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    broadcast.then_some("broadcast: nobody sends from there")
}

pub(super) fn too_wide(target: Prefix) -> Option<u8> {
    let widest = if target.address().is_ipv4() { WIDEST_V4 } else { WIDEST_V6 };
    (target.length() < widest).then_some(widest)
}

impl Surroundings {
    /// Reads the routing tables, resolver configuration, addresses and SSH sessions of this host.
    ///
    /// What cannot be read protects nothing and is not an error: a container may hide any of it.
    pub(crate) fn read() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let tcp = file("/proc/net/tcp") + &file("/proc/net/tcp6");
        Self {
            gateways: once(
                gateways_v4(&file("/proc/net/route"))
                    .chain(gateways_v6(&file("/proc/net/ipv6_route"))),
            ),
            resolvers: once(resolvers(&file("/etc/resolv.conf"))),
            own: once(
                own_v4(&file("/proc/net/fib_trie")).chain(own_v6(&file("/proc/net/if_inet6"))),
            ),
            ssh_peers: once(ssh_peers(&tcp)),
        }
    }
}

/// Each address once: the tables of the kernel name some of them again and again.
fn once(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let unique: std::collections::BTreeSet<_> = addresses.collect();
    unique.into_iter().collect()
}

fn gateways_v4(route: &str) -> impl Iterator<Item = IpAddr> + '_ {
    route.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let destination = fields.next()?;
        let gateway = u32::from_str_radix(fields.next()?, 16).ok()?;
        // Words in this file are in host byte order (net/ipv4/fib_trie.c, fib_route_seq_show).
        let gateway = Ipv4Addr::from(gateway.to_ne_bytes());
        (destination == "00000000" && !gateway.is_unspecified()).then_some(gateway.into())
    })
}

fn gateways_v6(route: &str) -> impl Iterator<Item = IpAddr> + '_ {
    route.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [destination, length, _, _, gateway, ..] = fields.as_slice() else { return None };
        let default = length == &"00" && destination.bytes().all(|digit| digit == b'0');
        let gateway = Ipv6Addr::from(u128::from_str_radix(gateway, 16).ok()?);
        (default && !gateway.is_unspecified()).then_some(gateway.into())
    })
}

fn resolvers(conf: &str) -> impl Iterator<Item = IpAddr> + '_ {
    conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let server = words.next().filter(|&word| word == "nameserver").and(words.next())?;
        server.split('%').next()?.parse().ok()
    })
}

fn own_v4(fib_trie: &str) -> impl Iterator<Item = IpAddr> + '_ {
    let addresses = fib_trie.lines().map(|line| line.trim().strip_prefix("|-- "));
    let kinds = fib_trie.lines().skip(1).map(|line| line.trim().starts_with("/32 host LOCAL"));
    addresses
        .zip(kinds)
        .filter(|&(_, local)| local)
        .filter_map(|(address, _)| address?.parse().ok())
}

fn own_v6(if_inet6: &str) -> impl Iterator<Item = IpAddr> + '_ {
    if_inet6.lines().filter_map(|line| {
        let bits = u128::from_str_radix(line.split_whitespace().next()?, 16).ok()?;
        Some(Ipv6Addr::from(bits).into())
    })
}

fn ssh_peers(tcp: &str) -> impl Iterator<Item = IpAddr> + '_ {
    const ESTABLISHED: &str = "01";
    const SSH: &str = ":0016";
    tcp.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        if !local.ends_with(SSH) || state != ESTABLISHED {
            return None;
        }
        socket_address(remote.split(':').next()?)
    })
}

/// An address of `/proc/net/tcp*`: 32-bit words, each in host byte order.
fn socket_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words: Option<Vec<_>> = (0..4).map(word).collect();
            let bytes: [u8; 16] = words?.concat().try_into().ok()?;
            Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_needs_is_protected_and_named() {
        let guards = Guards {
            never_block: vec![("monitoring".into(), vec![prefix("10.0.5.0/24")])],
            upstreams: vec![address("10.9.9.9")],
            proxies: vec![("public".into(), vec![prefix("10.0.7.0/24")])],
            clients_percent_max: 20,
        };
        let around = Surroundings {
            gateways: vec![address("10.0.0.1")],
            resolvers: vec![address("10.0.0.53")],
            own: vec![address("10.0.0.2")],
            ssh_peers: vec![address("10.1.2.3")],
        };

        let objections =
            guards.objections(prefix("10.0.0.0/8"), &around, ClientShare { hit: 412, all: 430 });

        for expected in [
            "10.0.0.0/8      wider than /16",
            "10.1.2.3        an SSH session to this host",
            "10.0.0.1        default gateway",
            "10.0.0.53       resolver of this host",
            "10.0.0.2        address of this host",
            "10.9.9.9        upstream",
            "10.0.7.0/24     trusted proxy of listener `public`",
            "10.0.5.0/24     never-block list `monitoring`",
            "it would hit 412 of 430 clients served in the last 10 min, over 20 %",
        ] {
            assert!(objections.iter().any(|line| line == expected), "{expected}: {objections:#?}");
        }
        assert_eq!(objections.len(), 9);
    }

    #[test]
    fn a_stranger_may_be_blocked_and_so_may_a_lone_client() {
        let guards = Guards { clients_percent_max: 20, ..Guards::default() };
        let lone = ClientShare { hit: 1, all: 2 };

        let objections = guards.objections(prefix("203.0.113.7"), &Surroundings::default(), lone);

        assert!(objections.is_empty(), "{objections:?}");
    }

    #[test]
    fn loopback_is_protected_from_either_side() {
        let guards = Guards { clients_percent_max: 100, ..Guards::default() };
        for target in ["127.0.0.1", "127.0.0.0/16", "::1", "::/64"] {
            let objections =
                guards.objections(prefix(target), &Surroundings::default(), ClientShare::default());
            assert_eq!(objections.len(), 1, "{target}");
        }
    }

    #[test]
    fn who_never_sends_cannot_be_blocked() {
        let guards = Guards { clients_percent_max: 100, ..Guards::default() };
        for target in ["224.0.0.1", "ff02::1", "255.255.255.255", "0.0.0.0", "::"] {
            let objections =
                guards.objections(prefix(target), &Surroundings::default(), ClientShare::default());
            assert!(!objections.is_empty(), "{target}");
        }
    }

    #[test]
    fn the_default_gateways_are_found() {
        let route = "Iface\tDestination\tGateway\tFlags\nlo\t0000007F\t00000000\t0001\n\
                     eth0\t00000000\t0100000A\t0003\n";
        let route6 = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                      fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n";

        assert_eq!(gateways_v4(route).collect::<Vec<_>>(), [address("10.0.0.1")]);
        assert_eq!(gateways_v6(route6).collect::<Vec<_>>(), [address("fe80::1")]);
    }

    #[test]
    fn resolvers_are_found_with_and_without_a_zone() {
        let conf = "# nameserver 192.0.2.9\nnameserver 10.0.0.53\nnameserver fe80::53%eth0\n";

        let found: Vec<_> = resolvers(conf).collect();

        assert_eq!(found, [address("10.0.0.53"), address("fe80::53")]);
    }

    #[test]
    fn own_addresses_are_found() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     \
                    |-- 10.0.0.2\n        /32 host LOCAL\n     |-- 10.0.0.255\n        \
                    /32 link BROADCAST\n";
        let inet6 = "fe800000000000000000000000000002 02 40 20 80     eth0\n";

        assert_eq!(own_v4(trie).collect::<Vec<_>>(), [address("10.0.0.2")]);
        assert_eq!(own_v6(inet6).collect::<Vec<_>>(), [address("fe80::2")]);
    }

    #[test]
    fn the_far_end_of_an_ssh_session_is_found_in_both_families() {
        let tcp = "  sl  local_address rem_address   st\n\
                   0: 0200000A:0016 0302010A:D431 01 0\n\
                   1: 0200000A:0016 0402010A:D431 06 0\n\
                   2: 0200000A:1F90 0502010A:D431 01 0\n\
                   3: 0000000000000000FFFF00000200000A:0016 0000000000000000FFFF00000602010A:D431 01\n";

        let found: Vec<_> = ssh_peers(tcp).collect();

        assert_eq!(found, [address("10.1.2.3"), address("10.1.2.6")]);
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
