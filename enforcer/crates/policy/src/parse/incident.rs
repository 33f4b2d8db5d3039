//! `[incident.N]`: what becomes stricter while an incident has level N or more.
//!
//! Worked out for every level when the policy is read, so that a request only looks it up.

use std::collections::HashMap;
use std::sync::Arc;

use enforcer_authz::{RoleIndex, RoleSet, Roles};
use enforcer_detect::court::TriggerPlan;
use enforcer_limits::{Factor, Kind};

use super::limits::Charged;
use super::require::{Require, Requires, WORD};
use super::{DAY, Durability, Percent, Route, SECOND, unknown_name};
use crate::codes::{EXCLUDES, NAME_TWICE, NO_EFFECT};
use crate::grammar::{Fields, Key, NAME, Named, Need, PERCENT, Shape};
use crate::problem::Report;

/// What holds at one level of incident.
#[derive(Clone, Debug, Default)]
pub struct Tightening {
    all: Factor,
    anonymous: Factor,
    /// By the number of the limit.
    limits: Box<[Factor]>,
    roles: Box<[(RoleIndex, Factor)]>,
    /// By the number of the route: what it requires at all times, and at this level.
    require: Box<[Requires]>,
    /// The answer to an allowed request waits for its record.
    is_durable: bool,
    /// Of the thresholds of the rules of detection.
    sensitivity: Factor,
}

/// The highest level.
pub(crate) const LEVEL_MAX: u8 = 5;

pub(super) static KEYS: &[Key] = &[
    Key::optional(
        "limits",
        Shape::Keyed(&NAME, &Shape::Factor),
        "What rates and bursts are multiplied by: for a limit, a role, `anonymous` or `all`.",
    ),
    Key::optional(
        "require",
        Shape::Keyed(&NAME, &WORD),
        "What callers of a route must show: `mtls`, `dpop`, `bound`, `token` or `key`.",
    ),
    Key::optional(
        "audit",
        Shape::Choice(&["durable"]),
        "The answer to an allowed request waits until its record is on disk.",
    ),
    Key::optional(
        "sensitivity",
        Shape::Factor,
        "What the thresholds of the rules of detection are multiplied by.",
    ),
    Key::optional(
        "trigger",
        Shape::Table(TRIGGER),
        "When this level opens by itself; below half of each number it is quiet again.",
    ),
];

static TRIGGER: &[Key] = &[
    Key::optional(
        "findings_per_minute",
        Shape::Count(1, 100_000),
        "So many findings inside a minute.",
    ),
    Key::optional(
        "refused_logins",
        Shape::Text(&PERCENT),
        "Such a share of the logins of a minute was refused, of at least 20.",
    ),
    Key::optional("open_incidents", Shape::Count(1, 256), "So many incidents are open."),
    Key::with_default(
        "quiet",
        Shape::Span(SECOND, DAY),
        Need::Text("10m"),
        "It must be quiet for so long before the level relaxes.",
    ),
];

/// What other sections define.
pub(super) struct Defined<'a> {
    pub(super) roles: &'a Roles,
    pub(super) limits: &'a [Charged],
    pub(super) routes: &'a [Arc<Route>],
}

