//! A listening socket in the file system, made so that nobody sees it half made.
//!
//! What is left of an agent that is gone is replaced, what is alive is not: under a lock on the
//! folder, the path is tried, and only when nobody answers there a socket that listens already, with
//! its permissions set, is moved to it in one step. There is no moment without a socket at the path,
//! and none in which another agent's could be taken away. It is not removed at the end either: the
//! next agent, or one that has taken over, has the same path.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use enforcer_policy::Address;
use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::listeners::{BACKLOG, BindError, system};

/// What is at a path before anything is put there.
enum There {
    Nothing,
    /// A socket that nobody listens on.
    Stale,
}

/// Listens at `path`, for whom `mode` admits.
pub(crate) fn bind(listener: &Arc<str>, path: &Path, mode: u32) -> Result<UnixListener, BindError> {
    let failed = |source| system(listener, &Address::Unix(path.to_owned()), source);
    let taken = || BindError::InUseUnix { listener: Arc::clone(listener), path: path.to_owned() };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        // Another agent is just making its own.
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(taken()),
        Err(error) => return Err(failed(error.into())),
    }
    match look(path).map_err(failed)? {
        Ok(There::Nothing | There::Stale) => {}
        Err(true) => return Err(taken()),
        Err(false) => {
            return Err(BindError::NotASocket {
                listener: Arc::clone(listener),
                path: path.to_owned(),
            });
        }
    }
    let made = make(path, mode).map_err(failed)?;
    // The lock goes with the folder.
    drop(folder);
    Ok(made)
}

/// What may be replaced; otherwise whether it is alive, or no socket at all.
fn look(path: &Path) -> io::Result<Result<There, bool>> {
    let kind = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(There::Nothing)),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Ok(Err(false));
    }
    match UnixStream::connect(path) {
        Ok(_somebody) => Ok(Err(true)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Ok(There::Stale)),
        // A queue that is full is somebody's.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Err(true)),
        Err(error) => Err(error),
    }
}

fn make(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let aside = aside(path);
    match fs::remove_file(&aside) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(&aside)?)?;
    let moved = fs::set_permissions(&aside, Permissions::from_mode(mode))
        .and_then(|()| socket.listen(BACKLOG))
        .and_then(|()| fs::rename(&aside, path));
    if let Err(error) = moved {
        fs::remove_file(&aside).unwrap_or_default();
        return Err(error);
    }
    Ok(UnixListener::from(OwnedFd::from(socket)))
}

/// Beside `path`, where the lock holds as well.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_there_with_its_permissions_and_what_a_dead_agent_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let name: Arc<str> = "local".into();

        let first = bind(&name, &path, 0o660).unwrap();
        assert!(matches!(bind(&name, &path, 0o660), Err(BindError::InUseUnix { .. })));
        drop(first);
        let second = bind(&name, &path, 0o600).unwrap();

        let _client = UnixStream::connect(&path).unwrap();
        assert!(second.accept().is_ok());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_socket_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();

        for path in [&file, &link] {
            let refused = bind(&"local".into(), path, 0o660).unwrap_err();
            assert!(matches!(refused, BindError::NotASocket { .. }), "{refused}");
        }

        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn whoever_makes_a_socket_keeps_others_out_until_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let locked = File::open(folder.path()).unwrap();
        flock(&locked, FlockOperation::LockExclusive).unwrap();

        let refused = bind(&"local".into(), &folder.path().join("a.sock"), 0o660).unwrap_err();

        assert!(matches!(refused, BindError::InUseUnix { .. }), "{refused}");
    }
}
