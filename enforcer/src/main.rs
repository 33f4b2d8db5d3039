#![doc = include_str!("../ARCHITECTURE.md")]
// Arguments in, exit code out.

mod act;
mod anchoring;
mod cli;
mod daemon;
mod database;
mod descriptors;
mod desk;
mod detection;
mod files;
mod handover;
mod heartbeat;
mod incident;
mod incidents;
mod kernel_signals;
mod notices;
mod notifications;
mod notify;
mod openings;
mod operators;
mod paths;
mod policies;
mod privileges;
mod profiles;
mod respond;
mod retention;
mod rules;
mod shutdown;
mod state;
mod watcher;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A request takes and gives back some dozens of pieces of memory, on one thread (ADR 0017).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
