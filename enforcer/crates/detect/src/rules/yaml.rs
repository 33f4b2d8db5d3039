//! YAML as a tree with places: lists, tables and texts, nothing else.
//!
//! What a file can do with anchors, aliases, tags and keys written twice is refused: a rule means
//! what stands in front of the reader, and no file grows while it is read. Depth, size and the number
//! of parts are bounded.

use std::ops::Range;

use enforcer_condition::brief;
use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::Found;

/// The longest file of rules, in bytes.
pub const FILE_BYTES_MAX: usize = 256 << 10;

/// The deepest nesting.
const DEPTH_MAX: usize = 12;

/// The most parts of a file.
const NODES_MAX: usize = 20_000;

/// A part of a file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Text(String),
    List(Vec<Node>),
    Table(Vec<(Node, Node)>),
}

/// The documents of `text`, or the one thing that is wrong with it as YAML.
pub(super) fn read(text: &str) -> Result<Vec<Node>, Found> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("{} bytes are more than {FILE_BYTES_MAX}", text.len());
        return Err(Found::new(0..0, message, "split the file"));
    }
    // Offsets of the parser count characters.
    let starts: Vec<usize> = if text.is_ascii() {
        Vec::new()
    } else {
        text.char_indices().map(|(at, _)| at).chain([text.len()]).collect()
    };
    let mut reader = Reader { text, starts, parser: Parser::new_from_str(text), nodes: 0 };
    let mut documents = Vec::new();
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(documents),
            Event::Nothing
            | Event::StreamStart
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            // Nothing at all between two documents.
            | Event::SequenceEnd
            | Event::MappingEnd => {}
            event @ (Event::Alias(_)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::MappingStart(..)) => {
                let node = reader.node(event, span, 0)?;
                if !matches!(&node.kind, Kind::Text(text) if text.is_empty() || text == "~") {
                    documents.push(node);
                }
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    starts: Vec<usize>,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Range<usize>), Found> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, self.text.len()..self.text.len())),
            Some(Ok((event, span))) => {
                let span = self.bytes(&event, span);
                Ok((event, span))
            }
            Some(Err(error)) => {
                let at = self.byte(error.marker().index());
                let message = format!("this is not YAML: {}", brief(error.info()));
                let hint = "indent with spaces, and quote texts that have `: `, `#` or a quote";
                Err(Found::new(at..at, message, hint))
            }
        }
    }

    fn byte(&self, index: usize) -> usize {
        if self.starts.is_empty() {
            return index.min(self.text.len());
        }
        self.starts.get(index).copied().unwrap_or(self.text.len())
    }

    /// The bytes of `span`, without blanks around a plain text.
    fn bytes(&self, event: &Event<'_>, span: Span) -> Range<usize> {
        let (start, end) = (self.byte(span.start.index()), self.byte(span.end.index()));
        let end = end.max(start);
        match event {
            Event::Scalar(_, ScalarStyle::Plain, ..) => {
                let written = self.text.get(start..end).unwrap_or_default();
                start..start + written.trim_end().len()
            }
            // The part, not what follows it.
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                let rest = self.text.get(start..).unwrap_or_default();
                start..start + rest.lines().next().unwrap_or_default().trim_end().len()
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::Alias(_)
            | Event::Scalar(..)
            | Event::SequenceEnd
            | Event::MappingEnd => start..end,
        }
    }

    fn node(&mut self, event: Event<'a>, span: Range<usize>, depth: usize) -> Result<Node, Found> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message = format!("the file has more than {NODES_MAX} parts");
            return Err(Found::new(span, message, "split the file"));
        }
        if depth > DEPTH_MAX {
            let message = format!("this is nested deeper than {DEPTH_MAX}");
            return Err(Found::new(span, message, "no rule is that deep"));
        }
        let kind = match event {
            Event::Scalar(text, _, anchor, tag) => {
                plain(anchor, tag.is_some(), &span)?;
                Kind::Text(text.into_owned())
            }
            Event::SequenceStart(anchor, tag) => {
                plain(anchor, tag.is_some(), &span)?;
                let mut list = Vec::new();
                loop {
                    let (event, at) = self.next()?;
                    if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                        break Kind::List(list);
                    }
                    list.push(self.node(event, at, depth + 1)?);
                }
            }
            Event::MappingStart(anchor, tag) => {
                plain(anchor, tag.is_some(), &span)?;
                self.table(depth)?
            }
            Event::Alias(_) => {
                let hint = "write the value where it belongs";
                return Err(Found::new(span, "aliases are not read", hint));
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(Found::new(span, "a value is missing here", "write one"));
            }
        };
        Ok(Node { span, kind })
    }

    fn table(&mut self, depth: usize) -> Result<Kind, Found> {
        let mut table: Vec<(Node, Node)> = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(Kind::Table(table));
            }
            let key = self.node(event, at, depth + 1)?;
            let Kind::Text(name) = &key.kind else {
                return Err(Found::new(key.span, "a key is a plain word", "write `key: value`"));
            };
            let is_same =
                |(known, _): &(Node, Node)| matches!(&known.kind, Kind::Text(k) if k == name);
            if table.iter().any(is_same) {
                let message = format!("`{}` stands here twice", brief(name));
                return Err(Found::new(key.span, message, "remove one of the two"));
            }
            let (event, at) = self.next()?;
            let value = self.node(event, at, depth + 1)?;
            table.push((key, value));
        }
    }
}

fn plain(anchor: usize, tagged: bool, span: &Range<usize>) -> Result<(), Found> {
    let what = match (anchor, tagged) {
        (0, false) => return Ok(()),
        (0, true) => "tags are not read",
        _ => "anchors are not read",
    };
    Err(Found::new(span.clone(), what, "write the plain value"))
}

/// Where the byte `at` of the text `value` stands in `written`, which is how it was written.
///
/// Quotes, and line ends that were folded, are the difference between the two; a text with escapes is
/// shown from its beginning.
pub(super) fn inside(written: &str, value: &str, at: usize) -> usize {
    let mut places = written.char_indices().filter(|(_, c)| !c.is_whitespace());
    let mut wanted = value.char_indices().filter(|(_, c)| !c.is_whitespace()).peekable();
    let Some((_, first)) = wanted.peek().copied() else { return 0 };
    // The quote, or the sign of a block with its indentation.
    let is_block = written.starts_with(['|', '>']);
    let mut place = if is_block {
        let head = written.find('\n').unwrap_or(0);
        places.find(|(at, _)| *at > head)
    } else {
        let opening = written.starts_with(['"', '\'']) && first_differs(written, first);
        if opening { places.nth(1) } else { places.next() }
    };
    let mut last = 0;
    for (offset, c) in wanted {
        let Some((here, written)) = place else { return last };
        if c != written {
            return 0;
        }
        if offset >= at {
            return here;
        }
        last = here + c.len_utf8();
        place = places.next();
    }
    last
}

/// Whether the quote at the beginning is a sign of YAML and not of the text.
fn first_differs(written: &str, first: char) -> bool {
    !written.starts_with(first) || written.chars().nth(1) == Some(first)
}
