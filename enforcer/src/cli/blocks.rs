//! `enforcer blocks`: every block, as it is enforced, and whether all layers agree.

use std::net::IpAddr;

use clap::Args;
use enforcer_admin::call::{BlockRow, Verified};
use enforcer_admin::{Answer, Call};

use super::quarantine::until;
use super::{Context, Exit, Failure, Table, mismatched, recorded};

/// Every block, as the kernel and layer 7 hold it
#[derive(Args, Debug)]
pub(crate) struct Blocks {
    /// What would happen to packets and requests from this address, and why
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["verify", "from_kernel"])]
    why: Option<IpAddr>,
    /// Compare the decisions with the kernel maps and layer 7; exit code 7 on any difference
    #[arg(long, conflicts_with = "from_kernel")]
    verify: bool,
    /// With --verify: mend what differs
    #[arg(long, requires = "verify")]
    repair: bool,
    /// Read the pinned kernel maps without an agent
    #[arg(long)]
    from_kernel: bool,
}

/// What happens to differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    Tell,
    Mend,
}

impl Blocks {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if let Some(address) = self.why {
            return why(context, address);
        }
        if self.verify {
            return verify(context, if self.repair { Repair::Mend } else { Repair::Tell });
        }
        if self.from_kernel {
            return super::pinned::list(context);
        }
        list(context)
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let Answer::Blocks(answer) = context.ask(&Call::Blocks)? else { return Err(mismatched()) };
    let rows = answer.blocks.iter().map(row).collect();
    let header = &["ID", "TARGET", "UNTIL", "ENFORCED", "DROPPED", "BY", "REASON"];
    context.printer.list(&answer.blocks, &Table { header, rows })?;
    if answer.blocks.is_empty() && !context.printer.is_for_programs() {
        context.printer.say("nobody is blocked");
    }
    Ok(Exit::Done)
}

fn row(row: &BlockRow) -> Vec<String> {
    let block = &row.block;
    let layers = match (row.kernel.is_some(), row.layer7) {
        (true, true) => "kernel, layer 7",
        (true, false) => "kernel",
        (false, true) => "layer 7",
        (false, false) => "NOWHERE",
    };
    vec![
        block.id.to_string(),
        block.target.to_string(),
        until(block.until, block.since),
        layers.to_owned(),
        row.kernel.as_ref().map_or_else(|| "-".to_owned(), |kernel| kernel.packets.to_string()),
        block.author.to_string(),
        block.reason.clone(),
    ]
}

fn why(context: &Context, address: IpAddr) -> Result<Exit, Failure> {
    let Answer::Why(why) = context.ask(&Call::Why { address })? else { return Err(mismatched()) };
    let mut lines = vec![format!("{}  {}: {}", why.address, why.verdict, why.because)];
    lines.extend(why.protected_by.iter().map(|list| format!("  protected by {list}")));
    for block in &why.blocks {
        lines.push(format!("  {}", row(block).join("  ")));
    }
    context.printer.item(&why, &lines)?;
    Ok(Exit::Done)
}

fn verify(context: &Context, repair: Repair) -> Result<Exit, Failure> {
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
