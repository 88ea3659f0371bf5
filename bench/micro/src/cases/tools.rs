//! The components of a reactor: the mailbox and its bell, timers, lent buffers, the write queue.

use std::hint::black_box;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use coreloop::bufpool::{Chunk, Pool, PoolConfig, RecvBuf, WriteQueue};
use coreloop::mailbox::mailbox;
use coreloop::poller::{Doorbell, Key, Poller, Timers, Wake};

use super::Case;

/// Timers that are armed besides the measured one: a reactor with this number of connections.
const TIMERS: u32 = 1000;
/// Number of timer tables.
const TABLES: u32 = 16;

pub(super) fn add(cases: &mut Vec<Case>) {
    add_mail(cases);
    add_timers(cases);
    add_buffers(cases);
    add_queue(cases);
}

fn poller() -> Poller {
    Poller::new(64).expect("the system has descriptors left")
}

/// Stands for the system call of a wake-up.
struct NoWake;

impl Wake for NoWake {
    fn wake(&self) -> bool {
        true
    }
}

fn add_mail(cases: &mut Vec<Case>) {
    cases.push(Case::new("mailbox/send-take", || {
        let poller = poller();
        let (mailbox, door) = mailbox(64, poller.bell());
        move || {
            door.send(black_box(7_u64)).expect("the mailbox is open");
            black_box(mailbox.take());
            // Keeps the poller alive as long as the channel.
            black_box(&poller);
        }
    }));
    let burst = Case::new("mailbox/send-take-16", || {
        let poller = poller();
        let (mailbox, door) = mailbox(64, poller.bell());
        move || {
            (0..16_u64).for_each(|letter| door.send(black_box(letter)).expect("the mailbox is open"));
            while let Some(letter) = mailbox.take() {
                black_box(letter);
            }
            black_box(&poller);
        }
    });
    cases.push(burst.operations(16));
    cases.push(Case::new("wake/ring-awake", || {
        let bell = poller().bell();
        move || {
            black_box(bell.ring());
        }
    }));
    // The wake-up itself happens in the kernel; only the code before it is counted.
    cases.push(Case::new("wake/sleep-ring", || {
        let door = Doorbell::new(NoWake);
        move || assert!(door.sleep(|| false, |may_sleep| may_sleep && door.ring()))
    }));
    cases.push(Case::new("wake/wait-with-mail", || {
        let mut poller = poller();
        move || {
            black_box(poller.wait(Some(Duration::ZERO), || true).expect("the wait goes well"));
        }
    }));
}

/// Timers of many connections, none of which is due soon, with the time at which they were created. Adding times
/// costs slightly more when the nanoseconds overflow into the seconds; so the tables are spread over a second, to
/// average that out.
fn tables() -> Vec<(Timers, Instant)> {
    let first = Instant::now();
    let table = |number| {
        let now = first + Duration::from_secs(1) / TABLES * number;
        let mut timers = Timers::new(now);
        for slot in 0..TIMERS {
            timers.arm(Key::new(slot, 1), now + Duration::from_millis(10_000 + u64::from(slot)));
        }
        (timers, now)
    };
    (0..TABLES).map(table).collect()
}

fn add_timers(cases: &mut Vec<Case>) {
    let on_each = |name: &str, work: fn(&mut Timers, Instant)| {
        let case = Case::new(name, move || {
            let mut tables = tables();
            move || tables.iter_mut().for_each(|(timers, now)| work(timers, *now))
        });
        case.operations(u64::from(TABLES))
    };
    cases.push(on_each("timers/arm-cancel", |timers, now| {
        let key = Key::new(black_box(TIMERS), 1);
        timers.arm(key, now + Duration::from_millis(30));
        timers.cancel(key);
    }));
    // The timer stays in its list, as most idle timers do when a read postpones them.
    cases.push(on_each("timers/arm-again", |timers, now| {
        timers.arm(Key::new(black_box(500), 1), now + Duration::from_millis(10_501));
    }));
    cases.push(on_each("timers/next-at", |timers, _| {
        black_box(timers.next_at());
    }));
    cases.push(on_each("timers/nothing-expires", |timers, now| {
        timers.expire(black_box(now), &mut Vec::new());
    }));
    cases.push(Case::new("timers/arm-expire", || {
        let mut now = Instant::now();
        let (mut timers, mut expired) = (Timers::new(now), Vec::new());
        move || {
            timers.arm(Key::new(1, 1), now + Duration::from_millis(2));
            now += Duration::from_millis(4);
            timers.expire(now, &mut expired);
            assert_eq!(expired.len(), 1);
            expired.clear();
        }
    }));
}

fn add_buffers(cases: &mut Vec<Case>) {
    for (name, bytes) in [("4k", 4 << 10), ("64k", 64 << 10)] {
        cases.push(Case::new(format!("bufpool/lend-return/{name}"), move || {
            let mut pool = Pool::new(PoolConfig::default());
            move || {
                let buf = pool.lend(black_box(bytes));
                pool.give_back(black_box(buf));
            }
        }));
    }
    cases.push(Case::new("bufpool/receive-settle", || {
        let (mut pool, mut recv) = (Pool::new(PoolConfig::default()), RecvBuf::new());
        move || {
            black_box(recv.read_space(&mut pool, 64 << 10));
            recv.filled(48);
            black_box(recv.bytes());
            recv.consume(48);
            recv.settle(&mut pool, 0);
        }
    }));
    cases.push(Case::new("bufpool/cut-drop-collect", || {
        let (mut pool, mut recv) = (Pool::new(PoolConfig::default()), RecvBuf::new());
        move || {
            black_box(recv.read_space(&mut pool, 64 << 10));
            recv.filled(8192);
            drop(black_box(recv.cut(0..8192)));
            recv.consume(8192);
            recv.settle(&mut pool, 0);
            pool.collect();
        }
    }));
}

fn add_queue(cases: &mut Vec<Case>) {
    cases.push(Case::new("queue/put-written", || {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        move || {
            queue.put_pair(&mut pool, black_box(&[1; 32]), black_box(&[2; 8]));
            black_box(queue.first());
            queue.written(&mut pool, 40);
        }
    }));
    cases.push(Case::new("queue/link-written", || {
        let (mut pool, mut queue) = (Pool::new(PoolConfig::default()), WriteQueue::new());
        let chunk = Chunk::from(vec![3; 64 << 10]);
        move || {
            queue.put(&mut pool, black_box(&[1; 32]));
            queue.link(&mut pool, chunk.clone());
            let mut slices = [IoSlice::new(&[]); 4];
            assert_eq!(queue.slices(&mut slices), 2);
            black_box(&slices);
            let written = queue.len();
            queue.written(&mut pool, written);
        }
    }));
}
