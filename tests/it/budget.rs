//! What a source may send, by every measure, and who answers for a crowd.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use enforcer_tests::lab::{DEADLINE, Family, Flood, HOST_FOR_ATTACKER, Sink, crowd, wait_until};
use serde_json::Value;

use crate::stage::{Hook, Stage, orders, policy};

/// More than any budget here allows at once.
const MANY: Flood = Flood { packets: 400, payload: 1_000 };

/// Such a datagram as it is counted: with its headers.
const FRAME: u64 = 1_062;

/// So many packets at once, and as many in a second.
const BUDGET: &str = "budget = { packets = \"50/s\", burst = 50 }\n";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn bytes_are_limited_like_packets_and_the_answer_to_why_tells_what_is_left() {
    let bytes = "budget = { bytes = \"128KiB/s\", bytes_burst = \"128KiB\" }\n";
    let stage = Stage::with_policy(&(policy(Hook::Native) + bytes));
    stage.crowd();
    for (family, source) in [(Family::V4, "10.88.1.1"), (Family::V6, "fd88:0:0:1::1")] {
        let sink = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(family, 0)).unwrap();
        let before = stage.packets("drop byte-budget");

        let millis = flood(&stage, source, &sink, MANY);

        let dropped = stage.packets("drop byte-budget") - before;
        let passed = (MANY.packets - dropped) * FRAME;
        // Bytes are counted in steps, and never more strictly than the policy says.
        let may_pass = (128 << 10) * (1_000 + millis) / 1_000 + (16 << 10);
        assert!(passed <= may_pass, "{family:?}: {passed} bytes of {may_pass} in {millis} ms");
        assert!(passed >= 100 << 10, "{family:?}: {passed} bytes");
        let steps = steps(&stage, source);
        assert!(steps.contains("over its budget") || steps.contains("bytes left"), "{steps}");
    }
    let fresh = steps(&stage, "10.88.1.2");
    assert!(fresh.contains("not heard of yet") && fresh.contains("bytes left"), "{fresh}");
    assert_eq!(stage.json(&["blocks"]).as_array().unwrap().len(), 0, "a budget is no block");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn new_connections_are_limited_and_those_that_stand_are_not() {
    let syns = "budget = { syns = \"5/s\", syn_burst = 5 }\n";
    let stage = Stage::with_policy(&(policy(Hook::Native) + syns));
    for family in Family::BOTH {
        let door = HOST_FOR_ATTACKER.at(family, 0);
        let listener = stage.lab.host.run(|| TcpListener::bind(door).unwrap()).unwrap();
        let door = listener.local_addr().unwrap();
        let knock = || {
            let patience = Duration::from_millis(60);
            stage.lab.attacker.run(|| TcpStream::connect_timeout(&door, patience).ok()).unwrap()
        };
        let stands = knock().unwrap();
        let begun = Instant::now();

        let opened = (0..20).filter_map(|_| knock()).count();

        let millis = usize::try_from(begun.elapsed().as_millis()).unwrap();
        let may_open = 5 + millis * 5 / 1_000 + 1;
        assert!((1..=may_open).contains(&opened), "{family:?}: {opened} of {may_open}");
        let (near, _) = listener.accept().unwrap();
        // A few hundred packets in one that stands open nothing.
        for _ in 0..300 {
            std::io::Write::write_all(&mut &near, b"x").unwrap();
        }
        let mut heard = [0; 300];
        stands.set_read_timeout(Some(DEADLINE)).unwrap();
        std::io::Read::read_exact(&mut &stands, &mut heard).unwrap();
        wait_until("the next one is let in", DEADLINE, || knock().is_some()).unwrap();
    }
    assert!(stage.packets("drop syn-budget") > 0);
    assert_eq!(stage.packets("drop budget"), 0);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_class_has_its_own_budget_and_only_the_ports_that_are_named_are_paid_for() {
    let class = "[kernel.class.partners]\n\
                 networks = [\"10.88.2.0/24\", \"fd88:2::/32\"]\nbudget = \"unlimited\"\n\
                 [kernel.class.narrow]\n\
                 networks = [\"10.88.2.128/25\", \"fd88:2:8000::/33\"]\n\
                 budget = { packets = \"20/s\", burst = 20 }\n";
    let stage = Stage::with_policy(&(policy(Hook::Native) + BUDGET + class));
    stage.crowd();
    let received = |source: &str, family: Family| {
        let sink = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(family, 0)).unwrap();
        let millis = flood(&stage, source, &sink, MANY);
        (settled(&sink), millis)
    };
    let everybody = ["10.88.3.3", "fd88:3::3"];
    let partners = ["10.88.2.3", "fd88:2::3"];
    let narrow = ["10.88.2.200", "fd88:2:8000::3"];
    for (at, family) in Family::BOTH.into_iter().enumerate() {
        let (passed, millis) = received(everybody[at], family);
        assert!((40..=51 + millis / 20).contains(&passed), "{passed} in {millis} ms");
        assert_eq!(received(partners[at], family).0, MANY.packets, "without limit");
        let (passed, millis) = received(narrow[at], family);
        assert!((15..=21 + millis / 50).contains(&passed), "{passed} in {millis} ms");
        let told = steps(&stage, narrow[at]);
        assert!(told.contains("class `narrow`"), "the longest network wins: {told}");
    }

    // Only what goes to one port is paid for: whoever was over is free elsewhere at once.
    let named = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(Family::V4, 0)).unwrap();
    let ports = format!("ports = [{}]\n", named.address().port());
    stage.apply(&(policy(Hook::Native) + BUDGET + &ports));
    assert_eq!(received(everybody[0], Family::V4).0, MANY.packets);
    let millis = flood(&stage, "10.88.3.4", &named, MANY);
    assert!((40..=51 + millis / 20).contains(&settled(&named)), "{}", named.received());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn who_exceeds_a_budget_with_a_penalty_has_none_until_he_was_quiet_and_a_new_policy_takes_hold_at_once()
 {
    let penalty = "budget = { packets = \"50/s\", burst = 50, penalty = \"2s\" }\n";
    let stage = Stage::with_policy(&(policy(Hook::Native) + penalty));
    stage.crowd();
    let cases = [(Family::V4, "10.88.4.1"), (Family::V6, "fd88:4::1")].map(|(family, source)| {
        let sink = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(family, 0)).unwrap();
        flood(&stage, source, &sink, MANY);
        let passed = settled(&sink);
        assert!(passed >= 40, "{family:?}: {passed}");
        (source, sink, passed)
    });
    let talkers = stage.json(&["status", "--talkers", "50"])["talkers"]["sources"].clone();
    let rows = talkers.as_array().unwrap().iter();
    let over = rows.filter(|row| row["over"] == true && row["packets"] == MANY.packets);
    assert_eq!(over.count(), cases.len(), "{talkers}");
    let one = Flood { packets: 1, payload: 10 };
    let one_more_each = || {
        cases.each_ref().map(|(source, sink, passed)| {
            flood(&stage, source, sink, one);
            settled(sink) - passed
        })
    };

    // Whoever goes on begins it anew.
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(1_200));
        assert_eq!(one_more_each(), [0, 0], "within the penalty");
    }
    std::thread::sleep(Duration::from_millis(2_200));
    assert_eq!(one_more_each(), [1, 1], "quiet for as long as the penalty");

    // Over its budget under one policy, far from it under the next.
    let sink = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(Family::V4, 0)).unwrap();
    stage.apply(&(policy(Hook::Native) + BUDGET));
    flood(&stage, "10.88.4.2", &sink, MANY);
    stage.apply(&(policy(Hook::Native) + "budget = { packets = \"50000/s\", burst = 50000 }\n"));
    let before = settled(&sink);
    flood(&stage, "10.88.4.2", &sink, MANY);
    sink.wait_for(before + MANY.packets).unwrap();
    stage.apply(&policy(Hook::Native));
    flood(&stage, "10.88.4.2", &sink, MANY);
    sink.wait_for(before + MANY.packets * 2).unwrap();
    assert!(steps(&stage, "10.88.4.2").contains("no budget for it"));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_budget_that_only_observes_counts_what_it_would_have_dropped() {
    let observing = "budget = { packets = \"50/s\", burst = 50, observe = true }\n";
    let stage = Stage::with_policy(&(policy(Hook::Native) + observing));
    stage.crowd();
    for (family, source) in [(Family::V4, "10.88.5.1"), (Family::V6, "fd88:5::1")] {
        let sink = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(family, 0)).unwrap();
        let before = stage.packets("pass budget");

        flood(&stage, source, &sink, MANY);

        sink.wait_for(MANY.packets).unwrap();
        assert!(stage.packets("pass budget") - before > 100);
    }
    assert_eq!(stage.packets("drop budget"), 0);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_flood_of_forged_sources_pushes_out_nobody_who_was_here_before() {
    const FORGED: u32 = 15_000;
    let flood = "budget = { packets = \"2000/s\", burst = 1000 }\nflood = \"1000/s\"\n\
                 sources = 4096\n";
    let stage = Stage::with_policy(&(policy(Hook::Native) + flood));
    stage.crowd();
    let reader = stage.key("client", "reader");
    let known = stage.client(Family::V4);
    let steady = known.steadily(orders().key(&reader), Duration::from_millis(20));
    wait_until("the client is known", DEADLINE, || steady.so_far().served > 5).unwrap();
    let is_flood = || stage.json(&["status"])["kernel"]["flood"]["active"] == true;
    assert!(!is_flood());

    let v4 = (0..FORGED).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x0a58_0000 + n * 4)));
    let v6 = (0..FORGED)
        .map(|n| IpAddr::V6(Ipv6Addr::from_bits(0xfd88_00f0 << 96 | u128::from(n) << 64 | 1)));
    for (family, sources) in [(Family::V4, v4.collect::<Vec<_>>()), (Family::V6, v6.collect())] {
        let sink = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(family, 0)).unwrap();
        crowd(&stage.lab.attacker, sources.into_iter(), sink.address()).unwrap();
        assert!(is_flood(), "{family:?}");
    }

    let top = stage.json(&["top", "10000", "--once"]);
    let sources = top["sources"].as_array().unwrap();
    assert!(sources.iter().any(|one| one["source"] == "10.77.1.2"), "the client is remembered");
    assert!(sources.len() <= 2 * 4_096, "{} sources", sources.len());
    let newcomers = top["flood"]["newcomers"].as_u64().unwrap();
    assert_eq!(top["flood"]["threshold"], 1_000, "{newcomers}");
    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless(), "{tally:?}");
    assert!(stage.packets("drop flood") > 0, "newcomers share a budget");
    wait_until("the flood is over", DEADLINE, || !is_flood()).unwrap();
    assert!(stage.reaches(&["10.88.255.255"]), "and newcomers are welcome again");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_network_answers_for_its_parts_when_many_of_them_misbehave() {
    let escalate = "escalate = { sources = 4, within = \"30s\", for = \"1m\" }\n";
    let stage = Stage::with_policy(&(policy(Hook::Native) + BUDGET + escalate));
    stage.crowd();
    let sink = Sink::open(&stage.lab.host, HOST_FOR_ATTACKER.at(Family::V6, 0)).unwrap();
    let passed = |source: &str| {
        let before = sink.received();
        flood(&stage, source, &sink, MANY);
        settled(&sink) - before
    };
    let escalated = || stage.json(&["status"])["kernel"]["flood"]["escalated"].clone();
    for part in 1..=3 {
        assert!(passed(&format!("fd88:6:0:{part}::1")) >= 40, "each has its own budget");
    }
    assert_eq!(escalated(), Value::Null);

    passed("fd88:6:0:4::1");
    // From here on all parts spend what the network has.
    passed("fd88:6:0:5::1");

    assert!(escalated().to_string().contains("fd88:6::/56"), "{}", escalated());
    assert!(passed("fd88:6:0:6::1") < 40, "nothing is left for one more part");
    let told = steps(&stage, "fd88:6:0:7::1");
    assert!(told.contains("fd88:6::/56"), "{told}");
    assert!(passed("fd88:6:0:100::1") >= 40, "another /56 has nothing to do with it");
}

/// Sends as `source`; milliseconds.
fn flood(stage: &Stage, source: &str, sink: &Sink, flood: Flood) -> u64 {
    let begun = Instant::now();
    flood.send_as(&stage.lab.attacker, source.parse().unwrap(), sink.address()).unwrap();
    u64::try_from(begun.elapsed().as_millis()).unwrap() + 1
}

/// How many datagrams arrived, when all that are going to have been read.
fn settled(sink: &Sink) -> u64 {
    let mut seen = sink.received();
    loop {
        std::thread::sleep(Duration::from_millis(30));
        let now = sink.received();
        if now == seen {
            return now;
        }
        seen = now;
    }
}

/// The kernel's steps to its verdict on `source`, in one text.
fn steps(stage: &Stage, source: &str) -> String {
    stage.json(&["blocks", "--why", source])["kernel"]["steps"].to_string()
}
