//! The verdict that the kernel would give now, step by step.
//!
//! The same lines that the kernel runs, compiled for this host, over the same memory that the
//! kernel reads. What they would change is a copy, so nothing is spent, counted or reported.

use std::fmt;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use enforcer_ebpf::config::flag;
use enforcer_ebpf::escalation::Escalation;
use enforcer_ebpf::flood::State;
use enforcer_ebpf::source::set_of;
use enforcer_ebpf::{
    Class, Config, Direction, Event, Lists, Mode as Word, Packet, Reason, Set, Shared, Tables,
    Transport, V4, V6, Verdict, budget, quarantine,
};
use enforcer_model::Prefix;

use crate::blocks::{BlockTable, Blocks};
use crate::budgets::{Classes, class_of};
use crate::error::MapError;
use crate::family::Family;
use crate::lease::monotonic_ns;
use crate::lists::NetworkList;
use crate::maps::ConfigMap;
use crate::sources::{Left, Sources, Spending, owner};
use crate::system::boot_ns;
use crate::table::seed;
use crate::{Installed, Lease, Mode};

/// What would happen to a packet from an address, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What would happen.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// What was looked at, in order, in words.
    pub steps: Vec<String>,
    /// The block that names the address, whatever the verdict.
    pub block: Option<Installed>,
    /// What the address may still send; `None`: as much as it likes.
    pub budget: Option<BudgetLeft>,
    /// The network of the allow list that covers it.
    pub allowed_by: Option<Prefix>,
    /// No agent has been heard of for longer than its lease: nothing is dropped.
    pub lease_over: bool,
    /// What a match does.
    pub mode: Mode,
}

/// What is left of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetLeft {
    /// The name of its class, or its number where no agent knows the name; `None`: everybody's.
    pub class: Option<String>,
    /// Whose budget it is: the address, its /64, or a wider network that answers for it.
    pub payer: Prefix,
    /// Packets that would pass at once; `None`: they are not counted.
    pub packets_left: Option<u64>,
    /// Bytes that would pass at once; `None`: they are not counted.
    pub bytes_left: Option<u64>,
    /// TCP connections that could be opened at once; `None`: they are not counted.
    pub syns_left: Option<u64>,
    /// Packets since it is remembered; `None`: nothing has been heard of it.
    pub packets_seen: Option<u64>,
}

/// Everything that a verdict depends on.
pub(crate) struct Maps<'k> {
    pub(crate) config: &'k ConfigMap,
    pub(crate) blocks4: &'k Blocks<V4>,
    pub(crate) blocks6: &'k Blocks<V6>,
    pub(crate) allow4: &'k NetworkList<V4>,
    pub(crate) allow6: &'k NetworkList<V6>,
    pub(crate) classes: &'k Classes,
    pub(crate) sources: &'k Sources,
}

/// The same as the program sees it, with copies of what a verdict would change.
struct View<'k> {
    maps: &'k Maps<'k>,
    v4: Side<'k, V4>,
    v6: Side<'k, V6>,
    state: State<Shared>,
    common: OnceLock<Vec<Shared>>,
}

/// One family's part.
struct Side<'k, F: Family> {
    blocks: &'k Blocks<F>,
    allow: &'k NetworkList<F>,
    classes: &'k NetworkList<F>,
    sources: &'k [Set<Shared>],
    /// The set of the address.
    set: OnceLock<Set<Shared>>,
}

/// A packet that opens nothing and may go to any port.
struct Ordinary;

/// What was found out so far.
struct Finding {
    verdict: Verdict,
    reason: Reason,
    block: Option<Installed>,
    budget: Option<BudgetLeft>,
}

