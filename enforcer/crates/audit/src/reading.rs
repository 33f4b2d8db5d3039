//! Segments that are open for reading, and the few that were read last.
//!
//! To open a segment is dear: its keys are looked up, a segment that grows is walked from frame to
//! frame, and what stands for personal values is loaded. Whoever reads records here and there comes
//! back to the same segments, and finds them as they were left.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::chain;
use crate::layout::Layout;
use crate::read::{ReadError, SUBJECT_CLASS};
use crate::sealing::{Keyring, SALT_BYTES, SegmentKeys};
use crate::segment::{Entries, Fault, Leaves, Opener};
use crate::stored::Stored;
use crate::subject::{self, Handle, Revealer, Vault};

/// Segments that stay open when nobody reads them; the one left longest ago gives way.
const SHELF_MAX: usize = 8;

/// What of a record is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// As it was hashed: handles stand for personal values.
    Sealed,
    /// With the values, as far as their keys are still there.
    Readable,
}

/// A segment that can be read, one reader at a time.
#[derive(Debug)]
pub(crate) struct Reading {
    layout: Layout,
    leaves: Leaves,
    keys: SegmentKeys,
    path: PathBuf,
    /// The block that was read last.
    entries: Option<Entries>,
    /// The one that the last `subject` record was in.
    beside: Option<Entries>,
    opener: Opener,
    /// Made when the first record is to be readable.
    revealer: Option<Revealer>,
    subjects: Option<Subjects>,
}

/// The `subject` records of a segment that grows, as far as they were read.
#[derive(Debug)]
struct Subjects {
    by_handle: HashMap<String, Arc<str>>,
    next: u64,
}

/// Segments that nobody reads at the moment. Clones are the same shelf.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelf(Arc<Mutex<Vec<Reading>>>);

// === impl Shelf ===

impl Shelf {
    /// The segment that begins with the record `first`, opened unless it is still open.
    pub(crate) fn take(
        &self,
        layout: &Layout,
        keyring: &Keyring,
        first: u64,
    ) -> Result<Reading, ReadError> {
        let mut shelf = self.0.lock();
        let found = shelf.iter().position(|reading| reading.first() == first);
        if let Some(place) = found {
            return Ok(shelf.remove(place));
        }
        drop(shelf);
        Reading::open(layout, keyring, first)
    }

    /// Gives a segment back.
    pub(crate) fn put(&self, reading: Reading) {
        let mut shelf = self.0.lock();
        if shelf.len() >= SHELF_MAX {
            shelf.remove(0);
        }
        shelf.push(reading);
    }
}

// === impl Reading ===

impl Reading {
    fn open(layout: &Layout, keyring: &Keyring, first: u64) -> Result<Self, ReadError> {
        let path = layout.segment(first);
        let leaves = chain::open_leaves(&path, first)?;
        let keys = keyring.find(layout, leaves.header())?;
        let keys = keys.ok_or(ReadError::Sealed { first })?;
        Ok(Self {
            layout: layout.clone(),
            leaves,
            keys,
            path,
            entries: None,
            beside: None,
            opener: Opener::default(),
            revealer: None,
            subjects: None,
        })
    }

    /// Its first record.
    pub(crate) const fn first(&self) -> u64 {
        self.leaves.header().first()
    }

    /// The record at `index`; none when the segment ends before it.
    pub(crate) fn record(&mut self, index: u64, view: View) -> Result<Option<Stored>, ReadError> {
        if index >= self.leaves.end() {
            return Ok(None);
        }
        let mut entries = match self.entries.take().filter(|entries| entries.holds(index)) {
            Some(entries) => entries,
            None => self.block(index)?,
        };
        let leaf = entries.leaf(&self.keys, index);
        let leaf = leaf.map_err(|bad| self.damaged(bad.index, Fault::from(bad)))?;
        let found = leaf.map(|leaf| self.stored(index, leaf, view));
        self.entries = Some(entries);
        Ok(found)
    }

    /// A record that should be here and is not.
    pub(crate) fn damaged(&self, index: u64, fault: Fault) -> ReadError {
        ReadError::Damaged { index, file: self.path.clone(), fault }
    }

    fn stored(&mut self, index: u64, leaf: &[u8], view: View) -> Stored {
        let text = text_of(leaf.get(SALT_BYTES..).unwrap_or_default());
        match view {
            View::Sealed => Stored::read(index, leaf, &text),
            View::Readable => {
                let mut revealer = self.revealer.take().unwrap_or_else(|| self.revealer());
                let mut subjects = self.subjects.take();
                let readable = revealer.reveal(&text, &mut |handle, place| {
                    self.subject(handle, place, index, &mut subjects)
                });
                let stored = Stored::read(index, leaf, &readable);
                self.revealer = Some(revealer);
                self.subjects = subjects;
                stored
            }
        }
    }

    fn revealer(&self) -> Revealer {
        // Whoever has no keys of personal values reads handles.
        let keys = Vault::of(self.layout.root()).open(self.first()).unwrap_or_default();
        let mut revealer = Revealer::new();
        revealer.begin_segment(keys);
        revealer
    }

    /// The text of the `subject` record that holds `handle`. In a segment that grows nobody says
    /// where that is: all before `index` are read once and remembered.
    fn subject(
        &mut self,
        handle: Handle,
        place: Option<u32>,
        index: u64,
        known: &mut Option<Subjects>,
    ) -> Option<Box<str>> {
        if let Some(place) = place {
            let at = self.first().saturating_add(u64::from(place));
            let mut entries = match self.beside.take().filter(|entries| entries.holds(at)) {
                Some(entries) => entries,
                None => self.block(at).ok()?,
            };
            let text = text_of(entries.get(&self.keys, at).ok()??).into();
            self.beside = Some(entries);
            return Some(text);
        }
        let known = known.get_or_insert_with(|| Subjects::from(self.first()));
        known.read_until(index, self);
        known.by_handle.get(&handle.to_string()).map(|text| Box::from(&**text))
    }

    /// The records of the block that holds the one at `index`, not checked yet.
    fn block(&mut self, index: u64) -> Result<Entries, ReadError> {
        let block = self.leaves.block(index);
        let block = block.map_err(|error| chain::unopened(&self.path, index, error))?;
        let block = block.ok_or_else(|| self.damaged(index, Fault::Frame))?;
        let opened = block.open(self.leaves.context(), &self.keys, &mut self.opener);
        opened.map_err(|bad| self.damaged(bad.index, Fault::from(bad)))
    }
}

// === impl Subjects ===

impl Subjects {
    fn from(first: u64) -> Self {
        Self { by_handle: HashMap::new(), next: first }
    }

    /// Reads on, to the record before `index`.
    fn read_until(&mut self, index: u64, segment: &mut Reading) {
        while self.next < index {
            let Ok(mut entries) = segment.block(self.next) else { return };
            let from = self.next;
            while let Ok(Some(json)) = entries.get(&segment.keys, self.next) {
                let text = text_of(json);
                if text.contains(SUBJECT_CLASS) {
                    let text: Arc<str> = text.into();
                    for subject in subject::read(&text) {
                        self.by_handle.insert(subject.handle, Arc::clone(&text));
                    }
                }
                self.next += 1;
            }
            if self.next == from {
                return;
            }
        }
    }
}

/// Records are UTF-8, and to look whether they are is faster than to make them so.
fn text_of(json: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(json) {
        Ok(text) => text.into(),
        Err(_) => String::from_utf8_lossy(json),
    }
}
