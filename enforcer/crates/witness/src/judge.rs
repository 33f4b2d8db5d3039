//! What a witness says to a checkpoint (C2SP tlog-witness), HTTP aside.

use std::collections::BTreeMap;

use enforcer_audit::{
    AddCheckpoint, Checkpoint, Cosigner, Inconsistent, NoteError, RequestError, SignedNote,
    VerifierKey, WitnessKey, verify_consistency,
};
use enforcer_model::Timestamp;
use ring::digest::{SHA256, digest};

use crate::home::{Home, HomeError};
use crate::memory::{Known, Memory, MemoryError};

/// Cosigns for some logs.
#[derive(Debug)]
pub struct Witness {
    cosigner: Cosigner,
    memory: Memory,
    /// By origin; a log may have several keys.
    logs: BTreeMap<String, Vec<VerifierKey>>,
}

/// A witness cannot begin its work.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// Its directory.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// What it knows.
    #[error("cannot open it; does another witness run on it?")]
    Memory(#[from] MemoryError),
}

/// A checkpoint is not cosigned.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The log continues another tree than the one that is known: it says so, or was cut.
    #[error("another size is known: {0}")]
    Conflict(u64),
    /// The tree does not continue the one that is known.
    #[error(transparent)]
    Forked(#[from] Inconsistent),
    /// Not a request.
    #[error(transparent)]
    Malformed(#[from] RequestError),
    /// What is known cannot be read or written.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The checkpoint is not in its form.
    #[error("the checkpoint is {0}")]
    Note(NoteError),
    /// The old size is beyond the checkpoint's.
    #[error("the old size is larger than that of the checkpoint")]
    Order,
    /// The log is not one of ours.
    #[error("the log is unknown")]
    UnknownLog,
    /// No key of the log's has signed it, or one seems to have and has not.
    #[error("the checkpoint is {0}")]
    Unsigned(NoteError),
}

impl Witness {
    /// The witness at `home`, for `logs`.
    pub fn open(
        home: &Home,
        logs: impl IntoIterator<Item = VerifierKey>,
    ) -> Result<Self, WitnessError> {
        let cosigner = home.cosigner()?;
        let memory = Memory::open(&home.memory())?;
        home.sync()?;
        let mut by_origin = BTreeMap::<_, Vec<_>>::new();
        for key in logs {
            let keys = by_origin.entry(key.origin().to_owned()).or_default();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(Self { cosigner, memory, logs: by_origin })
    }

    /// Its public key.
    pub const fn key(&self) -> &WitnessKey {
        self.cosigner.key()
    }

    /// How many logs it cosigns for.
    pub fn logs(&self) -> usize {
        self.logs.len()
    }

    /// The signature lines under the checkpoint in `body`, once it is known for good.
    pub fn add_checkpoint(&self, body: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let request = AddCheckpoint::parse(body)?;
        let note = SignedNote::parse(&request.note).map_err(Refusal::Note)?;
        let checkpoint = note.claims().map_err(Refusal::Note)?;
        self.check_signed(&checkpoint.origin, &request.note)?;
        if request.old > checkpoint.size {
            return Err(Refusal::Order);
        }
        let line = self.cosigner.cosign(note.text(), now.unix_ns() / 1_000_000_000);
        self.memory.advance(&checkpoint.origin, |known| {
            let is_known = known.as_ref().is_some_and(|known| known.size == checkpoint.size);
            judge(known, &request, &checkpoint)?;
            // Saying the same again changes nothing, and costs nobody's disk anything.
            let next = (!is_known).then(|| {
                let kept = self.signatures(&checkpoint.origin, &request.note);
                (checkpoint.clone(), format!("{}\n{kept}{line}", note.text()))
            });
            Ok((next, line.clone()))
        })
    }

    /// The newest cosigned checkpoint of the log whose origin has this SHA-256, in hex.
    pub fn newest(&self, origin_sha256: &str) -> Result<Option<String>, MemoryError> {
        let origin = self.logs.keys().find(|origin| hex_sha256(origin) == origin_sha256);
        origin.map_or(Ok(None), |origin| self.memory.note(origin))
    }

    /// At least one key of the log's has signed it, and no line claims so that is not true.
    fn check_signed(&self, origin: &str, note: &str) -> Result<(), Refusal> {
        let keys = self.logs.get(origin).ok_or(Refusal::UnknownLog)?;
        let mut signed = Err(Refusal::Unsigned(NoteError::Unsigned));
        for key in keys {
            match key.open(note) {
                Ok(_) => signed = Ok(()),
                Err(NoteError::Unsigned) => {}
                Err(error @ (NoteError::Signature | NoteError::Origin)) => {
                    return Err(Refusal::Unsigned(error));
                }
                Err(error @ NoteError::Form) => return Err(Refusal::Note(error)),
            }
        }
        signed
    }

    /// Those signature lines of `note` that the log's keys made.
    fn signatures(&self, origin: &str, note: &str) -> String {
        let Some((_, lines)) = note.rsplit_once("\n\n") else { return String::new() };
        let keys = self.logs.get(origin).map(Vec::as_slice).unwrap_or_default();
        let text = note.strip_suffix(lines).unwrap_or_default();
        let ours = |line: &&str| {
            let alone = format!("{text}{line}");
            keys.iter().any(|key| key.open(&alone).is_ok())
        };
        lines.split_inclusive('\n').filter(ours).collect()
    }
}

/// Whether `next` may be cosigned by somebody who knows `known`.
fn judge(known: Option<Known>, request: &AddCheckpoint, next: &Checkpoint) -> Result<(), Refusal> {
    let known = known.unwrap_or_else(|| Known { size: 0, root: empty_root() });
    if request.old != known.size {
        return Err(Refusal::Conflict(known.size));
    }
    Ok(verify_consistency((known.size, known.root), (next.size, next.root), &request.proof)?)
}

fn empty_root() -> [u8; 32] {
    digest(&SHA256, &[]).as_ref().try_into().unwrap_or_default()
}

pub(crate) fn hex_sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
pub(crate) mod tests;
