//! In-memory connections: both directions, bounds, ends, waits, and what is reported to a reactor.

use std::sync::mpsc;
use std::time::Duration;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const KEY: Key = Key::new(3, 7);

fn soon() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

fn write(stream: &MemoryStream, bytes: &[u8]) -> io::Result<usize> {
    stream.write_vectored(&[IoSlice::new(bytes)])
}

fn read(stream: &MemoryStream, space: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; space];
    let len = stream.read(&mut bytes)?;
    bytes.truncate(len);
    Ok(bytes)
}

#[track_caller]
fn fails<T: fmt::Debug>(result: io::Result<T>, kind: io::ErrorKind) {
    assert_eq!(result.unwrap_err().kind(), kind);
}

/// Registers an end; returns what is reported.
fn watch(stream: &MemoryStream) -> mpsc::Receiver<Ready> {
    let (sender, receiver) = mpsc::channel();
    let sender = Mutex::new(sender);
    let readiness = ReadinessSender::new(move |key, ready| {
        assert_eq!(key, KEY);
        let _ = sender.lock().unwrap().send(ready);
    });
    stream.register(KEY, &readiness);
    receiver
}

fn reported(reports: &mpsc::Receiver<Ready>) -> Vec<Ready> {
    reports.try_iter().collect()
}

#[test]
fn bytes_arrive_in_order_in_both_directions() {
    let (near, far) = MemoryStream::pair();
    fails(read(&far, 8), io::ErrorKind::WouldBlock);
    assert_eq!(near.write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b"two")]).unwrap(), 7);
    assert_eq!(write(&far, b"back").unwrap(), 4);
    assert_eq!(read(&far, 5).unwrap(), b"one t");
    assert_eq!(read(&far, 5).unwrap(), b"wo");
    assert_eq!(read(&near, 5).unwrap(), b"back");
    fails(read(&far, 5), io::ErrorKind::WouldBlock);
}

#[test]
fn a_short_read_has_emptied_the_pipe_wherever_its_bytes_are_in_memory() {
    let (near, far) = MemoryStream::pair();
    let mut expected = VecDeque::new();
    for round in 0..3_000 {
        let bytes: Vec<u8> = (0..round % 97).map(|at| (round * 31 + at) as u8).collect();
        let written = write(&near, &bytes).unwrap();
        assert_eq!(written, bytes.len());
        expected.extend(bytes);
        if round % 3 == 0 && !expected.is_empty() {
            let len = expected.len().min(150);
            assert_eq!(read(&far, 150).unwrap(), expected.drain(..len).collect::<Vec<u8>>());
        }
    }
}

#[test]
fn a_full_pipe_takes_nothing_and_resumes_its_writer_once() {
    let (near, far) = MemoryStream::pair();
    let reports = watch(&near);
    let bytes = vec![1; PIPE_BYTES_MAX - 1];
    assert_eq!(write(&near, &bytes).unwrap(), bytes.len());
    assert_eq!(near.write_vectored(&[IoSlice::new(b"a"), IoSlice::new(b"b")]).unwrap(), 1);
    fails(write(&near, b"b"), io::ErrorKind::WouldBlock);
    fails(write(&near, b"b"), io::ErrorKind::WouldBlock);
    read(&far, 10).unwrap();
    assert_eq!(reported(&reports), [], "most of it is still full");
    read(&far, RESUME_BYTES).unwrap();
    assert_eq!(reported(&reports), [Ready::WRITE]);
    read(&far, PIPE_BYTES_MAX).unwrap();
    assert_eq!(reported(&reports), []);
    assert_eq!(write(&near, b"b").unwrap(), 1);
}

#[test]
fn the_first_bytes_in_an_empty_pipe_are_reported_once() {
    let (near, far) = MemoryStream::pair();
    let reports = watch(&far);
    assert_eq!(reported(&reports), []);
    write(&near, b"a").unwrap();
    write(&near, b"b").unwrap();
    assert_eq!(reported(&reports), [Ready::READ]);
    assert_eq!(read(&far, 1).unwrap(), b"a");
    write(&near, b"c").unwrap();
    assert_eq!(reported(&reports), [], "the pipe was not empty");
    assert_eq!(read(&far, 9).unwrap(), b"bc");
    write(&near, b"d").unwrap();
    assert_eq!(reported(&reports), [Ready::READ]);
    far.deregister();
    read(&far, 9).unwrap();
    write(&near, b"e").unwrap();
    assert_eq!(reported(&reports), []);
}

