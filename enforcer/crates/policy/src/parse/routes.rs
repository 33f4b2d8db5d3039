//! `[[route]]`: what is served, to whom.
//!
//! A route says in so many words who may use it: `public`, or at least one `[[route.allow]]`. Both,
//! or neither, is refused, for one of them would not mean what it seems to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use enforcer_authz::{Plan, Roles};
use enforcer_limits::{By, DEMANDS_MAX};

use super::cache;
use super::conditions::{Names, Reads};
use super::hosts::{HostRules, TrailingSlash};
use super::incident::{impossible, on_public};
use super::limits::Charged;
use super::paths::{fits, rewrite};
use super::require::{Require, Requires, WORD};
use super::rights::{self, ALLOW_KEYS, DENY_KEYS};
use super::route::Route;
use super::timeouts::{WHOLE, whole};
use super::upstreams::Upstream;
use super::{proxies, unknown_name, unused};
use crate::codes::{
    CASE_TWINS, KEY_LIMIT_ON_PUBLIC, NAME_TWICE, NO_ROUTE, OPEN_TO_NOBODY, PATTERNS_CONFLICT,
    PUBLIC_WITH_ALLOW, TOO_LARGE, TOO_MANY,
};
use crate::grammar::{Fields, Key, NAME, Need, PATH_PREFIX, PATTERN, Shape};
use crate::problem::Report;
use crate::routing::{Pattern, Table};

/// The most routes that a policy may have.
pub(crate) const ROUTES_MAX: usize = 10_000;

pub(super) static KEYS: &[Key] = &[
    Key::required("name", Shape::Text(&NAME), "Names the route in metrics and records."),
    Key::required(
        "match",
        Shape::Text(&PATTERN),
        "Host (`*`: any) and path; `{x}` is one segment, a final `{**}` the rest, which may be none.",
    ),
    Key::required("upstream", Shape::Text(&NAME), "The `[upstream.NAME]` that answers."),
    Key::optional(
        "limits",
        Shape::List(&Shape::Text(&NAME)),
        "The `[limit]` entries that are charged; all or none.",
    ),
    Key::with_default(
        "body_max",
        Shape::Size(0, 1 << 40),
        Need::Text("1MiB"),
        "The longest body of a request.",
    ),
    Key::with_default(
        "buffer",
        Shape::Size(0, 1 << 20),
        Need::Text("64KiB"),
        "So much of a request's body is read before an upstream connection is taken; `0` streams at \
         once.",
    ),
    Key::optional(
        "total",
        WHOLE,
        "For a whole request until the end of its answer, instead of `timeouts.request`; `0s`: as \
         long as it takes.",
    ),
    Key::with_default(
        "cache",
        Shape::FlagOr(cache::ROUTE_KEYS),
        Need::False,
        "Keep answers as far as they allow it (RFC 9111), and use them again.",
    ),
    Key::optional(
        "upgrade",
        Shape::List(&Shape::Choice(&["websocket"])),
        "What a client may go on to speak; without it only requests are served.",
    ),
    Key::optional(
        "require",
        WORD,
        "What a caller must show: a client certificate (`mtls`), a token that is bound by DPoP \
         (`dpop`) or in any way (`bound`), any token (`token`), an API key (`key`).",
    ),
    Key::optional(
        "paths",
        Shape::List(&Shape::Choice(&[
            "encoded-slash",
            "matrix",
            "double-encoding",
            "empty-segment",
        ])),
        "What the path of `match` has that is refused otherwise; it is then matched and forwarded \
         byte for byte, and has no wildcards.",
    ),
    Key::optional(
        "strip",
        Shape::Text(&PATH_PREFIX),
        "The beginning of the path that the upstream does not see; whole segments.",
    ),
    Key::optional(
        "rewrite",
        Shape::Text(&PATH_PREFIX),
        "What the upstream sees in front of the path; the outcome is authorised as well.",
    ),
    Key::with_default(
        "public",
        Shape::Flag,
        Need::False,
        "Serve everybody without a credential; `allow` must then be absent.",
    ),
    Key::optional(
        "allow",
        Shape::List(&Shape::Table(ALLOW_KEYS)),
        "Who may do what; what no entry allows is refused with 403.",
    ),
    Key::optional(
        "deny",
        Shape::List(&Shape::Table(DENY_KEYS)),
        "Who may not do what, whatever allows it.",
    ),
];

