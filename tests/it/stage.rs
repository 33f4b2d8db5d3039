//! The lab with an upstream, an agent and its policy: what nearly every test begins with.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use enforcer_kernel::{Kernel, OpenError};
use enforcer_tests::lab::{
    ATTACKER, Agent, Ask, Client, DEADLINE, Family, HOST_FOR_ATTACKER, HOST_FOR_CLIENT, Http,
    KeyGuesses, Lab, Output, Passage, Ping, Site, Stream, UPSTREAM, Upstream, guess, wait_until,
};
use serde_json::Value;

/// Longer than the log gathers records before it commits them.
const GATHERING: Duration = Duration::from_millis(60);

/// Where the kernel program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Native,
    Generic,
    Tcx,
    Clsact,
}

/// The two ways of XDP, for what may differ between them.
pub(crate) const HOOKS: [Hook; 2] = [Hook::Native, Hook::Generic];

/// Networks that the attacker can send from beside its own addresses; see [`Stage::crowd`].
pub(crate) const CROWD: [(Family, &str); 2] =
    [(Family::V4, "10.88.0.0/16"), (Family::V6, "fd88::/16")];

/// The name of the API.
pub(crate) const NAME: &str = "api.test";

/// Failures after which the policy blocks.
pub(crate) const THRESHOLD: usize = 5;

/// The whole of a policy but its kernel section.
pub(crate) const LAYER_7: &str = r#"
version = 1

[agent]
state  = "state"
socket = "admin.sock"

[listen.public]
address = ["0.0.0.0:8443", "[::]:8443"]
tls     = { certificate = "tls/cert.pem", key = "tls/key.pem" }

[guard]
never_block = { monitoring = ["10.77.9.0/24", "fd77:9::/64"] }
max_clients = "60%"

[role]
reader = { from = ["key"] }
writer = { includes = ["reader"], from = ["key"] }

[upstream.orders]
hosts      = ["127.0.0.1:9000"]
first_byte = "5s"

[[route]]
name     = "orders"
match    = "api.test/v1/{**}"
upstream = "orders"

  [[route.allow]]
  method = ["GET", "HEAD"]
  role   = "reader"

  [[route.allow]]
  method = ["POST", "PUT", "DELETE"]
  role   = "writer"

[[route]]
name     = "health"
match    = "api.test/healthz"
upstream = "orders"
public   = true

[[rule]]
id       = "key-guessing"
failures = 5
within   = "30s"
respond  = { action = "block", ttl = "10m" }
mode     = "auto"
"#;

/// A lab in which everything runs.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) upstream: Upstream,
    pub(crate) site: Site,
    pub(crate) agent: Option<Agent>,
}

/// A policy with its kernel section.
pub(crate) fn policy(hook: Hook) -> String {
    let attach = hook.word();
    format!(
        "{LAYER_7}\n[kernel]\ninterfaces = [\"enf-client\", \"enf-attacker\"]\n\
         attach = \"{attach}\"\nmode = \"enforce\"\n"
    )
}

impl Hook {
    /// As a policy says it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }

    /// As the program says it.
    pub(crate) const fn place(self) -> &'static str {
        match self {
            Self::Native => "xdp-native",
            Self::Generic => "xdp-generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl Stage {
    /// Everything runs, with this policy.
    pub(crate) fn with_policy(policy: &str) -> Self {
        let mut stage = Self::without_agent(policy);
        stage.start();
        stage
    }

    /// Everything runs, the kernel program at this hook.
    pub(crate) fn new(hook: Hook) -> Self {
        Self::with_policy(&policy(hook))
    }

    /// The agent does not run yet.
    pub(crate) fn without_agent(policy: &str) -> Self {
        let lab = Lab::new().unwrap();
        let upstream = Upstream::start(&lab.host, UPSTREAM).unwrap();
        let site = Site::new(&lab.host, policy, NAME).unwrap();
        Self { lab, upstream, site, agent: None }
    }

    /// Starts the agent.
    pub(crate) fn start(&mut self) {
        self.agent = Some(self.site.start().unwrap());
    }

    /// Ends the agent as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.agent.take().unwrap().kill().unwrap();
    }

    /// The client, at an address of this family.
    pub(crate) fn client(&self, family: Family) -> Client {
        self.site.client(&self.lab.client, HOST_FOR_CLIENT, family)
    }

    /// The attacker, at an address of this family.
    pub(crate) fn attacker(&self, family: Family) -> Client {
        self.site.client(&self.lab.attacker, HOST_FOR_ATTACKER, family)
    }

