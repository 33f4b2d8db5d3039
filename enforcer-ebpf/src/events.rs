//! What the agent hears of: transitions, never every packet.
//!
//! The first packet that meets a block, and the first that a budget refuses, in each
//! [`EVENT_WINDOW_NS`]. An attacker can make one event per second and source, and when the agent
//! reads too slowly the ring buffer fills, the event is lost, and the loss is counted.

use crate::{Address, EVENT_WINDOW_NS, Event, Reason, Shared, Verdict};

/// Whether this is the first packet in its window; the next one is not.
#[inline(always)]
pub fn is_first(reported_ns: &Shared, now_ns: u64) -> bool {
    let before_ns = reported_ns.get();
    // 0: never. A time ahead of the clock counts as one in the window.
    if before_ns != 0 && now_ns.saturating_sub(before_ns) < EVENT_WINDOW_NS {
        return false;
    }
    reported_ns.set(now_ns);
    true
}

impl Event {
    /// What the agent is told.
    #[inline(always)]
    #[expect(clippy::as_conversions, reason = "the discriminants of two repr(u32) enums")]
    pub fn new<A: Address>(
        source: A,
        verdict: Verdict,
        reason: Reason,
        id: u64,
        length: u32,
        at_ns: u64,
    ) -> Self {
        Self {
            at_ns,
            id,
            reason: reason as u32,
            verdict: verdict as u32,
            bits: A::BITS,
            length,
            source: source.padded(),
        }
    }

    /// Whether this is what happened to the packet.
    #[expect(clippy::as_conversions, reason = "the discriminant of a repr(u32) enum")]
    pub const fn is(&self, verdict: Verdict) -> bool {
        self.verdict == verdict as u32
    }

    /// Whether this is why.
    #[expect(clippy::as_conversions, reason = "the discriminant of a repr(u32) enum")]
    pub const fn because(&self, reason: Reason) -> bool {
        self.reason == reason as u32
    }
}
