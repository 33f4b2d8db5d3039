//! One address that requests go to, and what all threads count about it.
//!
//! Everything is an atomic number: no thread waits for another to count a request.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustls::pki_types::ServerName;

use crate::plan::HostPlan;
use crate::target::Target;

/// After so long without an answer, half of what is known of a host's latency is forgotten, so that
/// a host that was slow once is asked again.
const LATENCY_HALVES_MS: u64 = 5_000;

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Over the network.
    Tcp(SocketAddr),
    /// Inside this host.
    Unix(Arc<Path>),
}

/// One address of a host.
pub(crate) struct Member {
    /// The host, as the policy writes it.
    pub(crate) host: Arc<str>,
    /// What records say: the address, or `unix:` and the path.
    pub(crate) label: Arc<str>,
    pub(crate) place: Place,
    /// What a certificate shows, unless the policy says otherwise.
    pub(crate) certified_as: Option<ServerName<'static>>,
    /// Of the label: its place among the others for a key.
    pub(crate) seed: u64,
    started: AtomicU64,
    finished: AtomicU64,
    failed: AtomicU64,
    in_a_row: AtomicU32,
    /// When the last head came, in milliseconds (high half), and the average time that heads take,
    /// in microseconds (low half); zero before the first.
    latency: AtomicU64,
    /// No connection was to be had a moment ago; it is asked last until then.
    cools_until_ms: AtomicU64,
    /// Since when it takes requests; zero for as long as anybody knows.
    since_ms: AtomicU64,
    isolated: AtomicBool,
    connections: AtomicU64,
}

impl Member {
    pub(crate) fn new(host: &HostPlan, place: Place) -> Self {
        let label: Arc<str> = match &place {
            Place::Tcp(address) => address.to_string().into(),
            Place::Unix(_) => host.target.to_string().into(),
        };
        let name = host.target.certified_as();
        Self {
            host: Arc::clone(&host.name),
            seed: hash(label.as_bytes()),
            label,
            place,
            certified_as: name.and_then(|name| ServerName::try_from(name).ok()),
            started: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            cools_until_ms: AtomicU64::new(0),
            since_ms: AtomicU64::new(0),
            isolated: AtomicBool::new(false),
            connections: AtomicU64::new(0),
        }
    }

    /// Where `target` is, if that is known without a look-up.
    pub(crate) fn fixed_place(target: &Target) -> Option<Place> {
        match target {
            Target::Address(address) => Some(Place::Tcp(*address)),
            Target::Name { .. } => None,
            Target::Unix(path) => Some(Place::Unix(Arc::clone(path))),
        }
    }

    pub(crate) fn begin(&self) {
        self.started.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.finished.fetch_add(1, Relaxed);
    }

    /// A request came to a good end.
    pub(crate) fn is_well(&self) {
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
        }
    }

    /// A request was failed; how many in a row that makes.
    pub(crate) fn fail(&self) -> u32 {
        self.failed.fetch_add(1, Relaxed);
        self.in_a_row.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// What was counted against it is forgotten.
    pub(crate) fn forgive(&self) {
        self.in_a_row.store(0, Relaxed);
        self.cools_until_ms.store(0, Relaxed);
    }

    pub(crate) fn in_flight(&self) -> u64 {
        // Read in this order, so that it never comes out below zero for long.
        let finished = self.finished.load(Relaxed);
        self.started.load(Relaxed).saturating_sub(finished)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.finished.load(Relaxed)
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// The head of an answer came after `waited`.
    pub(crate) fn heard(&self, waited: Duration, now_ms: u64) {
        let sample = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX).clamp(1, LOW);
        let packed = self.latency.load(Relaxed);
        let silent_ms = (now_ms & LOW).saturating_sub(packed >> 32);
        let average = match packed & LOW {
            0 => sample,
            _ if silent_ms >= LATENCY_HALVES_MS => sample,
            // An eighth of what is new; two threads at once lose one sample.
            old => (old.saturating_mul(7).saturating_add(sample) / 8).max(1),
        };
        self.latency.store(pack(now_ms, average), Relaxed);
    }

    /// The average, the less the longer ago; zero when nothing is known.
    pub(crate) fn latency_us(&self, now_ms: u64) -> u64 {
        let packed = self.latency.load(Relaxed);
        let (then_ms, average) = (packed >> 32, packed & LOW);
        let halvings = (now_ms & LOW).saturating_sub(then_ms) / LATENCY_HALVES_MS;
        if average == 0 { 0 } else { (average >> halvings.min(31)).max(1) }
    }

    pub(crate) fn cool_until(&self, until_ms: u64) {
        self.cools_until_ms.store(until_ms, Relaxed);
    }

    pub(crate) fn is_cooling(&self, now_ms: u64) -> bool {
        now_ms < self.cools_until_ms.load(Relaxed)
    }

    pub(crate) fn starts_at(&self, now_ms: u64) {
        self.since_ms.store(now_ms.max(1), Relaxed);
    }

    /// Its share in thousandths while it starts slowly; whole from `slow_start` on.
    pub(crate) fn share(&self, slow_start_ms: u64, now_ms: u64) -> u64 {
        let since = self.since_ms.load(Relaxed);
        if slow_start_ms == 0 || since == 0 {
            return WHOLE;
        }
        let reached = now_ms.saturating_sub(since).saturating_mul(WHOLE) / slow_start_ms;
        reached.clamp(WHOLE / 10, WHOLE)
    }

    pub(crate) fn is_starting(&self, slow_start_ms: u64, now_ms: u64) -> bool {
        self.share(slow_start_ms, now_ms) < WHOLE
    }

    /// What operators are told: the host, and its address if that says more.
    pub(crate) fn name(&self) -> Arc<str> {
        if self.host == self.label {
            return Arc::clone(&self.host);
        }
        format!("{} ({})", self.host, self.label).into()
    }

    /// Whether it is a socket of this host, which has no name that `Host` could say.
    pub(crate) const fn is_local(&self) -> bool {
        matches!(self.place, Place::Unix(_))
    }

    pub(crate) fn isolate(&self, isolated: bool) {
        self.isolated.store(isolated, Relaxed);
    }

    /// Whether an operator cuts what it has.
    pub(crate) fn is_isolated(&self) -> bool {
        self.isolated.load(Relaxed)
    }

    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn disconnected(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }
}

/// A full share.
pub(crate) const WHOLE: u64 = 1_000;
const LOW: u64 = 0xFFFF_FFFF;

const fn pack(ms: u64, us: u64) -> u64 {
    (ms & LOW) << 32 | us & LOW
}

/// FNV-1a with the finaliser of `SplitMix64`: the same in every process, because all instances must
/// send one key to one host. Nobody gains by a collision, for loads are bounded.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let folded = bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum: u64, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    });
    mixed(folded)
}

/// The finaliser of `SplitMix64`.
pub(crate) const fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}
