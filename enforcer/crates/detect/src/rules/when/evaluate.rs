//! What an expression says of an event.
//!
//! Recursion is as deep as the parser admits, and nothing is allocated. None is unknown: what is read
//! is absent.

use enforcer_model::{Prefix, Timestamp};

use super::{Attribute, Expr, Flag, Numeric, Test};
use crate::{Event, Request};

impl Expr {
    /// True, false, or unknown.
    pub(crate) fn evaluate(&self, event: &Event<'_>) -> Option<bool> {
        match self {
            Self::Constant(value) => Some(*value),
            Self::Not(inner) => inner.evaluate(event).map(|value| !value),
            Self::All(parts) => {
                let mut all = Some(true);
                for part in parts {
                    match part.evaluate(event) {
                        Some(false) => return Some(false),
                        None => all = None,
                        Some(true) => {}
                    }
                }
                all
            }
            Self::Any(parts) => {
                let mut any = Some(false);
                for part in parts {
                    match part.evaluate(event) {
                        Some(true) => return Some(true),
                        None => any = None,
                        Some(false) => {}
                    }
                }
                any
            }
            Self::Test(test) => test.evaluate(event),
        }
    }
}

impl Test {
    fn evaluate(&self, event: &Event<'_>) -> Option<bool> {
        let request = match event {
            Event::Request(request) => Some(request),
            Event::Packets(_) => None,
        };
        match self {
            Self::Flag(flag) => flag.evaluate(event),
            Self::Has(Attribute::Credential) => Some(request?.credential.is_some()),
            Self::Has(attribute) => Some(attribute.read(request?).is_some()),
            Self::Equal(attribute, literal) => Some(attribute.read(request?)? == &**literal),
            Self::OneOf(attribute, literals) => {
                let text = attribute.read(request?)?;
                Some(literals.iter().any(|literal| **literal == *text))
            }
            Self::Starts(attribute, start) => Some(attribute.read(request?)?.starts_with(&**start)),
            Self::Ends(attribute, end) => Some(attribute.read(request?)?.ends_with(&**end)),
            Self::Contains(attribute, part) => Some(attribute.read(request?)?.contains(&**part)),
            Self::Compare(number, comparison, literal) => {
                Some(comparison.holds(number.read(event)?.cmp(literal)))
            }
            Self::NumberOneOf(number, literals) => Some(literals.contains(&number.read(event)?)),
            Self::Inside(networks) => Some(match event {
                Event::Request(request) => {
                    let address = request.source.address();
                    networks.iter().any(|network| network.contains(address))
                }
                Event::Packets(packets) => {
                    let inside = |network: &Prefix| {
                        network.length() <= packets.source.length()
                            && network.contains(packets.source.address())
                    };
                    networks.iter().any(inside)
                }
            }),
        }
    }
}

impl Flag {
    fn evaluate(self, event: &Event<'_>) -> Option<bool> {
        match (self, event) {
            (Self::Opening, Event::Packets(packets)) => Some(packets.opening),
            (Self::Opening, Event::Request(_)) => None,
            (Self::Anonymous, Event::Request(request)) => Some(request.identity.is_none()),
            (Self::Refused, Event::Request(request)) => Some(request.reason.is_some()),
            (Self::CredentialRefused, Event::Request(request)) => {
                Some(request.reason.is_some_and(enforcer_model::Reason::is_refused_credential))
            }
            (Self::HasObjectId, Event::Request(request)) => Some(request.object.is_some()),
            (Self::Proxied, Event::Request(request)) => Some(request.through.is_some()),
            (
                Self::Anonymous
                | Self::Refused
                | Self::CredentialRefused
                | Self::HasObjectId
                | Self::Proxied,
                Event::Packets(_),
            ) => None,
        }
    }
}

impl Attribute {
    /// Its text; a credential has none.
    #[inline]
    pub(crate) fn read<'a>(self, request: &Request<'a>) -> Option<&'a str> {
        match self {
            Self::Method => Some(request.method),
            Self::Host => request.host,
            Self::Path => request.path,
            Self::Route => request.route,
            Self::ObjectId => request.object,
            Self::Identity => request.identity,
            Self::Role => request.role,
            Self::Credential => None,
            Self::Reason => request.reason.map(enforcer_model::Reason::as_str),
            Self::Region => request.region,
            Self::Ja4 => request.ja4,
            Self::UserAgent => request.user_agent,
            Self::Upstream => request.upstream,
        }
    }
}

impl Numeric {
    fn read(self, event: &Event<'_>) -> Option<i64> {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        match (self, event) {
            (Self::Hour, event) => Some(number(hour(event.at()))),
            (Self::Weekday, event) => Some(number(weekday(event.at()))),
            (Self::Packets, Event::Packets(packets)) => Some(number(packets.count)),
            (Self::Packets, Event::Request(_)) | (_, Event::Packets(_)) => None,
            (Self::Status, Event::Request(request)) => Some(request.status.into()),
            (Self::BytesIn, Event::Request(request)) => Some(number(request.bytes_in)),
            (Self::BytesOut, Event::Request(request)) => Some(number(request.bytes_out)),
            (Self::Secrets, Event::Request(request)) => Some(request.exposed.secrets.into()),
            (Self::Personal, Event::Request(request)) => Some(request.exposed.personal().into()),
            (Self::Cards, Event::Request(request)) => Some(request.exposed.cards.into()),
            (Self::DurationMs, Event::Request(request)) => {
                Some(i64::try_from(request.duration.as_millis()).unwrap_or(i64::MAX))
            }
            (Self::Incident, Event::Request(request)) => Some(request.incident.into()),
        }
    }
}

const fn hour(at: Timestamp) -> u64 {
    at.unix_seconds() / 3_600 % 24
}

/// Monday is 1; the epoch began on a Thursday.
const fn weekday(at: Timestamp) -> u64 {
    (at.unix_seconds() / 86_400 + 3) % 7 + 1
}
