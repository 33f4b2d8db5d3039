//! One request's demands: looked at together, charged one by one, undone together.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Moment, Timestamp};
use tokio::sync::oneshot;

use crate::concurrent::NoRoom;
use crate::consumers::Outcome;
use crate::cost::Price;
use crate::gcra::{Draw, Gcra};
use crate::quota::{Slot, Spent, Terms, Unspent};
use crate::table::Charge;
use crate::taken::{Debt, Owed};
use crate::{
    By, Cost, DEMANDS_MAX, Demand, Exceeded, Kind, Level, Limit, Limits, Standing, Taken,
    Unavailable, Unit, Why,
};

/// Why a request does not go on.
#[derive(Debug)]
pub(crate) enum Halt {
    Exceeded(Box<Exceeded>),
    Lease(Lease),
}

/// A strict quota waits for the disk.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) limit: Arc<str>,
    pub(crate) by: By,
    pub(crate) written: oneshot::Receiver<()>,
}

/// A demand, looked up.
enum Line {
    Bucket { name: u64, gcra: Gcra, draw: Draw, price: Price },
    Concurrent { name: u64, most: u32 },
    Quota { name: u64, slot: Arc<Slot>, terms: Terms, price: Price },
}

/// What has been done for a line.
#[derive(Default)]
enum Done<'a> {
    #[default]
    Nothing,
    Charged(Charge<'a>),
    Entered,
    Spent(Spent),
}

/// Why a line cannot be done.
enum Refusal {
    After(Duration, Why),
    Lease(oneshot::Receiver<()>),
}

/// When it is worth asking again for what depends on others alone.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) fn all_or_none(
    limits: &Arc<Limits>,
    demands: &[Demand<'_>],
    now: Moment,
) -> Result<Taken, Halt> {
    // Room on the stack for as many as there are, roughly: most requests have one or two.
    match demands.len() {
        0 => Ok(Taken::default()),
        1 => take::<1>(limits, demands, now),
        2..=4 => take::<4>(limits, demands, now),
        5..=DEMANDS_MAX => take::<DEMANDS_MAX>(limits, demands, now),
        _ => {
            let why = Why::Unavailable(Unavailable::Demands);
            let limit = demands.first().map(|demand| Arc::clone(demand.limit.name()));
            Err(Halt::Exceeded(Box::new(Exceeded {
                limit: limit.unwrap_or_default(),
                by: None,
                why,
                retry_after: RETRY,
                level: None,
            })))
        }
    }
}

