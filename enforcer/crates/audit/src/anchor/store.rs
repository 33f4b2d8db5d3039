//! What others said, kept beside the log: `anchors/<size>.note` and `anchors/<size>.tsr`.
//!
//! A note is a checkpoint with its cosignatures, a token is the answer of a timestamping authority
//! to that very file. So a note that has a token stays as it is: what is said about the same records
//! later lies beside it, `<size>.later.note` and `<size>.later.tsr`, the newest of each. Each file is
//! complete on disk before it has its name. The newest are kept, older ones are thinned out: every
//! second of them goes, again and again, so that the oldest stay.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::files::{self, FileError};
use crate::merkle::sha256;
use crate::note::parse_number;

/// So many checkpoints with a token, and as many without, are kept at least half of the time.
pub const ANCHORS_KEPT: usize = 256;

/// Bytes of a file that is read; a token with its certificates is far below.
const FILE_BYTES_MAX: u64 = 1 << 20;
const POLICY: &str = "policy";

/// The anchors of one log.
#[derive(Clone, Debug)]
pub struct Anchors {
    directory: PathBuf,
}

/// What there is of one checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Records under it.
    pub size: u64,
    /// Whether a timestamp token is kept beside it.
    pub has_token: bool,
}

impl Anchors {
    /// Those of the log in `log`; nothing is made or read yet.
    pub fn of(log: &Path) -> Self {
        Self { directory: log.join("anchors") }
    }

    /// Where they lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file of a checkpoint with its cosignatures.
    pub fn note_path(&self, size: u64) -> PathBuf {
        self.directory.join(format!("{size}.note"))
    }

    /// The file of a timestamp over [`Anchors::note_path`].
    pub fn token_path(&self, size: u64) -> PathBuf {
        self.directory.join(format!("{size}.tsr"))
    }

    fn later_note(&self, size: u64) -> PathBuf {
        self.directory.join(format!("{size}.later.note"))
    }

