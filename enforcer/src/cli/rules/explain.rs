//! `enforcer rules explain`: a rule in plain words.

use std::sync::Arc;

use clap::Args;
use enforcer_detect::Response;
use enforcer_detect::rules::{RulePlan, words};
use serde_json::json;

use super::named;
use crate::cli::{Context, Exit, Failure};

/// What a rule looks for, by whom it counts, and what follows
#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The id of a rule in use, or a file of rules
    #[arg(value_name = "RULE|FILE")]
    rule: String,
}

impl Explain {
    pub(super) fn execute(&self, context: &Context) -> Result<Exit, Failure> {
        let (plans, ids) = named(context, &self.rule)?;
        let chosen: Vec<&Arc<RulePlan>> =
            plans.iter().filter(|plan| ids.contains(&plan.id)).collect();
        let mut lines = Vec::new();
        for (n, plan) in chosen.iter().enumerate() {
            if n > 0 {
                lines.push(String::new());
            }
            lines.extend(words(plan));
        }
        let values: Vec<_> = chosen
            .iter()
            .map(|plan| {
                json!({
                    "id": plan.id,
                    "title": plan.title,
                    "owasp": plan.owasp,
                    "severity": plan.severity,
                    "mode": plan.mode,
                    "key": plan.key.to_string(),
                    "when": plan.when.as_ref().map(|when| when.text().to_string()),
                    "within_seconds": plan.within().as_secs(),
                    "silent": plan.silent,
                    "respond": plan.respond.iter().map(response).collect::<Vec<_>>(),
                    "words": words(plan),
                })
            })
            .collect();
        context.printer.item(&values, &lines)?;
        Ok(Exit::Done)
    }
}

fn response(response: &Response) -> serde_json::Value {
    json!({
        "action": response.action,
        "ttl_seconds": response.ttl.as_secs(),
        "mode": response.mode,
    })
}
