//! `enforcer audit`: verify, read and export the log; needs no agent.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use enforcer_audit::{Log, ReadError, Report, Stored, VerifierKey, VerifyError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::record::told;
use super::{Context, Exit, Failure, Format, Printed, Printer, Table};

/// How often `tail --follow` looks for new records.
const FOLLOW: Duration = Duration::from_millis(200);

/// Verify, read and export the audit log
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Hold every byte of the log against its signed root; exit code 7 when it does not hold
    Verify(Verify),
    /// The newest records
    Tail(Tail),
    /// One record with the proof that it is in the log, and a script that checks it anywhere
    Export(Export),
}

/// Where the log lies.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// The log's directory; the agent's own by default
    #[arg(long = "log", value_name = "FOLDER")]
    log: Option<PathBuf>,
}

/// Hold every byte of the log against its signed root; exit code 7 when it does not hold
#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    place: Place,
    /// The log's public key from somewhere that the host cannot change, such as
    /// `host.example/enforcer+1234abcd+AX…`; by default the one beside the log
    #[arg(long, value_name = "KEY")]
    public_key: Option<VerifierKey>,
}

/// The newest records
#[derive(Args, Debug)]
pub(crate) struct Tail {
    #[command(flatten)]
    place: Place,
    /// How many
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    lines: u64,
    /// Go on as new ones are committed, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
}

/// One record with the proof that it is in the log, and a script that checks it anywhere
#[derive(Args, Debug)]
pub(crate) struct Export {
    #[command(flatten)]
    place: Place,
    /// The number of the record
    index: u64,
    /// Into this folder, which is made
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// Where the key came from that a log was held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyFrom {
    Elsewhere,
    BesideTheLog,
}

/// What `verify` found, for programs.
#[derive(Debug, Serialize)]
struct Verified {
    log: PathBuf,
    holds: bool,
    origin: Option<String>,
    signed_records: Option<u64>,
    unsigned_tail_records: Option<u64>,
    unfinished_bytes: Option<u64>,
    last_good: Option<u64>,
    first_bad: Option<u64>,
    file: Option<PathBuf>,
    why: Option<String>,
}

impl Audit {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Verify(verb) => verb.execute(context),
            Self::Tail(verb) => verb.execute(context),
            Self::Export(verb) => verb.execute(context),
        }
    }
}

impl Place {
    /// The directory of the log.
    pub(crate) fn folder(&self, context: &Context) -> Result<PathBuf, Failure> {
        match &self.log {
            Some(named) => Ok(named.clone()),
            None => Ok(context.state()?.join("audit")),
        }
    }

    /// The log, as of its newest checkpoint.
    pub(crate) fn open(&self, context: &Context) -> Result<Log, Failure> {
        Log::open_read_only(&self.folder(context)?).map_err(|error| unreadable(&error))
    }
}

impl Verify {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let log = self.place.folder(context)?;
        let key_from =
            if self.public_key.is_some() { KeyFrom::Elsewhere } else { KeyFrom::BesideTheLog };
        let bar = progress_bar();
        let checked = enforcer_audit::verify(&log, self.public_key.as_ref(), |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        match checked {
            Ok(report) => {
                let lines = held(&report, key_from);
                context.printer.item(&Verified::held(log, &report), &lines)?;
                Ok(Exit::Done)
            }
            Err(VerifyError::Damaged(damage)) => {
                let message = damage.to_string();
                if context.printer.is_for_programs() {
                    context.printer.item(&Verified::broken(log, damage), &[])?;
                }
                Err(Failure::failed(message).exit(Exit::VerificationFailed).hint(
                    "keep the directory as it is: it is evidence; compare it with a copy from elsewhere",
                ))
            }
            Err(error @ VerifyError::NoLog(_)) => Err(Failure::because(&error)
                .exit(Exit::NothingMatched)
                .hint("`--log FOLDER` names another place")),
            Err(error @ VerifyError::File(_)) => Err(Failure::because(&error)),
        }
    }
}

impl Verified {
    fn held(log: PathBuf, report: &Report) -> Self {
        Self {
            log,
            holds: true,
            origin: Some(report.checkpoint.origin.clone()),
            signed_records: Some(report.checkpoint.size),
            unsigned_tail_records: Some(report.tail_records),
            unfinished_bytes: Some(report.tail_torn_bytes),
            last_good: report.checkpoint.size.checked_sub(1),
            first_bad: None,
            file: None,
            why: None,
        }
    }

    fn broken(log: PathBuf, damage: enforcer_audit::Damage) -> Self {
        Self {
            log,
            holds: false,
            origin: None,
            signed_records: None,
            unsigned_tail_records: None,
            unfinished_bytes: None,
            last_good: damage.last_good,
            first_bad: damage.first_bad,
            file: Some(damage.file),
            why: Some(damage.why),
        }
    }
}

