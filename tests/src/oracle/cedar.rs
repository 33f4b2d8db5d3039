//! Cedar (cedar-policy 4): default deny, forbid wins, and no third value.
//!
//! Where ours is unknown, Cedar would raise an error and skip the policy, also one that forbids. So
//! a condition is written as "certainly true" for what permits, and as "not certainly false" for
//! what forbids; both ask whether an attribute is there before they use it.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use anyhow::{Context as _, Result};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request as Query,
    RestrictedExpression as Value,
};

use super::condition::{Atom, Condition};
use super::{Claim, Effect, NETWORKS, Request, Rule, World};

/// A policy as Cedar holds it.
#[derive(Debug)]
pub struct CedarPolicies {
    whole: PolicySet,
    /// Of each route: what its owner would hand over to save time.
    by_route: Vec<PolicySet>,
    roles: Vec<Entity>,
    authorizer: Authorizer,
}

/// A request as Cedar is asked about it.
#[derive(Debug)]
pub struct CedarRequest {
    route: usize,
    query: Query,
    entities: Entities,
}

impl CedarPolicies {
    /// Translates `world`.
    pub fn new(world: &World) -> Result<Self> {
        let texts: Vec<String> =
            world.routes.iter().enumerate().map(|(n, rules)| route(n, rules)).collect();
        let by_route: Result<Vec<PolicySet>> =
            texts.iter().map(|text| text.parse().map_err(anyhow::Error::from)).collect();
        let roles = world.roles.iter().map(|(name, includes)| {
            let parents: Result<HashSet<_>> =
                includes.iter().map(|name| uid("Role", name)).collect();
            Ok(Entity::new(uid("Role", name)?, HashMap::new(), parents?)?)
        });
        Ok(Self {
            whole: texts.concat().parse().context("the whole policy")?,
            by_route: by_route.context("the policy of a route")?,
            roles: roles.collect::<Result<_>>()?,
            authorizer: Authorizer::new(),
        })
    }

    /// `request` as Cedar is asked about it.
    pub fn asked(&self, request: &Request) -> Result<CedarRequest> {
        let principal = uid("User", "alice")?;
        let parents: Result<HashSet<_>> =
            request.roles.iter().map(|name| uid("Role", name)).collect();
        let user = Entity::new(principal.clone(), HashMap::new(), parents?)?;
        let entities = Entities::from_entities(self.roles.iter().cloned().chain([user]), None)?;
        let texts = |texts: &[&str]| {
            Value::new_set(texts.iter().map(|text| Value::new_string((*text).to_owned())))
        };
        let mut pairs = vec![
            ("ip", Value::new_ip(request.ip.to_string())),
            ("scopes", texts(&request.scopes)),
            ("mtls", Value::new_bool(request.mtls)),
            ("incident", Value::new_long(request.incident.into())),
            ("param", Value::new_string(request.param.to_owned())),
            ("has_tenant", Value::new_bool(request.tenant.is_there())),
        ];
        // A claim of another type is unknown to ours; for Cedar it is not there.
        let tenant = request.tenant.value().map(|tenant| Value::new_string((*tenant).to_owned()));
        pairs.extend(tenant.map(|value| ("tenant", value)));
        let clearance = request.clearance.value().map(|level| Value::new_long(*level));
        pairs.extend(clearance.map(|value| ("clearance", value)));
        pairs.extend(request.admin.value().map(|flag| ("admin", Value::new_bool(*flag))));
        if let Claim::Is(groups) = &request.groups {
            pairs.push(("groups", texts(groups)));
        }
        pairs.extend(request.region.map(|region| ("region", Value::new_string(region.to_owned()))));
        let context =
            Context::from_pairs(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)))?;
        let action = uid("Action", request.method)?;
        let resource = uid("Route", &request.route.to_string())?;
        let query = Query::new(principal, action, resource, context, None)?;
        Ok(CedarRequest { route: request.route, query, entities })
    }

    /// Whether it is served, asked with the policies of its route alone.
    pub fn allows(&self, asked: &CedarRequest) -> bool {
        self.is_allowed(asked, &self.by_route[asked.route])
    }

    /// Whether it is served, asked with all policies.
    pub fn allows_among_all(&self, asked: &CedarRequest) -> bool {
        self.is_allowed(asked, &self.whole)
    }

    fn is_allowed(&self, asked: &CedarRequest, policies: &PolicySet) -> bool {
        let answer = self.authorizer.is_authorized(&asked.query, policies, &asked.entities);
        answer.decision() == Decision::Allow
    }
}

