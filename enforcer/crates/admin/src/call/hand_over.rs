//! How a successor introduces itself; what follows is between the two agents.

use serde::{Deserialize, Serialize};

/// Who wants to take the agent's place. What a later version adds is passed over: the version of
/// the protocol decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Of what follows.
    pub protocol: u32,
    /// Of the program that asks.
    pub version: String,
}

/// The agent is ready to hand over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandingOver {
    /// Of what follows.
    pub protocol: u32,
    /// Of the program that answers.
    pub version: String,
    /// What each socket is that comes with it, in their order.
    pub listeners: Vec<Shared>,
}

/// A socket that clients come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// The listener.
    pub listener: String,
    /// Its address, as the policy writes it.
    pub address: String,
}
