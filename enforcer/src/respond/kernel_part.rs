//! The kernel half as the responder sees it: on, or off for a reason that is told everywhere.

use std::time::Duration;

use enforcer_admin::call::InKernel;
use enforcer_audit::{Audit, ConfigChange, ConfigEvent, KernelCount, KernelSummary, Layer, Record};
use enforcer_kernel::{
    Attachment, Config, Counter, Counters, Entry, Events, Hook, Installed, Interface, Kernel, Mode,
    Verdict,
};
use enforcer_model::{Block, Expiry, Prefix, Timestamp};
use tracing::{debug, error, info, warn};

use super::{KernelView, as_micros};

/// The kernel half.
pub(crate) enum KernelPart {
    On(Box<On>),
    /// The policy asks for it, and this keeps it from working.
    Off(String),
    /// The policy does not ask for it.
    Unwanted,
}

const UNWANTED: &str = "the policy has no [kernel] section";

/// What there is when it is on.
pub(crate) struct On {
    kernel: Kernel,
    /// What is wrong with it at present, as last told.
    problem: Option<String>,
    /// The counters that are on record, and when they were read.
    summed: Option<(Timestamp, Counters)>,
}

impl KernelPart {
    /// Attaches what `config` asks for; what keeps it from working is told, and layer 7 goes on.
    pub(crate) fn attach(config: Option<&Config>, allow: &[Prefix]) -> Self {
        let Some(config) = config else {
            warn!("the kernel part is off: {UNWANTED}; requests are refused at layer 7 only");
            return Self::Unwanted;
        };
        match Kernel::attach(config, allow) {
            Ok(kernel) => {
                let mut on = Box::new(On { kernel, problem: None, summed: None });
                on.check();
                let part = Self::On(on);
                info!(interfaces = ?part.interfaces(), "kernel part is on");
                part
            }
            Err(error) => {
                let mut why = crate::cli::chain(&error);
                if let Some(hint) = error.hint() {
                    why = format!("{why}; {hint}");
                }
                error!(why, "KERNEL PART IS OFF: requests are refused at layer 7 only");
                Self::Off(why)
            }
        }
    }

    /// What the program tells while it runs; once.
    pub(crate) fn take_events(&mut self) -> Option<Events> {
        let Self::On(on) = self else { return None };
        match on.kernel.take_events() {
            Ok(events) => Some(events),
            Err(error) => {
                warn!(error = crate::cli::chain(&error), "the kernel's events cannot be read");
                None
            }
        }
    }

    /// Why packets are not dropped, if they are not.
    pub(crate) fn off_because(&self) -> Option<String> {
        match self {
            Self::On(_) => None,
            Self::Off(why) => Some(why.clone()),
            Self::Unwanted => Some(UNWANTED.to_owned()),
        }
    }

    /// Whether the policy asks for it.
    pub(crate) const fn is_wanted(&self) -> bool {
        !matches!(self, Self::Unwanted)
    }

    pub(crate) fn block(
        &mut self,
        prefix: Prefix,
        block: &Block,
        now: Timestamp,
    ) -> Result<Installed, String> {
        let Self::On(on) = self else { return Err("the kernel part is off".to_owned()) };
        let expires = match block.until {
            Expiry::At(end) => Some(end.since(now)),
            Expiry::Never => None,
        };
        let entry = Entry { id: block.id, expires, observe: false };
        on.kernel.block(prefix, entry).map_err(|error| match error.hint() {
            Some(hint) => format!("{}; {hint}", crate::cli::chain(&error)),
            None => crate::cli::chain(&error),
        })
    }

    pub(crate) fn release(&mut self, prefix: Prefix) -> Result<Option<Installed>, String> {
        match self {
            Self::On(on) => on.kernel.release(prefix).map_err(|error| crate::cli::chain(&error)),
            Self::Off(_) | Self::Unwanted => Ok(None),
        }
    }

    pub(crate) fn find(&self, prefix: Prefix) -> Result<Option<Installed>, String> {
        match self {
            Self::On(on) => on.kernel.find(prefix).map_err(|error| crate::cli::chain(&error)),
            Self::Off(_) | Self::Unwanted => Ok(None),
        }
    }

    /// Every entry that the kernel holds.
    pub(crate) fn entries(&self) -> Result<Vec<Installed>, String> {
        match self {
            Self::On(on) => on.kernel.blocks().map_err(|error| crate::cli::chain(&error)),
            Self::Off(_) | Self::Unwanted => Ok(Vec::new()),
        }
    }

    /// One entry, for an answer.
    pub(crate) fn describe(&self, entry: &Installed, took: Option<Duration>) -> InKernel {
        InKernel {
            interfaces: self.interfaces(),
            applied_us: took.map_or(0, as_micros),
            remaining_seconds: entry.remaining.map(|left| left.as_secs()),
            packets: entry.packets,
            bytes: entry.bytes,
            observe: entry.observe || self.mode() != Some(Mode::Enforce),
        }
    }

