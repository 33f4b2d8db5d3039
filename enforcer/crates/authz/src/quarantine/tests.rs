//! The promises of the quarantine, and a plain list that must always agree with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicBool;

use enforcer_model::Author;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn a_spared_network_passes_inside_a_blocked_one() {
    let quarantine = Quarantine::new(4);
    let now = Timestamp::from_unix_seconds(1);
    quarantine.insert(&block("203.0.113.0/24", 1, Expiry::Never)).unwrap();

    quarantine.spare(vec!["203.0.113.8/31".parse().unwrap()]);

    let from = |address: &str| {
        quarantine.refuse_source(Source::new(address.parse().unwrap()), now).is_ok()
    };
    assert!(from("203.0.113.9"));
    assert!(!from("203.0.113.10"));
    quarantine.spare(Vec::new());
    assert!(!from("203.0.113.9"));
}

#[test]
fn a_blocked_network_is_refused_and_the_refusal_names_the_block() {
    let quarantine = Quarantine::new(10);
    quarantine.insert(&block("192.0.2.0/24", 7, Expiry::Never)).unwrap();

    let refused = quarantine.refuse_source(source("192.0.2.9"), at(0)).unwrap_err();

    assert_eq!(refused.reason, Reason::Quarantined);
    assert_eq!(refused.chain(), "192.0.2.0/24 is blocked by B-0000007 until forever");
    assert!(quarantine.refuse_source(source("192.0.3.9"), at(0)).is_ok());
    assert!(quarantine.refuse_source(source("::ffff:192.0.2.9"), at(0)).is_err());
}

#[test]
fn a_blocked_key_is_refused_until_its_time_is_over() {
    let quarantine = Quarantine::new(10);
    quarantine.insert(&block("key:k7Qx2mP9aB3c", 7, Expiry::At(at(10)))).unwrap();
    let (blocked, other) = ("k7Qx2mP9aB3c".parse().unwrap(), "k7Qx2mP9aB3d".parse().unwrap());

    assert_eq!(quarantine.refuse_key(blocked, at(9)).unwrap_err().reason, Reason::Quarantined);
    assert!(quarantine.refuse_key(blocked, at(10)).is_ok());
    assert!(quarantine.refuse_key(other, at(9)).is_ok());
}

#[test]
fn every_kind_of_name_is_refused_alone_and_until_its_time_is_over() {
    let quarantine = Quarantine::new(10);
    let alice = Principal::from_token("corp", "alice");
    let bob = Principal::from_token("corp", "bob");
    let (token, other) = (Fingerprint([7; 16]), Fingerprint([8; 16]));
    let [chrome, curl]: [Arc<str>; 2] =
        ["t13d1516h2_8daaf6152771_e5627efa2ab1", "t13d1516h2_8daaf6152771_000000000000"]
            .map(Arc::from);
    let [auditor, reader] = ["auditor", "reader"].map(Role::new);
    for (id, target) in [
        Target::User(alice.clone()),
        Target::Role(auditor.clone()),
        Target::Token(token),
        Target::Ja4(Arc::clone(&chrome)),
    ]
    .into_iter()
    .enumerate()
    {
        let id = BlockId::from_bits(u64::try_from(id).unwrap());
        let shut = Block { id, target, ..block("192.0.2.1", 0, Expiry::At(at(10))) };
        quarantine.insert(&shut).unwrap();
        assert_eq!(quarantine.find(&shut.target), Some((id, shut.until)));
    }

    let hit = |now| {
        [
            quarantine.refuse_user(&alice, at(now)),
            quarantine.refuse_roles(|| [&reader, &auditor].into_iter(), at(now)),
            quarantine.refuse_token(token, at(now)),
            quarantine.refuse_ja4(Some(&chrome), source("192.0.2.9"), at(now)),
        ]
    };
    assert!(hit(9).iter().all(Result::is_err));
    assert!(hit(10).iter().all(Result::is_ok));
    assert!(quarantine.refuse_user(&bob, at(9)).is_ok());
    assert!(quarantine.refuse_roles(|| [&reader].into_iter(), at(9)).is_ok());
    assert!(quarantine.refuse_token(other, at(9)).is_ok());
    assert!(quarantine.refuse_ja4(Some(&curl), source("192.0.2.9"), at(9)).is_ok());
    assert!(quarantine.refuse_ja4(None, source("192.0.2.9"), at(9)).is_ok());
    quarantine.spare(vec!["192.0.2.9".parse().unwrap()]);
    assert!(quarantine.refuse_ja4(Some(&chrome), source("192.0.2.9"), at(9)).is_ok(), "spared");

    assert_eq!(quarantine.purge(at(10)).len(), 4);
    assert!(quarantine.is_empty() && hit(9).iter().all(Result::is_ok));
}

