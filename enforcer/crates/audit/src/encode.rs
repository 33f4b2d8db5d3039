//! The canonical bytes of a record: one JSON object, fields in fixed order, no spaces, no floats.

use std::fs;
use std::time::Instant;

use enforcer_model::{Moment, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::record::{Gap, GapReason, Record};
use crate::segment::RECORD_BYTES_MAX;

/// Version of the record format.
const VERSION: u32 = 1;

/// To how many bytes or entries text and lists are cut when a record does not fit, harder each
/// time until it does; a byte becomes at most six in JSON.
const CUTS: [usize; 4] = [8_192, 1_024, 128, 16];

/// Makes records into bytes, and knows which boot they belong to.
#[derive(Debug)]
pub(crate) struct Encoder {
    boot: String,
    /// One instant on the clock that was handed in and on the host's monotonic clock.
    opened: Instant,
    opened_ns: u64,
    bytes: Vec<u8>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    v: u32,
    index: u64,
    time: Timestamp,
    mono_ns: u64,
    boot: &'a str,
    class: &'static str,
    body: &'a Record,
}

impl Encoder {
    /// An encoder for this boot of this host; `now` ties the clock to the host's monotonic one.
    pub(crate) fn new(now: Moment) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let time = clock_gettime(ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
        Self {
            boot: boot.trim().to_owned(),
            opened: now.monotonic,
            opened_ns: seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds),
            bytes: Vec::new(),
        }
    }

    /// The bytes of `record` at `index`. One that cannot be made to fit becomes a gap.
    pub(crate) fn encode(&mut self, index: u64, now: Moment, record: &Record) -> &[u8] {
        if self.write(index, now, record) {
            return &self.bytes;
        }
        for longest in CUTS {
            let mut short = record.clone();
            short.cut(longest);
            if self.write(index, now, &short) {
                return &self.bytes;
            }
        }
        let gap = Gap { why: GapReason::Oversized, records: 1, bytes: 0, since: Some(now.wall) };
        self.write(index, now, &Record::Gap(gap));
        &self.bytes
    }

    fn write(&mut self, index: u64, now: Moment, record: &Record) -> bool {
        let elapsed = now.monotonic.saturating_duration_since(self.opened).as_nanos();
        let envelope = Envelope {
            v: VERSION,
            index,
            time: now.wall,
            mono_ns: self.opened_ns.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX)),
            boot: &self.boot,
            class: record.class(),
            body: record,
        };
        self.bytes.clear();
        serde_json::to_writer(&mut self.bytes, &envelope).is_ok()
            && self.bytes.len() <= RECORD_BYTES_MAX
    }
}
