//! Services of the operating system: cores, limits, accounts, locks, heap, CPU time. All `unsafe` of this crate.
//!
//! Each function is safe, small, and has a fallback for systems without the call. Only the clocks are used on the hot
//! path, and nothing keeps state. `signals.rs` uses the functions for signals. `fds.rs` passes descriptors between
//! processes.

pub mod fds;

use std::{io, time::Duration};

/// Bits in one word of a core set.
#[cfg(any(target_os = "linux", target_os = "android"))]
const WORD_BITS: usize = libc::c_ulong::BITS as usize;

/// More cores than any machine has; the kernel's own limit is 8192 with the largest configuration.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CORES_MAX: usize = 1 << 16;

/// Returns the cores that this thread may run on, in ascending order. Never empty.
///
/// On Linux it reads the affinity mask, which containers and `taskset` restrict (a CPU quota is in [`crate::quota`]);
/// elsewhere it returns [`available_parallelism`](std::thread::available_parallelism) cores, numbered from 0.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn allowed_cores() -> Vec<usize> {
    // The kernel rejects a set smaller than its own, whose size it does not report: grow until it fits.
    let mut words = vec![0 as libc::c_ulong; 1024 / WORD_BITS];
    while words.len() * WORD_BITS <= CORES_MAX {
        let bytes = size_of_val(words.as_slice());
        // SAFETY: `words` is live and writable for `bytes`, the size that is passed; a core set is an array of
        // longs of any length to this call, so alignment and every bit pattern are fine. 0 is this thread.
        let status = unsafe { libc::sched_getaffinity(0, bytes, words.as_mut_ptr().cast()) };
        if status == 0 {
            let is_set = |core: &usize| words[core / WORD_BITS] >> (core % WORD_BITS) & 1 == 1;
            let cores: Vec<usize> = (0..words.len() * WORD_BITS).filter(is_set).collect();
            if !cores.is_empty() {
                return cores;
            }
            break;
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
            break;
        }
        words = vec![0; words.len() * 2];
    }
    counted_cores()
}

/// Returns the cores that this thread may run on, in ascending order. Never empty.
///
/// On Linux it reads the affinity mask, which containers and `taskset` restrict (a CPU quota is in [`crate::quota`]);
/// elsewhere it returns [`available_parallelism`](std::thread::available_parallelism) cores, numbered from 0.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn allowed_cores() -> Vec<usize> {
    counted_cores()
}

/// Makes sleeps and waits of the calling thread end on time, instead of up to 50 µs late to be merged with others
/// (prctl(2), PR_SET_TIMERSLACK). If the call fails, nothing changes.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn precise_sleep() {
    // SAFETY: no pointers; it concerns the calling thread alone.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0) };
}

/// Makes sleeps and waits of the calling thread end on time; does nothing on this system.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn precise_sleep() {}

fn counted_cores() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, |cores| cores.get())).collect()
}

/// Pins the calling thread to one core, numbered as in [`allowed_cores`].
///
/// # Errors
///
/// `InvalidInput` if there is no such core or this thread may not use it; `Unsupported` if the system has no such
/// call (all but Linux).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn pin_current_thread(core: usize) -> io::Result<()> {
    if core >= CORES_MAX {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut words = vec![0 as libc::c_ulong; core / WORD_BITS + 1];
    words[core / WORD_BITS] |= 1 << (core % WORD_BITS);
    // SAFETY: `words` is live and readable for its size, which is what is passed; the kernel takes cores beyond
    // that size as not in the set. 0 is this thread.
    let status = unsafe { libc::sched_setaffinity(0, size_of_val(words.as_slice()), words.as_ptr().cast()) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Pins the calling thread to one core, numbered as in [`allowed_cores`].
///
/// # Errors
///
/// `InvalidInput` if there is no such core or this thread may not use it; `Unsupported` if the system has no such
/// call (all but Linux).
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn pin_current_thread(_core: usize) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "threads cannot be pinned on this system"))
}

