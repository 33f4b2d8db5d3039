//! The policy file as text: from byte offsets to lines and columns.

use std::ops::Range;
use std::sync::Arc;

/// A range of bytes in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The file's text with the beginnings of its lines.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    pub(crate) file: Arc<str>,
    text: &'a str,
    starts: Vec<usize>,
}

/// Where a span begins, for people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    /// Counted from one.
    pub(crate) line: usize,
    /// Counted from one, in characters.
    pub(crate) column: usize,
    /// Characters of the span that lie on its first line.
    pub(crate) width: usize,
    /// That line without its end.
    pub(crate) line_text: &'a str,
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

impl<'a> Text<'a> {
    pub(crate) fn new(text: &'a str, file: Arc<str>) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
        Self { file, text, starts: starts.collect() }
    }

    pub(crate) fn place(&self, span: Span) -> Place<'a> {
        let line = self.starts.partition_point(|&start| start <= span.start).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let rest = self.text.get(start..).unwrap_or_default();
        let line_text = rest.lines().next().unwrap_or_default();
        let before = |offset: usize| {
            line_text.char_indices().take_while(|(at, _)| start + at < offset).count()
        };
        let indent = before(span.start);
        Place {
            line,
            column: indent + 1,
            width: before(span.end).saturating_sub(indent),
            line_text,
        }
    }
}
