//! Looking into the log is itself recorded, and recorded first.
//!
//! A running agent appends the record; where none runs, it is kept aside for the next one that
//! starts. When neither works, nothing is shown. A copy of a log that somebody named with `--log` is
//! read without a record: it is not this agent's any more.

use std::time::Duration;

use enforcer_admin::call::{Look, LookVerb};
use enforcer_admin::{Answer, Call};
use enforcer_audit::index::SegmentProof;
use enforcer_audit::{Log, Selector, keep_aside};
use enforcer_model::{Clock, SystemClock};

use super::Place;
use crate::cli::{Context, Exit, Failure, mismatched};
use crate::desk::looked;
use crate::handover::spills;
use crate::operators::operator;

/// Longest time that evidence waits for the log to vouch for an index.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

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
        let look = Look { verb, arguments, records, close: false };
        self.tell(context, log, look).map(drop)
    }

    /// The same of what becomes evidence: the agent closes the segment, so that the log vouches for
    /// its index and the evidence can show that it is complete.
    pub(crate) fn look_for_evidence(
        &self,
        context: &Context,
        log: &Log,
        verb: LookVerb,
        arguments: Vec<String>,
        records: u64,
    ) -> Result<(), Failure> {
        let look = Look { verb, arguments, records, close: true };
        let Some(index) = self.tell(context, log, look)? else { return Ok(()) };
        let begun = SystemClock.now().monotonic;
        let any = Selector::Incident(0);
        while SystemClock.now().monotonic.saturating_duration_since(begun) < PATIENCE {
            let log = self.open(context)?;
            let proofs = enforcer_audit::index::prove(&log, &any, index..index.saturating_add(1));
            let covered = |proof: &SegmentProof| proof.statement().is_some();
            if proofs.is_ok_and(|proofs| !proofs.is_empty() && proofs.iter().all(covered)) {
                break;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Puts `look` on record; gives its number if it is in the log by now.
    fn tell(&self, context: &Context, log: &Log, look: Look) -> Result<Option<u64>, Failure> {
        if self.log.is_some() {
            return Ok(None);
        }
        match context.ask_if_there(&Call::Look(look.clone())).map_err(unrecorded)? {
            Some(Ok(Answer::Looked(looked))) => Ok(looked.audit),
            Some(Ok(_)) => Err(mismatched()),
            Some(Err(failure)) => Err(unrecorded(failure)),
            None => {
                let by = operator(rustix::process::getuid().as_raw());
                let folder = spills(&context.state()?);
                keep_aside(&folder, log.size(), SystemClock.now(), &looked(look, by))
                    .map_err(|error| unrecorded(Failure::because(&error)))?;
                Ok(None)
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
