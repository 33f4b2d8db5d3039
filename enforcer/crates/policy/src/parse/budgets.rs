//! What sources may send: `[kernel] budget`, `ports`, `flood`, `escalate` and `[kernel.class.NAME]`.
//!
//! The kernel spends time for what a source sends: so many steps of a clock for each packet. Rates
//! that do not divide the clock are kept by the nearest step that is more generous; where that is
//! off by more than one in a hundred, it is told.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use enforcer_ebpf::Class;
use enforcer_ebpf::source::{MAX_SYNS, SPENT_NS, SYN_NS};
use enforcer_kernel::{Budget, BudgetClass, Budgets, Bytes, Escalate, Packets};
use enforcer_model::{PerSecond, Prefix};

use super::kernel::check_count;
use super::{DAY, HOUR, SECOND};
use crate::codes::{MISSING_PART, NAME_TWICE, STEPS, WRONG_VALUE};
use crate::grammar::{
    BYTES_PER_SECOND, Fields, Key, NETWORK, Need, PER_SECOND, Shape, parse_bytes_per_second,
};
use crate::problem::Report;

pub(super) static KEYS: &[Key] = &[
    Key::optional("packets", Shape::Text(&PER_SECOND), "Packets per second in the long run."),
    Key::optional("burst", Shape::Count(1, 0xFFFF_FFFF), "Packets at once."),
    Key::optional("bytes", Shape::Text(&BYTES_PER_SECOND), "Bytes per second in the long run."),
    Key::optional("bytes_burst", Shape::Size(BYTES_MIN, 1 << 40), "Bytes at once."),
    Key::optional(
        "syns",
        Shape::Text(&PER_SECOND),
        "New TCP connections per second in the long run.",
    ),
    Key::optional("syn_burst", Shape::Count(1, 0xFFFF_FFFF), "New TCP connections at once."),
    Key::optional(
        "penalty",
        Shape::Span(SECOND, DAY),
        "Who exceeds a budget has none until he was quiet for this long. Without it: only what is over \
         is lost.",
    ),
    Key::with_default("observe", Shape::Flag, Need::False, "Whether what is over is only counted."),
];

pub(super) static ESCALATE_KEYS: &[Key] = &[
    Key::required("sources", Shape::Count(2, 32), "So many parts exceed their budgets,"),
    Key::required("within", Shape::Span(SECOND, HOUR), "within this time."),
    Key::required("for", Shape::Span(SECOND, DAY), "The network answers for this long."),
];

pub(super) static CLASS_KEYS: &[Key] = &[
    Key::required("networks", Shape::List(&Shape::Text(&NETWORK)), "Whose budget it is."),
    Key::required(
        "budget",
        Shape::WordOr(UNLIMITED, &Shape::Table(KEYS)),
        "What each source in them may send, or \"unlimited\".",
    ),
];

const UNLIMITED: &str = "unlimited";

/// The step in which the kernel counts bytes.
pub(crate) const BYTES_MIN: u64 = 1 << 16;
/// The kernel keeps ports in two words.
const PORTS_MAX: usize = 8;
/// Numbers of classes that are left: the first is everybody's, the last is nobody's.
const CLASSES_MAX: usize = 62;

/// All budgets; `None` when something is wrong.
pub(super) fn read(fields: Fields<'_>, report: &mut Report) -> Option<Budgets> {
    let default = fields.has("budget").then(|| {
        let place = "kernel.budget";
        budget(fields.table("budget"), place, report)
    });
    let classes = classes(fields, report);
    let ports = ports(fields, report);
    let has_packets = fields.has("budget") && fields.table("budget").has("packets");
    let has_budget = fields.has("budget")
        || fields
            .named("class")
            .iter()
            .any(|class| class.fields(CLASS_KEYS).is_some_and(|class| class.is_table("budget")));
    needs(fields, "ports", has_budget, "a budget", report);
    needs(fields, "escalate", has_budget, "a budget", report);
    needs(fields, "flood", has_packets, "`budget.packets`", report);
    Some(Budgets {
        default: match default {
            Some(budget) => Some(budget?),
            None => None,
        },
        classes: classes?,
        ports,
        flood: match fields.has("flood") {
            true => Some(fields.parsed("flood")?),
            false => None,
        },
        escalate: match fields.has("escalate") {
            true => Some(escalate(fields.table("escalate"))?),
            false => None,
        },
    })
}

/// Tells that `key` is written while `what` it needs is not.
fn needs(fields: Fields<'_>, key: &str, is_met: bool, what: &str, report: &mut Report) {
    if is_met || !fields.has(key) {
        return;
    }
    report.add(
        &MISSING_PART,
        fields.span_of(key),
        format!("`kernel.{key}` has no meaning without {what}"),
        format!("add `budget = {{ packets = \"50000/s\", burst = 100000 }}`, or remove `{key}`"),
    );
}

