//! Small files that are there whole or not at all, also after a power cut.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

/// Replaces `file`, or makes it, for its owner only.
pub(crate) fn write_private(file: &Path, bytes: &[u8]) -> io::Result<()> {
    write_private_with(file, |written| written.write_all(bytes))
}

/// The same with what `write` writes, piece by piece; when it fails, `file` stays as it was.
pub(crate) fn write_private_with(
    file: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let draft = file.with_extension("new");
    put_in_place(&draft, file, |draft| {
        let mut options = File::options();
        let mut written =
            options.create(true).truncate(true).write(true).mode(0o600).open(draft)?;
        write(&mut written)?;
        Ok(written)
    })
}

/// Replaces a file of the operator's; a link stays a link, owner and mode stay.
pub(crate) fn replace(file: &Path, text: &str) -> io::Result<()> {
    let file = std::fs::canonicalize(file)?;
    let draft = file.with_extension("toml.new");
    put_in_place(&draft, &file, |draft| {
        let old = std::fs::metadata(&file)?;
        let mut written = File::create(draft)?;
        written.write_all(text.as_bytes())?;
        written.set_permissions(old.permissions())?;
        let new = written.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            // Without privileges: to a group of the agent's, and to nobody else.
            fchown(&written, Some(old.uid()), Some(old.gid()))?;
        }
        Ok(written)
    })
}

/// Removes `file`; one that is not there is removed already.
pub(crate) fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => sync_folder(file),
    }
}

fn put_in_place(
    draft: &Path,
    file: &Path,
    write: impl FnOnce(&Path) -> io::Result<File>,
) -> io::Result<()> {
    let written = write(draft).and_then(|written| written.sync_all());
    if let Err(error) = written.and_then(|()| std::fs::rename(draft, file)) {
        // Whatever is left of the draft is of no use to anybody.
        drop(std::fs::remove_file(draft));
        return Err(error);
    }
    sync_folder(file)
}

fn sync_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
