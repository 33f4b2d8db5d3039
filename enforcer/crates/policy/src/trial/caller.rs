//! Whom the words of a sentence stand for.
//!
//! A name that is a role of the policy is one; anything else is a principal. What kind of credential
//! the caller has follows from what is said, in this order: the proofs behind `with`, the form of the
//! principal, what only a token has, and last the roles: whichever credential can carry them all.

use std::sync::Arc;

use enforcer_authn::Binding;
use enforcer_authz::{Grant, RoleSet};
use enforcer_model::{CredentialKind, Role};

use super::judge::role_values;
use super::request::Request;
use crate::Policy;

/// A caller, believed without a credential.
#[derive(Clone, Debug)]
pub(super) struct Believed {
    pub(super) principal: String,
    pub(super) kind: CredentialKind,
    pub(super) roles: RoleSet,
    pub(super) scopes: Vec<Arc<str>>,
    pub(super) issuer: Option<String>,
    pub(super) bound: Option<Binding>,
    /// Of the certificate, if that is the credential.
    pub(super) spiffe: Option<String>,
}

/// A caller, and what was assumed of it.
#[derive(Debug)]
pub(super) struct Assumed {
    pub(super) caller: Option<Believed>,
    pub(super) notes: Vec<String>,
}

/// The caller of `request`.
pub(super) fn of(policy: &Policy, request: &Request) -> Assumed {
    let mut notes = Vec::new();
    if !is_somebody(request) {
        return Assumed { caller: None, notes };
    }
    let roles = policy.roles();
    let (named, others): (Vec<&String>, Vec<&String>) =
        request.who.iter().partition(|name| roles.index(name).is_some());
    let named: Vec<&str> = named.into_iter().map(String::as_str).collect();
    let principal = others.first().map(|name| name.as_str());
    let (kind, issuer) = kind(policy, request, principal, &named);

    // Roles that are named are believed, but a key has none whose `from` does not say `key`.
    let mut held = if request.proofs.key {
        let named: Vec<Role> = named.iter().map(|name| Role::new(name)).collect();
        roles.of_key(&named)
    } else {
        roles.closure(named.iter().copied()).unwrap_or_default()
    };
    let scopes: Vec<Arc<str>> = request.scopes.iter().map(|scope| Arc::from(&**scope)).collect();
    let spiffe = match (kind, principal) {
        (CredentialKind::Certificate, Some(id)) if id.starts_with("spiffe://") => {
            Some(id.to_owned())
        }
        (CredentialKind::Certificate, _) => request.spiffe.clone(),
        (CredentialKind::ApiKey | CredentialKind::Token, _) => None,
    };
    if let Some(id) = &spiffe {
        held = held.union(roles.of_spiffe(id));
    }
    if let Some(plan) = policy.issuers().iter().find(|plan| Some(&*plan.name) == issuer.as_deref())
        && kind == CredentialKind::Token
    {
        let claims = request.claims();
        let values = role_values(&plan.roles, &scopes, &claims);
        held = held.union(roles.of_token(&plan.name, values));
    }
    let bound = match kind {
        CredentialKind::Token if request.proofs.dpop => Some(Binding::Dpop),
        CredentialKind::Token if request.proofs.mtls => Some(Binding::Certificate),
        CredentialKind::Token | CredentialKind::ApiKey | CredentialKind::Certificate => None,
    };
    let principal = match (principal, &spiffe) {
        (Some(name), _) => name.to_owned(),
        (None, Some(id)) => id.clone(),
        (None, None) => {
            let name = unnamed(kind, issuer.as_deref());
            notes.push(format!("as {name}: no principal is named"));
            name
        }
    };
    Assumed {
        caller: Some(Believed { principal, kind, roles: held, scopes, issuer, bound, spiffe }),
        notes,
    }
}

/// Whether anything is said about a caller.
fn is_somebody(request: &Request) -> bool {
    let Request { who, proofs, claims, scopes, issuer, application, owner, .. } = request;
    !who.is_empty()
        || proofs.dpop
        || proofs.token
        || proofs.key
        || proofs.certificate
        || !claims.is_empty()
        || !scopes.is_empty()
        || issuer.is_some()
        || application.is_some()
        || owner.is_some()
}

fn kind(
    policy: &Policy,
    request: &Request,
    principal: Option<&str>,
    named: &[&str],
) -> (CredentialKind, Option<String>) {
    let of_principal = principal.and_then(|name| name.split_once(':'));
    let token = |issuer: Option<&str>| {
        let only = match policy.issuers() {
            [only] => Some(&*only.name),
            _ => None,
        };
        let issuer = issuer.or_else(|| issuer_of(policy, named)).or(only).map(str::to_owned);
        (CredentialKind::Token, issuer)
    };
    let named_issuer = request.issuer.as_deref().or_else(|| match of_principal {
        Some(("token", rest)) => rest.split('/').next(),
        Some(_) | None => None,
    });
    let proofs = request.proofs;
    if proofs.token || proofs.dpop {
        return token(named_issuer);
    }
    if proofs.key {
        return (CredentialKind::ApiKey, None);
    }
    if proofs.certificate {
        return (CredentialKind::Certificate, None);
    }
    match of_principal {
        Some(("key", _)) => return (CredentialKind::ApiKey, None),
        Some(("token", _)) => return token(named_issuer),
        Some(("spiffe" | "cert", _)) => return (CredentialKind::Certificate, None),
        Some(_) | None => {}
    }
    if named_issuer.is_some() || !request.claims.is_empty() {
        return token(named_issuer);
    }
    if request.owner.is_some() || carries(policy, named, |grant| *grant == Grant::Key) {
        return (CredentialKind::ApiKey, None);
    }
    let is_certificate = |grant: &Grant| matches!(grant, Grant::Spiffe(_));
    if !named.is_empty()
        && issuer_of(policy, named).is_none()
        && carries(policy, named, is_certificate)
    {
        return (CredentialKind::Certificate, None);
    }
    if policy.issuers().is_empty() { (CredentialKind::ApiKey, None) } else { token(None) }
}

/// The issuer whose tokens can carry all of `named`.
fn issuer_of<'p>(policy: &'p Policy, named: &[&str]) -> Option<&'p str> {
    let mut issuers = policy.issuers().iter().map(|plan| &*plan.name);
    issuers.find(|name| {
        !named.is_empty()
            && carries(policy, named, |grant| match grant {
                Grant::Issuer { issuer, .. } => **issuer == **name,
                Grant::Key | Grant::Spiffe(_) => false,
            })
    })
}

/// Whether each of `named`, or a role that includes it, has a grant for which `fits` holds.
fn carries(policy: &Policy, named: &[&str], fits: impl Fn(&Grant) -> bool) -> bool {
    let roles = policy.roles();
    !named.is_empty()
        && named.iter().all(|name| {
            let satisfying = roles.satisfying(&Role::new(name));
            satisfying.is_ok_and(|set| set.iter().any(|role| roles.grants(role).iter().any(&fits)))
        })
}

/// What a caller is called whom the sentence does not name.
fn unnamed(kind: CredentialKind, issuer: Option<&str>) -> String {
    match kind {
        CredentialKind::ApiKey => "key:000000000000".to_owned(),
        CredentialKind::Certificate => format!("cert:{}", "0".repeat(64)),
        CredentialKind::Token => format!("token:{}/somebody", issuer.unwrap_or("unknown")),
    }
}
