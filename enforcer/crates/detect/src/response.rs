//! What can follow a finding: the rungs of the ladder.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Mode;

/// One rung: what is done, for how long, and whether it may be done unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// What is done.
    pub action: Action,
    /// For how long the first time; longer each time soon after. Automatic decisions always end.
    pub ttl: Duration,
    /// Whether it may be done unasked; none: as the rule says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// What can be done about a finding, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Operators are told.
    Notify,
    /// The limits of the route, or of the caller where the finding is about one, shrink to a share
    /// of themselves, in percent.
    Tighten(u8),
    /// The route asks for a stronger credential.
    RequireStronger,
    /// The incident level rises to this one.
    RaiseLevel(u8),
    /// The caller is refused at layer 7, and what it has open ends.
    DenyIdentity,
    /// The credential is refused at layer 7, and what it has open ends.
    DenyCredential,
    /// The TLS client is refused at layer 7.
    DenyFingerprint,
    /// The route answers 503.
    DisableRoute,
    /// The source is refused at layer 7, and left alone by the kernel: what is known only by a
    /// proxy's word is never dropped.
    DenySource,
    /// The host gets nothing more; its routes go on with the others.
    IsolateUpstream,
    /// The source is dropped in the kernel.
    Drop,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notify => f.write_str("notify"),
            Self::Tighten(percent) => write!(f, "tighten to {percent} %"),
            Self::RequireStronger => f.write_str("require stronger authentication"),
            Self::RaiseLevel(level) => write!(f, "raise the incident level to {level}"),
            Self::DenyIdentity => f.write_str("deny the identity"),
            Self::DenyCredential => f.write_str("deny the credential"),
            Self::DenyFingerprint => f.write_str("deny the TLS client"),
            Self::DisableRoute => f.write_str("disable the route"),
            Self::DenySource => f.write_str("refuse the source at layer 7"),
            Self::IsolateUpstream => f.write_str("isolate the upstream"),
            Self::Drop => f.write_str("drop the source"),
        }
    }
}
