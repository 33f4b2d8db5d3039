//! The kernel half in words and numbers: for `status`, for `talkers`, for the audit log.

use std::time::Duration;

use enforcer_admin::call::{
    Counter as Named, FloodStatus, HookStatus, KernelStatus, LeaseStatus, OccupancyStatus, Peer,
    Talker, Talkers,
};
use enforcer_audit::{Audit, KernelCount, KernelSummary, Record};
use enforcer_kernel::{
    Attachment, Counter, Counters, Direction, Egress, Flood, Hook, Interface, Kernel, Lease, Mode,
    OnAgentLoss, Upgraded, Verdict, object_sha256,
};
use enforcer_model::Timestamp;

use super::{KernelPart, UNWANTED};

impl KernelPart {
    /// One line for the record of a start.
    pub(in crate::respond) fn described(&self) -> String {
        match (&self.kernel, &self.problem) {
            (Some(_), None) => format!("kernel part on: {}", self.interfaces().join(", ")),
            (_, Some(problem)) => format!("kernel part: {problem}"),
            (None, None) => format!("kernel part off: {UNWANTED}"),
        }
    }

    pub(in crate::respond) fn status(&self) -> KernelStatus {
        let Some(kernel) = &self.kernel else {
            return KernelStatus {
                mode: "off".to_owned(),
                problem: self.off_because(),
                object: object_sha256(),
                ..KernelStatus::default()
            };
        };
        let counters = kernel.counters().map(|counters| counters.entries).unwrap_or_default();
        let occupancy = kernel.occupancy();
        KernelStatus {
            mode: self.mode().map_or("unknown", mode_name).to_owned(),
            problem: self.problem.clone(),
            interfaces: self.interfaces(),
            object: object_sha256(),
            packets: counters
                .iter()
                .map(|counter| Named { name: counter_name(counter), count: counter.packets })
                .collect(),
            hooks: self.read_interfaces().unwrap_or_default().into_iter().map(hook).collect(),
            egress: self
                .wanted
                .as_ref()
                .map_or("unknown", |wanted| egress_name(wanted.config.egress))
                .to_owned(),
            lease: self.lease(kernel),
            flood: self.flood(kernel.flood()),
            occupancy: Some(OccupancyStatus {
                v4: occupancy.v4.into(),
                v6: occupancy.v6.into(),
                capacity: occupancy.capacity.into(),
            }),
            memory_bytes: kernel.memory(),
        }
    }