    /// `eth1 xdp-native`, for each interface.
    pub(crate) fn interfaces(&self) -> Vec<String> {
        let Self::On(on) = self else { return Vec::new() };
        match on.kernel.interfaces() {
            Ok(interfaces) => interfaces.iter().map(described).collect(),
            Err(error) => vec![format!("interfaces cannot be read: {error}")],
        }
    }

    /// The attached interfaces, for a record.
    pub(crate) fn layers(&self) -> Vec<Layer> {
        let Self::On(on) = self else { return Vec::new() };
        let interfaces = on.kernel.interfaces().unwrap_or_default();
        let attached = interfaces.into_iter().filter_map(|interface| {
            let mode = match interface.attachment {
                Attachment::Attached { hook, .. } => hook_name(hook).to_owned(),
                Attachment::Detached | Attachment::Missing => return None,
            };
            Some(Layer::Kernel { interface: interface.name, mode })
        });
        attached.collect()
    }

    pub(crate) fn view(&self, blocks: u64) -> KernelView {
        match self {
            Self::On(on) => KernelView {
                mode: self.mode().map_or("unknown", mode_name).to_owned(),
                problem: on.problem.clone(),
                interfaces: self.interfaces(),
                counters: on.kernel.counters().ok(),
                blocks,
            },
            Self::Off(_) | Self::Unwanted => KernelView {
                mode: "off".to_owned(),
                problem: self.off_because(),
                interfaces: Vec::new(),
                counters: None,
                blocks,
            },
        }
    }

    /// Puts what a new policy says in force, as far as it goes without a restart.
    pub(crate) fn reconfigure(&mut self, next: Option<&Config>, allow: &[Prefix]) {
        let Self::On(on) = self else { return };
        if let Err(error) = on.kernel.set_allow(allow) {
            error!(%error, "the allow list in the kernel is not the policy's");
        }
        let Some(next) = next else { return };
        let applied =
            on.kernel.set_mode(next.mode).and_then(|()| on.kernel.set_budget(next.budget));
        match applied {
            Ok(()) => {}
            Err(error) => error!(%error, "the kernel part does not follow the policy"),
        }
    }

    /// Records what was dropped, and puts right an interface that lost its program or came back.
    pub(crate) fn look_after(&mut self, audit: &Audit, now: Timestamp) {
        if let Self::On(on) = self {
            on.summarise(audit, now);
            on.look_after(audit);
        }
    }

    fn mode(&self) -> Option<Mode> {
        match self {
            Self::On(on) => on.kernel.mode().ok(),
            Self::Off(_) | Self::Unwanted => None,
        }
    }
}

impl On {
    fn look_after(&mut self, audit: &Audit) {
        if let Err(error) = self.kernel.sweep() {
            warn!(%error, "expired entries stay in the kernel map; they drop nothing");
        }
        let before = self.problem.clone();
        self.check();
        if self.problem.is_some() {
            if let Err(error) = self.kernel.reattach() {
                debug!(error = crate::cli::chain(&error), "the kernel part cannot be put back");
            }
            self.check();
        }
        if self.problem == before {
            return;
        }
        let what = match &self.problem {
            Some(problem) => {
                error!(problem, "the kernel part is weaker than the policy asks");
                ConfigEvent::KernelLost
            }
            None => {
                info!("the kernel part is whole again");
                ConfigEvent::KernelAttached
            }
        };
        let change = ConfigChange {
            what,
            by: None,
            policy: None,
            program: None,
            kernel_program: None,
            detail: self.problem.clone(),
        };
        if let Ok(slot) = audit.reserve() {
            drop(slot.write(Record::Config(change)));
        }
    }

    /// Records what was dropped since the last summary; silence is not recorded.
    fn summarise(&mut self, audit: &Audit, now: Timestamp) {
        let Ok(counters) = self.kernel.counters() else { return };
        let Some((from, before)) = &self.summed else {
            self.summed = Some((now, counters));
            return;
        };
        let counts: Vec<_> = counters
            .entries
            .iter()
            .filter(|counter| counter.verdict == Verdict::Drop)
            .filter_map(|counter| grown(counter, before))
            .collect();
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

    fn check(&mut self) {
        self.problem = match self.kernel.interfaces() {
            Ok(interfaces) => {
                let lost: Vec<_> = interfaces
                    .iter()
                    .filter(|interface| {
                        !matches!(interface.attachment, Attachment::Attached { .. })
                    })
                    .map(described)
                    .collect();
                (!lost.is_empty()).then(|| lost.join(", "))
            }
            Err(error) => Some(crate::cli::chain(&error)),
        };
    }
}

fn grown(counter: &Counter, before: &Counters) -> Option<KernelCount> {
    let same = |old: &&Counter| old.verdict == counter.verdict && old.reason == counter.reason;
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

fn described(interface: &Interface) -> String {
    let name = &interface.name;
    match interface.attachment {
        Attachment::Attached { hook, .. } => format!("{name} xdp-{}", hook_name(hook)),
        Attachment::Detached => format!("{name} NOT attached: another program took its place"),
        Attachment::Missing => format!("{name} is gone"),
    }
}

const fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Generic => "generic",
        Hook::Native => "native",
    }
}

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
        Mode::Off => "off",
    }
}
