//! What the writer does with the personal values of a record before it is staged.
//!
//! Each value becomes a handle; a value that the segment has not seen is sealed into a `subject`
//! record that is staged first. The table of known values is bounded: when it is full it is
//! emptied, and a value may be sealed a second time, to the same handle and the same bytes.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use enforcer_model::PersonalKind as Kind;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::fields::{Field, Fields, Shape};
use super::seal::{Handle, SealError, Seed, TagSecret};
use super::table::{Link, Row, Table};

/// How much longer a record can become.
pub(crate) const GROWTH_MAX: usize = 1_024;
/// A longer value is cut, with a mark.
pub(crate) const VALUE_BYTES_MAX: usize = 16 << 10;
/// Values of one segment whose handles are at hand, and their bytes.
const KNOWN_MAX: usize = 65_536;
const KNOWN_BYTES_MAX: usize = 16 << 20;
/// A segment with more keys than this should end.
const ROWS_MAX: usize = 1 << 18;
/// Sealed bytes in one `subject` record: it fits an entry.
const BATCH_BYTES_MAX: usize = 32 << 10;
/// Persons that one text can mention.
const MENTIONS_MAX: usize = 64;

/// Values that the records which follow name by their handles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subjects {
    /// In the order of their first use.
    pub subjects: Vec<Subject>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// What stands in its place.
    pub handle: String,
    /// What it is.
    pub kind: Kind,
    /// Base64; nobody reads it once its key is destroyed.
    pub sealed: String,
}

/// Holds the secrets of the segment that grows.
#[derive(Debug)]
pub(crate) struct Concealer {
    first: u64,
    seed: Seed,
    tags: TagSecret,
    rows: Vec<Row>,
    known: Known,
    fields: Fields,
    found: Vec<Field>,
    concealed: Vec<u8>,
}

#[derive(Debug, Default)]
struct Known {
    /// By kind.
    handles: [HashMap<Box<[u8]>, HandleText, foldhash::quality::RandomState>; Kind::ALL.len()],
    count: usize,
    bytes: usize,
}

/// A handle as it stands in records.
type HandleText = [u8; Handle::TEXT_BYTES];

/// `subject` records in the making.
struct Batches {
    records: Vec<Subjects>,
    bytes: usize,
    /// Place in the segment of the first of them.
    at: u64,
}

// === impl Concealer ===

impl Concealer {
    /// For the segment that begins at `first`, with its `seed`.
    pub(crate) fn new(first: u64, seed: Seed) -> Result<Self, SealError> {
        Self::resume(first, seed, std::iter::empty::<(u32, &str)>())
    }

    /// The same for a segment that has these `subject` records, given with their places in it.
    pub(crate) fn resume<T: AsRef<str>>(
        first: u64,
        seed: Seed,
        records: impl IntoIterator<Item = (u32, T)>,
    ) -> Result<Self, SealError> {
        let tags = TagSecret::random()?;
        Ok(Self {
            first,
            rows: recovered(&seed, &tags, records),
            seed,
            tags,
            known: Known::default(),
            fields: Fields::new(),
            found: Vec::new(),
            concealed: Vec::new(),
        })
    }

    /// The segment's first record.
    pub(crate) const fn first(&self) -> u64 {
        self.first
    }

    pub(crate) const fn seed(&self) -> &Seed {
        &self.seed
    }

    /// The keys of the segment that ends.
    pub(crate) fn end(self) -> Table {
        Table::new(self.first, self.tags, self.rows)
    }

    /// Whether the segment should end for the number of its values.
    pub(crate) fn wants_roll(&self) -> bool {
        self.rows.len() >= ROWS_MAX
    }

    /// What was staged from the record `size` on was given up, so its values are not on disk.
    pub(crate) fn forget_from(&mut self, size: u64) {
        let kept = size.saturating_sub(self.first);
        self.rows.retain(|row| u64::from(row.at) < kept);
        self.known = Known::default();
    }

