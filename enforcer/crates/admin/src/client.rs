//! The asking side: blocking, for commands that do one thing and end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::Timeout;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::call::{ANSWER_MAX, Answer, Call, LINE_MAX, Refusal};

/// Longest time an agent may take to accept a call, and between two parts of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is sent at once: a long call shows how far it is.
const CHUNK: usize = 256 * 1024;

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many of its bytes are with the agent.
    Sent {
        /// Sent.
        bytes: u64,
        /// Of so many.
        of: u64,
    },
    /// All of it is, and the agent works on it.
    Waiting,
}

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
        source: io::Error,
    },
    /// The agent listens and takes nothing: it is overloaded or stopped. Nothing was done.
    #[error("the agent at {socket} took no call for {} s", .patience.as_secs())]
    Busy {
        /// Asked there.
        socket: PathBuf,
        /// How long.
        patience: Duration,
    },
    /// No agent would accept so long a call. Nothing was done.
    #[error("the call is {} MiB long, more than the {} that an agent accepts", bytes >> 20, LINE_MAX >> 20)]
    TooLong {
        /// Of the call.
        bytes: u64,
    },
    /// The agent has the call and did not answer in time. It may have done what it was asked.
    #[error("the agent at {socket} did not answer within {} s", .patience.as_secs())]
    TimedOut {
        /// Asked there.
        socket: PathBuf,
        /// How long.
        patience: Duration,
    },
    /// The agent went away.
    #[error("the agent at {socket} broke off")]
    Broken {
        /// Asked there.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
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

/// Sends `call` to the agent at `socket` and waits for its answer, as long as
/// [`Call::patience`] says.
pub fn ask(socket: &Path, call: &Call) -> Result<Answer, CallError> {
    ask_within(Patience::of(call), socket, call, &mut |_| ())
}

/// The same, and tells `progress` how far it is.
pub fn ask_with(
    socket: &Path,
    call: &Call,
    progress: &mut dyn FnMut(Progress),
) -> Result<Answer, CallError> {
    ask_within(Patience::of(call), socket, call, progress)
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
struct Patience {
    to_send: Duration,
    for_answer: Duration,
}

impl Patience {
    fn of(call: &Call) -> Self {
        Self { to_send: PATIENCE, for_answer: call.patience() }
    }
}

fn ask_within(
    Patience { to_send, for_answer }: Patience,
    socket: &Path,
    call: &Call,
    progress: &mut dyn FnMut(Progress),
) -> Result<Answer, CallError> {
    let path = || socket.to_owned();
    let foreign = |source| CallError::Foreign { socket: path(), source };
    let broken = |source| CallError::Broken { socket: path(), source };
    let busy = || CallError::Busy { socket: path(), patience: to_send };
    let unsent = |source: io::Error| if is_late(&source) { busy() } else { broken(source) };
    let unanswered = |source: io::Error| {
        if is_late(&source) {
            CallError::TimedOut { socket: path(), patience: for_answer }
        } else {
            broken(source)
        }
    };

    let mut line = serde_json::to_vec(call).map_err(foreign)?;
    line.push(b'\n');
    let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
    if length > LINE_MAX {
        return Err(CallError::TooLong { bytes: length });
    }
    let mut stream = connect(to_send, socket).map_err(|source| {
        if is_late(&source) { busy() } else { CallError::Unreachable { socket: path(), source } }
    })?;
    stream.set_read_timeout(Some(for_answer)).map_err(broken)?;
    let mut bytes = 0;
    // Without its last byte a call is none.
    for part in line.chunks(CHUNK) {
        stream.write_all(part).map_err(unsent)?;
        bytes += u64::try_from(part.len()).unwrap_or(u64::MAX);
        progress(Progress::Sent { bytes, of: length });
    }
    drop(line);
    progress(Progress::Waiting);

    let mut answer = Vec::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_until(b'\n', &mut answer).map_err(unanswered)?;
    if answer.is_empty() {
        return Err(broken(io::ErrorKind::UnexpectedEof.into()));
    }
    let answer: Result<Answer, Refusal> = serde_json::from_slice(&answer).map_err(foreign)?;
    answer.map_err(CallError::Refused)
}

/// Connects with `patience` for connecting and for each write: the backlog of a stuck agent fills.
fn connect(patience: Duration, path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // For a Unix socket the kernel applies this to `connect` as well (unix_stream_connect).
    net::sockopt::set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Patience =
        Patience { to_send: Duration::from_millis(20), for_answer: Duration::from_millis(20) };

    #[test]
    fn a_call_that_was_sent_and_not_answered_may_have_been_done() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();

        let late = ask_within(SHORT, &path, &Call::Status, &mut |_| ()).unwrap_err();

        assert!(matches!(late, CallError::TimedOut { .. }), "{late}");
    }

    #[test]
    fn an_agent_that_takes_no_call_is_busy_and_does_not_hold_the_caller() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let stuck =
            net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        net::bind(&stuck, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        net::listen(&stuck, 0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();

        let busy = ask_within(SHORT, &path, &Call::Status, &mut |_| ()).unwrap_err();

        assert!(matches!(busy, CallError::Busy { .. }), "{busy}");
    }

    #[test]
    fn nobody_there_is_told_apart_by_its_cause() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let kind = |error| {
            let CallError::Unreachable { source, .. } = error else { panic!("{error}") };
            source.kind()
        };

        assert_eq!(kind(ask(&path, &Call::Status).unwrap_err()), io::ErrorKind::NotFound);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert_eq!(kind(ask(&path, &Call::Status).unwrap_err()), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_call_that_no_agent_would_accept_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let text = Some("x".repeat(usize::try_from(LINE_MAX).unwrap()));

        let refused = ask(
            &folder.path().join("nobody"),
            &Call::PolicyApply { text, begin: Default::default() },
        )
        .unwrap_err();

        assert!(matches!(refused, CallError::TooLong { .. }), "{refused}");
    }
}