impl Maps<'_> {
    /// The verdict on a packet from `address`: an ordinary one, of a connection that stands.
    pub(crate) fn explain(&self, address: IpAddr) -> Result<Explained, MapError> {
        let address = address.to_canonical();
        let mode = mode(self.config);
        let lease = Lease::at(monotonic_ns(), self.config.lease_ns.get());
        let lease_over = matches!(lease, Lease::Over(_));
        let mut steps = vec![in_force(mode, lease)];
        let view = View::new(self);
        let found = match (V4::from_ip(address), V6::from_ip(address)) {
            (Some(source), _) => view.judge(source, address, &view.v4, &mut steps),
            (None, Some(source)) => view.judge(source, address, &view.v6, &mut steps),
            (None, None) => None,
        };
        let allowed_by = match address {
            IpAddr::V4(_) => self.allow4.around(address)?,
            IpAddr::V6(_) => self.allow6.around(address)?,
        };
        let allowed_by = allowed_by.map(|(network, _)| network);
        let Finding { mut verdict, mut reason, block, budget } = found.unwrap_or(Finding {
            verdict: Verdict::Pass,
            reason: Reason::Off,
            block: None,
            budget: None,
        });
        let list = if address.is_ipv4() { V4::ALLOW } else { V6::ALLOW };
        match allowed_by {
            Some(network) if reason.drops() => {
                (verdict, reason) = (Verdict::Pass, Reason::Allowed);
                steps.push(format!(
                    "{list}: {network} is never dropped, whatever speaks against it"
                ));
            }
            Some(network) => steps.push(format!("{list}: {network} would never be dropped")),
            None if reason.drops() => steps.push(format!(
                "{list}: not on it; only what a network breaks without would still pass \
                 (neighbour discovery, path MTU, DHCP)"
            )),
            None => {}
        }
        steps.push(format!("{verdict} ({reason})"));
        Ok(Explained { verdict, reason, steps, block, budget, allowed_by, lease_over, mode })
    }
}

impl<'k> View<'k> {
    fn new(maps: &'k Maps<'k>) -> Self {
        let state = maps.sources.state.first();
        let copy = |word: fn(&State<Shared>) -> &Shared| {
            Shared::new(state.map_or(0, |state| word(state).get()))
        };
        let Maps { classes, sources, .. } = maps;
        Self {
            maps,
            v4: Side::new(maps.blocks4, maps.allow4, &classes.v4, &sources.v4),
            v6: Side::new(maps.blocks6, maps.allow6, &classes.v6, &sources.v6),
            state: State {
                second: copy(|state| &state.second),
                newcomers: copy(|state| &state.newcomers),
                flood_until_ns: copy(|state| &state.flood_until_ns),
                escalated_until_ns: copy(|state| &state.escalated_until_ns),
                ..State::default()
            },
            common: OnceLock::new(),
        }
    }

    /// What speaks against the address, as the program goes about it; `None` when it does not look.
    fn judge<F: Family>(
        &self,
        source: F,
        address: IpAddr,
        side: &Side<'_, F>,
        steps: &mut Vec<String>,
    ) -> Option<Finding> {
        let config: &Config<Shared> = self.maps.config;
        if self.maps.config.mode.get() == 0 {
            return None;
        }
        let observed = mode(config) != Mode::Enforce
            || matches!(Lease::at(monotonic_ns(), config.lease_ns.get()), Lease::Over(_));
        let block = side.block(source, address, config, self, steps);
        let budget = self.budget(source, side, config);
        if let Some(block) = block {
            let verdict = if observed || block.observe { Verdict::Pass } else { Verdict::Drop };
            return Some(Finding { verdict, reason: Reason::Blocked, block: Some(block), budget });
        }
        let excess = budget::spend((&Ordinary, Ordinary.length()), source, config, side, self);
        steps.push(match (&budget, &excess) {
            (None, _) => "CLASS: no budget for it".to_owned(),
            (Some(left), None) => format!("{}: {left}", F::SOURCE),
            (Some(left), Some(excess)) => {
                format!("{}: over its budget ({}); {left}", F::SOURCE, excess.reason)
            }
        });
        let (verdict, reason) = match excess {
            None => (Verdict::Pass, Reason::Clean),
            Some(excess) if observed || excess.observe => (Verdict::Pass, excess.reason),
            Some(excess) => (Verdict::Drop, excess.reason),
        };
        Some(Finding { verdict, reason, block: None, budget })
    }

