//! What followed from a trail without naming whom it is about.
//!
//! A finding counts requests by their ids and is about an address; a block is about an address or a
//! key. When they came of requests of this trail, or hit what it used, they belong to its story: who
//! follows a token shall see that its address was blocked an hour later.

use std::collections::{BTreeMap, BTreeSet};

use enforcer_audit::{Condition, Log, Query, ReadError, Selector, Stored};
use enforcer_model::{BlockId, KeyId, Prefix, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::cli::tally::{source, text};

/// Requests, addresses, … of one trail that are followed; a finding counts at most 16 requests.
const FOLLOWED_MAX: usize = 512;

/// Classes of what follows.
const CLASSES: [&str; 4] = ["admin", "block", "finding", "list"];

/// What a trail used, by which it is found elsewhere.
#[derive(Debug, Default)]
pub(super) struct Links {
    since: Option<Timestamp>,
    seen: BTreeSet<u64>,
    refused: BTreeSet<String>,
    counted: BTreeSet<String>,
    addresses: BTreeSet<Prefix>,
    keys: BTreeSet<String>,
    tokens: BTreeSet<String>,
    blocks: BTreeSet<BlockId>,
}

/// A record that is linked, and by what.
#[derive(Debug, Serialize)]
pub(super) struct Link {
    /// Its number.
    #[serde(rename = "record", serialize_with = "number")]
    pub(super) record: Stored,
    /// `request`, `address`, `key`, `token` or `block`.
    pub(super) by: &'static str,
}

fn number<S: serde::Serializer>(record: &Stored, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(record.index)
}

impl Links {
    /// Takes up what a record of the trail used.
    pub(super) fn note(&mut self, record: &Stored) {
        let Ok(json) = record.json() else { return };
        let time = text(&json, "/time").and_then(|time| time.parse().ok());
        self.since = self.since.or(time);
        match text(&json, "/class") {
            Some("http") => self.note_request(&json),
            Some(_) => {
                self.seen.insert(record.index);
                self.note_decision(&json);
            }
            None => {}
        }
    }

    fn note_request(&mut self, json: &Value) {
        if text(json, "/body/reason").is_some()
            && let Some(id) = text(json, "/body/id")
        {
            keep(&mut self.refused, id.to_owned());
        }
        if let Some(address) = source(json).and_then(|source| source.parse().ok()) {
            keep(&mut self.addresses, address);
        }
        if let Some(key) = text(json, "/body/who/key") {
            keep(&mut self.keys, key.to_owned());
        }
        if let Some(token) = text(json, "/body/who/token") {
            keep(&mut self.tokens, token.to_owned());
        }
    }

    fn note_decision(&mut self, json: &Value) {
        let named = [text(json, "/body/block/id"), text(json, "/body/block")];
        for id in named.into_iter().flatten().filter_map(|id| id.parse().ok()) {
            keep(&mut self.blocks, id);
        }
        let evidence = json.pointer("/body/evidence").and_then(Value::as_array);
        for id in evidence.into_iter().flatten().filter_map(Value::as_str) {
            keep(&mut self.counted, id.to_owned());
        }
    }

    /// The records that are linked to the trail of `who`, in order.
    pub(super) fn follow(mut self, log: &Log, who: &Selector) -> Result<Vec<Link>, ReadError> {
        let mut links = BTreeMap::new();
        let since = self.since;
        let classes = || Condition::Class(CLASSES.map(str::to_owned).to_vec());
        let requests = |ids: &BTreeSet<String>| -> Vec<Selector> {
            ids.iter().cloned().map(Selector::Request).collect()
        };
        let mut rounds = vec![("request", vec![classes()], requests(&self.refused))];
        match who {
            // One caller: what he used is his, for as long as he used it.
            Selector::Fingerprint(_)
            | Selector::Hex(_)
            | Selector::Key(_)
            | Selector::Principal(_)
            | Selector::Request(_)
            | Selector::Token(_) => {
                let addresses = self.addresses.iter().copied().map(Selector::Network).collect();
                let keys = self.keys.iter().filter_map(|key| key.parse::<KeyId>().ok());
                let tokens = self.tokens.iter().cloned().map(Selector::Token).collect();
                rounds.push(("address", vec![classes()], addresses));
                rounds.push(("key", vec![classes()], keys.map(Selector::Key).collect()));
                rounds.push(("token", vec![classes()], tokens));
            }
            // Why it came about.
            Selector::Block(_) | Selector::Case(_) => {
                rounds.push(("request", Vec::new(), requests(&self.counted)));
            }
            Selector::Incident(_)
            | Selector::Network(_)
            | Selector::Route(_)
            | Selector::Rule(_) => {}
        }
        for (by, mut conditions, selectors) in rounds {
            if selectors.is_empty() {
                continue;
            }
            // What a block or a decision answers came before it.
            let since = since.filter(|_| !matches!(who, Selector::Block(_) | Selector::Case(_)));
            conditions.push(Condition::Any(selectors));
            for record in log.search(Query { conditions, since, ..Query::default() })? {
                self.link(record?, by, &mut links);
            }
        }
        let blocks: Vec<Selector> = self.blocks.iter().copied().map(Selector::Block).collect();
        if !blocks.is_empty() {
            let conditions = vec![classes(), Condition::Any(blocks)];
            for record in log.search(Query { conditions, since, ..Query::default() })? {
                self.link(record?, "block", &mut links);
            }
        }
        Ok(links.into_values().collect())
    }

    fn link(&mut self, record: Stored, by: &'static str, links: &mut BTreeMap<u64, Link>) {
        if self.seen.contains(&record.index) || links.contains_key(&record.index) {
            return;
        }
        if let Ok(json) = record.json() {
            self.note_decision(&json);
        }
        links.insert(record.index, Link { record, by });
    }
}

fn keep<T: Ord>(set: &mut BTreeSet<T>, value: T) {
    if set.len() < FOLLOWED_MAX {
        set.insert(value);
    }
}
