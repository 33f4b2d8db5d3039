//! Profiles as bytes, and back: they survive restarts.
//!
//! The bytes are a version and pieces: what all have in common, then some hundred identities each,
//! then how many there were. A piece ends with a sum under the host's key of itself and the sum
//! before it. What does not fit, was cut, was changed, put together of two or comes from another host
//! is refused whole; profiles then begin anew. Pieces are made one at a time, so that whoever makes
//! them does something else in between and holds but one of them in memory.

use std::io::{ErrorKind, Read};

use super::fleet::Common;
use super::group::{GROUPS_MAX, Group, News};
use super::hash::Key;
use super::hours::{Hours, PeerHours};
use super::identity::{Day, Habits, Identity, Tally, Window};
use super::kind::Kind;
use super::level::{Level, Peers};
use super::num::{Coarse, Small};
use super::places::Places;
use super::sketch::{Distinct, Estimate, Routes, Seen};
use super::tail::{STEPS, Tail};
use super::{IDENTITIES_MAX, NAME_MAX, Plan, Profiles};

/// The first bytes.
const MAGIC: [u8; 8] = *b"ENFPROF2";

/// Identities of one piece.
const PIECE: usize = 512;

/// The largest piece that is read: what all have in common, with as many groups as there may be.
const PIECE_MAX: u32 = 8 << 20;

/// Why a snapshot is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It is none, or one of another version.
    #[error("it is no file of profiles of this version")]
    Version,
    /// It was cut, changed, or written with another key.
    #[error("it is damaged, or another host's")]
    Damaged,
    /// The system does not give it.
    #[error("it cannot be read: {0}")]
    Unread(ErrorKind),
}

/// How far a snapshot has come.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotCursor {
    /// Identities that were there when it began, and those told.
    identities: usize,
    told: usize,
    groups: usize,
    /// Of the piece before.
    sum: u64,
    at: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Common,
    Identities,
    Over,
}

/// What has a form in bytes.
trait Form: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Form for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(from: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )*};
}

number!(u8, u16, u32, u64, f32);

impl<T: Form + Copy + Default, const N: usize> Form for [T; N] {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|item| item.put(out));
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let mut all = [T::default(); N];
        for item in &mut all {
            *item = T::take(from)?;
        }
        Some(all)
    }
}

macro_rules! form {
    ($type:ident { $($field:ident),* }) => {
        impl Form for $type {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.put(out);)*
            }

            fn take(from: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Form::take(from)?),* })
            }
        }
    };
}

impl Form for Distinct {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Form::take(from).map(Self)
    }
}

impl Form for Routes {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Form::take(from).map(Self)
    }
}

impl Form for Estimate {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Form::take(from).map(Self)
    }
}

impl Form for Small {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Form::take(from).map(Self)
    }
}

impl Form for Coarse {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Form::take(from).map(Self)
    }
}

form!(Level { mean, variance });
form!(Peers { days, mean, between, within });
form!(Places { networks, clients, last, days, at });
form!(Seen { blocks });
form!(Hours { presence, weeks });
form!(PeerHours { present, members });
form!(News { days, new, strange });
form!(Habits { networks, clients, routes });
form!(Window { bytes, requests, errors, novel, different });
form!(Day { bytes, requests, errors, novel, different, hours, score, moves, news });
form!(Tally { bursts, odd, network, client, route, top, told, told_in });
form!(Identity {
    name,
    burst,
    day,
    last,
    number,
    window,
    here,
    days,
    group,
    seen_young,
    seen_old,
    marks,
    burst_distinct,
    day_distinct,
    routes,
    new_routes,
    tally,
    seen,
    levels,
    long,
    drift,
    first,
    places,
    habits,
    held,
    hours
});
form!(Group { role, levels, hours, tails, networks, clients, routes, members, active });

fn put_text(text: &str, out: &mut Vec<u8>) {
    u16::try_from(text.len()).unwrap_or(u16::MAX).put(out);
    out.extend(text.bytes().take(usize::from(u16::MAX)));
}

