//! How far automatic decisions go, and what protects whom.

use super::*;

#[test]
fn a_burst_over_the_share_of_clients_asks_and_tells_once() {
    let clients: Vec<Prefix> =
        (0..100).map(|n| format!("198.51.100.{n}").parse().unwrap()).collect();
    let world = World { clients: clients.clone(), ..World::default() };
    let mut court = court();
    let mut steps = Vec::new();

    for (second, client) in (0..30).zip(&clients) {
        let finding = drops("surge", &format!("source:{client}"), 600);
        steps.extend(court.found(&finding, Mode::Auto, &world, at(second)));
    }

    assert_eq!(acts(&steps).len(), 5, "5 % of 100");
    assert_eq!(asked(&steps).len(), 25);
    assert_eq!(notices(&steps, NoticeKind::Limited), 1);
    let id = asked(&steps)[0].id;
    assert_eq!(acts(&court.approve(id, operator(), None, &world, at(40)).unwrap()).len(), 1);

    let stranger = drops("surge", "source:203.0.113.7", 600);
    let unharmed = court.found(&stranger, Mode::Auto, &world, at(41));
    assert_eq!(acts(&unharmed).len(), 1, "hits nobody who was served");
}

#[test]
fn a_burst_over_the_share_of_callers_asks() {
    let callers: Vec<Entity> =
        (0..40).map(|n| format!("identity:token:corp/{n}").parse().unwrap()).collect();
    let world = World { callers: callers.clone(), ..World::default() };
    let mut court = court();
    let mut steps = Vec::new();

    for caller in callers.iter().take(10) {
        let mut finding = finding("uba", &caller.to_string());
        finding.respond = [rung(Action::DenyIdentity, 600)].into();
        steps.extend(court.found(&finding, Mode::Auto, &world, at(0)));
    }

    assert_eq!((acts(&steps).len(), asked(&steps).len()), (2, 8));
    assert_eq!(notices(&steps, NoticeKind::Limited), 1);
}

#[test]
fn more_decisions_than_fit_a_minute_ask_and_the_next_minute_is_another_one() {
    let mut court =
        Court::new(Limits { decisions_per_minute_max: 10, ..Limits::default() }, Box::new(bits()));
    let mut burst = |start: u64| {
        let mut steps = Vec::new();
        for n in 0..20 {
            let finding = drops("surge", &format!("source:203.0.{start}.{n}"), 60);
            steps.extend(court.found(&finding, Mode::Auto, &World::default(), at(start)));
        }
        (acts(&steps).len(), notices(&steps, NoticeKind::Limited))
    };

    assert_eq!(burst(0), (10, 1));
    assert_eq!(burst(30), (0, 0), "the same episode");
    assert_eq!(burst(120), (10, 1));
}

#[test]
fn a_network_wider_than_the_limit_is_not_dropped_unasked() {
    let mut court = court();

    for (network, asks) in
        [("203.0.113.0/24", 0), ("203.0.112.0/23", 1), ("2001:db8::/48", 0), ("2001:db8::/32", 1)]
    {
        let steps = found(&mut court, &drops("surge", &format!("source:{network}"), 60), 0);
        assert_eq!(asked(&steps).len(), asks, "{network}");
    }
}

#[test]
fn behind_a_shared_address_the_caller_is_denied_and_not_the_address() {
    let most = Some(principal("token:corp/eve"));
    let network: Prefix = "203.0.113.7".parse().unwrap();
    let shared = |most| World {
        shared: vec![(network, Behind { identities: 40, most })],
        ..World::default()
    };
    let mut finding = drops("surge", "source:203.0.113.7", 600);
    finding.scene.identity = most.clone();

    let steps = court().found(&finding, Mode::Auto, &shared(most), at(0));
    let [decision] = acts(&steps)[..] else { panic!("{steps:?}") };
    assert_eq!(decision.action, Action::DenyIdentity);
    assert_eq!(decision.target.to_string(), "identity:token:corp/eve");

    let other = Some(principal("token:corp/bob"));
    let steps = court().found(&finding, Mode::Auto, &shared(other), at(0));
    assert!(acts(&steps).is_empty(), "who was last is not who did it");
    assert_eq!(asked(&steps).len(), 1);

    finding.scene.identity = None;
    let steps = court().found(&finding, Mode::Auto, &shared(None), at(0));
    assert!(acts(&steps).is_empty());
    assert_eq!(asked(&steps)[0].target, finding.about);
}

