//! What it means: failures in, findings out.
//!
//! Pure and single-owner: one task feeds [`Detector`] and reads its findings, nothing here touches a
//! socket, a clock or a map. Our own denials (quarantine, limits, overload) are never evidence, so a
//! block cannot feed itself. Memory is bounded by [`SOURCES_MAX`], twice for each rule,
//! and [`CLIENTS_MAX`].

mod clients;
mod detector;
mod rule;

pub use clients::{CLIENTS_MAX, Clients};
pub use detector::{Detector, EVIDENCE_MAX, Failure, SOURCES_MAX};
pub use rule::{Mode, Rule};
