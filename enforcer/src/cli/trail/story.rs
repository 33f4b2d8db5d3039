//! What a trail comes to, for whoever has to say what was done with a leaked token.

use enforcer_audit::Selector;
use serde::{Serialize, Serializer};

use super::links::Link;
use crate::cli::bytes;
use crate::cli::record::told;
use crate::cli::tally::{Count, Counts, Tally};

/// Things of one kind that are printed for people; programs get all.
const LINES_MAX: usize = 40;

/// A trail, told.
pub(super) struct Story<'a> {
    pub(super) who: &'a Selector,
    pub(super) tally: &'a Tally,
    pub(super) links: &'a [Link],
}

impl Story<'_> {
    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { who, tally, links } = self;
        let mut lines = vec![format!("{who}: {} records", tally.records)];
        for (what, mark) in [("first", &tally.first), ("last", &tally.last)] {
            if let Some(mark) = mark {
                lines.push(format!("  {what:<9} {}  #{}", mark.time, mark.record));
            }
        }
        if tally.requests > 0 {
            lines.push(format!(
                "  requests  {}: {} served, {} refused",
                tally.requests, tally.served, tally.refused
            ));
            lines.push(format!(
                "  volume    {} in, {} out",
                bytes(tally.bytes_in),
                bytes(tally.bytes_out)
            ));
            let latency = &tally.latency_us;
            lines.push(format!(
                "  latency   median {} us, 95 % within {} us, at most {} us",
                latency.quantile(500),
                latency.quantile(950),
                latency.most()
            ));
        }
        section(&mut lines, "addresses", &tally.addresses);
        section(&mut lines, "routes", &tally.routes);
        section(&mut lines, "callers", &tally.callers);
        section(&mut lines, "tokens", &tally.tokens);
        section(&mut lines, "credentials", &tally.credentials);
        section(&mut lines, "refused for", &tally.reasons);
        section(&mut lines, "decisions", &tally.decisions);
        if !links.is_empty() {
            lines.push("  what followed".to_owned());
            for link in links.iter().take(LINES_MAX) {
                lines.push(format!("    by {:<8} {}", link.by, told(&link.record)));
            }
            more(&mut lines, links.len());
        }
        lines
    }
}

fn section(lines: &mut Vec<String>, name: &str, counts: &Counts) {
    if counts.is_empty() {
        return;
    }
    lines.push(format!("  {name}"));
    for (thing, count) in counts.top().into_iter().take(LINES_MAX) {
        let Count { records, refused, bytes_in, bytes_out, first, last } = count;
        let refused = if *refused > 0 { format!(", {refused} refused") } else { String::new() };
        let volume = if *bytes_in > 0 || *bytes_out > 0 {
            format!(", {} in, {} out", bytes(*bytes_in), bytes(*bytes_out))
        } else {
            String::new()
        };
        lines.push(format!(
            "    {thing}: {records}{refused}{volume}, {} #{} to {} #{}",
            first.time, first.record, last.time, last.record
        ));
    }
    more(lines, counts.len());
}

fn more(lines: &mut Vec<String>, count: usize) {
    if let Some(more) = count.checked_sub(LINES_MAX).filter(|more| *more > 0) {
        lines.push(format!("    and {more} more; `-o json` has all"));
    }
}

impl Serialize for Story<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Told<'a> {
            who: String,
            #[serde(flatten)]
            tally: &'a Tally,
            followed: &'a [Link],
        }
        Told { who: self.who.to_string(), tally: self.tally, followed: self.links }
            .serialize(serializer)
    }
}
