//! How much: every demand of a request is met, or none is taken.
//!
//! A [`Limit`] is a generic cell rate algorithm (GCRA): a bucket of `burst` requests that fills again
//! at `rate`. All buckets of all limits live in one table of a size fixed at the start, so that no
//! number of callers makes it grow. Nothing here reads the clock, waits, or takes a lock.
//!
//! The promise: of one bucket, between any two points in time that lie `t` apart, at most
//! `burst + rate × t` requests are admitted, on any number of threads, as long as the table did not
//! forget the bucket ([`Limits::lossy_evictions`] counts when it did). In the other direction
//! there is no exactness: under contention a request may be refused that could just have been
//! admitted.

mod gcra;
mod hash;
mod limit;
mod limits;
mod table;
#[cfg(test)]
mod tests;

pub use limit::{By, Demand, Exceeded, Limit, Subject};
pub use limits::Limits;
