//! One record that convinces somebody who has nothing but the log's public key.
//!
//! The proof is a C2SP `tlog-proof@v1`; the script beside it needs a shell, openssl and xxd.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::path::Path;

use crate::chain::{self, ChainError};
use crate::files::FileError;
use crate::merkle::{
    HASH_BYTES, Hash, Nodes, TILE_WIDTH, inclusion_path, leaf_hash, node_hash, root_from_inclusion,
    root_of,
};
use crate::note::{Checkpoint, NoteError, VerifierKey, decode, encode, parse_number};
use crate::read::{Log, ReadError};
use crate::sealing::SALT_BYTES;
use crate::segment::Leaves;
use crate::stored::Stored;

/// Verifies an [`Evidence`] without this program.
pub const VERIFY_SH: &str = include_str!("../verify.sh");

const PROOF_HEADER: &str = "c2sp.org/tlog-proof@v1";
/// The audit path of the largest tree there can be.
const PATH_HASHES_MAX: usize = 63;

/// A record with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The record's place in the log.
    pub index: u64,
    /// Its bytes, as hashed.
    pub record: Box<[u8]>,
    /// The inclusion proof and the signed checkpoint that it leads to.
    pub proof: String,
    /// The key of the log, for convenience: who verifies must have it from somewhere else.
    pub key: VerifierKey,
}

/// The tree of a log, as far as it was read to prove records.
#[derive(Debug)]
pub struct Prover<'a> {
    hashes: Hashes<'a>,
}

/// The proof does not prove the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// The checkpoint does not hold.
    #[error("the checkpoint is {0}")]
    Checkpoint(NoteError),
    /// Not in the form of a proof.
    #[error("not a proof in the form of C2SP tlog-proof@v1")]
    Form,
    /// The path from the record does not end at the signed root.
    #[error("the record is not in the log that the checkpoint signs, or not at this place")]
    Path,
}

// === impl Log ===

impl Log {
    /// The record at `index` with everything that proves it.
    pub fn export(&self, index: u64) -> Result<Evidence, ReadError> {
        let stored = self.sealed_record(index)?;
        let proof = self.prover().prove(&stored)?;
        Ok(Evidence { index, record: stored.leaf().into(), proof, key: self.key().clone() })
    }

    /// Proves one record after the other, and reads each part of the tree once.
    pub fn prover(&self) -> Prover<'_> {
        Prover { hashes: Hashes::of(self) }
    }
}

// === impl Prover ===

impl Prover<'_> {
    /// The proof of `stored` in the form of C2SP tlog-proof.
    pub fn prove(&mut self, stored: &Stored) -> Result<String, ReadError> {
        let (log, index) = (self.hashes.log, stored.index);
        let path = inclusion_path(&mut self.hashes, index, log.size())?;
        let root = root_from_inclusion(leaf_hash(stored.leaf()), index, log.size(), &path);
        // A proof that proves nothing leaves no damaged log unnoticed.
        if root != Some(log.checkpoint().root) {
            return Err(ReadError::Tile(log.layout().tile(0, index / TILE_WIDTH)));
        }
        let path: String = path.iter().map(|hash| encode(hash) + "\n").collect();
        Ok(format!("{PROOF_HEADER}\nindex {index}\n{path}\n{}", log.note()))
    }
}

// === impl Evidence ===

impl Evidence {
    /// Writes record, proof, key and script into `directory`, which is made.
    pub fn write_to(&self, directory: &Path) -> Result<(), FileError> {
        fs::create_dir_all(directory).map_err(FileError::on("create directory", directory))?;
        let key = format!("{}\n", self.key);
        let json = self.record.get(SALT_BYTES..).unwrap_or_default();
        let files: [(&str, &[u8]); 5] = [
            ("record.leaf", &self.record),
            ("record.json", json),
            ("record.tlog-proof", self.proof.as_bytes()),
            ("key.pub", key.as_bytes()),
            ("verify.sh", VERIFY_SH.as_bytes()),
        ];
        files.into_iter().try_for_each(|(name, bytes)| {
            let path = directory.join(name);
            fs::write(&path, bytes).map_err(FileError::on("write", &path))
        })
    }
}

