//! `enforcer status`: how the agent is.

use std::time::Duration;

use clap::Args;
use enforcer_admin::call::{self, Counter};
use enforcer_admin::{Answer, Call};

use super::quarantine::span;
use super::{Context, Exit, Failure, mismatched};

/// How the agent is, read back from where it acts
#[derive(Args, Debug)]
pub(crate) struct Status {}

impl Status {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let Self {} = self;
        let Answer::Status(status) = context.ask(&Call::Status)? else { return Err(mismatched()) };
        context.printer.item(&status, &told(&status))?;
        Ok(Exit::Done)
    }
}

fn told(status: &call::Status) -> Vec<String> {
    let up = span(Duration::from_secs(status.uptime_seconds));
    let short = status.policy.sha256.get(..12).unwrap_or_default();
    let mut lines = vec![
        format!("enforcer {}  pid {}  up {up}", status.version, status.pid),
        format!("policy   {} ({short})  {}", status.policy.file.display(), status.policy.summary),
    ];
    lines.extend(status.listeners.iter().map(|listener| format!("listen   {listener}")));
    lines.push(match &status.kernel.problem {
        None => format!("kernel   {}  {}", status.kernel.mode, status.kernel.interfaces.join(", ")),
        Some(problem) => format!("kernel   {}: {problem}", status.kernel.mode),
    });
    lines.extend(counters("  packets", &status.kernel.packets));
    lines.push(format!("blocks   {} in force", status.blocks));
    lines.push(match &status.audit.failed {
        None => format!(
            "audit    {} records under a signed checkpoint, {}",
            status.audit.records,
            status.audit.directory.display()
        ),
        Some(failed) => format!("audit    FAILED: {failed}"),
    });
    lines.extend(counters("requests", &status.requests));
    lines
}

fn counters(what: &str, counters: &[Counter]) -> Vec<String> {
    let seen = counters.iter().filter(|counter| counter.count > 0);
    seen.map(|Counter { name, count }| format!("{what} {name:<28} {count}")).collect()
}
