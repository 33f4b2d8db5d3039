//! Where each file of a log lies. The public part of the directory is a C2SP tlog-tiles tree.

use std::path::{Path, PathBuf};

/// The directory of one log.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

/// Digits of the first index in a segment's name, so that names sort like indices.
const SEGMENT_DIGITS: usize = 20;

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("log.lock")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.root.join("key")
    }

    pub(crate) fn public_key(&self) -> PathBuf {
        self.root.join("key.pub")
    }

    /// The private key of the epoch.
    pub(crate) fn epoch(&self) -> PathBuf {
        self.root.join("epoch")
    }

    /// That of the epoch that is about to begin.
    pub(crate) fn next_epoch(&self) -> PathBuf {
        self.root.join("epoch.next")
    }

    /// Who followed whom: a signed note for each epoch.
    pub(crate) fn epochs(&self) -> PathBuf {
        self.root.join("epochs")
    }

    /// Until where the log was pruned.
    pub(crate) fn pruned(&self) -> PathBuf {
        self.root.join("pruned")
    }

    /// Keys of segments that are hot.
    pub(crate) fn data_keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// That of the segment from `first` on.
    pub(crate) fn data_key(&self, first: u64) -> PathBuf {
        self.data_keys().join(format!("{first:0SEGMENT_DIGITS$}.key"))
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }

    /// Room that is kept free for the last words.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    /// Files are written here first, then renamed; what a crash leaves is removed at the start.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.root.join("unfinished")
    }

    pub(crate) fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }

    pub(crate) fn segment(&self, first: u64) -> PathBuf {
        self.segments().join(format!("{first:0SEGMENT_DIGITS$}.seg"))
    }

    /// What is derived from closed segments, to find records by.
    pub(crate) fn indexes(&self) -> PathBuf {
        self.root.join("index")
    }

    /// The index of the segment that begins with record `first`.
    pub(crate) fn index(&self, first: u64) -> PathBuf {
        self.indexes().join(format!("{first:0SEGMENT_DIGITS$}.idx"))
    }

    /// The full tile `index` of `level`.
    pub(crate) fn tile(&self, level: usize, index: u64) -> PathBuf {
        self.root.join(format!("tile/{level}")).join(tile_index(index))
    }
}

/// The first index of a segment, from its file name; none when it is no segment.
pub(crate) fn segment_first(name: &str) -> Option<u64> {
    first_of(name, ".seg")
}

/// The same from the name of its index.
pub(crate) fn index_first(name: &str) -> Option<u64> {
    first_of(name, ".idx")
}

fn first_of(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?;
    let plain = digits.len() == SEGMENT_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// `1234067` as `x001/x234/067`.
pub(crate) fn tile_index(index: u64) -> String {
    let mut text = format!("{:03}", index % 1_000);
    let mut rest = index / 1_000;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1_000);
        rest /= 1_000;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_lies_where_the_specification_wants_it() {
        assert_eq!(tile_index(5), "005");
        assert_eq!(tile_index(1_234_067), "x001/x234/067");
        let layout = Layout::new(Path::new("log"));
        assert_eq!(layout.tile(1, 1_000), Path::new("log/tile/1/x001/000"));
    }

    #[test]
    fn a_segment_is_named_by_its_first_index() {
        let path = Layout::new(Path::new("log")).segment(4_096);
        let name = path.file_name().unwrap().to_str().unwrap();

        assert_eq!(segment_first(name), Some(4_096));
        assert_eq!(segment_first("4096.seg"), None);
        assert_eq!(segment_first("+0000000000000004096.seg"), None);
    }
}
