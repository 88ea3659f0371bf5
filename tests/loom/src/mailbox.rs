//! The mailbox's queue: nothing is lost, and each sender keeps its order, while the channel overflows or closes.

#[path = "../../../src/mailbox/queue.rs"]
mod queue;
#[path = "../../../src/mailbox/sync.rs"]
mod sync;

use loom::thread;

use self::queue::MailQueue;
use crate::model;

/// `senders` threads send `messages` each through a channel of one, while the receiver takes them all.
fn deliver(senders: usize, messages: usize) {
    let queue = MailQueue::new(1);
    let threads: Vec<_> = (0..senders)
        .map(|sender| {
            let queue = queue.clone();
            thread::spawn(move || {
                for number in 0..messages {
                    queue.send((sender, number)).unwrap();
                }
            })
        })
        .collect();
    let mut next = vec![0; senders];
    let mut take = || {
        let taken = queue.take();
        if let Some((sender, number)) = taken {
            assert_eq!(number, next[sender], "the order of sender {sender}");
            next[sender] += 1;
        }
        taken.is_some()
    };
    // Some messages while the senders send, the rest after.
    for _ in 0..messages {
        take();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    while take() {}
    assert!(next.iter().all(|next| *next == messages) && !queue.has_mail());
}

#[test]
fn one_sender_keeps_its_order_through_the_overflow() {
    model(3, || deliver(1, 4));
}

#[test]
fn two_senders_keep_their_orders_through_the_overflow() {
    model(3, || deliver(2, 3));
}

#[test]
fn a_message_sent_while_the_queue_closes_is_dropped_or_returned() {
    model(3, || {
        let queue = MailQueue::new(1);
        let sender = thread::spawn({
            let queue = queue.clone();
            move || (0..2).map(|number| queue.send(number)).filter(Result::is_err).count()
        });
        queue.close();
        sender.join().unwrap();
        assert!(!queue.has_mail() && queue.send(9).is_err());
    });
}
