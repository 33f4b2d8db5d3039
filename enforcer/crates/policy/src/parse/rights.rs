//! `[[route.allow]]` and `[[route.deny]]`: the rules of one route.

use std::collections::HashSet;

use enforcer_authz::{Methods, Rule};
use enforcer_model::Role;
use http::Method;

use super::conditions::{Names, Reads, condition};
use super::routes::Used;
use super::unknown_name;
use crate::codes::{MISSING_KEY, NAME_TWICE, SHADOWED, TOO_MANY};
use crate::grammar::{CONDITION, Fields, Key, METHOD, NAME, Shape};
use crate::problem::Report;

/// Rules of each kind that a route may have; a decision looks at all of them.
const RULES_MAX: usize = 128;

pub(super) static ALLOW_KEYS: &[Key] = &[
    Key::required(
        "method",
        Shape::OneOrMore(&Shape::Text(&METHOD)),
        "One method or a list; GET does not imply HEAD.",
    ),
    Key::optional(
        "role",
        Shape::Text(&NAME),
        "The role that a caller needs, or one that includes it; may be left out beside `when`.",
    ),
    Key::optional(
        "when",
        Shape::Text(&CONDITION),
        "The rule allows only where this holds; what is unknown does not allow.",
    ),
    Key::optional("name", Shape::Text(&NAME), "Names the rule in decisions and records."),
];

pub(super) static DENY_KEYS: &[Key] = &[
    Key::optional(
        "method",
        Shape::OneOrMore(&Shape::Text(&METHOD)),
        "One method or a list. Without it: every method.",
    ),
    Key::optional(
        "role",
        Shape::Text(&NAME),
        "The role whose holders are denied. Without it: everybody.",
    ),
    Key::optional(
        "when",
        Shape::Text(&CONDITION),
        "The rule denies where this holds, and where that cannot be told.",
    ),
    Key::optional("name", Shape::Text(&NAME), "Names the rule in decisions and records."),
];

/// Reads the rules of one route.
pub(super) struct Reader<'r, 'a> {
    pub(super) route: &'r str,
    /// The names in braces of its pattern.
    pub(super) params: &'r [&'r str],
    pub(super) names: &'r Names<'r>,
    pub(super) role_names: &'r HashSet<&'r str>,
    pub(super) used: &'r mut Used<'a>,
    pub(super) reads: &'r mut Reads,
}

impl<'a> Reader<'_, 'a> {
    /// `None` when a rule has problems.
    pub(super) fn allow(&mut self, fields: Fields<'a>, report: &mut Report) -> Option<Vec<Rule>> {
        let mut rules = Some(Vec::new());
        let mut taken = HashSet::new();
        let mut granted: HashSet<(&str, Method)> = HashSet::new();
        for (n, fields) in self.bounded(fields, "allow", report).into_iter().enumerate() {
            let name = self.name(n, "allow", fields, &mut taken, report);
            let methods = methods(fields);
            if !fields.has("role") && !fields.has("when") {
                let message = format!("{name} says neither who may nor when");
                let hint = "add `role = \"NAME\"`, or `when = 'CONDITION'`".to_owned();
                report.add(&MISSING_KEY, fields.span(), message, hint);
            } else if let Some(role) = fields.text("role") {
                let fresh = methods.iter().any(|method| !granted.contains(&(role, method.clone())));
                if !fresh && !methods.is_empty() {
                    let message = format!("{name} allows nothing that an earlier rule does not");
                    report.add(&SHADOWED, fields.span(), message, "remove it".to_owned());
                }
                if !fields.has("when") {
                    granted.extend(methods.iter().map(|method| (role, method.clone())));
                }
            }
            let rule = self.rule(&name, methods.into_iter().collect(), fields, report);
            collect(&mut rules, rule);
        }
        rules
    }

    /// `None` when a rule has problems.
    pub(super) fn deny(&mut self, fields: Fields<'a>, report: &mut Report) -> Option<Vec<Rule>> {
        let mut rules = Some(Vec::new());
        let mut taken = HashSet::new();
        for (n, fields) in self.bounded(fields, "deny", report).into_iter().enumerate() {
            let name = self.name(n, "deny", fields, &mut taken, report);
            let methods = match fields.has("method") {
                true => methods(fields).into_iter().collect(),
                false => Methods::any(),
            };
            let rule = self.rule(&name, methods, fields, report);
            collect(&mut rules, rule);
        }
        rules
    }

    fn bounded(&self, fields: Fields<'a>, key: &str, report: &mut Report) -> Vec<Fields<'a>> {
        let rules = fields.tables(key);
        if rules.len() <= RULES_MAX {
            return rules;
        }
        let message = format!(
            "route `{}` has {} rules that {key}, more than {RULES_MAX}",
            self.route,
            rules.len()
        );
        let hint = "join rules with `||`, or split the route".to_owned();
        report.add(&TOO_MANY, fields.span_of(key), message, hint);
        Vec::new()
    }

    /// `ROUTE.NAME`, or `ROUTE.allow[N]` counted from one.
    fn name(
        &self,
        n: usize,
        kind: &str,
        fields: Fields<'a>,
        taken: &mut HashSet<&'a str>,
        report: &mut Report,
    ) -> String {
        let Some(name) = fields.text("name") else {
            return format!("{}.{kind}[{}]", self.route, n + 1);
        };
        if !taken.insert(name) {
            let message = format!("two rules of route `{}` are called `{name}`", self.route);
            report.add(
                &NAME_TWICE,
                fields.span_of("name"),
                message,
                "rename one of the two".to_owned(),
            );
        }
        format!("{}.{name}", self.route)
    }

    fn rule(
        &mut self,
        name: &str,
        methods: Methods,
        fields: Fields<'a>,
        report: &mut Report,
    ) -> Option<Rule> {
        let role = fields.text("role");
        if let Some(role) = role {
            self.used.roles.insert(role);
            if !self.role_names.contains(&role) {
                let known = self.role_names.iter().copied();
                unknown_name("role", role, fields.span_of("role"), known, report);
            }
        }
        let when = condition(fields, self.params, self.names, report)?;
        if let Some(condition) = &when {
            self.reads.note(condition.expr());
        }
        let role = role.map(Role::new);
        // An unknown role has been told.
        Rule::new(name, methods, role.as_ref(), when, self.names.vocabulary.roles).ok()
    }
}

fn methods(fields: Fields<'_>) -> Vec<Method> {
    fields.all_parsed::<Method>("method").into_iter().map(|(method, _)| method).collect()
}

fn collect(rules: &mut Option<Vec<Rule>>, rule: Option<Rule>) {
    match (rules.as_mut(), rule) {
        (Some(rules), Some(rule)) => rules.push(rule),
        (_, None) => *rules = None,
        (None, Some(_)) => {}
    }
}
