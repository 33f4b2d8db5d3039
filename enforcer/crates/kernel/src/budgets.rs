//! What sources may send, as the kernel half holds it: classes, who is in them, and the words of
//! `CONFIG` about floods and ports.
//!
//! A class is changed so that a packet which sees half of the change is at most let through: its
//! costs go first and come last. A name keeps its number for as long as an agent knows it, so that
//! nobody is for a moment in somebody else's class.

use std::sync::Arc;

use enforcer_ebpf::source::{CLASSES, MAX_SYNS, SPENT_NS, Spent};
use enforcer_ebpf::{Class, Ports, Set, Shared, V4, V6, flag, map};
use enforcer_model::Prefix;

use crate::error::{BlockError, MapError};
use crate::family::Family;
use crate::lists::{NetworkList, NotListed};
use crate::mapped::Mapped;
use crate::maps::{ConfigMap, open_mapped};
use crate::pins::Pins;
use crate::{Budget, BudgetClass, Budgets, Bytes, Packets};

/// Classes that may have a name: neither everybody's, nor the number that stands for "unknown".
const NAMED: std::ops::RangeInclusive<u32> = 1..=CLASSES - 2;

/// Ports that budgets may be limited to.
const MAX_PORTS: usize = 8;

/// Below this rate and burst of bytes the program cannot count.
const FEWEST_BYTES: u64 = 1 << 16;

/// Budget classes and who is in them.
pub(crate) struct Classes {
    values: Mapped<Class<Shared>>,
    pub(crate) v4: NetworkList<V4>,
    pub(crate) v6: NetworkList<V6>,
    /// Number and name, as far as this agent gave them.
    names: Vec<(u32, Arc<str>)>,
}

impl Classes {
    pub(crate) fn open(pins: &Pins) -> Result<Self, MapError> {
        Ok(Self {
            values: open_mapped(pins, map::CLASS)?,
            v4: NetworkList::open(pins, map::CLASS4)?,
            v6: NetworkList::open(pins, map::CLASS6)?,
            names: Vec::new(),
        })
    }

    /// What sources of a class may send.
    pub(crate) fn get(&self, number: u32) -> Option<&Class<Shared>> {
        self.values.get(usize::try_from(number).ok()?)
    }

    /// What the policy calls a class.
    pub(crate) fn name(&self, number: u32) -> Option<&str> {
        let named = self.names.iter().find(|(named, _)| *named == number);
        named.map(|(_, name)| name.as_ref())
    }

    /// Makes `budgets` what is in force. Nothing has changed when it does not fit.
    pub(crate) fn set(
        &mut self,
        budgets: &Budgets,
        config: &ConfigMap,
        sources: [&[Set<Shared>]; 2],
    ) -> Result<(), BlockError> {
        let names = number(&self.names, &budgets.classes)?;
        if budgets.ports.len() > MAX_PORTS {
            return Err(BlockError::TooManyPorts { ports: budgets.ports.len() });
        }
        let numbered = names.iter().zip(&budgets.classes);
        let networks: Vec<(Prefix, u32)> = numbered
            .clone()
            .flat_map(|((number, _), class)| class.networks.iter().map(|it| (*it, *number)))
            .collect();
        NetworkList::<V4>::check(&networks)?;
        NetworkList::<V6>::check(&networks)?;
        let mut classes = vec![Class::NONE; self.values.len()];
        let budget_of = numbered.map(|((number, _), class)| (*number, class.budget.as_ref()));
        for (number, budget) in budget_of.chain([(0, budgets.default.as_ref())]) {
            let class = usize::try_from(number).ok().and_then(|number| classes.get_mut(number));
            class.into_iter().for_each(|class| *class = encode(budget));
        }

        // What is switched off goes first, what is switched on comes last.
        let flags = flags(budgets);
        let others = config.flags.get() & !(flag::BUDGETS | flag::CLASSES | flag::SYNS);
        config.set(|config| &config.flags, others | config.flags.get() & flags)?;
        let used = |number: &usize| classes.get(*number).is_some_and(|it| *it != Class::NONE);
        let all = 0..classes.len();
        for number in all.clone().filter(used).chain(all.filter(|number| !used(number))) {
            if let (Some(shared), Some(class)) = (self.values.get(number), classes.get(number)) {
                change(shared, *class)?;
            }
        }
        let is_changed = [self.v4.set(&networks)?, self.v6.set(&networks)?].contains(&true);
        if is_changed {
            forget_classes(config, sources)?;
        }
        let Ports([ports, others_ports]) = Ports::of(&budgets.ports);
        config.set(
            |config| {
                let Ports([_, b]) = &config.ports;
                b
            },
            others_ports,
        )?;
        config.set(
            |config| {
                let Ports([a, _]) = &config.ports;
                a
            },
            ports,
        )?;
        let flood = budgets.flood.map_or(0, |rate| u64::from(rate.count()));
        config.set(|config| &config.flood_per_second, flood)?;
        let (after, within_ns, for_ns) = budgets.escalate.map_or((0, 0, 0), |escalate| {
            let ns = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            (u64::from(escalate.sources.get()), ns(escalate.within), ns(escalate.for_))
        });
        config.set(|config| &config.escalate_within_ns, within_ns)?;
        config.set(|config| &config.escalate_for_ns, for_ns)?;
        config.set(|config| &config.escalate_after, after)?;
        self.names = names;
        Ok(config.set(|config| &config.flags, others | flags)?)
    }
}