    /// Echoes from the client.
    pub(crate) fn client_ping(&self, family: Family) -> Ping {
        Ping::new(&self.lab.client, HOST_FOR_CLIENT.of(family)).unwrap()
    }

    /// Echoes from the attacker.
    pub(crate) fn attacker_ping(&self, family: Family) -> Ping {
        Ping::new(&self.lab.attacker, HOST_FOR_ATTACKER.of(family)).unwrap()
    }

    /// Lets the attacker send from every address of [`CROWD`].
    pub(crate) fn crowd(&self) {
        for (_, network) in CROWD {
            self.lab.attacker.own(network).unwrap();
        }
        for family in Family::BOTH {
            self.attacker_ping(family).until_answered().unwrap();
        }
    }

    /// Datagrams from these addresses of the attacker's, one of each in a millisecond; all of one
    /// family.
    pub(crate) fn stream(&self, sources: &[&str]) -> Stream {
        let sources: Vec<IpAddr> = sources.iter().map(|source| source.parse().unwrap()).collect();
        let family = if sources[0].is_ipv4() { Family::V4 } else { Family::V6 };
        let (from, at) = (&self.lab.attacker, &self.lab.host);
        let to = HOST_FOR_ATTACKER.of(family);
        Stream::start(from, &sources, at, to, Duration::from_millis(1)).unwrap()
    }

    /// Whether datagrams from these addresses of the attacker's arrive: every one of each of them,
    /// or not a single one of any.
    pub(crate) fn reaches(&self, sources: &[&str]) -> bool {
        let passages = self.passages(sources);
        let served = passages.iter().all(Passage::is_served);
        assert!(served || passages.iter().all(Passage::is_shut_out), "{passages:?}");
        served
    }

    /// What becomes of a few datagrams from each of these addresses of the attacker's.
    pub(crate) fn passages(&self, sources: &[&str]) -> Vec<Passage> {
        let (v6, v4): (Vec<&str>, Vec<&str>) =
            sources.iter().partition(|source| source.contains(':'));
        let families = [v4, v6].into_iter().filter(|sources| !sources.is_empty());
        let streams: Vec<_> = families.map(|sources| self.stream(&sources)).collect();
        streams.iter().for_each(|stream| stream.flow(12).unwrap());
        streams.into_iter().flat_map(|stream| stream.stop().unwrap()).collect()
    }

    /// The pinned maps, as somebody else on the host can open them.
    pub(crate) fn pinned(&self) -> Result<Kernel, OpenError> {
        let pins = self.lab.host.path("/sys/fs/bpf/enforcer");
        self.lab.host.run(|| Kernel::open_pinned(&pins)).unwrap()
    }

