//! The records of a block, put together again: any of them, or all in their order.

use std::ops::Range;

use super::columns::{HANDLE, HEX, LIST, NUMBER, ONE, SAME, TEXT, TIME, WIDTH_MAX};
use super::{PLAIN_BYTES_MAX, RECORD_BYTES_MAX};
use crate::digits;

/// What a block says, in columns.
#[derive(Debug)]
pub(super) struct Unpacked {
    streams: Streams,
    /// Parts of templates, with the values that all records share.
    texts: Vec<u8>,
    templates: Vec<Template>,
    columns: Vec<Column>,
    count: usize,
    /// The record that can be written next, and values of each column before it.
    next: usize,
    before: Vec<usize>,
}

#[derive(Debug)]
struct Streams {
    head: Vec<u8>,
    thin: Vec<u8>,
    raw: Vec<u8>,
}

/// What records of one kind share.
#[derive(Debug, Default)]
struct Template {
    /// A text, and the column of the value behind it.
    parts: Vec<(Range<usize>, usize)>,
    last: Range<usize>,
}

/// The same as it is written.
struct Written {
    holes: Vec<(Range<usize>, usize)>,
    last: Range<usize>,
}

/// The values of a field, and where they are.
#[derive(Debug)]
enum Column {
    One(Range<usize>),
    Same(usize),
    List { places: Places, values: Box<Self> },
    Text(Vec<Range<usize>>),
    Fixed { kind: u8, least: u64, planes: Vec<Plane> },
}

/// Which value of a list stands where: its high bytes, and its low ones.
#[derive(Clone, Copy, Debug)]
struct Places {
    high: Option<usize>,
    low: usize,
}

/// One byte of each value.
#[derive(Clone, Copy, Debug, Default)]
struct Plane {
    raw: bool,
    at: usize,
}

/// Reads the streams from front to back.
struct Reader<'a> {
    streams: &'a Streams,
    head: usize,
    thin: usize,
    raw: usize,
}

// === impl Unpacked ===

impl Unpacked {
    /// `count` records of these streams; none when they cannot be that.
    pub(super) fn read(head: Vec<u8>, thin: Vec<u8>, raw: Vec<u8>, count: usize) -> Option<Self> {
        let streams = Streams { head, thin, raw };
        let mut reader = Reader { streams: &streams, head: 0, thin: 0, raw: 0 };
        let templates = reader.number()?;
        let mut written = Vec::new();
        for _ in 0..templates {
            let mut holes = Vec::new();
            for _ in 0..reader.number()? {
                holes.push((reader.text()?, reader.number()?));
            }
            written.push(Written { holes, last: reader.text()? });
        }
        let of = reader.thin(count)?;
        let mut used = vec![0_usize; written.len()];
        for template in streams.thin.get(of..of + count)? {
            *used.get_mut(usize::from(*template))? += 1;
        }
        let known = reader.number()?;
        // Each takes a byte at the least.
        (known <= streams.head.len()).then_some(())?;
        let mut values = vec![0_usize; known];
        for (template, used) in written.iter().zip(&used) {
            for (_, column) in &template.holes {
                *values.get_mut(*column)? += used;
            }
        }
        let mut columns: Vec<Column> = Vec::with_capacity(known);
        for count in &values {
            let column = reader.column(*count, &columns, &values)?;
            columns.push(column);
        }
        reader.is_at_end().then_some(())?;
        let mut texts = Vec::new();
        let templates = written.iter().map(|it| it.join(&streams.head, &columns, &mut texts));
        let templates = templates.collect::<Option<Vec<_>>>()?;
        let before = vec![0; columns.len()];
        Some(Self { streams, texts, templates, columns, count, next: 0, before })
    }

    /// Appends the record at `place`.
    pub(super) fn write(&mut self, place: usize, to: &mut Vec<u8>) -> Option<()> {
        if place != self.next {
            self.seek(place)?;
        }
        self.next = usize::MAX;
        let longest = to.len() + RECORD_BYTES_MAX;
        let template = self.templates.get(usize::from(*self.streams.thin.get(place)?))?;
        for (text, column) in &template.parts {
            to.extend_from_slice(self.texts.get(text.clone())?);
            let row = self.before.get_mut(*column)?;
            self.columns.get(*column)?.write(*row, &self.columns, &self.streams, to)?;
            *row += 1;
            (to.len() <= longest).then_some(())?;
        }
        to.extend_from_slice(self.texts.get(template.last.clone())?);
        self.next = place + 1;
        (to.len() <= longest).then_some(())
    }

    fn seek(&mut self, place: usize) -> Option<()> {
        (place < self.count).then_some(())?;
        let mut used = vec![0_usize; self.templates.len()];
        for template in self.streams.thin.get(..place)? {
            *used.get_mut(usize::from(*template))? += 1;
        }
        self.before.fill(0);
        for (template, used) in self.templates.iter().zip(used) {
            for (_, column) in &template.parts {
                *self.before.get_mut(*column)? += used;
            }
        }
        Some(())
    }
}

impl Written {
    /// With the values that every record has in it.
    fn join(&self, head: &[u8], columns: &[Column], texts: &mut Vec<u8>) -> Option<Template> {
        let mut parts = Vec::new();
        let mut begin = texts.len();
        for (text, column) in &self.holes {
            texts.extend_from_slice(head.get(text.clone())?);
            if let Column::One(value) = columns.get(*column)? {
                texts.extend_from_slice(head.get(value.clone())?);
            } else {
                parts.push((begin..texts.len(), *column));
                begin = texts.len();
            }
            // Each template is that of a record.
            (texts.len() <= PLAIN_BYTES_MAX).then_some(())?;
        }
        texts.extend_from_slice(head.get(self.last.clone())?);
        (texts.len() <= PLAIN_BYTES_MAX).then_some(())?;
        Some(Template { parts, last: begin..texts.len() })
    }
}

