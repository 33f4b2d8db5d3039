//! Whom and what an event is about, as hashes that no client can foresee; each is made once at most.

use std::hash::BuildHasher;
use std::sync::Arc;

use enforcer_model::{Prefix, Source};
use foldhash::fast::RandomState;

use crate::rules::plan::{Field, KeyBy};
use crate::rules::when::{Attribute, Needs};
use crate::{Entity, Event, Request};

/// Hashes of one event.
pub(super) struct Hashes<'h, 'e> {
    state: &'h RandomState,
    event: &'h Event<'e>,
    keys: [Option<u64>; KeyBy::ALL.len()],
    fields: [Option<u64>; Field::ALL.len()],
}

impl<'h, 'e> Hashes<'h, 'e> {
    pub(super) const fn new(state: &'h RandomState, event: &'h Event<'e>) -> Self {
        Self { state, event, keys: [None; _], fields: [None; _] }
    }

    /// The hash of whom `key` is; none when the event has none.
    pub(super) fn key(&mut self, key: KeyBy) -> Option<u64> {
        let place = key.place();
        if let Some(Some(known)) = self.keys.get(place) {
            return Some(*known);
        }
        let hash = self.make_key(key)?;
        if let Some(slot) = self.keys.get_mut(place) {
            *slot = Some(hash);
        }
        Some(hash)
    }

    /// The hash of the value of `field`; none when the event has none.
    pub(super) fn field(&mut self, field: Field) -> Option<u64> {
        let place = field.place();
        if let Some(Some(known)) = self.fields.get(place) {
            return Some(*known);
        }
        let Event::Request(request) = self.event else { return None };
        let hash = self.make_field(field, request)?;
        if let Some(slot) = self.fields.get_mut(place) {
            *slot = Some(hash);
        }
        Some(hash)
    }

    fn make_key(&self, key: KeyBy) -> Option<u64> {
        let request = match self.event {
            Event::Request(request) => request,
            Event::Packets(packets) => {
                return match key {
                    KeyBy::Source | KeyBy::Network => {
                        let wide = wide(key, packets.source);
                        Some(self.state.hash_one((0_u8, false, wide)))
                    }
                    KeyBy::Everyone => Some(0),
                    KeyBy::Identity
                    | KeyBy::Credential
                    | KeyBy::Ja4
                    | KeyBy::Route
                    | KeyBy::Upstream => None,
                };
            }
        };
        Some(match key {
            // What a proxy says of an address is never added to what its own packets have shown.
            KeyBy::Source | KeyBy::Network => {
                let network = wide(key, request.source.into());
                self.state.hash_one((0_u8, request.through.is_some(), network))
            }
            KeyBy::Identity => self.state.hash_one(request.identity?),
            KeyBy::Credential => self.state.hash_one(request.credential?.0),
            KeyBy::Ja4 => self.state.hash_one(request.ja4?),
            KeyBy::Route => self.state.hash_one(request.route?),
            KeyBy::Upstream => self.state.hash_one(request.upstream?),
            KeyBy::Everyone => 0,
        })
    }

    fn make_field(&self, field: Field, request: &Request<'_>) -> Option<u64> {
        let state = self.state;
        Some(match field {
            Field::ObjectId => state.hash_one((request.route, request.object?)),
            Field::Identity => state.hash_one(request.identity?),
            Field::Credential => state.hash_one(request.credential?.0),
            Field::Ja4 => state.hash_one(request.ja4?),
            Field::Route => state.hash_one(request.route?),
            Field::Path => state.hash_one(request.path?),
            Field::Host => state.hash_one(request.host?),
            Field::Source => state.hash_one(request.source.neighbourhood()),
            Field::Network => state.hash_one(wide(KeyBy::Network, request.source.into())),
            Field::Region => state.hash_one(request.region?),
            Field::Method => state.hash_one(request.method),
            Field::UserAgent => state.hash_one(request.user_agent?),
            Field::Upstream => state.hash_one(request.upstream?),
            Field::Role => state.hash_one(request.role?),
            Field::Status => state.hash_one(request.status),
            Field::Reason => state.hash_one(request.reason?),
        })
    }
}

