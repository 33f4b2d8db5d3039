//! How old an answer is, and how long it is good (RFC 9111, 4.2).
use std::time::Instant;
#[derive(Clone, Debug)]
pub(crate) struct Freshness {
    pub(crate) received: Instant,
}