fn uid(kind: &str, name: &str) -> Result<EntityUid> {
    Ok(EntityUid::from_type_name_and_id(kind.parse()?, name.parse()?))
}

fn route(number: usize, rules: &[Rule]) -> String {
    let mut text = String::new();
    for rule in rules {
        let effect = match rule.effect {
            Effect::Allow => "permit",
            Effect::Deny => "forbid",
        };
        let principal = match &rule.role {
            Some(role) => format!("principal in Role::\"{role}\""),
            None => "principal".to_owned(),
        };
        let listed: Vec<String> =
            rule.methods.iter().map(|method| format!("Action::\"{method}\"")).collect();
        let action = match listed.is_empty() {
            true => "action".to_owned(),
            false => format!("action in [{}]", listed.join(", ")),
        };
        let when = match (&rule.when, rule.effect) {
            (None, _) => "true".to_owned(),
            (Some(when), Effect::Allow) => when.certainly(true),
            (Some(when), Effect::Deny) => format!("!({})", when.certainly(false)),
        };
        writeln!(
            text,
            "{effect} ({principal}, {action}, resource == Route::\"{number}\") when {{ {when} }};"
        )
        .unwrap_or_default();
    }
    text
}

impl Condition {
    /// That it is certainly true, or certainly false, as Cedar writes it.
    fn certainly(&self, holds: bool) -> String {
        let (left, joined, right) = match (self, holds) {
            (Self::Is(atom), _) => return atom.certainly(holds),
            (Self::Not(inner), _) => return inner.certainly(!holds),
            (Self::And(left, right), true) => (left, "&&", right),
            (Self::And(left, right), false) => (left, "||", right),
            (Self::Or(left, right), true) => (left, "||", right),
            (Self::Or(left, right), false) => (left, "&&", right),
        };
        format!("({} {joined} {})", left.certainly(holds), right.certainly(holds))
    }
}

impl Atom {
    fn certainly(&self, holds: bool) -> String {
        let question = self.cedar();
        let answered = if holds { format!("({question})") } else { format!("!({question})") };
        match self.needs() {
            Some(name) => format!("(context has {name} && {answered})"),
            None => answered,
        }
    }

    /// The attribute without which it is unknown.
    const fn needs(&self) -> Option<&'static str> {
        match self {
            Self::Role(_)
            | Self::Scope(_)
            | Self::Network(_)
            | Self::Mtls
            | Self::IncidentAtLeast(_)
            | Self::HasTenant => None,
            Self::Tenant(_)
            | Self::TenantAmong(_)
            | Self::TenantStarts(_)
            | Self::TenantIsParam => Some("tenant"),
            Self::ClearanceBelow(_) => Some("clearance"),
            Self::Admin => Some("admin"),
            Self::Group(_) => Some("groups"),
            Self::Region(_) => Some("region"),
        }
    }

    fn cedar(&self) -> String {
        match self {
            Self::Role(role) => format!("principal in Role::\"{role}\""),
            Self::Scope(scope) => format!("context.scopes.contains(\"{scope}\")"),
            Self::Network(n) => {
                let inside = NETWORKS[*n].1.iter();
                let inside = inside.map(|prefix| format!("context.ip.isInRange(ip(\"{prefix}\"))"));
                inside.collect::<Vec<_>>().join(" || ")
            }
            Self::Mtls => "context.mtls".to_owned(),
            Self::IncidentAtLeast(level) => format!("context.incident >= {level}"),
            Self::Tenant(tenant) => format!("context.tenant == \"{tenant}\""),
            Self::TenantAmong([one, other]) => {
                format!("[\"{one}\", \"{other}\"].contains(context.tenant)")
            }
            Self::TenantStarts(start) => format!("context.tenant like \"{start}*\""),
            Self::TenantIsParam => "context.tenant == context.param".to_owned(),
            Self::HasTenant => "context.has_tenant".to_owned(),
            Self::ClearanceBelow(level) => format!("context.clearance < {level}"),
            Self::Admin => "context.admin".to_owned(),
            Self::Group(group) => format!("context.groups.contains(\"{group}\")"),
            Self::Region(region) => format!("context.region == \"{region}\""),
        }
    }
}
