//! What holds while no agent lives: what the policy says.

use std::time::{Duration, Instant};

use enforcer_kernel::{Reason, Verdict};
use enforcer_tests::lab::{ATTACKER, DEADLINE, Family, wait_until};
use rustix::process::Signal;

use crate::stage::{Hook, SILENCE, Stage, policy};

/// The shortest that a policy can ask for; an agent renews it each second.
const LEASE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn without_an_agent_packets_are_only_counted_when_the_lease_is_over_and_dropped_on_where_there_is_none()
 {
    let observing = policy(Hook::Native) + "on_agent_loss = \"observe\"\nlease = \"5s\"\n";
    let mut lets_go = Stage::with_policy(&observing);
    let mut keeps = Stage::with_policy(&(policy(Hook::Native) + "on_agent_loss = \"keep\"\n"));
    let targets = Family::BOTH.map(|family| ATTACKER.of(family).to_string());
    for stage in [&lets_go, &keeps] {
        stage.quarantine(&targets.each_ref().map(String::as_str));
    }
    let pings = |stage: &Stage| Family::BOTH.map(|family| stage.attacker_ping(family));
    let (loose, firm) = (pings(&lets_go), pings(&keeps));
    let lease = lets_go.json(&["status"])["kernel"]["lease"].clone();
    assert_eq!(lease["length_ms"], 5_000, "{lease}");
    assert!(lease["remaining_ms"].as_u64().unwrap() > 3_000, "{lease}");
    assert!(keeps.json(&["status"])["kernel"]["lease"].is_null());
    let passes = || {
        let begun = Instant::now();
        wait_until("the lease is over", DEADLINE, || {
            loose.iter().all(|ping| ping.once(SILENCE).unwrap().is_some())
        })
        .unwrap();
        begun.elapsed()
    };
    let is_shut_out = |stage: &Stage| {
        loose.iter().zip(&targets).for_each(|(ping, target)| stage.expect_dropped(ping, target));
    };

    // A process that hangs says nothing, like one that is gone.
    for stage in [&lets_go, &keeps] {
        stage.agent.as_ref().unwrap().signal(Signal::STOP).unwrap();
    }
    let took = passes();
    assert!(took >= LEASE - TICK * 2, "{took:?}");
    let counters = lets_go.pinned().unwrap().counters().unwrap();
    assert!(counters.packets(Verdict::Pass, Reason::Blocked) > 0);
    assert!(firm.iter().all(|ping| ping.once(SILENCE).unwrap().is_none()));
    for stage in [&lets_go, &keeps] {
        stage.agent.as_ref().unwrap().signal(Signal::CONT).unwrap();
    }
    wait_until("the agent is heard of", TICK * 3, || {
        loose.iter().all(|ping| ping.once(SILENCE).unwrap().is_none())
    })
    .unwrap();
    is_shut_out(&lets_go);

    lets_go.kill();
    keeps.kill();
    passes();
    assert!(firm.iter().all(|ping| ping.once(SILENCE).unwrap().is_none()));
    let status = lets_go.offline(&["kernel", "status"]);
    assert!(status.stdout.contains("lease  OVER"), "{status}");
    assert!(!keeps.offline(&["kernel", "status"]).stdout.contains("lease"));

    lets_go.start();
    keeps.start();
    assert!(loose.iter().chain(&firm).all(|ping| ping.once(SILENCE).unwrap().is_none()));
    is_shut_out(&lets_go);
    lets_go.expect_verified();
}
