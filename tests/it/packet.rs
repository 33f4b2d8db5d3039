//! What the kernel program does to packets when the agent's policy tells it to.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use enforcer_tests::lab::{
    ATTACKER, ATTACKER_FACING, DEADLINE, Family, Flood, Forgery, HOST_FOR_ATTACKER, Sink,
    wait_until,
};

use crate::stage::{HOOKS, Hook, SILENCE, Stage, orders, policy};

/// The budget of a source in these tests.
const PER_SECOND: u64 = 1_000;
const BURST: u64 = 500;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_flood_is_cut_to_its_sources_budget_while_the_client_is_served() {
    let budget = format!("budget = {{ packets = \"{PER_SECOND}/s\", burst = {BURST} }}\n");
    let flood = Flood { packets: 30_000, payload: 32 };
    for hook in HOOKS {
        let stage = Stage::with_policy(&(policy(hook) + &budget));
        let reader = stage.key("client", "reader");
        for family in Family::BOTH {
            let sink = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(family, 0)).unwrap();
            let steady =
                stage.client(family).steadily(orders().key(&reader), Duration::from_millis(50));
            let before = stage.packets("drop budget");
            let begun = Instant::now();

            let sent = flood.send(&stage.lab.attacker, sink.address()).unwrap();

            let dropped = stage.packets("drop budget") - before;
            let millis = u64::try_from(begun.elapsed().as_millis()).unwrap();
            let may_pass = BURST + (millis + 1) * PER_SECOND / 1_000 + 1;
            assert!(sent - dropped <= may_pass, "{sent} sent, {dropped} dropped in {millis} ms");
            assert!(sink.received() <= may_pass, "{} of {may_pass} arrived", sink.received());
            assert!(dropped > 0 && dropped <= sent, "{dropped} of {sent}");
            assert!(sink.received() > 0, "what is within the budget passes");
            let so_far = steady.so_far().served;
            wait_until("the client is served on", DEADLINE, || steady.so_far().served > so_far)
                .unwrap();
            let tally = steady.finish().unwrap();
            assert!(tally.is_spotless(), "{tally:?}");
        }
        assert_eq!(stage.json(&["blocks"]).as_array().unwrap().len(), 0, "a budget is no block");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_kernel_that_only_observes_counts_and_drops_nothing() {
    let observing = |hook| policy(hook).replace("mode = \"enforce\"", "mode = \"observe\"");
    for hook in HOOKS {
        let stage = Stage::with_policy(&observing(hook));
        for family in Family::BOTH {
            let target = ATTACKER.of(family).to_string();
            let ping = stage.attacker_ping(family);

            let told = stage.enforcer(&["quarantine", &target, "--reason", "test"]);

            assert!(told.stdout.contains("counted, not dropped"), "{told}");
            ping.until_answered().unwrap();
            let row = stage.block_of(&target).unwrap();
            assert_eq!(row["kernel"]["observe"], true, "{row}");
            assert!(row["kernel"]["packets"].as_u64().unwrap() > 0, "{row}");
        }
        assert_eq!(stage.json(&["status"])["kernel"]["mode"], "observe");
        assert!(stage.packets("pass blocked") > 0);
        assert_eq!(stage.packets("drop blocked"), 0);

        stage.site.write_policy(&policy(hook)).unwrap();
        assert!(stage.enforcer(&["policy", "apply"]).is_success());
        let target = ATTACKER.of(Family::V4).to_string();
        stage.expect_dropped(&stage.attacker_ping(Family::V4), &target);
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_network_of_any_length_is_dropped_and_its_neighbour_is_not() {
    let cases = [
        ("10.88.1.0/24", "10.88.1.200", "10.88.2.200"),
        ("10.88.16.0/20", "10.88.31.254", "10.88.32.1"),
        ("10.88.64.6/31", "10.88.64.7", "10.88.64.8"),
        ("fd78:1:0:4::/64", "fd78:1:0:4:ffff::5", "fd78:1:0:5:ffff::5"),
        ("fd78:2::/48", "fd78:2:0:ffff::1", "fd78:2:1::1"),
        ("fd78:3::100/120", "fd78:3::1ff", "fd78:3::200"),
    ];
    let stage = Stage::new(Hook::Native);
    stage.lab.host.ip(&format!("route add 10.88.0.0/16 dev {ATTACKER_FACING}")).unwrap();
    stage.lab.host.ip(&format!("-6 route add fd78::/16 dev {ATTACKER_FACING}")).unwrap();
    for (network, inside, outside) in cases {
        let source: IpAddr = inside.parse().unwrap();
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let host = HOST_FOR_ATTACKER.of(family);
        let inside = Forgery::begin(&stage.lab.attacker, source).unwrap();
        let outside = outside.parse().unwrap();
        let outside = Forgery::begin(&stage.lab.attacker, outside).unwrap();
        let inside = inside.ping(host).map(|ping| (ping, inside)).unwrap();
        let outside = outside.ping(host).map(|ping| (ping, outside)).unwrap();
        inside.0.until_answered().unwrap();

        let done = stage.enforcer(&["quarantine", network, "--reason", "test"]);
        assert!(done.is_success(), "{network}: {done}");

        stage.expect_dropped(&inside.0, network);
        outside.0.until_answered().unwrap();
        assert!(stage.enforcer(&["release", network]).is_success());
        inside.0.until_answered().unwrap();
    }
    assert!(stage.enforcer(&["blocks", "--verify"]).is_success());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_is_on_a_never_block_list_is_served_even_inside_a_block() {
    for hook in HOOKS {
        let stage = Stage::new(hook);
        let reader = stage.key("client", "reader");
        let networks = [(Family::V4, "10.77.2.2/31"), (Family::V6, "fd77:2::2/127")];
        for (family, network) in networks {
            assert!(stage.enforcer(&["quarantine", network, "--reason", "test"]).is_success());
            stage.expect_dropped(&stage.attacker_ping(family), network);
        }

        let grown = policy(hook).replace("\"10.77.9.0/24\"", "\"10.77.2.2\", \"fd77:2::2\"");
        stage.site.write_policy(&grown).unwrap();
        assert!(stage.enforcer(&["policy", "apply"]).is_success());

        for (family, network) in networks {
            stage.attacker_ping(family).until_answered().unwrap();
            let served = stage.attacker(family).ask(&orders().key(&reader)).unwrap();
            assert_eq!(served.status, 200, "{family:?}: layer 7 lets it pass too");
            let row = stage.block_of(network).unwrap();
            assert_eq!(row["layer7"], true, "it stands for the rest of the network: {row}");
            let address = ATTACKER.of(family).to_string();
            let why = stage.json(&["blocks", "--why", &address]);
            assert_eq!(why["verdict"], "pass", "{why}");
            // The neighbour is still shut out.
            let neighbour = match family {
                Family::V4 => "10.77.2.3".parse().unwrap(),
                Family::V6 => "fd77:2::3".parse().unwrap(),
            };
            let neighbour = Forgery::begin(&stage.lab.attacker, neighbour).unwrap();
            let ping = neighbour.ping(HOST_FOR_ATTACKER.of(family)).unwrap();
            assert!(ping.once(SILENCE).unwrap().is_none());
        }
    }
}
