//! Proxies in front of a listener: whose word about clients is believed, and who speaks the PROXY
//! protocol.

use std::collections::BTreeMap;
use std::sync::Arc;

use enforcer_authz::Networks;
use enforcer_model::Prefix;

use crate::codes::WRONG_VALUE;
use crate::grammar::{Fields, Key, PROXIES, Shape};
use crate::problem::Report;

pub(super) static PROXY_PROTOCOL_KEYS: &[Key] = &[Key::required(
    "from",
    Shape::OneOrMore(&Shape::Text(&PROXIES)),
    "Peers that begin every connection with a PROXY header, as networks or `net:NAME`.",
)];

/// The networks that `key` lists, by themselves or by a name of `[net]`.
pub(super) fn read(
    fields: Fields<'_>,
    key: &str,
    named: &BTreeMap<Arc<str>, Arc<Networks>>,
    report: &mut Report,
) -> Arc<Networks> {
    let mut networks: Vec<Prefix> = Vec::new();
    for (text, span) in fields.texts(key) {
        let before = networks.len();
        match text.strip_prefix("net:") {
            Some(name) => match named.get(name) {
                Some(set) => networks.extend(set.iter()),
                None => {
                    super::unknown_name("net", name, span, named.keys().map(AsRef::as_ref), report);
                }
            },
            None => networks.extend(text.parse::<Prefix>()),
        }
        let all = networks.get(before..).unwrap_or_default().iter().find(|one| one.length() == 0);
        if let Some(all) = all {
            let message = format!("with `{all}` everybody could say where they come from");
            let hint = "name the networks of the proxies in front of this listener".to_owned();
            report.add(&WRONG_VALUE, span, message, hint);
        }
    }
    Arc::new(Networks::collect(networks).0)
}

/// Whether a listener names the networks `name`.
pub(super) fn name(root: Fields<'_>, name: &str) -> bool {
    let is_meant = |(text, _): &(&str, _)| text.strip_prefix("net:") == Some(name);
    root.named("listen").iter().any(|entry| {
        entry.fields(super::listen::KEYS).is_some_and(|fields| {
            let from = fields.table("proxy_protocol").texts("from");
            fields.texts("trusted").iter().chain(&from).any(is_meant)
        })
    })
}
