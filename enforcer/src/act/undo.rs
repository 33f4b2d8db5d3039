//! How an effect is taken back: what an operator would type, and what the agent does instead.

use std::fmt;

use enforcer_model::BlockId;
use serde::{Deserialize, Serialize};

/// The way back. As text it is the command of an operator; kept with the decision, so that it works
/// under a later agent as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Undo {
    /// There is nothing to take back.
    Nothing,
    /// A block ends.
    Release(BlockId),
    /// An endpoint serves again, by the id of its rule.
    Enable(String),
    /// Limits and requirements are the policy's again, by the id of their rule.
    Relax(String),
    /// What this rule has raised the incident level to no longer counts.
    Lower(String),
    /// A host is asked again: `orders/10.0.4.2:8443`.
    Restore(String),
    /// All of them.
    All(Vec<Undo>),
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing to undo"),
            Self::Release(id) => write!(f, "enforcer release {id}"),
            Self::Enable(id) => write!(f, "enforcer endpoint enable {id}"),
            Self::Relax(id) => write!(f, "enforcer endpoint relax {id}"),
            Self::Lower(_) => f.write_str("enforcer incident level 0 --reason TEXT"),
            Self::Restore(target) => write!(f, "enforcer upstream restore {target}"),
            Self::All(all) => {
                for (n, one) in all.iter().enumerate() {
                    write!(f, "{}{one}", if n > 0 { "; " } else { "" })?;
                }
                Ok(())
            }
        }
    }
}
