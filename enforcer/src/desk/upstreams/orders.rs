//! What operators have decided about hosts, for whoever has to see that it holds.
//!
//! Written by the desk alone; given to the fleet again after a reload, before its policy is in force.

use std::time::Instant;

use enforcer_admin::call::{HostOrder, HostState, HostWish};
use enforcer_model::Timestamp;
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

    /// These hosts have none any more.
    pub(super) fn end(&self, upstream: &str, hosts: &[&str]) {
        let is_ended = |order: &HostOrder| {
            order.upstream == upstream && hosts.iter().any(|host| order.host == *host)
        };
        self.0.lock().retain(|order| !is_ended(order));
    }

    /// Those whose time is over, which hold no longer.
    pub(super) fn take_over(&self, now: Timestamp) -> Vec<HostOrder> {
        let mut orders = self.0.lock();
        let over: Vec<_> = orders.iter().filter(|one| one.until.is_over(now)).cloned().collect();
        if !over.is_empty() {
            orders.retain(|order| !order.until.is_over(now));
        }
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
