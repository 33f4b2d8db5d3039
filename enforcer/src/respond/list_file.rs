//! Lists on disk: one file each in `<state>/lists/`, replaced in one step that survives a power cut.
//!
//! A file is text that `blocks import` reads: the decision in a comment, a network a line, and in a
//! last comment the hash of all that stands before. One that does not read back as it was written is
//! set aside and named; what the kernel holds of it stays in force there. What a list held before is
//! kept beside it, until the next change.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enforcer_admin::call::ListName;
use enforcer_authz::Networks;
use enforcer_model::{Author, BlockId, Expiry, Timestamp};
use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::lists::{List, Lists};

const MAGIC: &str = "# enforcer list, version 1\n";
const HEAD: &str = "# ";
const SEAL: &str = "# sha256 ";

/// Extensions of a file on its way: prepared for an import, or tried again by the responder.
const PREPARED: &str = "draft";
const AGAIN: &str = "again";

/// Networks that are written at once.
const PIECE: usize = 4_096;

/// The folder of lists. One writer: the responder; drafts are written by whoever prepares a list.
#[derive(Debug)]
pub(crate) struct ListFiles {
    folder: PathBuf,
    /// Whose file is not what memory says; no file at all when it left memory.
    unwritten: Vec<String>,
}

/// A file that cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("it ends early, or something follows its last line")]
    Cut,
    #[error("its first lines are not those of a list")]
    Head,
    #[error("its hash is not that of its lines")]
    Hash,
    #[error("a line is no network, or the networks are not in their order")]
    Networks,
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}

/// The decision, as the second line says it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: ListName,
    id: BlockId,
    reason: String,
    author: Author,
    since: Timestamp,
    until: Expiry,
    networks: usize,
}

