//! Why a commit did not come about, and what of it is final.

use std::path::PathBuf;

use crate::files::FileError;
use crate::open::OpenError;
use crate::subject::VaultError;

/// Why a commit did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the disk is full")]
    NoSpace,
    #[error("`{}` was removed or moved away while the agent wrote to it", .0.display())]
    Moved(PathBuf),
    #[error("{0}: {cause}", cause = .0.source)]
    File(FileError),
    #[error("{0}")]
    Key(Box<OpenError>),
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        if error.is_no_space() { Self::NoSpace } else { Self::File(error) }
    }
}

impl From<VaultError> for StoreError {
    fn from(error: VaultError) -> Self {
        OpenError::from(error).into()
    }
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::File(error) => error.into(),
            OpenError::NoSpace => Self::NoSpace,
            error @ (OpenError::Altered { .. }
            | OpenError::Missing(_)
            | OpenError::KeyMode { .. }
            | OpenError::Key { .. }
            | OpenError::Locked(_)
            | OpenError::Origin(_)
            | OpenError::Subjects(_)
            | OpenError::OtherOrigin { .. }
            | OpenError::Thread(_)) => Self::Key(Box::new(error)),
        }
    }
}

impl StoreError {
    /// The same while a log is opened.
    pub(crate) fn into_open(self) -> OpenError {
        match self {
            Self::NoSpace => OpenError::NoSpace,
            Self::Moved(path) => OpenError::Missing(path),
            Self::File(error) => OpenError::File(error),
            Self::Key(error) => *error,
        }
    }
}