/// For each level what holds there, which is all that is written for it and those below.
pub(super) fn read(
    root: Fields<'_>,
    defined: &Defined<'_>,
    report: &mut Report,
) -> ([Tightening; 6], Vec<TriggerPlan>) {
    let mut triggers = Vec::new();
    let start = Tightening {
        limits: defined.limits.iter().map(|_| Factor::WHOLE).collect(),
        require: defined.routes.iter().map(|route| route.require).collect(),
        ..Tightening::default()
    };
    let mut levels: [Tightening; 6] = std::array::from_fn(|_| start.clone());
    let limit_names: Vec<&str> = root.named("limit").iter().map(|entry| entry.name).collect();
    let route_names: HashMap<&str, Fields<'_>> = root
        .tables("route")
        .into_iter()
        .filter_map(|route| Some((route.text("name")?, route)))
        .collect();
    let routes: HashMap<&str, &Arc<Route>> =
        defined.routes.iter().map(|route| (&*route.name, route)).collect();
    let mut written = root.named("incident");
    written.sort_by_key(|entry| entry.name);
    for entry in written {
        let Some((fields, level)) = entry.fields(KEYS).zip(entry.name.parse::<usize>().ok()) else {
            continue;
        };
        let Some((first, higher)) =
            levels.get_mut(level..).and_then(|levels| levels.split_first_mut())
        else {
            continue;
        };
        triggers.extend(trigger(fields, level, report));
        first.is_durable |= fields.text("audit") == Some("durable");
        if let Some(parts) = fields.factor("sensitivity") {
            let factor = Factor::per_thousand(parts);
            if parts == 0 || factor > first.sensitivity {
                let message = "a level makes detection no less sensitive than the one below it";
                let hint = "write a number above 0, and at most that of the lower level".to_owned();
                report.add(&NO_EFFECT, fields.span_of("sensitivity"), message, hint);
            }
            first.sensitivity = factor;
        }
        for factor in fields.named("limits") {
            note_factor(first, &factor, root, defined, &limit_names, report);
        }
        for require in fields.named("require") {
            match route_names.get(require.name) {
                Some(route) => {
                    note_require(first, &require, *route, &routes, report);
                }
                None => {
                    let known = route_names.keys().copied();
                    unknown_name("route", require.name, require.span, known, report);
                }
            }
        }
        higher.iter_mut().for_each(|level| level.clone_from(first));
    }
    (levels, triggers)
}

fn trigger(fields: Fields<'_>, level: usize, report: &mut Report) -> Option<TriggerPlan> {
    if !fields.has("trigger") {
        return None;
    }
    let (fields, span) = (fields.table("trigger"), fields.span_of("trigger"));
    let whole = |name| u32::try_from(fields.count(name)?).ok();
    let plan = TriggerPlan {
        level: u8::try_from(level).ok()?,
        findings_per_minute: whole("findings_per_minute"),
        refused_logins: fields.parsed::<Percent>("refused_logins").map(Percent::get),
        open_incidents: whole("open_incidents"),
        quiet: fields.duration("quiet")?,
    };
    let names = ["findings_per_minute", "refused_logins", "open_incidents"];
    if level == 0 || !names.into_iter().any(|name| fields.has(name)) {
        let message = format!("the trigger of level {level} never opens anything");
        let hint = "give a level from 1 on `findings_per_minute`, `refused_logins` or \
                    `open_incidents`";
        report.add(&NO_EFFECT, span, message, hint.to_owned());
    }
    Some(plan)
}

fn note_factor(
    level: &mut Tightening,
    written: &Named<'_>,
    root: Fields<'_>,
    defined: &Defined<'_>,
    limit_names: &[&str],
    report: &mut Report,
) {
    let Some(parts) = written.factor() else { return };
    let (name, factor) = (written.name, Factor::per_thousand(parts));
    let limit = defined.limits.iter().find(|charged| &**charged.limit.name() == name);
    let role = defined.roles.index(name);
    let before = match (name, limit, role) {
        ("all", ..) => Some(std::mem::replace(&mut level.all, factor)),
        ("anonymous", ..) => Some(std::mem::replace(&mut level.anonymous, factor)),
        (_, Some(_), Some(_)) => {
            let message = format!("`{name}` is a limit and a role");
            report.add(&NAME_TWICE, written.span, message, "rename one of the two".to_owned());
            None
        }
        (_, Some(limit), None) => {
            if !matches!(limit.limit.kind(), Kind::Rate { .. }) {
                let message =
                    format!("limit `{name}` is no rate, so that a factor changes nothing");
                let hint = "name a limit with `rate`".to_owned();
                report.add(&NO_EFFECT, written.span, message, hint);
            }
            let place = level.limits.get_mut(limit.number);
            place.map(|place| std::mem::replace(place, factor))
        }
        (_, None, Some(role)) => {
            let mut roles = std::mem::take(&mut level.roles).into_vec();
            let before = match roles.iter_mut().find(|(known, _)| *known == role) {
                Some((_, known)) => Some(std::mem::replace(known, factor)),
                None => {
                    roles.push((role, factor));
                    None
                }
            };
            level.roles = roles.into();
            before
        }
        (_, None, None) => {
            // Of a limit or role with problems it is not known what is wrong here.
            let roles = root.named("role");
            let known = || limit_names.iter().copied().chain(roles.iter().map(|role| role.name));
            if !known().any(|known| known == name) {
                unknown_name("limit", name, written.span, known(), report);
            }
            None
        }
    };
    if before.is_some_and(|before| before != Factor::WHOLE && factor >= before) {
        let message = format!("`{name}` is no stricter than at a lower level");
        let hint = "what holds at a level holds at those above".to_owned();
        report.add(&NO_EFFECT, written.value_span(), message, hint);
    }
}

