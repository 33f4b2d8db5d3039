//! Who is connected, and the way to throw them out.
//!
//! One registry for all threads, in shards so that accepting on one thread does not wait for
//! another. It bounds connections in total and per source (IPv6 by /64, which one host can fill at
//! will); one too many is closed at once, because a queue would let an attacker choose its length.
//! Requests under way are known by caller ([`crate::under_way`]), so that somebody can be shut out
//! in the middle of an answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use enforcer_authn::Identity;
use enforcer_model::{KeyId, Prefix, Reason, Source};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::under_way::{InFlight, UnderWay};

const SHARDS: usize = 16;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// In all.
    pub total: usize,
    /// From one source address, or one IPv6 /64.
    pub per_source: usize,
}

/// The open connections and the requests under way, of all threads.
#[derive(Debug)]
pub struct Connections {
    caps: Caps,
    open: AtomicUsize,
    next: AtomicU64,
    hasher: RandomState,
    sources: [Mutex<HashMap<Prefix, Vec<Open>>>; SHARDS],
    under_way: UnderWay,
}

/// A place in the registry; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Registered {
    connections: Arc<Connections>,
    around: Prefix,
    id: u64,
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Its source has as many as it may have.
    Source,
    /// There are as many as there may be.
    Total,
}

#[derive(Debug)]
struct Open {
    id: u64,
    source: Source,
    cut: CancellationToken,
}

impl Default for Caps {
    /// Room for a busy host, and for no single client to fill it.
    fn default() -> Self {
        Self { total: 16_384, per_source: 256 }
    }
}

impl Connections {
    /// Nobody is connected.
    pub fn new(caps: Caps) -> Self {
        Self {
            caps,
            open: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            hasher: RandomState::new(),
            sources: std::array::from_fn(|_| Mutex::default()),
            under_way: UnderWay::default(),
        }
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Closes every connection from inside `prefix` but those that `spared` says, whatever is under
    /// way on it; how many.
    ///
    /// Block the prefix first: a connection is registered before its source is looked up in the
    /// quarantine, so each one is either found here or refused there.
    pub fn close_from(&self, prefix: Prefix, spared: impl Fn(IpAddr) -> bool) -> usize {
        let close = |shard: &Mutex<HashMap<Prefix, Vec<Open>>>| {
            let shard = shard.lock();
            let near = shard.iter().filter(|(around, _)| around.overlaps(prefix));
            let hit = near.flat_map(|(_, open)| open);
            let hit = hit.filter(|open| {
                let address = open.source.address();
                prefix.contains(address) && !spared(address)
            });
            hit.map(|open| open.cut.cancel()).count()
        };
        self.sources.iter().map(close).sum()
    }

    /// Cuts every request under way whose caller `hit` names, whatever of the answer was sent; how
    /// many. `why` is what their records say. Other requests on the same HTTP/2 connection go on.
    ///
    /// Shut the callers out first: a request is registered before its caller is looked up, so each
    /// one is either found here or refused there.
    pub fn close_where(&self, why: Reason, hit: &dyn Fn(&Identity) -> bool) -> usize {
        self.under_way.cut_where(why, hit)
    }

    /// Cuts every request of `key` that is under way; how many. Shut the key out first, as above.
    pub fn close_key(&self, key: KeyId, why: Reason) -> usize {
        self.under_way.cut_key(key, why)
    }

    /// A place for a connection from `source`, which `cut` will close.
    pub(crate) fn register(
        self: &Arc<Self>,
        source: Source,
        cut: CancellationToken,
    ) -> Result<Registered, Crowded> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.caps.total {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Crowded::Total);
        }
        let around = source.neighbourhood();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut shard = self.shard_of(&self.sources, &around).lock();
        let open = shard.entry(around).or_default();
        if open.len() >= self.caps.per_source {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Crowded::Source);
        }
        open.push(Open { id, source, cut });
        Ok(Registered { connections: Arc::clone(self), around, id })
    }

    /// A request of `caller` is under way; to be asked before the caller is looked up anywhere.
    pub(crate) fn enter(&self, caller: Identity) -> InFlight {
        self.under_way.enter(caller)
    }

    fn shard_of<'a, T>(&self, shards: &'a [T; SHARDS], key: &Prefix) -> &'a T {
        let [first, ..] = shards;
        let place = usize::try_from(self.hasher.hash_one(key) % 16).unwrap_or(0);
        shards.get(place).unwrap_or(first)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let connections = &self.connections;
        connections.open.fetch_sub(1, Ordering::Relaxed);
        let mut shard = connections.shard_of(&connections.sources, &self.around).lock();
        if let Entry::Occupied(mut open) = shard.entry(self.around) {
            open.get_mut().retain(|open| open.id != self.id);
            if open.get().is_empty() {
                open.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_closed_and_nobody_else() {
        let connections = registry(Caps::default());
        let (hit, spared) = (CancellationToken::new(), CancellationToken::new());
        let _one = connections.register(source("192.0.2.7"), hit.clone()).unwrap();
        let _two = connections.register(source("192.0.3.7"), spared.clone()).unwrap();

        assert_eq!(connections.close_from("192.0.2.0/24".parse().unwrap(), |_| false), 1);

        assert!(hit.is_cancelled());
        assert!(!spared.is_cancelled());
    }

    #[test]
    fn one_address_inside_a_neighbourhood_is_closed_alone() {
        let connections = registry(Caps::default());
        let (hit, spared) = (CancellationToken::new(), CancellationToken::new());
        let _one = connections.register(source("2001:db8::1"), hit.clone()).unwrap();
        let _two = connections.register(source("2001:db8::2"), spared.clone()).unwrap();

        assert_eq!(connections.close_from("2001:db8::1".parse().unwrap(), |_| false), 1);

        assert!(hit.is_cancelled());
        assert!(!spared.is_cancelled());
    }

    #[test]
    fn a_source_fills_its_own_share_and_a_64_is_one_source() {
        let connections = registry(Caps { total: 10, per_source: 2 });
        let open = |address| connections.register(source(address), CancellationToken::new());

        let first = open("2001:db8::1").unwrap();
        let _second = open("2001:db8::2").unwrap();

        assert_eq!(open("2001:db8::3").unwrap_err(), Crowded::Source);
        let _other = open("2001:db8:0:1::1").unwrap();
        drop(first);
        let _again = open("2001:db8::3").unwrap();
        assert_eq!(connections.open(), 3);
    }

    #[test]
    fn the_total_is_never_passed() {
        let connections = registry(Caps { total: 2, per_source: 2 });
        let open = |address| connections.register(source(address), CancellationToken::new());

        let _one = open("192.0.2.1").unwrap();
        let two = open("192.0.2.2").unwrap();

        assert_eq!(open("192.0.2.3").unwrap_err(), Crowded::Total);
        drop(two);
        assert_eq!(connections.open(), 1);
        assert!(open("192.0.2.3").is_ok());
    }

    fn registry(caps: Caps) -> Arc<Connections> {
        Arc::new(Connections::new(caps))
    }

    fn source(address: &str) -> Source {
        Source::new(address.parse().unwrap())
    }
}
