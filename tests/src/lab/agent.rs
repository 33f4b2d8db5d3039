//! The real program in the lab's host.
//!
//! A [`Site`] is where an agent lives: a folder with its policy, its certificate and its state. It
//! outlives the agent, so that a test can kill one and start another on what it left. An [`Agent`]
//! is a running process; dropped, it is killed without a chance to clean up, which is what the
//! blocks in the kernel must survive.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{env, fmt};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    Addresses, Certificate, Client, DEADLINE, Family, Namespace, PORT, process, wait_for,
    wait_until,
};

/// Stands for the site's folder in the text of a policy.
const PLACE: &str = "{site}";

/// Where an agent lives. Clones are the same place, which is removed with the last of them.
#[derive(Clone)]
pub struct Site {
    host: Namespace,
    folder: Arc<TempDir>,
    name: Arc<str>,
    certificate: Certificate,
    starts: Arc<AtomicU32>,
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    log: PathBuf,
}

/// What a command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// What it printed for programs.
    pub stdout: String,
    /// What it printed for people.
    pub stderr: String,
}

impl Site {
    /// Prepares a folder in `host`: `policy.toml` with `{site}` replaced by the folder, and
    /// `tls/cert.pem` and `tls/key.pem` for `name`.
    ///
    /// The agent's state is expected in `{site}/state`, its socket at `{site}/admin.sock`.
    pub fn new(host: &Namespace, policy: &str, name: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("enforcer-lab-").tempdir()?;
        let certificate = Certificate::for_names(&[name])?;
        certificate.write(&folder.path().join("tls"))?;
        let site = Self {
            host: host.clone(),
            folder: Arc::new(folder),
            name: name.into(),
            certificate,
            starts: Arc::default(),
        };
        site.write_policy(policy)?;
        Ok(site)
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The policy file.
    pub fn policy(&self) -> PathBuf {
        self.folder().join("policy.toml")
    }

    /// The agent's state.
    pub fn state(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder().join("admin.sock")
    }

    /// A client at `from`, which sees the host at one of `host`, that trusts this agent.
    pub fn client(&self, from: &Namespace, host: Addresses, family: Family) -> Client {
        Client::new(from, host.at(family, PORT), &self.name, Some(&self.certificate))
    }

    /// Replaces the policy in one step, as an editor does. The agent is not told.
    pub fn write_policy(&self, policy: &str) -> Result<()> {
        let folder = self.folder().to_str().context("the folder's name is not UTF-8")?;
        let draft = self.folder().join("policy.toml.draft");
        fs::write(&draft, policy.replace(PLACE, folder))?;
        Ok(fs::rename(draft, self.policy())?)
    }

    /// The program with these arguments, in the host.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.host.command(program()?);
        command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
        Ok(command)
    }

    /// Starts the agent at this wall time in UTC, such as `2026-03-02 09:30:00`, and waits until it
    /// answers. From there its clock goes as every other; how long things take is not changed.
    pub fn start_at(&self, time: &str) -> Result<Agent> {
        let policy = self.policy();
        let mut command = self.host.command("env");
        // Of this process alone: those before it keep their time.
        command
            .arg(format!("LD_PRELOAD={}", other_clock()?.display()))
            .args([&format!("FAKETIME=@{time}"), "FAKETIME_DONT_FAKE_MONOTONIC=1", "TZ=UTC"])
            .args(["NO_COLOR=1".as_ref(), program()?.as_os_str(), "run".as_ref()])
            .args(["--policy".as_ref(), policy.as_os_str()]);
        let mut agent = self.launch_command(command)?;
        self.wait_until_ready(&mut agent)?;
        Ok(agent)
    }

    /// Starts the agent without waiting for it.
    pub fn launch(&self) -> Result<Agent> {
        let policy = self.policy();
        let policy = policy.to_str().context("the folder's name is not UTF-8")?;
        self.launch_command(self.command(&["run", "--policy", policy])?)
    }

