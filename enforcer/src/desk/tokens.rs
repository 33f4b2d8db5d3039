//! Tokens, by the one writer of `revocations.db`: taken back, restored, listed, asked about.
//!
//! What is taken back is refused from the next request on, whatever thread it comes to, and what its
//! holders have under way is cut before the command returns.

use std::sync::Arc;
use std::time::Duration;

use enforcer_admin::call::{
    AskedToken, IssuerRow, REVOCATIONS_PAGE, RevocationRow, TokenCheck, TokenInspected,
    TokenRevoke, TokensListed, TokensRevoked,
};
use enforcer_admin::{Answer, Refusal, RefusalKind};
use enforcer_authn::{
    Identity, IssuerStatus, NewRevocation, Outcome, RevocationError, RevocationId, RevocationStore,
    TokenRevocation, TokenTarget, Tokens,
};
use enforcer_model::{Author, Expiry, Moment, Timestamp};
use enforcer_proxy::Connections;
use tracing::{info, warn};

use crate::cli::chain;

/// How far ahead `before:TIME` may lie: the clocks of issuers are not ours.
const AHEAD: Duration = Duration::from_secs(60);

/// What calls about tokens are answered with.
pub(crate) struct TokenDesk {
    pub(crate) tokens: Tokens,
    pub(crate) revocations: RevocationStore,
    pub(crate) connections: Arc<Connections>,
}

impl TokenDesk {
    /// Every issuer of the policy in force, and how it is.
    pub(super) fn issuers(&self) -> Vec<IssuerRow> {
        self.tokens.status().into_iter().map(issuer).collect()
    }

    pub(super) fn revoke(
        &mut self,
        asked: &TokenRevoke,
        by: &Author,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        let target: TokenTarget = asked.target.parse().map_err(usage)?;
        self.is_known(asked.issuer.as_deref())?;
        if let TokenTarget::IssuedBefore(time) = target
            && time > now.saturating_add(AHEAD)
        {
            let message = format!("{time} is in the future");
            return Err(Refusal::new(RefusalKind::Usage, message)
                .hint("tokens that are yet to be issued would be refused; name a time that was"));
        }
        let until = match (asked.ttl_seconds, &target) {
            (Some(seconds), _) => Expiry::At(now.saturating_add(Duration::from_secs(seconds))),
            // Behind its own end nobody accepts it anyway.
            (None, TokenTarget::Token(id)) => {
                let end = self.tokens.end_of(id, asked.issuer.as_deref());
                end.filter(|&end| end > now).map_or(Expiry::Never, Expiry::At)
            }
            (None, _) => Expiry::Never,
        };
        let new = NewRevocation {
            target,
            issuer: asked.issuer.as_deref().map(Into::into),
            until,
            author: by.clone(),
            reason: asked.reason.clone(),
        };
        let (revocation, not_stored) = match self.revocations.revoke(new, now) {
            Ok(revocation) => (revocation, None),
            // A disk that refuses does not keep a token alive, nor its requests.
            Err(error @ RevocationError::OnlyInMemory { id, .. }) => {
                warn!(%id, %error, "a revocation is not on disk");
                let known = self.revocations.list(now).into_iter().find(|one| one.id == id);
                (known.ok_or_else(|| refusal(&error))?, Some(chain(&error)))
            }
            Err(error) => return Err(refusal(&error)),
        };
        let hit = |identity: &Identity| revocation.hits(identity);
        let cut = self.connections.close_where(revocation.target.reason(), &hit);
        let cut = u64::try_from(cut).unwrap_or(u64::MAX);
        info!(id = %revocation.id, cut, "tokens taken back");
        let revocation = row(&revocation);
        Ok(Answer::TokensRevoked(Box::new(TokensRevoked {
            revocation,
            cut,
            not_stored,
            audit: None,
        })))
    }

    pub(super) fn restore(&mut self, id: &str, now: Timestamp) -> Result<Answer, Refusal> {
        let id: RevocationId = id.parse().map_err(usage)?;
        let ended = self.revocations.restore(id, now).map_err(|error| refusal(&error))?;
        info!(%id, "revocation ended");
        Ok(Answer::TokensRevoked(Box::new(TokensRevoked {
            revocation: row(&ended),
            cut: 0,
            not_stored: None,
            audit: None,
        })))
    }

