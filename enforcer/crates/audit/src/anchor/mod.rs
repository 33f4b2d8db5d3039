//! What others say about the log, so that its owner cannot say something else later.
//!
//! Witnesses cosign a checkpoint once they have seen that it continues the one before (C2SP
//! tlog-cosignature, tlog-witness); a policy says how many of them are enough (C2SP tlog-policy); a
//! timestamping authority says that a checkpoint existed (RFC 3161). The formats are here, and where
//! they are kept beside the log. Nothing here speaks to anybody: who submits and who answers is
//! built on it.

mod consistency;
mod cosignature;
mod der;
mod policy;
mod policy_file;
mod proof;
mod request;
mod store;
mod timestamp;
mod witnessed;

pub use consistency::{Inconsistent, verify_consistency};
pub use cosignature::{Cosigner, SignedNote, WitnessKey};
pub use policy::{Cosigned, Witness, WitnessPolicy};
pub use policy_file::{PolicyFault, PolicyProblem};
pub use request::{AddCheckpoint, REQUEST_BYTES_MAX, RequestError, SIZE_TYPE, parse_size};
pub use store::{ANCHORS_KEPT, Anchor, Anchors};
pub use timestamp::{Stamped, TOKEN_BYTES_MAX, TimestampError, TimestampRequest, read_timestamp};

pub(crate) use witnessed::Witnessed;