    /// Puts a file of networks into the site's folder.
    pub(crate) fn file(&self, name: &str, lines: &str) -> String {
        let file = self.site.folder().join(name);
        std::fs::write(&file, lines).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Why the kernel half is weaker than the policy asks, as `status` tells.
    pub(crate) fn problem(&self) -> Option<String> {
        self.json(&["status"])["kernel"]["problem"].as_str().map(str::to_owned)
    }

    /// Puts another policy in force.
    pub(crate) fn apply(&self, policy: &str) {
        self.site.write_policy(policy).unwrap();
        let applied = self.enforcer(&["policy", "apply"]);
        assert!(applied.is_success(), "{applied}");
    }

    /// Blocks these targets for an hour.
    pub(crate) fn quarantine(&self, targets: &[&str]) {
        for target in targets {
            let done = self.enforcer(&["quarantine", target, "--reason", "test"]);
            assert!(done.is_success(), "{done}");
        }
    }

    /// The store, the kernel and layer 7 agree.
    pub(crate) fn expect_verified(&self) {
        let verified = self.enforcer(&["blocks", "--verify"]);
        assert!(verified.is_success(), "{verified}");
    }

    /// A fresh key with this role.
    pub(crate) fn key(&self, name: &str, role: &str) -> String {
        let issued = self.json(&["keys", "issue", "--name", name, "--role", role]);
        issued["credential"].as_str().unwrap().to_owned()
    }

    /// A verb and what came of it.
    pub(crate) fn enforcer(&self, words: &[&str]) -> Output {
        self.site.enforcer(words).unwrap()
    }

    /// A verb to which an operator types an answer.
    pub(crate) fn typing(&self, words: &[&str], answer: &str) -> Output {
        use std::io::Write;
        let socket = format!("unix:{}", self.site.socket().display());
        let mut arguments = vec!["--agent", socket.as_str()];
        arguments.extend(words);
        let mut command = self.site.command(&arguments).unwrap();
        let piped = std::process::Stdio::piped;
        let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Output {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A verb that needs no agent, only the policy.
    pub(crate) fn offline(&self, words: &[&str]) -> Output {
        let policy = self.site.policy();
        let mut arguments = vec!["--policy", policy.to_str().unwrap()];
        arguments.extend(words);
        self.site.program(&arguments).unwrap()
    }

    /// A verb's answer for programs.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        self.site.json(words).unwrap()
    }

    /// The row of a target in the list of blocks.
    pub(crate) fn block_of(&self, target: &str) -> Option<Value> {
        let rows = self.json(&["blocks"]);
        rows.as_array().unwrap().iter().find(|row| row["target"] == target).cloned()
    }

    /// The attacker guesses so many keys, and gets a 401 each time.
    pub(crate) fn guess(&self, family: Family, times: usize) {
        let mut connection = self.attacker(family).connect(Http::One).unwrap();
        guess(&mut connection, KeyGuesses::default().take(times)).unwrap();
    }

    /// Who is blocked once the attacker has guessed too often at its address of this family.
    ///
    /// Failures are judged in the order in which they happened: when this one's block stands,
    /// whatever happened before has been judged as well.
    pub(crate) fn blocked_after_guessing(&self, family: Family) -> Vec<String> {
        self.guess(family, THRESHOLD);
        let own = ATTACKER.of(family).to_string();
        wait_until("the guesses are answered by a block", DEADLINE, || {
            self.block_of(&own).is_some()
        })
        .unwrap();
        let rows = self.json(&["blocks"]);
        let targets = rows.as_array().unwrap().iter().map(|row| row["target"].as_str().unwrap());
        targets.map(str::to_owned).collect()
    }

    /// Echoes stay unanswered because the kernel drops them: this block counts them.
    pub(crate) fn expect_dropped(&self, ping: &Ping, target: &str) {
        let dropped = || self.block_of(target).unwrap()["kernel"]["packets"].as_u64().unwrap();
        let before = dropped();
        wait_until("the block counts an echo", DEADLINE, || {
            assert!(ping.once(SILENCE).unwrap().is_none(), "{target}: an echo passed");
            dropped() > before
        })
        .unwrap();
    }

    /// How many packets the kernel has judged so: `drop blocked`.
    pub(crate) fn packets(&self, counter: &str) -> u64 {
        let status = self.json(&["status"]);
        let mut counters = status["kernel"]["packets"].as_array().unwrap().iter();
        counters.find(|one| one["name"] == counter).unwrap()["count"].as_u64().unwrap()
    }

    /// Everything on record, oldest first. A record that nobody waits for may share a commit with
    /// those that follow, so they are given the time for it.
    pub(crate) fn records(&self) -> Vec<Value> {
        std::thread::sleep(GATHERING);
        // Named by its folder: the policy file may be a bad one.
        let log = self.site.state().join("audit");
        let words =
            ["audit", "tail", "--log", log.to_str().unwrap(), "-n", "100000", "-o", "jsonl"];
        let tail = self.site.program(&words).unwrap();
        assert!(tail.is_success(), "{tail}");
        tail.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Everything of this class on record, oldest first.
    pub(crate) fn records_of(&self, class: &str) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["class"] == class).collect()
    }

    /// A file system for the state that can be filled, in place before the first start.
    pub(crate) fn small_disk(&self) {
        let state = self.site.state();
        std::fs::create_dir(&state).unwrap();
        let mut mount = self.lab.host.command("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs"]).arg(&state);
        self.lab.host.succeed(mount).unwrap();
    }

    /// Fills the disk of [`Self::small_disk`] until the returned ballast is dropped.
    pub(crate) fn fill_disk(&self) -> Ballast {
        let ballast = Ballast(self.lab.host.path(self.site.state().join("ballast")));
        ballast.fill();
        ballast
    }
}

/// What fills a disk. Dropped, it leaves room again.
pub(crate) struct Ballast(PathBuf);

impl Ballast {
    /// Takes what room there is.
    pub(crate) fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::options().create(true).append(true).open(&self.0).unwrap();
        let page = [0x5a; 4096];
        while file.write_all(&page).is_ok() {}
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// The request of a reader.
pub(crate) fn orders() -> Ask {
    Ask::get("/v1/orders")
}

/// How long a packet may take that must not arrive.
pub(crate) const SILENCE: Duration = Duration::from_millis(200);
