//! The canonical bytes of a record: one JSON object, fields in fixed order, no spaces, no floats.

use std::fs;
use std::time::Instant;

use enforcer_model::{Moment, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde::de::IgnoredAny;

use crate::digits;
use crate::record::{Gap, GapReason, Record};
use crate::request;
use crate::segment::RECORD_BYTES_MAX;
use crate::stored::Stored;
use crate::subject::GROWTH_MAX;

/// Version of the record format.
const VERSION: u32 = 1;

/// How every record of this version begins, up to its index.
const BEGINNING: &[u8] = br#"{"v":1,"index":"#;
const _: () = assert!(VERSION == 1, "the beginning names the version");

/// How the rest of a record begins when it stands alone.
const REST_BEGINS: &[u8] = br#"{"time":""#;

/// Digits of the longest index.
const INDEX_DIGITS_MAX: usize = 20;

/// With its beginning, a record still fits an entry.
const REST_BYTES_MAX: usize = RECORD_BYTES_MAX - GROWTH_MAX - BEGINNING.len() - INDEX_DIGITS_MAX;

/// To how many bytes or entries text and lists are cut when a record does not fit, harder each
/// time until it does; a byte becomes at most six in JSON.
const CUTS: [usize; 4] = [8_192, 1_024, 128, 16];

/// What a body is given up at whole: the fields before it fit the rest.
const BODY_BYTES_MAX: usize = REST_BYTES_MAX - 512;
/// Most requests take less.
const BODY_BYTES_USUAL: usize = 1_024;

/// A record on its way to the writer.
#[derive(Debug)]
pub(crate) enum Content {
    /// As it is.
    Record(Record),
    /// The body of one of class `http`, encoded by who wrote it: there its parts are at hand, and
    /// there are many who write.
    Request(Vec<u8>),
}

/// Makes records into bytes, and knows which boot they belong to.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    boot: String,
    /// One instant on the clock that was handed in and on the host's monotonic clock.
    opened: Instant,
    opened_ns: u64,
    bytes: Vec<u8>,
}

/// A record that has no place in a log yet: its canonical bytes without version and index.
///
/// Two are equal when they are the same record: its time is told to the nanosecond of its clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unnumbered(Box<[u8]>);

impl From<Record> for Content {
    fn from(record: Record) -> Self {
        if let Record::Http(request) = &record {
            let mut body = Vec::with_capacity(BODY_BYTES_USUAL);
            request::push(&mut body, request);
            // A longer one is cut by the writer.
            if body.len() <= BODY_BYTES_MAX {
                return Self::Request(body);
            }
        }
        Self::Record(record)
    }
}

impl Encoder {
    /// An encoder for this boot of this host; `now` ties the clock to the host's monotonic one.
    pub(crate) fn new(now: Moment) -> Self {
        let (boot, opened_ns) = host_clock();
        Self { boot, opened: now.monotonic, opened_ns, bytes: Vec::new() }
    }

    /// The bytes of a `record` without version and index. One that cannot be made to fit becomes a
    /// gap.
    pub(crate) fn encode(&mut self, now: Moment, record: &Record) -> &[u8] {
        self.bytes.clear();
        self.push_rest(now, record);
        &self.bytes
    }

    /// The same of what is half encoded.
    pub(crate) fn encode_content(&mut self, now: Moment, content: &Content) -> &[u8] {
        match content {
            Content::Record(record) => return self.encode(now, record),
            Content::Request(body) => {
                self.bytes.clear();
                self.push_envelope(now, "http");
                self.bytes.extend_from_slice(body);
                self.bytes.push(b'}');
            }
        }
        &self.bytes
    }

    /// The same, to be given an index by somebody else.
    pub(crate) fn encode_unnumbered(&mut self, now: Moment, record: &Record) -> Unnumbered {
        Unnumbered(self.encode(now, record).into())
    }

    /// The same of what is half encoded.
    pub(crate) fn content_unnumbered(&mut self, now: Moment, content: &Content) -> Unnumbered {
        Unnumbered(self.encode_content(now, content).into())
    }

    fn push_rest(&mut self, now: Moment, record: &Record) {
        if self.write(now, record) {
            return;
        }
        for longest in CUTS {
            let mut short = record.clone();
            short.cut(longest);
            if self.write(now, &short) {
                return;
            }
        }
        let gap = Gap { why: GapReason::Oversized, records: 1, bytes: 0, since: Some(now.wall) };
        self.write(now, &Record::Gap(gap));
    }

    fn write(&mut self, now: Moment, record: &Record) -> bool {
        let begins = self.bytes.len();
        self.push_envelope(now, record.class());
        let to = &mut self.bytes;
        let is_body = if let Record::Http(exchange) = record {
            request::push(to, exchange);
            true
        } else {
            serde_json::to_writer(&mut *to, record).is_ok()
        };
        to.push(b'}');
        let is_written = is_body && self.bytes.len().saturating_sub(begins) <= REST_BYTES_MAX;
        if !is_written {
            self.bytes.truncate(begins);
        }
        is_written
    }

