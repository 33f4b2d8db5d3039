//! What can be written down: one variant per class of record.
//!
//! A record says what happened in words that are safe to keep: no credential, cookie or body ever
//! gets here. Its bytes are canonical JSON, fixed by the order of the fields below; text that a
//! client or an operator chose is cut, with a mark that tells how much is missing, so that every
//! record fits an entry of the log.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Author, Block, BlockId, Exchange, Expiry, Offence, Timestamp, Who};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::case::{DecisionChange, FoundRecord, IncidentChange};
use crate::index::Statement;
use crate::operation::{CacheChange, CertificateChange, EndpointChange, UpstreamChange};
use crate::subject::Subjects;
use crate::upkeep::{Erasure, Heartbeat, PruneRecord};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Record {
    /// A request and its answer.
    Http(Arc<Exchange>),
    /// An operator asked for something.
    Admin(AdminAction),
    /// A block came, went, or was refused.
    Block(BlockChange),
    /// What enforces, or by which policy, changed.
    Config(ConfigChange),
    /// A detection rule reached its threshold.
    Finding(FindingRecord),
    /// A rule or a profile found something, as part of an incident.
    Found(Box<FoundRecord>),
    /// An incident began or is over.
    Incident(Box<IncidentChange>),
    /// A decision came about, or changed its state.
    Decision(Box<DecisionChange>),
    /// What the kernel did to packets since the last summary.
    KernelSummary(KernelSummary),
    /// A list of networks came, went, or was refused.
    List(Box<ListChange>),
    /// An endpoint was disabled, tightened, or given back.
    Endpoint(Box<EndpointChange>),
    /// An upstream, or a host of one, was changed or changed by itself.
    Upstream(Box<UpstreamChange>),
    /// A certificate was replaced, was not, or nears its end.
    Certificate(Box<CertificateChange>),
    /// Answers were taken out of the cache.
    Cache(CacheChange),
    /// Personal data was erased.
    Erasure(Erasure),
    /// The log gets another key for what follows.
    Key(KeyChange),
    /// Records are missing here, and this many.
    Gap(Gap),
    /// The log lives, and how its clock does.
    Heartbeat(Heartbeat),
    /// Old segments are removed.
    Prune(PruneRecord),
    /// What the handles of the records that follow stand for.
    Subject(Subjects),
    /// A segment was closed and indexed.
    Segment(Box<Statement>),
}

/// What an operator asked for, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdminAction {
    /// Who asked, by the peer credentials of the socket.
    pub operator: Author,
    /// The verb of the command line, such as `quarantine`.
    pub verb: String,
    /// Its arguments; never a secret.
    pub arguments: Vec<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// The answer in a sentence, or why not.
    pub detail: Option<String>,
}

/// How an admin action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is in force.
    Done,
    /// It was attempted and broke; `detail` says where.
    Failed,
    /// It was not attempted: not permitted, or against a guard.
    Refused,
}

/// A change of one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockChange {
    /// What happened to it.
    pub what: BlockEvent,
    /// The block, with its author and reason.
    pub block: Block,
    /// Where the change took effect, read back.
    pub layers: Vec<Layer>,
    /// From the decision to the last layer's effect.
    #[serde(rename = "took_us", serialize_with = "optional_micros")]
    pub took: Option<Duration>,
    /// Why it was refused, or what had to be reconciled.
    pub detail: Option<String>,
}

/// What happened to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockEvent {
    /// The kernel map was full: one network stands in it for many blocks inside.
    Aggregated,
    /// It is in force.
    Applied,
    /// The kernel map was full: only layer 7 refuses it from here on.
    Evicted,
    /// Its time ran out.
    Expired,
    /// What was decided and what is enforced were made to agree.
    Reconciled,
    /// A guard stood against it.
    Refused,
    /// It was lifted by hand.
    Released,
    /// The kernel map has room for it again.
    Restored,
}

/// A change of a list: one decision about many networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListChange {
    /// What happened to it.
    pub what: ListEvent,
    /// The name that an operator gave it.
    pub list: String,
    /// Its id; every entry of it in the kernel carries this.
    pub id: BlockId,
    /// The operator's words.
    pub reason: String,
    /// Who decided.
    pub author: Author,
    /// When it was decided.
    pub since: Timestamp,
    /// When it ends.
    pub until: Expiry,
    /// How many networks it holds.
    pub networks: u64,
    /// SHA-256 of these networks in hex: one a line, in order.
    pub sha256: String,
    /// What it was made of.
    pub counts: ListCounts,
    /// Where the change took effect, read back.
    pub layers: Vec<Layer>,
    /// From the decision to the last layer's effect.
    #[serde(rename = "took_us", serialize_with = "optional_micros")]
    pub took: Option<Duration>,
    /// Why it was refused, or what had to be reconciled.
    pub detail: Option<String>,
}

/// What happened to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListEvent {
    /// Its time ran out.
    Expired,
    /// It is in force, in the place of an earlier one of its name.
    Imported,
    /// What was decided and what is enforced were made to agree.
    Reconciled,
    /// It was lifted by hand.
    Released,
}

