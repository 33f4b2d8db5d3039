//! Who is told: what happened goes to the receivers that a policy names, each in its own form.
//!
//! [`Notifier::tell`] never waits. Nothing here is on the path of a request.

mod notice;
mod notifier;

pub use notice::{
    FACT_MAX, FACTS_MAX, Kind, Notice, Severity, TEXT_MAX, TITLE_MAX, UnknownKind, UnknownSeverity,
};
pub use notifier::{NOTICES_MAX, Notifier, Told};
