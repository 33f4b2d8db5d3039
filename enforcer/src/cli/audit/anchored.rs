//! What others know of the log, held against the log.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use enforcer_audit::{
    Anchors, Checkpoint, FileError, Log, Report, TimestampError, VerifierKey, WitnessPolicy,
    read_timestamp,
};
use enforcer_model::{Clock, SystemClock, Timestamp};
use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::unreadable;
use crate::cli::quarantine::span;
use crate::cli::{Context, Exit, Failure, counted};

/// A file with a checkpoint is not longer.
const CHECKPOINT_BYTES_MAX: u64 = 16 << 10;

/// What there is to hold against a log, read before it.
pub(super) struct Believed {
    policy: Option<WitnessPolicy>,
    is_policy_beside: bool,
    notes: Vec<Note>,
    tokens: Vec<Token>,
}

struct Note {
    file: PathBuf,
    text: String,
}

struct Token {
    file: PathBuf,
    size: u64,
    /// What it must be about.
    note: String,
    bytes: Vec<u8>,
}

/// How far others know the log, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Anchored {
    /// Records under the newest checkpoint that a quorum of witnesses knows.
    pub(super) witnessed_records: u64,
    witnessed_at: Option<Timestamp>,
    witnessed_by: Vec<String>,
    /// Records under the newest checkpoint with a timestamp.
    stamped_records: u64,
    stamped_at: Option<Timestamp>,
    /// Checkpoints that the log continues.
    checkpoints_held: u64,
    /// Checkpoints whose records were pruned, so that nothing can be held against them.
    checkpoints_pruned: u64,
    anchor_age_seconds: Option<u64>,
    anchor_age_bound_seconds: Option<u64>,
    anchor_overdue: bool,
    #[serde(skip)]
    is_policy_beside: bool,
}

/// How old the newest anchor may be, where this user's policy says so.
pub(super) fn bound(context: &Context) -> Option<Duration> {
    let policy = context.policy().ok().flatten()?;
    let anchoring = &policy.audit().anchoring;
    anchoring.is_any().then_some(anchoring.age)
}

// === impl Believed ===

impl Believed {
    /// What lies beside the log and in `checkpoints`, and whom `policy` believes, or the policy
    /// beside the log.
    pub(super) fn gather(
        log: &Path,
        checkpoints: &[PathBuf],
        policy: Option<&Path>,
    ) -> Result<Self, Failure> {
        let anchors = Anchors::of(log);
        let is_policy_beside = policy.is_none();
        let policy = match policy {
            Some(file) => {
                let bytes = fs::read(file).map_err(|error| cannot_read(file, &error))?;
                let policy = WitnessPolicy::parse(&bytes);
                Some(policy.map_err(|problem| {
                    Failure::usage(format!("{}: {problem}", file.display()))
                        .hint("it is written as C2SP tlog-policy says")
                })?)
            }
            None => beside(&anchors)?,
        };
        let (mut notes, mut tokens) = (Vec::new(), Vec::new());
        for anchor in anchors.list().map_err(|error| broken_read(&error))? {
            let (size, file) = (anchor.size, anchors.note_path(anchor.size));
            // One that was thinned out meanwhile is not there.
            let Some(text) = anchors.note(size).map_err(|error| broken_read(&error))? else {
                continue;
            };
            let of = |token: Option<Vec<u8>>| {
                token.map(|bytes| Token {
                    file: anchors.token_path(size),
                    size,
                    note: text.clone(),
                    bytes,
                })
            };
            tokens.extend(of(anchors.token(size).map_err(|error| broken_read(&error))?));
            let newest = anchors.newest_token(size).map_err(|error| broken_read(&error))?;
            tokens.extend(of(newest).filter(|_| anchor.has_token));
            if let Some(newest) = anchors.newest_note(size).map_err(|error| broken_read(&error))?
                && newest != text
            {
                notes.push(Note { file: file.clone(), text: newest });
            }
            notes.push(Note { file, text });
        }
        for file in checkpoints {
            let length = fs::metadata(file).map_err(|error| cannot_read(file, &error))?.len();
            if length > CHECKPOINT_BYTES_MAX {
                return Err(Failure::usage(format!("{} is no checkpoint", file.display())));
            }
            let bytes = fs::read(file).map_err(|error| cannot_read(file, &error))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            notes.push(Note { file: file.clone(), text });
        }
        Ok(Self { policy, is_policy_beside, notes, tokens })
    }

