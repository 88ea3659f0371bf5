//! A connection whose bytes a test carries.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

use super::stream::Socket;

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    pub(super) bytes: VecDeque<u8>,
    pub(super) is_ended: bool,
    /// The most bytes of one read.
    pub(super) read_max: usize,
    /// How many more bytes a write takes.
    pub(super) room: usize,
}

impl Pipe {
    pub(super) fn new(read_max: usize) -> Rc<RefCell<Pipe>> {
        Rc::new(RefCell::new(Pipe { read_max, room: usize::MAX, ..Pipe::default() }))
    }
}

/// One end of a connection.
pub(super) struct Ends {
    pub(super) from: Rc<RefCell<Pipe>>,
    pub(super) to: Rc<RefCell<Pipe>>,
}

impl Socket for Ends {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.from.borrow_mut();
        let n = into.len().min(pipe.read_max).min(pipe.bytes.len());
        if n == 0 {
            return if pipe.is_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        for (place, byte) in into.iter_mut().zip(pipe.bytes.drain(..n)) {
            *place = byte;
        }
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pipe = self.to.borrow_mut();
        let n = slices.iter().map(|slice| slice.len()).sum::<usize>().min(pipe.room);
        if n == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pipe.room -= n;
        pipe.bytes.extend(slices.iter().flat_map(|slice| slice.iter()).take(n));
        Ok(n)
    }

    fn shutdown_write(&mut self) {
        self.to.borrow_mut().is_ended = true;
    }
}
