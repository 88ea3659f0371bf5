//! Probes for tools of the kernel, such as bpftrace (USDT; feature `usdt`): each is one instruction that does nothing until a
//! tool attaches. Without the feature the functions do nothing at all.
//!
//! They are here because a probe is a piece of assembly, and the crate of the server has no unsafe code.

/// A call has been received: the caller's id of it, the hash of its method, and the number of its connection.
#[inline(always)]
pub fn call_begin(id: u64, method: u32, connection: u64) {
    #[cfg(feature = "usdt")]
    probe::probe!(coreloop, call_begin, id, method, connection);
    #[cfg(not(feature = "usdt"))]
    let _ = (id, method, connection);
}

/// A call has ended: the caller's id of it, its status code (0 is ok), and its microseconds in the queue and in the handler.
#[inline(always)]
pub fn call_end(id: u64, code: u32, queue_us: u32, handler_us: u32) {
    #[cfg(feature = "usdt")]
    probe::probe!(coreloop, call_end, id, code, queue_us, handler_us);
    #[cfg(not(feature = "usdt"))]
    let _ = (id, code, queue_us, handler_us);
}
