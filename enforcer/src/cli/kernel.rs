//! `enforcer kernel`: the kernel half as a whole. A running agent is asked; where none runs, what it
//! left pinned is looked at, upgraded and taken down all the same.

use clap::{Args, Subcommand};
use enforcer_admin::call::{KernelReport, KernelStatus, KernelVerb};
use enforcer_admin::{Answer, Call};

use super::detach::{self, Detach};
use super::status::counters;
use super::{Context, Exit, Failure, bytes, mismatched, pinned, recorded};

/// The kernel half: how it is, put in force, upgraded, taken off this host
#[derive(Debug, Subcommand)]
pub(crate) enum Kernel {
    /// Hooks, occupancy, memory, lease and counters; without an agent from the pinned maps
    Status(Status),
    /// Put it in force on the policy's interfaces, with every decision
    Attach(Attach),
    /// Take it off this host; a running agent keeps every decision at layer 7
    Detach(Detach),
    /// Put this program in the place of the one that runs, on the same maps, without a gap
    Upgrade(Upgrade),
}

/// Hooks, occupancy, memory, lease and counters; without an agent from the pinned maps
#[derive(Args, Debug)]
pub(crate) struct Status {}

/// Put it in force on the policy's interfaces, with every decision
#[derive(Args, Debug)]
pub(crate) struct Attach {}

/// Put this program in the place of the one that runs, on the same maps, without a gap
#[derive(Args, Debug)]
pub(crate) struct Upgrade {}

impl Kernel {
    pub(crate) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Status(Status {}) => match ask(context, KernelVerb::Status)? {
                Some(report) => print_status(context, &report?.kernel),
                None => print_status(context, &pinned::status(context)?),
            },
            Self::Attach(Attach {}) => match ask(context, KernelVerb::Attach)? {
                Some(report) => print(context, &report?),
                None => Err(Failure::failed("no agent runs, and attaching is its business")
                    .exit(Exit::AgentUnreachable)
                    .hint("`enforcer run` attaches; `enforcer doctor` says what would keep it")),
            },
            Self::Upgrade(Upgrade {}) => match ask(context, KernelVerb::Upgrade)? {
                Some(report) => print(context, &report?),
                None => print(context, &pinned::upgrade(context)?),
            },
            Self::Detach(verb) => verb.with_or_without_agent(context),
        }
    }
}

/// What the agent reports; `None` when none runs.
pub(super) fn ask(
    context: &Context,
    verb: KernelVerb,
) -> Result<Option<Result<KernelReport, Failure>>, Failure> {
    let Some(answer) = context.ask_if_there(&Call::Kernel { verb })? else { return Ok(None) };
    Ok(Some(answer.and_then(|answer| {
        let Answer::Kernel(report) = answer else { return Err(mismatched()) };
        Ok(*report)
    })))
}

/// Prints what was done; a part that was not makes it a partial success.
pub(super) fn print(context: &Context, report: &KernelReport) -> Result<Exit, Failure> {
    context.printer.item(report, &told(report))?;
    Ok(if report.problems.is_empty() { Exit::Done } else { Exit::PartlyApplied })
}

fn told(report: &KernelReport) -> Vec<String> {
    let verb = match report.verb {
        KernelVerb::Attach => "attached",
        KernelVerb::Detach => "detached",
        KernelVerb::Upgrade => "upgraded",
        KernelVerb::Status => "looked at",
    };
    let mut lines = vec![format!("{verb}  {}", report.kernel.interfaces.join(", "))];
    lines.extend(report.done.iter().map(|done| format!("  {done}")));
    lines.extend(report.problems.iter().map(|problem| format!("  NOT done: {problem}")));
    lines.extend(report.audit.map(|audit| format!("  audit   {}", recorded(Some(audit)))));
    lines.extend(match report.verb {
        KernelVerb::Attach => Some("undo: enforcer kernel detach".to_owned()),
        KernelVerb::Detach => Some("undo: enforcer kernel attach".to_owned()),
        KernelVerb::Upgrade | KernelVerb::Status => None,
    });
    lines
}

fn print_status(context: &Context, status: &KernelStatus) -> Result<Exit, Failure> {
    context.printer.item(status, &lines(status))?;
    Ok(Exit::Done)
}

