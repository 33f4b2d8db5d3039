//! A bundle is verified, in the order and with the answers of `verify.sh`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::manifest::{self, Entry, Role, sha256};
use super::selection::{Selection, What};
use super::write::stamps;
use super::{
    CHECKPOINT, KEY, MANIFEST, Part, README, SCRIPT, SELECTION, TOKEN, WITNESSES, complete,
    json_of, segment_file,
};
use crate::anchor::{SignedNote, WitnessKey};
use crate::evidence::parse_proof;
use crate::files::FileError;
use crate::index::SegmentProof;
use crate::merkle::{leaf_hash, root_from_inclusion};
use crate::note::{Checkpoint, VerifierKey};
use crate::select::Selector;
use crate::stored::Header;

/// Longest file that is read: as many records as a bundle may hold, each of some length.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A bundle that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleReport {
    /// The key that it was verified with.
    pub key: VerifierKey,
    /// The tree head that its records lead to.
    pub checkpoint: Checkpoint,
    /// What was asked for: `everything`, `numbers`, `trail …`.
    pub what: String,
    /// The first record that could belong to it.
    pub from: u64,
    /// The first behind the last that could.
    pub to: u64,
    /// How many records were asked for.
    pub records: u64,
    /// How many stand around them.
    pub context: u64,
    /// Who else has signed the checkpoint.
    pub witnesses: Vec<Witnessed>,
    /// Of these records nothing shows that none was withheld: the log does not vouch for an index of
    /// them yet.
    pub uncovered: Vec<Range<u64>>,
    /// Whether a timestamp over the checkpoint is there. Whether it holds, its authority's
    /// certificate tells.
    pub has_token: bool,
}

/// A witness has signed the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// Its name.
    pub name: String,
    /// When, in seconds since 1970.
    pub seconds: u64,
}

/// A bundle does not hold, or could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Something is not as the log has it.
    #[error("{0}")]
    Refused(String),
    /// A call to the file system failed; nothing is said about the bundle.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder holds no bundle.
    #[error("there is no bundle in `{}`", .0.display())]
    NoBundle(PathBuf),
}

/// A bundle whose files are those of its list.
struct Bundle<'a> {
    folder: &'a Path,
    entries: BTreeMap<String, (Entry, Role)>,
}

/// Verifies the bundle in `folder` with `public_key`, or with the key that came with it.
pub fn check_bundle(
    folder: &Path,
    public_key: Option<&VerifierKey>,
) -> Result<BundleReport, CheckError> {
    let bundle = Bundle::open(folder)?;
    let key = bundle.text(KEY)?;
    let key: VerifierKey = key
        .strip_suffix('\n')
        .and_then(|line| line.parse().ok())
        .ok_or_else(|| refused("key.pub is no key, or was altered"))?;
    if public_key.is_some_and(|given| *given != key) {
        return Err(refused("the bundle is of another key"));
    }
    let selection = Selection::parse(&bundle.text(SELECTION)?)
        .ok_or_else(|| refused("the selection is not understood"))?;
    if selection.origin != key.origin() {
        return Err(refused("the bundle is of another log"));
    }
    let note = bundle.text(CHECKPOINT)?;
    let checkpoint =
        key.open(&note).map_err(|error| refused(format!("the checkpoint is {error}")))?;
    if checkpoint.size != selection.size {
        return Err(refused("the selection is of another checkpoint"));
    }
    let witnesses = bundle.witnesses(&note)?;
    let has_token = bundle.token(&note)?;
    let head = Head { note: &note, checkpoint: &checkpoint };
    let context = bundle.records(Part::Context, &head)?;
    let records = bundle.records(Part::Records, &head)?;
    if len(&context) != selection.context || len(&records) != selection.records {
        return Err(refused("the selection has another number of records"));
    }
    belong(&selection, &records)?;
    let uncovered = bundle.uncovered(&selection, records.iter().chain(&context))?;
    bundle.not_cut_short(&selection)?;
    Ok(BundleReport {
        what: selection.what.to_string(),
        from: selection.from,
        to: selection.to,
        records: selection.records,
        context: selection.context,
        key,
        checkpoint,
        witnesses,
        uncovered,
        has_token,
    })
}

/// What every proof leads to.
struct Head<'a> {
    note: &'a str,
    checkpoint: &'a Checkpoint,
}

/// No record of the selection is missing, none is there that does not belong to it.
fn belong(selection: &Selection, records: &[u64]) -> Result<(), CheckError> {
    match &selection.what {
        What::Numbers => Ok(()),
        What::Everything => {
            let missing = (selection.from..selection.to)
                .zip(records.iter().copied().map(Some).chain(std::iter::repeat(None)))
                .find(|(expected, found)| Some(*expected) != *found);
            match missing {
                Some((index, _)) => Err(refused(format!("record {index} is missing"))),
                None if len(records) > selection.to - selection.from => {
                    Err(refused("a record is not of the selection"))
                }
                None => Ok(()),
            }
        }
        What::Trail(_) => {
            match records.iter().find(|index| !(selection.from..selection.to).contains(index)) {
                Some(index) => Err(refused(format!("record {index} is not of the selection"))),
                None => Ok(()),
            }
        }
    }
}

