//! What is wrong with a file of rules: all of it, each with its place and the way out.

use std::error::Error;
use std::fmt;
use std::ops::Range;

/// One thing that is wrong with a file of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleProblem {
    /// The bytes that it is about.
    pub span: Range<usize>,
    /// Counted from one.
    pub line: usize,
    /// Counted from one, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
    excerpt: String,
    width: usize,
}

/// The same, before its line is known.
#[derive(Debug)]
pub(super) struct Found {
    span: Range<usize>,
    message: String,
    hint: String,
}

/// The most characters of a line that are shown.
const EXCERPT_MAX: usize = 120;

impl Found {
    pub(super) fn new(
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { span, message: message.into(), hint: hint.into() }
    }

    pub(super) const fn start(&self) -> usize {
        self.span.start
    }

    pub(super) fn placed(self, text: &str) -> RuleProblem {
        let Self { span, message, hint } = self;
        let before = text.get(..span.start).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(start..).unwrap_or_default().chars().count() + 1;
        let whole = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let shown = |c: char| if enforcer_condition::is_unseen(c) { '\u{FFFD}' } else { c };
        let excerpt: String = whole.chars().take(EXCERPT_MAX).map(shown).collect();
        let marked = text.get(span.clone()).unwrap_or_default();
        let width = marked.lines().next().unwrap_or_default().chars().count();
        let room = excerpt.chars().count().saturating_sub(column - 1);
        let width = width.min(room).max(1);
        RuleProblem { span, line, column, message, hint, excerpt, width }
    }
}

impl RuleProblem {
    /// With the name of the file, the line, and a caret below what it is about.
    pub fn shown(&self, file: &str) -> String {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let indent = " ".repeat(self.column - 1);
        let marks = "^".repeat(self.width);
        let Self { line, column, message, hint, excerpt, .. } = self;
        format!(
            "error: {message}\n{gutter}--> {file}:{line}:{column}\n{gutter} |\n{number} | {excerpt}\n\
             {gutter} | {indent}{marks}\n{gutter} = hint: {hint}"
        )
    }
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}; {}", self.line, self.column, self.message, self.hint)
    }
}

impl Error for RuleProblem {}
