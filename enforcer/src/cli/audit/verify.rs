//! `enforcer audit verify`: the whole log held against its signed root.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use enforcer_audit::{Expected, Report, VerifierKey, VerifyError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::Place;
use super::anchored::{self, Anchored, Believed};
use crate::cli::{Context, Exit, Failure};

/// Hold every byte of the log against its signed root; exit code 7 when it does not hold
#[derive(Args, Debug)]
pub(crate) struct Verify {
    #[command(flatten)]
    place: Place,
    /// The log's public key from somewhere that the host cannot change, such as
    /// `host.example/enforcer+1234abcd+AX…`, or a file with it: a copy of `key.pub`, whose second
    /// line binds the whole past too. By default the one beside the log
    #[arg(long, value_name = "KEY")]
    public_key: Option<PublicKey>,
    /// A checkpoint of the log that was kept elsewhere; the log must continue it. Repeatable
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Whom to believe (C2SP tlog-policy), from somewhere that the host cannot change; by default
    /// the policy beside the log
    #[arg(long, value_name = "FILE")]
    witness_policy: Option<PathBuf>,
}

/// The key of a log, and of its first epoch where that is known.
#[derive(Clone, Debug)]
struct PublicKey {
    log: VerifierKey,
    first_epoch: Option<VerifierKey>,
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let written = match std::fs::read_to_string(text) {
            Ok(written) => written,
            Err(_) => text.to_owned(),
        };
        let mut lines = written.lines();
        let log = lines.next().unwrap_or_default().parse();
        let log = log.map_err(|error| format!("{error}"))?;
        let first_epoch = lines.next().map(str::parse).transpose();
        let first_epoch = first_epoch.map_err(|error| format!("its second line is {error}"))?;
        match lines.next() {
            Some(_) => Err("the file has more than two lines".to_owned()),
            None => Ok(Self { log, first_epoch }),
        }
    }
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
    first_record: Option<u64>,
    sealed_segments: Option<usize>,
    epochs: Option<u32>,
    #[serde(flatten)]
    anchored: Option<Anchored>,
    last_good: Option<u64>,
    first_bad: Option<u64>,
    file: Option<PathBuf>,
    why: Option<String>,
}

impl Verify {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let log = self.place.folder(context)?;
        let key_from =
            if self.public_key.is_some() { KeyFrom::Elsewhere } else { KeyFrom::BesideTheLog };
        // Before the log: what is anchored while it is read must not look as if it were too much.
        let believed = Believed::gather(&log, &self.checkpoints, self.witness_policy.as_deref())?;
        let bar = progress_bar();
        let given = self.public_key.clone();
        let (key, first_epoch) = given.map(|key| (key.log, key.first_epoch)).unzip();
        let expected = Expected {
            key,
            first_epoch: first_epoch.flatten(),
            identities: self.place.identities()?,
            ..Expected::default()
        };
        let checked = enforcer_audit::verify(&log, &expected, |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        match checked {
            Ok(report) => {
                let bound = anchored::bound(context);
                let anchored = match believed.against(&log, &report, bound) {
                    Ok(anchored) => anchored,
                    Err(failure) => {
                        if context.printer.is_for_programs() {
                            let broken = Verified::contradicted(log, &report, &failure.message);
                            context.printer.item(&broken, &[])?;
                        }
                        return Err(failure);
                    }
                };
                let mut lines = held(&report, key_from);
                lines.splice(1..1, anchored.lines(report.checkpoint.size));
                context.printer.item(&Verified::held(log, &report, anchored), &lines)?;
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
    fn held(log: PathBuf, report: &Report, anchored: Anchored) -> Self {
        Self {
            log,
            holds: true,
            origin: Some(report.checkpoint.origin.clone()),
            signed_records: Some(report.checkpoint.size),
            unsigned_tail_records: Some(report.tail_records),
            unfinished_bytes: Some(report.tail_torn_bytes),
            first_record: Some(report.first),
            sealed_segments: Some(report.sealed),
            epochs: Some(report.epochs),
            anchored: Some(anchored),
            last_good: report.checkpoint.size.checked_sub(1),
            first_bad: None,
            file: None,
            why: None,
        }
    }

    /// The log holds by itself, and is not what others know.
    fn contradicted(log: PathBuf, report: &Report, why: &str) -> Self {
        Self {
            log,
            holds: false,
            origin: Some(report.checkpoint.origin.clone()),
            signed_records: Some(report.checkpoint.size),
            unsigned_tail_records: Some(report.tail_records),
            unfinished_bytes: Some(report.tail_torn_bytes),
            first_record: Some(report.first),
            sealed_segments: Some(report.sealed),
            epochs: Some(report.epochs),
            anchored: None,
            last_good: None,
            first_bad: None,
            file: None,
            why: Some(why.to_owned()),
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
            first_record: None,
            sealed_segments: None,
            epochs: None,
            anchored: None,
            last_good: damage.last_good,
            first_bad: damage.first_bad,
            file: Some(damage.file),
            why: Some(damage.why),
        }
    }
}

fn held(report: &Report, key_from: KeyFrom) -> Vec<String> {
    let Report { checkpoint, tail_records, tail_torn_bytes, segments, sealed, bytes, .. } = report;
    let mut lines = vec![
        format!("the log {} holds", checkpoint.origin),
        format!("  signed    {} records, {segments} segments, {bytes} bytes", checkpoint.size),
    ];
    if *tail_records > 0 || *tail_torn_bytes > 0 {
        lines.push(format!(
            "  tail      {tail_records} records and {tail_torn_bytes} bytes are not signed yet"
        ));
    }
    if report.first > 0 {
        lines.push(format!("  pruned    the records before {} are gone, as signed", report.first));
    }
    if *sealed > 0 {
        lines.push(format!(
            "  sealed    {sealed} segments: hashes and signatures hold, records cannot be read here"
        ));
    }
    lines.push(format!("  epochs    {}, each vouched for by the one before", report.epochs));
    lines.push(format!("  key       {}", report.key));
    if key_from == KeyFrom::BesideTheLog {
        lines.push(
            "  the key was read beside the log; with --public-key from elsewhere it proves more"
                .to_owned(),
        );
    }
    lines
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
