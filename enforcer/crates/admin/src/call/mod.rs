//! The words of the protocol, as JSON; the CLI prints the same structures with `-o json`.
//!
//! What an agent may have a million of comes in pages, so that no answer grows without bound: the
//! caller asks again with the place where the page before ended.

mod anchors;
mod audit;
mod blocks;
mod cache;
mod cases;
mod certificates;
mod endpoints;
mod hand_over;
mod incident;
mod kernel;
mod keys;
mod limits;
mod lists;
mod networks;
mod notify;
mod policy;
mod profiles;
mod refusal;
mod rules;
mod status;
mod tokens;
mod upkeep;
mod upstreams;

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

pub use anchors::{AnchorRound, AnchorStatus, Anchored, TimestampSaid, WitnessRow, WitnessSaid};
pub use audit::{Look, LookVerb, Looked};
pub use blocks::{
    BlockRow, Blocked, Blocks, InKernel, KernelVerdict, Place, Quarantine, Released, Verified,
    Which, Why,
};
pub use cache::{CacheOrder, CachePurged, CacheRoute, CacheStats, CacheWhat};
pub use cases::{
    CaseAnswer, CaseName, CaseOrder, DecisionRow, DecisionsChanged, FINDINGS_PAGE, FindingRow,
    Findings, IncidentRow, IncidentShown, Incidents, MuteRow, Mutes,
};
pub use certificates::{
    CertificateRow, CertificatesListed, CertificatesReloaded, CertsOrder, ExpiryWarning,
    ListenerReloaded, OcspRow,
};
pub use endpoints::{
    EndpointChanged, EndpointMeasure, EndpointOrder, EndpointRow, Endpoints, TightenBy,
};
pub use hand_over::{HandOver, HandingOver, Shared};
pub use incident::{IncidentLevel, IncidentStatus};
pub use kernel::{
    FloodStatus, HookStatus, KernelReport, KernelStatus, KernelVerb, LeaseStatus, OccupancyStatus,
    Peer, Talker, Talkers,
};
pub use keys::{
    Key, KeyFinish, KeyImport, KeyImportFormat, KeyImported, KeyIssue, KeyIssued, KeyRehearsed,
    KeyRotate, KeySecret, Keys, KeysImported,
};
pub use limits::{
    LimitChange, LimitChanged, LimitConsumer, LimitOverride, LimitRow, LimitSet, LimitSpent,
    LimitStanding, LimitTables, LimitsShown, ThrottledSources,
};
pub use lists::{
    Exported, Import, Imported, ListInKernel, ListName, ListNameError, ListReleased, ListRow,
    Lists, REFUSED_TOLD, Refused,
};
pub use networks::Networks;
pub use notify::{
    NotifyOrder, NotifyTested, ReceiverRow, ReceiverState, ReceiversListed, TestedRow,
};
pub use policy::{Begin, Flip, PolicyApplied, PolicyState, ShadowStatus};
pub use profiles::{ProfileOrder, ProfilesShown};
pub use refusal::{Refusal, RefusalKind};
pub use rules::{RuleCounters, RuleRow, RulesOrder, RulesShown};
pub use status::{
    AuditStatus, ConnectionProtocol, ConnectionRow, ConnectionsStatus, Counter, PolicyStatus,
    SourceRow, Sources, Status,
};
pub use tokens::{
    AskedToken, IssuerRow, RevocationRow, TokenCheck, TokenInspected, TokenRevoke, TokensListed,
    TokensRevoked,
};
pub use upkeep::{Erase, ErasedAnswer, PersonalValue, Prune, PrunedAnswer};
pub use upstreams::{
    HostOrder, HostRow, HostState, HostWish, UpstreamChanged, UpstreamOrder, UpstreamRow, Upstreams,
};

/// Longest call that an agent accepts: an import of a million IPv6 networks, with room.
pub const LINE_MAX: u64 = 64 << 20;