/// What the other sections define.
pub(super) struct Defined<'a> {
    pub(super) names: Names<'a>,
    pub(super) limits: &'a [Charged],
    pub(super) upstreams: &'a [Upstream],
    pub(super) hosts: &'a BTreeMap<Box<str>, HostRules>,
}

/// The same, to be found by name.
struct Known<'a> {
    defined: &'a Defined<'a>,
    limits: HashMap<&'a str, &'a Charged>,
    limit_names: HashSet<&'a str>,
    upstreams: HashMap<&'a str, &'a Upstream>,
    upstream_names: HashSet<&'a str>,
    role_names: HashSet<&'a str>,
    /// What conditions of limits read; a key may bring any limit to any route.
    limit_reads: Reads,
}

/// What at least one route uses, whether it exists or not.
#[derive(Default)]
pub(super) struct Used<'a> {
    pub(super) roles: HashSet<&'a str>,
    limits: HashSet<&'a str>,
    upstreams: HashSet<&'a str>,
    pub(super) reads: Reads,
}

pub(super) fn read<'a>(
    root: Fields<'a>,
    defined: &Defined<'_>,
    report: &mut Report,
) -> (Vec<Arc<Route>>, Table, Used<'a>) {
    let entries = root.tables("route");
    if entries.len() > ROUTES_MAX {
        let message = format!("{} routes are more than {ROUTES_MAX}", entries.len());
        let hint = "join routes that differ only below a `{**}`".to_owned();
        report.add(&TOO_LARGE, root.span_of("route"), message, hint);
        return (Vec::new(), Table::default(), Used::default());
    }
    if !root.has("route") {
        let hint = "add `[[route]]` with `name`, `match` and `upstream`".to_owned();
        report.add(
            &NO_ROUTE,
            root.span(),
            "without a route every request is answered with 404",
            hint,
        );
    }

    let known = Known::of(root, defined);
    let mut used = Used::default();
    let mut taken = Taken::default();
    let mut routes = Vec::new();
    let mut patterns = Vec::new();
    for (n, &fields) in entries.iter().enumerate() {
        taken.note(fields, report);
        let pattern = fields.parsed::<Pattern>("match");
        if let Some(pattern) = &pattern {
            fits(n, pattern, fields, defined.hosts, report);
        }
        let number = routes.len();
        routes.extend(route(number, pattern.as_ref(), fields, &known, &mut used, report));
        patterns.extend(pattern.map(|pattern| (n, pattern)));
    }
    let table = table(&entries, &patterns, defined, report);
    note_limits(defined, &mut used);
    (routes.into_iter().map(Arc::new).collect(), table, used)
}

/// Warns about what nothing uses. What is wrong elsewhere may be why, so nothing else may be wrong.
pub(super) fn unused_names(root: Fields<'_>, roles: &Roles, used: &Used<'_>, report: &mut Report) {
    let asked = || used.roles.iter().copied().chain(used.reads.roles.iter().map(AsRef::as_ref));
    // Whoever has a role that includes a used one is asked about by its name.
    let wanted: Vec<_> = asked().filter_map(|name| roles.index(name)).collect();
    let satisfies = |role: &str| {
        roles.closure([role]).is_ok_and(|closed| wanted.iter().any(|index| closed.contains(*index)))
    };
    unused("role", &root.named("role"), &satisfies, report);
    unused("limit", &root.named("limit"), &|name| used.limits.contains(name), report);
    unused("upstream", &root.named("upstream"), &|name| used.upstreams.contains(name), report);
    let of_net = |name: &str| used.reads.networks.contains(name) || proxies::name(root, name);
    unused("net", &root.named("net"), &of_net, report);
    unused("time", &root.named("time"), &|name| used.reads.windows.contains(name), report);
}

