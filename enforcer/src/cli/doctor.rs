//! `enforcer doctor`: what would keep the agent from working here, each finding with its fix.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Args;
use enforcer_policy::Policy;
use serde::Serialize;

use super::{Context, Exit, Failure};

/// What would keep the agent from working here, each with its fix
#[derive(Args, Debug)]
pub(crate) struct Doctor {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Good,
    Note,
    Bad,
}

#[derive(Debug, Serialize)]
struct Finding {
    grade: Grade,
    what: String,
    fix: Option<String>,
}

impl Doctor {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let Self {} = self;
        let file = context.policy_file();
        let mut findings = Vec::new();
        let policy = match super::policy::load(&file) {
            Ok(policy) => {
                findings.push(good(format!("policy {} is good", file.display())));
                let warnings = policy.warnings().iter();
                findings.extend(warnings.map(|warning| note(warning.to_string(), None)));
                Some(policy)
            }
            Err(failure) => {
                let fix = failure.hint.unwrap_or_else(|| "mend the policy".to_owned());
                findings.push(bad(failure.message, fix));
                None
            }
        };
        let agent = context.ask(&enforcer_admin::Call::Status).ok();
        findings.push(match &agent {
            Some(_) => good("an agent answers at the admin socket"),
            None => note("no agent answers at the admin socket", Some("enforcer run")),
        });
        kernel(policy.as_ref(), &mut findings);
        if let Some(policy) = &policy {
            state(policy, &mut findings);
            if agent.is_none() {
                ports(policy, &mut findings);
            }
        }

        let lines: Vec<_> = findings.iter().flat_map(told).collect();
        context.printer.item(&findings, &lines)?;
        let sick = findings.iter().any(|finding| finding.grade == Grade::Bad);
        Ok(if sick { Exit::Failed } else { Exit::Done })
    }
}

fn kernel(policy: Option<&Policy>, findings: &mut Vec<Finding>) {
    let Some(config) = policy.and_then(Policy::kernel) else {
        findings.push(note(
            "the kernel half is off: requests are refused at layer 7 only",
            Some("add a [kernel] section with the interfaces to guard"),
        ));
        return;
    };
    match enforcer_kernel::object_sha256() {
        Some(sha256) => findings.push(good(format!("kernel program embedded, sha256 {sha256}"))),
        None => findings.push(bad("this build carries no kernel program", "cargo xtask build")),
    }
    findings.push(capabilities());
    findings.push(match fs::metadata("/sys/kernel/btf/vmlinux") {
        Ok(_) => good("the kernel describes its types (BTF)"),
        Err(_) => note("the kernel has no BTF", Some("use a kernel with CONFIG_DEBUG_INFO_BTF=y")),
    });
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    findings.push(if mounts.lines().any(|line| line.contains(" bpf ")) {
        good("a bpf file system is mounted")
    } else {
        note(
            "no bpf file system is mounted; the agent mounts one when it may",
            Some("mount -t bpf bpf /sys/fs/bpf"),
        )
    });
    for name in &config.interfaces {
        findings.push(interface(name));
    }
}

fn interface(name: &str) -> Finding {
    let folder = Path::new("/sys/class/net").join(name);
    let Ok(mtu) = fs::read_to_string(folder.join("mtu")) else {
        let there: Vec<_> = fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        return bad(
            format!("there is no interface `{name}`"),
            format!("name one of: {}", there.join(", ")),
        );
    };
    let state = fs::read_to_string(folder.join("operstate")).unwrap_or_default();
    good(format!("interface {name}: mtu {}, {}", mtu.trim(), state.trim()))
}

/// `CAP_BPF` (39), `CAP_PERFMON` (38) and `CAP_NET_ADMIN` (12), from `/proc/self/status`.
fn capabilities() -> Finding {
    const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<_> =
        NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return good("capabilities for the kernel half are there");
    }
    bad(
        format!("without {} the kernel half stays off", missing.join(", ")),
        "run the agent as root, or give its service these capabilities",
    )
}

fn state(policy: &Policy, findings: &mut Vec<Finding>) {
    let folder = &policy.agent().state;
    match fs::metadata(folder) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => findings.push(bad(
            format!("{} is open to others", folder.display()),
            format!("chmod 700 {}", folder.display()),
        )),
        Ok(_) => findings.push(good(format!("state in {}", folder.display()))),
        Err(_) => findings.push(note(
            format!("{} does not exist yet; the agent makes it", folder.display()),
            None,
        )),
    }
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    if let Ok(space) = rustix::fs::statvfs(existing) {
        let free_mib = space.f_bavail.saturating_mul(space.f_frsize) >> 20;
        findings.push(if free_mib < 1_024 {
            bad(
                format!(
                    "{free_mib} MiB are free for the audit log; when it is full, nothing is served"
                ),
                "free some space, or put [agent] state on a larger disk",
            )
        } else {
            good(format!("{free_mib} MiB are free for the audit log"))
        });
    }
}

fn ports(policy: &Policy, findings: &mut Vec<Finding>) {
    for listener in policy.listeners() {
        for address in &listener.addresses {
            findings.push(match TcpListener::bind(address) {
                Ok(_) => good(format!("{address} is free")),
                Err(error) => bad(
                    format!("cannot listen at {address}: {error}"),
                    format!("`ss -ltnp 'sport = :{}'` shows who does", address.port()),
                ),
            });
        }
    }
}

fn told(finding: &Finding) -> Vec<String> {
    let mark = match finding.grade {
        Grade::Good => "ok  ",
        Grade::Note => "note",
        Grade::Bad => "BAD ",
    };
    let indents = std::iter::once(mark).chain(std::iter::repeat("    "));
    let what = indents.zip(finding.what.lines()).map(|(indent, line)| format!("{indent}  {line}"));
    what.chain(finding.fix.iter().map(|fix| format!("      fix: {fix}"))).collect()
}

fn good(what: impl Into<String>) -> Finding {
    Finding { grade: Grade::Good, what: what.into(), fix: None }
}

fn note(what: impl Into<String>, fix: Option<&str>) -> Finding {
    Finding { grade: Grade::Note, what: what.into(), fix: fix.map(str::to_owned) }
}

fn bad(what: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { grade: Grade::Bad, what: what.into(), fix: Some(fix.into()) }
}
