//! A bundle is written: every file into a folder that was not there, the list of them last.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use enforcer_model::Timestamp;
use serde_json::json;

use super::gather::{Gathered, gather};
use super::manifest::{Entry, print, sha256};
use super::selection::{Selection, What};
use super::{
    BundleError, CHECKPOINT, CLOCK, Choice, KEY, MANIFEST, POLICIES, PROGRAMS, Part, READABLE,
    README, SCRIPT, SELECTION, TOKEN, WITNESSES, Wanted, complete, json_of, segment_file, story,
};
use crate::anchor::{Anchors, SignedNote, WitnessKey};
use crate::evidence::VERIFY_SH;
use crate::files::FileError;
use crate::note::VerifierKey;
use crate::read::Log;
use crate::stored::Stored;

/// What lies elsewhere than in the log.
#[derive(Debug)]
pub struct Extras<'a> {
    /// Files that may be policies which the records name.
    pub policies: &'a [PathBuf],
    /// When the bundle is made.
    pub now: Timestamp,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundled {
    /// How many records were asked for.
    pub records: u64,
    /// How many stand around them.
    pub context: u64,
    /// How many records the checkpoint signs.
    pub size: u64,
    /// Whose cosignatures it bears.
    pub witnesses: Vec<String>,
    /// Whether a timestamp is with it.
    pub has_token: bool,
    /// Whether the bundle shows of all of its span that no record was withheld.
    pub is_complete: bool,
    /// The log's key.
    pub key: VerifierKey,
}

/// The checkpoint that a bundle leads to.
struct Head {
    log: Log,
    witnesses: Vec<WitnessKey>,
    token: Option<Vec<u8>>,
}

/// The folder, and what is in it so far.
struct Folder<'a> {
    path: &'a Path,
    entries: BTreeMap<String, Entry>,
}

impl Log {
    /// Writes what is `wanted` into `folder`, which is made.
    pub fn bundle(
        &self,
        wanted: &Wanted,
        extras: &Extras<'_>,
        folder: &Path,
    ) -> Result<Bundled, BundleError> {
        let what = What::of(&wanted.what)?;
        if folder.exists() {
            return Err(BundleError::Exists(folder.to_owned()));
        }
        let Gathered { records, context, from, to } = gather(self, wanted)?;
        let mut context = context;
        let newest = records.last().map_or(0, |stored| stored.index);
        let newest = newest.max(context.keys().next_back().copied().unwrap_or_default());
        let head = Head::choose(self, newest)?;
        let size = head.log.size();
        let (from, to) = (from.min(size), to.min(size));
        let proofs = match &wanted.what {
            Choice::Trail(selector) => {
                complete::proofs(&head.log, selector, from..to, &records, &mut context)?
            }
            Choice::Everything | Choice::Numbers(_) => Vec::new(),
        };
        let context: Vec<Stored> = context.into_values().collect();
        let selection = Selection {
            origin: head.log.checkpoint().origin.clone(),
            size,
            what,
            from,
            to,
            since: wanted.since.map(|time| time.to_string()),
            until: wanted.until.map(|time| time.to_string()),
            records: count(records.len()),
            context: count(context.len()),
            made: extras.now.to_string(),
        };
        let mut folder = Folder::make(folder)?;
        folder.put_records(Part::Records, &records, &head.log)?;
        folder.put_records(Part::Context, &context, &head.log)?;
        for proof in &proofs {
            folder.put(&segment_file(proof.first), proof.to_text().as_bytes())?;
        }
        folder.put_head(&head)?;
        folder.put_story(&records, &context, extras)?;
        folder.put(SELECTION, selection.to_string().as_bytes())?;
        folder.put(SCRIPT, VERIFY_SH.as_bytes())?;
        folder.put(README, readme(&selection, &head).as_bytes())?;
        folder.finish()?;
        Ok(Bundled {
            records: selection.records,
            context: selection.context,
            size,
            witnesses: head.witnesses.iter().map(|key| key.name().to_owned()).collect(),
            has_token: head.token.is_some(),
            is_complete: proofs.iter().all(|proof| proof.statement().is_some()),
            key: self.key().clone(),
        })
    }
}

impl What {
    fn of(choice: &Choice) -> Result<Self, BundleError> {
        match choice {
            Choice::Everything => Ok(Self::Everything),
            Choice::Numbers(_) => Ok(Self::Numbers),
            Choice::Trail(selector) => {
                let text = selector.to_string();
                let is_line = !text.contains(char::is_control);
                if is_line { Ok(Self::Trail(text)) } else { Err(BundleError::Odd) }
            }
        }
    }
}

// === impl Head ===

impl Head {
    /// The newest checkpoint that others have seen, if it covers record `last`; else the newest.
    fn choose(log: &Log, last: u64) -> Result<Self, BundleError> {
        let anchors = Anchors::of(log.layout().root());
        let known = witness_keys(anchors.policy()?.flatten().as_deref().unwrap_or_default());
        for anchor in anchors.list()?.iter().rev().filter(|anchor| anchor.size > last) {
            let note = anchors.note(anchor.size)?.unwrap_or_default();
            let Some(seen) = log.as_of(&note) else { continue };
            let has_signed = |key: &WitnessKey| {
                let note = SignedNote::parse(&note);
                note.is_ok_and(|note| matches!(note.cosigned_by(key), Ok(Some(_))))
            };
            let witnesses: Vec<_> = known.iter().filter(|key| has_signed(key)).cloned().collect();
            // A token is over the very bytes of the note.
            let token = anchors.token(anchor.size)?.filter(|token| stamps(token, &note));
            if !witnesses.is_empty() || token.is_some() {
                return Ok(Self { log: seen, witnesses, token });
            }
        }
        Ok(Self { log: log.clone(), witnesses: Vec::new(), token: None })
    }
}

