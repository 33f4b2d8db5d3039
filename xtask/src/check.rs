//! `cargo xtask check`: what CI runs, in the order of how soon it can fail.
//!
//! It ends with how long each phase took: a build that grows slower is a defect, and this is where
//! it is seen.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xshell::cmd;

use crate::demo;
use crate::r#gen::{self, Mode};
use crate::test;
use crate::tidy;
use crate::workshop::Workshop;

struct Phase {
    name: &'static str,
    run: fn(&Workshop) -> Result<()>,
}

const PHASES: &[Phase] = &[
    Phase { name: "fmt", run: formatting },
    Phase { name: "tidy", run: tidy::tidy },
    Phase { name: "deny", run: deny },
    Phase { name: "clippy", run: clippy },
    Phase { name: "doc", run: documentation },
    Phase { name: "gen", run: generated },
    Phase { name: "test", run: test::everything },
    Phase { name: "demo", run: demo::tell },
];

/// Runs every phase, stops at the first that fails, and says how long each took.
pub(crate) fn check(workshop: &Workshop) -> Result<()> {
    workshop.require_root("checking everything", "cargo xtask check")?;
    let mut done = Vec::new();
    for phase in PHASES {
        println!("check: {}", phase.name);
        let begun = now();
        let outcome = (phase.run)(workshop);
        done.push((phase.name, begun.elapsed()));
        if let Err(error) = outcome {
            print_phases(&done);
            return Err(error).with_context(|| format!("check: {} does not hold", phase.name));
        }
    }
    print_phases(&done);
    println!("check: everything holds");
    Ok(())
}

fn print_phases(done: &[(&str, Duration)]) {
    println!("\nphase        seconds");
    for (name, took) in done {
        println!("{name:<10} {:>9.1}", took.as_secs_f64());
    }
    let total: Duration = done.iter().map(|(_, took)| *took).sum();
    println!("{:<10} {:>9.1}", "total", total.as_secs_f64());
}

fn formatting(workshop: &Workshop) -> Result<()> {
    cmd!(workshop.shell, "cargo fmt --all --check").quiet().run().context("hint: cargo fmt --all")
}

/// The bans and licences of `deny.toml` are part of tidy as well, so that they hold on a machine
/// without cargo-deny; what only cargo-deny knows are the advisories and the yanked versions.
fn deny(workshop: &Workshop) -> Result<()> {
    if cmd!(workshop.shell, "cargo deny --version")
        .quiet()
        .ignore_stdout()
        .ignore_stderr()
        .run()
        .is_err()
    {
        println!("cargo-deny is not installed: bans and licences were checked by tidy alone");
        return Ok(());
    }
    cmd!(workshop.shell, "cargo deny --locked check bans licenses sources")
        .quiet()
        .run()
        .context("cargo deny")
}

fn clippy(workshop: &Workshop) -> Result<()> {
    cmd!(workshop.shell, "cargo clippy --quiet --locked --workspace --all-targets -- -D warnings")
        .quiet()
        .run()
        .context("clippy")
}

fn documentation(workshop: &Workshop) -> Result<()> {
    let _deny = workshop.shell.push_env("RUSTDOCFLAGS", "-D warnings");
    cmd!(workshop.shell, "cargo doc --quiet --locked --workspace --no-deps")
        .quiet()
        .run()
        .context("documentation")
}

fn generated(workshop: &Workshop) -> Result<()> {
    r#gen::documents(workshop, Mode::Check)
}

#[expect(clippy::disallowed_methods, reason = "phases are timed for the person who waits")]
fn now() -> Instant {
    Instant::now()
}