    fn later_token(&self, size: u64) -> PathBuf {
        self.directory.join(format!("{size}.later.tsr"))
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Result<Vec<Anchor>, FileError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::on("list", &self.directory)(error)),
        };
        let mut anchors = Vec::new();
        for entry in entries {
            let entry = entry.map_err(FileError::on("list", &self.directory))?;
            let name = entry.file_name();
            let size = name.to_str().and_then(|name| parse_number(name.strip_suffix(".note")?));
            if let Some(size) = size {
                anchors.push(Anchor { size, has_token: self.token_path(size).exists() });
            }
        }
        anchors.sort_unstable_by_key(|anchor| anchor.size);
        Ok(anchors)
    }

    /// The checkpoint of `size` records with its cosignatures.
    pub fn note(&self, size: u64) -> Result<Option<String>, FileError> {
        // Bytes that are no text stay visible as a text that nothing accepts.
        let bytes = read(&self.note_path(size))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The same as it was cosigned last.
    pub fn newest_note(&self, size: u64) -> Result<Option<String>, FileError> {
        let later = read(&self.later_note(size))?;
        let later = later.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if later.is_some() { Ok(later) } else { self.note(size) }
    }

    /// The first timestamp over [`Anchors::note_path`].
    pub fn token(&self, size: u64) -> Result<Option<Vec<u8>>, FileError> {
        read(&self.token_path(size))
    }

    /// The policy that the notes were gathered under, in the form of C2SP tlog-policy; `None` inside:
    /// it is not as it was written.
    pub fn policy(&self) -> Result<Option<Option<Vec<u8>>>, FileError> {
        let checked = |mut bytes: Vec<u8>| {
            let end = bytes.len().checked_sub(check_line(&[]).len())?;
            let is_whole = bytes.get(end..)? == check_line(bytes.get(..end)?).as_bytes();
            bytes.truncate(end);
            is_whole.then_some(bytes)
        };
        Ok(read(&self.policy_path())?.map(checked))
    }

    /// The file of [`Anchors::policy`].
    pub fn policy_path(&self) -> PathBuf {
        self.directory.join(POLICY)
    }

    /// Keeps the checkpoint of `size` records with its cosignatures, and thins the older ones out.
    pub fn keep_note(&self, size: u64, note: &str) -> Result<(), FileError> {
        let is_stamped = self.token_path(size).exists();
        let path = if is_stamped { self.later_note(size) } else { self.note_path(size) };
        self.keep(&path, note.as_bytes())?;
        self.thin()
    }

    /// Keeps a timestamp over [`Anchors::note_path`], whose file stays as it is from here on; the
    /// first and the newest.
    pub fn keep_token(&self, size: u64, token: &[u8]) -> Result<(), FileError> {
        let first = self.token_path(size);
        let path = if first.exists() { self.later_token(size) } else { first };
        self.keep(&path, token)
    }

    /// The newest timestamp over [`Anchors::note_path`].
    pub fn newest_token(&self, size: u64) -> Result<Option<Vec<u8>>, FileError> {
        let later = read(&self.later_token(size))?;
        if later.is_some() { Ok(later) } else { self.token(size) }
    }

    /// Keeps the policy, unless it is there already.
    pub fn keep_policy(&self, policy: &str) -> Result<(), FileError> {
        if self.policy()?.flatten().as_deref() == Some(policy.as_bytes()) {
            return Ok(());
        }
        let check = check_line(policy.as_bytes());
        self.keep(&self.policy_path(), format!("{policy}{check}").as_bytes())
    }

    fn keep(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let directory = &self.directory;
        fs::create_dir_all(directory).map_err(FileError::on("create directory", directory))?;
        // Two agents meet here while one hands over.
        let unfinished = directory.join(format!("unfinished.{}", std::process::id()));
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o640);
        let mut file = options.open(&unfinished).map_err(FileError::on("create", &unfinished))?;
        file.write_all(bytes).map_err(FileError::on("write", &unfinished))?;
        file.sync_data().map_err(FileError::on("sync", &unfinished))?;
        fs::rename(&unfinished, path).map_err(FileError::on("rename to", path))?;
        files::sync_directory(directory)
    }

    fn thin(&self) -> Result<(), FileError> {
        let all = self.list()?;
        for has_token in [false, true] {
            let alike = all.iter().filter(|anchor| anchor.has_token == has_token);
            let sizes: Vec<_> = alike.map(|anchor| anchor.size).collect();
            for size in surplus(&sizes) {
                let later = [self.later_token(size), self.later_note(size)];
                let first = [self.token_path(size), self.note_path(size)];
                for path in later.into_iter().chain(first) {
                    match fs::remove_file(&path) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(FileError::on("remove", &path)(error));
                        }
                        Ok(()) | Err(_) => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// Which of `sizes`, in their order, go: when there are too many, every second one of the older half
/// but for the first.
fn surplus(sizes: &[u64]) -> Vec<u64> {
    if sizes.len() <= ANCHORS_KEPT {
        return Vec::new();
    }
    sizes.iter().take(sizes.len() / 2).skip(1).step_by(2).copied().collect()
}

/// A comment in the policy, so that no byte of the file can change without being noticed.
fn check_line(policy: &[u8]) -> String {
    let hex: String = sha256(policy).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("# sha256 of the lines above: {hex}\n")
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::on("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(FileError::on("read", path))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let anchors = Anchors::of(folder.path());
        assert_eq!(anchors.list().unwrap(), []);

        anchors.keep_note(100, "a note\n").unwrap();
        anchors.keep_note(20, "an older one\n").unwrap();
        anchors.keep_token(100, &[1, 2, 3]).unwrap();
        anchors.keep_policy("quorum none\n").unwrap();

        let (old, new) = (anchor(20, false), anchor(100, true));
        assert_eq!(anchors.list().unwrap(), [old, new]);
        assert_eq!(anchors.note(100).unwrap().as_deref(), Some("a note\n"));
        assert_eq!(anchors.token(100).unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(anchors.policy().unwrap(), Some(Some(b"quorum none\n".to_vec())));
        assert_eq!((anchors.note(7).unwrap(), anchors.token(20).unwrap()), (None, None));
        assert!(!anchors.directory().join("unfinished").exists());
    }

    #[test]
    fn no_byte_of_the_policy_can_change_unnoticed() {
        let folder = tempfile::tempdir().unwrap();
        let anchors = Anchors::of(folder.path());
        anchors.keep_policy("# whom we believe\nquorum none\n").unwrap();
        let written = fs::read(anchors.policy_path()).unwrap();

        for place in 0..written.len() {
            let mut altered = written.clone();
            altered[place] ^= 4;
            fs::write(anchors.policy_path(), &altered).unwrap();
            assert_eq!(anchors.policy().unwrap(), Some(None), "byte {place}");
        }
        anchors.keep_policy("quorum none\n").unwrap();
        assert_eq!(anchors.policy().unwrap(), Some(Some(b"quorum none\n".to_vec())));
    }

    #[test]
    fn a_note_that_was_stamped_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let anchors = Anchors::of(folder.path());
        anchors.keep_note(5, "first\n").unwrap();
        anchors.keep_note(5, "with one more\n").unwrap();
        anchors.keep_token(5, &[1]).unwrap();
        for later in [2, 3] {
            anchors.keep_note(5, &format!("later {later}\n")).unwrap();
            anchors.keep_token(5, &[later]).unwrap();
        }

        assert_eq!(anchors.note(5).unwrap().as_deref(), Some("with one more\n"));
        assert_eq!(anchors.token(5).unwrap(), Some(vec![1]));
        assert_eq!(anchors.newest_note(5).unwrap().as_deref(), Some("later 3\n"));
        assert_eq!(anchors.newest_token(5).unwrap(), Some(vec![3]));
        assert_eq!(anchors.list().unwrap(), [anchor(5, true)]);
    }

    #[test]
    fn files_of_other_names_are_no_anchors() {
        let folder = tempfile::tempdir().unwrap();
        let anchors = Anchors::of(folder.path());
        anchors.keep_note(5, "note\n").unwrap();
        for name in ["05.note", "+5.note", "x.note", "6.tsr", "7.note.bak"] {
            fs::write(anchors.directory().join(name), "?").unwrap();
        }

        assert_eq!(anchors.list().unwrap(), [anchor(5, false)]);
    }

    #[test]
    fn however_many_there_were_the_first_and_the_newest_stay_and_the_number_is_bounded() {
        let mut sizes: Vec<u64> = Vec::new();
        for size in 1..20_000 {
            sizes.push(size);
            let gone = surplus(&sizes);
            sizes.retain(|size| !gone.contains(size));
            assert!(sizes.len() <= ANCHORS_KEPT);
        }

        assert_eq!(sizes.first(), Some(&1));
        let newest: Vec<_> = (19_999 - 64..20_000).collect();
        assert!(sizes.ends_with(&newest[1..]), "{sizes:?}");
    }

    #[test]
    fn a_checkpoint_with_a_token_does_not_go_for_those_without() {
        let folder = tempfile::tempdir().unwrap();
        let anchors = Anchors::of(folder.path());
        anchors.keep_note(1, "first\n").unwrap();
        anchors.keep_note(2, "stamped\n").unwrap();
        anchors.keep_token(2, &[1]).unwrap();
        // Without syncing each of them.
        for size in 3..=300 {
            fs::write(anchors.note_path(size), "note\n").unwrap();
        }
        anchors.keep_note(301, "newest\n").unwrap();

        let left = anchors.list().unwrap();
        assert!(left.len() <= ANCHORS_KEPT);
        assert!(left.contains(&anchor(2, true)) && left.contains(&anchor(301, false)));
    }

    fn anchor(size: u64, has_token: bool) -> Anchor {
        Anchor { size, has_token }
    }
}
