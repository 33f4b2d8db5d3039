//! How the pinned kernel half is, and another program in its place.

use std::time::Duration;

use enforcer_admin::call::{
    Counter, FloodStatus, HookStatus, KernelReport, KernelStatus, KernelVerb, LeaseStatus,
    OccupancyStatus,
};
use enforcer_kernel::{Attachment, Hook, Interface, Kernel, Lease, MapError, Mode, OnAgentLoss};

use super::open;
use crate::cli::{Context, Failure};
use crate::respond::counter_name;

/// What the pinned maps and links say; limits that only the policy knows are its.
pub(in crate::cli) fn status(context: &Context) -> Result<KernelStatus, Failure> {
    let mut status = read(&open(context)?)?;
    // A policy that does not load must not keep anybody from looking.
    let policy = context.policy().ok().flatten();
    if let Some(config) = policy.as_ref().and_then(enforcer_policy::Policy::kernel) {
        if let Some(full) = &mut status.occupancy {
            full.capacity = config.blocks.into();
        }
        if let (Some(lease), OnAgentLoss::Observe { lease: length }) =
            (&mut status.lease, config.on_agent_loss)
        {
            lease.length_ms = millis(length);
        }
    }
    Ok(status)
}

/// Puts the program of this build in the place of the pinned one, on the same maps.
pub(in crate::cli) fn upgrade(context: &Context) -> Result<KernelReport, Failure> {
    let mut kernel = open(context)?;
    let upgraded = kernel.upgrade().map_err(|error| Failure::advised(&error, error.hint()))?;
    let from =
        upgraded.before.map_or_else(String::new, |tag| format!(" in the place of {tag:016x}"));
    let done = upgraded.interfaces.iter();
    let done = done.map(|name| format!("{name}: program {:016x}{from}", upgraded.after)).collect();
    let kernel = read(&kernel)?;
    Ok(KernelReport { verb: KernelVerb::Upgrade, done, problems: Vec::new(), kernel, audit: None })
}

fn read(kernel: &Kernel) -> Result<KernelStatus, Failure> {
    let advised = |error: MapError| Failure::advised(&error, error.hint());
    let interfaces = kernel.interfaces().map_err(|error| Failure::because(&error))?;
    let attached = |one: &Interface| match one.attachment {
        Attachment::Attached { hook, .. } => Some(format!("{} {}", one.name, word(hook))),
        Attachment::Detached | Attachment::Missing => None,
    };
    let mode = match kernel.mode().map_err(advised)? {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
        Mode::Off => "off",
    };
    let lost: Vec<_> = interfaces.iter().filter(|one| attached(one).is_none()).collect();
    let lost: Vec<_> = lost.iter().map(|one| format!("not in force on {}", one.name)).collect();
    let counters = kernel.counters().map_err(advised)?;
    let full = kernel.occupancy();
    let flood = kernel.flood();
    Ok(KernelStatus {
        mode: mode.to_owned(),
        problem: (!lost.is_empty()).then(|| lost.join("; ")),
        interfaces: interfaces.iter().filter_map(attached).collect(),
        object: enforcer_kernel::object_sha256(),
        packets: counters
            .entries
            .iter()
            .map(|counter| Counter { name: counter_name(counter), count: counter.packets })
            .collect(),
        hooks: interfaces.iter().map(hook).collect(),
        egress: String::new(),
        lease: match kernel.lease() {
            Lease::Unlimited => None,
            Lease::Left(left) => {
                Some(LeaseStatus { length_ms: millis(left), remaining_ms: millis(left) })
            }
            Lease::Over(_) => Some(LeaseStatus { length_ms: 0, remaining_ms: 0 }),
        },
        flood: (flood.active || !flood.escalated.is_empty()).then_some(FloodStatus {
            active: flood.active,
            newcomers: flood.newcomers,
            threshold: None,
            escalated: flood.escalated,
        }),
        occupancy: Some(OccupancyStatus {
            v4: full.v4.into(),
            v6: full.v6.into(),
            capacity: full.capacity.into(),
        }),
        memory_bytes: kernel.memory(),
    })
}

fn hook(interface: &Interface) -> HookStatus {
    let seat = |attachment: Attachment| match attachment {
        Attachment::Attached { hook, .. } => word(hook),
        Attachment::Detached => "NOWHERE: somebody detached it",
        Attachment::Missing => "NOWHERE: there is no such interface",
    };
    HookStatus {
        interface: interface.name.clone(),
        ingress: seat(interface.attachment).to_owned(),
        egress: interface.egress.map(|egress| seat(egress).to_owned()),
        mtu: interface.mtu,
        foreign: interface.foreign.clone(),
    }
}

/// As the agent tells it.
const fn word(hook: Hook) -> &'static str {
    match hook {
        Hook::Native => "xdp-native",
        Hook::Generic => "xdp-generic",
        Hook::Tcx => "tcx",
        Hook::Clsact => "clsact",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
