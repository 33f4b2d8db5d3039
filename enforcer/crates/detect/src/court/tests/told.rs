//! What receivers are told of what operators do.

use enforcer_model::DecisionId;

use super::*;

#[test]
fn whoever_approves_rejects_or_takes_back_is_told_with_the_incident() {
    let mut court = court();
    let ask = |court: &mut Court, about: &str| {
        let finding = drops("scan", about, 600);
        asked(&court.found(&finding, Mode::Approve, &World::default(), at(0)))[0].id
    };
    let (yes, no) = (ask(&mut court, "source:203.0.113.7"), ask(&mut court, "source:198.51.100.9"));

    let approved = court.approve(yes, operator(), None, &World::default(), at(1)).unwrap();
    let rejected = court.reject(no, operator(), None, at(2)).unwrap();
    let applied = court.done(yes, Ok(Effect::default()), &World::default(), at(3));
    let back = court.rollback(yes, operator(), None, at(4)).unwrap();

    let of = |steps: &[Step], kind, id: DecisionId| {
        let found = told(steps).into_iter().find(|one| one.kind == kind).unwrap();
        assert_eq!((found.decision, found.by.clone()), (Some(id), Some(operator())));
        assert!(found.incident.is_some());
        found.text.clone()
    };
    let text = of(&approved, NoticeKind::Decided, yes);
    assert_eq!(text, "approved by operator ada: drop the source source:203.0.113.7");
    of(&rejected, NoticeKind::Decided, no);
    of(&applied, NoticeKind::Acted, yes);
    of(&back, NoticeKind::Ended, yes);
}

#[test]
fn what_an_operator_orders_under_an_incident_is_told_with_it() {
    let mut court = court();
    let finding = ladder("bola", "identity:token:corp/eve");
    let by_rule = carried_out(&mut court, &finding, 0).remove(0);
    let own = Decision { id: court.name(), author: operator(), ..by_rule.clone() };

    let steps = court.enter(own, at(5)).unwrap();

    let [ordered] = &told(&steps)[..] else { panic!("{steps:?}") };
    assert_eq!((ordered.kind, ordered.incident), (NoticeKind::Decided, Some(by_rule.incident)));
    assert_eq!(ordered.by, Some(operator()));
}

#[test]
fn what_a_rule_does_or_what_fails_is_nobodys() {
    let mut court = court();
    let finding = drops("scan", "source:203.0.113.7", 600);
    let steps = court.found(&finding, Mode::Approve, &World::default(), at(0));
    let id = asked(&steps)[0].id;
    court.approve(id, operator(), None, &World::default(), at(1)).unwrap();

    let failed = court.done(id, Err("no room".to_owned()), &World::default(), at(2));
    let other = found(&mut court, &drops("flood", "source:198.51.100.9", 600), 3);
    let decided = acts(&other)[0].id;
    let applied = court.done(decided, Ok(Effect::default()), &World::default(), at(4));

    for notice in [steps, failed, other, applied].iter().flat_map(|steps| told(steps)) {
        assert_eq!(notice.by, None, "{notice:?}");
    }
}

#[test]
fn an_isolated_upstream_is_told_as_one() {
    let mut court = court();
    let respond = [rung(Action::IsolateUpstream, 600)].into();
    let finding = Finding { respond, ..finding("failing", "upstream:10.0.0.7:80") };
    let steps = found(&mut court, &finding, 0);
    let id = acts(&steps)[0].id;

    let steps = court.done(id, Ok(Effect::default()), &World::default(), at(1));

    assert_eq!(notices(&steps, NoticeKind::Isolated), 1);
    assert_eq!(notices(&steps, NoticeKind::Acted), 0);
}

fn told(steps: &[Step]) -> Vec<&Notice> {
    let found = steps
        .iter()
        .filter_map(|step| if let Step::Notify(notice) = step { Some(notice) } else { None });
    found.collect()
}
