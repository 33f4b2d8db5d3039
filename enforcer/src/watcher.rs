//! The loop back: finished requests in, findings out, each handed on without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use enforcer_audit::{Audit, FindingMode, FindingRecord, Record, Ticket};
use enforcer_detect::{Clients, Detector, Failure, Mode, Packets};
use enforcer_limits::Throttle;
use enforcer_model::{BlockId, Clock, Exchange, FailureCount, Failures, Offence, Prefix, Target};
use enforcer_policy::Policy;
use enforcer_proxy::{Observed, Observer};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::desk::committed;
use crate::detection::{Detection, Outcome};
use crate::handover::{Loan, Returned};
use crate::incidents::Asked;
use crate::profiles::ProfilesAsk;
use crate::respond::{Offenders, Order, Step};
use crate::rules::RulesAsk;

/// For the answer to the request that crossed the threshold, once its record is on disk, to be sent
/// before its connection is closed.
const LAST_ANSWER: Duration = Duration::from_millis(20);

/// A disk that takes longer does not keep a blocked source's connections open.
const LAST_RECORD: Duration = Duration::from_secs(1);

/// Finished requests that may wait for detection.
const FINISHED_MAX: usize = 8_192;

/// Requests that are looked at together: what is kept of whom comes from memory for all at once.
const TOGETHER: usize = 32;

/// What is known of a client may be this old when an operator asks.
const MOMENT: Duration = Duration::from_millis(4);

/// What stands for the policy's `[throttle]` in blocks and records.
const THROTTLE: &str = "throttle";

/// How often what is decided is looked at for its end.
const TICK: Duration = Duration::from_millis(100);

/// How often what is over is forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// Finished requests on their way to detection.
///
/// One that nothing was wrong with waits [`MOMENT`] for others: to wake another thread for each
/// costs more than all that is done with it. One that was refused is looked at at once. When
/// [`FINISHED_MAX`] wait, the next ones are dropped and counted.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    waiting: Mutex<Vec<Arc<Exchange>>>,
    some: Notify,
    urgent: Notify,
    ended: AtomicBool,
}

/// Where requests come from; once it is dropped there are no more.
struct Arrivals(Arc<Finished>);

impl Finished {
    /// What the observer has seen.
    pub(crate) fn new() -> (Arc<Self>, Observer) {
        let finished = Arc::<Self>::default();
        let arrivals = Arrivals(Arc::clone(&finished));
        (finished, Box::new(move |exchange| arrivals.0.take(exchange)))
    }

    fn take(&self, exchange: &Arc<Exchange>) -> Observed {
        let mut waiting = self.waiting.lock();
        let before = waiting.len();
        if before >= FINISHED_MAX {
            return Observed::Dropped;
        }
        waiting.push(Arc::clone(exchange));
        drop(waiting);
        if before == 0 {
            self.some.notify_one();
        }
        if exchange.reason.is_some() || before == FINISHED_MAX / 2 {
            self.urgent.notify_one();
        }
        Observed::Seen
    }

    /// Moves what waits to `into`, which is empty; none when there will be no more.
    ///
    /// Whoever stops waiting loses nothing.
    async fn next(&self, into: &mut Vec<Arc<Exchange>>) -> Option<()> {
        while self.waiting.lock().is_empty() {
            if self.ended.load(Ordering::Acquire) {
                return None;
            }
            self.some.notified().await;
        }
        if !self.ended.load(Ordering::Acquire) {
            // Whichever of the two comes first.
            timeout(MOMENT, self.urgent.notified()).await.unwrap_or_default();
        }
        std::mem::swap(&mut *self.waiting.lock(), into);
        Some(())
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.some.notify_one();
        self.0.urgent.notify_one();
    }
}

/// What reaches the watcher beside finished requests.
pub(crate) struct Wires {
    /// Packets that the kernel dropped for their source's budget.
    pub(crate) packets: mpsc::Receiver<Packets>,
    /// What came of decisions.
    pub(crate) outcomes: mpsc::Receiver<Outcome>,
    /// Operators' orders about incidents.
    pub(crate) cases: mpsc::Receiver<Asked>,
    /// Operators' questions about rules.
    pub(crate) rules: mpsc::Receiver<RulesAsk>,
    /// Operators' questions about profiles.
    pub(crate) profiles: mpsc::Receiver<ProfilesAsk>,
    /// A successor wants to decide from here on: two agents with one set of incidents would contradict
    /// each other.
    pub(crate) loans: mpsc::Receiver<Loan>,
}

/// What the watcher reads and writes.
pub(crate) struct Means {
    pub(crate) policies: watch::Receiver<Arc<Policy>>,
    pub(crate) clients: Arc<Mutex<Clients>>,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) audit: Audit,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Watches finished requests until the proxy is gone.
