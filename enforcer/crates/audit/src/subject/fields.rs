//! Where personal values stand in the canonical text of a record.
//!
//! Found by the names of the fields, without parsing: inside a JSON string a quote is always
//! escaped, so `"peer":"` can be nothing but that field, whatever a client wrote elsewhere. Which
//! fields are looked for depends on the class: `reason` is an operator's sentence in a block and
//! one of our own words in a request.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use enforcer_model::PersonalKind as Kind;
use memchr::memmem::Finder;

use super::seal::Handle;

/// More arguments than this are one value together: each would take the room of a handle.
pub(crate) const ARGUMENTS_MAX: usize = 64;
/// The IPv6 network that a subscriber gets; what is not smaller names no single one.
const SUBSCRIBER_BITS: u8 = 64;

/// One value in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// Its bytes, without what surrounds it.
    pub(crate) value: Range<usize>,
    /// What a handle stands in the place of: brackets of an address belong to it.
    pub(crate) place: Range<usize>,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
}

/// How a value stands in its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// All of a string.
    Whole,
    /// The address of `ADDRESS:PORT`.
    Peer,
    /// A whole array; in its place stands a string.
    Array,
}

/// Finds them.
#[derive(Debug)]
pub(crate) struct Fields {
    class: Finder<'static>,
    peer: Finder<'static>,
    source: Finder<'static>,
    user_agent: Finder<'static>,
    principal: Finder<'static>,
    target: Finder<'static>,
    reason: Finder<'static>,
    detail: Finder<'static>,
    arguments: Finder<'static>,
    signals: Finder<'static>,
    title: Finder<'static>,
}

