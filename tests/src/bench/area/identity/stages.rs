//! The five stages of a request with an API key, one after the other as the proxy calls them:
//! credential, key, roles, decision, and three limits in two steps.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use enforcer_authn::{FingerprintKey, Identity, Presented, Proof, Revocations};
use enforcer_authz::{Caller, Facts, Quarantine, decide};
use enforcer_inspect as inspect;
use enforcer_limits::{Demand, Limits, Payer, Stage, Taken, When};
use enforcer_model::{Role, Source};
use enforcer_policy::{Charged, Matched, Policy};
use http::HeaderValue;
use http::request::Parts;

use super::super::super::{Effort, Row, Samples, Target};
use super::keys::Keys;
use super::world::{self, ROLES, ROUTES};
use super::{at_once, each, rounds, routing, shuffled};
use crate::oracle::Random;

const MOST: f64 = 3_000.0;
const CALLS: usize = 4_096;

/// What outlives a request.
struct House<'a> {
    policy: &'a Policy,
    keys: &'a Keys,
    fingerprints: FingerprintKey,
    revocations: Revocations,
    quarantine: Quarantine,
    limits: Arc<Limits>,
}

/// A request before it is read, and read.
struct Asked {
    parts: Parts,
    head: inspect::Head,
    source: Source,
}

pub(super) fn measure(keys: &Keys, effort: Effort) -> Result<Vec<Row>> {
    let policy = world::read(&world::ordinary()?)?;
    let places = NonZeroUsize::new(1 << 17).context("no places")?;
    let house = House {
        policy: &policy,
        keys,
        fingerprints: FingerprintKey::load_or_create(&keys.folder.path().join("fingerprints"))?,
        revocations: Revocations::default(),
        quarantine: Quarantine::new(1_000),
        limits: Arc::new(Limits::new(places, [3, 4], keys.now.monotonic)),
    };
    let asked = requests(keys)?;
    let matched = asked
        .iter()
        .map(|asked| policy.route(&asked.head).context("no route"))
        .collect::<Result<Vec<_>>>()?;
    for (asked, matched) in asked.iter().zip(&matched) {
        ensure!(house.serve(&asked.parts, &asked.head, matched, asked.source)? == 3);
    }

    let stages = || {
        each(CALLS, |n| {
            let Asked { parts, head, source } = &asked[n];
            Ok(black_box(house.serve(parts, head, &matched[n], *source)?) == 3)
        })
    };
    let whole = || {
        each(CALLS, |n| {
            let Asked { parts, source, .. } = &asked[n];
            house.quarantine.refuse_source(*source, keys.now.wall)?;
            let head = inspect::normalise(parts)?;
            let matched = policy.route(&head).context("no route")?;
            Ok(black_box(house.serve(parts, &head, &matched, *source)?) == 3)
        })
    };
    let rounds = rounds(effort);
    let median = |one: &dyn Fn() -> Result<f64>| -> Result<f64> {
        Samples::new((0..rounds).map(|_| one()).collect::<Result<_>>()?)?.median()
    };
    Ok(vec![
        Row::new(
            "five stages: credential, key of 10,000, roles, decision, three limits",
            "ns",
            median(&stages)?,
        )
        .target(Target::AtMost(MOST)),
        Row::new("the same with quarantine, whole head and route before", "ns", median(&whole)?)
            .target(Target::AtMost(MOST)),
    ])
}

/// Each with another key, from another address, to a route that is for the key's role.
fn requests(keys: &Keys) -> Result<Vec<Asked>> {
    let mut random = Random::new(0x57a9);
    let order = shuffled(keys.issued.len(), &mut random);
    let made = order.into_iter().take(CALLS).map(|n| {
        let (role, key) = &keys.issued[n];
        let route = role + ROLES * random.below(ROUTES / ROLES);
        let mut parts = routing::parts(&world::path(route, random.below(100_000)))?;
        let value = HeaderValue::from_str(&format!("Bearer {key}"))?;
        parts.headers.insert("authorization", value);
        let [.., low] = u32::try_from(n)?.to_be_bytes();
        let source = Source::new(Ipv4Addr::new(198, 51, 100, low).into());
        Ok(Asked { head: inspect::normalise(&parts)?, parts, source })
    });
    made.collect()
}

impl House<'_> {
    /// How many limits were taken for a request that is served.
    fn serve(
        &self,
        parts: &Parts,
        head: &inspect::Head,
        matched: &Matched<'_>,
        source: Source,
    ) -> Result<usize> {
        let route = matched.route;
        let now = self.keys.now;
        let params = matched.params();
        let query = route.query(head.query.as_deref())?;

        let unknown = Payer::from_source(source, &route.name, Some(0));
        let early = route.limits.iter().filter(|charged| is_early(charged));
        let early = self.take(early, &unknown, None)?;

        let presented = Presented::from_headers(&parts.headers)?.context("no credential")?;
        black_box(presented.fingerprint(&self.fingerprints));
        let identity = self.keys.index.identify(&presented, source, None, now)?;
        let key = identity.key_id().context("not a key")?;
        let facts_of_key = match identity.proof() {
            Proof::Key(facts) => facts,
            Proof::Certificate | Proof::Token(_) => return Err(anyhow!("not a key")),
        };
        let roles = self.policy.roles().of_key(&facts_of_key.roles);
        self.quarantine.refuse_key(key, now.wall)?;
        self.revocations.check(&identity, now.wall)?;
        facts_of_key.check_route(&route.name)?;

        let facts = Facts {
            ip: source.address(),
            method: &head.method,
            host: head.host.as_str(),
            path: &matched.path,
            params: &params,
            query: &query,
            headers: &parts.headers,
            region: None,
            incident: 0,
            now: now.wall,
            mtls: false,
            spiffe: None,
            caller: Some(caller(&identity, roles)),
        };
        let permit = decide(&route.authz, &facts)?;

        let payer = Payer {
            source,
            principal: Some(identity.principal()),
            key: Some(key),
            application: identity.application(),
            route: &route.name,
            role: permit.role().map(Role::as_str),
            claims: identity.claims(),
            region: None,
            body: Some(0),
        };
        let late = route.limits.iter().filter(|charged| !is_early(charged));
        let late = self.take(late, &payer, Some(&roles))?;
        Ok(early.1 + late.1)
    }

    fn take<'b>(
        &self,
        charged: impl Iterator<Item = &'b Charged>,
        payer: &Payer<'b>,
        roles: Option<&enforcer_authz::RoleSet>,
    ) -> Result<(Taken, usize)> {
        let calm = self.policy.incident(0);
        let demands: Vec<Demand<'_>> = charged
            .map(|charged| charged.limit.demand(payer, calm.factor(charged, roles)))
            .collect();
        let taken = at_once(self.limits.take(&demands, self.keys.now))??;
        Ok((taken, demands.len()))
    }
}

fn is_early(charged: &Charged) -> bool {
    let when = if charged.when.is_some() { When::Conditional } else { When::Always };
    charged.limit.stage(when) == Stage::Source
}

fn caller(identity: &Identity, roles: enforcer_authz::RoleSet) -> Caller<'_> {
    Caller {
        principal: identity.principal().as_str(),
        kind: identity.kind(),
        roles,
        scopes: identity.scopes(),
        issuer: None,
        application: identity.application(),
        owner: None,
        claims: identity.claims(),
        dpop: false,
    }
}
