//! Why a call was not done.

use serde::{Deserialize, Serialize};

/// Why a call was not done.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Decides the exit code.
    pub kind: RefusalKind,
    /// What happened, where, why.
    pub message: String,
    /// One line each.
    pub details: Vec<String>,
    /// What to do.
    pub hint: Option<String>,
}

/// The kinds of refusal that an operator's script can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// It was tried and failed.
    Failed,
    /// A guard protects the target.
    Guarded,
    /// There is no such thing.
    NotFound,
    /// The call itself is wrong.
    Usage,
}

impl Refusal {
    /// A refusal of `kind` without details.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), details: Vec::new(), hint: None }
    }

    /// The same with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with `details`.
    #[must_use]
    pub fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}