/// Longest answer that a caller accepts; those that could be long come in pages.
pub const ANSWER_MAX: u64 = 64 << 20;

/// Networks in one answer to [`Call::Export`].
pub const NETWORKS_PAGE: usize = 50_000;

/// Decisions in one answer to [`Call::Blocks`].
pub const BLOCKS_PAGE: usize = 10_000;

/// Revocations in one answer to [`Call::TokenList`].
pub const REVOCATIONS_PAGE: usize = 10_000;

/// What an operator asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Call {
    /// How the agent is.
    #[serde(deserialize_with = "nothing_else")]
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
    /// Every block, read back from where it is enforced, oldest first, by the page.
    Blocks {
        /// Only those behind the page that ended here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Place>,
    },
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
    /// Puts a list of networks in force, in place of what the list held before.
    Import(Import),
    /// Every list.
    #[serde(deserialize_with = "nothing_else")]
    Lists,
    /// Ends a list and all its blocks.
    ReleaseList {
        /// Of the list.
        name: ListName,
        /// For the record.
        reason: Option<String>,
    },
    /// The networks that are blocked, each once, in their order, by the page.
    Export {
        /// Those of one list; none: those of every list and every single block.
        list: Option<ListName>,
        /// Only those behind this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<enforcer_model::Prefix>,
    },
    /// The kernel half: what it is, or what becomes of it.
    Kernel {
        /// What to do.
        verb: KernelVerb,
    },
    /// Who sends most, and where most goes to, from the kernel's own tables.
    Talkers {
        /// Rows of each kind, at most.
        most: u32,
    },
    /// Who has most connections.
    Sources {
        /// Rows, at most.
        most: u32,
    },
    /// Makes an API key.
    KeyIssue(Box<KeyIssue>),
    /// Gives a key another secret.
    KeyRotate(KeyRotate),
    /// Ends the older of a key's two secrets.
    KeyFinish(KeyFinish),
    /// Makes API keys of secrets from elsewhere.
    KeyImport(KeyImport),
    /// Every key.
    #[serde(deserialize_with = "nothing_else")]
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
        /// Only say what it would end.
        #[serde(default)]
        dry_run: bool,
    },
    /// Puts a policy in force: `text` replaces the agent's file, none reads the file again.
    PolicyApply {
        /// A whole policy file.
        text: Option<String>,
        /// For good, on probation, or only to watch.
        #[serde(default)]
        begin: Begin,
    },
    /// Confirms the policy on probation, or puts the one that watches in force.
    #[serde(deserialize_with = "nothing_else")]
    PolicyPromote,
    /// Brings the policy before back, and ends one that watches.
    #[serde(deserialize_with = "nothing_else")]
    PolicyRollback,
    /// Which policies there are.
    #[serde(deserialize_with = "nothing_else")]
    PolicyState,
    /// Takes tokens, or a certificate, back.
    TokenRevoke(TokenRevoke),
    /// Ends a revocation.
    TokenRestore {
        /// Such as `R-17`.
        id: String,
        /// For the record.
        reason: String,
    },
    /// What is taken back, by the page, and how the issuers are.
    TokenList {
        /// Only those behind the page that ended with this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// What would become of a token. Only its issuer may learn that somebody asked.
    TokenInspect {
        /// The token.
        token: AskedToken,
    },
    /// Limits, one by its name, or where a caller stands with them.
    Limits {
        /// A limit's name or a caller.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        what: Option<String>,
        /// Rows of those who draw most, at most.
        most: u32,
    },
    /// Gives a limit other numbers for a while, or its own again.
    LimitSet(LimitSet),
    /// What becomes of upstreams, or how they do.
    Upstream {
        /// What to do.
        order: UpstreamOrder,
    },
    /// What becomes of the certificates that listeners show, or which there are.
    Certs {
        /// What to do.
        order: CertsOrder,
    },
    /// What becomes of the answers that are kept, or how many there are.
    Cache {
        /// What to do.
        order: CacheOrder,
    },
    /// What becomes of an endpoint, or of which ones anything has.
    Endpoint {
        /// What to do.
        order: EndpointOrder,
    },
    /// Who is told what happens: how they are, and trying them out.
    Notify {
        /// What to do.
        order: NotifyOrder,
    },
    /// Somebody is about to see records of the audit log: that goes on record first.
    Look(Look),
    /// Hand over to the process that calls.
    HandOver(HandOver),
    /// Shows the log to its witnesses and the timestamping authority, now.
    #[serde(deserialize_with = "nothing_else")]
    Anchor,
    /// Erases a personal value from the log.
    AuditErase(Erase),
    /// Removes old segments of the log.
    AuditPrune(Prune),
    /// What becomes of a rule of detection, or how all of them do.
    Rules {
        /// What to do.
        order: RulesOrder,
    },
    /// What is usual for identities.
    Profile {
        /// For whom.
        order: ProfileOrder,
    },
    /// What becomes of incidents, decisions and findings, or which there are.
    Case {
        /// What to do.
        order: CaseOrder,
    },
    /// Sets the incident level, or tells it.
    Incident {
        /// The new one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        set: Option<IncidentLevel>,
    },
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
    /// To [`Call::Import`].
    Imported(Box<Imported>),
    /// To [`Call::Lists`].
    Lists(Lists),
    /// To [`Call::ReleaseList`].
    ListReleased(Box<ListReleased>),
    /// To [`Call::Export`].
    Exported(Exported),
    /// To [`Call::Kernel`].
    Kernel(Box<KernelReport>),
    /// To [`Call::Talkers`].
    Talkers(Box<Talkers>),
    /// To [`Call::Sources`].
    Sources(Sources),
    /// To [`Call::KeyIssue`] and [`Call::KeyRotate`].
    KeyIssued(Box<KeyIssued>),
    /// To a call about keys that was only a rehearsal.
    KeyRehearsed(Box<KeyRehearsed>),
    /// To [`Call::KeyImport`].
    KeysImported(KeysImported),
    /// To [`Call::KeyList`].
    Keys(Keys),
    /// To [`Call::KeyShow`], [`Call::KeyFinish`] and [`Call::KeyRevoke`].
    Key(Box<Key>),
    /// To [`Call::PolicyApply`], and to [`Call::PolicyPromote`] of one that watched.
    PolicyApplied(Box<PolicyApplied>),
    /// To the other calls about policies.
    PolicyState(Box<PolicyState>),
    /// To [`Call::TokenRevoke`] and [`Call::TokenRestore`].
    TokensRevoked(Box<TokensRevoked>),
    /// To [`Call::TokenList`].
    Tokens(TokensListed),
    /// To [`Call::TokenInspect`].
    TokenInspected(Box<TokenInspected>),
    /// To [`Call::Limits`].
    Limits(Box<LimitsShown>),
    /// To [`Call::LimitSet`].
    LimitChanged(Box<LimitChanged>),
    /// To [`UpstreamOrder::List`].
    Upstreams(Box<Upstreams>),
    /// To [`UpstreamOrder::Change`].
    UpstreamChanged(Box<UpstreamChanged>),
    /// To [`CertsOrder::List`].
    Certificates(CertificatesListed),
    /// To [`CertsOrder::Reload`].
    CertificatesReloaded(CertificatesReloaded),
    /// To [`CacheOrder::Stats`].
    CacheStats(Box<CacheStats>),
    /// To [`CacheOrder::Purge`].
    CachePurged(CachePurged),
    /// To [`EndpointOrder::List`].
    Endpoints(Endpoints),
    /// To the other orders about endpoints.
    EndpointChanged(Box<EndpointChanged>),
    /// To [`Call::Notify`], but for tests.
    Receivers(ReceiversListed),
    /// To [`NotifyOrder::Test`].
    NotifyTested(NotifyTested),
    /// To [`Call::Look`].
    Looked(Looked),
    /// To [`Call::HandOver`].
    HandingOver(HandingOver),
    /// To [`Call::Anchor`].
    Anchored(Box<AnchorRound>),
    /// To [`Call::AuditErase`].
    Erased(ErasedAnswer),
    /// To [`Call::AuditPrune`].
    Pruned(PrunedAnswer),
    /// To [`Call::Rules`].
    Rules(Box<RulesShown>),
    /// To [`Call::Profile`].
    Profiles(Box<ProfilesShown>),
    /// To [`Call::Case`].
    Case(Box<CaseAnswer>),
    /// To [`Call::Incident`].
    Incident(IncidentStatus),
}

