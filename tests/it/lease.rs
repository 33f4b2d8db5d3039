//! What holds while no agent lives: what the policy says.

use std::time::{Duration, Instant};

use enforcer_kernel::{Reason, Verdict};
use enforcer_tests::lab::{ATTACKER, DEADLINE, Family, Ping, wait_until};
use rustix::process::Signal;

use crate::stage::{Hook, SILENCE, Stage, policy};

/// The shortest that a policy can ask for; an agent renews it each second.
const LEASE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn without_an_agent_matches_are_only_counted_once_its_lease_is_over_where_the_policy_says_so() {
    let observing = policy(Hook::Native) + "on_agent_loss = \"observe\"\nlease = \"5s\"\n";
    let hangs = Stage::with_policy(&observing);
    let mut is_killed = Stage::with_policy(&observing);
    let mut keeps = Stage::with_policy(&(policy(Hook::Native) + "on_agent_loss = \"keep\"\n"));
    let targets = Family::BOTH.map(|family| ATTACKER.of(family).to_string());
    for stage in [&hangs, &is_killed, &keeps] {
        stage.quarantine(&targets.each_ref().map(String::as_str));
    }
    let [loose, free, firm] = [&hangs, &is_killed, &keeps]
        .map(|stage| Family::BOTH.map(|family| stage.attacker_ping(family)));
    let lease = hangs.json(&["status"])["kernel"]["lease"].clone();
    assert_eq!(lease["length_ms"], 5_000, "{lease}");
    assert!(lease["remaining_ms"].as_u64().unwrap() > 3_000, "{lease}");
    assert!(keeps.json(&["status"])["kernel"]["lease"].is_null());

    // A process that hangs says nothing, like one that is gone.
    hangs.agent.as_ref().unwrap().signal(Signal::STOP).unwrap();
    is_killed.kill();
    keeps.kill();
    let begun = Instant::now();
    for pings in [&loose, &free] {
        let lasted = wait_until("the lease is over", DEADLINE, || {
            pings.iter().all(|ping| ping.once(SILENCE).unwrap().is_some())
        })
        .map(|()| begun.elapsed());
        assert!(lasted.unwrap() >= LEASE - TICK * 2);
    }

    let counters = hangs.pinned().unwrap().counters().unwrap();
    assert!(counters.packets(Verdict::Pass, Reason::Blocked) > 0, "they are counted");
    let status = is_killed.offline(&["kernel", "status"]);
    assert!(status.stdout.contains("lease  OVER"), "{status}");
    assert!(is_shut_out(&firm));
    assert!(!keeps.offline(&["kernel", "status"]).stdout.contains("lease"));

    hangs.agent.as_ref().unwrap().signal(Signal::CONT).unwrap();
    is_killed.start();
    keeps.start();
    assert!(is_shut_out(&free) && is_shut_out(&firm));
    wait_until("the agent is heard of again", TICK * 3, || is_shut_out(&loose)).unwrap();
    for (stage, pings) in [(&hangs, &loose), (&is_killed, &free), (&keeps, &firm)] {
        for (ping, target) in pings.iter().zip(&targets) {
            stage.expect_dropped(ping, target);
        }
        stage.expect_verified();
    }
}

fn is_shut_out(pings: &[Ping]) -> bool {
    pings.iter().all(|ping| ping.once(SILENCE).unwrap().is_none())
}
