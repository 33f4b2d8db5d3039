//! Issuers of tokens: what the policy says of them, how they are asked, what is known of them.

mod client;
mod discovery;
mod endpoint;
mod introspection;
mod plan;
mod roots;
mod rounds;
mod source;
#[cfg(test)]
mod tests;

pub use client::{AskError, Client as HttpClient};
pub use discovery::{Discovery, DiscoveryError};
pub use endpoint::{Endpoint, EndpointError};
pub use introspection::{Unintrospected, read_introspection};
pub use plan::{Bindings, ClientSecret, Introspection, IssuerPlan, KeySource, RoleValues, Unbound};
pub use roots::{Roots, RootsError};

pub(crate) use introspection::{good_for, introspect};
pub(crate) use plan::{Digest, digest_of};
pub(crate) use rounds::{PAUSE_MIN, chain, keep};
pub(crate) use source::{Renewed, Source, Spec};

use client::Client;
