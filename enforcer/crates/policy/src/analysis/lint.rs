//! What a policy says and cannot mean: rules that never decide, routes for nobody or for anybody.
//!
//! Every warning is a proven statement about all requests. Where a question is not decided, that is
//! told by itself, and nothing is claimed.

use enforcer_authz::{Expr, Flag, Rule};
use toml::de::DeTable;

use super::formula::Formula;
use super::questions::{self, admitted, allowed, answered, denied, reach, when};
use super::{Analysis, Answer, overlap};
use crate::Policy;
use crate::codes::{
    ALWAYS_TRUE, FOR_NOBODY, NEVER_TRUE, OPEN_TO_ANYBODY, OVERLAP, SHADOWED, TEST_FORM,
    TEST_OF_NOTHING, UNDECIDED,
};
use crate::grammar::{Fields, suggest};
use crate::parse::{KEYS, Route};
use crate::problem::Report;
use crate::text::Span;
use crate::trial::{Expected, Request, judge};

/// Whether a rule allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

/// One route under examination.
struct Examined<'a, 'p> {
    analysis: &'a Analysis<'p>,
    route: &'p Route,
    fields: Fields<'a>,
}

/// Adds to `report` what follows from the policy that `text` became.
pub(crate) fn lint(policy: &Policy, text: &str, report: &mut Report) {
    // The text became a policy, so it is TOML.
    let Ok(table) = DeTable::parse(text) else { return };
    let root = Fields::new(KEYS, table.get_ref(), Span::default());
    let analysis = Analysis::new(policy);
    for (route, fields) in policy.routes().iter().zip(root.tables("route")) {
        Examined { analysis: &analysis, route, fields }.examine(report);
    }
    for overlap in overlap::all(policy) {
        overlaps(&analysis, &overlap, &root, report);
    }
    tests(policy, &root, report);
}

impl Examined<'_, '_> {
    fn examine(&self, report: &mut Report) {
        let plan = &self.route.authz;
        let name = &self.route.name;
        let deny = self.fields.tables("deny");
        for (rule, fields) in plan.deny().iter().zip(deny) {
            self.condition(rule, fields, Effect::Deny, report);
        }
        let admitted = admitted(self.analysis.policy(), self.route);
        let mut earlier: Vec<&Rule> = Vec::new();
        let mut sound = false;
        for (rule, fields) in plan.allow().iter().zip(self.fields.tables("allow")) {
            let whole = vec![
                admitted.clone(),
                questions::rule(rule).surely(),
                none_of(&earlier),
                denied(plan).negated(),
            ];
            let decides = self.find(Formula::All(whole));
            // What decides something can hold.
            if matches!(decides, Answer::Sample(())) {
                self.can_fail(rule, fields, Effect::Allow, report);
                sound = true;
            } else if self.condition(rule, fields, Effect::Allow, report) {
                sound |= self.effect(rule, &decides, &earlier, fields, report);
            }
            earlier.push(rule);
        }
        // A rule that decides something is a request that somebody can make.
        if sound {
            self.open_to_anybody(report);
            return;
        }
        match self.find(answered(self.analysis.policy(), self.route)) {
            Answer::Sample(()) => self.open_to_anybody(report),
            Answer::Open => self.undecided(&format!("route `{name}` is for anybody"), report),
            Answer::Never => {
                let (message, hint) = if self.find(Formula::YES) == Answer::Never {
                    (
                        format!("no request can reach route `{name}`: others take all of them"),
                        "remove it, or make the patterns of the others narrower",
                    )
                } else {
                    (
                        format!("nobody can ever use route `{name}`"),
                        "each of its rules asks for what cannot be, or is denied; see the other \
                         warnings about it",
                    )
                };
                report.add(&FOR_NOBODY, self.fields.span(), message, hint.to_owned());
            }
        }
    }

