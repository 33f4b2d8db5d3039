//! The keys of a log, and its other secrets, as far as whoever verifies has them.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Damage, Expected, VerifyError, damage, unopened};
use crate::epoch;
use crate::layout::Layout;
use crate::note::{SigningKey, VerifierKey};
use crate::read::{ReadError, read_keys};
use crate::subject::{Vault, VaultError};

/// A secret that is being destroyed is looked at again so often …
const GONE_TRIES: u32 = 20;
/// … after so long.
const GONE_AFTER: Duration = Duration::from_millis(5);

/// The keys to verify with: the log's and the first epoch's. Copies in the log must be true ones.
pub(super) fn check_keys(
    layout: &Layout,
    expected: &Expected,
) -> Result<(VerifierKey, VerifierKey), VerifyError> {
    let path = layout.public_key();
    let (key, first_epoch) = match read_keys(layout) {
        Ok(keys) => keys,
        Err(ReadError::NoLog(directory)) => return Err(VerifyError::NoLog(directory)),
        Err(ReadError::File(error)) => return Err(error.into()),
        Err(_) => return Err(damage(&path, None, &"it is no key, or was altered").into()),
    };
    let differs =
        |wanted: &Option<VerifierKey>, found| wanted.as_ref().is_some_and(|it| it != found);
    if differs(&expected.key, &key) || differs(&expected.first_epoch, &first_epoch) {
        return Err(damage(&path, None, &"it is another key than the one given").into());
    }
    // An auditor's copy has no private key, and need not be able to read it.
    check_private(&layout.key(), &key)?;
    Ok((key, first_epoch))
}

/// The key of the epoch that is under way. While it is replaced there may be none.
pub(super) fn check_epoch_key(layout: &Layout, epochs: &epoch::Chain) -> Result<(), VerifyError> {
    let path = layout.epoch();
    match check_private(&path, &epochs.last().key) {
        Ok(()) => Ok(()),
        // An agent may have begun another epoch since.
        Err(error) => {
            let again = epoch::Chain::read(layout, &read_keys_again(layout)?, None);
            let again = again.map_err(unopened)?;
            if again.last().number > epochs.last().number { Ok(()) } else { Err(error.into()) }
        }
    }
}

fn read_keys_again(layout: &Layout) -> Result<VerifierKey, VerifyError> {
    let keys = read_keys(layout);
    let keys = keys.map_err(|_error| damage(&layout.public_key(), None, &"it was altered"))?;
    Ok(keys.0)
}

/// The keys of personal values, as far as whoever verifies has them.
pub(super) fn check_subjects(directory: &Path) -> Result<(), VerifyError> {
    match Vault::of(directory).check() {
        Ok(_) => Ok(()),
        // An agent overwrites what it destroys before it removes it.
        Err(VaultError::Altered { path, .. }) if is_gone_soon(&path) => check_subjects(directory),
        Err(VaultError::Altered { path, source }) => Err(damage(&path, None, &source).into()),
        Err(VaultError::File(error)) if error.source.kind() == io::ErrorKind::NotFound => {
            check_subjects(directory)
        }
        Err(VaultError::File(error)) if error.source.kind() != io::ErrorKind::PermissionDenied => {
            Err(error.into())
        }
        Err(_) => Ok(()),
    }
}

/// Whether a file is removed within the moments that a destruction takes.
pub(super) fn is_gone_soon(path: &Path) -> bool {
    (0..GONE_TRIES).any(|_| {
        std::thread::sleep(GONE_AFTER);
        !path.exists()
    })
}

fn check_private(path: &Path, public: &VerifierKey) -> Result<(), Damage> {
    let Ok(text) = fs::read(path) else { return Ok(()) };
    let text = String::from_utf8(text).map(zeroize::Zeroizing::new).ok();
    let key = text.as_ref().and_then(|text| SigningKey::parse(text.strip_suffix('\n')?).ok());
    if key.is_none_or(|key| key.verifier() != public) {
        return Err(damage(path, None, &"it does not belong to the public key"));
    }
    Ok(())
}
