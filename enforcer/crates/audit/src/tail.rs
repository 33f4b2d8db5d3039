//! The last segment of a log, read to its end: what is kept of it, and what a crash left behind.

use std::fs;

use crate::chain;
use crate::epoch;
use crate::files::FileError;
use crate::layout::Layout;
use crate::merkle::{Tile, Tree};
use crate::note::Checkpoint;
use crate::open::OpenError;
use crate::sealing::{Keyring, SegmentKeys};
use crate::segment::{Fault, Footer, Frame, Frames, Opener, Step};
use crate::store::Extend;

/// The last segment, read to its end.
pub(crate) struct Tail {
    pub(crate) tree: Tree,
    pub(crate) tiles: Vec<Tile>,
    /// Where the last intact frame ends.
    pub(crate) written: Extend,
    /// Whether its last intact frame is no commit.
    pub(crate) open_ended: bool,
    pub(crate) footer: Footer,
    pub(crate) closed: bool,
    pub(crate) torn_bytes: u64,
}

/// What a segment's header says, and the keys that belong to it.
pub(crate) struct Unlocked {
    pub(crate) keys: SegmentKeys,
    pub(crate) context: [u8; 32],
}

fn unlock(layout: &Layout, frames: &Frames) -> Result<Unlocked, OpenError> {
    let path = layout.data_key(frames.header().first());
    let missing = !path.exists();
    match Keyring::default().find(layout, frames.header())? {
        Some(keys) => Ok(Unlocked { keys, context: *frames.context() }),
        None if missing => Err(OpenError::Missing(path)),
        None => Err(OpenError::altered(&path, None, &"it is not the key of its segment")),
    }
}

pub(crate) fn read_tail(
    layout: &Layout,
    first: u64,
    signed: &Checkpoint,
    epochs: &epoch::Chain,
) -> Result<(Tail, Unlocked), OpenError> {
    let path = layout.segment(first);
    if signed.size < first {
        let why = format!(
            "it covers {} records, yet the log has a segment from {first} on, which begins only \
             under a newer checkpoint",
            signed.size
        );
        return Err(OpenError::altered(&layout.checkpoint(), Some(signed.size), &why));
    }
    let mut frames = chain::open_segment(&path, first)?;
    let unlocked = unlock(layout, &frames)?;
    let mut tail = Tail {
        tree: frames.header().tree().clone(),
        tiles: Vec::new(),
        written: Extend { length: frames.offset(), hash: frames.hash() },
        open_ended: false,
        footer: Footer::default(),
        closed: false,
        torn_bytes: 0,
    };
    let mut last_commit = None;
    let mut opener = Opener::default();
    loop {
        if tail.tree.size() == signed.size && tail.tree.root() != signed.root {
            let why = format!(
                "the records {first} to {} do not have the root that the checkpoint signs",
                signed.size.saturating_sub(1)
            );
            return Err(OpenError::altered(&path, Some(first), &why));
        }
        let offset = frames.offset();
        tail.written = Extend { length: offset, hash: frames.hash() };
        let step = frames.next().map_err(FileError::on("read", &path))?;
        let taken = match step {
            Step::Frame(Frame::Commit(commit)) => {
                last_commit = Some((commit, offset));
                tail.open_ended = false;
                let fits = (commit.size, commit.root) == (tail.tree.size(), tail.tree.root());
                if fits { Ok(()) } else { Err(Fault::Commit) }
            }
            Step::Frame(frame) => tail.take(&frame, offset, &unlocked, &mut opener),
            Step::End if tail.tree.size() >= signed.size => break,
            Step::End => Err(Fault::CutShort),
            Step::Broken(fault) => Err(fault),
        };
        let Err(fault) = taken else { continue };
        let size = tail.tree.size();
        // Something stands behind what is broken that is written only after a sync.
        let synced = frames.is_followed_by_commit().map_err(FileError::on("read", &path))?;
        if size < signed.size || synced {
            return Err(OpenError::altered(&path, Some(size), &fault));
        }
        let length = fs::metadata(&path).map_err(FileError::on("examine", &path))?.len();
        tail.torn_bytes = length.saturating_sub(tail.written.length);
        break;
    }
    let committed = last_commit.as_ref().map_or(first, |(commit, _)| commit.size);
    if committed < signed.size {
        // A checkpoint is published only when the commit that says the same is on disk.
        return Err(OpenError::altered(&path, Some(committed), &Fault::CutShort));
    }
    // Each commit covers those before it.
    if let Some((commit, offset)) = last_commit {
        let key = epochs.key(commit.epoch);
        if !key.is_some_and(|key| commit.holds(key, &signed.origin, first, offset)) {
            return Err(OpenError::altered(&path, Some(first), &Fault::Commit));
        }
    }
    Ok((tail, unlocked))
}

impl Tail {
    /// Takes up a block or a footer.
    fn take(
        &mut self,
        frame: &Frame,
        offset: u64,
        unlocked: &Unlocked,
        opener: &mut Opener,
    ) -> Result<(), Fault> {
        match frame {
            Frame::Block(block) if !self.closed && block.first() == self.tree.size() => {
                block.check(&unlocked.context, &unlocked.keys, opener)?;
                for leaf in block.leaves() {
                    self.tree.append(*leaf, |tile| {
                        if tile.level > 0 {
                            self.tiles.push(tile);
                        }
                    });
                }
                self.footer.blocks.push((offset, block.first()));
            }
            Frame::Footer(footer)
                if !self.closed
                    && footer.blocks == self.footer.blocks
                    && footer.end == self.tree.size() =>
            {
                self.closed = true;
            }
            Frame::Block(_) | Frame::Footer(_) | Frame::Commit(_) => return Err(Fault::Frame),
        }
        self.open_ended = true;
        Ok(())
    }
}