fn note_require(
    level: &mut Tightening,
    written: &Named<'_>,
    route: Fields<'_>,
    routes: &HashMap<&str, &Arc<Route>>,
    report: &mut Report,
) {
    let Some(require) = written.text().and_then(Require::named) else { return };
    if route.flag("public") == Some(true) && require.needs_caller() {
        on_public(require, written.name, written.value_span(), report);
        return;
    }
    let Some(known) = routes.get(written.name) else { return };
    let Some(place) = level.require.get_mut(known.number) else { return };
    let both = place.and(require.into());
    if both == *place {
        let message = format!("route `{}` requires that at a lower level already", written.name);
        report.add(&NO_EFFECT, written.value_span(), message, "remove it".to_owned());
    } else if both.is_impossible() {
        impossible(written.name, written.value_span(), report);
    }
    *place = both;
}

/// Tells that a route which asks nobody who they are cannot want a proof of it.
pub(super) fn on_public(
    require: Require,
    route: &str,
    span: crate::text::Span,
    report: &mut Report,
) {
    let message = format!("route `{route}` is public, so nobody can show a {}", require.as_str());
    let hint = "remove `public`, or require `mtls`".to_owned();
    report.add(&EXCLUDES, span, message, hint);
}

/// Tells that what is required cannot be met.
pub(super) fn impossible(route: &str, span: crate::text::Span, report: &mut Report) {
    let message = format!("route `{route}` requires an API key and a token, and takes only one");
    report.add(&EXCLUDES, span, message, "require one of the two".to_owned());
}

impl Tightening {
    /// What becomes of `charged` for a caller with these roles; `None`: for nobody in particular.
    ///
    /// The smallest of all that applies, where of a caller's roles the one with the largest counts: a
    /// role with the factor 1 is spared whatever else its holder is.
    pub fn factor(&self, charged: &Charged, roles: Option<&RoleSet>) -> Factor {
        let limit = self.limits.get(charged.number).copied().unwrap_or_default();
        let caller = match roles {
            None => self.anonymous,
            Some(roles) => {
                let held = self.roles.iter().filter(|(role, _)| roles.contains(*role));
                held.map(|(_, factor)| *factor).max().unwrap_or_default()
            }
        };
        limit.min(caller).min(self.all)
    }

    /// When the record of an allowed request must be on disk, where the policy says `own` of it.
    pub const fn allowed(&self, own: Option<Durability>) -> Option<Durability> {
        match own {
            None | Some(Durability::Queued) if self.is_durable => Some(Durability::Durable),
            own => own,
        }
    }

    /// What the thresholds of the rules of detection are multiplied by.
    pub const fn sensitivity(&self) -> Factor {
        self.sensitivity
    }

    /// What callers of `route` must show, at all times and at this level.
    pub fn require(&self, route: &Route) -> Requires {
        self.require.get(route.number).copied().unwrap_or(route.require)
    }
}
