//! `enforcer audit export`: records for somebody else, as evidence or in the form of a SIEM.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use enforcer_admin::call::LookVerb;
use enforcer_audit::{
    BundleError, Choice, Condition, Extras, Form, Formatter, Log, Query, Selector, Stored, Wanted,
};
use enforcer_model::{Clock, SystemClock, Timestamp};

use super::{Place, unreadable};
use crate::cli::trail::parse_begin;
use crate::cli::{Context, Exit, Failure, counted};

/// Records for somebody else: as evidence that anybody can verify, or in the form of a SIEM
#[derive(Args, Debug)]
pub(crate) struct Export {
    #[command(flatten)]
    place: Place,
    /// Numbers of records
    #[arg(value_name = "INDEX", conflicts_with_all = ["who", "incident", "since", "until"])]
    indices: Vec<u64>,
    /// Everything that has to do with somebody or something, written as for `enforcer trail`
    #[arg(long, value_name = "SELECTOR")]
    who: Option<Selector>,
    /// Everything that belongs to an incident such as `INC-0042`; of a level from 0 to 5: what was
    /// served under it, and every change of the level
    #[arg(long, value_name = "INCIDENT", conflicts_with = "who", value_parser = parse_incident)]
    incident: Option<Selector>,
    /// From then on: `24h`, or a time such as `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_begin)]
    since: Option<Timestamp>,
    /// Only what was before: `1h`, or a time such as `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_begin)]
    until: Option<Timestamp>,
    /// What to write; a folder by default: `record` for one INDEX, else `bundle`
    #[arg(long, value_enum)]
    format: Option<ExportFormat>,
    /// A folder that is made for `bundle` and `record`; else a file, or `-` for stdout
    #[arg(long, value_name = "FOLDER|FILE")]
    out: Option<PathBuf>,
}

/// What an export looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// A folder of evidence: records, proofs, keys, policies, a script that verifies them
    Bundle,
    /// A folder with one record, its proof, and the script
    Record,
    /// The records as they are, one a line
    Jsonl,
    /// A table, safe for a spreadsheet
    Csv,
    /// Open Cybersecurity Schema Framework, one event a line
    Ocsf,
    /// Elastic Common Schema, one event a line
    Ecs,
}

fn parse_incident(text: &str) -> Result<Selector, String> {
    match format!("incident:{text}").parse() {
        Ok(selector) => Ok(selector),
        Err(_) => Err(format!("`{text}` is neither an incident such as `INC-0042` nor a level")),
    }
}

