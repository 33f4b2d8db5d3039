//! Behaviour profiles: what is usual for each identity, and how surprising what it does now is.
//!
//! One struct of fixed size per identity, nothing allocated per event. What an identity does is
//! compared with its own days, with its peers' as long as little is known of it, and each measure
//! becomes bits by how rare it is among all days of its peers. The three largest signals are the
//! score, and they are the explanation. A day with a finding is not learned from.
//!
//! What names an object, a route, a network or a client is kept as a keyed hash.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::RequestId;

use crate::{Action, Mode, Response};

mod close;
mod fleet;
mod group;
mod hash;
mod hours;
mod identity;
mod kind;
mod level;
mod marks;
mod num;
mod observe;
mod places;
mod score;
mod sketch;
mod snapshot;
mod table;
mod tail;
#[cfg(test)]
mod tests;
mod view;
mod words;

pub use kind::Aspect;
pub use observe::Ahead;
pub use snapshot::{SnapshotCursor, SnapshotError};
pub(crate) use tail::CAP as SIGNAL_BITS_MAX;
pub use view::{Heat, ProfileView, Usual};

use fleet::Common;
use group::Group;
use hash::Key;
use table::Table;

/// The rule that findings of profiles name.
pub const BEHAVIOUR: &str = "behaviour";

/// Identities remembered, unless the policy says otherwise.
pub const IDENTITIES: usize = 100_000;

/// The most identities that a policy may ask for: about a gigabyte.
pub const IDENTITIES_MAX: usize = 1_000_000;

/// Bytes that one identity takes, its place in the index and a name of forty characters included.
pub const IDENTITY_BYTES: usize = size_of::<identity::Identity>() + 17 + size_of::<Box<str>>() + 40;

/// Bits from which a day is a finding, unless the policy says otherwise.
pub const BITS: f32 = 17.0;

/// Longest name that is kept whole; of longer ones the beginning is.
const NAME_MAX: usize = 120;

/// Requests whose identity is remembered, so that a finding can name its evidence.
const RECENT_MAX: usize = 8_192;

const WINDOW: u32 = 600;
const HOUR: u32 = 3_600;
const DAY: u32 = 86_400;

const _: () = assert!(IDENTITY_BYTES <= 1_024);

/// What the policy says of profiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Whether profiles are kept.
    pub enabled: bool,
    /// The score from which a day is a finding.
    pub bits: f32,
    /// Whether what follows may be done unasked.
    pub mode: Mode,
    /// Identities remembered.
    pub identities_max: usize,
    /// For so long after the first request nothing is found.
    pub learn: Duration,
    /// What follows a finding.
    pub respond: Arc<[Response]>,
}

impl Default for Plan {
    fn default() -> Self {
        let deny = Response {
            action: Action::DenyIdentity,
            ttl: Duration::from_secs(15 * 60),
            mode: Some(Mode::Approve),
        };
        Self {
            enabled: true,
            bits: BITS,
            mode: Mode::Observe,
            identities_max: IDENTITIES,
            learn: Duration::from_secs(7 * 24 * 3_600),
            respond: Arc::new([deny]),
        }
    }
}

/// The profiles of all identities.
///
/// The owner hands in each finished request, and time only with it.
#[derive(Debug)]
pub struct Profiles {
    plan: Plan,
    key: Key,
    rule: Arc<str>,
    table: Table,
    /// The first is everybody.
    groups: Vec<Group>,
    /// Networks, clients and routes that identities have.
    common: Common,
    /// The same, as they were first used in the last day or two.
    fresh: Common,
    recent: VecDeque<(u64, RequestId)>,
    /// When the first request was seen, in seconds.
    began: Option<u32>,
    /// The day under way.
    today: u32,
    /// The score of the last request.
    last_score: f32,
    /// Whose day it has made more surprising, if it has.
    rose: Option<usize>,
}

impl Profiles {
    /// Profiles that know nobody. `key` is the host's secret, by which names are hashed.
    pub fn new(plan: Plan, key: [u8; 16]) -> Self {
        Self {
            table: Table::new(plan.identities_max),
            plan,
            key: Key::new(key),
            rule: BEHAVIOUR.into(),
            groups: vec![Group::new("")],
            common: Common::new(),
            fresh: Common::new(),
            recent: VecDeque::with_capacity(RECENT_MAX),
            began: None,
            today: 0,
            last_score: 0.0,
            rose: None,
        }
    }

    /// Puts another plan in force; what is known stays. A bound that is lower than what is known is
    /// reached as strangers come: none is added.
    pub fn replace(&mut self, plan: Plan) {
        self.table.bound(plan.identities_max);
        self.plan = plan;
    }

    /// How many identities are known.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bits of the identity of the last observed request, of its day so far; zero for a request of
    /// nobody, one of our own denials and while profiles are off.
    pub const fn last_score(&self) -> f32 {
        self.last_score
    }

    /// The plan in force.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }
}
