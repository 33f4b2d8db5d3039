//! The sections of a policy: what each may hold, and what it becomes.
//!
//! Every section reads what it can even when another, or a part of itself, is wrong, so that all
//! problems are told at once. `None` means "has problems that were told"; a policy comes out only
//! when there are none.

mod agent;
mod anchoring;
mod audit;
mod budgets;
mod cache;
mod cases;
mod conditions;
mod connections;
mod detect;
mod guard;
mod hosts;
mod identity;
mod incident;
mod issuers;
mod kernel;
mod keys;
mod limits;
mod listen;
mod names;
mod notify;
mod paths;
mod pools;
mod profiling;
mod proxies;
mod region;
mod require;
mod rights;
mod roles;
mod route;
mod routes;
mod rules;
mod throttle;
mod timeouts;
mod tls;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use enforcer_authn::{IssuerPlan, KeyPlan};
use enforcer_authz::{Networks, Roles, Vocabulary, Window};
use enforcer_cache::Bounds;
use enforcer_limits::Throttle;
use toml::Spanned;
use toml::de::DeTable;

pub use agent::Agent;
pub use anchoring::{Anchoring, TimestampPlan, WitnessPlan};
pub use audit::{AuditPlan, Durability};
pub use cases::Case;
pub use connections::ConnectionsPlan;
pub use detect::Detection;
pub use guard::{Guard, NeverBlock, Percent};
pub use hosts::{HostRules, TrailingSlash};
pub use identity::IdentityPlan;
pub use incident::Tightening;
pub use kernel::WhenFull;
pub use limits::Charged;
pub use listen::{Address, Listener, Serves};
pub use require::{Require, Requires, Shown};
pub use route::{Matched, Route};
pub use timeouts::Timeouts;
pub use tls::{CertificateFiles, Clients, Hsts, Tls};
pub use upstreams::Errors;

pub(crate) use budgets::BYTES_MIN;
pub(crate) use incident::LEVEL_MAX;
pub(crate) use kernel::Kernel;
pub(crate) use listen::mode;
pub(crate) use region::Region;
pub(crate) use tls::NamedTls;
pub(crate) use upstreams::Upstream;

use crate::codes::{UNKNOWN_NAME, UNUSED};
use conditions::Names;

use crate::grammar::{Fields, HOST, Key, LEVEL, Named, Shape, brief, check, suggest};
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
    pub(crate) connections: ConnectionsPlan,
    pub(crate) cache: Bounds,
    pub(crate) identity: IdentityPlan,
    pub(crate) keys: KeyPlan,
    pub(crate) throttle: Option<Throttle>,
    pub(crate) issuers: Vec<Arc<IssuerPlan>>,
    pub(crate) issuer_names: BTreeSet<Arc<str>>,
    pub(crate) networks: BTreeMap<Arc<str>, Arc<Networks>>,
    pub(crate) windows: BTreeMap<Arc<str>, Arc<Window>>,
    pub(crate) region: Region,
    pub(crate) hosts: BTreeMap<Box<str>, HostRules>,
    pub(crate) incidents: Box<[Tightening; 6]>,
    pub(crate) triggers: Vec<enforcer_detect::court::TriggerPlan>,
    pub(crate) cases: Vec<Case>,
    pub(crate) roles: Roles,
    pub(crate) limits: Vec<Charged>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) routes: Vec<Arc<Route>>,
    pub(crate) table: Table,
    pub(crate) rules: Vec<enforcer_detect::Rule>,
    pub(crate) receivers: Vec<Arc<enforcer_notify::Receiver>>,
    pub(crate) detection: Detection,
    pub(crate) profiling: enforcer_detect::profile::Plan,
}

