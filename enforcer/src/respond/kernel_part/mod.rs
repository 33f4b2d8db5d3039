//! The kernel half as the responder sees it: whole, weaker than the policy asks, or off; and why.
//!
//! A program that cannot be attached leaves an earlier one in force, with its blocks. It is then
//! used as it is: its maps are read, written and shown, so that nobody is told "released" whose
//! packets are dropped. Attaching is tried again every [`TICKS_TO_RETRY`] ticks, unless an operator
//! detached it: then it waits for `enforcer kernel attach`, and says so.

mod hold;
mod report;
mod slots;

use std::fs::File;
use std::path::Path;

use enforcer_audit::{Audit, ConfigChange, ConfigEvent, Record};
use enforcer_kernel::{
    Attachment, BudgetClass, Budgets, Config, Counters, Entry, Events, Interface, Kernel, Mode,
    object_sha256,
};
use enforcer_model::{Author, Prefix, Timestamp};
use rustix::fs::{FlockOperation, flock};
use tracing::{debug, error, info, warn};

use super::throttled::{CLASS, with_throttled};
use crate::cli::chain;

pub(crate) use report::counter_name;
pub(super) use slots::{NoSlot, Seat};

/// Ticks between two tries to attach what could not be attached.
const TICKS_TO_RETRY: u32 = 30;

const UNWANTED: &str = "the policy has no [kernel] section";
const LENT: &str = "another agent takes it over";
const OLDER: &str = "an earlier program stays in force with its blocks";
const BY_HAND: &str = "DETACHED by an operator; `enforcer kernel attach` puts it back";

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
    /// An operator wants it off.
    off_by_hand: bool,
    /// What found no room in the maps.
    crowded: Option<String>,
    /// What is wrong at present, and what of it is on record.
    problem: Option<String>,
    recorded: Option<String>,
    /// Sources with a smaller packet budget, in a class of their own.
    throttled: Option<BudgetClass>,
    /// The counters that are on record, and when they were read.
    summed: Option<(Timestamp, Counters)>,
    ticks: u32,
}

struct Wanted {
    config: Config,
    allow: Vec<Prefix>,
}

/// Every block that is to have a slot; asked for when a program is attached.
pub(super) type Blocks<'a> = &'a dyn Fn() -> Vec<(Prefix, Entry)>;

/// Whether the kernel half came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Regained,
}

impl KernelPart {
    /// What `config` asks for; off until [`Self::attach`].
    pub(crate) fn new(config: Option<&Config>, allow: Vec<Prefix>) -> Self {
        Self {
            wanted: config.cloned().map(|config| Wanted { config, allow }),
            kernel: None,
            lock: None,
            unattached: None,
            off_by_hand: false,
            crowded: None,
            problem: None,
            recorded: None,
            throttled: None,
            summed: None,
            ticks: 0,
        }
    }

    /// Attaches what is wanted; what keeps it from working is told, and layer 7 goes on.
    pub(super) fn attach(&mut self, blocks: Blocks<'_>) {
        self.off_by_hand = false;
        self.try_attach(blocks);
        match (&self.problem, &self.wanted) {
            (None, _) => info!(interfaces = ?self.interfaces(), "kernel part is on"),
            (Some(why), Some(_)) => {
                error!(why, "KERNEL PART IS OFF or weaker than the policy asks");
            }
            (Some(why), None) => {
                warn!(why, "the kernel part is off: requests are refused at layer 7 only");
            }
        }
    }

    /// Leaves the program, its maps and pins to another agent. What they hold stays in force.
    pub(super) fn lend(&mut self, audit: &Audit, now: Timestamp) {
        self.summarise(audit, now);
        self.kernel = None;
        self.lock = None;
        self.unattached = Some(LENT.to_owned());
        self.summed = None;
        self.check();
        self.recorded.clone_from(&self.problem);
    }

    /// Takes the program off this host until an operator asks for it again; what is left of it.
    pub(super) fn detach(&mut self) -> Result<(), String> {
        let Some(kernel) = self.kernel.take() else {
            return Err(self.off_because().unwrap_or_default());
        };
        let detached = kernel.detach().map_err(|error| hinted(&error, error.hint()));
        if let Err(why) = &detached {
            self.kernel = self.open_earlier();
            self.unattached = Some(format!("half detached: {why}"));
        } else {
            self.unattached = Some(BY_HAND.to_owned());
            self.lock = None;
        }
        self.off_by_hand = true;
        self.summed = None;
        self.check();
        self.recorded.clone_from(&self.problem);
        detached
    }

