//! An answer that is kept, and the few that are kept under one key.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::freshness::Freshness;
use crate::key::Key;
use crate::place::Place;
use crate::vary::Vary;

/// One answer; never changed, only replaced.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) status: StatusCode,
    /// As it is sent on, but for `Age` and the like.
    pub(crate) headers: HeaderMap,
    /// In one piece of exactly this length, so that what is counted is what is held.
    pub(crate) body: Bytes,
    pub(crate) vary: Vary,
    pub(crate) freshness: Freshness,
    /// In seconds since 1970.
    pub(crate) heard_at: u64,
    pub(crate) place: Arc<Place>,
    /// Of the place, when the answer was asked for.
    pub(crate) generation: u64,
}

/// The answers of one key that differ by what they vary on; the newest first.
#[derive(Debug, Default)]
pub(crate) struct Variants(Box<[Arc<Kept>]>);

/// The most answers under one key. The oldest gives way, so that a client that sends many values of
/// a field drives out what is kept of this one resource, and of nothing else.
pub(crate) const VARIANTS_MAX: usize = 8;

/// What a field takes in a `HeaderMap` beside its text, and an answer beside its fields; generous.
const FIELD_BYTES: usize = 160;
const KEPT_BYTES: usize = 256;

impl Kept {
    /// Whether nothing has changed the resource since it was asked for.
    pub(crate) fn is_current(&self) -> bool {
        self.generation == self.place.generation()
    }

    pub(crate) fn weight(&self) -> usize {
        let fields = self.headers.iter();
        let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
        size_of::<Self>() + KEPT_BYTES + self.body.len() + fields.sum::<usize>()
    }
}

impl Variants {
    /// Those that are current, in the order of preference: the newest first.
    pub(crate) fn current(&self) -> impl Iterator<Item = &Arc<Kept>> {
        self.0.iter().filter(|kept| kept.is_current())
    }

    /// With `kept` in front, in the place of what it replaces.
    pub(crate) fn with(&self, kept: Arc<Kept>) -> Self {
        let others = self.current().filter(|other| other.vary != kept.vary);
        let others = others.take(VARIANTS_MAX - 1).map(Arc::clone).collect::<Vec<_>>();
        Self(std::iter::once(kept).chain(others).collect())
    }

    /// Without `kept`; none when nothing is left.
    pub(crate) fn without(&self, kept: &Arc<Kept>) -> Option<Self> {
        let left = self.0.iter().filter(|other| !Arc::ptr_eq(other, kept));
        let left: Box<[_]> = left.map(Arc::clone).collect();
        (!left.is_empty()).then_some(Self(left))
    }

    pub(crate) fn has(&self, kept: &Arc<Kept>) -> bool {
        self.0.iter().any(|other| Arc::ptr_eq(other, kept))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What everything under `key` takes in memory.
    pub(crate) fn weight(&self, key: &Key) -> u32 {
        let kept = self.0.iter().map(|kept| kept.weight()).sum::<usize>();
        u32::try_from(key.weight() + size_of::<Key>() + kept).unwrap_or(u32::MAX)
    }
}
