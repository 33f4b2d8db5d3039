//! The kernel half: contract and verdict.
#![no_std]

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// On to the network stack.
    Pass = 0,
    /// Gone.
    Drop = 1,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Reason {
    /// Nothing spoke against it.
    Clean = 0,
    /// Its source is blocked.
    Blocked = 1,
}
