//! The only door into a reactor's thread: a bounded channel, and a bell that rings once for many letters.
//!
//! A sender never waits: a reactor may send to itself or to another, and two that waited on each other would
//! stand still. What does not fit the channel goes to an overflow that the reactor looks at when it is told to;
//! letters are bounded by the calls in flight, so the overflow is bounded too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coreloop_poller::Bell;
use crossbeam_channel::{Receiver, Sender, TrySendError};

struct Overflow<M> {
    letters: Mutex<VecDeque<M>>,
    len: AtomicUsize,
}

/// The reactor's end.
pub struct Mailbox<M> {
    letters: Receiver<M>,
    overflow: Arc<Overflow<M>>,
}

/// The senders' end.
pub struct Door<M> {
    letters: Sender<M>,
    overflow: Arc<Overflow<M>>,
    bell: Bell,
}

impl<M> Clone for Door<M> {
    fn clone(&self) -> Self {
        Door { letters: self.letters.clone(), overflow: self.overflow.clone(), bell: self.bell.clone() }
    }
}

/// A mailbox for that many letters without overflow, and its door; the bell wakes the reactor.
pub fn mailbox<M>(letters_max: usize, bell: Bell) -> (Mailbox<M>, Door<M>) {
    let (sender, receiver) = crossbeam_channel::bounded(letters_max);
    let overflow = Arc::new(Overflow { letters: Mutex::new(VecDeque::new()), len: AtomicUsize::new(0) });
    (Mailbox { letters: receiver, overflow: overflow.clone() }, Door { letters: sender, overflow, bell })
}

impl<M> Door<M> {
    /// Leaves a letter; wakes the reactor if it sleeps. The letter comes back if there is no reactor any more.
    pub fn send(&self, letter: M) -> Result<(), M> {
        match self.letters.try_send(letter) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(letter)) => return Err(letter),
            Err(TrySendError::Full(letter)) => self.send_over(letter),
        }
        self.bell.ring();
        Ok(())
    }

    #[cold]
    fn send_over(&self, letter: M) {
        let mut letters = self.overflow.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push_back(letter);
        self.overflow.len.store(letters.len(), Ordering::SeqCst);
    }
}

impl<M> Mailbox<M> {
    /// The next letter. Letters of one sender keep their order unless the channel was full.
    #[inline]
    pub fn take(&self) -> Option<M> {
        match self.letters.try_recv() {
            Ok(letter) => Some(letter),
            Err(_) if self.overflow.len.load(Ordering::SeqCst) > 0 => self.take_over(),
            Err(_) => None,
        }
    }

    #[cold]
    fn take_over(&self) -> Option<M> {
        // The lock is held for one push or pop by anybody, never across anything that waits.
        let mut letters = self.overflow.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let letter = letters.pop_front();
        self.overflow.len.store(letters.len(), Ordering::SeqCst);
        letter
    }

    /// Whether there is a letter.
    #[inline]
    pub fn has_mail(&self) -> bool {
        !self.letters.is_empty() || self.overflow.len.load(Ordering::SeqCst) > 0
    }
}

#[cfg(test)]
mod tests {
    use coreloop_poller::Poller;

    use super::*;

    #[test]
    fn more_letters_than_fit_are_all_delivered_and_no_sender_waits() {
        let poller = Poller::new(8).unwrap();
        let (mailbox, door) = mailbox(2, poller.bell());
        for letter in 0..100 {
            door.send(letter).unwrap();
        }
        assert!(mailbox.has_mail());
        let mut all: Vec<i32> = std::iter::from_fn(|| mailbox.take()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert!(!mailbox.has_mail());
    }

    #[test]
    fn a_letter_wakes_a_sleeping_reactor() {
        let mut poller = Poller::new(8).unwrap();
        let (mailbox, door) = mailbox(2, poller.bell());
        let sender = std::thread::spawn(move || door.send(7).unwrap());
        while mailbox.take() != Some(7) {
            poller.wait(None, || mailbox.has_mail()).unwrap();
        }
        sender.join().unwrap();
    }
}