impl Call {
    /// How long a caller waits for the answer: milliseconds are the rule, a second for a big policy;
    /// a million blocks take longer on a machine that has other work.
    pub const fn patience(&self) -> Duration {
        match self {
            Self::AuditErase(_)
            | Self::AuditPrune(_)
            | Self::Import(_)
            | Self::Kernel { .. }
            | Self::ReleaseList { .. }
            | Self::VerifyBlocks { .. } => Duration::from_secs(300),
            Self::Notify { .. } => Duration::from_secs(90),
            Self::Anchor
            | Self::Blocks { .. }
            | Self::Cache { .. }
            | Self::Case { .. }
            | Self::Certs { .. }
            | Self::Endpoint { .. }
            | Self::Export { .. }
            | Self::HandOver(_)
            | Self::KeyFinish(_)
            | Self::KeyImport(_)
            | Self::KeyIssue(_)
            | Self::KeyList
            | Self::KeyRevoke { .. }
            | Self::KeyRotate(_)
            | Self::KeyShow { .. }
            | Self::Limits { .. }
            | Self::LimitSet(_)
            | Self::Lists
            | Self::Look(_)
            | Self::Incident { .. }
            | Self::PolicyApply { .. }
            | Self::PolicyPromote
            | Self::PolicyRollback
            | Self::PolicyState
            | Self::Profile { .. }
            | Self::Quarantine(_)
            | Self::Release { .. }
            | Self::Rules { .. }
            | Self::Sources { .. }
            | Self::Status
            | Self::Talkers { .. }
            | Self::TokenInspect { .. }
            | Self::TokenList { .. }
            | Self::TokenRestore { .. }
            | Self::TokenRevoke(_)
            | Self::Upstream { .. }
            | Self::Why { .. } => Duration::from_secs(30),
        }
    }
}

