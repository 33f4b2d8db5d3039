//! `[role]`: what a caller can be, who has which role, and which role includes which.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use enforcer_authz::{Grant, ROLES_MAX, RoleDefinition, Roles, RolesError};
use enforcer_model::Role;

use crate::codes::{RESERVED, ROLE_CIRCLE, TOO_MANY};
use crate::grammar::{Fields, GRANT, Key, NAME, Shape};
use crate::parse::unknown_name;
use crate::problem::Report;
use crate::text::Span;

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "from",
        Shape::OneOrMore(&Shape::Text(&GRANT)),
        "Who has it: `key` (an API key that was issued with it), `issuer:NAME/VALUE` (a token), \
         `spiffe://…` (a client certificate; a final `*` takes the rest).",
    ),
    Key::optional(
        "includes",
        Shape::OneOrMore(&Shape::Text(&NAME)),
        "Roles whose rights this one has as well.",
    ),
];

/// Words that stand for callers without a credential, and for everything.
pub(super) const RESERVED_NAMES: [&str; 2] = ["anonymous", "all"];

/// Every role, who has it and whom it includes; without inclusion when the definitions
/// contradict each other, which is told.
pub(super) fn read(root: Fields<'_>, issuers: &BTreeSet<Arc<str>>, report: &mut Report) -> Roles {
    let entries = root.named("role");
    if entries.len() > ROLES_MAX {
        let message = format!("{} roles are more than {ROLES_MAX}", entries.len());
        let hint = "let conditions tell apart what roles need not".to_owned();
        report.add(&TOO_MANY, root.span_of("role"), message, hint);
        return Roles::default();
    }
    let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
    let mut places: HashMap<&str, Span> = HashMap::new();
    let mut definitions = Vec::new();
    for entry in &entries {
        reserved(entry.name, entry.span, report);
        let Some(fields) = entry.fields(KEYS) else { continue };
        places.insert(
            entry.name,
            if fields.has("includes") { fields.span_of("includes") } else { entry.span },
        );
        let mut includes = Vec::new();
        for (name, span) in fields.texts("includes") {
            if names.contains(&name) {
                includes.push(Role::new(name));
            } else {
                unknown_name("role", name, span, names.iter().copied(), report);
            }
        }
        let mut from = Vec::new();
        for (grant, span) in fields.all_parsed::<Grant>("from") {
            if let Grant::Issuer { issuer, .. } = &grant
                && !issuers.contains(issuer)
            {
                unknown_name("issuer", issuer, span, issuers.iter().map(AsRef::as_ref), report);
            }
            from.push(grant);
        }
        definitions.push(RoleDefinition { role: Role::new(entry.name), includes, from });
    }
    // Rules and conditions that name a role are not wrong because of a circle elsewhere.
    let alone =
        |definition: &RoleDefinition| RoleDefinition { includes: Vec::new(), ..definition.clone() };
    let without_includes: Vec<_> = definitions.iter().map(alone).collect();
    match Roles::new(definitions) {
        Ok(roles) => roles,
        Err(problems) => {
            for problem in problems {
                // A name is a key of a table, so it is unique; unknown ones are left out above
                // unless their own definition is malformed and has been told.
                if let RolesError::Circle(role) = problem {
                    report.add(
                        &ROLE_CIRCLE,
                        places.get(role.as_str()).copied().unwrap_or_default(),
                        format!("role `{role}` includes itself, directly or through others"),
                        "remove one `includes` of the circle".to_owned(),
                    );
                }
            }
            Roles::new(without_includes).unwrap_or_default()
        }
    }
}

/// Tells when a role or limit is called as what stands for others.
pub(super) fn reserved(name: &str, span: Span, report: &mut Report) {
    if RESERVED_NAMES.contains(&name) {
        let message = format!("`{name}` has a meaning of its own");
        report.add(&RESERVED, span, message, "choose another name".to_owned());
    }
}
