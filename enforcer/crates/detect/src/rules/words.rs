//! A rule in plain words.

use super::plan::{Field, KeyBy, Pattern, RulePlan, Step, Summed, Threshold, span};
use crate::Mode;

/// What `plan` looks for, by whom it counts, and what follows; one line each.
pub fn words(plan: &RulePlan) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", plan.id, plan.title)];
    if !plan.owasp.is_empty() {
        lines.push(format!("  owasp     {}", plan.owasp.join(", ")));
    }
    lines.push(format!("  severity  {}", plan.severity));
    let events = match &plan.when {
        Some(when) => format!("events of which this is true: {when}"),
        None => "all requests".to_owned(),
    };
    lines.push(format!("  looks at  {events}"));
    lines.push(format!("  finds     {}, by {}", pattern(&plan.pattern), by(plan.key)));
    if let Some(or) = &plan.or_profile {
        let signals =
            if or.signals.is_empty() { "all signals".to_owned() } else { or.signals.join(", ") };
        lines.push(format!("  or        {} bits of surprise of the profile in {signals}", or.bits));
    }
    if let Some(again) = again(&plan.pattern) {
        lines.push(format!("  again     {again}"));
    }
    if plan.silent {
        lines.push("  follows   nothing: it is a step of other rules".to_owned());
        return lines;
    }
    lines.push(format!("  mode      {}", mode(plan.mode)));
    for (n, response) in plan.respond.iter().enumerate() {
        let what = if n == 0 { "follows " } else { "then    " };
        let own = response.mode.filter(|own| *own < plan.mode);
        let own = own.map(|own| format!(" ({})", mode(own))).unwrap_or_default();
        lines.push(format!("  {what}  {} for {}{own}", response.action, span(response.ttl)));
    }
    if let Some(share) = plan.max_share_of_identities {
        lines.push(format!(
            "  limit     at most {}.{} % of the known callers",
            share / 10,
            share % 10
        ));
    }
    lines
}

fn pattern(pattern: &Pattern) -> String {
    match pattern {
        Pattern::EventCount(Threshold { on, within, .. }) => {
            format!("{on} of them within {}", span(*within))
        }
        Pattern::ValueCount(field, Threshold { on, within, .. }) => {
            format!("{on} different {} within {}", Field::plural(*field), span(*within))
        }
        Pattern::ValueSum(summed, Threshold { on, within, .. }) => {
            let what = match summed {
                Summed::BytesIn => "bytes from clients",
                Summed::BytesOut => "bytes to clients",
                Summed::Bytes => "bytes",
                Summed::Secrets => "secrets in answers",
                Summed::Personal => "personal data in answers",
                Summed::Duration => "milliseconds of answering",
            };
            format!("{on} {what} within {}", span(*within))
        }
        Pattern::Ratio { of, threshold, at_least } => format!(
            "a share of {}.{} % of which this is true: {of}; of at least {at_least} within {}",
            threshold.on / 10,
            threshold.on % 10,
            span(threshold.within)
        ),
        Pattern::Temporal { steps, ordered, within } => {
            let steps: Vec<String> = steps
                .iter()
                .map(|step| match step {
                    Step::When(when) => when.text().to_string(),
                    Step::Rule(id) => format!("a finding of `{id}`"),
                })
                .collect();
            let joint = if *ordered { ", then " } else { ", and " };
            format!("within {}: {}", span(*within), steps.join(joint))
        }
    }
}

fn again(pattern: &Pattern) -> Option<String> {
    match pattern {
        Pattern::EventCount(threshold)
        | Pattern::ValueCount(_, threshold)
        | Pattern::ValueSum(_, threshold)
        | Pattern::Ratio { threshold, .. } => Some(format!(
            "once it was below {}, or {} later",
            match pattern {
                Pattern::Ratio { .. } => format!("{}.{} %", threshold.off / 10, threshold.off % 10),
                Pattern::EventCount(_)
                | Pattern::ValueCount(..)
                | Pattern::ValueSum(..)
                | Pattern::Temporal { .. } => threshold.off.to_string(),
            },
            span(threshold.within)
        )),
        Pattern::Temporal { .. } => None,
    }
}

/// By whom it counts.
const fn by(key: KeyBy) -> &'static str {
    match key {
        KeyBy::Identity => "caller",
        KeyBy::Source => "address (IPv6: /64)",
        KeyBy::Network => "network (/24, IPv6: /48)",
        KeyBy::Credential => "credential",
        KeyBy::Ja4 => "TLS client",
        KeyBy::Route => "route",
        KeyBy::Upstream => "host of an upstream",
        KeyBy::Everyone => "all together",
    }
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe: only recorded",
        Mode::Approve => "approve: an operator is asked",
        Mode::Auto => "auto: done unasked",
    }
}
