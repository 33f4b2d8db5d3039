//! The values of an array map as memory of this process: what the kernel reads, read and written
//! in place.

#![expect(unsafe_code, reason = "memory that another owner writes at the same time")]

use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::slice;

use aya::maps::{Map, MapData};
use enforcer_ebpf::escalation::Escalation;
use enforcer_ebpf::flood::State;
use enforcer_ebpf::table::Row;
use enforcer_ebpf::{Class, Config, Set, Shared, map};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::MapError;

/// What may stand in memory that the kernel shares.
///
/// # Safety
///
/// Made of [`Shared`] words and of nothing else, without padding, so that every pattern of bits is
/// one of its values and every access is of a whole word and atomic.
pub(crate) unsafe trait Words: 'static {}

// SAFETY: a word.
unsafe impl Words for Shared {}
// SAFETY: `repr(C)`, every field is an array of words.
unsafe impl<const N: usize> Words for Row<N, Shared> {}
// SAFETY: `repr(C)`, every field is an array of words.
unsafe impl Words for Set<Shared> {}
// SAFETY: `repr(C)`, every field is a word or made of words.
unsafe impl Words for Config<Shared> {}
// SAFETY: `repr(C)`, every field is a word.
unsafe impl Words for Class<Shared> {}
// SAFETY: `repr(C)`, every field is a word.
unsafe impl Words for State<Shared> {}
// SAFETY: `repr(C)`, every field is a word.
unsafe impl Words for Escalation<Shared> {}

/// The values of one array map.
pub(crate) struct Mapped<T> {
    values: NonNull<T>,
    count: usize,
    bytes: usize,
    _owns: PhantomData<T>,
}

impl<T: Words> Mapped<T> {
    /// Maps every value of `map`, which is what its `name` promises or refused.
    pub(crate) fn new(map: &MapData, name: &'static str) -> Result<Self, MapError> {
        let unreadable = |source| MapError::Open { map: name, source };
        let info = map.info().map_err(unreadable)?;
        let fits = usize::try_from(info.value_size()) == Ok(size_of::<T>())
            && size_of::<T>().is_multiple_of(size_of::<Shared>())
            && info.map_flags() & map::MMAPABLE != 0;
        let count = usize::try_from(info.max_entries()).unwrap_or_default();
        let bytes = count.checked_mul(size_of::<T>()).filter(|&bytes| fits && bytes > 0);
        let bytes = bytes.ok_or(MapError::Shape { map: name })?;
        let address = share(map, bytes).map_err(|error| unreadable(error.into()))?;
        let values = NonNull::new(address.cast()).ok_or(MapError::Shape { map: name })?;
        Ok(Self { values, count, bytes, _owns: PhantomData })
    }

    /// Maps the values of an array map, whatever else the file of its pin could hold.
    pub(crate) fn of(map: &Map, name: &'static str) -> Result<Self, MapError> {
        let Map::Array(data) = map else { return Err(MapError::Shape { map: name }) };
        Self::new(data, name)
    }
}

impl<T: Words> Deref for Mapped<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `count` values of `T` start here, on the first byte of a page; the mapping lives
        // as long as `self`. Whoever else writes them, `Words` promises that each access is atomic
        // and each value valid.
        unsafe { slice::from_raw_parts(self.values.as_ptr(), self.count) }
    }
}

impl<T: Words> AsRef<[T]> for Mapped<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `share` made, whole, and nothing refers to it any more.
        let gone = unsafe { munmap(self.values.as_ptr().cast(), self.bytes) };
        if let Err(error) = gone {
            tracing::warn!(%error, "a map stays in memory");
        }
    }
}

// SAFETY: a mapping belongs to the process, not to a thread, and all access is atomic.
unsafe impl<T: Words> Send for Mapped<T> {}
// SAFETY: as above.
unsafe impl<T: Words> Sync for Mapped<T> {}

fn share(map: &MapData, bytes: usize) -> io::Result<*mut c_void> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses takes nothing from anybody.
    let address = unsafe { mmap(null_mut(), bytes, access, MapFlags::SHARED, map.fd().as_fd(), 0) };
    Ok(address?)
}
