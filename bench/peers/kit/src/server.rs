//! A server's command line, its listener, and the line that says it is ready.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};

use clap::{CommandFactory, FromArgMatches, Parser};
use socket2::{Domain, Socket, Type};

use crate::version::named;

/// As many as the kernel lets wait: a load begins with all of its connections at once.
pub const BACKLOG: i32 = 4096;

/// `ADDRESS --threads N`.
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// Where to listen; port 0: any.
    pub address: SocketAddr,
    /// Threads of work.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
}

impl Arguments {
    /// Reads the command line of a peer; `--version` names these crates, as the lock file has them.
    pub fn read(crates: &[&str]) -> Arguments {
        let matches = named(Arguments::command(), crates).get_matches();
        Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The same as a count.
    pub fn threads(&self) -> usize {
        usize::from(self.threads)
    }

    /// A nonblocking listener on the address, and the address that it has.
    pub fn listen(&self) -> io::Result<(TcpListener, SocketAddr)> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        // As std's listeners do: a server that is started again must not wait for old connections.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&self.address.into())?;
        // Linux hands this on to the sockets that are accepted, so that no server forgets it.
        socket.set_tcp_nodelay(true)?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        Ok((listener, address))
    }
}

/// Says that the server is ready.
pub fn announce(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {address}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn accepted_sockets_send_at_once() {
        let arguments = Arguments::try_parse_from(["peer", "127.0.0.1:0", "--threads", "3"]).expect("fine");
        assert_eq!(arguments.threads(), 3);
        let (listener, address) = arguments.listen().expect("a port");
        listener.set_nonblocking(false).expect("a flag");
        let _stream = TcpStream::connect(address).expect("it listens");
        let (accepted, _) = listener.accept().expect("a connection");
        assert!(accepted.nodelay().expect("an option"));
    }
}
