//! May they: rules of a route become a [`Permit`], or nothing does.
//!
//! [`permit`] is the only maker of a [`Permit`], so whoever holds one holds a decision. What no rule
//! allows is refused. Role inclusion is resolved once, when a [`Rule`] is built; a request compares
//! names and computes nothing. [`Quarantine`] answers the earlier question: whom we do not serve at
//! all. Nothing here reads the clock, does I/O or knows how a caller was identified.

mod permit;
mod plan;
mod quarantine;
mod roles;

pub use permit::{NotAllowed, Permit, permit};
pub use plan::{Methods, Plan, Rule};
pub use quarantine::{Entry, Full, LeftOut, Listed, Networks, Quarantine, Shut};
pub use roles::{Roles, RolesError, UnknownRole};
