//! Flow control (RFC 9113 sections 5.2 and 6.9): the windows of a stream and of the connection, in both directions.
//!
//! All arithmetic is checked. A send window is negative after the peer has lowered INITIAL_WINDOW_SIZE below what was
//! already sent, until the peer grants that much again.

use super::frame::MAX_31_BITS;

/// A window overflowed, or more was received than it allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowFault;

/// Bytes that may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendWindow(i32);

impl SendWindow {
    /// Creates a window of this size, at most 2^31 - 1.
    pub const fn new(bytes: u32) -> SendWindow {
        let bytes = if bytes > MAX_31_BITS { MAX_31_BITS } else { bytes };
        SendWindow(bytes as i32)
    }

    /// Returns the bytes that may be sent now.
    #[inline]
    pub fn available(self) -> usize {
        self.0.max(0) as usize
    }

    /// Returns the window itself, which may be negative.
    pub fn size(self) -> i32 {
        self.0
    }

    /// Takes bytes that are sent, at most [`available`](SendWindow::available) of them.
    #[inline]
    pub fn take(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.available(), "sent more than the window allows");
        self.0 = self.0.saturating_sub(i32::try_from(bytes).unwrap_or(i32::MAX));
    }

    /// Adds the credit of a WINDOW_UPDATE.
    pub fn grow(&mut self, increment: u32) -> Result<(), WindowFault> {
        self.shift(i64::from(increment))
    }

    /// Changes the window by the difference of two values of INITIAL_WINDOW_SIZE.
    pub fn shift(&mut self, difference: i64) -> Result<(), WindowFault> {
        let size = i64::from(self.0).checked_add(difference).ok_or(WindowFault)?;
        // The lower bound holds too: at most 2^31 - 1 was sent, and the difference is at least 1 - 2^31.
        self.0 = i32::try_from(size).map_err(|_| WindowFault)?;
        Ok(())
    }
}

/// Bytes that the peer may send, and what was consumed but is not granted again yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2ReceiveWindow {
    available: i32,
    consumed: u32,
}

impl Http2ReceiveWindow {
    /// Creates a window of this size, at most 2^31 - 1.
    pub const fn new(bytes: u32) -> Http2ReceiveWindow {
        Http2ReceiveWindow { available: SendWindow::new(bytes).0, consumed: 0 }
    }

    /// Counts received bytes.
    #[inline]
    pub fn receive(&mut self, bytes: u32) -> Result<(), WindowFault> {
        if i64::from(bytes) > i64::from(self.available) {
            return Err(WindowFault);
        }
        self.available = self.available.saturating_sub_unsigned(bytes);
        Ok(())
    }

    /// Counts consumed bytes. Returns the increment of a WINDOW_UPDATE once half of the full window can be granted
    /// again, so that small messages do not cost a frame each.
    #[inline]
    pub fn consume(&mut self, bytes: u32, full: u32) -> Option<u32> {
        self.consumed = self.consumed.saturating_add(bytes);
        if self.consumed < full / 2 || self.consumed == 0 {
            return None;
        }
        let increment = self.consumed.min(MAX_31_BITS);
        self.available = self.available.checked_add_unsigned(increment)?;
        self.consumed = 0;
        Some(increment)
    }

    /// Changes the window when the peer has acknowledged another INITIAL_WINDOW_SIZE.
    pub fn shift(&mut self, difference: i64) {
        let size = i64::from(self.available).saturating_add(difference);
        self.available = size.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
    }
}