pub(crate) async fn watch(
    finished: Arc<Finished>,
    detection: Detection,
    mut wires: Wires,
    means: Means,
) {
    let Means { mut policies, clients, orders, audit, clock } = means;
    let mut policy = Arc::clone(&policies.borrow_and_update());
    let mut detector = Detector::new(policy.rules());
    let mut offenders = Offenders::default();
    offenders.replace(policy.throttle());
    let mut batch = Vec::new();
    let mut housekeeping = interval(HOUSEKEEPING);
    let mut ticks = interval(TICK);
    let mut detection = Some(detection);
    let mut lent = None;
    loop {
        tokio::select! {
            more = finished.next(&mut batch) => {
                let Some(()) = more else { return };
                let now = clock.now().monotonic;
                let mut clients = clients.lock();
                batch.iter().for_each(|exchange| clients.observe(exchange, now));
                drop(clients);
                for some in batch.chunks(TOGETHER) {
                    if let Some(detection) = &mut detection {
                        detection.requests(some, now);
                    }
                    for exchange in some {
                        if let (Some(step), Some(plan)) =
                            (offenders.observe(exchange, now), policy.throttle())
                        {
                            throttle(step, exchange, plan, &orders, &audit);
                        }
                        let failure = Failure::from_exchange(exchange, now);
                        for (finding, mode) in failure.into_iter().flat_map(|one| detector.observe(one)) {
                            respond(finding, mode, &orders, &audit);
                        }
                    }
                }
                batch.clear();
            }
            // While it is lent they wait: what came of a deed must not be lost if no successor comes.
            Some(outcome) = wires.outcomes.recv(), if lent.is_none() => {
                if let Some(detection) = &mut detection {
                    detection.came(outcome, clock.now().monotonic);
                }
            }
            Some(packets) = wires.packets.recv() => {
                if let Some(detection) = &mut detection {
                    detection.packets(packets);
                }
            }
            Some(asked) = wires.cases.recv() => {
                if let Some(detection) = &mut detection {
                    detection.answer(asked, clock.now().monotonic);
                }
            }
            Some(ask) = wires.rules.recv() => {
                if let Some(detection) = &mut detection {
                    detection.answer_rules(ask);
                }
            }
            Some(ask) = wires.profiles.recv() => {
                if let Some(detection) = &mut detection {
                    detection.answer_profiles(ask, clock.now().monotonic);
                }
            }
            Ok(()) = policies.changed() => {
                policy = Arc::clone(&policies.borrow_and_update());
                detector.replace(policy.rules());
                offenders.replace(policy.throttle());
                if let Some(detection) = &mut detection {
                    detection.replace(&policy);
                }
            }
            _ = ticks.tick() => {
                if let Some(detection) = &mut detection {
                    detection.tick(clock.now().monotonic);
                }
            }
            Some(Loan { lent: said, back }) = wires.loans.recv() => {
                if let Some(mut own) = detection.take() {
                    own.let_go();
                    lent = Some((own, back));
                }
                // Whoever asked may be gone, and then it comes back.
                said.send(Ok(())).unwrap_or_default();
            }
            returned = returned(&mut lent), if lent.is_some() => {
                if let (Some((mut own, _)), Returned::Back) = (lent.take(), returned) {
                    own.take_back();
                    detection = Some(own);
                }
            }
            _ = housekeeping.tick() => {
                let now = clock.now().monotonic;
                detector.forget_old(now);
                offenders.forget_old(now);
                if let Some(detection) = &mut detection {
                    detection.forget_old(now);
                }
                clients.lock().forget_old(now);
            }
        }
    }
}

/// What becomes of detection that was lent.
async fn returned(lent: &mut Option<(Detection, oneshot::Receiver<Returned>)>) -> Returned {
    match lent {
        Some((_, back)) => back.await.unwrap_or(Returned::Never),
        None => std::future::pending().await,
    }
}

fn interval(every: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    interval
}

/// Orders what becomes of a source that goes on though its limits refuse it, and records it.
fn throttle(
    step: Step,
    exchange: &Exchange,
    plan: &Throttle,
    orders: &mpsc::Sender<Order>,
    audit: &Audit,
) {
    let finding = |target: Prefix, seen, window, ttl| Offence {
        rule: THROTTLE.to_owned(),
        target,
        through: exchange.through(),
        failures: FailureCount { seen, window, of: Failures::Limits },
        ttl,
        evidence: vec![exchange.id],
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
            if let Some(proxy) = exchange.through() {
                let why = format!("layer 7 only: came through {proxy}");
                let finding = finding(source, refusals, within, penalty);
                return drop(record(finding, Mode::Auto, Err(why), audit));
            }
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
fn respond(finding: Offence, mode: Mode, orders: &mpsc::Sender<Order>, audit: &Audit) {
    info!(rule = finding.rule, failures = %finding.failures, "finding");
    let answer = match mode {
        // No `[[rule]]` asks for approval: its policy key has two words.
        Mode::Observe | Mode::Approve => None,
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
        let target = Target::Network(finding.target);
        let recorded = record(finding, mode, outcome, &audit);
        if blocked {
            // Records are committed in order: behind this one stands that of the request.
            if timeout(LAST_RECORD, committed(recorded)).await.is_ok() {
                tokio::time::sleep(LAST_ANSWER).await;
            }
            // A responder that is gone has nobody left to close.
            orders.send(Order::Close { target }).await.unwrap_or_default();
        }
    });
}

/// Orders the blocks for what a predecessor still finds.
pub(crate) async fn answer(
    mut found: mpsc::Receiver<Offence>,
    orders: mpsc::Sender<Order>,
    audit: Audit,
) {
    while let Some(finding) = found.recv().await {
        respond(finding, Mode::Auto, &orders, &audit);
    }
}

fn record(
    finding: Offence,
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
        Mode::Observe | Mode::Approve => FindingMode::Observe,
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
