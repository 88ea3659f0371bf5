//! The end of a TCP listener: no further attempts to connect, so that it can be closed without a reset.

use std::io;

/// Makes the kernel ignore new attempts to connect (packets with SYN and without ACK) from now on. Between the last accept and the
/// close a connection could still be established, which the close would reset. A client that is ignored tries again, within a
/// second, and is refused then. Connections inherit the filter, which does not concern them.
///
/// # Errors
///
/// Errors of the kernel; none is known.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn ignore_attempts(socket: &mio::net::TcpListener) -> io::Result<()> {
    /// Where the flags are in a TCP header, which is what the filter of a TCP socket is given.
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let step = |code: u32, jt: u8, jf: u8, k: u32| socket2::SockFilter::new(code as u16, jt, jf, k);
    let program = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS_AT),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SYN | ACK),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
        // The result is how many bytes of the packet are kept: none, or all.
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    socket2::SockRef::from(socket).attach_filter(&program)
}

/// Does nothing on this system: a connection that is established between the last accept and the close is reset.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn ignore_attempts(_socket: &mio::net::TcpListener) -> io::Result<()> {
    Ok(())
}
