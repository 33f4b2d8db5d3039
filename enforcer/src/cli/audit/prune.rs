//! `enforcer audit prune`: segments that nobody has to keep any more go; what they proved stays.

use clap::{ArgGroup, Args};
use enforcer_admin::call::{self, PrunedAnswer};
use enforcer_admin::{Answer, Call};
use enforcer_audit::{Audit, Config, Log};
use enforcer_model::{Clock as _, SystemClock, Timestamp};

use super::unreadable;
use crate::cli::confirm::confirm;
use crate::cli::quarantine::parse_span;
use crate::cli::trail::parse_begin;
use crate::cli::{Context, Exit, Failure, bytes, counted, mismatched, recorded};
use crate::operators::operator;
use crate::retention::{self, Wish};

/// Remove segments whose records are all older than a time
///
/// Oldest first, whole segments only, never the one that grows. The tree above them stays: what is
/// left, and copies that others have, can be proven as before. It is on record before anything is
/// removed. The policy does the same by itself with `keep` under `[audit]`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("age").args(["before", "keep"]))]
pub(crate) struct Prune {
    /// Records from before this time: `2026-01-31T12:00:00Z`, or `90d` for so long ago
    #[arg(long, value_name = "TIME", value_parser = parse_begin)]
    before: Option<Timestamp>,
    /// Records older than this: `90d`; by default what the policy says
    #[arg(long, value_name = "SPAN", value_parser = parse_keep)]
    keep: Option<Timestamp>,
    /// Also records that no witness knows
    #[arg(long)]
    force: bool,
    /// Only say what it would remove
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Prune {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let before = self.time(context)?;
        if !self.dry_run && !self.yes {
            let would = self.ask(context, before, true)?;
            let question = format!(
                "records {} to {} will be removed for good; type `prune` to go on:",
                would.first,
                would.end.saturating_sub(1)
            );
            confirm(context, &question, |answer| answer == "prune")
                .map_err(|failure| failure.hint("say `--yes` if that is meant"))?;
        }
        let pruned = self.ask(context, before, self.dry_run)?;
        context.printer.item(&pruned, &told(&pruned))?;
        Ok(Exit::Done)
    }

    /// Before which time records may go.
    fn time(&self, context: &Context) -> Result<Timestamp, Failure> {
        if let Some(before) = self.before.or(self.keep) {
            return Ok(before);
        }
        let keep = context.policy()?.and_then(|policy| policy.audit().keep);
        let keep = keep.ok_or_else(|| {
            Failure::usage("the policy keeps everything")
                .hint("say `--keep 90d`, `--before TIME`, or set `keep` under `[audit]`")
        })?;
        Ok(retention::before(SystemClock.now().wall, keep))
    }

    fn ask(
        &self,
        context: &Context,
        before: Timestamp,
        dry_run: bool,
    ) -> Result<PrunedAnswer, Failure> {
        let call = Call::AuditPrune(call::Prune { before, force: self.force, dry_run });
        match context.ask_if_there(&call)? {
            Some(Ok(Answer::Pruned(pruned))) => Ok(pruned),
            Some(Ok(_)) => Err(mismatched()),
            Some(Err(failure)) => Err(failure),
            None => self.alone(context, before, dry_run),
        }
    }

    /// The same where no agent runs.
    fn alone(
        &self,
        context: &Context,
        before: Timestamp,
        is_rehearsed: bool,
    ) -> Result<PrunedAnswer, Failure> {
        let folder = context.state()?.join("audit");
        let log = Log::open_read_only(&folder).map_err(|error| unreadable(&error))?;
        let has_witnesses =
            context.policy()?.is_some_and(|policy| !policy.audit().anchoring.witnesses.is_empty());
        if has_witnesses && !self.force {
            return Err(Failure::failed("no agent runs that knows what witnesses know")
                .exit(Exit::Guarded)
                .hint("start the agent, or say `--force`"));
        }
        let config = Config::new(&folder, log.checkpoint().origin.clone());
        let (audit, _opened) =
            Audit::open(config, std::sync::Arc::new(SystemClock)).map_err(|error| {
                let hint = error.hint();
                Failure::because(&error).hint(hint)
            })?;
        let wish = Wish {
            before,
            below: u64::MAX,
            by: operator(rustix::process::getuid().as_raw()),
            is_forced: self.force,
            is_rehearsed,
        };
        let runtime = crate::daemon::control_runtime()
            .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
        let removed = runtime.block_on(async {
            let removed = retention::prune(&audit, &folder, wish).await;
            audit.close().await.map_err(|lost| lost.to_string())?;
            removed
        });
        let removed = removed.map_err(Failure::failed)?;
        let removed = removed.ok_or_else(|| {
            Failure::nothing(format!("no closed segment has only records from before {before}"))
                .hint("the newest segment stays, whatever its age")
        })?;
        Ok(removed.answer(before, is_rehearsed))
    }
}

fn parse_keep(text: &str) -> Result<Timestamp, String> {
    let span =
        parse_span(text).ok_or_else(|| format!("`{text}` is no span of time; write `90d`"))?;
    Ok(retention::before(SystemClock.now().wall, span))
}

fn told(pruned: &PrunedAnswer) -> Vec<String> {
    let what = format!(
        "records {} to {} in {}, {}",
        pruned.first,
        pruned.end.saturating_sub(1),
        counted(pruned.segments, "segment"),
        bytes(pruned.bytes)
    );
    if pruned.dry_run {
        return vec![format!("would remove  {what}")];
    }
    vec![
        format!("removed  {what}"),
        format!("  root    {} over all records before {}", pruned.root, pruned.end),
        format!("  audit   {}", recorded(pruned.audit)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_tells_what_went_and_what_its_root_was() {
        let mut pruned = PrunedAnswer {
            before: Timestamp::from_unix_seconds(1_700_000_000),
            first: 0,
            end: 512,
            segments: 2,
            bytes: 2_048,
            root: "ab".repeat(32),
            dry_run: false,
            audit: Some(600),
        };
        let lines = told(&pruned).join("\n");
        assert!(lines.contains("records 0 to 511 in 2 segments, 2.0 KiB"), "{lines}");
        assert!(lines.contains(&pruned.root) && lines.contains("#600"), "{lines}");

        pruned.dry_run = true;
        assert!(told(&pruned).join("\n").starts_with("would remove"));
        assert!(parse_keep("soon").is_err());
    }
}
