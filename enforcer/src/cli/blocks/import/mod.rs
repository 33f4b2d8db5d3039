//! `enforcer blocks import`: a file of networks becomes a list, in force in one step.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use enforcer_admin::call::{self, Imported, ListName, Refused};
use enforcer_admin::networks_file::{HostBits, read_networks};
use enforcer_admin::{Answer, Call};
use enforcer_model::Prefix;

use crate::cli::confirm::confirm;
use crate::cli::progress::Steps;
use crate::cli::quarantine::{Ttl, closed, micros, parse_ttl, ssh_peer, until};
use crate::cli::{Context, Exit, Failure, counted, mismatched, recorded};

/// Put a list of networks in force, in one step, in place of what the list held before
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// One address or network a line, `-` for stdin; `#` and `;` begin comments, JSON is read too
    file: PathBuf,
    /// The list's name; by default the file's, without its ending
    #[arg(long, value_name = "NAME")]
    list: Option<ListName>,
    /// How long: `24h`, `7d`, or `forever`
    #[arg(long = "for", value_name = "TIME", default_value = "24h", value_parser = parse_ttl)]
    ttl: Ttl,
    /// Why; goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Take `10.1.2.3/8` for `10.0.0.0/8`; without it such a line is an error
    #[arg(long)]
    mask: bool,
    /// Take in what the guards object to as well: asks for the list's name; goes on record
    #[arg(long)]
    override_guard: bool,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Longest file that is read: the longest call, with comments.
const FILE_MAX: u64 = 512 << 20;

impl Import {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        if self.reason.trim().is_empty() {
            return Err(Failure::usage("the reason is empty")
                .hint("say in a few words why, such as `--reason 'Spamhaus DROP'`"));
        }
        let list = self.list_name()?;
        if self.override_guard && !self.yes && !self.dry_run {
            self.confirm(context, &list)?;
        }
        let mut steps = Steps::new();
        let networks = self.networks(&mut steps)?;
        let call = Call::Import(call::Import {
            list,
            networks: networks.into(),
            ttl_seconds: self.ttl.seconds(),
            reason: self.reason.clone(),
            override_guard: self.override_guard,
            dry_run: self.dry_run,
            ssh_peer: ssh_peer(),
        });
        let answer = context.ask_with(&call, &mut |step| steps.call(step));
        drop(steps);
        let Answer::Imported(imported) = answer? else { return Err(mismatched()) };
        context.printer.item(&imported, &told(&imported))?;
        if imported.refused_total > 0 && !imported.dry_run {
            context.printer.hint(
                "take them out of the file, or say --override-guard (asks for the list's name; \
                 recorded)",
            );
        }
        Ok(if is_whole(&imported) { Exit::Done } else { Exit::PartlyApplied })
    }

    fn list_name(&self) -> Result<ListName, Failure> {
        if let Some(name) = &self.list {
            return Ok(name.clone());
        }
        let stem = self.file.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
        stem.parse().map_err(|_unfit| {
            Failure::usage(format!("{} gives the list no name", self.shown()))
                .hint("name it, such as `--list drop`")
        })
    }

    fn confirm(&self, context: &Context, list: &ListName) -> Result<(), Failure> {
        if self.is_stdin() {
            return Err(Failure::usage("the networks come from where the answer would")
                .hint("say `-y` if overriding the guards is meant, or name a file"));
        }
        let question = format!("type `{list}` to override the guards:");
        confirm(context, &question, |answer| answer == list.as_str())
    }

    fn networks(&self, steps: &mut Steps) -> Result<Vec<Prefix>, Failure> {
        let text = self.read(steps)?;
        let host_bits = if self.mask { HostBits::Mask } else { HostBits::Refuse };
        let parsed = read_networks(&text, host_bits, &mut |bytes| steps.parsed(bytes, text.len()));
        let shown = self.shown();
        let networks = parsed.map_err(|bad| {
            let mut details: Vec<_> =
                bad.first.iter().map(|line| format!("{shown}:{line}")).collect();
            match bad.total - bad.first.len() {
                0 => {}
                more => details.push(format!("and {more} more")),
            }
            Failure {
                details,
                ..Failure::usage(format!("{shown}: {bad}; nothing was imported:"))
                    .hint("mend these lines; `#` and `;` begin comments")
            }
        })?;
        if networks.is_empty() {
            return Err(Failure::usage(format!("{shown} holds no network; nothing was imported"))
                .hint("`enforcer release list:NAME` ends a list"));
        }
        Ok(networks)
    }

    fn read(&self, steps: &mut Steps) -> Result<Vec<u8>, Failure> {
        let failed = |error: std::io::Error| {
            Failure::failed(format!("cannot read {}: {error}", self.shown()))
        };
        if self.is_stdin() {
            return read_all(std::io::stdin().lock(), None, steps).map_err(failed)?;
        }
        let file = File::open(&self.file).map_err(failed)?;
        let length =
            file.metadata().ok().filter(std::fs::Metadata::is_file).map(|found| found.len());
        read_all(file, length, steps).map_err(failed)?
    }

    fn is_stdin(&self) -> bool {
        self.file == Path::new("-")
    }

    fn shown(&self) -> String {
        if self.is_stdin() { "stdin".to_owned() } else { self.file.display().to_string() }
    }
}

