//! The kernel half's loader.
mod config;
mod kernel;

pub use enforcer_ebpf::{Reason, Verdict};

pub use config::{Attach, Budget, Config, Mode};
pub use kernel::{
    Attachment, AttachError, BlockError, Counter, Counters, Entry, Event, Events, Hook, Installed,
    Interface, Kernel, MapError, OpenError, Swept, object_sha256,
};
