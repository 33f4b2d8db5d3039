//! The secret that is mixed into every stored HMAC and lies outside the database.
//!
//! The file holds 32 bytes for each version, the oldest first; the last one makes what is stored
//! from now on, and the others recognise what they have made. To begin another version, stop the
//! agent and put 32 random bytes behind the file's end (`head -c 32 /dev/urandom >> pepper`); keys
//! leave the old version as they are rotated.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use ring::hmac;
use zeroize::Zeroizing;

use crate::SecretFileError;
use crate::private::{self, SECRET_LENGTH, io_error};

/// The peppers, by version. `Debug` hides them.
pub struct Pepper {
    /// The hash state after each key, so that a check costs two blocks.
    versions: Box<[hmac::Key]>,
}

/// HMAC-SHA-256 under one of the peppers.
pub(super) type Mac = [u8; 32];

/// Which pepper; counted from one, as the file holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PepperVersion(pub(super) u8);

impl Pepper {
    /// Versions in one file.
    pub const VERSIONS_MAX: usize = 4;

    /// The peppers in the file at `path`; a fresh one is written there first when there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretFileError> {
        private::make_directory(path)?;
        let several = several(path)?;
        let secrets = match &several {
            Some(bytes) => bytes.as_chunks::<SECRET_LENGTH>().0,
            None => return Ok(Self::of(&[*private::load_or_create(path)?])),
        };
        Ok(Self::of(secrets))
    }

    fn of(secrets: &[[u8; SECRET_LENGTH]]) -> Self {
        let key = |secret: &[u8; SECRET_LENGTH]| hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self { versions: secrets.iter().map(key).collect() }
    }

    /// The version that new secrets are stored under.
    pub(super) fn current(&self) -> PepperVersion {
        PepperVersion(u8::try_from(self.versions.len()).unwrap_or(u8::MAX))
    }

    pub(super) fn versions(&self) -> impl Iterator<Item = PepperVersion> + use<> {
        (1..=self.current().0).map(PepperVersion)
    }

    /// None when the file does not hold this version.
    pub(super) fn mac(&self, version: PepperVersion, secret: &[u8]) -> Option<Mac> {
        let at = usize::from(version.0).checked_sub(1)?;
        let tag = hmac::sign(self.versions.get(at)?, secret);
        tag.as_ref().try_into().ok()
    }

    /// What a database keeps to recognise its peppers. No key has a secret of this form.
    pub(super) fn mark(&self, version: PepperVersion) -> Option<Mac> {
        self.mac(version, Self::MARK)
    }

    const MARK: &[u8] = b"enforcer: the pepper of this key database";
}

/// What the file holds, when that is more than one version.
fn several(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, SecretFileError> {
    let Some(file) = private::open(path)? else { return Ok(None) };
    let found = file.metadata().map_err(io_error("read", path))?.len();
    let length = usize::try_from(found).unwrap_or(usize::MAX);
    let counts = 2..=Pepper::VERSIONS_MAX;
    if !length.is_multiple_of(SECRET_LENGTH) || !counts.contains(&(length / SECRET_LENGTH)) {
        return Ok(None);
    }
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    file.take(found).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    Ok(Some(bytes))
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_second_version_behind_the_first_leaves_the_first_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper");
        let first = Pepper::load_or_create(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend([7; 32]);
        fs::write(&path, bytes).unwrap();

        let both = Pepper::load_or_create(&path).unwrap();

        let [one, two] = [1, 2].map(PepperVersion);
        assert_eq!((first.current(), both.current()), (one, two));
        assert_eq!(both.mac(one, b"x"), first.mac(one, b"x"));
        assert_ne!(both.mac(two, b"x"), first.mac(one, b"x"));
        assert_eq!((first.mac(two, b"x"), both.mac(PepperVersion(0), b"x")), (None, None));
    }

    #[test]
    fn a_pepper_file_of_another_length_is_refused() {
        for length in [0, 33, 63, 65, 160] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("pepper");
            fs::write(&path, vec![1; length]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();

            let refused = Pepper::load_or_create(&path).unwrap_err();

            assert!(matches!(refused, SecretFileError::Length { .. }), "{length}: {refused}");
        }
    }
}
