//! What a rule may do: the same attack under each mode, set at run time and by the policy.

use enforcer_tests::lab::{DEADLINE, wait_until};
use serde_json::Value;

use super::{Scene, id, limited, rule};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn the_same_attack_is_recorded_asked_about_or_answered_as_the_mode_says() {
    let rules = [rule("thief", "identity", "observe", &["action: deny_identity, ttl: 10m"])];
    let mut scene = Scene::new(&rules, "");

    let (key, seen) = attack(&scene, "one");
    assert_eq!(seen["state"], "observed", "{seen}");
    assert_eq!(scene.status(&key), 200, "nothing happens");
    assert!(scene.stage.json(&["blocks"]).as_array().unwrap().is_empty());
    let row = row(&scene);
    assert_eq!((&row["mode"], &row["counts"]["would_have_acted"]), (&"observe".into(), &1.into()));

    scene.does(&["rules", "mode", "thief", "approve", "--reason", "it was right"]);
    let (key, asked) = attack(&scene, "two");
    assert_eq!(asked["state"], "waiting", "{asked}");
    assert_eq!(scene.status(&key), 200, "nothing is done unasked");
    scene.does(&["incident", "approve", id(&asked)]);
    scene.until_state(id(&asked), "in-force");
    assert_eq!(scene.status(&key), 403);

    let set = scene.stage.json(&["rules", "mode", "thief", "auto", "--reason", "always right"]);
    assert_eq!(set["rules"][0]["mode"], "auto", "{set}");
    let (key, done) = attack(&scene, "three");
    scene.until_state(id(&done), "in-force");
    assert_eq!(scene.status(&key), 403);

    // Over a kill it is as it was set.
    scene.stage.kill();
    scene.stage.start();
    assert_eq!(self::row(&scene)["mode"], "auto");

    // Over a reload that says nothing of it too; what the policy says anew is the last word.
    scene.stage.apply(&limited("# another one\n"));
    assert_eq!(self::row(&scene)["mode"], "auto");
    scene.stage.apply(&limited("[detect.modes]\nthief = \"approve\"\n"));
    assert_eq!(self::row(&scene)["mode"], "approve");
    let (key, asked) = attack(&scene, "four");
    assert_eq!(asked["state"], "waiting", "{asked}");
    assert_eq!(scene.status(&key), 200);

    scene.stage.apply(&limited("[detect.modes]\nthief = \"off\"\n"));
    let none = scene.stage.enforcer(&["rules", "list"]);
    assert_eq!(none.code, Some(3), "{none}");
    let unknown = scene.stage.enforcer(&["rules", "mode", "thief", "auto"]);
    assert_eq!(unknown.code, Some(3), "{unknown}");
    let modes = scene.stage.records_of("admin");
    let told = |word: &str| modes.iter().any(|one| one["body"].to_string().contains(word));
    assert!(told("it was right") && told("always right"), "{modes:#?}");
}

/// Somebody new is found; what is decided about it.
fn attack(scene: &Scene, who: &str) -> (String, Value) {
    let key = scene.stage.key(who, "reader");
    let before = scene.of("thief").len();
    scene.trip("thief", &scene.attacker(), &key);
    wait_until("something is decided", DEADLINE, || scene.of("thief").len() > before).unwrap();
    (key, scene.of("thief").pop().unwrap())
}

fn row(scene: &Scene) -> Value {
    let rows = scene.stage.json(&["rules", "list"]);
    let found = rows.as_array().unwrap().iter().find(|row| row["id"] == "thief");
    found.unwrap().clone()
}