    /// Puts handles into `json`, the canonical text of a record, with or without its index. Gives
    /// what is to be staged before it, the first of them as the record `index`.
    pub(crate) fn conceal(&mut self, json: &mut Vec<u8>, index: u64) -> Vec<Subjects> {
        let mut found = std::mem::take(&mut self.found);
        self.fields.find(json, &mut found);
        let mut batches = Batches::new(index.saturating_sub(self.first));
        if !found.is_empty() {
            let mut concealed = std::mem::take(&mut self.concealed);
            concealed.clear();
            let mut copied = 0;
            for field in &found {
                let Some(value) = json.get(field.value.clone()) else { continue };
                let handle = self.handle(field, value, &mut batches);
                concealed
                    .extend_from_slice(json.get(copied..field.place.start).unwrap_or_default());
                match field.shape {
                    Shape::Whole | Shape::Peer => concealed.extend_from_slice(&handle),
                    Shape::Array => {
                        concealed.push(b'"');
                        concealed.extend_from_slice(&handle);
                        concealed.push(b'"');
                    }
                }
                copied = field.place.end;
            }
            concealed.extend_from_slice(json.get(copied..).unwrap_or_default());
            std::mem::swap(json, &mut concealed);
            self.concealed = concealed;
        }
        self.found = found;
        batches.records
    }

    fn handle(&mut self, field: &Field, value: &[u8], batches: &mut Batches) -> HandleText {
        match self.known.handle(field.kind, value) {
            Some(handle) => handle,
            None => self.seal(field, value, batches),
        }
    }

    fn seal(&mut self, field: &Field, value: &[u8], batches: &mut Batches) -> HandleText {
        let cut = match field.shape {
            Shape::Whole | Shape::Peer => cut_text(value),
            Shape::Array => cut_array(value),
        };
        let value = cut.as_deref().unwrap_or(value);
        let handle = self.seed.handle(field.kind, value);
        let key = self.seed.key(handle);
        // Fails for a key of another length and for gigabytes.
        let Ok(sealed) = key.seal(field.kind, handle, value) else {
            return handle.text();
        };
        let at = batches.push(handle, field.kind, sealed);
        rows(&self.tags, field.kind, value, |tag, link| {
            self.rows.push(Row { tag, handle, link, at, key: key.clone() });
        });
        let text = handle.text();
        self.known.insert(field.kind, value, text);
        text
    }
}

impl Known {
    fn handle(&self, kind: Kind, value: &[u8]) -> Option<HandleText> {
        self.handles.get(place(kind))?.get(value).copied()
    }

    fn insert(&mut self, kind: Kind, value: &[u8], handle: HandleText) {
        if self.count >= KNOWN_MAX || self.bytes + value.len() > KNOWN_BYTES_MAX {
            *self = Self::default();
        }
        self.count += 1;
        self.bytes += value.len();
        if let Some(handles) = self.handles.get_mut(place(kind)) {
            handles.insert(value.into(), handle);
        }
    }
}

const fn place(kind: Kind) -> usize {
    match kind {
        Kind::Address => 0,
        Kind::Principal => 1,
        Kind::Text => 2,
        Kind::UserAgent => 3,
    }
}

impl Batches {
    const fn new(at: u64) -> Self {
        Self { records: Vec::new(), bytes: 0, at }
    }

    /// Adds a value; gives the place of its record in the segment.
    fn push(&mut self, handle: Handle, kind: Kind, sealed: String) -> u32 {
        if self.records.is_empty() || self.bytes + sealed.len() > BATCH_BYTES_MAX {
            self.records.push(Subjects { subjects: Vec::new() });
            self.bytes = 0;
        }
        self.bytes += sealed.len();
        if let Some(last) = self.records.last_mut() {
            last.subjects.push(Subject { handle: handle.to_string(), kind, sealed });
        }
        let last = u64::try_from(self.records.len()).unwrap_or(u64::MAX).saturating_sub(1);
        u32::try_from(self.at.saturating_add(last)).unwrap_or(u32::MAX)
    }
}

