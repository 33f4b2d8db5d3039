//! From a token to who sent it.
//!
//! What is expensive is done once: a signature is verified, or an issuer is asked, and who the token
//! is of is remembered under its SHA-256 ([`cache::Cache`]), until it ends, its issuer's key goes or
//! the policy says something else of the issuer. What may change from request to request is looked
//! at with every request: time, audience, revocation, and whether the sender has what the token is
//! bound to. The table holds what was authenticated and nothing that was allowed.

mod authenticate;
mod background;
mod cache;
mod inspect;
mod metadata;
mod refused;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use enforcer_model::{Moment, Principal, Rejection, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use crate::dpop::{DpopProofs, ProofTarget};
use crate::identity::{Binding, Certificate, Confirmation, Identity, Proof, TokenFacts};
use crate::issuers::{Bindings, Digest, IssuerPlan, Source, Spec, Unbound, digest_of};
use crate::presented::{Presented, Scheme};
use crate::revocations::Revocations;

pub use background::Issuers;
pub use inspect::{Check, Inspection, Outcome};
pub use metadata::{Binds, metadata};
pub use refused::TokenRefused;

use authenticate::Question;
use cache::Cache;

/// Tokens whose holders are remembered.
const ACCEPTED_MAX: usize = 16_384;

/// Opaque tokens that are remembered as inactive.
const INACTIVE_MAX: usize = 1_024;

/// Tokens that may wait to be asked about, in all; one more is refused as [`TokenRefused::Busy`].
pub(crate) const QUESTIONS_MAX: usize = 1_024;

/// Tokens, checked: shared by all threads.
#[derive(Clone)]
pub struct Tokens(Arc<Hub>);

struct Hub {
    issuers: ArcSwap<Vec<Arc<Issuer>>>,
    accepted: Cache<Arc<Accepted>>,
    inactive: Cache<TokenRefused>,
    /// Tokens that are being asked about; whoever comes second waits with the first.
    flights: Mutex<HashMap<Digest, watch::Receiver<Option<Verdict>>>>,
    questions: mpsc::Sender<Question>,
    /// Tells the background that there are other issuers.
    changed: watch::Sender<()>,
    revocations: Revocations,
    proofs: DpopProofs,
}

/// One issuer, as the policy in force describes it.
struct Issuer {
    plan: Arc<IssuerPlan>,
    source: Arc<Source>,
    /// The policy in force describes it otherwise, or not at all.
    retired: AtomicBool,
}

/// A token that was authenticated.
struct Accepted {
    issuer: Arc<Issuer>,
    /// Of the issuer's source, when the token's key was in it.
    generation: u64,
    principal: Principal,
    facts: Arc<TokenFacts>,
}

type Verdict = Result<Arc<Accepted>, TokenRefused>;

/// The request that a token came with.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What a proof of possession has to be for.
    pub request: ProofTarget<'a>,
    /// The client certificate of the connection.
    pub certificate: Option<&'a Arc<Certificate>>,
}

/// How an issuer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerStatus {
    /// As the policy names it.
    pub name: Arc<str>,
    /// Its URL.
    pub url: Arc<str>,
    /// Keys that can be used.
    pub keys: usize,
    /// Entries of its key set that cannot be used.
    pub skipped: usize,
    /// When it last answered well; none: never, or nothing of it is fetched.
    pub last_good: Option<Timestamp>,
    /// When it last failed since then, and why.
    pub failure: Option<(Timestamp, String)>,
    /// Whether its tokens can be checked.
    pub usable: bool,
}

impl Tokens {
    /// The checker of tokens, and what keeps it going: [`Issuers::run`].
    pub fn new(
        plans: &[Arc<IssuerPlan>],
        revocations: Revocations,
        proofs: DpopProofs,
    ) -> (Self, Issuers) {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let hub = Hub {
            issuers: ArcSwap::from_pointee(Issuer::from_plans(plans, &[])),
            accepted: Cache::new(ACCEPTED_MAX),
            inactive: Cache::new(INACTIVE_MAX),
            flights: Mutex::new(HashMap::new()),
            questions,
            changed: watch::Sender::new(()),
            revocations,
            proofs,
        };
        let tokens = Self(Arc::new(hub));
        let issuers = Issuers::new(tokens.clone(), asked);
        (tokens, issuers)
    }

    /// Whose token was `presented` with the request that `asked` describes.
    pub async fn identify(
        &self,
        presented: &Presented,
        asked: &Asked<'_>,
        now: Moment,
    ) -> Result<Identity, Rejection> {
        let token = presented.as_bytes();
        let accepted = match self.remembered(&digest_of(token), now) {
            Some(accepted) => accepted,
            None => Box::pin(self.authenticate(token, now)).await?,
        };
        self.admit(&accepted, presented, asked, now.wall).map_err(Rejection::from)
    }

    /// Puts other issuers in force. Keys and verified tokens of those that did not change stay.
    pub fn replace(&self, plans: &[Arc<IssuerPlan>]) {
        let old = self.0.issuers.load_full();
        let new = Issuer::from_plans(plans, &old);
        let stays = |issuer: &Arc<Issuer>| new.iter().any(|one| Arc::ptr_eq(one, issuer));
        for gone in old.iter().filter(|issuer| !stays(issuer)) {
            gone.retired.store(true, Ordering::Release);
        }
        self.0.issuers.store(Arc::new(new));
        self.0.changed.send_replace(());
    }

    /// What the policy in force says of the issuer `name`.
    pub fn plan(&self, name: &str) -> Option<Arc<IssuerPlan>> {
        let issuers = self.0.issuers.load();
        issuers.iter().find(|one| &*one.plan.name == name).map(|one| Arc::clone(&one.plan))
    }

