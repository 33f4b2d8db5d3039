//! `enforcer rules check`: everything that is wrong with files of rules, at once.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use enforcer_detect::rules::{RulePlan, read};
use serde_json::json;

use super::{shipped, text, told};
use crate::cli::{Context, Exit, Failure, counted};

/// Everything that is wrong with files of rules, at once; needs no agent
///
/// The files are read in their order behind the pack, so that they may name its rules as steps and may
/// not use their names. Without a file, the rules of the policy in use are checked.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// Files of rules
    files: Vec<PathBuf>,
    /// Check the files by themselves, as with `pack = "none"`
    #[arg(long)]
    no_pack: bool,
}

impl Check {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if self.files.is_empty() {
            let count = u64::try_from(super::in_use(context)?.len()).unwrap_or(u64::MAX);
            let line = format!("good; {}", counted(count, "rule"));
            context.printer.item(&json!({ "rules": count, "problems": [] }), &[line])?;
            return Ok(Exit::Done);
        }
        let mut known: Vec<Arc<RulePlan>> = if self.no_pack { Vec::new() } else { shipped()? };
        let before = known.len();
        let (mut lines, mut problems) = (Vec::new(), Vec::new());
        for file in &self.files {
            match read(&text(file)?, &known) {
                Ok(plans) => {
                    let count = u64::try_from(plans.len()).unwrap_or(u64::MAX);
                    lines.push(format!("{}: good; {}", file.display(), counted(count, "rule")));
                    known.extend(plans);
                }
                Err(found) => {
                    for told in told(file, &found) {
                        lines.extend(told.lines().map(str::to_owned));
                        lines.push(String::new());
                    }
                    problems.extend(found.into_iter().map(|problem| {
                        json!({
                            "file": file,
                            "line": problem.line,
                            "column": problem.column,
                            "message": problem.message,
                            "hint": problem.hint,
                        })
                    }));
                }
            }
        }
        let is_good = problems.is_empty();
        let value = json!({ "rules": known.len() - before, "problems": problems });
        context.printer.item(&value, &lines)?;
        Ok(if is_good { Exit::Done } else { Exit::Failed })
    }
}
