//! `enforcer detach`: take the kernel half off this host, blocks and all; needs no agent.

use clap::Args;
use enforcer_kernel::Kernel;

use super::confirm::confirm;
use super::{Context, Exit, Failure};

/// Take the kernel half off this host, blocks and all
#[derive(Args, Debug)]
pub(crate) struct Detach {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Detach {
    /// The verb by itself: only where no agent runs.
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        context.without_agent(
            "`enforcer kernel detach` asks it; or set `mode = \"off\"` under [kernel] and `enforcer \
             policy apply`",
        )?;
        self.confirm(context)?;
        without_agent(context)
    }

    pub(super) fn confirm(&self, context: &Context) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        let question = "every block in the kernel ends; type `yes` to go on:";
        confirm(context, question, |answer| answer == "yes")
            .map_err(|failure| failure.hint("say `--yes` if that is meant"))
    }
}

/// Takes down what an agent left pinned.
pub(super) fn without_agent(context: &Context) -> Result<Exit, Failure> {
    let pins = context.pins()?;
    let interfaces =
        Kernel::detach_pinned(&pins).map_err(|error| Failure::advised(&error, error.hint()))?;
    let answer = serde_json::json!({ "pins": pins, "interfaces": interfaces });
    let lines = if interfaces.is_empty() {
        vec![format!("nothing was attached; {} is clear", pins.display())]
    } else {
        vec![
            format!("detached  {}", interfaces.join(", ")),
            "  no packet is dropped any more; the decisions stay in the agent's store".to_owned(),
            "undo: enforcer run".to_owned(),
        ]
    };
    context.printer.item(&answer, &lines)?;
    Ok(Exit::Done)
}
