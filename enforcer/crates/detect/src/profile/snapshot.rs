//! Profiles as bytes, and back: they survive restarts.
//!
//! The bytes begin with a version and end with a sum under the host's key. What does not fit, was
//! cut, was changed or comes from another host is refused whole; profiles then begin anew.

use super::fleet::Common;
use super::group::{GROUPS_MAX, Group, News};
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

/// Why a snapshot is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It is none, or one of another version.
    #[error("it is no file of profiles of this version")]
    Version,
    /// It was cut, changed, or written with another key.
    #[error("it is damaged, or another host's")]
    Damaged,
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

impl Form for Box<str> {
    fn put(&self, out: &mut Vec<u8>) {
        u16::try_from(self.len()).unwrap_or(u16::MAX).put(out);
        out.extend(self.bytes().take(usize::from(u16::MAX)));
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
    /// All that is known, as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 << 20);
        MAGIC.put(&mut out);
        self.began.unwrap_or(0).put(&mut out);
        self.today.put(&mut out);
        self.common.put(&mut out);
        self.fresh.put(&mut out);
        u32::try_from(self.groups.len()).unwrap_or(0).put(&mut out);
        self.groups.iter().for_each(|group| group.put(&mut out));
        u32::try_from(self.table.len()).unwrap_or(0).put(&mut out);
        for (identity, name) in self.table.all() {
            identity.put(&mut out);
            Box::<str>::from(name).put(&mut out);
        }
        self.key.sum(&out).put(&mut out);
        out
    }

    /// What [`Self::snapshot`] told, under the same key.
    pub fn restore(plan: Plan, key: [u8; 16], bytes: &[u8]) -> Result<Self, SnapshotError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(SnapshotError::Version);
        }
        let mut profiles = Self::new(plan, key);
        let (body, sum) = bytes.split_last_chunk::<8>().ok_or(SnapshotError::Damaged)?;
        if profiles.key.sum(body) != u64::from_le_bytes(*sum) {
            return Err(SnapshotError::Damaged);
        }
        let mut rest = body.get(MAGIC.len()..).unwrap_or_default();
        profiles.fill(&mut rest).filter(|()| rest.is_empty()).ok_or(SnapshotError::Damaged)?;
        Ok(profiles)
    }

    fn fill(&mut self, from: &mut &[u8]) -> Option<()> {
        self.began = Some(u32::take(from)?).filter(|began| *began != 0);
        self.today = u32::take(from)?;
        self.common = Common::take(from)?;
        self.fresh = Common::take(from)?;
        let groups = usize::try_from(u32::take(from)?)
            .ok()
            .filter(|groups| (1..=GROUPS_MAX).contains(groups))?;
        self.groups = (0..groups).map(|_| Group::take(from)).collect::<Option<_>>()?;
        let identities = u32::take(from)?;
        if usize::try_from(identities).ok()? > IDENTITIES_MAX {
            return None;
        }
        for _ in 0..identities {
            let identity = Identity::take(from)?;
            let name = Box::<str>::take(from).filter(|name| name.len() <= NAME_MAX)?;
            let known = usize::from(identity.group) < groups;
            self.table.add(known.then_some(identity)?, &name);
        }
        Some(())
    }
}
