//! The expensive half: verifies a signature, or asks an issuer.
//!
//! A token of three parts is for the issuer that it names; any other is asked about, with each issuer
//! that is asked at all, in the order of the policy. One question about one token is under way at a
//! time; whoever else brings that token waits for the same answer. Questions are put by the
//! background and outlive the request that wanted to know.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Moment, Timestamp};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{Accepted, Issuer, TokenRefused, Tokens, Verdict};
use crate::TokenFacts;
use crate::issuers::{Digest, KeySource, Renewed, Unintrospected, digest_of, good_for, introspect};
use crate::jwt::{JwtError, KeySet, Parsed};

/// How long an issuer's word holds that a token is not active.
const INACTIVE_FOR: Duration = Duration::from_secs(5);

/// A token that somebody has to be asked about.
pub(super) struct Question {
    token: Zeroizing<Vec<u8>>,
    digest: Digest,
    /// Who may know it.
    issuers: Vec<Arc<Issuer>>,
    answer: watch::Sender<Option<Verdict>>,
}

/// Forgets that a token is being asked about, however that ends.
struct Landing<'a> {
    tokens: &'a Tokens,
    digest: Digest,
}

impl Tokens {
    /// Who `token` is of; nothing that is remembered says.
    pub(super) async fn authenticate(&self, token: &[u8], now: Moment) -> Verdict {
        let issuers = self.0.issuers.load_full();
        let dots = token.iter().filter(|&&byte| byte == b'.').count();
        if dots != 2 {
            let asked: Vec<_> = issuers
                .iter()
                .filter(|issuer| issuer.plan.introspection.is_some())
                .cloned()
                .collect();
            if asked.is_empty() {
                return Err(TokenRefused::Opaque);
            }
            return self.ask(token, asked, now).await;
        }
        let parsed = Parsed::parse(token)?;
        let named = |issuer: &&Arc<Issuer>| parsed.issuer() == Some(&*issuer.plan.url);
        let issuer = issuers.iter().find(named).ok_or(TokenRefused::UnknownIssuer)?;
        match issuer.plan.keys {
            KeySource::None => self.ask(token, vec![Arc::clone(issuer)], now).await,
            KeySource::Discovery | KeySource::Jwks(_) | KeySource::Pinned(_) => {
                self.verify(token, parsed, issuer, now).await
            }
        }
    }

    async fn verify(
        &self,
        token: &[u8],
        parsed: Parsed<'_>,
        issuer: &Arc<Issuer>,
        now: Moment,
    ) -> Verdict {
        let source = &issuer.source;
        let mut keys = source.keys();
        let mut parsed = Some(parsed);
        loop {
            // Before the keys are used: should one of them go meanwhile, nothing is remembered.
            let generation = source.generation();
            let (attempt, read) = match parsed.take() {
                Some(parsed) => (Attempt::First, parsed),
                None => (Attempt::Second, Parsed::parse(token)?),
            };
            let checked = match &keys {
                Some(keys) => issuer.check(read, keys, now.wall).map_err(TokenRefused::from),
                None => Err(TokenRefused::KeysMissing(Arc::clone(&issuer.plan.name))),
            };
            let refused = match checked {
                Ok(facts) => {
                    let left = facts.expires.saturating_add(issuer.plan.leeway).since(now.wall);
                    let accepted = Accepted::new(issuer, generation, facts);
                    self.remember(&digest_of(token), &accepted, left, now);
                    return Ok(accepted);
                }
                Err(refused) => refused,
            };
            let may_help = match attempt {
                Attempt::First => issuer.newer_keys_may_help(token, &refused),
                Attempt::Second => false,
            };
            if !may_help || source.renewed(keys.as_ref(), now).await == Renewed::No {
                return Err(refused);
            }
            keys = source.keys();
        }
    }

    fn remember(&self, digest: &Digest, accepted: &Arc<Accepted>, left: Duration, now: Moment) {
        // A token of centuries is looked at again after a day.
        let until = now.monotonic + left.min(Duration::from_secs(86_400));
        self.0.accepted.insert(*digest, Arc::clone(accepted), until, now.monotonic);
    }

    /// What `issuers` say of `token`.
    async fn ask(&self, token: &[u8], issuers: Vec<Arc<Issuer>>, now: Moment) -> Verdict {
        let digest = digest_of(token);
        if let Some(refused) = self.0.inactive.get(&digest, now.monotonic) {
            return Err(refused);
        }
        let patience: Duration = issuers.iter().map(|issuer| issuer.plan.timeout).sum();
        let mut answer = self.board(token, digest, issuers)?;
        let landed = answer.wait_for(Option::is_some);
        match tokio::time::timeout(patience, landed).await {
            Ok(Ok(verdict)) => match &*verdict {
                Some(verdict) => verdict.clone(),
                None => Err(TokenRefused::Busy),
            },
            // The background is gone, or has more to do than it can.
            Ok(Err(_)) | Err(_) => Err(TokenRefused::Busy),
        }
    }

    /// The answer to come: of a question that is under way, or of a new one.
    fn board(
        &self,
        token: &[u8],
        digest: Digest,
        issuers: Vec<Arc<Issuer>>,
    ) -> Result<watch::Receiver<Option<Verdict>>, TokenRefused> {
        let mut flights = self.0.flights.lock();
        if let Some(answer) = flights.get(&digest) {
            return Ok(answer.clone());
        }
        let room = self.0.questions.try_reserve().map_err(|_full| TokenRefused::Busy)?;
        let (sender, answer) = watch::channel(None);
        flights.insert(digest, answer.clone());
        room.send(Question {
            token: Zeroizing::new(token.to_vec()),
            digest,
            issuers,
            answer: sender,
        });
        Ok(answer)
    }

