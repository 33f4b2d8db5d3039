//! What a decision may look at: the request, its caller and the hour, borrowed from their owners.
//!
//! Plain values, so that a test, an explanation and the request path ask the same question in the
//! same way. Nothing is looked up or computed here; what is not known is `None`.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use enforcer_model::{Claims, CredentialKind, Timestamp};
use http::{HeaderMap, Method};

use crate::RoleSet;

/// One request, as far as a policy can ask about it.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The address of the TCP peer.
    pub ip: IpAddr,
    /// The method, byte for byte.
    pub method: &'a Method,
    /// The host in its canonical form.
    pub host: &'a str,
    /// The path in its canonical form.
    pub path: &'a str,
    /// What each `{NAME}` of the route's pattern stands for.
    pub params: &'a [(&'a str, Cow<'a, str>)],
    /// The decoded pairs of the query; at least those whose names the policy reads.
    pub query: &'a [(Cow<'a, str>, Cow<'a, str>)],
    /// The request's own headers.
    pub headers: &'a HeaderMap,
    /// The country of the address, if the region database knows it.
    pub region: Option<&'a str>,
    /// The incident level, 0 to 5.
    pub incident: u8,
    /// When the request arrived.
    pub now: Timestamp,
    /// The connection has a client certificate that TLS verified.
    pub mtls: bool,
    /// The one SPIFFE id in that certificate.
    pub spiffe: Option<&'a str>,
    /// Who is calling; nobody was identified without one.
    pub caller: Option<Caller<'a>>,
}

/// Who is calling, as far as a policy can ask about it.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Whom the credential stands for, as [`enforcer_model::Principal`] prints it.
    pub principal: &'a str,
    /// What kind of credential it was.
    pub kind: CredentialKind,
    /// The caller's roles, closed over inclusion.
    pub roles: RoleSet,
    /// The scopes of the key or the token.
    pub scopes: &'a [Arc<str>],
    /// The `[issuer.NAME]` that vouches for the token.
    pub issuer: Option<&'a str>,
    /// The application: of the key's record, or the token's client.
    pub application: Option<&'a str>,
    /// The owner in the key's record.
    pub owner: Option<&'a str>,
    /// The payload of the token.
    pub claims: Option<&'a Claims>,
    /// The token was proven to be in its holder's hands by RFC 9449.
    pub dpop: bool,
}
