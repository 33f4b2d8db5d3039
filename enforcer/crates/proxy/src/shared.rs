//! What the threads share. Each part guards its own state; none is reachable from another.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use enforcer_audit::Audit;
use enforcer_authn::{ApiKeys, Assertions, FingerprintKey, Revocations, Tokens};
use enforcer_authz::Quarantine;
use enforcer_cache::Cache;
use enforcer_limits::Limits;
use enforcer_model::{Clock, Exchange};
use enforcer_policy::Policy;
use enforcer_upstream::Fleet;

use crate::connections::Connections;
use crate::counters::Counters;
use crate::endpoints::Endpoints;
use crate::roll::Rolls;
use crate::shadow::Shadow;
use crate::tls::Certificates;

/// What outlives a request and a thread.
pub struct Shared {
    /// Signs what upstreams are told about callers.
    pub assertions: Assertions,
    /// Where every request is recorded.
    pub audit: Audit,
    /// Answers that are kept.
    pub cache: Arc<Cache>,
    /// For handshakes; reloaded with the policy.
    pub certificates: Arc<Certificates>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// What happened how often.
    pub counters: Arc<Counters>,
    /// What operators have disabled, or let be used less.
    pub endpoints: Arc<Endpoints>,
    /// The upstreams, and how their hosts do.
    pub fleet: Arc<Fleet>,
    /// Names credentials in the audit log.
    pub fingerprints: FingerprintKey,
    /// The incident level.
    pub incident: Arc<IncidentLevel>,
    /// The keys in force.
    pub keys: ApiKeys,
    /// The buckets of all limits.
    pub limits: Arc<Limits>,
    /// Who is told of every finished request.
    pub observer: Observer,
    /// The policy in force; each request reads it once.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Who is shut out.
    pub quarantine: Arc<Quarantine>,
    /// What was taken back before its time.
    pub revocations: Revocations,
    /// The connections that the threads serve.
    pub rolls: Arc<Rolls>,
    /// A policy that decides nothing and is compared with the one in force.
    pub shadow: Arc<ArcSwapOption<Shadow>>,
    /// The issuers that are believed, and what is known of their tokens.
    pub tokens: Tokens,
}

/// How serious the operators' situation is: 0 (none) to [`IncidentLevel::MAX`]. Each request reads
/// it once.
#[derive(Debug, Default)]
pub struct IncidentLevel(AtomicU8);

impl IncidentLevel {
    /// The most serious.
    pub const MAX: u8 = 5;

    /// The level in force.
    pub fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    /// From the next request on; what is higher than the highest is the highest.
    pub fn set(&self, level: u8) {
        self.0.store(level.min(Self::MAX), Ordering::Release);
    }
}

/// Sees every finished request, on the thread that served it: must neither wait nor work long.
pub type Observer = Box<dyn Fn(&Arc<Exchange>) -> Observed + Send + Sync>;

/// What an observer did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It had no room; counted.
    Dropped,
    /// It was taken, or is of no interest.
    Seen,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