    /// Whether anybody waits for the answer still; if not, the question is forgotten.
    fn is_awaited(&self, digest: &Digest, answer: &watch::Sender<Option<Verdict>>) -> bool {
        let mut flights = self.0.flights.lock();
        // One receiver is that of the flight itself. Nobody boards while this lock is held.
        let is_awaited = answer.receiver_count() > 1;
        if !is_awaited {
            flights.remove(digest);
        }
        is_awaited
    }

    /// Asks, remembers, and tells everybody who waits.
    pub(super) async fn answer(self, question: Question, now: Moment) {
        let Question { token, digest, issuers, answer } = question;
        if !self.is_awaited(&digest, &answer) {
            return;
        }
        let landing = Landing { tokens: &self, digest };
        let verdict = self.introspect(&token, &issuers, now).await;
        match &verdict {
            Ok(accepted) => {
                let how = accepted.issuer.plan.introspection.as_ref();
                let left = how
                    .map_or(Duration::ZERO, |how| good_for(how, accepted.facts.expires, now.wall));
                self.remember(&digest, accepted, left, now);
            }
            Err(refused @ TokenRefused::Introspection(Unintrospected::Inactive { .. })) => {
                let until = now.monotonic + INACTIVE_FOR;
                self.0.inactive.insert(digest, refused.clone(), until, now.monotonic);
            }
            Err(_) => {}
        }
        // What is remembered stands before the flight is forgotten: nobody asks in between.
        answer.send_replace(Some(verdict));
        drop(landing);
    }

    /// The first issuer that vouches for `token`; else the word that weighs most: an issuer that
    /// could not be asked may have vouched for it, and one that knows the token knows best why not.
    async fn introspect(&self, token: &[u8], issuers: &[Arc<Issuer>], now: Moment) -> Verdict {
        let mut weightiest = None;
        for issuer in issuers {
            let Some(how) = &issuer.plan.introspection else { continue };
            let generation = issuer.source.generation();
            let asked = introspect(token, &issuer.plan, how, &issuer.source, now.wall).await;
            let refused = match asked {
                Ok(facts) => return Ok(Accepted::new(issuer, generation, facts)),
                Err(refused) => refused,
            };
            if weightiest.as_ref().is_none_or(|known| weight(known) < weight(&refused)) {
                weightiest = Some(refused);
            }
        }
        Err(weightiest.map_or(TokenRefused::Opaque, TokenRefused::Introspection))
    }
}

#[derive(Clone, Copy)]
enum Attempt {
    First,
    Second,
}

const fn weight(refused: &Unintrospected) -> u8 {
    match refused {
        Unintrospected::Inactive { .. } => 0,
        Unintrospected::Misfit { .. } | Unintrospected::OtherKind { .. } => 1,
        Unintrospected::Unanswered { .. }
        | Unintrospected::Unreachable { .. }
        | Unintrospected::Unreadable { .. } => 2,
    }
}

impl Issuer {
    fn check(
        &self,
        parsed: Parsed<'_>,
        keys: &KeySet,
        now: Timestamp,
    ) -> Result<TokenFacts, JwtError> {
        // The name of a key is looked up, and nothing is fetched for it, only once all else fits.
        let key = keys.find(parsed.header());
        parsed.check(&self.plan.expect(), now)?.verify(key?)
    }

    /// Whether a key set that is fetched from here on may have what `refused` the token.
    ///
    /// Keys are fetched for an unknown name; for a known one (an issuer that gave an old name to a
    /// new key) only if the token says it is younger than the keys that are here: of an older one,
    /// every key that could have signed it is in that set.
    fn newer_keys_may_help(&self, token: &[u8], refused: &TokenRefused) -> bool {
        match refused {
            TokenRefused::KeysMissing(_)
            | TokenRefused::Jwt(JwtError::KeyNotNamed | JwtError::KeyUnknown) => true,
            TokenRefused::Jwt(JwtError::AlgorithmOfKey(_) | JwtError::Signature) => {
                let issued = Parsed::parse(token).ok().and_then(|parsed| issued(&parsed));
                let fetched = self.source.fetched();
                issued.is_none_or(|time| time.saturating_add(self.plan.leeway) >= fetched)
            }
            TokenRefused::AsApiKey
            | TokenRefused::BoundToNoKey
            | TokenRefused::Busy
            | TokenRefused::Certificate
            | TokenRefused::ConfirmationUnknown
            | TokenRefused::Introspection(_)
            | TokenRefused::Jwt(_)
            | TokenRefused::MethodRefused(_)
            | TokenRefused::NoProof
            | TokenRefused::Opaque
            | TokenRefused::Proof(_)
            | TokenRefused::TakenBack(_)
            | TokenRefused::UnknownIssuer
            | TokenRefused::Unbound(_) => false,
        }
    }
}

/// What it says of when it was issued, in whole seconds.
fn issued(parsed: &Parsed<'_>) -> Option<Timestamp> {
    let enforcer_model::Value::Number(seconds) = parsed.claims().get("iat")? else { return None };
    u64::try_from(*seconds).ok().map(Timestamp::from_unix_seconds)
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.tokens.0.flights.lock().remove(&self.digest);
    }
}
