//! Puts personal values back into records that are read, as far as their keys are still there.
//!
//! The sealed values are in `subject` records of the same segment. Whoever reads from front to back
//! meets them first; whoever reads at random is asked for the one at a place. A handle without a
//! key, or whose bytes do not fit it, stays as it is: erased, or none of ours.

use std::borrow::Cow;
use std::collections::HashMap;

use enforcer_model::PersonalKind as Kind;

use super::conceal::read;
use super::fields::{Field, Fields, Shape};
use super::seal::{Handle, SealKey, Seed};
use super::table::Table;

/// Sealed values of one segment that are remembered, and their bytes; when they are more, all are
/// forgotten, and those that are needed again are asked for.
const SEALED_MAX: usize = 1 << 18;
const SEALED_BYTES_MAX: usize = 64 << 20;
/// The same for values in clear.
const CLEAR_MAX: usize = 65_536;
const CLEAR_BYTES_MAX: usize = 16 << 20;

/// The keys of one segment, as they are found beside it.
#[derive(Debug, Default)]
pub(crate) enum Keys {
    /// None: whoever reads has the log alone.
    #[default]
    None,
    /// The segment grows.
    Open(Seed),
    /// It is closed.
    Closed(HashMap<Handle, (SealKey, u32)>),
}

/// Reveals the records of one segment after the other.
#[derive(Debug)]
pub(crate) struct Revealer {
    keys: Keys,
    sealed: HashMap<Handle, (Kind, String)>,
    sealed_bytes: usize,
    clear: HashMap<Handle, Box<[u8]>>,
    clear_bytes: usize,
    fields: Fields,
    found: Vec<Field>,
}

impl From<Table> for Keys {
    fn from(table: Table) -> Self {
        Self::Closed(
            table.rows().iter().map(|row| (row.handle, (row.key.clone(), row.at))).collect(),
        )
    }
}

impl Keys {
    fn key(&self, handle: Handle) -> Option<SealKey> {
        match self {
            Self::None => None,
            Self::Open(seed) => Some(seed.key(handle)),
            Self::Closed(keys) => keys.get(&handle).map(|(key, _)| key.clone()),
        }
    }

    /// The place in the segment of the record that holds the value; none when it is not known.
    fn at(&self, handle: Handle) -> Option<u32> {
        match self {
            Self::None | Self::Open(_) => None,
            Self::Closed(keys) => keys.get(&handle).map(|(_, at)| *at),
        }
    }
}

impl Revealer {
    pub(crate) fn new() -> Self {
        Self {
            keys: Keys::None,
            sealed: HashMap::new(),
            sealed_bytes: 0,
            clear: HashMap::new(),
            clear_bytes: 0,
            fields: Fields::new(),
            found: Vec::new(),
        }
    }

    /// What follows is of another segment, with these keys.
    pub(crate) fn begin_segment(&mut self, keys: Keys) {
        self.keys = keys;
        self.forget_sealed();
        self.forget_clear();
    }

    /// The text of a record with its values. `resolve` gives the text of the `subject` record that
    /// holds a handle which was not met yet; the place of that record in the segment is told where
    /// it is known.
    pub(crate) fn reveal<'a>(
        &mut self,
        text: &'a str,
        resolve: &mut dyn FnMut(Handle, Option<u32>) -> Option<Box<str>>,
    ) -> Cow<'a, str> {
        if matches!(self.keys, Keys::None) {
            return Cow::Borrowed(text);
        }
        if self.fields.is_subjects(text.as_bytes()) {
            self.remember(text);
            return Cow::Borrowed(text);
        }
        let mut found = std::mem::take(&mut self.found);
        self.fields.find(text.as_bytes(), &mut found);
        let mut revealed = String::new();
        let mut copied = 0;
        for field in &found {
            let handle = text.get(field.value.clone()).map(str::as_bytes).and_then(Handle::parse);
            let Some(handle) = handle else { continue };
            if !self.clear.contains_key(&handle) && !self.open(handle, resolve) {
                continue;
            }
            let value = self.clear.get(&handle).and_then(|value| std::str::from_utf8(value).ok());
            let Some(value) = value else { continue };
            let (place, opening, closing) = match field.shape {
                Shape::Whole => (field.place.clone(), "", ""),
                Shape::Peer if value.contains(':') => (field.place.clone(), "[", "]"),
                Shape::Peer => (field.place.clone(), "", ""),
                // With the quotes around it.
                Shape::Array => (field.place.start - 1..field.place.end + 1, "", ""),
            };
            revealed.push_str(text.get(copied..place.start).unwrap_or_default());
            revealed.push_str(opening);
            revealed.push_str(value);
            revealed.push_str(closing);
            copied = place.end;
        }
        self.found = found;
        if copied == 0 {
            return Cow::Borrowed(text);
        }
        revealed.push_str(text.get(copied..).unwrap_or_default());
        Cow::Owned(revealed)
    }

    /// Whether the value of `handle` is at hand afterwards.
    fn open(
        &mut self,
        handle: Handle,
        resolve: &mut dyn FnMut(Handle, Option<u32>) -> Option<Box<str>>,
    ) -> bool {
        let Some(key) = self.keys.key(handle) else { return false };
        if !self.sealed.contains_key(&handle)
            && let Some(text) = resolve(handle, self.keys.at(handle))
        {
            self.remember(&text);
        }
        let Some((kind, sealed)) = self.sealed.get(&handle) else { return false };
        let Some(value) = key.open(*kind, handle, sealed) else { return false };
        if self.clear.len() >= CLEAR_MAX || self.clear_bytes + value.len() > CLEAR_BYTES_MAX {
            self.forget_clear();
        }
        self.clear_bytes += value.len();
        self.clear.insert(handle, value.into());
        true
    }

    fn remember(&mut self, text: &str) {
        for subject in read(text) {
            let Some(handle) = Handle::parse(subject.handle.as_bytes()) else { continue };
            let bytes = subject.sealed.len();
            if self.sealed.len() >= SEALED_MAX || self.sealed_bytes + bytes > SEALED_BYTES_MAX {
                self.forget_sealed();
            }
            self.sealed_bytes += bytes;
            self.sealed.insert(handle, (subject.kind, subject.sealed));
        }
    }

    fn forget_sealed(&mut self) {
        self.sealed.clear();
        self.sealed_bytes = 0;
    }

    fn forget_clear(&mut self) {
        self.clear.clear();
        self.clear_bytes = 0;
    }
}
