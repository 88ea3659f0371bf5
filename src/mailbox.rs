//! The queue through which other threads reach a reactor: a bounded channel, and a bell that rings once for many
//! messages.
//!
//! A sender never waits: a reactor may send to itself or to another, and two reactors that waited for each other
//! would deadlock. Messages that do not fit the channel go to an overflow, which the reactor reads when a flag is
//! set. The calls in flight bound the messages, and so the overflow.
//!
//! A message may hold the sender through which it was sent, and would keep the mailbox alive forever once no reactor
//! reads it. Therefore the last sender that reaches a closed mailbox empties it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use coreloop_poller::Bell;
use crossbeam_channel::{Receiver, Sender, TrySendError};

/// The state that both ends share.
struct MailboxShared<M> {
    messages: Receiver<M>,
    overflow: Mutex<VecDeque<M>>,
    overflow_len: AtomicUsize,
    /// The reactor has ended.
    is_closed: AtomicBool,
}

/// The reactor's end.
pub struct Mailbox<M> {
    inside: Arc<MailboxShared<M>>,
}

/// The senders' end.
pub struct ReactorSender<M> {
    messages: Sender<M>,
    inside: Arc<MailboxShared<M>>,
    bell: Bell,
}

impl<M> Clone for ReactorSender<M> {
    fn clone(&self) -> Self {
        ReactorSender {
            messages: self.messages.clone(),
            inside: self.inside.clone(),
            bell: self.bell.clone(),
        }
    }
}

/// Creates a mailbox for `messages_max` messages without overflow, and its sender; the bell wakes the reactor.
pub fn mailbox<M>(messages_max: usize, bell: Bell) -> (Mailbox<M>, ReactorSender<M>) {
    let (sender, receiver) = crossbeam_channel::bounded(messages_max);
    let inside = Arc::new(MailboxShared {
        messages: receiver,
        overflow: Mutex::new(VecDeque::new()),
        overflow_len: AtomicUsize::new(0),
        is_closed: AtomicBool::new(false),
    });
    (Mailbox { inside: inside.clone() }, ReactorSender { messages: sender, inside, bell })
}

impl<M> ReactorSender<M> {
    /// Sends a message, and wakes the reactor if it sleeps. Returns the message if the reactor has ended.
    pub fn send(&self, message: M) -> Result<(), M> {
        if self.inside.is_closed.load(Ordering::SeqCst) {
            return Err(message);
        }
        if self.inside.overflow_len.load(Ordering::SeqCst) > 0 {
            // A message in the channel would be taken before those of this sender in the overflow.
            self.inside.put_over(message);
        } else if let Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) =
            self.messages.try_send(message)
        {
            self.inside.put_over(message);
        }
        if self.inside.is_closed.load(Ordering::SeqCst) {
            // The mailbox was closed in between, and may have been emptied before the message was added.
            self.inside.empty();
        }
        self.bell.ring();
        Ok(())
    }

    /// Returns the bell that wakes the reactor's thread.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }
}

impl<M> MailboxShared<M> {
    #[cold]
    fn put_over(&self, message: M) {
        let mut messages = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push_back(message);
        self.overflow_len.store(messages.len(), Ordering::SeqCst);
    }

    #[inline]
    fn take(&self) -> Option<M> {
        match self.messages.try_recv() {
            Ok(message) => Some(message),
            Err(_) if self.overflow_len.load(Ordering::SeqCst) > 0 => self.take_over(),
            Err(_) => None,
        }
    }

    #[cold]
    fn take_over(&self) -> Option<M> {
        // The lock is held for one push or pop, never across anything that blocks.
        let mut messages = self.overflow.lock().unwrap_or_else(PoisonError::into_inner);
        // What is in the channel by now was sent before what the overflow holds, if one thread sent both.
        if let Ok(message) = self.messages.try_recv() {
            return Some(message);
        }
        let message = messages.pop_front();
        self.overflow_len.store(messages.len(), Ordering::SeqCst);
        message
    }

    #[cold]
    fn empty(&self) {
        // One at a time: a message that is dropped may send another, which is returned to its sender.
        while let Some(message) = self.take() {
            drop(message);
        }
    }
}

impl<M> Mailbox<M> {
    /// Returns the next message. Messages of one thread keep their order.
    #[inline]
    pub fn take(&self) -> Option<M> {
        self.inside.take()
    }

    /// Returns whether there is a message.
    #[inline]
    pub fn has_mail(&self) -> bool {
        !self.inside.messages.is_empty() || self.inside.overflow_len.load(Ordering::SeqCst) > 0
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        self.inside.is_closed.store(true, Ordering::SeqCst);
        self.inside.empty();
    }
}

#[cfg(test)]
mod tests {
    use coreloop_poller::Poller;

    use super::*;

    #[test]
    fn messages_beyond_the_capacity_are_delivered_without_waiting() {
        let poller = Poller::new(8).unwrap();
        let (mailbox, door) = mailbox(2, poller.bell());
        for message in 0..100 {
            door.send(message).unwrap();
        }
        assert!(mailbox.has_mail());
        let all: Vec<i32> = std::iter::from_fn(|| mailbox.take()).collect();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert!(!mailbox.has_mail());
    }

    #[test]
    fn the_messages_of_each_thread_keep_their_order() {
        let poller = Poller::new(8).unwrap();
        let (mailbox, door) = mailbox(3, poller.bell());
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let door = door.clone();
                scope.spawn(move || (0..20_000).for_each(|at| door.send((thread, at)).unwrap()));
            }
            let mut next = [0; 4];
            while next != [20_000; 4] {
                let Some((thread, at)) = mailbox.take() else { continue };
                assert_eq!(at, next[thread]);
                next[thread] += 1;
            }
        });
    }

    #[test]
    fn a_closed_mailbox_returns_and_drops_messages() {
        struct SelfMessage(
            #[allow(dead_code, reason = "held for its end")] Option<ReactorSender<SelfMessage>>,
        );
        let poller = Poller::new(8).unwrap();
        let (mailbox, door) = mailbox(2, poller.bell());
        let inside = Arc::downgrade(&door.inside);
        for _ in 0..5 {
            door.send(SelfMessage(Some(door.clone()))).ok().unwrap();
        }
        drop(mailbox);
        assert!(door.send(SelfMessage(Some(door.clone()))).is_err());
        drop(door);
        assert!(inside.upgrade().is_none(), "messages that held the sender kept it alive");
    }

    #[test]
    fn messages_sent_while_the_mailbox_closes_are_dropped() {
        struct SenderMessage(#[allow(dead_code, reason = "held for its end")] ReactorSender<SenderMessage>);
        let poller = Poller::new(8).unwrap();
        for _ in 0..200 {
            let (mailbox, door) = mailbox(4, poller.bell());
            let inside = Arc::downgrade(&door.inside);
            let sender = std::thread::spawn(move || while door.send(SenderMessage(door.clone())).is_ok() {});
            while mailbox.take().is_none() {
                std::thread::yield_now();
            }
            drop(mailbox);
            sender.join().unwrap();
            assert!(inside.upgrade().is_none());
        }
    }

    #[test]
    fn a_message_wakes_a_sleeping_reactor() {
        let mut poller = Poller::new(8).unwrap();
        let (mailbox, door) = mailbox(2, poller.bell());
        let sender = std::thread::spawn(move || door.send(7).unwrap());
        while mailbox.take() != Some(7) {
            poller.wait(None, || mailbox.has_mail()).unwrap();
        }
        sender.join().unwrap();
    }
}
