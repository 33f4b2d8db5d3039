//! How much: every demand of a request is met, or none is taken.

mod limit;
mod table;

pub use limit::{By, Demand, Exceeded, Limit, Subject};
pub use table::Limits;