impl Form for Box<str> {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self, out);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let length = usize::from(u16::take(from)?);
        let (text, rest) = from.split_at_checked(length)?;
        *from = rest;
        std::str::from_utf8(text).ok().map(Into::into)
    }
}

impl Form for Vec<Tail> {
    fn put(&self, out: &mut Vec<u8>) {
        for tail in self {
            tail.days.put(out);
            tail.total.put(out);
            tail.today.put(out);
            tail.bits.put(out);
            tail.stale.put(out);
        }
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let one = |kind: &Kind| {
            let mut tail = Tail::new(kind.width());
            tail.days = <[f32; STEPS]>::take(from)?;
            tail.total = f32::take(from)?;
            tail.today = <[u32; STEPS]>::take(from)?;
            tail.bits = <[f32; STEPS]>::take(from)?;
            tail.stale = f32::take(from)?;
            Some(tail)
        };
        Kind::ALL.iter().map(one).collect()
    }
}

impl Form for Common {
    fn put(&self, out: &mut Vec<u8>) {
        self.counters.iter().for_each(|counter| counter.put(out));
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let mut common = Self::new();
        for counter in &mut common.counters {
            *counter = u16::take(from)?;
        }
        Some(common)
    }
}

impl Profiles {
    /// Begins a snapshot; its [`pieces`](Self::piece) are to be made in turn.
    pub fn snapshot(&self) -> SnapshotCursor {
        SnapshotCursor {
            identities: self.table.len(),
            told: 0,
            groups: self.groups.len(),
            sum: 0,
            at: Step::Common,
        }
    }

