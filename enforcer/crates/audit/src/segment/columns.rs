//! How the values of one field are written down: by the first way that fits all of them.

use std::collections::HashMap;

use super::pack::{Column, Streams, text, varint};
use crate::digits;

/// All values are these bytes.
pub(super) const ONE: u8 = 0;
/// They are those of an earlier column.
pub(super) const SAME: u8 = 1;
/// Some values, and for each place which of them stands there.
pub(super) const LIST: u8 = 2;
/// Each with its length.
pub(super) const TEXT: u8 = 3;
/// Decimal digits.
pub(super) const NUMBER: u8 = 4;
/// Times as in a record.
pub(super) const TIME: u8 = 5;
/// Hexadecimal digits.
pub(super) const HEX: u8 = 6;
/// Handles of personal values.
pub(super) const HANDLE: u8 = 7;

/// The most bytes that a fixed value is made of.
pub(super) const WIDTH_MAX: usize = 32;
/// Values that are looked at to tell whether a list is worth it.
const TRIED: usize = 64;

/// The number that a text says.
type Parse = fn(&[u8]) -> Option<u64>;
/// Writes the bytes that a text says.
type Pack = fn(&[u8], &mut [u8]) -> Option<()>;

/// Columns that were written.
#[derive(Debug, Default)]
pub(super) struct Columns<'a> {
    columns: Vec<&'a Column>,
    /// Of each that is a list, which value stands where.
    places: Vec<Vec<u16>>,
}

/// Writes `column`, and remembers it.
pub(super) fn write<'a>(column: &'a Column, written: &mut Columns<'a>, streams: &mut Streams) {
    let mut places = Vec::new();
    if !column.varies {
        streams.head.push(ONE);
        text(&mut streams.head, &column.first);
    } else if let Some(number) = written.columns.iter().position(|other| other.is(column)) {
        streams.head.push(SAME);
        varint(&mut streams.head, number);
    } else if !numbers(column, streams) {
        let values: Vec<&[u8]> = column.values().collect();
        match list(&values) {
            Some((few, of)) => {
                streams.head.push(LIST);
                varint(&mut streams.head, few.len());
                match written.places.iter().position(|other| *other == of) {
                    Some(number) => varint(&mut streams.head, number + 1),
                    None => {
                        varint(&mut streams.head, 0);
                        let many = few.len() > usize::from(u8::MAX) + 1;
                        if many {
                            streams.thin.extend(of.iter().map(|place| place.to_be_bytes()[0]));
                        }
                        streams.thin.extend(of.iter().map(|place| place.to_be_bytes()[1]));
                    }
                }
                plain(&few, streams);
                places = of;
            }
            None => plain(&values, streams),
        }
    }
    written.columns.push(column);
    written.places.push(places);
}

impl Column {
    fn is(&self, other: &Self) -> bool {
        self.varies && self.ends == other.ends && self.bytes == other.bytes
    }
}

/// Writes `column` as numbers or as times, if all its values are that.
fn numbers(column: &Column, streams: &mut Streams) -> bool {
    let kinds: [(u8, Parse); 2] = [(NUMBER, digits::number), (TIME, digits::time)];
    for (kind, parse) in kinds {
        if parse(&column.first).is_none() {
            continue;
        }
        let mut numbers = Vec::with_capacity(column.count);
        for value in column.values() {
            let Some(number) = parse(value) else { return false };
            numbers.push(number);
        }
        let least = numbers.iter().min().copied().unwrap_or_default();
        let most = numbers.iter().max().copied().unwrap_or_default();
        let width = usize::try_from((most - least).checked_ilog2().unwrap_or_default() / 8 + 1);
        let width = width.unwrap_or(size_of::<u64>());
        streams.head.push(kind);
        streams.head.extend(u8::try_from(width));
        streams.head.extend_from_slice(&least.to_be_bytes());
        let bytes: Vec<[u8; 8]> = numbers.iter().map(|it| (it - least).to_be_bytes()).collect();
        let bytes = bytes.iter().map(|it| it.get(size_of::<u64>() - width..).unwrap_or_default());
        planes(&bytes.collect::<Vec<_>>(), width, streams);
        return true;
    }
    false
}

/// The different ones among `values` in the order of their first, and which stands where; none
/// when they are not worth it.
fn list<'a>(values: &[&'a [u8]]) -> Option<(Vec<&'a [u8]>, Vec<u16>)> {
    let state = foldhash::fast::RandomState::default();
    let mut known: HashMap<&[u8], u16, _> = HashMap::with_capacity_and_hasher(TRIED, state);
    let (mut few, mut of) = (Vec::new(), Vec::with_capacity(values.len()));
    for value in values {
        let next = u16::try_from(few.len()).ok()?;
        let place = *known.entry(value).or_insert(next);
        if place == next {
            few.push(*value);
            if few.len() == TRIED && of.len() < TRIED {
                return None;
            }
        }
        of.push(place);
    }
    (few.len() * 8 <= values.len() * 7).then_some((few, of))
}

/// Writes each of `values`.
fn plain(values: &[&[u8]], streams: &mut Streams) {
    let length = values.first().map_or(0, |first| first.len());
    let alike = values.iter().all(|value| value.len() == length);
    let kinds: [(u8, usize, Pack); 2] =
        [(HEX, length / 2, digits::unhex), (HANDLE, size_of::<u64>(), digits::unhandle)];
    for (kind, width, pack) in kinds {
        if !alike || width == 0 || width > WIDTH_MAX {
            continue;
        }
        let mut bytes = vec![0; values.len() * width];
        let mut packed = bytes.chunks_exact_mut(width).zip(values);
        if packed.all(|(to, value)| pack(value, to).is_some()) {
            streams.head.push(kind);
            streams.head.extend(u8::try_from(width));
            let bytes: Vec<&[u8]> = bytes.chunks_exact(width).collect();
            return planes(&bytes, width, streams);
        }
    }
    streams.head.push(TEXT);
    values.iter().for_each(|value| varint(&mut streams.head, value.len()));
    values.iter().for_each(|value| streams.head.extend_from_slice(value));
}

/// Writes values of `width` bytes: the first byte of each, then the second of each, and so on.
fn planes(values: &[&[u8]], width: usize, streams: &mut Streams) {
    let mut dense = Vec::with_capacity(width);
    for place in 0..width {
        let plane = values.iter().filter_map(|value| value.get(place).copied());
        let mut seen = [false; 256];
        let thin = streams.thin.len();
        for byte in plane {
            streams.thin.push(byte);
            if let Some(seen) = seen.get_mut(usize::from(byte)) {
                *seen = true;
            }
        }
        let kinds = seen.iter().filter(|seen| **seen).count();
        let is_dense = values.len() > 8 && kinds * 2 > values.len().min(seen.len());
        if is_dense {
            streams.raw.extend(streams.thin.drain(thin..));
        }
        dense.push(is_dense);
    }
    for eight in dense.chunks(8) {
        let bits = eight.iter().rev().fold(0, |bits, dense| bits << 1 | u8::from(*dense));
        streams.head.push(bits);
    }
}
