//! `enforcer policy explain`: what a policy answers to one request, and why.

use std::path::PathBuf;

use clap::Args;
use enforcer_authz::{RuleTrace, Seen, Trace, Tri};
use enforcer_model::{Clock, SystemClock};
use enforcer_policy::Policy;
use enforcer_policy::trial::{Judgement, Request, Verdict, judge};
use serde_json::{Value, json};

use super::understood;
use crate::cli::audit::Place;
use crate::cli::{Context, Exit, Failure};

/// What a policy answers to one request, and why: every rule with what it saw
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// `GET api.example.com/v1/orders as reader from 203.0.113.9`
    #[arg(required_unless_present = "audit", conflicts_with = "audit")]
    request: Option<String>,
    /// Ask again what audit record N was about
    #[arg(long, value_name = "N")]
    audit: Option<u64>,
    /// The policy file; the one in use by default
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl Explain {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let file = self.file.clone().unwrap_or_else(|| context.policy_file());
        if let Some(index) = self.audit {
            return super::replay::explain(context, &self.place, index, Some(&file));
        }
        let text = self.request.as_deref().unwrap_or_default();
        let request: Request =
            text.parse().map_err(|error: enforcer_policy::trial::SentenceError| {
                Failure::usage(error.to_string())
            })?;
        let policy = understood(context, &file)?;
        let now = SystemClock.now().wall;
        let judgement = judge(&policy, &request, Some(now))
            .map_err(|ambiguous| Failure::failed(ambiguous.to_string()).hint(ambiguous.hint))?;
        let lines = told(&policy, &judgement);
        context.printer.item(&document(&policy, &request, &judgement), &lines)?;
        Ok(Exit::Done)
    }
}

/// The judgement in lines, for people.
pub(super) fn told(policy: &Policy, judgement: &Judgement) -> Vec<String> {
    let Judgement { host, path, route, principal, kind, roles, verdict, .. } = judgement;
    let target = match (host, path) {
        (Some(host), Some(path)) => format!("{host}{path}"),
        (_, _) => "none: the head is refused".to_owned(),
    };
    let roles: Vec<&str> = roles.iter().map(enforcer_model::Role::as_str).collect();
    let caller = match (principal, kind) {
        (Some(principal), Some(kind)) => format!("{principal} ({})", kind_name(*kind)),
        (_, _) => "nobody".to_owned(),
    };
    let mut lines = vec![
        format!("answer    {verdict}"),
        format!("path      {target}"),
        format!("route     {}", route.as_deref().unwrap_or("none")),
        format!("caller    {caller}"),
        format!(
            "roles     {}",
            if roles.is_empty() { "none".to_owned() } else { roles.join(", ") }
        ),
        format!(
            "seen      from {} at {:.0} region {} incident {}",
            judgement.address,
            judgement.at,
            judgement.region.as_deref().unwrap_or("unknown"),
            judgement.incident
        ),
    ];
    lines.extend(judgement.assumed.iter().map(|note| format!("assumed   {note}")));
    for trace in &judgement.traces {
        lines.extend(trace.deny.iter().flat_map(|rule| rule_lines("deny", rule)));
        lines.extend(trace.allow.iter().flat_map(|rule| rule_lines("allow", rule)));
    }
    if verdict.is_allowed() {
        let charges: Vec<String> = judgement
            .charges
            .iter()
            .map(|charge| match charge.when {
                Tri::Unknown => format!("{} (its condition is unknown)", charge.limit),
                Tri::True | Tri::False => charge.limit.to_string(),
            })
            .collect();
        let charges = if charges.is_empty() { "nothing".to_owned() } else { charges.join(", ") };
        lines.push(format!("charges   {charges}"));
    }
    if let Verdict::Refused { reason, .. } = verdict {
        lines.push(format!("status    {} {reason}: {}", reason.status(), reason.meaning()));
    }
    lines.push(format!("policy    {} sha256 {}", policy.file().display(), policy.sha256()));
    lines
}

fn rule_lines(effect: &str, rule: &RuleTrace) -> Vec<String> {
    let said = |holds: bool| if holds { "true" } else { "false" };
    let mut parts = vec![format!("method {}", said(rule.method))];
    parts.extend(rule.role.map(|role| format!("role {}", said(role))));
    parts.extend(rule.when.map(|when| format!("when {when}")));
    let mut lines =
        vec![format!("{effect:<9} {} {}: {}", rule.rule, rule.matches, parts.join(", "))];
    for Seen { test, holds, values } in &rule.tests {
        let values: Vec<String> = values
            .iter()
            .map(|(name, value)| match value {
                Some(value) => format!("{name} is {value}"),
                None => format!("{name} is unknown"),
            })
            .collect();
        let saw =
            if values.is_empty() { String::new() } else { format!("  ({})", values.join(", ")) };
        lines.push(format!("            {holds:<7} {test}{saw}"));
    }
    lines
}

/// The judgement, for programs.
pub(super) fn document(policy: &Policy, request: &Request, judgement: &Judgement) -> Value {
    let Judgement { host, path, route, principal, roles, .. } = judgement;
    let (rule, reason, cause) = match &judgement.verdict {
        Verdict::Allowed { rule } => (Some(rule.to_string()), None, None),
        Verdict::Refused { reason, cause, rule } => {
            (rule.as_ref().map(ToString::to_string), Some(reason.as_str()), Some(cause))
        }
    };
    json!({
        "request": request.to_string(),
        "host": host,
        "path": path,
        "route": route,
        "principal": principal,
        "kind": judgement.kind.map(kind_name),
        "roles": roles,
        "address": judgement.address,
        "region": judgement.region,
        "incident": judgement.incident,
        "at": judgement.at,
        "assumed": judgement.assumed,
        "allowed": judgement.verdict.is_allowed(),
        "answer": judgement.verdict.to_string(),
        "status": judgement.verdict.status(),
        "rule": rule,
        "reason": reason,
        "cause": cause,
        "rules": judgement.traces.iter().flat_map(rules).collect::<Vec<_>>(),
        "charges": judgement.charges.iter().map(|charge| charge.limit.to_string()).collect::<Vec<_>>(),
        "policy": { "file": policy.file(), "sha256": &**policy.sha256() },
    })
}

fn rules(trace: &Trace) -> Vec<Value> {
    let each = |effect: &'static str, rules: &[RuleTrace]| -> Vec<Value> {
        let document = |rule: &RuleTrace| {
            let tests = rule.tests.iter().map(|seen| {
                let values = seen.values.iter().cloned();
                json!({
                    "test": seen.test,
                    "holds": seen.holds.to_string(),
                    "saw": values.collect::<std::collections::BTreeMap<_, _>>(),
                })
            });
            json!({
                "rule": &*rule.rule,
                "effect": effect,
                "matches": rule.matches.to_string(),
                "method": rule.method,
                "role": rule.role,
                "when": rule.when.map(|when| when.to_string()),
                "tests": tests.collect::<Vec<_>>(),
            })
        };
        rules.iter().map(document).collect()
    };
    [each("deny", &trace.deny), each("allow", &trace.allow)].concat()
}

const fn kind_name(kind: enforcer_model::CredentialKind) -> &'static str {
    match kind {
        enforcer_model::CredentialKind::ApiKey => "API key",
        enforcer_model::CredentialKind::Certificate => "certificate",
        enforcer_model::CredentialKind::Token => "token",
    }
}
