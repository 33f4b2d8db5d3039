//! Where the blocks of a closed segment lie, so that one record is read without the rest.

use super::{Cursor, push_frame};

pub(super) const KIND: u8 = b'F';
const ENTRY_BYTES: usize = 16;

/// The blocks of a segment: offset and first record of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) blocks: Vec<(u64, u64)>,
    /// The first record behind the segment.
    pub(crate) end: u64,
}

impl Footer {
    pub(crate) fn push(&self, bytes: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(8 + self.blocks.len() * ENTRY_BYTES + 4);
        body.extend_from_slice(&self.end.to_be_bytes());
        for (offset, first) in &self.blocks {
            body.extend_from_slice(&offset.to_be_bytes());
            body.extend_from_slice(&first.to_be_bytes());
        }
        // Its own length, to be found from the end of the file.
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        body.extend_from_slice(&length.to_be_bytes());
        push_frame(bytes, KIND, &body);
    }

    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (rest, length) = body.split_last_chunk::<4>()?;
        if usize::try_from(u32::from_be_bytes(*length)) != Ok(body.len()) {
            return None;
        }
        let mut cursor = Cursor(rest);
        let end = cursor.u64()?;
        let (entries, left) = cursor.rest().as_chunks::<ENTRY_BYTES>();
        let entry = |entry: &[u8; ENTRY_BYTES]| {
            let mut cursor = Cursor(entry);
            Some((cursor.u64()?, cursor.u64()?))
        };
        let blocks: Option<Vec<_>> = entries.iter().map(entry).collect();
        let blocks = blocks.filter(|blocks| {
            left.is_empty() && blocks.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1)
        })?;
        Some(Self { blocks, end })
    }

    /// Offset of the block that holds the record at `index`.
    pub(crate) fn offset_of(&self, index: u64) -> Option<u64> {
        let place = self.blocks.partition_point(|(_, first)| *first <= index).checked_sub(1)?;
        self.blocks.get(place).map(|(offset, _)| *offset)
    }
}
