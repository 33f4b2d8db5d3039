//! The answering side: accepts, reads one call, hands it to the program, writes its answer.
//!
//! At most [`SESSIONS_MAX`] calls are open at once and each has [`SESSION_MAX`] to be asked; more
//! wait in the socket's backlog. Whoever may open the socket (mode 0660) may call: that is root and
//! the group that owns it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use enforcer_model::Author;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::call::{Answer, Call, HandOver, LINE_MAX, Refusal, RefusalKind};

/// Calls served at once.
pub const SESSIONS_MAX: usize = 32;

/// Longest time a caller may take to send its call.
pub const SESSION_MAX: Duration = Duration::from_secs(10);

/// What is read from a caller at once.
const READ_AT_ONCE: usize = 256 * 1024;

/// Longest call that is parsed at once, between those of others: a millisecond's work.
const SHORT_LINE: usize = 64 * 1024;

/// Who calls, as the kernel vouches for it (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id, where known.
    pub pid: Option<i32>,
}

/// A call that waits for its answer; dropping it tells the caller that the agent is stopping.
#[derive(Debug)]
pub struct Incoming {
    /// What is asked.
    pub call: Call,
    /// By whom.
    pub peer: Peer,
    /// Whose decision it is, where that is not the peer's: a rule's, when the agent asks itself.
    pub author: Option<Author>,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Answer, Refusal>>,
}

/// Somebody who wants to take the agent's place, and the stream to talk on. Nothing but the call has
/// been read from it.
#[derive(Debug)]
pub struct Visitor {
    /// What it says of itself.
    pub asked: HandOver,
    /// Who it is.
    pub peer: Peer,
    /// To answer on, in blocking mode.
    pub stream: std::os::unix::net::UnixStream,
}

/// The socket, bound; removed again when dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    /// None when somebody else has the socket now.
    path: Option<PathBuf>,
    visitors: Option<mpsc::Sender<Visitor>>,
}

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("another agent answers at {}", .0.display())]
    Occupied(PathBuf),
    /// A file that is no socket is in the way.
    #[error("{} is in the way and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// A socket is there, and whether an agent has it cannot be told.
    #[error("cannot tell whether an agent answers at {}", path.display())]
    Unclear {
        /// Tried there.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refuses.
    #[error("cannot listen at {}", path.display())]
    System {
        /// Tried there.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Occupied(_) => "`enforcer status` shows it; stop it first",
            Self::NotASocket(_) => "move it away, or name another place under `socket` in [agent]",
            Self::Unclear { .. } => {
                "`ss -xlp` shows who listens; stop that process, or remove the socket if nobody does"
            }
            Self::System { .. } => "the folder of `socket` in [agent] must be writable",
        }
    }
}

impl Server {
    /// Listens at `path` with mode 0660, owned by `group` when it is given.
    ///
    /// A folder that is missing is made so that the group can reach the socket, whatever the umask.
    /// A socket that a killed agent left behind is replaced; one that answers is not.
    pub fn bind(path: &Path, group: Option<u32>) -> Result<Self, BindError> {
        let system = |source| BindError::System { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            make_folder(folder, group).map_err(system)?;
        }
        clear_stale(path)?;
        // Nobody may connect between bind and chmod: the mode comes from the umask at once.
        let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o117));
        let bound = UnixListener::bind(path);
        rustix::process::umask(mask);
        let listener = bound.map_err(system)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(system)?;
        if group.is_some() {
            std::os::unix::fs::chown(path, None, group).map_err(system)?;
        }
        Ok(Self { listener, path: Some(path.to_owned()), visitors: None })
    }

    /// Takes over a socket that listens at `path` in another process.
    pub fn adopt(socket: OwnedFd, path: &Path) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(Self { listener, path: Some(path.to_owned()), visitors: None })
    }

    /// The same socket again, for another process.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// Leaves the socket to whoever it was shared with.
    pub fn leave(mut self) {
        self.path = None;
    }

    /// Who wants to take the agent's place is sent there.
    #[must_use]
    pub fn with_visitors(mut self, visitors: mpsc::Sender<Visitor>) -> Self {
        self.visitors = Some(visitors);
        self
    }

    /// Serves calls until `stop`; each goes to `calls`, which is bounded, so callers wait.
    pub async fn serve(self, calls: mpsc::Sender<Incoming>, stop: CancellationToken) {
        self.serve_until(calls, stop).await;
    }

    /// The same, and the socket goes on to listen: who connects waits for whoever serves next.
    pub async fn serve_until(&self, calls: mpsc::Sender<Incoming>, stop: CancellationToken) {
        let seats = Arc::new(Semaphore::new(SESSIONS_MAX));
        let sessions = tokio_util::task::TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.listener, &seats) => accepted,
            };
            let Ok((stream, seat)) = accepted else {
                // Out of descriptors: give the process a moment, the callers wait.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (calls, visitors) = (calls.clone(), self.visitors.clone());
            sessions.spawn(async move {
                if let Err(error) = session(stream, &calls, visitors).await {
                    debug!(%error, "admin session ended early");
                }
                drop(seat);
            });
        }
        sessions.close();
        // Calls in progress get their answer; nobody new is heard.
        if tokio::time::timeout(SESSION_MAX, sessions.wait()).await.is_err() {
            debug!("admin sessions were still open at the end");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_file(path)
        {
            debug!(%error, "admin socket was gone already");
        }
    }
}

