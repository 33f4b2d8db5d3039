//! Whom the proxy refuses before it looks at anything else: networks, callers, roles, credentials and
//! TLS clients under a block.
//!
//! The kernel drops a blocked network's packets; this set refuses what reaches layer 7 all the same
//! (a connection that was open before, an agent without the kernel part) and everybody whom only
//! layer 7 can see. A kind of target of which none is blocked costs one load of a number; else each
//! look-up is one of a hash table, for each role that a caller has. Readers take one shard's read lock per prefix length in use and never wait
//! for each other; changes go through one writer at a time. The set is bounded: a full one refuses
//! to grow and says so. An expired entry no longer refuses, and never hides a live one behind it.
//! Networks on the never-block lists are spared even inside a blocked one, as in the kernel. Lists
//! of very many networks are looked at last, one binary search each, and exchanged as a whole.

mod named;
mod networks;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use enforcer_model::{
    Block, BlockId, Expiry, Fingerprint, KeyId, Prefix, Principal, Reason, Rejection, Role, Source,
    Target, Timestamp,
};
use parking_lot::Mutex;

use named::Named;

pub use networks::{LeftOut, Networks};

/// The blocks in force at layer 7, shared by all threads.
pub struct Quarantine {
    max: usize,
    networks: DashMap<Prefix, Held>,
    keys: Named<KeyId>,
    users: Named<Principal>,
    roles: Named<Role>,
    tokens: Named<Fingerprint>,
    ja4: Named<Arc<str>>,
    v4: Lengths,
    v6: Lengths,
    lists: ArcSwap<Vec<Listed>>,
    spared: ArcSwap<Vec<Prefix>>,
    /// Held by whoever changes anything. Counts how many networks have each prefix length, so that
    /// a bit of [`Lengths`] is cleared exactly when its last network leaves.
    writer: Mutex<Counts>,
}

/// One entry: whom it hits, the block's name, when it ends.
pub type Entry = (Target, BlockId, Expiry);

/// Many networks under one decision.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The decision's name.
    pub id: BlockId,
    /// When it ends.
    pub until: Expiry,
    /// Whom it hits.
    pub networks: Arc<Networks>,
}

/// The set holds as many blocks as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the quarantine is full: {max} blocks are in force; release some, or raise `blocks`")]
pub struct Full {
    /// How many it may hold.
    pub max: usize,
}

/// The block that shut a request out, for the audit record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{target} is blocked by {id} until {until}")]
pub struct Shut {
    /// The block's name.
    pub id: BlockId,
    /// Whom the block hits.
    pub target: Target,
    /// When it ends.
    pub until: Expiry,
}

#[derive(Clone, Copy)]
struct Held {
    id: BlockId,
    until: Expiry,
}

/// Which prefix lengths of one address family are in use: bit `n % 64` of word `n / 64`.
///
/// Lengths run from 0 to 128, which is one more than two words hold.
#[derive(Default)]
struct Lengths([AtomicU64; 3]);

struct Counts {
    v4: [usize; 129],
    v6: [usize; 129],
}

impl Quarantine {
    /// An empty set that holds at most `max` blocks.
    pub fn new(max: usize) -> Self {
        let counts = Counts { v4: [0; 129], v6: [0; 129] };
        Self {
            max,
            networks: DashMap::new(),
            keys: Named::default(),
            users: Named::default(),
            roles: Named::default(),
            tokens: Named::default(),
            ja4: Named::default(),
            v4: Lengths::default(),
            v6: Lengths::default(),
            lists: ArcSwap::default(),
            spared: ArcSwap::default(),
            writer: Mutex::new(counts),
        }
    }

    /// Puts `block` in force on every thread; a block of the same target is replaced.
    pub fn insert(&self, block: &Block) -> Result<(), Full> {
        let mut counts = self.writer.lock();
        let held = Held { id: block.id, until: block.until };
        let known = self.held(&block.target).is_some();
        if !known && self.len() >= self.max {
            return Err(Full { max: self.max });
        }
        match &block.target {
            Target::Ja4(ja4) => self.ja4.insert(ja4, held),
            Target::Key(id) => self.keys.insert(id, held),
            Target::Network(prefix) => {
                // The length first: a reader that finds the entry must have been told to look.
                if !known {
                    self.count(*prefix, &mut counts, Change::Arrives);
                }
                self.networks.insert(*prefix, held);
            }
            Target::Role(role) => self.roles.insert(role, held),
            Target::Token(fingerprint) => self.tokens.insert(fingerprint, held),
            Target::User(principal) => self.users.insert(principal, held),
        }
        Ok(())
    }