    /// How every issuer is, in the order of the policy.
    pub fn status(&self) -> Vec<IssuerStatus> {
        self.0.issuers.load().iter().map(|issuer| issuer.status()).collect()
    }

    /// When the token with this `jti` ends, if it is one that was seen lately.
    pub fn end_of(&self, id: &str, issuer: Option<&str>) -> Option<Timestamp> {
        self.0.accepted.find(|accepted| {
            let facts = &accepted.facts;
            let is_it = facts.id.as_deref() == Some(id)
                && issuer.is_none_or(|issuer| *facts.issuer == *issuer);
            // Its leeway counts: until then it would be accepted.
            let leeway = accepted.issuer.plan.leeway;
            is_it.then(|| facts.expires.saturating_add(leeway))
        })
    }

    fn remembered(&self, digest: &Digest, now: Moment) -> Option<Arc<Accepted>> {
        let accepted = self.0.accepted.get(digest, now.monotonic)?;
        accepted.is_current().then_some(accepted)
    }

    /// Everything that may differ from one request with the same token to the next.
    fn admit(
        &self,
        accepted: &Accepted,
        presented: &Presented,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> Result<Identity, TokenRefused> {
        let Accepted { issuer, principal, facts, .. } = accepted;
        issuer.plan.expect().still_admits(facts, now)?;
        let mut identity = Identity {
            principal: principal.clone(),
            proof: Proof::Token(Arc::clone(facts)),
            certificate: asked.certificate.map(Arc::clone),
            bound: None,
        };
        self.0.revocations.of_identity(&identity, now)?;
        // Last: a proof is used up by being accepted.
        identity.bound = self.bound(&issuer.plan, facts, presented, asked, now)?;
        Ok(identity)
    }

    /// Whether the sender has what the token is bound to.
    fn bound(
        &self,
        plan: &IssuerPlan,
        facts: &TokenFacts,
        presented: &Presented,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> Result<Option<Binding>, TokenRefused> {
        let name = || Arc::clone(&plan.name);
        let by_key = match presented.scheme() {
            Scheme::ApiKey => return Err(TokenRefused::AsApiKey),
            Scheme::Bearer => false,
            Scheme::Dpop => true,
        };
        match (&facts.confirmation, plan.bindings) {
            (Some(Confirmation::Unknown), _) => Err(TokenRefused::ConfirmationUnknown),
            (Some(Confirmation::Certificate(_)), Bindings::Dpop)
            | (Some(Confirmation::Key(_)), Bindings::Mtls) => {
                Err(TokenRefused::MethodRefused(name()))
            }
            (None | Some(Confirmation::Certificate(_)), _) if by_key => {
                Err(TokenRefused::BoundToNoKey)
            }
            (None, _) => match plan.unbound {
                Unbound::Accepted => Ok(None),
                Unbound::Refused => Err(TokenRefused::Unbound(name())),
            },
            (Some(Confirmation::Certificate(thumbprint)), _) => match asked.certificate {
                Some(held) if held.thumbprint == *thumbprint => Ok(Some(Binding::Certificate)),
                Some(_) | None => Err(TokenRefused::Certificate),
            },
            (Some(Confirmation::Key(key)), _) => {
                let proof = presented.proof().filter(|_| by_key).ok_or(TokenRefused::NoProof)?;
                let target = &asked.request;
                let proven = self.0.proofs.prove(proof, presented.as_bytes(), target, key, now);
                proven.map(|()| Some(Binding::Dpop)).map_err(TokenRefused::Proof)
            }
        }
    }
}

impl Issuer {
    /// The issuers of `plans`: those that are in `known` and did not change, and new ones with the
    /// keys of those that lead to the same place.
    fn from_plans(plans: &[Arc<IssuerPlan>], known: &[Arc<Self>]) -> Vec<Arc<Self>> {
        let sources: Vec<_> = known.iter().map(|issuer| Arc::clone(&issuer.source)).collect();
        let issuer = |plan: &Arc<IssuerPlan>| {
            if let Some(same) = known.iter().find(|issuer| issuer.plan == *plan) {
                return Arc::clone(same);
            }
            let source = Source::from_known(Spec::of(plan), &sources);
            Arc::new(Self { plan: Arc::clone(plan), source, retired: AtomicBool::new(false) })
        };
        plans.iter().map(issuer).collect()
    }

    fn status(&self) -> IssuerStatus {
        let health = self.source.health();
        let keys = self.source.keys();
        IssuerStatus {
            name: Arc::clone(&self.plan.name),
            url: Arc::clone(&self.plan.url),
            keys: keys.as_ref().map_or(0, |keys| keys.len()),
            skipped: keys.as_ref().map_or(0, |keys| keys.skipped().count()),
            last_good: health.last_good,
            failure: health.failure,
            usable: keys.is_some() || self.asks(),
        }
    }

    /// Whether it is asked about tokens, and where is known.
    fn asks(&self) -> bool {
        let how = self.plan.introspection.as_ref();
        how.is_some_and(|how| how.endpoint.is_some() || self.source.introspection().is_some())
    }
}

impl Accepted {
    fn new(issuer: &Arc<Issuer>, generation: u64, facts: TokenFacts) -> Arc<Self> {
        let principal = Principal::from_token(&facts.issuer, &facts.subject);
        Arc::new(Self { issuer: Arc::clone(issuer), generation, principal, facts: Arc::new(facts) })
    }

    /// Whether the issuer still is what it was, and has the key still.
    fn is_current(&self) -> bool {
        !self.issuer.retired.load(Ordering::Acquire)
            && self.generation == self.issuer.source.generation()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            self.0.issuers.load().iter().map(|issuer| Arc::clone(&issuer.plan.name)).collect();
        f.debug_struct("Tokens").field("issuers", &names).finish_non_exhaustive()
    }
}
