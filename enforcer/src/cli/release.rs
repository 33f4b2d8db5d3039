//! `enforcer release`: end a block.

use clap::Args;
use enforcer_admin::call::{Released, Which};
use enforcer_admin::{Answer, Call};
use enforcer_model::{BlockId, Clock, Expiry, SystemClock, Target, Timestamp};

use super::quarantine::exact_span;
use super::{Context, Exit, Failure, mismatched, recorded};

/// End a block by id or target
#[derive(Args, Debug)]
pub(crate) struct Release {
    /// `B-7K2Q4XW`, or the target that is blocked
    #[arg(value_parser = parse_which)]
    what: Which,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Take it out of the pinned kernel maps where no agent runs
    #[arg(long)]
    from_kernel: bool,
}

impl Release {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if self.from_kernel {
            return super::pinned::release(context, self.what);
        }
        let call = Call::Release { what: self.what, reason: self.reason.clone() };
        let Answer::Released(released) = context.ask(&call)? else { return Err(mismatched()) };
        context.printer.item(&released, &told(&released, SystemClock.now().wall))?;
        let is_whole = released.problems.is_empty() && released.audit.is_some();
        Ok(if is_whole { Exit::Done } else { Exit::PartlyApplied })
    }
}

fn parse_which(text: &str) -> Result<Which, String> {
    if text.len() > 2 && text.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("B-")) {
        return text.parse::<BlockId>().map(Which::Id).map_err(|error| error.to_string());
    }
    text.parse::<Target>().map(Which::Target).map_err(|error| error.to_string())
}

fn told(released: &Released, now: Timestamp) -> Vec<String> {
    let block = &released.block;
    let mut lines = vec![format!("released  {}   {}", block.target, block.id)];
    if released.kernel {
        lines.push(format!("  kernel  removed; it had dropped {} packets", released.packets));
    }
    if released.layer7 {
        lines.push("  layer 7 removed".to_owned());
    }
    lines.extend(released.problems.iter().map(|problem| format!("  NOT done: {problem}")));
    lines.push(format!("  audit   {}", recorded(released.audit)));
    let rest = match block.until {
        Expiry::At(end) => exact_span(end.since(now)),
        Expiry::Never => "forever".to_owned(),
    };
    lines.push(format!(
        "undo: enforcer quarantine {} --for {rest} --reason 'undo of {}'",
        block.target, block.id
    ));
    lines
}

#[cfg(test)]
mod tests {
    use enforcer_model::{Author, Block};

    use super::*;

    #[test]
    fn the_undo_line_lasts_as_long_as_the_block_would_have() {
        let now = Timestamp::from_unix_seconds(1_000);
        let undo = |until| told(&released(until), now).pop().unwrap();

        let timed = undo(Expiry::At(Timestamp::from_unix_seconds(1_898)));
        assert!(timed.contains(" 203.0.113.7 --for 14m58s --reason "), "{timed}");
        let over = undo(Expiry::At(Timestamp::from_unix_seconds(900)));
        assert!(over.contains(" --for 1s "), "{over}");
        let endless = undo(Expiry::Never);
        assert!(endless.contains(" --for forever "), "{endless}");
    }

    #[test]
    fn what_did_not_work_is_told() {
        let mut released = released(Expiry::Never);
        released.problems.push("the kernel map cannot be written".to_owned());

        let lines = told(&released, Timestamp::from_unix_seconds(0));

        assert!(lines.contains(&"  NOT done: the kernel map cannot be written".to_owned()));
    }

    fn released(until: Expiry) -> Released {
        Released {
            block: Block {
                id: BlockId::from_bits(1),
                target: "203.0.113.7".parse().unwrap(),
                since: Timestamp::from_unix_seconds(0),
                until,
                author: Author::Agent,
                reason: "test".to_owned(),
            },
            kernel: true,
            packets: 7,
            layer7: true,
            problems: Vec::new(),
            audit: Some(1),
        }
    }
}
