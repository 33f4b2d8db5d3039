//! The sections of a policy: what each may hold, and what it becomes.
//!
//! Every section reads what it can even when another, or a part of itself, is wrong, so that all
//! problems are told at once. `None` means "has problems that were told"; a policy comes out only
//! when there are none.

mod agent;
mod audit;
mod budgets;
mod guard;
mod kernel;
mod limits;
mod listen;
mod roles;
mod routes;
mod rules;
mod timeouts;
mod upstreams;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use enforcer_authz::Roles;
use enforcer_limits::Limit;
use toml::Spanned;
use toml::de::DeTable;

pub use agent::Agent;
pub use audit::{AuditPlan, Durability};
pub use guard::{Guard, NeverBlock, Percent};
pub use kernel::WhenFull;
pub use listen::{Clients, Listener, Serves, Tls};
pub use routes::Route;
pub use timeouts::Timeouts;

pub(crate) use budgets::BYTES_MIN;
pub(crate) use kernel::Kernel;
pub(crate) use listen::NamedTls;

use crate::codes::{UNKNOWN_NAME, UNUSED};
use crate::grammar::{Fields, Key, Named, Shape, brief, check, suggest};
use crate::problem::Report;
use crate::routing::Table;
use crate::text::{Span, Text};

/// Every section, checked.
#[derive(Debug)]
pub(crate) struct Sections {
    pub(crate) agent: Agent,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) kernel: Option<Kernel>,
    pub(crate) guard: Guard,
    pub(crate) audit: AuditPlan,
    pub(crate) timeouts: Timeouts,
    pub(crate) roles: Roles,
    pub(crate) limits: Vec<Arc<Limit>>,
    pub(crate) upstreams: Vec<Arc<enforcer_upstream::Plan>>,
    pub(crate) routes: Vec<Arc<Route>>,
    pub(crate) table: Table,
    pub(crate) rules: Vec<enforcer_detect::Rule>,
}

/// What relative paths are relative to, and the text that places refer to.
#[derive(Clone, Copy)]
pub(crate) struct Base<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) text: &'a Text<'a>,
}

/// The keys of the file.
pub(crate) static KEYS: &[Key] = &[
    Key::required("version", Shape::Count(1, 1), "The version of this format."),
    Key::optional("agent", Shape::Table(agent::KEYS), "Where the agent keeps its things."),
    Key::required(
        "listen",
        Shape::Named(&Shape::Table(listen::KEYS)),
        "The addresses where clients are met.",
    ),
    Key::optional(
        "kernel",
        Shape::Table(kernel::KEYS),
        "The packet filter. Without it the kernel part is off.",
    ),
    Key::optional("guard", Shape::Table(guard::KEYS), "Whom no block may hit."),
    Key::optional("audit", Shape::Table(audit::KEYS), "The audit log."),
    Key::optional("role", Shape::Named(&Shape::Table(roles::KEYS)), "What a caller can be."),
    Key::optional(
        "limit",
        Shape::Named(&Shape::Table(limits::KEYS)),
        "How much one caller or one address may ask for.",
    ),
    Key::optional("upstream", Shape::Named(&Shape::Table(upstreams::KEYS)), "Where requests go."),
    Key::optional("timeouts", Shape::Table(timeouts::KEYS), "How long a client may take."),
    Key::optional(
        "route",
        Shape::List(&Shape::Table(routes::KEYS)),
        "What is served, to whom. What no route matches is answered with 404.",
    ),
    Key::optional(
        "rule",
        Shape::List(&Shape::Table(rules::KEYS)),
        "What is noticed, and what follows.",
    ),
];

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// All sections, and the TLS files that they name; no sections when something is wrong.
pub(crate) fn read(
    file: &Spanned<DeTable<'_>>,
    base: Base<'_>,
    report: &mut Report,
) -> (Option<Sections>, Vec<NamedTls>) {
    // What is missing from the file as a whole is shown at its beginning.
    let start = Span::default();
    check(file.get_ref(), start, KEYS, "", report);
    let root = Fields::new(KEYS, file.get_ref(), start);

    let (listeners, files) = listen::read(root, base, report);
    let roles = roles::read(root, report);
    let limits = limits::read(root);
    let upstreams = upstreams::read(root, &listeners, report);
    let (routes, table) = routes::read(root, &roles, &limits, &upstreams, report);
    let rules = rules::read(root, report);
    let agent = agent::read(root.table("agent"), base, report);
    let kernel = kernel::read(root, base, report);
    let guard = guard::read(root.table("guard"), base, report);
    let sections = || {
        Some(Sections {
            agent: agent?,
            listeners,
            kernel: kernel?,
            guard: guard?,
            audit: audit::read(root.table("audit"))?,
            timeouts: timeouts::read(root.table("timeouts"))?,
            roles,
            limits,
            upstreams,
            routes,
            table,
            rules,
        })
    };
    (sections(), files)
}

impl Base<'_> {
    /// `path` as the process finds it.
    fn resolve(self, path: &str) -> PathBuf {
        self.folder.join(path)
    }
}

fn size(count: Option<u64>) -> Option<NonZeroUsize> {
    NonZeroUsize::new(usize::try_from(count?).ok()?)
}

/// Tells that no `[what.name]` exists.
fn unknown_name<'a>(
    what: &str,
    name: &str,
    span: Span,
    known: impl Iterator<Item = &'a str> + Clone,
    report: &mut Report,
) {
    let meant = if report.is_full() { None } else { suggest(name, known.clone()) };
    let hint = match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("define it as `[{what}.{name}]`, or use one of: {}", listed(known)),
    };
    report.add(&UNKNOWN_NAME, span, format!("no {what} is called `{}`", brief(name)), hint);
}

/// Warns about entries of `[what]` whose names are not in `used`.
fn unused(what: &str, entries: &[Named<'_>], used: &dyn Fn(&str) -> bool, report: &mut Report) {
    for entry in entries.iter().filter(|entry| !used(entry.name)) {
        let message = format!("no route uses {what} `{}`", entry.name);
        report.add(&UNUSED, entry.span, message, "remove it, or name it in a route".to_owned());
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = names.collect();
    match names.get(..SHOWN) {
        Some(first) if names.len() > SHOWN => format!("{}, …", first.join(", ")),
        _ if names.is_empty() => "(none is defined)".to_owned(),
        _ => names.join(", "),
    }
}
