//! Who is connected, and the way to throw them out.
//!
//! One registry for all threads, in shards so that accepting on one thread does not wait for
//! another. It bounds connections in total and per source (IPv6 by /64, which one host can fill at
//! will), and handshakes under way per source; one too many is closed at once, because a queue would
//! let an attacker choose its length. A source that speaks for many, on this host or a trusted
//! proxy, is bounded by the total alone.
//! Requests under way are known by caller ([`crate::under_way`]), so that somebody can be shut out
//! in the middle of an answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use enforcer_authn::Identity;
use enforcer_model::{Fingerprint, KeyId, Prefix, Reason, Source, Target};
use enforcer_policy::{ConnectionsPlan, Policy};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::scene::roles_of;
use crate::under_way::{InFlight, UnderWay};

const SHARDS: usize = 16;

/// The open connections and the requests under way, of all threads.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    next: AtomicU64,
    hasher: RandomState,
    sources: [Mutex<HashMap<Prefix, Neighbours>>; SHARDS],
    under_way: UnderWay,
    handed_over: AtomicBool,
    elsewhere: ArcSwapOption<Elsewhere>,
}

/// Who is to be thrown out, where that is to be known elsewhere as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Connections from here.
    From(Prefix),
    /// Requests with this key, for this reason.
    Key(KeyId, Reason),
    /// Requests of those who are shut out by now, for this reason.
    Callers(Reason),
    /// Requests, or connections, of whoever this names.
    Named(Target),
    /// Requests that wait for this host of an upstream.
    Host {
        /// The upstream.
        upstream: Box<str>,
        /// Its host.
        host: Box<str>,
    },
}

/// Hears of every [`Cut`] before it is made; must not wait.
pub struct Elsewhere(pub Box<dyn Fn(Cut) + Send + Sync>);

/// A place in the registry; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Registered {
    connections: Arc<Connections>,
    around: Prefix,
    id: u64,
    share: Share,
}

/// A handshake under way; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Shaking<'a>(&'a Registered);

/// How many connections a source may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// A share of its own.
    Own,
    /// It speaks for many, so the total alone bounds it.
    Total,
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Its source has as many handshakes under way as it may have.
    Handshakes,
    /// Its source has as many as it may have.
    Source,
    /// There are as many as there may be.
    Total,
}

/// The connections of one neighbourhood.
#[derive(Debug, Default)]
struct Neighbours {
    open: HashMap<u64, Open>,
    handshakes: usize,
}

#[derive(Debug)]
struct Open {
    source: Source,
    /// What its TLS client is, once that is known.
    ja4: Option<Arc<str>>,
    cut: CancellationToken,
}

impl Share {
    /// Of a connection from `source`; `trusted` says that the policy calls it a proxy of ours.
    pub(crate) fn of(source: Source, trusted: bool) -> Self {
        if trusted || source.address().is_loopback() { Self::Total } else { Self::Own }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self::new()
    }
}

