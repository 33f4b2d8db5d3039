//! `[kernel]`: which interfaces are guarded, how much the maps hold, and what happens without the
//! agent. What sources may send is read in [`super::budgets`].

use std::collections::HashSet;
use std::time::Duration;

use enforcer_ebpf::MAX_NETWORKS;
use enforcer_kernel::{Attach, Config, Egress, Mode, OnAgentLoss};
use enforcer_model::Prefix;

use super::{HOUR, SECOND, budgets};
use crate::codes::{MISSING_PART, NAME_TWICE, TOO_MANY_NETWORKS, WRONG_VALUE};
use crate::grammar::{Fields, INTERFACE, Key, Need, PATH, PER_SECOND, Shape};
use crate::parse::Base;
use crate::problem::Report;

/// The section, checked.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) config: Config,
    pub(crate) when_full: WhenFull,
}

/// What becomes of a block for which the kernel's tables have no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Neighbours become one block of their /24 or /64; if that is not enough, as with
    /// [`WhenFull::Evict`].
    #[default]
    Aggregate,
    /// The block that ends soonest leaves the kernel; layer 7 keeps it.
    Evict,
    /// It is not in the kernel; layer 7 keeps it.
    Refuse,
}

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "interfaces",
        Shape::List(&Shape::Text(&INTERFACE)),
        "Interfaces whose packets are judged.",
    ),
    Key::with_default(
        "attach",
        Shape::Choice(&["auto", "native", "generic", "tcx", "clsact"]),
        Need::Text("auto"),
        "Where the program sits: in the driver (native), in the generic path, at traffic control \
         (tcx, clsact), or the first of these that works.",
    ),
    Key::with_default(
        "egress",
        Shape::Choice(&["contain", "count", "off"]),
        Need::Text("contain"),
        "What outgoing packets meet: those to blocked peers are dropped and all are counted by \
         destination, they are only counted, or nothing.",
    ),
    Key::with_default(
        "mode",
        Shape::Choice(&["enforce", "observe", "off"]),
        Need::Text("enforce"),
        "Whether a match drops a packet, is only counted, or nothing is looked at.",
    ),
    Key::optional(
        "budget",
        Shape::Table(budgets::KEYS),
        "What each source (IPv4 address, IPv6 /64) may send.",
    ),
    Key::optional(
        "ports",
        Shape::List(&Shape::Count(1, 65_535)),
        "Destination ports that budgets are kept for, at most eight. Without it: all traffic.",
    ),
    Key::optional(
        "flood",
        Shape::Text(&PER_SECOND),
        "New sources per second from which on newcomers share a budget.",
    ),
    Key::optional(
        "escalate",
        Shape::Table(budgets::ESCALATE_KEYS),
        "When an IPv6 network answers for its parts: /64s make their /56, /56s their /48.",
    ),
    Key::optional(
        "class",
        Shape::Named(&Shape::Table(budgets::CLASS_KEYS)),
        "Networks with a budget of their own, at most 62; the longest network wins.",
    ),
    Key::with_default(
        "on_agent_loss",
        Shape::Choice(&["keep", "observe"]),
        Need::Text("keep"),
        "What happens when the agent is gone: what is in force stays, or matches are only counted \
         once the lease is over.",
    ),
    Key::optional(
        "lease",
        Shape::Span(LEASE_MIN, HOUR),
        "With on_agent_loss = \"observe\": how long without a sign of the agent. Without it: 30s.",
    ),
    Key::with_default(
        "when_full",
        Shape::Choice(&["aggregate", "evict", "refuse"]),
        Need::Text("aggregate"),
        "A block that finds no room: neighbours become their /24 or /64, the one that ends soonest \
         leaves the kernel, or the new one stays at layer 7.",
    ),
    Key::with_default(
        "blocks",
        Shape::Count(64, 1 << 24),
        Need::Count(1 << 20),
        "The most blocks of each family in the kernel; memory follows use.",
    ),
    Key::with_default(
        "sources",
        Shape::Count(64, 1 << 24),
        Need::Count(65_536),
        "IPv4 sources whose budget the kernel remembers, in 32 bytes each, and a quarter as many \
         /64s of IPv6.",
    ),
    Key::with_default(
        "pins",
        Shape::Text(&PATH),
        Need::Text("/sys/fs/bpf/enforcer"),
        "Folder on a bpf file system where maps and links outlive the agent.",
    ),
];