/// A number for each class, the one that it has where it has one.
fn number(
    held: &[(u32, Arc<str>)],
    classes: &[BudgetClass],
) -> Result<Vec<(u32, Arc<str>)>, BlockError> {
    let too_many = || BlockError::TooManyClasses { classes: classes.len() };
    if classes.len() > NAMED.count() {
        return Err(too_many());
    }
    let known = |name: &Arc<str>| held.iter().find(|(_, held)| held == name).map(|(it, _)| *it);
    let mut taken: Vec<u32> = classes.iter().filter_map(|class| known(&class.name)).collect();
    // A number that nobody had is better than one that another class had until now.
    let had = |number: &u32| held.iter().any(|(it, _)| it == number);
    let order: Vec<u32> = NAMED.filter(|it| !had(it)).chain(NAMED.filter(had)).collect();
    classes
        .iter()
        .map(|class| {
            let free = || order.iter().copied().find(|number| !taken.contains(number));
            let number = known(&class.name).or_else(free).ok_or_else(too_many)?;
            taken.push(number);
            Ok((number, Arc::clone(&class.name)))
        })
        .collect()
}

/// Never stricter than the budget.
fn encode(budget: Option<&Budget>) -> Class {
    // Whatever a source has spent of an earlier budget is not held against it.
    let unlimited = Class { packet_tolerance: u64::MAX, ..Class::NONE };
    let Some(Budget { packets, bytes, syns, penalty, observe }) = budget else { return unlimited };
    let penalty = u64::try_from(penalty.as_nanos()).unwrap_or(u64::MAX) / SPENT_NS;
    let class = match packets {
        Some(Packets { rate, burst }) => Class::NONE.packets(rate.count(), burst.get()),
        // A penalty is told by the clock of packets, which needs an end then.
        None if penalty != 0 => Class::NONE,
        None => unlimited,
    };
    let class = match bytes {
        Some(Bytes { rate, burst }) => {
            class.bytes((*rate).max(FEWEST_BYTES), (*burst).max(FEWEST_BYTES))
        }
        None => class,
    };
    let class = match syns {
        Some(Packets { rate, burst }) => class.syns(rate.count().min(MAX_SYNS), burst.get()),
        None => class,
    };
    // No longer than the kernel half's words hold: 26 years.
    Class { penalty: penalty.min(1 << 50), observe: u64::from(*observe), ..class }
}

fn flags(budgets: &Budgets) -> u64 {
    let all = || {
        let classes = budgets.classes.iter().filter_map(|class| class.budget.as_ref());
        budgets.default.iter().chain(classes)
    };
    let when = |condition: bool, flag: u64| if condition { flag } else { 0 };
    when(all().next().is_some(), flag::BUDGETS)
        | when(budgets.classes.iter().any(|class| !class.networks.is_empty()), flag::CLASSES)
        | when(all().any(|budget| budget.syns.is_some()), flag::SYNS)
}

/// Costs and penalty go first and come last.
fn change(shared: &Class<Shared>, class: Class) -> Result<(), MapError> {
    let words = |shared: &Class<Shared>| Class {
        packet_cost: shared.packet_cost.get(),
        packet_tolerance: shared.packet_tolerance.get(),
        byte_cost: shared.byte_cost.get(),
        byte_tolerance: shared.byte_tolerance.get(),
        syn_cost: shared.syn_cost.get(),
        syn_tolerance: shared.syn_tolerance.get(),
        penalty: shared.penalty.get(),
        observe: shared.observe.get(),
    };
    if words(shared) == class {
        return Ok(());
    }
    for cost in [&shared.penalty, &shared.packet_cost, &shared.byte_cost, &shared.syn_cost] {
        cost.set(0);
    }
    shared.observe.set(class.observe);
    shared.packet_tolerance.set(class.packet_tolerance);
    shared.byte_tolerance.set(class.byte_tolerance);
    shared.syn_tolerance.set(class.syn_tolerance);
    shared.syn_cost.set(class.syn_cost);
    shared.byte_cost.set(class.byte_cost);
    shared.packet_cost.set(class.packet_cost);
    shared.penalty.set(class.penalty);
    if words(shared) == class { Ok(()) } else { Err(MapError::Lost { map: map::CLASS }) }
}

