//! What is usual for identities, as the agent has learned it.

use enforcer_detect::ProfileView;
use serde::{Deserialize, Serialize};

/// For whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ProfileOrder {
    /// One identity.
    Show {
        /// As its principal prints, such as `key:k7Qx2mP9aB3c`.
        identity: String,
    },
    /// Those whose day is the most surprising.
    List {
        /// At most so many.
        most: u32,
    },
}

/// What is known of identities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfilesShown {
    /// The most surprising first.
    pub profiles: Vec<ProfileView>,
    /// Identities that are known.
    pub known: u64,
}