/// The rows of a segment, from its seed and its `subject` records. What cannot be read is passed over.
fn recovered<T: AsRef<str>>(
    seed: &Seed,
    tags: &TagSecret,
    records: impl IntoIterator<Item = (u32, T)>,
) -> Vec<Row> {
    let mut found = Vec::new();
    for (at, text) in records {
        for subject in read(text.as_ref()) {
            let Some(handle) = Handle::parse(subject.handle.as_bytes()) else { continue };
            let key = seed.key(handle);
            let value = key.open(subject.kind, handle, &subject.sealed).map(Zeroizing::new);
            let Some(value) = value else { continue };
            rows(tags, subject.kind, &value, |tag, link| {
                found.push(Row { tag, handle, link, at, key: key.clone() });
            });
        }
    }
    found
}

/// What a `subject` record holds.
pub(crate) fn read(text: &str) -> Vec<Subject> {
    #[derive(Deserialize)]
    struct Whole {
        body: Subjects,
    }

    serde_json::from_str::<Whole>(text).map(|whole| whole.body.subjects).unwrap_or_default()
}

/// The tags under which a value is found: its own, and those of whom it mentions.
fn rows(tags: &TagSecret, kind: Kind, value: &[u8], mut row: impl FnMut([u8; 8], Link)) {
    row(tags.tag(kind, value), Link::Value);
    if kind == Kind::Text {
        for (kind, value) in mentions(value) {
            row(tags.tag(kind, value.as_bytes()), Link::Mention);
        }
    }
}

/// Addresses in a text, and words with an `@`, as they would stand in fields of their own.
fn mentions(text: &[u8]) -> Vec<(Kind, String)> {
    let text = String::from_utf8_lossy(text);
    let plain: String = match serde_json::from_str(&format!("\"{text}\"")) {
        Ok(plain) => plain,
        Err(_) => text.into_owned(),
    };
    let is_between =
        |letter: char| letter.is_whitespace() || r#""'`,;()[]<>{}=|\"#.contains(letter);
    plain.split(is_between).filter_map(mention).take(MENTIONS_MAX).collect()
}

fn mention(word: &str) -> Option<(Kind, String)> {
    let bare = word.trim_matches(['.', ':', '!', '?']);
    for word in [word, bare] {
        let address =
            word.parse::<IpAddr>().or_else(|_| word.parse::<SocketAddr>().map(|it| it.ip()));
        if let Ok(address) = address {
            return Some((Kind::Address, address.to_canonical().to_string()));
        }
    }
    bare.contains('@').then(|| (Kind::Principal, escaped(bare)))
}

/// `text` as it stands between the quotes of a JSON string.
pub(crate) fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text).to_owned()
}

/// A text that is too long, without its end; escapes stay whole.
fn cut_text(value: &[u8]) -> Option<Vec<u8>> {
    if value.len() <= VALUE_BYTES_MAX {
        return None;
    }
    let text = std::str::from_utf8(value).ok()?;
    let mut end = text.floor_char_boundary(VALUE_BYTES_MAX);
    // An escape is at most six bytes long; an even number of backslashes begins none.
    let before = value.get(..end)?;
    if let Some(escape) = before.iter().rposition(|byte| *byte == b'\\')
        && escape + 6 > end
    {
        let slashes = before.get(..=escape)?.iter().rev().take_while(|byte| **byte == b'\\');
        if slashes.count() % 2 == 1 {
            end = escape;
        }
    }
    let kept = text.get(..end)?;
    Some(format!("{kept}…[{end} of {} bytes]", text.len()).into_bytes())
}

/// An array that is too long, without its last strings.
fn cut_array(value: &[u8]) -> Option<Vec<u8>> {
    if value.len() <= VALUE_BYTES_MAX {
        return None;
    }
    let mut strings: Vec<String> = serde_json::from_slice(value).ok()?;
    let count = strings.len();
    let mut bytes = 64;
    let fit = strings.iter().take_while(|text| {
        bytes += escaped(text).len() + 3;
        bytes <= VALUE_BYTES_MAX
    });
    let kept = fit.count();
    strings.truncate(kept);
    strings.push(format!("…[{kept} of {count} arguments]"));
    serde_json::to_vec(&strings).ok()
}
