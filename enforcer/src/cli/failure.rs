//! How a command ends: a code for scripts, words for people.

use std::process::ExitCode;

use enforcer_admin::{CallError, RefusalKind};

/// Exit codes; their numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NothingMatched = 3,
    Guarded = 4,
    AgentUnreachable = 5,
    PartlyApplied = 6,
    VerificationFailed = 7,
    TimedOut = 8,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What happened, where, why; the first line is one sentence.
    pub(crate) message: String,
    /// One line each.
    pub(crate) details: Vec<String>,
    /// What to do.
    pub(crate) hint: Option<String>,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        #[expect(clippy::as_conversions, reason = "the discriminants are the codes")]
        Self::from(exit as u8)
    }
}

impl Failure {
    /// It was tried and did not work.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), details: Vec::new(), hint: None }
    }

    /// The arguments make no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::failed(message) }
    }

    /// There is no such thing.
    pub(crate) fn nothing(message: impl Into<String>) -> Self {
        Self { exit: Exit::NothingMatched, ..Self::failed(message) }
    }

    /// `error` with its chain of causes.
    pub(crate) fn because(error: &dyn std::error::Error) -> Self {
        Self::failed(chain(error))
    }

    /// `error` with its chain of causes, and what its crate says to do about it.
    pub(crate) fn advised(error: &dyn std::error::Error, hint: Option<impl Into<String>>) -> Self {
        Self { hint: hint.map(Into::into), ..Self::because(error) }
    }

    /// The same with another exit code.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same with what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => Self {
                exit: match refusal.kind {
                    RefusalKind::Failed => Exit::Failed,
                    RefusalKind::Guarded => Exit::Guarded,
                    RefusalKind::NotFound => Exit::NothingMatched,
                    RefusalKind::Usage => Exit::Usage,
                },
                message: refusal.message,
                details: refusal.details,
                hint: refusal.hint,
            },
            CallError::Unreachable { ref source, .. } => {
                let hint = if source.kind() == std::io::ErrorKind::PermissionDenied {
                    "the socket is for root and the group `enforcer`: use sudo or join the group"
                } else {
                    "start it with `enforcer run`, or name its socket with `--agent unix:PATH`"
                };
                Self::because(&error).exit(Exit::AgentUnreachable).hint(hint)
            }
            CallError::Busy { .. } => Self::because(&error)
                .exit(Exit::TimedOut)
                .hint("nothing was done; the agent is overloaded or stopped: look at its log"),
            CallError::TooLong { .. } => Self::because(&error)
                .exit(Exit::Usage)
                .hint("nothing was done; split it in several lists, each with its own name"),
            CallError::TimedOut { .. } => Self::because(&error)
                .exit(Exit::TimedOut)
                .hint("it may be done all the same: see `enforcer blocks` and `enforcer status`"),
            CallError::Broken { .. } | CallError::Foreign { .. } => {
                Self::because(&error).exit(Exit::AgentUnreachable)
            }
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}

/// `error` and its causes on one line, outermost first.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
