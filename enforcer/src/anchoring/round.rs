//! One checkpoint on its way to the witnesses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use enforcer_admin::call::{AnchorRound, TimestampSaid, WitnessSaid};
use enforcer_audit::Log;
use enforcer_authn::HttpClient;
use enforcer_policy::WitnessPlan;
use tokio::sync::oneshot;

use super::submit::Submitted;

/// After the first failure, and twice as long after each further one.
const REST: Duration = Duration::from_secs(1);
/// No witness rests longer: it may be the one that is needed.
const REST_MAX: Duration = Duration::from_secs(10);

/// Who waits for the outcome of a round.
pub(super) type Reply = oneshot::Sender<AnchorRound>;

/// A witness, and how it was found last.
pub(super) struct Member {
    pub(super) plan: Arc<WitnessPlan>,
    pub(super) client: Arc<HttpClient>,
    /// The size that it cosigned last, as far as is known.
    pub(super) known: u64,
    /// Asked, and not answered yet.
    pub(super) is_busy: bool,
    failures: u32,
    rests_until: Option<Instant>,
}

/// One checkpoint.
pub(super) struct Round {
    pub(super) number: u64,
    pub(super) log: Arc<Log>,
    /// The signature lines of each witness, in the order of the policy; empty where there are none.
    pub(super) lines: Vec<String>,
    said: Vec<WitnessSaid>,
    /// Witnesses that have not answered.
    pub(super) pending: usize,
    /// Enough have cosigned it, and that is on disk.
    pub(super) is_met: bool,
    /// What to do about the timestamping authority was decided.
    pub(super) is_settled: bool,
    /// Somebody's answer waits for it.
    pub(super) is_wanted: bool,
    pub(super) stamp: Stamp,
    pub(super) replies: Vec<Reply>,
}

/// The timestamp of a round.
pub(super) enum Stamp {
    NotAsked,
    Asked,
    Said(TimestampSaid),
}

// === impl Member ===

impl Member {
    pub(super) fn new(plan: &WitnessPlan) -> Self {
        Self {
            client: Arc::new(HttpClient::new(plan.roots.clone())),
            plan: Arc::new(plan.clone()),
            known: 0,
            is_busy: false,
            failures: 0,
            rests_until: None,
        }
    }

    pub(super) fn is_resting(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    pub(super) const fn well(&mut self, known: u64) {
        (self.known, self.failures, self.rests_until) = (known, 0, None);
    }

    pub(super) fn ill(&mut self, now: Instant) {
        let rest = REST.saturating_mul(1 << self.failures.min(10)).min(REST_MAX);
        self.failures = self.failures.saturating_add(1);
        self.rests_until = now.checked_add(rest);
    }
}

// === impl Round ===

impl Round {
    pub(super) fn new(
        number: u64,
        log: Log,
        members: &[Member],
        is_wanted: bool,
        replies: Vec<Reply>,
    ) -> Self {
        let said = members.iter().map(|member| WitnessSaid {
            name: member.plan.name.to_string(),
            cosigned: false,
            why: Some("it rests after it failed".to_owned()),
            contradicts: false,
        });
        Self {
            number,
            log: Arc::new(log),
            lines: vec![String::new(); members.len()],
            said: said.collect(),
            pending: 0,
            is_met: false,
            is_settled: false,
            is_wanted,
            stamp: Stamp::NotAsked,
            replies,
        }
    }

    /// What the witness at `place` said, in words.
    pub(super) fn say(&mut self, place: usize, submitted: &Submitted) {
        let size = self.log.size();
        if let Some(said) = self.said.get_mut(place) {
            said.cosigned = matches!(submitted, Submitted::Cosigned { .. });
            said.contradicts = submitted.contradicts();
            said.why = submitted.why(size);
        }
        if let (Submitted::Cosigned { lines }, Some(ours)) = (submitted, self.lines.get_mut(place))
        {
            ours.clone_from(lines);
        }
    }

    pub(super) fn busy(&mut self, place: usize) {
        if let Some(said) = self.said.get_mut(place) {
            said.why = Some("it has not answered the question before this one yet".to_owned());
        }
    }

    pub(super) fn is_cosigned(&self, place: usize) -> bool {
        self.lines.get(place).is_some_and(|lines| !lines.is_empty())
    }

    /// The checkpoint with all cosignatures so far.
    pub(super) fn note(&self) -> String {
        format!("{}{}", self.log.note(), self.lines.concat())
    }

    /// Nothing more will come of it.
    pub(super) const fn is_over(&self) -> bool {
        self.pending == 0 && self.is_settled && !matches!(self.stamp, Stamp::Asked)
    }

    /// Tells whoever waits.
    pub(super) fn end(self, quorum: usize) {
        let outcome = AnchorRound {
            size: self.log.size(),
            quorum_met: self.is_met,
            quorum: u64::try_from(quorum).unwrap_or(u64::MAX),
            witnesses: self.said,
            timestamp: match self.stamp {
                Stamp::Said(said) => Some(said),
                Stamp::NotAsked | Stamp::Asked => None,
            },
            audit: None,
        };
        for reply in self.replies {
            // Whoever asked may be gone.
            drop(reply.send(outcome.clone()));
        }
    }
}

// === impl Submitted ===

impl Submitted {
    /// Whether the witness says that the log is not what it was.
    pub(super) const fn contradicts(&self) -> bool {
        matches!(self, Self::RolledBack { .. } | Self::Forked)
    }

    /// Why there is no cosignature over `size` records; none when there is.
    pub(super) fn why(&self, size: u64) -> Option<String> {
        match self {
            Self::Cosigned { .. } => None,
            Self::RolledBack { known } => Some(format!(
                "it knows {known} records, and the log has {size}: the log was cut, or an old copy \
                 was put back"
            )),
            Self::Forked => Some(format!(
                "these {size} records do not continue those that it knows: the log was forked"
            )),
            Self::Overtaken { known } => Some(format!("it knows {known} records meanwhile")),
            Self::Failed(why) => Some(why.clone()),
        }
    }
}
