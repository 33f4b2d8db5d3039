//! What a rule or a profile has noticed, with all that a decision, an operator and a court need.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Fingerprint, Principal, RequestId, Source, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Entity, Response};

/// Signals that a finding tells, the largest first.
pub const SIGNALS_MAX: usize = 3;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule that found it.
    pub rule: Arc<str>,
    /// Whom or what it is about: what the rule counts by.
    pub about: Entity,
    /// When the request that completed it was answered.
    pub at: Timestamp,
    /// The span of time that was looked at.
    pub window: Duration,
    /// Why, in plain words with the numbers, the most telling first; one to [`SIGNALS_MAX`].
    pub signals: Vec<Signal>,
    /// Requests that were counted, newest last, at most 16.
    pub evidence: Vec<RequestId>,
    /// Who else was there when it was completed.
    pub scene: Scene,
    /// What is to follow, the mildest first.
    pub respond: Arc<[Response]>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Such as `60 different objects in 10m; the rule allows 59`.
    pub text: String,
    /// How surprising that is, in bits; rules that only count say none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<f32>,
}

/// What the request that completed a finding shows of its sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scene {
    /// Where it came from.
    pub source: Option<Source>,
    /// The proxy by whose word that is known.
    pub through: Option<Source>,
    /// The caller.
    pub identity: Option<Principal>,
    /// The credential.
    pub credential: Option<Fingerprint>,
    /// The TLS client.
    pub ja4: Option<Arc<str>>,
    /// The route.
    pub route: Option<Arc<str>>,
    /// The host of the upstream.
    pub upstream: Option<Arc<str>>,
}

impl Finding {
    /// Its reasons as one line.
    pub fn explanation(&self) -> String {
        let texts: Vec<&str> = self.signals.iter().map(|signal| signal.text.as_str()).collect();
        texts.join("; ")
    }
}
