//! From a file of rules to [`RulePlan`]s, or to everything that is wrong with it.
//!
//! A file holds one rule, a list of rules, or several documents of these. Unknown keys, keys written
//! twice, conditions that cannot be true and responses that cannot hit what the rule counts by are
//! errors: a rule that never fires is worse than none.

mod fields;
mod pattern;
mod respond;

use std::sync::Arc;

use enforcer_condition::brief;

pub(super) use self::fields::duration;
use self::fields::{Fields, Reader};
use super::plan::{Expected, KeyBy, OrProfile, Pattern, RulePlan, RuleTest, Severity, Step};
use super::problem::RuleProblem;
use super::when::About;
use super::yaml::{Kind, Node};
use crate::Mode;
use crate::profile::SIGNAL_BITS_MAX;

/// The most rules of all files together.
pub const RULES_MAX: usize = 512;

/// The modes, as rules name them.
pub(super) const MODES: &[(&str, Mode)] =
    &[("observe", Mode::Observe), ("approve", Mode::Approve), ("auto", Mode::Auto)];

/// Signals of a profile that `or_profile` can name.
pub const PROFILE_SIGNALS: &[&str] = &[
    "requests",
    "bytes",
    "errors",
    "distinct_resources",
    "novelty",
    "hours",
    "network",
    "tls_client",
    "routes",
    "mix",
    "drift",
];

const KEYS: &[&str] = &[
    "id",
    "title",
    "owasp",
    "when",
    "key",
    "event_count",
    "value_count",
    "value_sum",
    "ratio",
    "temporal",
    "temporal_ordered",
    "or_profile",
    "silent",
    "respond",
    "mode",
    "severity",
    "limits",
    "tests",
];

/// The rules of the file `text`; `known` are those of files before it, which its own may name as
/// steps and whose ids it may not use.
pub fn read(text: &str, known: &[Arc<RulePlan>]) -> Result<Vec<Arc<RulePlan>>, Vec<RuleProblem>> {
    let documents = match super::yaml::read(text) {
        Ok(documents) => documents,
        Err(found) => return Err(vec![found.placed(text)]),
    };
    let mut reader = Reader { text, found: Vec::new() };
    let mut plans: Vec<Arc<RulePlan>> = known.to_vec();
    for document in &documents {
        for node in reader.list(document) {
            let Some(plan) = reader.rule(node, &plans) else { continue };
            plans.push(Arc::new(plan));
            if plans.len() > RULES_MAX {
                let message = format!("there are more than {RULES_MAX} rules");
                reader.tell(&node.span, message, "remove some");
                break;
            }
        }
    }
    if documents.is_empty() {
        reader.tell(&(0..0), "the file has no rule", "begin with `id: my-rule`");
    }
    if reader.found.is_empty() {
        return Ok(plans.split_off(known.len()));
    }
    reader.found.sort_by_key(super::problem::Found::start);
    Err(reader.found.into_iter().map(|found| found.placed(text)).collect())
}