#[test]
fn behind_a_shared_address_an_accepted_credential_is_denied_and_a_guessed_one_is_not() {
    let print = enforcer_model::Fingerprint([7; 16]);
    let mut finding = drops("surge", "source:203.0.113.7", 600);
    finding.scene.credential = Some(print);
    let shared = vec![("203.0.113.7".parse().unwrap(), Behind { identities: 40, most: None })];
    let accepted = vec![Entity::Credential(print); 1];

    let world = World { shared: shared.clone(), callers: accepted, ..World::default() };
    let steps = court().found(&finding, Mode::Auto, &world, at(0));
    assert_eq!(acts(&steps)[0].action, Action::DenyCredential);

    let world = World { shared, ..World::default() };
    let steps = court().found(&finding, Mode::Auto, &world, at(0));
    assert_eq!((acts(&steps).len(), asked(&steps).len()), (0, 1));
}

#[test]
fn whom_a_never_block_list_names_is_not_hit_and_the_list_is_named() {
    let mut finding = drops("scan", "source:203.0.113.7", 600);
    let world = World {
        protected: vec![(finding.about.clone(), "never-block list `monitoring`")],
        ..World::default()
    };
    let mut court = court();

    let steps = court.found(&finding, Mode::Auto, &world, at(0));

    assert!(acts(&steps).is_empty());
    let said = steps.iter().find_map(|step| {
        let Step::Record(Entry::Decision(DecisionEvent::Refused, _, said)) = step else {
            return None;
        };
        said.detail.clone()
    });
    assert!(said.unwrap().contains("never-block list `monitoring`"));

    finding.about = "source:203.0.113.8".parse().unwrap();
    let id = asked(&court.found(&finding, Mode::Approve, &world, at(0)))[0].id;
    let world = World {
        protected: vec![(finding.about.clone(), "never-block list `late`")],
        ..World::default()
    };
    let refused = court.approve(id, operator(), None, &world, at(1)).unwrap_err();
    assert!(refused.to_string().contains("never-block list `late`"), "{refused}");
}

#[test]
fn what_is_known_only_by_a_proxys_word_is_never_dropped() {
    for mode in [Mode::Auto, Mode::Approve, Mode::Observe] {
        let mut court = court();
        let mut finding = drops("scan", "source:203.0.113.7", 600);
        finding.scene.through = Some(enforcer_model::Source::new([10, 0, 0, 5].into()));

        court.found(&finding, mode, &World::default(), at(0));

        let decision = court.decisions().next().unwrap();
        assert_eq!(
            (decision.action, decision.through),
            (Action::DenySource, finding.scene.through)
        );
    }
}

#[test]
fn a_rule_with_a_share_of_its_own_asks_from_the_second_caller_on_that_is_too_many() {
    let callers: Vec<Entity> =
        (0..50).map(|n| format!("identity:key:{n:012}").parse().unwrap()).collect();
    let world = World { callers: callers.clone(), ..World::default() };
    let mut court = court();
    court.set_limits(Limits { identities_percent_max: 100, ..Limits::default() });
    court.set_shares([("scan".into(), 20)]);
    let deny = [rung(Action::DenyIdentity, 600)];
    let mut decided = Vec::new();
    for (second, caller) in (0..).zip(&callers[..3]) {
        let about =
            Finding { respond: deny.clone().into(), ..finding("scan", &caller.to_string()) };
        for step in court.found(&about, Mode::Auto, &world, at(second)) {
            match step {
                Step::Act(decision) => {
                    decided.push("done");
                    court.done(decision.id, Ok(Effect::default()), &World::default(), at(second));
                }
                Step::Ask(_) => decided.push("asked"),
                Step::Extend(_) | Step::Undo(_) | Step::Record(_) | Step::Notify(_) => {}
            }
        }
    }

    assert_eq!(decided, ["done", "asked", "asked"], "two of fifty are four in a hundred");
}

#[test]
fn nobody_is_asked_whether_to_be_told_and_who_is_asked_is_told_by_that() {
    let mut court = court();
    let with = |rule: &str, respond: Vec<Response>| Finding {
        respond: respond.into(),
        ..finding(rule, "source:203.0.113.7")
    };
    let both = with("ssrf", vec![rung(Action::Notify, 3_600), rung(Action::Drop, 600)]);
    let alone = with("deprecated", vec![rung(Action::Notify, 3_600)]);

    let asks = court.found(&both, Mode::Approve, &World::default(), at(0));
    let tells = court.found(&alone, Mode::Approve, &World::default(), at(0));

    let [waits] = asked(&asks)[..] else { panic!("{asks:?}") };
    assert_eq!(waits.action, Action::Drop);
    assert_eq!(notices(&asks, NoticeKind::Approval), 1);
    assert!(asked(&tells).is_empty());
    assert_eq!(notices(&tells, NoticeKind::Told), 1);
    // Where more is done unasked, the mildest rung is the first.
    let mut unasked = both;
    unasked.about = "source:203.0.113.8".parse().unwrap();
    assert_eq!(notices(&found(&mut court, &unasked, 0), NoticeKind::Told), 1);
}
