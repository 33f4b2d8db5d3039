//! What is kept of one identity: a struct of fixed size, nothing on the heap.

use super::hours::Hours;
use super::kind::{COUNTED, KINDS};
use super::level::Level;
use super::num::{Small, measure};
use super::places::Places;
use super::sketch::{Distinct, Routes, Seen};

/// One identity: what is usual for it, and its day under way.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub(super) struct Identity {
    /// Name of the principal.
    pub(super) name: u64,
    /// When it was first and last seen, in seconds.
    pub(super) first: u32,
    pub(super) last: u32,
    /// The day under way, since 1970.
    pub(super) number: u32,
    /// The ten minutes under way, since 1970.
    pub(super) window: u32,
    /// Days learned.
    pub(super) days: u16,
    /// Its peers.
    pub(super) group: u16,
    /// Days with a finding in a row.
    pub(super) held: u8,
    pub(super) burst: Window,
    pub(super) day: Day,
    pub(super) places: Places,
    pub(super) routes: Routes,
    pub(super) habits: Habits,
    pub(super) levels: [Level; COUNTED],
    /// The long memory of what is read in a day: requests, bytes, different objects, new ones.
    pub(super) long: [Small; 4],
    /// What the days were above the long memory, added up.
    pub(super) drift: f32,
    pub(super) seen: Seen,
    pub(super) hours: Hours,
}

/// Of how many days something was new; fades.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Habits {
    pub(super) networks: Small,
    pub(super) clients: Small,
    pub(super) routes: Small,
}

/// Ten minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Window {
    pub(super) requests: u32,
    pub(super) errors: u32,
    pub(super) bytes: u64,
    pub(super) novel: f32,
    pub(super) different: f32,
    pub(super) distinct: Distinct,
}

/// A day.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Day {
    pub(super) requests: u32,
    pub(super) errors: u32,
    pub(super) bytes: u64,
    pub(super) novel: f32,
    pub(super) different: f32,
    pub(super) distinct: Distinct,
    /// The most of ten minutes: requests, bytes, errors, different, new.
    pub(super) bursts: [f32; 5],
    /// A bit for each hour with requests.
    pub(super) hours: u32,
    /// Changes of the network.
    pub(super) moves: u16,
    /// What was new: see the constants.
    pub(super) news: u16,
    /// Bits of what is odd or new today.
    pub(super) odd: f32,
    pub(super) network: f32,
    pub(super) client: f32,
    pub(super) route: f32,
    /// Routes new today.
    pub(super) routes: Routes,
    /// The most of each kind, as its histogram counts it.
    pub(super) top: [Small; KINDS],
    /// The highest score.
    pub(super) score: f32,
    /// The score that was told last, and in which ten minutes.
    pub(super) told: f32,
    pub(super) told_in: u32,
}

/// A network new for the identity was used today.
pub(super) const NEW_NETWORK: u16 = 1;
/// One that was new for everybody.
pub(super) const STRANGE_NETWORK: u16 = 2;
/// A TLS client new for the identity was used today.
pub(super) const NEW_CLIENT: u16 = 4;
/// One that was new for everybody.
pub(super) const STRANGE_CLIENT: u16 = 8;
/// A route new for the identity was used today.
pub(super) const NEW_ROUTE: u16 = 16;

impl Identity {
    /// One that was never seen.
    pub(super) fn new(name: u64, group: u16, now: u32) -> Self {
        Self {
            name,
            first: now,
            last: now,
            number: now / super::DAY,
            window: now / super::WINDOW,
            days: 0,
            group,
            held: 0,
            burst: Window::default(),
            day: Day::default(),
            places: Places::default(),
            routes: Routes::default(),
            habits: Habits::default(),
            levels: [Level::default(); COUNTED],
            long: [Small::default(); 4],
            drift: 0.0,
            seen: Seen::default(),
            hours: Hours::default(),
        }
    }

    /// The day of the places, which need no more than to tell days apart.
    pub(super) fn short_day(&self) -> u16 {
        u16::try_from(self.number & 0xFFFF).unwrap_or_default()
    }
}

impl Window {
    /// The counts, in the order of the kinds.
    pub(super) fn counts(&self) -> [f32; 5] {
        [
            measure(u64::from(self.requests)),
            measure(self.bytes),
            measure(u64::from(self.errors)),
            self.different,
            self.novel,
        ]
    }
}

impl Day {
    /// The counts, in the order of the kinds.
    pub(super) fn counts(&self) -> [f32; 5] {
        [
            measure(u64::from(self.requests)),
            measure(self.bytes),
            measure(u64::from(self.errors)),
            self.different,
            self.novel,
        ]
    }
}
