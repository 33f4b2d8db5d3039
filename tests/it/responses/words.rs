//! What operators ask about findings and incidents, in words and for programs.

use enforcer_tests::lab::{DEADLINE, wait_until};

use super::{Scene, id, rule};

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn findings_are_listed_shown_muted_and_heard_of_again() {
    let scene = Scene::new(&[rule("noise", "identity", "auto", &["action: notify"])], "");
    let count = || scene.stage.json(&["findings", "list", "--rule", "noise"]);
    let count = || count().as_array().unwrap().len();
    let key = scene.stage.key("one", "reader");
    scene.trip("noise", &scene.attacker(), &key);
    wait_until("it is found", DEADLINE, || count() == 1).unwrap();

    let rows = scene.stage.json(&["findings", "list", "--since", "1h"]);
    let (name, about) = (id(&rows[0]), rows[0]["about"].as_str().unwrap());
    assert!(
        scene.stage.json(&["findings", "list", "--rule", "other"]).as_array().unwrap().is_empty()
    );
    let by = scene.stage.json(&["findings", "list", "--about", about]);
    assert_eq!(id(&by[0]), name);
    let table = scene.does(&["findings", "list"]);
    assert!(table.contains(name) && table.contains("noise"), "{table}");
    let shown = scene.stage.json(&["findings", "show", name]);
    assert!(!shown["evidence"].as_array().unwrap().is_empty(), "{shown}");
    let text = scene.does(&["findings", "show", name]);
    assert!(text.contains(about) && text.contains("noise"), "{text}");
    let unknown = scene.stage.enforcer(&["findings", "show", "F-0000000"]);
    assert_eq!(unknown.code, Some(3), "{unknown}");

    let mute = ["findings", "mute", "noise", "--for", "10m", "--reason", "a test of ours"];
    let muted = scene.stage.json(&mute);
    assert_eq!(muted["mutes"][0]["what"], "noise", "{muted}");
    assert!(scene.does(&["findings", "mutes"]).contains("a test of ours"));
    assert_eq!(scene.stage.json(&["findings", "mutes"])[0]["what"], "noise");
    let other = scene.stage.key("two", "reader");
    scene.trip("noise", &scene.attacker(), &other);
    wait_until("it is counted", DEADLINE, || {
        scene.stage.json(&["rules", "list"])[0]["counts"]["findings"] == 2
    })
    .unwrap();
    assert_eq!(count(), 1, "nobody hears of it");

    scene.does(&["findings", "unmute", "noise", "--reason", "over"]);
    assert!(scene.stage.json(&["findings", "mutes"]).as_array().unwrap().is_empty());
    let again = scene.stage.enforcer(&["findings", "unmute", "noise"]);
    assert_eq!(again.code, Some(3), "{again}");
    let third = scene.stage.key("three", "reader");
    scene.trip("noise", &scene.attacker(), &third);
    wait_until("it is heard of again", DEADLINE, || count() == 2).unwrap();
    let forever = ["findings", "mute", "noise", "--for", "forever", "--reason", "x"];
    assert_eq!(scene.stage.enforcer(&forever).code, Some(2));
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_incident_is_opened_listed_shown_tightened_relaxed_and_closed_by_hand() {
    let scene = Scene::new(&[], "");
    let words = ["incident", "open", "--level", "2", "--for", "1h", "--reason", "leaked key"];
    let opened = scene.does(&words);
    let listed = scene.stage.json(&["incident", "list"]);
    let name = id(&listed[0]).to_owned();
    assert!(opened.contains(&name), "{opened}");
    assert_eq!(listed[0]["title"], "leaked key", "{listed}");
    assert_eq!(scene.stage.json(&["incident", "show"])["level"], 2);
    let table = scene.does(&["incident", "list"]);
    assert!(table.contains(&name) && table.contains("leaked key"), "{table}");
    let shown = scene.does(&["incident", "show", &name]);
    assert!(shown.contains("leaked key") && shown.contains("open"), "{shown}");
    assert!(scene.does(&["incident", "show"]).contains("incident level  2"));

    let tighten =
        ["incident", "tighten", "--route", "orders", "--rate", "1/m", "--by", "principal"];
    let held = scene.stage.json(&[&tighten[..], &["--incident", &name]].concat());
    assert!(held["rule"]["reason"].as_str().unwrap().starts_with(&name), "{held}");
    assert_eq!([scene.status(&scene.key), scene.status(&scene.key)], [200, 429]);
    let relaxed = scene.does(&["incident", "relax", "--route", "orders", "--reason", "over"]);
    assert!(relaxed.contains("orders"), "{relaxed}");
    assert_eq!(scene.status(&scene.key), 200);
    let again = scene.stage.enforcer(&["incident", "relax", "--route", "orders"]);
    assert_eq!(again.code, Some(3), "{again}");

    let who = ["quarantine", "user:token:corp/eve", "--reason", "stolen", "--incident", &name];
    let blocked = scene.stage.json(&who);
    assert_eq!(blocked["block"]["reason"], format!("{name}: stolen"), "{blocked}");

    scene.does(&["incident", "level", "0", "--reason", "over"]);
    assert_eq!(scene.stage.json(&["incident", "show"])["level"], 0);
    let file = scene.stage.site.folder().join("incident.md");
    let report = file.to_str().unwrap();
    let close = ["incident", "close", &name, "--report", report, "--reason", "key is revoked"];
    let closed = scene.stage.offline(&close);
    assert!(closed.is_success(), "{closed}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(&format!("# {name}: leaked key")), "{text}");
    assert!(text.contains("key is revoked"), "{text}");
    assert!(scene.stage.json(&["incident", "list"]).as_array().unwrap().is_empty());
    assert_eq!(scene.stage.json(&["incident", "list", "--all"])[0]["state"], "closed");
    let twice = scene.stage.enforcer(&["incident", "close", &name]);
    assert_eq!(twice.code, Some(2), "{twice}");
    assert!(twice.stderr.contains("is closed"), "{twice}");
    for words in [
        &["incident", "show", "INC-0099"][..],
        &["incident", "approve", "D-0000000"],
        &["release", "D-0000000"],
        &["release", "INC-0099"],
    ] {
        let unknown = scene.stage.enforcer(words);
        assert_eq!(unknown.code, Some(3), "{words:?}: {unknown}");
        assert!(unknown.stderr.contains("is not known"), "{unknown}");
    }
}