#[test]
fn what_happened_before_the_registration_is_reported_at_it() {
    let (near, far) = MemoryStream::pair();
    write(&near, b"a").unwrap();
    assert_eq!(reported(&watch(&far)), [Ready::READ]);
    near.shutdown_write();
    assert_eq!(reported(&watch(&far)), [Ready::READ_END]);
    drop(near);
    assert_eq!(reported(&watch(&far)), [Ready::GONE]);
}

#[test]
fn a_half_closed_connection_carries_the_other_direction() {
    let (near, far) = MemoryStream::pair();
    let reports = watch(&far);
    write(&near, b"last").unwrap();
    near.shutdown_write();
    near.shutdown_write();
    assert_eq!(reported(&reports), [Ready::READ, Ready::READ_END]);
    fails(write(&near, b"more"), io::ErrorKind::BrokenPipe);
    assert_eq!(write(&far, b"reply").unwrap(), 5);
    assert_eq!(read(&far, 9).unwrap(), b"last");
    assert_eq!(read(&far, 9).unwrap(), b"");
    assert_eq!(read(&near, 9).unwrap(), b"reply");
}

#[test]
fn a_dropped_end_ends_the_connection_and_one_with_unread_bytes_resets_it() {
    for has_unread in [false, true] {
        let (near, far) = MemoryStream::pair();
        let reports = watch(&far);
        if has_unread {
            write(&far, b"unread").unwrap();
        }
        write(&near, b"last").unwrap();
        drop(near);
        assert_eq!(reported(&reports), [Ready::READ, Ready::GONE]);
        assert_eq!(read(&far, 9).unwrap(), b"last", "what was written before arrives");
        if has_unread {
            fails(read(&far, 9), io::ErrorKind::ConnectionReset);
        } else {
            assert_eq!(read(&far, 9).unwrap(), b"");
        }
        fails(write(&far, b"more"), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn waiting_threads_are_woken_by_bytes_room_and_ends() {
    let (near, far) = MemoryStream::pair();
    let total = 40 * PIPE_BYTES_MAX;
    let writer = std::thread::spawn(move || {
        let mut left = total;
        while left > 0 {
            near.wait_writable(soon());
            left -= write(&near, &vec![5; left.min(100_000)]).unwrap();
        }
    });
    let mut seen = 0;
    loop {
        far.wait_readable(soon());
        match read(&far, 30_000).unwrap().len() {
            0 => break,
            len => seen += len,
        }
    }
    assert_eq!(seen, total);
    writer.join().unwrap();
}

#[test]
fn a_wait_ends_at_its_time() {
    let (near, _far) = MemoryStream::pair();
    let until = Instant::now() + Duration::from_millis(20);
    near.wait_readable(Some(until));
    assert!(Instant::now() >= until);
    fails(read(&near, 1), io::ErrorKind::WouldBlock);
}

#[test]
fn a_name_belongs_to_one_listener_until_it_ends() {
    let listener = MemoryListener::bind("tests.one-listener", 2).unwrap();
    fails(MemoryListener::bind("tests.one-listener", 2).map(drop), io::ErrorKind::AddrInUse);
    fails(listener.accept(), io::ErrorKind::WouldBlock);
    let clients = [connect("tests.one-listener").unwrap(), connect("tests.one-listener").unwrap()];
    fails(connect("tests.one-listener"), io::ErrorKind::ConnectionRefused);
    let served = listener.accept().unwrap();
    write(&served, b"hello").unwrap();
    drop(listener);
    assert_eq!(read(&clients[0], 9).unwrap(), b"hello");
    assert_eq!(read(&clients[1], 9).unwrap(), b"", "it was never accepted");
    fails(connect("tests.one-listener"), io::ErrorKind::ConnectionRefused);
    MemoryListener::bind("tests.one-listener", 2).unwrap();
}

#[test]
fn unused_names_are_given_once() {
    let one = MemoryListener::bind("0", 1).unwrap();
    let name = one.name().to_owned();
    assert!(connect(&name).is_ok());
    drop(one);
    let other = MemoryListener::bind("0", 1).unwrap();
    assert_ne!(other.name(), name);
    fails(connect("0"), io::ErrorKind::ConnectionRefused);
}