/// What `proof` says about `record`, once everything in it holds: its index and the tree head.
pub fn verify_evidence(
    record: &[u8],
    proof: &str,
    key: &VerifierKey,
) -> Result<(u64, Checkpoint), EvidenceError> {
    let (index, path, note) = parse_proof(proof).ok_or(EvidenceError::Form)?;
    let checkpoint = key.open(note).map_err(EvidenceError::Checkpoint)?;
    let root = root_from_inclusion(leaf_hash(record), index, checkpoint.size, &path);
    if root == Some(checkpoint.root) { Ok((index, checkpoint)) } else { Err(EvidenceError::Path) }
}

/// The index, the path and the checkpoint of `proof`, if it is in the form of C2SP tlog-proof.
pub(crate) fn parse_proof(proof: &str) -> Option<(u64, Vec<Hash>, &str)> {
    let (head, note) = proof.split_once("\n\n")?;
    let mut lines = head.split('\n').peekable();
    (lines.next()? == PROOF_HEADER).then_some(())?;
    lines.next_if(|line| line.starts_with("extra "));
    let index = parse_number(lines.next()?.strip_prefix("index ")?)?;
    let path: Option<Vec<Hash>> = lines.map(|line| decode(line)?.try_into().ok()).collect();
    let path = path.filter(|path| path.len() <= PATH_HASHES_MAX)?;
    Some((index, path, note))
}

/// The tree under a checkpoint: from tiles, and from segments where a tile is not full.
#[derive(Debug)]
pub(crate) struct Hashes<'a> {
    log: &'a Log,
    firsts: Option<Vec<u64>>,
    tiles: HashMap<(u32, u64), Vec<Hash>>,
    /// Nodes between the tiles, by height and number: neighbours need the same ones again.
    between: HashMap<(u32, u64), Hash>,
    segments: HashMap<u64, Leaves>,
}

impl Nodes for Hashes<'_> {
    type Error = ReadError;

    fn node(&mut self, height: u32, index: u64) -> Result<Hash, ReadError> {
        if height.is_multiple_of(8) {
            let place = usize::try_from(index % TILE_WIDTH).ok();
            let tile = self.tile(height / 8, index / TILE_WIDTH)?;
            let hash = place.and_then(|place| tile.get(place)).copied();
            return hash.ok_or_else(|| self.damaged(height / 8, index / TILE_WIDTH));
        }
        if let Some(known) = self.between.get(&(height, index)) {
            return Ok(*known);
        }
        let left = self.node(height - 1, 2 * index)?;
        let right = self.node(height - 1, 2 * index + 1)?;
        let hash = node_hash(&left, &right);
        self.between.insert((height, index), hash);
        Ok(hash)
    }
}

impl<'a> Hashes<'a> {
    pub(crate) fn of(log: &'a Log) -> Self {
        Self {
            log,
            firsts: None,
            tiles: HashMap::new(),
            between: HashMap::new(),
            segments: HashMap::new(),
        }
    }

    /// The last segment that begins at or before the record `at`; the oldest one when none does.
    fn segment_of(&mut self, at: u64) -> Result<(u64, &Leaves), ReadError> {
        let firsts = match self.firsts.take() {
            Some(firsts) => firsts,
            None => chain::segments(self.log.layout())?,
        };
        let place = firsts.partition_point(|first| *first <= at).saturating_sub(1);
        let first = firsts.get(place).copied();
        self.firsts = Some(firsts);
        let missing = || ChainError::Missing(self.log.layout().segments());
        let first = first.ok_or_else(missing)?;
        let path = self.log.layout().segment(first);
        match self.segments.entry(first) {
            Entry::Occupied(found) => Ok((first, found.into_mut())),
            Entry::Vacant(vacant) => Ok((first, vacant.insert(chain::open_leaves(&path, first)?))),
        }
    }

