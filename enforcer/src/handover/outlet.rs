//! Records on their way from a predecessor to the log of its successor, over a stream of their own.
//!
//! A delivery is a count and so many records, each with its length; the answer is an index for each,
//! once it is on disk. One delivery at a time: what waits meanwhile waits in the slots of the log
//! that was lent.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use enforcer_audit::{Audit, Full, Lost, Outlet, Unnumbered};
use tracing::{debug, error};

/// Records in one delivery, at most.
const DELIVERY_MAX: usize = 65_536;

/// Bytes of one record, at most.
const RECORD_MAX: usize = 65_535;

/// Stands for the index of a record that is kept in memory until the disk has room.
const NOT_ON_DISK: u64 = u64::MAX;

/// Between two looks for a free slot.
const ROOM_EVERY: Duration = Duration::from_millis(2);

/// The predecessor's end.
#[derive(Debug)]
pub(super) struct ToSuccessor(pub(super) UnixStream);

impl Outlet for ToSuccessor {
    fn deliver(&mut self, records: &[Unnumbered]) -> io::Result<Vec<Result<u64, Lost>>> {
        let mut bytes = length(records.len())?.to_vec();
        for record in records {
            bytes.extend_from_slice(&length(record.bytes().len())?);
            bytes.extend_from_slice(record.bytes());
        }
        self.0.write_all(&bytes)?;
        let mut answers = Vec::with_capacity(records.len());
        for _ in records {
            let mut index = [0; 8];
            self.0.read_exact(&mut index)?;
            answers.push(match u64::from_be_bytes(index) {
                NOT_ON_DISK => Err(Lost::DiskFull),
                index => Ok(index),
            });
        }
        Ok(answers)
    }
}

/// The successor's end: writes what comes into `audit` until the predecessor has ended. An error
/// closes the stream, and the predecessor keeps what it has for the next start.
pub(super) fn take_in(stream: &UnixStream, audit: &Audit) -> io::Result<u64> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut taken = 0_u64;
    loop {
        let count = match read_length(&mut reader) {
            Ok(count) if count <= DELIVERY_MAX => count,
            Ok(_) => return Err(io::Error::other("a delivery that is longer than any")),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(taken),
            Err(error) => return Err(error),
        };
        let mut tickets = Vec::with_capacity(count);
        for _ in 0..count {
            let length = read_length(&mut reader)?;
            if length > RECORD_MAX {
                return Err(io::Error::other("a record that is longer than any"));
            }
            let mut bytes = vec![0; length];
            reader.read_exact(&mut bytes)?;
            let record = Unnumbered::parse(&bytes)
                .ok_or_else(|| io::Error::other("a record of another format"))?;
            tickets.push(slot(audit)?.pass(record));
        }
        let mut answer = Vec::with_capacity(tickets.len().saturating_mul(8));
        for ticket in tickets {
            let index = match ticket.wait() {
                Ok(index) => index,
                // It is accepted, and written when there is room.
                Err(Lost::DiskFull) => NOT_ON_DISK,
                Err(lost @ (Lost::Closed | Lost::Failed(_))) => return Err(io::Error::other(lost)),
            };
            answer.extend_from_slice(&index.to_be_bytes());
            taken = taken.saturating_add(1);
        }
        writer.write_all(&answer)?;
    }
}

/// The same on a thread of its own, which tells how it ended.
pub(super) fn take_in_and_tell(stream: &UnixStream, audit: &Audit) {
    match take_in(stream, audit) {
        Ok(records) => debug!(records, "the predecessor has no more records"),
        Err(error) => error!(%error, "the records of the predecessor are kept aside there"),
    }
}

/// Room for a record, as soon as there is some: it was accepted elsewhere and must not be refused.
fn slot(audit: &Audit) -> io::Result<enforcer_audit::Slot> {
    loop {
        match audit.reserve() {
            Ok(slot) => return Ok(slot),
            Err(Full::Queue | Full::Disk) => std::thread::sleep(ROOM_EVERY),
            Err(full @ (Full::Closed | Full::Failed(_))) => return Err(io::Error::other(full)),
        }
    }
}

fn length(length: usize) -> io::Result<[u8; 4]> {
    Ok(u32::try_from(length).map_err(io::Error::other)?.to_be_bytes())
}

fn read_length(reader: &mut impl Read) -> io::Result<usize> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)
}