/// What relative paths are relative to, and the text that places refer to.
#[derive(Clone, Copy)]
pub(crate) struct Base<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) text: &'a Text<'a>,
    /// Whether the files that the policy names are read.
    pub(crate) reads_files: bool,
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
    Key::optional(
        "issuer",
        Shape::Named(&Shape::Table(issuers::KEYS)),
        "Whose tokens are believed, and on which terms.",
    ),
    Key::optional("keys", Shape::Table(keys::KEYS), "API keys: their form, rotation and notices."),
    Key::optional(
        "notify",
        Shape::Named(&Shape::Table(notify::KEYS)),
        "Who is told what happens: webhooks, Slack, PagerDuty, Alertmanager, syslog.",
    ),
    Key::optional("net", Shape::Named(&names::NETWORKS), "Names for networks, for `net.NAME`."),
    Key::optional(
        "time",
        Shape::Named(&Shape::Table(names::WINDOW_KEYS)),
        "Names for hours of the week, for `time.NAME`.",
    ),
    Key::optional("region", Shape::Table(region::KEYS), "What knows the country of an address."),
    Key::optional(
        "identity",
        Shape::Table(identity::KEYS),
        "How upstreams are told who is calling.",
    ),
    Key::optional(
        "host",
        Shape::Keyed(&HOST, &Shape::Table(hosts::KEYS)),
        "Rules of one virtual host.",
    ),
    Key::optional(
        "throttle",
        Shape::Table(throttle::KEYS),
        "What becomes of a source that goes on after it was refused.",
    ),
    Key::optional(
        "incident",
        Shape::Keyed(&LEVEL, &Shape::Table(incident::KEYS)),
        "What becomes stricter at this level of incident (0 to 5) and above.",
    ),
    Key::optional(
        "test",
        Shape::List(&Shape::Table(cases::KEYS)),
        "Requests with the answers that are expected; `enforcer policy test` asks them.",
    ),
    Key::optional("role", Shape::Named(&Shape::Table(roles::KEYS)), "What a caller can be."),
    Key::optional(
        "limit",
        Shape::Named(&Shape::Table(limits::KEYS)),
        "How much callers may ask for, alone and together.",
    ),
    Key::optional("upstream", Shape::Named(&Shape::Table(upstreams::KEYS)), "Where requests go."),
    Key::optional(
        "cache",
        Shape::Table(cache::KEYS),
        "How much is kept of the answers of routes with `cache`.",
    ),
    Key::optional("timeouts", Shape::Table(timeouts::KEYS), "How long a client may take."),
    Key::optional(
        "connections",
        Shape::Table(connections::KEYS),
        "How many clients may be connected, and for how long.",
    ),
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
    Key::optional(
        "detect",
        Shape::Table(detect::KEYS),
        "Rules of detection. Without it none are in force but those of `[[rule]]`.",
    ),
];

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
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

    let issuer_names = issuers::names(root);
    let issuers = issuers::read(root, base, report);
    let roles = roles::read(root, &issuer_names, report);
    let networks = names::networks(root, report);
    let (listeners, files) = listen::read(root, &networks, base, report);
    let windows = names::windows(root, report);
    let region = region::read(root, base, report);
    let vocabulary = Vocabulary {
        roles: &roles,
        networks: &networks,
        windows: &windows,
        issuers: &issuer_names,
        has_regions: region.file.is_some(),
    };
    let names = Names { vocabulary, base };
    let hosts = hosts::read(root, report);
    let limits = limits::read(root, &names, report);
    let upstreams = upstreams::read(root, &listeners, &roles, base, report);
    let defined = routes::Defined { names, limits: &limits, upstreams: &upstreams, hosts: &hosts };
    let (routes, table, used) = routes::read(root, &defined, report);
    let defined = incident::Defined { roles: &roles, limits: &limits, routes: &routes };
    let (incidents, triggers) = incident::read(root, &defined, report);
    let incidents = Box::new(incidents);
    let rules = rules::read(root, report);
    let detection = detect::read(root, base, report);
    let agent = agent::read(root.table("agent"), base, report);
    let audit = audit::read(root.table("audit"), base, report);
    let kernel = kernel::read(root, base, report);
    let guard = guard::read(root.table("guard"), base, report);
    let keys = keys::read(root.table("keys"), report);
    let throttle = throttle::read(root, report);
    let receivers = notify::read(root, base, report);
    // What is wrong elsewhere may be why nothing uses a name.
    if !report.has_errors() {
        routes::unused_names(root, &roles, &used, report);
        let grants = |name: &str| used.reads.issuer || issuers::grants(&roles, name);
        issuers::unused(root, &grants, report);
    }
    // What gives nothing has told why; a limit that was lost in silence would be one that never holds.
    let complete = [
        (limits.len(), root.named("limit").len()),
        (routes.len(), root.tables("route").len()),
        (upstreams.len(), root.named("upstream").len()),
        (issuers.len(), root.named("issuer").len()),
        (roles.len(), root.named("role").len()),
        (networks.len(), root.named("net").len()),
        (windows.len(), root.named("time").len()),
        (hosts.len(), root.named("host").len()),
        (rules.len(), root.tables("rule").len()),
        (receivers.len(), root.named("notify").len()),
    ];
    let sections = || {
        if complete.iter().any(|(read, written)| read != written) {
            return None;
        }
        Some(Sections {
            agent: agent?,
            listeners,
            kernel: kernel?,
            guard: guard?,
            audit: audit?,
            timeouts: timeouts::read(root.table("timeouts"))?,
            connections: connections::read(root.table("connections"))?,
            cache: cache::read(root.table("cache"))?,
            identity: identity::read(root.table("identity"))?,
            keys: keys?,
            throttle: throttle?,
            issuers,
            issuer_names,
            networks,
            windows,
            region,
            hosts,
            incidents,
            triggers,
            cases: cases::read(root, base),
            roles,
            limits,
            upstreams,
            routes,
            table,
            rules,
            receivers,
            detection: detection?,
            profiling: profiling::read(root)?,
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
        let user = if matches!(what, "net" | "time") { "condition" } else { "route" };
        let message = format!("no {user} uses {what} `{}`", entry.name);
        let hint = format!("remove it, or name it in a {user}");
        report.add(&UNUSED, entry.span, message, hint);
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