impl Reader<'_> {
    fn rule(&mut self, node: &Node, known: &[Arc<RulePlan>]) -> Option<RulePlan> {
        let fields = self.table(node, "a rule", KEYS)?;
        let before = self.found.len();
        let id = self.id(fields, known);
        let title = fields.get("title").map(|node| self.text(node, "title").map(Arc::from));
        let owasp = fields.get("owasp").map_or_else(Vec::new, |node| self.owasp(node));
        let when = fields.get("when").map(|node| self.when(node, "when"));
        let key = self
            .needed(fields, "the rule", "key", "identity")
            .and_then(|node| self.choice(node, "key", KeyBy::ALL));
        let pattern = self.pattern(fields, key, known);
        let or_profile = fields.get("or_profile").map(|node| self.or_profile(node, key));
        let respond = fields.get("respond").map_or_else(Vec::new, |node| self.responses(node, key));
        let flags = [("true", true), ("false", false)];
        let silent = fields.get("silent").map(|node| self.choice(node, "silent", &flags));
        if silent == Some(Some(true)) && fields.get("respond").is_some() {
            let hint = "let the rule respond whose step it is";
            self.tell(&fields.key("respond"), "nothing follows a silent rule", hint);
        }
        let mode = fields.get("mode").map(|node| self.choice(node, "mode", MODES));
        let severity =
            fields.get("severity").map(|node| self.choice(node, "severity", Severity::ALL));
        let max_share = fields.get("limits").map(|node| self.limits(node));
        let tests = fields.get("tests").map_or_else(Vec::new, |node| self.tests(node));
        let (id, key, pattern) = (id?, key?, pattern?);
        if self.found.len() > before {
            return None;
        }
        let plan = RulePlan {
            title: title.flatten().unwrap_or_else(|| Arc::clone(&id)),
            id,
            owasp: owasp.into(),
            when: when.flatten(),
            key,
            pattern,
            or_profile: or_profile.flatten(),
            silent: silent.flatten().unwrap_or(false),
            respond: respond.into(),
            mode: mode.flatten().unwrap_or(Mode::Observe),
            severity: severity.flatten().unwrap_or(Severity::Medium),
            max_share_of_identities: max_share.flatten(),
            tests: tests.into(),
        };
        self.fits(fields, &plan).then_some(plan)
    }

    /// Whether the parts of a rule can be about the same events.
    fn fits(&mut self, fields: Fields<'_>, plan: &RulePlan) -> bool {
        if plan.about() == About::Packets {
            let counts = matches!(plan.pattern, Pattern::EventCount(_));
            let keyed = matches!(plan.key, KeyBy::Source | KeyBy::Network | KeyBy::Everyone);
            if !counts || !keyed {
                let message = "of packets only the source and their number is known";
                let hint = "use `event_count` by `source`, `network` or `everyone`";
                self.tell(&fields.key("when"), message, hint);
                return false;
            }
            return true;
        }
        let inner = match &plan.pattern {
            Pattern::Ratio { of, .. } => of.about() == About::Packets,
            Pattern::Temporal { steps, .. } => steps
                .iter()
                .any(|step| matches!(step, Step::When(when) if when.about() == About::Packets)),
            Pattern::EventCount(_) | Pattern::ValueCount(..) | Pattern::ValueSum(..) => false,
        };
        if inner {
            let message = "the rule is about requests, and this condition about packets";
            self.tell(&fields.at.span, message, "use two rules: no event has both");
        }
        !inner
    }

    fn id(&mut self, fields: Fields<'_>, known: &[Arc<RulePlan>]) -> Option<Arc<str>> {
        let node = self.needed(fields, "the rule", "id", "my-rule")?;
        let id = self.text(node, "id")?;
        let is_plain = id.len() <= 64
            && id.starts_with(|c: char| c.is_ascii_lowercase())
            && id.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if !is_plain {
            let message = format!("`{}` is no name of a rule", brief(id));
            let hint = "at most 64 small letters, digits and `-`, a letter first";
            self.tell(&node.span, message, hint);
            return None;
        }
        if known.iter().any(|plan| *plan.id == *id) {
            let hint = "rename one of the two; a rule of the pack is changed by `[detect.modes]`";
            self.tell(&node.span, format!("two rules are called `{id}`"), hint);
            return None;
        }
        Some(id.into())
    }

    fn owasp(&mut self, node: &Node) -> Vec<Arc<str>> {
        let mut entries = Vec::new();
        for entry in self.list(node) {
            let Some(text) = self.text(entry, "owasp") else { continue };
            let number = text.strip_prefix("API").and_then(|rest| rest.split_once(':'));
            let is_known = number.is_some_and(|(number, year)| {
                number.parse().is_ok_and(|number: u8| (1..=10).contains(&number))
                    && !number.starts_with(['0', '+'])
                    && matches!(year, "2019" | "2023")
            });
            if is_known {
                entries.push(text.into());
            } else {
                let message = format!("`{}` is no entry of the list", brief(text));
                self.tell(&entry.span, message, "write it as `API1:2023`, up to `API10:2023`");
            }
        }
        entries
    }

    fn or_profile(&mut self, node: &Node, key: Option<KeyBy>) -> Option<OrProfile> {
        let fields = self.table(node, "`or_profile`", &["signals", "bits"])?;
        if key.is_some_and(|key| key != KeyBy::Identity) {
            let hint = "use `key: identity`";
            self.tell(&node.span, "only identities have a profile", hint);
        }
        let mut signals: Vec<Arc<str>> = Vec::new();
        if let Some(node) = fields.get("signals") {
            let known: Vec<(&str, &str)> =
                PROFILE_SIGNALS.iter().map(|name| (*name, *name)).collect();
            for signal in self.list(node) {
                let signal = self.choice(signal, "signal", &known)?;
                signals.push(signal.into());
            }
        }
        let node = self.needed(fields, "`or_profile`", "bits", "'>= 22'")?;
        let text = self.text(node, "bits")?;
        let number = text.strip_prefix(">=").unwrap_or(text).trim();
        let named = if signals.is_empty() { PROFILE_SIGNALS.len() } else { signals.len() };
        let most = f32::from(u8::try_from(named).unwrap_or(u8::MAX)) * SIGNAL_BITS_MAX;
        match number.parse::<f32>() {
            Ok(bits) if (1.0..=most).contains(&bits) => {
                Some(OrProfile { signals: signals.into(), bits })
            }
            Ok(_) | Err(_) => {
                let message = format!("`{}` is no number of bits from 1 to {most}", brief(text));
                let hint = format!("one signal has at most {SIGNAL_BITS_MAX}: `bits: '>= 16'`");
                self.tell(&node.span, message, hint);
                None
            }
        }
    }

    fn limits(&mut self, node: &Node) -> Option<u16> {
        let fields = self.table(node, "`limits`", &["max_share_of_identities"])?;
        let node = fields.get("max_share_of_identities")?;
        self.share(node, "max_share_of_identities")
    }

    fn tests(&mut self, node: &Node) -> Vec<RuleTest> {
        let mut tests = Vec::new();
        for node in self.list(node) {
            let keys = &["events", "expect", "within_events"];
            let Some(fields) = self.table(node, "a test", keys) else { continue };
            let events = self.needed(fields, "the test", "events", "FILE.jsonl");
            let events = events.and_then(|node| self.text(node, "events"));
            let known = [("fire", true), ("quiet", false)];
            let expect = self.needed(fields, "the test", "expect", "fire");
            let expect = expect.and_then(|node| self.choice(node, "expect", &known));
            let within = fields.get("within_events");
            let within = within.map(|node| self.number(node, "within_events", 1, 1_000_000));
            let (Some(events), Some(fires)) = (events, expect) else { continue };
            let expect = if fires { Expected::Fire(within.flatten()) } else { Expected::Quiet };
            if !fires && within.is_some() {
                let hint = "remove it: a quiet test reads all events";
                self.tell(&fields.key("within_events"), "`quiet` has no `within_events`", hint);
            }
            tests.push(RuleTest { events: events.into(), expect });
        }
        tests
    }

    /// The steps of a sequence.
    fn step(&mut self, node: &Node, key: Option<KeyBy>, known: &[Arc<RulePlan>]) -> Option<Step> {
        if let Kind::Text(_) = &node.kind {
            return self.when(node, "step").map(Step::When);
        }
        let fields = self.table(node, "a step", &["when", "rule"])?;
        match (fields.get("when"), fields.get("rule")) {
            (Some(when), None) => self.when(when, "when").map(Step::When),
            (None, Some(node)) => {
                let id = self.text(node, "rule")?;
                let Some(rule) = known.iter().find(|plan| *plan.id == *id) else {
                    let names = known.iter().map(|plan| &*plan.id);
                    let hint = match enforcer_condition::suggest(id, names) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "name a rule that stands before this one".to_owned(),
                    };
                    self.tell(
                        &node.span,
                        format!("no rule before is called `{}`", brief(id)),
                        hint,
                    );
                    return None;
                };
                if key.is_some_and(|key| key != rule.key) {
                    let message = format!("`{id}` counts by {}", rule.key);
                    let hint = "the steps of a sequence count by the same key";
                    self.tell(&node.span, message, hint);
                    return None;
                }
                Some(Step::Rule(id.into()))
            }
            (Some(_), Some(_)) | (None, None) => {
                self.tell(&node.span, "a step is a `when` or a `rule`", "write `when: '…'`");
                None
            }
        }
    }
}