fn held(report: &Report, key_from: KeyFrom) -> Vec<String> {
    let Report { checkpoint, tail_records, tail_torn_bytes, segments, bytes, .. } = report;
    let mut lines = vec![
        format!("the log {} holds", checkpoint.origin),
        format!("  signed    {} records, {segments} segments, {bytes} bytes", checkpoint.size),
    ];
    if *tail_records > 0 || *tail_torn_bytes > 0 {
        lines.push(format!(
            "  tail      {tail_records} records and {tail_torn_bytes} bytes are not signed yet"
        ));
    }
    lines.push(format!("  key       {}", report.key));
    if key_from == KeyFrom::BesideTheLog {
        lines.push(
            "  the key was read beside the log; with --public-key from elsewhere it proves more"
                .to_owned(),
        );
    }
    lines
}

impl Tail {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let log = self.place.open(context)?;
        let mut next = log.size();
        let extent = if self.follow { Extent::Endless } else { Extent::Whole };
        let mut scroll = Scroll::new(context, extent);
        for record in log.tail(self.lines).map_err(|error| unreadable(&error))? {
            let record = record.map_err(|error| unreadable(&error))?;
            if scroll.print(&record)? == Printed::ReaderGone {
                return Ok(Exit::Done);
            }
        }
        if !self.follow {
            scroll.end()?;
            return Ok(Exit::Done);
        }
        loop {
            std::thread::sleep(FOLLOW);
            let log = self.place.open(context)?;
            for record in log.records(next..log.size()).map_err(|error| unreadable(&error))? {
                let record = record.map_err(|error| unreadable(&error))?;
                if scroll.print(&record)? == Printed::ReaderGone {
                    return Ok(Exit::Done);
                }
            }
            next = log.size();
        }
    }
}

impl Export {
    fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let evidence =
            self.place.open(context)?.export(self.index).map_err(|error| unreadable(&error))?;
        if self.out.exists() {
            return Err(Failure::failed(format!(
                "{} exists and is left alone",
                self.out.display()
            ))
            .hint("name a folder that does not exist yet"));
        }
        evidence.write_to(&self.out).map_err(|error| Failure::because(&error))?;
        let out = self.out.display();
        let lines = [
            format!("record #{} with its proof is in {out}", self.index),
            "check it anywhere, with openssl and xxd alone:".to_owned(),
            format!(
                "  sh {out}/verify.sh {out}/record.json {out}/record.tlog-proof '{}'",
                evidence.key
            ),
        ];
        let answer = serde_json::json!({
            "index": self.index, "folder": self.out, "key": evidence.key.to_string(),
        });
        context.printer.item(&answer, &lines)?;
        Ok(Exit::Done)
    }
}

/// Records one after the other: lines for people, one document or canonical lines for programs.
pub(crate) struct Scroll {
    printer: Printer,
    extent: Extent,
    printed: u64,
}

/// Whether the last record is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It is: JSON is one array.
    Whole,
    /// More may come: JSON is one line each.
    Endless,
}

impl Scroll {
    pub(crate) fn new(context: &Context, extent: Extent) -> Self {
        Self { printer: context.printer, extent, printed: 0 }
    }

    pub(crate) fn print(&mut self, record: &Stored) -> Result<Printed, Failure> {
        let first = self.printed == 0;
        self.printed += 1;
        match (self.printer.format(), self.extent) {
            (Format::Json, Extent::Whole) => {
                let before = if first { '[' } else { ',' };
                self.printer.data(&format!("{before}{}", record.text))
            }
            (Format::Json, Extent::Endless) | (Format::Jsonl, _) => self.printer.data(&record.text),
            (Format::Yaml, _) => {
                let json = record.json().map_err(|error| Failure::because(&error))?;
                self.printer.list(&[json], &Table { header: &[], rows: Vec::new() })
            }
            (Format::Auto | Format::Table | Format::Plain, _) => self.printer.text(&[told(record)]),
        }
    }

    /// How many there were; the document is complete.
    pub(crate) fn end(self) -> Result<u64, Failure> {
        if self.printer.format() == Format::Json && self.extent == Extent::Whole {
            self.printer.data(if self.printed == 0 { "[]" } else { "]" })?;
        }
        Ok(self.printed)
    }
}

/// Why the log cannot be read.
pub(crate) fn unreadable(error: &ReadError) -> Failure {
    let failure = Failure::because(error);
    match error {
        ReadError::NoLog(_) | ReadError::NoRecord { .. } => failure.exit(Exit::NothingMatched),
        ReadError::Checkpoint { .. }
        | ReadError::Damaged { .. }
        | ReadError::Root(_)
        | ReadError::Segment(_)
        | ReadError::Tile(_) => failure
            .exit(Exit::VerificationFailed)
            .hint("`enforcer audit verify` tells what is wrong and from where on"),
        ReadError::File(_) | ReadError::Key { .. } => failure,
    }
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:40} {pos}/{len} records {per_sec}";
    let style = ProgressStyle::with_template(template);
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
