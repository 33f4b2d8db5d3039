//! `enforcer rules mode`: what a rule may do, at once.

use clap::{Args, ValueEnum};
use enforcer_admin::call::RulesOrder;
use enforcer_admin::{Answer, Call};

use crate::cli::{Context, Exit, Failure, mismatched, recorded};

/// Set what a rule may do, at once
///
/// Holds over restarts and reloads, until it is reset or the policy says another mode for the rule than
/// before. A response that has a milder mode of its own keeps it.
#[derive(Args, Debug)]
pub(crate) struct SetMode {
    /// The id of the rule
    rule: String,
    /// What it may do
    #[arg(value_enum)]
    mode: Wanted,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// Only record what would have been done
    Observe,
    /// Ask an operator first
    Approve,
    /// Do it
    Auto,
    /// What its file and the policy say
    Reset,
}

impl SetMode {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let mode = match self.mode {
            Wanted::Observe => Some("observe".to_owned()),
            Wanted::Approve => Some("approve".to_owned()),
            Wanted::Auto => Some("auto".to_owned()),
            Wanted::Reset => None,
        };
        let (rule, reason) = (self.rule.clone(), self.reason.clone());
        let call = Call::Rules { order: RulesOrder::Mode { rule, mode, reason } };
        let Answer::Rules(shown) = context.ask(&call)? else { return Err(mismatched()) };
        let mut lines: Vec<String> = shown
            .rules
            .iter()
            .map(|row| format!("{}  {} (file: {})", row.id, row.mode, row.own_mode))
            .collect();
        lines.push(format!("  audit   {}", recorded(shown.audit)));
        if self.mode != Wanted::Reset {
            lines.push(format!("undo: enforcer rules mode {} reset", self.rule));
        }
        context.printer.item(&shown, &lines)?;
        Ok(if shown.audit.is_none() { Exit::PartlyApplied } else { Exit::Done })
    }
}