impl Connections {
    /// Nobody is connected.
    pub fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            hasher: RandomState::new(),
            sources: std::array::from_fn(|_| Mutex::default()),
            under_way: UnderWay::default(),
            handed_over: AtomicBool::new(false),
            elsewhere: ArcSwapOption::empty(),
        }
    }

    /// From the next stop on, connections are ended as gently as can be: somebody else accepts new
    /// ones, so nobody has to be closed who might be just about to ask.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Ordering::Release);
    }

    /// Whether somebody else accepts connections now.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.handed_over.load(Ordering::Acquire)
    }

    /// Who hears of everybody that is thrown out: a predecessor still finishes requests.
    pub fn tell_elsewhere(&self, elsewhere: Option<Elsewhere>) {
        self.elsewhere.store(elsewhere.map(Arc::new));
    }

    /// Says elsewhere who is thrown out; what is cut here itself is told by itself.
    pub fn tell(&self, cut: Cut) {
        if let Some(elsewhere) = &*self.elsewhere.load() {
            (elsewhere.0)(cut);
        }
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The sources with most connections, at most so many: how many each has, and of those how many
    /// shake hands.
    pub fn sources(&self, most: usize) -> Vec<(Prefix, usize, usize)> {
        let mut all = Vec::new();
        for shard in &self.sources {
            let shard = shard.lock();
            all.extend(shard.iter().map(|(around, neighbours)| {
                (*around, neighbours.open.len(), neighbours.handshakes)
            }));
        }
        all.sort_by_key(|(around, open, _)| (std::cmp::Reverse(*open), *around));
        all.truncate(most);
        all
    }

    /// Closes every connection from inside `prefix` but those that `spared` says, whatever is under
    /// way on it; how many. Of whoever a proxy names, whose connection is not theirs, it cuts the
    /// requests under way that have a caller.
    ///
    /// Block the prefix first: a connection is registered before its source is looked up in the
    /// quarantine, so each one is either found here or refused there.
    pub fn close_from(&self, prefix: Prefix, spared: impl Fn(IpAddr) -> bool) -> usize {
        self.tell(Cut::From(prefix));
        let close = |shard: &Mutex<HashMap<Prefix, Neighbours>>| {
            let shard = shard.lock();
            let near = shard.iter().filter(|(around, _)| around.overlaps(prefix));
            let hit = near.flat_map(|(_, neighbours)| neighbours.open.values());
            let hit = hit.filter(|open| {
                let address = open.source.address();
                prefix.contains(address) && !spared(address)
            });
            hit.map(|open| open.cut.cancel()).count()
        };
        let named = |source: Source| {
            let address = source.address();
            prefix.contains(address) && !spared(address)
        };
        let cut = self.under_way.cut_named(Reason::Quarantined, &named);
        self.sources.iter().map(close).sum::<usize>().saturating_add(cut)
    }

    /// Cuts every request under way whose caller `hit` names, whatever of the answer was sent; how
    /// many. `why` is what their records say. Other requests on the same HTTP/2 connection go on.
    ///
    /// Shut the callers out first: a request is registered before its caller is looked up, so each
    /// one is either found here or refused there.
    pub fn close_where(&self, why: Reason, hit: &dyn Fn(&Identity) -> bool) -> usize {
        self.tell(Cut::Callers(why));
        self.under_way.cut_where(why, hit)
    }

    /// Ends what a blocked name has open; how much. Of a TLS client its connections, those from
    /// `spared` addresses aside; of anybody else the requests under way, whatever of the answer was
    /// sent. `policy` says who holds a role.
    ///
    /// Block the name first, as above.
    pub fn close_named(
        &self,
        target: &Target,
        policy: &Policy,
        spared: impl Fn(IpAddr) -> bool,
    ) -> usize {
        let why = Reason::Quarantined;
        match target {
            Target::Key(key) => return self.close_key(*key, why),
            Target::Network(prefix) => return self.close_from(*prefix, spared),
            Target::Ja4(_) | Target::Role(_) | Target::Token(_) | Target::User(_) => {}
        }
        self.tell(Cut::Named(target.clone()));
        match target {
            Target::Ja4(ja4) => {
                let close = |shard: &Mutex<HashMap<Prefix, Neighbours>>| {
                    let shard = shard.lock();
                    let open = shard.values().flat_map(|neighbours| neighbours.open.values());
                    let hit = open.filter(|open| {
                        open.ja4.as_ref() == Some(ja4) && !spared(open.source.address())
                    });
                    hit.map(|open| open.cut.cancel()).count()
                };
                self.sources.iter().map(close).sum()
            }
            Target::Role(role) => {
                let Some(role) = policy.roles().index(role.as_str()) else { return 0 };
                let hit = |caller: &Identity| roles_of(caller, policy).contains(role);
                self.under_way.cut_where(why, &hit)
            }
            Target::Token(credential) => self.under_way.cut_credential(why, *credential),
            Target::User(user) => {
                self.under_way.cut_where(why, &|caller: &Identity| caller.principal() == user)
            }
            Target::Key(_) | Target::Network(_) => 0,
        }
    }

    /// Cuts every request of `key` that is under way; how many. Shut the key out first, as above.
    pub fn close_key(&self, key: KeyId, why: Reason) -> usize {
        self.tell(Cut::Key(key, why));
        self.under_way.cut_key(key, why)
    }

    /// A place for a connection from `source`, which `cut` will close.
    pub(crate) fn register(
        self: &Arc<Self>,
        source: Source,
        share: Share,
        cut: CancellationToken,
        plan: &ConnectionsPlan,
    ) -> Result<Registered, Crowded> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= plan.total {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Crowded::Total);
        }
        let around = source.neighbourhood();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut shard = self.shard_of(&self.sources, &around).lock();
        let open = &mut shard.entry(around).or_default().open;
        if share == Share::Own && open.len() >= plan.per_source {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Crowded::Source);
        }
        open.insert(id, Open { source, ja4: None, cut });
        Ok(Registered { connections: Arc::clone(self), around, id, share })
    }

    /// A request of `caller` is under way; to be asked before the caller is looked up anywhere.
    /// From `named`, where a proxy says so; with `credential`.
    pub(crate) fn enter(
        &self,
        caller: Identity,
        named: Option<Source>,
        credential: Option<Fingerprint>,
    ) -> InFlight {
        self.under_way.enter(caller, named, credential)
    }

    fn shard_of<'a, T>(&self, shards: &'a [T; SHARDS], key: &Prefix) -> &'a T {
        let [first, ..] = shards;
        let place = usize::try_from(self.hasher.hash_one(key) % 16).unwrap_or(0);
        shards.get(place).unwrap_or(first)
    }
}

