//! Whom or what a run-time measure is about: an endpoint, a whole route, a caller, a network.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use enforcer_inspect::{Head, Host, Path};
use enforcer_model::{Prefix, PrefixError, Principal, Target, TargetError};
use enforcer_policy::{Endpoint, EndpointError, Policy};
use http::Method;

/// As operators write it: `DELETE api.example.com/v1/export/{**}`, `route:orders`,
/// `user:token:corp/alice`, `key:k7Qx2mP9aB3c`, `source:203.0.113.0/24`.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Requests by their host and path.
    Endpoint(Endpoint),
    /// Requests that one route of the policy serves, whatever its pattern is after a reload.
    Route(Arc<str>),
    /// Requests of one caller, wherever.
    Caller(Principal),
    /// Requests from a network, wherever.
    Source(Prefix),
}

/// The text names nothing that a measure could be about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// No endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Behind `user:` or `key:` stands no caller.
    #[error(transparent)]
    Caller(#[from] TargetError),
    /// Behind `source:` stands no network.
    #[error(transparent)]
    Source(#[from] PrefixError),
    /// Behind `route:` stands no name.
    #[error("`route:` is followed by the name of a route")]
    Route,
}

impl Scope {
    /// Whether `other` means the same requests.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Endpoint(one), Self::Endpoint(other)) => one.is_same(other),
            (Self::Route(one), Self::Route(other)) => one == other,
            (Self::Caller(one), Self::Caller(other)) => one == other,
            (Self::Source(one), Self::Source(other)) => one == other,
            (Self::Endpoint(_) | Self::Route(_) | Self::Caller(_) | Self::Source(_), _) => false,
        }
    }

    /// The routes of `policy` that some such request may belong to; none when it may be any.
    pub fn routes<'p>(&self, policy: &'p Policy) -> Vec<&'p str> {
        match self {
            Self::Endpoint(endpoint) => endpoint.routes(policy),
            Self::Route(name) => {
                let own = policy.routes().iter().filter(|route| route.name == *name);
                own.map(|route| &*route.name).collect()
            }
            Self::Caller(_) | Self::Source(_) => Vec::new(),
        }
    }

    /// Whether it is an endpoint, and such a request is for it.
    pub(crate) fn hits(&self, method: &Method, host: &Host, path: &Path) -> bool {
        match self {
            Self::Endpoint(endpoint) => endpoint.hits(method, host, path),
            Self::Route(_) | Self::Caller(_) | Self::Source(_) => false,
        }
    }

    /// Whether a request with this head is one of those that are meant, as far as heads tell.
    pub(crate) fn means(&self, head: &Head, policy: &Policy) -> bool {
        match self {
            Self::Endpoint(_) => self.hits(&head.method, &head.host, &head.path),
            Self::Route(name) => {
                policy.route(head).is_some_and(|matched| matched.route.name == *name)
            }
            Self::Caller(_) | Self::Source(_) => false,
        }
    }
}

impl ScopeError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::Endpoint(error) => error.hint(),
            Self::Caller(_) => "`enforcer trail` shows callers as they are named".to_owned(),
            Self::Source(_) => "such as `source:203.0.113.0/24`".to_owned(),
            Self::Route => "`enforcer policy explain` names the route of a request".to_owned(),
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let text = text.trim();
        match text.split_once(':') {
            Some(("route", "")) => Err(ScopeError::Route),
            Some(("route", name)) => Ok(Self::Route(name.into())),
            Some(("user" | "key", _)) => match text.parse::<Target>()? {
                Target::Key(key) => Ok(Self::Caller(Principal::from_key(key))),
                Target::User(caller) => Ok(Self::Caller(caller)),
                other @ (Target::Ja4(_)
                | Target::Network(_)
                | Target::Role(_)
                | Target::Token(_)) => Err(TargetError::User(other.to_string()).into()),
            },
            Some(("source", network)) => Ok(Self::Source(network.parse()?)),
            Some(_) | None => Ok(Self::Endpoint(text.parse()?)),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Route(name) => write!(f, "route:{name}"),
            Self::Caller(caller) => Target::caller(caller).fmt(f),
            Self::Source(network) => write!(f, "source:{network}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_survives_printing_and_parsing() {
        for text in [
            "DELETE api.test/v1/export/{**}",
            "*/debug/{**}",
            "route:orders",
            "user:token:corp/alice",
            "key:k7Qx2mP9aB3c",
            "source:203.0.113.0/24",
        ] {
            let scope: Scope = text.parse().unwrap();
            assert_eq!(scope.to_string(), text);
            assert!(scope.is_same(&text.parse().unwrap()));
            assert!(!scope.is_same(&"route:other".parse().unwrap()));
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["", "route:", "user:alice", "key:short", "source:host", "delete */a"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }
}
