//! Our own engine.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use enforcer_authz::{
    Caller, Condition as Typed, Facts, Methods, Networks, Plan, RoleDefinition, RoleSet, Roles,
    Rule as Compiled, Vocabulary, decide,
};
use enforcer_model::{Claims, CredentialKind, Role, Timestamp, Value};
use http::{HeaderMap, Method};

use super::condition::{Atom, Condition};
use super::{Claim, Effect, NETWORKS, Request, Rule, World};

/// A policy of ours, compiled.
#[derive(Debug)]
pub struct Ours {
    roles: Roles,
    plans: Vec<Plan>,
}

/// A request as the request path hands it over.
#[derive(Debug)]
pub struct Asked {
    route: usize,
    method: Method,
    roles: RoleSet,
    scopes: Vec<Arc<str>>,
    claims: Claims,
    headers: HeaderMap,
    params: [(&'static str, Cow<'static, str>); 1],
    request: Request,
}

impl Ours {
    /// Compiles `world`, which has no errors.
    pub fn new(world: &World) -> Self {
        let roles = Roles::new(world.roles.iter().map(|(name, includes)| RoleDefinition {
            role: Role::new(name),
            includes: includes.iter().map(|name| Role::new(name)).collect(),
            from: Vec::new(),
        }))
        .unwrap_or_default();
        let networks: BTreeMap<Arc<str>, Arc<Networks>> = NETWORKS
            .iter()
            .map(|(name, prefixes)| {
                let prefixes = prefixes.iter().filter_map(|prefix| prefix.parse().ok());
                (Arc::from(*name), Arc::new(Networks::collect(prefixes).0))
            })
            .collect();
        let (windows, issuers) = (BTreeMap::new(), BTreeSet::new());
        let vocabulary = Vocabulary {
            roles: &roles,
            networks: &networks,
            windows: &windows,
            issuers: &issuers,
            has_regions: true,
        };
        let plans = world.routes.iter().map(|rules| plan(rules, &vocabulary)).collect();
        Self { roles, plans }
    }

    /// `request` as the request path hands it over.
    pub fn asked(&self, request: &Request) -> Asked {
        Asked {
            route: request.route,
            method: Method::from_bytes(request.method.as_bytes()).unwrap_or_default(),
            roles: self.roles.closure(request.roles.iter().map(String::as_str)).unwrap_or_default(),
            scopes: request.scopes.iter().map(|scope| Arc::from(*scope)).collect(),
            claims: claims(request),
            headers: HeaderMap::new(),
            params: [("id", Cow::Borrowed(request.param))],
            request: request.clone(),
        }
    }

    /// Whether it is served.
    pub fn allows(&self, asked: &Asked) -> bool {
        let facts = Facts {
            ip: asked.request.ip,
            method: &asked.method,
            host: "api.test",
            path: "/v1",
            params: &asked.params,
            query: &[],
            headers: &asked.headers,
            region: asked.request.region,
            incident: asked.request.incident,
            now: Timestamp::from_unix_seconds(1_800_000_000),
            mtls: asked.request.mtls,
            spiffe: None,
            caller: Some(Caller {
                principal: "token:corp/alice",
                kind: CredentialKind::Token,
                roles: asked.roles,
                scopes: &asked.scopes,
                issuer: Some("corp"),
                application: None,
                owner: None,
                claims: Some(&asked.claims),
                dpop: false,
            }),
        };
        decide(&self.plans[asked.route], &facts).is_ok()
    }
}

fn plan(rules: &[Rule], vocabulary: &Vocabulary<'_>) -> Plan {
    let of = |effect| {
        let mine = rules.iter().filter(move |rule| rule.effect == effect);
        mine.enumerate().map(|(n, rule)| compiled(n, rule, vocabulary)).collect::<Vec<_>>()
    };
    Plan::rules(of(Effect::Allow)).denying(of(Effect::Deny))
}

#[expect(clippy::expect_used, reason = "a world is made of what the language has")]
fn compiled(n: usize, rule: &Rule, vocabulary: &Vocabulary<'_>) -> Compiled {
    let methods = match rule.methods.is_empty() {
        true => Methods::any(),
        false => rule.methods.iter().filter_map(|name| name.parse().ok()).collect(),
    };
    let role = rule.role.as_deref().map(Role::new);
    let when = rule.when.as_ref().map(|when| {
        Typed::parse(&when.ours(), vocabulary, &["id"]).expect("the writer knows the language")
    });
    Compiled::new(&format!("rule[{n}]"), methods, role.as_ref(), when, vocabulary.roles)
        .expect("the world defines its roles")
}

fn claims(request: &Request) -> Claims {
    let text = |text: &&str| Value::Text(Arc::from(*text));
    let mut claims: Vec<(Arc<str>, Value)> = Vec::new();
    let mut add = |name: &str, value: Claim<Value>, odd: Value| match value {
        Claim::Absent => {}
        Claim::Odd => claims.push((name.into(), odd)),
        Claim::Is(value) => claims.push((name.into(), value)),
    };
    add("tenant", request.tenant.map(text), Value::Number(7));
    add("clearance", request.clearance.map(|level| Value::Number(*level)), Value::Text("2".into()));
    add("admin", request.admin.map(|flag| Value::Flag(*flag)), Value::Text("true".into()));
    let list = |groups: &Vec<&str>| Value::List(groups.iter().map(text).collect());
    add("groups", request.groups.map(list), Value::Text("blue".into()));
    claims.into_iter().collect()
}

impl<T> Claim<T> {
    fn map<U>(&self, into: impl FnOnce(&T) -> U) -> Claim<U> {
        match self {
            Self::Absent => Claim::Absent,
            Self::Odd => Claim::Odd,
            Self::Is(value) => Claim::Is(into(value)),
        }
    }
}

impl Condition {
    /// As our policies write it.
    pub fn ours(&self) -> String {
        match self {
            Self::Is(atom) => atom.ours(),
            Self::Not(inner) => format!("!({})", inner.ours()),
            Self::And(left, right) => format!("({} && {})", left.ours(), right.ours()),
            Self::Or(left, right) => format!("({} || {})", left.ours(), right.ours()),
        }
    }
}

impl Atom {
    fn ours(&self) -> String {
        match self {
            Self::Role(role) => format!("\"{role}\" in roles"),
            Self::Scope(scope) => format!("\"{scope}\" in scopes"),
            Self::Network(n) => format!("ip in net.{}", NETWORKS[*n].0),
            Self::Mtls => "mtls".to_owned(),
            Self::IncidentAtLeast(level) => format!("incident >= {level}"),
            Self::Tenant(tenant) => format!("claims.tenant == \"{tenant}\""),
            Self::TenantAmong([one, other]) => {
                format!("claims.tenant in [\"{one}\", \"{other}\"]")
            }
            Self::TenantStarts(start) => format!("claims.tenant.startsWith(\"{start}\")"),
            Self::TenantIsParam => "claims.tenant == param.id".to_owned(),
            Self::HasTenant => "has(claims.tenant)".to_owned(),
            Self::ClearanceBelow(level) => format!("claims.clearance < {level}"),
            Self::Admin => "claims.admin".to_owned(),
            Self::Group(group) => format!("\"{group}\" in claims.groups"),
            Self::Region(region) => format!("region == \"{region}\""),
        }
    }
}
