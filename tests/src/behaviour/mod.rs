//! A made-up company under made-up attack, to measure what detection by behaviour finds.
//!
//! Everything follows from a seed. Seeds for tuning and seeds for measuring are two different sets: a
//! figure that was tuned for is no figure.

mod attack;
mod chance;
mod deed;
mod measure;
mod rivals;
pub mod speed;
mod world;

pub use attack::{Attack, campaign};
pub use chance::Chance;
pub use deed::{Deed, Texts};
pub use measure::{Found, Judge, RATES, Verdict, found, judge};
pub use world::{FIRST_DAY, Person, ROLES, World};

/// Seeds that may be looked at while something is changed.
pub const TUNING: [u64; 4] = [11, 12, 13, 14];
/// Seeds that figures are told of.
pub const MEASURING: [u64; 6] = [901, 902, 903, 904, 905, 906];
