//! Where answers are kept: bounded in bytes, the least useful gives way, nothing outlives the
//! process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use moka::ops::compute::Op;
use moka::sync::Cache as Moka;

use crate::kept::{Kept, Variants};
use crate::key::{Key, KeyRef, Target};
use crate::place::Places;
use crate::plan::Bounds;

/// The answers that are kept, for all threads.
#[derive(Debug)]
pub struct Cache {
    room: ArcSwap<Room>,
    pub(crate) places: Places,
    pub(crate) counts: Arc<Counts>,
    /// How often something was purged: what was asked for before is not kept afterwards.
    purges: AtomicU64,
    /// Bytes of answers that are arriving to be kept.
    arriving: AtomicU64,
    /// Bytes that were put in since the store last looked at its bound.
    unsettled: AtomicU64,
}

#[derive(Debug)]
struct Room {
    bounds: Bounds,
    kept: Moka<Key, Arc<Variants>>,
}

/// What happened how often, since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) hits: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) revalidated: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) waited: AtomicU64,
    pub(crate) stored: AtomicU64,
    pub(crate) changed: AtomicU64,
    evicted: AtomicU64,
    purged: AtomicU64,
}

/// What a cache holds and has done since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Answers that are kept.
    pub entries: u64,
    /// What they take in memory, heads and keys included.
    pub bytes: u64,
    /// What they may take.
    pub memory: u64,
    /// What answers take that are still arriving.
    pub arriving: u64,
    /// Requests answered from here while the answer was fresh.
    pub hits: u64,
    /// Requests answered from here with an answer that was not fresh, because it may stand in.
    pub stale: u64,
    /// Requests answered from here after the upstream said that nothing has changed.
    pub revalidated: u64,
    /// Requests of routes that keep answers which the upstream has answered.
    pub misses: u64,
    /// Requests that waited for another one which asked for the same.
    pub waited: u64,
    /// Answers that came to be kept.
    pub stored: u64,
    /// Answers that gave way to others.
    pub evicted: u64,
    /// Resources of which nothing old is used because an unsafe request has changed them.
    pub changed: u64,
    /// Answers that an operator removed.
    pub purged: u64,
    /// By route, in the order of their names; only routes of which something is kept.
    pub routes: Vec<RouteStats>,
}

/// What is kept of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteStats {
    /// Its name.
    pub route: Arc<str>,
    /// Answers.
    pub entries: u64,
    /// What they take in memory.
    pub bytes: u64,
}

/// What an operator wants to be rid of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Everything.
    All,
    /// All answers to one host.
    Host(Box<str>),
    /// All answers of one route.
    Route(Box<str>),
    /// One target: `/path`, or `/path?query`.
    Target {
        /// The canonical host.
        host: Box<str>,
        /// The canonical path, with the query behind it.
        target: Box<str>,
    },
    /// Everything on one host whose path is this one or lies below it, whatever the query is.
    Under {
        /// The canonical host.
        host: Box<str>,
        /// The canonical path.
        path: Box<str>,
    },
}

/// The part of the memory that answers may take, together, while they arrive.
const ARRIVING_SHARE: u64 = 4;
/// The part of the memory by which the bound may be exceeded until the store looks at it.
const SLACK_SHARE: u64 = 32;

impl Cache {
    /// An empty cache.
    pub fn new(bounds: Bounds) -> Self {
        let counts = Arc::new(Counts::default());
        Self {
            room: ArcSwap::from_pointee(Room::new(bounds, &counts)),
            places: Places::new(),
            counts,
            purges: AtomicU64::new(0),
            arriving: AtomicU64::new(0),
            unsettled: AtomicU64::new(0),
        }
    }

    /// From here on with other bounds. Another size of memory is another memory, and begins empty.
    pub fn resize(&self, bounds: Bounds) {
        let room = self.room.load();
        if room.bounds == bounds {
            return;
        }
        let next = if room.bounds.memory == bounds.memory {
            Room { bounds, kept: room.kept.clone() }
        } else {
            Room::new(bounds, &self.counts)
        };
        self.room.store(Arc::new(next));
    }

    /// The bounds in force.
    pub fn bounds(&self) -> Bounds {
        self.room.load().bounds
    }

