//! An answer on its way to the client that comes to be kept when it is complete.
//!
//! Each part goes to the client at once; what is kept is one copy of the whole in memory of exactly
//! its length, because a part of what was read from a socket keeps all of it alive. Whatever goes
//! wrong, nothing is kept, and whoever waits is told.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::flight::Lead;
use crate::kept::Kept;
use crate::key::Key;
use crate::store::{Cache, Counts};

/// The copy that is being made.
#[derive(Debug)]
pub struct Fill {
    cache: Arc<Cache>,
    parts: BytesMut,
    /// Reserved of what answers may take while they arrive.
    reserved: u64,
    /// What the head said about the length.
    declared: Option<u64>,
    /// None once it is settled that nothing will be kept.
    pending: Option<Pending>,
}

#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) key: Key,
    /// All but the body.
    pub(crate) kept: Kept,
    pub(crate) purges: u64,
    pub(crate) lead: Option<Lead>,
}

/// Room for a body of unknown length is reserved in steps of this size.
const STEP: u64 = 16 * 1024;

impl Fill {
    /// None when there is no room for it.
    pub(crate) fn new(cache: &Arc<Cache>, pending: Pending, declared: Option<u64>) -> Option<Self> {
        let first = declared.unwrap_or(STEP);
        let capacity = usize::try_from(first).ok()?;
        if !cache.reserve(first) {
            return None;
        }
        Some(Self {
            cache: Arc::clone(cache),
            parts: BytesMut::with_capacity(capacity),
            reserved: first,
            declared,
            pending: Some(pending),
        })
    }

    /// The next part of the body.
    pub fn push(&mut self, part: &Bytes) {
        if self.pending.is_none() {
            return;
        }
        let length = number(self.parts.len()).saturating_add(number(part.len()));
        let most = self.declared.unwrap_or(u64::MAX).min(self.cache.bounds().entry.0);
        if length > most || !self.reserve(length) {
            return self.give_up();
        }
        self.parts.extend_from_slice(part);
    }

    /// Nothing is kept: the answer has trailers, or broke off.
    pub fn give_up(&mut self) {
        self.pending = None;
        self.parts = BytesMut::new();
        self.cache.release(std::mem::take(&mut self.reserved));
    }

    /// The body is complete: the answer is kept from here on.
    pub fn complete(&mut self) {
        let Some(Pending { key, kept, purges, lead }) = self.pending.take() else { return };
        let parts = std::mem::take(&mut self.parts);
        if self.declared.is_some_and(|declared| declared != number(parts.len())) {
            return self.give_up();
        }
        let body = match parts.capacity() - parts.len() {
            0 => parts.freeze(),
            _ => Bytes::copy_from_slice(&parts),
        };
        let kept = Arc::new(Kept { body, ..kept });
        if self.cache.put(key, kept, purges) {
            Counts::add(&self.cache.counts.stored);
            if let Some(lead) = lead {
                lead.kept();
            }
        }
        self.give_up();
    }

    fn reserve(&mut self, length: u64) -> bool {
        let Some(missing) = length.checked_sub(self.reserved).filter(|missing| *missing > 0) else {
            return true;
        };
        // Doubling, as the buffer does.
        let more = missing.max(self.reserved);
        let is_reserved = self.cache.reserve(more);
        if is_reserved {
            self.reserved = self.reserved.saturating_add(more);
        }
        is_reserved
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
