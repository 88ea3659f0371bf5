//! One watched file as a state machine: when to look at it, and what to make of what is there.
//!
//! A file that is replaced by rename is whole at once. One that is written in place is read when it has not changed between
//! two looks. A change within the resolution of the modification time is found because young files are read again.

use std::time::{Duration, Instant, SystemTime};

/// What the system says about a file. Two different files, or states of one, differ in it; see [`FileState::is_young`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileState {
    pub(super) inode: u64,
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
}

/// The time between the looks at a file that is being written.
const SETTLE: Duration = Duration::from_millis(50);
/// Changes within this time may have the same modification time.
const YOUNG: Duration = Duration::from_secs(2);

impl FileState {
    /// Returns whether the file may have changed since without a difference in its state.
    fn is_young(&self, at: SystemTime) -> bool {
        at.duration_since(self.modified).unwrap_or_default() < YOUNG
    }
}

/// What to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileStep {
    /// Look again at that time.
    Wait,
    /// Read it.
    Read,
}

/// The course of the looks at one file.
#[derive(Debug)]
pub(super) struct FilePoll {
    interval: Duration,
    pub(super) next_at: Instant,
    /// The state that was read last, and when.
    read: Option<(FileState, SystemTime)>,
    /// The state at the last look, if it is to be compared with the next.
    seen: Option<FileState>,
}

impl FilePoll {
    pub(super) fn new(interval: Duration, now: Instant) -> FilePoll {
        FilePoll { interval, next_at: now, read: None, seen: None }
    }

    /// Handles a look at the file.
    pub(super) fn on_look(&mut self, state: FileState, now: Instant) -> FileStep {
        self.next_at = now + self.interval;
        let Some((read, read_at)) = self.read else { return self.settle(state, now) };
        if state == read {
            self.seen = None;
            return if read.is_young(read_at) { FileStep::Read } else { FileStep::Wait };
        }
        // A replaced file was written before it got this name.
        if state.inode != read.inode { FileStep::Read } else { self.settle(state, now) }
    }

    fn settle(&mut self, state: FileState, now: Instant) -> FileStep {
        if self.seen == Some(state) {
            return FileStep::Read;
        }
        self.seen = Some(state);
        self.next_at = now + SETTLE.min(self.interval);
        FileStep::Wait
    }

    /// Handles the end of a read: the states before and after it.
    pub(super) fn on_read(
        &mut self,
        before: FileState,
        after: FileState,
        at: SystemTime,
        now: Instant,
    ) -> bool {
        if before != after {
            self.seen = Some(after);
            self.next_at = now + SETTLE.min(self.interval);
            return false;
        }
        self.seen = None;
        self.read = Some((before, at));
        true
    }

    /// Handles a file that cannot be looked at or read. The next one is another file.
    pub(super) fn on_absent(&mut self, now: Instant) {
        (self.read, self.seen) = (None, None);
        self.next_at = now + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: u64 = 1_000_000;

    fn state(inode: u64, bytes: u64, seconds: u64) -> FileState {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        FileState { inode, bytes, modified }
    }

    fn clock(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Returns a poll that has read a file.
    fn after_read(now: Instant, file: FileState, at: SystemTime) -> FilePoll {
        let mut poll = FilePoll::new(Duration::from_secs(1), now);
        assert_eq!(poll.on_look(file, now), FileStep::Wait);
        assert_eq!(poll.on_look(file, now), FileStep::Read);
        assert!(poll.on_read(file, file, at, now));
        poll
    }

    #[test]
    fn a_file_that_does_not_change_is_read_once() {
        let now = Instant::now();
        let mut poll = after_read(now, state(1, 10, OLD), clock(OLD + 60));
        for _ in 0..3 {
            assert_eq!(poll.on_look(state(1, 10, OLD), now), FileStep::Wait);
            assert_eq!(poll.next_at, now + Duration::from_secs(1));
        }
    }

    #[test]
    fn a_file_that_is_being_written_is_read_when_it_rests() {
        let now = Instant::now();
        let mut poll = after_read(now, state(1, 10, OLD), clock(OLD + 60));
        assert_eq!(poll.on_look(state(1, 0, OLD + 61), now), FileStep::Wait);
        assert_eq!(poll.next_at, now + SETTLE);
        assert_eq!(poll.on_look(state(1, 5, OLD + 61), now), FileStep::Wait);
        assert_eq!(poll.on_look(state(1, 12, OLD + 62), now), FileStep::Wait);
        assert_eq!(poll.on_look(state(1, 12, OLD + 62), now), FileStep::Read);
        // And one that changes during the read is read again.
        assert!(!poll.on_read(state(1, 12, OLD + 62), state(1, 13, OLD + 62), clock(OLD + 62), now));
        assert_eq!(poll.on_look(state(1, 13, OLD + 62), now), FileStep::Read);
    }

    #[test]
    fn a_replaced_file_is_read_at_once() {
        let now = Instant::now();
        let mut poll = after_read(now, state(1, 10, OLD), clock(OLD + 60));
        assert_eq!(poll.on_look(state(2, 10, OLD), now), FileStep::Read);
    }

    #[test]
    fn a_change_within_the_clocks_resolution_is_found() {
        let now = Instant::now();
        let file = state(1, 10, OLD);
        let mut poll = after_read(now, file, clock(OLD + 1));
        assert_eq!(poll.on_look(file, now), FileStep::Read, "it was read while it was young");
        assert!(poll.on_read(file, file, clock(OLD + 3), now));
        assert_eq!(poll.on_look(file, now), FileStep::Wait);
    }

    #[test]
    fn a_file_that_comes_back_is_read_again() {
        let now = Instant::now();
        let file = state(1, 10, OLD);
        let mut poll = after_read(now, file, clock(OLD + 60));
        poll.on_absent(now);
        assert_eq!(poll.next_at, now + Duration::from_secs(1));
        assert_eq!(poll.on_look(file, now), FileStep::Wait);
        assert_eq!(poll.on_look(file, now), FileStep::Read);
    }
}
