//! Which effect a rung has, for whom: what is ordered, without anybody who carries it out.

use enforcer_admin::Answer;
use enforcer_admin::Call;
use enforcer_admin::call::{EndpointOrder, IncidentStatus};
use enforcer_model::{Principal, SystemClock};

use super::*;

fn deed(action: Action, about: &str) -> Deed {
    Deed {
        decision: "D-1".to_owned(),
        incident: Some("INC-1".to_owned()),
        rule: "bola".into(),
        author: Author::Rule("bola".into()),
        action,
        about: about.parse().unwrap(),
        scene: Scene {
            source: Some(Source::new("2001:db8::7".parse().unwrap())),
            through: None,
            identity: Some(Principal::from_token("corp", "alice")),
            credential: Some(enforcer_model::Fingerprint([7; 16])),
            ja4: Some("t13d1516h2_8daaf6152771_e5627efa2ab1".into()),
            route: Some("orders".into()),
            upstream: Some("10.0.0.7:8443".into()),
        },
        ttl: Duration::from_secs(600),
        reason: "60 objects\nin 10m".to_owned(),
        held: None,
    }
}

#[test]
fn a_rung_hits_whom_the_finding_is_about_else_whom_its_last_request_shows() {
    let token = "token:07070707070707070707070707070707";
    for (action, about, expected) in [
        (Action::Drop, "source:203.0.113.0/24", "203.0.113.0/24"),
        (Action::Drop, "identity:token:corp/bob", "2001:db8::/64"),
        (Action::DenySource, "source:203.0.113.0/24", "203.0.113.0/24"),
        (Action::DenyIdentity, "identity:token:corp/bob", "user:token:corp/bob"),
        (Action::DenyIdentity, "identity:key:k7Qx2mP9aB3c", "key:k7Qx2mP9aB3c"),
        (Action::DenyIdentity, "source:203.0.113.0/24", "user:token:corp/alice"),
        (Action::DenyCredential, "everyone", token),
        (Action::DenyFingerprint, "everyone", "ja4:t13d1516h2_8daaf6152771_e5627efa2ab1"),
    ] {
        assert_eq!(target(&deed(action, about)).unwrap().to_string(), expected, "{about}");
    }
}

#[test]
fn what_is_not_known_is_said_and_everybody_is_nobody() {
    let unknown = |action, about: &str| {
        let deed = Deed { scene: Scene::default(), ..deed(action, about) };
        target(&deed).unwrap_err()
    };

    assert!(unknown(Action::Drop, "everyone").contains("no address is known"));
    assert!(unknown(Action::DenyIdentity, "route:orders").contains("no caller is known"));
    assert!(unknown(Action::Drop, "source:0.0.0.0/0").contains("no address"));
}

#[test]
fn a_reason_is_one_line_with_the_incident_before_it_and_never_too_long() {
    let long = Deed { reason: "x".repeat(2_000), ..deed(Action::Drop, "everyone") };

    assert_eq!(deed(Action::Drop, "everyone").told(), "INC-1: 60 objects in 10m (D-1)");
    assert_eq!(long.told().chars().count(), REASON_MAX);
}

#[test]
fn an_undo_reads_as_a_command_and_survives_being_kept() {
    let restore = |decision| Undo::Restore { target: "orders/10.0.0.7:1".into(), decision };
    let undo = Undo::All(vec![restore(None), Undo::Enable("EP-1".into())]);

    assert_eq!(
        undo.to_string(),
        "enforcer upstream restore orders/10.0.0.7:1; enforcer endpoint enable EP-1"
    );
    let all = [
        undo,
        restore(Some("D-7K2Q4XW".parse().unwrap())),
        Undo::Nothing,
        Undo::Release("B-7K2Q4XW".parse().unwrap()),
        Undo::Relax("EP-2".into()),
        Undo::Lower("bola".into()),
    ];
    for undo in all {
        assert_eq!(undo.to_string().parse::<Undo>().unwrap(), undo);
    }
    assert!("rm -rf /".parse::<Undo>().is_err() && "".parse::<Undo>().is_err());
}

#[tokio::test]
async fn the_desk_is_asked_in_the_name_of_the_rule() {
    let (orders, _responder) = mpsc::channel(1);
    let (calls, mut desk) = mpsc::channel(1);
    let actor = Actor::new(orders, &calls, Arc::new(SystemClock));
    for (action, about, expected) in [
        (Action::DisableRoute, "route:orders", "disable route:orders"),
        (Action::Tighten(25), "identity:key:k7Qx2mP9aB3c", "shrink key:k7Qx2mP9aB3c 25"),
        (Action::Tighten(25), "source:203.0.113.0/24", "shrink source:203.0.113.0/24 25"),
        (Action::Tighten(25), "everyone", "shrink route:orders 25"),
        (Action::RequireStronger, "everyone", "require route:orders"),
        (Action::RaiseLevel(2), "everyone", "level 2"),
    ] {
        let asking = actor.act(deed(action, about));
        let answering = async {
            let Incoming { call, author, peer, reply } = desk.recv().await.unwrap();
            assert_eq!((author, peer.pid), (Some(Author::Rule("bola".into())), None));
            #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is asked")]
            let asked = match call {
                Call::Endpoint { order: EndpointOrder::Disable { endpoint, .. } } => {
                    format!("disable {endpoint}")
                }
                Call::Endpoint { order: EndpointOrder::Shrink { endpoint, percent, .. } } => {
                    format!("shrink {endpoint} {percent}")
                }
                Call::Endpoint { order: EndpointOrder::Require { endpoint, .. } } => {
                    format!("require {endpoint}")
                }
                Call::Incident { set: Some(asked) } => {
                    assert_eq!(asked.ttl_seconds, Some(600));
                    let status = IncidentStatus {
                        level: 3,
                        before: None,
                        since: None,
                        until: None,
                        reason: None,
                        audit: None,
                    };
                    reply.send(Ok(Answer::Incident(status))).unwrap();
                    return format!("level {}", asked.level);
                }
                other => panic!("{other:?}"),
            };
            let refusal = enforcer_admin::Refusal::new(
                enforcer_admin::RefusalKind::Guarded,
                "it is the last one",
            );
            reply.send(Err(refusal.details(vec!["b is sick".into()]))).unwrap();
            asked
        };

        let (done, asked) = tokio::join!(asking, answering);

        assert_eq!(asked, expected);
        if let Action::RaiseLevel(_) = action {
            let acted = done.unwrap();
            assert_eq!(acted.what, "incident level 3 (2 asked for)");
            assert_eq!(acted.undo, Undo::Lower("bola".into()));
        } else {
            assert_eq!(done.unwrap_err(), "it is the last one (b is sick)");
        }
    }
}

#[tokio::test]
async fn an_agent_that_stops_and_one_that_does_not_answer_are_errors_and_never_a_hang() {
    let (orders, responder) = mpsc::channel(1);
    let (calls, desk) = mpsc::channel(1);
    let actor = Actor::new(orders, &calls, Arc::new(SystemClock));
    drop((responder, desk));

    for action in [Action::Drop, Action::DisableRoute, Action::IsolateUpstream] {
        assert_eq!(actor.act(deed(action, "everyone")).await.unwrap_err(), "the agent is stopping");
    }
    assert!(actor.act(deed(Action::Notify, "everyone")).await.is_ok());
}
