//! `[host."NAME"]`: rules of one virtual host.

use std::collections::{BTreeMap, HashSet};

use enforcer_inspect::Host;

use crate::codes::UNUSED;
use crate::grammar::{Fields, Key, Need, Shape};
use crate::problem::Report;

/// What holds for every request to a virtual host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostRules {
    /// What a slash at the end of a path means.
    pub trailing_slash: TrailingSlash,
}

/// What a slash at the end of a path means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrailingSlash {
    /// Nothing: `/a/` is `/a`.
    #[default]
    Same,
    /// `/a/` is another path than `/a`, and needs a route of its own.
    Strict,
}

pub(super) static KEYS: &[Key] = &[Key::with_default(
    "trailing_slash",
    Shape::Choice(&["same", "strict"]),
    Need::Text("same"),
    "Whether `/a/` is the path `/a`, or another one that needs a route of its own.",
)];

pub(super) fn read(root: Fields<'_>, report: &mut Report) -> BTreeMap<Box<str>, HostRules> {
    let used: HashSet<Host> =
        root.tables("route").iter().filter_map(|route| host_of(route.text("match")?)).collect();
    let open = root
        .tables("route")
        .iter()
        .any(|route| route.text("match").is_some_and(|pattern| pattern.starts_with("*/")));
    let mut rules = BTreeMap::new();
    for entry in root.named("host") {
        let Some(fields) = entry.fields(KEYS) else { continue };
        let Ok(host) = entry.name.parse::<Host>() else { continue };
        if !open && !used.contains(&host) {
            let message = format!("no route is on host `{host}`");
            report.add(&UNUSED, entry.span, message, "remove it, or correct the name".to_owned());
        }
        let trailing_slash = match fields.text("trailing_slash") {
            Some("strict") => TrailingSlash::Strict,
            _ => TrailingSlash::Same,
        };
        rules.insert(host.as_str().into(), HostRules { trailing_slash });
    }
    rules
}

fn host_of(pattern: &str) -> Option<Host> {
    pattern.split('/').next()?.parse().ok()
}
