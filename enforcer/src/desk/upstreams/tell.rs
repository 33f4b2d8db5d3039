//! What happens to upstreams by itself: into the agent's log, on record, and kept as the cause of how
//! they are.
//!
//! A host that comes and goes must not fill anybody's disk: the log takes a burst of [`LINES_MAX`]
//! lines and then one each [`LINE_EVERY`], and says how many it left out. The audit log gets all of
//! them; their number is bounded by the policy's times for checks, ejections and breakers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_audit::{Audit, Record, UpstreamChange, UpstreamEvent};
use enforcer_model::{Author, Clock};
use enforcer_upstream::{Event, Happening};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Lines that the log takes at once.
const LINES_MAX: u32 = 64;
/// When it takes one more.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Upstreams whose causes are kept; of more, `list` tells no cause.
const CAUSES_MAX: usize = 4_096;

/// Why upstreams are as they are, by their names.
#[derive(Debug, Default)]
pub(crate) struct Causes(Mutex<HashMap<Arc<str>, Cause>>);

#[derive(Debug, Default)]
struct Cause {
    breaker: Option<String>,
    failover: Option<String>,
}

/// How many lines the log may take.
struct Lines {
    left: u32,
    refilled: Instant,
    suppressed: u64,
}

/// Tells of every event until there are no more.
pub(crate) async fn tell(
    mut events: mpsc::Receiver<Event>,
    causes: Arc<Causes>,
    audit: Audit,
    clock: Arc<dyn Clock>,
) {
    let mut lines = Lines { left: LINES_MAX, refilled: clock.now().monotonic, suppressed: 0 };
    while let Some(event) = events.recv().await {
        causes.learn(&event);
        if lines.take(clock.now().monotonic) {
            log(&event, lines.suppressed);
            lines.suppressed = 0;
        } else {
            lines.suppressed = lines.suppressed.saturating_add(1);
        }
        // An operator's order is on record with the operator's name.
        let Some(change) = change(&event) else { continue };
        if let Ok(slot) = audit.reserve() {
            drop(slot.write(Record::Upstream(Box::new(change))));
        }
    }
}

fn log(Event { upstream, host, what }: &Event, suppressed: u64) {
    let host = host.as_deref();
    if is_good_news(what) {
        info!(%upstream, host, suppressed, "upstream: {what}");
    } else {
        warn!(%upstream, host, suppressed, "upstream: {what}");
    }
}

fn is_good_news(what: &Happening) -> bool {
    match what {
        Happening::FailedOver { from, to, .. } => to < from,
        Happening::BreakerClosed
        | Happening::Healthy
        | Happening::Ordered(_)
        | Happening::Resolved { .. }
        | Happening::Returned => true,
        Happening::BreakerOpened { .. }
        | Happening::Ejected { .. }
        | Happening::ResolveFailed { .. }
        | Happening::Unhealthy { .. } => false,
    }
}

/// The record of an event; none of what an operator caused, which has one already.
fn change(Event { upstream, host, what }: &Event) -> Option<UpstreamChange> {
    let tier = |tier: &usize| Some(format!("tier {tier}"));
    let word = |word: &str| Some(word.to_owned());
    let (event, before, after) = match what {
        Happening::BreakerClosed => (UpstreamEvent::BreakerClosed, word("open"), word("closed")),
        Happening::BreakerOpened { .. } => {
            (UpstreamEvent::BreakerOpened, word("closed"), word("open"))
        }
        Happening::Ejected { .. } => (UpstreamEvent::Ejected, None, word("ejected")),
        Happening::FailedOver { from, to, .. } => (UpstreamEvent::FailedOver, tier(from), tier(to)),
        Happening::Healthy => (UpstreamEvent::Healthy, word("unhealthy"), word("healthy")),
        Happening::Ordered(_) => return None,
        Happening::Resolved { added, removed } => {
            let list = |all: &[std::net::SocketAddr]| {
                let all: Vec<_> = all.iter().map(ToString::to_string).collect();
                (!all.is_empty()).then(|| all.join(" "))
            };
            (UpstreamEvent::Resolved, list(removed), list(added))
        }
        Happening::ResolveFailed { .. } => (UpstreamEvent::ResolveFailed, None, None),
        Happening::Returned => (UpstreamEvent::Returned, word("ejected"), word("up")),
        Happening::Unhealthy { .. } => (UpstreamEvent::Unhealthy, None, word("unhealthy")),
    };
    Some(UpstreamChange {
        what: event,
        upstream: upstream.to_string(),
        host: host.as_ref().map(ToString::to_string),
        before,
        after,
        until: None,
        in_flight: 0,
        cut: 0,
        author: Author::Agent,
        reason: None,
        cause: Some(what.to_string()),
    })
}