// === impl Column ===

impl Column {
    /// Appends the value at `row`.
    fn write(
        &self,
        row: usize,
        columns: &[Self],
        streams: &Streams,
        to: &mut Vec<u8>,
    ) -> Option<()> {
        match self {
            Self::One(value) => to.extend_from_slice(streams.head.get(value.clone())?),
            Self::Same(other) => return columns.get(*other)?.write(row, &[], streams, to),
            Self::List { places, values } => {
                let high = match places.high {
                    Some(high) => usize::from(*streams.thin.get(high + row)?) << 8,
                    None => 0,
                };
                let place = high | usize::from(*streams.thin.get(places.low + row)?);
                return values.write(place, &[], streams, to);
            }
            Self::Text(values) => {
                to.extend_from_slice(streams.head.get(values.get(row)?.clone())?);
            }
            Self::Fixed { kind, least, planes } => {
                let bytes = planes.iter().map(|plane| {
                    let stream = if plane.raw { &streams.raw } else { &streams.thin };
                    stream.get(plane.at + row).copied().unwrap_or_default()
                });
                if *kind == HEX {
                    digits::push_hex(to, bytes);
                    return Some(());
                }
                let number = bytes.fold(0, |number, byte| number << 8 | u64::from(byte));
                match *kind {
                    NUMBER => digits::push_number(to, least.checked_add(number)?),
                    TIME => return digits::push_time(to, least.checked_add(number)?),
                    _ => digits::push_handle(to, number),
                }
            }
        }
        Some(())
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.streams.head.get(self.head)?;
        self.head += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0_usize;
        for place in 0..4 {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7F) << (7 * place);
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// As many bytes of the head.
    fn bytes(&mut self, length: usize) -> Option<Range<usize>> {
        let range = self.head..self.head + length;
        self.streams.head.get(range.clone())?;
        self.head = range.end;
        Some(range)
    }

    fn text(&mut self) -> Option<Range<usize>> {
        let length = self.number()?;
        self.bytes(length)
    }

    /// Where as many thin bytes begin.
    fn thin(&mut self, count: usize) -> Option<usize> {
        let begin = self.thin;
        self.streams.thin.get(begin..begin + count)?;
        self.thin += count;
        Some(begin)
    }

    fn is_at_end(&self) -> bool {
        let Streams { head, thin, raw } = self.streams;
        (self.head, self.thin, self.raw) == (head.len(), thin.len(), raw.len())
    }

    /// The next column, of `count` values; `counts` are those of all columns.
    fn column(&mut self, count: usize, before: &[Column], counts: &[usize]) -> Option<Column> {
        match self.byte()? {
            ONE => Some(Column::One(self.text()?)),
            SAME => {
                let other = self.number()?;
                let fits = other < before.len() && counts.get(other) == Some(&count);
                let known = before.get(other).filter(|_| fits)?;
                (!matches!(known, Column::Same(_))).then_some(Column::Same(other))
            }
            LIST => {
                let few = self.number()?;
                let places = match self.number()? {
                    0 => {
                        let many = few > usize::from(u8::MAX) + 1;
                        let high = if many { Some(self.thin(count)?) } else { None };
                        Places { high, low: self.thin(count)? }
                    }
                    number => {
                        let fits = counts.get(number - 1) == Some(&count);
                        let known = before.get(number - 1).filter(|_| fits);
                        let Some(Column::List { places, .. }) = known else { return None };
                        *places
                    }
                };
                let kind = self.byte()?;
                Some(Column::List { places, values: Box::new(self.plain(kind, few)?) })
            }
            kind => self.plain(kind, count),
        }
    }

    /// Values that are written each for itself.
    fn plain(&mut self, kind: u8, count: usize) -> Option<Column> {
        if kind == TEXT {
            // Each has a length.
            (count <= self.streams.head.len()).then_some(())?;
            let lengths = (0..count).map(|_| self.number()).collect::<Option<Vec<_>>>()?;
            let values = lengths.iter().map(|length| self.bytes(*length));
            return values.collect::<Option<Vec<_>>>().map(Column::Text);
        }
        let width = usize::from(self.byte()?);
        let longest = if kind == HEX { WIDTH_MAX } else { size_of::<u64>() };
        let fits = matches!(kind, NUMBER | TIME | HEX | HANDLE) && (1..=longest).contains(&width);
        fits.then_some(())?;
        let mut least = 0;
        if matches!(kind, NUMBER | TIME) {
            for _ in 0..size_of::<u64>() {
                least = least << 8 | u64::from(self.byte()?);
            }
        }
        let mask = self.bytes(width.div_ceil(8))?;
        let mask = self.streams.head.get(mask)?.iter().rev();
        let mask = mask.fold(0_u32, |mask, byte| mask << 8 | u32::from(*byte));
        let mut planes = vec![Plane::default(); width];
        for (place, plane) in planes.iter_mut().enumerate() {
            plane.raw = mask >> place & 1 == 1;
            plane.at = if plane.raw {
                let begin = self.raw;
                self.streams.raw.get(begin..begin + count)?;
                self.raw += count;
                begin
            } else {
                self.thin(count)?
            };
        }
        Some(Column::Fixed { kind, least, planes })
    }
}
