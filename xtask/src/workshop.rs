//! Where the tasks work: the repository, its tools, and who we are.
//!
//! Tools that a task builds for itself live in the user's cache folder and are put first on the
//! path of every command, so that nothing which the user installed is touched.

use std::env;
use std::fs;
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use xshell::Shell;

/// The version of the test runner that the house is tested with.
pub(crate) const NEXTEST_VERSION: &str = "0.9.143";

/// The repository and a shell that stands in it.
pub(crate) struct Workshop {
    /// Runs commands in [`Self::root`].
    pub(crate) shell: Shell,
    /// The top folder of the repository.
    pub(crate) root: PathBuf,
    cache: PathBuf,
}

/// Who runs the task.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// May install packages, make namespaces and load programs.
    Root,
    /// May do none of that.
    Other,
}

impl Workshop {
    /// The repository that this program was built from.
    pub(crate) fn open() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the package xtask has no folder above it")?
            .to_path_buf();
        let cache = cache_folder()?;
        let shell = Shell::new()?;
        shell.change_dir(&root);
        let tools = cache.join(nextest_folder()).join("bin");
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(iter::once(tools).chain(env::split_paths(&path)))
            .context("the cache folder cannot stand on the path")?;
        shell.set_var("PATH", path);
        Ok(Self { shell, root, cache })
    }

    /// Where the test runner is put when the machine has none.
    pub(crate) fn nextest_home(&self) -> PathBuf {
        self.cache.join(nextest_folder())
    }

    /// Whether this process may do what root may do.
    pub(crate) fn user(&self) -> Result<User> {
        let owner = fs::metadata("/proc/self").context("/proc is not mounted")?.uid();
        Ok(if owner == 0 { User::Root } else { User::Other })
    }

    /// Refuses to start a task that cannot end well without root.
    pub(crate) fn require_root(&self, what: &str, command: &str) -> Result<()> {
        match self.user()? {
            User::Root => Ok(()),
            User::Other => bail!(
                "{what} needs root, to make network namespaces and load BPF programs\n\
                 hint: sudo -E env \"PATH=$PATH\" {command}"
            ),
        }
    }
}

fn nextest_folder() -> String {
    format!("cargo-nextest-{NEXTEST_VERSION}")
}

fn cache_folder() -> Result<PathBuf> {
    if let Some(cache) = env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()) {
        return Ok(PathBuf::from(cache).join("enforcer"));
    }
    let home = env::var_os("HOME").context("neither HOME nor XDG_CACHE_HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/enforcer"))
}
