//! `cargo xtask demo`: builds everything, then tells the whole story in a lab.
//!
//! The story is a program of the tests package: it uses the same lab as the end-to-end tests, so
//! what the demo shows is what the tests prove.

use std::path::PathBuf;

use anyhow::{Context, Result};
use xshell::cmd;

use crate::build::{self, Profile};
use crate::setup;
use crate::workshop::Workshop;

/// Sets up, builds, and tells the story.
pub(crate) fn demo(workshop: &Workshop) -> Result<()> {
    workshop.require_root("the demo", "cargo xtask demo")?;
    setup::setup(workshop)?;
    tell(workshop)
}

/// Builds and tells the story; it ends well only when every promise was held.
pub(crate) fn tell(workshop: &Workshop) -> Result<()> {
    let story = story(workshop)?;
    cmd!(workshop.shell, "{story}").quiet().run().context("the demo")
}

/// Builds the story and the program that it is about, and returns the former.
pub(crate) fn story(workshop: &Workshop) -> Result<PathBuf> {
    let program = build::program(workshop, Profile::Dev)?;
    cmd!(workshop.shell, "cargo build --locked --package enforcer-tests --bin demo")
        .quiet()
        .run()
        .context("building the demo")?;
    Ok(program.with_file_name("demo"))
}
