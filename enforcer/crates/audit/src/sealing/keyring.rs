//! Where the keys of segments are: beside the log while they are hot, else in their headers.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::age::{self, Identity, Recipient};
use super::{DataKey, SegmentKeys};
use crate::files::{self, Durable, FileError};
use crate::layout::Layout;
use crate::note::{decode, encode};
use crate::segment::Header;

const FIRST_LINE: &str = "enforcer-audit-key/1";

/// How a reader comes by the keys of segments.
#[derive(Clone, Default)]
pub(crate) struct Keyring {
    identities: Arc<[Identity]>,
}

/// How a writer keeps them.
#[derive(Debug)]
pub(crate) struct Vault {
    recipients: Vec<Recipient>,
}

// === impl Keyring ===

impl Keyring {
    pub(crate) fn new(identities: Arc<[Identity]>) -> Self {
        Self { identities }
    }

    /// The keys of the segment with this header; none when nobody here can open it.
    pub(crate) fn find(
        &self,
        layout: &Layout,
        header: &Header,
    ) -> Result<Option<SegmentKeys>, FileError> {
        let fits = |key: DataKey| key.derive().filter(|keys| keys.check() == header.key_check());
        let path = layout.data_key(header.first());
        let beside = match files::read_text(&path) {
            Ok(text) => text.map(Zeroizing::new).and_then(|text| parse(&text, header.first())),
            // Whoever may not read the keys is an auditor with a copy.
            Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => None,
            Err(error) => return Err(error),
        };
        let keys = beside.and_then(fits);
        Ok(keys.or_else(|| age::unwrap(header.wrapped(), &self.identities).and_then(fits)))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} identities)", self.identities.len())
    }
}

// === impl Vault ===

impl Vault {
    pub(crate) fn new(recipients: Vec<Recipient>) -> Self {
        Self { recipients }
    }

    /// Whether a key may ever be destroyed: somebody else can read.
    pub(crate) fn has_recipients(&self) -> bool {
        !self.recipients.is_empty()
    }

    /// A new key for the segment from `first` on: kept beside the log, and wrapped for its header.
    pub(crate) fn create(
        &self,
        layout: &Layout,
        first: u64,
    ) -> Result<(SegmentKeys, Vec<u8>), FileError> {
        let path = layout.data_key(first);
        let refused =
            |_| FileError::on("make a key for", &path)(io::Error::other("no random bytes"));
        let key = DataKey::generate().map_err(refused)?;
        let wrapped = match self.recipients.as_slice() {
            [] => Vec::new(),
            recipients => age::wrap(&key, recipients).map_err(refused)?,
        };
        let text = Zeroizing::new(format!("{FIRST_LINE}\n{first}\n{}\n", encode(key.bytes())));
        files::replace(layout, &path, text.as_bytes(), 0o600, Durable::Yes)?;
        files::sync_directory(&layout.data_keys())?;
        let keys = key.derive().ok_or(super::NoRandom).map_err(refused)?;
        Ok((keys, wrapped))
    }

    /// Destroys the key of a segment that others can open.
    pub(crate) fn forget(layout: &Layout, first: u64) -> Result<(), FileError> {
        destroy(&layout.data_key(first))
    }
}

/// Overwrites a secret, then removes it. What a file system or a disk keeps of older versions is
/// beyond reach.
pub(crate) fn destroy(path: &Path) -> Result<(), FileError> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::on("open", path)(error)),
    };
    let length = file.metadata().map_err(FileError::on("examine", path))?.len();
    let zeroes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.write_all(&zeroes).map_err(FileError::on("overwrite", path))?;
    file.sync_data().map_err(FileError::on("sync", path))?;
    fs::remove_file(path).map_err(FileError::on("remove", path))
}

/// The key in the text of a file, in its only spelling.
fn parse(text: &str, first: u64) -> Option<DataKey> {
    let rest = text.strip_prefix(FIRST_LINE)?.strip_prefix('\n')?;
    let (number, key) = rest.strip_suffix('\n')?.split_once('\n')?;
    let bytes = Zeroizing::new(decode(key)?);
    (number == first.to_string())
        .then(|| bytes.as_slice().try_into().ok().map(DataKey::from_bytes))?
}