    pub(super) fn list(&self, after: Option<&str>, now: Timestamp) -> Result<Answer, Refusal> {
        let after = after.map(str::parse::<RevocationId>).transpose().map_err(usage)?;
        let behind = |one: &Arc<TokenRevocation>| after.is_none_or(|after| one.id > after);
        let mut all = self.revocations.list(now).into_iter().filter(behind).peekable();
        let page: Vec<_> = all.by_ref().take(REVOCATIONS_PAGE).collect();
        let is_more = all.peek().is_some();
        Ok(Answer::Tokens(TokensListed {
            next: page.last().filter(|_| is_more).map(|last| last.id.to_string()),
            revocations: page.iter().map(|one| row(one)).collect(),
            issuers: self.issuers(),
        }))
    }

    fn is_known(&self, issuer: Option<&str>) -> Result<(), Refusal> {
        match issuer {
            Some(name) if self.tokens.plan(name).is_none() => {
                let known = self.tokens.status();
                let known: Vec<_> = known.iter().map(|issuer| &*issuer.name).collect();
                let message = format!("the policy in force knows no issuer `{name}`");
                Err(Refusal::new(RefusalKind::Usage, message).hint(match known.as_slice() {
                    [] => "it has none".to_owned(),
                    known => format!("it knows: {}", known.join(", ")),
                }))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What was asked, for the record.
pub(super) fn arguments(asked: &TokenRevoke) -> Vec<String> {
    let mut arguments = vec![asked.target.clone(), asked.reason.clone()];
    arguments.extend(asked.issuer.iter().map(|issuer| format!("issuer {issuer}")));
    arguments.extend(asked.ttl_seconds.map(|seconds| format!("for {seconds} s")));
    arguments
}

/// What would become of a token. Waits for its issuer, so not for the desk.
pub(super) async fn inspect(tokens: Tokens, token: AskedToken, now: Moment) -> Answer {
    let found = tokens.inspect(token.0.as_bytes(), now).await;
    let said = |outcome: Outcome, good: &str| match outcome {
        Outcome::Depends => "depends".to_owned(),
        Outcome::Failed(reason) => reason.to_string(),
        Outcome::Passed => good.to_owned(),
    };
    let check = |check: enforcer_authn::Check| TokenCheck {
        what: check.what.to_owned(),
        outcome: said(check.outcome, "pass"),
        detail: check.detail,
    };
    Answer::TokenInspected(Box::new(TokenInspected {
        verdict: said(found.verdict, "accepted"),
        principal: found.principal.map(|principal| principal.to_string()),
        issuer: found.issuer.map(|issuer| issuer.to_string()),
        checks: found.checks.into_iter().map(check).collect(),
    }))
}

fn row(one: &TokenRevocation) -> RevocationRow {
    RevocationRow {
        id: one.id.to_string(),
        target: one.target.to_string(),
        issuer: one.issuer.as_deref().map(str::to_owned),
        since: one.since,
        until: one.until,
        by: one.author.clone(),
        reason: one.reason.clone(),
    }
}

fn issuer(status: IssuerStatus) -> IssuerRow {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let (failed_at, failure) = status.failure.unzip();
    IssuerRow {
        name: status.name.to_string(),
        url: status.url.to_string(),
        usable: status.usable,
        keys: count(status.keys),
        skipped: count(status.skipped),
        last_good: status.last_good,
        failed_at,
        failure,
    }
}

fn usage(error: impl std::error::Error) -> Refusal {
    Refusal::new(RefusalKind::Usage, error.to_string())
}

fn refusal(error: &RevocationError) -> Refusal {
    let kind = match error {
        RevocationError::NoSuch(_) => RefusalKind::NotFound,
        RevocationError::IssuerOfCertificate => RefusalKind::Usage,
        RevocationError::BeforeFull { .. }
        | RevocationError::Damaged { .. }
        | RevocationError::File(_)
        | RevocationError::Foreign { .. }
        | RevocationError::Full { .. }
        | RevocationError::InUse { .. }
        | RevocationError::Newer { .. }
        | RevocationError::OnlyInMemory { .. }
        | RevocationError::Sqlite { .. } => RefusalKind::Failed,
    };
    Refusal::new(kind, chain(error))
}
