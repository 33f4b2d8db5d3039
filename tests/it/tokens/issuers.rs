//! What becomes of tokens while their issuers revoke them, are down, or talk nonsense.

use std::time::Duration;

use enforcer_tests::lab::idp::{BrokenIssuer, Idp, IdpKey, IdpOptions, Manner, READONLY};
use enforcer_tests::lab::{DEADLINE, Family, Http, wait_until};
use serde_json::json;

use super::{Scene, claims, issuer, once, policy, read, reason_of, status_of};
use crate::stage::Stage;

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn an_opaque_token_is_served_until_its_provider_takes_it_back() {
    let scene = Scene::open();
    let (ends, stays) = (
        scene.idp.token(READONLY, "opaque").unwrap(),
        scene.idp.token(READONLY, "opaque").unwrap(),
    );
    assert_eq!([scene.status(&ends), scene.status(&stays)], [200, 200]);

    scene.idp.revoke(READONLY, &ends).unwrap();

    wait_until("the answer in memory is old", DEADLINE, || once(&scene.stage, &ends) == 401)
        .unwrap();
    assert_eq!(scene.reason(), "token-inactive");
    assert_eq!([scene.status(&ends), scene.status(&stays)], [401, 200]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn without_its_provider_no_opaque_token_is_served_and_every_signed_one_is() {
    let scene = Scene::open();
    let opaque = || scene.idp.token(READONLY, "opaque").unwrap();
    let (known, unknown) = (opaque(), opaque());
    // Signed, and not seen before the provider is gone.
    let signed = scene.idp.token(READONLY, "es256").unwrap();
    let kept: Vec<_> = scene.idp.keys().iter().cloned().map(IdpKey::Kept).collect();
    let (port, issuer) = (scene.idp.port().unwrap(), scene.idp.issuer().to_owned());
    assert_eq!(scene.status(&known), 200);
    let Scene { mut stage, idp, lab } = scene;

    drop(idp);

    assert_eq!(status_of(&stage, &unknown), 503);
    assert_eq!(reason_of(&stage), "issuer-unavailable");
    wait_until("the answer in memory is old", DEADLINE, || once(&stage, &known) == 503).unwrap();
    let before = stage.upstream.requests();
    for _ in 0..5 {
        assert_eq!([status_of(&stage, &unknown), status_of(&stage, &known)], [503, 503]);
    }
    assert_eq!(stage.upstream.requests(), before, "nobody vouched, nothing arrived");
    assert_eq!(status_of(&stage, &signed), 200);

    // Keys are not kept over a restart: nobody knows what has become of them meanwhile.
    stage.kill();
    stage.start();
    assert_eq!([status_of(&stage, &signed), status_of(&stage, &unknown)], [503, 503]);
    let options = IdpOptions { port, keys: kept, ..IdpOptions::default() };
    let idp = Idp::start(Some(&stage.lab.host), options).unwrap();
    assert_eq!(idp.issuer(), issuer);
    wait_until("the provider is found again", DEADLINE, || once(&stage, &signed) == 200).unwrap();
    assert_eq!(status_of(&stage, &idp.token(READONLY, "opaque").unwrap()), 200);
    assert_eq!(status_of(&stage, &signed), 200);
    assert_eq!(status_of(&stage, &known), 401, "it has forgotten what it issued");
    drop(lab);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn issuers_that_misbehave_harm_nobody_but_their_own() {
    let mut stage = Stage::without_agent("");
    let start = |manner: Manner| {
        let issuer = BrokenIssuer::start(Some(&stage.lab.host)).unwrap();
        issuer.set(manner);
        issuer
    };
    let good = start(Manner::Good);
    let odd = [
        ("slow", start(Manner::Slow(Duration::from_millis(200)))),
        ("many", start(Manner::Many(10_000))),
    ];
    let bad = [
        ("silent", start(Manner::Silent)),
        ("garbage", start(Manner::Garbage)),
        ("endless", start(Manner::Endless)),
        ("legion", start(Manner::Many(20_000))),
        ("down", start(Manner::Down)),
        ("broken", start(Manner::Broken)),
        ("liar", start(Manner::Liar)),
        ("page", start(Manner::Page)),
        ("moved", start(Manner::Redirect(format!("{}/jwks", good.issuer())))),
        ("keyless", start(Manner::Status(500))),
    ];
    let all: Vec<_> = odd.iter().chain(&bad).collect();
    let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
    let more = "timeout = \"1s\"\nrefresh = \"1s\"";
    let sections: String = all.iter().map(|(name, one)| issuer(name, one.issuer(), more)).collect();
    let text = policy(&names, &(sections + &issuer("corp", good.issuer(), more)));
    stage.site.write_policy(&text).unwrap();
    stage.start();
    let token = |one: &BrokenIssuer| one.sign(&claims(one.issuer(), "alice", &json!({}))).unwrap();
    let theirs = token(&good);
    wait_until("the good one is served", DEADLINE, || once(&stage, &theirs) == 200).unwrap();
    let steady = stage.client(Family::V4).steadily(read().key(&theirs), Duration::from_millis(2));

    for (name, one) in &odd {
        let token = token(one);
        wait_until(&format!("{name} is served"), DEADLINE, || once(&stage, &token) == 200).unwrap();
    }
    for (name, one) in &bad {
        assert_eq!(status_of(&stage, &token(one)), 503, "{name}");
        assert_eq!(reason_of(&stage), "issuer-unavailable", "{name}");
    }

    let listed = stage.json(&["tokens", "list"]);
    for issuer in listed["issuers"].as_array().unwrap() {
        let is_bad = bad.iter().any(|(name, _)| issuer["name"] == *name);
        assert_eq!((&issuer["usable"], issuer["failure"].is_string()), (&(!is_bad).into(), is_bad));
    }
    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless() && tally.served > 20, "{tally:?}");
    bad.iter().for_each(|(_, one)| one.set(Manner::Good));
    for (name, one) in &bad {
        let token = token(one);
        wait_until(&format!("{name} is well"), DEADLINE, || once(&stage, &token) == 200).unwrap();
    }
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_provider_that_says_nothing_keeps_nobody_waiting_but_whoever_needs_its_word() {
    let scene = Scene::open();
    let mute = BrokenIssuer::start(Some(&scene.stage.lab.host)).unwrap();
    let more = "timeout = \"2s\"\n\
                introspection = { client = \"enforcer\", secret = \"idp.secret\" }";
    scene.stage.apply(&scene.policy(&issuer("mute", mute.issuer(), more)));
    scene.until_usable();
    mute.set(Manner::Silent);
    let signed = scene.idp.token(READONLY, "es256").unwrap();
    let opaque = scene.idp.token(READONLY, "opaque").unwrap();
    let client = scene.stage.client(Family::V4);
    let steady = client.steadily(read().key(&signed), Duration::from_millis(1));

    // Nobody knows these, and one that may know them does not say so.
    let asks: Vec<_> = (0..40).map(|n| read().key(&format!("invented-{n}"))).collect();
    let answers = client.connect(Http::Two).unwrap().ask_at_once(&asks).unwrap();

    let statuses: Vec<_> = answers.iter().map(|one| one.as_ref().unwrap().status).collect();
    assert_eq!(statuses, [503; 40]);
    assert_eq!(scene.reason(), "issuer-unavailable");
    assert_eq!(scene.status(&opaque), 200, "whoever vouches for it is asked first");
    let tally = steady.finish().unwrap();
    assert!(tally.is_spotless() && tally.served > 20, "{tally:?}");
    assert!(tally.slowest < Duration::from_millis(1_500), "nobody else waited: {tally:?}");
}
