//! Records of a block, made small before they are compressed: what they share is written once.
//!
//! A record is cut into what is the same in every record of its kind, its *template*, and *values*;
//! those of one field stand together in a *column*, each kind of column in as few bytes as it needs.
//! Where a record is cut is up to this writer: whoever reads puts the parts together again, and the
//! leaf hash tells whether they are right.

use std::collections::HashMap;

use super::columns::{self, Columns};

/// Templates that are remembered; a record that fits none is one value.
const TEMPLATES_MAX: usize = 64;
/// Values of one record.
const HOLES_MAX: usize = 256;
/// A personal value is a tilde and this.
const HANDLE_CHARACTERS: usize = 11;

/// The records of a block so far, in columns.
#[derive(Debug, Default)]
pub(super) struct Packer {
    templates: Vec<Template>,
    columns: Vec<Column>,
    /// Column by the name of its field.
    named: HashMap<Box<[u8]>, usize>,
    /// The template of each record.
    of: Vec<usize>,
    cuts: Vec<Cut>,
}

/// What records of one kind share.
#[derive(Debug, Default)]
struct Template {
    holes: Vec<Hole>,
    last: Box<[u8]>,
    used: bool,
}

/// A value's place: behind these bytes.
#[derive(Debug)]
struct Hole {
    before: Box<[u8]>,
    column: usize,
    ending: Ending,
}

/// How the end of a value is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// At the first byte that no number has.
    Number,
    /// At the quote.
    Quote,
    /// At the last slash before the quote.
    Slash,
    /// After so many characters.
    Handle,
    /// With the record.
    Record,
}

/// Where a value lies in a record, and how its end was found.
#[derive(Clone, Copy, Debug)]
struct Cut {
    begin: usize,
    end: usize,
    ending: Ending,
}

/// The values of a field.
#[derive(Debug, Default)]
pub(super) struct Column {
    pub(super) first: Vec<u8>,
    /// Values that are all like the first one, unless they vary.
    pub(super) count: usize,
    pub(super) varies: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<usize>,
}

// === impl Packer ===

impl Packer {
    pub(super) fn push(&mut self, record: &[u8]) {
        let last = self.of.last().copied().unwrap_or_default();
        let others = (0..self.templates.len()).filter(|other| *other != last);
        let fitting = std::iter::once(last).chain(others).find(|at| self.fits(*at, record));
        let template = fitting.unwrap_or_else(|| self.learn(record));
        self.take(template, record);
    }

    /// Whether `record` is of the template at `at`; where its values are is in `cuts` then.
    fn fits(&mut self, at: usize, record: &[u8]) -> bool {
        let Some(template) = self.templates.get(at).filter(|it| !it.is_whole()) else {
            return false;
        };
        self.cuts.clear();
        let mut begin = 0;
        let mut nexts = template.holes.iter().skip(1).map(|hole| &*hole.before);
        for (place, hole) in template.holes.iter().enumerate() {
            // What follows a value was compared when its end was looked for.
            if place == 0 {
                if !record.starts_with(&hole.before) {
                    return false;
                }
                begin = hole.before.len();
            }
            let next = nexts.next().unwrap_or(&template.last);
            let rest = record.get(begin..).unwrap_or_default();
            let same = self.columns.get(hole.column).filter(|column| !column.varies);
            let same = same.map(|column| &*column.first).filter(|first| {
                let rest = rest.strip_prefix(*first).filter(|_| !first.is_empty());
                rest.is_some_and(|rest| rest.starts_with(next))
            });
            let length = same.map_or_else(|| hole.ending.of(rest), <[u8]>::len);
            let end = begin + length;
            if !record.get(end..).is_some_and(|rest| rest.starts_with(next)) {
                return false;
            }
            self.cuts.push(Cut { begin, end, ending: hole.ending });
            begin = end + next.len();
        }
        // Without a hole there is nothing but the last part.
        if template.holes.is_empty() { *record == *template.last } else { begin == record.len() }
    }

