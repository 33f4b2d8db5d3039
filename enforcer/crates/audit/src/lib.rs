//! What happened, provably: a transparency log of every request, admin action and map change.
//!
//! Records are leaves of an RFC 6962 Merkle tree whose head is signed after each group of records
//! is on disk (C2SP tlog-tiles, tlog-checkpoint, signed-note), so that nobody has to believe this
//! program: `docs/audit-format.md` and a shell script suffice. [`Audit`] appends, [`Log`] reads
//! beside a running agent, [`verify()`] recomputes everything, [`Evidence`] is one record that
//! convinces somebody far away. It decides nothing, and knows neither proxy nor kernel.

mod record;
mod request;

mod anchor;
mod audit;
mod lend;
mod shared;
mod spill;
mod stored;
mod writer;

mod bundle;
mod case;
mod evidence;
mod formats;
pub mod index;
mod publish;
mod query;
mod read;
mod reading;
mod select;
mod term;
mod verify;

mod chain;
mod digits;
mod encode;
mod epoch;
mod files;
mod layout;
mod merkle;
mod note;
mod open;
mod operation;
mod prune;
mod sealing;
mod segment;
mod store;
mod store_error;
mod subject;
mod tail;
mod upkeep;

pub use anchor::{
    ANCHORS_KEPT, AddCheckpoint, Anchor, Anchors, Cosigned, Cosigner, Inconsistent, PolicyFault,
    PolicyProblem, REQUEST_BYTES_MAX, RequestError, SIZE_TYPE, SignedNote, Stamped,
    TOKEN_BYTES_MAX, TimestampError, TimestampRequest, Witness, WitnessKey, WitnessPolicy,
    parse_size, read_timestamp, verify_consistency,
};
pub use audit::{AppendError, Audit, Config, Full, Lost, Slot, State, Ticket};
pub use bundle::{
    BUNDLE_RECORDS_MAX, BundleError, BundleReport, Bundled, CheckError, Choice, Extras, Wanted,
    Witnessed, check_bundle,
};
pub use case::{DecisionChange, FoundRecord, IncidentChange, IncidentEvent, There, Whom};
pub use chain::ChainError;
pub use encode::Unnumbered;
pub use evidence::{Evidence, EvidenceError, Prover, VERIFY_SH, verify_evidence};
pub use files::FileError;
pub use formats::{CSV_COLUMNS, ECS_VERSION, Form, Formatter, OCSF_VERSION};
pub use lend::{Lender, Outlet};
pub use merkle::{HASH_BYTES, Hash, leaf_hash, node_hash, root_from_inclusion};
pub use note::{Checkpoint, KeyError, NoteError, OriginError, VerifierKey};
pub use open::{OpenError, Opened};
pub use operation::{
    CacheChange, CertificateChange, CertificateEvent, EndpointChange, EndpointEvent,
    UpstreamChange, UpstreamEvent,
};
pub use prune::{PruneError, Pruned, prunable, prune};
pub use query::{Condition, Order, Query, Search, Verdict};
pub use read::{DiskUsage, Log, ReadError, Records, SegmentInfo, Trail};
pub use record::{
    AdminAction, BlockChange, BlockEvent, ConfigChange, ConfigEvent, FindingMode, FindingRecord,
    Gap, GapReason, KernelCount, KernelSummary, KeyChange, Layer, ListChange, ListCounts,
    ListEvent, Outcome, Record,
};
pub use sealing::age::{AgeKeyError, Identity, RECIPIENTS_MAX, Recipient};
pub use segment::Fault;
pub use select::{Selector, SelectorError};
pub use shared::Health;
pub use spill::{SpillError, Spilled, keep_aside};
pub use stored::{Header, Stored};
pub use subject::{Erased, Erasing, Handle, Subject, Subjects, TableError, Vault, VaultError};
pub use upkeep::{ClockState, Erasure, Heartbeat, PruneRecord};
pub use verify::{Damage, Expected, Report, VerifyError, verify};
