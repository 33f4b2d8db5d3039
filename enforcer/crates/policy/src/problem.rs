//! What is wrong with a policy: all of it, each with its place, its line and the way out.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::codes::Code;
use crate::text::{Span, Text};

/// One thing that is wrong, or doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A stable name, such as `E-POL-002`; [`crate::explain`] knows it.
    pub code: &'static str,
    /// Whether the policy can be used all the same.
    pub severity: Severity,
    /// The file as it was named.
    pub file: Arc<str>,
    /// Counted from one.
    pub line: usize,
    /// Counted from one, in characters.
    pub column: usize,
    /// What is wrong, in one sentence that stands by itself.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    excerpt: String,
    caret: Caret,
}

/// Whether a policy can be used all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but somebody should look.
    Warning,
}

/// Everything that is wrong with a policy, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    found: Vec<Problem>,
    more: usize,
}

/// Where the marks go under the excerpt, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Caret {
    indent: usize,
    width: usize,
}

/// Collects problems while a policy is read; places are byte spans until [`Report::finish`].
#[derive(Debug, Default)]
pub(crate) struct Report {
    found: Vec<Found>,
    more: usize,
}

#[derive(Debug)]
pub(crate) struct Found {
    code: &'static Code,
    span: Span,
    message: String,
    hint: Option<String>,
}

/// Problems that are kept and told; more than this are only counted.
const FOUND_MAX: usize = 200;
/// Characters of a source line that are shown.
const EXCERPT_MAX: usize = 120;

impl Report {
    /// Notes that something is wrong at `span`.
    pub(crate) fn add(
        &mut self,
        code: &'static Code,
        span: Span,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        if self.found.len() < FOUND_MAX {
            self.found.push(Found { code, span, message: message.into(), hint: hint.into() });
        } else if code.severity == Severity::Error {
            self.more += 1;
        }
    }

    /// Whether further problems are only counted; a costly hint has no reader then.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= FOUND_MAX
    }

    /// Whether this was noted at `span` before.
    pub(crate) fn has(&self, code: &Code, span: Span) -> bool {
        self.found.iter().any(|found| found.code.name == code.name && found.span == span)
    }

    /// Whether something was found that is more than a warning.
    pub(crate) fn has_errors(&self) -> bool {
        self.more > 0 || self.found.iter().any(|found| found.code.severity == Severity::Error)
    }

    /// The warnings alone when nothing is wrong, else everything.
    pub(crate) fn finish(mut self, text: &Text<'_>) -> Result<Vec<Problem>, Problems> {
        self.found.sort_by_key(|found| (found.span.start, found.code.name));
        let wrong = self.has_errors();
        let found = self.found.into_iter().map(|found| found.placed(text)).collect();
        if wrong { Err(Problems { found, more: self.more }) } else { Ok(found) }
    }
}

impl Found {
    fn placed(self, text: &Text<'_>) -> Problem {
        let place = text.place(self.span);
        // A long line is shown from a little before the problem.
        let skipped =
            if place.column > EXCERPT_MAX / 2 { place.column - EXCERPT_MAX / 4 } else { 0 };
        let shown = |c: char| if c.is_control() && c != '\t' { '\u{FFFD}' } else { c };
        let excerpt: String =
            place.line_text.chars().skip(skipped).take(EXCERPT_MAX).map(shown).collect();
        let indent = (place.column - 1).saturating_sub(skipped);
        let room = excerpt.chars().count().saturating_sub(indent).max(1);
        Problem {
            code: self.code.name,
            severity: self.code.severity,
            file: Arc::clone(&text.file),
            line: place.line,
            column: place.column,
            message: harmless(&self.message),
            hint: self.hint.as_deref().map(harmless),
            excerpt,
            caret: Caret { indent, width: place.width.clamp(1, room) },
        }
    }
}

/// Text from a file must not move the cursor of a terminal.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() { shown.extend(letter.escape_unicode()) } else { shown.push(letter) }
    }
    shown
}

impl Problems {
    /// Each of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.found.iter()
    }

    /// How many, warnings included.
    pub fn len(&self) -> usize {
        self.found.len() + self.more
    }

    /// Whether there are none; never so in an error.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs stay tabs, so that the marks stand below what they mark.
        let indent: String = self
            .excerpt
            .chars()
            .take(self.caret.indent)
            .map(|c| if c == '\t' { c } else { ' ' })
            .collect();
        writeln!(f, "{}[{}]: {}", self.severity, self.code, self.message)?;
        writeln!(f, "{gutter}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", self.excerpt)?;
        write!(f, "{gutter} | {indent}{}", "^".repeat(self.caret.width))?;
        match &self.hint {
            Some(hint) => write!(f, "\n{gutter} = hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.found.iter().enumerate() {
            let gap = if n == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{problem}")?;
        }
        if self.more > 0 {
            write!(f, "\n\nand {} more problems", self.more)?;
        }
        Ok(())
    }
}

impl Error for Problems {}
