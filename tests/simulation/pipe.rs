//! One direction of a connection: a bounded number of bytes in flight, and its two ends.

use std::collections::VecDeque;

#[derive(Default)]
pub struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// Bytes written so far.
    pub total: usize,
    /// The writer has closed it.
    pub is_closed: bool,
    pub is_reset: bool,
}

/// The result of a read.
#[derive(Debug, PartialEq)]
pub enum Read {
    Bytes(usize),
    Nothing,
    End,
    Reset,
}

impl Pipe {
    pub fn new(capacity: usize) -> Pipe {
        Pipe { capacity, ..Pipe::default() }
    }

    /// Writes as many bytes as there is room for; returns their number.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        assert!(!self.is_closed, "nothing is written after the end");
        let n = bytes.len().min(self.capacity - self.bytes.len());
        self.bytes.extend(&bytes[..n]);
        self.total += n;
        n
    }

    pub fn read(&mut self, into: &mut [u8]) -> Read {
        if self.is_reset {
            return Read::Reset;
        }
        let n = into.len().min(self.bytes.len());
        match n {
            0 if self.is_closed => Read::End,
            0 => Read::Nothing,
            n => {
                let (front, back) = self.bytes.as_slices();
                let split = n.min(front.len());
                into[..split].copy_from_slice(&front[..split]);
                into[split..n].copy_from_slice(&back[..n - split]);
                self.bytes.drain(..n);
                Read::Bytes(n)
            }
        }
    }

    pub fn is_readable(&self) -> bool {
        !self.bytes.is_empty() || self.is_closed || self.is_reset
    }
}
