//! Which thread drives the reactor of a client: the driver's own thread, or a caller that waits for its call.
//!
//! A caller that drives needs no other thread: it writes its request, waits for the socket, and reads the reply. That
//! saves the wake-ups of the driver's thread and of the caller, which cost more than the call. Callers drive only while
//! a single thread makes blocking calls one after the other; as soon as anything else is awaited (a call of another
//! thread, a future, a callback, a stream), the driver's thread drives again. `handover.rs` has the rule.

mod handover;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use coreloop_poller::Bell;

pub(super) use self::handover::Handover;
use self::handover::TakenReactor;
use super::app::{ClientApp, ClientCommand};
use super::call_slot::sync;
use super::driver::DriverShared;
use crate::reactor::{Reactor, Remote};
use crate::threads;

/// For how long no thread drives, at most twice this, when the callers have stopped: then the driver's thread takes the
/// reactor. Nothing that is awaited waits for that.
const ABSENCE_MAX: Duration = Duration::from_millis(1);
/// Waits that end further apart are not in a row: the driver's thread would take the reactor back each time.
const GAP_MAX: Duration = Duration::from_millis(10);
/// Waits of one thread in a row before callers drive. Fewer: where several threads call, the reactor changes hands
/// although it is about to be needed by another.
const WAITS_MIN: u32 = 16;
/// Sends of callers, with no wait in between, that they write themselves; then the driver's thread takes over, which
/// gathers what is sent at the same time in one write.
const SENDS_MAX: u32 = 1;

/// A call that is awaited by a future, a callback, a stream, or a wait with a time limit, in place of the mark of a
/// thread that could drive.
pub(super) const OTHER_WAIT: usize = 1;

/// The reactor of a client, with what the threads that drive it must know.
pub(super) struct DrivenReactor {
    reactor: Reactor<ClientApp>,
    bell: Bell,
    /// Sends of callers since the last wait.
    sends: u32,
}

impl DrivenReactor {
    pub(super) fn new(reactor: Reactor<ClientApp>) -> DrivenReactor {
        let bell = reactor.remote().bell().clone();
        DrivenReactor { reactor, bell, sends: 0 }
    }
}

impl DriverShared {
    /// Runs turns on this thread until the call is done, if no thread drives and none but this one needs the reactor. Returns
    /// false if it ran none: then the driver's thread drives.
    pub(super) fn drive_until(&self, is_done: impl Fn() -> bool) -> bool {
        let Some(handover) = &self.handover else { return false };
        if !handover.is_free() || !threads::may_drive() {
            return false;
        }
        let Some(mut taken) = handover.take_for_caller(threads::mark()) else { return false };
        let Some(driven) = taken.reactor() else { return false };
        driven.sends = 0;
        let ran = threads::while_driving(|| {
            catch_unwind(AssertUnwindSafe(|| {
                loop {
                    let was_done = is_done();
                    driven.reactor.turn()?;
                    if was_done || handover.is_wanted() || driven.reactor.has_ended() {
                        return io::Result::Ok(());
                    }
                    // What the end of the call has left to do is done in one more turn, without the driver's thread.
                    if is_done() && !driven.reactor.has_more_work() {
                        return Ok(());
                    }
                }
            }))
        });
        release(handover, taken, matches!(ran, Ok(Ok(()))));
        true
    }

    /// Passes a call to the reactor, and sends it on this thread if no thread drives.
    pub(super) fn send(&self, remote: &Remote<ClientCommand>, command: ClientCommand) {
        let Some(handover) = &self.handover else { return drop(remote.mail(command)) };
        if !handover.is_free() || handover.is_wanted() || !threads::may_drive() {
            return drop(remote.mail(command));
        }
        if remote.mail_silently(command).is_ok() && !self.send_mail(handover) {
            remote.bell().ring();
        }
    }

    /// Sends what is in the mailbox. Returns false if another thread has to.
    fn send_mail(&self, handover: &Handover<DrivenReactor>) -> bool {
        let Some(mut taken) = handover.take_for_caller(threads::mark()) else { return false };
        let Some(driven) = taken.reactor() else { return true };
        if driven.sends == SENDS_MAX {
            taken.needs_driver = true;
            return true;
        }
        driven.sends += 1;
        // What it does not send, the driver's thread does: it finds the mail.
        let ran = threads::while_driving(|| catch_unwind(AssertUnwindSafe(|| driven.reactor.send_mail())));
        release(handover, taken, ran.is_ok());
        true
    }

