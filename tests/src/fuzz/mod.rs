//! What an attacker's bytes must never do: one function for each parser, and its promises.
//!
//! A target takes any bytes and panics where a promise is broken; what is right is said a second
//! time, in the plainest way, so that a mistake in a parser cannot hide in its test. libFuzzer looks
//! for such bytes (`fuzz/fuzz_targets/`), and a test replays `fuzz/corpus/` on every change. The
//! corpus of a target holds known attacks and whatever was ever found. Pure, or nearly so: one
//! target reads a log, in a folder of its own.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken promise is told by a panic"
)]

mod admin;
mod anchors;
mod cached;
mod canonical;
mod condition;
mod credential;
mod evidence;
mod exposure;
mod fronts;
mod head;
mod header_set;
mod index;
mod introspection;
mod json;
mod jwks;
mod key;
mod log;
mod networks;
mod packet;
mod path;
mod policy;
mod problem;
mod proof;
mod rule_file;
mod segment;
mod token;
mod words;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};

pub use admin::admin_call;
pub use anchors::{
    consistency_proof, cosignature, timestamp_answer, witness_policy, witness_request,
};
pub use cached::cache_key;
pub use canonical::canonical_request;
pub use condition::condition;
pub use credential::credential;
pub use evidence::{audit_note, audit_path, audit_proof};
pub use exposure::exposure;
pub use fronts::{forwarded, ja4, proxy_protocol};
pub use head::request_head;
pub use header_set::header_set;
pub use index::audit_index;
pub use introspection::introspection;
pub use jwks::jwks;
pub use key::key;
pub use networks::networks_file;
pub use packet::packet;
pub use path::path;
pub use policy::{policy_file, route_table};
pub use problem::problem_document;
pub use proof::dpop_proof;
pub use rule_file::rule_file;
pub use segment::audit_segment;
pub use token::token;
pub use words::selector;

/// A parser's promises.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of its corpus and of its wrapper, too.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// Every target, in the order of their names.
pub const TARGETS: &[Target] = &[
    Target { name: "admin_call", run: admin_call },
    Target { name: "audit_index", run: audit_index },
    Target { name: "audit_note", run: audit_note },
    Target { name: "audit_path", run: audit_path },
    Target { name: "audit_proof", run: audit_proof },
    Target { name: "audit_segment", run: audit_segment },
    Target { name: "cache_key", run: cache_key },
    Target { name: "canonical_request", run: canonical_request },
    Target { name: "condition", run: condition },
    Target { name: "consistency_proof", run: consistency_proof },
    Target { name: "cosignature", run: cosignature },
    Target { name: "credential", run: credential },
    Target { name: "dpop_proof", run: dpop_proof },
    Target { name: "exposure", run: exposure },
    Target { name: "forwarded", run: forwarded },
    Target { name: "header_set", run: header_set },
    Target { name: "introspection", run: introspection },
    Target { name: "ja4", run: ja4 },
    Target { name: "jwks", run: jwks },
    Target { name: "key", run: key },
    Target { name: "networks_file", run: networks_file },
    Target { name: "packet", run: packet },
    Target { name: "path", run: path },
    Target { name: "policy_file", run: policy_file },
    Target { name: "problem_document", run: problem_document },
    Target { name: "proxy_protocol", run: proxy_protocol },
    Target { name: "request_head", run: request_head },
    Target { name: "route_table", run: route_table },
    Target { name: "rule_file", run: rule_file },
    Target { name: "selector", run: selector },
    Target { name: "timestamp_answer", run: timestamp_answer },
    Target { name: "token", run: token },
    Target { name: "witness_policy", run: witness_policy },
    Target { name: "witness_request", run: witness_request },
];

/// A method that no policy of a corpus names.
const ODD_METHOD: &[u8] = b"FUZZ";

/// The fields in `block`, one `name: value` a line; what cannot be a field is left out.
fn fields(block: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in block.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value);
        if let (Ok(name), Ok(value)) = (name, value)
            && headers.try_append(name, value).is_err()
        {
            break;
        }
    }
    headers
}

/// A few methods, one of them unknown.
fn methods() -> impl Iterator<Item = Method> {
    [Method::GET, Method::POST].into_iter().chain(Method::from_bytes(ODD_METHOD))
}
