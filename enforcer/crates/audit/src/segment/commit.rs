//! What a group of blocks ends with: the tree and the file so far, signed with the epoch's key.

use super::{Cursor, FRAME_HEADER_BYTES, push_frame};
use crate::merkle::{HASH_BYTES, Hash};
use crate::note::{SIGNATURE_BYTES, SigningKey, VerifierKey, encode};

pub(super) const KIND: u8 = b'C';
const BODY_BYTES: usize = 8 + 2 * HASH_BYTES + 4 + SIGNATURE_BYTES;
pub(crate) const COMMIT_FRAME_BYTES: usize = FRAME_HEADER_BYTES + BODY_BYTES;

/// A commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) size: u64,
    pub(crate) root: Hash,
    /// SHA-256 of every byte of the file before this frame.
    pub(crate) sha256: Hash,
    pub(crate) epoch: u32,
    pub(crate) signature: [u8; SIGNATURE_BYTES],
}

impl Commit {
    /// A commit at `offset` of the segment from `first` on.
    pub(crate) fn sign(
        key: &SigningKey,
        (origin, epoch): (&str, u32),
        (first, offset): (u64, u64),
        (size, root, sha256): (u64, Hash, Hash),
    ) -> Self {
        let mut commit = Self { size, root, sha256, epoch, signature: [0; SIGNATURE_BYTES] };
        commit.signature = key.sign_bytes(commit.text(origin, first, offset).as_bytes());
        commit
    }

    pub(crate) fn holds(&self, key: &VerifierKey, origin: &str, first: u64, offset: u64) -> bool {
        key.verifies(self.text(origin, first, offset).as_bytes(), &self.signature)
    }

    fn text(&self, origin: &str, first: u64, offset: u64) -> String {
        let Self { size, root, sha256, epoch, signature: _ } = self;
        format!(
            "enforcer.commit/2\n{origin}\n{epoch}\n{size}\n{}\n{first}\n{offset}\n{}\n",
            encode(root),
            encode(sha256)
        )
    }

    pub(crate) fn push(&self, bytes: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(BODY_BYTES);
        body.extend_from_slice(&self.size.to_be_bytes());
        body.extend_from_slice(&self.root);
        body.extend_from_slice(&self.sha256);
        body.extend_from_slice(&self.epoch.to_be_bytes());
        body.extend_from_slice(&self.signature);
        push_frame(bytes, KIND, &body);
    }

    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let commit = Self {
            size: cursor.u64()?,
            root: cursor.take()?,
            sha256: cursor.take()?,
            epoch: cursor.u32()?,
            signature: cursor.take()?,
        };
        cursor.rest().is_empty().then_some(commit)
    }
}
