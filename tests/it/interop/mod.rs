//! Things that nobody here wrote, through the real program: clients before it, servers behind it.
//!
//! Everything runs on the loopback of one host of the lab. Commands are bounded in time by `timeout`;
//! the Python programs beside this file print what they saw, line by line, and tests compare lines.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use enforcer_tests::lab::{Agent, DEADLINE, Namespace, Output, Site, Upstream, wait_until};

mod curl;
mod events;
mod grpc;
mod loads;
mod nginx;
mod openssl;
mod websockets;

/// The name of the API.
const NAME: &str = "api.test";

/// Where clients come in with TLS, and without.
const TLS: u16 = 8443;
const CLEAR: u16 = 8080;

/// Where servers listen: one that echoes, nginx, and a program of a test.
const ECHO: u16 = 9000;
const NGINX: u16 = 9001;
const PROGRAM: u16 = 9002;

/// Seconds that a command may take.
const PATIENCE: &str = "30";

/// What every scene has; a test adds its own upstream and route as `app`.
const POLICY: &str = r#"
version = 1

[agent]
state   = "state"
socket  = "admin.sock"
threads = 1

[listen.public]
address = ["127.0.0.1:8443"]
tls     = { certificate = "tls/cert.pem", key = "tls/key.pem" }

[listen.clear]
address = ["127.0.0.1:8080"]

[role]
caller = { from = ["key"] }

[upstream.echo]
hosts = ["127.0.0.1:9000"]

[upstream.nginx]
hosts = ["127.0.0.1:9001"]

[[route]]
name     = "echo"
match    = "*/made/{**}"
upstream = "echo"
public   = true

[[route]]
name     = "files"
match    = "*/files/{**}"
upstream = "nginx"
public   = true
"#;

/// A host with an agent, and what runs beside it. All of it ends with the scene.
struct Scene {
    agent: Agent,
    programs: Vec<Program>,
    site: Site,
    host: Namespace,
    _echo: Upstream,
}

/// A program in the background.
struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Scene {
    /// An agent with [`POLICY`] and this, and the upstream that echoes.
    fn new(more: &str) -> Self {
        let host = Namespace::new("host").unwrap();
        let echo = Upstream::start(&host, address(ECHO)).unwrap();
        let site = Site::new(&host, &format!("{POLICY}{more}"), NAME).unwrap();
        let agent = site.start().unwrap();
        Self { agent, programs: Vec::new(), site, host, _echo: echo }
    }

    /// The same with nginx on [`NGINX`] and this in its server block, its files in `www`.
    fn with_nginx(more: &str) -> Self {
        let mut scene = Self::new("");
        let folder = scene.site.folder().to_owned();
        fs::create_dir_all(folder.join("www/files")).unwrap();
        let text = include_str!("nginx.conf")
            .replace("{folder}", folder.to_str().unwrap())
            .replace("{more}", more);
        fs::write(folder.join("nginx.conf"), text).unwrap();
        let conf = folder.join("nginx.conf");
        scene.start("nginx", &["-g", "daemon off;", "-c", conf.to_str().unwrap()]);
        scene.wait_for(NGINX);
        scene
    }

    /// A file that nginx serves below `/files/`.
    fn file(&self, name: &str, content: &[u8]) {
        fs::write(self.site.folder().join("www/files").join(name), content).unwrap();
    }

    /// A file of this scene.
    fn path(&self, name: &str) -> PathBuf {
        self.site.folder().join(name)
    }

    /// Starts a program in the background.
    fn start(&mut self, program: &str, arguments: &[&str]) -> &mut Program {
        let mut command = self.host.command(program);
        let errors = File::create(self.path(&format!("program-{}.log", self.programs.len())));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors.unwrap());
        python(&mut command);
        let mut child = self.host.spawn(command).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        self.programs.push(Program { child, lines });
        self.programs.last_mut().unwrap()
    }

    /// Starts a Python program of this folder.
    fn start_python(&mut self, name: &str, arguments: &[&str]) -> &mut Program {
        let script = script(name);
        let all: Vec<&str> = [script.to_str().unwrap()].iter().chain(arguments).copied().collect();
        self.start("python3", &all)
    }

    /// Waits until somebody listens at the port.
    fn wait_for(&self, port: u16) {
        let connect = || TcpStream::connect(address(port)).is_ok();
        wait_until("a server listens", DEADLINE, || self.host.run(connect).unwrap()).unwrap();
    }

    /// Runs a command to its end, within [`PATIENCE`].
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.run_with(program, arguments, b"")
    }

    /// The same, with something to read.
    fn run_with(&self, program: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.host.command("timeout");
        command.args(["--kill-after=1", PATIENCE, program]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        python(&mut command);
        let mut child = self.host.spawn(command).unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A program that does not read its input is free to.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a Python program of this folder; it must succeed.
    fn python(&self, name: &str, arguments: &[&str]) -> String {
        let script = script(name);
        let all: Vec<&str> = [script.to_str().unwrap()].iter().chain(arguments).copied().collect();
        let output = self.run("python3", &all);
        assert!(output.is_success(), "{output}\n{}", self.agent.said());
        output.stdout
    }

    /// curl, with TLS that trusts the agent; it must succeed.
    fn curl(&self, arguments: &[&str]) -> String {
        let output = self.try_curl(arguments);
        assert!(output.is_success(), "{output}\n{}", self.agent.said());
        output.stdout
    }

    fn try_curl(&self, arguments: &[&str]) -> Output {
        self.curl_with(arguments, b"")
    }

    /// The same, with something to send.
    fn curl_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let ca = self.path("tls/cert.pem");
        let mut all = vec!["-sS", "--noproxy", "*", "--cacert", ca.to_str().unwrap()];
        let resolve = [TLS, CLEAR].map(|port| format!("{NAME}:{port}:127.0.0.1"));
        all.extend(["--resolve", &resolve[0], "--resolve", &resolve[1]]);
        all.extend(arguments);
        self.run_with("curl", &all, input)
    }
}

impl Program {
    /// The next line that it says, which must come in time: it is killed by the scene's end at the
    /// latest.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits for its end.
    fn ends_well(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already, which is as well.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Lets Python find what `cargo xtask setup` has installed.
fn python(command: &mut Command) {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python");
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PYTHONUNBUFFERED", "1");
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/interop").join(name)
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The URL of a path with TLS.
fn https(path: &str) -> String {
    format!("https://{NAME}:{TLS}{path}")
}

/// The URL of a path in clear text.
fn http(path: &str) -> String {
    format!("http://{NAME}:{CLEAR}{path}")
}

/// Bytes of which none repeats soon.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n * 7 + n / 251) % 251).unwrap()).collect()
}
