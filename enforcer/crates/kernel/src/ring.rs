//! The ring buffer as something that a task can wait for; the only unsafe code of userspace.

#![expect(unsafe_code, reason = "a runtime that watches a descriptor must be promised its life")]

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

/// Registers `ring` with the runtime of the calling task.
pub(crate) fn register(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // Without a runtime the registration would panic.
    Handle::try_current().map_err(io::Error::other)?;
    // SAFETY: the descriptor is that of the map which `ring` owns and never replaces; it stays open
    // until `ring` is dropped, which is after the registration ends, and is the same at every call.
    let registered = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    Ok(registered?)
}