    /// The next bytes of a snapshot, less than a megabyte of identities; none: it is over. Requests
    /// may be observed in between: who comes after its beginning is in the next one.
    pub fn piece(&self, cursor: &mut SnapshotCursor) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match cursor.at {
            Step::Common => {
                MAGIC.put(&mut out);
                let from = begin(&mut out);
                self.began.unwrap_or(0).put(&mut out);
                self.today.put(&mut out);
                self.common.put(&mut out);
                self.fresh.put(&mut out);
                count(cursor.groups).put(&mut out);
                self.groups.iter().take(cursor.groups).for_each(|group| group.put(&mut out));
                cursor.sum = end(&mut out, from, cursor.sum, self.key);
                cursor.at = Step::Identities;
            }
            Step::Identities if cursor.told < cursor.identities => {
                let some = PIECE.min(cursor.identities - cursor.told);
                out.reserve(some * 1_000);
                let from = begin(&mut out);
                count(some).put(&mut out);
                for place in cursor.told..cursor.told + some {
                    let identity = self.table.get(place)?;
                    // A group that was not there yet is found again with the next request.
                    if usize::from(identity.group) < cursor.groups {
                        identity.put(&mut out);
                    } else {
                        Identity { group: 0, ..*identity }.put(&mut out);
                    }
                    put_text(self.table.text(place), &mut out);
                }
                cursor.sum = end(&mut out, from, cursor.sum, self.key);
                cursor.told += some;
            }
            Step::Identities => {
                let from = begin(&mut out);
                count(0).put(&mut out);
                count(cursor.identities).put(&mut out);
                cursor.sum = end(&mut out, from, cursor.sum, self.key);
                cursor.at = Step::Over;
            }
            Step::Over => return None,
        }
        Some(out)
    }

    /// What the pieces of a snapshot told, under the same key, read piece by piece.
    pub fn restore(plan: Plan, key: [u8; 16], from: &mut impl Read) -> Result<Self, SnapshotError> {
        let mut magic = [0; MAGIC.len()];
        match from.read_exact(&mut magic) {
            Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
                return Err(SnapshotError::Unread(error.kind()));
            }
            Err(_) => return Err(SnapshotError::Version),
            Ok(()) if magic != MAGIC => return Err(SnapshotError::Version),
            Ok(()) => {}
        }
        let mut profiles = Self::new(plan, key);
        let mut pieces = Pieces { from, key: profiles.key, sum: 0, bytes: Vec::new() };
        let told = |fits: Option<()>| fits.ok_or(SnapshotError::Damaged);
        let mut common = pieces.next()?;
        told(profiles.take_common(&mut common).filter(|()| common.is_empty()))?;
        let mut taken = 0_usize;
        loop {
            let mut piece = pieces.next()?;
            let some = u32::take(&mut piece).ok_or(SnapshotError::Damaged)?;
            if some == 0 {
                let all = u32::take(&mut piece).ok_or(SnapshotError::Damaged)?;
                told((all == count(taken) && piece.is_empty()).then_some(()))?;
                told(pieces.is_over()?.then_some(()))?;
                return Ok(profiles);
            }
            taken = taken.saturating_add(usize::try_from(some).unwrap_or(usize::MAX));
            told((taken <= IDENTITIES_MAX).then_some(()))?;
            for _ in 0..some {
                told(profiles.take_identity(&mut piece))?;
            }
            told(piece.is_empty().then_some(()))?;
        }
    }

    fn take_common(&mut self, from: &mut &[u8]) -> Option<()> {
        self.began = Some(u32::take(from)?).filter(|began| *began != 0);
        self.today = u32::take(from)?;
        self.common = Common::take(from)?;
        self.fresh = Common::take(from)?;
        let groups = usize::try_from(u32::take(from)?)
            .ok()
            .filter(|groups| (1..=GROUPS_MAX).contains(groups))?;
        self.groups = (0..groups).map(|_| Group::take(from)).collect::<Option<_>>()?;
        Some(())
    }

    fn take_identity(&mut self, from: &mut &[u8]) -> Option<()> {
        let identity = Identity::take(from)?;
        let name = Box::<str>::take(from).filter(|name| name.len() <= NAME_MAX)?;
        let known = usize::from(identity.group) < self.groups.len();
        // Whoever had to go and came back while the snapshot was made is in it twice.
        if self.table.find(identity.name).is_none() {
            self.table.add(known.then_some(identity)?, &name);
        }
        Some(())
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Begins a piece: leaves room for its length.
fn begin(out: &mut Vec<u8>) -> usize {
    let from = out.len();
    0_u32.put(out);
    from
}

/// Ends the piece that begins at `from`; its sum.
fn end(out: &mut Vec<u8>, from: usize, before: u64, key: Key) -> u64 {
    let length = count(out.len().saturating_sub(from + 4));
    if let Some(room) = out.get_mut(from..from + 4) {
        room.copy_from_slice(&length.to_le_bytes());
    }
    let sum = chain(key, before, out.get(from + 4..).unwrap_or_default());
    sum.put(out);
    sum
}

fn chain(key: Key, before: u64, piece: &[u8]) -> u64 {
    key.number(PIECES, &[before, key.sum(piece)])
}

/// What tells sums of pieces from other names.
const PIECES: u8 = 255;

/// The pieces of a snapshot that is read.
struct Pieces<'a, R> {
    from: &'a mut R,
    key: Key,
    sum: u64,
    bytes: Vec<u8>,
}

impl<R: Read> Pieces<'_, R> {
    fn next(&mut self) -> Result<&[u8], SnapshotError> {
        let length = u32::from_le_bytes(self.read()?);
        if length > PIECE_MAX {
            return Err(SnapshotError::Damaged);
        }
        self.bytes.resize(usize::try_from(length).unwrap_or_default(), 0);
        self.from.read_exact(&mut self.bytes).map_err(|error| unread(&error))?;
        let sum = chain(self.key, self.sum, &self.bytes);
        if u64::from_le_bytes(self.read()?) != sum {
            return Err(SnapshotError::Damaged);
        }
        self.sum = sum;
        Ok(&self.bytes)
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(|error| unread(&error))?;
        Ok(bytes)
    }

    fn is_over(&mut self) -> Result<bool, SnapshotError> {
        let read = self.from.read(&mut [0]).map_err(|error| unread(&error))?;
        Ok(read == 0)
    }
}

fn unread(error: &std::io::Error) -> SnapshotError {
    let kind = error.kind();
    if kind == ErrorKind::UnexpectedEof {
        SnapshotError::Damaged
    } else {
        SnapshotError::Unread(kind)
    }
}
