//! Stacks of threads, found in a signal handler.
//!
//! Each sampled thread has a timer of its CPU time, which sends it SIGPROF; a thread that waits uses no CPU time and is not
//! interrupted. Thread profiles send the signal to each thread once. The handler walks the frame pointers and writes the
//! stack into a bounded queue (Vyukov, "Bounded MPMC queue", 2010), which the profiling thread empties. It allocates nothing,
//! takes no lock, restores `errno`, and reads the stack with `process_vm_readv`, which fails where a plain read would crash.
//!
//! The handler stays installed after the first profile: without it, a signal that is still on its way would end the process.

use std::cell::UnsafeCell;
use std::fs;
use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use crate::ProfileError;
use crate::stacks::FRAMES_MAX;

/// The most samples that wait: about 1.1 MiB, allocated by the first profile and kept.
const QUEUE_MAX: usize = 2048;

/// A stack of a thread.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) thread: u32,
    len: u32,
    frames: [usize; FRAMES_MAX],
}

impl Sample {
    const EMPTY: Sample = Sample { thread: 0, len: 0, frames: [0; FRAMES_MAX] };

    pub(crate) fn frames(&self) -> &[usize] {
        &self.frames[..self.len as usize]
    }
}

struct Slot {
    /// `position`: free for the sample of that position. `position + 1`: it holds that sample.
    sequence: AtomicUsize,
    sample: UnsafeCell<Sample>,
}

/// A bounded queue with many writers and one reader.
struct Queue {
    slots: Box<[Slot]>,
    /// The position of the next sample to be written.
    tail: AtomicUsize,
    /// Samples that found no place.
    lost: AtomicU64,
}

// SAFETY: a slot's sample is written only by the thread that has advanced `tail` from its position, and read only after that
// thread has stored `position + 1` with release ordering.
unsafe impl Sync for Queue {}

impl Queue {
    fn new() -> Queue {
        let slot = |at| Slot { sequence: AtomicUsize::new(at), sample: UnsafeCell::new(Sample::EMPTY) };
        Queue {
            slots: (0..QUEUE_MAX).map(slot).collect(),
            tail: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Writes a sample, unless the queue is full. Async-signal-safe.
    fn push(&self, fill: impl FnOnce(&mut Sample)) {
        let mut at = self.tail.load(Ordering::Relaxed);
        loop {
            let slot = &self.slots[at % QUEUE_MAX];
            let sequence = slot.sequence.load(Ordering::Acquire);
            if sequence == at {
                match self.tail.compare_exchange_weak(at, at + 1, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        // SAFETY: this thread has advanced `tail` from `at`, so the slot is its own until it stores the
                        // sequence.
                        fill(unsafe { &mut *slot.sample.get() });
                        slot.sequence.store(at + 1, Ordering::Release);
                        return;
                    }
                    Err(now) => at = now,
                }
            } else if sequence < at {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            } else {
                at = self.tail.load(Ordering::Relaxed);
            }
        }
    }

    /// Takes the sample at a position, if it is written. One thread at a time calls it.
    fn pop(&self, at: usize) -> Option<Sample> {
        let slot = &self.slots[at % QUEUE_MAX];
        if slot.sequence.load(Ordering::Acquire) != at + 1 {
            return None;
        }
        // SAFETY: the writer has stored the sequence with release ordering and does not touch the slot again before it is
        // freed below.
        let sample = unsafe { *slot.sample.get() };
        slot.sequence.store(at + QUEUE_MAX, Ordering::Release);
        Some(sample)
    }
}

/// The queue, from the first profile on.
static QUEUE: AtomicPtr<Queue> = AtomicPtr::new(ptr::null_mut());
/// Samples are wanted.
static IS_RECORDING: AtomicBool = AtomicBool::new(false);
/// A profile is being taken.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);
/// The position of the next sample to be taken; used by the profile that is being taken.
static HEAD: AtomicUsize = AtomicUsize::new(0);

/// The right to sample; there is one at a time.
pub(crate) struct Sampler {
    queue: &'static Queue,
    timers: Vec<(u32, libc::timer_t)>,
    lost_before: u64,
}

// SAFETY: the timers' ids are numbers of the process, valid on each of its threads.
unsafe impl Send for Sampler {}

impl Sampler {
    /// Takes the right to sample. Nothing is sampled yet.
    pub(crate) fn take() -> Result<Sampler, ProfileError> {
        if IS_TAKEN.swap(true, Ordering::Acquire) {
            return Err(ProfileError::Busy);
        }
        let mut queue = QUEUE.load(Ordering::Acquire);
        if queue.is_null() {
            if let Err(error) = install() {
                IS_TAKEN.store(false, Ordering::Release);
                return Err(ProfileError::Io(error));
            }
            queue = Box::into_raw(Box::new(Queue::new()));
            QUEUE.store(queue, Ordering::Release);
        }
        // SAFETY: the queue was made by `Box::into_raw` and is never freed.
        let queue = unsafe { &*queue };
        let mut sampler = Sampler { queue, timers: Vec::new(), lost_before: 0 };
        // What an earlier profile has left.
        sampler.drain(|_| ());
        sampler.lost_before = queue.lost.load(Ordering::Relaxed);
        IS_RECORDING.store(true, Ordering::Release);
        Ok(sampler)
    }

