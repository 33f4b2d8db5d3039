//! Who looks into the audit log is in it, before the first record is seen.

use enforcer_admin::call::{Look, Looked};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_audit::{AdminAction, Outcome, Record};
use enforcer_model::Author;

use super::Clerk;

/// Most words of a look that go on record.
const ARGUMENTS_MAX: usize = 64;

/// Longest of them, in characters.
const ARGUMENT_MAX: usize = 1_000;

impl Clerk {
    /// Puts the look on record. Without that, nothing may be shown.
    pub(super) async fn look(&self, look: Look, by: &Author) -> Result<Answer, Refusal> {
        let fits = |argument: &String| argument.chars().count() <= ARGUMENT_MAX;
        if look.arguments.len() > ARGUMENTS_MAX || !look.arguments.iter().all(fits) {
            return Err(Refusal::new(RefusalKind::Usage, "what is looked for is too long")
                .hint(format!("at most {ARGUMENTS_MAX} words of {ARGUMENT_MAX} characters each")));
        }
        let verb = look.verb.as_str().to_owned();
        let close = look.close;
        let done = Ok((Answer::Looked(Looked { audit: None }), None));
        let answer = self.recorded(&verb, arguments(look), by, done).await?;
        if matches!(answer, Answer::Looked(Looked { audit: None })) {
            let message = "the audit log takes no records, so nobody may look into it";
            return Err(Refusal::new(RefusalKind::Failed, message).hint(
                "`enforcer status` says why; a named copy (`--log FOLDER`) is read without a record",
            ));
        }
        if close {
            // Without that the evidence is less complete, and says so.
            drop(self.audit.roll().await);
        }
        Ok(answer)
    }
}

/// The record of a look that no agent writes down.
pub(crate) fn looked(look: Look, by: Author) -> Record {
    let verb = look.verb.as_str().to_owned();
    let arguments = arguments(look);
    let outcome = Outcome::Done;
    Record::Admin(AdminAction { operator: by, verb, arguments, outcome, detail: None })
}

fn arguments(look: Look) -> Vec<String> {
    let Look { verb: _, mut arguments, records, close: _ } = look;
    arguments.push(crate::cli::counted(records, "record"));
    arguments
}