/// A call without particulars has none: serde alone would pass over what it does not know.
fn nothing_else<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}

    Nothing::deserialize(from).map(|Nothing {}| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_with_a_key_that_nobody_knows_is_refused_whichever_it_is() {
        let calls = [
            r#""call":"status""#,
            r#""call":"lists""#,
            r#""call":"key-list""#,
            r#""call":"blocks""#,
            r#""call":"export","list":null"#,
            r#""call":"talkers","most":3"#,
            r#""call":"kernel","verb":"status""#,
            r#""call":"release-list","name":"drop","reason":null"#,
            r#""call":"import","list":"drop","networks":"192.0.2.1","ttl_seconds":null,
               "reason":"r","override_guard":false,"dry_run":true"#,
        ];
        for fields in calls {
            serde_json::from_str::<Call>(&format!("{{{fields}}}")).unwrap();
            let more = serde_json::from_str::<Call>(&format!("{{{fields},\"typo\":1}}"));
            assert!(more.unwrap_err().to_string().contains("typo"), "{fields}");
        }
    }

    #[test]
    fn calls_without_particulars_are_written_as_one_word() {
        for (call, line) in [
            (Call::Status, r#"{"call":"status"}"#),
            (Call::Blocks { after: None }, r#"{"call":"blocks"}"#),
            (Call::KeyList, r#"{"call":"key-list"}"#),
        ] {
            assert_eq!(serde_json::to_string(&call).unwrap(), line);
        }
    }
}