    /// Runs the reactor to its end, on the driver's thread. Callers drive too if `callers_drive`.
    pub(super) fn run_driver(self: &Arc<Self>, callers_drive: bool) {
        let Some(handover) = &self.handover else { return };
        let mut taken = handover.begin(threads::mark(), threads::with_unparker(Waker::clone));
        let mut is_new = true;
        // A caller's turn may have ended the reactor.
        while let Some(driven) = taken.reactor() {
            let ran = catch_unwind(AssertUnwindSafe(|| {
                if std::mem::take(&mut is_new) {
                    driven.bell.set_standby(std::thread::current());
                    driven.reactor.begin()?;
                }
                self.drive(handover, &mut driven.reactor, callers_drive)
            }));
            if !matches!(ran, Ok(Ok(true))) {
                // Every call that is left fails. This thread has the reactor until it is gone.
                drop(taken.end());
                return;
            }
            taken = stand_by(handover, taken);
        }
    }

    /// Runs turns until callers may drive. Returns false once the reactor has ended.
    fn drive(
        &self,
        handover: &Handover<DrivenReactor>,
        reactor: &mut Reactor<ClientApp>,
        callers_drive: bool,
    ) -> io::Result<bool> {
        let mut waits = LoneWaits::new(self, reactor);
        while !reactor.has_ended() {
            reactor.turn()?;
            let may_release = waits.on_turn(self, reactor);
            if may_release && callers_drive && !handover.is_wanted() && !reactor.has_more_work() {
                return Ok(true);
            }
        }
        reactor.finish()?;
        Ok(false)
    }
}

/// Releases the reactor after turns of a caller. If they failed, the reactor ends, and with it every call.
fn release(handover: &Handover<DrivenReactor>, mut taken: TakenReactor<'_, DrivenReactor>, is_whole: bool) {
    let Some(driven) = taken.reactor() else { return };
    // From here on a message wakes the driver's thread.
    driven.bell.mark_unattended();
    let has_ended = driven.reactor.has_ended();
    let needs_driver = driven.reactor.has_more_work();
    if has_ended || !is_whole {
        // No caller takes it again.
        handover.claim();
    }
    taken.needs_driver = needs_driver || has_ended || !is_whole;
    if !is_whole {
        let reactor = taken.end();
        // A second panic would be one of the destructors'; the panic hook has reported it.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(reactor)));
    }
}

/// Releases the reactor to callers, and waits until the driver's thread is needed: it is called, or no caller has
/// driven for a while.
fn stand_by<'a>(
    handover: &'a Handover<DrivenReactor>,
    mut taken: TakenReactor<'a, DrivenReactor>,
) -> TakenReactor<'a, DrivenReactor> {
    // Forgets wake-ups of the time in which this thread drove.
    std::thread::park_timeout(Duration::ZERO);
    if let Some(driven) = taken.reactor() {
        driven.sends = 0;
        driven.bell.mark_unattended();
        taken.needs_driver = driven.reactor.has_more_work();
    }
    drop(taken);
    let mut releases = handover.releases();
    loop {
        let began = Instant::now();
        std::thread::park_timeout(ABSENCE_MAX);
        // On a busy machine this thread may run long after it was called: what is awaited is looked at in any case.
        let is_called = began.elapsed() < ABSENCE_MAX || handover.is_wanted();
        let is_unchanged = std::mem::replace(&mut releases, handover.releases()) == releases;
        if !(is_called || is_unchanged) {
            continue;
        }
        loop {
            if let Some(taken) = handover.take(threads::mark()) {
                return taken;
            }
            if handover.claim() {
                std::thread::park();
            }
        }
    }
}

/// Counts the waits of one thread that follow each other, and no other in between.
struct LoneWaits {
    /// The waits at the end of the last turn.
    waits: u64,
    /// The mark of the thread.
    thread: usize,
    /// Its waits in a row.
    count: u32,
    /// The end of the last one.
    last: Instant,
}

impl LoneWaits {
    fn new(shared: &DriverShared, reactor: &Reactor<ClientApp>) -> LoneWaits {
        LoneWaits { waits: shared.waits.value(), thread: 0, count: 0, last: reactor.turn_began() }
    }

    /// Takes note of the waits that ended in a turn. Returns whether callers may drive.
    fn on_turn(&mut self, shared: &DriverShared, reactor: &Reactor<ClientApp>) -> bool {
        let waits = shared.waits.value();
        let ended = waits.wrapping_sub(std::mem::replace(&mut self.waits, waits));
        if ended == 0 {
            return false;
        }
        let thread = shared.last_wait.load(Ordering::Relaxed);
        let now = reactor.turn_began();
        let is_soon = now.saturating_duration_since(self.last) <= GAP_MAX;
        let is_next = ended == 1 && is_soon && thread == self.thread && thread != OTHER_WAIT;
        self.count = if is_next { self.count + 1 } else { 0 };
        (self.thread, self.last) = (thread, now);
        self.count >= WAITS_MIN
    }
}
