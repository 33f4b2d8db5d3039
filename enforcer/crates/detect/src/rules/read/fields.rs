//! Tables of a file of rules: each key is known, and each value has its form.

use std::ops::Range;
use std::time::Duration;

use enforcer_condition::{brief, suggest};
use enforcer_model::Bytes;

use crate::rules::problem::Found;
use crate::rules::when::When;
use crate::rules::yaml::{Kind, Node, inside};

/// What is read, and what was wrong so far.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) found: Vec<Found>,
}

/// A table whose keys are known.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n> {
    entries: &'n [(Node, Node)],
    pub(super) at: &'n Node,
}

impl<'n> Fields<'n> {
    pub(super) fn get(self, name: &str) -> Option<&'n Node> {
        let is = |key: &Node| matches!(&key.kind, Kind::Text(text) if text == name);
        self.entries.iter().find(|(key, _)| is(key)).map(|(_, value)| value)
    }

    /// Where the key `name` stands.
    pub(super) fn key(self, name: &str) -> Range<usize> {
        let is = |key: &Node| matches!(&key.kind, Kind::Text(text) if text == name);
        let found = self.entries.iter().find(|(key, _)| is(key));
        found.map_or_else(|| self.at.span.clone(), |(key, _)| key.span.clone())
    }
}

impl Reader<'_> {
    pub(super) fn tell(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        const FOUND_MAX: usize = 200;
        if self.found.len() < FOUND_MAX {
            self.found.push(Found::new(span.clone(), message, hint));
        }
    }

    /// `node` as a table of `keys`; others are told.
    pub(super) fn table<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        keys: &[&str],
    ) -> Option<Fields<'n>> {
        let Kind::Table(entries) = &node.kind else {
            let message = format!("{what} is a table");
            self.tell(
                &node.span,
                message,
                format!("write `key: value`; keys: {}", keys.join(", ")),
            );
            return None;
        };
        for (key, _) in entries {
            let Kind::Text(name) = &key.kind else { continue };
            if !keys.contains(&name.as_str()) {
                let hint = match suggest(name, keys.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("there are: {}", keys.join(", ")),
                };
                self.tell(&key.span, format!("{what} has no `{}`", brief(name)), hint);
            }
        }
        Some(Fields { entries, at: node })
    }

    /// The value of `name`; told when it is missing.
    pub(super) fn needed<'n>(
        &mut self,
        fields: Fields<'n>,
        what: &str,
        name: &str,
        example: &str,
    ) -> Option<&'n Node> {
        let node = fields.get(name);
        if node.is_none() {
            let message = format!("{what} has no `{name}`");
            self.tell(&fields.at.span, message, format!("write `{name}: {example}`"));
        }
        node
    }

    pub(super) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.kind {
            Kind::Text(text) if !text.trim().is_empty() => Some(text.trim()),
            Kind::Text(_) | Kind::List(_) | Kind::Table(_) => {
                self.tell(&node.span, format!("`{what}` is a text"), "write it behind the colon");
                None
            }
        }
    }

    /// `node` as a list; one alone is a list of one.
    pub(super) fn list<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.kind {
            Kind::List(nodes) => nodes,
            Kind::Text(_) | Kind::Table(_) => std::slice::from_ref(node),
        }
    }

    /// One of `known`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        node: &Node,
        what: &str,
        known: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(node, what)?;
        if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let hint = match suggest(text, names.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write one of: {}", names.join(", ")),
        };
        self.tell(&node.span, format!("`{}` is no `{what}`", brief(text)), hint);
        None
    }

    /// A whole number from `least` to `most`.
    pub(super) fn number(&mut self, node: &Node, what: &str, least: u64, most: u64) -> Option<u64> {
        let text = self.text(node, what)?;
        let plain =
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
        let number = text.replace('_', "").parse::<u64>().ok().filter(|_| plain);
        let fits = number.filter(|number| (least..=most).contains(number));
        if fits.is_none() {
            let message = format!("`{what}` is a whole number from {least} to {most}");
            self.tell(&node.span, message, format!("write it as `{what}: {least}`"));
        }
        fits
    }

    /// A span of time.
    pub(super) fn span(
        &mut self,
        node: &Node,
        what: &str,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let text = self.text(node, what)?;
        let Some(span) = duration(text) else {
            let message = format!("`{}` is no span of time", brief(text));
            self.tell(&node.span, message, "write it as `30s`, `10m`, `6h` or `2d`");
            return None;
        };
        if span < least || span > most {
            let (least, most) = (crate::rules::plan::span(least), crate::rules::plan::span(most));
            let message = format!("`{what}` is from {least} to {most}");
            self.tell(&node.span, message, format!("write it as `{what}: {least}`"));
            return None;
        }
        Some(span)
    }

    /// A number of bytes, with or without a unit.
    pub(super) fn bytes(&mut self, node: &Node, what: &str) -> Option<u64> {
        let text = self.text(node, what)?;
        match text.parse::<Bytes>() {
            Ok(bytes) if bytes.0 > 0 => Some(bytes.0),
            Ok(_) | Err(_) => {
                let message = format!("`{}` is no number of bytes", brief(text));
                self.tell(&node.span, message, "write it as `500MiB` or `2GiB`");
                None
            }
        }
    }

    /// A share in thousandths: `1%`, `0.5%`.
    pub(super) fn share(&mut self, node: &Node, what: &str) -> Option<u16> {
        let text = self.text(node, what)?;
        let share = text.strip_suffix('%').and_then(|number| {
            let (whole, tenth) = number.trim().split_once('.').unwrap_or((number.trim(), "0"));
            let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            if !plain(whole) || !plain(tenth) || tenth.len() != 1 {
                return None;
            }
            whole.parse::<u16>().ok()?.checked_mul(10)?.checked_add(tenth.parse().ok()?)
        });
        match share {
            Some(share @ 1..=1_000) => Some(share),
            Some(_) | None => {
                let message = format!("`{}` is no share from 0.1% to 100%", brief(text));
                self.tell(&node.span, message, "write it as `1%` or `0.5%`");
                None
            }
        }
    }

    /// A condition.
    pub(super) fn when(&mut self, node: &Node, what: &str) -> Option<When> {
        let Kind::Text(text) = &node.kind else {
            let hint = "quote it: `when: 'status >= 500'`";
            self.tell(&node.span, format!("`{what}` is a condition"), hint);
            return None;
        };
        match When::parse(text) {
            Ok(when) => Some(when),
            Err(problems) => {
                let written = self.text.get(node.span.clone()).unwrap_or_default();
                for problem in problems {
                    let start = node.span.start + inside(written, text, problem.span.start);
                    let last = problem.span.end.saturating_sub(1).max(problem.span.start);
                    let end = node.span.start + inside(written, text, last) + 1;
                    let end = (end..=end + 3).find(|at| self.text.is_char_boundary(*at));
                    let span = start..end.unwrap_or(start).max(start);
                    self.tell(&span, problem.message, problem.hint);
                }
                None
            }
        }
    }
}

/// `90s`, `1h30m`.
pub(in crate::rules) fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let count: u64 = rest.strip_suffix(after)?.parse().ok()?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, behind) = after.split_at_checked(end)?;
        let (_, ms) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(count.checked_mul(*ms)?)?;
        rest = behind;
    }
    if text.is_empty() { None } else { Some(Duration::from_millis(total)) }
}
