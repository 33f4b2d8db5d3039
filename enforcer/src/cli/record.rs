//! One audit record as one line for people.

use enforcer_audit::Stored;
use serde_json::Value;

/// Number, time, class, and what it says, with a stranger's words as they are: not for a terminal
/// before they are escaped.
pub(crate) fn told(record: &Stored) -> String {
    let Ok(json) = record.json() else {
        return format!("#{} is not readable", record.index);
    };
    let class = text(&json, "/class");
    let what = match class.as_str() {
        "http" => http(&json),
        "admin" => admin(&json),
        "block" => block(&json),
        "config" => config(&json),
        "finding" if optional(&json, "/body/finding").is_some() => found(&json),
        "finding" => finding(&json),
        "incident" => incident(&json),
        "decision" => decision(&json),
        "kernel-summary" => kernel_summary(&json),
        "endpoint" => endpoint(&json),
        "upstream" => upstream(&json),
        "certificate" => certificate(&json),
        "cache" => cache(&json),
        "gap" => gap(&json),
        _ => json.pointer("/body").map(ToString::to_string).unwrap_or_default(),
    };
    format!("#{:<7} {}  {class:<14} {what}", record.index, text(&json, "/time"))
}

fn http(json: &Value) -> String {
    let reason = optional(json, "/body/reason").map_or_else(String::new, |why| format!(" {why}"));
    let who = optional(json, "/body/who/principal").unwrap_or_else(|| "-".to_owned());
    let route = optional(json, "/body/route").unwrap_or_else(|| "-".to_owned());
    format!(
        "{}{reason}  {} {}{}  from {}  as {who}  route {route}  {} us",
        number(json, "/body/status"),
        text(json, "/body/method"),
        text(json, "/body/host"),
        text(json, "/body/path"),
        from(json),
        number(json, "/body/duration_us"),
    )
}

/// The peer, and whom it named as the one behind it.
fn from(json: &Value) -> String {
    let peer = text(json, "/body/peer");
    match optional(json, "/body/source") {
        Some(source) => format!("{source} through {peer}"),
        None => peer,
    }
}

fn admin(json: &Value) -> String {
    let arguments = json.pointer("/body/arguments").and_then(Value::as_array);
    let arguments: Vec<_> = arguments.into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "{} {} {}: {}{}",
        author(json, "/body/operator"),
        text(json, "/body/verb"),
        arguments.join(" "),
        text(json, "/body/outcome"),
        detail(json),
    )
}

fn block(json: &Value) -> String {
    format!(
        "{} {} {} by {} until {}: {}{}",
        text(json, "/body/what"),
        text(json, "/body/block/id"),
        text(json, "/body/block/target"),
        author(json, "/body/block/author"),
        text(json, "/body/block/until"),
        text(json, "/body/block/reason"),
        detail(json),
    )
}

fn config(json: &Value) -> String {
    let policy = text(json, "/body/policy");
    let short = policy.get(..12).unwrap_or(&policy);
    format!("{} policy {short}{}", text(json, "/body/what"), detail(json))
}

fn finding(json: &Value) -> String {
    let block = optional(json, "/body/block").unwrap_or_else(|| "no block".to_owned());
    format!(
        "{} {} {}: {block}{}",
        text(json, "/body/rule"),
        text(json, "/body/target"),
        text(json, "/body/mode"),
        detail(json),
    )
}

fn found(json: &Value) -> String {
    let signals = json.pointer("/body/signals").and_then(Value::as_array);
    let signals: Vec<_> = signals.into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "{} {} {} {}: {}",
        text(json, "/body/incident"),
        text(json, "/body/finding"),
        text(json, "/body/rule"),
        whom(json),
        signals.join("; "),
    )
}

fn incident(json: &Value) -> String {
    format!(
        "{} {} by {}: {}{}",
        text(json, "/body/what"),
        text(json, "/body/incident"),
        author(json, "/body/author"),
        text(json, "/body/title"),
        because(json, "/body/reason"),
    )
}

fn decision(json: &Value) -> String {
    format!(
        "{} {} {} {} {} by {} until {}{}",
        text(json, "/body/what"),
        text(json, "/body/incident"),
        text(json, "/body/decision"),
        text(json, "/body/action"),
        whom(json),
        author(json, "/body/author"),
        text(json, "/body/until"),
        detail(json),
    )
}

