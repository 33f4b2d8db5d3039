//! Who is told: what happened goes to the receivers that a policy names, each in its own form.
//!
//! [`Notifier::tell`] never waits. An [`Office`] keeps what it was told on disk until every receiver
//! that wants it has it: grouped, so that one incident is one message; as a digest when there is
//! too much; again and again where a receiver does not answer, and never beyond a bound. Nothing
//! here is on the path of a request.

mod backoff;
mod bundle;
mod connect;
mod deliver;
mod forms;
mod guard;
mod line;
mod notice;
mod notifier;
mod office;
mod post;
mod receiver;
mod roots;
mod signature;
mod store;
mod target;

pub use bundle::{Bundle, Counted, Digest, IncidentNews};
pub use deliver::{Courier, Outcome};
pub use guard::{Forbidden, PermitError, Permits};
pub use line::{PARCELS_DEAD_MAX, QUEUE_BYTES_MAX, QUEUE_MAX, Standing};
pub use notice::{
    FACT_MAX, FACTS_MAX, Kind, Notice, Severity, TEXT_MAX, TITLE_MAX, UnknownKind, UnknownSeverity,
};
pub use notifier::{NOTICES_MAX, Notifier, Told};
pub use office::{Event, Job, Office, Wake};
pub use receiver::{Facility, Form, Receiver, Routing, SyslogFormat, Token};
pub use roots::{Roots, RootsError};
pub use signature::{KeyError, SigningKey, signatures};
pub use store::{Store, StoreError};
pub use target::{Scheme, Target, TargetError};