/// The keys of the witnesses in a policy of C2SP tlog-policy: `witness NAME KEY` and an address.
fn witness_keys(policy: &[u8]) -> Vec<WitnessKey> {
    let policy = String::from_utf8_lossy(policy);
    let lines = policy.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "witness").then_some(())?;
        words.nth(1)?.parse().ok()
    });
    lines.collect()
}

/// Whether `token` names the hash of `note`; who signed the token is another question.
pub(super) fn stamps(token: &[u8], note: &str) -> bool {
    let hash = crate::merkle::sha256(note.as_bytes());
    token.windows(hash.len()).any(|bytes| bytes == hash)
}

// === impl Folder ===

impl<'a> Folder<'a> {
    fn make(path: &'a Path) -> Result<Self, BundleError> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(FileError::on("create directory", parent))?;
        }
        fs::create_dir(path).map_err(FileError::on("create directory", path))?;
        Ok(Self { path, entries: BTreeMap::new() })
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(FileError::on("create directory", parent))?;
        }
        fs::write(&path, bytes).map_err(FileError::on("write", &path))?;
        let entry = Entry { sha256: sha256(bytes), path: name.to_owned() };
        self.entries.insert(name.to_owned(), entry);
        Ok(())
    }

    fn put_records(
        &mut self,
        part: Part,
        records: &[Stored],
        log: &Log,
    ) -> Result<(), BundleError> {
        let mut prover = log.prover();
        let mut lines = Vec::new();
        for stored in records {
            let leaf = stored.leaf();
            let leaf: &[u8] = leaf;
            self.put(&part.leaf(stored.index), leaf)?;
            self.put(&part.proof(stored.index), prover.prove(stored)?.as_bytes())?;
            lines.extend_from_slice(json_of(leaf));
            lines.push(b'\n');
        }
        self.put(part.lines(), &lines)
    }

    fn put_head(&mut self, head: &Head) -> Result<(), BundleError> {
        self.put(CHECKPOINT, head.log.note().as_bytes())?;
        self.put(KEY, format!("{}\n", head.log.key()).as_bytes())?;
        if !head.witnesses.is_empty() {
            let lines: String = head.witnesses.iter().map(|key| format!("{key}\n")).collect();
            self.put(WITNESSES, lines.as_bytes())?;
        }
        match &head.token {
            Some(token) => self.put(TOKEN, token),
            None => Ok(()),
        }
    }

    fn put_story(
        &mut self,
        records: &[Stored],
        context: &[Stored],
        extras: &Extras<'_>,
    ) -> Result<(), BundleError> {
        let mut all: Vec<&Stored> = records.iter().chain(context).collect();
        all.sort_unstable_by_key(|stored| stored.index);
        let readable: String = records.iter().map(|stored| format!("{}\n", stored.text)).collect();
        self.put(READABLE, readable.as_bytes())?;
        self.put(CLOCK, story::clock(&all).as_bytes())?;
        self.put(PROGRAMS, story::programs(&all).as_bytes())?;
        let kept: BTreeMap<String, Vec<u8>> = extras
            .policies
            .iter()
            .filter_map(|path| fs::read(path).ok())
            .map(|bytes| (sha256(&bytes), bytes))
            .collect();
        let mut lines = String::new();
        for (policy, (records, first, last)) in story::policies(&all) {
            let file = kept.get(&policy).map(|bytes| (format!("policies/{policy}.toml"), bytes));
            if let Some((name, bytes)) = &file {
                self.put(name, bytes)?;
            }
            let line = json!({
                "sha256": policy, "records": records, "first": first, "last": last,
                "file": file.map(|(name, _)| name),
            });
            lines.push_str(&format!("{line}\n"));
        }
        self.put(POLICIES, lines.as_bytes())
    }

    fn finish(self) -> Result<(), BundleError> {
        let entries: Vec<Entry> = self.entries.into_values().collect();
        let path = self.path.join(MANIFEST);
        fs::write(&path, print(&entries)).map_err(FileError::on("write", &path))?;
        Ok(())
    }
}

fn count(records: usize) -> u64 {
    u64::try_from(records).unwrap_or(u64::MAX)
}

fn readme(selection: &Selection, head: &Head) -> String {
    let chosen = match &selection.what {
        What::Everything => "every record between two moments, none left out".to_owned(),
        What::Numbers => "records that somebody chose by their numbers".to_owned(),
        What::Trail(who) => format!("every record that has to do with {who}"),
    };
    let seen = if head.witnesses.is_empty() {
        "Nobody but the log's owner has signed the checkpoint of this bundle.".to_owned()
    } else {
        let names: Vec<_> = head.witnesses.iter().map(WitnessKey::name).collect();
        format!("The checkpoint was also signed by: {}.", names.join(", "))
    };
    let stamped = if head.token.is_some() {
        "A timestamping authority has signed when it existed."
    } else {
        "No timestamping authority was asked when it existed."
    };
    let Selection { origin, size, records, context, made, .. } = selection;
    include_str!("README.txt")
        .replace("{origin}", origin)
        .replace("{chosen}", &chosen)
        .replace("{records}", &records.to_string())
        .replace("{context}", &context.to_string())
        .replace("{size}", &size.to_string())
        .replace("{made}", made)
        .replace("{seen}", &seen)
        .replace("{stamped}", stamped)
        .replace("{key}", &head.log.key().to_string())
}