impl ListFiles {
    /// The lists of the last run. Files that are damaged are set aside.
    pub(crate) fn open(folder: &Path) -> io::Result<(Self, Lists)> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut lists = Lists::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("list") => match read(&path) {
                    Ok(list) => drop(lists.put(list)),
                    Err(damage) => set_aside(&path, &damage)?,
                },
                // Never put in force.
                Some(PREPARED | AGAIN) => fs::remove_file(&path)?,
                Some(_) | None => {}
            }
        }
        Ok((Self { folder: folder.to_owned(), unwritten: Vec::new() }, lists))
    }

    /// Puts the draft of `name` in the place of its file; returns where the earlier one is kept.
    pub(crate) fn commit(&mut self, name: &str) -> io::Result<Option<PathBuf>> {
        self.replace(name, PREPARED)
    }

    fn replace(&mut self, name: &str, by: &str) -> io::Result<Option<PathBuf>> {
        let previous = self.keep_previous(name)?;
        fs::rename(self.path(name, by), self.path(name, "list"))?;
        self.sync()?;
        self.unwritten.retain(|other| other != name);
        Ok(previous)
    }

    /// Takes the file of `name` away; returns where it is kept.
    pub(crate) fn remove(&mut self, name: &str) -> io::Result<Option<PathBuf>> {
        let previous = self.keep_previous(name)?;
        match fs::remove_file(self.path(name, "list")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.sync()?;
        self.unwritten.retain(|other| other != name);
        Ok(previous)
    }

    /// Remembers that the file of `name` is not what memory says.
    pub(crate) fn is_behind(&mut self, name: &str) {
        if !self.unwritten.iter().any(|other| other == name) {
            self.unwritten.push(name.to_owned());
        }
    }

    /// The lists whose file is not what memory says.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = &str> {
        self.unwritten.iter().map(String::as_str)
    }

    /// Tries again what could not be written.
    pub(crate) fn retry(&mut self, lists: &Lists) {
        for name in self.unwritten.clone() {
            let written = match lists.get(&name) {
                Some(list) => {
                    write(&self.path(&name, AGAIN), list).and_then(|()| self.replace(&name, AGAIN))
                }
                None => self.remove(&name),
            };
            match written {
                Ok(_) => info!(list = name, "the list is on disk"),
                Err(_) => return,
            }
        }
    }

    fn keep_previous(&self, name: &str) -> io::Result<Option<PathBuf>> {
        let (file, previous) = (self.path(name, "list"), self.path(name, "previous"));
        match fs::remove_file(&previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        match fs::hard_link(&file, &previous) {
            Ok(()) => Ok(Some(previous)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        file_in(&self.folder, name, extension)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

/// Writes `list` beside its file, to be put in its place by [`ListFiles::commit`].
pub(crate) fn draft(folder: &Path, list: &List) -> io::Result<()> {
    write(&file_in(folder, list.name.as_str(), PREPARED), list)
}

/// Removes a draft that is not to be put in force; there may be none.
pub(crate) fn discard(folder: &Path, name: &ListName) {
    drop(fs::remove_file(file_in(folder, name.as_str(), PREPARED)));
}

/// SHA-256 of the networks in hex: one a line, in order.
pub(crate) fn sha256_of(networks: &Networks) -> Arc<str> {
    let mut hash = Context::new(&SHA256);
    each_piece(networks, |piece| {
        hash.update(piece.as_bytes());
        Ok(())
    })
    .unwrap_or_default();
    hex(hash.finish().as_ref()).into()
}

fn write(path: &Path, list: &List) -> io::Result<()> {
    let written = write_all(path, list);
    if written.is_err() {
        // Half a file is of no use, and takes room on a full disk.
        drop(fs::remove_file(path));
    }
    written
}

fn write_all(path: &Path, list: &List) -> io::Result<()> {
    let mut file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    let mut hash = Context::new(&SHA256);
    let mut put = |text: &str| {
        hash.update(text.as_bytes());
        file.write_all(text.as_bytes())
    };
    let head = Head {
        name: list.name.clone(),
        id: list.id,
        reason: list.reason.clone(),
        author: list.author.clone(),
        since: list.since,
        until: list.until,
        networks: list.networks.len(),
    };
    put(&format!("{MAGIC}{HEAD}{}\n", serde_json::to_string(&head)?))?;
    each_piece(&list.networks, &mut put)?;
    let seal = format!("{SEAL}{}\n", hex(hash.finish().as_ref()));
    file.write_all(seal.as_bytes())?;
    file.sync_all()
}

fn each_piece(networks: &Networks, mut take: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    let mut piece = String::new();
    for (at, network) in networks.iter().enumerate() {
        if at % PIECE == 0 && at > 0 {
            take(&piece)?;
            piece.clear();
        }
        writeln!(piece, "{network}").map_err(io::Error::other)?;
    }
    take(&piece)
}

fn read(path: &Path) -> Result<List, Damage> {
    let text = fs::read_to_string(path).map_err(Damage::Read)?;
    let sealed = text.strip_suffix('\n').ok_or(Damage::Cut)?;
    let (_, seal) = sealed.rsplit_once('\n').ok_or(Damage::Cut)?;
    let seal = seal.strip_prefix(SEAL).ok_or(Damage::Cut)?;
    let length = text.len().saturating_sub(SEAL.len() + seal.len() + 1);
    let body = text.get(..length).ok_or(Damage::Cut)?;
    if hex(digest(&SHA256, body.as_bytes()).as_ref()) != seal {
        return Err(Damage::Hash);
    }
    let lines = body.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(HEAD));
    let (head, lines) = lines.and_then(|rest| rest.split_once('\n')).ok_or(Damage::Head)?;
    let head: Head = serde_json::from_str(head).or(Err(Damage::Head))?;
    let given: Result<Vec<_>, _> = lines.lines().map(str::parse).collect();
    let given = given.or(Err(Damage::Networks))?;
    let (networks, left_out) = Networks::collect(given.iter().copied());
    let is_same = left_out == enforcer_authz::LeftOut::default()
        && networks.len() == head.networks
        && networks.iter().eq(given);
    let is_named = path.file_stem().is_some_and(|stem| stem == head.name.as_str());
    if !is_same {
        return Err(Damage::Networks);
    }
    if !is_named {
        return Err(Damage::Head);
    }
    Ok(List {
        name: head.name,
        id: head.id,
        reason: head.reason,
        author: head.author,
        since: head.since,
        until: head.until,
        sha256: hex(digest(&SHA256, lines.as_bytes()).as_ref()).into(),
        networks: Arc::new(networks),
    })
}

/// Moves a damaged file out of the way, under a name that nothing has yet.
fn set_aside(path: &Path, damage: &Damage) -> io::Result<()> {
    let aside = (0..u32::MAX)
        .map(|number| path.with_extension(format!("damaged-{number}")))
        .find(|aside| !aside.exists())
        .ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(path, &aside)?;
    warn!(
        file = %path.display(),
        aside = %aside.display(),
        damage = crate::cli::chain(damage),
        "A LIST IS DAMAGED and set aside; what the kernel holds of it stays in force; import it again"
    );
    Ok(())
}

fn file_in(folder: &Path, name: &str, extension: &str) -> PathBuf {
    folder.join(format!("{name}.{extension}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::respond::testing::list;

    #[test]
    fn a_list_survives_closing_and_opening_and_its_previous_state_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = ListFiles::open(folder.path()).unwrap();
        let (first, second) =
            (list("drop.v4", 1, &["192.0.2.0/24", "2001:db8::/48"]), list("drop.v4", 1, &[]));

        draft(folder.path(), &first).unwrap();
        assert_eq!(files.commit("drop.v4").unwrap(), None);
        let (_, lists) = ListFiles::open(folder.path()).unwrap();
        assert_eq!(lists.get("drop.v4"), Some(&first));

        draft(folder.path(), &second).unwrap();
        let previous = files.commit("drop.v4").unwrap().unwrap();
        let (_, lists) = ListFiles::open(folder.path()).unwrap();
        assert_eq!(lists.get("drop.v4"), Some(&second));
        let kept = fs::read_to_string(previous).unwrap();
        assert!(kept.contains("\n192.0.2.0/24\n2001:db8::/48\n"), "{kept}");

        assert!(files.remove("drop.v4").unwrap().is_some());
        assert_eq!(ListFiles::open(folder.path()).unwrap().1.len(), 0);
    }

    #[test]
    fn a_draft_that_was_never_committed_is_not_in_force() {
        let folder = tempfile::tempdir().unwrap();
        ListFiles::open(folder.path()).unwrap();
        draft(folder.path(), &list("drop", 1, &["192.0.2.1"])).unwrap();

        let (_, lists) = ListFiles::open(folder.path()).unwrap();

        assert_eq!(lists.len(), 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_with_any_byte_changed_or_cut_off_is_set_aside_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = ListFiles::open(folder.path()).unwrap();
        draft(folder.path(), &list("drop", 1, &["192.0.2.1", "198.51.100.0/24"])).unwrap();
        files.commit("drop").unwrap();
        let path = folder.path().join("drop.list");
        let whole = fs::read(&path).unwrap();

        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            for broken in [changed.as_slice(), &whole[..at]] {
                fs::write(&path, broken).unwrap();
                let (_, lists) = ListFiles::open(folder.path()).unwrap();
                assert_eq!(lists.len(), 0, "byte {at}");
                assert!(!path.exists());
                let aside = folder.path().join("drop.damaged-0");
                assert_eq!(fs::read(&aside).unwrap(), broken);
                fs::remove_file(aside).unwrap();
            }
        }
    }

    #[test]
    fn a_file_under_another_lists_name_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, _) = ListFiles::open(folder.path()).unwrap();
        draft(folder.path(), &list("drop", 1, &["192.0.2.1"])).unwrap();
        files.commit("drop").unwrap();
        fs::copy(folder.path().join("drop.list"), folder.path().join("other.list")).unwrap();

        let (_, lists) = ListFiles::open(folder.path()).unwrap();

        assert_eq!(lists.all().map(|list| list.name.as_str()).collect::<Vec<_>>(), ["drop"]);
    }

    #[test]
    fn what_the_disk_refused_is_written_when_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let (mut files, mut lists) = ListFiles::open(folder.path()).unwrap();
        lists.put(list("drop", 1, &["192.0.2.1"]));
        fs::create_dir(folder.path().join("drop.again")).unwrap();

        files.is_behind("drop");
        files.retry(&lists);
        assert_eq!(files.unwritten().collect::<Vec<_>>(), ["drop"]);

        fs::remove_dir(folder.path().join("drop.again")).unwrap();
        files.retry(&lists);
        assert_eq!(files.unwritten().count(), 0);
        let mode = fs::metadata(folder.path().join("drop.list")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(ListFiles::open(folder.path()).unwrap().1.len(), 1);
    }
}
