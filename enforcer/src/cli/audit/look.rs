//! Looking into the log is itself recorded, and recorded first.
//!
//! A running agent appends the record; where none runs, it is kept aside for the next one that
//! starts. When neither works, nothing is shown. A copy of a log that somebody named with `--log` is
//! read without a record: it is not this agent's any more.

use enforcer_admin::call::{Look, LookVerb};
use enforcer_admin::{Answer, Call};
use enforcer_audit::{Log, keep_aside};
use enforcer_model::{Clock, SystemClock};

use super::Place;
use crate::cli::{Context, Exit, Failure, mismatched};
use crate::desk::looked;
use crate::handover::spills;
use crate::operators::operator;

impl Place {
    /// Puts on record that `records` records of `log` are about to be seen by `verb`.
    pub(crate) fn look(
        &self,
        context: &Context,
        log: &Log,
        verb: LookVerb,
        arguments: Vec<String>,
        records: u64,
    ) -> Result<(), Failure> {
        if self.log.is_some() {
            return Ok(());
        }
        let look = Look { verb, arguments, records };
        match context.ask_if_there(&Call::Look(look.clone())).map_err(unrecorded)? {
            Some(Ok(Answer::Looked(_))) => Ok(()),
            Some(Ok(_)) => Err(mismatched()),
            Some(Err(failure)) => Err(unrecorded(failure)),
            None => {
                let by = operator(rustix::process::getuid().as_raw());
                let folder = spills(&context.state()?);
                keep_aside(&folder, log.size(), SystemClock.now(), &looked(look, by))
                    .map_err(|error| unrecorded(Failure::because(&error)))
            }
        }
    }
}

/// What cannot be put on record is not shown.
fn unrecorded(failure: Failure) -> Failure {
    let message = format!(
        "looking into the audit log is itself recorded, and that did not work: {}",
        failure.message
    );
    let exit = if failure.exit == Exit::NothingMatched { Exit::Failed } else { failure.exit };
    let hint = failure.hint.unwrap_or_else(|| {
        "nothing was shown; a copy of the log that `--log FOLDER` names is read without a record"
            .to_owned()
    });
    Failure { message, exit, details: failure.details, hint: Some(hint) }
}
