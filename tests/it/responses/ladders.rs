//! Ladders where a rung comes to nothing, and what an operator says about one.

use std::time::Duration;

use enforcer_tests::lab::{DEADLINE, wait_until};

use super::{Scene, id, limited, rule, unlimited};

const TIGHTEN: &str = "action: tighten, to: 10%, ttl: 10m";
const DENY: &str = "action: deny_identity, ttl: 10m";

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn where_nothing_can_be_tightened_the_next_rung_is_taken_at_once_and_the_record_says_why() {
    let rules = [rule("enough", "identity", "auto", &[TIGHTEN, DENY])];
    let scene = Scene::with(&unlimited(""), &rules);
    let key = scene.stage.key("thief", "reader");

    scene.trip("enough", &scene.attacker(), &key);

    let lost = scene.decision("enough", "tighten to 10 %", "failed");
    let denial = scene.decision("enough", "deny the identity", "in-force");
    assert_eq!(lost["finding"], denial["finding"], "it did not have to be found again");
    assert_eq!([scene.status(&key), scene.status(&scene.key)], [403, 200]);
    let told = scene.told_of(id(&lost));
    let why = told.iter().find(|(what, ..)| what == "failed").unwrap().2.to_string();
    assert!(why.contains("counted by no rate that could shrink"), "{told:?}");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn where_there_are_limits_the_mildest_rung_is_taken_and_the_next_one_only_if_it_goes_on() {
    // What is refused for the limits is no evidence: with these some of it goes on.
    let mild = "action: tighten, to: 90%, ttl: 10m";
    let rules = [rule("enough", "identity", "auto", &[mild, DENY])];
    let scene = Scene::with(&limited(""), &rules);
    let key = scene.stage.key("thief", "reader");

    assert_eq!(scene.trip("enough", &scene.attacker(), &key), 200);
    scene.decision("enough", "tighten to 90 %", "in-force");
    assert_eq!(scene.of("enough").len(), 1, "{:#?}", scene.of("enough"));

    // What is found again within ten seconds is no news; and no faster than the limit, for what it
    // refuses is no evidence.
    wait_until("it goes on", DEADLINE * 3, || {
        std::thread::sleep(Duration::from_secs(2));
        scene.trip("enough", &scene.attacker(), &key);
        scene.of("enough").len() > 1
    })
    .unwrap();
    scene.decision("enough", "deny the identity", "in-force");
    assert_eq!([scene.status(&key), scene.status(&scene.key)], [403, 200]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_operators_reason_stands_in_the_record_of_what_was_approved_and_of_what_was_rejected() {
    let rules = [rule("ask", "identity", "approve", &[DENY])];
    let scene = Scene::new(&rules, "");
    let (yes, no) = (scene.stage.key("yes", "reader"), scene.stage.key("no", "reader"));
    let asked = |key: &str| {
        let before = scene.of("ask").len();
        scene.trip("ask", &scene.attacker(), key);
        wait_until("an operator is asked", DEADLINE, || scene.of("ask").len() > before).unwrap();
        scene.of("ask").pop().unwrap()
    };
    let (first, second) = (asked(&yes), asked(&no));
    assert_eq!([&first["state"], &second["state"]], ["waiting", "waiting"]);
    assert_eq!([scene.status(&yes), scene.status(&no)], [200, 200], "nothing is done unasked");

    scene.does(&["incident", "approve", id(&first), "--reason", "it is a leak"]);
    scene.does(&["incident", "reject", id(&second), "--reason", "our own scanner"]);

    scene.until_state(id(&first), "in-force");
    scene.until_state(id(&second), "rejected");
    assert_eq!([scene.status(&yes), scene.status(&no)], [403, 200]);
    for (decision, what, why) in
        [(&first, "approved", "it is a leak"), (&second, "rejected", "our own scanner")]
    {
        let told = scene.told_of(id(decision));
        let (_, by, detail) = told.iter().find(|(one, ..)| one == what).unwrap();
        assert_eq!(detail, why, "{told:?}");
        assert_eq!(by["operator"]["name"], "root", "{told:?}");
    }
    // What was rejected is not asked again before its time would have been over.
    scene.trip("ask", &scene.attacker(), &no);
    std::thread::sleep(Duration::from_millis(1_200));
    scene.trip("ask", &scene.attacker(), &no);
    assert_eq!(scene.of("ask").len(), 2, "{:#?}", scene.of("ask"));
    let again = scene.stage.enforcer(&["incident", "approve", id(&second)]);
    assert_eq!(again.code, Some(2), "{again}");
    assert!(again.stderr.contains("is rejected; only one that waits can be approved"), "{again}");
}
