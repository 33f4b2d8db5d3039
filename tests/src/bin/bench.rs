//! `bench <area> [--quick]`: measures an area, prints its table, writes `target/bench/<area>.json`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use enforcer_tests::bench::{AREAS, Effort, Order, report};

/// Measures an area of enforcer.
#[derive(Parser)]
struct Arguments {
    /// The area
    area: String,
    /// Fewer rounds: shows that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// So many rounds, where the area has rounds
    #[arg(long)]
    rounds: Option<usize>,
    /// Measure these as well, separated by commas, where the area has such
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Measure only what has this in its name, where the area can
    #[arg(long)]
    only: Option<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let Some(area) = AREAS.iter().find(|area| area.name == arguments.area) else {
        let known: Vec<&str> = AREAS.iter().map(|area| area.name).collect();
        bail!("no area is called `{}`; the areas are {}", arguments.area, known.join(", "));
    };
    if cfg!(debug_assertions) {
        eprintln!("note: not an optimised build; use `cargo xtask bench {}`", area.name);
    }
    let effort = if arguments.quick { Effort::Quick } else { Effort::Full };
    let Arguments { rounds, peers, only, .. } = arguments;
    let path = report(area, &Order { effort, rounds, peers, only }, &folder()?)?;
    println!("\nwritten to {}", path.display());
    Ok(())
}

/// `target/bench`, whatever the profile.
fn folder() -> Result<PathBuf> {
    let program = env::current_exe()?;
    let target = program.ancestors().nth(2).context("the program stands in no target folder")?;
    Ok(target.join("bench"))
}