fn take<const N: usize>(
    limits: &Arc<Limits>,
    demands: &[Demand<'_>],
    now: Moment,
) -> Result<Taken, Halt> {
    let now_ns = limits.since_origin_ns(now.monotonic);
    let mut lines = [const { None::<Line> }; N];
    for (line, demand) in lines.iter_mut().zip(demands) {
        match Line::of(limits, demand, now.wall) {
            Ok(found) => *line = Some(found),
            Err(refusal) => return Err(refusal.halt(demand, None, limits, now)),
        }
    }
    let lines = || lines.iter().flatten().zip(demands);
    // One demand alone is charged or refused in one step; of several, all are looked at first.
    if demands.len() > 1 {
        let waits = lines().filter_map(|(line, demand)| {
            let (wait, why) = line.wait(limits, now_ns, now.wall)?;
            Some((wait, why, line, demand))
        });
        if let Some((wait, why, line, demand)) = waits.max_by_key(|(wait, ..)| *wait) {
            let name = line.name();
            note(limits, name, demand, Outcome::Refused, now_ns);
            return Err(Refusal::After(wait, why).halt(demand, Some(line), limits, now));
        }
    }
    let mut done = [const { Done::Nothing }; N];
    for (at, (line, demand)) in lines().enumerate() {
        match line.charge(limits, now_ns, now.wall) {
            Ok(charged) => {
                if let Some(done) = done.get_mut(at) {
                    *done = charged;
                }
            }
            Err(refusal) => {
                // Backwards: of two draws on one bucket the later one must be undone first.
                for ((line, _), done) in lines().zip(done).collect::<Vec<_>>().into_iter().rev() {
                    line.undo(limits, done);
                }
                note(limits, line.name(), demand, Outcome::Refused, now_ns);
                return Err(refusal.halt(demand, Some(line), limits, now));
            }
        }
    }
    let mut taken = Taken::default();
    for ((line, demand), done) in lines().zip(done) {
        note(limits, line.name(), demand, Outcome::Admitted, now_ns);
        if demand.limit.shows_headers() {
            taken.tell(line.level(demand, limits, now));
        }
        if let Some(owed) = line.owed(demand.limit, done) {
            taken.owe(limits, owed, now);
        }
    }
    Ok(taken)
}

/// Where a limit stands for a subject.
pub(crate) fn standing(limits: &Limits, demand: &Demand<'_>, now: Moment) -> Standing {
    let limit = demand.limit;
    let kind = limits.kind_of(limit, now.wall).unwrap_or(limit.kind());
    let name = limits.seed.bucket(limit, &demand.subject);
    let now_ns = limits.since_origin_ns(now.monotonic);
    match kind {
        Kind::Concurrent(_) => {
            let used = limits.concurrency.under_way(name).into();
            Standing { kind, used, full_in: None }
        }
        Kind::Quota { .. } => {
            let terms = terms(kind, limit.cost());
            let level = terms.and_then(|terms| {
                let (name, subject) = (limit.name(), &demand.subject);
                let bucket = limits.seed.bucket(limit, subject);
                limits.quotas().level(bucket, name, subject, terms, now.wall)
            });
            let used = level.as_ref().map_or(0, |level| level.used);
            Standing { kind, used, full_in: level.map(|level| level.ends.since(now.wall)) }
        }
        Kind::Rate { rate, burst } => {
            let gcra = Gcra::of(rate, burst);
            let ahead_ns = limits.table.full_at_ns(name).saturating_sub(now_ns);
            let used = ahead_ns.div_ceil(gcra.interval_ns().max(1));
            Standing { kind, used, full_in: Some(Duration::from_nanos(ahead_ns)) }
        }
    }
}

impl Line {
    fn of(limits: &Limits, demand: &Demand<'_>, now: Timestamp) -> Result<Self, Refusal> {
        let limit = demand.limit;
        let name = limits.seed.bucket(limit, &demand.subject);
        let over = limits.kind_of(limit, now);
        let price = limit.cost().price(demand.body);
        match over.unwrap_or(limit.kind()) {
            Kind::Concurrent(most) => Ok(Self::Concurrent { name, most: most.get() }),
            Kind::Rate { rate, burst } => {
                let gcra = if over.is_some() { Gcra::of(rate, burst) } else { limit.gcra };
                let cost = match price {
                    Price::Known(cost) => cost,
                    Price::Later(_) => 1,
                };
                let draw = gcra.draw(cost, limit.cost().scale(), demand.factor);
                let draw = draw.map_err(|wait| Refusal::After(wait, Why::Rate))?;
                Ok(Self::Bucket { name, gcra, draw, price })
            }
            kind @ Kind::Quota { .. } => {
                let full = || Refusal::After(RETRY, Why::Unavailable(Unavailable::Full));
                let terms = terms(kind, limit.cost()).ok_or_else(full)?;
                let (limit, subject) = (limit.name(), &demand.subject);
                let slot = limits.quotas().slot(name, limit, subject, terms, now);
                Ok(Self::Quota { name, slot: slot.ok_or_else(full)?, terms, price })
            }
        }
    }

    const fn name(&self) -> u64 {
        match self {
            Self::Bucket { name, .. }
            | Self::Concurrent { name, .. }
            | Self::Quota { name, .. } => *name,
        }
    }

    /// How long to wait, if anything has to be waited for. Takes nothing.
    fn wait(&self, limits: &Limits, now_ns: u64, now: Timestamp) -> Option<(Duration, Why)> {
        match self {
            Self::Bucket { name, draw, price, .. } => {
                let full_at_ns = limits.table.full_at_ns(*name);
                let wait = match price {
                    Price::Known(_) => draw.admit(full_at_ns, now_ns).err(),
                    Price::Later(_) => draw.admit_unpriced(full_at_ns, now_ns).err(),
                };
                wait.map(|wait| (wait, Why::Rate))
            }
            Self::Concurrent { name, most } => {
                (limits.concurrency.under_way(*name) >= *most).then_some((RETRY, Why::Concurrent))
            }
            Self::Quota { slot, terms, price, .. } => {
                let (left, span) = slot.left(*terms, now);
                let least = match price {
                    Price::Known(cost) => *cost,
                    Price::Later(_) => 1,
                };
                (least > left).then(|| (span.left(now), Why::Quota))
            }
        }
    }

    fn charge<'a>(
        &self,
        limits: &'a Limits,
        now_ns: u64,
        now: Timestamp,
    ) -> Result<Done<'a>, Refusal> {
        match self {
            Self::Bucket { name, draw, price: Price::Known(_), .. } => {
                let charged = limits.table.charge(*name, *draw, now_ns);
                charged.map(Done::Charged).map_err(|wait| Refusal::After(wait, Why::Rate))
            }
            Self::Bucket { name, draw, price: Price::Later(_), .. } => {
                let asked = draw.admit_unpriced(limits.table.full_at_ns(*name), now_ns);
                asked.map(|()| Done::Nothing).map_err(|wait| Refusal::After(wait, Why::Rate))
            }
            Self::Concurrent { name, most } => match limits.concurrency.enter(*name, *most) {
                Ok(_) => Ok(Done::Entered),
                Err(NoRoom::Reached) => Err(Refusal::After(RETRY, Why::Concurrent)),
                Err(NoRoom::Full) => {
                    Err(Refusal::After(RETRY, Why::Unavailable(Unavailable::Full)))
                }
            },
            Self::Quota { slot, terms, price, .. } => {
                let cost = match price {
                    Price::Known(cost) => Some(*cost),
                    Price::Later(_) => None,
                };
                match limits.quotas().spend(slot, *terms, cost, now) {
                    Ok(spent) => Ok(Done::Spent(spent)),
                    Err(Unspent::Used(wait)) => Err(Refusal::After(wait, Why::Quota)),
                    Err(Unspent::Waiting(written)) => Err(Refusal::Lease(written)),
                    Err(Unspent::Unwritten) => {
                        Err(Refusal::After(RETRY, Why::Unavailable(Unavailable::Unwritten)))
                    }
                }
            }
        }
    }

    fn undo(&self, limits: &Limits, done: Done<'_>) {
        match (self, done) {
            (_, Done::Charged(charge)) => charge.take_back(),
            (Self::Concurrent { name, .. }, Done::Entered) => limits.concurrency.leave(*name),
            (Self::Quota { slot, .. }, Done::Spent(spent)) => slot.give_back(spent),
            (_, Done::Nothing | Done::Entered | Done::Spent(_)) => {}
        }
    }

    /// What is settled, or ends, with the request.
    fn owed(&self, limit: &Limit, done: Done<'_>) -> Option<Owed> {
        match (self, done) {
            (Self::Bucket { name, gcra, price: Price::Later(side), .. }, _) => {
                let scale = limit.cost().scale();
                Some(Owed::Debt(*side, Debt::Bucket { name: *name, gcra: *gcra, scale }))
            }
            (Self::Concurrent { name, .. }, Done::Entered) => Some(Owed::Place(*name)),
            (Self::Quota { slot, price: Price::Later(side), .. }, Done::Spent(spent)) => {
                let slot = Arc::clone(slot);
                Some(Owed::Debt(*side, Debt::Quota { slot, spent }))
            }
            (Self::Bucket { .. } | Self::Concurrent { .. } | Self::Quota { .. }, _) => None,
        }
    }

    fn level(&self, demand: &Demand<'_>, limits: &Limits, now: Moment) -> Level {
        let (limit, cost) = (Arc::clone(demand.limit.name()), demand.limit.cost());
        let scale = cost.scale();
        let unit = match cost {
            Cost::Bytes { .. } => Unit::ContentBytes,
            Cost::Weight(_) => Unit::Requests,
        };
        match self {
            Self::Bucket { name, gcra, .. } => {
                let now_ns = limits.since_origin_ns(now.monotonic);
                let ahead_ns = limits.table.full_at_ns(*name).saturating_sub(now_ns);
                // What a unit costs while the incident lasts; without a rate nothing is left.
                let unit_ns =
                    gcra.draw(scale, scale, demand.factor).map_or(u64::MAX, |draw| draw.cost_ns);
                let units = |ns: u64| (ns / unit_ns.max(1)).saturating_mul(scale);
                Level {
                    limit,
                    unit,
                    quota: units(gcra.burst_ns()),
                    window: Some(Duration::from_nanos(gcra.burst_ns())),
                    remaining: units(gcra.burst_ns().saturating_sub(ahead_ns)),
                    reset: Duration::from_nanos(ahead_ns),
                }
            }
            Self::Concurrent { name, most } => Level {
                limit,
                unit: Unit::ConcurrentRequests,
                quota: (*most).into(),
                window: None,
                remaining: most.saturating_sub(limits.concurrency.under_way(*name)).into(),
                reset: Duration::ZERO,
            },
            Self::Quota { slot, terms, .. } => {
                let (remaining, span) = slot.left(*terms, now.wall);
                Level {
                    limit,
                    unit,
                    quota: terms.amount,
                    window: Some(terms.period.length()),
                    remaining,
                    reset: span.left(now.wall),
                }
            }
        }
    }
}

impl Refusal {
    fn halt(self, demand: &Demand<'_>, line: Option<&Line>, limits: &Limits, now: Moment) -> Halt {
        let limit = Arc::clone(demand.limit.name());
        let by = demand.limit.by().clone();
        match self {
            Self::Lease(written) => Halt::Lease(Lease { limit, by, written }),
            Self::After(retry_after, why) => {
                let level = line.filter(|_| demand.limit.shows_headers());
                let level = level.map(|line| Box::new(line.level(demand, limits, now)));
                Halt::Exceeded(Box::new(Exceeded { limit, by: Some(by), why, retry_after, level }))
            }
        }
    }
}

fn note(limits: &Limits, name: u64, demand: &Demand<'_>, outcome: Outcome, now_ns: u64) {
    limits.consumers.note(name, demand.limit.name(), &demand.subject, outcome, now_ns);
}

/// A quota in smallest units.
fn terms(kind: Kind, cost: Cost) -> Option<Terms> {
    match kind {
        Kind::Quota { amount, period, durability } => {
            let amount = amount.get().saturating_mul(cost.scale());
            Some(Terms { amount, period, durability })
        }
        Kind::Concurrent(_) | Kind::Rate { .. } => None,
    }
}
