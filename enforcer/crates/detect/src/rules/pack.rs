//! The rules that come with the program, with the events that they are tested by.
//!
//! They are read like any other file of rules, and a test of this crate says that they can be.

use std::sync::Arc;

use super::plan::RulePlan;
use super::problem::RuleProblem;
use super::read::read;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../pack/", $name)))),*]
    };
}

/// The files of the pack, with their texts.
pub const PACK: &[(&str, &str)] = files![
    "credentials.yaml",
    "objects.yaml",
    "answers.yaml",
    "volume.yaml",
    "roles.yaml",
    "flows.yaml",
    "scanners.yaml",
    "upstreams.yaml",
    "kernel.yaml",
];

/// The events of its tests, by the names that its rules give them.
pub const PACK_EVENTS: &[(&str, &str)] = files![
    "tests/admin-probing.jsonl",
    "tests/all-routes.jsonl",
    "tests/botnet-of-one-client.jsonl",
    "tests/bulk-read.jsonl",
    "tests/busy-office.jsonl",
    "tests/collector.jsonl",
    "tests/commuter.jsonl",
    "tests/connection-flood.jsonl",
    "tests/costly.jsonl",
    "tests/credential-stuffing.jsonl",
    "tests/directory.jsonl",
    "tests/enumeration.jsonl",
    "tests/export-job.jsonl",
    "tests/faulty-form.jsonl",
    "tests/faulty-links.jsonl",
    "tests/flight.jsonl",
    "tests/flood-from-a-network.jsonl",
    "tests/guessed.jsonl",
    "tests/guessing.jsonl",
    "tests/hammering.jsonl",
    "tests/large-answers.jsonl",
    "tests/leaking-route.jsonl",
    "tests/logged-out.jsonl",
    "tests/many-networks.jsonl",
    "tests/monthly-report.jsonl",
    "tests/night.jsonl",
    "tests/office.jsonl",
    "tests/old-client.jsonl",
    "tests/one-broken-client.jsonl",
    "tests/one-credential-many-addresses.jsonl",
    "tests/out-of-sequence.jsonl",
    "tests/packet-flood.jsonl",
    "tests/path-list.jsonl",
    "tests/pollution.jsonl",
    "tests/probing-without-a-name.jsonl",
    "tests/public-directory.jsonl",
    "tests/scanner.jsonl",
    "tests/scraping-anonymous.jsonl",
    "tests/scraping.jsonl",
    "tests/short-burst.jsonl",
    "tests/smuggling.jsonl",
    "tests/ssrf.jsonl",
    "tests/stale-bookmarks.jsonl",
    "tests/stuffing-from-a-network.jsonl",
    "tests/surge-from-a-network.jsonl",
    "tests/surge-of-a-caller.jsonl",
    "tests/surge-of-all.jsonl",
    "tests/surge.jsonl",
    "tests/travel.jsonl",
    "tests/two-editors.jsonl",
    "tests/two-hands.jsonl",
    "tests/upstream-failing.jsonl",
    "tests/upstream-hiccup.jsonl",
    "tests/upstream-invalid.jsonl",
    "tests/volume-of-a-caller.jsonl",
    "tests/volume-of-an-address.jsonl",
    "tests/workday.jsonl",
    "tests/wrong-role.jsonl",
];

/// The rules of the pack; what is wrong with one would be a fault of this program.
pub fn pack() -> Result<Vec<Arc<RulePlan>>, (&'static str, Vec<RuleProblem>)> {
    let mut plans: Vec<Arc<RulePlan>> = Vec::new();
    for (name, text) in PACK {
        let more = read(text, &plans).map_err(|problems| (*name, problems))?;
        plans.extend(more);
    }
    Ok(plans)
}

/// The events of the pack's test `name`.
pub fn pack_events(name: &str) -> Result<String, String> {
    let found = PACK_EVENTS.iter().find(|(known, _)| *known == name);
    found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| format!("the pack has no `{name}`"))
}
