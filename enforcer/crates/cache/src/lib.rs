//! May an old answer be used again: a shared cache after RFC 9111, kept in memory.

mod flight;
mod freshness;
mod kept;
mod key;
mod place;
mod plan;
mod store;
mod vary;

pub use key::{Digest, Scope, Target};
pub use plan::{Bounds, Plan};
pub use store::{Cache, RouteStats, Stats, What};
pub use vary::Fields;