#[test]
fn an_expired_address_does_not_hide_the_network_around_it() {
    let quarantine = Quarantine::new(10);
    quarantine.insert(&block("192.0.2.9", 1, Expiry::At(at(10)))).unwrap();
    quarantine.insert(&block("192.0.0.0/16", 2, Expiry::Never)).unwrap();

    let refused = |now| quarantine.refuse_source(source("192.0.2.9"), at(now)).unwrap_err().chain();

    assert!(refused(9).contains("B-0000001"));
    assert!(refused(10).contains("B-0000002"));
}

#[test]
fn the_shortest_and_the_longest_prefixes_are_found() {
    for (network, inside) in [
        ("0.0.0.0/0", "203.0.113.7"),
        ("203.0.113.7", "203.0.113.7"),
        ("::/0", "2001:db8::1"),
        ("2001:db8::/63", "2001:db8:0:1::1"),
        ("2001:db8::/64", "2001:db8::1"),
        ("2001:db8::/127", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        let quarantine = Quarantine::new(1);
        quarantine.insert(&block(network, 1, Expiry::Never)).unwrap();

        assert!(quarantine.refuse_source(source(inside), at(0)).is_err(), "{network}");
        assert!(quarantine.remove(&network.parse().unwrap()));
        assert!(quarantine.refuse_source(source(inside), at(0)).is_ok(), "{network}");
    }
}

#[test]
fn every_ipv4_address_blocked_leaves_ipv6_open_and_the_other_way_round() {
    for (network, open) in [("0.0.0.0/0", "2001:db8::1"), ("::/0", "192.0.2.1")] {
        let quarantine = Quarantine::new(1);
        quarantine.insert(&block(network, 1, Expiry::Never)).unwrap();

        assert!(quarantine.refuse_source(source(open), at(0)).is_ok());
    }
}

#[test]
fn a_full_set_says_so_and_still_replaces_what_it_holds() {
    let quarantine = Quarantine::new(2);
    quarantine.insert(&block("192.0.2.1", 1, Expiry::At(at(5)))).unwrap();
    quarantine.insert(&block("key:k7Qx2mP9aB3c", 2, Expiry::Never)).unwrap();

    let full = quarantine.insert(&block("192.0.2.2", 3, Expiry::Never)).unwrap_err();

    assert_eq!(full, Full { max: 2 });
    assert!(quarantine.refuse_source(source("192.0.2.2"), at(0)).is_ok());
    quarantine.insert(&block("192.0.2.1", 4, Expiry::Never)).unwrap();
    assert_eq!(
        quarantine.find(&"192.0.2.1".parse().unwrap()),
        Some((BlockId::from_bits(4), Expiry::Never))
    );
    assert_eq!(quarantine.len(), 2);
}

#[test]
fn purge_returns_what_is_over_and_makes_room() {
    let quarantine = Quarantine::new(2);
    quarantine.insert(&block("192.0.2.1", 1, Expiry::At(at(5)))).unwrap();
    quarantine.insert(&block("key:k7Qx2mP9aB3c", 2, Expiry::At(at(6)))).unwrap();

    let over = quarantine.purge(at(5));

    let target = "192.0.2.1".parse().unwrap();
    assert_eq!(over, [(target, BlockId::from_bits(1), Expiry::At(at(5)))]);
    assert!(quarantine.insert(&block("192.0.2.3", 3, Expiry::Never)).is_ok());
    assert!(quarantine.purge(at(5)).is_empty());
}

/// Entries of one length come and go while one of the same length must be seen all the time.
#[test]
fn a_block_is_seen_while_others_of_its_length_come_and_go() {
    let quarantine = Quarantine::new(100);
    quarantine.insert(&block("192.0.2.1", 1, Expiry::Never)).unwrap();
    let done = AtomicBool::new(false);

    std::thread::scope(|scope| {
        let writers: Vec<_> = ["192.0.2.2", "192.0.2.3"]
            .map(|other| {
                let quarantine = &quarantine;
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        quarantine.insert(&block(other, 2, Expiry::Never)).unwrap();
                        assert!(quarantine.refuse_source(source(other), at(0)).is_err());
                        assert!(quarantine.remove(&other.parse().unwrap()));
                        assert!(quarantine.refuse_source(source(other), at(0)).is_ok());
                    }
                })
            })
            .into();
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert!(quarantine.refuse_source(source("192.0.2.1"), at(0)).is_err());
            }
        });
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok));
    });

    assert_eq!(quarantine.len(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Target, Expiry),
    Remove(Target),
    Purge,
    Ask(IpAddr, KeyId),
}