/// Whom a finding or a decision is about.
fn whom(json: &Value) -> String {
    let pointer = match text(json, "/body/about").as_str() {
        "source" => "/body/target",
        "identity" => "/body/who/principal",
        "credential" => "/body/credential",
        "ja4" => "/body/ja4",
        "route" => "/body/route",
        "upstream" => "/body/upstream",
        _ => return "everyone".to_owned(),
    };
    format!("{}:{}", text(json, "/body/about"), text(json, pointer))
}

fn kernel_summary(json: &Value) -> String {
    let counts = json.pointer("/body/counts").and_then(Value::as_array);
    let counts = counts.into_iter().flatten().map(|count| {
        let (verdict, reason) = (text(count, "/verdict"), text(count, "/reason"));
        format!("{verdict} {reason}: {} packets", number(count, "/packets"))
    });
    counts.collect::<Vec<_>>().join(", ")
}

fn endpoint(json: &Value) -> String {
    format!(
        "{} {} {} by {}{}{}",
        text(json, "/body/what"),
        text(json, "/body/id"),
        text(json, "/body/endpoint"),
        author(json, "/body/author"),
        step(json),
        because(json, "/body/reason"),
    )
}

fn upstream(json: &Value) -> String {
    let host = optional(json, "/body/host").map_or_else(String::new, |host| format!("/{host}"));
    format!(
        "{} {}{host} by {}{}{}{}",
        text(json, "/body/what"),
        text(json, "/body/upstream"),
        author(json, "/body/author"),
        step(json),
        because(json, "/body/reason"),
        because(json, "/body/cause"),
    )
}

fn certificate(json: &Value) -> String {
    let names = json.pointer("/body/names").and_then(Value::as_array);
    let names: Vec<_> = names.into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "{} {} {} by {}{}",
        text(json, "/body/what"),
        text(json, "/body/listener"),
        names.join(","),
        author(json, "/body/author"),
        because(json, "/body/cause"),
    )
}

fn cache(json: &Value) -> String {
    format!(
        "purged {}: {} entries by {}{}",
        text(json, "/body/purged"),
        number(json, "/body/entries"),
        author(json, "/body/author"),
        because(json, "/body/reason"),
    )
}

/// From what it was to what it is.
fn step(json: &Value) -> String {
    let side = |path: &str| optional(json, path).unwrap_or_else(|| "-".to_owned());
    format!(": {} to {}", side("/body/before"), side("/body/after"))
}

fn because(json: &Value, pointer: &str) -> String {
    optional(json, pointer).map_or_else(String::new, |why| format!(" ({why})"))
}

fn gap(json: &Value) -> String {
    let (records, why) = (number(json, "/body/records"), text(json, "/body/why"));
    format!("{records} records are missing here: {why}")
}

fn detail(json: &Value) -> String {
    optional(json, "/body/detail").map_or_else(String::new, |detail| format!(" ({detail})"))
}

fn author(json: &Value, pointer: &str) -> String {
    let by = json.pointer(pointer);
    let named = |path| by.and_then(|by| by.pointer(path)).and_then(Value::as_str);
    if let Some(name) = named("/operator/name") {
        return format!("operator {name}");
    }
    if let Some(rule) = named("/rule") {
        return format!("rule {rule}");
    }
    "the agent".to_owned()
}

fn optional(json: &Value, pointer: &str) -> Option<String> {
    json.pointer(pointer)?.as_str().map(str::to_owned)
}

fn text(json: &Value, pointer: &str) -> String {
    optional(json, pointer).unwrap_or_default()
}

fn number(json: &Value, pointer: &str) -> u64 {
    json.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::escape::escaped;
    use super::*;

    #[test]
    fn what_a_client_wrote_cannot_steer_a_terminal() {
        let record = Stored::new(
            7,
            r#"{"class":"http","time":"T","body":{"method":"GE\u001b[31mT\n","status":400}}"#,
        );

        let line = escaped(&told(&record));

        assert!(!line.contains('\u{1b}') && !line.contains('\n'), "{line:?}");
        assert!(line.contains("GE\\u{1b}[31mT\\n"), "{line:?}");
    }
}
