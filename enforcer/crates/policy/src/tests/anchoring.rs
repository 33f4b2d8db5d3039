//! `[audit.witness.NAME]` and what belongs to it.

use std::time::Duration;

use super::{SMALL, code_of, read};
use crate::Durability;

pub(super) const WITNESS: &str =
    "witness.example/w1+61345e06+BEbJJDyOFm0nm5GqSt0syp9bXpuCJWoORCfz8chJpRzW";
const OTHER: &str = "witness.example/w2+d69624f9+BDLMftB7jLBtYjxL+ne8XQV9dcC5PA9Opjm+jzF0U4Oe";

#[test]
fn witnesses_and_their_quorum_are_what_is_written() {
    let policy = read(&format!(
        "{SMALL}[audit]\nallowed='witnessed'\nquorum=2\nwitness_wait='2s'\nanchor_every='1s'\n\
         anchor_age='5m'\n[audit.witness.one]\nurl='http://w1.example/prefix/'\nkey='{WITNESS}'\n\
         [audit.witness.two]\nurl='https://w2.example'\nkey='{OTHER}'\n\
         [audit.timestamp]\nurl='http://tsa.example/tsr'\nevery='30m'\n"
    ))
    .unwrap();

    let anchoring = &policy.audit().anchoring;
    let [one, two] = anchoring.witnesses.as_slice() else { panic!("{anchoring:?}") };
    assert_eq!((&*one.name, one.key.to_string().as_str()), ("one", WITNESS));
    assert_eq!(one.submit.as_str(), "http://w1.example/prefix/add-checkpoint");
    assert_eq!(two.submit.as_str(), "https://w2.example/add-checkpoint");
    let within = Duration::from_secs(2);
    assert_eq!(policy.audit().allowed, Some(Durability::Witnessed { within }));
    assert_eq!(
        (anchoring.every, anchoring.age),
        (Duration::from_secs(1), Duration::from_secs(300))
    );
    let timestamp = anchoring.timestamp.as_ref().unwrap();
    assert_eq!(timestamp.endpoint.as_str(), "http://tsa.example/tsr");
    assert_eq!(timestamp.every, Duration::from_secs(1_800));
    let believed = anchoring.policy();
    assert!(believed.is_met(|_| true) && !believed.is_met(|place| place == 0));
}

#[test]
fn without_a_quorum_more_than_half_are_enough() {
    let one = read(&format!("{SMALL}{}", table("one", WITNESS))).unwrap();
    assert_eq!(one.audit().anchoring.quorum, 1);
    let two = read(&format!("{SMALL}{}{}", table("one", WITNESS), table("two", OTHER))).unwrap();
    assert_eq!(two.audit().anchoring.quorum, 2);
}

#[test]
fn a_quorum_that_cannot_be_met_is_refused() {
    for (audit, code) in [
        (format!("[audit]\nquorum=2\n{}", table("one", WITNESS)), "E-POL-022"),
        ("[audit]\nquorum=1\n".to_owned(), "E-POL-022"),
        ("[audit]\nallowed='witnessed'\n".to_owned(), "E-POL-022"),
        ("[audit]\ndenied='witnessed'\n".to_owned(), "E-POL-022"),
        (format!("{}{}", table("one", WITNESS), table("two", WITNESS)), "E-POL-011"),
    ] {
        assert_eq!(code_of(&format!("{SMALL}{audit}")), [code], "{audit}");
    }
}

fn table(name: &str, key: &str) -> String {
    format!("[audit.witness.{name}]\nurl='http://{name}.example'\nkey='{key}'\n")
}
