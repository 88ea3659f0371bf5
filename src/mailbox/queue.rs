//! [`MailQueue`]: a bounded channel with an overflow, which together keep the order of each sender.
//!
//! While the overflow has messages, senders add to it and not to the channel. The receiver takes from the overflow
//! only when the channel is empty, and looks at the channel once more with the overflow locked: a message in the
//! overflow was added after its sender's messages in the channel, so those are found first.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::sync::{Arc, AtomicBool, AtomicUsize, Channel, Mutex, MutexGuard, Ordering};

/// The queue, shared by the senders and the receiver.
pub(crate) struct MailQueue<M> {
    channel: Channel<M>,
    overflow: Mutex<VecDeque<M>>,
    overflow_len: AtomicUsize,
    /// The receiver has ended.
    is_closed: AtomicBool,
}

impl<M> MailQueue<M> {
    /// Creates a queue for `messages_max` messages without overflow.
    pub(crate) fn new(messages_max: usize) -> Arc<MailQueue<M>> {
        Arc::new(MailQueue {
            channel: Channel::new(messages_max),
            overflow: Mutex::new(VecDeque::new()),
            overflow_len: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Adds a message. Returns it if the receiver has ended.
    pub(crate) fn send(&self, message: M) -> Result<(), M> {
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(message);
        }
        if self.overflow_len.load(Ordering::SeqCst) > 0 {
            self.put_over(message);
        } else if let Err(message) = self.channel.try_send(message) {
            self.put_over(message);
        }
        if self.is_closed.load(Ordering::SeqCst) {
            // The queue was closed in between, and may have been emptied before the message was added.
            self.empty();
        }
        Ok(())
    }

    #[cold]
    fn put_over(&self, message: M) {
        let mut messages = self.overflow();
        messages.push_back(message);
        self.overflow_len.store(messages.len(), Ordering::SeqCst);
    }

    /// Takes the next message. Messages of one thread keep their order.
    #[inline]
    pub(crate) fn take(&self) -> Option<M> {
        match self.channel.try_take() {
            Some(message) => Some(message),
            None if self.overflow_len.load(Ordering::SeqCst) > 0 => self.take_over(),
            None => None,
        }
    }

    #[cold]
    fn take_over(&self) -> Option<M> {
        // The lock is held for one push or pop, never across anything that blocks.
        let mut messages = self.overflow();
        if let Some(message) = self.channel.try_take() {
            return Some(message);
        }
        let message = messages.pop_front();
        self.overflow_len.store(messages.len(), Ordering::SeqCst);
        message
    }

    /// Returns whether there is a message.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        !self.channel.is_empty() || self.overflow_len.load(Ordering::SeqCst) > 0
    }

    /// The receiver has ended: drops all messages, also those that are added at the same time.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.empty();
    }

    #[cold]
    fn empty(&self) {
        // One at a time: a message that is dropped may send another, which is returned to its sender.
        while let Some(message) = self.take() {
            drop(message);
        }
    }

    fn overflow(&self) -> MutexGuard<'_, VecDeque<M>> {
        self.overflow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
