//! `enforcer audit`: verify, read and export the log; needs no agent.

mod anchor;
mod anchored;
mod check_bundle;
mod erase;
mod export;
mod gathered;
mod look;
mod prune;
mod scroll;
mod search;
mod stats;
mod tail;
mod verify;
mod wanted;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use enforcer_audit::{Identity, Log, ReadError};

pub(crate) use export::bundle;
pub(crate) use gathered::Gathered;
pub(crate) use scroll::{Extent, Scroll};
pub(crate) use wanted::{Credential, Time};

use super::{Context, Exit, Failure};

/// Verify, read and export the audit log
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Hold every byte of the log against its signed root; exit code 7 when it does not hold
    Verify(verify::Verify),
    /// Show the log to its witnesses and the timestamping authority now, or list what they said
    Anchor(anchor::Anchor),
    /// Erase a personal value from the log, for good
    Erase(erase::Erase),
    /// Remove segments whose records are all older than a time
    Prune(prune::Prune),
    /// The newest records
    Tail(tail::Tail),
    /// The records that meet all of some conditions
    Search(Box<search::Search>),
    /// What the records come to: classes, decisions, bytes, rates, who sends most, gaps
    Stats(Box<stats::Stats>),
    /// Records for somebody else: as evidence that anybody can verify, or in the form of a SIEM
    Export(export::Export),
    /// Verify a bundle of evidence; exit code 7 when it does not hold
    CheckBundle(check_bundle::CheckBundle),
}

/// Where the log lies.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// The log's directory; the agent's own by default
    #[arg(long = "log", value_name = "FOLDER")]
    log: Option<PathBuf>,
    /// An age identity that opens segments whose keys the host has destroyed; see `[audit]
    /// recipients`
    #[arg(long = "identity", value_name = "FILE")]
    identity: Option<PathBuf>,
}

impl Audit {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Verify(verb) => verb.execute(context),
            Self::Anchor(verb) => verb.execute(context),
            Self::Erase(verb) => verb.execute(context),
            Self::Prune(verb) => verb.execute(context),
            Self::Tail(verb) => verb.execute(context),
            Self::Search(verb) => verb.execute(context),
            Self::Stats(verb) => verb.execute(context),
            Self::Export(verb) => verb.execute(context),
            Self::CheckBundle(verb) => verb.execute(context),
        }
    }
}

impl Place {
    /// The directory of the log.
    pub(crate) fn folder(&self, context: &Context) -> Result<PathBuf, Failure> {
        match &self.log {
            Some(named) => Ok(named.clone()),
            None => Ok(context.state()?.join("audit")),
        }
    }

    /// The log, as of its newest checkpoint.
    pub(crate) fn open(&self, context: &Context) -> Result<Log, Failure> {
        let log = Log::open_read_only(&self.folder(context)?);
        Ok(log.map_err(|error| unreadable(&error))?.with_identities(self.identities()?))
    }

    /// Who can open what the host cannot any more.
    pub(crate) fn identities(&self) -> Result<Arc<[Identity]>, Failure> {
        let Some(path) = &self.identity else { return Ok(Arc::default()) };
        let unusable = |why: &dyn std::fmt::Display| {
            Failure::failed(format!("`{}` {why}", path.display()))
                .hint("name the file that `age-keygen --output FILE` wrote")
        };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
        let text = zeroize::Zeroizing::new(text);
        Ok(Identity::parse_file(&text).map_err(|error| unusable(&error))?.into())
    }
}

/// Why the log cannot be read.
pub(crate) fn unreadable(error: &ReadError) -> Failure {
    let failure = Failure::because(error);
    match error {
        ReadError::NoLog(_) | ReadError::NoRecord { .. } => failure.exit(Exit::NothingMatched),
        ReadError::Checkpoint { .. }
        | ReadError::Damaged { .. }
        | ReadError::Root(_)
        | ReadError::Segment(_)
        | ReadError::Tile(_) => failure
            .exit(Exit::VerificationFailed)
            .hint("`enforcer audit verify` tells what is wrong and from where on"),
        ReadError::Sealed { .. } => failure
            .hint("`--identity FILE` opens them, with the age identity of one of the recipients"),
        ReadError::File(_) | ReadError::Index { .. } | ReadError::Key { .. } => failure,
    }
}
