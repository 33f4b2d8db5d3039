//! The lab with an upstream, an agent and its policy: what nearly every test begins with.

use std::net::SocketAddr;
use std::time::Duration;

use enforcer_tests::lab::{
    Addresses, Agent, Ask, Client, Family, HOST_FOR_ATTACKER, HOST_FOR_CLIENT, KeyGuesses, Lab,
    Namespace, Output, Ping, Site, Upstream,
};
use serde_json::Value;

/// Where the kernel program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Native,
    Generic,
}

pub(crate) const HOOKS: [Hook; 2] = [Hook::Native, Hook::Generic];

/// The name of the API.
pub(crate) const NAME: &str = "api.test";

/// Where the agent listens.
pub(crate) const PORT: u16 = 8443;

/// Failures after which the policy blocks.
pub(crate) const THRESHOLD: usize = 5;

const UPSTREAM: SocketAddr = SocketAddr::new(Family::V4.loopback(), 9000);

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
    let attach = match hook {
        Hook::Native => "native",
        Hook::Generic => "generic",
    };
    format!(
        "{LAYER_7}\n[kernel]\ninterfaces = [\"enf-client\", \"enf-attacker\"]\n\
         attach = \"{attach}\"\nmode = \"enforce\"\n"
    )
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
        let site = Site::new(&lab.host, policy, &[NAME]).unwrap();
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
        self.from(&self.lab.client, HOST_FOR_CLIENT, family)
    }

    /// The attacker, at an address of this family.
    pub(crate) fn attacker(&self, family: Family) -> Client {
        self.from(&self.lab.attacker, HOST_FOR_ATTACKER, family)
    }

    /// Echoes from the client.
    pub(crate) fn client_ping(&self, family: Family) -> Ping {
        Ping::new(&self.lab.client, HOST_FOR_CLIENT.of(family)).unwrap()
    }

    /// Echoes from the attacker.
    pub(crate) fn attacker_ping(&self, family: Family) -> Ping {
        Ping::new(&self.lab.attacker, HOST_FOR_ATTACKER.of(family)).unwrap()
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
        let mut connection = self.attacker(family).connect(enforcer_tests::lab::Http::One).unwrap();
        for key in KeyGuesses::default().take(times) {
            assert_eq!(connection.ask(&orders().key(&key)).unwrap().status, 401);
        }
    }

    fn from(&self, namespace: &Namespace, host: Addresses, family: Family) -> Client {
        Client::new(namespace, host.at(family, PORT), NAME, Some(self.site.certificate()))
    }
}

/// The request of a reader.
pub(crate) fn orders() -> Ask {
    Ask::get("/v1/orders")
}

/// How long a packet may take that must not arrive.
pub(crate) const SILENCE: Duration = Duration::from_millis(200);