fn ports(fields: Fields<'_>, report: &mut Report) -> Vec<u16> {
    let mut ports = Vec::new();
    for (port, span) in fields.counts("ports") {
        let Ok(port) = u16::try_from(port) else { continue };
        if ports.contains(&port) {
            let message = format!("port {port} is named twice");
            report.add(&NAME_TWICE, span, message, "remove one of the two".to_owned());
        }
        ports.push(port);
    }
    if ports.len() > PORTS_MAX {
        report.add(
            &WRONG_VALUE,
            fields.span_of("ports"),
            format!("`kernel.ports` names {} ports; the kernel compares {PORTS_MAX}", ports.len()),
            "leave the key out to keep budgets for all traffic".to_owned(),
        );
    }
    ports
}

fn escalate(fields: Fields<'_>) -> Option<Escalate> {
    Some(Escalate {
        sources: NonZeroU32::new(u32::try_from(fields.count("sources")?).ok()?)?,
        within: fields.duration("within")?,
        for_: fields.duration("for")?,
    })
}

fn classes(fields: Fields<'_>, report: &mut Report) -> Option<Vec<BudgetClass>> {
    let entries = fields.named("class");
    if let Some(first_too_many) = entries.get(CLASSES_MAX) {
        let message = format!("{} budget classes; the kernel has {CLASSES_MAX}", entries.len());
        let hint = "classes with the same budget can be one".to_owned();
        report.add(&WRONG_VALUE, first_too_many.span, message, hint);
    }
    let mut owners: HashMap<Prefix, &str> = HashMap::new();
    let mut classes = Vec::new();
    for entry in &entries {
        let Some(class) = entry.fields(CLASS_KEYS) else { continue };
        let mut networks = Vec::new();
        for (network, span) in class.all_parsed::<Prefix>("networks") {
            if let Some(owner) = owners.insert(network, entry.name) {
                let message = format!("`{network}` is in class `{owner}` already");
                report.add(&NAME_TWICE, span, message, "remove one of the two".to_owned());
            }
            networks.push(network);
        }
        let budget = if class.is_table("budget") {
            let place = format!("kernel.class.{}.budget", entry.name);
            budget(class.table("budget"), &place, report).map(Some)
        } else {
            // Anything but the one word was told.
            class.text("budget").filter(|word| *word == UNLIMITED).map(|_| None)
        };
        let name = entry.name.into();
        classes.push(budget.map(|budget| BudgetClass { name, networks, budget }));
    }
    check_count(&owners.keys(), "in budget classes", fields, "class", report);
    classes.into_iter().collect()
}

/// One budget, at `place` of the file; `None` when something is wrong.
fn budget(fields: Fields<'_>, place: &str, report: &mut Report) -> Option<Budget> {
    let pairs = [
        ("packets", "burst", "packets = \"50000/s\"", "burst = 100000"),
        ("bytes", "bytes_burst", "bytes = \"100MiB/s\"", "bytes_burst = \"200MiB\""),
        ("syns", "syn_burst", "syns = \"200/s\"", "syn_burst = 400"),
    ];
    let mut is_whole = true;
    for (rate, burst, rate_sample, burst_sample) in pairs {
        let (there, absent, sample) = match (fields.has(rate), fields.has(burst)) {
            (true, false) => (rate, burst, burst_sample),
            (false, true) => (burst, rate, rate_sample),
            (true, true) | (false, false) => continue,
        };
        is_whole = false;
        report.add(
            &MISSING_PART,
            fields.span_of(there),
            format!("`{place}.{there}` has no meaning without `{absent}`"),
            format!("add `{sample}`"),
        );
    }
    if !pairs.iter().any(|(rate, burst, ..)| fields.has(rate) || fields.has(burst)) {
        report.add(
            &MISSING_PART,
            fields.span(),
            format!("`{place}` limits nothing"),
            "give it `packets` and `burst`, `bytes` and `bytes_burst`, or `syns` and `syn_burst`"
                .to_owned(),
        );
        return None;
    }
    let packets = frames(fields, "packets", "burst");
    let bytes = bytes(fields);
    let syns = frames(fields, "syns", "syn_burst");
    let at = At { fields, place };
    at.check_packets(packets.flatten(), report);
    at.check_bytes(bytes.flatten(), report);
    at.check_syns(syns.flatten(), report);
    let penalty = match fields.has("penalty") {
        true => fields.duration("penalty")?,
        false => Duration::ZERO,
    };
    let budget = Budget {
        packets: packets?,
        bytes: bytes?,
        syns: syns?,
        penalty,
        observe: fields.flag("observe")?,
    };
    is_whole.then_some(budget)
}

