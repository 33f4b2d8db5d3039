//! What one receiver is told, and when, on a clock of the test's own.

use proptest::prelude::*;

use super::*;
use crate::receiver::tests::receiver;
use crate::{Kind, Severity};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_seconds(1_795_000_000 + seconds)
}

fn line() -> Line {
    Line::new(Arc::new(receiver("one")), State::default())
}

fn finding(line: &mut Line, seq: i64, seconds: u64, severity: Severity, incident: &str) {
    let notice = Notice::new(Kind::Finding, severity, at(seconds), &format!("finding {seq}"))
        .with_incident(incident);
    let entry = Entry { seq, at: at(seconds), notice: Arc::new(notice) };
    assert_eq!(line.take(entry), Vec::<i64>::new());
}

fn send(line: &mut Line, seconds: u64) -> Option<Arc<Bundle>> {
    match line.next(at(seconds), || format!("msg_{seconds}"))? {
        (Task::Send(bundle), _) => Some(bundle),
        (Task::Resend, _) => None,
    }
}

fn taken() -> Outcome {
    Outcome::Delivered("204".to_owned())
}

fn failed() -> Outcome {
    Outcome::Failed { why: "500".to_owned(), wait: None }
}

#[test]
fn notices_of_one_incident_wait_for_each_other_and_are_one_message() {
    let mut line = line();
    finding(&mut line, 1, 0, Severity::Warning, "INC-1");
    finding(&mut line, 2, 3, Severity::Error, "INC-1");

    assert_eq!(line.due(at(3)), Due::At(at(5)));
    assert!(send(&mut line, 4).is_none());
    let bundle = send(&mut line, 5).unwrap();

    assert_eq!(
        (bundle.count, bundle.severity, &*bundle.group),
        (2, Severity::Error, "incident/INC-1")
    );
}

#[test]
fn more_of_the_same_waits_for_the_interval_unless_it_is_graver_or_urgent() {
    let mut line = line();
    finding(&mut line, 1, 0, Severity::Warning, "INC-1");
    send(&mut line, 5).unwrap();
    assert_eq!(line.settle(&taken(), at(5), 0), Settled::Delivered);

    finding(&mut line, 2, 10, Severity::Warning, "INC-1");
    assert_eq!(line.due(at(10)), Due::At(at(305)));
    finding(&mut line, 3, 20, Severity::Critical, "INC-1");
    assert_eq!(line.due(at(20)), Due::At(at(15)));
    send(&mut line, 20).unwrap();
    line.settle(&taken(), at(20), 0);

    let asked = Notice::new(Kind::DecisionAsked, Severity::Warning, at(30), "approve?")
        .with_incident("INC-1");
    line.take(Entry { seq: 4, at: at(30), notice: Arc::new(asked) });
    assert_eq!(line.due(at(30)), Due::At(at(35)));
}

#[test]
fn a_storm_is_one_digest_a_minute() {
    let mut line = line();
    for number in 0..100 {
        finding(&mut line, number, 0, Severity::Warning, &format!("INC-{number}"));
    }

    let bundle = send(&mut line, 5).unwrap();
    assert_eq!((bundle.count, bundle.digest.is_some()), (100, true));
    line.settle(&taken(), at(5), 0);
    for number in 100..130 {
        finding(&mut line, number, 6, Severity::Warning, &format!("INC-{number}"));
    }

    assert!(send(&mut line, 60).is_none());
    let bundle = send(&mut line, 65).unwrap();
    assert_eq!((bundle.count, bundle.digest.is_some()), (30, true));
}

#[test]
fn a_message_that_is_not_taken_is_tried_by_the_table_with_one_id_and_then_given_up() {
    let mut line = line();
    finding(&mut line, 1, 0, Severity::Warning, "INC-1");
    let first = send(&mut line, 5).unwrap();
    let mut now = 5;
    let mut pauses = Vec::new();
    loop {
        let settled = line.settle(&failed(), at(now), 0);
        if let Settled::GivenUp(bundle) = settled {
            assert_eq!(bundle.id, first.id);
            break;
        }
        assert_eq!(settled, Settled::Again);
        let Due::At(next) = line.due(at(now)) else { panic!() };
        pauses.push(next.since(at(now)).as_secs());
        now += pauses.last().unwrap();
        assert!(send(&mut line, now - 1).is_none());
        assert_eq!(send(&mut line, now).unwrap(), first);
    }

    assert_eq!(pauses, [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]);
    assert_eq!(line.state.given_up, 1);
}

