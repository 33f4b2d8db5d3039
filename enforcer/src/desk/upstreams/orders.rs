//! What operators have decided about hosts, for whoever has to see that it holds.
//!
//! Written by the desk alone; given to the fleet again after a reload, before its policy is in force.

use std::time::Instant;

use enforcer_admin::call::{HostOrder, HostState, HostWish};
use enforcer_model::{DecisionId, Timestamp};
use enforcer_upstream::Fleet;
use parking_lot::Mutex;

use super::rows::{state_of, wish_of};
use super::{ORDERS_MAX, is_host};

/// Every decision that holds, oldest first; one for each host.
#[derive(Debug, Default)]
pub(crate) struct HostOrders(Mutex<Vec<HostOrder>>);

/// No room for another one.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{ORDERS_MAX} hosts are drained or isolated already")]
pub(super) struct Full;

impl HostOrders {
    pub(super) fn new(orders: Vec<HostOrder>) -> Self {
        Self(Mutex::new(orders))
    }

    pub(super) fn all(&self) -> Vec<HostOrder> {
        self.0.lock().clone()
    }

    pub(super) fn of(&self, upstream: &str, host: &str) -> Option<HostOrder> {
        let orders = self.0.lock();
        orders.iter().find(|one| one.upstream == upstream && one.host == host).cloned()
    }

    /// These hold from here on, each in the place of an earlier one for its host.
    pub(super) fn put(&self, new: &[HostOrder]) -> Result<(), Full> {
        let mut orders = self.0.lock();
        let is_replaced = |old: &HostOrder| {
            new.iter().any(|new| new.upstream == old.upstream && new.host == old.host)
        };
        let staying = orders.iter().filter(|old| !is_replaced(old)).count();
        if staying + new.len() > ORDERS_MAX {
            return Err(Full);
        }
        orders.retain(|old| !is_replaced(old));
        orders.extend_from_slice(new);
        Ok(())
    }

    /// What is decided about these hosts ends: all of it when an operator says so; with a decision, only
    /// its own deed. Gives what holds again.
    pub(super) fn end(
        &self,
        upstream: &str,
        hosts: &[&str],
        decision: Option<DecisionId>,
        now: Timestamp,
    ) -> Vec<HostOrder> {
        let mut orders = self.0.lock();
        let ended: Vec<_> = orders
            .extract_if(.., |order| {
                order.upstream == upstream
                    && hosts.iter().any(|host| order.host == *host)
                    && (decision.is_none() || order.decision == decision)
            })
            .collect();
        if decision.is_none() {
            return Vec::new();
        }
        let back: Vec<_> =
            ended.into_iter().filter_map(|order| still(*order.before?, now)).collect();
        orders.extend_from_slice(&back);
        back
    }

    /// Those whose time is over, which hold no longer; what they stood in the place of holds again.
    pub(super) fn take_over(&self, now: Timestamp) -> Vec<HostOrder> {
        let mut orders = self.0.lock();
        let over: Vec<_> = orders.extract_if(.., |order| order.until.is_over(now)).collect();
        let back = over.iter().filter_map(|order| still(*order.before.clone()?, now));
        orders.extend(back);
        over
    }

    /// Gives those again that the fleet does not carry out.
    pub(crate) fn enforce(&self, fleet: &Fleet, now: Instant) {
        let orders = self.0.lock();
        if orders.is_empty() {
            return;
        }
        let views = fleet.view(now);
        for order in &*orders {
            let own = views.iter().filter(|view| *view.name == *order.upstream);
            let mut own = own.flat_map(|view| &view.hosts).filter(|one| is_host(one, &order.host));
            let wanted = match order.wish {
                HostWish::Isolate => HostState::Isolated,
                HostWish::Drain | HostWish::Restore | HostWish::Undrain => HostState::Draining,
            };
            if own.any(|host| state_of(&host.state) != wanted) {
                // A host that has gone meanwhile gets no requests.
                drop(fleet.order(&order.upstream, Some(&order.host), wish_of(order.wish), now));
            }
        }
    }
}

/// What a decision is to stand in the place of, where `standing` holds.
pub(super) fn below(standing: HostOrder, decision: Option<DecisionId>) -> Option<Box<HostOrder>> {
    if standing.decision == decision {
        return standing.before;
    }
    // One is remembered, an operator's own before another decision's.
    match (standing.decision, standing.before) {
        (Some(_), Some(before)) => Some(before),
        (decision, before) => Some(Box::new(HostOrder { decision, before, ..standing })),
    }
}

fn still(order: HostOrder, now: Timestamp) -> Option<HostOrder> {
    (!order.until.is_over(now)).then_some(order)
}