/// A pair; outer `None` when it has problems, inner `None` when it is absent.
fn frames(fields: Fields<'_>, rate: &str, burst: &str) -> Option<Option<Packets>> {
    if !fields.has(rate) || !fields.has(burst) {
        return Some(None);
    }
    let burst = NonZeroU32::new(u32::try_from(fields.count(burst)?).ok()?)?;
    Some(Some(Packets { rate: fields.parsed::<PerSecond>(rate)?, burst }))
}

fn bytes(fields: Fields<'_>) -> Option<Option<Bytes>> {
    if !fields.has("bytes") || !fields.has("bytes_burst") {
        return Some(None);
    }
    let rate = parse_bytes_per_second(fields.text("bytes")?).filter(|rate| *rate >= BYTES_MIN)?;
    Some(Some(Bytes { rate, burst: fields.size("bytes_burst")?.0 }))
}

/// A budget and where it stands.
#[derive(Clone, Copy)]
struct At<'a> {
    fields: Fields<'a>,
    place: &'a str,
}

impl At<'_> {
    fn check_packets(self, packets: Option<Packets>, report: &mut Report) {
        let Some(Packets { rate, burst }) = packets else { return };
        let asked = u64::from(rate.count());
        self.check_saved("burst", u64::from(burst.get()), asked, report);
        let kept = Class::NONE.packets(rate.count(), 1).packet_cost;
        self.check_rate("packets", asked, steps(1_000_000_000 / SPENT_NS, kept), report);
    }

    fn check_bytes(self, bytes: Option<Bytes>, report: &mut Report) {
        let Some(Bytes { rate, burst }) = bytes else { return };
        self.check_saved("bytes_burst", burst, rate, report);
        let kept = Class::NONE.bytes(rate, burst).byte_cost;
        self.check_rate("bytes", rate, steps(1_000_000_000 << 16, kept), report);
        let whole = burst >> 16 << 16;
        if is_off(burst, whole) {
            let hint = format!("bytes at once are kept in steps of 64KiB: {} are", size(whole));
            self.warn("bytes_burst", &size(burst), hint, report);
        }
    }

    fn check_syns(self, syns: Option<Packets>, report: &mut Report) {
        let Some(Packets { rate, burst }) = syns else { return };
        let asked = u64::from(rate.count());
        if rate.count() > MAX_SYNS {
            report.add(
                &WRONG_VALUE,
                self.fields.span_of("syns"),
                format!("`{}.syns`: {rate} cannot be told from more", self.place),
                format!("at most {MAX_SYNS}/s; leave it out to keep none"),
            );
            return;
        }
        let class = Class::NONE.syns(rate.count(), burst.get());
        self.check_rate("syns", asked, steps(1_000_000_000 / SYN_NS, class.syn_cost), report);
        let kept = class.syn_tolerance / class.syn_cost.max(1) + 1;
        if kept < u64::from(burst.get()) {
            report.add(
                &WRONG_VALUE,
                self.fields.span_of("syn_burst"),
                format!("`{}.syn_burst`: {burst} at {rate} is more than can be kept", self.place),
                format!("at most {kept} at this rate: what comes in 73 minutes"),
            );
        }
    }

    /// More than a day's worth at once is no limit, and would not fit into the kernel's words.
    fn check_saved(self, key: &str, burst: u64, rate: u64, report: &mut Report) {
        if burst / rate.max(1) < DAY.as_secs() {
            return;
        }
        report.add(
            &WRONG_VALUE,
            self.fields.span_of(key),
            format!("`{}.{key}` is more than what comes in a day at this rate", self.place),
            "write what may come at once, such as twice what may come in a second".to_owned(),
        );
    }

    fn check_rate(self, key: &str, asked: u64, kept: Kept, report: &mut Report) {
        if !is_off(asked, kept.rate) {
            return;
        }
        let text = |rate: u64| if key == "bytes" { size(rate) } else { rate.to_string() };
        let hint = format!(
            "it is kept as {}/s; {}/s is the next below",
            text(kept.rate),
            text(kept.below)
        );
        self.warn(key, &format!("{}/s", text(asked)), hint, report);
    }

    fn warn(self, key: &str, asked: &str, hint: String, report: &mut Report) {
        let message = format!("`{}.{key}`: {asked} lies between two steps", self.place);
        report.add(&STEPS, self.fields.span_of(key), message, hint);
    }
}

/// The rates that a clock can keep around one that was asked for.
#[derive(Clone, Copy)]
struct Kept {
    /// The nearest that is not stricter.
    rate: u64,
    below: u64,
}

/// What costs `cost` of `per_second` steps comes so often.
fn steps(per_second: u64, cost: u64) -> Kept {
    let cost = cost.max(1);
    Kept { rate: per_second / cost, below: per_second / (cost + 1) }
}

/// Whether the two differ by more than one in a hundred.
fn is_off(asked: u64, kept: u64) -> bool {
    asked.abs_diff(kept) > asked / 100
}

fn size(bytes: u64) -> String {
    enforcer_model::Bytes(bytes).to_string()
}