/// What a list was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ListCounts {
    /// Networks that were named more than once.
    pub duplicates: u64,
    /// Networks inside another one of the list.
    pub contained: u64,
    /// Networks that a guard kept out.
    pub refused: u64,
    /// Networks of the earlier list of this name that are no longer in it.
    pub removed: u64,
}

/// A place where a block has effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// A packet program on an interface.
    Kernel {
        /// The interface.
        interface: String,
        /// How it is attached: `native`, `generic`, `tcx` or `clsact`.
        mode: String,
    },
    /// The proxy, before routing.
    Proxy,
}

/// A change of what enforces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigChange {
    /// What changed.
    pub what: ConfigEvent,
    /// Who caused it; none when the agent did by itself.
    pub by: Option<Author>,
    /// SHA-256 of the policy in force afterwards, in hex.
    pub policy: Option<Arc<str>>,
    /// SHA-256 of the running program, in hex.
    pub program: Option<String>,
    /// Tag of the packet program, as the kernel prints it.
    pub kernel_program: Option<String>,
    /// Interfaces, versions, or why a policy was refused.
    pub detail: Option<String>,
}

/// What changed about the enforcement itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigEvent {
    /// The agent leaves the log, and everything else on disk, to a successor.
    HandingOver,
    /// The incident level changed.
    IncidentLevel,
    /// Packet programs are attached.
    KernelAttached,
    /// They were detached on purpose.
    KernelDetached,
    /// They are gone, and not by us.
    KernelLost,
    /// Notices were dropped, or a receiver never took them.
    NoticesLost,
    /// A policy came into force.
    PolicyApplied,
    /// The policy on probation was confirmed and stays.
    PolicyConfirmed,
    /// A policy was not accepted; the old one stays.
    PolicyRefused,
    /// A policy watches no longer.
    PolicyUnwatched,
    /// A policy watches: it decides nothing, and differences are counted.
    PolicyWatches,
    /// A receiver of notices wants none.
    ReceiverDisabled,
    /// A receiver of notices gets them again.
    ReceiverEnabled,
    /// The agent serves.
    Started,
    /// The agent ended on purpose.
    Stopped,
    /// The successor broke off; the agent that handed over serves on.
    TakenBack,
}

/// A finding of detection and what was done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct FindingRecord {
    /// What the rule saw.
    pub finding: Offence,
    /// Whether the rule may act.
    pub mode: FindingMode,
    /// The block that answered it.
    pub block: Option<BlockId>,
    /// Why nothing was done.
    pub detail: Option<String>,
}

/// Whether a rule may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingMode {
    /// It acts.
    Auto,
    /// It only tells.
    Observe,
}

/// What the kernel did between two readings of its counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelSummary {
    /// The earlier reading.
    pub from: Timestamp,
    /// The later reading.
    pub until: Timestamp,
    /// The differences that are not zero.
    pub counts: Vec<KernelCount>,
}

/// Packets that met one verdict for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelCount {
    /// `pass` or `drop`.
    pub verdict: String,
    /// The counter's name.
    pub reason: String,
    /// Packets since the earlier reading.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The key of the next epoch, named while the one before still signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// Which epoch begins.
    pub epoch: u32,
    /// Its public key, as in `key.pub`.
    pub key: String,
}

/// Stands where records are missing: what was offered is what is stored plus what gaps count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Why they are missing.
    pub why: GapReason,
    /// How many records were refused or lost; each of them was answered with a refusal.
    pub records: u64,
    /// Bytes of an unfinished write that were dropped at start; never part of an accepted record.
    pub bytes: u64,
    /// The first of them; none when no clock saw it.
    pub since: Option<Timestamp>,
}

/// Why records are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The disk had no room.
    DiskFull,
    /// A record could not be made to fit an entry.
    Oversized,
    /// The queue had no free slot.
    QueueFull,
    /// A crash left an unfinished write behind the last record.
    TornTail,
}

// === impl Record ===