impl<'a> Bundle<'a> {
    /// Every file is there as it was written, and no other.
    fn open(folder: &'a Path) -> Result<Self, CheckError> {
        let path = folder.join(MANIFEST);
        let manifest = match read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
                return Err(CheckError::NoBundle(folder.to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        let mut found = BTreeSet::new();
        list(folder, folder, &mut found)?;
        let manifest = String::from_utf8(manifest)
            .map_err(|_bytes| refused("MANIFEST has bytes that are no text"))?;
        let listed = manifest::parse(&manifest).map_err(CheckError::Refused)?;
        for (entry, _) in &listed {
            let path = folder.join(&entry.path);
            if !found.contains(&path) {
                return Err(refused(format!("{} is missing", entry.path)));
            }
            if sha256(&read(&path)?) != entry.sha256 {
                return Err(refused(format!("{} was altered", entry.path)));
            }
        }
        if found.len() != listed.len() + 1 {
            return Err(refused("there is a file that MANIFEST does not list"));
        }
        let entries = listed.into_iter().map(|(entry, role)| (entry.path.clone(), (entry, role)));
        let bundle = Self { folder, entries: entries.collect() };
        let needed = [README, SCRIPT, SELECTION, CHECKPOINT, KEY];
        for name in needed.into_iter().chain(Part::ALL.map(Part::lines)) {
            if !bundle.entries.contains_key(name) {
                return Err(refused(format!("{name} is missing")));
            }
        }
        Ok(bundle)
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, CheckError> {
        let Some((entry, _)) = self.entries.get(name) else {
            return Err(refused(format!("{name} is missing")));
        };
        let bytes = read(&self.folder.join(name))?;
        // It may have changed since it was compared.
        if sha256(&bytes) == entry.sha256 {
            Ok(bytes)
        } else {
            Err(refused(format!("{name} was altered")))
        }
    }

    fn text(&self, name: &str) -> Result<String, CheckError> {
        String::from_utf8(self.bytes(name)?)
            .map_err(|_bytes| refused(format!("{name} has bytes that are no text")))
    }

    /// Everybody who is said to have signed the checkpoint has.
    fn witnesses(&self, note: &str) -> Result<Vec<Witnessed>, CheckError> {
        if !self.entries.contains_key(WITNESSES) {
            return Ok(Vec::new());
        }
        let keys = self.text(WITNESSES)?;
        let odd = || refused("witnesses.pub is no list of keys");
        let note = SignedNote::parse(note)
            .map_err(|error| refused(format!("the checkpoint is {error}")))?;
        let lines = keys.strip_suffix('\n').ok_or_else(odd)?.split('\n');
        lines
            .map(|line| {
                let key: WitnessKey = line.parse().map_err(|_key| odd())?;
                let name = key.name().to_owned();
                match note.cosigned_by(&key) {
                    Ok(Some(seconds)) => Ok(Witnessed { name, seconds }),
                    Ok(None) => Err(refused(format!("the cosignature of {name} is missing"))),
                    Err(_) => Err(refused(format!(
                        "the cosignature of {name} does not fit the checkpoint"
                    ))),
                }
            })
            .collect()
    }

    fn token(&self, note: &str) -> Result<bool, CheckError> {
        if !self.entries.contains_key(TOKEN) {
            return Ok(false);
        }
        if stamps(&self.bytes(TOKEN)?, note) {
            Ok(true)
        } else {
            Err(refused("the timestamp is of another checkpoint"))
        }
    }

    /// Every record of `part` is in the log, at its place, and says what is written to be read; the
    /// numbers of them.
    fn records(&self, part: Part, head: &Head<'_>) -> Result<Vec<u64>, CheckError> {
        let mut lines = Vec::new();
        let mut indices = Vec::new();
        let mut proofs = 0_usize;
        for (path, (_, role)) in &self.entries {
            let index = match role {
                Role::Leaf(found, index) if *found == part => *index,
                Role::Proof(found, _) if *found == part => {
                    proofs += 1;
                    continue;
                }
                Role::Leaf(..)
                | Role::Proof(..)
                | Role::Policy
                | Role::Segment(_)
                | Role::Other => continue,
            };
            let leaf = self.bytes(path)?;
            self.prove(part, index, &leaf, head)?;
            lines.extend_from_slice(json_of(&leaf));
            lines.push(b'\n');
            indices.push(index);
        }
        if proofs != indices.len() {
            return Err(refused(format!("a proof in {} has no record", part.folder())));
        }
        if self.bytes(part.lines())? != lines {
            return Err(refused(format!("{} does not say what the records say", part.lines())));
        }
        Ok(indices)
    }

    fn prove(
        &self,
        part: Part,
        index: u64,
        leaf: &[u8],
        head: &Head<'_>,
    ) -> Result<(), CheckError> {
        let name = part.proof(index);
        let proof = self.text(&name)?;
        let (proven, path, note) =
            parse_proof(&proof).ok_or_else(|| refused(format!("{name} is not a tlog-proof@v1")))?;
        if note != head.note {
            return Err(refused(format!("{name} does not lead to the checkpoint")));
        }
        if proven != index {
            return Err(refused(format!("{name} is of another record")));
        }
        let Checkpoint { size, root, .. } = head.checkpoint;
        if root_from_inclusion(leaf_hash(leaf), index, *size, &path) == Some(*root) {
            Ok(())
        } else {
            Err(refused(format!("record {index} is not in the log, or not at this place")))
        }
    }

    /// Every record that the log names for a trail is there; gives of which nothing is known.
    fn uncovered<'i>(
        &self,
        selection: &Selection,
        there: impl Iterator<Item = &'i u64>,
    ) -> Result<Vec<Range<u64>>, CheckError> {
        let roles = self.entries.iter();
        let files: Vec<&String> = roles
            .filter(|(_, (_, role))| matches!(role, Role::Segment(_)))
            .map(|(path, _)| path)
            .collect();
        let What::Trail(selector) = &selection.what else {
            let misplaced = || refused("a proof of completeness has no place in this bundle");
            return if files.is_empty() { Ok(Vec::new()) } else { Err(misplaced()) };
        };
        let odd = || refused("the selection is not understood");
        let selector: Selector = selector.parse().map_err(|_selector| odd())?;
        if What::Trail(selector.to_string()) != selection.what {
            return Err(odd());
        }
        let mut proofs = Vec::new();
        for path in files {
            let proof = SegmentProof::parse(&self.text(path)?)
                .map_err(|error| refused(format!("{path} is {error}")))?;
            if *path != segment_file(proof.first) {
                return Err(refused(format!("{path} is of another segment")));
            }
            proofs.push(proof);
        }
        let there = there.copied().collect();
        let leaf = |index| {
            let leaf = Part::ALL.into_iter().find_map(|part| self.bytes(&part.leaf(index)).ok())?;
            String::from_utf8(json_of(&leaf).to_vec()).ok()
        };
        complete::check(&proofs, &selector, selection.from..selection.to, &there, leaf)
            .map_err(CheckError::Refused)
    }

    /// The records beside a span of time are outside of it.
    fn not_cut_short(&self, selection: &Selection) -> Result<(), CheckError> {
        if selection.what == What::Numbers {
            return Ok(());
        }
        if let Some(before) = selection.from.checked_sub(1) {
            let outside = match &selection.since {
                Some(since) => self.time(before)? < *since,
                None => false,
            };
            if !outside {
                return Err(refused("the selection begins late"));
            }
        }
        if selection.to < selection.size {
            let outside = match &selection.until {
                Some(until) => self.time(selection.to)? >= *until,
                None => false,
            };
            if !outside {
                return Err(refused("the selection ends early"));
            }
        }
        Ok(())
    }

    /// The time of the record `index`, which stands beside the selection.
    fn time(&self, index: u64) -> Result<String, CheckError> {
        let missing = || refused(format!("record {index}, beside the selection, is missing"));
        let leaf = self.bytes(&Part::Context.leaf(index)).map_err(|_error| missing())?;
        let header: Header = serde_json::from_slice(json_of(&leaf)).map_err(|_json| missing())?;
        Ok(header.time.to_string())
    }
}

/// Every file below `folder`; refuses what is neither file nor folder.
fn list(root: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<(), CheckError> {
    let entries = fs::read_dir(folder).map_err(FileError::on("list", folder))?;
    for entry in entries {
        let entry = entry.map_err(FileError::on("list", folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(FileError::on("examine", &path))?;
        if kind.is_dir() {
            // A bundle has folders, and these have none.
            if folder != root {
                return Err(refused(format!("{} has no place in a bundle", path.display())));
            }
            list(root, &path, found)?;
        } else if kind.is_file() {
            found.insert(path);
        } else {
            return Err(refused("there is something that is no file"));
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = fs::File::open(path).map_err(FileError::on("open", path))?;
    let mut bytes = Vec::new();
    let limited = &mut file.take(FILE_BYTES_MAX);
    limited.read_to_end(&mut bytes).map_err(FileError::on("read", path))?;
    Ok(bytes)
}

fn len(records: &[u64]) -> u64 {
    u64::try_from(records.len()).unwrap_or(u64::MAX)
}

fn refused(why: impl Into<String>) -> CheckError {
    CheckError::Refused(why.into())
}
