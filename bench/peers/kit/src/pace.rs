//! When the calls of an open loop are due, and a timer that wakes then.
//!
//! A runtime's own timers are good to a millisecond; a timerfd is good to some microseconds and lets the client sleep.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::window::Window;

/// Calls that are made due before other tasks get their turn, when many have become due at once.
const BURST: u64 = 256;

/// Makes calls due at even distances, on each connection in turn.
///
/// A connection counts the calls that are due; their times follow from their numbers. So calls that wait need no memory.
pub struct Pace {
    schedule: Schedule,
    shares: Vec<Rc<Share>>,
}

impl Pace {
    /// A pace of so many calls per second in all.
    pub fn new(rate: f64, connections: u32) -> Pace {
        let schedule = Schedule { gap_ns: 1e9 / rate };
        let step = u64::from(connections);
        let share = |first| {
            Rc::new(Share {
                schedule,
                due: Cell::new(0),
                has_ended: Cell::new(false),
                changed: Notify::new(),
                next: Cell::new(first),
                step,
            })
        };
        Pace { schedule, shares: (0..step).map(share).collect() }
    }

    /// What is due on a connection.
    pub fn share_of(&self, connection: usize) -> Rc<Share> {
        Rc::clone(&self.shares[connection])
    }

    /// Makes calls due, from the window's start on. Ends only by an error.
    pub async fn run(&self, window: &Window) -> io::Result<()> {
        let timer = Timer::new()?;
        let connections = self.shares.len() as u64;
        let mut number = 0;
        loop {
            let (due_ns, now_ns) = (self.schedule.due_ns(number), window.now_ns());
            if due_ns > now_ns {
                timer.sleep(Duration::from_nanos(due_ns - now_ns)).await?;
                continue;
            }
            window.on_dealt(now_ns - due_ns);
            self.shares[(number % connections) as usize].add();
            number += 1;
            if number.is_multiple_of(BURST) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// No more calls become due; those that are can still be taken.
    pub fn end(&self) {
        self.shares.iter().for_each(|share| share.end());
    }

    /// When the calls were due that nobody has taken.
    pub fn left_ns(&self) -> impl Iterator<Item = u64> {
        self.shares.iter().flat_map(|share| share.left_ns())
    }
}

/// The calls that are due on one connection.
pub struct Share {
    schedule: Schedule,
    /// How many are due and not taken.
    due: Cell<u64>,
    has_ended: Cell<bool>,
    /// Tells one of those who wait of a call, and all of them of the end.
    changed: Notify,
    /// The number, in the schedule, of the next call to be taken.
    next: Cell<u64>,
    /// From one of this connection's calls to the next: the number of connections.
    step: u64,
}

impl Share {
    fn add(&self) {
        self.due.set(self.due.get() + 1);
        self.changed.notify_one();
    }

    fn end(&self) {
        self.has_ended.set(true);
        self.changed.notify_waiters();
    }

    /// Waits for a call to be due, and takes it: its number, and when it was due. None when there are to be no more.
    pub async fn take(&self) -> Option<(u64, u64)> {
        while self.due.get() == 0 {
            if self.has_ended.get() {
                return None;
            }
            self.changed.notified().await;
        }
        self.due.set(self.due.get() - 1);
        let number = self.next.replace(self.next.get() + self.step);
        Some((number, self.schedule.due_ns(number)))
    }

    fn left_ns(&self) -> impl Iterator<Item = u64> {
        let (next, step, schedule) = (self.next.get(), self.step, self.schedule);
        (0..self.due.get()).map(move |at| schedule.due_ns(next + at * step))
    }
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    gap_ns: f64,
}

impl Schedule {
    /// By the number and not by adding gaps, so that it does not drift.
    fn due_ns(self, number: u64) -> u64 {
        (number as f64 * self.gap_ns) as u64
    }
}

/// A timer of the kernel.
struct Timer(AsyncFd<Descriptor>);

/// What tokio registers must say its number; nix's timer only lends its descriptor.
struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Timer {
    /// One that is not set.
    fn new() -> io::Result<Timer> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let descriptor = Descriptor(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        // SAFETY: the timer owns its descriptor, which is the same and open until the value is dropped; nothing but
        // the `AsyncFd` has the value.
        #[expect(unsafe_code, reason = "the way without it is deprecated: it trusts any `AsRawFd`")]
        let registered = unsafe { AsyncFd::register(descriptor) };
        Ok(Timer(registered?))
    }

    /// Sleeps so long.
    async fn sleep(&self, time: Duration) -> io::Result<()> {
        // Zero would switch the timer off.
        let time = TimeSpec::from_duration(time.max(Duration::from_nanos(1)));
        self.0.get_ref().0.set(Expiration::OneShot(time), TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.0.readable().await?;
            match self.0.get_ref().0.wait() {
                Ok(()) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn connections_share_the_schedule_out() {
        let pace = Pace::new(1000.0, 3);
        let share = pace.share_of(2);
        (0..3).for_each(|_| share.add());
        assert_eq!(share.take().await, Some((2, 2_000_000)));
        assert_eq!(share.take().await, Some((5, 5_000_000)));
        pace.end();
        assert_eq!(pace.left_ns().collect::<Vec<_>>(), [8_000_000]);
        assert_eq!(share.take().await, Some((8, 8_000_000)), "what is due can still be taken");
        assert_eq!(share.take().await, None);
        assert_eq!(Schedule { gap_ns: 1e9 / 30_000.0 }.due_ns(3_000_000), 100_000_000_000);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_timer_can_be_set_again() {
        let timer = Timer::new().expect("a timer");
        for time in [Duration::ZERO, Duration::from_micros(200)] {
            let began = std::time::Instant::now();
            timer.sleep(time).await.expect("it wakes");
            assert!(began.elapsed() >= time);
        }
    }
}
