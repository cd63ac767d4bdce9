//! The Unix socket, created so that nobody else can connect to it, or replace it, at any moment.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::UnixListener;

/// The reason why there is no socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// The path exceeds the kernel's limit.
    #[error(
        "--xds-listen unix:{path}: {length} bytes are too long for the path of a socket, at most {MAX_PATH}; choose a shorter one"
    )]
    TooLong {
        /// The absolute path.
        path: String,
        /// Its length.
        length: usize,
    },
    /// A running process serves it.
    #[error("--xds-listen unix:{0}: another process serves it; stop that, or choose another path")]
    InUse(String),
    /// The path is a file that would be overwritten.
    #[error("--xds-listen unix:{0}: that is a file and no socket; choose another path")]
    NotASocket(String),
    /// Another user could replace the socket.
    #[error(
        "--xds-listen unix:{path}: every user may write to {directory}; choose a directory of the agent's own"
    )]
    OpenDirectory {
        /// The path as configured.
        path: String,
        directory: String,
    },
    /// The state directory is closed to other users.
    #[error(
        "--envoy-uid: another user cannot enter the state directory; choose --xds-listen unix:PATH outside of it"
    )]
    Closed,
    /// Another I/O error.
    #[error("--xds-listen unix:{path}: {why}")]
    Io {
        /// The path as configured.
        path: String,
        why: io::Error,
    },
}

/// `sun_path` holds 107 bytes and a NUL; the socket is created under a path that is 3 bytes longer.
const MAX_PATH: usize = 104;

/// A served socket. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// The owner of the socket.
    pub(super) uid: u32,
    /// Held while the socket is served.
    _lock: File,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves `path`. With `others`, users that the file's mode would exclude may connect; the kernel
/// identifies them.
pub(super) fn bind(path: &Path, others: bool) -> Result<Socket, SocketError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let shown = || path.display().to_string();
    let failed = |why| SocketError::Io { path: shown(), why };
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(SocketError::TooLong { path: shown(), length });
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed(ErrorKind::InvalidInput.into()));
    };
    enter(&path, directory, others)?;
    let lock = lock(&path)?;
    make_room(&path)?;
    // Created in a directory that nobody else can enter, and moved once its mode is right.
    let draft = directory.join(format!(".{}", name.display()));
    let listener = draw(&draft, &path, others).map_err(failed)?;
    let uid = std::fs::symlink_metadata(&path).map_err(failed)?.uid();
    let listener = UnixListener::from_std(listener).map_err(failed)?;
    Ok(Socket { listener, path, uid, _lock: lock })
}

fn enter(path: &Path, directory: &Path, others: bool) -> Result<(), SocketError> {
    let failed = |why| SocketError::Io { path: path.display().to_string(), why };
    let mode = if others { 0o755 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(directory).map_err(failed)?;
    let mode = std::fs::metadata(directory).map_err(failed)?.mode();
    if mode & 0o1002 == 0o0002 {
        let (path, directory) = (path.display().to_string(), directory.display().to_string());
        return Err(SocketError::OpenDirectory { path, directory });
    }
    Ok(())
}

/// Excludes a second agent, whatever the state of the socket's file.
fn lock(path: &Path) -> Result<File, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |why| SocketError::Io { path: path.display().to_string(), why };
    let mut options = OpenOptions::new();
    let options = options.create(true).append(true).mode(0o600);
    let file = options.open(Path::new(&name)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SocketError::InUse(path.display().to_string())),
        Err(TryLockError::Error(why)) => Err(failed(why)),
    }
}

/// Removes the socket of a process that has ended, and nothing else.
fn make_room(path: &Path) -> Result<(), SocketError> {
    let shown = || path.display().to_string();
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(SocketError::NotASocket(shown())),
        Ok(_) if StdStream::connect(path).is_ok() => Err(SocketError::InUse(shown())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(why) => Err(SocketError::Io { path: shown(), why }),
    }
}

fn draw(draft: &Path, path: &Path, others: bool) -> io::Result<StdListener> {
    if draft.exists() {
        std::fs::remove_dir_all(draft)?; // of a start that was broken off
    }
    DirBuilder::new().mode(0o700).create(draft)?;
    let made = draft.join("s");
    let listener = StdListener::bind(&made)?;
    listener.set_nonblocking(true)?;
    let mode = if others { 0o666 } else { 0o600 };
    std::fs::set_permissions(&made, Permissions::from_mode(mode))?;
    std::fs::rename(&made, path)?;
    std::fs::remove_dir(draft)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_and_its_file_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/xds.sock");
        let socket = bind(&path, false).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(socket.uid, std::fs::metadata(folder.path()).unwrap().uid());
        let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 2, "the socket and its lock");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("xds.sock");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists(), "it stays behind a process that was killed");
        let ours = bind(&path, false).unwrap();
        assert!(matches!(bind(&path, false), Err(SocketError::InUse(_))));
        drop(ours);
        let foreign = StdListener::bind(&path).unwrap();
        assert!(matches!(bind(&path, false), Err(SocketError::InUse(_))));
        drop(foreign);
        assert!(bind(&path, false).is_ok());
    }

    #[tokio::test]
    async fn what_is_no_place_for_a_socket_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| bind(&folder.path().join(name), false);
        std::fs::write(folder.path().join("file"), "mine").unwrap();
        assert!(matches!(at("file"), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), "mine");
        assert!(matches!(at("file/below"), Err(SocketError::Io { .. })));
        let room = MAX_PATH - folder.path().as_os_str().len() - 1;
        assert!(at(&"x".repeat(room)).is_ok(), "exactly as long as it may be");
        let error = at(&"x".repeat(room + 1)).unwrap_err();
        assert!(matches!(error, SocketError::TooLong { length: 105, .. }), "{error}");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(at("open"), Err(SocketError::OpenDirectory { .. })));
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        assert!(at("sticky").is_ok());
    }
}
