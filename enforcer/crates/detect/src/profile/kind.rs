//! What a profile looks at.

use serde::{Deserialize, Serialize};

/// One kind of surprise, as rules and answers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// More requests than usual.
    Requests,
    /// More bytes than usual.
    Bytes,
    /// More failed requests than usual.
    Errors,
    /// More different objects than usual.
    DistinctResources,
    /// More objects that were never read before.
    Novelty,
    /// At hours, or for more hours, than is usual.
    Hours,
    /// From a network that is new, or from several in turn.
    Network,
    /// With TLS software that is new.
    TlsClient,
    /// Routes never used before.
    Routes,
    /// Another kind of reading: more of it new, or larger answers.
    Mix,
    /// A rise over weeks that no day shows.
    Drift,
}

/// What is measured of one identity and one day. The first [`COUNTED`] are counts that are compared
/// with the identity's own days, the others are bits by nature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Most in ten minutes.
    BurstRequests,
    BurstBytes,
    BurstErrors,
    BurstDistinct,
    BurstNovel,
    /// In the day so far.
    DayRequests,
    DayBytes,
    /// Of all requests, those that failed.
    DayErrors,
    DayDistinct,
    DayNovel,
    /// Different hours with requests.
    DayHours,
    /// Changes from one network to another.
    Moves,
    /// Of all requests, those for something new.
    NovelShare,
    /// Bytes for each request.
    BytesEach,
    OddHours,
    Network,
    Client,
    Routes,
    Drift,
}

/// Kinds that are counts.
pub(super) const COUNTED: usize = 14;
/// All kinds.
pub(super) const KINDS: usize = 19;

/// Signals that tell of one behaviour, of which only the largest counts: a burst raises requests,
/// bytes and objects together and is one surprise. What remains is near enough to independent.
pub(super) const FAMILIES: [&[Aspect]; 8] = [
    &[Aspect::Requests, Aspect::Bytes, Aspect::DistinctResources, Aspect::Novelty],
    &[Aspect::Drift],
    &[Aspect::Mix],
    &[Aspect::Errors],
    &[Aspect::Hours],
    &[Aspect::Network],
    &[Aspect::TlsClient],
    &[Aspect::Routes],
];

impl Aspect {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Requests,
        Self::Bytes,
        Self::Errors,
        Self::DistinctResources,
        Self::Novelty,
        Self::Hours,
        Self::Network,
        Self::TlsClient,
        Self::Routes,
        Self::Mix,
        Self::Drift,
    ];

    /// As rules write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Bytes => "bytes",
            Self::Errors => "errors",
            Self::DistinctResources => "distinct_resources",
            Self::Novelty => "novelty",
            Self::Hours => "hours",
            Self::Network => "network",
            Self::TlsClient => "tls_client",
            Self::Routes => "routes",
            Self::Mix => "mix",
            Self::Drift => "drift",
        }
    }

    /// The one that is written so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|aspect| aspect.as_str() == name)
    }

    pub(super) const fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Requests => &[Kind::BurstRequests, Kind::DayRequests],
            Self::Bytes => &[Kind::BurstBytes, Kind::DayBytes],
            Self::Errors => &[Kind::BurstErrors, Kind::DayErrors],
            Self::DistinctResources => &[Kind::BurstDistinct, Kind::DayDistinct],
            Self::Novelty => &[Kind::BurstNovel, Kind::DayNovel],
            Self::Hours => &[Kind::OddHours, Kind::DayHours],
            Self::Network => &[Kind::Network, Kind::Moves],
            Self::TlsClient => &[Kind::Client],
            Self::Routes => &[Kind::Routes],
            Self::Mix => &[Kind::NovelShare, Kind::BytesEach],
            Self::Drift => &[Kind::Drift],
        }
    }
}

impl Kind {
    pub(super) const ALL: [Self; KINDS] = [
        Self::BurstRequests,
        Self::BurstBytes,
        Self::BurstErrors,
        Self::BurstDistinct,
        Self::BurstNovel,
        Self::DayRequests,
        Self::DayBytes,
        Self::DayErrors,
        Self::DayDistinct,
        Self::DayNovel,
        Self::DayHours,
        Self::Moves,
        Self::NovelShare,
        Self::BytesEach,
        Self::OddHours,
        Self::Network,
        Self::Client,
        Self::Routes,
        Self::Drift,
    ];

    /// Its place among all.
    #[expect(clippy::as_conversions, reason = "the discriminant is the place")]
    pub(super) const fn place(self) -> usize {
        self as usize
    }

    /// The width of a step in its histogram.
    pub(super) const fn width(self) -> f32 {
        match self {
            Self::OddHours | Self::Network | Self::Client | Self::Routes => 0.5,
            Self::BurstRequests
            | Self::BurstBytes
            | Self::BurstErrors
            | Self::BurstDistinct
            | Self::BurstNovel
            | Self::DayRequests
            | Self::DayBytes
            | Self::DayErrors
            | Self::DayDistinct
            | Self::DayNovel
            | Self::DayHours
            | Self::Moves
            | Self::NovelShare
            | Self::BytesEach
            | Self::Drift => 0.25,
        }
    }
}

/// One value for each kind, in the order of [`Kind::ALL`].
pub(super) trait PerKind<T> {
    fn of(&self, kind: Kind) -> T;
    fn set(&mut self, kind: Kind, value: T);
}

impl<T: Copy + Default> PerKind<T> for [T] {
    fn of(&self, kind: Kind) -> T {
        self.get(kind.place()).copied().unwrap_or_default()
    }

    fn set(&mut self, kind: Kind, value: T) {
        if let Some(slot) = self.get_mut(kind.place()) {
            *slot = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_belongs_to_one_aspect_and_every_aspect_to_one_family() {
        let kinds: Vec<Kind> =
            Aspect::ALL.iter().flat_map(|aspect| aspect.kinds()).copied().collect();
        assert_eq!(kinds.len(), KINDS);
        assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)));

        let aspects: Vec<Aspect> = FAMILIES.iter().copied().flatten().copied().collect();
        assert_eq!(aspects.len(), Aspect::ALL.len());
        assert!(Aspect::ALL.iter().all(|aspect| aspects.contains(aspect)));
    }

    #[test]
    fn an_aspect_is_found_by_the_name_that_it_has() {
        for aspect in Aspect::ALL {
            assert_eq!(Aspect::named(aspect.as_str()), Some(aspect));
            let json = serde_json::to_value(aspect).unwrap();
            assert_eq!(json, aspect.as_str());
        }
        assert_eq!(Aspect::named("anger"), None);
        assert_eq!(Aspect::ALL.map(Aspect::as_str), crate::rules::PROFILE_SIGNALS);
    }
}
