//! A minimal wrapper of the kernel's readiness calls: epoll, and an eventfd that wakes a loop.
//!
//! Sockets are std's: their `read` and `write` are one `recv` and one `send` each.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Maximum events per wait.
const EVENTS_MAX: usize = 1024;

/// One epoll instance with the events of its last wait.
pub struct Epoll {
    fd: OwnedFd,
    report: Box<[libc::epoll_event]>,
}

/// An event of one descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The token given to [`Epoll::add`].
    pub token: u64,
    flags: u32,
}

impl Event {
    /// Returns whether there are bytes, an end or an error to read.
    pub fn is_readable(self) -> bool {
        self.flags & (libc::EPOLLIN as u32) != 0 || self.is_ending()
    }

    /// Returns whether there is space to write, or a pending connect has finished.
    pub fn is_writable(self) -> bool {
        self.flags & (libc::EPOLLOUT as u32) != 0
    }

    /// Returns whether the peer sends no more or the connection failed: read until that shows.
    pub fn is_ending(self) -> bool {
        self.flags & ((libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32) != 0
    }
}

impl Epoll {
    /// Creates an instance that watches no descriptor.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers; a non-negative result is a descriptor without another owner.
        let fd = unsafe {
            let fd = checked(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
            OwnedFd::from_raw_fd(fd)
        };
        let report = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX].into_boxed_slice();
        Ok(Epoll { fd, report })
    }

    /// Watches `fd`, edge-triggered, for reading, writing and the peer's end, until it is closed.
    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` lives through the call; a bad descriptor is an error, not undefined behaviour.
        checked(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })?;
        Ok(())
    }

    /// Waits up to `timeout_ms` (0: polls, -1: without a limit) and returns the number of events.
    pub fn wait(&mut self, timeout_ms: i32) -> io::Result<usize> {
        // SAFETY: the pointer and the length are of the same live slice, which the kernel only fills.
        let count = checked(unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                self.report.as_mut_ptr(),
                self.report.len() as i32,
                timeout_ms,
            )
        });
        match count {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Waits as [`wait`](Epoll::wait) does, with a timeout in nanoseconds where the kernel supports it (Linux 5.11),
    /// otherwise rounded up to milliseconds.
    pub fn wait_ns(&mut self, timeout_ns: u64) -> io::Result<usize> {
        let timeout = libc::timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (timeout_ns % 1_000_000_000) as _,
        };
        // SAFETY: the pointers are of live values, the length is the slice's, which the kernel only fills; no
        // signal mask is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.report.as_mut_ptr(),
                self.report.len() as i32,
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        match checked(count as i32) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                self.wait(timeout_ns.div_ceil(1_000_000).min(i32::MAX as u64) as i32)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the event at index `at` of the last wait.
    pub fn event(&self, at: usize) -> Event {
        let raw = self.report[at];
        Event { token: raw.u64, flags: raw.events }
    }
}

/// An eventfd that makes an [`Epoll`] return. If watched edge-triggered, it need not be read.
pub struct Bell {
    fd: OwnedFd,
}

impl Bell {
    /// Creates a bell that has not rung.
    pub fn new() -> io::Result<Bell> {
        // SAFETY: no pointers; a non-negative result is a descriptor without another owner.
        let fd = unsafe {
            let fd = checked(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Bell { fd })
    }

    /// Wakes the epoll instance that watches it.
    pub fn ring(&self) {
        let one: u64 = 1;
        // SAFETY: eight readable bytes, as an eventfd requires. It fails only when the counter is full, after 2^64
        // rings.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bell_wakes_once_per_ring_without_being_read() {
        let mut epoll = Epoll::new().expect("epoll");
        let bell = Bell::new().expect("eventfd");
        epoll.add(bell.as_raw_fd(), 7).expect("watch");
        // An eventfd is writable at once; that edge comes first.
        epoll.wait(0).expect("wait");
        for _ in 0..3 {
            bell.ring();
            assert_eq!(epoll.wait(1000).expect("wait"), 1);
            assert_eq!(epoll.event(0).token, 7);
            assert!(epoll.event(0).is_readable() && !epoll.event(0).is_ending());
            assert_eq!(epoll.wait(0).expect("wait"), 0);
        }
    }
}