    /// Starts a command of this site as the agent, its output kept in a file.
    pub fn launch_command(&self, mut command: Command) -> Result<Agent> {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        let log = self.folder().join(format!("agent-{number}.log"));
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Agent { child: process::spawn(command)?, log })
    }

    /// Starts the agent and waits until it answers on its socket.
    pub fn start(&self) -> Result<Agent> {
        let mut agent = self.launch()?;
        self.wait_until_ready(&mut agent)?;
        Ok(agent)
    }

    /// Waits until the agent answers on its socket; tells what it said when it ended instead.
    pub fn wait_until_ready(&self, agent: &mut Agent) -> Result<()> {
        let answered = wait_for("the agent answers on its socket", DEADLINE, || {
            match agent.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Some(Err(status.to_string())),
                Err(error) => return Some(Err(error.to_string())),
            }
            UnixStream::connect(self.socket()).is_ok().then_some(Ok(()))
        });
        match answered {
            Ok(Ok(())) => {}
            Ok(Err(status)) => bail!("the agent ended ({status}) and said:\n{}", agent.said()),
            Err(error) => return Err(error.context(agent.said())),
        }
        let status = self.enforcer(&["status"])?;
        if status.code != Some(0) {
            bail!("the agent listens, but: {status}\nit said:\n{}", agent.said());
        }
        Ok(())
    }

    /// Runs a verb of the program against this site's agent.
    pub fn enforcer(&self, words: &[&str]) -> Result<Output> {
        let agent = format!("unix:{}", self.socket().display());
        let mut arguments = vec!["--agent", agent.as_str()];
        arguments.extend(words);
        self.program(&arguments)
    }

    /// Runs a verb that must succeed, and reads its answer as JSON.
    pub fn json(&self, words: &[&str]) -> Result<serde_json::Value> {
        let mut arguments = words.to_vec();
        arguments.push("--json");
        let output = self.enforcer(&arguments)?;
        if output.code != Some(0) {
            bail!("enforcer {}: {output}", words.join(" "));
        }
        serde_json::from_str(&output.stdout)
            .with_context(|| format!("enforcer {}: {output}", words.join(" ")))
    }

    /// Runs the program with exactly these arguments.
    pub fn program(&self, arguments: &[&str]) -> Result<Output> {
        run(self.command(arguments)?)
    }
}

/// Runs a command to its end and keeps what it said.
fn run(mut command: Command) -> Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = process::spawn(command)?.wait_with_output()?;
    Ok(Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The program under test: beside this one, or where `ENFORCER_BIN` says.
fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| {
        if let Some(path) = env::var_os("ENFORCER_BIN") {
            return Some(PathBuf::from(path));
        }
        // Test binaries stand in `deps`, one below the programs.
        let own = env::current_exe().ok()?;
        own.ancestors().skip(1).take(2).map(|folder| folder.join("enforcer")).find(|p| p.is_file())
    });
    found.as_deref().context(
        "the enforcer program is not built\nhint: `cargo xtask build`, or name it in ENFORCER_BIN",
    )
}

/// The library that tells a process another time.
fn other_clock() -> Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib")?.filter_map(Result::ok);
    let names = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    names.into_iter().find(|name| name.is_file()).context(
        "libfaketime is not installed\nhint: `cargo xtask setup`, or `apt-get install libfaketime`",
    )
}

impl Agent {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said this.
    pub fn wait_until_said(&self, words: &str) -> Result<()> {
        wait_until(&format!("the agent says `{words}`"), DEADLINE, || self.said().contains(words))
            .with_context(|| self.said())
    }

    /// Ends it as a power cut would: no signal handler, no destructor.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits for it.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(DEADLINE)
    }

    /// Asks it to read its policy again.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::HUP)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.context("the agent has no pid")?, signal)?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        wait_for("the agent ends", deadline, || child.try_wait().transpose())?
            .context("waiting for the agent")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        drop(self.child.kill());
        drop(self.child.wait());
        // Of another clock, if it had one: a process that is killed leaves what it shared of it.
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            drop(fs::remove_file(format!("/dev/shm/{name}{}", self.pid())));
        }
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Site({})", self.folder().display())
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "exit {code}")?,
            None => write!(f, "killed")?,
        }
        write!(f, "\n{}{}", self.stdout, self.stderr)
    }
}

impl Output {
    /// Whether the command did what it was asked to do.
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}
