//! `[agent]`: where the agent keeps its things and how much it may use.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::codes::WRONG_VALUE;
use crate::grammar::{Fields, Key, Need, PATH, Shape};
use crate::parse::Base;
use crate::problem::Report;

/// Where the agent keeps its things and how much it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Folder of keys, blocks and the audit log.
    pub state: PathBuf,
    /// The admin socket.
    pub socket: PathBuf,
    /// Threads that serve requests; `None`: one per core.
    pub threads: Option<NonZeroUsize>,
    /// Buckets of the limiter that can be in use at once.
    pub limit_entries: NonZeroUsize,
}

pub(super) static KEYS: &[Key] = &[
    Key::with_default(
        "state",
        Shape::Text(&PATH),
        Need::Text("/var/lib/enforcer"),
        "Folder of keys, blocks and the audit log; relative to the policy file.",
    ),
    Key::with_default(
        "socket",
        Shape::Text(&PATH),
        Need::Text("/run/enforcer/admin.sock"),
        "The admin socket; relative to the policy file.",
    ),
    Key::optional(
        "threads",
        Shape::Count(1, 1_024),
        "Threads that serve requests. Without it: one per core.",
    ),
    Key::with_default(
        "limit_entries",
        Shape::Count(1_024, 1 << 26),
        Need::Count(65_536),
        "Buckets of the limiter that can be in use at once; twice the live keys and addresses.",
    ),
];

/// `sun_path` of a Unix socket without its final NUL, unix(7).
const SOCKET_PATH_MAX: usize = 107;

pub(super) fn read(fields: Fields<'_>, base: Base<'_>, report: &mut Report) -> Option<Agent> {
    let socket = base.resolve(fields.text("socket")?);
    let length = socket.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        let message = format!("the path of the socket is {length} bytes long");
        let hint =
            format!("a Unix socket's path has at most {SOCKET_PATH_MAX}: {}", socket.display());
        report.add(&WRONG_VALUE, fields.span_of("socket"), message, hint);
    }
    Some(Agent {
        state: base.resolve(fields.text("state")?),
        socket,
        threads: super::size(fields.count("threads")),
        limit_entries: super::size(fields.count("limit_entries"))?,
    })
}
