//! Who is connected, and the way to throw them out.
//!
//! One registry for all threads, in shards so that accepting on one thread does not wait for
//! another. It bounds connections in total and per source (IPv6 by /64, which one host can fill at
//! will); one too many is closed at once, because a queue would let an attacker choose its length.
//! Requests under way are known by key, so that a key can be shut out in the middle of an answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use enforcer_model::{KeyId, Prefix, Reason, Rejection, Source};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

const SHARDS: usize = 16;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// In all.
    pub total: usize,
    /// From one source address, or one IPv6 /64.
    pub per_source: usize,
}

/// The open connections and the keys with requests under way, of all threads.
#[derive(Debug)]
pub struct Connections {
    caps: Caps,
    open: AtomicUsize,
    next: AtomicU64,
    hasher: RandomState,
    sources: [Mutex<HashMap<Prefix, Vec<Open>>>; SHARDS],
    keys: [Mutex<HashMap<KeyId, UnderWay>>; SHARDS],
}

/// A place in the registry; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Registered {
    connections: Arc<Connections>,
    around: Prefix,
    id: u64,
}

/// One request of a key under way; dropping it says that the request is over.
#[derive(Debug)]
pub(crate) struct InFlight {
    connections: Arc<Connections>,
    key: KeyId,
    cut: CancellationToken,
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Its source has as many as it may have.
    Source,
    /// There are as many as there may be.
    Total,
}

/// The key of a request was shut out while the request was under way.
#[derive(Debug, thiserror::Error)]
#[error("the key was blocked while the request was under way")]
pub(crate) struct KeyCut;

#[derive(Debug)]
struct Open {
    id: u64,
    source: Source,
    cut: CancellationToken,
}

/// All requests of one key share a token: they are only ever cut together.
#[derive(Debug)]
struct UnderWay {
    requests: usize,
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
            keys: std::array::from_fn(|_| Mutex::default()),
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

    /// Cuts every request of `key` that is under way; how many. Block the key first, as above.
    pub fn close_key(&self, key: KeyId) -> usize {
        let mut shard = self.shard_of(&self.keys, &key).lock();
        let Some(under_way) = shard.remove(&key) else { return 0 };
        // Under the lock, so that a request that ends meanwhile knows that it is not counted.
        under_way.cut.cancel();
        under_way.requests
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

    /// Notes that a request of `key` is under way.
    pub(crate) fn enter(self: &Arc<Self>, key: KeyId) -> InFlight {
        let mut shard = self.shard_of(&self.keys, &key).lock();
        let under_way = shard
            .entry(key)
            .or_insert_with(|| UnderWay { requests: 0, cut: CancellationToken::new() });
        under_way.requests += 1;
        InFlight { connections: Arc::clone(self), key, cut: under_way.cut.clone() }
    }

    fn shard_of<'a, T>(&self, shards: &'a [T; SHARDS], key: &impl std::hash::Hash) -> &'a T {
        let [first, ..] = shards;
        let place = usize::try_from(self.hasher.hash_one(key) % 16).unwrap_or(0);
        shards.get(place).unwrap_or(first)
    }
}

impl InFlight {
    /// Ends when the key is shut out.
    pub(crate) const fn cut(&self) -> &CancellationToken {
        &self.cut
    }
}

/// Does `work`, unless the key is shut out before it is done.
pub(crate) async fn unless_cut<T>(
    in_flight: Option<&InFlight>,
    work: impl Future<Output = T>,
) -> Result<T, Rejection> {
    match in_flight {
        None => Ok(work.await),
        Some(in_flight) => {
            let done = in_flight.cut.run_until_cancelled(work).await;
            done.ok_or_else(|| Reason::Quarantined.because(KeyCut))
        }
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

impl Drop for InFlight {
    fn drop(&mut self) {
        let connections = &self.connections;
        let mut shard = connections.shard_of(&connections.keys, &self.key).lock();
        if let Entry::Occupied(mut under_way) = shard.entry(self.key) {
            // After a cut the entry is gone, or belongs to requests that came later.
            if self.cut.is_cancelled() {
                return;
            }
            under_way.get_mut().requests -= 1;
            if under_way.get().requests == 0 {
                under_way.remove();
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

    #[test]
    fn a_key_is_cut_and_later_requests_of_it_are_counted_anew() {
        let connections = registry(Caps::default());
        let key: KeyId = "k7Qx2mP9aB3c".parse().unwrap();
        let (one, two) = (connections.enter(key), connections.enter(key));

        assert_eq!(connections.close_key(key), 2);
        assert!(one.cut().is_cancelled() && two.cut().is_cancelled());

        let later = connections.enter(key);
        drop((one, two));
        assert!(!later.cut().is_cancelled());
        assert_eq!(connections.close_key(key), 1);
        assert_eq!(connections.close_key(key), 0);
    }

    fn registry(caps: Caps) -> Arc<Connections> {
        Arc::new(Connections::new(caps))
    }

    fn source(address: &str) -> Source {
        Source::new(address.parse().unwrap())
    }
}