impl Export {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let wanted = self.wanted()?;
        let one = matches!(&wanted.what, Choice::Numbers(numbers) if numbers.len() == 1);
        let default = if one { ExportFormat::Record } else { ExportFormat::Bundle };
        match (self.format.unwrap_or(default), &wanted.what) {
            (ExportFormat::Bundle, _) => {
                bundle(context, &self.place, LookVerb::Export, &wanted, self.folder()?)
            }
            (ExportFormat::Record, Choice::Numbers(numbers)) if one => {
                let index = numbers.first().copied().unwrap_or_default();
                self.record(context, index, self.folder()?)
            }
            (ExportFormat::Record, _) => Err(Failure::usage("`record` is for one INDEX")
                .hint("`--format bundle` takes many records")),
            (ExportFormat::Jsonl, _) => self.lines(context, &wanted, Form::Jsonl),
            (ExportFormat::Csv, _) => self.lines(context, &wanted, Form::Csv),
            (ExportFormat::Ocsf, _) => self.lines(context, &wanted, Form::Ocsf),
            (ExportFormat::Ecs, _) => self.lines(context, &wanted, Form::Ecs),
        }
    }

    fn wanted(&self) -> Result<Wanted, Failure> {
        let (since, until) = (self.since, self.until);
        let what = if let Some(who) = &self.who {
            Choice::Trail(who.clone())
        } else if let Some(incident) = &self.incident {
            Choice::Trail(incident.clone())
        } else if !self.indices.is_empty() {
            Choice::Numbers(self.indices.clone())
        } else if since.is_some() || until.is_some() {
            Choice::Everything
        } else {
            return Err(Failure::usage("which records?").hint(
                "name some: INDEX…, `--who SELECTOR`, `--incident INC-0042`, or `--since` and `--until`",
            ));
        };
        Ok(Wanted { what, since, until })
    }

    fn folder(&self) -> Result<&Path, Failure> {
        self.out.as_deref().ok_or_else(|| {
            Failure::usage("into which folder?").hint("`--out FOLDER` names one, which is made")
        })
    }

    fn record(&self, context: &Context, index: u64, out: &Path) -> Result<Exit, Failure> {
        let log = self.place.open(context)?;
        let evidence = log.export(index).map_err(|error| unreadable(&error))?;
        if out.exists() {
            return Err(there_already(out));
        }
        self.place.look(context, &log, LookVerb::Export, vec![format!("#{index}")], 1)?;
        evidence.write_to(out).map_err(|error| Failure::because(&error))?;
        let folder = out.display();
        let lines = [
            format!("record #{index} with its proof is in {folder}"),
            "check it anywhere, with openssl and xxd alone:".to_owned(),
            format!(
                "  sh {folder}/verify.sh {folder}/record.json {folder}/record.tlog-proof '{}'",
                evidence.key
            ),
        ];
        let answer = serde_json::json!({
            "index": index, "folder": out, "key": evidence.key.to_string(),
        });
        context.printer.item(&answer, &lines)?;
        Ok(Exit::Done)
    }

    fn lines(&self, context: &Context, wanted: &Wanted, form: Form) -> Result<Exit, Failure> {
        let log = self.place.open(context)?;
        let records = || found(&log, wanted);
        let mut count = 0_u64;
        for record in records()? {
            record?;
            count += 1;
        }
        if count == 0 {
            return Err(nothing());
        }
        self.place.look(context, &log, LookVerb::Export, arguments(wanted), count)?;
        let formatter = Formatter::new(form, log.key().origin(), env!("CARGO_PKG_VERSION"));
        let is_stdout = self.out.as_deref().is_none_or(|out| out == Path::new("-"));
        let mut out: BufWriter<Box<dyn Write>> = match self.out.as_deref() {
            Some(path) if !is_stdout => BufWriter::new(Box::new(create(path)?)),
            _ => BufWriter::new(Box::new(std::io::stdout().lock())),
        };
        let mut write = |text: String| match out.write_all(text.as_bytes()) {
            Err(error) if is_stdout && error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::failed(format!("cannot write the export: {error}"))),
            Ok(()) => Ok(true),
        };
        if let Some(header) = formatter.header() {
            write(header)?;
        }
        for record in records()? {
            let line = formatter.line(&record?).map_err(|error| Failure::because(&error))?;
            if !write(line)? {
                return Ok(Exit::Done);
            }
        }
        match out.flush() {
            Err(error) if is_stdout && error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => {
                return Err(Failure::failed(format!("cannot write the export: {error}")));
            }
            Ok(()) => {}
        }
        if !is_stdout {
            context.printer.say(&format!("{} exported", counted(count, "record")));
        }
        Ok(Exit::Done)
    }
}