#[test]
fn that_an_operator_has_taken_it_up_is_told_at_once() {
    let mut line = line();
    finding(&mut line, 1, 0, Severity::Error, "INC-1");
    send(&mut line, 5).unwrap();
    line.settle(&taken(), at(5), 0);
    let decided = Notice::new(Kind::DecisionMade, Severity::Warning, at(6), "approved")
        .with_incident("INC-1")
        .by_operator("alice");

    line.take(Entry { seq: 2, at: at(6), notice: Arc::new(decided) });

    let told = send(&mut line, 11).unwrap();
    assert!(told.incidents[0].is_taken_up);
}

#[test]
fn a_receiver_that_is_back_after_a_day_gets_the_rest_as_a_digest_at_once() {
    let mut line = line();
    finding(&mut line, 0, 0, Severity::Warning, "INC-0");
    let first = send(&mut line, 5).unwrap();
    line.settle(&failed(), at(5), 0);
    for hour in 1..=24 {
        for number in 0..3 {
            let incident = format!("INC-{hour}-{number}");
            finding(
                &mut line,
                hour * 10 + number,
                u64::try_from(hour).unwrap() * 3_600,
                Severity::Warning,
                &incident,
            );
        }
        let now = u64::try_from(hour).unwrap() * 3_600;
        assert_eq!(send(&mut line, now).unwrap().id, first.id, "something new asks again");
        line.settle(&failed(), at(now), 0);
        assert!(send(&mut line, now + 1).is_none());
    }

    let now = 24 * 3_600 + 60;
    finding(&mut line, 999, now, Severity::Warning, "INC-999");
    assert_eq!(send(&mut line, now).unwrap().id, first.id);
    assert_eq!(line.settle(&taken(), at(now), 0), Settled::Delivered);
    let rest = send(&mut line, now).unwrap();
    assert_eq!((rest.count, rest.digest.is_some()), (73, true));
    line.settle(&taken(), at(now), 0);
    assert!(send(&mut line, now + 1_000).is_none());
}

#[test]
fn something_new_does_not_wait_for_hours_behind_a_receiver_that_failed_nor_use_up_its_tries() {
    let mut line = line();
    finding(&mut line, 1, 0, Severity::Warning, "INC-1");
    send(&mut line, 5).unwrap();
    for now in [5, 10, 310, 2_110] {
        line.settle(&failed(), at(now), 0);
    }
    assert_eq!(line.due(at(2_110)), Due::At(at(2_110 + 7_200)));
    let before = line.parcels[0].tries;

    for minute in 1..=30 {
        let now = 2_110 + minute * 61;
        finding(&mut line, 10 + i64::try_from(minute).unwrap(), now, Severity::Critical, "INC-2");
        assert!(send(&mut line, now).is_some());
        assert_eq!(line.settle(&failed(), at(now), 0), Settled::Again);
    }

    assert_eq!(line.parcels[0].tries, before, "the table is not used up by what is new");
}

#[test]
fn what_a_receiver_asks_to_wait_is_waited_also_for_something_new() {
    let mut line = line();
    finding(&mut line, 1, 0, Severity::Warning, "INC-1");
    send(&mut line, 5).unwrap();
    let wait = Some(Duration::from_secs(600));
    line.settle(&Outcome::Failed { why: "429".to_owned(), wait }, at(5), 0);

    finding(&mut line, 2, 100, Severity::Critical, "INC-2");

    assert_eq!(line.due(at(100)), Due::At(at(605)));
}

#[test]
fn one_that_is_gone_gets_nothing_until_it_is_enabled_or_is_another() {
    let mut line = line();
    finding(&mut line, 1, 0, Severity::Warning, "INC-1");
    let first = send(&mut line, 5).unwrap();
    assert_eq!(line.settle(&Outcome::Gone("410".to_owned()), at(5), 0), Settled::Disabled);
    assert_eq!(line.due(at(100_000)), Due::Never);

    line.adopt(Arc::new(receiver("one")));
    assert_eq!(line.due(at(100_000)), Due::Never);
    assert!(line.enable());
    assert_eq!(send(&mut line, 6).unwrap().id, first.id);

    line.settle(&Outcome::Gone("410".to_owned()), at(6), 0);
    let mut other = receiver("one");
    let Form::Webhook { target, .. } = &mut other.form else { panic!() };
    *target = crate::Target::http("https://hooks.example/other").unwrap();
    line.adopt(Arc::new(other));
    assert!(send(&mut line, 7).is_some());
}

