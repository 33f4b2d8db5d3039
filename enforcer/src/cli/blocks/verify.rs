//! `enforcer blocks --verify`: whether the store, the kernel and layer 7 agree.

use enforcer_admin::call::Verified;
use enforcer_admin::{Answer, Call};

use crate::cli::{Context, Exit, Failure, mismatched, recorded};

/// What happens to differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    Tell,
    Mend,
}

pub(super) fn execute(context: &Context, repair: Repair) -> Result<Exit, Failure> {
    let call = Call::VerifyBlocks { repair: repair == Repair::Mend };
    let Answer::Verified(found) = context.ask(&call)? else {
        return Err(mismatched());
    };
    context.printer.item(&found, &told(&found, repair))?;
    if found.remaining.is_empty() {
        return Ok(Exit::Done);
    }
    context.printer.hint(match repair {
        Repair::Mend => "`enforcer status` tells what is wrong with the agent",
        Repair::Tell => "`enforcer blocks --verify --repair` mends them",
    });
    Ok(Exit::VerificationFailed)
}

fn told(found: &Verified, repair: Repair) -> Vec<String> {
    let kernel = match &found.kernel_off {
        None => format!("{} in the kernel", found.kernel_entries),
        Some(why) => format!("the kernel part is off ({why})"),
    };
    let mut lines = vec![format!(
        "{} decisions, {kernel}, {} at layer 7",
        found.decisions, found.layer7_entries
    )];
    lines.extend(found.differences.iter().map(|difference| format!("  {difference}")));
    match (found.differences.len(), repair) {
        (0, _) if found.remaining.is_empty() => lines.push("no difference".to_owned()),
        (1, Repair::Tell) => lines.push("1 difference".to_owned()),
        (many, Repair::Tell) => lines.push(format!("{many} differences")),
        (_, Repair::Mend) => {
            let is_gone = |difference: &&String| !found.remaining.contains(difference);
            let mended = found.differences.iter().filter(is_gone).count();
            lines.extend(found.remaining.iter().map(|left| format!("  REMAINS: {left}")));
            lines.push(format!("{mended} mended, {} remain", found.remaining.len()));
        }
    }
    if repair == Repair::Mend {
        lines.push(format!("  audit   {}", recorded(found.audit)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_says_what_it_mended_what_remains_and_whether_it_is_on_record() {
        let found = Verified {
            decisions: 2,
            kernel_entries: 1,
            layer7_entries: 2,
            differences: vec!["first".to_owned(), "second".to_owned()],
            remaining: vec!["second".to_owned()],
            kernel_off: None,
            audit: None,
        };

        let lines = told(&found, Repair::Mend);

        for line in ["  first", "  second", "  REMAINS: second", "1 mended, 1 remain"] {
            assert!(lines.contains(&line.to_owned()), "{line}: {lines:#?}");
        }
        assert!(lines.last().unwrap().contains("NOT recorded"), "{lines:#?}");
        assert_eq!(told(&found, Repair::Tell).last().unwrap(), "2 differences");
    }
}
