//! A copy of the log in the standard form, for monitors and tools that know nothing of enforcer.
//!
//! The live directory holds full tiles and segments; a static log of C2SP tlog-tiles also has
//! partial tiles and entry bundles. They are made here, from the records, and only if these have
//! the root that the checkpoint signs.

use std::fs;
use std::path::Path;

use crate::files::FileError;
use crate::layout::tile_index;
use crate::merkle::{Hash, TILE_WIDTH, leaf_hash};
use crate::read::{Log, ReadError};

/// Entries in a full bundle, as hashes in a full tile.
const BUNDLE_ENTRIES: usize = 256;

impl Log {
    /// Writes the static log as of this checkpoint into `directory`, the checkpoint last.
    ///
    /// Records are personal data: whoever can read the entry bundles can read all of them.
    pub fn publish(&self, directory: &Path) -> Result<(), ReadError> {
        let begin = self.first()?;
        let mut tree = self.tree_before(begin)?;
        let mut tiles = Vec::new();
        let (mut bundle, mut entries) = (Vec::new(), 0);
        // Of a bundle whose beginning was pruned nothing is left to be published.
        let whole = begin.next_multiple_of(TILE_WIDTH);
        for record in self.records(begin..self.size())? {
            let record = record?;
            let bytes = record.leaf();
            tree.append(leaf_hash(bytes), |tile| tiles.push(tile));
            if record.index < whole {
                continue;
            }
            // A record fits 16 bits, or it could not have been read.
            let length = u16::try_from(bytes.len()).unwrap_or_default();
            bundle.extend_from_slice(&length.to_be_bytes());
            bundle.extend_from_slice(bytes);
            entries += 1;
            if entries == BUNDLE_ENTRIES {
                write(directory, "entries", record.index / 256, entries, &bundle)?;
                bundle.clear();
                entries = 0;
            }
            for tile in tiles.drain(..) {
                write_tile(directory, tile.level, tile.index, &tile.hashes)?;
            }
        }
        if tree.root() != self.checkpoint().root {
            return Err(ReadError::Root(self.layout().root().to_owned()));
        }
        if entries > 0 {
            write(directory, "entries", self.size() / 256, entries, &bundle)?;
        }
        let mut nodes = self.size();
        for (level, hashes) in tree.partial().iter().enumerate() {
            if !hashes.is_empty() {
                write_tile(directory, level, nodes / 256, hashes)?;
            }
            nodes /= 256;
        }
        Ok(put(&directory.join("checkpoint"), self.note().as_bytes())?)
    }
}

fn write_tile(
    directory: &Path,
    level: usize,
    index: u64,
    hashes: &[Hash],
) -> Result<(), FileError> {
    write(directory, &level.to_string(), index, hashes.len(), hashes.as_flattened())
}

/// `tile/<kind>/<index>`, with `.p/<width>` when it is not full.
fn write(
    directory: &Path,
    kind: &str,
    index: u64,
    width: usize,
    bytes: &[u8],
) -> Result<(), FileError> {
    let partial = if width < BUNDLE_ENTRIES { format!(".p/{width}") } else { String::new() };
    let path = directory.join(format!("tile/{kind}/{}{partial}", tile_index(index)));
    put(&path, bytes)
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(FileError::on("create directory", parent))?;
    fs::write(path, bytes).map_err(FileError::on("write", path))
}
