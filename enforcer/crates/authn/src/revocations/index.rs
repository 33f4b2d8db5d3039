//! The revocations in memory: what every request is compared with.
//!
//! Readers load one pointer and never wait. A change builds a new index and swaps the pointer, so it
//! is in force on every thread when the swap returns. A revocation whose time is over stays in the
//! index until the next change and hits nobody.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use enforcer_model::{Reason, Rejection, Timestamp};
use foldhash::fast::RandomState;

use super::record::{RevocationId, TokenRevocation, TokenTarget};
use crate::identity::{Identity, Proof, TokenFacts};

/// What is taken back, shared by all threads. Only [`crate::RevocationStore`] changes it.
#[derive(Clone, Default)]
pub struct Revocations(Arc<ArcSwap<Index>>);

/// Revocations by what they name. Their keys are an operator's words, so that nobody else can make
/// two of them meet.
#[derive(Clone, Default)]
struct Index {
    all: Vec<Arc<TokenRevocation>>,
    certificates: Table<[u8; 32]>,
    clients: Table<Arc<str>>,
    keys: Table<Arc<str>>,
    subjects: Table<Arc<str>>,
    tokens: Table<Arc<str>>,
    /// Few, and each may concern every token.
    before: Vec<Arc<TokenRevocation>>,
}

type Table<K> = HashMap<K, Vec<Arc<TokenRevocation>>, RandomState>;

/// The credential was taken back here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revocation {id} of {since} takes back {target}")]
pub struct TakenBack {
    /// By which decision.
    pub id: RevocationId,
    /// What was taken back.
    pub target: TokenTarget,
    /// When it was decided.
    pub since: Timestamp,
}

impl Revocations {
    /// Refuses a caller whose token, key of an issuer, subject, client or certificate was taken back.
    pub fn check(&self, identity: &Identity, now: Timestamp) -> Result<(), Rejection> {
        self.of_identity(identity, now).map_err(Rejection::from)
    }

    pub(crate) fn of_identity(&self, caller: &Identity, now: Timestamp) -> Result<(), TakenBack> {
        let index = self.0.load();
        if index.all.is_empty() {
            return Ok(());
        }
        let facts = match caller.proof() {
            Proof::Token(facts) => Some(&**facts),
            Proof::Certificate | Proof::Key(_) => None,
        };
        let certificate = caller.certificate().map(|certificate| &certificate.thumbprint.0);
        index.hit(facts, certificate, now).map_or(Ok(()), |hit| Err(TakenBack::by(hit)))
    }

    pub(crate) fn of_token(&self, facts: &TokenFacts, now: Timestamp) -> Result<(), TakenBack> {
        let index = self.0.load();
        index.hit(Some(facts), None, now).map_or(Ok(()), |hit| Err(TakenBack::by(hit)))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.load().all.len()
    }

    /// All of them, those whose time is over included, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<TokenRevocation>> {
        self.0.load().all.clone()
    }

    /// Puts exactly `all` in force. Called by the one owner of the store only, so no change is lost.
    pub(crate) fn publish(&self, all: Vec<Arc<TokenRevocation>>) {
        self.0.store(Arc::new(Index::of(all)));
    }
}

impl Index {
    fn of(all: Vec<Arc<TokenRevocation>>) -> Self {
        let mut index = Self::default();
        for one in &all {
            let table = match &one.target {
                TokenTarget::Certificate(thumbprint) => {
                    let held = index.certificates.entry(thumbprint.0).or_default();
                    held.push(Arc::clone(one));
                    continue;
                }
                TokenTarget::IssuedBefore(_) => {
                    index.before.push(Arc::clone(one));
                    continue;
                }
                TokenTarget::Client(text) => (&mut index.clients, text),
                TokenTarget::Key(text) => (&mut index.keys, text),
                TokenTarget::Subject(text) => (&mut index.subjects, text),
                TokenTarget::Token(text) => (&mut index.tokens, text),
            };
            let (table, text) = table;
            table.entry(Arc::clone(text)).or_default().push(Arc::clone(one));
        }
        index.all = all;
        index
    }

    fn hit(
        &self,
        facts: Option<&TokenFacts>,
        certificate: Option<&[u8; 32]>,
        now: Timestamp,
    ) -> Option<&TokenRevocation> {
        let of_certificate = certificate.and_then(|held| found(&self.certificates, held));
        let mut of_certificate = of_certificate.into_iter().flatten();
        if let Some(hit) = of_certificate.find(|one| !one.until.is_over(now)) {
            return Some(hit);
        }
        let facts = facts?;
        let named = [
            facts.id.as_deref().and_then(|id| found(&self.tokens, id)),
            found(&self.subjects, &*facts.subject),
            facts.key.as_deref().and_then(|key| found(&self.keys, key)),
            facts.client.as_deref().and_then(|client| found(&self.clients, client)),
            Some(&self.before),
        ];
        let mut candidates = named.into_iter().flatten().flatten();
        let hit = candidates.find(|one| !one.until.is_over(now) && one.hits_token(facts));
        hit.map(|hit| &**hit)
    }
}

/// An empty table costs no hash.
fn found<'a, K, Q>(table: &'a Table<K>, key: &Q) -> Option<&'a Vec<Arc<TokenRevocation>>>
where
    K: std::borrow::Borrow<Q> + Eq + std::hash::Hash,
    Q: Eq + std::hash::Hash + ?Sized,
{
    if table.is_empty() { None } else { table.get(key) }
}

impl TakenBack {
    fn by(revocation: &TokenRevocation) -> Self {
        let TokenRevocation { id, target, since, .. } = revocation;
        Self { id: *id, target: target.clone(), since: *since }
    }

    /// What the audit record says.
    pub(crate) const fn reason(&self) -> Reason {
        self.target.reason()
    }
}

impl From<TakenBack> for Rejection {
    fn from(taken: TakenBack) -> Self {
        taken.reason().because(taken)
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revocations({})", self.len())
    }
}