    /// Starts a timer for each thread that has none, and forgets those that have ended.
    pub(crate) fn watch_threads(&mut self, samples_per_second: u32) -> io::Result<()> {
        let threads = threads()?;
        self.timers.retain(|(thread, timer)| {
            let lives = threads.contains(thread);
            if !lives {
                delete(*timer);
            }
            lives
        });
        for thread in threads {
            if self.timers.iter().all(|(watched, _)| *watched != thread) {
                match start_timer(thread, samples_per_second) {
                    Ok(timer) => self.timers.push((thread, timer)),
                    // It has ended in between.
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Asks a thread for its stack; false if it has ended. Waits of the thread that do not restart by themselves return
    /// EINTR.
    pub(crate) fn ask(&self, thread: u32) -> bool {
        // SAFETY: tgkill takes numbers; the handler of SIGPROF is installed.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGPROF) == 0 }
    }

    /// Takes the samples that wait.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(&Sample)) {
        let mut at = HEAD.load(Ordering::Relaxed);
        while let Some(sample) = self.queue.pop(at) {
            at += 1;
            each(&sample);
        }
        HEAD.store(at, Ordering::Relaxed);
    }

    /// Returns how many samples found no place.
    pub(crate) fn lost(&self) -> u64 {
        self.queue.lost.load(Ordering::Relaxed) - self.lost_before
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        IS_RECORDING.store(false, Ordering::Release);
        self.timers.drain(..).for_each(|(_, timer)| delete(timer));
        IS_TAKEN.store(false, Ordering::Release);
    }
}

/// Returns the threads of the process.
pub(crate) fn threads() -> io::Result<Vec<u32>> {
    let entries = fs::read_dir("/proc/self/task")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Installs the handler of SIGPROF.
fn install() -> io::Result<()> {
    // SAFETY: all bytes zero is a valid `sigaction`; its fields are set below.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = on_signal as extern "C" fn(_, _, _) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handler is async-signal-safe and has the signature that SA_SIGINFO asks for.
    match unsafe { libc::sigaction(libc::SIGPROF, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Starts a timer of a thread's CPU time, whose signal that thread receives.
fn start_timer(thread: u32, samples_per_second: u32) -> io::Result<libc::timer_t> {
    // The clock of another thread's CPU time (linux/posix-timers.h: MAKE_THREAD_CPUCLOCK with CPUCLOCK_SCHED).
    let clock = (!(thread as i32) << 3) | 6;
    // SAFETY: all bytes zero is a valid `sigevent`; its fields are set below.
    let mut event: libc::sigevent = unsafe { mem::zeroed() };
    event.sigev_signo = libc::SIGPROF;
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_notify_thread_id = thread as i32;
    let mut timer = MaybeUninit::<libc::timer_t>::uninit();
    // SAFETY: both pointers are to live values of the right types.
    if unsafe { libc::timer_create(clock, &mut event, timer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: timer_create has succeeded, so it has set the id.
    let timer = unsafe { timer.assume_init() };
    let every = libc::timespec {
        tv_sec: 0,
        tv_nsec: i64::from(1_000_000_000 / samples_per_second).min(999_999_999) as _,
    };
    let times = libc::itimerspec { it_interval: every, it_value: every };
    // SAFETY: the timer was created above; the pointers are to live values, or null where that is allowed.
    if unsafe { libc::timer_settime(timer, 0, &times, ptr::null_mut()) } != 0 {
        let error = io::Error::last_os_error();
        delete(timer);
        return Err(error);
    }
    Ok(timer)
}

fn delete(timer: libc::timer_t) {
    // SAFETY: the timer was created by `start_timer`, and its only owner deletes it once.
    unsafe { libc::timer_delete(timer) };
}

/// Writes the stack of the interrupted thread into the queue.
extern "C" fn on_signal(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let queue = QUEUE.load(Ordering::Acquire);
    if queue.is_null() || !IS_RECORDING.load(Ordering::Acquire) {
        return;
    }
    // SAFETY: the pointer to errno is valid on each thread; the context is the one that the kernel passes to a handler with
    // SA_SIGINFO; the queue is never freed. All functions called are async-signal-safe.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let (instruction, frame, stack) = registers(&*context.cast::<libc::ucontext_t>());
        (*queue).push(|sample| {
            sample.thread = libc::syscall(libc::SYS_gettid) as u32;
            sample.len = walk(instruction, frame, stack, &mut sample.frames) as u32;
        });
        *errno = before;
    }
}

/// Returns the instruction, the frame pointer and the stack pointer of an interrupted thread.
#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> (usize, usize, usize) {
    let registers = &context.uc_mcontext.gregs;
    let of = |name: libc::c_int| registers[name as usize] as usize;
    (of(libc::REG_RIP), of(libc::REG_RBP), of(libc::REG_RSP))
}

/// Returns the instruction, the frame pointer and the stack pointer of an interrupted thread.
#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::ucontext_t) -> (usize, usize, usize) {
    let registers = &context.uc_mcontext;
    (registers.pc as usize, registers.regs[29] as usize, registers.sp as usize)
}

/// The most bytes of a stack that frames may lie apart.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Follows the frame pointers, as long as they rise within the stack. Returns the number of frames.
fn walk(instruction: usize, frame: usize, stack: usize, frames: &mut [usize; FRAMES_MAX]) -> usize {
    frames[0] = instruction;
    let (mut frame, mut below) = (frame, stack);
    for (at, place) in frames.iter_mut().enumerate().skip(1) {
        if frame < below || frame - below > FRAME_BYTES_MAX || !frame.is_multiple_of(mem::size_of::<usize>())
        {
            return at;
        }
        // Where a frame pointer points to is the caller's frame pointer, and above it the address to return to.
        match read(frame) {
            Some([next, back]) if back > 4096 => {
                *place = back;
                (below, frame) = (frame + 1, next);
            }
            _ => return at,
        }
    }
    FRAMES_MAX
}

/// Reads two words of this process; `None` if they are not readable.
fn read(address: usize) -> Option<[usize; 2]> {
    let mut words = [0_usize; 2];
    let bytes = mem::size_of_val(&words);
    let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: bytes };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes };
    // SAFETY: the local part is a live array; the kernel checks the remote one.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
    (read == bytes as isize).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_keeps_order_counts_what_is_lost_and_is_used_again() {
        let queue = Queue::new();
        for at in 0..QUEUE_MAX + 3 {
            queue.push(|sample| sample.thread = at as u32);
        }
        assert_eq!(queue.lost.load(Ordering::Relaxed), 3);
        for at in 0..QUEUE_MAX {
            assert_eq!(queue.pop(at).map(|sample| sample.thread), Some(at as u32));
        }
        assert!(queue.pop(QUEUE_MAX).is_none());
        queue.push(|sample| sample.thread = 7);
        assert_eq!(queue.pop(QUEUE_MAX).map(|sample| sample.thread), Some(7));
    }

    #[test]
    fn threads_write_beside_each_other() {
        let queue = Queue::new();
        let mut seen = [0_u32; 4];
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let queue = &queue;
                scope.spawn(move || {
                    for number in 0..500 {
                        queue.push(|sample| (sample.thread, sample.len) = (thread, number));
                    }
                });
            }
            let mut at = 0;
            while seen.iter().sum::<u32>() < 2000 {
                let Some(sample) = queue.pop(at) else { continue };
                at += 1;
                seen[sample.thread as usize] += 1;
            }
        });
        assert_eq!((seen, queue.lost.load(Ordering::Relaxed)), ([500; 4], 0));
    }

    #[test]
    fn a_walk_ends_where_the_stack_does() {
        // Three frames, each with the address of the next and a return address; then one that leads nowhere.
        let mut stack = [0_usize; 16];
        let base = stack.as_ptr() as usize;
        let at = |index: usize| base + index * mem::size_of::<usize>();
        (stack[2], stack[3]) = (at(6), 0x10_001);
        (stack[6], stack[7]) = (at(10), 0x10_002);
        (stack[10], stack[11]) = (0, 0x10_003);
        let mut frames = [0; FRAMES_MAX];
        let len = walk(0x10_000, at(2), at(0), &mut frames);
        assert_eq!(frames[..len], [0x10_000, 0x10_001, 0x10_002, 0x10_003]);
        // A frame pointer that points down, one that is odd, and one to memory that does not exist.
        assert_eq!(walk(0x10_000, at(2), at(4), &mut frames), 1);
        assert_eq!(walk(0x10_000, at(2) + 1, at(0), &mut frames), 1);
        assert_eq!(walk(0x10_000, 4096, 4096, &mut frames), 1);
        // A ring ends too.
        stack[6] = at(2);
        std::hint::black_box(&stack);
        assert_eq!(walk(0x10_000, at(2), at(0), &mut frames), 3);
    }
}
