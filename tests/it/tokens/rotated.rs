//! Providers that come back with other keys.

use enforcer_tests::lab::idp::{Idp, IdpKey, IdpOptions, READONLY};
use enforcer_tests::lab::{DEADLINE, wait_until};

use super::{POLICY, once, reason_of, status_of};
use crate::stage::Stage;

/// A stage with a provider, whose one key is `k1`, and a token of it that was served.
fn rotating(refresh: &str) -> (Stage, Idp, String) {
    let mut stage = Stage::without_agent("");
    let keys = vec![IdpKey::fresh("ES256", "k1")];
    let options = IdpOptions { keys, ..IdpOptions::default() };
    let idp = Idp::start(Some(&stage.lab.host), options).unwrap();
    let text = POLICY.replace("FROM", "").replace("CLIENTS", "")
        + &format!(
            "\n[issuer.corp]\nurl = \"{}\"\naudience = [\"https://api.test/es256\"]\n\
             algs = [\"ES256\"]\nroles = \"claims.roles\"\nrefresh = \"{refresh}\"\n",
            idp.issuer()
        );
    stage.site.write_policy(&text).unwrap();
    stage.start();
    let token = idp.token(READONLY, "es256").unwrap();
    assert_eq!(status_of(&stage, &token), 200);
    (stage, idp, token)
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_new_key_is_fetched_for_the_first_token_that_names_it() {
    let (stage, idp, old) = rotating("1d");
    let kept = IdpKey::Kept(idp.keys()[0].clone());

    let idp = idp.restart(vec![IdpKey::fresh("ES256", "k2"), kept]).unwrap();
    let new = idp.token(READONLY, "es256").unwrap();

    assert_eq!([status_of(&stage, &new), status_of(&stage, &old)], [200, 200]);
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_new_key_under_an_old_name_is_fetched_and_ends_what_the_old_one_signed() {
    let (stage, idp, old) = rotating("1d");

    let idp = idp.restart(vec![IdpKey::fresh("ES256", "k1")]).unwrap();
    let new = idp.token(READONLY, "es256").unwrap();

    assert_eq!(status_of(&stage, &old), 200, "nobody can know yet");
    assert_eq!([status_of(&stage, &new), status_of(&stage, &old)], [200, 401]);
    assert_eq!(reason_of(&stage), "token-signature");
}

#[test]
#[ignore = "needs root; run by `cargo xtask test`"]
fn a_key_that_its_provider_withdraws_ends_what_it_signed() {
    let (stage, idp, old) = rotating("1s");

    let idp = idp.restart(vec![IdpKey::fresh("ES256", "k2")]).unwrap();

    wait_until("the old key is gone", DEADLINE, || once(&stage, &old) == 401).unwrap();
    assert_eq!(reason_of(&stage), "token-key-unknown");
    assert_eq!(status_of(&stage, &idp.token(READONLY, "es256").unwrap()), 200);
}
