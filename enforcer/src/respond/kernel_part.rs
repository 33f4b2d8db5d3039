//! The kernel half as the responder sees it: whole, weaker than the policy asks, or off; and why.
//!
//! A program that cannot be attached leaves an earlier one in force, with its blocks. It is then
//! used as it is: its maps are read, written and shown, so that nobody is told "released" whose
//! packets are dropped. Attaching is tried again every [`TICKS_TO_RETRY`] ticks.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use enforcer_admin::call::InKernel;
use enforcer_audit::{Audit, ConfigChange, ConfigEvent, KernelCount, KernelSummary, Layer, Record};
use enforcer_kernel::{
    Attachment, Config, Counter, Counters, Entry, Events, Hook, Installed, Interface, Kernel, Mode,
    Verdict,
};
use enforcer_model::{Block, Expiry, Prefix, Timestamp};
use rustix::fs::{FlockOperation, flock};
use tracing::{debug, error, info, warn};

use super::{KernelView, as_micros};
use crate::cli::chain;

/// Ticks between two tries to attach what could not be attached.
const TICKS_TO_RETRY: u32 = 30;

const UNWANTED: &str = "the policy has no [kernel] section";
const OLDER: &str = "an earlier program stays in force with its blocks";

/// The kernel half.
pub(crate) struct KernelPart {
    /// What the policy asks for.
    wanted: Option<Wanted>,
    /// The maps in force: those of the attached program, or of an earlier one.
    kernel: Option<Kernel>,
    /// Keeps another agent off the same pins.
    lock: Option<File>,
    /// Why the program is not attached as wanted.
    unattached: Option<String>,
    /// What is wrong at present, and what of it is on record.
    problem: Option<String>,
    recorded: Option<String>,
    /// The counters that are on record, and when they were read.
    summed: Option<(Timestamp, Counters)>,
    ticks: u32,
}

struct Wanted {
    config: Config,
    allow: Vec<Prefix>,
}

/// Whether the kernel half came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Regained,
}

/// Where entries have effect at this moment, read once for many of them.
pub(super) struct Seat {
    interfaces: Vec<String>,
    observes: bool,
}

impl KernelPart {
    /// Attaches what `config` asks for; what keeps it from working is told, and layer 7 goes on.
    pub(crate) fn attach(config: Option<&Config>, allow: Vec<Prefix>) -> Self {
        let mut part = Self {
            wanted: config.cloned().map(|config| Wanted { config, allow }),
            kernel: None,
            lock: None,
            unattached: None,
            problem: None,
            recorded: None,
            summed: None,
            ticks: 0,
        };
        part.try_attach();
        match (&part.problem, &part.wanted) {
            (None, _) => info!(interfaces = ?part.interfaces(), "kernel part is on"),
            (Some(why), Some(_)) => {
                error!(why, "KERNEL PART IS OFF or weaker than the policy asks");
            }
            (Some(why), None) => {
                warn!(why, "the kernel part is off: requests are refused at layer 7 only");
            }
        }
        part
    }

    /// Why packets are not dropped, if they are not.
    pub(crate) fn off_because(&self) -> Option<String> {
        match &self.kernel {
            Some(_) => None,
            None => Some(self.problem.clone().unwrap_or_else(|| UNWANTED.to_owned())),
        }
    }

    /// Whether the policy asks for it.
    pub(crate) const fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// One line for the record of a start.
    pub(crate) fn described(&self) -> String {
        match (&self.kernel, &self.problem) {
            (Some(_), None) => format!("kernel part on: {}", self.interfaces().join(", ")),
            (_, Some(problem)) => format!("kernel part: {problem}"),
            (None, None) => format!("kernel part off: {UNWANTED}"),
        }
    }

    /// What the program tells while it runs; once.
    pub(crate) fn take_events(&mut self) -> Option<Events> {
        match self.kernel.as_mut()?.take_events() {
            Ok(events) => Some(events),
            Err(error) => {
                warn!(error = chain(&error), "the kernel's events cannot be read");
                None
            }
        }
    }

    pub(crate) fn block(
        &mut self,
        prefix: Prefix,
        block: &Block,
        now: Timestamp,
    ) -> Result<Installed, String> {
        let Some(kernel) = &mut self.kernel else {
            return Err("the kernel part is off".to_owned());
        };
        let expires = match block.until {
            Expiry::At(end) => Some(end.since(now)),
            Expiry::Never => None,
        };
        let entry = Entry { id: block.id, expires, observe: false };
        kernel.block(prefix, entry).map_err(|error| hinted(&error, error.hint()))
    }

