//! How many are hit unasked: no larger share of those who are served than the policy admits.

use enforcer_tests::lab::{DEADLINE, Family, Http, wait_until};

use super::{Scene, id, rule};
use crate::notify::post::receiver;
use crate::notify::webhook;
use crate::stage::orders;

/// Addresses that are served before anything happens.
const SERVED: usize = 12;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_burst_beyond_the_allowed_share_of_clients_asks_tells_somebody_and_does_as_it_is_told() {
    let limits = "[detect.limits]\nmax_share_of_clients = \"20%\"\n\
                  max_share_of_identities = \"100%\"\n";
    let rules = [rule("burst", "source", "auto", &["action: drop, ttl: 10m"])];
    let scene = Scene::new(&rules, limits);
    scene.stage.file("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let (address, posts) = receiver(&scene.stage, &["204 No Content"]);
    let told = webhook("soc", address, "allow_private = ['127.0.0.1/32']");
    scene.stage.apply(&super::limited(&format!("{limits}\n{told}")));
    scene.crowd();
    for n in 1..=SERVED {
        let client = scene.member(&member(n));
        assert_eq!(client.ask(&orders().key(&scene.key)).unwrap().status, 200);
    }

    for n in 1..=6 {
        scene.trip("burst", &scene.member(&member(n)), &scene.key);
    }

    wait_until("all of them are decided about", DEADLINE, || scene.of("burst").len() == 6).unwrap();
    wait_until("what is done is done", DEADLINE, || {
        scene.of("burst").iter().all(|one| one["state"] != "ordered")
    })
    .unwrap();
    let (done, asked): (Vec<_>, Vec<_>) =
        scene.of("burst").into_iter().partition(|one| one["state"] == "in-force");
    assert_eq!((done.len(), asked.len()), (2, 4), "a fifth of {SERVED}: {done:#?} {asked:#?}");
    assert!(asked.iter().all(|one| one["state"] == "waiting"), "{asked:#?}");
    wait_until("somebody is told", DEADLINE, || {
        posts.try_iter().any(|post| {
            let body = post.body().to_string();
            body.contains("over 20 %") && body.contains("operators are asked")
        })
    })
    .unwrap();
    let why = scene.told_of(id(&asked[0])).remove(0).2.to_string();
    assert!(why.contains("automatic decisions would hit 3 of"), "{why}");

    scene.does(&["incident", "approve", id(&asked[0]), "--reason", "go on"]);
    scene.does(&["incident", "reject", id(&asked[1]), "--reason", "a customer"]);

    scene.until_state(id(&asked[0]), "in-force");
    scene.until_state(id(&asked[1]), "rejected");
    assert!(scene.stage.block_of(target(&asked[0])).is_some());
    assert!(scene.stage.block_of(target(&asked[1])).is_none());
    let spared = target(&asked[1]).parse().unwrap();
    let mut spared = scene.stage.attacker(Family::V4).at(spared).connect(Http::One).unwrap();
    assert_eq!(spared.ask(&orders().key(&scene.key)).unwrap().status, 200);
    assert_eq!(scene.status(&scene.key), 200);
}

fn member(n: usize) -> String {
    format!("10.88.4.{n}")
}

fn target(decision: &serde_json::Value) -> &str {
    decision["target"].as_str().unwrap().strip_prefix("source:").unwrap()
}