impl Fields {
    pub(crate) fn new() -> Self {
        Self {
            class: Finder::new(r#","class":""#),
            peer: Finder::new(r#""peer":""#),
            source: Finder::new(r#""source":""#),
            user_agent: Finder::new(r#""user_agent":""#),
            principal: Finder::new(r#""who":{"principal":""#),
            target: Finder::new(r#""target":""#),
            reason: Finder::new(r#""reason":""#),
            detail: Finder::new(r#""detail":""#),
            arguments: Finder::new(r#""arguments":"#),
            signals: Finder::new(r#""signals":"#),
            title: Finder::new(r#""title":""#),
        }
    }

    /// Whether `text` is a record of class `subject`.
    pub(crate) fn is_subjects(&self, text: &[u8]) -> bool {
        self.class(text).is_some_and(|(class, _)| class == b"subject")
    }

    /// Puts the fields of `text` into `found`, in their order. A value that is a handle already is
    /// told like any other.
    pub(crate) fn find(&self, text: &[u8], found: &mut Vec<Field>) {
        found.clear();
        let Some((class, mut at)) = self.class(text) else { return };
        match class {
            b"http" => {
                // The one class whose speed matters: each field is looked for behind the last.
                at = push_peer(text, self.after(&self.peer, text, at), found).unwrap_or(at);
                for (finder, kind) in [
                    (&self.source, Kind::Address),
                    (&self.user_agent, Kind::UserAgent),
                    (&self.principal, Kind::Principal),
                ] {
                    at = push(text, self.after(finder, text, at), kind, found).unwrap_or(at);
                }
            }
            b"admin" => {
                push_arguments(text, self.after(&self.arguments, text, at), found);
                push(text, self.after(&self.detail, text, at), Kind::Text, found);
            }
            b"block" => {
                let target = self.after(&self.target, text, at);
                push(text, target, Kind::Address, found);
                push(
                    text,
                    target.and_then(|begin| behind_user(text, begin)),
                    Kind::Principal,
                    found,
                );
                for (finder, kind) in [(&self.reason, Kind::Text), (&self.detail, Kind::Text)] {
                    push(text, self.after(finder, text, at), kind, found);
                }
            }
            b"finding" => {
                push(text, self.after(&self.target, text, at), Kind::Address, found);
                push(text, self.after(&self.source, text, at), Kind::Address, found);
                push(text, self.after(&self.principal, text, at), Kind::Principal, found);
                push_arguments(text, self.after(&self.signals, text, at), found);
                push(text, self.after(&self.detail, text, at), Kind::Text, found);
            }
            b"decision" => {
                for (finder, kind) in [
                    (&self.target, Kind::Address),
                    (&self.principal, Kind::Principal),
                    (&self.reason, Kind::Text),
                    (&self.detail, Kind::Text),
                ] {
                    push(text, self.after(finder, text, at), kind, found);
                }
            }
            b"incident" => {
                push(text, self.after(&self.title, text, at), Kind::Text, found);
                push(text, self.after(&self.reason, text, at), Kind::Text, found);
            }
            b"list" => {
                push(text, self.after(&self.reason, text, at), Kind::Text, found);
                push(text, self.after(&self.detail, text, at), Kind::Text, found);
            }
            b"cache" | b"endpoint" | b"erasure" | b"upstream" => {
                push(text, self.after(&self.reason, text, at), Kind::Text, found);
            }
            _ => {}
        }
        found.sort_unstable_by_key(|field| field.place.start);
    }

    fn class<'a>(&self, text: &'a [u8]) -> Option<(&'a [u8], usize)> {
        let class = string(text, self.after(&self.class, text, 0)?)?;
        Some((text.get(class.clone())?, class.end))
    }

    /// Where what `finder` looks for ends, from `at` on.
    fn after(&self, finder: &Finder<'static>, text: &[u8], at: usize) -> Option<usize> {
        let found = finder.find(text.get(at..)?)?;
        Some(at + found + finder.needle().len())
    }
}

/// Where the principal begins in a block's target that is one.
fn behind_user(text: &[u8], begin: usize) -> Option<usize> {
    const USER: &[u8] = b"user:";
    text.get(begin..)?.starts_with(USER).then(|| begin + USER.len())
}

/// Adds the string that begins at `begin`, if it is personal; gives its end.
fn push(text: &[u8], begin: Option<usize>, kind: Kind, found: &mut Vec<Field>) -> Option<usize> {
    let value = string(text, begin?)?;
    let bytes = text.get(value.clone())?;
    let end = value.end;
    let is_personal = Handle::parse(bytes).is_some()
        || match kind {
            Kind::Address => is_address(bytes),
            Kind::Principal => !bytes.starts_with(b"key:"),
            Kind::Text | Kind::UserAgent => true,
        };
    if is_personal {
        found.push(Field { place: value.clone(), value, kind, shape: Shape::Whole });
    }
    Some(end)
}

fn push_peer(text: &[u8], begin: Option<usize>, found: &mut Vec<Field>) -> Option<usize> {
    let all = string(text, begin?)?;
    let bytes = text.get(all.clone())?;
    // A process of this host has no address.
    if !bytes.starts_with(b"unix:") {
        let port = bytes.iter().rposition(|byte| *byte == b':')?;
        let place = all.start..all.start + port;
        let is_bracketed = bytes.starts_with(b"[");
        let value = match is_bracketed {
            true => place.start + 1..place.end - 1,
            false => place.clone(),
        };
        found.push(Field { value, place, kind: Kind::Address, shape: Shape::Peer });
    }
    Some(all.end)
}

/// An array of strings, or the handle that stands in the place of one.
fn push_arguments(text: &[u8], begin: Option<usize>, found: &mut Vec<Field>) -> Option<usize> {
    let begin = begin?;
    if text.get(begin) == Some(&b'"') {
        let place = string(text, begin + 1)?;
        let end = place.end;
        found.push(Field { value: place.clone(), place, kind: Kind::Text, shape: Shape::Array });
        return Some(end);
    }
    let before = found.len();
    let mut at = begin;
    while text.get(at + 1) == Some(&b'"') {
        let value = string(text, at + 2)?;
        at = value.end + 1;
        let bytes = text.get(value.clone())?;
        let kind = if is_address(bytes) { Kind::Address } else { Kind::Text };
        found.push(Field { place: value.clone(), value, kind, shape: Shape::Whole });
    }
    if found.len() - before > ARGUMENTS_MAX {
        found.truncate(before);
        let value = begin..at + 1;
        found.push(Field { place: value.clone(), value, kind: Kind::Text, shape: Shape::Array });
    }
    Some(at)
}

/// The string whose first byte is at `begin`, up to its closing quote.
fn string(text: &[u8], begin: usize) -> Option<Range<usize>> {
    let mut at = begin;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(begin..at);
        }
        at += 2;
    }
}

/// Whether `bytes` name one host, or the IPv6 network of one subscriber.
pub(crate) fn is_address(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match text.split_once('/') {
        None => text.parse::<IpAddr>().is_ok(),
        Some((address, length)) => {
            address.parse::<Ipv6Addr>().is_ok()
                && length.parse::<u8>().is_ok_and(|length| length >= SUBSCRIBER_BITS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_values_are_found_by_class() {
        for (text, wanted) in [
            (
                r#"{"time":"t","class":"http","body":{"id":"1","peer":"203.0.113.7:4711","source":"198.51.100.1","path":"/a","user_agent":"curl \"8\"","who":{"principal":"alice","key":null},"status":401,"reason":"unauthenticated"}}"#,
                vec!["203.0.113.7", "198.51.100.1", r#"curl \"8\""#, "alice"],
            ),
            (
                r#"{"time":"t","class":"http","body":{"peer":"[2001:db8::7]:4711","who":{"principal":"key:k7Qx2mP9aB3c"},"reason":null}}"#,
                vec!["2001:db8::7"],
            ),
            (
                r#"{"time":"t","class":"http","body":{"peer":"unix:uid=0,gid=0,pid=1","who":null}}"#,
                vec![],
            ),
            (
                r#"{"time":"t","class":"admin","body":{"arguments":["203.0.113.7","why: \\",""],"outcome":"done","detail":"it \"is\""}}"#,
                vec!["203.0.113.7", r"why: \\", "", r#"it \"is\""#],
            ),
            (
                r#"{"time":"t","class":"admin","body":{"arguments":[],"outcome":"done","detail":null}}"#,
                vec![],
            ),
            (
                r#"{"time":"t","class":"block","body":{"block":{"target":"10.0.0.0/8","reason":"scan","author":"agent"},"detail":null}}"#,
                vec!["scan"],
            ),
            (
                r#"{"time":"t","class":"block","body":{"block":{"target":"user:token:corp/eve","reason":"scan","author":"agent"},"detail":null}}"#,
                vec!["token:corp/eve", "scan"],
            ),
            (
                r#"{"time":"t","class":"finding","body":{"rule":"r","target":"2001:db8:1:2::/64","detail":"x"}}"#,
                vec!["2001:db8:1:2::/64", "x"],
            ),
            (
                r#"{"time":"t","class":"finding","body":{"finding":"F-7K2Q4XW","about":"source","target":"203.0.113.7","source":"203.0.113.8","who":{"principal":"token:corp/eve"},"signals":["60 objects","from 203.0.113.7"],"evidence":["00"]}}"#,
                vec![
                    "203.0.113.7",
                    "203.0.113.8",
                    "token:corp/eve",
                    "60 objects",
                    "from 203.0.113.7",
                ],
            ),
            (
                r#"{"time":"t","class":"decision","body":{"decision":"D-7K2Q4XW","about":"identity","who":{"principal":"token:corp/eve"},"author":{"operator":{"uid":0,"name":"root"}},"reason":"why","applied":["layer 7"],"detail":"d"}}"#,
                vec!["token:corp/eve", "why", "d"],
            ),
            (
                r#"{"time":"t","class":"incident","body":{"incident":"INC-0042","title":"scan: source:203.0.113.7","reason":"quiet"}}"#,
                vec!["scan: source:203.0.113.7", "quiet"],
            ),
            (
                r#"{"time":"t","class":"kernel-summary","body":{"counts":[{"verdict":"drop","reason":"blocked"}]}}"#,
                vec![],
            ),
        ] {
            assert_eq!(values(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_a_client_writes_is_never_taken_for_a_field() {
        let path = serde_json::to_string(
            r#"","class":"admin","peer":"1.2.3.4:5","user_agent":"x","who":{"principal":"bob"#,
        );
        let text = format!(
            r#"{{"time":"t","class":"http","body":{{"peer":"203.0.113.7:1","path":{},"who":null}}}}"#,
            path.unwrap()
        );

        assert_eq!(values(&text), ["203.0.113.7"]);
    }

    #[test]
    fn very_many_arguments_are_one_value() {
        let arguments = serde_json::to_string(&vec!["a"; ARGUMENTS_MAX + 1]).unwrap();
        let text = format!(
            r#"{{"time":"t","class":"admin","body":{{"arguments":{arguments},"detail":"d"}}}}"#
        );

        assert_eq!(values(&text), [arguments.as_str(), "d"]);
    }

    #[test]
    fn text_that_ends_anywhere_is_no_harm() {
        let text = r#"{"time":"t","class":"admin","body":{"arguments":["203.0.113.7","\\"],"detail":"d"}}"#;
        for end in 0..text.len() {
            assert!(values(text.get(..end).unwrap()).len() <= 3);
        }
    }

    fn values(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        Fields::new().find(text.as_bytes(), &mut found);
        found.into_iter().map(|field| text.get(field.value).unwrap()).collect()
    }
}
