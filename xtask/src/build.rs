//! `cargo xtask build`: the BPF object, then the program that embeds it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xshell::cmd;

use crate::ebpf;
use crate::workshop::Workshop;

/// How to build.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Optimised, as it is shipped
    #[arg(long)]
    release: bool,
}

/// Which of cargo's profiles.
#[derive(Clone, Copy)]
pub(crate) enum Profile {
    /// Quick to build.
    Dev,
    /// As it is shipped.
    Release,
}

/// Builds and says where the program is.
pub(crate) fn build(workshop: &Workshop, arguments: &Arguments) -> Result<()> {
    let profile = if arguments.release { Profile::Release } else { Profile::Dev };
    let program = program(workshop, profile)?;
    println!("{}", program.display());
    Ok(())
}

/// Builds the program with its BPF object inside and returns its path.
pub(crate) fn program(workshop: &Workshop, profile: Profile) -> Result<PathBuf> {
    ebpf::build().context("building the BPF object")?;
    let flags = profile.flags();
    cmd!(workshop.shell, "cargo build --locked --package enforcer {flags...}")
        .quiet()
        .run()
        .context("building the enforcer program")?;
    Ok(target_folder(workshop)?.join(profile.folder()).join("enforcer"))
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder(workshop: &Workshop) -> Result<PathBuf> {
    let metadata =
        cmd!(workshop.shell, "cargo metadata --no-deps --format-version 1 --locked").quiet();
    let metadata: serde_json::Value = serde_json::from_str(&metadata.read()?)?;
    let folder = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(PathBuf::from(folder.context("cargo metadata names no target directory")?))
}

impl Profile {
    /// What cargo is told.
    pub(crate) const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Dev => &[],
            Self::Release => &["--release"],
        }
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}