/// Shorter, and a busy machine would look like a lost agent.
const LEASE_MIN: Duration = Duration::from_secs(5);
/// What stands for a lease that is not written.
const LEASE: Duration = SECOND.saturating_mul(30);

/// The section; outer `None` when it has problems, inner `None` when it is absent.
pub(super) fn read(
    root: Fields<'_>,
    base: Base<'_>,
    report: &mut Report,
) -> Option<Option<Kernel>> {
    if !root.has("kernel") {
        return Some(None);
    }
    let fields = root.table("kernel");
    let mut interfaces = HashSet::new();
    for (name, span) in fields.texts("interfaces") {
        if !interfaces.insert(name) {
            let message = format!("interface `{name}` is named twice");
            report.add(&NAME_TWICE, span, message, "remove one of the two".to_owned());
        }
    }
    let on_agent_loss = on_agent_loss(fields, report);
    let budgets = budgets::read(fields, report);
    let pins = base.resolve(fields.text("pins")?);
    if !pins.is_absolute() {
        report.add(
            &WRONG_VALUE,
            fields.span_of("pins"),
            format!("`{}` is not an absolute path", pins.display()),
            "pins live on a bpf file system, such as /sys/fs/bpf/enforcer".to_owned(),
        );
    }
    let config = Config {
        interfaces: fields.texts("interfaces").into_iter().map(|(name, _)| name.into()).collect(),
        attach: match fields.text("attach")? {
            "auto" => Attach::Auto,
            "native" => Attach::Native,
            "generic" => Attach::Generic,
            "tcx" => Attach::Tcx,
            "clsact" => Attach::Clsact,
            _ => return None,
        },
        egress: match fields.text("egress")? {
            "contain" => Egress::Contain,
            "count" => Egress::Count,
            "off" => Egress::Off,
            _ => return None,
        },
        mode: match fields.text("mode")? {
            "enforce" => Mode::Enforce,
            "observe" => Mode::Observe,
            "off" => Mode::Off,
            _ => return None,
        },
        budgets: budgets?,
        blocks: u32::try_from(fields.count("blocks")?).ok()?,
        sources: u32::try_from(fields.count("sources")?).ok()?,
        on_agent_loss: on_agent_loss?,
        pins,
    };
    let when_full = match fields.text("when_full")? {
        "aggregate" => WhenFull::Aggregate,
        "evict" => WhenFull::Evict,
        "refuse" => WhenFull::Refuse,
        _ => return None,
    };
    Some(Some(Kernel { config, when_full }))
}

fn on_agent_loss(fields: Fields<'_>, report: &mut Report) -> Option<OnAgentLoss> {
    let lease = if fields.has("lease") { fields.duration("lease") } else { Some(LEASE) };
    match fields.text("on_agent_loss")? {
        "observe" => Some(OnAgentLoss::Observe { lease: lease? }),
        "keep" => {
            if fields.has("lease") {
                report.add(
                    &MISSING_PART,
                    fields.span_of("lease"),
                    "`kernel.lease` has no meaning while `on_agent_loss` is \"keep\"",
                    "add `on_agent_loss = \"observe\"`, or remove the lease".to_owned(),
                );
            }
            Some(OnAgentLoss::Keep)
        }
        _ => None,
    }
}

/// Tells when `networks` are more than one of the kernel's tries holds.
pub(super) fn check_count<'a>(
    networks: &(impl Iterator<Item = &'a Prefix> + Clone),
    what: &str,
    fields: Fields<'_>,
    key: &str,
    report: &mut Report,
) {
    for (family, is_v4) in [("IPv4", true), ("IPv6", false)] {
        let count = networks.clone().filter(|network| network.address().is_ipv4() == is_v4).count();
        if u32::try_from(count).is_ok_and(|count| count <= MAX_NETWORKS) {
            continue;
        }
        report.add(
            &TOO_MANY_NETWORKS,
            fields.span_of(key),
            format!("{count} {family} networks {what}"),
            format!("the kernel takes {MAX_NETWORKS} of each family; join neighbours"),
        );
    }
}