    /// What is left of a budget before anything is spent.
    fn budget<F: Family>(
        &self,
        source: F,
        side: &Side<'_, F>,
        config: &Config<Shared>,
    ) -> Option<BudgetLeft> {
        if !config.has(flag::BUDGETS) {
            return None;
        }
        let now_ns = monotonic_ns();
        let number = if config.has(flag::CLASSES) { class_of(side.classes, source) } else { 0 };
        let class = self.maps.classes.get(number)?;
        let (payer, _) = source.payer(config, self, now_ns);
        let set = usize::try_from(set_of(payer, seed(config), F::source_mask(config))).ok()?;
        let set = side.sources.get(set)?;
        let way = set.key.iter().position(|key| key.get() == payer);
        let spending = way.map(|way| Spending::of(set, way));
        let left = spending.unwrap_or_default().left(class, now_ns);
        let Left { packets, bytes, syns } = left;
        if (packets, bytes, syns) == (None, None, None) {
            return None;
        }
        let name =
            || self.maps.classes.name(number).map_or_else(|| number.to_string(), str::to_owned);
        Some(BudgetLeft {
            class: (number != 0).then(name),
            payer: owner(payer),
            packets_left: packets,
            bytes_left: bytes,
            syns_left: syns,
            packets_seen: spending.map(|spending| spending.tally.packets()),
        })
    }
}

impl<'k, F: Family> Side<'k, F> {
    const fn new(
        blocks: &'k Blocks<F>,
        allow: &'k NetworkList<F>,
        classes: &'k NetworkList<F>,
        sources: &'k [Set<Shared>],
    ) -> Self {
        Self { blocks, allow, classes, sources, set: OnceLock::new() }
    }

    /// The block that the program would find.
    fn block(
        &self,
        source: F,
        address: IpAddr,
        config: &Config<Shared>,
        view: &View<'_>,
        steps: &mut Vec<String>,
    ) -> Option<Installed> {
        let table = F::table(config);
        let lengths = self.blocks.lengths();
        if table.rows == 0 || lengths.count() == 0 {
            steps.push(format!("{}: no blocks at all", F::BLOCK));
            return None;
        }
        let span = F::span(source.levels(config, self));
        if span.misses(F::lengths(config), F::BITS) {
            steps.push(format!("{}: no block touches its neighbourhood", F::PREFILTER));
            return None;
        }
        steps.push(format!("{}: its neighbourhood may be touched by a block", F::PREFILTER));
        let hit = quarantine::find(source, 0, config, self, view);
        let length = u8::try_from(hit.length()).ok().filter(|_| hit.is_some());
        let found = length.and_then(|length| {
            let prefix = Prefix::around(address, length);
            let block = self.blocks.find(prefix)?;
            Some(Installed::new(prefix, &block, boot_ns()))
        });
        steps.push(match &found {
            None => format!("{}: none of its networks is blocked", F::BLOCK),
            Some(block) => {
                let effect = if block.observe { "observed only" } else { "blocked" };
                let end = block.remaining.map_or_else(
                    || "until it is released".to_owned(),
                    |left| format!("for another {}", in_words(left)),
                );
                let (packets, bytes) = (block.packets, block.bytes);
                let (network, id) = (block.prefix, block.id);
                format!(
                    "{}: {network} is {effect} {end} by {id}; it has met {packets} packets, \
                     {bytes} bytes",
                    F::BLOCK
                )
            }
        });
        found
    }
}

impl<'k> Tables for View<'k> {
    type V4 = Side<'k, V4>;
    type V6 = Side<'k, V6>;

    fn config(&self) -> Option<&Config<Shared>> {
        Some(self.maps.config)
    }

    fn boot_ns(&self) -> u64 {
        boot_ns()
    }

    fn boot_coarse_ns(&self) -> u64 {
        self.boot_ns()
    }

    fn monotonic_ns(&self) -> u64 {
        monotonic_ns()
    }

    fn coarse_ns(&self) -> u64 {
        monotonic_ns()
    }

    fn v4(&self) -> &Self::V4 {
        &self.v4
    }

    fn v6(&self) -> &Self::V6 {
        &self.v6
    }

    fn class(&self, number: u64) -> Option<&Class<Shared>> {
        self.maps.classes.get(u32::try_from(number).ok()?)
    }

    fn state(&self) -> Option<&State<Shared>> {
        Some(&self.state)
    }

    fn common(&self, index: u32) -> Option<&Shared> {
        let copy = || self.maps.sources.common.iter().map(|it| Shared::new(it.get())).collect();
        self.common.get_or_init(copy).get(usize::try_from(index).ok()?)
    }