impl Record {
    /// The class that the envelope names.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Admin(_) => "admin",
            Self::Block(_) => "block",
            Self::Config(_) => "config",
            Self::Finding(_) | Self::Found(_) => "finding",
            Self::Incident(_) => "incident",
            Self::Decision(_) => "decision",
            Self::KernelSummary(_) => "kernel-summary",
            Self::List(_) => "list",
            Self::Endpoint(_) => "endpoint",
            Self::Upstream(_) => "upstream",
            Self::Certificate(_) => "certificate",
            Self::Cache(_) => "cache",
            Self::Erasure(_) => "erasure",
            Self::Key(_) => "key",
            Self::Gap(_) => "gap",
            Self::Heartbeat(_) => "heartbeat",
            Self::Prune(_) => "prune",
            Self::Subject(_) => "subject",
            Self::Segment(_) => "segment",
        }
    }

    /// Cuts every text and list that somebody outside chose to `longest` bytes or entries.
    pub(crate) fn cut(&mut self, longest: usize) {
        match self {
            Self::Http(exchange) => cut_exchange(Arc::make_mut(exchange), longest),
            Self::Admin(action) => {
                cut_author(&mut action.operator, longest);
                cut_text(&mut action.verb, longest);
                cut_list(&mut action.arguments, longest);
                action.arguments.iter_mut().for_each(|argument| cut_text(argument, longest));
                cut_option(&mut action.detail, longest);
            }
            Self::Block(change) => {
                cut_text(&mut change.block.reason, longest);
                cut_author(&mut change.block.author, longest);
                cut_option(&mut change.detail, longest);
                change.layers.truncate(longest);
            }
            Self::List(change) => {
                cut_text(&mut change.list, longest);
                cut_text(&mut change.reason, longest);
                cut_author(&mut change.author, longest);
                cut_option(&mut change.detail, longest);
                change.layers.truncate(longest);
            }
            Self::Config(change) => {
                change.by.iter_mut().for_each(|by| cut_author(by, longest));
                cut_shared(&mut change.policy, longest);
                cut_option(&mut change.program, longest);
                cut_option(&mut change.kernel_program, longest);
                cut_option(&mut change.detail, longest);
            }
            Self::Finding(record) => {
                cut_text(&mut record.finding.rule, longest);
                record.finding.evidence.truncate(longest);
                cut_option(&mut record.detail, longest);
            }
            Self::Found(found) => found.cut(longest),
            Self::Incident(change) => change.cut(longest),
            Self::Decision(change) => change.cut(longest),
            Self::KernelSummary(summary) => {
                summary.counts.truncate(longest);
                for count in &mut summary.counts {
                    cut_text(&mut count.verdict, longest);
                    cut_text(&mut count.reason, longest);
                }
            }
            Self::Endpoint(change) => change.cut(longest),
            Self::Upstream(change) => change.cut(longest),
            Self::Certificate(change) => change.cut(longest),
            Self::Cache(change) => change.cut(longest),
            Self::Erasure(erasure) => erasure.cut(longest),
            Self::Prune(prune) => cut_author(&mut prune.author, longest),
            Self::Gap(_)
            | Self::Key(_)
            | Self::Heartbeat(_)
            | Self::Segment(_)
            | Self::Subject(_) => {}
        }
    }
}

fn cut_exchange(exchange: &mut Exchange, longest: usize) {
    cut_shared(&mut exchange.user_agent, longest);
    cut_text(&mut exchange.method, longest);
    cut_option(&mut exchange.host, longest);
    cut_option(&mut exchange.path, longest);
    cut_option(&mut exchange.cause, longest);
    cut_option(&mut exchange.rule, longest);
    cut_shared(&mut exchange.upstream, longest);
    cut_shared(&mut exchange.route, longest);
    exchange.who.iter_mut().for_each(|who| cut_who(who, longest));
}

/// Names of roles are the operator's; the rest is an issuer's text.
fn cut_who(who: &mut Who, longest: usize) {
    who.roles.truncate(longest);
    who.scopes.truncate(longest);
    who.scopes.iter_mut().for_each(|scope| cut_arc(scope, longest));
    cut_shared(&mut who.token, longest);
    cut_shared(&mut who.application, longest);
}

pub(crate) fn cut_author(author: &mut Author, longest: usize) {
    match author {
        Author::Operator { name, .. } => cut_text(name, longest),
        Author::Rule(rule) => cut_text(rule, longest),
        Author::Agent => {}
    }
}

pub(crate) fn cut_option(text: &mut Option<String>, longest: usize) {
    text.iter_mut().for_each(|text| cut_text(text, longest));
}

fn cut_shared(text: &mut Option<Arc<str>>, longest: usize) {
    text.iter_mut().for_each(|text| cut_arc(text, longest));
}

fn cut_arc(text: &mut Arc<str>, longest: usize) {
    if text.len() > longest {
        let mut owned = text.to_string();
        cut_text(&mut owned, longest);
        *text = owned.into();
    }
}

pub(crate) fn cut_text(text: &mut String, longest: usize) {
    if text.len() <= longest {
        return;
    }
    let length = text.len();
    text.truncate(text.floor_char_boundary(longest));
    text.push_str(&format!("…[{} of {length} bytes]", text.len()));
}

fn cut_list(list: &mut Vec<String>, longest: usize) {
    let length = list.len();
    if length > longest {
        list.truncate(longest);
        list.push(format!("…[{longest} of {length} arguments]"));
    }
}

// === impl FindingRecord ===

impl Serialize for FindingRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Naming every field: a new one in the model must find its place in the format.
        let Offence { rule, target, through, failures, ttl, evidence } = &self.finding;
        let mut body = serializer.serialize_struct("Finding", 10)?;
        body.serialize_field("rule", rule)?;
        body.serialize_field("target", target)?;
        if let Some(through) = through {
            body.serialize_field("through", through)?;
        }
        body.serialize_field("failures", &failures.seen)?;
        body.serialize_field("window_us", &micros(failures.window))?;
        body.serialize_field("ttl_us", &micros(*ttl))?;
        body.serialize_field("evidence", evidence)?;
        body.serialize_field("mode", &self.mode)?;
        body.serialize_field("block", &self.block)?;
        body.serialize_field("detail", &self.detail)?;
        body.end()
    }
}

fn optional_micros<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(micros).serialize(serializer)
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
