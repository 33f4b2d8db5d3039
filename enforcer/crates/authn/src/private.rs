//! Files that only the agent may read.
//!
//! A secret is 32 random bytes. It is written to a new file, forced to disk and only then given its
//! name, so no crash leaves half a secret. A file that others could have read or changed is
//! refused rather than repaired: the operator must decide what was exposed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::OFlags;
use rustix::io::Errno;
use zeroize::Zeroizing;

/// A file or directory that must be private cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// Others may change what is in the directory.
    #[error(
        "directory `{path}` may be changed by others (mode {mode:04o}); run `chmod 700 {path}`"
    )]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file system refused.
    #[error("cannot {doing} `{path}`")]
    Io {
        /// Read, create, …
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
    /// Damaged, or not one of ours.
    #[error(
        "`{path}` is {found} bytes long, not {SECRET_LENGTH}; restore it from a backup (what it \
         protects cannot be used without it)"
    )]
    Length {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        found: u64,
    },
    /// Others may read or change the file.
    #[error(
        "`{path}` can be read or changed by others (mode {mode:04o}); if nobody has, run `chmod \
         600 {path}`, else replace what it protects"
    )]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, link, socket or device.
    #[error("`{path}` is not a regular file; move it aside")]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// Somebody else can read and change it, whatever its mode.
    #[error(
        "`{path}` belongs to user {owner}, not to the agent's user {expected}; run `chown {expected} {path}`"
    )]
    Owner {
        /// Which file or directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user we run as.
        expected: u32,
    },
    /// The system gave no random bytes.
    #[error("the system has no random numbers for `{path}`")]
    Random {
        /// Which file.
        path: PathBuf,
    },
}

pub(crate) const SECRET_LENGTH: usize = 32;

/// The secret in the file at `path`; a fresh one is written there first when there is none.
pub(crate) fn load_or_create(
    path: &Path,
) -> Result<Zeroizing<[u8; SECRET_LENGTH]>, SecretFileError> {
    make_directory(path)?;
    if let Some(secret) = load(path)? {
        return Ok(secret);
    }
    create(path)?;
    // Read back, whoever created it: of two agents starting at once, both use what is on disk.
    let vanished = || io::Error::from(io::ErrorKind::NotFound);
    load(path)?.ok_or_else(|| io_error("read", path)(vanished()))
}

/// The secret in the file at `path`; none when there is no such file.
pub(crate) fn load(path: &Path) -> Result<Option<Zeroizing<[u8; SECRET_LENGTH]>>, SecretFileError> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    let found = file.metadata().map_err(io_error("read", path))?.len();
    let mut secret = Zeroizing::new([0; SECRET_LENGTH]);
    if usize::try_from(found) != Ok(SECRET_LENGTH) {
        return Err(SecretFileError::Length { path: path.to_owned(), found });
    }
    file.read_exact(&mut *secret).map_err(io_error("read", path))?;
    Ok(Some(secret))
}

fn create(path: &Path) -> Result<(), SecretFileError> {
    let mut secret = Zeroizing::new([0; SECRET_LENGTH]);
    let random = SystemRandom::new();
    let mut salt = [0; 8];
    let filled = random.fill(&mut *secret).and_then(|()| random.fill(&mut salt));
    filled.map_err(|ring::error::Unspecified| SecretFileError::Random { path: path.to_owned() })?;

    let draft = beside(path, &format!(".{:016x}.new", u64::from_ne_bytes(salt)));
    let written = create_new(&draft).and_then(|mut file| {
        file.write_all(&*secret)?;
        file.sync_all()?;
        // A link, not a rename: it never replaces a secret that another process has just made.
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    let removed = match fs::remove_file(&draft) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    written.and(removed).and_then(|()| sync_directory(path)).map_err(io_error("create", path))
}

/// Opens `path` after checking that it is a regular file that nobody else may read or change.
pub(crate) fn open(path: &Path) -> Result<Option<File>, SecretFileError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(SecretFileError::NotAFile { path: path.to_owned() });
        }
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let metadata = file.metadata().map_err(io_error("read", path))?;
    let path = path.to_owned();
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if !metadata.is_file() {
        Err(SecretFileError::NotAFile { path })
    } else if !is_ours(owner) {
        Err(SecretFileError::Owner { path, owner, expected: ourselves() })
    } else if mode & 0o077 != 0 {
        Err(SecretFileError::Mode { path, mode })
    } else {
        Ok(Some(file))
    }
}

/// Makes the directory of `path` with mode 0700, or checks that others may not change it.
pub(crate) fn make_directory(path: &Path) -> Result<(), SecretFileError> {
    let directory = directory(path);
    match fs::metadata(directory) {
        Ok(metadata) => {
            let path = directory.to_owned();
            let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
            if !is_ours(owner) {
                return Err(SecretFileError::Owner { path, owner, expected: ourselves() });
            }
            if mode & 0o022 != 0 {
                return Err(SecretFileError::Directory { path, mode });
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io_error("create", directory)),
        Err(error) => Err(io_error("read", directory)(error)),
    }
}

/// Root can read and change everything anyway, so what is root's is as good as our own.
fn is_ours(owner: u32) -> bool {
    owner == ourselves() || owner == 0
}

fn ourselves() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A new file with mode 0600; fails when there is one.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Forces the directory entry of `path` to disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

/// The path whose file name is that of `path` with `suffix` behind it.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn io_error(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> SecretFileError {
    let path = path.to_owned();
    move |source| SecretFileError::Io { doing, path, source }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/pepper");

        let made = load_or_create(&path).unwrap();
        let loaded = load_or_create(&path).unwrap();

        assert_eq!(made, loaded);
        assert_ne!(*made, [0; SECRET_LENGTH]);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft remains");
    }

    #[test]
    fn threads_that_start_at_once_agree_on_one_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper");

        let secrets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| load_or_create(&path).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_remedy() {
        for loose in [0o640, 0o604, 0o660, 0o644, 0o777] {
            let (_folder, path) = file(&[1; 32], loose);

            let refused = load_or_create(&path).unwrap_err().to_string();

            assert!(refused.contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn a_file_of_the_wrong_length_is_refused_and_left_alone() {
        for length in [0, 31, 33, 4096] {
            let (_folder, path) = file(&vec![1; length], 0o600);

            let refused = load_or_create(&path).unwrap_err().to_string();

            assert!(refused.contains(&format!("{length} bytes long")), "{refused}");
            assert_eq!(fs::read(&path).unwrap().len(), length);
        }
    }

    #[test]
    fn links_and_directories_are_no_secrets() {
        let (folder, path) = file(&[1; 32], 0o600);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();

        assert!(matches!(load_or_create(&link), Err(SecretFileError::NotAFile { .. })));
        let directory = folder.path().join("directory");
        fs::create_dir(&directory).unwrap();
        assert!(matches!(load_or_create(&directory), Err(SecretFileError::NotAFile { .. })));
    }

    #[test]
    fn a_directory_that_others_may_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();

        let refused = load_or_create(&shared.join("pepper")).unwrap_err().to_string();

        assert!(refused.contains("chmod 700"), "{refused}");
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        let (folder, path) = file(&[1; 32], 0o600);
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_err() {
            // Only root can give files away; for anybody else the file of another cannot be opened.
            assert_ne!(ourselves(), 0);
            return;
        }

        let refused = load_or_create(&path).unwrap_err().to_string();
        assert!(refused.contains("belongs to user 12345"), "{refused}");

        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        std::os::unix::fs::chown(folder.path(), Some(12_345), None).unwrap();
        assert!(matches!(load_or_create(&path), Err(SecretFileError::Owner { .. })));
    }

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }
}
