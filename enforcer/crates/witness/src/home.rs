//! Where a witness lives: its key, and the memory of what it cosigned.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use enforcer_audit::{Cosigner, KeyError};
use zeroize::Zeroizing;

/// The directory of a witness.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// The directory cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is a witness already.
    #[error("`{}` is there already; a new key would be another witness", .0.display())]
    Exists(PathBuf),
    /// A call to the file system failed.
    #[error("cannot {doing} `{}`", path.display())]
    File {
        /// What was attempted, such as `write`.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The key cannot be used.
    #[error("the key `{}`", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The name cannot be a witness's.
    #[error(transparent)]
    Name(KeyError),
    /// There is no witness.
    #[error("there is no witness in `{}`; `enforcer witness init` makes one", .0.display())]
    NoWitness(PathBuf),
    /// The key is not secret.
    #[error("`{}` can be read by others; chmod 600, and if anybody did read it make a new witness", .0.display())]
    Open(PathBuf),
}

impl Home {
    /// The witness in `directory`; nothing is read or made yet.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Makes a witness of that name, with a new key.
    pub fn make(&self, name: &str) -> Result<Cosigner, HomeError> {
        let cosigner = Cosigner::generate(name).map_err(HomeError::Name)?;
        let (directory, path) = (&self.0, self.key());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(on("make", directory))?;
        let mut options = OpenOptions::new();
        let mut file = match options.write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(HomeError::Exists(path));
            }
            Err(error) => return Err(on("make", &path)(error)),
        };
        let text = Zeroizing::new(format!("{}\n", *cosigner.to_text()));
        file.write_all(text.as_bytes()).map_err(on("write", &path))?;
        file.sync_all().map_err(on("sync", &path))?;
        self.sync()?;
        Ok(cosigner)
    }

    /// Its key.
    pub fn cosigner(&self) -> Result<Cosigner, HomeError> {
        let path = self.key();
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(HomeError::NoWitness(self.0.clone()));
            }
            Err(error) => return Err(on("read", &path)(error)),
        };
        let found = fs::metadata(&path).map_err(on("look at", &path))?;
        if found.permissions().mode() & 0o077 != 0 {
            return Err(HomeError::Open(path));
        }
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Cosigner::parse(line).map_err(|source| HomeError::Key { path, source })
    }

    /// Makes the names in the directory survive a power cut.
    pub(crate) fn sync(&self) -> Result<(), HomeError> {
        let directory = &self.0;
        File::open(directory).and_then(|file| file.sync_all()).map_err(on("sync", directory))
    }

    pub(crate) fn memory(&self) -> PathBuf {
        self.0.join("memory.redb")
    }

    fn key(&self) -> PathBuf {
        self.0.join("key")
    }
}

fn on(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    move |source| HomeError::File { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_made_once_and_keeps_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("w"));
        assert!(matches!(home.cosigner(), Err(HomeError::NoWitness(_))));

        let made = home.make("witness.example/w1").unwrap();

        assert_eq!(home.cosigner().unwrap().key(), made.key());
        assert!(matches!(home.make("witness.example/w1"), Err(HomeError::Exists(_))));
        assert_eq!(home.cosigner().unwrap().key(), made.key());
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        home.make("w").unwrap();

        fs::set_permissions(home.key(), fs::Permissions::from_mode(0o640)).unwrap();

        assert!(matches!(home.cosigner(), Err(HomeError::Open(_))));
        assert!(matches!(Home::at(folder.path().join("x")).make("a b"), Err(HomeError::Name(_))));
    }
}
