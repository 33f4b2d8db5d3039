//! The system's loggers: they read a file of lines, and what they write is watched.
//!
//! `cargo xtask setup` unpacks them below `target`; they are not installed, for Debian lets a system
//! have only one of them.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{World, figure};
use crate::lab::wait_for;

/// How long a logger may take for what it is given.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logger {
    /// omfile with a sync for each transaction.
    Rsyslog,
    /// Secure logging, with a sync for each turn.
    SyslogNg,
}

impl Logger {
    const fn conf(self) -> &'static str {
        match self {
            Self::Rsyslog => include_str!("conf/rsyslog.conf"),
            Self::SyslogNg => include_str!("conf/syslog-ng.conf"),
        }
    }

    fn command(self, folder: &Path) -> Command {
        let at = |name: &str| folder.join(name);
        match self {
            Self::Rsyslog => {
                let mut command = unpacked("usr/sbin/rsyslogd");
                command.arg("-n").arg("-f").arg(at("conf")).arg("-i").arg(at("pid"));
                command.arg("-M").arg(home().join(LIBRARIES[0]).join("rsyslog"));
                command
            }
            Self::SyslogNg => {
                let mut command = unpacked("usr/sbin/syslog-ng");
                command.args(["--foreground", "--no-caps", "--cfgfile"]).arg(at("conf"));
                command.arg("--module-path").arg(home().join("usr/lib/syslog-ng/3.38"));
                command.arg("--persist-file").arg(at("persist")).arg("--pidfile").arg(at("pid"));
                command.arg("--control").arg(at("control"));
                command
            }
        }
    }
}

/// Where libraries lie in what was unpacked.
const LIBRARIES: [&str; 3] =
    ["usr/lib/x86_64-linux-gnu", "usr/lib/syslog-ng", "lib/x86_64-linux-gnu"];

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/loggers")
}

/// A program that was unpacked, with its libraries.
fn unpacked(program: &str) -> Command {
    let home = home();
    let libraries = LIBRARIES.map(|folder| home.join(folder).display().to_string());
    let mut command = Command::new(home.join(program));
    command.env("LD_LIBRARY_PATH", libraries.join(":"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Lets it write `count` lines; lines a second, from the first that is on disk to the last.
pub(super) fn write(world: &World, folder: &Path, logger: Logger, count: usize) -> Result<f64> {
    let mut lines = BufWriter::new(fs::File::create(folder.join("in"))?);
    world.lines(count).try_for_each(|line| writeln!(lines, "{line}"))?;
    lines.flush()?;
    let conf = logger.conf().replace("{folder}", folder.to_str().context("not UTF-8")?);
    fs::write(folder.join("conf"), conf)?;
    if logger == Logger::SyslogNg {
        key(folder)?;
    }
    let mut child = logger.command(folder).spawn().with_context(|| format!("{logger:?}"))?;
    let rate = watch(&folder.join("out"), count);
    end(&mut child)?;
    rate
}

/// Waits for the lines; how many a second there were, without those that it began with.
fn watch(out: &Path, count: usize) -> Result<f64> {
    let begin = wait_for("the first lines", PATIENCE, || {
        Some((Instant::now(), lines_of(out))).filter(|(_, lines)| *lines > 0)
    })?;
    let end = wait_for("the last line", PATIENCE, || {
        Some((Instant::now(), lines_of(out))).filter(|(_, lines)| *lines >= count)
    })?;
    let written = figure(u64::try_from(end.1.saturating_sub(begin.1))?)?;
    ensure!(written > 0.0, "they were all written at once: too few to tell a rate");
    Ok(written / end.0.saturating_duration_since(begin.0).as_secs_f64())
}

fn lines_of(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

fn end(child: &mut Child) -> Result<()> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process")?;
    kill_process(id, Signal::TERM)?;
    if wait_for("it ends", PATIENCE, || child.try_wait().transpose()).is_err() {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// The key with which secure logging begins, and a copy for who verifies.
fn key(folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name);
    let made = unpacked("usr/bin/slogkey").arg("-m").arg(at("master")).status()?;
    let mut derive = unpacked("usr/bin/slogkey");
    derive.arg("-d").arg(at("master")).args(["02:00:00:00:00:01", "1"]).arg(at("host.key"));
    ensure!(made.success() && derive.status()?.success(), "slogkey made no key");
    fs::copy(at("host.key"), at("first.key"))?;
    Ok(())
}

/// Lets `slogverify` audit what secure logging has written; lines a second.
pub(super) fn audit(folder: &Path) -> Result<f64> {
    let at = |name: &str| folder.join(name);
    let count = lines_of(&at("out"));
    let mut verify = unpacked("usr/bin/slogverify");
    verify.arg("-k").arg(at("first.key")).arg("-m").arg(at("mac.dat")).arg(at("out"));
    let begun = Instant::now();
    // Its word is not asked for: a counter that ran ahead is an error to it.
    verify.arg(at("plain")).status()?;
    let spent = begun.elapsed().as_secs_f64();
    let plain = lines_of(&at("plain"));
    ensure!(plain == count, "slogverify recovered {plain} of {count} lines");
    Ok(figure(u64::try_from(count)?)? / spent)
}

/// Bytes of a line of secure logging.
pub(super) fn bytes_per_line(folder: &Path) -> Result<f64> {
    let out = folder.join("out");
    let lines = lines_of(&out);
    Ok(figure(fs::metadata(&out)?.len())? / figure(u64::try_from(lines)?)?)
}