/// The table of all patterns, also of routes that have other problems.
fn table(
    entries: &[Fields<'_>],
    patterns: &[(usize, Pattern)],
    defined: &Defined<'_>,
    report: &mut Report,
) -> Table {
    let is_strict = |rules: &HostRules| rules.trailing_slash == TrailingSlash::Strict;
    let strict = defined.hosts.iter().filter(|(_, rules)| is_strict(rules));
    let strict: HashSet<Box<str>> = strict.map(|(host, _)| host.clone()).collect();
    let (table, conflicts) = Table::new(patterns.iter().map(|(n, pattern)| (*n, pattern)), &strict);
    let shown = |n: usize| {
        let fields = entries.get(n)?;
        let (pattern, name) = (fields.text("match")?, fields.text("name").unwrap_or("?"));
        Some(format!("`{pattern}` of route `{name}`"))
    };
    for (n, conflict) in conflicts {
        let this = shown(n).unwrap_or_default();
        let other = conflict.with.and_then(shown).unwrap_or_else(|| "another route".to_owned());
        let span = entries.get(n).map(|fields| fields.span_of("match")).unwrap_or_default();
        report.add(
            &PATTERNS_CONFLICT,
            span,
            format!("{this} and {other} match the same paths"),
            "one place of a path takes literal segments and one of `{x}` or `{**}`; make one of the \
             patterns narrower, or join the routes"
                .to_owned(),
        );
    }
    table
}

impl<'a> Known<'a> {
    fn of(root: Fields<'a>, defined: &'a Defined<'a>) -> Self {
        let names = |key| root.named(key).into_iter().map(|entry| entry.name).collect();
        let mut limit_reads = Reads::default();
        for condition in defined.limits.iter().filter_map(|charged| charged.when.as_ref()) {
            limit_reads.note(condition.expr());
        }
        limit_reads.region |=
            defined.limits.iter().any(|charged| *charged.limit.by() == By::Region);
        Self {
            defined,
            limits: defined.limits.iter().map(|one| (&**one.limit.name(), one)).collect(),
            limit_names: names("limit"),
            upstreams: defined.upstreams.iter().map(|one| (&*one.plan.name, one)).collect(),
            upstream_names: names("upstream"),
            role_names: names("role"),
            limit_reads,
        }
    }
}

fn route<'a>(
    number: usize,
    pattern: Option<&Pattern>,
    fields: Fields<'a>,
    known: &Known<'_>,
    used: &mut Used<'a>,
    report: &mut Report,
) -> Option<Route> {
    let limits = limits(fields, known, used, report);
    let upstream = upstream(fields, known, used, report);
    let require = require(fields, report);
    let rewrite = rewrite(pattern, fields, report);
    let mut reads = Reads::default();
    let names: Vec<(usize, &Arc<str>)> = pattern.map(|p| p.names().collect()).unwrap_or_default();
    let params: Vec<&str> = names.iter().map(|(_, name)| &***name).collect();
    let authz = plan(fields, &params, known, used, &mut reads, report);
    let read = if reads.params { names } else { Vec::new() };
    let queries = reads.queries.union(&known.limit_reads.queries).map(Arc::clone).collect();
    let reads_region = reads.region || known.limit_reads.region;
    used.reads.add(reads);
    // After all of the above, so that each of them tells its problems.
    let upstream = upstream?;
    let cache = cache::of_route(fields, upstream, report).map(Arc::new);
    Some(Route {
        name: fields.text("name")?.into(),
        number,
        pattern: fields.text("match")?.into(),
        authz: authz?,
        require: require?,
        limits,
        upstream: Arc::clone(&upstream.plan),
        gate: upstream.gate.as_ref().map(Arc::clone),
        body_max: fields.size("body_max")?,
        buffer: fields.size("buffer")?,
        total: whole(fields, "total"),
        cache,
        websocket: fields.texts("upgrade").iter().any(|(word, _)| *word == "websocket"),
        opt_outs: pattern?.needs(),
        rewrite: rewrite?,
        forward_credential: upstream.forward_credential,
        errors: upstream.errors,
        identity: upstream.identity,
        reads_region,
        queries,
        params: read.into_iter().map(|(n, name)| (n, Arc::clone(name))).collect(),
    })
}

fn limits<'a>(
    fields: Fields<'a>,
    known: &Known<'_>,
    used: &mut Used<'a>,
    report: &mut Report,
) -> Vec<Charged> {
    let public = fields.flag("public") == Some(true);
    let mut limits: Vec<Charged> = Vec::new();
    for (name, span) in fields.texts("limits") {
        if !known.limit_names.contains(&name) {
            unknown_name("limit", name, span, known.limit_names.iter().copied(), report);
        } else if limits.iter().any(|charged| &**charged.limit.name() == name) {
            let message = format!("limit `{name}` is named twice");
            report.add(&NAME_TWICE, span, message, "once is enough".to_owned());
        }
        used.limits.insert(name);
        let Some(charged) = known.limits.get(name) else { continue };
        if public && counts_callers(charged.limit.by()) {
            let message = format!("limit `{name}` counts callers, and a public route has none");
            let hint = "use a limit with `by = \"ip\"`".to_owned();
            report.add(&KEY_LIMIT_ON_PUBLIC, span, message, hint);
        }
        if limits.len() < DEMANDS_MAX {
            limits.push((*charged).clone());
        } else {
            let message = format!("a route has at most {DEMANDS_MAX} limits");
            report.add(&TOO_MANY, span, message, "leave some out".to_owned());
            break;
        }
    }
    limits
}

