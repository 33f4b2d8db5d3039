//! The office over its disk: what survives, what is told once, and that nobody waits for another.

use std::path::Path;

use super::*;
use crate::receiver::tests::receiver;
use crate::store::tests::Pages;
use crate::{Permits, Target};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_seconds(1_795_000_000 + seconds)
}

fn office(folder: &Path, names: &[&str]) -> Office {
    let store = Store::open(&folder.join("notifications.db")).unwrap();
    Office::new(store, &receivers(names), "edge-1").unwrap()
}

fn receivers(names: &[&str]) -> Vec<Arc<Receiver>> {
    names.iter().map(|name| Arc::new(receiver(name))).collect()
}

fn notice(number: u64) -> Notice {
    Notice::new(Kind::IncidentOpened, Severity::Error, at(number), &format!("incident {number}"))
        .with_incident(format!("INC-{number}"))
}

fn jobs(office: &mut Office, seconds: u64) -> Vec<(String, Arc<Bundle>)> {
    let mut number = seconds;
    let random = || {
        number += 1;
        number
    };
    let jobs = office.jobs(at(seconds), random);
    jobs.into_iter().map(|job| (job.receiver.name.to_string(), job.bundle.unwrap())).collect()
}

fn settle(office: &mut Office, name: &str, outcome: &Outcome, seconds: u64) -> Option<Event> {
    office.settle(name, outcome, at(seconds), 0)
}

fn taken() -> Outcome {
    Outcome::Delivered("204".to_owned())
}

fn failed() -> Outcome {
    Outcome::Failed { why: "500".to_owned(), wait: None }
}

#[test]
fn what_was_taken_up_survives_a_crash_and_a_message_keeps_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = office(folder.path(), &["one"]);
    before.take(vec![notice(0), notice(1)], at(1));
    let sent = jobs(&mut before, 10);
    // Nothing is closed, nothing is said: as after kill -9.
    drop(before);

    let mut after = office(folder.path(), &["one"]);
    let again = jobs(&mut after, 11);
    assert_eq!(again, sent);
    settle(&mut after, "one", &taken(), 12);
    let next = jobs(&mut after, 12);
    assert_eq!(next[0].1.notices[0].title(), "incident 1");
    settle(&mut after, "one", &taken(), 13);
    drop(after);

    let mut last = office(folder.path(), &["one"]);
    assert_eq!(jobs(&mut last, 10_000), []);
    assert_eq!(last.standings(at(10_000))[0].waiting, 0);
}

#[test]
fn the_same_notice_is_told_once_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = office(folder.path(), &["one"]);
    before.take(vec![notice(0), notice(0)], at(1));
    assert_eq!(jobs(&mut before, 10)[0].1.count, 1);
    settle(&mut before, "one", &taken(), 10);
    drop(before);

    let mut after = office(folder.path(), &["one"]);
    after.take(vec![notice(0)], at(20));
    assert_eq!(jobs(&mut after, 10_000), []);
}

#[test]
fn a_group_that_was_just_told_is_not_told_again_because_of_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = office(folder.path(), &["one"]);
    before.take(vec![notice(0)], at(1));
    jobs(&mut before, 10);
    settle(&mut before, "one", &taken(), 10);
    drop(before);

    let mut after = office(folder.path(), &["one"]);
    let more = Notice::new(Kind::IncidentChanged, Severity::Error, at(20), "more of it")
        .with_incident("INC-0");
    after.take(vec![more], at(20));

    assert_eq!(jobs(&mut after, 309), []);
    assert_eq!(jobs(&mut after, 310).len(), 1);
}

#[test]
fn a_receiver_that_hangs_or_fails_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut office = office(folder.path(), &["hangs", "fails", "works"]);
    office.take(vec![notice(0)], at(0));
    let names: Vec<_> = jobs(&mut office, 5).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["hangs", "fails", "works"]);
    settle(&mut office, "fails", &failed(), 6);
    settle(&mut office, "works", &taken(), 6);

    office.take(vec![notice(1)], at(7));

    let names: Vec<_> = jobs(&mut office, 12).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["fails", "works"], "one hangs, and is not asked twice at once");
}

