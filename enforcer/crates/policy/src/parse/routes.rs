//! `[[route]]`: what is served, to whom.
//!
//! A route says in so many words who may use it: `public`, or at least one `[[route.allow]]`. Both,
//! or neither, is refused, for one of them would not mean what it seems to.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use enforcer_authz::{Plan, Roles, Rule};
use enforcer_limits::{By, Limit};
use enforcer_model::{Bytes, Role};
use http::Method;

use super::{unknown_name, unused};
use crate::codes::{
    CASE_TWINS, KEY_LIMIT_ON_PUBLIC, NAME_TWICE, NO_ROUTE, OPEN_TO_NOBODY, PATTERNS_CONFLICT,
    PUBLIC_WITH_ALLOW, SHADOWED, TOO_LARGE,
};
use crate::grammar::{Fields, Key, METHOD, NAME, Need, PATTERN, Shape};
use crate::problem::Report;
use crate::routing::{Pattern, Table};

/// What is served under one pattern, and to whom.
#[derive(Clone, Debug)]
pub struct Route {
    /// As the policy names it; a label of metrics and records.
    pub name: Arc<str>,
    /// Host and path as the policy writes them.
    pub pattern: Arc<str>,
    /// Who may use it.
    pub authz: Plan,
    /// All of these are taken, or none.
    pub limits: Vec<Arc<Limit>>,
    /// Where its requests go.
    pub upstream: Arc<enforcer_upstream::Plan>,
    /// The longest body of a request.
    pub body_max: Bytes,
    /// Whether a client may go on as a WebSocket.
    pub websocket: bool,
}

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
    Key::optional(
        "upgrade",
        Shape::List(&Shape::Choice(&["websocket"])),
        "What a client may go on to speak; without it only requests are served.",
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
];

static ALLOW_KEYS: &[Key] = &[
    Key::required(
        "method",
        Shape::OneOrMore(&Shape::Text(&METHOD)),
        "One method or a list; GET does not imply HEAD.",
    ),
    Key::required(
        "role",
        Shape::Text(&NAME),
        "The role that a caller needs, or one that includes it.",
    ),
];

/// What the other sections define.
struct Defined<'a> {
    roles: &'a Roles,
    role_names: Vec<&'a str>,
    limits: &'a [Arc<Limit>],
    limit_names: Vec<&'a str>,
    upstreams: &'a [Arc<enforcer_upstream::Plan>],
    upstream_names: Vec<&'a str>,
}

/// Names that at least one route uses, whether they exist or not.
#[derive(Default)]
struct Used<'a> {
    roles: HashSet<&'a str>,
    limits: HashSet<&'a str>,
    upstreams: HashSet<&'a str>,
}

