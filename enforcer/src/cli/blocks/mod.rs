//! `enforcer blocks`: every block, as it is enforced, and whether all layers agree.

mod export;
mod import;
mod list;
mod verify;
mod why;

use std::net::IpAddr;

use clap::{Args, Subcommand};

use super::{Context, Exit, Failure};
use verify::Repair;

/// Every block, as the kernel and layer 7 hold it
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Blocks {
    #[command(subcommand)]
    verb: Option<Verb>,
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

#[derive(Debug, Subcommand)]
enum Verb {
    /// Put a list of networks in force, in one step, in place of what the list held before
    Import(import::Import),
    /// Print the networks that are blocked, as `import` takes them
    Export(export::Export),
    /// Every list
    Lists(list::Lists),
}

impl Blocks {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match &self.verb {
            Some(Verb::Import(verb)) => return verb.execute(context),
            Some(Verb::Export(verb)) => return verb.execute(context),
            Some(Verb::Lists(verb)) => return verb.execute(context),
            None => {}
        }
        if let Some(address) = self.why {
            return why::execute(context, address);
        }
        if self.verify {
            let repair = if self.repair { Repair::Mend } else { Repair::Tell };
            return verify::execute(context, repair);
        }
        if self.from_kernel {
            return super::pinned::list(context);
        }
        list::execute(context)
    }
}
