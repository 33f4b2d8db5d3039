//! What it means: what happened in, findings out.
//!
//! Pure and single-owner: one task feeds it and reads its findings, nothing here touches a socket, a
//! clock or a map. Our own denials (quarantine, limits, overload) are never evidence, so a block
//! cannot feed itself. Every table has a bound, named beside it.

mod clients;
pub mod court;
mod detector;
mod entity;
mod event;
mod finding;
pub mod profile;
mod response;
mod rule;
pub mod rules;

pub use clients::{CLIENTS_MAX, Clients};
pub use detector::{Detector, EVIDENCE_MAX, Failure, SOURCES_MAX};
pub use entity::{Entity, EntityError};
pub use event::{Event, Packets, Request, object};
pub use finding::{Finding, SIGNALS_MAX, Scene, Signal};
pub use profile::{Aspect, ProfileView, Profiles};
pub use response::{Action, Response};
pub use rule::{Mode, Rule};
