//! `cargo xtask bench <area>`: measures an area and holds it against its targets.
//!
//! The measuring is done by the `bench` program of the tests package, in a release build. An area
//! is a file or a folder in `tests/src/bench/area`, so that a wrong name is told before anything is
//! built.

use std::fs;

use anyhow::{Context, Result, bail};
use xshell::cmd;

use crate::build::{self, Profile};
use crate::setup;
use crate::workshop::Workshop;

/// The area that is measured beside other logs.
const AUDIT: &str = "audit";
/// The area that is measured beside other filters, which must be there.
const KERNEL: &str = "kernel";
/// The area that is measured beside other proxies.
const PROXY: &str = "proxy";

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The area; without one the known areas are listed
    area: Option<String>,
    /// Fewer rounds: shows that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// So many rounds, where the area has rounds
    #[arg(long)]
    rounds: Option<usize>,
    /// Measure these as well, where the area has such: for `proxy` envoy, caddy, traefik, pingora
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Measure only what has this in its name, where the area can
    #[arg(long)]
    only: Option<String>,
}

/// Builds for release, measures, and prints the table.
pub(crate) fn bench(workshop: &Workshop, arguments: &Arguments) -> Result<()> {
    let known = areas(workshop)?;
    let Some(area) = arguments.area.as_deref() else {
        println!("areas: {}", known.join(", "));
        return Ok(());
    };
    if !known.iter().any(|name| name == area) {
        bail!("no area is called `{area}`\nhint: the areas are {}", known.join(", "));
    }
    workshop.require_root("the bench", &format!("cargo xtask bench {area}"))?;
    setup::setup(workshop)?;
    if area == KERNEL {
        setup::filters(workshop)?;
    }
    if area == AUDIT {
        setup::loggers(workshop)?;
    }
    if area == PROXY {
        setup::proxies(workshop, &arguments.peers)?;
    }
    build::program(workshop, Profile::Release)?;
    let mut flags = Vec::new();
    if arguments.quick {
        flags.push("--quick".to_owned());
    }
    flags.extend(arguments.rounds.map(|rounds| format!("--rounds={rounds}")));
    flags.extend(arguments.peers.iter().map(|peer| format!("--peers={peer}")));
    flags.extend(arguments.only.as_ref().map(|only| format!("--only={only}")));
    cmd!(
        workshop.shell,
        "cargo run --quiet --locked --release --package enforcer-tests --bin bench -- {area} {flags...}"
    )
    .quiet()
    .run()
    .with_context(|| format!("bench {area}"))
}

fn areas(workshop: &Workshop) -> Result<Vec<String>> {
    let folder = workshop.root.join("tests/src/bench/area");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if stem != "mod" {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
