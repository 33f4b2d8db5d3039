//! `[role]`: what a caller can be, and which role includes which.

use std::collections::HashMap;

use enforcer_authz::{Grant, RoleDefinition, Roles, RolesError};
use enforcer_model::Role;

use crate::codes::ROLE_CIRCLE;
use crate::grammar::{Fields, Key, NAME, Shape};
use crate::parse::unknown_name;
use crate::problem::Report;
use crate::text::Span;

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "from",
        Shape::List(&Shape::Choice(&["key"])),
        "Which credentials can carry the role; `key`: an API key that was issued with it.",
    ),
    Key::optional(
        "includes",
        Shape::List(&Shape::Text(&NAME)),
        "Roles whose rights this one has as well.",
    ),
];

/// Every role and whom it includes; empty when the definitions contradict each other.
pub(super) fn read(root: Fields<'_>, report: &mut Report) -> Roles {
    let entries = root.named("role");
    let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
    let mut places: HashMap<&str, Span> = HashMap::new();
    let mut definitions = Vec::new();
    for entry in &entries {
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
        let from = fields.texts("from");
        let from = from.into_iter().filter_map(|(text, _)| text.parse::<Grant>().ok()).collect();
        definitions.push(RoleDefinition { role: Role::new(entry.name), includes, from });
    }
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
            Roles::default()
        }
    }
}