/// Returns how many descriptors this process may have open (the soft limit); `u64::MAX` if there is no limit.
///
/// # Errors
///
/// Errors of the kernel; none is known.
pub fn nofile_limit() -> io::Result<u64> {
    Ok(descriptors(nofile_rlimit()?.rlim_cur))
}

/// Raises the soft limit of open descriptors to the hard limit, and returns the resulting soft limit.
///
/// # Errors
///
/// Errors of the kernel, if it rejects its own hard limit.
pub fn raise_nofile_limit() -> io::Result<u64> {
    let mut limit = nofile_rlimit()?;
    if limit.rlim_cur == limit.rlim_max {
        return Ok(descriptors(limit.rlim_cur));
    }
    let soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    let raised = set_nofile_rlimit(&limit);
    if raised.is_err() && cfg!(target_vendor = "apple") {
        // macOS reports "no limit" but accepts at most OPEN_MAX, 10240.
        limit.rlim_cur = soft.max(10_240).min(limit.rlim_max);
        set_nofile_rlimit(&limit)?;
    } else {
        raised?;
    }
    nofile_limit()
}

fn nofile_rlimit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live, writable rlimit, and the call keeps no reference to it.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    if status == 0 { Ok(limit) } else { Err(io::Error::last_os_error()) }
}

fn set_nofile_rlimit(limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: `limit` is a live rlimit, which the call only reads.
    let status = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limit) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The type of a limit differs between systems (signed on FreeBSD), and so does the number for "no limit".
#[allow(clippy::unnecessary_cast)]
fn descriptors(limit: libc::rlim_t) -> u64 {
    if limit == libc::RLIM_INFINITY { u64::MAX } else { limit as u64 }
}

/// Returns freed heap memory to the system, if the allocator keeps it: glibc's `malloc_trim(0)`, nothing elsewhere.
/// Takes milliseconds with a large heap; call it when the process is idle.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: glibc's call takes its own locks and touches free memory only; it has no precondition. With
    // another global allocator it trims a heap that is nearly unused.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Returns the CPU time that the calling thread has used, user and system; zero if the system cannot report it.
pub fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live, writable timespec, and the call keeps no reference to it.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    if status != 0 {
        return Duration::ZERO;
    }
    // The clock counts from the thread's start, and nanoseconds stay below a second: both fit.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What a thread has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadUsage {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// How often the thread has given up its core to wait (voluntary context switches).
    pub waits: u64,
}

/// Returns what the calling thread has used; `None` if the system cannot report it. Linux only.
pub fn thread_usage() -> Option<ThreadUsage> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `usage` is live and writable, the call keeps no reference to it, and all zeros are a valid rusage.
        let (status, usage) =
            unsafe { (libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()), usage.assume_init()) };
        let time = |time: libc::timeval| {
            Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), 0)
                + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
        };
        (status == 0).then(|| ThreadUsage {
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            waits: u64::try_from(usage.ru_nvcsw).unwrap_or(0),
        })
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    None
}

/// Returns the microseconds of the clock that never jumps (`CLOCK_MONOTONIC`), which all processes of the machine share; 0 if
/// the system cannot report it.
pub fn monotonic_micros() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live, writable timespec, and the call keeps no reference to it.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    if status != 0 {
        return 0;
    }
    // It counts from the start of the machine, and nanoseconds stay below a second: both fit.
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// Returns the seconds since 1970 by the system's wall clock; 0 if the clock is set to an earlier time.
///
/// On Linux it returns the time of the last tick, at most some milliseconds old, which is read from memory. The exact
/// time requires a read of the processor's counter, which costs five times as much.
pub fn unix_seconds() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a live, writable timespec, and the call keeps no reference to it.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &mut time) };
        if status == 0 {
            return u64::try_from(time.tv_sec).unwrap_or(0);
        }
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Takes the system's exclusive lock on a file or folder (flock) without waiting; returns `false` if another
/// descriptor holds it. It is held until the file is closed.
///
/// # Errors
///
/// Errors of the kernel: some file systems do not support locks.
pub fn try_lock(file: &std::fs::File) -> io::Result<bool> {
    use std::os::fd::AsRawFd;

    // SAFETY: no pointers; the borrowed file keeps the descriptor open during the call.
    let status = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if status == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) }
}

