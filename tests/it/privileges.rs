//! A serving agent holds next to nothing, and says what it lacks before it is needed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use enforcer_tests::lab::{CLIENT, DEADLINE, Family, wait_until};

use crate::stage::{Hook, Stage, orders, policy};

/// `CAP_NET_ADMIN`, `CAP_PERFMON` and `CAP_BPF`, as `/proc` writes them.
const KERNEL: &str = "000000c000001000";
const NONE: &str = "0000000000000000";

/// Somebody who is not the agent's user.
const STRANGER: u32 = 12_345;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_serving_agent_keeps_three_capabilities_in_one_thread_and_none_in_the_others() {
    let stage = Stage::new(Hook::Native);
    let agent = stage.agent.as_ref().unwrap();
    let target = CLIENT.of(Family::V4).to_string();
    // Work of every kind, so that every thread is there.
    let reader = stage.key("client", "reader");
    assert_eq!(stage.client(Family::V6).ask(&orders().key(&reader)).unwrap().status, 200);
    assert!(stage.enforcer(&["quarantine", &target, "--reason", "test"]).is_success());

    let threads = threads(agent.pid());

    let names: Vec<_> = threads.iter().map(|(name, _)| name.as_str()).collect();
    for wanted in ["enforcer", "responder", "proxy-0", "desk", "audit-writer"] {
        assert!(names.contains(&wanted), "{wanted} of {names:?}");
    }
    for (name, sets) in &threads {
        let kept = if name == "responder" { KERNEL } else { NONE };
        assert_eq!((sets["CapEff"].as_str(), sets["CapPrm"].as_str()), (kept, kept), "{name}");
        for empty in ["CapInh", "CapBnd", "CapAmb"] {
            assert_eq!(sets[empty], NONE, "{name}: {empty}");
        }
        assert_eq!(sets["NoNewPrivs"], "1", "{name}");
    }
    assert!(agent.said().contains("CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF"), "{}", agent.said());
    assert!(!agent.said().contains("a reload would be refused"), "{}", agent.said());
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_a_reload_could_not_read_is_told_at_the_start() {
    let mut stage = Stage::without_agent(&policy(Hook::Native));
    let key = stage.site.folder().join("tls/key.pem");
    chown(&key, Some(STRANGER), None).unwrap();

    stage.start();

    let agent = stage.agent.as_ref().unwrap();
    let said = agent.said();
    assert!(said.contains("a reload would be refused") && said.contains("key.pem"), "{said}");
    let refused = stage.enforcer(&["policy", "apply", stage.site.policy().to_str().unwrap()]);
    assert_eq!(refused.code, Some(1), "{refused}");
    // The remedy works without a restart.
    chown(&key, Some(0), None).unwrap();
    assert!(fs::metadata(&key).unwrap().permissions().mode() & 0o077 == 0);
    agent.hang_up().unwrap();
    wait_until("the policy is read again", DEADLINE, || agent.said().contains("policy in force"))
        .unwrap();
}

/// Name and sets of every thread.
fn threads(pid: u32) -> Vec<(String, BTreeMap<String, String>)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .map(|thread| {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            let fields: BTreeMap<_, _> = status
                .lines()
                .filter_map(|line| line.split_once(":\t"))
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect();
            (fields["Name"].clone(), fields)
        })
        .collect()
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn the_session_of_an_operator_who_became_root_is_guarded() {
    let stage = Stage::new(Hook::Native);
    // As `sudo` in a session over SSH: the variable is an ancestor's, and not passed on.
    let program = stage.site.command(&[]).unwrap().get_args().last().unwrap().to_owned();
    let agent = format!("unix:{}", stage.site.socket().display());
    let mut session = stage.lab.host.command("env");
    session
        .arg("SSH_CONNECTION=203.0.113.9 50022 10.77.1.1 22")
        .args(["sh", "-c", "env -i \"$@\"; exit $?", "sh"])
        .arg(program)
        .args(["--agent", &agent, "quarantine", "203.0.113.0/24", "--reason", "test"]);

    let refused = session.output().unwrap();

    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("203.0.113.9"), "{said}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_policy_file_keeps_its_owner_and_group_or_is_not_replaced() {
    let stage = Stage::new(Hook::Native);
    let file = stage.site.policy();
    let draft = stage.site.folder().join("draft.toml");
    fs::write(&draft, fs::read_to_string(&file).unwrap() + "\n# changed\n").unwrap();
    let apply = || stage.enforcer(&["policy", "apply", draft.to_str().unwrap()]);

    chown(&file, None, Some(STRANGER)).unwrap();
    let refused = apply();
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("a group of that user"), "{refused}");
    assert!(!fs::read_to_string(&file).unwrap().contains("# changed"));

    chown(&file, None, Some(0)).unwrap();
    let applied = apply();
    assert!(applied.is_success(), "{applied}");
    assert!(fs::read_to_string(&file).unwrap().contains("# changed"));
}