/// The kernel half for people.
pub(super) fn lines(kernel: &KernelStatus) -> Vec<String> {
    let mut lines = vec![match &kernel.problem {
        None => format!("kernel   {}  {}", kernel.mode, kernel.interfaces.join(", ")),
        Some(problem) => format!("kernel   {}: {problem}", kernel.mode),
    }];
    for hook in &kernel.hooks {
        let out = hook.egress.as_deref().unwrap_or("none");
        let (name, ingress, mtu) = (&hook.interface, &hook.ingress, hook.mtu);
        lines.push(format!("  hook   {name}  in {ingress}  out {out}  mtu {mtu}"));
        let foreign = hook.foreign.iter();
        lines.extend(foreign.map(|program| format!("  hook   {name}  also runs {program}")));
    }
    if !kernel.egress.is_empty() {
        lines.push(format!("  egress {}", kernel.egress));
    }
    lines.extend(kernel.lease.map(|lease| match lease.remaining_ms {
        0 => "  lease  OVER: matches are only counted, no agent has been heard of".to_owned(),
        left => format!(
            "  lease  {}.{} s left of {} s",
            left / 1_000,
            left % 1_000 / 100,
            lease.length_ms / 1_000
        ),
    }));
    if let Some(flood) = &kernel.flood {
        let state = if flood.active { "ACTIVE: newcomers share a budget" } else { "none" };
        let from = flood.threshold.map_or_else(String::new, |most| format!(" of {most}/s"));
        lines.push(format!("  flood  {state}; {}{from} newcomers", flood.newcomers));
        let networks = flood.escalated.iter();
        lines.extend(networks.map(|network| format!("  flood  {network} answers for its parts")));
    }
    lines.extend(kernel.occupancy.map(|full| {
        let share = full.v4.max(full.v6).saturating_mul(100) / full.capacity.max(1);
        format!(
            "  tables {} IPv4 and {} IPv6 entries of {} each ({share}%)",
            full.v4, full.v6, full.capacity
        )
    }));
    if kernel.memory_bytes > 0 {
        lines.push(format!("  memory {}", bytes(kernel.memory_bytes)));
    }
    lines.extend(counters("  packets", &kernel.packets));
    lines
}

impl Detach {
    /// `kernel detach`: a running agent does it, and does not attach again by itself.
    fn with_or_without_agent(&self, context: &Context) -> Result<Exit, Failure> {
        let is_there = context.ask_if_there(&Call::Kernel { verb: KernelVerb::Status })?.is_some();
        self.confirm(context)?;
        if !is_there {
            return detach::without_agent(context);
        }
        match ask(context, KernelVerb::Detach)? {
            Some(report) => print(context, &report?),
            None => detach::without_agent(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use enforcer_admin::call::{FloodStatus, HookStatus, LeaseStatus, OccupancyStatus};

    use super::*;

    #[test]
    fn everything_that_the_kernel_half_is_stands_in_its_status() {
        let lines = lines(&status());

        assert_eq!(
            lines,
            [
                "kernel   enforce  eth1 xdp-native",
                "  hook   eth1  in xdp-native  out tcx  mtu 1500",
                "  hook   eth1  also runs tcx 17 (cilium)",
                "  egress contain",
                "  lease  29.5 s left of 30 s",
                "  flood  ACTIVE: newcomers share a budget; 61000 of 50000/s newcomers",
                "  flood  2001:db8::/48 answers for its parts",
                "  tables 750000 IPv4 and 12 IPv6 entries of 1000000 each (75%)",
                "  memory 117.2 MiB",
            ]
        );
    }

    #[test]
    fn a_lease_that_is_over_and_a_half_that_is_off_are_not_overlooked() {
        let mut over = status();
        over.lease = Some(LeaseStatus { length_ms: 30_000, remaining_ms: 0 });
        assert!(lines(&over).iter().any(|line| line.contains("lease  OVER")));

        let off = KernelStatus {
            mode: "off".to_owned(),
            problem: Some("no capability".to_owned()),
            ..KernelStatus::default()
        };
        assert_eq!(lines(&off), ["kernel   off: no capability"]);
    }

    #[test]
    fn what_was_not_done_is_told() {
        let report = KernelReport {
            verb: KernelVerb::Upgrade,
            done: vec!["eth1: program 12 in the place of 7".to_owned()],
            problems: vec!["eth2: keeps program 8: it is busy".to_owned()],
            kernel: status(),
            audit: Some(3),
        };

        let lines = told(&report);

        assert_eq!(lines[0], "upgraded  eth1 xdp-native");
        assert!(lines.contains(&"  NOT done: eth2: keeps program 8: it is busy".to_owned()));
        assert!(lines.contains(&"  audit   #3".to_owned()));
    }

    fn status() -> KernelStatus {
        KernelStatus {
            mode: "enforce".to_owned(),
            problem: None,
            interfaces: vec!["eth1 xdp-native".to_owned()],
            object: None,
            packets: Vec::new(),
            hooks: vec![HookStatus {
                interface: "eth1".to_owned(),
                ingress: "xdp-native".to_owned(),
                egress: Some("tcx".to_owned()),
                mtu: 1_500,
                foreign: vec!["tcx 17 (cilium)".to_owned()],
            }],
            egress: "contain".to_owned(),
            lease: Some(LeaseStatus { length_ms: 30_000, remaining_ms: 29_500 }),
            flood: Some(FloodStatus {
                active: true,
                newcomers: 61_000,
                threshold: Some(50_000),
                escalated: vec!["2001:db8::/48".parse().unwrap()],
            }),
            occupancy: Some(OccupancyStatus { v4: 750_000, v6: 12, capacity: 1_000_000 }),
            memory_bytes: (117 << 20) + (1 << 18),
        }
    }
}