    /// Lifts the block of exactly `target`; whether there was one.
    pub fn remove(&self, target: &Target) -> bool {
        let mut counts = self.writer.lock();
        self.remove_with(target, &mut counts)
    }

    /// The block of exactly `target`, expired or not.
    pub fn find(&self, target: &Target) -> Option<(BlockId, Expiry)> {
        self.held(target).map(|held| (held.id, held.until))
    }

    fn held(&self, target: &Target) -> Option<Held> {
        match target {
            Target::Ja4(ja4) => self.ja4.get(ja4),
            Target::Key(id) => self.keys.get(id),
            Target::Network(prefix) => self.networks.get(prefix).map(|held| *held),
            Target::Role(role) => self.roles.get(role),
            Target::Token(fingerprint) => self.tokens.get(fingerprint),
            Target::User(principal) => self.users.get(principal),
        }
    }

    /// All entries in no particular order, expired ones included until [`Self::purge`].
    pub fn entries(&self) -> Vec<Entry> {
        let networks = self.networks.iter().map(|entry| {
            let held = entry.value();
            (Target::Network(*entry.key()), held.id, held.until)
        });
        let mut all: Vec<_> = networks.collect();
        self.keys.add_to(&mut all, |id| Target::Key(*id));
        self.users.add_to(&mut all, |principal| Target::User(principal.clone()));
        self.roles.add_to(&mut all, |role| Target::Role(role.clone()));
        self.tokens.add_to(&mut all, |fingerprint| Target::Token(*fingerprint));
        self.ja4.add_to(&mut all, |ja4| Target::Ja4(Arc::clone(ja4)));
        all
    }

    /// Removes what is over at `now` and returns it.
    pub fn purge(&self, now: Timestamp) -> Vec<Entry> {
        let mut counts = self.writer.lock();
        let mut over = self.entries();
        over.retain(|(_, _, until)| until.is_over(now));
        for (target, ..) in &over {
            self.remove_with(target, &mut counts);
        }
        over
    }

