//! How an effect is taken back: what an operator would type, and what the agent does instead.

use std::fmt;
use std::str::FromStr;

use enforcer_model::{BlockId, DecisionId};

/// The way back. As text it is the command of an operator, where there is one; kept as that with the
/// decision, so that it works under a later agent as well.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A host is asked again.
    Restore {
        /// `orders/10.0.4.2:8443`.
        target: String,
        /// Whose deed it was: what an operator has decided in the meantime stays.
        decision: Option<DecisionId>,
    },
    /// All of them.
    All(Vec<Self>),
}

/// The text is no way back that this program knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no way back that this version knows; undo it by hand")]
pub(crate) struct UndoError(String);

const NOTHING: &str = "nothing to undo";
const RELEASE: &str = "enforcer release ";
const ENABLE: &str = "enforcer endpoint enable ";
const RELAX: &str = "enforcer endpoint relax ";
const LOWER: &str = "the level without what is raised by rule ";
const RESTORE: &str = "enforcer upstream restore ";
const FOR: &str = " # of ";
const AND: &str = "; ";

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str(NOTHING),
            Self::Release(id) => write!(f, "{RELEASE}{id}"),
            Self::Enable(id) => write!(f, "{ENABLE}{id}"),
            Self::Relax(id) => write!(f, "{RELAX}{id}"),
            Self::Lower(rule) => write!(f, "{LOWER}{rule}"),
            Self::Restore { target, decision: None } => write!(f, "{RESTORE}{target}"),
            Self::Restore { target, decision: Some(id) } => write!(f, "{RESTORE}{target}{FOR}{id}"),
            Self::All(all) => {
                for (n, one) in all.iter().enumerate() {
                    write!(f, "{}{one}", if n > 0 { AND } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl FromStr for Undo {
    type Err = UndoError;

    fn from_str(text: &str) -> Result<Self, UndoError> {
        if text.contains(AND) {
            let all: Result<_, _> = text.split(AND).map(str::parse).collect();
            return all.map(Self::All);
        }
        let wrong = || UndoError(text.to_owned());
        let behind = |words| text.strip_prefix(words).filter(|rest| !rest.is_empty());
        let named = |words| behind(words).map(str::to_owned);
        if text == NOTHING {
            return Ok(Self::Nothing);
        }
        if let Some(id) = behind(RELEASE) {
            return id.parse().map(Self::Release).or(Err(wrong()));
        }
        named(ENABLE)
            .map(Self::Enable)
            .or_else(|| named(RELAX).map(Self::Relax))
            .or_else(|| named(LOWER).map(Self::Lower))
            .or_else(|| behind(RESTORE).and_then(restore))
            .ok_or_else(wrong)
    }
}

fn restore(text: &str) -> Option<Undo> {
    let (target, decision) = match text.split_once(FOR) {
        Some((target, id)) => (target, Some(id.parse().ok()?)),
        None => (text, None),
    };
    Some(Undo::Restore { target: target.to_owned(), decision })
}