/// Writes a bundle of evidence, and tells how it is verified.
pub(crate) fn bundle(
    context: &Context,
    place: &Place,
    verb: LookVerb,
    wanted: &Wanted,
    out: &Path,
) -> Result<Exit, Failure> {
    let log = place.open(context)?;
    if out.exists() {
        return Err(there_already(out));
    }
    // Nothing leaves the log before the look is on record, so they are counted first.
    let mut count = 0_u64;
    for record in found(&log, wanted)? {
        record?;
        count += 1;
    }
    if count == 0 {
        return Err(nothing());
    }
    place.look_for_evidence(context, &log, verb, arguments(wanted), count)?;
    let log = place.open(context)?;
    let previous = context.state().ok().map(|state| state.join("policy.previous.toml"));
    let policies: Vec<PathBuf> = previous.into_iter().chain([context.policy_file()]).collect();
    let extras = Extras { policies: &policies, now: SystemClock.now().wall };
    let bundled = log.bundle(wanted, &extras, out).map_err(|error| match error {
        BundleError::Read(error) => unreadable(&error),
        BundleError::Exists(_) => there_already(out),
        BundleError::Nothing => nothing(),
        error @ BundleError::TooMany => Failure::because(&error).hint(
            "a shorter span of time holds fewer; or copy the log: `audit verify` takes a copy",
        ),
        error @ (BundleError::File(_) | BundleError::Odd) => Failure::because(&error),
    })?;
    let folder = out.display();
    let mut lines = vec![
        format!(
            "{} of {} with their proofs are in {folder}",
            counted(bundled.records, "record"),
            bundled.size
        ),
        "check it anywhere, with openssl and xxd alone:".to_owned(),
        format!("  sh {folder}/verify.sh {folder} '{}'", bundled.key),
    ];
    lines.push(if bundled.witnesses.is_empty() {
        "nobody else has signed its checkpoint".to_owned()
    } else {
        format!("its checkpoint was also signed by {}", bundled.witnesses.join(", "))
    });
    let answer = serde_json::json!({
        "folder": out, "records": bundled.records, "context": bundled.context,
        "size": bundled.size, "witnesses": bundled.witnesses, "timestamp": bundled.has_token,
        "complete": bundled.is_complete, "key": bundled.key.to_string(),
    });
    context.printer.item(&answer, &lines)?;
    Ok(Exit::Done)
}

/// The records that are wanted, in their order.
fn found<'a>(
    log: &'a Log,
    wanted: &'a Wanted,
) -> Result<Box<dyn Iterator<Item = Result<Stored, Failure>> + 'a>, Failure> {
    let conditions = match &wanted.what {
        Choice::Numbers(numbers) => {
            let mut numbers = numbers.clone();
            numbers.sort_unstable();
            numbers.dedup();
            let records = numbers.into_iter().map(|index| log.record(index));
            return Ok(Box::new(records.map(|record| record.map_err(|error| unreadable(&error)))));
        }
        Choice::Everything => Vec::new(),
        Choice::Trail(selector) => vec![Condition::Who(selector.clone())],
    };
    // A search knows the last moment that counts, a wish the first that does not.
    let until =
        wanted.until.map(|until| Timestamp::from_unix_ns(until.unix_ns().saturating_sub(1)));
    let query =
        Query { conditions, since: wanted.since, until, range: 0..log.size(), ..Query::default() };
    let found = log.search(query).map_err(|error| unreadable(&error))?;
    Ok(Box::new(found.map(|record| record.map_err(|error| unreadable(&error)))))
}

/// What was asked for, as it goes on record.
fn arguments(wanted: &Wanted) -> Vec<String> {
    let mut arguments = match &wanted.what {
        Choice::Everything => vec!["everything".to_owned()],
        Choice::Numbers(numbers) => {
            const TOLD: usize = 16;
            let told = numbers.iter().take(TOLD).map(|index| format!("#{index}"));
            let more = numbers.len().saturating_sub(TOLD);
            let more = (more > 0).then(|| format!("and {more} more"));
            told.chain(more).collect()
        }
        Choice::Trail(selector) => vec![selector.to_string()],
    };
    arguments.extend(wanted.since.map(|since| format!("since {since}")));
    arguments.extend(wanted.until.map(|until| format!("until {until}")));
    arguments
}

fn create(path: &Path) -> Result<File, Failure> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(there_already(path)),
        Err(error) => Err(Failure::failed(format!("cannot create {}: {error}", path.display()))),
    }
}

fn there_already(path: &Path) -> Failure {
    Failure::failed(format!("{} exists and is left alone", path.display()))
        .hint("name one that does not exist yet")
}

fn nothing() -> Failure {
    Failure::nothing("no record has to do with it").hint(
        "an earlier `--since` or another spelling may; `enforcer audit tail` shows the newest",
    )
}
