//! A file of rules of detection, and events that it is asked about.

use std::ops::ControlFlow;

use enforcer_detect::rules::{
    Pattern, RulePlan, Rules, TABLE_BYTES_MAX, When, events, read, words,
};

/// What divides the rules from the events.
const DIVIDER: &str = "\n%%\n";

/// Different values that are counted one by one.
const EXACT_MAX: u64 = 192;

/// Events that are asked about.
const EVENTS_MAX: usize = 2_000;

/// A file of rules; behind a line with `%%`, lines of events.
///
/// The file is read, or each problem has a place inside it, a message and a hint, in the order of the
/// file, and moves no cursor. Each condition that is read reads again. Events are read or told; the
/// rules find the same in them twice, say why in words, and stay in the memory that they may take.
pub fn rule_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (file, lines) = text.split_once(DIVIDER).unwrap_or((text, "{\"repeat\":100}"));
    let plans = match read(file, &[]) {
        Ok(plans) => plans,
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a word");
            assert!(problems.is_sorted_by_key(|problem| problem.span.start), "told out of order");
            for problem in &problems {
                assert!(file.get(problem.span.clone()).is_some(), "{problem:?} is not inside");
                assert!(problem.line >= 1 && problem.column >= 1, "{problem:?} is nowhere");
                assert!(!problem.message.is_empty() && !problem.hint.is_empty(), "{problem:?}");
                let told = problem.to_string();
                assert!(!told.contains(|c: char| c.is_control()), "{told:?}");
                let shown = problem.shown("rules.yaml");
                assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
            }
            return;
        }
    };
    assert!(!plans.is_empty(), "a file without a rule was read");
    for plan in &plans {
        assert!(!words(plan).is_empty(), "{} has no words", plan.id);
        if let Some(when) = &plan.when {
            assert_eq!(When::parse(when.text()).as_ref(), Ok(when), "{} reads otherwise", plan.id);
        }
    }
    let mut once = Rules::new(&plans);
    let mut twice = Rules::new(&plans);
    let (mut count, mut first, mut second) = (0, Vec::new(), Vec::new());
    let read = events(lines, |past| {
        count += 1;
        once.observe(&past.event(), &mut first);
        twice.observe(&past.event(), &mut second);
        if count < EVENTS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if let Err(error) = read {
        assert!(!error.to_string().is_empty(), "lines refused without a word");
    }
    // Of very many values each engine keeps a part of its own.
    let is_exact = |plan: &RulePlan| match &plan.pattern {
        Pattern::ValueCount(_, threshold) => threshold.on <= EXACT_MAX,
        Pattern::EventCount(_)
        | Pattern::ValueSum(..)
        | Pattern::Ratio { .. }
        | Pattern::Temporal { .. } => true,
    };
    if plans.iter().all(|plan| is_exact(plan)) {
        assert_eq!(first, second, "two answers to the same events");
    }
    for finding in &first {
        assert!(plans.iter().any(|plan| plan.id == finding.rule && !plan.silent), "{finding:?}");
        assert!(!finding.explanation().is_empty() && finding.evidence.len() <= 16, "{finding:?}");
    }
    assert!(once.bytes() <= plans.len() * (TABLE_BYTES_MAX + (1 << 20)), "too much memory");
}