    /// What is kept, and what was done. Walks over all keys.
    pub fn stats(&self) -> Stats {
        let room = self.room.load_full();
        room.kept.run_pending_tasks();
        let mut routes: Vec<RouteStats> = Vec::new();
        for (key, variants) in &room.kept {
            let (entries, bytes) = (number(variants.len()), u64::from(variants.weight(&key)));
            match routes.binary_search_by(|known| known.route.cmp(&key.route)) {
                Ok(at) => {
                    if let Some(known) = routes.get_mut(at) {
                        known.entries += entries;
                        known.bytes += bytes;
                    }
                }
                Err(at) => {
                    let route = Arc::clone(&key.route);
                    routes.insert(at, RouteStats { route, entries, bytes });
                }
            }
        }
        let counts = &self.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            entries: routes.iter().map(|route| route.entries).sum(),
            bytes: room.kept.weighted_size(),
            memory: room.bounds.memory.0,
            arriving: read(&self.arriving),
            hits: read(&counts.hits),
            stale: read(&counts.stale),
            revalidated: read(&counts.revalidated),
            misses: read(&counts.misses),
            waited: read(&counts.waited),
            stored: read(&counts.stored),
            evicted: read(&counts.evicted),
            changed: read(&counts.changed),
            purged: read(&counts.purged),
            routes,
        }
    }

    /// Removes what `what` names; how many answers that were. What is arriving meanwhile is not
    /// kept.
    pub fn purge(&self, what: &What) -> u64 {
        self.purges.fetch_add(1, Ordering::AcqRel);
        let room = self.room.load_full();
        let mut removed = 0;
        for (key, variants) in &room.kept {
            if what.names(&key) {
                room.kept.invalidate(&*key);
                removed += number(variants.len());
            }
        }
        room.kept.run_pending_tasks();
        self.counts.purged.fetch_add(removed, Ordering::Relaxed);
        removed
    }

    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<Arc<Variants>> {
        self.room.load().kept.get(&key)
    }

    pub(crate) fn purges(&self) -> u64 {
        self.purges.load(Ordering::Acquire)
    }

    /// Keeps `kept` under `key`, unless something was purged after `purges` was read.
    pub(crate) fn put(&self, key: Key, kept: Arc<Kept>, purges: u64) -> bool {
        if !kept.is_current() || self.purges() != purges {
            return false;
        }
        let room = self.room.load();
        let added = number(kept.weight());
        let mine = Arc::clone(&kept);
        room.kept.entry(key.clone()).and_upsert_with(|entry| {
            let before = entry.map(moka::Entry::into_value).unwrap_or_default();
            Arc::new(before.with(kept))
        });
        self.settle(&room, added);
        // A purge that came meanwhile may have walked past before the answer was there.
        if self.purges() != purges {
            self.remove(key, &mine);
            return false;
        }
        true
    }

    /// Puts `new` in the place of `old`, if that is still there.
    pub(crate) fn replace(&self, key: Key, old: &Arc<Kept>, new: Arc<Kept>) {
        let room = self.room.load();
        let added = number(new.weight());
        room.kept.entry(key).and_compute_with(|entry| match entry {
            Some(entry) if entry.value().has(old) => {
                let others = entry.value().without(old).unwrap_or_default();
                Op::Put(Arc::new(others.with(new)))
            }
            Some(_) | None => Op::Nop,
        });
        self.settle(&room, added);
    }

    pub(crate) fn remove(&self, key: Key, kept: &Arc<Kept>) {
        self.room.load().kept.entry(key).and_compute_with(|entry| match entry {
            Some(entry) if entry.value().has(kept) => match entry.value().without(kept) {
                Some(left) => Op::Put(Arc::new(left)),
                None => Op::Remove,
            },
            Some(_) | None => Op::Nop,
        });
    }

    /// Has the store look at its bound before it is exceeded by more than the slack.
    fn settle(&self, room: &Room, added: u64) {
        let unsettled = self.unsettled.fetch_add(added, Ordering::AcqRel).saturating_add(added);
        if unsettled > room.bounds.memory.0 / SLACK_SHARE {
            self.unsettled.store(0, Ordering::Release);
            room.kept.run_pending_tasks();
        }
    }

    /// Room for `bytes` of an answer that arrives; to be given back with [`Self::release`].
    pub(crate) fn reserve(&self, bytes: u64) -> bool {
        let most = self.bounds().memory.0 / ARRIVING_SHARE;
        let mut now = self.arriving.load(Ordering::Acquire);
        loop {
            let Some(next) = now.checked_add(bytes).filter(|next| *next <= most) else {
                return false;
            };
            let order = (Ordering::AcqRel, Ordering::Acquire);
            match self.arriving.compare_exchange_weak(now, next, order.0, order.1) {
                Ok(_) => return true,
                Err(other) => now = other,
            }
        }
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.arriving.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Nothing old of `target` is used from here on, over TLS or not.
    pub(crate) fn change(&self, target: Target<'_>) {
        let mut changed = false;
        for secure in [false, true] {
            changed |= self.places.change(Target { secure, ..target });
        }
        if changed {
            Counts::add(&self.counts.changed);
        }
    }
}

impl Counts {
    pub(crate) fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Room {
    fn new(bounds: Bounds, counts: &Arc<Counts>) -> Self {
        let counts = Arc::clone(counts);
        let kept = Moka::builder()
            .max_capacity(bounds.memory.0)
            .weigher(|key: &Key, variants: &Arc<Variants>| variants.weight(key))
            .eviction_listener(move |_, variants, cause| {
                if cause.was_evicted() {
                    counts.evicted.fetch_add(number(variants.len()), Ordering::Relaxed);
                }
            })
            .build();
        Self { bounds, kept }
    }
}

impl What {
    fn names(&self, key: &Key) -> bool {
        let at = key.place.target();
        match self {
            Self::All => true,
            Self::Host(host) => **host == *at.host,
            Self::Route(route) => **route == *key.route,
            Self::Target { host, target } => {
                let (path, query) = match target.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (&**target, None),
                };
                **host == *at.host && path == at.path && query == at.query
            }
            Self::Under { host, path } => {
                let below = at.path.strip_prefix(path.trim_end_matches('/'));
                **host == *at.host
                    && below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
            }
        }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