    fn escalation(&self, index: u32) -> Option<&Escalation<Shared>> {
        self.maps.sources.escalated.get(usize::try_from(index).ok()?)
    }

    fn reported(&self, _: u32) -> Option<&Shared> {
        None
    }

    fn count(&self, _: Direction, _: Verdict, _: Reason, _: u64) {}

    fn report(&self, _: &Event) {}

    fn lose(&self) {}
}

impl<F: Family> Lists<F> for Side<'_, F> {
    fn row(&self, table: u32, index: u32) -> Option<&F::Row> {
        if self.blocks.word().index != table {
            return None;
        }
        self.blocks.table()?.rows().get(usize::try_from(index).ok()?)
    }

    fn prefilter(&self, word: u32) -> Option<&Shared> {
        self.blocks.prefilter().get(usize::try_from(word).ok()?)
    }

    fn allows(&self, address: F) -> bool {
        self.allow.get(address).is_some()
    }

    fn class(&self, address: F) -> Option<u32> {
        self.classes.get(address)
    }

    /// A copy of the first that is asked for: one packet has one payer.
    fn sources(&self, set: u32) -> Option<&Set<Shared>> {
        let set = self.sources.get(usize::try_from(set).ok()?)?;
        let copy = |words: &[Shared; 4]| words.each_ref().map(|word| Shared::new(word.get()));
        Some(self.set.get_or_init(|| Set {
            key: copy(&set.key),
            spent: copy(&set.spent),
            bytes: copy(&set.bytes),
            tally: copy(&set.tally),
        }))
    }

    fn peers(&self, _: u32) -> Option<&Set<Shared>> {
        None
    }
}

impl Packet for Ordinary {
    fn load<const N: usize>(&self, _: usize) -> Option<[u8; N]> {
        None
    }

    fn length(&self) -> u64 {
        64
    }

    fn transport(&self) -> Transport {
        Transport::UNKNOWN
    }
}

impl fmt::Display for BudgetLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self
            .class
            .as_deref()
            .map_or("everybody's class".to_owned(), |class| format!("class `{class}`"));
        match self.packets_seen {
            Some(seen) => write!(f, "{}, {class}, {seen} packets so far", self.payer)?,
            None => write!(f, "{}, {class}, not heard of yet", self.payer)?,
        }
        let left = [
            (self.packets_left, "packets"),
            (self.bytes_left, "bytes"),
            (self.syns_left, "TCP connections"),
        ];
        left.into_iter()
            .filter_map(|(left, what)| Some((left?, what)))
            .try_for_each(|(left, what)| write!(f, ", {left} {what} left"))
    }
}

/// What a match does.
pub(crate) fn mode(config: &Config<Shared>) -> Mode {
    match Word::from_word(config.mode.get()) {
        Word::Enforce => Mode::Enforce,
        Word::Observe => Mode::Observe,
        Word::Off => Mode::Off,
    }
}

fn in_force(mode: Mode, lease: Lease) -> String {
    let mode = match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe: a match is counted and passes",
        Mode::Off => "off: nothing is looked at",
    };
    match lease {
        Lease::Unlimited => format!("CONFIG: mode {mode}"),
        Lease::Left(left) => format!("CONFIG: mode {mode}; lease for another {}", in_words(left)),
        Lease::Over(since) => {
            format!(
                "CONFIG: mode {mode}; no agent for too long, so it observes since {} ago",
                in_words(since)
            )
        }
    }
}

fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, _, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_in_words() {
        let left = BudgetLeft {
            class: Some("partners".to_owned()),
            payer: "192.0.2.7".parse().unwrap(),
            packets_left: Some(7),
            bytes_left: None,
            syns_left: Some(0),
            packets_seen: None,
        };

        assert_eq!(
            left.to_string(),
            "192.0.2.7, class `partners`, not heard of yet, 7 packets left, 0 TCP connections left"
        );
        assert_eq!(in_words(Duration::from_secs(3_700)), "1h 1m");
        assert_eq!(in_words(Duration::from_secs(59)), "59s");
    }

    #[test]
    fn a_lease_that_is_over_is_told_first() {
        let told = in_force(Mode::Enforce, Lease::Over(Duration::from_secs(61)));

        assert!(told.contains("observes since 1m 1s ago"), "{told}");
    }
}
