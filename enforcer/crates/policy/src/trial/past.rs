//! Requests of the audit log, asked again.
//!
//! A record holds what a decision saw as far as it may be kept: no headers, no query, no claims. What
//! is not recorded is unknown here as well, and told; a rule that reads it may decide otherwise than
//! it did. Nothing is guessed to make an answer fit.

use std::net::IpAddr;

use enforcer_model::{Peer, Reason, Timestamp};
use serde_json::Value;

use super::judge::{Ambiguous, Judgement, judge};
use super::request::{Proofs, Request};
use crate::Policy;

/// A recorded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The number of the record.
    pub index: u64,
    /// As far as it is known.
    pub request: Request,
    /// Why it was refused; none when the upstream answered.
    pub reason: Option<Reason>,
    /// What was written about the cause.
    pub cause: Option<String>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// The status that the client got.
    pub status: u16,
    /// The route that it took.
    pub route: Option<String>,
    /// SHA-256 of the policy that decided.
    pub policy: Option<String>,
    /// What decisions can read and the record does not hold.
    pub unknown: Vec<&'static str>,
}

/// What a policy makes of a recorded request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It decides the same.
    Same,
    /// It would forward what was refused.
    Allows(Box<Judgement>),
    /// It would refuse what was forwarded.
    Refuses(Box<Judgement>),
    /// The answer did not come from a policy: a limit, a credential, an upstream, a malformed head.
    NotByPolicy,
}

/// The record is of no request that could be asked again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PastError {
    /// Another class of record.
    #[error("record {0} is not a request")]
    NotHttp(u64),
    /// The head was refused before host and path were known.
    #[error("record {0} has no canonical host and path: its head was refused")]
    NoTarget(u64),
    /// Not as this version writes records.
    #[error("record {0} cannot be read")]
    Malformed(u64),
}

impl Past {
    /// The request in record `index` of the log, which says `json`.
    pub fn read(index: u64, json: &Value) -> Result<Self, PastError> {
        if json.get("class").and_then(Value::as_str) != Some("http") {
            return Err(PastError::NotHttp(index));
        }
        let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str);
        let malformed = || PastError::Malformed(index);
        let target = text("/body/host").zip(text("/body/path"));
        let (host, path) = target.ok_or(PastError::NoTarget(index))?;
        let peer: Peer = text("/body/peer").and_then(|it| it.parse().ok()).ok_or_else(malformed)?;
        let address: IpAddr = match text("/body/source") {
            Some(named) => named.parse().ok().ok_or_else(malformed)?,
            None => peer.source().address(),
        };
        let at: Timestamp = text("/body/at")
            .or_else(|| text("/time"))
            .and_then(|it| it.parse().ok())
            .ok_or_else(malformed)?;
        let status = json.pointer("/body/status").and_then(Value::as_u64);
        let incident = json.pointer("/body/incident").and_then(Value::as_u64).unwrap_or(0);
        let texts = |pointer: &str| -> Vec<String> {
            let list = json.pointer(pointer).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };

        let mut unknown = vec!["headers", "the query"];
        let mut request = Request {
            method: text("/body/method").ok_or_else(malformed)?.to_owned(),
            host: host.to_owned(),
            path: path.to_owned(),
            address: Some(address.to_canonical()),
            incident: u8::try_from(incident).unwrap_or(u8::MAX).min(5),
            at: Some(at),
            region: text("/body/region").map(str::to_owned),
            ..Request::default()
        };
        if let Some(kind) = text("/body/who/kind") {
            let has = |pointer: &str| json.pointer(pointer).is_some_and(|it| !it.is_null());
            let spiffe = text("/body/who/principal").filter(|it| it.starts_with("spiffe://"));
            request.who = texts("/body/who/roles");
            // Records of former versions name only the role that decided.
            if request.who.is_empty()
                && let Some(role) = text("/body/who/role")
            {
                request.who.push(role.to_owned());
                unknown.push("further roles");
            }
            request.who.extend(text("/body/who/principal").map(str::to_owned));
            request.scopes = texts("/body/who/scopes");
            request.issuer = text("/body/who/issuer").map(str::to_owned);
            request.application = text("/body/who/application").map(str::to_owned);
            request.owner = text("/body/who/owner").map(str::to_owned);
            request.spiffe = spiffe.map(str::to_owned);
            request.proofs = Proofs {
                mtls: has("/body/who/certificate"),
                dpop: text("/body/who/bound") == Some("dpop"),
                token: kind == "token",
                key: kind == "api-key",
                certificate: kind == "certificate",
            };
            if kind == "token" {
                unknown.push("claims");
            }
            if kind == "api-key" && request.owner.is_none() {
                unknown.push("the owner");
            }
            if spiffe.is_none() && request.proofs.mtls {
                unknown.push("the SPIFFE id");
            }
        } else {
            unknown.push("a client certificate");
        }
        Ok(Self {
            index,
            request,
            reason: text("/body/reason").and_then(Reason::from_name),
            cause: text("/body/cause").map(str::to_owned),
            rule: text("/body/rule").map(str::to_owned),
            status: status.and_then(|it| u16::try_from(it).ok()).ok_or_else(malformed)?,
            route: text("/body/route").map(str::to_owned),
            policy: text("/body/policy").map(str::to_owned),
            unknown,
        })
    }

    /// What `policy` says of it.
    pub fn judge(&self, policy: &Policy) -> Result<Judgement, Ambiguous> {
        judge(policy, &self.request, self.request.at)
    }

    /// Whether a policy decided it: everything else would be answered in the same way by any policy.
    pub const fn was_decided_by_policy(&self) -> bool {
        match self.reason {
            None => true,
            Some(reason) => matches!(
                reason,
                Reason::NotAllowed
                    | Reason::DeniedByRule
                    | Reason::NoRoute
                    | Reason::CredentialMissing
                    | Reason::AuthenticationTooWeak
            ),
        }
    }

    /// Whether the policy of its time let it through; what an upstream answered does not matter.
    pub fn was_allowed(&self) -> bool {
        self.reason.is_none_or(|reason| {
            matches!(
                reason,
                Reason::UpstreamBroken
                    | Reason::UpstreamBusy
                    | Reason::UpstreamInvalid
                    | Reason::UpstreamTimeout
                    | Reason::UpstreamUnreachable
            )
        })
    }

    /// How `policy` differs from what happened.
    pub fn replay(&self, policy: &Policy) -> Replayed {
        if !self.was_allowed() && !self.was_decided_by_policy() {
            return Replayed::NotByPolicy;
        }
        let Ok(judgement) = self.judge(policy) else { return Replayed::NotByPolicy };
        match (self.was_allowed(), judgement.verdict.is_allowed()) {
            (true, false) => Replayed::Refuses(Box::new(judgement)),
            (false, true) => Replayed::Allows(Box::new(judgement)),
            (true, true) | (false, false) => Replayed::Same,
        }
    }
}