    /// How many blocks it holds.
    pub fn len(&self) -> usize {
        let named = [
            self.keys.len(),
            self.users.len(),
            self.roles.len(),
            self.tokens.len(),
            self.ja4.len(),
        ];
        self.networks.len() + named.into_iter().sum::<usize>()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `lists` in the place of all earlier ones, for every request from here on.
    pub fn set_lists(&self, lists: Vec<Listed>) {
        self.lists.store(Arc::new(lists));
    }

    /// The lists that are looked at.
    pub fn lists(&self) -> Arc<Vec<Listed>> {
        self.lists.load_full()
    }

    /// Refuses a source inside a blocked network.
    pub fn refuse_source(&self, source: Source, now: Timestamp) -> Result<(), Rejection> {
        let address = source.address();
        for length in self.lengths(address).longest_first() {
            let prefix = Prefix::around(address, length);
            let Some(held) = self.networks.get(&prefix).map(|held| *held) else { continue };
            if !held.until.is_over(now) {
                // Asked only about who would be refused, so it costs nobody else anything.
                if self.is_spared(address) {
                    return Ok(());
                }
                return Err(held.shut(Target::Network(prefix)));
            }
        }
        for Listed { id, until, networks } in self.lists.load().iter() {
            let (id, until) = (*id, *until);
            let Some(prefix) = networks.covering(address) else { continue };
            if !until.is_over(now) {
                if self.is_spared(address) {
                    return Ok(());
                }
                return Err(Held { id, until }.shut(Target::Network(prefix)));
            }
        }
        Ok(())
    }

    /// Lets `networks` through whatever is blocked around them.
    pub fn spare(&self, networks: Vec<Prefix>) {
        self.spared.store(Arc::new(networks));
    }

    /// Whether `address` is let through whatever is blocked around it.
    pub fn is_spared(&self, address: IpAddr) -> bool {
        self.spared.load().iter().any(|network| network.contains(address))
    }

    /// Refuses a blocked key.
    pub fn refuse_key(&self, key: KeyId, now: Timestamp) -> Result<(), Rejection> {
        self.keys.refuse(&key, now, || Target::Key(key))
    }

    /// Refuses a blocked caller that is no key.
    pub fn refuse_user(&self, user: &Principal, now: Timestamp) -> Result<(), Rejection> {
        self.users.refuse(user, now, || Target::User(user.clone()))
    }

    /// Refuses whoever holds a blocked role; `roles` is only asked when there is one.
    pub fn refuse_roles<'r, I: Iterator<Item = &'r Role>>(
        &self,
        roles: impl FnOnce() -> I,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        if self.roles.is_empty() {
            return Ok(());
        }
        roles().try_for_each(|role| self.roles.refuse(role, now, || Target::Role(role.clone())))
    }

    /// Refuses a blocked credential.
    pub fn refuse_token(&self, token: Fingerprint, now: Timestamp) -> Result<(), Rejection> {
        self.tokens.refuse(&token, now, || Target::Token(token))
    }

    /// Refuses a blocked kind of TLS client; not from where the never-block lists let everybody
    /// through, since many have it in common.
    pub fn refuse_ja4(
        &self,
        ja4: Option<&Arc<str>>,
        source: Source,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let Some(ja4) = ja4 else { return Ok(()) };
        let refused = self.ja4.refuse(ja4, now, || Target::Ja4(Arc::clone(ja4)));
        if refused.is_err() && self.is_spared(source.address()) { Ok(()) } else { refused }
    }

    fn remove_with(&self, target: &Target, counts: &mut Counts) -> bool {
        match target {
            Target::Ja4(ja4) => self.ja4.remove(ja4),
            Target::Key(id) => self.keys.remove(id),
            Target::Network(prefix) => {
                let removed = self.networks.remove(prefix).is_some();
                if removed {
                    self.count(*prefix, counts, Change::Leaves);
                }
                removed
            }
            Target::Role(role) => self.roles.remove(role),
            Target::Token(fingerprint) => self.tokens.remove(fingerprint),
            Target::User(principal) => self.users.remove(principal),
        }
    }

    fn count(&self, prefix: Prefix, counts: &mut Counts, change: Change) {
        let counts = match prefix.address() {
            IpAddr::V4(_) => &mut counts.v4,
            IpAddr::V6(_) => &mut counts.v6,
        };
        let Some(count) = counts.get_mut(usize::from(prefix.length())) else { return };
        match change {
            Change::Arrives => *count += 1,
            Change::Leaves => *count -= 1,
        }
        self.lengths(prefix.address()).set(prefix.length(), *count > 0);
    }

    const fn lengths(&self, address: IpAddr) -> &Lengths {
        match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        }
    }
}

#[derive(Clone, Copy)]
enum Change {
    Arrives,
    Leaves,
}

impl Held {
    fn shut(self, target: Target) -> Rejection {
        Reason::Quarantined.because(Shut { id: self.id, target, until: self.until })
    }
}

impl Lengths {
    fn set(&self, length: u8, used: bool) {
        let Some(word) = self.0.get(usize::from(length / 64)) else { return };
        let bit = 1u64 << (length % 64);
        if used {
            word.fetch_or(bit, Ordering::SeqCst);
        } else {
            word.fetch_and(!bit, Ordering::SeqCst);
        }
    }

    fn longest_first(&self) -> impl Iterator<Item = u8> {
        let words = self.0.each_ref().map(|word| word.load(Ordering::SeqCst));
        words.into_iter().zip([0, 64, 128]).rev().flat_map(|(mut bits, base)| {
            std::iter::from_fn(move || {
                let place = bits.checked_ilog2()?;
                bits ^= 1 << place;
                u8::try_from(place).ok()?.checked_add(base)
            })
        })
    }
}

impl fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quarantine").field("held", &self.len()).field("max", &self.max).finish()
    }
}

#[cfg(test)]
mod tests;
