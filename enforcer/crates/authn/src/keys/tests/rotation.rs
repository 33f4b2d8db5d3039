//! Two secrets, one key.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use enforcer_model::Reason;
use proptest::prelude::*;

use super::*;
use crate::{Environment, KeyPrefix, KeyState, LastUse};

const HOUR: u64 = 3_600;
const GRACE: Duration = Duration::from_secs(HOUR);

#[test]
fn a_rotated_key_keeps_its_id_and_record_and_both_secrets_live_for_the_grace() {
    let mut home = Home::new();
    let (before, old) = home.issue(|new| {
        new.owner = Some("Jürgen".into());
        new.scopes = vec!["orders:read".into()];
        new.environment = Environment::Test;
    });

    let (after, new) = home.store.rotate(&before.name, GRACE, now()).unwrap();

    assert_eq!(
        KeyRecord { secrets: Vec::new(), ..after.clone() },
        KeyRecord { secrets: Vec::new(), ..before }
    );
    assert_eq!(after.secrets.iter().map(|secret| secret.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(after.retiring(now()).unwrap().ends, Some(at(NOW + HOUR)));
    assert!(new.expose().starts_with("enf_test_"));
    let reason = |key: &IssuedKey, at| {
        identify(&home.keys(), key.expose(), "192.0.2.1", at).map_err(|refused| refused.reason)
    };
    let (by_old, by_new) = (reason(&old, NOW).unwrap(), reason(&new, NOW).unwrap());
    assert_eq!(by_old.principal(), by_new.principal());
    assert_eq!(facts(&by_old).retires, Some(at(NOW + HOUR)));
    assert_eq!(facts(&by_old).renewed, Some(now()));
    assert_eq!((facts(&by_new).retires, facts(&by_new).renewed), (None, None));
    assert!(reason(&old, NOW + HOUR - 1).is_ok());
    assert_eq!(reason(&old, NOW + HOUR).unwrap_err(), Reason::KeyExpired);
    assert!(reason(&new, NOW + HOUR).is_ok());
}

#[test]
fn whoever_holds_what_a_key_was_notices_each_change_of_it_and_no_other() {
    let mut home = Home::new();
    let (record, key) = home.issue(|_| {});
    let keys = home.keys();
    let held = |who: &Identity| match who.proof() {
        Proof::Key(key) => keys.is_current(key),
        Proof::Certificate | Proof::Token(_) => panic!("it came with a key"),
    };

    let first = home.identify(key.expose()).unwrap();
    home.issue(|new| new.name = "another".into());
    assert!(held(&first));

    home.store.rotate(record.id.as_str(), GRACE, now()).unwrap();
    assert!(!held(&first));
    let second = home.identify(key.expose()).unwrap();
    assert!(held(&second));

    home.store.revoke(record.id.as_str(), "test", now()).unwrap();
    assert!(!held(&second));
}

#[test]
fn without_grace_the_old_secret_ends_at_once() {
    let mut home = Home::new();
    let (record, old) = home.issue(|_| {});

    let (_, new) = home.store.rotate(record.id.as_str(), Duration::ZERO, now()).unwrap();

    let refused = home.identify(old.expose()).unwrap_err();
    assert_eq!(refused.reason, Reason::KeyExpired);
    assert!(refused.chain().contains("was replaced and ended at"), "{}", refused.chain());
    assert!(home.identify(new.expose()).is_ok());
}

#[test]
fn a_third_live_secret_is_refused_until_the_old_one_has_ended() {
    let mut home = Home::new();
    let (record, first) = home.issue(|_| {});
    let (_, second) = home.store.rotate(&record.name, GRACE, now()).unwrap();

    let refused = home.store.rotate(&record.name, GRACE, at(NOW + HOUR - 1)).unwrap_err();
    assert!(matches!(refused, StoreError::RotationUnderWay { ends, .. } if ends == at(NOW + HOUR)));
    assert!(refused.to_string().contains("--finish"), "{refused}");
    assert!(home.identify(first.expose()).is_ok() && home.identify(second.expose()).is_ok());

    let (after, third) = home.store.rotate(&record.name, GRACE, at(NOW + HOUR)).unwrap();
    assert_eq!(after.secrets.iter().map(|secret| secret.number).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(home.identify(first.expose()).unwrap_err().reason, Reason::KeyUnknown);
    assert!(home.identify(second.expose()).is_ok() && home.identify(third.expose()).is_ok());
}

#[test]
fn finishing_ends_the_old_secret_at_once_and_for_good() {
    let mut home = Home::new();
    let (record, old) = home.issue(|_| {});
    let nothing = home.store.finish(&record.name, now()).unwrap_err();
    assert!(matches!(nothing, StoreError::NothingToFinish { .. }), "{nothing}");
    let (_, new) = home.store.rotate(&record.name, GRACE, now()).unwrap();

    let finished = home.store.finish(&record.name, at(NOW + 1)).unwrap();

    assert_eq!(finished.retiring(at(NOW + 1)), None);
    let refused = |home: &Home| {
        identify(&home.keys(), old.expose(), "192.0.2.1", NOW + 1).unwrap_err().reason
    };
    assert_eq!(refused(&home), Reason::KeyExpired);
    assert!(home.store.finish(&record.name, at(NOW + 1)).is_err());
    let home = home.restart();
    assert_eq!(refused(&home), Reason::KeyExpired);
    assert!(home.identify(new.expose()).is_ok());
}

#[test]
fn a_key_that_is_over_gets_no_secret() {
    let mut home = Home::new();
    let (revoked, _) = home.issue(|_| {});
    let (expired, _) = home.issue(|new| new.expires = Some(at(NOW + 1)));
    home.store.revoke(&revoked.name, "leaked", now()).unwrap();

    for (key, state) in [(revoked, KeyState::Revoked), (expired, KeyState::Expired)] {
        let refused = home.store.rotate(&key.name, GRACE, at(NOW + 1)).unwrap_err();
        assert!(matches!(refused, StoreError::Ended { state: found, .. } if found == state));
    }
}

#[test]
fn both_secrets_and_their_uses_survive_a_restart() {
    let mut home = Home::new();
    let (record, old) = home.issue(|_| {});
    let (_, new) = home.store.rotate(&record.name, GRACE, now()).unwrap();
    identify(&home.keys(), old.expose(), "192.0.2.7", NOW + 5).unwrap();
    identify(&home.keys(), new.expose(), "2001:db8::7", NOW + 6).unwrap();

    assert_eq!(home.store.flush_uses().unwrap(), 2);
    assert_eq!(home.store.flush_uses().unwrap(), 0);
    let home = home.restart();

    let told = home.store.show(&record.name).unwrap();
    let uses: Vec<_> = told.secrets.iter().map(|secret| secret.used.unwrap()).collect();
    let expected = |second, from: &str| LastUse { at: at(second), from: from.parse().unwrap() };
    assert_eq!(uses, [expected(NOW + 5, "192.0.2.7"), expected(NOW + 6, "2001:db8::7")]);
    assert!(home.identify(old.expose()).is_ok() && home.identify(new.expose()).is_ok());
}

#[test]
fn a_use_is_told_before_it_is_written_and_a_refused_one_never_is() {
    let mut home = Home::new();
    let (record, key) = home.issue(|new| new.networks = networks(&["192.0.2.0/24"]));
    let used = |home: &Home| home.store.show(&record.name).unwrap().secrets[0].used;

    drop(identify(&home.keys(), key.expose(), "198.51.100.1", NOW).unwrap_err());
    assert_eq!(used(&home), None);
    identify(&home.keys(), key.expose(), "192.0.2.9", NOW).unwrap();
    assert_eq!(used(&home).unwrap().from.to_string(), "192.0.2.9");

    let (after, _) = home.store.rotate(&record.name, GRACE, now()).unwrap();
    assert_eq!(after.secrets[0].used.unwrap().from.to_string(), "192.0.2.9");
}

#[test]
fn uses_that_the_disk_refuses_are_due_again() {
    let mut home = Home::new();
    let (record, key) = home.issue(|_| {});
    home.identify(key.expose()).unwrap();
    let other = rusqlite::Connection::open(home.database()).unwrap();
    other.execute_batch("PRAGMA busy_timeout = 0; BEGIN IMMEDIATE").unwrap();
    home.store.connection().execute_batch("PRAGMA busy_timeout = 0").unwrap();

    assert!(home.store.flush_uses().is_err());

    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(home.store.flush_uses().unwrap(), 1);
    let home = home.restart();
    assert!(home.store.show(&record.name).unwrap().secrets[0].used.is_some());
}

#[test]
fn a_rotation_that_the_disk_refuses_changes_nothing() {
    let mut home = Home::new();
    let (record, key) = home.issue(|_| {});
    let other = rusqlite::Connection::open(home.database()).unwrap();
    other.execute_batch("PRAGMA busy_timeout = 0; BEGIN IMMEDIATE").unwrap();
    home.store.connection().execute_batch("PRAGMA busy_timeout = 0").unwrap();

    drop(home.store.rotate(&record.name, Duration::ZERO, now()).unwrap_err());

    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(home.store.show(&record.name).unwrap(), record);
    assert!(home.identify(key.expose()).is_ok());
}

#[test]
fn a_new_prefix_holds_for_new_secrets_and_old_keys_stay_good() {
    let mut home = Home::new();
    let (record, old) = home.issue(|_| {});
    let acme: KeyPrefix = "acme".parse().unwrap();
    home.store.set_prefix(acme);

    let (_, new) = home.store.rotate(&record.name, GRACE, now()).unwrap();
    let (_, other) = home.issue(|_| {});
    home.store.set_prefix("corp".parse().unwrap());

    assert!(new.expose().starts_with("acme_live_") && other.expose().starts_with("acme_live_"));
    for key in [&old, &new, &other] {
        assert!(home.identify(key.expose()).is_ok(), "{key:?}");
        assert!(home.keys().looks_like_key(key.expose().as_bytes()));
    }
    let home = home.restart();
    for key in [&old, &new, &other] {
        assert!(home.identify(key.expose()).is_ok(), "{key:?}");
    }
    // A key in another coat has a right checksum, and is another key all the same.
    let (_, own) = new.expose().split_once('_').unwrap();
    let text = format!("enf_{own}");
    let covered = &text.as_bytes()[..65];
    let sum = super::super::token::checksum_of(covered);
    let coat: String = covered.iter().chain(&sum).map(|byte| char::from(*byte)).collect();
    assert_eq!(home.identify(&coat).unwrap_err().reason, Reason::KeyUnknown);
}

#[test]
fn a_mistyped_key_looks_like_a_key_and_a_token_does_not() {
    let home = Home::new();
    let keys = home.keys();

    assert!(keys.looks_like_key(b"enf_live_oops"));
    assert!(keys.looks_like_key(b"enf_test_"));
    for other in ["", "enf", "enf_prod_x", "ENF_live_x", "eyJhbGciOiJFUzI1NiJ9.e30.c2ln", "opaque"]
    {
        assert!(!keys.looks_like_key(other.as_bytes()), "{other}");
    }
}

#[test]
fn a_key_goes_with_its_certificate_and_no_other() {
    let mut home = Home::new();
    let (own, other) = (Thumbprint([1; 32]), Thumbprint([2; 32]));
    let (_, key) = home.issue(|new| new.certificate = Some(own));
    let home = home.restart();
    let reason = |certificate| {
        identify_with(&home.keys(), key.expose(), "192.0.2.1", certificate, NOW)
            .map(drop)
            .map_err(|refused| refused.reason)
    };

    assert_eq!(reason(Some(own)), Ok(()));
    assert_eq!(reason(Some(other)), Err(Reason::KeyWrongCertificate));
    assert_eq!(reason(None), Err(Reason::KeyWrongCertificate));
}

/// Consumers use whatever secret they were last given, for as long as its grace lasts, while the key
/// is rotated and finished as fast as it can be.
#[test]
fn no_active_consumer_is_refused_while_its_key_is_rotated_again_and_again() {
    const ROTATIONS: u64 = 60;
    const CONSUMERS: usize = 4;
    let mut home = Home::new();
    let (record, first) = home.issue(|_| {});
    let keys = home.keys();
    let given = ArcSwap::from_pointee((0, first.expose().to_owned()));
    let (adopted, done) = ([const { AtomicU64::new(0) }; CONSUMERS], AtomicBool::new(false));

    let checks: u64 = std::thread::scope(|scope| {
        let (given, keys, done) = (&given, &keys, &done);
        let consumers: Vec<_> = adopted
            .iter()
            .map(|adopted| {
                scope.spawn(move || {
                    let (mut checks, mut mine) = (0, given.load_full());
                    while !done.load(Ordering::SeqCst) {
                        // Fifty requests with a secret before it asks for another.
                        for _ in 0..50 {
                            identify(keys, &mine.1, "192.0.2.1", NOW).unwrap();
                            checks += 1;
                        }
                        mine = given.load_full();
                        adopted.store(mine.0, Ordering::SeqCst);
                    }
                    checks
                })
            })
            .collect();
        for number in 1..=ROTATIONS {
            let (_, key) = home.store.rotate(record.id.as_str(), GRACE, now()).unwrap();
            given.store((number, key.expose().to_owned()).into());
            while adopted.iter().any(|adopted| adopted.load(Ordering::SeqCst) < number) {
                std::thread::yield_now();
            }
            home.store.finish(record.id.as_str(), now()).unwrap();
        }
        done.store(true, Ordering::SeqCst);
        consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum()
    });

    assert!(checks >= ROTATIONS, "{checks}");
    let secrets = home.store.show(record.id.as_str()).unwrap().secrets;
    assert_eq!(secrets.last().unwrap().number, u32::try_from(ROTATIONS + 1).unwrap());
}

/// What may happen to a key, and when.
#[derive(Clone, Debug)]
enum Step {
    Rotate { grace: u64 },
    Finish,
    Wait { seconds: u64 },
    Restart,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// A plain model: a list of secrets with their ends.
    #[test]
    fn whatever_happens_a_secret_is_accepted_until_its_end_and_never_after(
        steps in proptest::collection::vec(step(), 1..20),
    ) {
        let mut home = Home::new();
        let (record, first) = home.issue(|_| {});
        let mut model: Vec<(IssuedKey, Option<u64>)> = vec![(first, None)];
        let mut time = NOW;
        for step in steps {
            let live = model.iter().filter(|(_, end)| end.is_none_or(|end| time < end)).count();
            match step {
                Step::Wait { seconds } => time += seconds,
                Step::Restart => home = home.restart(),
                Step::Finish => {
                    let finished = home.store.finish(record.id.as_str(), at(time));
                    prop_assert_eq!(finished.is_ok(), live == 2);
                    if live == 2 {
                        let older = model.len() - 2;
                        model[older].1 = Some(time);
                    }
                }
                Step::Rotate { grace } => {
                    let rotated =
                        home.store.rotate(record.id.as_str(), Duration::from_secs(grace), at(time));
                    prop_assert_eq!(rotated.is_ok(), live == 1);
                    if let Ok((_, key)) = rotated {
                        model.last_mut().unwrap().1 = Some(time + grace);
                        model.push((key, None));
                    }
                }
            }
            for (key, end) in &model {
                let accepted = identify(&home.keys(), key.expose(), "192.0.2.1", time).is_ok();
                prop_assert_eq!(accepted, end.is_none_or(|end| time < end));
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..100).prop_map(|grace| Step::Rotate { grace }),
        Just(Step::Finish),
        (0u64..120).prop_map(|seconds| Step::Wait { seconds }),
        Just(Step::Restart),
    ]
}

fn facts(who: &Identity) -> &crate::KeyFacts {
    match who.proof() {
        Proof::Key(facts) => facts,
        Proof::Certificate | Proof::Token(_) => panic!("no key"),
    }
}
