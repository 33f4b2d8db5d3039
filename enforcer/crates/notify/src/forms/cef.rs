//! The Common Event Format: `CEF:0|vendor|product|version|id|name|severity|extension`.

use enforcer_model::Timestamp;

use super::syslog::{Field, cut_bytes, one_line};
use crate::Severity;

/// Bytes of one value.
const VALUE_MAX: usize = 256;

/// The event, within `room` bytes.
pub(crate) fn event(
    id: &str,
    severity: Severity,
    at: Timestamp,
    host: &str,
    fields: &[Field<'_>],
    title: &str,
    room: usize,
) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let severity = match severity {
        Severity::Critical => 10,
        Severity::Error => 8,
        Severity::Warning => 5,
        Severity::Info => 2,
    };
    let mut text = format!(
        "CEF:0|enforcer|enforcer|{version}|{}|{}|{severity}|",
        header(id),
        header(cut_bytes(title, 512))
    );
    let milliseconds = (at.unix_ns() / 1_000_000).to_string();
    let mut pairs = vec![("rt", milliseconds), ("dvchost", host.to_owned())];
    // Custom strings have six places, each with its label.
    let mut custom = 1..=6;
    let mut labelled = Vec::new();
    for (name, value) in fields {
        match *name {
            "incident" => pairs.push(("externalId", (*value).to_owned())),
            "text" => pairs.push(("msg", (*value).to_owned())),
            "count" => pairs.push(("cnt", (*value).to_owned())),
            "severity" => {}
            "about" => {
                if let Some(source) = value.strip_prefix("source:") {
                    pairs.push(("src", source.split('/').next().unwrap_or(source).to_owned()));
                }
                if let Some(identity) = value.strip_prefix("identity:") {
                    pairs.push(("suser", identity.to_owned()));
                }
                labelled.extend(custom.next().map(|place| (place, "about", *value)));
            }
            name => labelled.extend(custom.next().map(|place| (place, name, *value))),
        }
    }
    let labelled = labelled.into_iter().flat_map(|(place, name, value)| {
        [(format!("cs{place}Label"), name.to_owned()), (format!("cs{place}"), value.to_owned())]
    });
    let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(labelled);
    for (number, (name, value)) in pairs.enumerate() {
        let blank = if number == 0 { "" } else { " " };
        let pair = format!("{blank}{name}={}", extension(cut_bytes(&value, VALUE_MAX)));
        if text.len() + pair.len() > room {
            break;
        }
        text.push_str(&pair);
    }
    text
}

/// A bar and a backslash would end the field; a line end the event.
fn header(text: &str) -> String {
    one_line(text).replace('\\', "\\\\").replace('|', "\\|")
}

/// An equals sign would begin another pair; a line end is written as `\n`.
fn extension(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('=', "\\=");
    one_line(&escaped.replace("\r\n", "\\n").replace(['\n', '\r'], "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms::tests::at;

    #[test]
    fn fields_and_extensions_are_escaped_each_by_its_own_rule() {
        let fields = [
            ("severity", "error"),
            ("incident", "INC-0042"),
            ("about", "source:192.0.2.0/24"),
            ("text", "a=b\\c\nd|e"),
            ("rule", "bola"),
        ];
        let told =
            event("finding", Severity::Error, at(0), "edge-1", &fields, "a|b\\c=d\ne", 2_000);

        let version = env!("CARGO_PKG_VERSION");
        let head = format!("CEF:0|enforcer|enforcer|{version}|finding|a\\|b\\\\c=d e|8|");
        let rest = told.strip_prefix(&head).unwrap_or_else(|| panic!("{told}"));
        assert_eq!(
            rest,
            "rt=1795000000000 dvchost=edge-1 externalId=INC-0042 src=192.0.2.0 \
             msg=a\\=b\\\\c\\nd|e cs1Label=about cs1=source:192.0.2.0/24 cs2Label=rule cs2=bola"
        );
    }

    #[test]
    fn a_pair_that_has_no_room_is_left_out_whole() {
        let long = "x".repeat(200);
        let fields = [("rule", long.as_str()), ("route", long.as_str())];
        let told = event("finding", Severity::Info, at(0), "edge-1", &fields, "title", 350);

        assert!(told.len() <= 350 && told.contains("cs1=x") && !told.contains("cs2="), "{told}");
    }
}
