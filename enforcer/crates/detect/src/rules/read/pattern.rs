//! What makes a finding: exactly one of the patterns.

use std::sync::Arc;
use std::time::Duration;

use super::fields::{Fields, Reader};
use crate::rules::plan::{Field, KeyBy, Pattern, RulePlan, STEPS_MAX, Step, Summed, Threshold};
use crate::rules::yaml::{Kind, Node};

const PATTERNS: &[&str] =
    &["event_count", "value_count", "value_sum", "ratio", "temporal", "temporal_ordered"];

/// The shortest window.
const WITHIN_MIN: Duration = Duration::from_secs(1);

/// The longest window.
const WITHIN_MAX: Duration = Duration::from_secs(31 * 86_400);

/// The most that is counted.
const COUNT_MAX: u64 = 1_000_000_000_000;

/// The most different values.
const VALUES_MAX: u64 = 1_000_000;

impl Reader<'_> {
    /// The pattern of a rule.
    pub(super) fn pattern(
        &mut self,
        fields: Fields<'_>,
        key: Option<KeyBy>,
        known: &[Arc<RulePlan>],
    ) -> Option<Pattern> {
        let present: Vec<&'static str> =
            PATTERNS.iter().copied().filter(|name| fields.get(name).is_some()).collect();
        let name = match present[..] {
            [only] => only,
            [] => {
                let hint = format!("write one of: {}", PATTERNS.join(", "));
                self.tell(&fields.at.span, "the rule counts nothing", hint);
                return None;
            }
            [_, second, ..] => {
                let message = "the rule counts in two ways";
                self.tell(&fields.key(second), message, "use two rules");
                return None;
            }
        };
        let node = fields.get(name)?;
        match name {
            "event_count" => {
                let fields = self.table(node, "`event_count`", &["gte", "gt", "off", "within"])?;
                let number = |reader: &mut Self, node: &Node, what: &str| {
                    reader.number(node, what, 1, COUNT_MAX)
                };
                self.threshold(fields, "`event_count`", number).map(Pattern::EventCount)
            }
            "value_count" => self.values(node, key),
            "value_sum" => self.sum(node),
            "ratio" => self.ratio(node),
            "temporal" => self.temporal(node, false, key, known),
            _ => self.temporal(node, true, key, known),
        }
    }

    fn threshold(
        &mut self,
        fields: Fields<'_>,
        what: &str,
        number: impl Fn(&mut Self, &Node, &str) -> Option<u64>,
    ) -> Option<Threshold> {
        let within = self
            .needed(fields, what, "within", "10m")
            .and_then(|node| self.span(node, "within", WITHIN_MIN, WITHIN_MAX));
        let on = match (fields.get("gte"), fields.get("gt")) {
            (Some(node), None) => number(self, node, "gte"),
            (None, Some(node)) => number(self, node, "gt").map(|count| count.saturating_add(1)),
            (Some(_), Some(_)) => {
                let hint = "`gte: 60` is the same as `gt: 59`";
                self.tell(&fields.key("gt"), "both `gte` and `gt` stand here", hint);
                None
            }
            (None, None) => {
                self.tell(&fields.at.span, format!("{what} has no `gte`"), "write `gte: 60`");
                None
            }
        };
        let off = fields.get("off").map(|node| number(self, node, "off"));
        let (on, within) = (on?, within?);
        let off = match off {
            None => on.div_ceil(2),
            Some(off) => off?,
        };
        if off > on {
            let hint = "below `off` a finding is over, so it is at most the threshold";
            self.tell(&fields.key("off"), "`off` is above the threshold", hint);
            return None;
        }
        Some(Threshold { on, off, within })
    }

    fn values(&mut self, node: &Node, key: Option<KeyBy>) -> Option<Pattern> {
        let keys = &["field", "gte", "gt", "off", "within"];
        let fields = self.table(node, "`value_count`", keys)?;
        let known: Vec<(&str, Field)> =
            Field::ALL.iter().map(|(name, field, _)| (*name, *field)).collect();
        let field = self.needed(fields, "`value_count`", "field", "object_id");
        let field = field.and_then(|node| self.choice(node, "field", &known));
        let number =
            |reader: &mut Self, node: &Node, what: &str| reader.number(node, what, 1, VALUES_MAX);
        let threshold = self.threshold(fields, "`value_count`", number);
        let (field, threshold) = (field?, threshold?);
        let same = match key {
            Some(KeyBy::Identity) => field == Field::Identity,
            Some(KeyBy::Source) => matches!(field, Field::Source | Field::Network),
            Some(KeyBy::Network) => field == Field::Network,
            Some(KeyBy::Credential) => field == Field::Credential,
            Some(KeyBy::Ja4) => field == Field::Ja4,
            Some(KeyBy::Route) => field == Field::Route,
            Some(KeyBy::Upstream) => field == Field::Upstream,
            Some(KeyBy::Everyone) | None => false,
        };
        if same || threshold.on < 2 {
            let (message, hint) = if same {
                ("the key has only one of these", "count something else, or by something else")
            } else {
                ("one value is no count of different values", "write `gte: 2` or more")
            };
            self.tell(&fields.at.span, message, hint);
            return None;
        }
        Some(Pattern::ValueCount(field, threshold))
    }

    fn sum(&mut self, node: &Node) -> Option<Pattern> {
        let keys = &["field", "gte", "gt", "off", "within"];
        let fields = self.table(node, "`value_sum`", keys)?;
        let field = self.needed(fields, "`value_sum`", "field", "bytes_out");
        let summed = field.and_then(|node| self.choice(node, "field", Summed::ALL));
        let number = |reader: &mut Self, node: &Node, what: &str| {
            if summed == Some(Summed::Duration) {
                let most = Duration::from_secs(1_000_000_000);
                let span = reader.span(node, what, WITHIN_MIN, most)?;
                u64::try_from(span.as_millis()).ok()
            } else if let Some(Summed::Secrets | Summed::Personal) = summed {
                reader.number(node, what, 1, COUNT_MAX)
            } else {
                reader.bytes(node, what)
            }
        };
        let threshold = self.threshold(fields, "`value_sum`", number);
        Some(Pattern::ValueSum(summed?, threshold?))
    }

    fn ratio(&mut self, node: &Node) -> Option<Pattern> {
        let keys = &["of", "gte", "gt", "off", "within", "at_least"];
        let fields = self.table(node, "`ratio`", keys)?;
        let of = self.needed(fields, "`ratio`", "of", "'status >= 500'");
        let of = of.and_then(|node| self.when(node, "of"));
        let share =
            |reader: &mut Self, node: &Node, what: &str| reader.share(node, what).map(u64::from);
        let threshold = self.threshold(fields, "`ratio`", share);
        let at_least = self.needed(fields, "`ratio`", "at_least", "20");
        let at_least = at_least.and_then(|node| self.number(node, "at_least", 2, COUNT_MAX));
        Some(Pattern::Ratio { of: of?, threshold: threshold?, at_least: at_least? })
    }

    fn temporal(
        &mut self,
        node: &Node,
        ordered: bool,
        key: Option<KeyBy>,
        known: &[Arc<RulePlan>],
    ) -> Option<Pattern> {
        let what = if ordered { "`temporal_ordered`" } else { "`temporal`" };
        let fields = self.table(node, what, &["steps", "within"])?;
        let within = self
            .needed(fields, what, "within", "10m")
            .and_then(|node| self.span(node, "within", WITHIN_MIN, WITHIN_MAX));
        let node = self.needed(fields, what, "steps", "[{when: '…'}, {rule: my-rule}]")?;
        let nodes = match &node.kind {
            Kind::List(nodes) if (2..=STEPS_MAX).contains(&nodes.len()) => nodes,
            Kind::List(_) | Kind::Text(_) | Kind::Table(_) => {
                let message = format!("a sequence has 2 to {STEPS_MAX} steps");
                self.tell(&node.span, message, "write a list of `when: '…'` and `rule: ID`");
                return None;
            }
        };
        let read: Vec<Option<Step>> =
            nodes.iter().map(|node| self.step(node, key, known)).collect();
        let steps: Option<Vec<Step>> = read.into_iter().collect();
        Some(Pattern::Temporal { steps: steps?.into(), ordered, within: within? })
    }
}