proptest! {
    #[test]
    fn every_answer_equals_that_of_a_plain_list(
        steps in vec((step(), 0..3u64), 1..200), max in 1..20usize,
    ) {
        let quarantine = Quarantine::new(max);
        let mut list: Vec<Entry> = Vec::new();
        let mut now = 0;
        for ((step, passed), bits) in steps.into_iter().zip(1..) {
            now += passed;
            match step {
                Step::Insert(target, until) => {
                    let block = Block { target: target.clone(), ..block("192.0.2.1", bits, until) };
                    let known = list.iter().position(|entry| entry.0 == target);
                    let expected = known.is_some() || list.len() < max;
                    prop_assert_eq!(quarantine.insert(&block).is_ok(), expected);
                    if let Some(known) = known {
                        list.remove(known);
                    }
                    if expected {
                        list.push((target, block.id, until));
                    }
                }
                Step::Remove(target) => {
                    let before = list.len();
                    list.retain(|entry| entry.0 != target);
                    prop_assert_eq!(quarantine.remove(&target), list.len() < before);
                    prop_assert_eq!(quarantine.find(&target), None);
                }
                Step::Purge => {
                    let (over, live) = list.into_iter().partition(|entry| entry.2.is_over(at(now)));
                    prop_assert_eq!(sorted(quarantine.purge(at(now))), sorted(over));
                    list = live;
                }
                Step::Ask(address, key) => {
                    let live = |entry: &&Entry| !entry.2.is_over(at(now));
                    let hit = list.iter().filter(live).any(|entry| match entry.0.network() {
                        Some(prefix) => prefix.contains(address),
                        None => false,
                    });
                    let key_hit = list.iter().filter(live).any(|entry| entry.0 == Target::Key(key));
                    let asked = quarantine.refuse_source(Source::new(address), at(now));
                    prop_assert_eq!(asked.is_err(), hit);
                    prop_assert_eq!(quarantine.refuse_key(key, at(now)).is_err(), key_hit);
                    let role = initial(key);
                    let held =
                        list.iter().filter(live).any(|entry| entry.0 == Target::Role(role.clone()));
                    let asked = quarantine.refuse_roles(|| [&role].into_iter(), at(now));
                    prop_assert_eq!(asked.is_err(), held);
                }
            }
            prop_assert_eq!(sorted(quarantine.entries()), sorted(list.clone()));
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let until = || prop_oneof![Just(Expiry::Never), (0..300u64).prop_map(|s| Expiry::At(at(s)))];
    prop_oneof![
        4 => (target(), until()).prop_map(|(target, until)| Step::Insert(target, until)),
        1 => target().prop_map(Step::Remove),
        1 => Just(Step::Purge),
        4 => (address(), key()).prop_map(|(address, key)| Step::Ask(address, key)),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        4 => (address(), 0..=128u8)
            .prop_map(|(address, length)| Target::Network(Prefix::around(address, length))),
        1 => key().prop_map(Target::Key),
        1 => key().prop_map(|key| Target::Role(initial(key))),
    ]
}

/// Few enough that networks nest and meet.
fn address() -> impl Strategy<Value = IpAddr> {
    let bits = prop_oneof![Just(0u32), Just(1), Just(1 << 7), Just(1 << 31), Just(u32::MAX)];
    (bits, any::<bool>()).prop_map(|(bits, v4)| {
        let wide = u128::from(bits) | u128::from(bits) << 96;
        if v4 { Ipv4Addr::from(bits).into() } else { Ipv6Addr::from(wide).into() }
    })
}

fn key() -> impl Strategy<Value = KeyId> {
    (b'a'..=b'd').prop_map(|letter| KeyId::from_bytes([letter; 12]).unwrap())
}

/// A role for each of the few keys.
fn initial(key: KeyId) -> Role {
    Role::new(&key.as_str().chars().take(1).collect::<String>())
}

fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| entry.1);
    entries
}

fn block(target: &str, id: u64, until: Expiry) -> Block {
    Block {
        id: BlockId::from_bits(id),
        target: target.parse().unwrap(),
        reason: "test".into(),
        author: Author::Rule("key-guessing".into()),
        since: at(0),
        until,
        through: None,
    }
}

fn source(address: &str) -> Source {
    Source::new(address.parse().unwrap())
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

#[test]
fn a_list_refuses_whom_no_single_block_does_until_it_ends_or_is_exchanged() {
    let quarantine = Quarantine::new(4);
    let (networks, _) = Networks::collect(
        ["192.0.2.0/24", "2001:db8::/48"].map(|text| text.parse::<Prefix>().unwrap()),
    );
    let listed = Listed {
        id: BlockId::from_bits(9),
        until: Expiry::At(at(10)),
        networks: Arc::new(networks),
    };
    quarantine.set_lists(vec![listed]);
    quarantine.spare(vec!["192.0.2.8".parse().unwrap()]);

    let refused = |address, now| quarantine.refuse_source(source(address), at(now));
    assert_eq!(
        refused("192.0.2.9", 9).unwrap_err().chain(),
        "192.0.2.0/24 is blocked by B-0000009 until 1970-01-01T00:00:10.000000Z"
    );
    assert!(refused("2001:db8:0:7::1", 9).is_err());
    assert!(refused("192.0.2.8", 9).is_ok(), "spared");
    assert!(refused("192.0.3.1", 9).is_ok());
    assert!(refused("192.0.2.9", 10).is_ok(), "over");
    quarantine.set_lists(Vec::new());
    assert!(refused("192.0.2.9", 9).is_ok());
}
