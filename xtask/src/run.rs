//! `cargo xtask run`: a playground of client, attacker, host, upstream and agent, until Ctrl-C.

use anyhow::Result;

use crate::demo::{self, Ending};
use crate::setup;
use crate::workshop::Workshop;

/// Sets up, builds, and keeps the lab up.
pub(crate) fn run(workshop: &Workshop) -> Result<()> {
    workshop.require_root("the playground", "cargo xtask run")?;
    setup::setup(workshop)?;
    demo::tell(workshop, Ending::Stay)
}