    /// What stands before a body.
    fn push_envelope(&mut self, now: Moment, class: &str) {
        let elapsed = now.monotonic.saturating_duration_since(self.opened).as_nanos();
        let mono_ns = self.opened_ns.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX));
        let to = &mut self.bytes;
        to.extend_from_slice(REST_BEGINS);
        request::push_timestamp(to, now.wall);
        to.extend_from_slice(br#"","mono_ns":"#);
        digits::push_number(to, mono_ns);
        to.extend_from_slice(br#","boot":"#);
        request::push_string(to, &self.boot);
        to.extend_from_slice(br#","class":""#);
        to.extend_from_slice(class.as_bytes());
        to.extend_from_slice(br#"","body":"#);
    }
}

/// The kernel's boot id, and nanoseconds of its monotonic clock.
pub(crate) fn host_clock() -> (String, u64) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    (boot.trim().to_owned(), seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

fn push_beginning(bytes: &mut Vec<u8>, index: u64) {
    bytes.extend_from_slice(BEGINNING);
    digits::push_number(bytes, index);
}

/// Appends the record at `index`: one object of its beginning and of `rest`, an object of its own.
pub(crate) fn number(index: u64, rest: &[u8], bytes: &mut Vec<u8>) {
    push_beginning(bytes, index);
    if let Some((_brace, fields)) = rest.split_first() {
        bytes.push(b',');
        bytes.extend_from_slice(fields);
    }
}

impl Unnumbered {
    /// What `bytes` say, if they are a record without version and index, as this version of the
    /// format writes it.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only their presence and kind matter")]
        struct Expected {
            time: Timestamp,
            mono_ns: u64,
            boot: String,
            class: String,
            body: IgnoredAny,
        }

        let fits = bytes.len() <= REST_BYTES_MAX && bytes.starts_with(REST_BEGINS);
        // One line: serde_json writes control characters in no other way than escaped.
        let is_line = !bytes.iter().any(|byte| byte.is_ascii_control());
        (fits && is_line && serde_json::from_slice::<Expected>(bytes).is_ok())
            .then(|| Self(bytes.into()))
    }

    /// The same record where it stands in a log; none when that is of another version.
    pub fn of(stored: &Stored) -> Option<Self> {
        let mut beginning = Vec::with_capacity(BEGINNING.len() + INDEX_DIGITS_MAX);
        push_beginning(&mut beginning, stored.index);
        let rest = stored.text.as_bytes().strip_prefix(beginning.as_slice())?;
        let mut bytes = rest.to_vec();
        let (first, _) = bytes.split_first_mut()?;
        *first = b'{';
        Some(Self(bytes.into()))
    }

    /// Its bytes: one JSON object on one line.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_same_whoever_numbers_it() {
        let now = moment();
        let mut encoder = Encoder::new(now);
        let gap = Gap { why: GapReason::QueueFull, records: 7, bytes: 0, since: Some(now.wall) };
        let record = Record::Gap(gap);

        let unnumbered = encoder.encode_unnumbered(now, &record);
        let mut whole = Vec::new();
        number(41, encoder.encode(now, &record), &mut whole);

        assert_eq!(unnumbered.bytes(), encoder.encode(now, &record));
        assert!(whole.starts_with(br#"{"v":1,"index":41,"time":""#));
        let stored = Stored::new(41, String::from_utf8(whole).unwrap());
        assert_eq!(Unnumbered::of(&stored), Some(unnumbered.clone()));
        assert_eq!(Unnumbered::parse(unnumbered.bytes()), Some(unnumbered));
    }

    #[test]
    fn what_is_not_a_record_of_this_format_is_not_taken_for_one() {
        let now = moment();
        let gap = Gap { why: GapReason::QueueFull, records: 7, bytes: 0, since: None };
        let good = Encoder::new(now).encode_unnumbered(now, &Record::Gap(gap));
        let good = String::from_utf8(good.bytes().to_vec()).unwrap();
        assert!(Unnumbered::parse(good.as_bytes()).is_some());

        for bad in [
            String::new(),
            "{}".to_owned(),
            good.replace("\"class\"", "\"klass\""),
            good.replace("{\"time\"", "{ \"time\""),
            good.replace("\"mono_ns\":", "\"mono_ns\":\n"),
            good.replace("\"boot\"", "\"more\":1,\"boot\""),
            format!("{good}{{}}"),
            good.replace("queue-full", &"x".repeat(RECORD_BYTES_MAX)),
        ] {
            assert_eq!(Unnumbered::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    fn moment() -> Moment {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let monotonic = Instant::now();
        Moment { monotonic, wall: Timestamp::from_unix_seconds(1_700_000_000) }
    }
}
