//! A key in words.

use enforcer_admin::call::{Key, KeyIssued, KeyRehearsed, KeySecret};

use super::super::{Context, Exit, Failure, recorded};

/// A key, a line for each thing that there is to say of it.
pub(super) fn lines(key: &Key) -> Vec<String> {
    let mut lines = vec![format!("key:{}  {}  {}", key.id, key.name, key.state)];
    let mut line = |what: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("  {what:<9} {text}"));
        }
    };
    line("owner", key.owner.clone().unwrap_or_default());
    line("app", key.application.clone().unwrap_or_default());
    line("roles", joined(&key.roles));
    line("scopes", joined(&key.scopes));
    line("routes", joined(&key.routes));
    line("networks", joined(&key.networks));
    line("cert", key.certificate.map(|print| print.to_string()).unwrap_or_default());
    line("limits", joined(&key.limits));
    line("created", key.created.to_string());
    line("from", key.not_before.map(|at| at.to_string()).unwrap_or_default());
    line("expires", key.expires.map(|at| at.to_string()).unwrap_or_default());
    if let Some(at) = key.revoked {
        let why = key.revoked_because.as_deref().unwrap_or("no reason given");
        line("revoked", format!("{at}: {why}"));
    }
    line("notes", key.notes.clone());
    for each in &key.secrets {
        line("secret", secret(each));
    }
    if let Some(since) = key.rotation_due {
        lines.push(format!("  its rotation is due since {since}: enforcer keys rotate {}", key.id));
    }
    let unknown = [
        ("role", joined(&key.unknown_roles), "it opens nothing"),
        ("route", joined(&key.unknown_routes), "it opens nothing"),
        ("limit", joined(&key.unknown_limits), "it limits nothing"),
    ];
    for (what, names, so) in unknown {
        if !names.is_empty() {
            lines.push(format!("  the policy in force knows no {what} {names}: {so}"));
        }
    }
    lines
}

fn secret(secret: &KeySecret) -> String {
    let KeySecret { number, state, form, created, ends, last_used, last_address } = secret;
    let mut text = format!("{number} {state}, made {created}");
    if form == "imported" {
        text.push_str(" elsewhere");
    }
    match (state.as_str(), ends) {
        ("ended", Some(end)) => text.push_str(&format!(", ended {end}")),
        (_, Some(end)) => text.push_str(&format!(", ends {end}")),
        (_, None) => {}
    }
    match (last_used, last_address) {
        (Some(at), Some(from)) => text.push_str(&format!(", last used {at} from {from}")),
        _ => text.push_str(", never used"),
    }
    text
}

/// Shows a fresh credential: alone on stdout, so that `$(enforcer keys issue …)` is the key.
pub(super) fn show_credential(
    context: &Context,
    issued: &KeyIssued,
    more: Vec<String>,
) -> Result<Exit, Failure> {
    if context.printer.is_for_programs() {
        context.printer.item(issued, &[])?;
        return Ok(Exit::Done);
    }
    let mut lines = lines(&issued.key);
    lines.push(format!("  audit     {}", recorded(issued.audit)));
    lines.extend(more);
    lines.push("the key is shown this once; keep it where secrets are kept:".to_owned());
    for line in lines {
        context.printer.say(&line);
    }
    context.printer.data(&issued.credential)?;
    Ok(Exit::Done)
}

/// What would have been done.
pub(super) fn rehearsed(context: &Context, rehearsed: &KeyRehearsed) -> Result<Exit, Failure> {
    let mut told = vec![format!("dry run: {}", rehearsed.would)];
    told.extend(rehearsed.key.iter().flat_map(lines));
    context.printer.item(rehearsed, &told)?;
    Ok(Exit::Done)
}

pub(super) fn joined(things: &[impl ToString]) -> String {
    things.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn or_none(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}
