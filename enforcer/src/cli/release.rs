//! `enforcer release`: end a block.

use clap::Args;
use enforcer_admin::call::{Released, Which};
use enforcer_admin::{Answer, Call};
use enforcer_model::{BlockId, Target};

use super::{Context, Exit, Failure, mismatched};

/// End a block by id or target
#[derive(Args, Debug)]
pub(crate) struct Release {
    /// `B-7K2Q4XW`, or the target that is blocked
    #[arg(value_parser = parse_which)]
    what: Which,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Take it out of the pinned kernel maps without an agent
    #[arg(long)]
    from_kernel: bool,
}

impl Release {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if self.from_kernel {
            return super::blocks::release_from_kernel(context, self.what);
        }
        let call = Call::Release { what: self.what, reason: self.reason.clone() };
        let Answer::Released(released) = context.ask(&call)? else { return Err(mismatched()) };
        context.printer.item(&released, &told(&released))?;
        Ok(Exit::Done)
    }
}

fn parse_which(text: &str) -> Result<Which, String> {
    if text.len() > 2 && text.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("B-")) {
        return text.parse::<BlockId>().map(Which::Id).map_err(|error| error.to_string());
    }
    text.parse::<Target>().map(Which::Target).map_err(|error| error.to_string())
}

fn told(released: &Released) -> String {
    let block = &released.block;
    let mut lines = vec![format!("released  {}   {}", block.target, block.id)];
    if released.kernel {
        lines.push(format!("  kernel  removed; it had dropped {} packets", released.packets));
    }
    if released.layer7 {
        lines.push("  layer 7 removed".to_owned());
    }
    lines.push(match released.audit {
        Some(record) => format!("  audit   #{record}"),
        None => "  audit   NOT recorded: see `enforcer status`".to_owned(),
    });
    lines.push(format!(
        "undo: enforcer quarantine {} --reason 'undo of {}'",
        block.target, block.id
    ));
    lines.join("\n")
}
