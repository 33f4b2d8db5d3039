//! `[limit]`: how much one caller or one address may ask for.

use std::num::NonZeroU32;
use std::sync::Arc;

use enforcer_limits::{By, Limit};

use crate::grammar::{Fields, Key, RATE, Shape};

pub(super) static KEYS: &[Key] = &[
    Key::required(
        "by",
        Shape::Choice(&["ip", "key"]),
        "Who is counted: the source address (IPv6 by /64), or the caller of the API key.",
    ),
    Key::required("rate", Shape::Text(&RATE), "Requests in the long run: `100/s`, `6/m`, `50/h`."),
    Key::required("burst", Shape::Count(1, 0xFFFF_FFFF), "Requests at once."),
];

pub(super) fn read(root: Fields<'_>) -> Vec<Arc<Limit>> {
    let entries = root.named("limit");
    let limits = entries.iter().filter_map(|entry| limit(entry.name, entry.fields(KEYS)?));
    limits.map(Arc::new).collect()
}

fn limit(name: &str, fields: Fields<'_>) -> Option<Limit> {
    let by = match fields.text("by")? {
        "ip" => By::Ip,
        "key" => By::Key,
        _ => return None,
    };
    let burst = NonZeroU32::new(u32::try_from(fields.count("burst")?).ok()?)?;
    Some(Limit { name: name.into(), by, rate: fields.parsed("rate")?, burst })
}
