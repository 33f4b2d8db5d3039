//! The policy file as text: from byte offsets to lines and columns.

use std::iter::Peekable;
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

/// Where the bytes of a TOML string's value stand in the file.
#[derive(Debug)]
pub(crate) struct Inside {
    token: Span,
    /// For each byte of the value, and for its end; empty when they could not be found.
    at: Vec<usize>,
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

    /// Where the bytes of `value` stand, which was written as the string `token`.
    pub(crate) fn inside(&self, token: Span, value: &str) -> Inside {
        let source = self.text.get(token.start..token.end).unwrap_or_default();
        let found = unquote(source).filter(|(read, _)| read == value);
        let at = found.map(|(_, at)| at.into_iter().map(|at| token.start + at).collect());
        Inside { token, at: at.unwrap_or_default() }
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

impl Inside {
    /// The place of `range` of the value; the whole string where it is not known.
    pub(crate) fn span(&self, range: &Range<usize>) -> Span {
        match (self.at.get(range.start), self.at.get(range.end)) {
            (Some(&start), Some(&end)) if start <= end => Span { start, end },
            _ => self.token,
        }
    }
}

/// The value of a TOML string, and for each of its bytes and its end the place in `source`.
fn unquote(source: &str) -> Option<(String, Vec<usize>)> {
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| source.starts_with(quote))?;
    let inner = source.strip_prefix(quote)?.strip_suffix(quote)?;
    let (mut value, mut places) = (String::new(), Vec::new());
    let mut letters = inner.char_indices().map(|(at, c)| (quote.len() + at, c)).peekable();
    if quote.len() == 3 {
        // The line end right behind the quotes is not a part of the value.
        let _ = letters.next_if(|(_, c)| *c == '\r');
        let _ = letters.next_if(|(_, c)| *c == '\n');
    }
    while let Some((at, letter)) = letters.next() {
        let letter = if letter == '\\' && quote.starts_with('"') {
            match escaped(&mut letters)? {
                Some(letter) => letter,
                None => continue,
            }
        } else {
            letter
        };
        places.extend(std::iter::repeat_n(at, letter.len_utf8()));
        value.push(letter);
    }
    places.push(source.len() - quote.len());
    Some((value, places))
}

/// What an escape stands for, behind its backslash; inner `None` for a line that goes on.
fn escaped(letters: &mut Peekable<impl Iterator<Item = (usize, char)>>) -> Option<Option<char>> {
    let (_, kind) = letters.next()?;
    if is_blank(kind) {
        while letters.next_if(|(_, c)| is_blank(*c)).is_some() {}
        return Some(None);
    }
    let mut code = |digits: usize| {
        let hex: String = letters.by_ref().take(digits).map(|(_, c)| c).collect();
        char::from_u32(u32::from_str_radix(&hex, 16).ok()?)
    };
    Some(Some(match kind {
        'b' => '\u{8}',
        't' => '\t',
        'n' => '\n',
        'f' => '\u{c}',
        'r' => '\r',
        'e' => '\u{1b}',
        '"' => '"',
        '\\' => '\\',
        'x' => code(2)?,
        'u' => code(4)?,
        'U' => code(8)?,
        _ => return None,
    }))
}

const fn is_blank(letter: char) -> bool {
    letter.is_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_inside_a_string_is_found_through_every_kind_of_quotes() {
        for source in [
            r#""a \"b\" \u00e4 c""#,
            "'a \"b\" \u{e4} c'",
            "\"\"\"\na \\\"b\" \\u00E4 \\\n    c\"\"\"",
            "'''\na \"b\" \u{e4} c'''",
        ] {
            let file = format!("key = {source}\n");
            let text = Text::new(&file, "f".into());
            let value = toml::from_str::<toml::Table>(&file).unwrap();
            let value = value.get("key").unwrap().as_str().unwrap().to_owned();
            assert_eq!(value, "a \"b\" \u{e4} c");

            let inside = text.inside(Span { start: 6, end: 6 + source.len() }, &value);

            let shown = |word: &str| {
                let start = value.find(word).unwrap();
                let span = inside.span(&(start..start + word.len()));
                file.get(span.start..span.end).unwrap().to_owned()
            };
            assert_eq!(shown("a"), "a", "{source}");
            assert_eq!(shown("b"), "b", "{source}");
            assert_eq!(shown("c"), "c", "{source}");
            let end = inside.span(&(value.len()..value.len()));
            assert!(file.get(end.start..).unwrap().starts_with(['"', '\'']), "{source}");
        }
    }

    #[test]
    fn a_place_that_is_not_known_is_the_whole_string() {
        let text = Text::new("key = other", "f".into());
        let token = Span { start: 6, end: 11 };

        assert_eq!(text.inside(token, "value").span(&(0..2)), token);
        assert_eq!(text.inside(token, "other").span(&(0..99)), token);
    }
}
