//! The words of the protocol, as JSON; the CLI prints the same structures with `-o json`.

use std::net::IpAddr;
use std::path::PathBuf;

use enforcer_model::{Block, BlockId, KeyId, Prefix, Role, Target, Timestamp};
use serde::{Deserialize, Serialize};

/// Longest call that an agent accepts: a policy of 1 MiB in JSON, with room.
pub const LINE_MAX: u64 = 8 << 20;

/// Longest answer that a caller accepts: some hundred thousand blocks.
pub const ANSWER_MAX: u64 = 256 << 20;

/// What an operator asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Call {
    /// How the agent is.
    Status,
    /// Shut somebody out.
    Quarantine(Quarantine),
    /// End one block.
    Release {
        /// By id or target.
        what: Which,
        /// For the record.
        reason: Option<String>,
    },
    /// Every block, read back from where it is enforced.
    Blocks,
    /// What would happen to a packet and a request from `address`.
    Why {
        /// Of the sender.
        address: IpAddr,
    },
    /// Compares store, kernel and layer 7.
    VerifyBlocks {
        /// Mend what differs.
        repair: bool,
    },
    /// Makes an API key.
    KeyIssue(KeyIssue),
    /// Every key.
    KeyList,
    /// One key by id or name.
    KeyShow {
        /// Id or name.
        which: String,
    },
    /// Ends one key.
    KeyRevoke {
        /// Id or name.
        which: String,
        /// For the record.
        reason: String,
    },
    /// Puts a policy in force: `text` replaces the agent's file, none reads the file again.
    PolicyApply {
        /// A whole policy file.
        text: Option<String>,
    },
}

/// A quarantine as asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quarantine {
    /// Whom.
    pub target: Target,
    /// For how long; none is for ever.
    pub ttl_seconds: Option<u64>,
    /// Why.
    pub reason: String,
    /// The target typed again by an operator who was warned.
    pub override_guard: Option<Target>,
    /// Say what would happen, do nothing.
    pub dry_run: bool,
    /// The peer of the operator's own SSH session.
    pub ssh_peer: Option<IpAddr>,
}

/// A block by its id or by whom it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// `B-7K2Q4XW`.
    Id(BlockId),
    /// `203.0.113.7`, `key:…`.
    Target(Target),
}

/// A key as asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyIssue {
    /// Unique name.
    pub name: String,
    /// Roles of the policy.
    pub roles: Vec<String>,
    /// Networks it may be used from; none means any.
    pub networks: Vec<Prefix>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// `enf_test_…` in place of `enf_live_…`.
    pub test: bool,
}

/// What the agent answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Call::Status`].
    Status(Box<Status>),
    /// To [`Call::Quarantine`].
    Blocked(Box<Blocked>),
    /// To [`Call::Release`].
    Released(Box<Released>),
    /// To [`Call::Blocks`].
    Blocks(Blocks),
    /// To [`Call::Why`].
    Why(Box<Why>),
    /// To [`Call::VerifyBlocks`].
    Verified(Verified),
    /// To [`Call::KeyIssue`].
    KeyIssued(Box<KeyIssued>),
    /// To [`Call::KeyList`].
    Keys(Keys),
    /// To [`Call::KeyShow`] and [`Call::KeyRevoke`].
    Key(Box<Key>),
    /// To [`Call::PolicyApply`].
    PolicyApplied(PolicyApplied),
}

/// Why a call was not done.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Decides the exit code.
    pub kind: RefusalKind,
    /// What happened, where, why.
    pub message: String,
    /// One line each.
    pub details: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}

/// The kinds of refusal that an operator's script can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// It was tried and failed.
    Failed,
    /// A guard protects the target.
    Guarded,
    /// There is no such thing.
    NotFound,
    /// The call itself is wrong.
    Usage,
}

/// A block that is in force, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Blocked {
    /// The decision.
    pub block: Block,
    /// An earlier block of the same target that this one replaced.
    pub replaced: Option<BlockId>,
    /// What the kernel map holds, read back; none for a key or when the kernel part is off.
    pub kernel: Option<InKernel>,
    /// Why the kernel does not enforce it, where one might expect that it did.
    pub kernel_off: Option<String>,
    /// Whether the policy has a kernel section, so that without it the block is a partial one.
    pub kernel_wanted: bool,
    /// Whether layer 7 refuses the target, read back.
    pub layer7: bool,
    /// Why the decision is not on disk, and would be forgotten by a restart of the machine.
    pub not_stored: Option<String>,
    /// Connections of the proxy that were closed.
    pub connections_closed: u64,
    /// Number of the audit record; none for a dry run.
    pub audit: Option<u64>,
    /// Whether this was a rehearsal.
    pub dry_run: bool,
    /// What the operator overrode.
    pub overridden: Vec<String>,
}

/// One entry of the kernel's block map.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InKernel {
    /// `eth1 xdp-native`, one for each attached interface.
    pub interfaces: Vec<String>,
    /// From the decision to the entry read back.
    pub applied_us: u64,
    /// Until it ends by itself; none is never.
    pub remaining_seconds: Option<u64>,
    /// Packets dropped by this entry.
    pub packets: u64,
    /// Bytes dropped by this entry.
    pub bytes: u64,
    /// Counts only, drops nothing.
    pub observe: bool,
}

