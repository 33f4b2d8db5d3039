//! `[net]` and `[time]`: names for networks and for hours, which conditions use.

use std::collections::BTreeMap;
use std::sync::Arc;

use enforcer_authz::{Days, Hours, Networks, Window, WindowError};
use enforcer_model::Prefix;

use crate::codes::{TOO_MANY, WRONG_VALUE};
use crate::grammar::{DAYS, Fields, HOURS, Key, NETWORK, Need, Shape, ZONE};
use crate::problem::Report;

/// Sets of networks, and windows, that a policy may name.
pub(super) const NAMES_MAX: usize = 4_096;

const UTC: &str = "UTC";

pub(super) static NETWORKS: Shape = Shape::OneOrMore(&Shape::Text(&NETWORK));

pub(super) static WINDOW_KEYS: &[Key] = &[
    Key::with_default(
        "days",
        Shape::Text(&DAYS),
        Need::Text("mon-sun"),
        "Days on which the hours begin: `mon-fri`, `sat,sun`, `mon-wed,fri`.",
    ),
    Key::with_default(
        "hours",
        Shape::Text(&HOURS),
        Need::Text("00:00-24:00"),
        "From the first minute to before the last: `08:00-18:00`, `22:00-06:00` over midnight.",
    ),
    Key::with_default(
        "zone",
        Shape::Text(&ZONE),
        Need::Text("UTC"),
        "The time zone of the clock, by its IANA name.",
    ),
];

/// `[net]`.
pub(super) fn networks(root: Fields<'_>, report: &mut Report) -> BTreeMap<Arc<str>, Arc<Networks>> {
    let entries = root.named("net");
    bounded("networks", entries.len(), root, "net", report);
    let set = |texts: Vec<(&str, _)>| {
        Networks::collect(texts.into_iter().filter_map(|(text, _)| text.parse::<Prefix>().ok())).0
    };
    entries.iter().map(|entry| (entry.name.into(), Arc::new(set(entry.texts())))).collect()
}

/// `[time]`.
pub(super) fn windows(root: Fields<'_>, report: &mut Report) -> BTreeMap<Arc<str>, Arc<Window>> {
    let entries = root.named("time");
    bounded("windows", entries.len(), root, "time", report);
    let mut windows = BTreeMap::new();
    for entry in &entries {
        let Some(fields) = entry.fields(WINDOW_KEYS) else { continue };
        let days = fields.parsed("days").unwrap_or(Days::ALL);
        let hours = fields.parsed("hours").unwrap_or(Hours::ALL);
        let zone = fields.text("zone").filter(|zone| (ZONE.check)(zone).is_ok());
        let window = match Window::new(days, hours, zone.unwrap_or(UTC)) {
            Ok(window) => window,
            Err(error) => {
                let key = if matches!(error, WindowError::Zone(_)) { "zone" } else { "hours" };
                let text = error.to_string();
                let (message, hint) = text.split_once("; ").unwrap_or((&text, ""));
                report.add(&WRONG_VALUE, fields.span_of(key), message, hint.to_owned());
                // Conditions that name it are not wrong; the policy is not used.
                let Ok(window) = Window::new(days, hours, UTC) else { continue };
                window
            }
        };
        windows.insert(entry.name.into(), Arc::new(window));
    }
    windows
}

fn bounded(what: &str, count: usize, root: Fields<'_>, key: &str, report: &mut Report) {
    if count > NAMES_MAX {
        let message = format!("{count} names of {what} are more than {NAMES_MAX}");
        report.add(&TOO_MANY, root.span_of(key), message, "join some of them".to_owned());
    }
}