    /// The template of `record`, which fits none so far.
    fn learn(&mut self, record: &[u8]) -> usize {
        cut(record, &mut self.cuts);
        if self.templates.len() >= TEMPLATES_MAX || self.cuts.len() > HOLES_MAX {
            let whole = Cut { begin: 0, end: record.len(), ending: Ending::Record };
            self.cuts.clear();
            self.cuts.push(whole);
            if let Some(known) = self.templates.iter().position(Template::is_whole) {
                return known;
            }
        }
        let mut template = Template::default();
        let mut begin = 0;
        for cut in &self.cuts {
            let before: Box<[u8]> = record.get(begin..cut.begin).unwrap_or_default().into();
            let name = before.iter().rposition(|byte| matches!(byte, b'{' | b','));
            let name = before.get(name.unwrap_or_default()..).unwrap_or_default();
            let next = self.named.len();
            let column = *self.named.entry(name.into()).or_insert(next);
            if column == next {
                self.columns.push(Column::default());
            }
            template.holes.push(Hole { before, column, ending: cut.ending });
            begin = cut.end;
        }
        template.last = record.get(begin..).unwrap_or_default().into();
        self.templates.push(template);
        self.templates.len() - 1
    }

    fn take(&mut self, at: usize, record: &[u8]) {
        self.of.push(at);
        let Some(template) = self.templates.get_mut(at) else { return };
        template.used = true;
        for (hole, cut) in template.holes.iter().zip(&self.cuts) {
            let value = record.get(cut.begin..cut.end).unwrap_or_default();
            if let Some(column) = self.columns.get_mut(hole.column) {
                column.push(value);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.of.clear();
        self.columns.iter_mut().for_each(Column::clear);
        self.templates.iter_mut().for_each(|template| template.used = false);
        // Room for what comes next; the one of whole records is learned again.
        if self.templates.len() >= TEMPLATES_MAX {
            *self = Self::default();
        }
    }

    /// Writes everything down: what is to be compressed, twice, and what cannot be.
    pub(super) fn pack(&self, streams: &mut Streams) {
        streams.clear();
        let mut numbers = vec![None; self.columns.len()];
        let mut columns = Vec::new();
        let mut templates = vec![0; self.templates.len()];
        let used = self.templates.iter().zip(&mut templates).filter(|(it, _)| it.used);
        let head = &mut streams.head;
        varint(head, self.templates.iter().filter(|template| template.used).count());
        for (number, (template, place)) in used.enumerate() {
            *place = number;
            varint(head, template.holes.len());
            for hole in &template.holes {
                text(head, &hole.before);
                let Some(known) = numbers.get_mut(hole.column) else { continue };
                let number = *known.get_or_insert(columns.len());
                if number == columns.len() {
                    columns.extend(self.columns.get(hole.column));
                }
                varint(head, number);
            }
            text(head, &template.last);
        }
        let of = self.of.iter().filter_map(|at| templates.get(*at));
        streams.thin.extend(of.filter_map(|number| u8::try_from(*number).ok()));
        varint(&mut streams.head, columns.len());
        let mut written = Columns::default();
        for column in &columns {
            columns::write(column, &mut written, streams);
        }
    }
}

/// What a block is made of.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Texts and numbers.
    pub(super) head: Vec<u8>,
    /// Bytes that take few values.
    pub(super) thin: Vec<u8>,
    /// Bytes that take all of them.
    pub(super) raw: Vec<u8>,
}

impl Streams {
    fn clear(&mut self) {
        self.head.clear();
        self.thin.clear();
        self.raw.clear();
    }
}

/// Appends a number, seven bits in a byte, the low ones first.
pub(super) fn varint(to: &mut Vec<u8>, number: usize) {
    let mut rest = number;
    loop {
        let low = u8::try_from(rest & 0x7F).unwrap_or_default();
        rest >>= 7;
        if rest == 0 {
            return to.push(low);
        }
        to.push(low | 0x80);
    }
}

/// Appends a length and as many bytes.
pub(super) fn text(to: &mut Vec<u8>, bytes: &[u8]) {
    varint(to, bytes.len());
    to.extend_from_slice(bytes);
}

// === impl Template ===

impl Template {
    fn is_whole(&self) -> bool {
        matches!(&*self.holes, [hole] if hole.ending == Ending::Record)
    }
}

// === impl Column ===

impl Column {
    fn push(&mut self, value: &[u8]) {
        if !self.varies {
            if self.count == 0 {
                self.first.clear();
                self.first.extend_from_slice(value);
            }
            if value == self.first {
                self.count += 1;
                return;
            }
            self.varies = true;
            for _ in 0..self.count {
                self.bytes.extend_from_slice(&self.first);
                self.ends.push(self.bytes.len());
            }
        }
        self.count += 1;
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    fn clear(&mut self) {
        // The first value stays: it is what the next block is likely to begin with.
        self.count = 0;
        self.varies = false;
        self.bytes.clear();
        self.ends.clear();
    }

    /// The values of one that varies.
    pub(super) fn values(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| self.bytes.get(begin..*end).unwrap_or_default())
    }
}

// === impl Ending ===

impl Ending {
    /// The length of the value at the front of `rest`.
    fn of(self, rest: &[u8]) -> usize {
        match self {
            Self::Number => rest.iter().position(|byte| !is_number(*byte)).unwrap_or(rest.len()),
            Self::Quote => quote(rest),
            Self::Slash => {
                let value = rest.get(..quote(rest)).unwrap_or_default();
                memchr::memrchr(b'/', value).unwrap_or(value.len())
            }
            Self::Handle => HANDLE_CHARACTERS,
            Self::Record => rest.len(),
        }
    }
}

const fn is_number(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b'-'
}

/// How far the end of the string is whose inside begins `rest`.
fn quote(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = rest.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if rest.get(at) == Some(&b'"') {
            return at;
        }
        at += 2;
    }
    rest.len()
}