/// A block that ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Released {
    /// The decision that ended.
    pub block: Block,
    /// Whether the kernel map still held it.
    pub kernel: bool,
    /// Packets it had dropped.
    pub packets: u64,
    /// Whether layer 7 still held it.
    pub layer7: bool,
    /// What did not work: a layer that may still hold it.
    pub problems: Vec<String>,
    /// Number of the audit record.
    pub audit: Option<u64>,
}

/// Every block.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Blocks {
    /// One each.
    pub blocks: Vec<BlockRow>,
}

/// One decision and its effects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BlockRow {
    /// The decision.
    #[serde(flatten)]
    pub block: Block,
    /// What the kernel holds.
    pub kernel: Option<InKernel>,
    /// Whether layer 7 refuses the target.
    pub layer7: bool,
}

/// The verdict on one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Why {
    /// Asked about.
    pub address: IpAddr,
    /// `pass`, `drop` (in the kernel) or `refuse` (at layer 7).
    pub verdict: String,
    /// In words.
    pub because: String,
    /// The lists that protect it.
    pub protected_by: Vec<String>,
    /// Every block that covers it.
    pub blocks: Vec<BlockRow>,
}

/// The outcome of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verified {
    /// Decisions in the store that are in force.
    pub decisions: u64,
    /// Entries in the kernel maps that have not expired.
    pub kernel_entries: u64,
    /// Entries at layer 7 that have not expired.
    pub layer7_entries: u64,
    /// One line for each difference that was found.
    pub differences: Vec<String>,
    /// One line for each that is left after mending; the same as `differences` without it.
    pub remaining: Vec<String>,
    /// Why the kernel could not be compared.
    pub kernel_off: Option<String>,
    /// Number of the audit record of a repair.
    pub audit: Option<u64>,
}

/// One API key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key {
    /// Public id.
    pub id: KeyId,
    /// Unique name.
    pub name: String,
    /// Roles of the policy.
    pub roles: Vec<Role>,
    /// Networks it may be used from; empty means any.
    pub networks: Vec<Prefix>,
    /// `active`, `expired`, `not yet valid` or `revoked`.
    pub state: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
    /// Why.
    pub revoked_because: Option<String>,
    /// Roles that the policy in force does not know.
    pub unknown_roles: Vec<Role>,
    /// Number of the audit record, where something was changed.
    pub audit: Option<u64>,
}

/// Every key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keys {
    /// One each.
    pub keys: Vec<Key>,
}

/// A fresh key with its secret, shown this once.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyIssued {
    /// The record.
    pub key: Key,
    /// The whole credential.
    pub credential: String,
    /// Number of the audit record.
    pub audit: Option<u64>,
}

/// A policy that is in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyApplied {
    /// The agent's policy file.
    pub file: PathBuf,
    /// Of the file's bytes, hex.
    pub sha256: String,
    /// Of the policy before.
    pub previous_sha256: String,
    /// How long checking and swapping took.
    pub took_us: u64,
    /// Sections that changed and wait for a restart.
    pub needs_restart: Vec<String>,
    /// Things that are legal and odd.
    pub warnings: Vec<String>,
    /// What of the policy is not in force, and why.
    pub problems: Vec<String>,
    /// Where the policy before is kept, to be applied again.
    pub previous: Option<PathBuf>,
    /// Number of the audit record.
    pub audit: Option<u64>,
}

/// How the agent is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Since it serves.
    pub uptime_seconds: u64,
    /// Policy in force.
    pub policy: PolicyStatus,
    /// One line each: `public 0.0.0.0:8443 tls`.
    pub listeners: Vec<String>,
    /// The kernel half.
    pub kernel: KernelStatus,
    /// Decisions in force.
    pub blocks: u64,
    /// Of the audit log.
    pub audit: AuditStatus,
    /// Counters of the proxy since the start, by name.
    pub requests: Vec<Counter>,
}

/// Policy in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Its file.
    pub file: PathBuf,
    /// Of the file's bytes, hex.
    pub sha256: String,
    /// Routes, roles, rules.
    pub summary: String,
}

/// The kernel half.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KernelStatus {
    /// `enforce`, `observe`, `off`.
    pub mode: String,
    /// Why it is off or weaker than the policy asks.
    pub problem: Option<String>,
    /// `eth1 xdp-native` each.
    pub interfaces: Vec<String>,
    /// SHA-256 of the embedded object.
    pub object: Option<String>,
    /// Packets by verdict and reason.
    pub packets: Vec<Counter>,
}

/// The audit log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditStatus {
    /// Where it lies.
    pub directory: PathBuf,
    /// Records under a signed checkpoint.
    pub records: u64,
    /// Root hash, hex.
    pub root: String,
    /// Why it does not take records.
    pub failed: Option<String>,
}

/// A named number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counter {
    /// What is counted.
    pub name: String,
    /// Since the start, or since the maps were made.
    pub count: u64,
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Target(target) => target.fmt(f),
        }
    }
}

impl Refusal {
    /// A refusal of `kind` without details.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), details: Vec::new(), hint: None }
    }

    /// The same with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with `details`.
    #[must_use]
    pub fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}

impl std::fmt::Debug for KeyIssued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyIssued").field("key", &self.key).finish_non_exhaustive()
    }
}