/// All bytes; the inner error is for more than anybody needs.
fn read_all(
    from: impl Read,
    length: Option<u64>,
    steps: &mut Steps,
) -> std::io::Result<Result<Vec<u8>, Failure>> {
    const PART: usize = 1 << 20;
    let mut from = from.take(FILE_MAX + 1);
    let mut text = Vec::with_capacity(length.and_then(|n| usize::try_from(n).ok()).unwrap_or(0));
    loop {
        let limit = u64::try_from(PART).unwrap_or(u64::MAX);
        if from.by_ref().take(limit).read_to_end(&mut text)? == 0 {
            return Ok(Ok(text));
        }
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if bytes > FILE_MAX {
            return Ok(Err(Failure::usage(format!(
                "more than {} MiB are no list",
                FILE_MAX >> 20
            ))
            .hint("split it in several lists, each with its own name")));
        }
        steps.read(bytes, length);
    }
}

/// Whether all of it is in force in every layer that should hold it, on disk and on record.
fn is_whole(imported: &Imported) -> bool {
    let kernel_lacks = imported.kernel_wanted && imported.kernel_off.is_some();
    let done = imported.layer7 && imported.audit.is_some() && imported.not_stored.is_none();
    imported.refused_total == 0 && !kernel_lacks && (done || imported.dry_run)
}

fn told(imported: &Imported) -> Vec<String> {
    let Imported { networks, v4, v6, dry_run, .. } = *imported;
    let word = if dry_run { "would import" } else { "imported" };
    let id = if dry_run { String::new() } else { imported.id.to_string() };
    let ends = until(imported.until, imported.since);
    let mut lines = vec![
        format!("{word}  list:{}  {ends}   {id}", imported.list),
        format!("  holds   {}: {v4} IPv4, {v6} IPv6", counted(networks, "network")),
    ];
    let also = [
        (imported.duplicates, "given more than once"),
        (imported.contained, "inside another network of the list"),
        (imported.already_blocked, "blocked by another decision as well"),
    ];
    let also = also.iter().filter(|(count, _)| *count > 0);
    lines.extend(also.map(|(count, what)| format!("          {count} {what}")));
    guarded("REFUSED", imported.refused_total, &imported.refused, &mut lines);
    let overridden = u64::try_from(imported.overridden.len()).unwrap_or(u64::MAX);
    guarded("overridden for", overridden, &imported.overridden, &mut lines);
    if let Some(kernel) = &imported.kernel {
        let took = micros(kernel.applied_us);
        let observe = if kernel.observe { "  (observe mode: counted, not dropped)" } else { "" };
        let interfaces = kernel.interfaces.join(", ");
        let entries = kernel.entries;
        let entries =
            if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
        lines.push(format!(
            "  kernel  {interfaces}   {entries}, read back; one switch, in {took}{observe}"
        ));
    }
    if let Some(why) = &imported.kernel_off {
        let word = if imported.kernel_wanted { "NOT applied" } else { "off" };
        lines.push(format!("  kernel  {word}: {why}"));
    }
    if dry_run {
        lines.extend(before(imported, "would leave"));
        return lines;
    }
    let layer7 = if imported.layer7 { "applied" } else { "NOT applied: the table is full" };
    let closed = closed(imported.connections_closed, "open connection");
    lines.push(format!("  layer 7 {layer7}{closed}"));
    lines.extend(before(imported, "left"));
    if let Some(why) = &imported.not_stored {
        lines.push(format!("  store   NOT written: {why}"));
    }
    lines.push(format!("  audit   {}", recorded(imported.audit)));
    lines.push(format!("  took    {}", micros(imported.took_us)));
    lines.push(undo(imported));
    lines
}

fn before(imported: &Imported, word: &str) -> Option<String> {
    let Imported { removed, replaced, .. } = imported;
    let replaced = (*replaced)?;
    let removed = counted(*removed, "network");
    Some(format!("  before  {replaced} is replaced; {removed} {word} the list"))
}

/// What was before, or nothing.
fn undo(imported: &Imported) -> String {
    let list = &imported.list;
    match &imported.previous {
        Some(file) => format!(
            "undo: enforcer blocks import {} --list {list} --reason 'undo of {}'",
            file.display(),
            imported.id
        ),
        None => format!("undo: enforcer release list:{list}"),
    }
}

fn guarded(word: &str, total: u64, told: &[Refused], lines: &mut Vec<String>) {
    if total == 0 {
        return;
    }
    lines.push(format!("  guards  {word} {total}:"));
    lines.extend(
        told.iter()
            .map(|refused| format!("    {:<18} {}", refused.prefix.to_string(), refused.why)),
    );
    let shown = u64::try_from(told.len()).unwrap_or(u64::MAX);
    match total.saturating_sub(shown) {
        0 => {}
        more => lines.push(format!("    and {more} more")),
    }
}

#[cfg(test)]
mod tests;