    /// Puts this program's own in the place of the one that runs.
    pub(super) fn upgrade(&mut self) -> Result<String, String> {
        let Some(kernel) = &mut self.kernel else {
            return Err(self.off_because().unwrap_or_default());
        };
        let upgraded = kernel.upgrade().map_err(|error| hinted(&error, error.hint()));
        self.check();
        upgraded.map(|upgraded| report::upgraded(&upgraded))
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

    /// Networks of one family that the policy gives room for.
    pub(crate) fn room(&self) -> Option<usize> {
        let blocks = self.wanted.as_ref()?.config.blocks;
        usize::try_from(blocks).ok()
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

    /// Puts what a new policy says in force, as far as it goes without a restart, and says what of
    /// it is not.
    pub(crate) fn reconfigure(&mut self, next: Option<&Config>, allow: &[Prefix]) -> Vec<String> {
        let mut problems = Vec::new();
        if let (Some(wanted), Some(next)) = (&mut self.wanted, next) {
            wanted.config = Config {
                interfaces: wanted.config.interfaces.clone(),
                attach: wanted.config.attach,
                blocks: wanted.config.blocks,
                sources: wanted.config.sources,
                pins: wanted.config.pins.clone(),
                ..next.clone()
            };
            wanted.allow = allow.to_vec();
        }
        let throttled = self.throttled.as_ref();
        let budgets = next.map(|next| budgets(&next.budgets, throttled));
        let Some(kernel) = &mut self.kernel else { return problems };
        if let Err(error) = kernel.set_allow(allow) {
            problems.push(format!("never-block lists in the kernel: {}", chain(&error)));
        }
        let (Some(next), Some(budgets)) = (next, budgets) else { return problems };
        let applied: [(&str, Result<(), String>); 4] = [
            ("budgets", kernel.set_budgets(&budgets).map_err(|error| chain(&error))),
            ("egress", kernel.set_egress(next.egress).map_err(|error| chain(&error))),
            ("lease", kernel.set_on_agent_loss(next.on_agent_loss).map_err(|error| chain(&error))),
            ("mode", kernel.set_mode(next.mode).map_err(|error| chain(&error))),
        ];
        for (what, applied) in applied {
            problems.extend(applied.err().map(|why| format!("{what} in the kernel: {why}")));
        }
        self.check();
        problems
    }

    /// Gives the networks of `class`, and nobody else, its budget beside those of the policy; those
    /// that the policy does not keep from it, read back where they are enforced.
    pub(super) fn set_throttled(
        &mut self,
        class: Option<BudgetClass>,
    ) -> Result<Vec<Prefix>, String> {
        self.throttled = class;
        let Some(wanted) = &self.wanted else { return Err(UNWANTED.to_owned()) };
        let budgets = budgets(&wanted.config.budgets, self.throttled.as_ref());
        if self.kernel.is_none() {
            return Err(self.off_because().unwrap_or_default());
        }
        let Some(kernel) = &mut self.kernel else { return Ok(Vec::new()) };
        kernel.set_budgets(&budgets).map_err(|error| hinted(&error, error.hint()))?;
        let own = budgets.classes.into_iter().find(|class| &*class.name == CLASS);
        let networks = own.map(|class| class.networks).unwrap_or_default();
        let Some(network) = networks.first() else { return Ok(networks) };
        let explained = kernel.explain(network.address()).map_err(|error| chain(&error))?;
        match explained.budget.and_then(|budget| budget.class) {
            Some(name) if name == CLASS => Ok(networks),
            // A block of the same source is judged before its budget.
            _ if explained.block.is_some() || explained.allowed_by.is_some() => Ok(networks),
            other => Err(format!(
                "{network} is to be throttled and the kernel has it under {}",
                other.unwrap_or_else(|| "everybody's budget".to_owned())
            )),
        }
    }

    /// Remembers what found no room, for `status`.
    pub(super) fn set_crowded(&mut self, crowded: Option<String>) {
        if self.crowded != crowded {
            self.crowded = crowded;
            self.check();
        }
    }

    /// Says that the agent lives, records what was dropped, and puts right an interface that lost
    /// its program or came back.
    pub(super) fn look_after(
        &mut self,
        audit: &Audit,
        now: Timestamp,
        blocks: Blocks<'_>,
    ) -> Change {
        self.ticks = self.ticks.wrapping_add(1);
        self.renew_lease();
        self.summarise(audit, now);
        let was_off = self.unattached.is_some();
        let mut is_anew = false;
        if was_off && self.wanted.is_some() {
            if self.ticks.is_multiple_of(TICKS_TO_RETRY) && !self.off_by_hand {
                self.try_attach(blocks);
            }
        } else {
            self.hold_to_policy(audit);
            self.check();
            if self.has_lost_interfaces() && self.wanted.is_some() {
                // What is mended at once is on record as well.
                self.tell(audit);
                is_anew = self.put_back(blocks);
            }
        }
        self.tell(audit);
        let is_whole = self.unattached.is_none();
        if (was_off || is_anew) && is_whole { Change::Regained } else { Change::None }
    }

    fn renew_lease(&mut self) {
        if let Some(kernel) = &mut self.kernel
            && let Err(error) = kernel.renew_lease()
        {
            debug!(error = chain(&error), "the lease cannot be renewed");
        }
    }

    fn try_attach(&mut self, blocks: Blocks<'_>) {
        // Its maps are opened anew; two owners of them would not know of each other's writes.
        self.kernel = None;
        let attached = match &self.wanted {
            None => Err(UNWANTED.to_owned()),
            Some(wanted) => lock_pins(&wanted.config.pins, &mut self.lock).and_then(|()| {
                let budgets = budgets(&wanted.config.budgets, self.throttled.as_ref());
                let config = Config { budgets, ..wanted.config.clone() };
                Kernel::attach(&config, &wanted.allow, &blocks())
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
        let attached = match (&self.unattached, &self.kernel) {
            (Some(why), Some(_)) => Some(format!("{OLDER}: {why}")),
            (Some(why), None) => Some(why.clone()),
            (None, _) => self.lost_interfaces(),
        };
        let parts = [attached, self.crowded.clone()];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        self.problem = (!parts.is_empty()).then(|| parts.join("; "));
    }

    fn has_lost_interfaces(&self) -> bool {
        self.unattached.is_none() && self.lost_interfaces().is_some()
    }

    fn lost_interfaces(&self) -> Option<String> {
        let is_on = |attachment: &Attachment| matches!(attachment, Attachment::Attached { .. });
        match self.read_interfaces() {
            Ok(interfaces) => {
                let is_lost = |interface: &&Interface| {
                    !is_on(&interface.attachment)
                        || interface.egress.as_ref().is_some_and(|egress| !is_on(egress))
                };
                let lost = interfaces.iter().filter(is_lost);
                let lost: Vec<_> = lost.map(report::described).collect();
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
        let what = match &self.problem {
            Some(_) => ConfigEvent::KernelLost,
            None => ConfigEvent::KernelAttached,
        };
        if self.note(audit, what, None, self.problem.clone()).is_none() {
            return;
        }
        match &self.problem {
            Some(problem) => error!(problem, "the kernel part is weaker than the policy asks"),
            None => info!("the kernel part is whole again"),
        }
        self.recorded.clone_from(&self.problem);
    }

    /// Records what became of the program.
    pub(super) fn note(
        &self,
        audit: &Audit,
        what: ConfigEvent,
        by: Option<Author>,
        detail: Option<String>,
    ) -> Option<enforcer_audit::Ticket> {
        let change = ConfigChange {
            what,
            by,
            policy: None,
            program: None,
            kernel_program: object_sha256(),
            detail,
        };
        audit.reserve().ok().map(|slot| slot.write(Record::Config(change)))
    }

    fn read_interfaces(&self) -> Result<Vec<Interface>, String> {
        let Some(kernel) = &self.kernel else { return Ok(Vec::new()) };
        kernel.interfaces().map_err(|error| format!("the interfaces cannot be read: {error}"))
    }

    fn mode(&self) -> Option<Mode> {
        self.kernel.as_ref()?.mode().ok()
    }
}

/// What the policy says, and who is throttled.
fn budgets(policy: &Budgets, throttled: Option<&BudgetClass>) -> Budgets {
    Budgets { classes: with_throttled(&policy.classes, throttled), ..policy.clone() }
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

pub(super) fn hinted(
    error: &dyn std::error::Error,
    hint: Option<impl std::fmt::Display>,
) -> String {
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
