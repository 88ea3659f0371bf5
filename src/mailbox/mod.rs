//! The queue through which other threads reach a reactor: a bounded channel, and a bell that rings once for many
//! messages.
//!
//! A sender never waits: a reactor may send to itself or to another, and two reactors that waited for each other
//! would deadlock. Messages that do not fit the channel go to an overflow. The calls in flight and the windows of the
//! streams bound the messages, and so the overflow. The messages of a thread keep their order (`queue.rs`).
//!
//! A message may hold the sender through which it was sent, and would keep the mailbox alive forever once no reactor
//! reads it. Therefore the last sender that reaches a closed mailbox empties it.

mod queue;
mod sync;

use std::sync::Arc;

use coreloop_poller::Bell;

use self::queue::MailQueue;

/// The reactor's end.
pub struct Mailbox<M> {
    queue: Arc<MailQueue<M>>,
}

/// The senders' end.
pub struct ReactorSender<M> {
    queue: Arc<MailQueue<M>>,
    bell: Bell,
}

impl<M> Clone for ReactorSender<M> {
    fn clone(&self) -> Self {
        ReactorSender { queue: self.queue.clone(), bell: self.bell.clone() }
    }
}

/// Creates a mailbox for `messages_max` messages without overflow, and its sender; the bell wakes the reactor.
pub fn mailbox<M>(messages_max: usize, bell: Bell) -> (Mailbox<M>, ReactorSender<M>) {
    let queue = MailQueue::new(messages_max);
    (Mailbox { queue: queue.clone() }, ReactorSender { queue, bell })
}

impl<M> ReactorSender<M> {
    /// Sends a message, and wakes the reactor if it sleeps. Returns the message if the reactor has ended.
    ///
    /// Never waits. The messages of a thread arrive in the order in which it sent them, whatever number of senders it
    /// uses.
    pub fn send(&self, message: M) -> Result<(), M> {
        self.queue.send(message)?;
        self.bell.ring();
        Ok(())
    }

    /// Sends a message without waking the reactor, for a sender that then runs the reactor itself, or rings the bell.
    /// Returns the message if the reactor has ended.
    #[cfg(feature = "client")]
    pub fn send_silently(&self, message: M) -> Result<(), M> {
        self.queue.send(message)
    }

    /// Returns the bell that wakes the reactor's thread.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }
}

impl<M> Mailbox<M> {
    /// Returns the next message. Messages of one thread keep their order.
    #[inline]
    pub fn take(&self) -> Option<M> {
        self.queue.take()
    }

    /// Returns whether there is a message.
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.queue.has_mail()
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[cfg(test)]
mod tests {
    use coreloop_poller::Poller;

    use super::*;

    #[test]
    fn messages_beyond_the_capacity_are_delivered_in_order_without_waiting() {
        let poller = Poller::new(8).unwrap();
        let (mailbox, sender) = mailbox(2, poller.bell());
        for message in 0..100 {
            sender.send(message).unwrap();
        }
        assert!(mailbox.has_mail());
        let all: Vec<i32> = std::iter::from_fn(|| mailbox.take()).collect();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert!(!mailbox.has_mail());
    }

    #[test]
    fn each_sender_keeps_its_order_while_the_channel_overflows() {
        const SENDERS: usize = 4;
        const MESSAGES: usize = 20_000;
        let poller = Poller::new(8).unwrap();
        let (mailbox, sender) = mailbox(8, poller.bell());
        std::thread::scope(|scope| {
            for number in 0..SENDERS {
                let sender = sender.clone();
                scope.spawn(move || (0..MESSAGES).for_each(|at| sender.send((number, at)).unwrap()));
            }
            let mut next = [0; SENDERS];
            while next != [MESSAGES; SENDERS] {
                match mailbox.take() {
                    Some((number, at)) => {
                        assert_eq!(at, next[number], "sender {number}");
                        next[number] += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
    }

    #[test]
    fn a_closed_mailbox_returns_and_drops_messages() {
        struct SelfMessage(
            #[allow(dead_code, reason = "held for its end")] Option<ReactorSender<SelfMessage>>,
        );
        let poller = Poller::new(8).unwrap();
        let (mailbox, sender) = mailbox(2, poller.bell());
        let queue = Arc::downgrade(&sender.queue);
        for _ in 0..5 {
            sender.send(SelfMessage(Some(sender.clone()))).ok().unwrap();
        }
        drop(mailbox);
        assert!(sender.send(SelfMessage(Some(sender.clone()))).is_err());
        drop(sender);
        assert!(queue.upgrade().is_none(), "messages that held the sender kept it alive");
    }

    #[test]
    fn messages_sent_while_the_mailbox_closes_are_dropped() {
        struct SenderMessage(#[allow(dead_code, reason = "held for its end")] ReactorSender<SenderMessage>);
        let poller = Poller::new(8).unwrap();
        for _ in 0..200 {
            let (mailbox, sender) = mailbox(4, poller.bell());
            let queue = Arc::downgrade(&sender.queue);
            let sender =
                std::thread::spawn(move || while sender.send(SenderMessage(sender.clone())).is_ok() {});
            while mailbox.take().is_none() {
                std::thread::yield_now();
            }
            drop(mailbox);
            sender.join().unwrap();
            assert!(queue.upgrade().is_none());
        }
    }

    #[test]
    fn a_message_wakes_a_sleeping_reactor() {
        let mut poller = Poller::new(8).unwrap();
        let (mailbox, sender) = mailbox(2, poller.bell());
        let sender = std::thread::spawn(move || sender.send(7).unwrap());
        while mailbox.take() != Some(7) {
            poller.wait(None, || mailbox.has_mail()).unwrap();
        }
        sender.join().unwrap();
    }
}
