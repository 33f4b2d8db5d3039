//! How the policy that watches would have decided: asked of the same request, at the same moment.

use std::sync::Arc;

use enforcer_authn::Identity;
use enforcer_authz::Permit;
use enforcer_inspect::Head;
use enforcer_model::{Reason, Rejection, Timestamp};
use enforcer_policy::{Policy, Route};
use http::HeaderMap;

use crate::entry::Origin;
use crate::scene::{Scene, authorise, roles_of};
use crate::shadow::{Shadow, Verdict};
use crate::shared::Shared;

/// One request before the eyes of the policy that watches, if there is one.
pub(crate) struct Watch<'a> {
    shadow: Option<Arc<Shadow>>,
    head: &'a Head,
    headers: &'a HeaderMap,
    origin: &'a Origin,
    incident: u8,
    now: Timestamp,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        shared: &Shared,
        head: &'a Head,
        headers: &'a HeaderMap,
        origin: &'a Origin,
        incident: u8,
        now: Timestamp,
    ) -> Self {
        Self { shadow: shared.shadow.load_full(), head, headers, origin, incident, now }
    }

    /// Compares what was `decided` about the request on its `route`.
    pub(crate) fn compare(
        &self,
        route: Option<&Arc<Route>>,
        identity: Option<&Identity>,
        decided: Result<&Permit<'_>, &Rejection>,
    ) {
        let Some(shadow) = &self.shadow else { return };
        let from = verdict(decided.map(|_| ()));
        let to = self.would(shadow.policy(), identity);
        shadow.compare(route.map(|route| &route.name), from, to, || self.sentence(identity));
    }

    fn would(&self, policy: &Policy, identity: Option<&Identity>) -> Verdict {
        let Some(matched) = policy.route(self.head) else {
            return Verdict::Deny("no route matches".into());
        };
        let scene = Scene::new(
            &matched,
            self.head,
            self.headers,
            self.origin,
            policy,
            self.incident,
            self.now,
        );
        let decided = scene.and_then(|scene| {
            let caller = identity.filter(|_| scene.wants_caller(policy));
            let caller = caller.map(|identity| (identity, roles_of(identity, policy)));
            authorise(&scene, caller, policy).map(|_| ())
        });
        verdict(decided.as_ref().copied())
    }

    /// As `policy explain` reads it.
    fn sentence(&self, identity: Option<&Identity>) -> String {
        let Head { method, host, path, .. } = self.head;
        let who = identity.map(|identity| format!(" as {}", identity.principal()));
        let from = self.origin.source.address();
        format!("{method} {host}{path}{} from {from}", who.unwrap_or_default())
    }
}

fn verdict(decided: Result<(), &Rejection>) -> Verdict {
    match decided {
        Ok(()) => Verdict::Allow,
        Err(rejection) if matches!(rejection.reason, Reason::DeniedByRule | Reason::NotAllowed) => {
            Verdict::Deny(rejection.chain().into())
        }
        // What the policy's own rules say is bounded by the policy; other causes repeat what clients
        // send, who could make any number of kinds of it.
        Err(rejection) => Verdict::Deny(rejection.reason.as_str().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sent_makes_no_kinds_of_difference() {
        let told = |reason: Reason, cause: &str| verdict(Err(&reason.because(cause.to_owned())));

        assert_eq!(told(Reason::KeyUnknown, "one"), told(Reason::KeyUnknown, "another"));
        assert_eq!(told(Reason::NotAllowed, "a.allow[1]"), Verdict::Deny("a.allow[1]".into()));
    }
}
