//! The promises of the court.

mod limits;
mod told;

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Prefix, Principal, RequestId};

use super::*;
use crate::{Action, Response, Scene, Signal};

/// What a test knows of the world.
#[derive(Default)]
pub(super) struct World {
    clients: Vec<Prefix>,
    shared: Vec<(Prefix, Behind)>,
    protected: Vec<(Entity, &'static str)>,
    callers: Vec<Entity>,
}

impl Surroundings for World {
    fn clients(&self, network: Prefix) -> Share {
        let hit = self.clients.iter().filter(|client| client.overlaps(network)).count();
        share(hit, self.clients.len())
    }

    fn identities(&self, target: &Entity) -> Share {
        let hit = self.callers.iter().filter(|caller| *caller == target).count();
        share(hit, self.callers.len())
    }

    fn behind(&self, network: Prefix) -> Behind {
        let found = self.shared.iter().find(|(shared, _)| shared.overlaps(network));
        found.map(|(_, behind)| behind.clone()).unwrap_or_default()
    }

    fn protected(&self, target: &Entity) -> Option<String> {
        let found = self.protected.iter().find(|(protected, _)| protected == target);
        found.map(|(_, what)| (*what).to_owned())
    }
}

#[test]
fn a_finding_opens_an_incident_and_its_first_rung_is_carried_out() {
    let mut court = court();

    let steps = found(&mut court, &ladder("bola", "identity:token:corp/eve"), 0);

    let [decision] = acts(&steps)[..] else { panic!("{steps:?}") };
    assert_eq!(decision.action, Action::Tighten(20));
    assert_eq!(decision.target.to_string(), "identity:token:corp/eve");
    assert_eq!(decision.author, Author::Rule("bola".to_owned()));
    assert_eq!(decision.incident.to_string(), "INC-0001");
    assert_eq!(decision.reason, "60 objects in 10m");
    assert_eq!(court.decision(decision.id).unwrap().state, State::Ordered);
    assert!(
        steps
            .iter()
            .any(|step| matches!(step, Step::Notify(Notice { kind: NoticeKind::Opened, .. })))
    );
}

#[test]
fn what_goes_on_while_a_rung_holds_is_answered_by_the_next_one_and_the_last_is_extended() {
    let mut court = court();
    let finding = ladder("bola", "identity:token:corp/eve");
    let first = carried_out(&mut court, &finding, 0);
    let id = first[0].id;

    assert!(acts(&found(&mut court, &finding, 0)).is_empty(), "it takes hold first");
    let second = carried_out(&mut court, &finding, 20);
    assert_eq!(second[0].action, Action::DenyIdentity);

    let third = found(&mut court, &finding, 500);
    assert!(acts(&third).is_empty());
    let [Step::Extend(extended)] =
        &third.iter().filter(|step| matches!(step, Step::Extend(_))).collect::<Vec<_>>()[..]
    else {
        panic!("{third:?}")
    };
    assert_eq!(extended.id, second[0].id);
    assert!(extended.until > second[0].until);
    assert_ne!(extended.id, id);
    assert_eq!(court.open_incidents(), 1);
}

#[test]
fn a_ladder_begins_at_its_foot_again_when_its_rung_is_over() {
    let mut court = court();
    let finding = ladder("bola", "identity:token:corp/eve");
    carried_out(&mut court, &finding, 0);

    court.tick(at(100_000));
    let again = carried_out(&mut court, &finding, 100_001);

    assert_eq!(again[0].action, Action::Tighten(20));
}

#[test]
fn the_same_action_against_the_same_target_is_extended_by_another_rule_and_not_doubled() {
    let mut court = court();
    carried_out(&mut court, &drops("scan", "source:203.0.113.7", 600), 0);

    let steps = found(&mut court, &drops("flood", "source:203.0.113.7", 3_600), 30);

    assert!(acts(&steps).is_empty());
    assert_eq!(steps.iter().filter(|step| matches!(step, Step::Extend(_))).count(), 1);
    assert_eq!(court.decisions().count(), 1);
}

#[test]
fn findings_about_one_entity_or_of_one_family_about_one_caller_are_one_incident() {
    let mut court = court();
    let with = |rule: &str, about: &str, who: &str| {
        let mut finding = finding(rule, about);
        finding.scene.identity = Some(principal(who));
        finding
    };

    found(&mut court, &with("credential-stuffing", "source:203.0.113.7", "token:corp/eve"), 0);
    found(&mut court, &with("scanner", "source:203.0.113.7", "token:corp/eve"), 60);
    found(
        &mut court,
        &with("credential-sharing", "identity:token:corp/eve", "token:corp/eve"),
        120,
    );
    assert_eq!(court.open_incidents(), 1);

    found(&mut court, &with("bola", "identity:token:corp/bob", "token:corp/bob"), 180);
    assert_eq!(court.open_incidents(), 2);
    let first = court.incidents().next().unwrap();
    assert_eq!((first.findings_seen, first.rules.len(), first.about.len()), (3, 3, 2));
}

#[test]
fn what_is_found_long_after_is_another_incident_and_the_quiet_one_closes() {
    let mut court = court();
    found(&mut court, &finding("scan", "source:203.0.113.7"), 0);

    let later = MERGE.as_secs() + 1;
    court.tick(at(later));
    found(&mut court, &finding("scan", "source:203.0.113.7"), later);

    let closed: Vec<bool> = court.incidents().map(|one| one.closed.is_some()).collect();
    assert_eq!(closed, [true, false]);
}

#[test]
fn a_rule_that_observes_does_nothing_and_counts_what_it_would_have_done() {
    let mut court = court();
    let finding = ladder("bola", "identity:token:corp/eve");

    for second in [0, 2, 4, 6] {
        let steps = court.found(&finding, Mode::Observe, &World::default(), at(second));
        assert!(steps.iter().all(|step| matches!(step, Step::Record(_) | Step::Notify(_))));
    }

    let counts = court.counts()["bola"];
    assert_eq!((counts.findings, counts.would_have_acted, counts.acted), (4, 2, 0));
    assert!(court.decisions().all(|decision| decision.state == State::Observed));
}

#[test]
fn a_mode_that_was_set_holds_in_place_of_the_rules_own_and_a_rung_can_only_be_more_careful() {
    let mut court = court();
    court.set_mode("bola".into(), Some(Mode::Observe));
    let finding = ladder("bola", "identity:token:corp/eve");
    assert!(acts(&found(&mut court, &finding, 0)).is_empty());

    court.set_mode("scan".into(), Some(Mode::Auto));
    let mut careful = drops("scan", "source:203.0.113.7", 60);
    careful.respond = [Response { mode: Some(Mode::Approve), ..careful.respond[0].clone() }].into();
    let steps = court.found(&careful, Mode::Observe, &World::default(), at(0));
    assert!(acts(&steps).is_empty());
    assert!(steps.iter().any(|step| matches!(step, Step::Ask(_))));
}

#[test]
fn what_was_approved_is_carried_out_in_the_name_of_who_approved_it() {
    let mut court = court();
    let steps = court.found(
        &drops("scan", "source:203.0.113.7", 600),
        Mode::Approve,
        &World::default(),
        at(0),
    );
    let id = asked(&steps)[0].id;
    assert!(acts(&steps).is_empty());

    let steps = court.approve(id, operator(), None, &World::default(), at(50)).unwrap();

    let [decision] = acts(&steps)[..] else { panic!("{steps:?}") };
    assert_eq!((decision.author.clone(), decision.state), (operator(), State::Ordered));
    assert!(decision.until >= at(50 + 500));
    assert!(matches!(
        court.approve(id, operator(), None, &World::default(), at(51)),
        Err(NotDone::State { state: "ordered", .. })
    ));
}

#[test]
fn why_somebody_approved_is_on_record() {
    let mut court = court();
    let finding = drops("scan", "source:203.0.113.7", 600);
    let steps = court.found(&finding, Mode::Approve, &World::default(), at(0));
    let id = asked(&steps)[0].id;

    let why = Some("it is a leak".to_owned());
    let steps = court.approve(id, operator(), why.clone(), &World::default(), at(1)).unwrap();

    let told = |step: &Step| {
        let Step::Record(Entry::Decision(DecisionEvent::Approved, _, said)) = step else {
            return false;
        };
        said.detail == why && said.by == operator()
    };
    assert!(steps.iter().any(told), "{steps:?}");
}

#[test]
fn where_a_rung_comes_to_nothing_the_next_one_is_taken_at_once() {
    let mut court = court();
    let steps = found(&mut court, &ladder("bola", "identity:token:corp/eve"), 0);
    let tighten = acts(&steps)[0].id;

    let lost = Err("counted by no rate that could shrink".to_owned());
    let steps = court.done(tighten, lost.clone(), &World::default(), at(0));

    let [denial] = acts(&steps)[..] else { panic!("{steps:?}") };
    assert_eq!(denial.action, Action::DenyIdentity);
    assert_eq!(court.decision(tighten).unwrap().state, State::Failed);
    let last = court.done(denial.id, lost, &World::default(), at(0));
    assert!(acts(&last).is_empty() && asked(&last).is_empty(), "there is no further rung");
}

#[test]
fn the_rung_after_one_that_came_to_nothing_is_as_careful_as_it_is_written() {
    let mut court = court();
    let careful = Response { mode: Some(Mode::Approve), ..rung(Action::DenyIdentity, 600) };
    let respond = [rung(Action::Tighten(20), 600), careful];
    let finding = Finding { respond: respond.into(), ..finding("bola", "identity:token:corp/eve") };
    let tighten = acts(&found(&mut court, &finding, 0))[0].id;

    let steps = court.done(tighten, Err("no limits".into()), &World::default(), at(0));

    assert!(acts(&steps).is_empty());
    assert_eq!(asked(&steps)[0].action, Action::DenyIdentity);
}

#[test]
fn what_was_rejected_or_that_nobody_answered_is_not_asked_again_before_its_time() {
    for rejects in [true, false] {
        let mut court = court();
        let finding = drops("scan", "source:203.0.113.7", 600);
        let ask = |court: &mut Court, second| {
            asked(&court.found(&finding, Mode::Approve, &World::default(), at(second))).len()
        };
        let steps = court.found(&finding, Mode::Approve, &World::default(), at(0));
        let id = asked(&steps)[0].id;

        let end = if rejects {
            court.reject(id, operator(), None, at(10)).unwrap();
            10
        } else {
            court.tick(at(3_600));
            assert_eq!(court.decision(id).unwrap().state, State::Lapsed);
            3_600
        };

        assert_eq!(ask(&mut court, end + 100), 0);
        assert_eq!(ask(&mut court, end + 1_000), 1);
    }
}

#[test]
fn what_was_taken_back_stays_so_though_it_goes_on() {
    let mut court = court();
    let finding = drops("scan", "source:203.0.113.7", 600);
    let id = carried_out(&mut court, &finding, 0)[0].id;

    let steps = court.rollback(id, operator(), Some("a mistake".into()), at(5)).unwrap();
    assert!(steps.iter().any(|step| matches!(step, Step::Undo(undone) if undone.id == id)));

    assert!(acts(&found(&mut court, &finding, 100)).is_empty());
    assert!(!acts(&found(&mut court, &finding, 1_000)).is_empty());
}

#[test]
fn everything_of_an_incident_is_taken_back_by_its_name() {
    let mut court = court();
    let finding = ladder("bola", "identity:token:corp/eve");
    carried_out(&mut court, &finding, 0);
    carried_out(&mut court, &finding, 20);
    let incident = court.incidents().next().unwrap().id;

    let (ids, steps) = court.rollback_all(incident, &operator(), None, at(30)).unwrap();

    assert_eq!(ids.len(), 2);
    assert_eq!(steps.iter().filter(|step| matches!(step, Step::Undo(_))).count(), 2);
    assert!(court.decisions().all(|decision| decision.state == State::RolledBack));
}

#[test]
fn the_time_doubles_when_it_comes_again_and_never_goes_beyond_the_longest() {
    let mut court = court();
    let finding = drops("scan", "source:203.0.113.7", 600);
    let mut now = 0;
    let mut spans = Vec::new();
    for _ in 0..12 {
        let decision = carried_out(&mut court, &finding, now)[0].clone();
        spans.push(decision.ttl.as_secs());
        now += decision.ttl.as_secs() + 1;
        court.tick(at(now));
    }

    assert!((540..=660).contains(&spans[0]), "{spans:?}");
    assert!((1_080..=1_320).contains(&spans[1]), "{spans:?}");
    assert!(spans.iter().all(|span| *span <= 86_400));
    assert!(spans[6] > 30_000, "{spans:?}");
}

#[test]
fn what_has_run_out_is_undone_and_what_could_not_be_carried_out_is_told() {
    let mut court = court();
    let finding = drops("scan", "source:203.0.113.7", 600);
    let id = acts(&found(&mut court, &finding, 0))[0].id;
    let steps = court.done(id, Err("the map is full".into()), &World::default(), at(0));
    assert_eq!(notices(&steps, NoticeKind::Failed), 1);
    assert_eq!(court.decision(id).unwrap().state, State::Failed);

    let again = carried_out(&mut court, &finding, 15)[0].id;
    let steps = court.tick(at(2_000));
    assert!(steps.iter().any(|step| matches!(step, Step::Undo(one) if one.id == again)));
    assert_eq!(court.decision(again).unwrap().state, State::Expired);
}

#[test]
fn an_effect_in_part_is_said_to_be_one() {
    let mut court = court();
    let id = acts(&found(&mut court, &drops("scan", "source:203.0.113.7", 600), 0))[0].id;
    let effect = Effect {
        applied: vec!["layer 7".into()],
        problems: vec!["kernel: full".into()],
        ..Effect::default()
    };

    let steps = court.done(id, Ok(effect), &World::default(), at(0));

    assert_eq!(court.decision(id).unwrap().state, State::Partly);
    assert_eq!(notices(&steps, NoticeKind::Failed), 1);
}

#[test]
fn what_nobody_answered_for_has_failed_and_a_late_answer_is_an_answer() {
    let mut court = court();
    let id = acts(&found(&mut court, &drops("scan", "source:203.0.113.7", 600), 0))[0].id;

    court.tick(at(ANSWER.as_secs()));
    assert_eq!(court.decision(id).unwrap().state, State::Failed);

    court.done(id, Ok(Effect::default()), &World::default(), at(40));
    assert_eq!(court.decision(id).unwrap().state, State::InForce);
}

#[test]
fn what_was_taken_back_while_it_was_carried_out_is_undone_afterwards() {
    let mut court = court();
    let id = acts(&found(&mut court, &drops("scan", "source:203.0.113.7", 600), 0))[0].id;
    court.rollback(id, operator(), None, at(1)).unwrap();

    let steps = court.done(id, Ok(Effect::default()), &World::default(), at(2));

    assert!(matches!(&steps[..], [Step::Undo(undone)] if undone.id == id));
}

#[test]
fn what_is_muted_is_counted_and_nothing_else() {
    for what in [
        Muted::Rule("scan".into()),
        Muted::Entity("source:203.0.113.0/24".parse().unwrap()),
        Muted::Entity("identity:token:corp/eve".parse().unwrap()),
    ] {
        let mut court = court();
        let reason = "a scan of our own".to_owned();
        court.mute(Mute { what, until: at(100), by: operator(), reason }).unwrap();
        let mut finding = drops("scan", "source:203.0.113.7", 600);
        finding.scene.identity = Some(principal("token:corp/eve"));

        assert!(found(&mut court, &finding, 50).is_empty());
        assert_eq!(court.counts()["scan"].muted, 1);
        assert!(!acts(&found(&mut court, &finding, 101)).is_empty());
    }
}

#[test]
fn the_same_finding_again_is_counted_and_is_no_news() {
    let mut court = court();
    let finding = finding("scan", "source:203.0.113.7");
    found(&mut court, &finding, 0);

    for _ in 0..1_000 {
        assert!(found(&mut court, &finding, 1).is_empty());
    }

    assert_eq!(court.findings().count(), 1);
    assert_eq!(court.findings().next().unwrap().times, 1_001);
    assert_eq!(court.incidents().next().unwrap().findings_seen, 1_001);
}

#[test]
fn a_restart_keeps_cases_and_carries_out_again_what_is_in_force() {
    let mut before = court();
    let finding = drops("scan", "source:203.0.113.7", 600);
    let kept = carried_out(&mut before, &finding, 0)[0].id;
    let short = carried_out(&mut before, &drops("flood", "source:203.0.113.8", 10), 0)[0].id;
    let ask = drops("surge", "source:203.0.113.9", 600);
    let waits = asked(&before.found(&ask, Mode::Approve, &World::default(), at(0)))[0].id;
    before.set_mode("scan".into(), Some(Mode::Auto));

    let mut after = court();
    let steps = after.restore(saved(&before), at(60));

    let again = steps.iter().find_map(|step| {
        let Step::Extend(one) = step else { return None };
        (one.id == kept).then_some(one)
    });
    let left = before.decision(kept).unwrap().until.since(at(60));
    assert_eq!(again.unwrap().ttl, left, "for what is left of its time");
    assert!(steps.iter().any(|step| matches!(step, Step::Undo(one) if one.id == short)));
    assert_eq!(notices(&steps, NoticeKind::Approval), 1, "one digest");
    assert_eq!(notices(&steps, NoticeKind::Opened) + notices(&steps, NoticeKind::Acted), 0);
    assert_eq!(after.decision(waits).unwrap().state, State::Waiting);
    assert_eq!(after.modes(), before.modes());
    assert_eq!(after.open_incidents(), before.open_incidents());

    assert!(acts(&found(&mut after, &finding, 61)).is_empty(), "in force already");
    let (next, _) = after.open("by hand", operator(), at(62));
    assert_eq!(next.number(), 4, "no number twice");
}

#[test]
fn what_was_not_undone_when_the_agent_died_is_undone_by_the_next_one_and_only_once() {
    let mut before = court();
    let id = acts(&found(&mut before, &drops("scan", "source:203.0.113.7", 600), 0))[0].id;
    let effect = Effect { undo: "enforcer release B-7K2Q4XW".to_owned(), ..Effect::default() };
    before.done(id, Ok(effect), &World::default(), at(0));
    before.rollback(id, operator(), None, at(1)).unwrap();
    let undone = |steps: &[Step]| {
        steps.iter().filter(|step| matches!(step, Step::Undo(one) if one.id == id)).count()
    };

    let mut after = court();
    assert_eq!(undone(&after.restore(saved(&before), at(2))), 1);
    after.undone(id, Ok(Effect::default()), at(3));

    assert_eq!(undone(&court().restore(saved(&after), at(4))), 0);
}

#[test]
fn when_too_many_incidents_are_open_the_quietest_is_closed() {
    let mut court = court();
    for n in 0..u64::try_from(INCIDENTS_OPEN_MAX).unwrap() + 3 {
        let about = format!("source:10.{}.{}.1", n / 256, n % 256);
        found(&mut court, &finding("scan", &about), n);
    }

    assert_eq!(court.open_incidents(), INCIDENTS_OPEN_MAX);
    assert!(court.incidents().take(3).all(|incident| incident.closed.is_some()));
}

#[test]
fn the_tables_stay_bounded_under_a_flood_of_findings() {
    let mut court = court();
    for n in 0..20_000u64 {
        let about = format!("source:10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
        court.found(&drops("scan", &about, 600), Mode::Approve, &World::default(), at(n / 100));
    }

    let waiting = court.decisions().filter(|one| one.state == State::Waiting).count();
    assert!(waiting <= WAITING_MAX);
    assert!(court.findings().count() <= FINDINGS_MAX);
    assert!(court.decisions().count() <= DECISIONS_MAX);
    assert!(court.incidents().count() <= INCIDENTS_KEPT_MAX);
    assert!(court.ladders.len() <= LADDERS_MAX);
    assert!(!court.forgotten().findings.is_empty());
}

pub(super) fn finding(rule: &str, about: &str) -> Finding {
    let about: Entity = about.parse().unwrap();
    let network = if let Entity::Source(network) = &about { Some(*network) } else { None };
    let source = network.map(|network| enforcer_model::Source::new(network.address()));
    Finding {
        rule: rule.into(),
        about,
        at: at(0),
        window: Duration::from_secs(600),
        signals: vec![Signal { text: "60 objects in 10m".to_owned(), bits: None }],
        evidence: vec![RequestId::from_bits(7)],
        scene: Scene { source, ..Scene::default() },
        respond: Arc::new([]),
    }
}

fn ladder(rule: &str, about: &str) -> Finding {
    let respond = [rung(Action::Tighten(20), 600), rung(Action::DenyIdentity, 600)];
    Finding { respond: respond.into(), ..finding(rule, about) }
}

fn drops(rule: &str, about: &str, ttl: u64) -> Finding {
    Finding { respond: [rung(Action::Drop, ttl)].into(), ..finding(rule, about) }
}

fn rung(action: Action, ttl: u64) -> Response {
    Response { action, ttl: Duration::from_secs(ttl), mode: None }
}

fn found(court: &mut Court, finding: &Finding, second: u64) -> Vec<Step> {
    court.found(finding, Mode::Auto, &World::default(), at(second))
}

/// What was decided, and is in force now.
fn carried_out(court: &mut Court, finding: &Finding, second: u64) -> Vec<Decision> {
    let steps = found(court, finding, second);
    let decisions: Vec<Decision> = acts(&steps).into_iter().cloned().collect();
    assert!(!decisions.is_empty(), "{steps:?}");
    for decision in &decisions {
        court.done(decision.id, Ok(Effect::default()), &World::default(), at(second));
    }
    decisions
}

fn saved(court: &Court) -> Saved {
    Saved {
        incidents: court.incidents().cloned().collect(),
        findings: court.findings().cloned().collect(),
        decisions: court.decisions().cloned().collect(),
        mutes: court.mutes().to_vec(),
        modes: court.modes().clone(),
        next_incident: court.next_incident(),
    }
}

fn acts(steps: &[Step]) -> Vec<&Decision> {
    let found = steps
        .iter()
        .filter_map(|step| if let Step::Act(decision) = step { Some(decision) } else { None });
    found.collect()
}

fn asked(steps: &[Step]) -> Vec<&Decision> {
    let found = steps
        .iter()
        .filter_map(|step| if let Step::Ask(decision) = step { Some(decision) } else { None });
    found.collect()
}

fn share(hit: usize, all: usize) -> Share {
    let count = |count| u64::try_from(count).unwrap();
    Share { hit: count(hit), all: count(all) }
}

fn notices(steps: &[Step], kind: NoticeKind) -> usize {
    steps.iter().filter(|step| matches!(step, Step::Notify(one) if one.kind == kind)).count()
}

fn principal(text: &str) -> Principal {
    serde_json::from_value(text.into()).unwrap()
}

fn operator() -> Author {
    Author::Operator { uid: 1_000, name: "ada".to_owned() }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_unix_seconds(1_700_000_000 + second)
}

fn court() -> Court {
    Court::new(Limits::default(), Box::new(bits()))
}

fn bits() -> impl FnMut() -> u64 + Send {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}
