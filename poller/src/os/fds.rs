//! Descriptors that pass between processes: over a Unix socket, and from the process that has started this one.
//!
//! A received descriptor is owned from the moment it arrives, so none is lost on an error. Nothing here interprets
//! bytes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors in one message; the kernel's own limit is 253.
pub const FDS_MAX: usize = 64;

/// Words of a control buffer: a header of at most 16 bytes with its padding, and the descriptors. As words, since the
/// header must be aligned.
const CONTROL_WORDS: usize = 4 + FDS_MAX * size_of::<RawFd>() / size_of::<u64>();

/// Sends bytes, and descriptors with the first of them, over a Unix socket. Returns the number of bytes sent, which may be
/// less than all; the descriptors travel if at least one byte did. The receiver gets duplicates.
///
/// # Errors
///
/// `InvalidInput` with more than [`FDS_MAX`] descriptors, or with descriptors and no bytes; errors of the kernel, among
/// them `WouldBlock` for a socket that does not block.
pub fn send_with_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > FDS_MAX || !fds.is_empty() && bytes.is_empty() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let numbers_bytes = size_of_val(numbers.as_slice());
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zeros are a valid msghdr: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    if !numbers.is_empty() {
        message.msg_control = control.as_mut_ptr().cast();
        // At most FDS_MAX descriptors: the lengths fit every type that systems have for them.
        let bytes = numbers_bytes as libc::c_uint;
        // SAFETY: pure arithmetic.
        let (space, len) = unsafe { (libc::CMSG_SPACE(bytes), libc::CMSG_LEN(bytes)) };
        debug_assert!(space as usize <= size_of_val(&control));
        message.msg_controllen = space as _;
        // SAFETY: the control buffer is live, writable, aligned for a header and at least `space` bytes long, so there is
        // a first header, and the data after it has room for the numbers.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = len as _;
            let data = libc::CMSG_DATA(header);
            std::ptr::copy_nonoverlapping(numbers.as_ptr().cast::<u8>(), data, numbers_bytes);
        }
    }
    loop {
        // SAFETY: `message` and all that it points to live through the call, which only reads them; the borrowed
        // descriptors keep the numbers open.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, NO_SIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Receives bytes from a Unix socket, and the descriptors that were sent with them, which are added to `fds`. They are
/// closed in programs that this process starts. Returns the number of bytes, 0 at the end.
///
/// # Errors
///
/// `InvalidData` if more descriptors came than one message may have: those that arrived are in `fds`. Otherwise errors of
/// the kernel, among them `WouldBlock` for a socket that does not block, or whose timeout has passed.
pub fn receive_with_fds(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: all zeros are a valid msghdr: no name, no parts, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let received = loop {
        // SAFETY: `message` and all that it points to are live and writable for the lengths that are passed.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, CLOSE_ON_EXEC) };
        match usize::try_from(received) {
            Ok(received) => break received,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    };
    // SAFETY: the kernel has filled in the control buffer and its length; the headers are walked as cmsg(3) describes. Each
    // number in an SCM_RIGHTS message is a new descriptor of this process that nothing else owns.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(header);
                let head = data.offset_from(header.cast::<u8>()) as usize;
                let count = ((*header).cmsg_len as usize).saturating_sub(head) / size_of::<RawFd>();
                for index in 0..count {
                    let number = data.cast::<RawFd>().add(index).read_unaligned();
                    fds.push(OwnedFd::from_raw_fd(number));
                }
            }
            header = libc::CMSG_NXTHDR(&message, header);
        }
    }
    if CLOSE_ON_EXEC == 0 {
        fds.iter().try_for_each(|fd| close_on_exec(fd.as_raw_fd()))?;
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors than one message may have"));
    }
    Ok(received)
}

/// Copies bytes that have arrived at a connected socket, and leaves them there for the next read. Returns the number of
/// bytes, 0 at the end.
///
/// # Errors
///
/// Errors of the kernel, among them `WouldBlock` for a socket that does not block.
pub fn peek(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: `into` is live and writable for the length that is passed.
        let copied =
            unsafe { libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_PEEK) };
        match usize::try_from(copied) {
            Ok(copied) => return Ok(copied),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// A peer that has gone is an error, not a signal.
#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: libc::c_int = 0;

/// Received descriptors are closed in programs that this process starts; 0 where the system cannot do that at once.
#[cfg(not(target_vendor = "apple"))]
const CLOSE_ON_EXEC: libc::c_int = libc::MSG_CMSG_CLOEXEC;
#[cfg(target_vendor = "apple")]
const CLOSE_ON_EXEC: libc::c_int = 0;

/// Opens a handle on a file that cannot be opened for reading, such as a socket's, without following a link at the end of the
/// path (`O_PATH`). `std::fs::OpenOptions` cannot do this everywhere: where the C library is musl it takes `O_PATH` for a part
/// of the access mode and removes it.
///
/// # Errors
///
/// `InvalidInput` for a path with a zero byte; errors of the kernel.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn open_path(path: &std::path::Path) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a zero byte and lives through the call.
    let number = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Returns a duplicate of the descriptor with that number, which the process that started this one has left open.
/// Both are closed in programs that this process starts.
///
/// # Errors
///
/// The system's error if there is no such descriptor, or no number for another.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the call has no effect on the descriptor itself, and fails if there is none.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    close_on_exec(number)?;
    // SAFETY: the call has returned a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn close_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: no pointers; it sets a flag of the descriptor, if there is one.
    let status = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns the user and, where the system tells it, the process at the other end of a connected Unix socket, as of the time
/// when it connected or began to listen.
///
/// # Errors
///
/// The system's error if the socket is no connected Unix socket.
pub fn peer_process(socket: BorrowedFd<'_>) -> io::Result<(u32, Option<u32>)> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut len = size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: `peer` and `len` are live and writable, and `len` is the size of `peer`.
        let status = unsafe {
            let into = (&raw mut peer).cast();
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, into, &mut len)
        };
        if status == 0 {
            Ok((peer.uid, u32::try_from(peer.pid).ok()))
        } else {
            Err(io::Error::last_os_error())
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let (mut user, mut group) = (0, 0);
        // SAFETY: both are live and writable.
        let status = unsafe { libc::getpeereid(socket.as_raw_fd(), &mut user, &mut group) };
        if status == 0 { Ok((user, None)) } else { Err(io::Error::last_os_error()) }
    }
}

