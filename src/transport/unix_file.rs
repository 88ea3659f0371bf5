//! The file of a Unix socket: how it is created, which processes may connect, and which file is removed at the end.
//!
//! Two processes that start at one path exclude each other by a lock on its folder, so that neither takes the other's
//! file for an abandoned one before it listens. A process removes only the file that it created itself.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coreloop_poller::os;
use socket2::{Domain, SockAddr, Socket, Type};

use super::listener::BACKLOG;

/// How long a start waits for another process that holds the folder's lock; a bind takes microseconds.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How long the removal at the end waits for the lock.
const REMOVE_WAIT: Duration = Duration::from_millis(100);

/// The access to a Unix socket: a process may connect if it may write to the file. `None` keeps the system's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnixSocketAccess {
    /// The permission bits of the file, such as `0o660`. `None`: as the process's umask determines them.
    pub mode: Option<u32>,
    /// The number of the user that owns the file; only root can set another user.
    pub user: Option<u32>,
    /// The number of the group that owns the file; root, or a member of that group, can set it.
    pub group: Option<u32>,
}

/// The file of a socket that this process listens on.
pub(super) struct UnixSocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Listens on the path.
pub(super) fn bind(
    path: &Path,
    access: &UnixSocketAccess,
) -> io::Result<(mio::net::UnixListener, UnixSocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let addr = SockAddr::unix(path)?;
    let lock = FolderLock::take(path, LOCK_WAIT);
    match socket.bind(&addr) {
        // Without the lock another process may be about to listen.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && lock.is_some() && is_abandoned(path) => {
            fs::remove_file(path)?;
            socket.bind(&addr)?;
        }
        bound => bound?,
    }
    // Until the socket listens, every connection to it is refused, so the access is set before the first connection.
    let (file, entry) = UnixSocketFile::open(path)?;
    if let Err(error) = give_access(&entry, path, access).and_then(|()| socket.listen(BACKLOG)) {
        file.remove_locked();
        return Err(error);
    }
    let listener: std::os::unix::net::UnixListener = OwnedFd::from(socket).into();
    Ok((mio::net::UnixListener::from_std(listener), file))
}