/// Every source is looked up in the lists again: who sends by the next generation's number, who is
/// silent by having none, however often the two bits of a generation go round meanwhile.
fn forget_classes(config: &ConfigMap, sources: [&[Set<Shared>]; 2]) -> Result<(), MapError> {
    let next = config.class_generation.get().wrapping_add(1) & 3;
    config.set(|config| &config.class_generation, next)?;
    for slot in sources.into_iter().flatten().flat_map(|set| &set.spent) {
        let spent = Spent(slot.get());
        if spent.0 != 0 {
            slot.set(Spent::new(spent.until(), u64::from(CLASSES - 1)).0);
        }
    }
    Ok(())
}

impl From<NotListed> for BlockError {
    fn from(refused: NotListed) -> Self {
        match refused {
            NotListed::TooMany(networks) => Self::TooManyInClasses { networks },
            NotListed::Lost(prefix) => Self::Lost { prefix },
            NotListed::Map(error) => Self::Map(error),
        }
    }
}

/// The number of the class that the lists give an address.
pub(crate) fn class_of<F: Family>(list: &NetworkList<F>, address: F) -> u32 {
    list.get(address).filter(|number| NAMED.contains(number)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use enforcer_model::PerSecond;

    use super::*;

    const FREE: Budget =
        Budget { packets: None, bytes: None, syns: None, penalty: Duration::ZERO, observe: false };

    #[test]
    fn a_name_keeps_its_number_and_a_new_one_gets_a_number_that_nobody_had() {
        let held = [(1, "one".into()), (2, "two".into())];

        let numbered = number(&held, &[class("three"), class("two")]).unwrap();

        assert_eq!(numbered, [(3, "three".into()), (2, "two".into())]);
        let all: Vec<BudgetClass> = (0..62).map(|it| class(&it.to_string())).collect();
        let numbered = number(&held, &all).unwrap();
        let mut numbers: Vec<u32> = numbered.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=62), "all of them, each once");
        let refused = number(&[], &[all, vec![class("one more")]].concat()).unwrap_err();
        assert!(matches!(refused, BlockError::TooManyClasses { classes: 63 }), "{refused}");
    }

    #[test]
    fn who_has_no_budget_for_packets_is_not_held_to_what_an_earlier_one_says() {
        assert_eq!(encode(None).packet_tolerance, u64::MAX);
        assert_eq!(encode(Some(&FREE)).packet_tolerance, u64::MAX);
        // With a penalty its end must be told.
        let punished = Budget { penalty: Duration::from_secs(30), ..FREE };
        let class = encode(Some(&punished));
        assert_eq!((class.packet_tolerance, class.penalty), (0, 30_000_000_000 / SPENT_NS));
    }

    #[test]
    fn rates_that_cannot_be_counted_are_raised_to_those_that_can() {
        let few = Budget { bytes: Some(Bytes { rate: 1, burst: 1 }), ..FREE };
        let more = Budget { bytes: Some(Bytes { rate: 1 << 16, burst: 1 << 16 }), ..FREE };

        assert_eq!(encode(Some(&few)), encode(Some(&more)));
        let burst = NonZeroU32::MIN;
        let syns = |rate| {
            let rate = PerSecond::new(NonZeroU32::new(rate).unwrap());
            Budget { syns: Some(Packets { rate, burst }), ..FREE }
        };
        assert_eq!(encode(Some(&syns(u32::MAX))), encode(Some(&syns(MAX_SYNS))));
    }

    #[test]
    fn flags_say_what_a_packet_must_be_looked_at_for() {
        let flags_of =
            |classes, default| flags(&Budgets { default, classes, ..Budgets::default() });
        assert_eq!(flags_of(Vec::new(), None), 0);
        assert_eq!(flags_of(Vec::new(), Some(FREE)), flag::BUDGETS);
        assert_eq!(flags_of(vec![class("unlimited")], None), flag::CLASSES);
        let rate = PerSecond::new(NonZeroU32::MIN);
        let syns = Budget { syns: Some(Packets { rate, burst: NonZeroU32::MIN }), ..FREE };
        let counted = BudgetClass { budget: Some(syns), ..class("counted") };
        assert_eq!(flags_of(vec![counted], None), flag::BUDGETS | flag::CLASSES | flag::SYNS);
    }

    fn class(name: &str) -> BudgetClass {
        let networks = vec!["192.0.2.0/24".parse().unwrap()];
        BudgetClass { name: name.into(), networks, budget: None }
    }
}
