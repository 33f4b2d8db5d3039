#![doc = include_str!("../ARCHITECTURE.md")]
// Arguments in, exit code out.

mod cli;
mod daemon;
mod desk;
mod operators;
mod paths;
mod privileges;
mod reload;
mod respond;
mod shutdown;
mod watcher;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
