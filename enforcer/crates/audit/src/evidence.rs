//! One record that convinces somebody who has nothing but the log's public key.
//!
//! The proof is a C2SP `tlog-proof@v1`; the script beside it needs a shell, openssl and xxd.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::files::FileError;
use crate::merkle::{
    HASH_BYTES, Hash, Nodes, TILE_WIDTH, inclusion_path, leaf_hash, node_hash, root_from_inclusion,
    root_of,
};
use crate::note::{Checkpoint, NoteError, VerifierKey, decode, encode, parse_number};
use crate::read::{Log, ReadError};
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
pub(crate) struct Prover<'a> {
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
        let stored = self.record(index)?;
        let proof = self.prover().prove(&stored)?;
        Ok(Evidence { index, record: stored.leaf().into(), proof, key: self.key().clone() })
    }

    /// Proves one record after the other, and reads each part of the tree once.
    pub(crate) fn prover(&self) -> Prover<'_> {
        Prover { hashes: Hashes::of(self) }
    }
}

// === impl Prover ===

impl Prover<'_> {
    /// The proof of `stored` in the form of C2SP tlog-proof.
    pub(crate) fn prove(&mut self, stored: &Stored) -> Result<String, ReadError> {
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
        let files: [(&str, &[u8]); 4] = [
            ("record.json", &self.record),
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

/// The tree under a checkpoint, read from tiles, and from records where a tile is not full.
pub(crate) struct Hashes<'a> {
    log: &'a Log,
    tiles: HashMap<(u32, u64), Vec<Hash>>,
}

impl Nodes for Hashes<'_> {
    type Error = ReadError;

    fn node(&mut self, height: u32, index: u64) -> Result<Hash, ReadError> {
        if height.is_multiple_of(8) {
            let tile = self.tile(height / 8, index / TILE_WIDTH)?;
            let place = usize::try_from(index % TILE_WIDTH).ok();
            let hash = place.and_then(|place| tile.get(place)).copied();
            return hash.ok_or_else(|| self.damaged(height / 8, index / TILE_WIDTH));
        }
        let left = self.node(height - 1, 2 * index)?;
        let right = self.node(height - 1, 2 * index + 1)?;
        Ok(node_hash(&left, &right))
    }
}

impl<'a> Hashes<'a> {
    pub(crate) fn of(log: &'a Log) -> Self {
        Self { log, tiles: HashMap::new() }
    }
}

impl Hashes<'_> {
    fn tile(&mut self, level: u32, index: u64) -> Result<Vec<Hash>, ReadError> {
        if let Some(tile) = self.tiles.get(&(level, index)) {
            return Ok(tile.clone());
        }
        let nodes = TILE_WIDTH.checked_pow(level).map_or(0, |width| self.log.size() / width);
        let (first, end) = (index * TILE_WIDTH, (index + 1) * TILE_WIDTH);
        let tile = if end <= nodes {
            self.full_tile(level, index)?
        } else if let Some(below) = level.checked_sub(1) {
            let roots = (first..nodes).map(|child| Ok(root_of(&self.tile(below, child)?)));
            roots.collect::<Result<_, ReadError>>()?
        } else {
            let records = self.log.records(first..nodes)?;
            records.map(|record| Ok(leaf_hash(record?.leaf()))).collect::<Result<_, ReadError>>()?
        };
        self.tiles.insert((level, index), tile.clone());
        Ok(tile)
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
        self.log.layout().tile(usize::try_from(level).unwrap_or_default(), index)
    }
}