    /// Whether the condition of `rule` can go either way; what cannot is told.
    fn condition(
        &self,
        rule: &Rule,
        fields: Fields<'_>,
        effect: Effect,
        report: &mut Report,
    ) -> bool {
        let name = rule.name();
        if rule.when().is_none() {
            return true;
        }
        let span = fields.span_of("when");
        match self.find(Formula::All(vec![reach(rule), holds(rule, effect)])) {
            Answer::Sample(()) => {}
            Answer::Open => {
                self.undecided(&format!("the condition of {name} can hold"), report);
                return true;
            }
            Answer::Never => {
                let (message, hint) = if self.find(holds(rule, effect)) == Answer::Never {
                    (
                        format!("the condition of {name} can never be true"),
                        match effect {
                            Effect::Allow => "the rule allows nothing: correct it, or remove it",
                            Effect::Deny => "the rule denies nothing: correct it, or remove it",
                        },
                    )
                } else {
                    (
                        format!(
                            "the condition of {name} can never be true for its methods and its role"
                        ),
                        "each of the two can hold, but not both at once",
                    )
                };
                report.add(&NEVER_TRUE, span, message, hint.to_owned());
                return false;
            }
        }
        self.can_fail(rule, fields, effect, report);
        true
    }

    /// Tells when the condition of `rule`, which can hold, can be nothing else.
    fn can_fail(&self, rule: &Rule, fields: Fields<'_>, effect: Effect, report: &mut Report) {
        let name = rule.name();
        let Some(condition) = rule.when() else { return };
        if *condition.expr() == Expr::Constant(true) {
            return;
        }
        let span = fields.span_of("when");
        match self.find(Formula::All(vec![reach(rule), holds(rule, effect).negated()])) {
            Answer::Never => {
                let message = format!("the condition of {name} is always true");
                let hint = match effect {
                    Effect::Allow => {
                        "the rule allows whoever has its role: remove `when`, or correct it"
                    }
                    Effect::Deny => {
                        "the rule denies everything it is about: remove `when`, or correct it"
                    }
                };
                report.add(&ALWAYS_TRUE, span, message, hint.to_owned());
            }
            Answer::Open => {
                self.undecided(&format!("the condition of {name} can fail"), report);
            }
            Answer::Sample(()) => {}
        }
    }

    /// Whether `rule`, which allows, ever decides, as far as that is known; what keeps it from that
    /// is told.
    fn effect(
        &self,
        rule: &Rule,
        decides: &Answer<()>,
        earlier: &[&Rule],
        fields: Fields<'_>,
        report: &mut Report,
    ) -> bool {
        let here = || questions::rule(rule).surely();
        let not_before = || none_of(earlier);
        let plan = &self.route.authz;
        let admitted = admitted(self.analysis.policy(), self.route);
        let name = rule.name();
        match decides {
            Answer::Sample(()) => return true,
            Answer::Open => {
                self.undecided(&format!("{name} ever decides"), report);
                return true;
            }
            Answer::Never => {}
        }
        let span = fields.span();
        if report.has(&SHADOWED, span) {
            return false;
        }
        let (message, hint) = if self.find(Formula::All(vec![admitted.clone(), here()]))
            == Answer::Never
        {
            (
                format!("nobody can ever be whom {name} allows"),
                "no credential gives the role together with what the route requires",
            )
        } else if self.find(Formula::All(vec![here(), not_before()])) == Answer::Never {
            let other = earlier.iter().find(|other| {
                let without = questions::rule(other).surely().negated();
                self.find(Formula::All(vec![here(), without])) == Answer::Never
            });
            let by = other.map_or("earlier rules together", |other| other.name());
            (format!("everything that {name} allows is allowed by {by}"), "remove one of them")
        } else {
            let other = plan.deny().iter().find(|deny| {
                let without = questions::rule(deny).maybe().negated();
                self.find(Formula::All(vec![here(), without])) == Answer::Never
            });
            let by = other.map_or("the rules of the route", |other| other.name());
            let hint = "narrow what denies, or remove what allows in vain";
            (format!("everything that {name} allows is denied by {by}, or allowed before"), hint)
        };
        report.add(&SHADOWED, span, message, hint.to_owned());
        false
    }

    /// Tells when the rules of a route that is not public ask for no caller.
    fn open_to_anybody(&self, report: &mut Report) {
        let plan = &self.route.authz;
        if plan.is_public() {
            return;
        }
        let nobody = Formula::flag(Flag::Anonymous);
        let open = Formula::All(vec![nobody, allowed(plan)]);
        if let Answer::Sample(sample) = self.analysis.find(self.route, open) {
            let name = &self.route.name;
            let message =
                format!("the rules of route `{name}` ask for no credential, and it is not public");
            let hint = format!(
                "they would allow `{sample}`; name a `role`, add `!anonymous`, or say `public = true` and \
                 deny the rest"
            );
            report.add(&OPEN_TO_ANYBODY, self.fields.span(), message, hint);
        }
    }

