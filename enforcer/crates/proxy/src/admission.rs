//! The limits of a route, taken in two steps, and the proof that both were.
//!
//! What is counted by address is taken before anybody is asked who they are, so that guessing costs
//! as much as using. What depends on the caller is taken last, so that a refusal for another reason
//! costs the caller nothing; who turns out to be nobody pays what strangers pay. Each step takes
//! all or none. What was taken is held until the last byte of the answer has gone.

use std::sync::Arc;

use enforcer_authn::{Identity, Proof};
use enforcer_authz::{Permit, RoleSet, Tri};
use enforcer_limits::{Demand, Entered, Level, Limits, Payer, Stage, Taken, When};
use enforcer_model::{Moment, Rejection, Role};
use enforcer_policy::{Charged, Policy};

use crate::endpoints::Endpoints;
use crate::scene::{Scene, seen};

/// What one request is measured by.
pub(crate) struct Till<'a> {
    pub(crate) scene: &'a Scene<'a, 'a>,
    pub(crate) policy: &'a Policy,
    pub(crate) limits: &'a Arc<Limits>,
    /// What of them is shrunk for a while.
    pub(crate) endpoints: &'a Endpoints,
    /// What the request says of the length of its body.
    pub(crate) body: Option<u64>,
    pub(crate) now: Moment,
}

/// The source may go on.
#[derive(Debug)]
pub(crate) struct SourceAdmitted(Option<Taken>);

/// Source and caller are within every limit of the route; what is forwarded needs one.
#[derive(Debug)]
pub(crate) struct Admitted {
    taken: [Option<Taken>; 2],
    _entered: Option<Entered>,
}

impl Till<'_> {
    /// Takes what is counted by address, whoever is calling.
    pub(crate) async fn admit_source(&self) -> Result<SourceAdmitted, Rejection> {
        let payer = self.scene.payer(None, None, self.body);
        let mine = self.scene.route.limits.iter().filter(|charged| is_early(charged));
        let demands = mine.map(|charged| self.demand(charged, &payer, None)).collect();
        Ok(SourceAdmitted(self.take(demands).await?))
    }

    /// Takes what a stranger pays, from somebody who gave no credential, or none that is accepted.
    pub(crate) async fn charge_stranger(&self) -> Result<(), Rejection> {
        let payer = self.scene.payer(None, None, self.body);
        let mine = self.scene.route.limits.iter().filter(|charged| charged.when.is_some());
        let mine = mine.filter(|charged| self.holds(charged, None));
        let demands = mine.map(|charged| self.demand(charged, &payer, None)).collect();
        drop(self.take(demands).await?);
        Ok(())
    }

    /// Takes the rest, and a place at the upstream; on a public route the source stands in for a
    /// caller.
    pub(crate) async fn admit_caller(
        &self,
        SourceAdmitted(early): SourceAdmitted,
        caller: Option<(&Identity, RoleSet)>,
        permit: &Permit<'_>,
    ) -> Result<Admitted, Rejection> {
        let payer = self.scene.payer(caller.map(|(identity, _)| identity), Some(permit), self.body);
        let own = match caller.map(|(identity, _)| identity.proof()) {
            Some(Proof::Key(key)) => &*key.limits,
            Some(Proof::Certificate | Proof::Token(_)) | None => &[],
        };
        let route = self.scene.route.limits.iter().filter(|charged| !is_early(charged));
        let own = own.iter().filter_map(|name| self.policy.limit(name));
        let mine = route.chain(own).filter(|charged| self.holds(charged, caller));
        let roles = caller.map(|(_, roles)| roles);
        let demands = mine.map(|charged| self.demand(charged, &payer, roles.as_ref())).collect();
        let late = self.take(demands).await?;
        let entered = match &self.scene.route.gate {
            None => None,
            Some(gate) => {
                let held = roles.map(|roles| self.policy.roles().named(roles).map(Role::as_str));
                Some(self.limits.enter(gate, gate.rank(held))?)
            }
        };
        Ok(Admitted { taken: [early, late], _entered: entered })
    }

    /// Whether the limit is charged; one that cannot be ruled out is.
    fn holds(&self, charged: &Charged, caller: Option<(&Identity, RoleSet)>) -> bool {
        let Some(when) = &charged.when else { return true };
        let caller = caller.map(|(identity, roles)| seen(identity, roles));
        when.holds(&self.scene.facts(caller)) != Tri::False
    }

    fn demand<'b>(
        &self,
        charged: &'b Charged,
        payer: &Payer<'b>,
        roles: Option<&RoleSet>,
    ) -> Demand<'b> {
        let factor = self.policy.incident(self.scene.incident).factor(charged, roles);
        let share = self.endpoints.share_of(payer, self.now.wall).of(self.scene.stricter.share);
        charged.limit.demand(payer, share.of(factor))
    }

    async fn take(&self, demands: Vec<Demand<'_>>) -> Result<Option<Taken>, Rejection> {
        if demands.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.limits.take(&demands, self.now).await?))
    }
}

/// Whether only the address decides what is drawn on.
fn is_early(charged: &Charged) -> bool {
    let when = if charged.when.is_some() { When::Conditional } else { When::Always };
    charged.limit.stage(when) == Stage::Source
}

impl Admitted {
    /// The request is over: what it cost by its length is drawn now, and its places are free.
    pub(crate) fn settle(self, response_bytes: u64, request_bytes: u64) {
        for taken in self.taken.into_iter().flatten() {
            taken.settle(response_bytes, request_bytes);
        }
    }

    /// How full the buckets are that clients may know of.
    pub(crate) fn levels(&self) -> impl Iterator<Item = &Level> {
        self.taken.iter().flatten().flat_map(Taken::levels)
    }
}
