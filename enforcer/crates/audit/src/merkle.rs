//! The Merkle tree of RFC 6962 (section 2.1), grown one leaf at a time, and its proofs.
//!
//! A [`Tree`] keeps what an append needs and nothing more: the perfect subtrees along the right
//! edge, and the unfinished tile of each level (C2SP tlog-tiles, height 8). It does no I/O.

use ring::digest::{Context, Digest, SHA256, digest};

/// A SHA-256 hash.
pub type Hash = [u8; HASH_BYTES];

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// Hashes in a full tile.
pub(crate) const TILE_WIDTH: u64 = 256;

/// Height of a tile: a full one is the root of `2^8` nodes below it.
const TILE_HEIGHT: usize = 8;

/// The tree so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    size: u64,
    /// Perfect subtrees from left to right, one for each set bit of `size`.
    edge: Vec<Hash>,
    /// The unfinished tile of each level.
    partial: Vec<Vec<Hash>>,
}

/// A full tile that an append completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) level: usize,
    pub(crate) index: u64,
    pub(crate) hashes: Vec<Hash>,
}

/// The hash of a leaf with these bytes.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(entry);
    finish(context)
}

/// The hash of a leaf that is `record` behind its salt.
pub(crate) fn salted_leaf_hash(salt: &[u8], record: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(salt);
    context.update(record);
    finish(context)
}

/// The hash of a node with these children.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut node = [1; 1 + 2 * HASH_BYTES];
    let children = left.iter().chain(right);
    node.iter_mut().skip(1).zip(children).for_each(|(to, from)| *to = *from);
    sha256(&node)
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    hash_of(&digest(&SHA256, bytes))
}

pub(crate) fn finish(context: Context) -> Hash {
    hash_of(&context.finish())
}

fn hash_of(digest: &Digest) -> Hash {
    let mut hash = [0; HASH_BYTES];
    hash.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

// === impl Tile ===

impl Tile {
    /// The first record under it.
    pub(crate) fn first(&self) -> u64 {
        self.index.saturating_mul(self.records())
    }

    /// The first record behind it.
    pub(crate) fn end(&self) -> u64 {
        self.first().saturating_add(self.records())
    }

    fn records(&self) -> u64 {
        (0..=self.level).fold(1, |records, _| TILE_WIDTH.saturating_mul(records))
    }
}

// === impl Tree ===

impl Tree {
    /// The tree of `size` leaves whose unfinished tiles are `partial`, lowest level first; none
    /// when their widths are not those of that size.
    pub(crate) fn resume(size: u64, partial: Vec<Vec<Hash>>) -> Option<Self> {
        let widths = partial.iter().map(|tile| u64::try_from(tile.len()).ok());
        if !widths.eq(partial_widths(size).map(Some)) {
            return None;
        }
        // From the highest level down, each tile's perfect subtrees continue the right edge.
        let mut edge = Vec::new();
        for tile in partial.iter().rev() {
            let mut inside = Vec::new();
            for (count, hash) in (0u64..).zip(tile) {
                push(&mut inside, count, *hash);
            }
            edge.append(&mut inside);
        }
        Some(Self { size, edge, partial })
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The unfinished tiles, lowest level first; a level without one is empty.
    pub(crate) fn partial(&self) -> &[Vec<Hash>] {
        &self.partial
    }

    /// Adds a leaf and hands every tile that it completes to `completed`, lowest level first.
    pub(crate) fn append(&mut self, leaf: Hash, mut completed: impl FnMut(Tile)) {
        let (mut node, mut index) = (leaf, self.size);
        self.size += 1;
        // Each node that becomes perfect is hashed once; those at a tile's height stand in it too.
        for height in 0.. {
            if height % TILE_HEIGHT == 0 {
                let level = height / TILE_HEIGHT;
                if self.partial.len() == level {
                    self.partial.push(Vec::with_capacity(1 << TILE_HEIGHT));
                }
                let Some(tile) = self.partial.get_mut(level) else { return };
                tile.push(node);
                if tile.len() == 1 << TILE_HEIGHT {
                    let hashes = std::mem::replace(tile, Vec::with_capacity(1 << TILE_HEIGHT));
                    completed(Tile { level, index: index / TILE_WIDTH, hashes });
                }
            }
            match self.edge.pop_if(|_| index % 2 == 1) {
                Some(left) => node = node_hash(&left, &node),
                None => return self.edge.push(node),
            }
            index /= 2;
        }
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> Hash {
        let mut smaller_first = self.edge.iter().rev();
        match smaller_first.next() {
            None => sha256(&[]),
            Some(last) => smaller_first.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// How wide the unfinished tile of each level of a tree of `size` leaves is, lowest level first.
pub(crate) fn partial_widths(size: u64) -> impl Iterator<Item = u64> {
    let levels = std::iter::successors(Some(size), |nodes| Some(nodes / TILE_WIDTH));
    levels.take_while(|nodes| *nodes > 0).map(|nodes| nodes % TILE_WIDTH)
}

/// Adds a leaf behind `count` others to the perfect subtrees of their tree.
fn push(edge: &mut Vec<Hash>, count: u64, leaf: Hash) {
    let mut node = leaf;
    for _ in 0..count.trailing_ones() {
        if let Some(left) = edge.pop() {
            node = node_hash(&left, &node);
        }
    }
    edge.push(node);
}

/// The root of a perfect subtree, from a power of two of its nodes.
pub(crate) fn root_of(nodes: &[Hash]) -> Hash {
    let mut edge = Vec::new();
    for (count, node) in (0u64..).zip(nodes) {
        push(&mut edge, count, *node);
    }
    edge.pop().unwrap_or_default()
}

/// What an inclusion proof asks a log for: the root of a perfect subtree.
pub(crate) trait Nodes {
    /// Why a node cannot be had.
    type Error;

    /// The root of the `index`-th perfect subtree of `2^height` leaves.
    fn node(&mut self, height: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The audit path of leaf `index` in the tree of the first `size` leaves, from the leaf's sibling
/// upwards (RFC 6962, section 2.1.1).
pub(crate) fn inclusion_path<N: Nodes>(
    nodes: &mut N,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    let (mut from, mut until) = (0, size);
    while until - from > 1 {
        let middle = from + split(until - from);
        if index < middle {
            path.push(range_root(nodes, middle, until)?);
            until = middle;
        } else {
            path.push(range_root(nodes, from, middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The root over the leaves `from..until`, where `from` is a multiple of the largest perfect
/// subtree inside.
pub(crate) fn range_root<N: Nodes>(nodes: &mut N, from: u64, until: u64) -> Result<Hash, N::Error> {
    let count = until - from;
    if count.is_power_of_two() {
        return nodes.node(count.trailing_zeros(), from / count);
    }
    let middle = from + split(count);
    let left = range_root(nodes, from, middle)?;
    let right = range_root(nodes, middle, until)?;
    Ok(node_hash(&left, &right))
}

/// The largest power of two below `count`, which is at least 2.
pub(crate) const fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The root that `path` leads to from `leaf` at `index` of `size` leaves; none when the path cannot
/// belong to that place (RFC 9162, section 2.1.3.2).
pub fn root_from_inclusion(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut index, mut last, mut root) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if index % 2 == 1 || index == last {
            root = node_hash(sibling, &root);
            // A right edge without a sibling goes up unchanged.
            let unpaired = index.trailing_zeros();
            index >>= unpaired;
            last >>= unpaired;
        } else {
            root = node_hash(&root, sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
#[path = "merkle_tests.rs"]
mod tests;