/// Returns the user whose rights this process has (the effective user).
pub fn own_user() -> u32 {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_handle_refers_to_the_entry_itself() {
        use std::os::unix::fs::{FileTypeExt, symlink};

        let folder = std::env::temp_dir().join(format!("coreloop-open-path-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a new folder");
        let (socket, link) = (folder.join("socket"), folder.join("link"));
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a free path");
        symlink(&socket, &link).expect("a free path");
        let kind =
            |path| File::from(open_path(path).expect("it opens")).metadata().expect("metadata").file_type();
        assert!(kind(&socket).is_socket());
        assert!(kind(&link).is_symlink());
        assert_eq!(open_path("a\0b".as_ref()).expect_err("no path").kind(), io::ErrorKind::InvalidInput);
        assert_eq!(open_path(&folder.join("none")).expect_err("no file").kind(), io::ErrorKind::NotFound);
        drop(listener);
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }

    fn receive(from: &UnixStream, bytes_max: usize) -> (Vec<u8>, Vec<OwnedFd>) {
        let (mut bytes, mut fds) = (vec![0; bytes_max], Vec::new());
        let n = receive_with_fds(from.as_fd(), &mut bytes, &mut fds).expect("receives");
        bytes.truncate(n);
        (bytes, fds)
    }

    #[test]
    fn descriptors_arrive_with_the_first_byte_and_refer_to_the_same_sockets() {
        let (a, b) = UnixStream::pair().expect("a pair");
        let (mut near, far) = UnixStream::pair().expect("a pair");
        assert_eq!(send_with_fds(a.as_fd(), b"plain", &[]).expect("sends"), 5);
        assert_eq!(send_with_fds(a.as_fd(), b"with", &[far.as_fd(), far.as_fd()]).expect("sends"), 4);
        drop(far);
        let (bytes, fds) = receive(&b, 5);
        assert_eq!((&bytes[..], fds.len()), (&b"plain"[..], 0));
        let (bytes, mut fds) = receive(&b, 1);
        assert_eq!((&bytes[..], fds.len()), (&b"w"[..], 2));
        assert_eq!(receive(&b, 10).0, b"ith");
        let mut received = UnixStream::from(fds.pop().expect("two"));
        near.write_all(b"over").expect("it is open");
        let mut text = [0; 4];
        received.read_exact(&mut text).expect("it is the other end");
        assert_eq!(&text, b"over");
        drop(a);
        assert_eq!(receive(&b, 10).0, b"");
    }

    #[test]
    fn the_most_descriptors_fit_and_one_more_is_refused() {
        let (a, b) = UnixStream::pair().expect("a pair");
        let file = File::open("/dev/null").expect("there is one");
        let many = vec![file.as_fd(); FDS_MAX + 1];
        let error = send_with_fds(a.as_fd(), b"x", &many).expect_err("too many");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(send_with_fds(a.as_fd(), b"", &many[..1]).expect_err("no byte").kind(), error.kind());
        send_with_fds(a.as_fd(), b"x", &many[..FDS_MAX]).expect("sends");
        assert_eq!(receive(&b, 1).1.len(), FDS_MAX);
    }

    #[test]
    fn received_and_duplicated_descriptors_are_closed_on_exec() {
        let is_closed_on_exec = |fd: &OwnedFd| {
            // SAFETY: no pointers; the borrowed descriptor is open.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
            flags & libc::FD_CLOEXEC != 0
        };
        let (a, b) = UnixStream::pair().expect("a pair");
        send_with_fds(a.as_fd(), b"x", &[a.as_fd()]).expect("sends");
        assert!(receive(&b, 1).1.iter().all(is_closed_on_exec));
        assert!(is_closed_on_exec(&duplicate(a.as_raw_fd()).expect("it is open")));
        assert_eq!(duplicate(1 << 20).expect_err("there is none").raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_peer_that_has_gone_is_an_error() {
        let (a, b) = UnixStream::pair().expect("a pair");
        drop(b);
        assert_eq!(send_with_fds(a.as_fd(), b"x", &[]).expect_err("gone").kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_peer_is_this_process() {
        let (a, _b) = UnixStream::pair().expect("a pair");
        let (user, process) = peer_process(a.as_fd()).expect("a Unix socket");
        assert_eq!(user, own_user());
        assert!(process.is_none_or(|process| process == std::process::id()));
    }
}