/// Returns the number of the user with that name; `None` if the system knows no such user.
///
/// # Errors
///
/// Errors of the kernel or of the name service.
pub fn user_number(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = std::ffi::CString::new(name) else { return Ok(None) };
    account_number(|buffer| {
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: `name` is a C string that lives; `entry` and `found` are live and writable, and so is `buffer` for the
        // length that is passed. The call keeps no reference to any of them.
        let status = unsafe {
            let (text, bytes) = (buffer.as_mut_ptr().cast(), buffer.len());
            libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), text, bytes, &mut found)
        };
        // SAFETY: if it is not null, `found` points to `entry`, which the call has filled in then.
        (status, (!found.is_null()).then(|| unsafe { (*found).pw_uid }))
    })
}

/// Returns the number of the group with that name; `None` if the system knows no such group.
///
/// # Errors
///
/// The same as for [`user_number`].
pub fn group_number(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = std::ffi::CString::new(name) else { return Ok(None) };
    account_number(|buffer| {
        let mut entry = std::mem::MaybeUninit::<libc::group>::uninit();
        let mut found = std::ptr::null_mut();
        // SAFETY: as in `user_number`.
        let status = unsafe {
            let (text, bytes) = (buffer.as_mut_ptr().cast(), buffer.len());
            libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), text, bytes, &mut found)
        };
        // SAFETY: as in `user_number`.
        (status, (!found.is_null()).then(|| unsafe { (*found).gr_gid }))
    })
}