    fn find(&self, formula: Formula<'_>) -> Answer<()> {
        self.analysis.has(self.route, formula)
    }

    fn undecided(&self, what: &str, report: &mut Report) {
        let message = format!("whether {what} was not decided");
        let hint =
            "nothing is wrong; simpler conditions, or fewer at one rule, can be decided".to_owned();
        report.add(&UNDECIDED, self.fields.span(), message, hint);
    }
}

/// That the condition of `rule` does what the rule is for.
fn holds(rule: &Rule, effect: Effect) -> Formula<'_> {
    match effect {
        Effect::Allow => when(rule).surely(),
        Effect::Deny => when(rule).maybe(),
    }
}

/// That none of these rules, which allow, decides.
fn none_of<'a>(rules: &[&'a Rule]) -> Formula<'a> {
    Formula::Any(rules.iter().map(|rule| questions::rule(rule).surely()).collect()).negated()
}

/// Tells when a route inside the `{**}` of another answers what that one would refuse.
fn overlaps(
    analysis: &Analysis<'_>,
    overlap: &overlap::Overlap<'_>,
    root: &Fields<'_>,
    report: &mut Report,
) {
    let (inner, outer) = (overlap.inner, overlap.outer);
    let policy = analysis.policy();
    let looser = Formula::All(vec![answered(policy, inner), answered(policy, outer).negated()]);
    let Answer::Sample(sample) = analysis.find(inner, looser) else { return };
    // What is shown as allowed is decided by what decides requests.
    if !judge(policy, &sample, None).is_ok_and(|judged| judged.verdict.is_allowed()) {
        return;
    }
    let span = root.tables("route").get(inner.number).map(|fields| fields.span_of("match"));
    let message = format!(
        "`{}` of route `{}` lies inside `{}` of route `{}`, and answers what that one would refuse",
        inner.pattern, inner.name, outer.pattern, outer.name
    );
    let hint = format!(
        "`{sample}` goes to `{}` and is allowed; only the rest goes to `{}`",
        inner.name, outer.name
    );
    report.add(&OVERLAP, span.unwrap_or_default(), message, hint);
}

/// Tells which tests cannot mean what they say.
fn tests(policy: &Policy, root: &Fields<'_>, report: &mut Report) {
    for fields in root.tables("test") {
        let (Some(run), Some(expect)) = (fields.text("do"), fields.text("expect")) else {
            continue;
        };
        let expected = expect.parse::<Expected>();
        if let Err(error) = &expected {
            report.add(&TEST_FORM, fields.span_of("expect"), error.to_string(), error.hint.clone());
        }
        let request = match run.parse::<Request>() {
            Ok(request) => request,
            Err(error) => {
                let (message, span) = (error.message.clone(), within(&fields, &error.span));
                report.add(&TEST_FORM, span, message, error.hint);
                continue;
            }
        };
        let roles = || policy.roles().iter().map(enforcer_model::Role::as_str);
        for name in request.who.iter().filter(|name| !name.contains(':')) {
            if policy.roles().index(name).is_none()
                && let Some(meant) = suggest(name, roles())
            {
                let message =
                    format!("`{name}` is no role of this policy, so it is taken for a principal");
                let hint = format!("did you mean `{meant}`?");
                report.add(&TEST_OF_NOTHING, fields.span_of("do"), message, hint);
            }
        }
        let about_route = matches!(expected, Ok(Expected::Allow(_) | Expected::Deny(_)));
        let Ok(judged) = judge(policy, &request, None) else { continue };
        if about_route && judged.path.is_some() && judged.route.is_none() {
            let message = "the request of this test leads to no route".to_owned();
            let hint = "correct host or path, or expect `404`".to_owned();
            report.add(&TEST_OF_NOTHING, fields.span_of("do"), message, hint);
        }
    }
}

/// A part of the sentence in its place in the file, unless escapes move it.
fn within(fields: &Fields<'_>, part: &std::ops::Range<usize>) -> Span {
    let whole = fields.span_of("do");
    let length = fields.text("do").map_or(0, str::len);
    // One quote on each side: the text stands there as it is.
    if whole.end.saturating_sub(whole.start) == length + 2 {
        let start = whole.start + 1 + part.start;
        return Span { start, end: whole.start + 1 + part.end.max(part.start + 1) };
    }
    whole
}
