//! The loop back: finished requests in, findings out, each handed on without waiting.

use std::sync::Arc;
use std::time::Duration;

use enforcer_audit::{Audit, FindingMode, FindingRecord, Record, Ticket};
use enforcer_detect::{Clients, Detector, Failure, Mode};
use enforcer_kernel::{Event, Events};
use enforcer_limits::Throttle;
use enforcer_model::{
    BlockId, Clock, Exchange, FailureCount, Failures, Finding, Prefix, RequestId,
};
use enforcer_policy::Policy;
use enforcer_proxy::{Observed, Observer};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use crate::desk::committed;
use crate::respond::{Offenders, Order, Step};

/// For the answer to the request that crossed the threshold, once its record is on disk, to be sent
/// before its connection is closed.
const LAST_ANSWER: Duration = Duration::from_millis(20);

/// A disk that takes longer does not keep a blocked source's connections open.
const LAST_RECORD: Duration = Duration::from_secs(1);

/// What stands for the policy's `[throttle]` in blocks and records.
const THROTTLE: &str = "throttle";

/// How often what is over is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// Hands every finished request on, or says that there was no room.
pub(crate) fn observer(finished: mpsc::Sender<Exchange>) -> Observer {
    Box::new(move |exchange| match finished.try_send(exchange.clone()) {
        Ok(()) => Observed::Seen,
        Err(_) => Observed::Dropped,
    })
}

/// Watches finished requests until the proxy is gone.
pub(crate) async fn watch(
    mut finished: mpsc::Receiver<Exchange>,
    mut policies: watch::Receiver<Arc<Policy>>,
    clients: Arc<Mutex<Clients>>,
    orders: mpsc::Sender<Order>,
    audit: Audit,
    clock: Arc<dyn Clock>,
) {
    let mut policy = Arc::clone(&policies.borrow_and_update());
    let mut detector = Detector::new(policy.rules());
    let mut offenders = Offenders::default();
    offenders.replace(policy.throttle());
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            exchange = finished.recv() => {
                let Some(exchange) = exchange else { return };
                let now = clock.now().monotonic;
                clients.lock().observe(&exchange, now);
                if let (Some(step), Some(plan)) =
                    (offenders.observe(&exchange, now), policy.throttle())
                {
                    throttle(step, exchange.id, plan, &orders, &audit);
                }
                let Some(failure) = Failure::from_exchange(&exchange, now) else { continue };
                for (finding, mode) in detector.observe(failure) {
                    respond(finding, mode, &orders, &audit);
                }
            }
            Ok(()) = policies.changed() => {
                policy = Arc::clone(&policies.borrow_and_update());
                detector.replace(policy.rules());
                offenders.replace(policy.throttle());
            }
            _ = housekeeping.tick() => {
                let now = clock.now().monotonic;
                detector.forget_old(now);
                offenders.forget_old(now);
                clients.lock().forget_old(now);
            }
        }
    }
}

/// Orders what becomes of a source that goes on though its limits refuse it, and records it.
fn throttle(
    step: Step,
    request: RequestId,
    plan: &Throttle,
    orders: &mpsc::Sender<Order>,
    audit: &Audit,
) {
    let finding = |target: Prefix, seen, window, ttl| Finding {
        rule: THROTTLE.to_owned(),
        target,
        failures: FailureCount { seen, window, of: Failures::Limits },
        ttl,
        evidence: vec![request],
    };
    match step {
        Step::Block { source, refusals, within, ttl } => {
            respond(finding(source, refusals, within, ttl), Mode::Auto, orders, audit);
        }
        Step::Lift { source } => {
            info!(%source, "several callers share a throttled source: its budget is everybody's again");
            // One that finds no room runs out by itself.
            let order = Order::Throttle { step, budget: plan.budget };
            orders.try_send(order).unwrap_or_default();
        }
        Step::Shrink { source, refusals, within, penalty } => {
            let order = Order::Throttle { step, budget: plan.budget };
            let outcome = match orders.try_send(order) {
                Ok(()) => format!("its packet budget is {} for {penalty:?}", plan.budget),
                Err(_) => "the responder was behind".to_owned(),
            };
            let finding = finding(source, refusals, within, penalty);
            drop(record(finding, Mode::Auto, Err(outcome), audit));
        }
    }
}

/// Orders the block, and records the finding once it is known what came of it.
fn respond(finding: Finding, mode: Mode, orders: &mpsc::Sender<Order>, audit: &Audit) {
    info!(rule = finding.rule, failures = %finding.failures, "finding");
    let answer = match mode {
        Mode::Observe => None,
        Mode::Auto => {
            let (reply, answer) = oneshot::channel();
            let order = Order::Answer { finding: finding.clone(), reply };
            // Recorded below as unanswered when the responder is that far behind.
            orders.try_send(order).unwrap_or_default();
            Some(answer)
        }
    };
    let (audit, orders) = (audit.clone(), orders.clone());
    tokio::task::spawn_local(async move {
        let outcome = match answer {
            None => Err("observe: it would have blocked".to_owned()),
            Some(answer) => {
                answer.await.unwrap_or_else(|_gone| Err("the responder was behind".to_owned()))
            }
        };
        let blocked = outcome.is_ok();
        let prefix = finding.target;
        let recorded = record(finding, mode, outcome, &audit);
        if blocked {
            // Records are committed in order: behind this one stands that of the request.
            if tokio::time::timeout(LAST_RECORD, committed(recorded)).await.is_ok() {
                tokio::time::sleep(LAST_ANSWER).await;
            }
            // A responder that is gone has nobody left to close.
            orders.send(Order::Close { prefix }).await.unwrap_or_default();
        }
    });
}

fn record(
    finding: Finding,
    mode: Mode,
    outcome: Result<BlockId, String>,
    audit: &Audit,
) -> Option<Ticket> {
    let (block, detail) = match outcome {
        Ok(id) => (Some(id), None),
        Err(why) => {
            info!(rule = finding.rule, why, "finding not answered by a block");
            (None, Some(why))
        }
    };
    let mode = match mode {
        Mode::Observe => FindingMode::Observe,
        Mode::Auto => FindingMode::Auto,
    };
    match audit.reserve() {
        Ok(slot) => {
            Some(slot.write(Record::Finding(FindingRecord { finding, mode, block, detail })))
        }
        Err(error) => {
            warn!(%error, "a finding is not on record");
            None
        }
    }
}

/// Tells what the kernel tells: the first drop of a block in a while, a budget that ran out.
pub(crate) async fn tell_kernel_events(mut events: Events) {
    while let Some(event) = events.next().await {
        match event {
            Event::Blocked { source, id, verdict, .. } => {
                debug!(%source, block = %id, %verdict, "first packet in a while met its block");
            }
            Event::BudgetExceeded { source, prefix, reason, verdict, .. } => {
                debug!(%source, %prefix, %reason, %verdict, "budget spent");
            }
            Event::Contained { destination, id, verdict, .. } => {
                debug!(%destination, block = %id, %verdict, "first packet in a while to a blocked peer");
            }
        }
    }
}