/// Finds the values of `record`: numbers, and strings that are no names.
fn cut(record: &[u8], cuts: &mut Vec<Cut>) {
    cuts.clear();
    let mut at = 0;
    while let Some(byte) = record.get(at) {
        let rest = record.get(at + 1..).unwrap_or_default();
        if is_number(*byte) {
            let length = Ending::Number.of(record.get(at..).unwrap_or_default());
            cuts.push(Cut { begin: at, end: at + length, ending: Ending::Number });
            at += length;
        } else if *byte == b'"' {
            let (begin, length) = (at + 1, quote(rest));
            let end = begin + length;
            if record.get(end + 1) != Some(&b':') {
                cut_string(record, begin, end, cuts);
            }
            at = end + 1;
        } else {
            at += 1;
        }
    }
}

/// What stands in the string from `begin` to `end`: parts of it vary apart from each other.
fn cut_string(record: &[u8], begin: usize, end: usize, cuts: &mut Vec<Cut>) {
    let value = record.get(begin..end).unwrap_or_default();
    let mut push = |begin, end, ending| cuts.push(Cut { begin, end, ending });
    let handle_ends = begin + 1 + HANDLE_CHARACTERS;
    match value {
        [b'~', handle @ ..] if handle.len() == HANDLE_CHARACTERS => {
            push(begin + 1, end, Ending::Handle);
        }
        [b'~', handle @ ..] if handle.get(HANDLE_CHARACTERS) == Some(&b':') => {
            push(begin + 1, handle_ends, Ending::Handle);
            push(handle_ends + 1, end, Ending::Quote);
        }
        [b'k', b'e', b'y', b':', ..] => push(begin + 4, end, Ending::Quote),
        [b'/', ..] => {
            let slash = begin + memchr::memrchr(b'/', value).unwrap_or_default();
            push(begin, slash, Ending::Slash);
            push(slash + 1, end, Ending::Quote);
        }
        _ => push(begin, end, Ending::Quote),
    }
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
