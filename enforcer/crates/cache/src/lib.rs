//! May an old answer be used again: a shared cache after RFC 9111, kept in memory.
//!
//! [`Cache::find`] answers a request from what is kept, or says who asks the upstream: an
//! [`Errand`], which then hears the answer and says what becomes of it. Nobody comes here who was
//! not allowed to ask the upstream; what is kept under a caller's [`Scope`] is never used for
//! another.
//!
//! The head is judged here and nowhere else, by what the RFC says and, in doubt, against keeping.
//! No I/O, and time is passed in, but for waiting on another request.

mod answer;
mod changed;
mod conditions;
mod date;
mod directives;
mod errand;
mod fill;
mod flight;
mod freshness;
mod judge;
mod kept;
mod key;
mod look;
mod place;
mod plan;
mod store;
mod structured;
#[cfg(test)]
mod tests;
mod vary;

pub use answer::Answer;
pub use errand::{Errand, Heard, Length, may_change};
pub use fill::Fill;
pub use key::{Digest, Scope, Target};
pub use look::{Asked, Found};
pub use plan::{Bounds, Plan};
pub use store::{Cache, RouteStats, Stats, What};
pub use vary::Fields;
