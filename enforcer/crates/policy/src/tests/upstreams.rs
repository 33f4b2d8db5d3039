//! Upstreams: hosts, how they are spoken to, and what happens when they fail.

use std::path::Path;
use std::time::Duration;

use enforcer_upstream::{Balance, BreakerPlan, EjectPlan, HashKey, Plan, Protocol, RetryPlan};

use super::SMALL;
use crate::Policy;

/// The upstream of a policy that says `lines` about it.
fn plan(lines: &str) -> Plan {
    let text = SMALL.replace("hosts = [\"127.0.0.1:9000\"]", lines);
    assert_ne!(text, SMALL);
    let policy = Policy::parse(&text, Path::new("p.toml")).unwrap();
    policy.upstreams().next().unwrap().as_ref().clone()
}

fn refused(lines: &str) -> String {
    let text = SMALL.replace("hosts = [\"127.0.0.1:9000\"]", lines);
    Policy::parse(&text, Path::new("p.toml")).unwrap_err().to_string()
}

#[test]
fn hosts_are_addresses_names_and_sockets_with_weights_and_others_stand_in() {
    let plan = plan(
        "hosts = ['10.0.4.2:8443', 'Orders.internal:8443', 'unix:/run/orders.sock',\n\
         { host = '10.0.4.9:8443', weight = 2 }]\nbackup = [['10.0.5.2:8443'], ['spare:1']]",
    );

    let names: Vec<Vec<&str>> =
        plan.tiers.iter().map(|tier| tier.iter().map(|host| &*host.name).collect()).collect();
    assert_eq!(
        names,
        [
            &["10.0.4.2:8443", "orders.internal:8443", "unix:/run/orders.sock", "10.0.4.9:8443"][..],
            &["10.0.5.2:8443"],
            &["spare:1"],
        ]
    );
    let weights: Vec<u16> = plan.tiers[0].iter().map(|host| host.weight.get()).collect();
    assert_eq!(weights, [1, 1, 1, 2]);
}

#[test]
fn what_is_left_out_has_defaults_that_keep_requests_safe() {
    let plan = plan("hosts = '127.0.0.1:9000'");

    assert_eq!((plan.protocol, &plan.balance), (Protocol::Http1, &Balance::LeastLoaded));
    let eject = EjectPlan {
        failures: 5,
        rate_percent: 50,
        period: Duration::from_secs(30),
        most_percent: 50,
    };
    assert_eq!(plan.eject, Some(eject));
    assert_eq!(plan.retry, RetryPlan { attempts: 1, budget_percent: 20 });
    assert_eq!((plan.breaker, &plan.health, &plan.tls), (None, &None, &None));
    assert_eq!((plan.slow_start, plan.dns), (Duration::ZERO, Duration::from_secs(30)));
}

#[test]
fn everything_can_be_said() {
    let plan = plan(
        "hosts = ['127.0.0.1:9000']\nprotocol = 'http2'\nbalance = { hash = 'header.x-tenant' }\n\
         health = { path = '/healthz?deep=1', every = '1s', status = [200, 204], host = 'o.test' }\n\
         eject = false\nbreaker = { errors = '20%', open = '1s' }\nslow_start = '10s'\n\
         retry = { attempts = 2, budget = '5%' }\ndns = '10s'\nbody_rate = '1KiB'",
    );

    assert_eq!(plan.protocol, Protocol::Http2);
    assert_eq!(plan.balance, Balance::Hash(HashKey::Header("x-tenant".parse().unwrap())));
    let health = plan.health.unwrap();
    assert_eq!(
        (health.path.to_string().as_str(), health.status),
        ("/healthz?deep=1", vec![200, 204])
    );
    assert_eq!((health.healthy, health.unhealthy), (2, 3));
    assert_eq!(plan.eject, None);
    let breaker = BreakerPlan {
        errors_percent: 20,
        requests: 20,
        within: Duration::from_secs(10),
        open: Duration::from_secs(1),
    };
    assert_eq!(plan.breaker, Some(breaker));
    assert_eq!(plan.retry, RetryPlan { attempts: 2, budget_percent: 5 });
    assert_eq!((plan.slow_start, plan.body_rate_min), (Duration::from_secs(10), 1024));
}

#[test]
fn what_an_upstream_cannot_be_is_refused_in_its_place() {
    for (lines, said) in [
        ("hosts = ['127.0.0.1']", "is not a host"),
        ("hosts = ['127.0.0.1:0']", "port 0"),
        ("hosts = ['unix:orders.sock']", "absolute"),
        ("hosts = ['127.0.0.1:1', '127.0.0.1:1']", "named twice"),
        ("hosts = ['127.0.0.1:1']\nbackup = [['127.0.0.1:1']]", "named twice"),
        ("hosts = ['127.0.0.1:1']\nbalance = 'random'", "way to choose among hosts"),
        ("hosts = ['127.0.0.1:1']\nbalance = { hash = 'cookie' }", "requests have in common"),
        ("hosts = ['127.0.0.1:1']\nhealth = { path = 'healthz' }", "is not a path"),
        ("hosts = ['127.0.0.1:1']\nhealth = {}", "`upstream.orders.health.path` is missing"),
        ("hosts = ['127.0.0.1:1']\ntls = { certificate = 'c.pem' }", "a `certificate` and a `key`"),
        ("hosts = ['unix:/run/o.sock']\ntls = {}", "nothing says which name"),
        ("hosts = ['127.0.0.1:1']\neject = { most = '0%' }", "percent"),
    ] {
        let problems = refused(lines);
        assert!(problems.contains(said), "{lines}: {problems}");
    }
}
