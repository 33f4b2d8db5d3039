//! The asking side: blocking, for commands that do one thing and end.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::call::{Answer, Call, LINE_MAX, Refusal};

/// Longest time one call may take; a quarantine takes milliseconds, a big policy a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No agent listens there, or we may not reach it.
    #[error("no agent answers at {socket}")]
    Unreachable {
        /// Asked there.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The agent went away or did not answer in time.
    #[error("the agent at {socket} broke off")]
    Broken {
        /// Asked there.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The answer is not of this protocol: another version listens there.
    #[error("the agent at {socket} speaks another version")]
    Foreign {
        /// Asked there.
        socket: PathBuf,
        /// What did not parse.
        #[source]
        source: serde_json::Error,
    },
    /// The agent says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Sends `call` to the agent at `socket` and waits for its answer, at most half a minute.
pub fn ask(socket: &Path, call: &Call) -> Result<Answer, CallError> {
    let path = || socket.to_owned();
    let mut stream = UnixStream::connect(socket)
        .map_err(|source| CallError::Unreachable { socket: path(), source })?;
    let broken = |source| CallError::Broken { socket: path(), source };
    let foreign = |source| CallError::Foreign { socket: path(), source };

    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    let mut line = serde_json::to_vec(call).map_err(foreign)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;

    let mut answer = Vec::new();
    BufReader::new(stream.take(LINE_MAX)).read_until(b'\n', &mut answer).map_err(broken)?;
    if answer.is_empty() {
        return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let answer: Result<Answer, Refusal> = serde_json::from_slice(&answer).map_err(foreign)?;
    answer.map_err(CallError::Refused)
}
