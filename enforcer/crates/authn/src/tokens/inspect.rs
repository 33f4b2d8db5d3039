//! What the agent would say to a token, check by check; for people who want to know why.
//!
//! The checks are told one by one, so that a token that is over *and* for another audience shows
//! both. What decides is the same way that a request takes; the list explains it and does not
//! replace it.

use std::sync::Arc;
use std::time::Duration;

use enforcer_model::{Moment, Principal, Reason, Timestamp, Value};

use super::{Accepted, Asked, Issuer, TokenRefused, Tokens};
use crate::dpop::ProofTarget;
use crate::identity::{Confirmation, TokenFacts};
use crate::issuers::{Bindings, IssuerPlan, KeySource, Unbound, chain};
use crate::jwt::{Expect, JwtError, Parsed};
use crate::presented::Presented;

/// What would become of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// One each, in the order in which they are made.
    pub checks: Vec<Check>,
    /// What counts.
    pub verdict: Outcome,
    /// Whom it stands for, where that is proven.
    pub principal: Option<Principal>,
    /// The `[issuer.NAME]` that it names, or that vouches for it.
    pub issuer: Option<Arc<str>>,
}

/// One check of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is looked at.
    pub what: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// In words.
    pub detail: String,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It depends on the request that the token comes with.
    Depends,
    /// It fails, for this reason.
    Failed(Reason),
    /// It holds.
    Passed,
}

impl Tokens {
    /// What the agent would say to `token` in a request without client certificate and proof.
    ///
    /// Keys are fetched, and issuers asked, as for a request.
    pub async fn inspect(&self, token: &[u8], now: Moment) -> Inspection {
        let verdict = self.decide(token, now).await;
        let is_signed = token.iter().filter(|&&byte| byte == b'.').count() == 2;
        let checks = if is_signed && !self.is_asked_about(token) {
            self.explain_signed(token, now.wall)
        } else {
            explain_opaque(verdict.as_ref())
        };
        let (verdict, accepted) = match verdict {
            Ok((accepted, outcome)) => (outcome, Some(accepted)),
            Err(refused) => (Outcome::Failed(refused.reason()), None),
        };
        let named = || {
            let parsed = Parsed::parse(token).ok()?;
            self.issuer_of(parsed.issuer()?).map(|issuer| Arc::clone(&issuer.plan.name))
        };
        let issuer = match &accepted {
            Some(accepted) => Some(Arc::clone(&accepted.issuer.plan.name)),
            None => named(),
        };
        let principal = accepted.map(|accepted| accepted.principal.clone());
        Inspection { checks, verdict, principal, issuer }
    }

    async fn decide(
        &self,
        token: &[u8],
        now: Moment,
    ) -> Result<(Arc<Accepted>, Outcome), TokenRefused> {
        if token.len() > Parsed::LENGTH_MAX {
            return Err(JwtError::TooLong { found: token.len() }.into());
        }
        let accepted = Box::pin(self.authenticate(token, now)).await?;
        let nowhere = ProofTarget { method: "", scheme: "", authority: "", path: "" };
        let asked = Asked { request: nowhere, certificate: None };
        let outcome = match self.admit(&accepted, &Presented::bearer(token), &asked, now.wall) {
            Ok(_) => Outcome::Passed,
            Err(TokenRefused::Certificate | TokenRefused::NoProof) => Outcome::Depends,
            Err(refused) => return Err(refused),
        };
        Ok((accepted, outcome))
    }

    fn explain_signed(&self, token: &[u8], now: Timestamp) -> Vec<Check> {
        let mut checks = Checks::default();
        let parsed = Parsed::parse(token).map_err(TokenRefused::from);
        let Some(parsed) = checks.made("form", parsed, |_| "a signed token".to_owned()) else {
            return checks.0;
        };
        let issuer = parsed.issuer().and_then(|url| self.issuer_of(url));
        let issuer = issuer.ok_or(TokenRefused::UnknownIssuer);
        let Some(issuer) = checks.made("issuer", issuer, |found| found.plan.name.to_string())
        else {
            return checks.0;
        };
        if let Some(facts) = checks.signed(&issuer, token, &parsed, now) {
            let taken = self.0.revocations.of_token(&facts, now).map_err(TokenRefused::from);
            let _ = checks.made("revocation", taken, |()| "not revoked here".to_owned());
            checks.0.push(binding(&facts, &issuer.plan));
        }
        checks.0
    }

    /// Whether a signed token is one of an issuer whose signatures are not looked at.
    fn is_asked_about(&self, token: &[u8]) -> bool {
        let parsed = Parsed::parse(token).ok();
        let issuer = parsed.and_then(|parsed| self.issuer_of(parsed.issuer()?));
        issuer.is_some_and(|issuer| matches!(issuer.plan.keys, KeySource::None))
    }

