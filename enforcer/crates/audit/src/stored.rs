//! One record as it lies in the log: its index and its canonical bytes.

use enforcer_model::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// A committed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the log, from zero.
    pub index: u64,
    /// The canonical JSON that the leaf hash covers, byte for byte.
    pub text: Box<str>,
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
    /// The bytes that the leaf hash covers.
    pub fn leaf(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The JSON as it is stored, whatever was put into [`Self::text`] in place of handles.
    pub fn stored_text(&self) -> &str {
        &self.text
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