/// Makes `folder` and what is missing above it, open to `group`; what exists is left as it is.
fn make_folder(folder: &Path, group: Option<u32>) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
            make_folder(above.ok_or(error)?, group)?;
            std::fs::create_dir(folder)?;
        }
        Err(error) => return Err(error),
    }
    if group.is_some() {
        std::os::unix::fs::chown(folder, None, group)?;
    }
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o750))
}

/// Removes a socket at `path` that certainly nobody listens at.
fn clear_stale(path: &Path) -> Result<(), BindError> {
    use std::os::unix::fs::FileTypeExt;
    let system = |source| BindError::System { path: path.to_owned(), source };
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(error)),
    };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match knock(path) {
        Ok(()) => Err(BindError::Occupied(path.to_owned())),
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(system),
        Err(error) => Err(BindError::Unclear { path: path.to_owned(), source: error.into() }),
    }
}

/// Connects and hangs up; a full backlog is `EAGAIN` at once, because a stuck agent must not make
/// this one wait.
fn knock(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    net::connect(&socket, &SocketAddrUnix::new(path)?)
}

async fn accept(
    listener: &UnixListener,
    seats: &Arc<Semaphore>,
) -> io::Result<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let seat = Arc::clone(seats).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, seat))
}

async fn session(
    mut stream: UnixStream,
    calls: &mpsc::Sender<Incoming>,
    visitors: Option<mpsc::Sender<Visitor>>,
) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let peer = Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
    let (reader, mut writer) = stream.split();

    let mut line = Vec::new();
    let mut reader = BufReader::with_capacity(READ_AT_ONCE, reader.take(LINE_MAX));
    tokio::time::timeout(SESSION_MAX, reader.read_until(b'\n', &mut line)).await??;
    let answer = match (parse(line).await, visitors) {
        (Ok(Call::HandOver(asked)), Some(visitors)) => {
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            // Full, or the agent is stopping: the stream closes, and the visitor is told so by that.
            drop(visitors.try_send(Visitor { asked, peer, stream }));
            return Ok(());
        }
        (Ok(call), _) => dispatch(call, peer, calls).await,
        (Err(error), _) => Err(Refusal::new(RefusalKind::Usage, format!("not a call: {error}"))
            .hint("use the `enforcer` command of the agent's own version")),
    };

    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    tokio::time::timeout(SESSION_MAX, writer.write_all(&line)).await??;
    writer.shutdown().await
}

/// A long call is parsed where nobody else waits behind it: a million networks take a while.
async fn parse(line: Vec<u8>) -> io::Result<Call> {
    let read = |line: &[u8]| serde_json::from_slice(line).map_err(io::Error::from);
    if line.len() <= SHORT_LINE {
        return read(&line);
    }
    tokio::task::spawn_blocking(move || read(&line)).await.map_err(io::Error::other)?
}

