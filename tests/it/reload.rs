//! A new policy under load: no request is dropped, a bad file never replaces a good one.

use std::time::Duration;

use enforcer_tests::lab::{Ask, DEADLINE, Family, Http, wait_until};

use crate::stage::{Hook, Stage, orders, policy};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn reloads_under_load_drop_no_request() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let steady: Vec<_> = Family::BOTH
        .iter()
        .map(|family| {
            stage.client(*family).steadily(orders().key(&reader), Duration::from_millis(1))
        })
        .collect();

    for round in 0..20 {
        let changed = policy(Hook::Native) + &format!("\n# round {round}\n");
        stage.site.write_policy(&changed).unwrap();
        if round % 2 == 0 {
            stage.agent.as_ref().unwrap().hang_up().unwrap();
        } else {
            let applied = stage.json(&["policy", "apply"]);
            assert_eq!(applied["needs_restart"].as_array().unwrap().len(), 0, "{applied}");
        }
    }

    for steady in steady {
        let tally = steady.finish().unwrap();
        assert!(tally.is_spotless(), "{tally:?}");
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_changed_rule_holds_from_the_next_request_on_an_open_connection() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let mut connection = stage.client(Family::V4).connect(Http::Two).unwrap();
    let create = Ask::post("/v1/orders", "{}").key(&reader);
    assert_eq!(connection.ask(&create).unwrap().status, 403);

    let looser = policy(Hook::Native).replace("role   = \"writer\"", "role   = \"reader\"");
    stage.site.write_policy(&looser).unwrap();
    assert!(stage.enforcer(&["policy", "apply"]).is_success());
    assert_eq!(connection.ask(&create).unwrap().status, 200);

    stage.site.write_policy(&policy(Hook::Native)).unwrap();
    stage.agent.as_ref().unwrap().hang_up().unwrap();
    wait_until("the old rule is back", DEADLINE, || connection.ask(&create).unwrap().status == 403)
        .unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_bad_policy_is_refused_with_all_its_problems_and_the_old_one_stays() {
    let mut stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let good = std::fs::read_to_string(stage.site.policy()).unwrap();
    let bad = good
        .replace("role   = \"reader\"", "role   = \"raeder\"")
        .replace("upstream = \"orders\"", "upstraem = \"orders\"");
    let draft = stage.site.folder().join("draft.toml");
    std::fs::write(&draft, &bad).unwrap();

    let refused = stage.enforcer(&["policy", "apply", draft.to_str().unwrap()]);

    assert_eq!(refused.code, Some(1), "{refused}");
    for expected in ["raeder", "reader", "upstraem", "upstream", "the old policy stays"] {
        assert!(refused.stderr.contains(expected), "{expected}: {refused}");
    }
    assert_eq!(std::fs::read_to_string(stage.site.policy()).unwrap(), good);
    let served = stage.client(Family::V4).ask(&orders().key(&reader)).unwrap();
    assert_eq!(served.status, 200);
    // The file that would break the next start is the one on disk: that one is still good.
    stage.kill();
    stage.start();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_bad_file_that_is_read_on_a_signal_leaves_the_old_policy_in_force() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let create = Ask::post("/v1/orders", "{}").key(&reader);
    let mut connection = stage.client(Family::V4).connect(Http::Two).unwrap();
    let before = stage.json(&["status"])["policy"]["sha256"].clone();
    // The first change alone would let the reader write.
    let bad =
        policy(Hook::Native).replace("role   = \"writer\"", "role   = \"reader\"") + "\n[limt]\n";

    stage.site.write_policy(&bad).unwrap();
    let agent = stage.agent.as_ref().unwrap();
    agent.hang_up().unwrap();

    agent.wait_until_said("the old policy stays").unwrap();
    assert!(agent.said().contains("limt"), "{}", agent.said());
    assert_eq!(connection.ask(&create).unwrap().status, 403);
    assert_eq!(connection.ask(&orders().key(&reader)).unwrap().status, 200);
    assert_eq!(stage.json(&["status"])["policy"]["sha256"], before);
    wait_until("the refusal is on record", DEADLINE, || {
        stage.records_of("config").iter().any(|record| record["body"]["what"] == "policy-refused")
    })
    .unwrap();
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_applied_file_replaces_the_agents_own_and_survives_a_restart() {
    let mut stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let create = Ask::post("/v1/orders", "{}").key(&reader);
    let good = std::fs::read_to_string(stage.site.policy()).unwrap();
    let draft = stage.site.folder().join("draft.toml");
    std::fs::write(&draft, good.replace("role   = \"writer\"", "role   = \"reader\"")).unwrap();

    assert!(stage.enforcer(&["policy", "apply", draft.to_str().unwrap()]).is_success());
    assert_eq!(stage.client(Family::V4).ask(&create).unwrap().status, 200);
    stage.kill();
    stage.start();

    assert_eq!(stage.client(Family::V4).ask(&create).unwrap().status, 200);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_applied_policy_is_undone_by_the_line_that_the_answer_ends_with() {
    let stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let create = Ask::post("/v1/orders", "{}").key(&reader);
    let good = std::fs::read_to_string(stage.site.policy()).unwrap();
    let draft = stage.site.folder().join("draft.toml");
    std::fs::write(&draft, good.replace("role   = \"writer\"", "role   = \"reader\"")).unwrap();
    let applied = stage.enforcer(&["policy", "apply", draft.to_str().unwrap()]);
    assert_eq!(stage.client(Family::V4).ask(&create).unwrap().status, 200);

    let undo = applied.stdout.lines().last().unwrap();
    let words: Vec<&str> = undo.strip_prefix("undo: enforcer ").unwrap().split(' ').collect();
    assert!(stage.enforcer(&words).is_success());

    assert_eq!(stage.client(Family::V4).ask(&create).unwrap().status, 403);
    assert_eq!(std::fs::read_to_string(stage.site.policy()).unwrap(), good);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn what_waits_for_a_restart_is_named() {
    let stage = Stage::new(Hook::Native);
    let moved = policy(Hook::Native).replace("0.0.0.0:8443", "0.0.0.0:9443");
    stage.site.write_policy(&moved).unwrap();

    let applied = stage.enforcer(&["policy", "apply"]);

    assert_eq!(applied.code, Some(6), "{applied}");
    assert!(applied.stdout.contains("restart"), "{applied}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_shutdown_finishes_what_is_under_way_and_takes_no_more() {
    let mut stage = Stage::new(Hook::Native);
    let reader = stage.key("client", "reader");
    let client = stage.client(Family::V4);
    let download = std::thread::spawn({
        let client = client.clone();
        move || client.ask(&Ask::get("/v1/drip/20/50").key(&reader))
    });
    stage.upstream.wait_for_requests(1).unwrap();

    let status = stage.agent.take().unwrap().terminate().unwrap();

    assert!(status.success(), "{status}");
    let answer = download.join().unwrap().unwrap();
    assert_eq!(answer.body.len(), 20);
    assert!(client.socket().is_err());
}
