//! Whoever is shut out is shut out of the predecessor as well, where requests may still run.
//!
//! The successor tells the predecessor of every cut before it makes it. That one puts the source or
//! the key under a quarantine of its own, reads the revocations on disk again, and then cuts, in
//! this order: what comes meanwhile on a connection that it still has is refused. When there is more
//! to tell than [`CUTS_MAX`], it is told to cut everybody.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use arc_swap::ArcSwap;
use enforcer_authn::{Identity, RevocationStore, Revocations};
use enforcer_authz::Quarantine;
use enforcer_model::{Author, Block, Clock, Expiry, Prefix, Reason, Target};
use enforcer_policy::Policy;
use enforcer_proxy::{Connections, Cut, Elsewhere};
use enforcer_upstream::{Fleet, Wish};
use tracing::{error, info, warn};

use super::words::{Conversation, CutWord, Word};
use crate::cli::chain;
use crate::respond::random_block_id;

/// Cuts that may wait to be told.
const CUTS_MAX: usize = 4_096;

/// Longer than any predecessor lives.
const WHILE_IT_ENDS: Duration = Duration::from_secs(86_400);

/// Between two looks whether anything could not be told.
const LOOK: Duration = Duration::from_millis(100);

/// The successor's end: what hears of every cut, and what tells the predecessor.
pub(super) fn telling() -> (Elsewhere, Teller) {
    let (cuts, waiting) = sync_channel(CUTS_MAX);
    let overflowed = Arc::new(AtomicBool::new(false));
    let teller = Teller { waiting, overflowed: Arc::clone(&overflowed) };
    (Elsewhere(Box::new(move |cut| hear(cut, &cuts, &overflowed))), teller)
}

fn hear(cut: Cut, cuts: &SyncSender<CutWord>, overflowed: &AtomicBool) {
    let word = match cut {
        // A list spares most of everybody. Whom it hits loses his sockets to the kernel, those of
        // the predecessor as well; without the kernel part what runs there ends with its answer.
        Cut::From(prefix) if prefix.length() == 0 => return,
        Cut::From(prefix) => CutWord::From { prefix },
        Cut::Key(key, reason) => CutWord::Key { key, reason: reason.as_str().to_owned() },
        Cut::Host { upstream, host } => {
            CutWord::Host { upstream: upstream.into(), host: host.into() }
        }
        Cut::Named(target) => CutWord::Named { target },
        Cut::Callers(reason) => CutWord::Revoked { reason: reason.as_str().to_owned() },
    };
    if cuts.try_send(word).is_err() {
        overflowed.store(true, Ordering::Release);
    }
}

/// Brings cuts to the predecessor.
pub(super) struct Teller {
    waiting: Receiver<CutWord>,
    overflowed: Arc<AtomicBool>,
}

impl Teller {
    /// Tells until the predecessor is gone, which then needs to hear nothing more.
    pub(super) fn tell(self, mut conversation: Conversation, gone: &AtomicBool) {
        while !gone.load(Ordering::Acquire) {
            let word = match self.waiting.recv_timeout(LOOK) {
                Ok(word) => Some(word),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => None,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return,
            };
            let everybody =
                self.overflowed.swap(false, Ordering::AcqRel).then_some(CutWord::Everybody);
            for cut in word.into_iter().chain(everybody) {
                if conversation.say(&Word::Cut { cut }).is_err() {
                    return;
                }
            }
        }
    }
}

/// The predecessor's end: cuts whom it is told to.
pub(crate) struct Cutter {
    pub(crate) connections: Arc<Connections>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) revocations: Revocations,
    /// Who holds a role.
    pub(crate) policy: Arc<ArcSwap<Policy>>,
    pub(crate) fleet: Arc<Fleet>,
    /// `revocations.db`, which is the successor's.
    pub(crate) store: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Cutter {
    pub(super) fn obey(&self, cut: &CutWord) {
        let done = match cut {
            CutWord::From { prefix } => self.from(*prefix),
            CutWord::Key { key, reason } => {
                self.hold(Target::Key(*key));
                self.connections.close_key(*key, named(reason))
            }
            CutWord::Named { target } => {
                self.hold(target.clone());
                let quarantine = Arc::clone(&self.quarantine);
                let spared = move |address| quarantine.is_spared(address);
                self.connections.close_named(target, &self.policy.load(), spared)
            }
            CutWord::Revoked { reason } => self.revoked(named(reason), &self.store),
            CutWord::Host { upstream, host } => self.isolate(upstream, host),
            CutWord::Everybody => {
                warn!("more was to be cut than could be told: every connection is");
                self.from(Prefix::around(Ipv4Addr::UNSPECIFIED.into(), 0))
                    + self.from(Prefix::around(Ipv6Addr::UNSPECIFIED.into(), 0))
            }
        };
        info!(?cut, done, "cut, as the successor says");
    }

    fn isolate(&self, upstream: &str, host: &str) -> usize {
        let now = self.clock.now().monotonic;
        let done = self.fleet.order(upstream, Some(host), Wish::Isolate, now);
        // A host that this agent does not have has no requests here.
        usize::from(done.is_ok())
    }

    fn from(&self, prefix: Prefix) -> usize {
        self.hold(Target::Network(prefix));
        let quarantine = Arc::clone(&self.quarantine);
        self.connections.close_from(prefix, move |address| quarantine.is_spared(address))
    }

    fn revoked(&self, why: Reason, store: &Path) -> usize {
        let now = self.clock.now().wall;
        if let Err(error) = RevocationStore::reread(store, &self.revocations) {
            error!(error = chain(&error), "revocations cannot be read: every connection is cut");
            return self.from(Prefix::around(Ipv4Addr::UNSPECIFIED.into(), 0))
                + self.from(Prefix::around(Ipv6Addr::UNSPECIFIED.into(), 0));
        }
        let hit = |caller: &Identity| self.revocations.check(caller, now).is_err();
        self.connections.close_where(why, &hit)
    }

    /// Refuses what comes from there while this agent ends.
    fn hold(&self, target: Target) {
        let now = self.clock.now().wall;
        let Ok(id) = random_block_id() else { return };
        let block = Block {
            id,
            target,
            reason: "the successor says so".to_owned(),
            author: Author::Agent,
            since: now,
            until: Expiry::At(now.saturating_add(WHILE_IT_ENDS)),
            through: None,
        };
        if let Err(full) = self.quarantine.insert(&block) {
            warn!(%full, "layer 7 does not take a block");
        }
    }
}

/// The reason with this name; one that a later version has is called quarantine here.
fn named(word: &str) -> Reason {
    let mut all = Reason::ALL.iter().copied();
    all.find(|reason| reason.as_str() == word).unwrap_or(Reason::Quarantined)
}
