//! What detection sees of the world: finished requests, and what the kernel tells.
//!
//! An event borrows from its origin, so that to look at one costs no allocation. The same event is
//! made of a request that has just ended and of its record in the audit log; `at` is the only time
//! that windows know, so that a replay and the live stream find the same.

use std::time::Duration;

use enforcer_model::{
    Exchange, Exposed, Fingerprint, Prefix, Reason, RequestId, Source, Timestamp,
};

/// One thing that happened.
#[expect(clippy::large_enum_variant, reason = "it is borrowed, and nearly always a request")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// A request was answered.
    Request(Request<'a>),
    /// The kernel dropped packets of a source for its own budget.
    Packets(Packets),
}

/// A finished request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request<'a> {
    /// When it was answered. Live: the wall time at the start of the agent plus what the monotonic
    /// clock has counted since, so that a clock that is set changes no window.
    pub at: Timestamp,
    /// What evidence names it by.
    pub id: RequestId,
    /// Where it came from.
    pub source: Source,
    /// The proxy by whose word `source` is known: nothing in the kernel may follow from it.
    pub through: Option<Source>,
    /// The authenticated caller, as its principal prints.
    pub identity: Option<&'a str>,
    /// The role that the matching rule accepted.
    pub role: Option<&'a str>,
    /// Keyed hash of the presented credential, accepted or not.
    pub credential: Option<Fingerprint>,
    /// Fingerprint of the client's TLS software.
    pub ja4: Option<&'a str>,
    /// What the client calls itself.
    pub user_agent: Option<&'a str>,
    /// The incident level that held.
    pub incident: u8,
    /// Country of the source.
    pub region: Option<&'a str>,
    /// The method as sent.
    pub method: &'a str,
    /// The canonical host.
    pub host: Option<&'a str>,
    /// The canonical path.
    pub path: Option<&'a str>,
    /// The route that matched.
    pub route: Option<&'a str>,
    /// Of the path, what names one object: the last segment that looks like an identifier.
    pub object: Option<&'a str>,
    /// What the client got.
    pub status: u16,
    /// Why we refused it.
    pub reason: Option<Reason>,
    /// A rule of the policy had permitted it.
    pub permitted: bool,
    /// The host that was asked.
    pub upstream: Option<&'a str>,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// What the answer gave away, as far as somebody looked.
    pub exposed: Exposed,
    /// From the head read to the last byte of the answer.
    pub duration: Duration,
}

/// Packets that the kernel dropped because their source had spent its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// When it was told.
    pub at: Timestamp,
    /// Who sent them.
    pub source: Prefix,
    /// How many, as far as it is known; at least one.
    pub count: u64,
    /// Whether they opened connections (TCP SYN).
    pub opening: bool,
}

impl<'a> Request<'a> {
    /// What `exchange`, answered `at`, is to detection.
    pub fn new(exchange: &'a Exchange, at: Timestamp) -> Self {
        let who = exchange.who.as_ref();
        let path = exchange.path.as_deref();
        Self {
            at,
            id: exchange.id,
            source: exchange.source(),
            through: exchange.through(),
            identity: who.map(|who| who.principal.as_str()),
            role: who.and_then(|who| who.role.as_ref()).map(enforcer_model::Role::as_str),
            credential: exchange.credential,
            ja4: exchange.ja4.as_deref(),
            user_agent: exchange.user_agent.as_deref(),
            incident: exchange.incident,
            region: exchange.region.as_deref(),
            method: &exchange.method,
            host: exchange.host.as_deref(),
            path,
            route: exchange.route.as_deref(),
            object: path.and_then(object),
            status: exchange.status,
            reason: exchange.reason,
            permitted: exchange.rule.is_some(),
            upstream: exchange.upstream.as_deref(),
            bytes_in: exchange.bytes_in,
            bytes_out: exchange.bytes_out,
            exposed: exchange.exposed.unwrap_or_default(),
            duration: exchange.duration,
        }
    }

    /// Whether it was refused by what detection itself, a limit or an overload has done: our own
    /// denials are never evidence, or a block would feed itself.
    pub fn is_own_denial(&self) -> bool {
        self.reason.is_some_and(|reason| {
            // A permitted request whose credential was refused was cut when that was taken back.
            reason.is_own_denial() || self.permitted && reason.is_refused_credential()
        })
    }
}

impl Event<'_> {
    /// When it happened.
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Request(request) => request.at,
            Self::Packets(packets) => packets.at,
        }
    }
}

/// Of a canonical path, the last segment that looks like the identifier of one object: a number, or
/// at least eight characters of which one is a digit.
pub fn object(path: &str) -> Option<&str> {
    path.rsplit('/').find(|segment| {
        let digits = segment.bytes().filter(u8::is_ascii_digit).count();
        let whole = digits == segment.len();
        digits > 0 && (whole || segment.len() >= 8)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_one_object_is_the_last_segment_that_looks_like_it() {
        for (path, expected) in [
            ("/v1/orders/17", Some("17")),
            ("/v1/orders/17/lines", Some("17")),
            (
                "/v1/users/6f9619ff-8b86-d011-b42d-00cf4fc964ff",
                Some("6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
            ),
            ("/v1/sessions/1ff94583", Some("1ff94583")),
            ("/v1/orders", None),
            ("/v2/basket/items", None),
            ("/", None),
        ] {
            assert_eq!(object(path), expected, "{path}");
        }
    }
}
