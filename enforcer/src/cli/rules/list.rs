//! `enforcer rules list`: every rule in force.

use clap::Args;
use enforcer_admin::call::{RuleRow, RulesOrder};
use enforcer_admin::{Answer, Call};

use super::in_use;
use crate::cli::{Context, Exit, Failure, Table, mismatched};
use crate::rules::row;

/// Every rule in force, with what it has found
///
/// From a running agent with its counters; where none runs, from the policy in use, or of the pack.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only those of this entry of the OWASP API Security Top 10, such as `API2`
    #[arg(long, value_name = "ENTRY")]
    owasp: Option<String>,
}

impl List {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let asked = context.ask_if_there(&Call::Rules { order: RulesOrder::List })?;
        let (rows, from_agent) = match asked {
            Some(answer) => {
                let Answer::Rules(shown) = answer? else { return Err(mismatched()) };
                (shown.rules, true)
            }
            None => {
                (in_use(context)?.iter().map(|plan| row(plan, plan.mode, None)).collect(), false)
            }
        };
        let wanted = |row: &RuleRow| match &self.owasp {
            None => true,
            Some(entry) => row.owasp.iter().any(|known| {
                known == entry || known.split(':').next().is_some_and(|short| short == entry)
            }),
        };
        let rows: Vec<RuleRow> = rows.into_iter().filter(wanted).collect();
        if rows.is_empty() {
            let hint = if from_agent {
                "add `[detect]` to the policy: it puts the pack in force"
            } else {
                "`enforcer rules list` shows all of them"
            };
            return Err(Failure::nothing("no rule is in force that fits").hint(hint));
        }
        context.printer.list(&rows, &table(&rows))?;
        if !from_agent {
            context.printer.say("no agent runs here: these are the rules of the files");
        }
        Ok(Exit::Done)
    }
}

fn table(rows: &[RuleRow]) -> Table {
    let cells = |row: &RuleRow| {
        let counts = row.counts.unwrap_or_default();
        let count =
            |count: u64| if row.counts.is_none() { "-".to_owned() } else { count.to_string() };
        let mode = if row.silent {
            "step".to_owned()
        } else if row.mode == row.own_mode {
            row.mode.clone()
        } else {
            format!("{} (file: {})", row.mode, row.own_mode)
        };
        vec![
            row.id.clone(),
            mode,
            row.key.clone(),
            row.severity.clone(),
            row.owasp
                .iter()
                .filter_map(|entry| entry.split(':').next())
                .collect::<Vec<_>>()
                .join(" "),
            count(counts.matched),
            count(counts.findings),
            count(counts.would_have_acted),
            count(counts.acted),
            counts.last.map_or_else(|| "-".to_owned(), |last| last.to_string()),
        ]
    };
    Table {
        header: &[
            "RULE",
            "MODE",
            "KEY",
            "SEVERITY",
            "OWASP",
            "EVENTS",
            "FINDINGS",
            "WOULD HAVE ACTED",
            "ACTED",
            "LAST",
        ],
        rows: rows.iter().map(cells).collect(),
    }
}