    /// Holds them against the log, which holds by itself.
    pub(super) fn against(
        &self,
        folder: &Path,
        report: &Report,
        bound: Option<Duration>,
    ) -> Result<Anchored, Failure> {
        let log = Log::open_read_only(folder).map_err(|error| unreadable(&error))?;
        let none = WitnessPolicy::of(Vec::new(), 0);
        let policy = self.policy.as_ref().unwrap_or(&none);
        if !policy.logs().is_empty() && !policy.logs().contains(&report.key) {
            return Err(contradicted("the policy for witnesses is about other logs".to_owned()));
        }
        let mut anchored = Anchored {
            witnessed_records: 0,
            witnessed_at: None,
            witnessed_by: Vec::new(),
            stamped_records: 0,
            stamped_at: None,
            checkpoints_held: 0,
            checkpoints_pruned: 0,
            anchor_age_seconds: None,
            anchor_age_bound_seconds: bound.map(|bound| bound.as_secs()),
            anchor_overdue: false,
            is_policy_beside: self.is_policy_beside && self.policy.is_some(),
        };
        for note in &self.notes {
            let told = note.file.display();
            let bad = |error| contradicted(format!("the checkpoint in {told} is {error}"));
            let checkpoint = report.key.open(&note.text).map_err(bad)?;
            let cosigned = policy.check(&note.text).map_err(bad)?;
            match continues(&log, report, &checkpoint, &cosigned.by, &told.to_string())? {
                Held::Continued => anchored.checkpoints_held += 1,
                Held::Pruned => anchored.checkpoints_pruned += 1,
            }
            if policy.needs_nobody() {
                continue;
            }
            let Some(since) = cosigned.since.map(Timestamp::from_unix_seconds) else { continue };
            let newest = (anchored.witnessed_records, anchored.witnessed_at);
            if anchored.witnessed_at.is_none() || newest < (checkpoint.size, Some(since)) {
                anchored.witnessed_records = checkpoint.size;
                anchored.witnessed_at = Some(since);
                anchored.witnessed_by = cosigned.by;
            }
        }
        for token in &self.tokens {
            let at = token.check().map_err(|error| {
                contradicted(format!("the timestamp in {}: {error}", token.file.display()))
            })?;
            if (anchored.stamped_records, anchored.stamped_at) < (token.size, at) {
                (anchored.stamped_records, anchored.stamped_at) = (token.size, at);
            }
        }
        let newest =
            if policy.needs_nobody() { anchored.stamped_at } else { anchored.witnessed_at };
        let age = newest.map(|newest| SystemClock.now().wall.since(newest));
        anchored.anchor_age_seconds = age.map(|age| age.as_secs());
        anchored.anchor_overdue = bound.is_some_and(|bound| age.is_none_or(|age| age > bound));
        Ok(anchored)
    }
}

/// A checkpoint that does not contradict the log.
enum Held {
    /// The log has grown from it.
    Continued,
    /// The hashes that would show it are gone with the records.
    Pruned,
}

/// The log must have the records of `checkpoint`, and no others in their place.
fn continues(
    log: &Log,
    report: &Report,
    checkpoint: &Checkpoint,
    by: &[String],
    file: &str,
) -> Result<Held, Failure> {
    let size = checkpoint.size;
    let known = match by {
        [] => format!("the checkpoint of {size} records in {file}"),
        by => format!("the checkpoint of {size} records that {} cosigned ({file})", by.join(", ")),
    };
    if size > report.checkpoint.size {
        let ends = report.checkpoint.size;
        return Err(contradicted(format!(
            "{known} is beyond the end of the log, which has {ends}: it was cut, or an old copy was \
             put back"
        )));
    }
    let root = match log.root_at(size) {
        Ok(root) => root,
        Err(_) if size < report.first => return Ok(Held::Pruned),
        Err(error) => return Err(unreadable(&error)),
    };
    if root != checkpoint.root {
        return Err(contradicted(format!(
            "{known} has another root than the first {size} records of the log: its history was \
             rewritten"
        )));
    }
    Ok(Held::Continued)
}

impl Token {
    /// When it says that the note existed.
    fn check(&self) -> Result<Option<Timestamp>, TimestampError> {
        let stamped = read_timestamp(&self.bytes)?;
        let about = digest(&SHA256, self.note.as_bytes());
        if stamped.imprint == about.as_ref() {
            Ok(stamped.at())
        } else {
            Err(TimestampError::Imprint)
        }
    }
}

// === impl Anchored ===

impl Anchored {
    /// For people: the range that is witnessed, and how old that is. `signed` records follow below.
    pub(super) fn lines(&self, signed: u64) -> Vec<String> {
        let now = SystemClock.now().wall;
        let ago = |at: &Timestamp| format!("{at}, {} ago", span(now.since(*at)));
        let mut lines = Vec::new();
        match &self.witnessed_at {
            Some(at) => lines.push(format!(
                "  witnessed {} records, by {} ({})",
                self.witnessed_records,
                self.witnessed_by.join(", "),
                ago(at),
            )),
            None => lines.push("  witnessed none: a new history could be signed".to_owned()),
        }
        if let Some(at) = &self.stamped_at {
            lines.push(format!("  stamped   {} records ({})", self.stamped_records, ago(at)));
        }
        if self.witnessed_at.is_some() {
            let rest = signed.saturating_sub(self.witnessed_records);
            lines.push(format!("  only signed are the newest {}", counted(rest, "record")));
        }
        if self.anchor_overdue {
            let bound = self.anchor_age_bound_seconds.map_or(Duration::ZERO, Duration::from_secs);
            lines.push(format!(
                "  OVERDUE: the newest anchor should be no older than {}",
                span(bound)
            ));
        }
        if self.is_policy_beside {
            lines.push(
                "  the keys of the witnesses were read beside the log; with --witness-policy from \
                 elsewhere they prove more"
                    .to_owned(),
            );
        }
        lines
    }
}

/// The policy that lies beside the log.
pub(super) fn beside(anchors: &Anchors) -> Result<Option<WitnessPolicy>, Failure> {
    let altered = || {
        let file = anchors.policy_path();
        contradicted(format!("{} is not as it was written", file.display()))
    };
    match anchors.policy().map_err(|error| broken_read(&error))? {
        None => Ok(None),
        Some(None) => Err(altered()),
        Some(Some(bytes)) => WitnessPolicy::parse(&bytes).map(Some).map_err(|_problem| altered()),
    }
}

/// The notes of the log in `folder` are of this key.
pub(super) fn key_of(folder: &Path) -> Result<VerifierKey, Failure> {
    let log = Log::open_read_only(folder).map_err(|error| unreadable(&error))?;
    Ok(log.key().clone())
}

fn contradicted(why: String) -> Failure {
    Failure::failed(why).exit(Exit::VerificationFailed).hint(
        "keep the directory as it is: it is evidence; `audit anchor` tells what each witness knows",
    )
}

fn cannot_read(file: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot read {}: {error}", file.display()))
}

fn broken_read(error: &FileError) -> Failure {
    Failure::because(error)
}