    pub(crate) fn release(&mut self, prefix: Prefix) -> Result<Option<Installed>, String> {
        let Some(kernel) = &mut self.kernel else { return Ok(None) };
        kernel.release(prefix).map_err(|error| hinted(&error, error.hint()))
    }

    pub(crate) fn find(&self, prefix: Prefix) -> Result<Option<Installed>, String> {
        let Some(kernel) = &self.kernel else { return Ok(None) };
        kernel.find(prefix).map_err(|error| hinted(&error, error.hint()))
    }

    /// Every entry that the kernel holds.
    pub(crate) fn entries(&self) -> Result<Vec<Installed>, String> {
        let Some(kernel) = &self.kernel else { return Ok(Vec::new()) };
        kernel.blocks().map_err(|error| hinted(&error, error.hint()))
    }

    /// Where entries have effect.
    pub(super) fn seat(&self) -> Seat {
        Seat {
            interfaces: self.interfaces(),
            observes: self.mode().is_some_and(|mode| mode != Mode::Enforce),
        }
    }

    /// The attached interfaces, for a record.
    pub(crate) fn layers(&self) -> Vec<Layer> {
        let attached = self.read_interfaces().unwrap_or_default().into_iter();
        let layers = attached.filter_map(|interface| {
            let mode = match interface.attachment {
                Attachment::Attached { hook, .. } => hook_name(hook).to_owned(),
                Attachment::Detached | Attachment::Missing => return None,
            };
            Some(Layer::Kernel { interface: interface.name, mode })
        });
        layers.collect()
    }

    pub(crate) fn view(&self, blocks: u64) -> KernelView {
        let problem = match &self.kernel {
            None => self.off_because(),
            Some(_) => self.problem.clone(),
        };
        KernelView {
            mode: match &self.kernel {
                Some(_) => self.mode().map_or("unknown", mode_name).to_owned(),
                None => "off".to_owned(),
            },
            problem,
            interfaces: self.interfaces(),
            counters: self.kernel.as_ref().and_then(|kernel| kernel.counters().ok()),
            blocks,
        }
    }

    /// Puts what a new policy says in force, as far as it goes without a restart, and says what of
    /// it is not.
    pub(crate) fn reconfigure(&mut self, next: Option<&Config>, allow: &[Prefix]) -> Vec<String> {
        let mut problems = Vec::new();
        if let (Some(wanted), Some(next)) = (&mut self.wanted, next) {
            wanted.config.mode = next.mode;
            wanted.config.budget = next.budget;
            wanted.allow = allow.to_vec();
        }
        let Some(kernel) = &mut self.kernel else { return problems };
        if let Err(error) = kernel.set_allow(allow) {
            problems.push(format!("never-block lists in the kernel: {}", chain(&error)));
        }
        let Some(next) = next else { return problems };
        let applied = kernel.set_mode(next.mode).and_then(|()| kernel.set_budget(next.budget));
        if let Err(error) = applied {
            problems.push(format!("mode and budget in the kernel: {}", chain(&error)));
        }
        problems
    }

    /// Frees the room of entries that are over; they drop nothing.
    pub(crate) fn sweep(&mut self) {
        if let Some(kernel) = &mut self.kernel
            && let Err(error) = kernel.sweep()
        {
            debug!(error = chain(&error), "expired entries stay in the kernel map");
        }
    }

    /// Records what was dropped, and puts right an interface that lost its program or came back.
    pub(crate) fn look_after(&mut self, audit: &Audit, now: Timestamp) -> Change {
        self.ticks = self.ticks.wrapping_add(1);
        self.summarise(audit, now);
        let was_off = self.unattached.is_some();
        if was_off && self.wanted.is_some() {
            if self.ticks.is_multiple_of(TICKS_TO_RETRY) {
                self.try_attach();
            }
        } else {
            self.check();
            if self.problem.is_some()
                && let Some(kernel) = &mut self.kernel
                && self.wanted.is_some()
            {
                if let Err(error) = kernel.reattach() {
                    debug!(error = chain(&error), "the kernel part cannot be put back");
                }
                self.check();
            }
        }
        self.tell(audit);
        if was_off && self.unattached.is_none() { Change::Regained } else { Change::None }
    }