pub(super) fn read(
    root: Fields<'_>,
    roles: &Roles,
    limits: &[Arc<Limit>],
    upstreams: &[Arc<enforcer_upstream::Plan>],
    report: &mut Report,
) -> (Vec<Arc<Route>>, Table) {
    let entries = root.tables("route");
    if entries.len() > ROUTES_MAX {
        let message = format!("{} routes are more than {ROUTES_MAX}", entries.len());
        let hint = "join routes that differ only below a `{**}`".to_owned();
        report.add(&TOO_LARGE, root.span_of("route"), message, hint);
        return (Vec::new(), Table::default());
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

    let names = |key| root.named(key).into_iter().map(|entry| entry.name).collect();
    let defined = Defined {
        roles,
        role_names: names("role"),
        limits,
        limit_names: names("limit"),
        upstreams,
        upstream_names: names("upstream"),
    };
    let mut used = Used::default();
    let mut taken = Taken::default();
    let mut routes = Vec::new();
    for &fields in &entries {
        taken.note(fields, report);
        routes.extend(route(fields, &defined, &mut used, report).map(Arc::new));
    }
    let table = table(&entries, report);

    // What is wrong elsewhere may be why nothing uses a name.
    if !report.has_errors() {
        let satisfies = |role: &str| {
            let wanted =
                used.roles.iter().filter_map(|name| roles.satisfying(&Role::new(name)).ok());
            wanted.into_iter().any(|set| set.contains(&Role::new(role)))
        };
        unused("role", &root.named("role"), &satisfies, report);
        unused("limit", &root.named("limit"), &|name| used.limits.contains(name), report);
        unused("upstream", &root.named("upstream"), &|name| used.upstreams.contains(name), report);
    }
    (routes, table)
}

/// The table of all patterns, also of routes that have other problems.
fn table(entries: &[Fields<'_>], report: &mut Report) -> Table {
    let patterns: Vec<(usize, Pattern)> = entries
        .iter()
        .enumerate()
        .filter_map(|(n, fields)| Some((n, fields.parsed("match")?)))
        .collect();
    let (table, conflicts) = Table::new(patterns.iter().map(|(n, pattern)| (*n, pattern)));
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

fn route<'a>(
    fields: Fields<'a>,
    defined: &Defined<'_>,
    used: &mut Used<'a>,
    report: &mut Report,
) -> Option<Route> {
    let limits = limits(fields, defined, used, report);
    let upstream = upstream(fields, defined, used, report);
    let authz = plan(fields, defined, used, report);
    // After all of the above, so that each of them tells its problems.
    Some(Route {
        name: fields.text("name")?.into(),
        pattern: fields.text("match")?.into(),
        authz: authz?,
        limits,
        upstream: upstream?,
        body_max: fields.size("body_max")?,
        websocket: fields.texts("upgrade").iter().any(|(word, _)| *word == "websocket"),
    })
}

fn limits<'a>(
    fields: Fields<'a>,
    defined: &Defined<'_>,
    used: &mut Used<'a>,
    report: &mut Report,
) -> Vec<Arc<Limit>> {
    let public = fields.flag("public") == Some(true);
    let mut limits: Vec<Arc<Limit>> = Vec::new();
    for (name, span) in fields.texts("limits") {
        if !defined.limit_names.contains(&name) {
            unknown_name("limit", name, span, defined.limit_names.iter().copied(), report);
        } else if limits.iter().any(|known| &*known.name == name) {
            let message = format!("limit `{name}` is named twice");
            report.add(&NAME_TWICE, span, message, "once is enough".to_owned());
        }
        used.limits.insert(name);
        let Some(limit) = defined.limits.iter().find(|limit| &*limit.name == name) else {
            continue;
        };
        if public && limit.by == By::Key {
            let message = format!("limit `{name}` counts callers, and a public route has none");
            let hint = "use a limit with `by = \"ip\"`".to_owned();
            report.add(&KEY_LIMIT_ON_PUBLIC, span, message, hint);
        }
        limits.push(Arc::clone(limit));
    }
    limits
}

fn upstream<'a>(
    fields: Fields<'a>,
    defined: &Defined<'_>,
    used: &mut Used<'a>,
    report: &mut Report,
) -> Option<Arc<enforcer_upstream::Plan>> {
    let name = fields.text("upstream")?;
    used.upstreams.insert(name);
    if !defined.upstream_names.contains(&name) {
        let known = defined.upstream_names.iter().copied();
        unknown_name("upstream", name, fields.span_of("upstream"), known, report);
    }
    defined.upstreams.iter().find(|plan| &*plan.name == name).map(Arc::clone)
}

fn plan<'a>(
    fields: Fields<'a>,
    defined: &Defined<'_>,
    used: &mut Used<'a>,
    report: &mut Report,
) -> Option<Plan> {
    let shown = fields.text("name").unwrap_or("?");
    match (fields.flag("public")?, fields.has("allow")) {
        (true, false) => Some(Plan::public()),
        (true, true) => {
            let message = format!("route `{shown}` is public and has `allow` rules");
            let hint = "remove `public`, or remove the rules".to_owned();
            report.add(&PUBLIC_WITH_ALLOW, fields.span_of("public"), message, hint);
            None
        }
        (false, false) => {
            let message = format!("nobody may use route `{shown}`");
            let hint =
                "add `[[route.allow]]` with `method` and `role`, or `public = true`".to_owned();
            report.add(&OPEN_TO_NOBODY, fields.span(), message, hint);
            None
        }
        (false, true) => rules(shown, fields, defined, used, report).map(Plan::rules),
    }
}

fn rules<'a>(
    route: &str,
    fields: Fields<'a>,
    defined: &Defined<'_>,
    used: &mut Used<'a>,
    report: &mut Report,
) -> Option<Vec<Rule>> {
    let mut rules = Vec::new();
    let mut granted: HashSet<(&str, Method)> = HashSet::new();
    for (n, fields) in fields.tables("allow").into_iter().enumerate() {
        let name = format!("{route}.allow[{n}]");
        let methods: Vec<Method> =
            fields.all_parsed::<Method>("method").into_iter().map(|(method, _)| method).collect();
        let role = fields.text("role")?;
        used.roles.insert(role);
        if !defined.role_names.contains(&role) {
            let known = defined.role_names.iter().copied();
            unknown_name("role", role, fields.span_of("role"), known, report);
        }
        let fresh = methods.iter().filter(|method| granted.insert((role, (*method).clone())));
        if fresh.count() == 0 && !methods.is_empty() {
            let message = format!("{name} allows nothing that an earlier rule does not");
            report.add(&SHADOWED, fields.span(), message, "remove it".to_owned());
        }
        // An unknown role has been told; so has a circle that left no role defined.
        let role = Role::new(role);
        let methods = methods.into_iter().collect();
        let rule = Rule::new(&name, methods, Some(&role), None, defined.roles);
        rules.extend(rule);
    }
    Some(rules)
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
