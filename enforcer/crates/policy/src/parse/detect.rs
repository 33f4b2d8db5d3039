//! `[detect]`: the rules of detection, from the pack and from files, and their modes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use enforcer_detect::Mode;
use enforcer_detect::court::Limits;
use enforcer_detect::rules::{
    FILE_BYTES_MAX, Pattern, RULES_MAX, RulePlan, RuleProblem, Step, pack, read as read_rules,
};

use crate::codes::{DETECTION_RULE, FILE_UNREADABLE, TOO_MANY, UNKNOWN_NAME};
use crate::files;
use crate::grammar::{Fields, Key, NAME, Need, PATH, PERCENT, Shape, brief, suggest};
use crate::parse::{Base, DAY, MINUTE, Percent};
use crate::problem::Report;
use crate::text::Span;

pub(super) static KEYS: &[Key] = &[
    Key::with_default(
        "pack",
        Shape::Choice(&["default", "none"]),
        Need::Text("default"),
        "The rules that come with the program; `enforcer rules list` shows them.",
    ),
    Key::optional(
        "rules",
        Shape::OneOrMore(&Shape::Text(&PATH)),
        "Files of rules, relative to the policy file; the last part may have a `*`.",
    ),
    Key::optional(
        "modes",
        Shape::Keyed(&NAME, &Shape::Choice(&["off", "observe", "approve", "auto"])),
        "What each of these rules may do, whatever its file says.",
    ),
    Key::with_default(
        "scan_answers",
        Shape::Flag,
        Need::True,
        "Whether answers in plain text are searched for secrets and personal data as they pass; only \
         how many there were is kept.",
    ),
    Key::optional(
        "limits",
        Shape::Table(LIMITS),
        "How far automatic decisions may go; what would go further asks an operator.",
    ),
    Key::optional(
        "profile",
        Shape::Table(super::profiling::KEYS),
        "What is usual for each identity, and when a day is too unlike it.",
    ),
];

static LIMITS: &[Key] = &[
    Key::with_default(
        "max_share_of_clients",
        Shape::Text(&PERCENT),
        Need::Text("5%"),
        "Largest share of the clients served in the last ten minutes that they may hit together.",
    ),
    Key::with_default(
        "max_share_of_identities",
        Shape::Text(&PERCENT),
        Need::Text("5%"),
        "Largest share of the callers served in the last ten minutes that they may hit together.",
    ),
    Key::with_default(
        "max_decisions_per_minute",
        Shape::Count(1, 1_000),
        Need::Count(60),
        "Automatic decisions inside a minute.",
    ),
    Key::with_default(
        "max_prefix_v4",
        Shape::Count(8, 32),
        Need::Count(24),
        "The widest IPv4 network that is shut out unasked, by the length of its prefix.",
    ),
    Key::with_default(
        "max_prefix_v6",
        Shape::Count(16, 128),
        Need::Count(48),
        "The widest IPv6 network that is shut out unasked, by the length of its prefix.",
    ),
    Key::with_default(
        "shared_from",
        Shape::Count(2, 64),
        Need::Count(3),
        "From so many callers on, an address is a shared one: it is left alone, and the caller or \
         the credential behind it is denied.",
    ),
    Key::with_default(
        "approval",
        Shape::Span(MINUTE, DAY),
        Need::Text("1h"),
        "How long a decision waits for an operator.",
    ),
    Key::with_default(
        "max_ttl",
        Shape::Span(MINUTE, TTL_MAX),
        Need::Text("1d"),
        "No automatic decision lasts longer at a time.",
    ),
];

/// A month: what is to last longer is an operator's decision.
const TTL_MAX: Duration = DAY.saturating_mul(30);

/// The most files of rules.
const FILES_MAX: usize = 64;

/// The rules of detection of a policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detection {
    /// In the order in which they are asked, each in the mode that the policy gives it.
    pub rules: Vec<Arc<RulePlan>>,
    /// How far automatic decisions may go.
    pub limits: Limits,
    /// Whether a rule wants to know from which country a request came.
    pub reads_region: bool,
    /// Whether answers are searched for what they should not give away.
    pub scan_answers: bool,
}

fn limits(fields: Fields<'_>) -> Option<Limits> {
    let short = |name| u8::try_from(fields.count(name)?).ok();
    let share = |name| fields.parsed::<Percent>(name).map(Percent::get);
    let whole = |name| u32::try_from(fields.count(name)?).ok();
    Some(Limits {
        clients_percent_max: share("max_share_of_clients")?,
        identities_percent_max: share("max_share_of_identities")?,
        decisions_per_minute_max: whole("max_decisions_per_minute")?,
        prefix_v4_min: short("max_prefix_v4")?,
        prefix_v6_min: short("max_prefix_v6")?,
        shared_from: whole("shared_from")?,
        approval_ttl: fields.duration("approval")?,
        ttl_max: fields.duration("max_ttl")?,
    })
}

