//! The state directory: nobody else's, used by one agent at a time.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use tracing::warn;

/// A lock file that is a link would lock, or make, somebody else's file.
const NOFOLLOW: i32 = {
    #[expect(clippy::as_conversions, reason = "a flag of one bit, in a constant")]
    let flag = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    flag
};

pub(crate) fn make_private(folder: &Path) -> Result<()> {
    let told = folder.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the state directory {told}"))?;
    let found = std::fs::metadata(folder).with_context(|| format!("cannot look at {told}"))?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        bail!("the state directory {told} belongs to another user; chown it, or name another");
    }
    if found.mode() & 0o022 != 0 {
        bail!("the state directory {told} can be changed by others; chmod 700 {told}");
    }
    Ok(())
}

pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .custom_flags(NOFOLLOW)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => bail!(
            "another agent runs on this state directory (it holds {}); stop it first, take its \
             place with `--take-over`, or give this one a [agent] state of its own",
            path.display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// A state directory that was used before and lacks a database begins anew; somebody should know.
pub(crate) fn warn_of_loss(state: &Path) {
    if !state.join("pepper").exists() {
        return;
    }
    for (name, lost) in [
        ("keys.db", "every key that was issued is unknown"),
        ("blocks.db", "blocks are known only as far as the kernel holds them"),
        ("quotas.db", "every quota of the running period begins anew"),
    ] {
        if !state.join(name).exists() {
            warn!(name, lost, "a database of the last run is gone; a new one begins");
        }
    }
}
