//! The words every part of enforcer shares: who, from where, when, why not.
//!
//! No behaviour beyond parsing and printing lives here, and nothing here does I/O. A type exists in
//! this crate when two organs need it; anything that only one organ needs stays with that organ.

mod case;
mod claims;
mod clock;
mod decision;
mod exchange;
mod exposed;
mod identity;
mod peer;
mod personal;
mod rejection;
mod source;
mod trace;
mod units;

pub use case::{CaseIdError, DecisionId, FindingId, IncidentId};
pub use claims::{Claims, Value};
pub use clock::{Clock, Moment, SystemClock, Timestamp, TimestampError};
pub use decision::{
    Author, Block, BlockId, BlockIdError, Expiry, FailureCount, Failures, Offence, Target,
    TargetError,
};
pub use exchange::{CacheUse, Exchange, HttpVersion, RequestId, RequestIdError, TlsVersion, Who};
pub use exposed::Exposed;
pub use identity::{
    CredentialKind, Fingerprint, FingerprintError, KeyId, KeyIdError, Principal, Role, Thumbprint,
    ThumbprintError,
};
pub use peer::{Peer, PeerError, SourceBy};
pub use personal::{PersonalKind, PersonalKindError};
pub use rejection::{Reason, Rejection};
pub use source::{Prefix, PrefixError, Source};
pub use trace::TraceId;
pub use units::{Bytes, PerSecond, Rate, UnitError};
