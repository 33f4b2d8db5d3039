//! Requests that nobody sent: what a policy would answer, and whether that is what was expected.
//!
//! A [`Request`] is one sentence. It takes the way of a real one: the same strict reading of its head,
//! the same router, the same decision; only the credential is believed instead of checked. [`run`]
//! runs a policy's own `[[test]]` entries, [`judge`] says of one request everything that led to its
//! answer, [`Past`] is a request of the audit log.

mod caller;
mod expect;
mod judge;
mod past;
mod request;
mod run;
mod words;

pub use expect::{Expected, ExpectedError};
pub use judge::{Ambiguous, Charge, Judgement, Verdict, judge};
pub use past::{Past, PastError, Replayed};
pub use request::{Proofs, Request, SentenceError};
pub use run::{CaseReport, Coverage, Report, run};
