//! Hosts that fail, come back, and are ordered about.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::Reason;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use super::OK;
use super::server::{Server, Steps, get, local, plan, pools, read_head, refusing, request, until};
use crate::fleet::hash;
use crate::{
    Affinity, Balance, BreakerPlan, BreakerState, EjectPlan, Fault, Fleet, HashKey, HealthPlan,
    HostPlan, NotFound, Plan, Pools, RetryPlan, State, Target, Wish,
};

const EJECT: EjectPlan = EjectPlan {
    failures: 2,
    rate_percent: 50,
    period: Duration::from_millis(300),
    most_percent: 50,
};
const BROKEN: &str = "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n";

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Pools of a fleet to which `plan` was applied, and that fleet.
fn applied(plan: Plan) -> (Arc<Fleet>, Pools<Steps>, Arc<Plan>) {
    let (fleet, plan) = (Arc::new(Fleet::new()), Arc::new(plan));
    fleet.apply(&[Arc::clone(&plan)], now());
    (Arc::clone(&fleet), Pools::new(fleet), plan)
}

fn states(fleet: &Fleet) -> Vec<State> {
    fleet.view(now())[0].hosts.iter().map(|host| host.state.clone()).collect()
}

async fn who(pools: &Pools<Steps>, plan: &Plan) -> String {
    let asked = pools.forward(request("GET", Steps::none()), Affinity::NONE, plan).await;
    let answer = asked.unwrap();
    answer.response.into_body().collect().await.unwrap();
    answer.upstream.to_string()
}

#[tokio::test]
async fn a_host_that_fails_in_a_row_is_left_out_and_returns_and_the_floor_keeps_the_rest() {
    local(async {
        let (bad, good) = (Server::answering(BROKEN).await, Server::answering(OK).await);
        let (fleet, pools, plan) =
            applied(Plan { eject: Some(EJECT), ..plan(vec![bad.address, good.address]) });
        let mut events = fleet.events().unwrap();

        for _ in 0..4 {
            who(&pools, &plan).await;
        }
        assert!(matches!(states(&fleet)[..], [State::Ejected { .. }, State::Up]));
        for _ in 0..4 {
            assert_eq!(who(&pools, &plan).await, good.address.to_string());
        }

        assert_eq!(*events.try_recv().unwrap().upstream, *"test");
        sleep(Duration::from_millis(350)).await;
        let after = [who(&pools, &plan).await, who(&pools, &plan).await];
        assert!(after.contains(&bad.address.to_string()), "it is asked again: {after:?}");

        let (fleet, pools, plan) = applied(Plan { eject: Some(EJECT), ..bad.plan() });
        for _ in 0..5 {
            who(&pools, &plan).await;
        }
        assert_eq!(states(&fleet), [State::Up], "the only host is never left out");
    })
    .await;
}

#[tokio::test]
async fn others_stand_in_while_the_first_are_down_and_step_back() {
    local(async {
        let front = refusing().await;
        let behind = Server::answering(OK).await;
        let mut both = plan(vec![front]);
        both.eject = Some(EjectPlan { failures: 1, ..EJECT });
        both.tiers.push(behind.plan().tiers.remove(0));
        let (fleet, pools, plan) = applied(both);

        for _ in 0..4 {
            assert_eq!(who(&pools, &plan).await, behind.address.to_string(), "none is lost");
        }
        assert_eq!(fleet.view(now())[0].tier, 1);

        let listener = tokio::net::TcpListener::bind(front).await.unwrap();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            sleep(Duration::from_secs(30)).await;
        });
        sleep(Duration::from_millis(1_400)).await;
        fleet.of(&plan, now()).refresh(fleet.of(&plan, now()).ms(now()));
        assert_eq!(fleet.view(now())[0].tier, 0);
        assert_eq!(who(&pools, &plan).await, front.to_string());
    })
    .await;
}

