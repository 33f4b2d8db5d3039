//! `enforcer doctor`: what would keep the agent from working here, each finding with its fix.

mod interface;
mod kernel;
mod netlink;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::Args;
use enforcer_admin::call::HookStatus;
use enforcer_admin::{Answer, Call};
use enforcer_policy::{Address, Policy};
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

#[derive(Debug, PartialEq, Eq, Serialize)]
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
        let agent = context.ask(&Call::Status).ok();
        findings.push(match &agent {
            Some(_) => good("an agent answers at the admin socket"),
            None => note("no agent answers at the admin socket", Some("enforcer run")),
        });
        kernel::look(policy.as_ref(), &hooks(context, agent.as_ref()), &mut findings);
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

/// Where our programs sit: as the agent says, else the pins.
fn hooks(context: &Context, agent: Option<&Answer>) -> Vec<HookStatus> {
    match agent {
        Some(Answer::Status(status)) => status.kernel.hooks.clone(),
        _ => super::pinned::status(context).map(|kernel| kernel.hooks).unwrap_or_default(),
    }
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
        for address in listener.addresses.iter().filter_map(Address::tcp) {
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
