//! How far automatic decisions may go, and who knows what they would hit.

use std::time::Duration;

use enforcer_model::{Prefix, Principal};

use crate::Entity;

/// What `[detect.limits]` of a policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest share of recent clients that automatic decisions may hit together, in percent.
    pub clients_percent_max: u8,
    /// Largest share of recent callers that automatic decisions may hit together, in percent.
    pub identities_percent_max: u8,
    /// Automatic decisions inside a minute.
    pub decisions_per_minute_max: u32,
    /// Shortest prefix of an IPv4 network that is dropped unasked.
    pub prefix_v4_min: u8,
    /// Shortest prefix of an IPv6 network that is dropped unasked.
    pub prefix_v6_min: u8,
    /// From so many callers on an address is a shared one, and is left alone.
    pub shared_from: u32,
    /// How long a decision waits for an operator's word.
    pub approval_ttl: Duration,
    /// No automatic decision lasts longer at a time.
    pub ttl_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_percent_max: 5,
            identities_percent_max: 5,
            decisions_per_minute_max: 60,
            prefix_v4_min: 24,
            prefix_v6_min: 48,
            shared_from: 3,
            approval_ttl: Duration::from_secs(3_600),
            ttl_max: Duration::from_secs(86_400),
        }
    }
}

/// Some of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Those that would be hit.
    pub hit: u64,
    /// All.
    pub all: u64,
}

/// Who was served behind one address lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Different callers.
    pub identities: u32,
    /// The one that sent most of what came from there, where one did.
    pub most: Option<Principal>,
}

/// What a decision would hit, as far as it is known at this moment.
pub trait Surroundings {
    /// Recent clients, by neighbourhood, that `network` has inside.
    fn clients(&self, network: Prefix) -> Share;
    /// Recent callers that a denial of `target` would hit.
    fn identities(&self, target: &Entity) -> Share;
    /// Who was served behind `network` lately.
    fn behind(&self, network: Prefix) -> Behind;
    /// What protects `target`, such as a never-block list.
    fn protected(&self, target: &Entity) -> Option<String>;
}