async fn dispatch(
    call: Call,
    peer: Peer,
    calls: &mpsc::Sender<Incoming>,
) -> Result<Answer, Refusal> {
    let stopping = || Refusal::new(RefusalKind::Failed, "the agent is stopping");
    let (reply, answer) = oneshot::channel();
    if calls.send(Incoming { call, peer, author: None, reply }).await.is_err() {
        return Err(stopping());
    }
    answer.await.unwrap_or_else(|_| Err(stopping()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use std::net::IpAddr;

    use enforcer_model::Prefix;

    use super::*;
    use crate::call::Import;
    use crate::client::{CallError, Progress, ask, ask_with};

    #[tokio::test]
    async fn a_call_reaches_the_program_with_the_callers_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let (calls, mut incoming) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let server = Server::bind(&path, None).unwrap();
        let serving = tokio::task::spawn(server.serve(calls, stop.clone()));

        let asked = tokio::task::spawn_blocking({
            let path = path.clone();
            move || ask(&path, &Call::KeyList)
        });
        let call = incoming.recv().await.unwrap();
        assert!(matches!(call.call, Call::KeyList));
        assert_eq!(call.peer.uid, rustix::process::getuid().as_raw());
        let refusal = Refusal::new(RefusalKind::Guarded, "no").hint("narrow it");
        call.reply.send(Err(refusal)).unwrap();

        let answer = asked.await.unwrap().unwrap_err();
        assert!(
            matches!(answer, CallError::Refused(refusal) if refusal.kind == RefusalKind::Guarded)
        );
        stop.cancel();
        serving.await.unwrap();
        assert!(!path.exists(), "the socket is removed at the end");
    }

    #[tokio::test]
    async fn a_long_list_arrives_whole_and_the_caller_is_told_how_far_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let (calls, mut incoming) = mpsc::channel(1);
        let server = Server::bind(&path, None).unwrap();
        let serving = tokio::task::spawn(server.serve(calls, CancellationToken::new()));
        let networks: Vec<Prefix> =
            (0..100_000u32).map(|n| Prefix::from(IpAddr::from((n << 8).to_be_bytes()))).collect();
        let import = Call::Import(Import {
            list: "all".parse().unwrap(),
            networks: networks.clone().into(),
            ttl_seconds: None,
            reason: "test".to_owned(),
            override_guard: false,
            dry_run: false,
            ssh_peer: None,
        });

        let asked = tokio::task::spawn_blocking(move || {
            let mut steps = Vec::new();
            let answer = ask_with(&path, &import, &mut |step| steps.push(step));
            (steps, answer)
        });
        let call = incoming.recv().await.unwrap();
        let Call::Import(arrived) = call.call else { panic!() };
        call.reply.send(Err(Refusal::new(RefusalKind::Failed, "no"))).unwrap();

        assert_eq!(arrived.networks.0, networks);
        let (steps, answer) = asked.await.unwrap();
        assert!(answer.is_err());
        assert!(steps.len() > 3, "{steps:?}");
        let [.., Progress::Sent { bytes, of }, Progress::Waiting] = *steps else { panic!() };
        assert_eq!(bytes, of);
        serving.abort();
    }

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");

        let _server = Server::bind(&path, None).unwrap();

        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[tokio::test]
    async fn the_group_can_reach_the_socket_in_a_folder_we_made_whatever_the_umask() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/enforcer/admin.sock");
        let group = rustix::process::getgid().as_raw();
        let strict = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));

        let server = Server::bind(&path, Some(group));

        rustix::process::umask(strict);
        server.unwrap();
        for made in ["run", "run/enforcer"] {
            let found = std::fs::metadata(folder.path().join(made)).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, 0o750, "{made}");
            assert_eq!(std::os::unix::fs::MetadataExt::gid(&found), group);
        }
    }

    #[tokio::test]
    async fn a_folder_that_exists_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(folder.path(), own).unwrap();

        let _server = Server::bind(&folder.path().join("admin.sock"), None).unwrap();

        let mode = std::fs::metadata(folder.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o711);
    }

    #[tokio::test]
    async fn a_socket_whose_backlog_is_full_is_not_taken_for_a_dead_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let busy =
            net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        net::bind(&busy, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        net::listen(&busy, 0).unwrap();
        let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();

        let refused = Server::bind(&path, None).unwrap_err();

        assert!(matches!(refused, BindError::Unclear { .. }), "{refused}");
        assert!(refused.hint().contains("ss -xlp"));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_second_agent_is_refused_and_a_dead_ones_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let first = Server::bind(&path, None).unwrap();

        assert!(matches!(Server::bind(&path, None), Err(BindError::Occupied(_))));

        // As kill -9 leaves it: the file stays, nobody listens.
        std::fs::hard_link(&path, folder.path().join("left")).unwrap();
        drop(first);
        std::fs::rename(folder.path().join("left"), &path).unwrap();
        assert!(Server::bind(&path, None).is_ok());
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        std::fs::write(&path, "precious").unwrap();

        assert!(matches!(Server::bind(&path, None), Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn rubbish_gets_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let (calls, _incoming) = mpsc::channel(1);
        let server = Server::bind(&path, None).unwrap();
        let serving = tokio::task::spawn(server.serve(calls, CancellationToken::new()));

        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            io::read_to_string(stream).unwrap()
        });

        assert!(answer.await.unwrap().contains("not a call"));
        serving.abort();
    }
}