/// Calls `ask` with a buffer that grows until the entry fits: a group's entry contains the names of all its members.
fn account_number(ask: impl Fn(&mut [u8]) -> (libc::c_int, Option<u32>)) -> io::Result<Option<u32>> {
    let mut buffer = vec![0; 1 << 10];
    loop {
        match ask(&mut buffer) {
            (libc::ERANGE, _) if buffer.len() < ACCOUNT_BYTES_MAX => buffer.resize(buffer.len() * 4, 0),
            (libc::EINTR, _) => {}
            // The codes for "no such name" on systems that do not return 0 for it (getpwnam(3)).
            (0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM, number) => return Ok(number),
            (code, _) => return Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// The largest entry of a user or group that is accepted.
const ACCOUNT_BYTES_MAX: usize = 1 << 24;

/// Installs a handler that ignores `signal`. Unlike an ignored signal, a handler is not inherited by the programs
/// that this process starts.
#[cfg(feature = "signals")]
pub(crate) fn signal_to_nothing(signal: libc::c_int) -> io::Result<signal_hook_registry::SigId> {
    // SAFETY: the action runs inside a signal handler, and does nothing.
    unsafe { signal_hook_registry::register(signal, || {}) }
}

/// Installs a handler that writes the number of `signal` as one byte into `into`, which must not block. Bytes that do
/// not fit are lost; the reader then has many bytes to read already.
#[cfg(feature = "signals")]
pub(crate) fn signal_to_stream(
    signal: libc::c_int,
    into: std::os::unix::net::UnixStream,
) -> io::Result<signal_hook_registry::SigId> {
    use std::os::fd::AsRawFd;

    let byte = u8::try_from(signal).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let action = move || {
        // SAFETY: the closure owns `into`, so the descriptor is open; `byte` lives in the closure and is
        // readable for the one byte passed.
        unsafe { libc::write(into.as_raw_fd(), (&raw const byte).cast(), 1) };
    };
    // SAFETY: the action runs inside a signal handler. It calls nothing but write(2), which is async-signal-safe
    // and does not block, as the stream is nonblocking; it neither allocates, locks nor panics. The registry
    // saves and restores errno around it.
    unsafe { signal_hook_registry::register(signal, action) }
}

/// Sends `signal` to the calling thread; its handler has run when this returns. For tests and for programs that stop
/// themselves. A signal sent to the whole process may pick any thread instead, and under ThreadSanitizer waits until
/// that thread calls a function that it intercepts.
///
/// # Errors
///
/// `InvalidInput` if there is no such signal.
#[cfg(feature = "signals")]
pub fn raise(signal: i32) -> io::Result<()> {
    // SAFETY: a plain number goes in, and a thread may always signal itself.
    let status = unsafe { libc::raise(signal) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn allowed_cores_rise_and_are_not_empty() {
        let cores = allowed_cores();
        assert!(!cores.is_empty());
        assert!(cores.is_sorted());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn pinned_thread_may_use_that_core_alone() {
        let core = *allowed_cores().last().expect("never empty");
        // In a separate thread: a pinned test thread would pin the tests after it.
        let cores = std::thread::spawn(move || {
            pin_current_thread(core).expect("an allowed core");
            allowed_cores()
        });
        assert_eq!(cores.join().expect("does not panic"), [core]);
    }

    #[test]
    fn the_monotonic_clock_advances() {
        let before = monotonic_micros();
        assert!(before > 0);
        while monotonic_micros() == before {
            std::thread::yield_now();
        }
        assert!(monotonic_micros() > before);
    }

    #[test]
    fn pinning_to_an_absurd_core_is_an_error() {
        assert!(pin_current_thread(CORES_ABSURD).is_err());
        assert!(pin_current_thread(usize::MAX).is_err());
    }

    const CORES_ABSURD: usize = 65_535;

    #[test]
    fn a_lock_is_held_by_one_descriptor_until_it_is_closed() {
        let path = std::env::current_exe().expect("this program");
        let open = || std::fs::File::open(path.parent().expect("its folder")).expect("readable");
        let (first, second) = (open(), open());
        assert!(try_lock(&first).expect("locks"));
        assert!(!try_lock(&second).expect("locks"));
        drop(first);
        assert!(try_lock(&second).expect("locks"));
    }

    #[test]
    fn unknown_accounts_have_no_number() {
        assert_eq!(user_number("root").expect("readable"), Some(0));
        let group = if cfg!(target_vendor = "apple") { "wheel" } else { "root" };
        assert_eq!(group_number(group).expect("readable"), Some(0));
        for name in ["", "no-such-account", "ro\0ot"] {
            assert_eq!(user_number(name).expect("readable"), None, "{name:?}");
            assert_eq!(group_number(name).expect("readable"), None, "{name:?}");
        }
    }

    #[test]
    fn raised_limit_is_the_limit() {
        let before = nofile_limit().expect("readable");
        let raised = raise_nofile_limit().expect("up to the hard limit");
        assert!(raised >= before);
        assert_eq!(nofile_limit().expect("readable"), raised);
    }

    #[test]
    fn cpu_time_does_not_run_backwards() {
        let before = thread_cpu_time();
        let work = (0..100_000u64).fold(0, |sum, i| std::hint::black_box(sum ^ i));
        std::hint::black_box(work);
        assert!(thread_cpu_time() >= before);
    }

    #[test]
    fn the_cheap_second_is_the_second_or_the_one_before() {
        let exact = || {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            since.expect("a clock that was set").as_secs()
        };
        let before = exact();
        let cheap = unix_seconds();
        assert!((before.saturating_sub(1)..=exact()).contains(&cheap), "{cheap} is not about {before}");
    }

    #[test]
    fn trimming_leaves_live_memory_alone() {
        let kept = vec![7u8; 1 << 20];
        drop(vec![1u8; 1 << 20]);
        trim_heap();
        assert!(kept.iter().all(|byte| *byte == 7));
    }
}
