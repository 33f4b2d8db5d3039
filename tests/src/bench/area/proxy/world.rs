//! Where everything happens: a network of its own, two cores, a certificate, and what answers behind
//! every proxy.
//!
//! The proxy under test has the last core for itself. On the others are the upstream and whoever makes
//! the load. All of them go before what else runs on the machine.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use super::tokens::Issuer;
use crate::lab::{Certificate, DEADLINE, Namespace, wait_for};

/// Where the upstream listens.
pub(super) const UPSTREAM: u16 = 9_000;

/// What the certificate is for.
pub(super) const NAME: &str = "bench.test";

/// Files that a process must be able to have open: ten thousand connections, and what else there is.
const FILES: u64 = 12_000;

/// How much sooner than others the kernel lets a process of the bench run.
const NICE: &str = "-20";

/// Where everything happens. It ends when dropped.
pub(super) struct World {
    /// The network.
    pub(super) host: Namespace,
    /// Files of all processes, with `tls/cert.pem` and `tls/key.pem`.
    pub(super) folder: TempDir,
    /// What every proxy shows.
    pub(super) certificate: Certificate,
    /// Whose tokens are believed, where any are.
    pub(super) issuer: Option<Issuer>,
    cores: Cores,
    upstream: Option<Server>,
}

/// A process that is asked to end when dropped: a master that is killed leaves its workers behind.
pub(super) struct Server(Child);

/// Which core does what.
#[derive(Clone, Debug)]
struct Cores {
    proxy: usize,
    others: Vec<usize>,
}

impl World {
    /// Prepares it; with an issuer of tokens if any are needed.
    pub(super) fn new(tokens: bool) -> Result<Self> {
        raise_files()?;
        let cores = Cores::of_this_process()?;
        let host = Namespace::new("bench")?;
        let folder = tempfile::Builder::new().prefix("enforcer-bench-").tempdir()?;
        let certificate = Certificate::for_names(&[NAME])?;
        let tls = folder.path().join("tls");
        certificate.write(&tls)?;
        let both = [fs::read(tls.join("cert.pem"))?, fs::read(tls.join("key.pem"))?].concat();
        fs::write(tls.join("both.pem"), both)?;
        fs::write(folder.path().join("load.lua"), include_str!("conf/load.lua"))?;
        let issuer = tokens.then(|| Issuer::start(&host, folder.path())).transpose()?;
        let mut world = Self { host, folder, certificate, issuer, cores, upstream: None };
        world.upstream = Some(world.start_upstream()?);
        Ok(world)
    }

    fn start_upstream(&self) -> Result<Server> {
        let large = self.folder.path().join("www/large");
        fs::create_dir_all(self.folder.path().join("www"))?;
        fs::write(large, "x".repeat(65_536))?;
        let text = include_str!("conf/upstream.conf");
        let text = text.replace("{kilobyte}", &"x".repeat(1_024));
        let conf = self.write("upstream.conf", &self.fill(&text))?;
        let mut command = self.host.command("nginx");
        command.args(["-g", "daemon off;", "-c"]).arg(conf);
        let mut server = self.spawn(self.beside(&command), "upstream")?;
        self.wait_until_answered(UPSTREAM, "upstream", &mut server)?;
        Ok(server)
    }

    /// Fills in what is the same for everybody.
    pub(super) fn fill(&self, text: &str) -> String {
        text.replace("{folder}", &self.folder.path().display().to_string())
            .replace("{upstream}", &UPSTREAM.to_string())
            .replace("{issuer}", self.issuer.as_ref().map_or("http://127.0.0.1:1", Issuer::url))
            .replace("{audience}", Issuer::AUDIENCE)
    }

    /// Writes a file into the folder.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// The values of `Authorization` that a load bears, one a line.
    pub(super) fn credentials(&self, of: &str) -> PathBuf {
        self.folder.path().join(format!("{of}.credentials"))
    }

    /// Starts a command, with what it says kept in `<name>.out`.
    pub(super) fn spawn(&self, mut command: Command, name: &str) -> Result<Server> {
        let said = fs::File::create(self.said(name))?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        Ok(Server(self.host.spawn(command)?))
    }

    fn said(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.out"))
    }

    /// Waits until somebody accepts connections; tells what the process said if it ended instead.
    pub(super) fn wait_until_answered(
        &self,
        port: u16,
        name: &str,
        server: &mut Server,
    ) -> Result<()> {
        let said = || fs::read_to_string(self.said(name)).unwrap_or_default();
        let what = format!("{name} answers at its port");
        let ended = wait_for(&what, DEADLINE, || match server.0.try_wait() {
            Ok(None) => self.answers(port).unwrap_or(false).then_some(None),
            Ok(Some(status)) => Some(Some(status.to_string())),
            Err(error) => Some(Some(error.to_string())),
        })
        .with_context(said)?;
        match ended {
            None => Ok(()),
            Some(status) => bail!("{name} ended ({status}) and said: {}", said()),
        }
    }

    /// Whether anybody accepts connections at this port.
    pub(super) fn answers(&self, port: u16) -> Result<bool> {
        self.host.run(|| TcpStream::connect(address(port)).is_ok())
    }

    /// The command on the proxy's core.
    pub(super) fn alone(&self, command: &Command) -> Command {
        pinned(&self.cores.proxy.to_string(), command)
    }

    /// The command on the other cores.
    pub(super) fn beside(&self, command: &Command) -> Command {
        let cores: Vec<_> = self.cores.others.iter().map(usize::to_string).collect();
        pinned(&cores.join(","), command)
    }

    /// Does this in the network, on the other cores; so do the threads that it starts.
    pub(super) fn work_beside<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        self.host.run(|| {
            let mut set = CpuSet::new();
            self.cores.others.iter().for_each(|&core| set.set(core));
            sched_setaffinity(None, &set).context("taking the other cores")?;
            work()
        })?
    }
}

impl Server {
    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end, and waits for it.
    pub(super) fn end(&mut self) -> Result<()> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        if self.0.try_wait()?.is_none() {
            kill_process(id.context("no such process")?, Signal::TERM)?;
        }
        let ended = wait_for("the process ends", DEADLINE, || self.0.try_wait().transpose());
        if ended.is_err() {
            self.0.kill()?;
            self.0.wait()?;
        }
        ended?.map(drop).context("waiting for the process")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A destructor has nobody to tell of a failure.
        drop(self.end());
    }
}

impl Cores {
    fn of_this_process() -> Result<Self> {
        let set = sched_getaffinity(None)?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
        let (&proxy, others) = all.split_last().context("no core")?;
        ensure!(!others.is_empty(), "a proxy and its load need a core each, and there is one");
        Ok(Self { proxy, others: others.to_vec() })
    }
}

/// A port of loopback.
pub(super) fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn pinned(cores: &str, command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["--cpu-list", cores, "nice", "-n", NICE]);
    pinned.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            pinned.env(name, value);
        }
    }
    pinned
}

/// As many open files as are allowed, for this process and all that it starts.
fn raise_files() -> Result<()> {
    let allowed = getrlimit(Resource::Nofile).maximum;
    ensure!(
        allowed.is_none_or(|allowed| allowed >= FILES),
        "{FILES} files must be open at once, and {allowed:?} are allowed\nhint: ulimit -Hn {FILES}"
    );
    let wish = Rlimit { current: allowed, maximum: allowed };
    setrlimit(Resource::Nofile, wish).context("raising the number of open files")
}

/// What `path` holds, line by line.
pub(super) fn lines(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}
