#![doc = include_str!("../ARCHITECTURE.md")]
// Arguments in, exit code out.

mod cli;
mod daemon;
mod desk;
mod files;
mod handover;
mod incident;
mod notices;
mod operators;
mod paths;
mod policies;
mod privileges;
mod respond;
mod shutdown;
mod state;
mod watcher;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
