//! Somebody changes the kernel half behind the agent's back: it is noticed, mended and recorded.

use std::time::Duration;

use enforcer_kernel::{Entry, Mode};
use enforcer_model::{BlockId, Prefix};
use enforcer_tests::lab::{ATTACKER, Family, Passage, wait_until};

use crate::stage::{Hook, Stage};

/// The agent goes round all entries, rests for up to ten seconds, and begins again.
const ROUND: Duration = Duration::from_secs(20);

/// A program is loaded and tested, and every block is put in before the first packet meets it.
const ANEW: Duration = Duration::from_secs(8);

/// What an agent looks at each second.
const TICKS: Duration = Duration::from_secs(4);

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn entries_that_are_not_as_decided_are_mended_within_a_round_and_recorded() {
    let stage = Stage::new(Hook::Native);
    stage.crowd();
    let file = stage.file("feed.txt", "10.88.9.0/24\nfd88:9::/32\n");
    stage.quarantine(&["10.88.7.1", "10.88.7.2", "fd88:7::1", "fd88:7::2"]);
    assert!(stage.enforcer(&["blocks", "import", &file, "--reason", "test"]).is_success());
    let blocked = ["10.88.7.1", "10.88.7.2", "fd88:7::1", "fd88:7::2", "10.88.9.9", "fd88:9::9"];
    assert!(!stage.reaches(&blocked));

    let mut kernel = stage.pinned().unwrap();
    for gone in ["10.88.7.1", "fd88:7::1", "10.88.9.0/24", "fd88:9::/32"] {
        assert!(kernel.release(prefix(gone)).unwrap().is_some(), "{gone}");
    }
    for weaker in ["10.88.7.2", "fd88:7::2"] {
        let held = kernel.find(prefix(weaker)).unwrap().unwrap();
        let entry = Entry { id: held.id, expires: None, observe: true, contain: true };
        kernel.block(prefix(weaker), entry).unwrap();
    }
    let stranger = Entry {
        id: BlockId::from_bits(0x1234_5678),
        expires: Some(Duration::from_secs(600)),
        observe: false,
        contain: false,
    };
    kernel.block(prefix("10.88.7.77"), stranger).unwrap();
    drop(kernel);

    wait_until("everything is as decided", ROUND, || {
        std::thread::sleep(Duration::from_millis(200));
        stage.enforcer(&["blocks", "--verify"]).is_success()
    })
    .unwrap_or_else(|error| panic!("{error}: {}", stage.enforcer(&["blocks", "--verify"])));
    assert!(!stage.reaches(&blocked));
    // Letting somebody in is an operator's act: what only the kernel held is a decision now.
    let row = stage.block_of("10.88.7.77").unwrap();
    assert_eq!(row["author"], "agent", "{row}");
    assert!(!stage.reaches(&["10.88.7.77"]));
    for (class, least) in [("block", 5), ("list", 1)] {
        let records = stage.records_of(class);
        let mended = records.iter().filter(|one| one["body"]["what"] == "reconciled").count();
        assert!(mended >= least, "{class}: {mended} recorded");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_mode_or_a_never_block_list_that_somebody_else_writes_does_not_last() {
    let stage = Stage::new(Hook::Native);
    let target = ATTACKER.of(Family::V4).to_string();
    stage.quarantine(&[&target]);
    let ping = stage.attacker_ping(Family::V4);

    let mut kernel = stage.pinned().unwrap();
    kernel.set_mode(Mode::Off).unwrap();
    ping.until_answered().unwrap();
    wait_until("it is in force again", TICKS, || {
        stage.json(&["status"])["kernel"]["mode"] == "enforce"
    })
    .unwrap();
    stage.expect_dropped(&ping, &target);

    kernel.set_allow(&[prefix(&target)]).unwrap();
    ping.until_answered().unwrap();
    wait_until("the list is the policy's again", TICKS, || kernel.allow().unwrap().len() == 2)
        .unwrap();
    stage.expect_dropped(&ping, &target);
    let records = stage.records_of("config");
    let mended = records.iter().filter(|one| one["body"]["detail"].to_string().contains("behind"));
    assert!(mended.count() >= 2, "{records:?}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_kernel_half_that_somebody_else_takes_off_the_host_comes_back_with_every_block() {
    for hook in [Hook::Native, Hook::Clsact] {
        let stage = Stage::new(hook);
        stage.crowd();
        let file = stage.file("feed.txt", "10.88.9.0/24\nfd88:9::/32\n");
        stage.quarantine(&["10.88.7.1", "fd88:7::1"]);
        assert!(stage.enforcer(&["blocks", "import", &file, "--reason", "test"]).is_success());
        let blocked = ["10.88.7.1", "fd88:7::1", "10.88.9.9", "fd88:9::9"];
        // Somebody who does not ask for the agent where it is.
        let nowhere = format!("unix:{}", stage.site.folder().join("nobody.sock").display());
        let behind = stage.offline(&["--agent", &nowhere, "detach", "--yes"]);
        assert!(behind.is_success() && behind.stdout.contains("enf-attacker"), "{behind}");

        wait_until("it is in force again", ANEW, || {
            stage.passages(&blocked).iter().all(Passage::is_shut_out)
        })
        .unwrap();

        wait_until("status is clear again", TICKS, || stage.problem().is_none()).unwrap();
        assert!(stage.reaches(&["10.88.7.3", "fd88:7::3"]), "{hook:?}");
        stage.expect_verified();
        assert!(stage.pinned().is_ok(), "{hook:?}: nothing would outlive this agent");
        let records = stage.records_of("config");
        let what: Vec<_> = records.iter().map(|one| one["body"]["what"].clone()).collect();
        assert!(what.contains(&"kernel-lost".into()), "{what:?}");
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}