const fn counts_callers(by: &By) -> bool {
    match by {
        By::Application | By::Claim(_) | By::Key | By::Principal | By::Role => true,
        By::Global | By::Ip | By::Prefix { .. } | By::Region | By::Route => false,
    }
}

fn upstream<'a, 'k>(
    fields: Fields<'a>,
    known: &Known<'k>,
    used: &mut Used<'a>,
    report: &mut Report,
) -> Option<&'k Upstream> {
    let name = fields.text("upstream")?;
    used.upstreams.insert(name);
    if !known.upstream_names.contains(&name) {
        let names = known.upstream_names.iter().copied();
        unknown_name("upstream", name, fields.span_of("upstream"), names, report);
    }
    known.upstreams.get(name).copied()
}

/// What callers must show; `None` where that is malformed.
fn require(fields: Fields<'_>, report: &mut Report) -> Option<Requires> {
    if !fields.has("require") {
        return Some(Requires::default());
    }
    let require = Require::named(fields.text("require")?)?;
    if fields.flag("public") == Some(true) && require.needs_caller() {
        let name = fields.text("name").unwrap_or("?");
        on_public(require, name, fields.span_of("require"), report);
    }
    let required = Requires::from(require);
    if required.is_impossible() {
        impossible(fields.text("name").unwrap_or("?"), fields.span_of("require"), report);
    }
    Some(required)
}

fn plan<'a>(
    fields: Fields<'a>,
    params: &[&str],
    known: &Known<'_>,
    used: &mut Used<'a>,
    reads: &mut Reads,
    report: &mut Report,
) -> Option<Plan> {
    let shown = fields.text("name").unwrap_or("?");
    let mut rights = rights::Reader {
        route: shown,
        params,
        names: &known.defined.names,
        role_names: &known.role_names,
        used,
        reads,
    };
    let allow = rights.allow(fields, report);
    let deny = rights.deny(fields, report);
    let plan = match (fields.flag("public")?, fields.has("allow")) {
        (true, false) => Plan::public(),
        (true, true) => {
            let message = format!("route `{shown}` is public and has `allow` rules");
            let hint = "remove `public`, or remove the rules".to_owned();
            report.add(&PUBLIC_WITH_ALLOW, fields.span_of("public"), message, hint);
            return None;
        }
        (false, false) => {
            let message = format!("nobody may use route `{shown}`");
            let hint =
                "add `[[route.allow]]` with `method` and `role`, or `public = true`".to_owned();
            report.add(&OPEN_TO_NOBODY, fields.span(), message, hint);
            return None;
        }
        (false, true) => Plan::rules(allow?),
    };
    Some(plan.denying(deny?))
}

/// What the conditions of limits use counts as used where the limit is.
fn note_limits(defined: &Defined<'_>, used: &mut Used<'_>) {
    for charged in defined.limits {
        if let Some(condition) = &charged.when {
            used.reads.note(condition.expr());
        }
    }
}

/// Names and patterns that are taken, by the line where they stand.
#[derive(Default)]
struct Taken<'a> {
    names: HashSet<&'a str>,
    spellings: HashMap<String, &'a str>,
}

impl<'a> Taken<'a> {
    fn note(&mut self, fields: Fields<'a>, report: &mut Report) {
        if let Some(name) = fields.text("name")
            && !self.names.insert(name)
        {
            let message = format!("two routes are called `{name}`");
            report.add(
                &NAME_TWICE,
                fields.span_of("name"),
                message,
                "rename one of the two".to_owned(),
            );
        }
        let Some(pattern) = fields.text("match") else { return };
        let other = *self.spellings.entry(pattern.to_ascii_lowercase()).or_insert(pattern);
        if other != pattern {
            let message = format!("`{pattern}` and `{other}` differ only in case");
            let hint = "an upstream that ignores case serves both under the rules of either; give \
                        both the same `allow`, or keep one"
                .to_owned();
            report.add(&CASE_TWINS, fields.span_of("match"), message, hint);
        }
    }
}