#[test]
fn a_message_that_is_refused_for_what_it_is_keeps_nobody_waiting_for_days() {
    let mut line = line();
    finding(&mut line, 1, 0, Severity::Warning, "INC-1");
    send(&mut line, 5).unwrap();
    let refused = Outcome::Refused("400".to_owned());

    assert_eq!(line.settle(&refused, at(5), 0), Settled::Again);
    assert_eq!(line.settle(&refused, at(10), 0), Settled::Again);
    assert!(matches!(line.settle(&refused, at(310), 0), Settled::GivenUp(_)));
}

#[test]
fn a_full_queue_drops_the_oldest_of_those_that_matter_least_and_tells_how_many() {
    let mut line = line();
    finding(&mut line, 0, 0, Severity::Critical, "INC-0");
    for seq in 1..i64::try_from(QUEUE_MAX).unwrap() {
        finding(&mut line, seq, 0, Severity::Warning, "INC-1");
    }
    let notice = |severity| {
        let notice = Notice::new(Kind::Finding, severity, at(1), "one more");
        Entry { seq: 9_999, at: at(1), notice: Arc::new(notice) }
    };

    assert_eq!(line.take(notice(Severity::Error)), [1]);
    assert_eq!(line.take(notice(Severity::Info)), [9_999]);
    let bundle = send(&mut line, 5).unwrap();
    assert_eq!(bundle.lost, 2);
    assert_eq!(bundle.severity, Severity::Critical);
    assert_eq!((line.state.lost, line.state.lost_ever), (0, 2));
}

#[test]
fn what_nobody_took_in_three_days_is_dropped_and_counted() {
    let mut line = line();
    finding(&mut line, 1, 0, Severity::Warning, "INC-1");
    finding(&mut line, 2, 3_600, Severity::Warning, "INC-1");

    assert_eq!(line.forget_old(at(3 * 86_400)), Vec::<i64>::new());
    assert_eq!(line.forget_old(at(3 * 86_400 + 1)), [1]);
    assert_eq!(line.state.lost, 1);
}

#[test]
fn a_clock_that_is_set_back_does_not_keep_a_message_for_ever() {
    let mut line = line();
    finding(&mut line, 1, 1_000_000, Severity::Warning, "INC-1");
    send(&mut line, 1_000_005).unwrap();
    line.settle(&failed(), at(1_000_005), 0);

    let Due::At(then) = line.due(at(0)) else { panic!() };
    assert!(then.since(at(0)) <= Duration::from_secs(96_000));
}

proptest! {
    #[test]
    fn whatever_happens_nothing_is_told_twice_nothing_is_lost_in_silence_and_bounds_hold(
        steps in proptest::collection::vec((0_u8..6, 0_u64..4_000, 0_usize..4), 1..150),
    ) {
        let mut line = line();
        let (mut now, mut seq) = (0, 0);
        let (mut told, mut dropped, mut given_up) = (0_u64, 0_u64, 0_u64);
        for (step, seconds, severity) in steps {
            now += seconds;
            match step {
                0..=2 => {
                    seq += 1;
                    let notice = Notice::new(
                        Kind::Finding, Severity::ALL[severity], at(now), &format!("n {seq}"),
                    ).with_incident(format!("INC-{}", seq % 7));
                    let entry = Entry { seq, at: at(now), notice: Arc::new(notice) };
                    dropped += u64::try_from(line.take(entry).len()).unwrap();
                }
                3 => dropped += u64::try_from(line.forget_old(at(now)).len()).unwrap(),
                _ => if let Some(bundle) = send(&mut line, now) {
                    let outcome = if step == 4 { taken() } else { failed() };
                    match line.settle(&outcome, at(now), seconds) {
                        Settled::Delivered => told += bundle.count,
                        Settled::GivenUp(bundle) => given_up += bundle.count,
                        Settled::Again | Settled::Disabled => {}
                    }
                },
            }
            let standing = line.standing(at(now));
            prop_assert_eq!(told + dropped + given_up + standing.waiting, u64::try_from(seq).unwrap());
            prop_assert!(standing.waiting <= u64::try_from(QUEUE_MAX).unwrap() * 2);
        }
    }
}
