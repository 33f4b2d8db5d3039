//! What the fleet knows, as operators read it.

use std::time::Duration;

use enforcer_admin::call::{HostOrder, HostRow, HostState, HostWish, UpstreamRow};
use enforcer_upstream::{BreakerState, HostView, State, UpstreamView, Wish};

use super::{Causes, is_host};

/// One upstream, with what operators have decided and why it is as it is.
pub(super) fn row(view: &UpstreamView, held: &[HostOrder], causes: &Causes) -> UpstreamRow {
    let breaker = match view.breaker {
        BreakerState::Closed => None,
        BreakerState::Open { left } => Some(millis(left)),
    };
    let cause = match (breaker, view.tier) {
        (Some(_), _) => causes.of_breaker(&view.name),
        (None, 0) => None,
        (None, _) => causes.of_failover(&view.name),
    };
    UpstreamRow {
        name: view.name.to_string(),
        tier: number(view.tier),
        breaker_open: breaker.is_some(),
        breaker_left_ms: breaker,
        cause,
        requests: view.requests,
        failures: view.failures,
        retries: view.retries,
        retries_refused: view.retries_refused,
        hosts: view.hosts.iter().map(|host| host_row(host, &view.name, held)).collect(),
    }
}

fn host_row(host: &HostView, upstream: &str, held: &[HostOrder]) -> HostRow {
    let order = held.iter().find(|one| one.upstream == upstream && is_host(host, &one.host));
    let left = match host.state {
        State::Ejected { left, .. } => Some(millis(left)),
        State::Draining { .. }
        | State::Isolated
        | State::Starting
        | State::Unhealthy { .. }
        | State::Unresolved
        | State::Up => None,
    };
    let reason = order.and_then(|order| order.reason.clone());
    HostRow {
        name: host.name.to_string(),
        address: host.address.as_ref().map(ToString::to_string),
        tier: number(host.tier),
        weight: host.weight,
        state: state_of(&host.state),
        cause: cause_of(&host.state).or(reason),
        left_ms: left,
        in_flight: host.in_flight,
        requests: host.requests,
        failures: host.failures,
        latency_us: host.latency.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        connections: host.connections,
        order: order.cloned(),
    }
}

pub(super) const fn state_of(state: &State) -> HostState {
    match state {
        State::Draining { .. } => HostState::Draining,
        State::Ejected { .. } => HostState::Ejected,
        State::Isolated => HostState::Isolated,
        State::Starting => HostState::Starting,
        State::Unhealthy { .. } => HostState::Unhealthy,
        State::Unresolved => HostState::Unresolved,
        State::Up => HostState::Up,
    }
}

/// Why a host is not asked, where that is not an operator's doing.
pub(super) fn cause_of(state: &State) -> Option<String> {
    match state {
        State::Ejected { why, .. } => Some(why.to_string()),
        State::Unhealthy { why, lasting } => Some(format!("{why}, for {} s", lasting.as_secs())),
        State::Unresolved => Some("its name leads nowhere".to_owned()),
        State::Draining { .. } | State::Isolated | State::Starting | State::Up => None,
    }
}

pub(super) const fn wish_of(wish: HostWish) -> Wish {
    match wish {
        HostWish::Drain => Wish::Drain,
        HostWish::Undrain => Wish::Undrain,
        HostWish::Isolate => Wish::Isolate,
        HostWish::Restore => Wish::Restore,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