pub(super) fn read(root: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<Detection> {
    if !root.has("detect") {
        return Some(Detection::default());
    }
    let fields = root.table("detect");
    let mut rules = Vec::new();
    if fields.text("pack")? == "default" {
        match pack() {
            Ok(plans) => rules = plans,
            Err((file, problems)) => tell(file, problems, fields.span_of("pack"), report),
        }
    }
    let mut complete = true;
    for (path, span) in fields.texts("rules") {
        if !base.reads_files {
            complete = false;
            continue;
        }
        for file in files(&base.resolve(path), span, report) {
            let most = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX);
            let Some(bytes) = files::contents(&file, most, &FILE_UNREADABLE, span, report) else {
                complete = false;
                continue;
            };
            let read = match String::from_utf8(bytes) {
                Ok(text) => read_rules(&text, &rules),
                Err(_) => {
                    let message = format!("{} is not UTF-8", file.display());
                    report.add(&DETECTION_RULE, span, message, None);
                    complete = false;
                    continue;
                }
            };
            match read {
                Ok(more) => rules.extend(more),
                Err(problems) => {
                    tell(&file.display().to_string(), problems, span, report);
                    complete = false;
                }
            }
        }
    }
    if rules.len() > RULES_MAX {
        let message =
            format!("there are {} rules of detection, more than {RULES_MAX}", rules.len());
        report.add(&TOO_MANY, fields.span_of("rules"), message, "remove some".to_owned());
        return None;
    }
    modes(fields, &mut rules, complete, report);
    let reads_region = rules.iter().any(|rule| rule.reads_region());
    let scan_answers = fields.flag("scan_answers")?;
    Some(Detection { rules, limits: limits(fields.table("limits"))?, reads_region, scan_answers })
}

/// What is wrong with a file, each with its place in it.
fn tell(file: &str, problems: Vec<RuleProblem>, span: Span, report: &mut Report) {
    for RuleProblem { line, column, message, hint, .. } in problems {
        let message = format!("{file}:{line}:{column}: {message}");
        report.add(&DETECTION_RULE, span, message, hint);
    }
}

/// The file, or those that a `*` stands for, in the order of their names.
fn files(path: &Path, span: Span, report: &mut Report) -> Vec<PathBuf> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((start, end)) = name.split_once('*') else { return vec![path.to_owned()] };
    let folder = path.parent().unwrap_or(Path::new("."));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("cannot read {}: {error}", folder.display());
            let hint = "relative paths are relative to the policy file".to_owned();
            report.add(&FILE_UNREADABLE, span, message, hint);
            return Vec::new();
        }
    };
    let fits = |entry: &PathBuf| {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
    };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(fits).collect();
    found.sort();
    if found.is_empty() {
        let message = format!("no file is called {}", path.display());
        report.add(&FILE_UNREADABLE, span, message, "add one, or remove the entry".to_owned());
    }
    if found.len() > FILES_MAX {
        let message = format!("{} files are more than {FILES_MAX}", found.len());
        report.add(&TOO_MANY, span, message, "put rules together in one file".to_owned());
        found.truncate(FILES_MAX);
    }
    found
}

/// Gives rules the modes of the policy; `complete` says whether all rules are known.
fn modes(fields: Fields<'_>, rules: &mut Vec<Arc<RulePlan>>, complete: bool, report: &mut Report) {
    for entry in fields.named("modes") {
        let Some(place) = rules.iter().position(|rule| *rule.id == *entry.name) else {
            if complete {
                let known = rules.iter().map(|rule| &*rule.id);
                let meant = if report.is_full() { None } else { suggest(entry.name, known) };
                let hint = match meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "`enforcer rules list` shows them".to_owned(),
                };
                let message = format!("no rule of detection is called `{}`", brief(entry.name));
                report.add(&UNKNOWN_NAME, entry.span, message, hint);
            }
            continue;
        };
        let mode = match entry.text() {
            Some("observe") => Mode::Observe,
            Some("approve") => Mode::Approve,
            Some("auto") => Mode::Auto,
            // What is no mode was told.
            Some(_) | None => {
                off(rules, place);
                continue;
            }
        };
        if let Some(rule) = rules.get_mut(place) {
            *rule = Arc::new(RulePlan { mode, ..RulePlan::clone(rule) });
        }
    }
}

/// Takes a rule away; one that is a step of others goes on as that alone.
fn off(rules: &mut Vec<Arc<RulePlan>>, place: usize) {
    let Some(id) = rules.get(place).map(|rule| Arc::clone(&rule.id)) else { return };
    let is_step = rules.iter().any(|rule| match &rule.pattern {
        Pattern::Temporal { steps, .. } => {
            steps.iter().any(|step| matches!(step, Step::Rule(step) if *step == id))
        }
        Pattern::EventCount(_)
        | Pattern::ValueCount(..)
        | Pattern::ValueSum(..)
        | Pattern::Ratio { .. } => false,
    });
    if !is_step {
        rules.remove(place);
    } else if let Some(rule) = rules.get_mut(place) {
        let silent = RulePlan { silent: true, respond: [].into(), ..RulePlan::clone(rule) };
        *rule = Arc::new(silent);
    }
}
