//! How much: every demand of a request is met, or none is taken.
//!
//! A [`Limit`] is a rate (a generic cell rate algorithm, GCRA: a bucket of `burst` requests that
//! fills again at `rate`), a quota of the calendar, or a number of requests at once. All buckets of
//! all rates live in one table of a size fixed at the start, so that no number of callers makes it
//! grow; the tables of quotas and of requests under way are bounded and refuse when full. Nothing
//! here reads the clock.
//!
//! The promise: of one bucket, between any two points in time that lie `t` apart, at most
//! `burst + rate × t` requests are admitted, on any number of threads, as long as the table did not
//! forget the bucket ([`Limits::lossy_evictions`] counts when it did). In the other direction
//! there is no exactness: under contention a request may be refused that could just have been
//! admitted. Costs that are known only afterwards (bytes of answers) are charged then, as a debt.

mod concurrent;
mod consumers;
mod cost;
mod exceeded;
mod gate;
mod gcra;
mod hash;
mod headers;
mod limit;
mod limits;
mod overrides;
mod payer;
mod period;
mod quota;
mod table;
mod take;
mod taken;
#[cfg(test)]
mod tests;
mod throttle;

pub use consumers::Consumer;
pub use cost::{Allotment, AllotmentError, Cost, CostError, Side};
pub use exceeded::{Exceeded, Unavailable, Why};
pub use gate::{Class, Entered, GatePlan, Rank};
pub use headers::{Headers, Level, Unit, headers};
pub use limit::{By, Durability, Kind, Limit, Stage, When};
pub use limits::{DEMANDS_MAX, Limits, Occupancy, Standing};
pub use overrides::{OVERRIDES_MAX, Override, TooManyOverrides};
pub use payer::{Demand, Factor, Payer, Subject};
pub use period::Period;
pub use quota::{QuotaKeeper, QuotaLevel, QuotaSpent, QuotaStore, QuotaStoreError, RememberError};
pub use taken::Taken;
pub use throttle::Throttle;