impl Causes {
    fn learn(&self, event: &Event) {
        let mut causes = self.0.lock();
        let known = causes.len();
        let cause = match causes.get_mut(&event.upstream) {
            Some(cause) => cause,
            None if known >= CAUSES_MAX => return,
            None => causes.entry(Arc::clone(&event.upstream)).or_default(),
        };
        match &event.what {
            Happening::BreakerClosed => cause.breaker = None,
            what @ Happening::BreakerOpened { .. } => cause.breaker = Some(what.to_string()),
            Happening::FailedOver { to: 0, .. } => cause.failover = None,
            what @ Happening::FailedOver { .. } => cause.failover = Some(what.to_string()),
            Happening::Ejected { .. }
            | Happening::Healthy
            | Happening::Ordered(_)
            | Happening::ResolveFailed { .. }
            | Happening::Resolved { .. }
            | Happening::Returned
            | Happening::Unhealthy { .. } => {}
        }
    }

    pub(super) fn of_breaker(&self, upstream: &str) -> Option<String> {
        self.0.lock().get(upstream)?.breaker.clone()
    }

    pub(super) fn of_failover(&self, upstream: &str) -> Option<String> {
        self.0.lock().get(upstream)?.failover.clone()
    }
}

impl Lines {
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.refilled);
        let fresh =
            u32::try_from(passed.as_secs() / LINE_EVERY.as_secs().max(1)).unwrap_or(u32::MAX);
        if fresh > 0 {
            self.left = self.left.saturating_add(fresh).min(LINES_MAX);
            self.refilled = now;
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use enforcer_model::{Clock, SystemClock};
    use enforcer_upstream::{Few, Why, Wish};

    use super::*;

    #[test]
    fn a_host_that_comes_and_goes_does_not_fill_the_log() {
        let start = SystemClock.now().monotonic;
        let mut lines = Lines { left: LINES_MAX, refilled: start, suppressed: 0 };

        let at_once = (0..10_000).filter(|_| lines.take(start)).count();
        assert_eq!(at_once, usize::try_from(LINES_MAX).unwrap());
        assert!(lines.take(start + LINE_EVERY) && !lines.take(start + LINE_EVERY));
    }

    #[test]
    fn the_cause_of_a_failover_is_known_until_the_first_tier_is_back() {
        let causes = Causes::default();
        let over = |from, to| Event {
            upstream: "orders".into(),
            host: None,
            what: Happening::FailedOver { from, to, why: Few { well: 0, of: 2 } },
        };

        causes.learn(&over(0, 1));
        let cause = causes.of_failover("orders").unwrap();
        assert!(cause.contains("0 of 2 hosts are well"), "{cause}");
        causes.learn(&over(1, 0));

        assert_eq!(causes.of_failover("orders"), None);
    }

    #[test]
    fn what_happens_by_itself_is_recorded_with_its_cause_and_what_is_ordered_is_not() {
        let event = |what| Event { upstream: "orders".into(), host: Some("h:1".into()), what };
        let why = Why::InARow(5);
        let period = Duration::from_secs(30);

        let change = change(&event(Happening::Ejected { why, period })).unwrap();

        assert_eq!(change.what, UpstreamEvent::Ejected);
        assert_eq!(change.cause.as_deref(), Some("ejected for 30s: 5 failures in a row"));
        assert_eq!((change.author, change.host.as_deref()), (Author::Agent, Some("h:1")));
        assert_eq!(super::change(&event(Happening::Ordered(Wish::Drain))), None);
    }
}