impl UnixSocketFile {
    /// Returns the socket's file at the path, and a handle that refers to this file even if the path changes.
    fn open(path: &Path) -> io::Result<(UnixSocketFile, Entry)> {
        let entry = Entry::open(path)?;
        let meta = entry.metadata()?;
        if !meta.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names another file by now"));
        }
        Ok((UnixSocketFile { path: path.to_owned(), device: meta.dev(), inode: meta.ino() }, entry))
    }

    /// Returns the file of a socket that another process has created.
    #[cfg(feature = "restart")]
    pub(super) fn adopt(path: &Path) -> io::Result<UnixSocketFile> {
        UnixSocketFile::open(path).map(|(file, _entry)| file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, if the path still refers to it.
    pub(super) fn remove(&self) {
        let _lock = FolderLock::take(&self.path, REMOVE_WAIT);
        self.remove_locked();
    }

    fn remove_locked(&self) {
        // While the socket is open, its file's inode number is not given to another file.
        let is_same = |meta: fs::Metadata| (meta.dev(), meta.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(is_same) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A handle on a file that cannot be opened, such as a socket's.
#[cfg(any(target_os = "linux", target_os = "android"))]
struct Entry(File);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Entry {
    fn open(path: &Path) -> io::Result<Entry> {
        Ok(Entry(coreloop_poller::os::fds::open_path(path)?.into()))
    }

    fn metadata(&self) -> io::Result<fs::Metadata> {
        self.0.metadata()
    }

    /// Returns a path that refers to this file even if the folder's entry was replaced by a link to another file.
    fn stable_path(&self, _path: &Path) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// On other systems there is only the path.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
struct Entry(PathBuf);

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Entry {
    fn open(path: &Path) -> io::Result<Entry> {
        Ok(Entry(path.to_owned()))
    }

    fn metadata(&self) -> io::Result<fs::Metadata> {
        fs::symlink_metadata(&self.0)
    }

    fn stable_path(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }
}

fn give_access(entry: &Entry, path: &Path, access: &UnixSocketAccess) -> io::Result<()> {
    let stable = entry.stable_path(path);
    let named = |what: String, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
    // Set the mode first: a process that has given the file away can no longer change it.
    if let Some(mode) = access.mode {
        fs::set_permissions(&stable, fs::Permissions::from_mode(mode))
            .map_err(|error| named(format!("cannot set its mode to {mode:04o} (unix_mode)"), error))?;
    }
    if access.user.is_some() || access.group.is_some() {
        std::os::unix::fs::chown(&stable, access.user, access.group)
            .map_err(|error| named("cannot set its owner (unix_user, unix_group)".to_owned(), error))?;
    }
    Ok(())
}

/// Returns whether the path is a socket file without a listener.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    // Nonblocking: with a frozen listener and a full backlog, a blocking connect would hang.
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    };
    is_socket && connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// An exclusive lock on the folder of a socket, held until it is dropped. It leaves no file behind.
struct FolderLock {
    _folder: File,
}

impl FolderLock {
    /// Waits at most `wait` for the lock. `None`: another process holds it, or the folder cannot be opened or locked.
    fn take(path: &Path, wait: Duration) -> Option<FolderLock> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = File::open(parent.unwrap_or(Path::new("."))).ok()?;
        let until = Instant::now() + wait;
        while !os::try_lock(&folder).ok()? {
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(FolderLock { _folder: folder })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::Barrier;

    use super::super::address::Address;
    use super::super::listener::Listener;
    use super::*;

    fn listen(path: &Path) -> io::Result<Listener> {
        Listener::bind(&Address::Unix(path.to_owned()), &UnixSocketAccess::default())
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        (folder, path)
    }

    #[test]
    fn an_abandoned_file_is_replaced_and_a_live_one_is_in_use() {
        let (_folder, path) = folder();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = listen(&path).unwrap();
        assert_eq!(listen(&path).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&path).is_ok());
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let (folder, path) = folder();
        fs::write(&path, "not a socket").unwrap();
        let (to_socket, target) = (folder.path().join("link"), folder.path().join("target"));
        drop(UnixListener::bind(&target).unwrap());
        std::os::unix::fs::symlink(&target, &to_socket).unwrap();
        let dangling = folder.path().join("dangling");
        std::os::unix::fs::symlink(folder.path().join("nothing"), &dangling).unwrap();
        let inner = folder.path().join("folder");
        fs::create_dir(&inner).unwrap();
        for path in [&path, &to_socket, &dangling, &inner] {
            assert_eq!(listen(path).err().unwrap().kind(), io::ErrorKind::AddrInUse, "{}", path.display());
            assert!(fs::symlink_metadata(path).is_ok(), "{}", path.display());
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a socket");
    }

    #[test]
    fn a_successors_file_is_not_removed() {
        let (_folder, path) = folder();
        let first = listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = listen(&path).unwrap();
        drop(first);
        assert!(UnixStream::connect(&path).is_ok(), "the second one can still be reached");
        drop(second);
        assert!(!path.exists());

        // A file that replaced the socket's file is not removed either.
        let listener = listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another program's").unwrap();
        drop(listener);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another program's");
    }

    #[test]
    fn a_frozen_listener_with_a_full_backlog_is_live() {
        let (_folder, path) = folder();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            if client.connect(&SockAddr::unix(&path).unwrap()).is_err() {
                break;
            }
            waiting.push(client);
        }
        assert_eq!(listen(&path).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn of_simultaneous_starts_exactly_one_listens() {
        for round in 0..200 {
            let (_folder, path) = folder();
            if round % 2 == 0 {
                drop(UnixListener::bind(&path).unwrap());
            }
            let barrier = Barrier::new(3);
            let start = || {
                barrier.wait();
                let result = listen(&path);
                barrier.wait();
                result
            };
            let results = std::thread::scope(|scope| {
                [(); 3].map(|()| scope.spawn(start)).map(|thread| thread.join().unwrap())
            });
            let live: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
            assert_eq!(live.len(), 1, "round {round}");
            let _client = UnixStream::connect(&path).unwrap();
            assert!(live[0].accept().is_ok(), "round {round}");
        }
    }

    #[test]
    fn the_mode_does_not_depend_on_the_umask() {
        let (_folder, path) = folder();
        for mode in [0o600, 0o660, 0o666, 0o777] {
            let access = UnixSocketAccess { mode: Some(mode), ..UnixSocketAccess::default() };
            let _listener = Listener::bind(&Address::Unix(path.clone()), &access).unwrap();
            assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn an_owner_that_cannot_be_set_is_an_error() {
        let (_folder, path) = folder();
        let access = UnixSocketAccess { user: Some(1), group: Some(1), ..UnixSocketAccess::default() };
        match Listener::bind(&Address::Unix(path.clone()), &access) {
            Ok(_listener) => {
                let meta = fs::symlink_metadata(&path).unwrap();
                assert_eq!((meta.uid(), meta.gid()), (1, 1));
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
                assert!(error.to_string().contains("unix_user, unix_group"), "{error}");
                assert!(!path.exists());
            }
        }
    }
}