#[test]
fn one_that_is_gone_stays_disabled_over_a_restart_until_it_takes_a_test() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = office(folder.path(), &["one"]);
    before.take(vec![notice(0)], at(0));
    jobs(&mut before, 5);
    let gone = settle(&mut before, "one", &Outcome::Gone("410 Gone".to_owned()), 5);
    assert!(matches!(gone, Some(Event::Disabled { .. })));
    drop(before);

    let mut after = office(folder.path(), &["one"]);
    assert_eq!(jobs(&mut after, 500_000), []);
    assert_eq!(after.standings(at(6))[0].disabled.as_ref().unwrap().1, "410 Gone");
    assert_eq!(after.tested("one", &failed(), at(7)), None);
    assert_eq!(jobs(&mut after, 7), []);
    let enabled = after.tested("one", &taken(), at(8));
    assert!(matches!(enabled, Some(Event::Enabled { .. })));
    assert_eq!(jobs(&mut after, 8).len(), 1);
}

#[test]
fn what_was_given_up_is_kept_for_an_operator_who_wants_it_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut office = office(folder.path(), &["one"]);
    office.take(vec![notice(0)], at(0));
    let first = jobs(&mut office, 5);
    let refused = Outcome::Refused("400 Bad Request".to_owned());
    settle(&mut office, "one", &refused, 5);
    jobs(&mut office, 10);
    settle(&mut office, "one", &refused, 10);
    jobs(&mut office, 310);
    let given_up = settle(&mut office, "one", &refused, 310).unwrap();
    let why = "400 Bad Request".to_owned();
    assert_eq!(given_up, Event::GivenUp { receiver: "one".to_owned(), count: 1, why });
    assert_eq!(jobs(&mut office, 311), []);

    assert_eq!(office.resend("one", at(400)).unwrap(), Some(1));

    assert_eq!(jobs(&mut office, 400), first);
    assert_eq!(office.resend("nobody", at(400)).unwrap(), None);
}

#[test]
fn a_reload_keeps_what_waits_and_a_receiver_that_comes_back_has_its_queue() {
    let folder = tempfile::tempdir().unwrap();
    let mut office = office(folder.path(), &["one", "two"]);
    office.take(vec![notice(0)], at(0));

    office.adopt(&receivers(&["two"])).unwrap();
    assert_eq!(office.names(), ["two".into()]);
    let other = Receiver {
        permits: Permits::default(),
        form: crate::Form::Slack { target: Target::http("https://chat.example/x").unwrap() },
        ..receiver("one")
    };
    office.adopt(&[Arc::new(other)]).unwrap();

    let [(name, bundle)] = &*jobs(&mut office, 10) else { panic!() };
    assert_eq!((name.as_str(), bundle.notices[0].title()), ("one", "incident 0"));
}

#[test]
fn a_storm_fills_no_disk_and_what_was_dropped_is_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let mut office = office(folder.path(), &["one"]);
    let many = |from: u64| (from..from + 1_500).map(notice).collect();

    assert_eq!(office.take(many(0), at(1)), []);
    let events = office.take(many(1_500), at(2));

    assert!(matches!(&*events, [Event::Dropped { count: 1_000, .. }]), "{events:?}");
    let [(_, digest)] = &*jobs(&mut office, 10) else { panic!() };
    assert_eq!((digest.count, digest.lost), (2_000, 1_000));
}

#[test]
fn a_full_disk_keeps_nobody_from_being_told_and_what_waits_is_written_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut office = office(folder.path(), &["one", "two"]);
    office.take(vec![notice(0)], at(0));
    assert_eq!(office.mend(at(0)), None);
    office.store.allow_pages(Pages::NoMore);

    // More than fits into the room that the file has already.
    let many = |from: u64| (from..from + 60).map(notice).collect();
    assert_eq!(office.take(many(1), at(1)), []);
    assert!(matches!(office.mend(at(1)), Some(Event::Unwritten { .. })));
    assert_eq!(office.mend(at(2)), None, "told once, and tried again");
    let told = jobs(&mut office, 10);
    assert_eq!(told.iter().map(|(_, bundle)| bundle.count).collect::<Vec<_>>(), [61, 61]);
    settle(&mut office, "one", &taken(), 11);
    settle(&mut office, "two", &failed(), 11);
    office.take(many(100), at(12));

    office.store.allow_pages(Pages::Any);
    assert_eq!(office.mend(at(13)), Some(Event::Written));
    assert_eq!(office.mend(at(14)), None);
    drop(office);
    let mut after = self::office(folder.path(), &["one", "two"]);
    let waiting: Vec<_> = after.standings(at(15)).iter().map(|one| one.waiting).collect();
    assert_eq!(waiting, [60, 121]);
}
