//! `[kernel]`: which interfaces are guarded, and how much the maps hold.

use std::collections::HashSet;
use std::num::NonZeroU32;

use enforcer_kernel::{Attach, Budget, Config, Mode};

use crate::codes::{NAME_TWICE, WRONG_VALUE};
use crate::grammar::{Fields, INTERFACE, Key, Need, PATH, PER_SECOND, Shape};
use crate::parse::Base;
use crate::problem::Report;

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "interfaces",
        Shape::List(&Shape::Text(&INTERFACE)),
        "Interfaces whose incoming packets are judged.",
    ),
    Key::with_default(
        "attach",
        Shape::Choice(&["auto", "generic", "native"]),
        Need::Text("auto"),
        "Where the program sits: in the driver (native), in the generic path, or the best there is.",
    ),
    Key::with_default(
        "mode",
        Shape::Choice(&["enforce", "observe", "off"]),
        Need::Text("enforce"),
        "Whether a match drops a packet, is only counted, or nothing is looked at.",
    ),
    Key::optional(
        "budget",
        Shape::Table(BUDGET_KEYS),
        "What each source (IPv4 address, IPv6 /64) may send.",
    ),
    Key::with_default(
        "blocks",
        Shape::Count(64, 1 << 24),
        Need::Count(65_536),
        "Blocks that the kernel can hold.",
    ),
    Key::with_default(
        "sources",
        Shape::Count(64, 1 << 24),
        Need::Count(65_536),
        "Sources whose budget the kernel remembers.",
    ),
    Key::with_default(
        "pins",
        Shape::Text(&PATH),
        Need::Text("/sys/fs/bpf/enforcer"),
        "Folder on a bpf file system where maps and links outlive the agent.",
    ),
];

static BUDGET_KEYS: &[Key] = &[
    Key::required("packets", Shape::Text(&PER_SECOND), "Packets per second in the long run."),
    Key::required("burst", Shape::Count(1, 0xFFFF_FFFF), "Packets at once."),
];

/// The section; outer `None` when it has problems, inner `None` when it is absent.
pub(super) fn read(
    root: Fields<'_>,
    base: Base<'_>,
    report: &mut Report,
) -> Option<Option<Config>> {
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
    let pins = base.resolve(fields.text("pins")?);
    if !pins.is_absolute() {
        report.add(
            &WRONG_VALUE,
            fields.span_of("pins"),
            format!("`{}` is not an absolute path", pins.display()),
            "pins live on a bpf file system, such as /sys/fs/bpf/enforcer".to_owned(),
        );
    }
    Some(Some(Config {
        interfaces: fields.texts("interfaces").into_iter().map(|(name, _)| name.into()).collect(),
        attach: match fields.text("attach")? {
            "auto" => Attach::Auto,
            "generic" => Attach::Generic,
            "native" => Attach::Native,
            _ => return None,
        },
        mode: match fields.text("mode")? {
            "enforce" => Mode::Enforce,
            "observe" => Mode::Observe,
            "off" => Mode::Off,
            _ => return None,
        },
        budget: match fields.has("budget") {
            true => Some(budget(fields.table("budget"))?),
            false => None,
        },
        blocks: u32::try_from(fields.count("blocks")?).ok()?,
        sources: u32::try_from(fields.count("sources")?).ok()?,
        pins,
    }))
}

fn budget(fields: Fields<'_>) -> Option<Budget> {
    let burst = u32::try_from(fields.count("burst")?).ok()?;
    Some(Budget { packets: fields.parsed("packets")?, burst: NonZeroU32::new(burst)? })
}