    fn tile(&mut self, level: u32, index: u64) -> Result<&[Hash], ReadError> {
        if !self.tiles.contains_key(&(level, index)) {
            let tile = self.read_tile(level, index)?;
            self.tiles.insert((level, index), tile);
        }
        Ok(self.tiles.get(&(level, index)).map(Vec::as_slice).unwrap_or_default())
    }

    fn read_tile(&mut self, level: u32, index: u64) -> Result<Vec<Hash>, ReadError> {
        let nodes = TILE_WIDTH.checked_pow(level).map_or(0, |width| self.log.size() / width);
        let (first, end) = (index * TILE_WIDTH, (index + 1) * TILE_WIDTH);
        if level == 0 {
            self.leaves(first, end.min(nodes))
        } else if end <= nodes {
            self.full_tile(level, index)
        } else {
            let mut tile = self.begun_tile(level, first, nodes)?;
            let known = first + u64::try_from(tile.len()).unwrap_or_default();
            for child in known..nodes {
                tile.push(root_of(self.tile(level - 1, child)?));
            }
            Ok(tile)
        }
    }

    /// What the newest header knows of an unfinished tile whose first node is `first`.
    fn begun_tile(&mut self, level: u32, first: u64, nodes: u64) -> Result<Vec<Hash>, ReadError> {
        let (begin, leaves) = self.segment_of(self.log.size())?;
        if TILE_WIDTH.checked_pow(level).map_or(0, |width| begin / width) <= first {
            return Ok(Vec::new());
        }
        let partial = leaves.header().tree().partial();
        let mut known = partial.get(usize::try_from(level).unwrap_or_default()).cloned();
        if let Some(known) = &mut known {
            known.truncate(usize::try_from(nodes - first).unwrap_or_default());
        }
        Ok(known.unwrap_or_default())
    }

    /// The hashes of the records `from..end`.
    fn leaves(&mut self, from: u64, end: u64) -> Result<Vec<Hash>, ReadError> {
        let mut hashes = Vec::new();
        let mut at = from;
        while at < end {
            let (first, leaves) = self.segment_of(at)?;
            let found = if first <= at {
                let block = leaves.block(at);
                let path = self.log.layout().segment(first);
                let block = block.map_err(|error| chain::unopened(&path, at, error))?;
                let skip = block.as_ref().map_or(0, |block| at - block.first());
                let skip = usize::try_from(skip).unwrap_or(usize::MAX);
                block.and_then(|block| block.leaves().get(skip..).map(<[Hash]>::to_vec))
            } else {
                // What was pruned of a tile that goes on is in the header of what is left.
                let known = leaves.header().tree().partial().first();
                let skip = at.checked_sub(first - first % TILE_WIDTH);
                let skip = skip.and_then(|skip| usize::try_from(skip).ok());
                known.zip(skip).and_then(|(known, skip)| known.get(skip..)).map(<[Hash]>::to_vec)
            };
            let found = found.unwrap_or_default();
            if found.is_empty() {
                return Err(self.damaged(0, from / TILE_WIDTH));
            }
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(found.len());
            at += u64::try_from(wanted).unwrap_or_default();
            hashes.extend(found.into_iter().take(wanted));
        }
        Ok(hashes)
    }

    fn full_tile(&self, level: u32, index: u64) -> Result<Vec<Hash>, ReadError> {
        let damaged = || self.damaged(level, index);
        let bytes = fs::read(self.path(level, index)).or(Err(damaged()))?;
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        let whole = rest.is_empty() && u64::try_from(hashes.len()) == Ok(TILE_WIDTH);
        if whole { Ok(hashes.to_vec()) } else { Err(damaged()) }
    }

    fn damaged(&self, level: u32, index: u64) -> ReadError {
        ReadError::Tile(self.path(level, index))
    }

    fn path(&self, level: u32, index: u64) -> std::path::PathBuf {
        let layout = self.log.layout();
        match usize::try_from(level) {
            Ok(level @ 1..) => layout.tile(level, index),
            Ok(0) | Err(_) => layout.segments(),
        }
    }
}
