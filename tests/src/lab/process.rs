//! Processes that cannot outlive the one that started them.
//!
//! The kernel sends a child its parent-death signal when the *thread* that made it ends, so every
//! child is made by one thread that lives as long as the process. A test that is killed leaves no
//! agent behind.

use std::ffi::OsStr;
use std::io;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result};

struct Order {
    command: Command,
    reply: Sender<io::Result<Child>>,
}

static MAKER: OnceLock<Sender<Order>> = OnceLock::new();

/// Starts `command`, which [`mortal`] made.
pub(super) fn spawn(command: Command) -> Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (reply, child) = channel();
    let maker = MAKER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        thread::spawn(move || {
            for Order { mut command, reply } in inbox {
                // Whoever ordered waits for the reply; if it is gone, so is the need.
                drop(reply.send(command.spawn()));
            }
        });
        orders
    });
    maker.send(Order { command, reply }).ok().context("the thread that makes processes ended")?;
    let child = child.recv().context("the thread that makes processes ended")?;
    child.with_context(|| format!("starting {name}"))
}

/// A command that is killed when this process ends.
pub(super) fn mortal(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_outlives_the_thread_that_ordered_it() {
        let mut child = thread::spawn(|| {
            let mut command = mortal("cat");
            command.stdin(std::process::Stdio::piped());
            spawn(command)
        })
        .join()
        .unwrap()
        .unwrap();

        assert!(child.try_wait().unwrap().is_none());
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
