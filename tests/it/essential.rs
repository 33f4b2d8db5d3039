//! What a network breaks without: it passes whoever is blocked, and whatever a budget says.

use std::net::{SocketAddr, UdpSocket};

use enforcer_tests::lab::{
    ATTACKER, ATTACKER_FACING, DEADLINE, Family, Flood, HOST_FOR_ATTACKER, Sink, wait_until,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::stage::{HOOKS, Hook, SILENCE, Stage, policy};

/// Less than anybody needs.
const NOTHING: &str = "budget = { packets = \"1/s\", burst = 1, penalty = \"1m\" }\n";

/// Enough to be over it.
const FEW: Flood = Flood { packets: 20, payload: 100 };

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn neighbours_are_found_on_the_wire_by_and_from_who_is_blocked_or_over_its_budget() {
    for hook in HOOKS {
        let stage = Stage::with_policy(&(policy(hook) + NOTHING));
        for blocked in [false, true] {
            for family in Family::BOTH {
                let target = ATTACKER.of(family).to_string();
                let host = HOST_FOR_ATTACKER.of(family);
                if blocked {
                    stage.quarantine(&[&target]);
                }
                let sink = Sink::open(&stage.lab.host, SocketAddr::new(host, 0)).unwrap();
                FEW.send(&stage.lab.attacker, sink.address()).unwrap();
                let ping = stage.attacker_ping(family);
                assert!(ping.once(SILENCE).unwrap().is_none(), "{hook:?} {family:?}");

                for (from, link, to) in [
                    (&stage.lab.attacker, "eth0", host.to_string()),
                    (&stage.lab.host, ATTACKER_FACING, target),
                ] {
                    from.ip(&format!("neigh flush dev {link}")).unwrap();
                    wait_until("its neighbour is found", DEADLINE, || {
                        let door = SocketAddr::new(to.parse().unwrap(), 9);
                        drop(Flood { packets: 1, payload: 1 }.send(from, door));
                        let known = from.ip(&format!("neigh show to {to} dev {link}"));
                        known.unwrap().contains("lladdr")
                    })
                    .unwrap_or_else(|error| panic!("{hook:?} {family:?} {blocked}: {error}"));
                }
            }
        }
        assert!(stage.packets("pass essential") > 0);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn messages_about_the_path_and_leases_of_addresses_arrive_from_who_is_blocked() {
    const SENT: u64 = 5;
    let stage = Stage::with_policy(&(policy(Hook::Native) + NOTHING));
    // Fragmentation needed; packet too big.
    let too_big = [
        (Family::V4, Domain::IPV4, Protocol::ICMPV4, [3, 4]),
        (Family::V6, Domain::IPV6, Protocol::ICMPV6, [2, 0]),
    ];
    for (family, domain, protocol, [kind, code]) in too_big {
        let (target, host) = (ATTACKER.of(family).to_string(), HOST_FOR_ATTACKER.of(family));
        stage.quarantine(&[&target]);
        let ping = stage.attacker_ping(family);
        stage.expect_dropped(&ping, &target);
        let raw = || Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
        let raw = stage.lab.attacker.run(raw).unwrap();
        let before = stage.packets("pass essential");

        let mut message = [0_u8; 56];
        message[0] = kind;
        message[1] = code;
        for _ in 0..SENT {
            raw.send_to(&message, &SocketAddr::new(host, 0).into()).unwrap();
        }

        wait_until("the messages are let through", DEADLINE, || {
            stage.packets("pass essential") >= before + SENT
        })
        .unwrap();
        let (server, client) = if family == Family::V4 { (67, 68) } else { (547, 546) };
        let sink = Sink::open(&stage.lab.host, SocketAddr::new(host, client)).unwrap();
        let from = ATTACKER.at(family, server);
        let server = stage.lab.attacker.run(|| UdpSocket::bind(from).unwrap()).unwrap();
        for _ in 0..SENT {
            server.send_to(b"an address for you", sink.address()).unwrap();
        }
        sink.wait_for(SENT).unwrap();
        // Only for what they are: the same source with another port is dropped.
        FEW.send(&stage.lab.attacker, sink.address()).unwrap();
        stage.expect_dropped(&ping, &target);
        assert_eq!(sink.received(), SENT);
    }
}
