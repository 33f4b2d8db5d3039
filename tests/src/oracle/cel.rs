//! CEL: an expression for each route, over a context that is filled for each request.
//!
//! Each route becomes one expression, and roles are looked up in a list that is closed over
//! inclusion beforehand, as CEL has no notion of either.

use std::fmt;

use anyhow::{Result, anyhow};
use cel::{Context, Program, Value};

use super::condition::{Atom, Condition};
use super::{Claim, Effect, NETWORKS, Request, Rule, World};

/// A policy as expressions of CEL.
#[derive(Debug)]
pub struct CelPolicies {
    routes: Vec<Program>,
    /// Each role with all that it includes.
    closed: Vec<(String, Vec<String>)>,
}

/// A request as CEL is asked about it.
pub struct CelRequest {
    route: usize,
    context: Context<'static, 'static>,
}

impl CelPolicies {
    /// Translates `world`.
    pub fn new(world: &World) -> Result<Self> {
        let routes = world.routes.iter().map(|rules| {
            let text = route(rules);
            Program::compile(&text).map_err(|error| anyhow!("{error}: {text}"))
        });
        let routes: Result<Vec<Program>> = routes.collect();
        Ok(Self { routes: routes?, closed: closed(world) })
    }

    /// `request` as CEL is asked about it.
    pub fn asked(&self, request: &Request) -> Result<CelRequest> {
        let mut context = Context::default();
        let mut set =
            |name: &str, value: Value| context.add_variable_from_value(name.to_owned(), value);
        let text = |text: &str| Value::from(text.to_owned());
        let held: Vec<Value> = self
            .closed
            .iter()
            .filter(|(name, _)| request.roles.contains(name))
            .flat_map(|(name, includes)| includes.iter().chain([name]))
            .map(|name| text(name))
            .collect();
        set("roles", held.into());
        let scopes: Vec<Value> = request.scopes.iter().map(|scope| text(scope)).collect();
        set("scopes", scopes.into());
        set("method", text(request.method));
        // CEL has no addresses: which networks hold this one is found beforehand.
        for (name, prefixes) in NETWORKS {
            let mut prefixes =
                prefixes.iter().filter_map(|p| p.parse::<enforcer_model::Prefix>().ok());
            set(name, prefixes.any(|prefix| prefix.contains(request.ip)).into());
        }
        set("mtls", request.mtls.into());
        set("incident", i64::from(request.incident).into());
        set("param", text(request.param));
        set("has_tenant", request.tenant.is_there().into());
        set("known_tenant", request.tenant.value().is_some().into());
        set("tenant", text(request.tenant.value().copied().unwrap_or_default()));
        set("known_clearance", request.clearance.value().is_some().into());
        set("clearance", request.clearance.value().copied().unwrap_or_default().into());
        set("known_admin", request.admin.value().is_some().into());
        set("admin", request.admin.value().copied().unwrap_or_default().into());
        let groups = match &request.groups {
            Claim::Is(groups) => groups.iter().map(|group| text(group)).collect(),
            Claim::Absent | Claim::Odd => Vec::new(),
        };
        set("known_groups", request.groups.value().is_some().into());
        set("groups", groups.into());
        set("known_region", request.region.is_some().into());
        set("region", text(request.region.unwrap_or_default()));
        Ok(CelRequest { route: request.route, context })
    }

    /// Whether it is served.
    pub fn allows(&self, asked: &CelRequest) -> bool {
        matches!(self.routes[asked.route].execute(&asked.context), Ok(Value::Bool(true)))
    }
}

impl fmt::Debug for CelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CelRequest").field("route", &self.route).finish_non_exhaustive()
    }
}

fn closed(world: &World) -> Vec<(String, Vec<String>)> {
    let mut closed: Vec<(String, Vec<String>)> = Vec::new();
    // Whoever is included stands behind, so from the end all are known when they are needed.
    for (name, includes) in world.roles.iter().rev() {
        let mut all = includes.clone();
        for (inner, more) in &closed {
            if includes.contains(inner) {
                all.extend(more.iter().cloned());
            }
        }
        closed.push((name.clone(), all));
    }
    closed
}

fn route(rules: &[Rule]) -> String {
    let any = |effect: Effect| {
        let mine = rules.iter().filter(|rule| rule.effect == effect).map(applies);
        let mine: Vec<String> = mine.collect();
        if mine.is_empty() { "false".to_owned() } else { mine.join(" || ") }
    };
    format!("!({}) && ({})", any(Effect::Deny), any(Effect::Allow))
}

fn applies(rule: &Rule) -> String {
    let mut parts = Vec::new();
    if !rule.methods.is_empty() {
        let listed: Vec<String> = rule.methods.iter().map(|name| format!("\"{name}\"")).collect();
        parts.push(format!("method in [{}]", listed.join(", ")));
    }
    parts.extend(rule.role.as_ref().map(|role| format!("\"{role}\" in roles")));
    parts.extend(rule.when.as_ref().map(|when| match rule.effect {
        Effect::Allow => when.cel(true),
        Effect::Deny => format!("!({})", when.cel(false)),
    }));
    if parts.is_empty() { "true".to_owned() } else { format!("({})", parts.join(" && ")) }
}

impl Condition {
    fn cel(&self, holds: bool) -> String {
        let (left, joined, right) = match (self, holds) {
            (Self::Is(atom), _) => return atom.cel(holds),
            (Self::Not(inner), _) => return inner.cel(!holds),
            (Self::And(left, right), true) => (left, "&&", right),
            (Self::And(left, right), false) => (left, "||", right),
            (Self::Or(left, right), true) => (left, "||", right),
            (Self::Or(left, right), false) => (left, "&&", right),
        };
        format!("({} {joined} {})", left.cel(holds), right.cel(holds))
    }
}

impl Atom {
    fn cel(&self, holds: bool) -> String {
        let (known, question) = match self {
            Self::Role(role) => (None, format!("\"{role}\" in roles")),
            Self::Scope(scope) => (None, format!("\"{scope}\" in scopes")),
            Self::Network(n) => (None, NETWORKS[*n].0.to_owned()),
            Self::Mtls => (None, "mtls".to_owned()),
            Self::IncidentAtLeast(level) => (None, format!("incident >= {level}")),
            Self::Tenant(tenant) => (Some("tenant"), format!("tenant == \"{tenant}\"")),
            Self::TenantAmong([one, other]) => {
                (Some("tenant"), format!("tenant in [\"{one}\", \"{other}\"]"))
            }
            Self::TenantStarts(start) => {
                (Some("tenant"), format!("tenant.startsWith(\"{start}\")"))
            }
            Self::TenantIsParam => (Some("tenant"), "tenant == param".to_owned()),
            Self::HasTenant => (None, "has_tenant".to_owned()),
            Self::ClearanceBelow(level) => (Some("clearance"), format!("clearance < {level}")),
            Self::Admin => (Some("admin"), "admin".to_owned()),
            Self::Group(group) => (Some("groups"), format!("\"{group}\" in groups")),
            Self::Region(region) => (Some("region"), format!("region == \"{region}\"")),
        };
        let answered = if holds { format!("({question})") } else { format!("!({question})") };
        match known {
            Some(name) => format!("(known_{name} && {answered})"),
            None => answered,
        }
    }
}
