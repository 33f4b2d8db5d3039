//! One record as it lies in the log: its index and its canonical bytes.

use std::borrow::Cow;

use enforcer_model::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::sealing::SALT_BYTES;

/// A committed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the log, from zero.
    pub index: u64,
    /// The canonical JSON, as far as it can be read.
    pub text: Box<str>,
    /// The bytes that the leaf hash covers: its salt and the JSON as stored; empty before it is
    /// read from the log.
    leaf: Box<[u8]>,
}

/// The envelope of a record, without its body.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Header {
    /// Version of the record format.
    pub v: u32,
    /// As written in the record; the place in the log is [`Stored::index`].
    pub index: u64,
    /// Wall time at which the record was written.
    pub time: Timestamp,
    /// Nanoseconds of the host's monotonic clock.
    pub mono_ns: u64,
    /// The kernel's boot id.
    pub boot: String,
    /// What kind of body follows.
    pub class: String,
}

impl Stored {
    /// A record that has just been written.
    pub fn new(index: u64, text: impl Into<Box<str>>) -> Self {
        Self { index, text: text.into(), leaf: Box::default() }
    }

    /// A record as read from the log: what its leaf hash covers, and how it reads.
    pub(crate) fn read(index: u64, leaf: &[u8], readable: &str) -> Self {
        Self { index, text: readable.into(), leaf: leaf.into() }
    }

    /// The bytes that the leaf hash covers: 16 of salt, then the JSON as it is stored. None are
    /// known of a record that was announced, not read.
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// The JSON as it is stored, whatever was put into [`Self::text`] in place of handles.
    pub fn stored_text(&self) -> Cow<'_, str> {
        match self.leaf.get(SALT_BYTES..) {
            Some(json) => String::from_utf8_lossy(json),
            None => Cow::Borrowed(&self.text),
        }
    }

    /// The envelope.
    pub fn header(&self) -> Result<Header, serde_json::Error> {
        serde_json::from_str(&self.text)
    }

    /// The whole record.
    pub fn json(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&self.text)
    }
}
