//! What is kept of one identity: a struct of fixed size, nothing on the heap.
//!
//! Its order is that of use, for with a million identities the time of a request is that of the
//! lines of the cache which it touches: the first two hold all that is counted, the next three what
//! was seen today, and of the filter of objects one of four is asked. The rest is for the end of a day.

use super::hours::Hours;
use super::kind::{COUNTED, KINDS};
use super::level::Level;
use super::num::{Coarse, Small, measure};
use super::places::Places;
use super::sketch::{Distinct, Estimate, Routes, Seen};

/// One identity: what is usual for it, and its day under way.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Identity {
    /// Name of the principal.
    pub(super) name: u64,
    pub(super) burst: Window,
    pub(super) day: Day,
    /// When it was last seen, in seconds.
    pub(super) last: u32,
    /// The day under way, since 1970.
    pub(super) number: u32,
    /// The ten minutes under way, since 1970.
    pub(super) window: u32,
    /// The network and the client of its last request; zero: none today.
    pub(super) here: [u32; 2],
    /// Days learned.
    pub(super) days: u16,
    /// Its peers.
    pub(super) group: u16,
    /// Objects in the younger generation of those seen, and in the elder one.
    pub(super) seen_young: u16,
    pub(super) seen_old: u16,
    /// By count, from where on the day is scored again: below, nothing can have changed by much.
    pub(super) marks: [Coarse; COUNTED],
    pub(super) burst_distinct: Distinct,
    pub(super) day_distinct: Distinct,
    /// Routes that it uses, and those new today.
    pub(super) routes: Routes,
    pub(super) new_routes: Routes,
    pub(super) tally: Tally,
    /// When it was first seen, in seconds.
    pub(super) first: u32,
    pub(super) seen: Seen,
    pub(super) levels: [Level; COUNTED],
    /// The long memory of what is read in a day: requests, bytes, different objects, new ones.
    pub(super) long: [Small; 4],
    /// What the days were above the long memory, added up.
    pub(super) drift: f32,
    pub(super) places: Places,
    pub(super) habits: Habits,
    /// Days with a finding in a row.
    pub(super) held: u8,
    pub(super) hours: Hours,
}

const _: () = assert!(std::mem::offset_of!(Identity, burst_distinct) == 128);
const _: () = assert!(std::mem::offset_of!(Identity, tally) == 256);
const _: () = assert!(size_of::<Identity>() == 896);

/// Of how many days something was new; fades.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct Habits {
    pub(super) networks: Small,
    pub(super) clients: Small,
    pub(super) routes: Small,
}

/// Ten minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct Window {
    pub(super) bytes: u64,
    pub(super) requests: u32,
    pub(super) errors: u32,
    pub(super) novel: f32,
    pub(super) different: Estimate,
}

/// A day.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct Day {
    pub(super) bytes: u64,
    pub(super) requests: u32,
    pub(super) errors: u32,
    pub(super) novel: f32,
    pub(super) different: Estimate,
    /// A bit for each hour with requests.
    pub(super) hours: u32,
    /// The highest score.
    pub(super) score: f32,
    /// Changes of the network.
    pub(super) moves: u16,
    /// What was new: see the constants.
    pub(super) news: u16,
}

/// What is known of the day beside its counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct Tally {
    /// The most of ten minutes that are over: requests, bytes, errors, different, new.
    pub(super) bursts: [Coarse; 5],
    /// Bits of what is odd or new today.
    pub(super) odd: Small,
    pub(super) network: Small,
    pub(super) client: Small,
    pub(super) route: Small,
    /// The most of each kind, as its histogram counts it.
    pub(super) top: [Small; KINDS],
    /// The score that was told last, and in which ten minutes.
    pub(super) told: Coarse,
    pub(super) told_in: u16,
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
            burst: Window::default(),
            day: Day::default(),
            last: now,
            number: now / super::DAY,
            window: now / super::WINDOW,
            here: [0; 2],
            days: 0,
            group,
            seen_young: 0,
            seen_old: 0,
            marks: [Coarse::default(); COUNTED],
            burst_distinct: Distinct::default(),
            day_distinct: Distinct::default(),
            routes: Routes::default(),
            new_routes: Routes::default(),
            tally: Tally::default(),
            seen: Seen::default(),
            levels: [Level::default(); COUNTED],
            long: [Small::default(); 4],
            drift: 0.0,
            first: now,
            places: Places::default(),
            habits: Habits::default(),
            held: 0,
            hours: Hours::default(),
        }
    }

    /// The day of the places, which need no more than to tell days apart.
    pub(super) fn short_day(&self) -> u16 {
        u16::try_from(self.number & 0xFFFF).unwrap_or_default()
    }

    /// The same of the ten minutes under way.
    pub(super) fn short_window(&self) -> u16 {
        u16::try_from(self.window & 0xFFFF).unwrap_or_default()
    }

    /// The most of ten minutes today, in the order of the kinds.
    pub(super) fn bursts(&self) -> [f32; 5] {
        let mut most = self.tally.bursts.map(Coarse::get);
        for (most, now) in most.iter_mut().zip(self.burst.counts()) {
            *most = most.max(now);
        }
        most
    }

    /// Begins other ten minutes.
    pub(super) fn turn(&mut self, window: u32) {
        self.tally.bursts = self.bursts().map(Coarse::new);
        self.window = window;
        self.burst = Window::default();
        self.burst_distinct = Distinct::default();
    }

    /// Begins the day `number`, and the ten minutes `window` of it.
    pub(super) fn dawn(&mut self, number: u32, window: u32) {
        self.number = number;
        self.window = window;
        self.burst = Window::default();
        self.burst_distinct = Distinct::default();
        self.day = Day::default();
        self.day_distinct = Distinct::default();
        self.new_routes = Routes::default();
        self.tally = Tally::default();
        self.here = [0; 2];
    }
}

impl Window {
    /// The counts, in the order of the kinds.
    pub(super) fn counts(&self) -> [f32; 5] {
        [
            measure(u64::from(self.requests)),
            measure(self.bytes),
            measure(u64::from(self.errors)),
            self.different.count(),
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
            self.different.count(),
            self.novel,
        ]
    }
}
