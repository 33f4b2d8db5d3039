//! `enforcer detach`: take the kernel half off this host, blocks and all; needs no agent.

use std::io::IsTerminal;

use clap::Args;
use enforcer_admin::Call;
use enforcer_kernel::Kernel;

use super::{Context, Exit, Failure};

/// Take the kernel half off this host, blocks and all; needs no agent
#[derive(Args, Debug)]
pub(crate) struct Detach {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Detach {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if context.ask(&Call::Status).is_ok() {
            return Err(Failure::failed("an agent runs and would attach the kernel half again")
                .hint("stop it first, or set `mode = \"off\"` under [kernel] and `enforcer policy apply`"));
        }
        if !self.yes {
            confirm(context)?;
        }
        let pins = context.pins();
        let interfaces = Kernel::detach_pinned(&pins).map_err(|error| {
            let failure = Failure::because(&error);
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
        let answer = serde_json::json!({ "pins": pins, "interfaces": interfaces });
        let text = if interfaces.is_empty() {
            format!("nothing was attached; {} is clear", pins.display())
        } else {
            format!(
                "detached  {}\n  no packet is dropped any more; the decisions stay in the agent's store\n\
                 undo: enforcer run",
                interfaces.join(", ")
            )
        };
        context.printer.item(&answer, &text)?;
        Ok(Exit::Done)
    }
}

fn confirm(context: &Context) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("every block would end, and nobody can be asked")
            .hint("say `--yes` if that is meant"));
    }
    context.printer.say("every block in the kernel ends; type `yes` to go on:");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))?;
    if line.trim() == "yes" { Ok(()) } else { Err(Failure::usage("nothing was done")) }
}