    fn try_attach(&mut self) {
        let attached = match &self.wanted {
            None => Err(UNWANTED.to_owned()),
            Some(wanted) => lock_pins(&wanted.config.pins, &mut self.lock).and_then(|()| {
                Kernel::attach(&wanted.config, &wanted.allow)
                    .map_err(|error| hinted(&error, error.hint()))
            }),
        };
        match attached {
            Ok(kernel) => {
                self.kernel = Some(kernel);
                self.unattached = None;
                if let Some(wanted) = &self.wanted
                    && let Err(error) = lock_pins(&wanted.config.pins, &mut self.lock)
                {
                    warn!(error, "another agent may write to the same maps");
                }
            }
            Err(why) => {
                self.kernel = self.open_earlier();
                self.unattached = Some(why);
            }
        }
        self.check();
    }

    /// What an earlier agent left in force, where this one holds the lock on it.
    fn open_earlier(&mut self) -> Option<Kernel> {
        let usual = Path::new("/sys/fs/bpf/enforcer");
        let pins = self.wanted.as_ref().map_or(usual, |wanted| &wanted.config.pins).to_owned();
        lock_pins(&pins, &mut self.lock).ok()?;
        Kernel::open_pinned(&pins).ok()
    }

    fn check(&mut self) {
        self.problem = match (&self.unattached, &self.kernel) {
            (Some(why), Some(_)) => Some(format!("{OLDER}: {why}")),
            (Some(why), None) => Some(why.clone()),
            (None, _) => self.lost_interfaces(),
        };
    }

    fn lost_interfaces(&self) -> Option<String> {
        match self.read_interfaces() {
            Ok(interfaces) => {
                let is_lost = |interface: &&Interface| {
                    !matches!(interface.attachment, Attachment::Attached { .. })
                };
                let lost: Vec<_> = interfaces.iter().filter(is_lost).map(described).collect();
                (!lost.is_empty()).then(|| lost.join(", "))
            }
            Err(why) => Some(why),
        }
    }

    /// Logs and records a change for the worse or the better; without room in the log, later.
    fn tell(&mut self, audit: &Audit) {
        if self.problem == self.recorded || self.wanted.is_none() {
            return;
        }
        let Ok(slot) = audit.reserve() else { return };
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
        let detail = self.problem.clone();
        self.recorded.clone_from(&self.problem);
        let change = ConfigChange {
            what,
            by: None,
            policy: None,
            program: None,
            kernel_program: None,
            detail,
        };
        drop(slot.write(Record::Config(change)));
    }

    /// Records what was dropped since the last summary; silence is not recorded.
    fn summarise(&mut self, audit: &Audit, now: Timestamp) {
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

    fn interfaces(&self) -> Vec<String> {
        match self.read_interfaces() {
            Ok(interfaces) => interfaces.iter().map(described).collect(),
            Err(why) => vec![why],
        }
    }

    fn read_interfaces(&self) -> Result<Vec<Interface>, String> {
        let Some(kernel) = &self.kernel else { return Ok(Vec::new()) };
        kernel.interfaces().map_err(|error| format!("the interfaces cannot be read: {error}"))
    }

    fn mode(&self) -> Option<Mode> {
        self.kernel.as_ref()?.mode().ok()
    }
}

impl Seat {
    /// One entry, for an answer.
    pub(super) fn describe(&self, entry: &Installed, took: Option<Duration>) -> InKernel {
        InKernel {
            interfaces: self.interfaces.clone(),
            applied_us: took.map_or(0, as_micros),
            remaining_seconds: entry.remaining.map(|left| left.as_secs()),
            packets: entry.packets,
            bytes: entry.bytes,
            observe: entry.observe || self.observes,
        }
    }
}

/// Takes the folder of pins for this process, once it is there.
fn lock_pins(pins: &Path, lock: &mut Option<File>) -> Result<(), String> {
    if lock.is_some() {
        return Ok(());
    }
    let Ok(folder) = File::open(pins) else { return Ok(()) };
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            *lock = Some(folder);
            Ok(())
        }
        Err(_) => Err(format!(
            "another agent holds the pins in {}; stop it, or give this one [kernel] pins of its own",
            pins.display()
        )),
    }
}

fn hinted(error: &dyn std::error::Error, hint: Option<impl std::fmt::Display>) -> String {
    let whole = chain(error);
    // The verifier's words run to thousands of lines; they are for whoever builds the program.
    let told = whole.lines().next().unwrap_or_default();
    if told.len() < whole.len() {
        debug!(error = whole, "the kernel's own words");
    }
    match hint {
        Some(hint) => format!("{told}; {hint}"),
        None => told.to_owned(),
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
