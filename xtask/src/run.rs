//! `cargo xtask run`: a playground of client, attacker, host, upstream and agent, until Ctrl-C.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::demo;
use crate::setup;
use crate::workshop::Workshop;

/// Sets up, builds, tells the story, and keeps the lab up.
pub(crate) fn run(workshop: &Workshop) -> Result<()> {
    workshop.require_root("the playground", "cargo xtask run")?;
    setup::setup(workshop)?;
    let story = demo::story(workshop)?;
    // It takes this process's place, so that Ctrl-C reaches it alone and it can take its lab down.
    let error = Command::new(&story).arg("--stay").current_dir(&workshop.root).exec();
    Err(error).with_context(|| story.display().to_string())
}
