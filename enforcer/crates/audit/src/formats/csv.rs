//! Comma-separated values (RFC 4180).
//!
//! A cell that a spreadsheet would take for a formula begins with an apostrophe.

use super::fields::Fields;

/// The columns, in order.
pub const COLUMNS: &[&str] = &[
    "index",
    "time",
    "class",
    "what",
    "outcome",
    "status",
    "reason",
    "rule",
    "method",
    "host",
    "path",
    "route",
    "source",
    "peer",
    "principal",
    "key",
    "credential",
    "target",
    "block",
    "author",
    "verb",
    "arguments",
    "bytes_in",
    "bytes_out",
    "duration_us",
    "request",
    "policy",
    "detail",
    "record",
];

pub(super) fn line(record: &Fields<'_>) -> String {
    let number = |name| record.number(name).map(|number| number.to_string()).unwrap_or_default();
    let either = |one, other| record.some(one).unwrap_or_else(|| record.text(other)).to_owned();
    let is_request = record.class() == "http";
    let cells = [
        record.index.to_string(),
        record.envelope("time").to_owned(),
        record.class().to_owned(),
        record.text("what").to_owned(),
        record.text("outcome").to_owned(),
        number("status"),
        either("reason", "block/reason"),
        record.text("rule").to_owned(),
        record.text("method").to_owned(),
        record.text("host").to_owned(),
        record.text("path").to_owned(),
        record.text("route").to_owned(),
        record.text("source").to_owned(),
        record.text("peer").to_owned(),
        record.text("who/principal").to_owned(),
        record.text("who/key").to_owned(),
        record.text("credential").to_owned(),
        either("target", "block/target"),
        either("block/id", "block"),
        if is_request { String::new() } else { record.author() },
        record.text("verb").to_owned(),
        record.list("arguments").join(" "),
        number("bytes_in"),
        number("bytes_out"),
        number("duration_us"),
        if is_request { record.text("id").to_owned() } else { String::new() },
        record.text("policy").to_owned(),
        either("detail", "cause"),
        record.text.to_owned(),
    ];
    row(&cells)
}

/// One row with its line end.
pub(super) fn row(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| quoted(cell.as_ref())).collect();
    format!("{}\r\n", cells.join(","))
}

fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let guard = if is_formula { "'" } else { "" };
    if is_formula || cell.contains(['"', ',', '\r', '\n']) {
        return format!("\"{guard}{}\"", cell.replace('"', "\"\""));
    }
    cell.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_and_formulas_are_disarmed() {
        assert_eq!(
            row(&["plain", "a,b", "a\"b", "a\nb", ""]),
            "plain,\"a,b\",\"a\"\"b\",\"a\nb\",\r\n"
        );
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert_eq!(row(&[formula]), format!("\"'{formula}\"\r\n"));
        }
    }
}
