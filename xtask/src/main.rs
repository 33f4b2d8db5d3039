//! The project's own tasks: `cargo xtask <verb>`, one file per verb.
//!
//! Everything that CI does is a verb here, so that CI and a laptop cannot differ. A verb does its
//! own set-up: it installs what is missing where it may, says what it did, and otherwise says the
//! exact command to run. This package is the first thing a newcomer waits for, so it depends on
//! little.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task talks to the person who started it"
)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod check;
mod demo;
mod ebpf;
mod r#gen;
mod run;
mod setup;
mod test;
mod tidy;
mod workshop;

use workshop::Workshop;

/// The project's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing for building and testing; does nothing twice
    Setup,
    /// Build the BPF object from source
    Ebpf,
    /// Build the BPF object and the enforcer program that embeds it
    Build(build::Arguments),
    /// Build everything, then tell the whole story in a lab of network namespaces (root)
    Demo,
    /// Start a playground: lab, upstream and agent, until Ctrl-C (root)
    Run,
    /// Build and run the tests, those that need root included
    Test(test::Arguments),
    /// Everything that CI checks, fast checks first
    Check,
    /// Measure an area against its peers and its targets (root, release build)
    Bench(bench::Arguments),
    /// Check the rules of the house that no compiler knows
    Tidy,
    /// Write the generated documents: policy schema, CLI reference, man pages, reasons
    Gen(r#gen::Arguments),
}

fn main() -> ExitCode {
    let Arguments { verb } = Arguments::parse();
    match perform(verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: Verb) -> anyhow::Result<()> {
    let workshop = Workshop::open()?;
    match verb {
        Verb::Setup => setup::setup(&workshop),
        Verb::Ebpf => {
            let object = ebpf::build()?;
            println!("{}", object.display());
            Ok(())
        }
        Verb::Build(arguments) => build::build(&workshop, &arguments),
        Verb::Demo => demo::demo(&workshop),
        Verb::Run => run::run(&workshop),
        Verb::Test(arguments) => test::test(&workshop, &arguments),
        Verb::Check => check::check(&workshop),
        Verb::Bench(arguments) => bench::bench(&workshop, &arguments),
        Verb::Tidy => tidy::tidy(&workshop),
        Verb::Gen(arguments) => r#gen::generate(&workshop, &arguments),
    }
}
