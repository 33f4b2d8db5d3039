//! `cargo xtask test`: every test, those in namespaces included.
//!
//! With the name of a crate it runs that crate's tests alone, and builds the BPF object only for
//! the crates whose tests load it. Without root it says how to get it, unless `--no-root` leaves those
//! tests out: a test that is skipped in silence looks like one that passed.

use anyhow::{Context, Result};
use xshell::cmd;

use crate::build::{self, Profile};
use crate::setup;
use crate::workshop::Workshop;

/// What to test.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// One crate, with or without `enforcer-`; default: all
    #[arg(value_name = "CRATE")]
    krate: Option<String>,
    /// Run what needs no root, leave out the rest
    #[arg(long)]
    no_root: bool,
    /// Passed on to `cargo nextest run`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// The crates whose tests load the BPF object.
const LOADERS: &[&str] = &["enforcer", "enforcer-kernel", "enforcer-tests"];

/// Sets up, builds, and runs the tests.
pub(crate) fn test(workshop: &Workshop, arguments: &Arguments) -> Result<()> {
    let package = arguments.krate.as_deref().map(package);
    let loads = package.as_deref().is_none_or(|package| LOADERS.contains(&package));
    if loads && !arguments.no_root {
        workshop.require_root("testing everything", "cargo xtask test")?;
        setup::setup(workshop)?;
        build::program(workshop, Profile::Dev)?;
    } else {
        setup::test_runner(workshop)?;
    }
    match package.as_deref() {
        Some(package) => nextest(workshop, &["--package", package], arguments),
        None => {
            // Examples in the documentation go first, so that the last lines are the summary.
            cmd!(workshop.shell, "cargo test --quiet --locked --workspace --doc").quiet().run()?;
            nextest(workshop, &["--workspace"], arguments)
        }
    }
}

/// Everything, as CI does it.
pub(crate) fn everything(workshop: &Workshop) -> Result<()> {
    test(workshop, &Arguments { krate: None, no_root: false, rest: Vec::new() })
}

fn nextest(workshop: &Workshop, what: &[&str], arguments: &Arguments) -> Result<()> {
    let ignored = if arguments.no_root { "default" } else { "all" };
    let rest = &arguments.rest;
    cmd!(workshop.shell, "cargo nextest run --locked {what...} --run-ignored {ignored} {rest...}")
        .quiet()
        .run()
        .context("the tests")
}

fn package(name: &str) -> String {
    if name == "enforcer" || name == "xtask" || name.starts_with("enforcer-") {
        name.to_owned()
    } else {
        format!("enforcer-{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_may_be_named_by_its_folder_or_by_its_package() {
        assert_eq!(package("limits"), "enforcer-limits");
        assert_eq!(package("enforcer-limits"), "enforcer-limits");
        assert_eq!(package("enforcer"), "enforcer");
        assert_eq!(package("xtask"), "xtask");
    }
}