/// The network around `source` that `key` counts by.
fn wide(key: KeyBy, source: Prefix) -> Prefix {
    let around = match key {
        KeyBy::Network => {
            let length = if source.address().is_ipv4() { 24 } else { 48 };
            Prefix::around(source.address(), length)
        }
        KeyBy::Source
        | KeyBy::Identity
        | KeyBy::Credential
        | KeyBy::Ja4
        | KeyBy::Route
        | KeyBy::Upstream
        | KeyBy::Everyone => Source::new(source.address()).neighbourhood(),
    };
    // A wider one has no neighbourhood.
    if around.length() > source.length() { source } else { around }
}

impl KeyBy {
    pub(super) const fn place(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Source => 1,
            Self::Network => 2,
            Self::Credential => 3,
            Self::Ja4 => 4,
            Self::Route => 5,
            Self::Upstream => 6,
            Self::Everyone => 7,
        }
    }

    /// What a request must have to be counted by it.
    pub(crate) const fn needs(self) -> Needs {
        Needs::attribute(match self {
            Self::Identity => Attribute::Identity,
            Self::Credential => Attribute::Credential,
            Self::Ja4 => Attribute::Ja4,
            Self::Route => Attribute::Route,
            Self::Upstream => Attribute::Upstream,
            Self::Source | Self::Network | Self::Everyone => Attribute::Method,
        })
    }

    /// Whom a finding is about that `event` completes.
    pub(super) fn entity(self, event: &Event<'_>) -> Option<Entity> {
        match (self, event) {
            (Self::Everyone, _) => Some(Entity::Everyone),
            (Self::Source | Self::Network, Event::Request(request)) => {
                Some(Entity::Source(wide(self, request.source.into())))
            }
            (Self::Source | Self::Network, Event::Packets(packets)) => {
                Some(Entity::Source(wide(self, packets.source)))
            }
            (Self::Identity, Event::Request(request)) => {
                request.identity.and_then(crate::entity::principal).map(Entity::Identity)
            }
            (Self::Credential, Event::Request(request)) => {
                request.credential.map(Entity::Credential)
            }
            (Self::Ja4, Event::Request(request)) => request.ja4.map(Arc::from).map(Entity::Ja4),
            (Self::Route, Event::Request(request)) => {
                request.route.map(Arc::from).map(Entity::Route)
            }
            (Self::Upstream, Event::Request(request)) => {
                request.upstream.map(Arc::from).map(Entity::Upstream)
            }
            (
                Self::Identity | Self::Credential | Self::Ja4 | Self::Route | Self::Upstream,
                Event::Packets(_),
            ) => None,
        }
    }
}

impl Field {
    const fn place(self) -> usize {
        match self {
            Self::ObjectId => 0,
            Self::Identity => 1,
            Self::Credential => 2,
            Self::Ja4 => 3,
            Self::Route => 4,
            Self::Path => 5,
            Self::Host => 6,
            Self::Source => 7,
            Self::Network => 8,
            Self::Region => 9,
            Self::Method => 10,
            Self::UserAgent => 11,
            Self::Upstream => 12,
            Self::Role => 13,
            Self::Status => 14,
            Self::Reason => 15,
        }
    }

    /// What a request must have to have it.
    pub(crate) const fn needs(self) -> Needs {
        Needs::attribute(match self {
            Self::ObjectId => Attribute::ObjectId,
            Self::Identity => Attribute::Identity,
            Self::Credential => Attribute::Credential,
            Self::Ja4 => Attribute::Ja4,
            Self::Route => Attribute::Route,
            Self::Region => Attribute::Region,
            Self::UserAgent => Attribute::UserAgent,
            Self::Upstream => Attribute::Upstream,
            Self::Role => Attribute::Role,
            Self::Reason => Attribute::Reason,
            Self::Path
            | Self::Host
            | Self::Source
            | Self::Network
            | Self::Method
            | Self::Status => Attribute::Method,
        })
    }
}
