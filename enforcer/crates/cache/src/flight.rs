//! One request goes upstream for many that ask the same: single flight.
//!
//! Who leads tells the others how it ended, also by being dropped. Who follows waits for a bounded
//! time, counted from the beginning of the flight, and then asks by itself, so that a slow leader
//! delays each of them once and nobody for long.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::key::{Digest, Scope};
use crate::place::Place;
use crate::plan::Plan;

/// A request that others wait for.
#[derive(Debug)]
pub(crate) struct Flight {
    of: Of,
    began: Instant,
    landed: watch::Sender<Option<Landing>>,
}

/// Whose answer it will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Of {
    route: Arc<str>,
    via: Arc<str>,
    scope: Scope,
    /// The fields that earlier answers varied on, as the request has them.
    selecting: Option<Digest>,
}

/// How a flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Landing {
    /// Its answer is kept: look again.
    Kept,
    /// There is nothing for others.
    Free,
}

/// The right and the duty to ask for the others.
#[derive(Debug)]
pub(crate) struct Lead {
    place: Weak<Place>,
    flight: Arc<Flight>,
}

/// What a request that found nothing does next.
#[derive(Debug)]
pub(crate) enum Turn {
    Leads(Lead),
    Follows(Arc<Flight>),
}

impl Of {
    pub(crate) fn new(plan: &Plan, scope: Scope, selecting: Option<Digest>) -> Self {
        let (route, via) = (Arc::clone(&plan.route), Arc::clone(&plan.via));
        Self { route, via, scope, selecting }
    }
}

impl Flight {
    /// Waits until the flight has ended, at most `patience` from its beginning.
    pub(crate) async fn landing(&self, patience: Duration) -> Landing {
        let mut landed = self.landed.subscribe();
        let waiting = landed.wait_for(Option::is_some);
        match timeout_at(self.began + patience, waiting).await {
            Ok(Ok(landing)) => landing.unwrap_or(Landing::Free),
            Ok(Err(_)) | Err(_) => Landing::Free,
        }
    }
}

impl Lead {
    /// Leads for `of` at `place`, or follows who does already.
    pub(crate) fn or_follow(place: &Arc<Place>, of: Of) -> Turn {
        let mut flights = place.flights.lock();
        if let Some(flight) = flights.iter().find(|flight| flight.of == of) {
            return Turn::Follows(Arc::clone(flight));
        }
        let (landed, _) = watch::channel(None);
        let flight = Arc::new(Flight { of, began: Instant::now(), landed });
        flights.push(Arc::clone(&flight));
        Turn::Leads(Self { place: Arc::downgrade(place), flight })
    }

    /// The answer is kept.
    pub(crate) fn kept(self) {
        self.end(Landing::Kept);
    }

    fn end(&self, landing: Landing) {
        if let Some(place) = self.place.upgrade() {
            place.flights.lock().retain(|flight| !Arc::ptr_eq(flight, &self.flight));
        }
        self.flight.landed.send_if_modified(|landed| {
            let is_first = landed.is_none();
            landed.get_or_insert(landing);
            is_first
        });
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.end(Landing::Free);
    }
}