impl Registered {
    /// The connection turns out to be from `source`, and is counted and found there.
    pub(crate) fn move_to(
        &mut self,
        source: Source,
        share: Share,
        plan: &ConnectionsPlan,
    ) -> Result<(), Crowded> {
        let connections = Arc::clone(&self.connections);
        let around = source.neighbourhood();
        let mut shard = connections.shard_of(&connections.sources, &self.around).lock();
        let Entry::Occupied(mut before) = shard.entry(self.around) else { return Ok(()) };
        let Some(open) = before.get_mut().open.remove(&self.id) else { return Ok(()) };
        if before.get().open.is_empty() {
            before.remove();
        }
        drop(shard);
        let mut shard = connections.shard_of(&connections.sources, &around).lock();
        let neighbours = &mut shard.entry(around).or_default().open;
        let is_full = share == Share::Own && neighbours.len() >= plan.per_source;
        (self.around, self.share) = (around, share);
        // Also when it is one too many: it leaves from where it is known to be.
        neighbours.insert(self.id, Open { source, ..open });
        if is_full { Err(Crowded::Source) } else { Ok(()) }
    }

    /// What kind of TLS client it is, for whoever ends them all.
    pub(crate) fn speaks(&self, ja4: Option<&Arc<str>>) {
        let Some(ja4) = ja4 else { return };
        let connections = &self.connections;
        let mut shard = connections.shard_of(&connections.sources, &self.around).lock();
        let open = shard.get_mut(&self.around).and_then(|near| near.open.get_mut(&self.id));
        if let Some(open) = open {
            open.ja4 = Some(Arc::clone(ja4));
        }
    }

    /// A handshake begins, and is under way until what comes back is dropped.
    pub(crate) fn shake_hands(&self, plan: &ConnectionsPlan) -> Result<Shaking<'_>, Crowded> {
        let connections = &self.connections;
        let mut shard = connections.shard_of(&connections.sources, &self.around).lock();
        // Whoever is registered has neighbours: at least itself.
        let neighbours = shard.entry(self.around).or_default();
        if self.share == Share::Own && neighbours.handshakes >= plan.handshakes {
            return Err(Crowded::Handshakes);
        }
        neighbours.handshakes += 1;
        Ok(Shaking(self))
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Elsewhere")
    }
}

