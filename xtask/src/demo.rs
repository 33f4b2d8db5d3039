//! `cargo xtask demo`: builds everything, then tells the whole story in a lab.
//!
//! The story is a program of the tests package: it uses the same lab as the end-to-end tests, so
//! what the demo shows is what the tests prove.

use anyhow::{Context, Result};
use xshell::cmd;

use crate::build::{self, Profile};
use crate::setup;
use crate::workshop::Workshop;

/// What the demo does when its story is told.
#[derive(Clone, Copy)]
pub(crate) enum Ending {
    /// Takes the lab down; the exit code says whether every promise was held.
    Leave,
    /// Keeps the lab up until Ctrl-C.
    Stay,
}

/// Sets up, builds, and tells the story.
pub(crate) fn demo(workshop: &Workshop) -> Result<()> {
    workshop.require_root("the demo", "cargo xtask demo")?;
    setup::setup(workshop)?;
    tell(workshop, Ending::Leave)
}

/// Builds and tells the story.
pub(crate) fn tell(workshop: &Workshop, ending: Ending) -> Result<()> {
    build::program(workshop, Profile::Dev)?;
    let arguments: &[&str] = match ending {
        Ending::Leave => &[],
        Ending::Stay => &["--stay"],
    };
    cmd!(
        workshop.shell,
        "cargo run --quiet --locked --package enforcer-tests --bin demo -- {arguments...}"
    )
    .quiet()
    .run()
    .context("the demo did not hold all of its promises")
}