    fn issuer_of(&self, url: &str) -> Option<Arc<Issuer>> {
        let issuers = self.0.issuers.load();
        issuers.iter().find(|issuer| &*issuer.plan.url == url).map(Arc::clone)
    }
}

/// Checks, in the order in which they were made.
#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn made<T>(
        &mut self,
        what: &'static str,
        outcome: Result<T, TokenRefused>,
        detail: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let (outcome, detail, value) = match outcome {
            Ok(value) => (Outcome::Passed, detail(&value), Some(value)),
            Err(refused) => (Outcome::Failed(refused.reason()), chain(&refused), None),
        };
        self.0.push(Check { what, outcome, detail });
        value
    }

    /// What a signed token says, its signature, its time and its audience, each by itself.
    fn signed(
        &mut self,
        issuer: &Issuer,
        token: &[u8],
        parsed: &Parsed<'_>,
        now: Timestamp,
    ) -> Option<TokenFacts> {
        let plan = &issuer.plan;
        let header = parsed.header();
        let missing = || TokenRefused::KeysMissing(Arc::clone(&plan.name));
        let keys = issuer.source.keys().ok_or_else(missing);
        let key = match &keys {
            Ok(keys) => keys.find(header).map_err(TokenRefused::from),
            Err(_) => Err(missing()),
        };
        let key = self.made("key", key, |key| key.name().to_string())?;

        // By its own words about time and audience, to tell these apart from the rest.
        let audience = audience_of(parsed);
        let own = Expect { audience: &audience, leeway: Duration::MAX, ..plan.expect() };
        let again = |expect: &Expect<'_>| Parsed::parse(token)?.check(expect, now);
        let says = again(&own).map_err(TokenRefused::from);
        let kind = |_: &_| format!("{} {}", header.typ().unwrap_or("no typ"), header.algorithm());
        let checked = self.made("claims", says, kind)?;
        let verified = checked.verify(key).map_err(TokenRefused::from);
        let facts = self.made("signature", verified, |_| "made with that key".to_owned())?;

        let timely = again(&Expect { leeway: plan.leeway, ..own }).map_err(TokenRefused::from);
        let _ = self.made("time", timely.map(drop), |()| format!("until {}", facts.expires));
        let ours = Expect { leeway: Duration::MAX, ..plan.expect() }.still_admits(&facts, now);
        let joined = facts.audience.join(", ");
        let _ = self.made("audience", ours.map_err(TokenRefused::from), |()| joined);
        Some(facts)
    }
}

fn audience_of(parsed: &Parsed<'_>) -> Vec<Arc<str>> {
    let claimed = parsed.claims().get("aud");
    claimed.into_iter().flat_map(Value::texts).map(Arc::from).collect()
}

fn binding(facts: &TokenFacts, plan: &IssuerPlan) -> Check {
    let depends = |detail: String| Check { what: "binding", outcome: Outcome::Depends, detail };
    let failed = |refused: &TokenRefused| Check {
        what: "binding",
        outcome: Outcome::Failed(refused.reason()),
        detail: chain(refused),
    };
    match (&facts.confirmation, plan.unbound, plan.bindings) {
        (None, Unbound::Refused, _) => failed(&TokenRefused::Unbound(Arc::clone(&plan.name))),
        (None, Unbound::Accepted, _) => Check {
            what: "binding",
            outcome: Outcome::Passed,
            detail: "none: whoever has the token can use it".to_owned(),
        },
        (Some(Confirmation::Unknown), ..) => failed(&TokenRefused::ConfirmationUnknown),
        (Some(Confirmation::Certificate(_)), _, Bindings::Dpop)
        | (Some(Confirmation::Key(_)), _, Bindings::Mtls) => {
            failed(&TokenRefused::MethodRefused(Arc::clone(&plan.name)))
        }
        (Some(Confirmation::Certificate(thumbprint)), ..) => {
            depends(format!("good only with the client certificate {thumbprint}"))
        }
        (Some(Confirmation::Key(_)), ..) => {
            depends("good only as `DPoP`, with a proof of having its key".to_owned())
        }
    }
}

/// Of a token that says nothing by itself, only its issuer's word can be told.
fn explain_opaque(verdict: Result<&(Arc<Accepted>, Outcome), &TokenRefused>) -> Vec<Check> {
    let mut checks = Checks::default();
    match verdict {
        Ok((accepted, _)) => {
            let vouches = format!("the issuer `{}` vouches for it", accepted.issuer.plan.name);
            let _ = checks.made("introspection", Ok(()), |()| vouches);
            checks.0.push(binding(&accepted.facts, &accepted.issuer.plan));
        }
        Err(refused) => {
            let _ = checks.made("introspection", Err::<(), _>(refused.clone()), |()| String::new());
        }
    }
    checks.0
}
