//! A record, by what other forms want to know of it.

use std::net::{IpAddr, SocketAddr};

use enforcer_model::Timestamp;
use serde_json::{Map, Value};

use crate::stored::Stored;

/// A record with its fields at hand.
pub(super) struct Fields<'a> {
    pub(super) index: u64,
    /// The record as it was written.
    pub(super) text: &'a str,
    json: &'a Value,
}

/// Somebody on the network: an address, perhaps a port; else a name.
pub(super) struct Endpoint {
    pub(super) ip: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) name: String,
}

impl<'a> Fields<'a> {
    pub(super) fn new(record: &'a Stored, json: &'a Value) -> Self {
        Self { index: record.index, text: &record.text, json }
    }

    /// The text of a field of the body; empty when it has none.
    pub(super) fn text(&self, name: &str) -> &'a str {
        self.value(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The same; none when it has none.
    pub(super) fn some(&self, name: &str) -> Option<&'a str> {
        self.value(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.value(name).and_then(Value::as_u64)
    }

    /// A field of the body, or of an object in it: `who/principal`.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.json.pointer(&format!("/body/{name}"))
    }

    pub(super) fn envelope(&self, name: &str) -> &'a str {
        self.json.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn class(&self) -> &'a str {
        self.envelope("class")
    }

    /// When it happened, in milliseconds since 1970: the begin of a request, else when it was written.
    pub(super) fn millis(&self) -> u64 {
        let time = self.some("at").unwrap_or_else(|| self.envelope("time"));
        time.parse::<Timestamp>().map_or(0, |time| time.unix_ns() / 1_000_000)
    }

    /// The elements of a list, as texts.
    pub(super) fn list(&self, name: &str) -> Vec<&'a str> {
        let list = self.value(name).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Where a request came from, or whom a decision is about.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        let named = ["source", "peer", "target", "block/target"];
        named.into_iter().find_map(|name| self.some(name)).map(Endpoint::of)
    }

    /// Who decided or asked: `operator NAME`, `rule NAME`, `agent`.
    pub(super) fn author(&self) -> String {
        let author = ["operator", "by", "author", "block/author"]
            .into_iter()
            .find_map(|name| self.value(name));
        match author {
            Some(Value::String(name)) => name.clone(),
            Some(author) => ["operator/name", "rule"]
                .into_iter()
                .find_map(|path| {
                    let name = author.pointer(&format!("/{path}"))?.as_str()?;
                    Some(name.to_owned())
                })
                .unwrap_or_default(),
            None => String::new(),
        }
    }

    /// The user id of an operator.
    pub(super) fn operator_uid(&self) -> Option<u64> {
        ["operator", "by", "author", "block/author"]
            .into_iter()
            .find_map(|name| self.number(&format!("{name}/operator/uid")))
    }

    /// One line that says what happened.
    pub(super) fn message(&self) -> String {
        let words: Vec<&str> = match self.class() {
            "http" => vec![self.text("method"), self.text("path"), self.text("reason")],
            "admin" => [self.text("verb")].into_iter().chain(self.list("arguments")).collect(),
            "block" => {
                vec![self.text("what"), self.text("block/target"), self.text("block/reason")]
            }
            "finding" => vec![self.text("rule"), self.text("target")],
            _ => vec![self.class(), self.text("what"), self.text("why"), self.text("detail")],
        };
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        words.join(" ")
    }
}

impl Endpoint {
    fn of(text: &str) -> Self {
        let name = text.to_owned();
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Self { ip: Some(address.ip()), port: Some(address.port()), name };
        }
        Self { ip: text.parse().ok(), port: None, name }
    }
}

/// Adds `value` at `path`, with the objects that lead there; what is null or empty is left out.
pub(super) fn put(object: &mut Map<String, Value>, path: &str, value: impl Into<Value>) {
    let value = value.into();
    let is_nothing = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    if is_nothing {
        return;
    }
    match path.split_once('.') {
        None => drop(object.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let inner = object.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}