    pub(in crate::respond) fn talkers(&self, most: u32) -> Talkers {
        let Some(kernel) = &self.kernel else {
            return Talkers { kernel_off: self.off_because(), ..Talkers::default() };
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let source = |talker: enforcer_kernel::Talker| Talker {
            source: talker.source,
            packets: talker.packets,
            idle_ms: millis(talker.idle),
            over: talker.over,
        };
        let destination = |peer: enforcer_kernel::PeerTraffic| Peer {
            destination: peer.destination,
            packets: peer.packets,
            bytes: peer.bytes,
            idle_ms: millis(peer.idle),
        };
        Talkers {
            sources: kernel.talkers(most).into_iter().map(source).collect(),
            destinations: kernel.peers(most).into_iter().map(destination).collect(),
            flood: self.flood(kernel.flood()),
            kernel_off: None,
        }
    }

    /// Records what was dropped since the last summary; silence is not recorded.
    pub(super) fn summarise(&mut self, audit: &Audit, now: Timestamp) {
        let Some(counters) = self.kernel.as_ref().and_then(|kernel| kernel.counters().ok()) else {
            return;
        };
        let Some((from, before)) = &self.summed else {
            self.summed = Some((now, counters));
            return;
        };
        let dropped = counters.entries.iter().filter(|counter| counter.verdict == Verdict::Drop);
        let counts: Vec<_> = dropped.filter_map(|counter| grown(counter, before)).collect();
        if counts.is_empty() {
            return;
        }
        // What finds no room in the log stays in the next summary: the sums stay the kernel's.
        if let Ok(slot) = audit.reserve() {
            let summary = KernelSummary { from: *from, until: now, counts };
            drop(slot.write(Record::KernelSummary(summary)));
            self.summed = Some((now, counters));
        }
    }

    fn lease(&self, kernel: &Kernel) -> Option<LeaseStatus> {
        let length_ms = match self.wanted.as_ref()?.config.on_agent_loss {
            OnAgentLoss::Keep => return None,
            OnAgentLoss::Observe { lease } => millis(lease),
        };
        let remaining_ms = match kernel.lease() {
            Lease::Unlimited => return None,
            Lease::Left(left) => millis(left),
            Lease::Over(_) => 0,
        };
        Some(LeaseStatus { length_ms, remaining_ms })
    }

    fn flood(&self, flood: Flood) -> Option<FloodStatus> {
        let wanted = self.wanted.as_ref()?;
        let threshold = wanted.config.budgets.flood.map(|rate| rate.count().into());
        (threshold.is_some() || !flood.escalated.is_empty()).then_some(FloodStatus {
            active: flood.active,
            newcomers: flood.newcomers,
            threshold,
            escalated: flood.escalated,
        })
    }
}

/// `eth1 xdp-native`, or what is wrong.
pub(super) fn described(interface: &Interface) -> String {
    let name = &interface.name;
    let ingress = match interface.attachment {
        Attachment::Attached { hook, .. } => format!("{name} {}", place(hook)),
        Attachment::Detached => {
            match interface.foreign.iter().find(|other| other.starts_with("xdp ")) {
                Some(other) => format!("{name} NOT attached: {other} has its place"),
                None => format!("{name} NOT attached: somebody removed the program"),
            }
        }
        Attachment::Missing => return format!("{name} is gone"),
    };
    match interface.egress {
        Some(Attachment::Detached | Attachment::Missing) => {
            format!("{ingress}, egress NOT attached: somebody removed the program")
        }
        Some(Attachment::Attached { .. }) | None => ingress,
    }
}

/// What an upgrade did.
pub(super) fn upgraded(done: &Upgraded) -> String {
    let tag = |tag: u64| format!("{tag:016x}");
    let before = done.before.map_or_else(|| "none".to_owned(), tag);
    let interfaces = match done.interfaces.as_slice() {
        [] => "no interface".to_owned(),
        interfaces => interfaces.join(", "),
    };
    format!("program {} in the place of {before} on {interfaces}", tag(done.after))
}

fn hook(interface: Interface) -> HookStatus {
    let told = |attachment: &Attachment| match attachment {
        Attachment::Attached { hook, .. } => place(*hook),
        Attachment::Detached => "not attached".to_owned(),
        Attachment::Missing => "gone".to_owned(),
    };
    HookStatus {
        ingress: told(&interface.attachment),
        egress: interface.egress.as_ref().map(told),
        interface: interface.name,
        mtu: interface.mtu,
        foreign: interface.foreign,
    }
}

/// `xdp-native`, `tcx`: XDP has two ways in.
fn place(hook: Hook) -> String {
    match hook {
        Hook::Native | Hook::Generic => format!("xdp-{hook}"),
        Hook::Tcx | Hook::Clsact => hook.to_string(),
    }
}

/// `drop blocked`, and `out drop contained` for what this host sends.
pub(crate) fn counter_name(counter: &Counter) -> String {
    let way = match counter.direction {
        Direction::In => "",
        Direction::Out => "out ",
    };
    format!("{way}{} {}", counter.verdict, counter.reason)
}

fn grown(counter: &Counter, before: &Counters) -> Option<KernelCount> {
    let same = |old: &&Counter| {
        (old.direction, old.verdict, old.reason)
            == (counter.direction, counter.verdict, counter.reason)
    };
    let (packets, bytes) =
        before.entries.iter().find(same).map_or((0, 0), |old| (old.packets, old.bytes));
    let packets = counter.packets.saturating_sub(packets);
    (packets > 0).then(|| KernelCount {
        verdict: counter.verdict.to_string(),
        reason: counter.reason.to_string(),
        packets,
        bytes: counter.bytes.saturating_sub(bytes),
    })
}

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
        Mode::Off => "off",
    }
}

const fn egress_name(egress: Egress) -> &'static str {
    match egress {
        Egress::Contain => "contain",
        Egress::Count => "count",
        Egress::Off => "off",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
