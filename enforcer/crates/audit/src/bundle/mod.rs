//! Evidence bundles: records in a folder of their own that convinces somebody far away.
//!
//! A bundle holds the bytes of each record, its proof, the signed checkpoint, who has cosigned it,
//! what enforced at that time, and a script that verifies all of it with openssl and xxd. It says what
//! was asked for; that nothing was withheld is part of what is verified. [`Log::bundle`] writes one,
//! [`check_bundle`] verifies one, and agrees with the script about every folder.

mod check;
mod complete;
mod gather;
mod manifest;
mod selection;
mod story;
mod write;

use std::path::PathBuf;

use enforcer_model::Timestamp;

use crate::files::FileError;
use crate::read::ReadError;
use crate::sealing::SALT_BYTES;
use crate::select::Selector;

pub use check::{BundleReport, CheckError, Witnessed, check_bundle};
pub use write::{Bundled, Extras};

/// Most records in a bundle: who wants more copies the log.
pub const BUNDLE_RECORDS_MAX: usize = 100_000;

/// Most records that a bundle holds besides, to tell what enforced meanwhile.
const CONTEXT_MAX: usize = 10_000;

/// Digits of an index in the name of a file.
const INDEX_DIGITS: usize = 20;

const MANIFEST: &str = "MANIFEST";
const README: &str = "README.txt";
const SCRIPT: &str = "verify.sh";
const SELECTION: &str = "selection";
const CHECKPOINT: &str = "checkpoint";
const KEY: &str = "key.pub";
const TOKEN: &str = "checkpoint.tsr";
const WITNESSES: &str = "witnesses.pub";
const CLOCK: &str = "clock.jsonl";
const READABLE: &str = "readable.jsonl";
const PROGRAMS: &str = "programs.jsonl";
const POLICIES: &str = "policies.jsonl";

/// What a bundle shall hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which records.
    pub what: Choice,
    /// None that was written before.
    pub since: Option<Timestamp>,
    /// None that was written then or later.
    pub until: Option<Timestamp>,
}

/// Which records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All of them.
    Everything,
    /// These, by their numbers.
    Numbers(Vec<u64>),
    /// Those that have to do with somebody or something.
    Trail(Selector),
}

/// One of the two folders of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// What was asked for.
    Records,
    /// What enforced meanwhile, and what stands beside the selection.
    Context,
}

/// A bundle cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The folder is there already.
    #[error("{} exists and is left alone", .0.display())]
    Exists(PathBuf),
    /// The file system does not take it.
    #[error(transparent)]
    File(#[from] FileError),
    /// No record was asked for.
    #[error("no record has to do with it")]
    Nothing,
    /// Not what was asked for can be written on one line.
    #[error("what is looked for has control characters, which a bundle cannot name")]
    Odd,
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// More than one folder should hold.
    #[error("more than {BUNDLE_RECORDS_MAX} records; a bundle holds no more")]
    TooMany,
}

impl Part {
    const ALL: [Self; 2] = [Self::Context, Self::Records];

    const fn folder(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Context => "context",
        }
    }

    fn leaf(self, index: u64) -> String {
        format!("{}/{index:0INDEX_DIGITS$}.leaf", self.folder())
    }

    fn proof(self, index: u64) -> String {
        format!("{}/{index:0INDEX_DIGITS$}.tlog-proof", self.folder())
    }

    fn lines(self) -> &'static str {
        match self {
            Self::Records => "records.jsonl",
            Self::Context => "context.jsonl",
        }
    }
}

/// The file that says which records of the segment from `first` on a selector selects.
fn segment_file(first: u64) -> String {
    format!("completeness/{first:0INDEX_DIGITS$}.index-proof")
}

/// The JSON in the bytes of a record.
fn json_of(leaf: &[u8]) -> &[u8] {
    leaf.get(SALT_BYTES..).unwrap_or_default()
}