impl Drop for Shaking<'_> {
    fn drop(&mut self) {
        let Registered { connections, around, .. } = self.0;
        let mut shard = connections.shard_of(&connections.sources, around).lock();
        if let Some(neighbours) = shard.get_mut(around) {
            neighbours.handshakes = neighbours.handshakes.saturating_sub(1);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let connections = &self.connections;
        connections.open.fetch_sub(1, Ordering::Relaxed);
        let mut shard = connections.shard_of(&connections.sources, &self.around).lock();
        if let Entry::Occupied(mut neighbours) = shard.entry(self.around) {
            neighbours.get_mut().open.remove(&self.id);
            if neighbours.get().open.is_empty() {
                neighbours.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_closed_and_nobody_else() {
        let house = House::default();
        let (hit, spared) = (CancellationToken::new(), CancellationToken::new());
        let _one = house.open_with("192.0.2.7", &hit).unwrap();
        let _two = house.open_with("192.0.3.7", &spared).unwrap();

        let network = "192.0.2.0/24".parse().unwrap();
        assert_eq!(house.connections.close_from(network, |_| false), 1);

        assert!(hit.is_cancelled());
        assert!(!spared.is_cancelled());
    }

    #[test]
    fn one_address_inside_a_neighbourhood_is_closed_alone() {
        let house = House::default();
        let (hit, spared) = (CancellationToken::new(), CancellationToken::new());
        let _one = house.open_with("2001:db8::1", &hit).unwrap();
        let _two = house.open_with("2001:db8::2", &spared).unwrap();

        let address = "2001:db8::1".parse().unwrap();
        assert_eq!(house.connections.close_from(address, |_| false), 1);

        assert!(hit.is_cancelled());
        assert!(!spared.is_cancelled());
    }

    #[test]
    fn a_source_fills_its_own_share_and_a_64_is_one_source() {
        let house = House::with(10, 2);

        let first = house.open("2001:db8::1").unwrap();
        let _second = house.open("2001:db8::2").unwrap();

        assert_eq!(house.open("2001:db8::3").unwrap_err(), Crowded::Source);
        let _other = house.open("2001:db8:0:1::1").unwrap();
        drop(first);
        let _again = house.open("2001:db8::3").unwrap();
        assert_eq!(house.connections.open(), 3);
    }

    #[test]
    fn who_speaks_for_many_is_bounded_by_the_total_alone() {
        let house = House::with(5, 1);
        let here = source("127.0.0.1");
        let proxy = source("192.0.2.1");

        let held: Vec<_> = [(here, false), (here, false), (proxy, true), (proxy, true)]
            .map(|(source, trusted)| {
                house.register(source, Share::of(source, trusted), &CancellationToken::new())
            })
            .into();

        assert!(held.iter().all(Result::is_ok));
        let _stranger = house.open("192.0.2.9").unwrap();
        assert_eq!(house.open("127.0.0.1").unwrap_err(), Crowded::Total);
    }

    #[test]
    fn the_total_is_never_passed() {
        let house = House::with(2, 2);

        let _one = house.open("192.0.2.1").unwrap();
        let two = house.open("192.0.2.2").unwrap();

        assert_eq!(house.open("192.0.2.3").unwrap_err(), Crowded::Total);
        drop(two);
        assert_eq!(house.connections.open(), 1);
        assert!(house.open("192.0.2.3").is_ok());
    }

    #[test]
    fn a_connection_that_a_proxy_speaks_for_is_found_and_counted_where_its_client_is() {
        let house = House::with(10, 1);
        let (client, cut) = (source("203.0.113.7"), CancellationToken::new());
        let proxy = source("10.0.0.5");
        let mut registered = house.register(proxy, Share::Total, &cut).unwrap();

        registered.move_to(client, Share::Own, &house.plan).unwrap();

        assert_eq!(house.connections.close_from(proxy.into(), |_| false), 0);
        assert_eq!(house.open("203.0.113.7").unwrap_err(), Crowded::Source);
        let mut other = house.register(proxy, Share::Total, &CancellationToken::new()).unwrap();
        assert_eq!(other.move_to(client, Share::Own, &house.plan), Err(Crowded::Source));
        drop(other);
        assert_eq!(house.connections.close_from(client.into(), |_| false), 1);
        assert!(cut.is_cancelled());
        drop(registered);
        assert_eq!(house.connections.open(), 0);
        assert!(house.open("203.0.113.7").is_ok());
    }

    #[test]
    fn a_source_has_only_so_many_handshakes_under_way() {
        let house = House::default();
        let plan = ConnectionsPlan { handshakes: 1, ..house.plan };
        let [one, two, other] =
            ["192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|address| house.open(address).unwrap());

        let first = one.shake_hands(&plan).unwrap();

        assert_eq!(two.shake_hands(&plan).unwrap_err(), Crowded::Handshakes);
        assert!(other.shake_hands(&plan).is_ok());
        drop(first);
        assert!(two.shake_hands(&plan).is_ok());
    }

    #[derive(Default)]
    struct House {
        connections: Arc<Connections>,
        plan: ConnectionsPlan,
    }

    impl House {
        fn with(total: usize, per_source: usize) -> Self {
            let plan = ConnectionsPlan { total, per_source, ..ConnectionsPlan::default() };
            Self { plan, ..Self::default() }
        }

        fn open(&self, address: &str) -> Result<Registered, Crowded> {
            self.open_with(address, &CancellationToken::new())
        }

        fn open_with(&self, address: &str, cut: &CancellationToken) -> Result<Registered, Crowded> {
            let source = source(address);
            self.register(source, Share::of(source, false), cut)
        }

        fn register(
            &self,
            source: Source,
            share: Share,
            cut: &CancellationToken,
        ) -> Result<Registered, Crowded> {
            self.connections.register(source, share, cut.clone(), &self.plan)
        }
    }

    fn source(address: &str) -> Source {
        Source::new(address.parse().unwrap())
    }
}
