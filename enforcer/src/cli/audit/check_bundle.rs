//! `enforcer audit check-bundle`: what `verify.sh` does, by the program.

use std::path::PathBuf;

use clap::Args;
use enforcer_audit::{BundleReport, CheckError, VerifierKey, check_bundle};
use enforcer_model::Timestamp;
use serde_json::json;

use crate::cli::{Context, Exit, Failure, counted};

/// Verify a bundle of evidence; exit code 7 when it does not hold
#[derive(Args, Debug)]
pub(crate) struct CheckBundle {
    /// What `audit export` or `trail --prove` wrote
    folder: PathBuf,
    /// The log's public key from somebody you trust, such as `host.example/enforcer+1234abcd+AX…`; by
    /// default the one that came with the bundle
    #[arg(long, value_name = "KEY")]
    public_key: Option<VerifierKey>,
}

impl CheckBundle {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match check_bundle(&self.folder, self.public_key.as_ref()) {
            Ok(report) => {
                context.printer.item(&answer(&report), &self.lines(&report))?;
                Ok(Exit::Done)
            }
            Err(error @ CheckError::Refused(_)) => {
                if context.printer.is_for_programs() {
                    context.printer.item(&json!({ "holds": false, "why": error.to_string() }), &[])?;
                }
                Err(Failure::because(&error)
                    .exit(Exit::VerificationFailed)
                    .hint("ask for it again; keep this one: it was altered or is not whole"))
            }
            Err(error @ CheckError::NoBundle(_)) => {
                Err(Failure::because(&error).exit(Exit::Usage).hint(
                    "name a folder that `audit export` wrote; one with a record.json is verified by \
                     its verify.sh",
                ))
            }
            Err(error @ CheckError::File(_)) => Err(Failure::because(&error)),
        }
    }

    fn lines(&self, report: &BundleReport) -> Vec<String> {
        let BundleReport { checkpoint, key, what, records, witnesses, .. } = report;
        let mut lines = vec![
            format!("the bundle of the log {} holds", checkpoint.origin),
            format!("  records   {}: {what}", counted(*records, "record")),
            format!("  of        {} under its checkpoint", checkpoint.size),
            format!("  key       {key}"),
        ];
        for witness in witnesses {
            let time = Timestamp::from_unix_seconds(witness.seconds);
            lines.push(format!("  witnessed {} at {time}", witness.name));
        }
        if report.has_token {
            lines.push("  stamped   verify checkpoint.tsr with `openssl ts`".to_owned());
        }
        if self.public_key.is_none() {
            lines.push(
                "  the key came with the bundle; with --public-key from elsewhere it proves more"
                    .to_owned(),
            );
        }
        lines
    }
}

fn answer(report: &BundleReport) -> serde_json::Value {
    let witnesses: Vec<_> = report
        .witnesses
        .iter()
        .map(|witness| json!({ "name": witness.name, "seconds": witness.seconds }))
        .collect();
    json!({
        "holds": true, "origin": report.checkpoint.origin, "size": report.checkpoint.size,
        "what": report.what, "from": report.from, "to": report.to, "records": report.records,
        "context": report.context, "witnesses": witnesses, "timestamp": report.has_token,
        "key": report.key.to_string(),
    })
}
