//! A host of the lab: a network of its own, and the mounts that go with it.
//!
//! A keeper process holds the namespaces and waits for the end of its input, which comes when
//! [`Namespace`] is dropped or when this process dies in any other way. `/sys` is mounted anew, so
//! that it shows this host's interfaces, and `/sys/fs/bpf` is a file system of this host alone:
//! pins do not meet those of other labs and vanish with the host.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process;

/// Runs inside the new namespaces, says `ready`, and waits for the end of its input.
///
/// Duplicate address detection is off so that addresses work at once; every group may ping; no
/// address is refused for the interface on which it arrives.
const KEEPER: &str = "\
set -e
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
echo 0 > /proc/sys/net/ipv4/ip_forward
for scope in all default; do echo 0 > /proc/sys/net/ipv4/conf/$scope/rp_filter; done
echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range
ip link set lo up
echo ready
exec cat
";

/// A host of the lab. Clones are the same host, which ends with the last of them.
#[derive(Clone)]
pub struct Namespace {
    keeper: Arc<Keeper>,
}

struct Keeper {
    name: &'static str,
    child: Child,
    network: File,
}

impl Namespace {
    /// Makes a host that has nothing but loopback.
    pub fn new(name: &'static str) -> Result<Self> {
        let mut command = process::mortal("unshare");
        command
            .args(["--net", "--mount", "--propagation", "private", "--", "sh", "-c", KEEPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = process::spawn(command)?;
        let mut line = String::new();
        let output = child.stdout.take().context("the keeper has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        if line != "ready\n" {
            let mut reason = String::new();
            if let Some(mut errors) = child.stderr.take() {
                errors.read_to_string(&mut reason)?;
            }
            child.wait()?;
            bail!(
                "the lab cannot make the host `{name}`: {}\n\
                 hint: it needs root, `ip`, `unshare` and a kernel with namespaces and BPF; \
                 run `cargo xtask test` as root",
                reason.trim()
            );
        }
        let network = File::open(format!("/proc/{}/ns/net", child.id()))
            .with_context(|| format!("opening the network of `{name}`"))?;
        Ok(Self { keeper: Arc::new(Keeper { name, child, network }) })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &'static str {
        self.keeper.name
    }

    /// The process that holds the namespaces, for `nsenter -t PID -n -m`.
    pub fn keeper(&self) -> u32 {
        self.keeper.child.id()
    }

    /// A path of this host as this process can open it: its `/sys` is not ours.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let inside = absolute.as_ref().strip_prefix("/").unwrap_or(absolute.as_ref()).to_path_buf();
        Path::new("/proc").join(self.keeper().to_string()).join("root").join(inside)
    }

    /// Runs `work` on a thread inside the network; sockets made there stay there.
    ///
    /// Only the network is entered: for mounts use [`Self::command`] or [`Self::path`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(
                    self.keeper.network.as_fd(),
                    Some(LinkNameSpaceType::Network),
                )
                .with_context(|| format!("entering the network of `{}`", self.name()))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// A command inside the network and the mounts, killed when this process ends.
    ///
    /// It starts in `/`: give it absolute paths.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let spaces = Path::new("/proc").join(self.keeper().to_string()).join("ns");
        let mut command = process::mortal("nsenter");
        for (flag, file) in [("--net=", "net"), ("--mount=", "mnt")] {
            command.arg(format!("{flag}{}", spaces.join(file).display()));
        }
        command.arg("--").arg(program);
        command
    }

    /// Starts a command that [`Self::command`] made. Its pid is the program's own.
    pub fn spawn(&self, command: Command) -> Result<Child> {
        process::spawn(command)
    }

    /// Runs a command that [`Self::command`] made, and wants it to succeed.
    pub fn succeed(&self, mut command: Command) -> Result<String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output: Output = process::spawn(command)?.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!(
                "in `{}`: {}: {}",
                self.name(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(text)
    }

    /// Makes every address of `network` this host's own: it may send from any of them.
    pub fn own(&self, network: &str) -> Result<()> {
        self.ip(&format!("route add local {network} dev lo")).map(drop)
    }

    /// Runs `ip` with these words.
    pub fn ip(&self, words: &str) -> Result<String> {
        let mut command = self.command("ip");
        command.args(words.split_whitespace());
        self.succeed(command).with_context(|| format!("ip {words}"))
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({}, keeper {})", self.name(), self.keeper())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // The end of its input ends the keeper. A destructor has nobody to tell of a failure.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}