#[tokio::test]
async fn an_open_breaker_answers_at_once_and_closes_when_one_request_goes_well() {
    local(async {
        let bad = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let is_bad = Arc::clone(&bad);
        let server = Server::start(async move |mut stream, _| {
            while !read_head(&mut stream).await.is_empty() {
                let answer =
                    if is_bad.load(std::sync::atomic::Ordering::Relaxed) { BROKEN } else { OK };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let breaker = BreakerPlan {
            errors_percent: 50,
            requests: 4,
            within: Duration::from_secs(10),
            open: Duration::from_millis(200),
        };
        let (fleet, pools, plan) = applied(Plan { breaker: Some(breaker), ..server.plan() });

        for _ in 0..4 {
            who(&pools, &plan).await;
        }
        let failure = get(&pools, &plan).await.unwrap_err();
        assert_eq!((failure.reason(), failure.whose), (Reason::UpstreamPaused, Fault::Us));
        assert!(matches!(fleet.view(now())[0].breaker, BreakerState::Open { .. }));

        sleep(Duration::from_millis(220)).await;
        who(&pools, &plan).await;
        assert!(get(&pools, &plan).await.is_err(), "the one that was let through failed as well");
        bad.store(false, std::sync::atomic::Ordering::Relaxed);
        sleep(Duration::from_millis(220)).await;
        assert_eq!(get(&pools, &plan).await.unwrap(), "ok");
        assert_eq!(fleet.view(now())[0].breaker, BreakerState::Closed);
        assert_eq!(get(&pools, &plan).await.unwrap(), "ok");
    })
    .await;
}

#[tokio::test]
async fn a_drained_host_finishes_what_it_has_and_gets_nothing_more() {
    local(async {
        let (one, two) = (Server::answering(OK).await, Server::answering(OK).await);
        let (fleet, pools, plan) = applied(plan(vec![one.address, two.address]));
        let name = one.address.to_string();
        let under_way = pools.forward(request("GET", Steps::none()), Affinity::NONE, &plan);
        let under_way = under_way.await.unwrap();
        assert_eq!(*under_way.upstream, *name);

        fleet.order("test", Some(&name), Wish::Drain, now()).unwrap();

        assert_eq!(states(&fleet)[0], State::Draining { left: 1 });
        for _ in 0..4 {
            assert_eq!(who(&pools, &plan).await, two.address.to_string());
        }
        let body = under_way.response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "ok");
        assert_eq!(states(&fleet)[0], State::Draining { left: 0 });
        until(|| one.closed.get() == 1).await;

        fleet.apply(&[Arc::clone(&plan)], now());
        assert_eq!(states(&fleet)[0], State::Draining { left: 0 }, "kept over a reload");
        fleet.order("test", Some(&name), Wish::Undrain, now()).unwrap();
        let asked = [who(&pools, &plan).await, who(&pools, &plan).await];
        assert!(asked.contains(&name));
    })
    .await;
}

#[tokio::test]
async fn isolating_a_host_cuts_what_it_has() {
    local(async {
        let server = Server::start(async |mut stream, _| {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
            sleep(Duration::from_secs(30)).await;
        })
        .await;
        let patient = Plan { between_bytes: Duration::from_secs(30), ..server.plan() };
        let (fleet, pools, plan) = applied(patient);
        let asked = pools.forward(request("GET", Steps::none()), Affinity::NONE, &plan);
        let mut body = asked.await.unwrap().response.into_body();
        body.frame().await.unwrap().unwrap();

        fleet.order("test", None, Wish::Isolate, now()).unwrap();

        let failure = body.frame().await.unwrap().unwrap_err();
        assert!(matches!(failure, crate::BodyFailure::Isolated), "{failure:?}");
        assert_eq!(states(&fleet), [State::Isolated]);
        let failure = get(&pools, &plan).await.unwrap_err();
        assert_eq!(failure.reason(), Reason::UpstreamUnreachable);
        assert_eq!(fleet.view(now())[0].failures, 0, "an operator's doing is no host's fault");
    })
    .await;
}

#[tokio::test]
async fn whoever_orders_something_that_is_not_there_learns_what_may_have_been_meant() {
    let (fleet, _pools, _plan) = local(async { applied(plan(vec![refusing().await])) }).await;

    let NotFound::Upstream { meant, .. } =
        fleet.order("tset", None, Wish::Drain, now()).unwrap_err()
    else {
        panic!("another problem")
    };
    assert_eq!(meant.0.as_deref(), Some("test"));
    let error = fleet.order("test", Some("nowhere:1"), Wish::Drain, now()).unwrap_err();
    assert!(error.to_string().contains("has no host `nowhere:1`"), "{error}");
}

#[tokio::test]
async fn a_request_that_can_be_carried_out_twice_is_sent_to_another_host_within_the_budget() {
    local(async {
        let dies = Server::start(async |mut stream, _| {
            read_head(&mut stream).await;
        })
        .await;
        let good = Server::answering(OK).await;
        let retry = RetryPlan { attempts: 1, budget_percent: 20 };
        let (fleet, pools, plan) =
            applied(Plan { retry, ..plan(vec![dies.address, good.address]) });

        for _ in 0..8 {
            assert_eq!(who(&pools, &plan).await, good.address.to_string());
        }
        let view = &fleet.view(now())[0];
        assert_eq!((view.retries, view.failures), (4, 4));

        let outcomes = [
            pools.forward(request("POST", Steps::of(["x"])), Affinity::NONE, &plan).await.is_ok(),
            pools.forward(request("POST", Steps::of(["x"])), Affinity::NONE, &plan).await.is_ok(),
        ];
        assert_eq!(outcomes, [false, true], "a POST is never sent twice");

        let mut refused = 0;
        for _ in 0..60 {
            refused += usize::from(get(&pools, &plan).await.is_err());
        }
        assert!(refused > 0 && fleet.view(now())[0].retries_refused > 0, "{refused}");
    })
    .await;
}

#[tokio::test]
async fn one_key_goes_to_one_host() {
    local(async {
        let (one, two) = (Server::answering(OK).await, Server::answering(OK).await);
        let balance = Balance::Hash(HashKey::Ip);
        let (_fleet, pools, plan) =
            applied(Plan { balance, ..plan(vec![one.address, two.address]) });

        for key in [b"a", b"b", b"c"] {
            let mut hosts = Vec::new();
            for _ in 0..4 {
                let asked = request("GET", Steps::none());
                let answer = pools.forward(asked, Affinity::of(key), &plan).await.unwrap();
                hosts.push(answer.upstream.to_string());
                answer.response.into_body().collect().await.unwrap();
            }
            assert!(hosts.iter().all(|host| *host == hosts[0]), "{hosts:?}");
        }
        assert_ne!(hash(b"a"), hash(b"b"));
    })
    .await;
}

#[tokio::test]
async fn a_host_that_is_ill_is_left_out_until_it_is_well_again() {
    local(async {
        let well = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_well = Arc::clone(&well);
        let ill = Server::start(async move |mut stream, _| {
            let head = read_head(&mut stream).await;
            let bad = head.starts_with("GET /healthz")
                && !is_well.load(std::sync::atomic::Ordering::Relaxed);
            stream.write_all(if bad { BROKEN } else { OK }.as_bytes()).await.unwrap();
        })
        .await;
        let good = Server::answering(OK).await;
        let health = HealthPlan {
            path: "/healthz".parse().unwrap(),
            host: None,
            every: Duration::from_millis(50),
            timeout: Duration::from_secs(1),
            status: vec![200],
            healthy: 2,
            unhealthy: 2,
        };
        let (fleet, pools, plan) =
            applied(Plan { health: Some(health), ..plan(vec![ill.address, good.address]) });
        let tending =
            tokio::task::spawn_local(Arc::clone(&fleet).look_after(std::future::pending()));

        until(|| matches!(&states(&fleet)[0], State::Unhealthy { why, .. } if why.contains("500")))
            .await;
        for _ in 0..4 {
            assert_eq!(who(&pools, &plan).await, good.address.to_string());
        }
        well.store(true, std::sync::atomic::Ordering::Relaxed);
        until(|| states(&fleet)[0] == State::Up).await;
        let asked = [who(&pools, &plan).await, who(&pools, &plan).await];
        assert!(asked.contains(&ill.address.to_string()));
        tending.abort();
    })
    .await;
}

#[tokio::test]
async fn a_name_is_looked_up_and_a_failed_look_up_keeps_the_last_good_answer() {
    local(async {
        let server = Server::answering(OK).await;
        let name = format!("localhost:{}", server.address.port());
        let mut named = server.plan();
        named.tiers[0][0] = HostPlan {
            name: name.as_str().into(),
            target: name.parse::<Target>().unwrap(),
            ..named.tiers[0][0].clone()
        };
        let (fleet, plan) = (Arc::new(Fleet::new()), Arc::new(named));
        fleet.prepare(&[Arc::clone(&plan)]).await;
        fleet.apply(&[Arc::clone(&plan)], now());
        let pools = Pools::new(Arc::clone(&fleet));

        assert_eq!(get(&pools, &plan).await.unwrap(), "ok");
        let view = fleet.view(now());
        let host = view[0].hosts.iter().find(|host| host.requests > 0).unwrap();
        assert_eq!(*host.name, *name);
        assert_eq!(host.address.as_deref(), Some(&*server.address.to_string()));
        let before = view[0].hosts.len();
        fleet.looked_up(
            &("localhost".into(), server.address.port()),
            &Err(std::io::Error::other("no resolver")),
        );
        assert_eq!(fleet.view(now())[0].hosts.len(), before);
        assert_eq!(get(&pools, &plan).await.unwrap(), "ok");

        let elsewhere = Server::answering(OK).await;
        fleet.looked_up(&("localhost".into(), server.address.port()), &Ok(vec![elsewhere.address]));
        assert_eq!(who(&pools, &plan).await, elsewhere.address.to_string());
        until(|| server.closed.get() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn an_upstream_without_hosts_is_told_as_such() {
    local(async {
        let mut named = plan(vec![]);
        named.tiers = vec![Vec::new()];

        let failure = get(&pools(), &named).await.unwrap_err();

        assert_eq!(failure.reason(), Reason::UpstreamUnreachable);
        assert_eq!(failure.upstream, None);
    })
    .await;
}
